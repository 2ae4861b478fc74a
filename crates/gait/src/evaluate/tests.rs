mod clauses;
mod evasion;

use super::*;
use crate::evidence::Ask;
use crate::intent::Intent;
use serde_json::{Value, json};

fn policy(yaml: &str) -> Policy {
    Policy::parse(yaml.as_bytes()).unwrap()
}

/// A policy whose only rule allows, with these further lines.
fn allowing(lines: &str) -> Policy {
    policy(&format!(
        "default_verdict: block\nrules:\n- name: r\n  effect: allow\n{lines}"
    ))
}

fn intent(changes: Value) -> Intent {
    let mut intent = json!({
        "tool_name": "tool.x",
        "args": {},
        "context": {"identity": "alice", "workspace": "/repo/gait", "risk_class": "high"}
    });
    for (name, value) in changes.as_object().unwrap() {
        intent[name] = value.clone();
    }
    Intent::parse(intent.to_string().as_bytes()).unwrap()
}

fn target(target: Value) -> Intent {
    intent(json!({ "targets": [target] }))
}

fn path(value: &str, operation: &str) -> Intent {
    target(json!({"kind": "path", "value": value, "operation": operation}))
}

fn url(value: &str) -> Intent {
    target(json!({"kind": "url", "value": value}))
}

fn verdict(policy: &Policy, intent: &Intent) -> Verdict {
    policy.ask(intent).verdict
}

#[test]
fn the_default_decides_only_when_no_rule_matches() {
    for default in ["allow", "block", "dry_run", "require_approval"] {
        let policy = policy(&format!(
            "default_verdict: {default}\nrules:\n- {{name: r, effect: block, match: {{tool_name: other}}}}"
        ));
        let outcome = policy.ask(&path("/x", "read"));
        assert_eq!(outcome.verdict.as_str(), default);
        assert_eq!(outcome.reason_codes, [format!("default_{default}")]);
        assert_eq!(
            outcome.required_approvals,
            usize::from(default == "require_approval")
        );
        assert!(outcome.matched_rules.is_empty());
    }
}

#[test]
fn the_lowest_priority_number_that_matches_decides() {
    let policy = policy(
        "rules:\n- {name: late, priority: 9, effect: block}\n- {name: early, priority: -1, effect: allow, match: {tool_name: tool.x}}",
    );
    let outcome = policy.ask(&path("/x", "read"));
    assert_eq!(
        (outcome.verdict, outcome.matched_rule()),
        (Verdict::Allow, "early".to_owned())
    );
    let other = policy.ask(&intent(json!({"tool_name": "tool.y"})));
    assert_eq!(other.matched_rule(), "late");
}

#[test]
fn rules_of_one_priority_merge_to_the_strictest_with_its_own_reasons() {
    let policy = policy(
        "rules:\n\
         - {name: c, effect: allow, reason_codes: [from_c]}\n\
         - {name: a, effect: require_approval, reason_codes: [from_a], violations: [va], min_approvals: 2}\n\
         - {name: b, effect: require_approval, reason_codes: [from_b], violations: [vb], min_approvals: 3}\n\
         - {name: d, effect: dry_run, reason_codes: [from_d], min_approvals: 9}\n",
    );
    let outcome = policy.ask(&path("/x", "read"));
    assert_eq!(outcome.verdict, Verdict::RequireApproval);
    assert_eq!(outcome.reason_codes, ["from_a", "from_b"]);
    assert_eq!(outcome.violations, ["va", "vb"]);
    assert_eq!(outcome.matched_rule(), "a,b,c,d");
    assert_eq!(
        (outcome.required_approvals, outcome.distinct_approvers),
        (3, true)
    );
}

#[test]
fn a_match_holds_when_all_its_keys_do_and_any_entry_of_each() {
    let full = intent(json!({
        "tool_name": "Tool.X",
        "targets": [
            {"kind": "path", "value": "/A", "operation": "read", "sensitivity": "PII", "discovery_method": "mcp"},
            {"kind": "url", "value": "https://h/", "operation": "post", "read_only_hint": true}
        ],
        "arg_provenance": [{"arg_path": "a", "source": "external"}],
        "skill_provenance": {"skill_name": "s", "source": "Registry", "publisher": "Acme"},
        "delegation": {
            "requester_identity": "c",
            "scope_class": "write",
            "chain": [{"delegator_identity": "a", "delegate_identity": "c", "scope_class": "deploy"}]
        }
    }));
    for (hit, miss) in [
        ("tool_names: [y, TOOL.x]", "tool_names: [tool]"),
        ("risk_classes: [HIGH]", "risk_classes: [low]"),
        ("target_kinds: [host, url]", "target_kinds: [host]"),
        ("target_values: [/A]", "target_values: [/a]"),
        ("endpoint_classes: [fs.read]", "endpoint_class: [fs.write]"),
        ("discovery_method: [mcp]", "discovery_method: [webmcp]"),
        (
            "tool_annotations: {readOnlyHint: true}",
            "tool_annotations: {destructiveHint: true}",
        ),
        ("skill_publishers: [ACME]", "skill_publishers: [acm]"),
        ("skill_sources: [registry]", "skill_sources: [git]"),
        ("data_classes: [pii]", "data_classes: [public]"),
        ("destination_kinds: [url]", "destination_kinds: [bucket]"),
        (
            "destination_values: ['https://h/']",
            "destination_values: ['https://h']",
        ),
        (
            "destination_operations: [POST]",
            "destination_operations: [put]",
        ),
        (
            "provenance_sources: [external]",
            "provenance_sources: [user]",
        ),
        ("identities: [bob, alice]", "identities: [Alice]"),
        ("workspace_prefixes: [/repo]", "workspace_prefixes: [/Repo]"),
        ("require_delegation: true", "max_delegation_depth: 0"),
        (
            "allowed_delegator_identities: [a]",
            "allowed_delegator_identities: [c]",
        ),
        (
            "allowed_delegate_identities: [c]",
            "allowed_delegate_identities: [a]",
        ),
        ("delegation_scopes: [deploy]", "delegation_scopes: [read]"),
    ] {
        let matching = |keys: &str| {
            allowing(&format!("  match: {{{keys}}}"))
                .ask(&full)
                .matched_rule()
        };
        assert_eq!(matching(hit), "r", "{hit}");
        assert_eq!(matching(miss), "", "{miss}");
        assert_eq!(
            matching(&format!("{hit}, max_delegation_depth: 0")),
            "",
            "{hit} and a key that misses"
        );
    }
}

#[test]
fn conditions_on_what_an_intent_does_not_say_never_hold() {
    let bare = intent(json!({}));
    for key in [
        "target_kinds: [path]",
        "tool_annotations: {readOnlyHint: false}",
        "skill_publishers: [acme]",
        "data_classes: [public]",
        "provenance_sources: [user]",
        "require_delegation: true",
        "max_delegation_depth: 5",
        "delegation_scopes: [write]",
    ] {
        let policy = allowing(&format!("  match: {{{key}}}"));
        assert_eq!(verdict(&policy, &bare), Verdict::Block, "{key}");
    }
}

#[test]
fn destruction_is_rehearsed_in_planning_and_approved_in_applying() {
    let allow = allowing("");
    let planning = |value: &str| json!({"identity": "a", "workspace": "w", "risk_class": "low", "phase": value});
    let destroy = |phase: &str| {
        intent(json!({
            "targets": [{"kind": "path", "value": "/x", "operation": "delete"}],
            "context": planning(phase)
        }))
    };
    let plan = allow.ask(&destroy("plan"));
    assert_eq!(plan.verdict, Verdict::DryRun);
    assert_eq!(
        plan.reason_codes,
        ["matched_rule_r", "plan_phase_non_destructive"]
    );
    let apply = allow.ask(&destroy("apply"));
    assert_eq!(
        (apply.verdict, apply.required_approvals),
        (Verdict::RequireApproval, 1)
    );
    assert_eq!(
        apply.reason_codes,
        ["destructive_apply_requires_approval", "matched_rule_r"]
    );
    let block = policy("rules: [{name: r, effect: block}]").ask(&destroy("plan"));
    assert_eq!(block.verdict, Verdict::Block);
}

#[test]
fn path_lists_hold_for_where_a_path_leads_not_for_how_it_is_spelled() {
    let inside = allowing("  endpoint: {path_allowlist: [/tmp/**, ./work/*, /one]}");
    for (spelling, expected) in [
        ("/tmp/a/b", Verdict::Allow),
        ("/tmp", Verdict::Allow),
        ("/tmp/a/../b", Verdict::Allow),
        ("//tmp/./a", Verdict::Allow),
        ("work/a", Verdict::Allow),
        ("/one", Verdict::Allow),
        ("/tmp/../etc/passwd", Verdict::Block),
        ("/tmp/a/../../etc/passwd", Verdict::Block),
        ("/tmpfoo", Verdict::Block),
        ("work/a/b", Verdict::Block),
        ("work/../secret", Verdict::Block),
        ("../work/a", Verdict::Block),
        ("/one/more", Verdict::Block),
    ] {
        assert_eq!(
            verdict(&inside, &path(spelling, "read")),
            expected,
            "{spelling}"
        );
    }
    let outside = allowing("  endpoint: {path_denylist: [/etc/**]}");
    for spelling in [
        "/etc/passwd",
        "/etc",
        "/tmp/../etc/x",
        "/./etc//x",
        "/etc/../etc/x",
    ] {
        let outcome = outside.ask(&path(spelling, "read"));
        assert_eq!(outcome.verdict, Verdict::Block, "{spelling}");
        assert_eq!(
            outcome.violations,
            ["endpoint_constraint_violation", "endpoint_path_denied"]
        );
    }
    assert_eq!(
        verdict(&outside, &path("/etcetera", "read")),
        Verdict::Allow
    );
}

#[test]
fn domain_lists_hold_for_the_address_whatever_the_intent_claims() {
    let inside = allowing("  endpoint: {domain_allowlist: [good.example, '*.cdn.example']}");
    let outside = allowing("  endpoint: {domain_denylist: [evil.example, '*.evil.example']}");
    for (address, expected) in [
        ("https://good.example/x", Verdict::Allow),
        ("https://GOOD.example.:443/", Verdict::Allow),
        ("https://a.b.cdn.example/", Verdict::Allow),
        ("https://cdn.example/", Verdict::Block),
        ("https://evil.example/", Verdict::Block),
        ("https://a.evil.example./", Verdict::Block),
        ("https://good.example@evil.example/", Verdict::Block),
        ("https://evil.example\\@good.example/", Verdict::Block),
        ("https:good.example", Verdict::Block),
        ("not an address", Verdict::Block),
    ] {
        assert_eq!(verdict(&inside, &url(address)), expected, "{address}");
        if expected == Verdict::Allow {
            assert_eq!(
                verdict(&outside, &url(address)),
                Verdict::Allow,
                "{address}"
            );
        }
    }
    for address in [
        "https://evil.example",
        "https://x.evil.example.",
        "https://evil.example\\@good.example/",
    ] {
        assert_eq!(
            verdict(&outside, &url(address)),
            Verdict::Block,
            "{address}"
        );
    }
    let lie =
        json!({"kind": "url", "value": "https://evil.example/", "endpoint_domain": "good.example"});
    assert_eq!(verdict(&inside, &target(lie.clone())), Verdict::Block);
    assert_eq!(verdict(&outside, &target(lie)), Verdict::Block);
}

#[test]
fn egress_classes_bind_network_targets_only() {
    let policy = allowing("  endpoint: {egress_classes: [net.dns]}");
    assert_eq!(verdict(&policy, &url("https://h/")), Verdict::Block);
    let lookup = target(json!({"kind": "host", "value": "h", "operation": "resolve"}));
    assert_eq!(verdict(&policy, &lookup), Verdict::Allow);
    assert_eq!(verdict(&policy, &path("/x", "read")), Verdict::Allow);
}

#[test]
fn one_target_outside_a_constraint_is_enough() {
    let policy = allowing("  endpoint: {path_allowlist: [/tmp/**]}");
    let mixed = intent(json!({"targets": [
        {"kind": "path", "value": "/tmp/a", "operation": "read"},
        {"kind": "path", "value": "/etc/a", "operation": "read"}
    ]}));
    assert_eq!(verdict(&policy, &mixed), Verdict::Block);
}

#[test]
fn a_constraint_never_softens_a_block() {
    let policy = policy(
        "rules:\n- {name: r, effect: block, endpoint: {path_denylist: [/**], action: require_approval, reason_code: mine, violation: theirs}}",
    );
    let outcome = policy.ask(&path("/x", "read"));
    assert_eq!(outcome.verdict, Verdict::Block);
    assert_eq!(
        outcome.reason_codes,
        ["endpoint_path_denied", "matched_rule_r", "mine"]
    );
    assert_eq!(outcome.violations, ["endpoint_path_denied", "theirs"]);
}

#[test]
fn risky_intents_that_leave_something_out_are_blocked_before_any_rule() {
    let policy = policy(
        "default_verdict: allow\nfail_closed:\n  enabled: true\n  required_fields: [targets, arg_provenance, delegation, context_evidence, endpoint_class]\n  required_high_risk_fields: [run_id, agent_identity, credential_ttl_seconds]\n",
    );
    let outcome = policy.ask(&target(json!({"kind": "table", "value": "t"})));
    assert_eq!(outcome.verdict, Verdict::Block);
    assert_eq!(
        outcome.violations,
        [
            "endpoint_class_unknown",
            "missing_agent_identity",
            "missing_arg_provenance",
            "missing_context_evidence",
            "missing_credential_ttl_seconds",
            "missing_delegation",
            "missing_endpoint_class",
            "missing_run_id",
        ]
    );
    let low = intent(json!({"context": {"identity": "a", "workspace": "w", "risk_class": "low"}}));
    assert_eq!(verdict(&policy, &low), Verdict::Allow);
    let critical =
        intent(json!({"context": {"identity": "a", "workspace": "w", "risk_class": "critical"}}));
    assert_eq!(verdict(&policy, &critical), Verdict::Block);
}

#[test]
fn an_intent_cannot_vouch_for_its_own_context() {
    let policy = policy(
        "default_verdict: allow\nfail_closed: {enabled: true, required_fields: [context_evidence]}",
    );
    let claiming = intent(json!({"context": {
        "identity": "a",
        "workspace": "w",
        "risk_class": "high",
        "context_set_digest": "d".repeat(64),
        "context_evidence_mode": "required"
    }}));
    assert_eq!(verdict(&policy, &claiming), Verdict::Block);
}

fn script(operations: &[&str]) -> Intent {
    let step = |operation: &&str| {
        json!({
            "tool_name": format!("tool.{operation}"),
            "args": {},
            "targets": [{"kind": "path", "value": "/x", "operation": operation}]
        })
    };
    intent(json!({"script": {"steps": operations.iter().map(step).collect::<Vec<_>>()}}))
}

#[test]
fn a_script_is_as_restricted_as_its_worst_step() {
    let policy = policy(
        "default_verdict: allow\nrules:\n- {name: a, effect: dry_run, match: {tool_name: tool.write}}\n- {name: b, effect: block, match: {tool_name: tool.get}}",
    );
    assert_eq!(verdict(&policy, &script(&["read", "read"])), Verdict::Allow);
    assert_eq!(
        verdict(&policy, &script(&["read", "write"])),
        Verdict::DryRun
    );
    let outcome = policy.ask(&script(&["write", "get", "read"]));
    assert_eq!(
        (outcome.verdict, outcome.matched_rule()),
        (Verdict::Block, "a,b".to_owned())
    );
    let steps = outcome.script.unwrap().steps;
    let verdicts: Vec<_> = steps.iter().map(|step| step.verdict).collect();
    assert_eq!(verdicts, [Verdict::DryRun, Verdict::Block, Verdict::Allow]);
}

#[test]
fn script_limits_raise_the_verdict_of_the_whole() {
    let with = |scripts: &str| policy(&format!("default_verdict: allow\nscripts: {{{scripts}}}"));
    let three = script(&["read", "read", "write"]);
    for (scripts, verdict, code) in [
        ("max_steps: 2", Verdict::Block, "script_max_steps_exceeded"),
        (
            "require_approval_above: 2",
            Verdict::RequireApproval,
            "script_step_threshold_approval",
        ),
        (
            "block_mixed_risk: true",
            Verdict::Block,
            "script_mixed_risk_blocked",
        ),
        (
            "max_steps: 3, require_approval_above: 3",
            Verdict::Allow,
            "default_allow",
        ),
    ] {
        let outcome = with(scripts).ask(&three);
        assert_eq!(outcome.verdict, verdict, "{scripts}");
        assert!(
            outcome.reason_codes.iter().any(|have| have == code),
            "{scripts}"
        );
    }
    assert_eq!(
        verdict(&with("block_mixed_risk: true"), &script(&["read", "get"])),
        Verdict::Allow
    );
}

#[test]
fn reason_codes_default_to_the_sanitised_rule_name() {
    let policy = policy("rules: [{name: 'My \"Rule\"-Name', effect: allow}]");
    let outcome = policy.ask(&path("/x", "read"));
    assert_eq!(outcome.reason_codes, ["matched_rule_my_\\\"rule\\\"_name"]);
}

#[test]
fn the_index_finds_what_looking_at_every_rule_finds() {
    let tools = ["a", "b", "c", "d"];
    for seed in 0..400_u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |limit: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % limit
        };
        let mut yaml = "default_verdict: dry_run\nrules:\n".to_owned();
        for rule in 0..below(12) {
            let names: Vec<&str> = (0..below(3)).map(|_| tools[below(4) as usize]).collect();
            let effect = ["allow", "block", "require_approval"][below(3) as usize];
            let risk = ["high", "low"][below(2) as usize];
            yaml += &format!(
                "- {{name: r{rule}, priority: {}, effect: {effect}, match: {{tool_names: {names:?}, risk_classes: [{risk}]}}}}\n",
                below(3)
            );
        }
        let policy = policy(if yaml.ends_with("rules:\n") {
            "default_verdict: dry_run"
        } else {
            &yaml
        });
        for tool in ["a", "b", "c", "d"] {
            let asked = intent(json!({ "tool_name": tool }));
            let prepared = asked
                .prepare(&crate::evidence::Evidence::at(
                    "2026-02-05T00:00:00Z".parse().unwrap(),
                ))
                .unwrap();
            let call = Call::of(&prepared);
            let indexed: Vec<&str> = policy
                .matching(&call)
                .map(|(_, rule)| rule.name.as_str())
                .collect();
            let scanned: Vec<&str> = policy
                .rules
                .iter()
                .filter(|rule| rule.matches.holds(&call, rule.effect))
                .map(|rule| rule.name.as_str())
                .collect();
            assert_eq!(indexed, scanned, "seed {seed} tool {tool}\n{yaml}");
        }
    }
}

/// Allows files below `/srv/app` and one domain.
fn bounded() -> Policy {
    allowing(
        "  endpoint: {enabled: true, path_allowlist: [\"/srv/app/**\"], domain_allowlist: [good.example]}\n",
    )
}

#[test]
fn no_spelling_and_no_other_name_leads_a_file_past_the_list_of_paths() {
    assert_eq!(
        verdict(&bounded(), &path("/srv/app/x", "read")),
        Verdict::Allow
    );
    for value in [
        "/srv/app/../../etc/passwd",
        "/srv/app/%2e%2e/%2e%2e/etc/passwd",
        "/srv/app/..%2f..%2fetc/passwd",
        "/srv/app/..\\..\\etc/passwd",
        "/srv/app/../../etc/passwd\u{0}/../../../srv/app/x",
        "/srv//app/./../app2/x",
        "../srv/app/x",
        "/SRV/APP/x",
    ] {
        let read = verdict(&bounded(), &path(value, "read"));
        assert_eq!(read, Verdict::Block, "{value:?}");
    }
    for other in [
        json!({"kind": "other", "value": "/etc/passwd", "endpoint_class": "fs.read"}),
        json!({"kind": "table", "value": "/etc/passwd", "endpoint_class": "fs.write"}),
        json!({"kind": "url", "value": "file:///etc/passwd"}),
    ] {
        assert_eq!(
            verdict(&bounded(), &target(other.clone())),
            Verdict::Block,
            "{other}"
        );
    }
}

#[test]
fn what_does_not_say_where_on_the_network_it_goes_is_on_no_list_of_domains() {
    let to = |domain: &str| {
        target(
            json!({"kind": "other", "value": "x", "endpoint_class": "net.http", "endpoint_domain": domain}),
        )
    };
    assert_eq!(verdict(&bounded(), &to("good.example")), Verdict::Allow);
    assert_eq!(verdict(&bounded(), &to("")), Verdict::Block);
    assert_eq!(verdict(&bounded(), &to("evil.example")), Verdict::Block);
}

#[test]
fn a_rule_that_restricts_a_value_knows_it_in_any_spelling_and_one_that_allows_it_in_its_own() {
    let policy = policy(
        "default_verdict: block\nrules:\n\
         - {name: secret, priority: 0, effect: block, match: {target_values: [/etc/passwd]}}\n\
         - {name: open, priority: 1, effect: allow, match: {target_values: [/srv/a, /srv//b]}}\n\
         - {name: rest, priority: 2, effect: allow, match: {target_kinds: [url]}}",
    );
    for value in ["/etc/passwd", "/etc//passwd", "/x/../etc/%70asswd"] {
        let outcome = policy.ask(&path(value, "read"));
        assert_eq!(outcome.matched_rule(), "secret", "{value}");
    }
    assert_eq!(
        policy.ask(&url("file:///etc/passwd")).matched_rule(),
        "secret"
    );
    for (value, allowed) in [
        ("/srv/a", true),
        ("/srv//b", true),
        ("/srv//a", false),
        ("/etc/shadow\u{0}/../../srv/a", false),
    ] {
        let outcome = policy.ask(&path(value, "read"));
        assert_eq!(outcome.verdict == Verdict::Allow, allowed, "{value:?}");
    }
}

#[test]
fn a_workspace_is_where_it_leads_not_where_it_starts() {
    let policy = allowing("  match: {workspace_prefixes: [/srv/app, /opt/]}\n");
    let from = |workspace: &str| {
        let context = json!({"identity": "a", "workspace": workspace, "risk_class": "low"});
        verdict(&policy, &intent(json!({ "context": context })))
    };
    for inside in ["/srv/app", "/srv/app/x", "/srv//app/", "/opt/", "/opt/x/.."] {
        let expected = match inside {
            // The directory itself, spelled without the slash that the prefix asks for.
            "/opt/x/.." => Verdict::Block,
            _ => Verdict::Allow,
        };
        assert_eq!(from(inside), expected, "{inside}");
    }
    for outside in ["/srv/app/../../etc", "/srv/app\\..\\..", "/opt/../etc/"] {
        assert_eq!(from(outside), Verdict::Block, "{outside}");
    }
}

#[test]
fn a_script_that_names_known_targets_hides_no_unknown_ones_of_its_steps() {
    let policy = policy(
        "default_verdict: allow\nfail_closed: {enabled: true, risk_classes: [high], required_fields: [targets]}",
    );
    let script = |class: &str| {
        let target = json!({"kind": "other", "value": "x", "endpoint_class": class});
        intent(json!({
            "targets": [{"kind": "path", "value": "/x", "endpoint_class": "fs.read"}],
            "script": {"steps": [{"tool_name": "tool.y", "targets": [target]}]},
        }))
    };
    assert_eq!(verdict(&policy, &script("fs.read")), Verdict::Allow);
    let outcome = policy.ask(&script("other"));
    assert_eq!(outcome.verdict, Verdict::Block);
    assert_eq!(outcome.violations, ["endpoint_class_unknown"]);
}
