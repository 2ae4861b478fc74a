//! Running programs, and saying what came of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

/// Why a chore ended, and the exit code that says so.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// For a human.
    pub message: String,
}

/// What a chore comes to.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure without an exit code of its own.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            code: 1,
            message: message.into(),
        }
    }
}

/// Runs a command line to its end in `root`. What it prints is passed on.
pub fn run(root: &Path, line: &str) -> Result<()> {
    let status = command(root, line)
        .status()
        .map_err(|error| cannot_run(line, &error))?;
    check(line, status)
}

/// Runs a command line to its end in `root`. What it prints is passed on, and returned: standard output, then
/// standard error.
pub fn tee(root: &Path, line: &str) -> Result<String> {
    let mut command = command(root, line);
    let spawned = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = spawned.map_err(|error| cannot_run(line, &error))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let printed = std::thread::scope(|scope| {
        let errors =
            scope.spawn(|| err.map_or_else(String::new, |err| pass_on(err, std::io::stderr())));
        let output = out.map_or_else(String::new, |out| pass_on(out, std::io::stdout()));
        output + &errors.join().unwrap_or_default()
    });
    let status = child.wait().map_err(|error| cannot_run(line, &error))?;
    check(line, status).map(|()| printed)
}

/// Runs a command line to its end in `root`, silently. A failure carries the last line it printed.
pub fn quiet(root: &Path, line: &str) -> Result<()> {
    let output = command(root, line)
        .output()
        .map_err(|error| cannot_run(line, &error))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let last = errors
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default();
    check(line, output.status)
        .map_err(|failure| Failure::new(format!("{}: {}", failure.message, last.trim())))
}

/// Words of a command line are separated by blanks; there is no quoting. The word `cargo` means the one running this.
fn command(root: &Path, line: &str) -> Command {
    let mut words = line.split_ascii_whitespace();
    let program = words.next().unwrap_or_default();
    let cargo = std::env::var_os("CARGO").filter(|_| program == "cargo");
    let mut command = Command::new(cargo.unwrap_or_else(|| program.into()));
    command.args(words).current_dir(root);
    forget_cargo(&mut command);
    command
}

/// Takes away what cargo told this program about itself: build scripts that watch those variables would run again,
/// and everything above them would be compiled again.
pub fn forget_cargo(command: &mut Command) {
    let told = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(told)) {
        command.env_remove(name);
    }
}

fn pass_on(from: impl Read, mut to: impl Write) -> String {
    let mut kept = String::new();
    for line in BufReader::new(from)
        .split(b'\n')
        .map_while(std::result::Result::ok)
    {
        let line = String::from_utf8_lossy(&line);
        // A closed terminal is no reason to stop the chore.
        let _ = writeln!(to, "{line}");
        kept.push_str(&line);
        kept.push('\n');
    }
    kept
}

fn check(line: &str, status: ExitStatus) -> Result<()> {
    if status.success() {
        Ok(())
    } else {
        Err(Failure::new(format!("`{line}` failed: {status}")))
    }
}

fn cannot_run(line: &str, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot run `{line}`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_not_told_what_cargo_told_this_one() {
        assert!(
            std::env::vars().any(|(name, _)| name == "CARGO_PKG_NAME"),
            "tests run under cargo"
        );
        let printed = tee(Path::new("."), "env").unwrap();
        assert!(
            !printed.contains("CARGO_PKG_") && !printed.contains("CARGO_MANIFEST_"),
            "{printed}"
        );
        assert!(printed.contains("PATH="));
    }

    #[test]
    fn what_a_program_prints_is_kept_and_its_failure_told() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(tee(root.path(), "echo one two").unwrap(), "one two\n");
        assert!(
            run(root.path(), "false")
                .unwrap_err()
                .message
                .starts_with("`false` failed: exit status: 1")
        );
        assert!(
            quiet(root.path(), "ls none")
                .unwrap_err()
                .message
                .contains("No such file")
        );
        assert!(
            quiet(root.path(), "no-such-program x")
                .unwrap_err()
                .message
                .starts_with("cannot run `no-such-program x`")
        );
    }
}
