//! `gait policy ...`, as a caller sees it.

mod support;

use serde_json::{Value, json};
use support::Gait;

const POLICY: &str = "default_verdict: block
rules:
- {name: read, priority: 2, effect: allow, match: {tool_name: Tool.Read}} # a comment
- {name: ask, priority: 1, effect: require_approval, match: {tool_name: tool.ask}}
";

fn intent(tool: &str) -> String {
    json!({
        "created_at": "2026-02-05T00:00:00Z",
        "tool_name": tool,
        "context": {"identity": "alice", "workspace": "w", "risk_class": "low"}
    })
    .to_string()
}

#[test]
fn a_test_exits_with_the_verdict_and_says_why() {
    let gait = Gait::new();
    let policy = gait.file("policy.yaml", POLICY);
    for (tool, exit, verdict, rule) in [
        ("tool.read", 0, "allow", "read"),
        ("tool.ask", 4, "require_approval", "ask"),
        ("tool.other", 3, "block", ""),
    ] {
        let asked = gait.file("intent.json", intent(tool));
        let (code, json) = gait.json(&["policy", "test", &policy, &asked]);
        assert_eq!((code, &json["verdict"]), (exit, &verdict.into()), "{json}");
        assert_eq!(json["ok"], true);
        assert_eq!(json["schema_id"], "gait.policytest.result");
        assert_eq!(json["created_at"], "2026-02-05T00:00:00Z");
        assert_eq!(
            json.get("matched_rule")
                .and_then(Value::as_str)
                .unwrap_or(""),
            rule
        );
        assert_eq!(json.get("violations"), None, "what is empty is left out");
        assert!(
            json["summary"]
                .as_str()
                .unwrap()
                .starts_with("policy test verdict=")
        );
        assert_eq!(json.get("error"), None);
    }
}

#[test]
fn a_policy_that_says_deny_or_blocked_is_invalid_input() {
    for effect in ["deny", "blocked", "lock", "timeout"] {
        let gait = Gait::new();
        let policy = gait.file(
            "lock/policy.yaml",
            format!("rules: [{{name: r, effect: {effect}}}]"),
        );
        let asked = gait.file("lock/intent.json", intent("t"));
        for arguments in [
            &["policy", "validate", &policy][..],
            &["policy", "test", &policy, &asked],
            &["policy", "fmt", &policy],
        ] {
            let (code, json) = gait.json(arguments);
            assert_eq!(code, 6, "{arguments:?} {json}");
            assert_eq!(json["error_code"], "invalid_input");
            assert_eq!(json["error_category"], "invalid_input");
            assert_eq!(json["hint"], "check command usage and input schema");
            assert!(json["error"].as_str().unwrap().contains(effect), "{json}");
        }
    }
}

#[test]
fn what_is_odd_about_a_valid_policy_is_told_and_changes_nothing() {
    let gait = Gait::new();
    let freeze = |zone: &str, end: &str| {
        format!(
            "default_verdict: block\nrules:\n- name: f\n  effect: allow\n  freeze_window:\n    timezone: {zone}\n    \
             windows:\n    - {{start: '2026-01-01T00:00:00', end: '{end}'}}\n"
        )
    };
    let end = "2026-01-02T00:00:00";
    for (text, odd) in [
        (POLICY.to_owned(), None),
        (freeze("Europe/Berlin", end), None),
        ("default_verdict: !!str block\n".to_owned(), None),
        (format!("\u{feff}{POLICY}"), Some("byte order mark")),
        (
            "# one\ndefault_verdict: !!python/name:os.system block\n".to_owned(),
            Some("line 2 has a YAML tag"),
        ),
        (
            "!!python/object:x {default_verdict: block}\n".to_owned(),
            Some("line 1 has a YAML tag"),
        ),
        (
            freeze("Mars/Olympus", end),
            Some("rule f: freeze_window.timezone \"Mars/Olympus\" is no time zone"),
        ),
        (
            freeze("UTC", "2025-01-01T00:00:00"),
            Some("rule f: freeze_window.windows[0] is no range"),
        ),
    ] {
        let path = gait.file("policy.yaml", &text);
        let (code, json) = gait.json(&["policy", "validate", &path]);
        assert_eq!(
            (code, &json["default_verdict"]),
            (0, &"block".into()),
            "{text}"
        );
        let warnings = json
            .get("warnings")
            .map(|list| list.as_array().unwrap().clone());
        let told: Vec<_> = warnings
            .iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        assert_eq!(
            (told.len(), warnings.is_some()),
            (odd.iter().len(), odd.is_some()),
            "{json}"
        );
        let human = gait.run(&["policy", "validate", &path]).stdout;
        assert_eq!(human.contains("\nwarning: "), odd.is_some(), "{human}");
        if let Some(odd) = odd {
            assert!(told[0].contains(odd) && human.contains(odd), "{json}");
        }
    }
}

#[test]
fn files_that_are_not_there_are_a_matter_of_the_disk() {
    let gait = Gait::new();
    let policy = gait.file("policy.yaml", POLICY);
    for arguments in [
        &["policy", "validate", "none.yaml"][..],
        &["policy", "test", &policy, "none.json"],
        &["policy", "fmt", "none.yaml"],
        &[
            "policy",
            "simulate",
            "--policy",
            &policy,
            "--baseline",
            &policy,
            "--fixtures",
            "none",
        ],
    ] {
        let (code, json) = gait.json(arguments);
        assert_eq!(
            (code, &json["error_category"]),
            (1, &"io_failure".into()),
            "{arguments:?}"
        );
        assert_eq!(json["error_code"], "not_found");
    }
}

#[test]
fn formatting_shows_the_normal_form_and_writes_it_only_when_told() {
    let gait = Gait::new();
    let path = gait.file("policy.yaml", POLICY);
    let before = gait.json(&["policy", "validate", &path]).1["policy_digest"].clone();
    let (code, shown) = gait.json(&["policy", "fmt", &path]);
    assert_eq!(
        (code, &shown["changed"], shown.get("written")),
        (0, &true.into(), None)
    );
    let formatted = shown["formatted"].as_str().unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), POLICY);
    assert_eq!(gait.run(&["policy", "fmt", &path]).stdout, formatted);
    let (_, written) = gait.json(&["policy", "fmt", &path, "--write"]);
    assert_eq!(
        (&written["changed"], &written["written"]),
        (&true.into(), &true.into())
    );
    assert_eq!(written.get("formatted"), None);
    assert_eq!(written["policy_digest"], before);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), formatted);
    let (_, again) = gait.json(&["policy", "fmt", "--write", &path]);
    assert_eq!((again.get("changed"), again.get("written")), (None, None));
}

#[test]
fn formatting_keeps_a_file_as_readable_as_it_was() {
    use std::os::unix::fs::PermissionsExt;
    let gait = Gait::new();
    for mode in [0o600, 0o644] {
        let path = gait.file("policy.yaml", POLICY);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        gait.json(&["policy", "fmt", "--write", &path]);
        let now = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(now, mode);
    }
}

#[test]
fn every_template_can_be_written_validated_and_is_not_overwritten() {
    for (name, template) in [
        ("low", "baseline-lowrisk"),
        ("baseline_medium_risk", "baseline-mediumrisk"),
        ("HIGH", "baseline-highrisk"),
        ("trust-observe", "trust-observe"),
        ("trust-dry-run", "trust-dry-run"),
        ("trust-readonly", "trust-readonly"),
        ("trust_approval_write", "trust-approval-write"),
        ("brokered_write", "trust-brokered-write"),
        ("trust-block-destructive", "trust-block-destructive"),
    ] {
        let gait = Gait::new();
        let (code, json) = gait.json(&["policy", "init", name]);
        assert_eq!((code, &json["template"]), (0, &template.into()), "{json}");
        assert_eq!(json["policy_path"], "gait.policy.yaml");
        assert_eq!(gait.json(&["policy", "validate", "gait.policy.yaml"]).0, 0);
        let (code, json) = gait.json(&["policy", "init", name]);
        assert_eq!((code, &json["error_code"]), (6, &"invalid_input".into()));
        assert!(json["error"].as_str().unwrap().contains("--force"));
        assert_eq!(gait.json(&["policy", "init", name, "--force"]).0, 0);
        assert_eq!(
            gait.json(&["policy", "init", name, "--out", "../x.yaml"]).0,
            6
        );
    }
    assert_eq!(Gait::new().json(&["policy", "init"]).0, 6);
    let (code, json) = Gait::new().json(&["policy", "init", "none"]);
    let there_are = json["error"].as_str().unwrap().split_once("there are ");
    let (_, names) = there_are.unwrap();
    assert_eq!((code, names.split(", ").count()), (6, 9), "{json}");
    let told = Gait::new().json(&["policy", "init"]).1;
    assert!(told["error"].as_str().unwrap().ends_with(names), "{told}");
}

/// Has the gate decide on a tool under the baseline policy, and keeps the trace among the fixtures.
fn record(gait: &Gait, tool: &str, name: &str) {
    let (intent, trace) = (format!("fixtures/{tool}.json"), format!("fixtures/{name}"));
    let args = [
        "gate",
        "eval",
        "--policy",
        "baseline.yaml",
        "--intent",
        &intent,
        "--trace-out",
        &trace,
    ];
    let signing = ["--key-mode", "prod", "--private-key-env", "GK"];
    let code = gait.json(&[&args[..], &signing].concat()).0;
    assert!([0, 3, 4].contains(&code), "{code}");
}

#[test]
fn a_recorded_decision_is_proven_with_the_key_of_its_gate_or_said_to_be_unproven() {
    let key = worldcompute_proof::SigningKey::from_seed([7; 32]);
    let gait = Gait::new()
        .env("GK", &key.file_text())
        .env("PUBLIC", &key.verifying_key().to_base64());
    gait.file("baseline.yaml", POLICY);
    gait.file("fixtures/tool.read.json", intent("tool.read"));
    gait.file("candidate.yaml", "default_verdict: block");
    record(&gait, "tool.read", "t1.json");
    let args =
        "policy simulate --policy candidate.yaml --baseline baseline.yaml --fixtures fixtures";
    let args: Vec<&str> = args.split(' ').collect();
    let with_key = [&args[..], &["--public-key-env", "PUBLIC"]].concat();
    let (code, json) = gait.json(&args);
    assert_eq!((code, &json["unverified_traces"]), (0, &1.into()), "{json}");
    assert_eq!(json["would_deny"][0]["signature_status"], "skipped");
    assert!(
        json["warnings"][0]
            .as_str()
            .unwrap()
            .contains("--public-key")
    );
    assert!(
        gait.run(&args)
            .stdout
            .contains("warning: 1 recorded decisions are not verified")
    );
    let (code, json) = gait.json(&with_key);
    assert_eq!((code, json.get("unverified_traces")), (0, None), "{json}");
    assert_eq!(json["would_deny"][0]["signature_status"], "verified");
    assert_eq!(json.get("warnings"), None);
    let trace = std::fs::read_to_string(gait.path().join("fixtures/t1.json")).unwrap();
    let unsigned = {
        let mut trace: Value = serde_json::from_str(&trace).unwrap();
        trace.as_object_mut().unwrap().remove("signature");
        trace.to_string()
    };
    for (changed, with, without) in [
        (trace.replace("alice", "mallory"), 2, 0),
        (unsigned, 2, 0),
        (trace.replace("\"allow\"", "\"block\""), 2, 2),
        (trace.replace("gait.gate.trace", "gait.gate.other"), 6, 6),
    ] {
        assert_ne!(changed, trace);
        gait.file("fixtures/t1.json", &changed);
        assert_eq!(gait.json(&with_key).0, with, "{changed}");
        assert_eq!(gait.json(&args).0, without, "{changed}");
    }
}

#[test]
fn a_simulation_tells_what_the_change_would_allow_and_deny() {
    let key = worldcompute_proof::SigningKey::from_seed([7; 32]);
    let gait = Gait::new().env("GK", &key.file_text());
    let baseline = gait.file("baseline.yaml", POLICY);
    let candidate = gait.file(
        "candidate.yaml",
        "default_verdict: block\nrules: [{name: ask, effect: allow, match: {tool_name: tool.ask}}]",
    );
    for tool in ["tool.read", "tool.ask", "tool.other"] {
        gait.file(&format!("fixtures/{tool}.json"), intent(tool));
    }
    record(&gait, "tool.read", "t1.json");
    record(&gait, "tool.ask", "t2.json");
    let simulate = |fixtures: &'static str| {
        let policies = ["--policy", &*candidate, "--baseline", &*baseline];
        [
            &["policy", "simulate", "--fixtures", fixtures][..],
            &policies,
        ]
        .concat()
    };
    let (code, json) = gait.json(&simulate("fixtures"));
    assert_eq!(
        (code, &json["fixtures_total"], &json["changed_fixtures"]),
        (0, &3.into(), &2.into()),
        "{json}"
    );
    assert_eq!(json["recommendation"], "observe");
    let replayed = |change: &str| json[change][0]["fixture_path"].clone();
    assert_eq!(replayed("would_allow"), "fixtures/t2.json");
    assert_eq!(replayed("would_deny"), "fixtures/t1.json");
    assert_eq!(json["would_allow"][0]["candidate_matched_rule"], "ask");
    let shown = gait.run(&simulate("fixtures")).stdout;
    for line in [
        "fixtures/tool.ask.json: require_approval (rule ask) becomes allow (rule ask)",
        "fixtures/tool.read.json: allow (rule read) becomes block (default)",
        "fixtures/t1.json: recorded allow becomes block (default)",
        "fixtures/t2.json: recorded require_approval becomes allow (rule ask)",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert_eq!(
        json["baseline_verdicts"],
        json!([
            {"verdict": "allow", "count": 1}, {"verdict": "block", "count": 1}, {"verdict": "require_approval", "count": 1}
        ])
    );
}

#[test]
fn a_trace_without_its_intent_is_not_taken_for_replayed() {
    let key = worldcompute_proof::SigningKey::from_seed([7; 32]);
    let gait = Gait::new().env("GK", &key.file_text());
    let policy = gait.file("baseline.yaml", POLICY);
    for tool in ["tool.read", "tool.ask"] {
        gait.file(&format!("fixtures/{tool}.json"), intent(tool));
    }
    record(&gait, "tool.read", "t1.json");
    record(&gait, "tool.ask", "t2.json");
    std::fs::remove_file(gait.path().join("fixtures/tool.ask.json")).unwrap();
    let simulate = |fixtures: &'static str| {
        let policies = ["--policy", &*policy, "--baseline", &*policy];
        [
            &["policy", "simulate", "--fixtures", fixtures][..],
            &policies,
        ]
        .concat()
    };
    let (code, json) = gait.json(&simulate("fixtures/t1.json,fixtures/t2.json"));
    assert_eq!(
        (code, &json["error_reason"], &json["unmatched_traces"]),
        (6, &"intents_missing".into(), &2.into()),
        "{json}"
    );
    assert_ne!(json["recommendation"], "enforce", "{json}");
    let (code, json) = gait.json(&simulate("fixtures"));
    assert_eq!(
        (code, &json["recommendation"], &json["unmatched"]),
        (0, &"observe".into(), &json!(["fixtures/t2.json"])),
        "{json}"
    );
    let shown = gait.run(&simulate("fixtures")).stdout;
    assert!(
        shown.contains("fixtures/t2.json: not replayed, its intent is missing")
            && shown.contains("warning: 1 recorded decisions are not replayed"),
        "{shown}"
    );
}

#[test]
fn what_a_simulation_needs_is_asked_for() {
    let gait = Gait::new();
    let policy = gait.file("p.yaml", POLICY);
    for arguments in [
        &["policy", "simulate"][..],
        &["policy", "simulate", "--policy", &policy],
        &[
            "policy",
            "simulate",
            "--policy",
            &policy,
            "--baseline",
            &policy,
        ],
        &[
            "policy",
            "simulate",
            "--policy",
            &policy,
            "--baseline",
            &policy,
            "--fixtures",
            &policy,
        ],
        &[
            "policy",
            "simulate",
            "--policy",
            &policy,
            "--baseline",
            &policy,
            "--fixtures",
            ",",
        ],
        &[
            "policy",
            "simulate",
            "extra",
            "--policy",
            &policy,
            "--baseline",
            &policy,
            "--fixtures",
            ".",
        ],
    ] {
        let (code, json) = gait.json(arguments);
        assert_eq!(
            (code, &json["error_code"]),
            (6, &"invalid_input".into()),
            "{arguments:?}"
        );
    }
}

#[test]
fn a_test_can_say_what_would_allow_it() {
    let gait = Gait::new();
    let policy = gait.file("policy.yaml", POLICY);
    let asked = gait.file("intent.json", intent("tool.ask"));
    let (code, json) = gait.json(&["policy", "test", &policy, &asked, "--why-not"]);
    assert_eq!(code, 4);
    assert_eq!(json["why_not"]["causes"][0]["rule"], "ask");
    assert_eq!(json["why_not"]["causes"][0]["clause"], "effect");
    assert_eq!(json["why_not"]["change"][0]["action"], "insert_rule");
    let shown = gait
        .run(&["policy", "test", &policy, &asked, "--why-not"])
        .stdout;
    assert!(
        shown.contains("because effect says require_approval in rule ask"),
        "{shown}"
    );
    let fine = gait.file("fine.json", intent("tool.read"));
    assert_eq!(
        gait.json(&["policy", "test", &policy, &fine, "--why-not"])
            .1
            .get("why_not"),
        None
    );
}
