use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use worldcompute_durable::{Mode, write_atomic};

use super::*;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn limit(requests: u64, window: Window, scope: Scope) -> RateLimit {
    RateLimit {
        requests,
        window,
        scope,
    }
}

fn of_rate(limit: RateLimit, now: Timestamp) -> Charge {
    Charge::of_rate(limit, "tool.write", "alice", now)
}

fn charge(requests: u64) -> Charge {
    of_rate(limit(requests, Window::Hour, Scope::ToolIdentity), NOW)
}

fn file(path: &std::path::Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn the_first_run_makes_the_directory_and_counts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/dir/limits.json");
    let counters = Counters::at(&path);
    assert_eq!(counters.peek(&[charge(2)]).unwrap()[0].used, 0);
    assert!(!path.parent().unwrap().exists());
    let usage = counters.charge(&[charge(2)], NOW).unwrap();
    assert_eq!(
        usage,
        [Usage {
            scope: Scope::ToolIdentity,
            key: "tool.write|alice".to_owned(),
            used: 1,
            remaining: 1,
            allowed: true
        }]
    );
    assert_eq!(
        file(&path),
        json!({"schema_id": "gait.gate.rate_limit_state", "schema_version": "1.0.0", "counters": [
            {"key": "hour|tool_identity|2027-01-15T08:00:00Z|tool.write|alice", "count": 1}
        ]})
    );
    let names: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(names.len(), 1, "the lock goes when it is released");
}

#[test]
fn what_is_used_up_is_refused_and_not_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("limits.json");
    let counters = Counters::at(&path);
    let used: Vec<_> = (0..4)
        .map(|_| {
            let usage = counters.charge(&[charge(2)], NOW).unwrap();
            (usage[0].used, usage[0].allowed)
        })
        .collect();
    assert_eq!(used, [(1, true), (2, true), (2, false), (2, false)]);
    assert!(!counters.peek(&[charge(2)]).unwrap()[0].allowed);
}

#[test]
fn a_decision_is_counted_for_all_its_limits_or_for_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("limits.json");
    let counters = Counters::at(&path);
    let budget = limit(1, Window::Minute, Scope::Tool);
    let both = [
        charge(9),
        Charge::of_budget(budget, "tool.write", "alice", NOW),
    ];
    assert!(
        counters
            .charge(&both, NOW)
            .unwrap()
            .iter()
            .all(|usage| usage.allowed)
    );
    let second = counters.charge(&both, NOW).unwrap();
    assert_eq!((second[0].used, second[0].allowed), (1, true));
    assert_eq!((second[1].used, second[1].allowed), (1, false));
    assert_eq!(second[1].key, "destructive_budget|tool.write");
}

#[test]
fn charges_of_one_counter_are_within_their_limit_together_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("limits.json");
    let counters = Counters::at(&path);
    let charges = |count: usize| vec![charge(3); count];
    assert!(!counters.peek(&charges(4)).unwrap()[0].allowed);
    assert!(!counters.charge(&charges(4), NOW).unwrap()[3].allowed);
    assert!(!path.exists(), "nothing was counted");
    let usages = counters.charge(&charges(2), NOW).unwrap();
    assert_eq!((usages[0].used, usages[0].remaining), (2, 1));
    assert!(!counters.charge(&charges(2), NOW).unwrap()[0].allowed);
    assert!(counters.charge(&charges(1), NOW).unwrap()[0].allowed);
}

#[test]
fn each_scope_shares_a_counter_with_whom_it_says() {
    for (scope, key) in [
        (Scope::Tool, "tool.write"),
        (Scope::Identity, "alice"),
        (Scope::ToolIdentity, "tool.write|alice"),
    ] {
        let charge = of_rate(limit(1, Window::Minute, scope), NOW);
        assert_eq!(charge.scope_key, key);
        let window = format!("minute|{}|2027-01-15T08:00:00Z|{key}", scope.as_str());
        assert_eq!(charge.counter, window);
    }
}

#[test]
fn a_new_window_counts_anew_and_old_windows_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("limits.json");
    let counters = Counters::at(&path);
    let at = |now| of_rate(limit(1, Window::Minute, Scope::Tool), now);
    counters.charge(&[at(NOW)], NOW).unwrap();
    let last = NOW + SignedDuration::from_secs(59);
    assert!(!counters.peek(&[at(last)]).unwrap()[0].allowed);
    let next = NOW + SignedDuration::from_mins(1);
    assert!(counters.charge(&[at(next)], next).unwrap()[0].allowed);
    assert_eq!(file(&path)["counters"].as_array().unwrap().len(), 1);
}

#[test]
fn a_clock_that_was_set_back_renews_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("limits.json");
    let counters = Counters::at(&path);
    counters.charge(&[charge(1)], NOW).unwrap();
    let early: Timestamp = "1975-06-01T12:34:56Z".parse().unwrap();
    let then = of_rate(limit(1, Window::Hour, Scope::Tool), early);
    assert_eq!(then.counter, "hour|tool|1975-06-01T12:00:00Z|tool.write");
    assert!(counters.charge(&[then], early).unwrap()[0].allowed);
    assert!(!counters.charge(&[charge(1)], NOW).unwrap()[0].allowed);
}

#[test]
fn a_damaged_state_denies_under_its_own_code_and_says_how_to_repair_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("limits.json");
    for bytes in [
        "",
        "{",
        "[]",
        "{}",
        r#"{"counters":[{"key":"x","count":1}]}"#,
        r#"{"counters":[{"key":"hour|tool|2027","count":1}]}"#,
        r#"{"counters":[{"key":"hour|tool|2027|k","count":-1}]}"#,
        r#"{"counters":[{"key":"hour|tool|2027|k","count":1.5}]}"#,
        r#"{"counters":[],"counters":[]}"#,
        r#"{"counters":[],"more":1}"#,
        r#"{"schema_version":"2.0.0","counters":[]}"#,
    ] {
        write_atomic(&path, bytes.as_bytes(), Mode::Private).unwrap();
        for fault in [
            Counters::at(&path).peek(&[charge(1)]).unwrap_err(),
            Counters::at(&path).charge(&[charge(1)], NOW).unwrap_err(),
        ] {
            assert_eq!(fault.code(), "rate_limit_state_corrupt", "{bytes}: {fault}");
            assert_eq!(fault.gait_exit_code(), 1);
            assert!(fault.message().contains(path.to_str().unwrap()));
            assert!(fault.hint_text().contains(".corrupt"));
        }
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            bytes,
            "nothing is repaired by forgetting"
        );
    }
}

#[test]
fn a_lock_that_stays_held_is_contention_that_may_be_retried() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("limits.json");
    let held = StateFile::new(&path, &KIND).lock().unwrap();
    let fault = Counters::at(&path).charge(&[charge(1)], NOW).unwrap_err();
    assert_eq!(
        (fault.code(), fault.retryable()),
        ("rate_limit_lock_timeout", true)
    );
    assert_eq!(fault.hint_text(), "retry after contention subsides");
    drop(held);
    assert!(Counters::at(&path).charge(&[charge(1)], NOW).is_ok());
}

#[test]
fn a_place_that_cannot_be_written_is_no_contention() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    write_atomic(&file, b"x", Mode::Private).unwrap();
    let fault = Counters::at(&file.join("limits.json"))
        .charge(&[charge(1)], NOW)
        .unwrap_err();
    assert_eq!(
        (fault.code(), fault.retryable()),
        ("rate_limit_lock_acquire_failed", false)
    );
    let directory = Counters::at(dir.path()).peek(&[charge(1)]).unwrap_err();
    assert_eq!(directory.code(), "rate_limit_state_unavailable");
}
