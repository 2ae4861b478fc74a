use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use worldcompute_durable::{Mode, write_atomic};

use super::*;
use crate::clock::SystemClock;
use crate::run_session::Session;
use crate::runpack::Stamp;

const ID: &str = "0123456789abcdef01234567";
const TRACE: &str = r#"{"schema_id":"gait.gate.trace"}"#;
const HOUR: SignedDuration = SignedDuration::from_hours(1);

struct Fixed(Timestamp);

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// A directory with files of so many hours.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, content: &str, hours: u64) {
        write_atomic(&self.path(name), content.as_bytes(), Mode::Private).unwrap();
        self.age(name, hours);
    }

    fn age(&self, name: &str, hours: u64) {
        let at = SystemTime::now() - Duration::from_secs(hours * 3600);
        let file = fs::File::options().append(true).open(self.path(name));
        file.unwrap().set_modified(at).unwrap();
    }

    fn session(&self, id: &str, hours: u64) -> String {
        let name = journal_name(id);
        let session = Session {
            journal: &self.path(&name),
            lock: LockSettings::default(),
            producer_version: "1",
            now: Stamp::default(),
        };
        session.start(id, "run_1").unwrap();
        self.age(&name, hours);
        name
    }

    fn keep(&self, kind: Kind, max_age: SignedDuration, max_count: usize) -> Retention {
        Retention {
            kind,
            dir: self.0.path().to_owned(),
            max_age,
            max_count,
            session_lock: LockSettings::default(),
        }
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<String> = entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn trace(run: usize) -> String {
    format!("trace_run_{run}_{ID}.json")
}

#[test]
fn what_is_older_goes_and_what_is_younger_stays() {
    let bench = Bench::new();
    for hours in [0, 1, 3, 5] {
        bench.file(&trace(hours), TRACE, hours as u64);
    }
    let kept = bench.keep(Kind::Trace, SignedDuration::from_hours(2), 0);
    assert_eq!(
        kept.sweep(&SystemClock).unwrap(),
        "retention_trace_removed_age=2 removed_count=0"
    );
    assert_eq!(bench.names(), [trace(0), trace(1)]);
    assert_eq!(kept.sweep(&SystemClock), None);
}

#[test]
fn of_more_than_are_kept_the_oldest_go_and_never_one_too_many() {
    let bench = Bench::new();
    for hours in 1..=4 {
        bench.file(&trace(hours), TRACE, hours as u64);
    }
    assert_eq!(
        bench
            .keep(Kind::Trace, SignedDuration::ZERO, 4)
            .sweep(&SystemClock),
        None
    );
    assert_eq!(bench.names().len(), 4);
    let told = bench
        .keep(Kind::Trace, SignedDuration::ZERO, 3)
        .sweep(&SystemClock);
    assert_eq!(
        told.unwrap(),
        "retention_trace_removed_age=0 removed_count=1"
    );
    assert_eq!(bench.names(), [trace(1), trace(2), trace(3)]);
}

#[test]
fn without_a_limit_nothing_goes() {
    let bench = Bench::new();
    bench.file(&trace(1), TRACE, 100_000);
    let kept = bench.keep(Kind::Trace, SignedDuration::ZERO, 0);
    assert_eq!(kept.sweep(&SystemClock), None);
    assert_eq!(bench.names().len(), 1);
}

#[test]
fn files_of_others_stay_whatever_their_age() {
    let bench = Bench::new();
    let outside = Bench::new();
    outside.file("victim", TRACE, 100);
    let others = [
        "trace.json",
        "trace_notes.json",
        "my_trace_run_0123456789abcdef01234567.json",
        "trace_run_0123456789ABCDEF01234567.json",
        "trace_run_0123456789abcdef0123456.json",
        "trace__run.json",
        "trace_run_0123456789abcdef01234567.json.bak",
        "runpack_run_0123456789abcdef01234567.zip",
    ];
    for name in others {
        bench.file(name, TRACE, 100);
    }
    // By its name, it could be one.
    bench.file(&trace(1), "notes of a person", 100);
    bench.file(
        &trace(2),
        r#"{"schema_id":"gait.gate.rate_limit_state"}"#,
        100,
    );
    symlink(outside.path("victim"), bench.path(&trace(3))).unwrap();
    symlink(bench.path("nowhere"), bench.path(&trace(4))).unwrap();
    fs::create_dir(bench.path(&trace(5))).unwrap();
    let before = bench.names();
    for kind in [Kind::Trace, Kind::Runpack, Kind::Pack, Kind::Session] {
        assert_eq!(bench.keep(kind, HOUR, 0).sweep(&SystemClock), None);
    }
    assert_eq!(bench.names(), before);
    assert!(outside.path("victim").exists());
}

#[test]
fn kinds_in_one_directory_do_not_count_for_each_other() {
    let bench = Bench::new();
    let zips = [
        format!("runpack_run_1_{ID}.zip"),
        "session-a_cp_000002.zip".to_owned(),
        format!("pack_run_1_{ID}.zip"),
    ];
    for name in &zips {
        bench.file(name, "PK\u{3}\u{4}", 5);
    }
    bench.file(&trace(1), TRACE, 5);
    assert_eq!(
        bench
            .keep(Kind::Pack, SignedDuration::ZERO, 1)
            .sweep(&SystemClock),
        None
    );
    let told = bench.keep(Kind::Runpack, HOUR, 0).sweep(&SystemClock);
    assert_eq!(
        told.unwrap(),
        "retention_runpack_removed_age=2 removed_count=0"
    );
    let mut left = vec![zips[2].clone(), trace(1)];
    left.sort();
    assert_eq!(bench.names(), left);
}

#[test]
fn a_clock_that_is_behind_deletes_nothing() {
    let bench = Bench::new();
    for hours in 1..=3 {
        bench.file(&trace(hours), TRACE, hours as u64);
    }
    let back = Fixed(Timestamp::now() - SignedDuration::from_hours(2));
    for kept in [
        bench.keep(Kind::Trace, SignedDuration::from_mins(1), 0),
        bench.keep(Kind::Trace, SignedDuration::ZERO, 1),
    ] {
        let told = kept.sweep(&back).unwrap();
        assert!(
            told.starts_with("retention_trace_error=the clock is behind"),
            "{told}"
        );
    }
    assert_eq!(bench.names().len(), 3);
}

#[test]
fn a_directory_that_is_not_there_has_nothing_to_delete_and_one_that_is_a_file_is_told() {
    let bench = Bench::new();
    bench.file("file", "", 0);
    let at = |name: &str| Retention {
        dir: bench.path(name),
        ..bench.keep(Kind::Pack, HOUR, 0)
    };
    assert_eq!(at("none").sweep(&SystemClock), None);
    let told = at("file").sweep(&SystemClock).unwrap();
    assert!(
        told.starts_with("retention_pack_error=cannot list"),
        "{told}"
    );
}

#[test]
fn a_session_goes_as_a_whole_unless_somebody_writes_to_it() {
    let bench = Bench::new();
    let (old, busy, young) = (
        bench.session("old", 5),
        bench.session("a b", 5),
        bench.session("young", 0),
    );
    for companion in ["old.journal.jsonl.state.json", "old.journal_chain.json"] {
        bench.file(companion, "{}", 5);
    }
    // One under the name of another session, and one that is none.
    fs::copy(bench.path(&old), bench.path("copy.journal.jsonl")).unwrap();
    bench.age("copy.journal.jsonl", 5);
    bench.file("notes.journal.jsonl", "notes\n", 5);
    let held = LockSettings::default().acquire(&bench.path(&busy)).unwrap();
    let kept = bench.keep(Kind::Session, HOUR, 0);
    assert_eq!(
        kept.sweep(&SystemClock).unwrap(),
        "retention_session_removed_age=1 removed_count=0"
    );
    let left = bench.names();
    assert!(!left.iter().any(|name| name.starts_with("old")), "{left:?}");
    for name in [&busy, &young, "copy.journal.jsonl", "notes.journal.jsonl"] {
        assert!(left.iter().any(|left| left == name), "{name} {left:?}");
    }
    drop(held);
    assert!(kept.sweep(&SystemClock).is_some());
    assert!(!bench.path(&busy).exists());
}

#[test]
fn a_session_that_was_written_to_meanwhile_stays() {
    let bench = Bench::new();
    let name = bench.session("s", 5);
    let stale = Found {
        changed: Timestamp::now() - SignedDuration::from_hours(9),
        path: bench.path(&name),
    };
    assert!(
        !Kind::Session
            .delete(&stale, LockSettings::default())
            .unwrap()
    );
    assert!(bench.path(&name).exists());
}
