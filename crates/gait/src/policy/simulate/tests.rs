use super::*;
use serde_json::json;

fn policy(yaml: &str) -> Policy {
    Policy::parse(yaml.as_bytes()).unwrap()
}

fn intent(tool: &str) -> Intent {
    let intent = json!({
        "tool_name": tool,
        "context": {"identity": "alice", "workspace": "w", "risk_class": "low"}
    });
    Intent::parse(intent.to_string().as_bytes()).unwrap()
}

fn recorded(tool: &str, verdict: Verdict) -> Fixture {
    Fixture::Trace(Recorded {
        trace_id: format!("trace of {tool}"),
        intent_digest: intent(tool).digest(),
        verdict,
        signature_status: SignatureStatus::Skipped,
    })
}

fn simulate(baseline: &str, candidate: &str, fixtures: Vec<Fixture>) -> Simulation {
    let (baseline, candidate) = (policy(baseline), policy(candidate));
    let now = "2026-02-05T00:00:00Z".parse().unwrap();
    let mut trial = Trial::new(&baseline, &candidate, now);
    for (index, fixture) in fixtures.into_iter().enumerate() {
        trial.add(&format!("{index}.json"), fixture).unwrap();
    }
    trial.finish()
}

fn asked(tool: &str) -> Fixture {
    Fixture::Intent(Box::new(intent(tool)))
}

const ALLOW_A: &str =
    "default_verdict: block\nrules: [{name: a, effect: allow, match: {tool_name: a}}]";

#[test]
fn the_recommendation_follows_from_the_worst_change() {
    for (baseline, candidate, expected) in [
        (
            "default_verdict: allow",
            "default_verdict: allow",
            Recommendation::Enforce,
        ),
        (
            "default_verdict: block",
            "default_verdict: dry_run",
            Recommendation::Enforce,
        ),
        (
            "default_verdict: allow",
            "default_verdict: block",
            Recommendation::RequireApproval,
        ),
        (
            "default_verdict: block",
            "default_verdict: allow",
            Recommendation::Observe,
        ),
        (
            "default_verdict: require_approval",
            "default_verdict: allow",
            Recommendation::Observe,
        ),
        (
            "rules: [{name: a, effect: allow, match: {tool_name: a}}, {name: b, effect: block, match: {tool_name: b}}]",
            "rules: [{name: a, effect: block, match: {tool_name: a}}, {name: b, effect: allow, match: {tool_name: b}}]",
            Recommendation::Observe,
        ),
    ] {
        let simulation = simulate(baseline, candidate, vec![asked("a"), asked("b")]);
        assert_eq!(
            simulation.recommendation, expected,
            "{baseline} -> {candidate}"
        );
        assert_eq!(simulation.fixtures_total, 2);
    }
}

#[test]
fn a_recorded_decision_is_replayed_on_the_intent_of_its_digest() {
    let simulation = simulate(
        "default_verdict: block",
        ALLOW_A,
        vec![
            recorded("a", Verdict::Block),
            recorded("b", Verdict::Allow),
            recorded("b", Verdict::Block),
            recorded("elsewhere", Verdict::Allow),
            asked("a"),
            asked("b"),
        ],
    );
    assert_eq!(simulation.replayed_traces, 3);
    assert_eq!(simulation.unmatched_traces, 1);
    assert_eq!(simulation.unverified_traces, 4);
    assert!(simulation.warnings[0].starts_with("4 recorded decisions are not verified"));
    let [allowed] = &simulation.would_allow[..] else {
        panic!("{simulation:?}")
    };
    assert_eq!(
        (allowed.trace_id.as_str(), allowed.candidate_verdict),
        ("trace of a", Verdict::Allow)
    );
    let [denied] = &simulation.would_deny[..] else {
        panic!("{simulation:?}")
    };
    assert_eq!(
        (denied.trace_id.as_str(), denied.candidate_verdict),
        ("trace of b", Verdict::Block)
    );
}

#[test]
fn a_change_that_only_gives_other_reasons_is_a_change() {
    let reasons =
        "default_verdict: block\nrules: [{name: a, effect: block, match: {tool_name: a}}]";
    let simulation = simulate(
        "default_verdict: block",
        reasons,
        vec![asked("a"), asked("b")],
    );
    assert_eq!(simulation.changed_fixtures, 1);
    let change = &simulation.changed[0];
    assert_eq!(change.fixture_path, "0.json");
    assert_eq!(change.baseline_reason_codes, ["default_block"]);
    assert_eq!(change.candidate_matched_rule, "a");
}

#[test]
fn fixtures_are_found_once_in_order_and_nothing_else_is_taken_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs_create(path.parent().unwrap());
        worldcompute_durable::write_atomic(
            &path,
            text.as_bytes(),
            worldcompute_durable::Mode::Private,
        )
        .unwrap();
        path
    };
    let b = write("b.json", "{}");
    let a = write("sub/a.JSON", "{}");
    write("notes.txt", "");
    std::os::unix::fs::symlink(dir.path(), dir.path().join("loop")).unwrap();
    let found = fixture_paths(&[dir.path(), b.as_path(), &dir.path().join("./sub")]).unwrap();
    assert_eq!(found, [b, a]);
    assert_eq!(
        fixture_paths(&[dir.path().join("notes.txt")])
            .unwrap_err()
            .code(),
        "invalid_input"
    );
    assert_eq!(
        fixture_paths(&[dir.path().join("none")])
            .unwrap_err()
            .code(),
        "not_found"
    );
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(
        fixture_paths(&[empty.path()]).unwrap_err().code(),
        "invalid_input"
    );
}

fn fs_create(path: &Path) {
    std::fs::create_dir_all(path).unwrap();
}
