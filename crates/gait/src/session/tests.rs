use std::fs;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use worldcompute_durable::{Mode, write_atomic};
use worldcompute_proof::SigningKey;

use super::*;
use crate::clock::Clock;
use crate::gate::{Gate, Request};
use crate::intent::Intent;
use crate::policy::Policy;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

struct Frozen;

impl Clock for Frozen {
    fn now(&self) -> Timestamp {
        NOW
    }
}

fn key() -> SigningKey {
    SigningKey::from_seed([7; 32])
}

fn gate() -> Gate {
    let policy = Policy::parse(b"default_verdict: allow").unwrap();
    Gate::new(policy, key(), Arc::new(Frozen))
}

fn intent(number: usize) -> Intent {
    let intent = json!({
        "tool_name": format!("tool.{number}"),
        "context": {"identity": "alice", "workspace": "w", "risk_class": "low"}
    });
    Intent::parse(intent.to_string().as_bytes()).unwrap()
}

fn decide(path: &Path, number: usize) -> crate::Decision {
    let request = Request {
        session: Some(SessionLog::at(path)),
        ..Request::default()
    };
    gate().decide_on(&intent(number), &request).unwrap()
}

fn session(count: usize) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/session.jsonl");
    for number in 1..=count {
        let decision = decide(&path, number);
        assert_eq!(decision.account().sequence, Some(number as u64));
    }
    (dir, path)
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn keep(path: &Path, lines: &[String]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    write_atomic(path, text.as_bytes(), Mode::Private).unwrap();
}

fn code(path: &Path) -> String {
    let fault = verify(path, &key().verifying_key()).unwrap_err();
    assert_eq!(fault.gait_exit_code(), 2, "{fault}");
    fault.code().to_owned()
}

#[test]
fn decisions_are_numbered_without_gaps_and_name_the_one_before() {
    let (_dir, path) = session(3);
    let lines = lines(&path);
    for (index, line) in lines.iter().enumerate() {
        let trace: Value = serde_json::from_str(line).unwrap();
        let relationship = &trace["relationship"];
        let name = format!("decision:{}", index + 1);
        assert_eq!(relationship["related_record_ids"], json!([name]));
        let before = index
            .checked_sub(1)
            .map(|index| format!("sha256:{}", worldcompute_proof::Sha256::of(&lines[index])));
        assert_eq!(
            relationship.get("parent_record_id"),
            before.map(Value::from).as_ref()
        );
        assert!(crate::trace::verify(line.as_bytes(), &key().verifying_key()).is_ok());
    }
    let report = verify(&path, &key().verifying_key()).unwrap();
    assert_eq!((report.decisions, report.closing.is_some()), (3, false));
}

#[test]
fn a_closed_session_counts_its_decisions_and_takes_no_more() {
    let (_dir, path) = session(2);
    let closing = SessionLog::at(&path).close(&key(), NOW).unwrap();
    assert_eq!(closing.count, 2);
    let report = verify(&path, &key().verifying_key()).unwrap();
    assert_eq!(report.closing.unwrap().count, 2);
    let request = Request {
        session: Some(SessionLog::at(&path)),
        ..Request::default()
    };
    let refused = gate().decide_on(&intent(3), &request).unwrap_err();
    assert_eq!(refused.code(), "session_closed");
    assert_eq!(
        SessionLog::at(&path).close(&key(), NOW).unwrap_err().code(),
        "session_closed"
    );
}

#[test]
fn a_record_that_is_missing_anywhere_shows() {
    let (_dir, path) = session(4);
    SessionLog::at(&path).close(&key(), NOW).unwrap();
    let whole = lines(&path);
    for gone in 0..whole.len() - 1 {
        let mut without = whole.clone();
        without.remove(gone);
        keep(&path, &without);
        let expected = match gone {
            3 => "session_count_mismatch",
            _ => "session_record_missing",
        };
        assert_eq!(code(&path), expected, "without {gone}");
    }
}

#[test]
fn whatever_is_moved_changed_or_added_shows() {
    let (_dir, path) = session(3);
    SessionLog::at(&path).close(&key(), NOW).unwrap();
    let whole = lines(&path);
    let broken = |change: &dyn Fn(&mut Vec<String>)| {
        let mut changed = whole.clone();
        change(&mut changed);
        keep(&path, &changed);
        code(&path)
    };
    assert_eq!(broken(&|lines| lines.swap(0, 1)), "session_record_missing");
    assert_eq!(
        broken(&|lines| lines[1] = lines[0].clone()),
        "session_record_missing"
    );
    let spaced = broken(&|lines| lines[1] = lines[1].replacen(':', ": ", 1));
    assert_eq!(spaced, "session_record_unverified");
    let forged = broken(&|lines| lines[0] = lines[0].replace("tool.1", "tool.9"));
    assert_eq!(forged, "session_record_unverified");
    let counted = broken(&|lines| lines[3] = lines[3].replace("\"count\":3", "\"count\":2"));
    assert_eq!(counted, "session_record_unverified");
    let again = broken(&|lines| lines.push(lines[3].clone()));
    assert_eq!(again, "session_continues_after_close");
    assert_eq!(
        broken(&|lines| lines[0] = "{}".to_owned()),
        "session_record_unverified"
    );
}

#[test]
fn a_record_of_another_session_does_not_fit_in() {
    let (_dir, path) = session(2);
    let (_other_dir, other) = session(1);
    decide(&other, 9);
    let mut mixed = lines(&path);
    mixed[1] = lines(&other)[1].clone();
    mixed[0] = lines(&path)[0].clone();
    keep(&path, &mixed);
    // The first records are alike: same question, same frozen clock. The second of the other session follows them.
    assert!(verify(&path, &key().verifying_key()).is_ok());
    mixed[0] = {
        let (_third_dir, third) = session(0);
        decide(&third, 5);
        lines(&third)[0].clone()
    };
    keep(&path, &mixed);
    assert_eq!(code(&path), "session_chain_broken");
}

#[test]
fn a_last_line_that_a_crash_cut_off_shows_and_is_replaced_by_the_next_decision() {
    let (_dir, path) = session(2);
    let text = std::fs::read_to_string(&path).unwrap();
    let torn = format!("{text}{{\"agent_id\":");
    write_atomic(&path, torn.as_bytes(), Mode::Private).unwrap();
    assert_eq!(code(&path), "session_log_torn");
    assert_eq!(decide(&path, 3).account().sequence, Some(3));
    assert_eq!(verify(&path, &key().verifying_key()).unwrap().decisions, 3);
}

#[test]
fn a_session_with_a_flaw_is_not_closed_over_it() {
    let trusted = key().verifying_key();
    let (_dir, path) = session(3);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let changed = text.replacen("\"verdict\":\"allow\"", "\"verdict\":\"block\"", 1);
    assert_ne!(changed, text);
    for (flawed, code) in [
        (
            format!("{}\n{}\n", lines[0], lines[2]),
            "session_record_missing",
        ),
        (
            format!("{}\n{}\n", lines[1], lines[2]),
            "session_record_missing",
        ),
        (
            format!("{}\n{}\n{}\n", lines[0], lines[0], lines[2]),
            "session_record_missing",
        ),
        (changed, "session_record_unverified"),
        (format!("hello\n{text}"), "session_record_unverified"),
    ] {
        write_atomic(&path, flawed.as_bytes(), Mode::Private).unwrap();
        let fault = SessionLog::at(&path).close(&key(), NOW).unwrap_err();
        assert_eq!(fault.code(), code);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            flawed,
            "nothing is written"
        );
    }
    let stranger = SigningKey::from_seed([8; 32]);
    write_atomic(&path, text.as_bytes(), Mode::Private).unwrap();
    let log = SessionLog::at(&path);
    let fault = log.close(&stranger, NOW).unwrap_err();
    assert_eq!(fault.code(), "session_key_mismatch");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    // A torn record was never acknowledged.
    write_atomic(&path, format!("{text}{{\"agent").as_bytes(), Mode::Private).unwrap();
    assert_eq!(log.close(&key(), NOW).unwrap().count, 3);
    assert!(verify(&path, &trusted).unwrap().closing.is_some());
}

#[test]
fn another_key_verifies_nothing() {
    let (_dir, path) = session(1);
    let stranger = SigningKey::from_seed([8; 32]).verifying_key();
    let fault = verify(&path, &stranger).unwrap_err();
    assert_eq!(fault.code(), "session_record_unverified");
}

#[test]
fn an_empty_session_has_no_end_and_a_foreign_file_is_no_session() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("session.jsonl");
    assert_eq!(
        SessionLog::at(&path).close(&key(), NOW).unwrap_err().code(),
        "session_empty"
    );
    write_atomic(&path, b"", Mode::Private).unwrap();
    let emptied = verify(&path, &key().verifying_key()).unwrap_err();
    assert_eq!(
        (emptied.code(), emptied.category()),
        (
            "session_empty",
            worldcompute_fault::Category::VerificationFailed
        )
    );
    write_atomic(&path, b"hello\n", Mode::Private).unwrap();
    let fault = SessionLog::at(&path).close(&key(), NOW).unwrap_err();
    assert_eq!(fault.code(), "session_log_corrupt");
    assert_eq!(
        verify(dir.path(), &key().verifying_key())
            .unwrap_err()
            .gait_exit_code(),
        1
    );
}

#[test]
fn threads_that_decide_at_once_get_a_number_each() {
    let (_dir, path) = session(0);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let path = &path;
            scope.spawn(move || {
                for _ in 0..4 {
                    decide(path, number);
                }
            });
        }
    });
    assert_eq!(verify(&path, &key().verifying_key()).unwrap().decisions, 32);
}
