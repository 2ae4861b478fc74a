use std::sync::Mutex;

use super::*;

/// Every look at it is a second later.
struct Ticking(Mutex<Timestamp>);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        let mut now = self.0.lock().unwrap();
        *now += jiff::SignedDuration::from_secs(1);
        *now
    }
}

fn clock() -> Ticking {
    Ticking(Mutex::new("2026-02-05T00:00:00Z".parse().unwrap()))
}

fn environment(pairs: &[(&str, &Path)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, path)| ((*name).to_owned(), path.to_str().unwrap().to_owned()))
        .collect()
}

fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn contended() -> Ended {
    let fault = Fault::new(
        Category::StateContention,
        "rate_limit_lock_timeout",
        "held by /secret/path",
    );
    Ended::of(fault.gait_exit_code(), Some(&fault))
}

#[test]
fn nothing_is_written_unless_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (environment, clock) = (BTreeMap::new(), clock());
    let run = Run::start(&environment, &clock, "verify", "c");
    assert!(run.end(Ended::default()).is_empty());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn both_ends_of_a_run_are_logged_with_the_category_as_it_arose() {
    let dir = tempfile::tempdir().unwrap();
    let (log, health) = (dir.path().join("ops.jsonl"), dir.path().join("health.json"));
    let environment = environment(&[(OPERATIONAL_LOG, &log), (HEALTH_PATH, &health)]);
    let clock = clock();
    let warnings = Run::start(&environment, &clock, "gate eval", "c1").end(contended());
    assert_eq!(warnings, [""; 0]);
    let [start, end] = lines(&log).try_into().unwrap();
    assert_eq!(
        (&start["phase"], &end["phase"]),
        (&"start".into(), &"end".into())
    );
    assert_eq!(start["error_category"], "none");
    assert_eq!(end["error_category"], "state_contention");
    assert_eq!(
        (&end["retryable"], &end["exit_code"]),
        (&true.into(), &1.into())
    );
    assert!(end["elapsed_ms"].as_u64().unwrap() >= 1000);
    assert_eq!(
        (&end["correlation_id"], &end["command"]),
        (&"c1".into(), &"gate eval".into())
    );
    assert!(!std::fs::read_to_string(&log).unwrap().contains("secret"));
    let health: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&health).unwrap()).unwrap();
    assert_eq!(health["streams"]["operational"]["success"], 2);
}

#[test]
fn a_log_that_cannot_be_written_is_a_warning_that_can_be_silenced() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none/ops.jsonl");
    let mut environment = environment(&[(OPERATIONAL_LOG, &missing), (ADOPTION_LOG, dir.path())]);
    let clock = clock();
    let warnings = Run::start(&environment, &clock, "demo", "c").end(Ended::default());
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(
        warnings
            .iter()
            .all(|warning| warning.starts_with("warning: the "))
    );
    environment.insert(WARNINGS.to_owned(), "OFF".to_owned());
    assert!(
        Run::start(&environment, &clock, "demo", "c")
            .end(Ended::default())
            .is_empty()
    );
}

#[test]
fn many_runs_at_once_lose_no_event_and_tear_no_line() {
    const RUNS: usize = 16;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("ops.jsonl");
    let environment = environment(&[(OPERATIONAL_LOG, &log)]);
    let clock = clock();
    std::thread::scope(|scope| {
        for _ in 0..RUNS {
            scope.spawn(|| {
                let warnings =
                    Run::start(&environment, &clock, "verify", "c").end(Ended::default());
                assert_eq!(warnings, [""; 0]);
            });
        }
    });
    assert_eq!(lines(&log).len(), 2 * RUNS);
}

#[test]
fn a_report_counts_and_says_what_to_do_next() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("adoption.jsonl");
    let environment = environment(&[(ADOPTION_LOG, &log)]);
    let clock = clock();
    for (command, exit_code) in [
        ("demo", 0),
        ("verify", 2),
        ("verify", 0),
        ("regress init", 0),
    ] {
        let ended = Ended {
            exit_code,
            ..Ended::default()
        };
        assert_eq!(
            Run::start(&environment, &clock, command, "c").end(ended),
            [""; 0]
        );
    }
    let report = report(&log, clock.now()).unwrap();
    assert_eq!(
        (
            report.total_events,
            report.success_events,
            report.failed_events
        ),
        (4, 3, 1)
    );
    assert!(!report.activation_complete);
    assert_eq!(report.blockers, ["missing A4: run `gait regress run`"]);
    assert_eq!(report.activation_timing_ms.keys().count(), 3);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["commands"][2]["command"], "verify");
    assert_eq!(json["commands"][2]["failure"], 1);
    assert_eq!(json["milestones"][1]["achieved"], true);
}

#[test]
fn a_log_with_anything_else_in_it_is_refused_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("adoption.jsonl");
    let now = "2026-02-05T00:00:00Z".parse().unwrap();
    let sound = serde_json::to_string(&AdoptionEvent::new("demo", Ended::default(), now)).unwrap();
    let broken = [
        "{".to_owned(),
        "[]".to_owned(),
        sound.replace("\"demo\"", "\"\""),
        sound.replace("adoption_event", "other_event"),
        sound.replace("\"A1\"", "\"A9\""),
        sound.replace("\"exit_code\":0", "\"exit_code\":-1"),
        sound.replace("\"exit_code\":0", "\"exit_code\":256"),
        sound.replace("{\"schema_id\"", "{\"extra\":1,\"schema_id\""),
        " ".repeat(MAX_ADOPTION_LINE) + &sound,
        "\u{0}\u{1}".to_owned(),
    ];
    for line in broken {
        let text = format!("{sound}\n\n{line}\n");
        write_atomic(&log, text.as_bytes(), Mode::Private).unwrap();
        let fault = report(&log, now).unwrap_err();
        assert_eq!(fault.code(), "invalid_input");
        assert!(fault.message().contains("line 3"), "{fault}");
    }
    write_atomic(&log, sound.as_bytes(), Mode::Private).unwrap();
    assert_eq!(report(&log, now).unwrap().total_events, 1);
    let missing = report(&dir.path().join("none"), now).unwrap_err();
    assert_eq!(missing.code(), "not_found");
}
