//! A disk that is full, and a size that is not allowed: the old content stays and the error says why.

use std::path::Path;

use crate::common::{child_after, child_dir, names, skip};
use worldcompute_durable::{Journal, Limits, Mode, create_new, read_bounded, write_atomic};

/// More than any of the limits below.
static TOO_MUCH: [u8; 256 * 1024] = [7; 256 * 1024];

#[test]
#[ignore = "entry of a child process"]
fn write_more_than_fits() {
    let Some(dir) = child_dir() else { return };
    let expected = std::env::var("EXPECTED_CODE").unwrap();
    let (file, path) = (dir.join("file"), dir.join("journal"));
    write_atomic(&file, b"old", Mode::Private).unwrap();
    assert_eq!(
        write_atomic(&file, &TOO_MUCH, Mode::Private)
            .unwrap_err()
            .code(),
        expected
    );
    assert_eq!(
        create_new(&dir.join("new"), &TOO_MUCH, Mode::Private)
            .unwrap_err()
            .code(),
        expected
    );
    assert_eq!(read_bounded(&file, 100).unwrap(), b"old");

    let (mut journal, _) = Journal::open(&path, Limits::default()).unwrap();
    assert_eq!(journal.append(b"before").unwrap(), 0);
    assert_eq!(journal.append(&TOO_MUCH).unwrap_err().code(), expected);
    assert_eq!(journal.append(b"after").unwrap(), 1);
    drop(journal);
    let (_, recovered) = Journal::open(&path, Limits::default()).unwrap();
    assert_eq!(
        (recovered.records, recovered.torn_bytes),
        (vec![b"before".to_vec(), b"after".to_vec()], 0)
    );
    assert_eq!(names(&dir), ["file", "journal"]);
    eprintln!("checked");
}

fn run(setup: &str, prefix: &str, expected: &str, dir: &Path) -> (bool, String) {
    let command = child_after(setup, "disk_full::write_more_than_fits", dir);
    let mut wrapped = std::process::Command::new("sh");
    wrapped
        .args(["-c", &format!("exec {prefix} \"$0\" \"$@\"")])
        .arg(command.get_program())
        .args(command.get_args());
    wrapped
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("EXPECTED_CODE", expected);
    let output = wrapped.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success() && said.contains("checked"), said)
}

#[test]
fn past_the_file_size_limit_the_old_content_stays() {
    let dir = tempfile::tempdir().unwrap();
    // 64 blocks of 512 or 1024 bytes, by shell; ignoring the signal turns it into an error.
    let (checked, said) = run(
        "trap '' XFSZ; ulimit -f 64",
        "",
        "file_too_large",
        dir.path(),
    );
    assert!(checked, "{said}");
}

#[test]
fn on_a_full_disk_the_old_content_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mount = format!(
        "mount -t tmpfs -o size=64k tmpfs '{}'",
        dir.path().display()
    );
    let namespace = "unshare --user --map-root-user --mount";
    let permitted = std::process::Command::new("sh")
        .args(["-c", &format!("{namespace} sh -c \"{mount}\"")])
        .output();
    match permitted {
        Ok(output) if output.status.success() => {}
        refused => {
            skip(&format!(
                "this machine does not let a user mount a tmpfs of his own: {refused:?}"
            ));
            return;
        }
    }
    let (checked, said) = run(&mount, namespace, "disk_full", dir.path());
    assert!(checked, "{said}");
}
