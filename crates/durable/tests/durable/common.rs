//! What several of these tests need: child processes of this very test binary, and a look at a directory.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const DIR: &str = "DURABLE_TEST_DIR";

/// A process that runs the ignored test `entry` of this binary on `dir`, and nothing else.
pub fn child(entry: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([entry, "--exact", "--ignored", "--nocapture"])
        .env(DIR, dir);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// The same, started by a shell that first runs `setup`.
pub fn child_after(setup: &str, entry: &str, dir: &Path) -> Command {
    let program = child(entry, dir);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{setup}; exec \"$0\" \"$@\"")]);
    shell
        .arg(program.get_program())
        .args(program.get_args())
        .env(DIR, dir);
    shell
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    shell
}

/// The directory a child works on; `None` when somebody runs the entry as a test.
pub fn child_dir() -> Option<PathBuf> {
    let dir = std::env::var_os(DIR).map(PathBuf::from);
    if dir.is_none() {
        skip("this is the entry of child processes");
    }
    dir
}

/// Says why a test cannot run here, past the capture of what passing tests print.
pub fn skip(reason: &str) {
    std::io::stderr()
        .write_all(format!("skipped: {reason}\n").as_bytes())
        .unwrap();
}

/// The names in `dir`, sorted.
pub fn names(dir: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().file_name().into_string().unwrap()
    };
    let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(name).collect();
    names.sort();
    names
}

/// Leaves `content` at `path`, as any other program would.
pub fn put(path: &Path, content: impl AsRef<[u8]>) {
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(content.as_ref()).unwrap();
}

/// A pipe in `dir` that nobody has open.
pub(crate) fn pipe(dir: &Path) -> PathBuf {
    let pipe = dir.join("pipe");
    let made = Command::new("mkfifo").arg("-m600").arg(&pipe).status();
    assert!(made.is_ok_and(|made| made.success()));
    pipe
}
