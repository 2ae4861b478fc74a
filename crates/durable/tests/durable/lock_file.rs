//! The lock that programs understand whose lock is that a file is there.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::common::{child, child_dir, names, pipe};
use worldcompute_durable::{LockFile, LockForm, LockOptions, Mode, write_atomic};

const FORM: LockForm = LockForm {
    schema_id: "test.lock",
    schema_version: "1.0.0",
    stale_after: Duration::from_secs(15),
};
const ONCE: LockOptions = LockOptions {
    wait: Duration::ZERO,
    poll: Duration::from_millis(1),
};
const PATIENT: LockOptions = LockOptions {
    wait: Duration::from_secs(60),
    poll: Duration::from_millis(1),
};

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.lock");
    (dir, path)
}

fn foreign(path: &Path, body: &str, age: Duration) {
    write_atomic(path, body.as_bytes(), Mode::Private).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

#[test]
fn the_file_is_there_exactly_while_the_lock_is_held_and_says_who_holds_it() {
    let (dir, path) = place();
    let lock = LockFile::acquire(&path, &FORM, ONCE).unwrap();
    let body: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(body["schema_id"], "test.lock");
    assert_eq!(body["schema_version"], "1.0.0");
    assert_eq!(body["pid"], std::process::id());
    assert!(body["created_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(names(dir.path()), ["state.lock"]);
    drop(lock);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn a_second_taker_is_told_who_holds_it() {
    let (_dir, path) = place();
    let _held = LockFile::acquire(&path, &FORM, ONCE).unwrap();
    let fault = LockFile::acquire(&path, &FORM, ONCE).unwrap_err();
    assert_eq!(
        (fault.code(), fault.retryable()),
        ("state_contention", true)
    );
    assert!(
        fault
            .message()
            .contains(&format!("pid {}", std::process::id())),
        "{fault}"
    );
}

#[test]
fn a_fresh_file_of_a_program_without_kernel_locks_is_respected() {
    let (_dir, path) = place();
    for body in [
        "",
        "{",
        r#"{"pid":1}"#,
        &format!(r#"{{"pid":1,"created_at":"{}"}}"#, jiff::Timestamp::now()),
    ] {
        foreign(&path, body, Duration::from_secs(14));
        let fault = LockFile::acquire(&path, &FORM, ONCE).unwrap_err();
        assert_eq!(fault.code(), "state_contention", "{body}");
        assert_eq!(fs::read_to_string(&path).unwrap(), body);
    }
}

#[test]
fn a_stale_file_of_such_a_program_is_taken_over() {
    let (dir, path) = place();
    for (body, age) in [
        ("", 16),
        (r#"{"pid":1,"created_at":"2020-01-01T00:00:00Z"}"#, 0),
    ] {
        foreign(&path, body, Duration::from_secs(age));
        LockFile::acquire(&path, &FORM, ONCE).unwrap();
        assert!(names(dir.path()).is_empty());
    }
}

#[test]
fn a_lock_that_somebody_took_for_stale_and_replaced_is_not_removed_by_its_old_owner() {
    let (_dir, path) = place();
    let lock = LockFile::acquire(&path, &FORM, ONCE).unwrap();
    fs::remove_file(&path).unwrap();
    foreign(&path, "theirs", Duration::ZERO);
    drop(lock);
    assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
}

#[test]
fn neither_a_symbolic_link_nor_a_directory_is_a_lock() {
    let (dir, path) = place();
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap();
    assert!(LockFile::acquire(&path, &FORM, ONCE).is_err());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(LockFile::acquire(&path, &FORM, ONCE).is_err());
    assert!(LockFile::acquire(&dir.path().join("none/lock"), &FORM, ONCE).is_err());
    assert!(LockFile::acquire(Path::new("/"), &FORM, ONCE).is_err());
}

fn count_up(dir: &Path, times: u32) {
    for _ in 0..times {
        let _lock = LockFile::acquire(&dir.join("lock"), &FORM, PATIENT).unwrap();
        // A witness besides the counter: nobody else is in here.
        let witness = File::create_new(dir.join("witness")).unwrap();
        let count: u32 = fs::read_to_string(dir.join("count"))
            .unwrap()
            .parse()
            .unwrap();
        let next = (count + 1).to_string();
        write_atomic(&dir.join("count"), next.as_bytes(), Mode::Private).unwrap();
        drop(witness);
        fs::remove_file(dir.join("witness")).unwrap();
    }
}

#[test]
#[ignore = "entry of a child process"]
fn count_up_in_a_child() {
    if let Some(dir) = child_dir() {
        count_up(&dir, 25);
    }
}

#[test]
fn threads_and_processes_racing_for_the_file_lose_no_update() {
    let (dir, _) = place();
    write_atomic(&dir.path().join("count"), b"0", Mode::Private).unwrap();
    let children: Vec<_> = (0..4)
        .map(|_| {
            child("lock_file::count_up_in_a_child", dir.path())
                .spawn()
                .unwrap()
        })
        .collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| count_up(dir.path(), 25));
        }
    });
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    assert_eq!(fs::read_to_string(dir.path().join("count")).unwrap(), "200");
    assert_eq!(names(dir.path()), ["count"]);
}

#[test]
#[ignore = "entry of a child process"]
fn hold_in_a_child() {
    let Some(dir) = child_dir() else { return };
    let _lock = LockFile::acquire(&dir.join("lock"), &FORM, PATIENT).unwrap();
    println!("held");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[test]
fn the_lock_of_a_killed_owner_is_free_at_once_however_new_it_is() {
    let (dir, _) = place();
    for _ in 0..5 {
        let mut command = child("lock_file::hold_in_a_child", dir.path());
        command.stdin(std::process::Stdio::piped());
        command.stdout(std::process::Stdio::piped());
        let mut owner = command.spawn().unwrap();
        let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("held")));
        assert!(LockFile::acquire(&dir.path().join("lock"), &FORM, ONCE).is_err());
        owner.kill().unwrap();
        owner.wait().unwrap();
        assert_eq!(names(dir.path()), ["lock"]);
        LockFile::acquire(&dir.path().join("lock"), &FORM, ONCE).unwrap();
    }
}

#[test]
fn what_is_no_file_under_the_name_of_the_lock_is_said_at_once() {
    let (dir, path) = place();
    fs::create_dir(&path).unwrap();
    for path in [path, pipe(dir.path())] {
        let fault = LockFile::acquire(&path, &FORM, PATIENT).unwrap_err();
        assert_eq!((fault.code(), fault.retryable()), ("io_failure", false));
        assert!(fault.message().contains("not a regular file"), "{fault}");
    }
}
