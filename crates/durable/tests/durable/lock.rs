//! Locks: one owner at a time, between threads and processes, also when owners are killed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Child;
use std::sync::Barrier;
use std::time::Duration;

use crate::common::{child, child_after, child_dir, names};
use worldcompute_durable::{LockOptions, Mode, OwnedLock, read_bounded, write_atomic};

const ONCE: LockOptions = LockOptions {
    wait: Duration::ZERO,
    poll: Duration::from_millis(1),
};
const PATIENT: LockOptions = LockOptions {
    wait: Duration::from_secs(60),
    poll: Duration::from_millis(1),
};
const INCREMENTS: u32 = 25;

/// Adds to a counter in a file, many times. Without the lock, additions get lost.
fn count_up(dir: &Path) {
    for _ in 0..INCREMENTS {
        let _lock = OwnedLock::acquire(&dir.join("lock"), PATIENT).unwrap();
        // A witness besides the counter: nobody else is in here.
        let witness = File::create_new(dir.join("witness")).unwrap();
        let before: u32 = String::from_utf8(read_bounded(&dir.join("count"), 10).unwrap())
            .unwrap()
            .parse()
            .unwrap();
        write_atomic(
            &dir.join("count"),
            (before + 1).to_string().as_bytes(),
            Mode::Private,
        )
        .unwrap();
        drop(witness);
        fs::remove_file(dir.join("witness")).unwrap();
    }
}

#[test]
#[ignore = "entry of a child process"]
fn count_up_in_a_child() {
    if let Some(dir) = child_dir() {
        count_up(&dir);
    }
}

#[test]
fn threads_and_processes_racing_for_a_lock_lose_no_update() {
    let dir = tempfile::tempdir().unwrap();
    write_atomic(&dir.path().join("count"), b"0", Mode::Private).unwrap();
    let children: Vec<_> = (0..4)
        .map(|_| {
            child("lock::count_up_in_a_child", dir.path())
                .spawn()
                .unwrap()
        })
        .collect();
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(|| count_up(dir.path())))));
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    assert_eq!(
        fs::read_to_string(dir.path().join("count")).unwrap(),
        (8 * INCREMENTS).to_string()
    );
    assert_eq!(names(dir.path()), ["count", "lock"]);
}

#[test]
#[ignore = "entry of a child process"]
fn hold_until_killed() {
    let Some(dir) = child_dir() else { return };
    let _lock = OwnedLock::acquire(&dir.join("lock"), ONCE).unwrap();
    eprintln!("held");
    std::thread::park();
}

/// A child process that holds the lock.
fn holder(dir: &Path) -> Child {
    let mut holder = child("lock::hold_until_killed", dir).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(holder.stderr.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "held\n");
    holder
}

#[test]
fn a_held_lock_is_refused_by_name_and_taken_over_at_once_when_its_owner_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let mut owner = holder(dir.path());
    let refused = OwnedLock::acquire(&path, ONCE).unwrap_err();
    assert_eq!(
        (refused.code(), refused.retryable()),
        ("state_contention", true)
    );
    assert!(
        refused
            .message()
            .contains(&format!("held by pid {} on ", owner.id())),
        "{refused}"
    );
    assert!(!refused.message().contains("no such process"), "{refused}");
    owner.kill().unwrap();
    owner.wait().unwrap();
    let lock = OwnedLock::acquire(&path, ONCE).unwrap();
    let previous = lock.previous().unwrap();
    assert_eq!(
        (previous.pid, previous.is_alive()),
        (owner.id(), Some(false))
    );
}

#[test]
#[ignore = "entry of a child process"]
fn take_on_a_full_disk() {
    let Some(dir) = child_dir() else { return };
    let refused = OwnedLock::acquire(&dir.join("lock"), ONCE).unwrap_err();
    assert_eq!(refused.code(), "file_too_large");
    eprintln!("refused");
}

#[test]
fn a_dead_owner_is_still_named_after_a_taker_that_had_no_room_for_its_own_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut owner = holder(dir.path());
    owner.kill().unwrap();
    owner.wait().unwrap();
    // No file takes a byte; ignoring the signal turns it into an error.
    let full = child_after(
        "trap '' XFSZ; ulimit -f 0",
        "lock::take_on_a_full_disk",
        dir.path(),
    );
    let output = { full }.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("refused"),
        "{said}"
    );
    let lock = OwnedLock::acquire(&dir.path().join("lock"), ONCE).unwrap();
    assert_eq!(
        lock.previous().map(|previous| previous.pid),
        Some(owner.id())
    );
}

#[test]
fn of_many_that_take_over_a_dead_owners_lock_exactly_one_has_it() {
    for round in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let mut owner = holder(dir.path());
        owner.kill().unwrap();
        owner.wait().unwrap();
        let (start, done) = (Barrier::new(12), Barrier::new(12));
        let take = || {
            start.wait();
            let lock = OwnedLock::acquire(&dir.path().join("lock"), ONCE);
            // Nobody lets go before everybody has tried.
            done.wait();
            lock.map(|lock| lock.previous().map(|previous| previous.pid))
        };
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..12).map(|_| scope.spawn(take)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        let winners: Vec<_> = results
            .iter()
            .filter_map(|result| result.as_ref().ok())
            .collect();
        assert_eq!(winners, [&Some(owner.id())], "round {round}: {results:?}");
    }
}

#[test]
fn a_clean_release_leaves_no_previous_owner() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    drop(OwnedLock::acquire(&path, ONCE).unwrap());
    assert!(
        OwnedLock::acquire(&path, ONCE)
            .unwrap()
            .previous()
            .is_none()
    );
}

#[test]
fn a_lock_file_with_any_content_is_taken_and_nobody_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let huge = format!("{{\"pid\":1,\"host\":\"{}\"", "h".repeat(10_000));
    for content in ["", "not json", "{\"pid\":-1}", "\u{0}", &huge] {
        write_atomic(&path, content.as_bytes(), Mode::Private).unwrap();
        assert!(
            OwnedLock::acquire(&path, ONCE)
                .unwrap()
                .previous()
                .is_none(),
            "{content:.20}"
        );
    }
}

#[test]
fn a_lock_is_never_taken_through_a_symbolic_link() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    write_atomic(&dir.path().join("victim"), b"precious", Mode::Private).unwrap();
    std::os::unix::fs::symlink(dir.path().join("victim"), &path).unwrap();
    assert!(OwnedLock::acquire(&path, ONCE).is_err());
    assert_eq!(fs::read(dir.path().join("victim")).unwrap(), b"precious");
}

#[test]
fn a_lock_that_is_undone_leaves_no_file_that_was_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    OwnedLock::acquire(&path, ONCE).unwrap().undo();
    assert_eq!(names(dir.path()), [""; 0]);
    drop(OwnedLock::acquire(&path, ONCE).unwrap());
    OwnedLock::acquire(&path, ONCE).unwrap().undo();
    assert_eq!(names(dir.path()), ["lock"]);
}

#[test]
fn who_waits_for_a_lock_that_is_undone_gets_one_that_excludes_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    for _ in 0..20 {
        let first = OwnedLock::acquire(&path, ONCE).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| OwnedLock::acquire(&path, PATIENT));
            first.undo();
            let _second = waiting.join().unwrap().unwrap();
            let third = OwnedLock::acquire(&path, ONCE).unwrap_err();
            assert_eq!(third.code(), "state_contention");
        });
        std::fs::remove_file(&path).unwrap();
    }
}
