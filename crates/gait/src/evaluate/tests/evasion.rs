//! What an agent may try so that a rule does not see its call.

use super::*;

fn with_script(steps: Value, changes: Value) -> Intent {
    let mut all = changes;
    all["script"] = json!({ "steps": steps });
    intent(all)
}

#[test]
fn every_step_of_a_script_says_what_its_class_must_say() {
    let strict = |field: &str| {
        policy(&format!(
            "default_verdict: allow\nfail_closed: {{enabled: true, risk_classes: [high], required_fields: [{field}]}}"
        ))
    };
    let target = json!({"kind": "path", "value": "/srv/a", "operation": "read"});
    let source = json!({"arg_path": "a", "source": "user"});
    let whole = json!({"tool_name": "tool.y", "targets": [target], "arg_provenance": [source]});
    let untargeted =
        json!({"tool_name": "tool.y", "arg_provenance": [source], "args": {"path": "/etc/passwd"}});
    let sound = with_script(json!([whole, whole]), json!({}));
    for field in ["targets", "arg_provenance"] {
        assert_eq!(verdict(&strict(field), &sound), Verdict::Allow, "{field}");
    }
    for around in [json!({}), json!({"targets": [target]})] {
        let outcome = strict("targets").ask(&with_script(json!([whole, untargeted]), around));
        assert_eq!(outcome.verdict, Verdict::Block);
        assert_eq!(outcome.violations, ["missing_targets"]);
    }
    let unsourced = json!({"tool_name": "tool.y", "targets": [target]});
    for around in [json!({}), json!({"arg_provenance": [source]})] {
        let outcome = strict("arg_provenance").ask(&with_script(json!([whole, unsourced]), around));
        assert_eq!(outcome.verdict, Verdict::Block);
        assert_eq!(outcome.violations, ["missing_arg_provenance"]);
    }
}

#[test]
fn a_step_that_says_nothing_of_its_arguments_has_the_taint_of_its_script() {
    let dataflow = allowing("  dataflow: {enabled: true, action: block}");
    let send =
        json!({"tool_name": "tool.send", "targets": [{"kind": "url", "value": "https://h/"}]});
    let said = |source: &str| {
        let mut step = send.clone();
        step["arg_provenance"] = json!([{"arg_path": "body", "source": source}]);
        step
    };
    let tainted = json!({"arg_provenance": [{"arg_path": "body", "source": "external"}]});
    let ask = |step: &Value| verdict(&dataflow, &with_script(json!([step]), tainted.clone()));
    assert_eq!(ask(&send), Verdict::Block);
    assert_eq!(ask(&said("user")), Verdict::Allow);
    assert_eq!(
        verdict(&dataflow, &with_script(json!([send]), json!({}))),
        Verdict::Allow
    );
}

#[test]
fn an_inherited_source_restricts_and_lets_nothing_through() {
    let asked = with_script(
        json!([{"tool_name": "tool.y"}]),
        json!({"arg_provenance": [{"arg_path": "a", "source": "user"}]}),
    );
    let about_users = |effect: &str, default: &str| {
        policy(&format!(
            "default_verdict: {default}\nrules: [{{name: r, effect: {effect}, match: {{provenance_sources: [user]}}}}]"
        ))
    };
    assert_eq!(
        verdict(&about_users("allow", "block"), &asked),
        Verdict::Block
    );
    assert_eq!(
        verdict(&about_users("dry_run", "allow"), &asked),
        Verdict::DryRun
    );
    assert_eq!(
        verdict(&about_users("block", "allow"), &asked),
        Verdict::Block
    );
}

#[test]
fn a_rehearsal_is_about_a_value_in_any_spelling_too() {
    for effect in ["dry_run", "require_approval", "block"] {
        let rule = policy(&format!(
            "default_verdict: allow\nrules: [{{name: r, effect: {effect}, match: {{target_values: [/etc/passwd]}}}}]"
        ));
        for spelled in ["/etc/passwd", "/etc//passwd", "/etc/%70asswd"] {
            assert_ne!(
                verdict(&rule, &path(spelled, "read")),
                Verdict::Allow,
                "{effect} {spelled}"
            );
        }
    }
}

#[test]
fn a_host_in_which_another_could_hide_is_no_listed_one() {
    let host = |value: &str| target(json!({"kind": "host", "value": value}));
    let allowed =
        allowing("  endpoint: {enabled: true, domain_allowlist: ['*.good.example', '::1']}");
    for sound in ["api.good.example", "API.good.example:443", "[::1]:443"] {
        assert_eq!(verdict(&allowed, &host(sound)), Verdict::Allow, "{sound}");
    }
    let denied = allowing("  endpoint: {enabled: true, domain_denylist: [evil.example]}");
    assert_eq!(verdict(&denied, &host("good.example")), Verdict::Allow);
    for hiding in [
        "api.good.example:443@evil.example",
        "evil.example?.good.example",
        "evil.example#.good.example",
        "evil.example\\.good.example",
        "evil.example/.good.example",
        "HTTP://evil.example",
        "evil.example:80:80",
    ] {
        assert_eq!(verdict(&allowed, &host(hiding)), Verdict::Block, "{hiding}");
        assert_eq!(verdict(&denied, &host(hiding)), Verdict::Block, "{hiding}");
    }
}

#[test]
fn a_file_address_is_denied_by_its_path_whatever_it_calls_itself() {
    let denied = allowing("  endpoint: {enabled: true, path_denylist: ['/etc/**', /etc/shadow]}");
    for (kind, value) in [
        ("path", "file:///etc/passwd"),
        ("other", "FILE:/etc/passwd"),
        ("url", "file:///etc/shadow?x"),
        ("url", "file://localhost/etc/shadow#x"),
    ] {
        let asked = target(json!({"kind": kind, "value": value, "endpoint_class": "other"}));
        assert_eq!(verdict(&denied, &asked), Verdict::Block, "{kind} {value}");
    }
}

#[test]
fn the_limits_of_a_script_are_those_of_each_of_its_steps() {
    let limited = policy(
        "default_verdict: allow\nrules:\n- {name: w, effect: allow, rate_limit: {requests: 9, scope: tool}, destructive_budget: {requests: 1}}",
    );
    let step = |tool: &str, operation: &str| json!({"tool_name": tool, "targets": [{"kind": "table", "value": "t", "operation": operation}]});
    let steps = json!([
        step("tool.a", "read"),
        step("tool.b", "drop"),
        step("tool.a", "read")
    ]);
    let limits = limited
        .ask(&with_script(steps, json!({})))
        .script
        .unwrap()
        .limits;
    let shape: Vec<_> = limits
        .iter()
        .map(|call| {
            (
                call.tool_name.as_str(),
                call.rate.is_some(),
                call.destructive_budget.is_some(),
            )
        })
        .collect();
    assert_eq!(
        shape,
        [
            ("tool.a", true, false),
            ("tool.b", true, true),
            ("tool.a", true, false)
        ]
    );
}
