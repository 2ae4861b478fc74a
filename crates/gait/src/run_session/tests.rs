//! Journals that lie, and writers that meet.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use worldcompute_durable::{Mode, write_atomic};
use worldcompute_fault::{Category, Fault};
use worldcompute_proof::SigningKey;

use super::relation::Relation;
use super::*;
use crate::runpack::Requirements;

/// A folder with a session in it.
struct Bench {
    dir: TempDir,
    journal: PathBuf,
}

fn at(text: &str) -> Stamp {
    serde_json::from_value(json!(text)).unwrap()
}

fn put(path: &Path, bytes: &[u8]) {
    write_atomic(path, bytes, Mode::Private).unwrap();
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("journal.jsonl");
        let bench = Self { dir, journal };
        bench.session().start("s1", "run_s").unwrap();
        bench
    }

    fn session(&self) -> Session<'_> {
        Session {
            journal: &self.journal,
            lock: LockSettings::default(),
            producer_version: "1.4.0",
            now: at("2026-11-21T09:08:38.413468973Z"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn record(&self, verdict: &str) -> Event {
        let event = NewEvent {
            tool_name: "tool.x",
            verdict,
            ..NewEvent::default()
        };
        self.session().record(&event).unwrap()
    }

    fn checkpoint(&self, name: &str, key: Option<&SigningKey>) -> Result<Checkpoint> {
        let chain = self.path("chain.json");
        checkpoint(&self.session(), &self.path(name), &chain, key)
    }

    /// Two events, a checkpoint, two events, a checkpoint.
    fn chain(&self, key: Option<&SigningKey>) -> PathBuf {
        for name in ["cp1.zip", "cp2.zip"] {
            self.record("allow");
            self.record("block");
            self.checkpoint(name, key).unwrap();
        }
        self.path("chain.json")
    }

    fn lines(&self) -> Vec<Vec<u8>> {
        let text = fs::read(&self.journal).unwrap();
        text.split_inclusive(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect()
    }

    fn refused(&self) -> Fault {
        let fault = self.session().status().unwrap_err();
        assert_eq!(fault.category(), Category::VerificationFailed, "{fault}");
        fault
    }
}

#[test]
fn events_are_numbered_from_one_and_a_session_is_begun_once() {
    let bench = Bench::new();
    assert_eq!(
        (
            bench.record("allow").sequence,
            bench.record("block").sequence
        ),
        (1, 2)
    );
    let again = bench.session().start("s1", "run_s").unwrap();
    assert_eq!((again.event_count, again.last_sequence), (2, 2));
    let other = bench.session().start("s2", "run_s").unwrap_err();
    assert_eq!(other.category(), Category::InvalidInput);
    let unknown = NewEvent {
        verdict: "maybe",
        ..NewEvent::default()
    };
    assert_eq!(
        bench.session().record(&unknown).unwrap_err().code(),
        "invalid_input"
    );
    assert!(bench.session().start("s1", "../run").is_err());
}

#[test]
fn many_writers_leave_every_event_under_a_number_of_its_own() {
    let bench = Bench::new();
    const WRITERS: u64 = 8;
    const EACH: u64 = 5;
    let patient = BTreeMap::from([("GAIT_SESSION_LOCK_TIMEOUT".to_owned(), "60s".to_owned())]);
    let lock = LockSettings::from_environment(&patient).unwrap();
    let record = || {
        let session = Session {
            lock,
            ..bench.session()
        };
        let event = NewEvent {
            tool_name: "tool.x",
            verdict: "allow",
            ..NewEvent::default()
        };
        session.record(&event).unwrap().sequence
    };
    let mut numbers: Vec<u64> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| scope.spawn(|| (0..EACH).map(|_| record()).collect::<Vec<_>>()))
            .collect();
        writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap())
            .collect()
    });
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=WRITERS * EACH).collect::<Vec<_>>());
    assert_eq!(
        bench.session().status().unwrap().event_count,
        WRITERS * EACH
    );
    fs::remove_file(bench.path("journal.jsonl.state.json")).unwrap();
    assert_eq!(
        bench.session().status().unwrap().last_sequence,
        WRITERS * EACH
    );
}

#[test]
fn a_journal_that_is_held_is_contention_and_can_be_retried() {
    let bench = Bench::new();
    let _held = LockSettings::default().acquire(&bench.journal).unwrap();
    let environment = BTreeMap::from([("GAIT_SESSION_LOCK_TIMEOUT".to_owned(), "1ms".to_owned())]);
    let lock = LockSettings::from_environment(&environment).unwrap();
    let session = Session {
        lock,
        ..bench.session()
    };
    let fault = session.status().unwrap_err();
    assert_eq!(
        (fault.code(), fault.category(), fault.retryable()),
        ("session_lock_timeout", Category::StateContention, true)
    );
}

#[test]
fn the_wait_for_a_journal_is_set_by_the_environment_or_refused() {
    let settings = |name: &str, value: &str| {
        LockSettings::from_environment(&BTreeMap::from([(name.to_owned(), value.to_owned())]))
    };
    let swarm = settings("GAIT_SESSION_LOCK_PROFILE", "swarm").unwrap();
    assert_ne!(swarm, LockSettings::default());
    assert_eq!(
        settings("GAIT_SESSION_LOCK_PROFILE", "standard").unwrap(),
        LockSettings::default()
    );
    for (name, value) in [
        ("GAIT_SESSION_LOCK_PROFILE", "fast"),
        ("GAIT_SESSION_LOCK_TIMEOUT", "0s"),
        ("GAIT_SESSION_LOCK_RETRY", "-1s"),
        ("GAIT_SESSION_LOCK_STALE_AFTER", "soon"),
    ] {
        assert_eq!(
            settings(name, value).unwrap_err().code(),
            "invalid_input",
            "{name}={value}"
        );
    }
    assert!(Duration::from_secs(1) > Duration::ZERO);
}

#[test]
fn a_line_left_out_changed_or_moved_is_named() {
    let bench = Bench::new();
    bench.chain(None);
    let lines = bench.lines();
    let broken = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut changed = lines.clone();
        change(&mut changed);
        put(&bench.journal, &changed.concat());
        // As a checkpoint does: the state that is kept beside the journal only looks at its end.
        let _ = fs::remove_file(bench.path("journal.jsonl.state.json"));
        bench.refused()
    };
    for left_out in 0..lines.len() - 1 {
        broken(&|lines| drop(lines.remove(left_out)));
    }
    assert!(
        broken(&|lines| lines.swap(1, 2))
            .message()
            .contains("line 2: event 2 where 1 belongs")
    );
    let edit = |number: usize, from: &'static str, to: &'static str| {
        broken(&|lines| {
            let text = String::from_utf8(lines[number].clone()).unwrap();
            assert!(text.contains(from), "{text}");
            lines[number] = text.replacen(from, to, 1).into_bytes();
        })
    };
    assert!(
        edit(3, "\"sequence_end\":2", "\"sequence_end\":3")
            .message()
            .contains("digest invalid")
    );
    assert!(
        edit(1, "\"session_id\":\"s1\"", "\"session_id\":\"s2\"")
            .message()
            .contains("another session")
    );
    assert!(
        edit(1, "\"sequence\":1", "\"sequence\":1,\"note\":1")
            .message()
            .contains("line 2")
    );
    assert!(
        broken(&|lines| lines.insert(1, lines[0].clone()))
            .message()
            .contains("duplicate header")
    );
    put(&bench.journal, &lines.concat());
    assert_eq!(bench.session().status().unwrap().last_sequence, 4);
}

#[test]
fn a_journal_cut_at_any_byte_goes_on_after_its_last_whole_line() {
    let bench = Bench::new();
    bench.record("allow");
    let whole = fs::read(&bench.journal).unwrap();
    let header = bench.lines()[0].len();
    // Around each end of a line, and at some places in it: every cut costs several writes that reach the disk.
    let ends = [0, header, whole.len()].map(|end| end.saturating_sub(1)..end + 2);
    let inside = (0..whole.len()).step_by(41);
    for len in ends
        .into_iter()
        .flatten()
        .chain(inside)
        .filter(|len| *len < whole.len())
    {
        put(&bench.journal, &whole[..len]);
        if len < header {
            bench.session().start("s1", "run_s").unwrap();
        }
        assert_eq!(bench.session().status().unwrap().last_sequence, 0, "{len}");
        assert_eq!(bench.record("allow").sequence, 1, "{len}");
        assert_eq!(bench.session().status().unwrap().event_count, 1, "{len}");
    }
}

#[test]
fn a_kept_state_that_contradicts_the_journal_is_not_believed() {
    let bench = Bench::new();
    bench.record("allow");
    let path = bench.path("journal.jsonl.state.json");
    let state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (member, lie) in [
        ("last_sequence", json!(7)),
        ("journal_size_bytes", json!(0)),
        ("session_id", json!("s2")),
        ("schema_id", json!("x")),
    ] {
        let mut state = state.clone();
        state[member] = lie;
        put(&path, state.to_string().as_bytes());
        let status = bench.session().status().unwrap();
        assert_eq!(
            (status.last_sequence, status.session_id.as_str()),
            (1, "s1"),
            "{member}"
        );
    }
    put(&path, b"{");
    assert_eq!(bench.record("allow").sequence, 2);
}

#[test]
fn a_chain_verifies_with_the_key_that_signed_its_checkpoints() {
    let key = SigningKey::from_seed([7; 32]);
    let bench = Bench::new();
    let chain = bench.chain(Some(&key));
    let own = key.verifying_key();
    let required = Requirements {
        key: Some(&own),
        signature: true,
    };
    let report = verify_chain(&chain, &required).unwrap();
    assert!(report.holds(), "{report:?}");
    assert_eq!(report.checkpoints_checked, 2);
    let other = SigningKey::from_seed([8; 32]).verifying_key();
    let report = verify_chain(
        &chain,
        &Requirements {
            key: Some(&other),
            signature: false,
        },
    )
    .unwrap();
    assert_eq!(
        report.checkpoint_errors,
        [
            "checkpoint 1 signature verification failed",
            "checkpoint 2 signature verification failed"
        ]
    );
}

#[test]
fn unsigned_checkpoints_fail_as_soon_as_a_key_is_given() {
    let bench = Bench::new();
    let chain = bench.chain(None);
    assert!(
        verify_chain(&chain, &Requirements::default())
            .unwrap()
            .holds()
    );
    let key = SigningKey::from_seed([7; 32]).verifying_key();
    let report = verify_chain(
        &chain,
        &Requirements {
            key: Some(&key),
            signature: false,
        },
    )
    .unwrap();
    assert_eq!(report.checkpoint_errors.len(), 2);
}

#[test]
fn a_chain_that_leaves_out_moves_or_changes_a_checkpoint_is_broken() {
    let bench = Bench::new();
    let path = bench.chain(None);
    let chain: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let broken = |change: &dyn Fn(&mut Vec<Value>)| {
        let mut chain = chain.clone();
        change(chain["checkpoints"].as_array_mut().unwrap());
        put(&path, chain.to_string().as_bytes());
        let report = verify_chain(&path, &Requirements::default()).unwrap();
        assert!(!report.holds());
        [report.linkage_errors, report.checkpoint_errors].concat()
    };
    let errors = broken(&|checkpoints| drop(checkpoints.remove(0)));
    assert!(
        errors.contains(&"sequence gap at checkpoint 2".to_owned()),
        "{errors:?}"
    );
    broken(&|checkpoints| checkpoints.swap(0, 1));
    broken(&|checkpoints| checkpoints[1]["sequence_start"] = json!(2));
    for member in ["session_id", "run_id"] {
        let errors = broken(&|checkpoints| checkpoints[1][member] = json!("other"));
        assert_eq!(errors[0], "checkpoint 2 of another session", "{member}");
    }
    broken(&|checkpoints| checkpoints[1]["prev_checkpoint_digest"] = json!(""));
    let errors =
        broken(&|checkpoints| checkpoints[0]["runpack_path"] = json!("/nonexistent/cp.zip"));
    assert!(
        errors[0].starts_with("checkpoint 1 verify error"),
        "{errors:?}"
    );
    let errors = broken(&|checkpoints| {
        checkpoints[0]["runpack_path"] = checkpoints[1]["runpack_path"].clone()
    });
    assert_eq!(errors[0], "checkpoint 1 manifest digest mismatch");
}

#[test]
fn a_checkpoint_cannot_be_taken_out_of_a_chain_by_counting_the_later_ones_anew() {
    let bench = Bench::new();
    let path = bench.chain(None);
    let mut chain: Chain = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let gone = chain.checkpoints.remove(0);
    let last = &mut chain.checkpoints[0];
    last.checkpoint_index = gone.checkpoint_index;
    last.sequence_start = gone.sequence_start;
    last.prev_checkpoint_digest = String::new();
    last.checkpoint_digest = last.digest();
    last.relationship = Some(Relation::of_checkpoint(last, &last.runpack_run_id()));
    chain.write(&path).unwrap();
    let report = verify_chain(&path, &Requirements::default()).unwrap();
    assert_eq!(report.linkage_errors, [""; 0]);
    assert_eq!(
        report.checkpoint_errors,
        ["checkpoint 1 is not the one that its runpack was made for"]
    );
}

#[test]
fn a_checkpoint_never_replaces_the_runpack_of_an_earlier_one() {
    let bench = Bench::new();
    let chain = bench.chain(None);
    let first = Chain::load(&chain).unwrap().checkpoints.remove(0);
    bench.record("allow");
    let lines = bench.lines().len();
    let fault = bench.checkpoint(&first.runpack_path, None).unwrap_err();
    assert_eq!(fault.code(), "checkpoint_exists");
    assert_eq!(bench.lines().len(), lines);
    assert!(
        verify_chain(&chain, &Requirements::default())
            .unwrap()
            .holds()
    );
}

#[test]
fn what_is_no_chain_is_a_failed_verification() {
    let bench = Bench::new();
    let path = bench.path("chain.json");
    for text in ["", "{}", "[]", "{\"schema_id\":\"x\"}"] {
        put(&path, text.as_bytes());
        let fault = verify_chain(&path, &Requirements::default()).unwrap_err();
        assert_eq!(fault.category(), Category::VerificationFailed, "{text}");
    }
    let missing = verify_chain(&bench.path("none.json"), &Requirements::default()).unwrap_err();
    assert_eq!(missing.category(), Category::IoFailure);
}

#[test]
fn a_compacted_journal_keeps_what_no_checkpoint_has_and_goes_on_counting() {
    let bench = Bench::new();
    let chain = bench.chain(None);
    bench.record("allow");
    let dry = compact(&bench.session(), None, true).unwrap();
    assert_eq!(
        (dry.events_before, dry.events_after, dry.compacted),
        (5, 1, true)
    );
    assert_eq!(bench.lines().len(), 8, "a dry run changes nothing");
    let done = compact(&bench.session(), None, false).unwrap();
    assert_eq!(
        done.bytes_after,
        fs::metadata(&bench.journal).unwrap().len()
    );
    assert_eq!(bench.lines().len(), 4);
    assert_eq!(bench.record("allow").sequence, 6);
    assert!(
        verify_chain(&chain, &Requirements::default())
            .unwrap()
            .holds()
    );
    let third = bench.checkpoint("cp3.zip", None).unwrap();
    assert_eq!((third.sequence_start, third.sequence_end), (5, 6));
    assert!(!compact(&bench.session(), None, false).unwrap().compacted || bench.lines().len() == 4);
}

/// Gives the journal one checkpoint for each pair of first and last number, whose events were compacted away.
fn compacted_to(bench: &Bench, numbers: &[(u64, u64)]) {
    let mut text = bench.lines()[0].clone();
    let mut previous = String::new();
    for (index, (start, end)) in numbers.iter().enumerate() {
        let mut checkpoint = Checkpoint {
            session_id: "s1".to_owned(),
            run_id: "run_s".to_owned(),
            checkpoint_index: index as u64 + 1,
            sequence_start: *start,
            sequence_end: *end,
            prev_checkpoint_digest: previous,
            ..Checkpoint::default()
        };
        checkpoint.checkpoint_digest = checkpoint.digest();
        previous = checkpoint.checkpoint_digest.clone();
        serde_json::to_writer(&mut text, &Line::Checkpoint { checkpoint }).unwrap();
        text.push(b'\n');
    }
    put(&bench.journal, &text);
    let _ = fs::remove_file(bench.path("journal.jsonl.state.json"));
}

#[test]
fn numbers_end_where_readers_of_json_disagree_and_nothing_counts_past_that() {
    let bench = Bench::new();
    let last = crate::limits::MAX_SESSION_SEQUENCE;
    for past in [last + 1, u64::MAX] {
        compacted_to(&bench, &[(1, past)]);
        bench.refused();
        compacted_to(&bench, &[(1, past), (past.wrapping_add(1), past)]);
        bench.refused();
    }
    compacted_to(&bench, &[(1, last - 1)]);
    assert_eq!(bench.record("allow").sequence, last);
    let event = NewEvent {
        tool_name: "tool.x",
        verdict: "allow",
        ..NewEvent::default()
    };
    let before = bench.lines();
    let full = bench.session().record(&event).unwrap_err();
    assert_eq!(full.category(), Category::InvalidInput);
    assert_eq!(bench.lines(), before);
    assert_eq!(bench.session().status().unwrap().last_sequence, last);
}

#[test]
fn without_new_events_there_is_no_checkpoint() {
    let bench = Bench::new();
    let fault = bench.checkpoint("cp.zip", None).unwrap_err();
    assert_eq!(fault.category(), Category::InvalidInput);
    assert!(!bench.path("cp.zip").exists());
}

#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn a_checkpoint_has_the_digests_of_the_format() {
    let Some(theirs) = ["../../shared", "../../../shared"]
        .map(|shared| {
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(shared)
                .join("cases/gait/session/j.jsonl")
        })
        .into_iter()
        .find(|path| path.is_file())
    else {
        println!("skipped: no folder shared/cases/gait beside or inside the checkout");
        return;
    };
    let theirs = fs::read(theirs).unwrap();
    let lines: Vec<&[u8]> = theirs.split_inclusive(|byte| *byte == b'\n').collect();
    let bench = Bench::new();
    put(&bench.journal, &lines[..3].concat());
    let ours = bench.checkpoint("cp1.zip", None).unwrap();
    let expected: Value = serde_json::from_slice(lines[3]).unwrap();
    let expected = &expected["checkpoint"];
    assert_eq!(json!(ours.manifest_digest), expected["manifest_digest"]);
    assert_eq!(json!(ours.checkpoint_digest), expected["checkpoint_digest"]);
    assert_eq!(ours.relationship.as_ref(), Some(&expected["relationship"]));
}
