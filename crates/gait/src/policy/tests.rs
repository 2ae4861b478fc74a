use super::*;
use crate::limits::{MAX_POLICY_LIST, MAX_POLICY_STRING, MAX_RULES};
use worldcompute_fault::Fault;

fn parse(yaml: &str) -> Result<Policy> {
    Policy::parse(yaml.as_bytes())
}

fn refusal(yaml: &str) -> Fault {
    parse(yaml).unwrap_err()
}

/// A policy of one rule with these further lines.
fn rule(lines: &str) -> String {
    format!("rules:\n- name: r\n  effect: allow\n{lines}")
}

#[test]
fn digests_are_those_of_gait_1_4() {
    for (yaml, digest) in [
        (
            "",
            "07a528a879e4f0e0cd5a0e2ca801924746b47dac624862207ef21d4ec266f8f9",
        ),
        (
            "default_verdict: allow",
            "65819d9cf07c7619aa8aaf2bd4e8d6f8e3f86b139b49a68c535fd14d77a5009f",
        ),
        (
            "default_verdict: block\nrules:\n- {name: r1, priority: 10, effect: allow, match: {tool_name: ' Tool.READ '}}",
            "2d5c484f330d8c9156bdf3d11e117fa20526f126717256843b4e66db6f482c3b",
        ),
        (
            "default_verdict: block\nrules:\n- {name: r1, priority: 10, effect: allow, endpoint: {path_denylist: [/etc/**], action: require_approval}}",
            "1f8441baa748b235fce5e0e6847e50ba8af693defa5a47c9c94d426fa13781a2",
        ),
        (
            "default_verdict: allow\nfail_closed: {enabled: true, required_high_risk_fields: [agent_id]}",
            "dba95f6df5ac926a0b692f8483ca648a7ddeb1843cec96fb305e1d112e97ebef",
        ),
        (
            "default_verdict: block\nrules:\n- {name: r1, priority: 10, effect: require_approval, min_approvals: 2}",
            "617abbf924909706c66b1b8d3ae864f4c33573ea92d7edddcf6c82fd3f84b3b2",
        ),
    ] {
        assert_eq!(parse(yaml).unwrap().digest().to_string(), digest, "{yaml}");
    }
}

#[test]
fn an_empty_policy_asks_a_person_about_everything() {
    for empty in ["", "# nothing\n", "---\n", "{}", "rules:\n"] {
        let policy = parse(empty).unwrap();
        assert_eq!(
            policy.default_verdict(),
            Verdict::RequireApproval,
            "{empty:?}"
        );
        assert_eq!(policy.rule_count(), 0);
    }
}

#[test]
fn aliases_and_order_do_not_change_the_digest() {
    let plain = "default_verdict: block\nrules:\n- {name: a, priority: 1, effect: allow, match: {tool_names: [x, y]}}\n- {name: b, priority: 2, effect: block}";
    let other = "rules:\n- {name: b, priority: 2, action: Block}\n- {name: ' a ', priority: 1, effect: allow, match: {tool_name: X, tool_names: [y, X, y]}}\ndefault_action: BLOCK";
    assert_eq!(
        parse(plain).unwrap().digest(),
        parse(other).unwrap().digest()
    );
}

#[test]
fn unknown_and_duplicate_keys_are_refused_at_every_level() {
    for yaml in [
        "rule: []".to_owned(),
        "default_verdict: allow\ndefault_verdict: allow".to_owned(),
        "scripts: {max_step: 1}".to_owned(),
        "fail_closed: {enable: true}".to_owned(),
        rule("  efect: block"),
        rule("  effect: allow"),
        rule("  match: {tool: x}"),
        rule("  match: {tool_annotations: {readonlyhint: true}}"),
        rule("  match: {tool_names: [a], tool_names: [b]}"),
        rule("  endpoint: {paths: []}"),
    ] {
        assert_eq!(refusal(&yaml).code(), "invalid_input", "{yaml}");
    }
}

#[test]
fn what_the_reader_of_yaml_says_is_said_to_the_writer_of_the_file() {
    for (yaml, said) in [
        (
            "rules: []\ndefault_verdict: allow\nrules: []\n",
            "parse policy yaml: a key is there twice, again in line 3 (key rules)",
        ),
        (
            "default_verdict: allow\n---\ndefault_verdict: block\n",
            "parse policy yaml: a second document begins in line",
        ),
    ] {
        let fault = refusal(yaml);
        assert!(fault.message().starts_with(said), "{fault}");
        for word in ["Options", "budget", "breach", "{"] {
            assert!(!fault.message().contains(word), "{fault}");
        }
    }
}

#[test]
fn wrong_types_and_unknown_values_are_refused() {
    for yaml in [
        "[]".to_owned(),
        "just text".to_owned(),
        "schema_id: x".to_owned(),
        "schema_version: 2.0.0".to_owned(),
        "default_verdict: deny".to_owned(),
        "default_verdict: allow\ndefault_action: block".to_owned(),
        "scripts: {max_steps: -1}".to_owned(),
        "scripts: {block_mixed_risk: yes}".to_owned(),
        "fail_closed: {required_fields: [x]}".to_owned(),
        "fail_closed: {required_high_risk_fields: [x]}".to_owned(),
        "rules: {name: a}".to_owned(),
        "rules: [{effect: allow}]".to_owned(),
        "rules: [{name: a}]".to_owned(),
        "rules: [{name: a, effect: deny}]".to_owned(),
        "rules: [{name: a, effect: allow, action: block}]".to_owned(),
        "rules: [{name: a, effect: allow, priority: high}]".to_owned(),
        rule("  min_approvals: -1"),
        rule("  match: {tool_names: x}"),
        rule("  match: {tool_names: [[x]]}"),
        rule("  match: {endpoint_classes: [fs]}"),
        rule("  match: {discovery_method: [x]}"),
        rule("  match: {max_delegation_depth: -1}"),
        rule("  match: {require_delegation: 1}"),
        rule("  endpoint: {action: allow}"),
        rule("  endpoint: {destructive_action: dry_run}"),
        rule("  endpoint: {egress_classes: [fs.read]}"),
        rule("  endpoint: {path_denylist: ['/etc/[']}"),
        rule("  endpoint: {domain_denylist: ['[']}"),
    ] {
        assert_eq!(refusal(&yaml).code(), "invalid_input", "{yaml}");
    }
}

#[test]
fn malformed_yaml_is_refused() {
    for bytes in [
        &b"rules: ["[..],
        b"\xff\xfe",
        b"rules:\n\t- a",
        b"default_verdict: allow\n---\ndefault_verdict: block\n",
        b"a: &a [*a]",
        b"rules: !include other.yaml",
        b"\0",
    ] {
        assert_eq!(
            Policy::parse(bytes).unwrap_err().code(),
            "invalid_input",
            "{bytes:?}"
        );
    }
}

#[test]
fn keys_of_the_draft_language_are_refused_with_the_way_out() {
    let fault = refusal("version: 1\ndefaults: {action: allow}");
    assert_eq!(fault.code(), "invalid_input");
    assert!(fault.message().contains("[version, defaults]"), "{fault}");
    assert!(fault.message().contains("default_verdict"), "{fault}");
}

#[test]
fn every_limit_holds_at_the_limit_and_not_past_it() {
    let rules = |count: usize| {
        let rules: String = (0..count)
            .map(|i| format!("- {{name: r{i}, effect: allow}}\n"))
            .collect();
        format!("rules:\n{rules}")
    };
    let list = |count: usize| {
        rule(&format!(
            "  match: {{tool_names: [{}]}}",
            vec!["a"; count].join(", ")
        ))
    };
    let text = |length: usize| {
        rule(&format!(
            "  match: {{tool_names: [{}]}}",
            "a".repeat(length)
        ))
    };
    let name = |length: usize| format!("rules: [{{name: {}, effect: allow}}]", "a".repeat(length));
    type Shape<'a> = (&'a str, usize, &'a dyn Fn(usize) -> String);
    let shapes: [Shape<'_>; 4] = [
        ("rules", MAX_RULES, &rules),
        ("list", MAX_POLICY_LIST, &list),
        ("string", MAX_POLICY_STRING, &text),
        ("name", MAX_POLICY_STRING, &name),
    ];
    for (what, limit, shape) in shapes {
        assert!(
            parse(&shape(limit)).is_ok(),
            "{what} at its limit: {}",
            refusal_text(&shape(limit))
        );
        assert_eq!(
            refusal(&shape(limit + 1)).code(),
            "policy_too_large",
            "{what} past its limit"
        );
    }
}

fn refusal_text(yaml: &str) -> String {
    parse(yaml)
        .err()
        .map(|fault| fault.to_string())
        .unwrap_or_default()
}

#[test]
fn a_policy_past_its_size_is_refused_before_it_is_read() {
    let mut yaml = "default_verdict: allow\n".to_owned();
    yaml += &"#".repeat(MAX_POLICY_BYTES - yaml.len());
    assert!(parse(&yaml).is_ok(), "{}", refusal_text(&yaml));
    yaml.push('#');
    assert_eq!(refusal(&yaml).code(), "policy_too_large");
}

#[test]
fn nesting_and_aliases_cannot_blow_up_the_reader() {
    let deep = format!("rules: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_value = format!(
        "defaults: {}x{}",
        "{a: ".repeat(MAX_POLICY_DEPTH),
        "}".repeat(MAX_POLICY_DEPTH)
    );
    let mut bomb = "defaults:\n  a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (inner, outer) in ('a'..'i').zip('b'..='i') {
        let aliases = vec![format!("*{inner}"); 10].join(", ");
        bomb += &format!("  {outer}: &{outer} [{aliases}]\n");
    }
    for bomb in [deep, deep_value, bomb] {
        let fault = refusal(&bomb);
        assert_eq!(fault.code(), "invalid_input");
        assert!(
            !fault.message().contains("legacy"),
            "read to the end: {fault}"
        );
    }
}

#[test]
fn a_limit_of_nothing_is_refused_and_never_no_limit() {
    for clause in ["rate_limit", "destructive_budget"] {
        for limit in [
            "{requests: 0}",
            "{window: hour}",
            "{requests: 0, scope: tool}",
        ] {
            let fault = refusal(&format!(
                "rules:\n- {{name: a, effect: allow, {clause}: {limit}}}"
            ));
            let message = format!("{clause}.requests must be >= 1 for a");
            assert!(fault.message().starts_with(&message), "{fault}");
        }
        let negative = refusal(&format!(
            "rules:\n- {{name: a, effect: allow, {clause}: {{requests: -1}}}}"
        ));
        assert_eq!(negative.code(), "invalid_input");
    }
}

#[test]
fn a_refusal_names_the_key_and_its_line() {
    for (yaml, key, line) in [
        ("default_verdict: perhaps", "default_verdict", 1),
        ("\ndefault_action: perhaps", "default_action", 2),
        ("rules:\n- name: a\n  effect: blocked", "rules[0].effect", 3),
        (
            "rules:\n- {name: a, effect: allow}\n- name: b\n  action: deny",
            "rules[1].action",
            4,
        ),
        ("rules:\n- effect: allow", "rules[0]", 2),
        ("rules:\n- name: a", "rules[0]", 2),
        (
            "rules:\n- name: a\n  effect: allow\n  rate_limit:\n    requests: 1\n    window: day",
            "rules[0].rate_limit.window",
            6,
        ),
        (
            "rules:\n- name: a\n  effect: allow\n  freeze_window:\n    timezone: UTC",
            "rules[0].freeze_window",
            4,
        ),
        (
            "rules:\n- name: a\n  effect: allow\n  freeze_window:\n    timezone: UTC\n    windows:\n    - {start: a, end: b}\n    - {start: a}",
            "rules[0].freeze_window.windows[1]",
            8,
        ),
        (
            "rules:\n- name: a\n  effect: allow\n  endpoint:\n    action: allow",
            "rules[0].endpoint.action",
            5,
        ),
        (
            "rules:\n- name: a\n  effect: allow\n  match:\n    discovery_method: [psychic]",
            "rules[0].match.discovery_method",
            5,
        ),
        (
            "fail_closed:\n  required_fields: [hope]",
            "fail_closed.required_fields",
            2,
        ),
        ("scripts:\n  max_steps: -1", "scripts.max_steps", 2),
        (
            "mcp_trust:\n  snapshot: a\n  min_score: 2",
            "mcp_trust.min_score",
            3,
        ),
    ] {
        let fault = refusal(yaml);
        assert_eq!(fault.code(), "invalid_input", "{yaml}");
        let place = format!("(line {line}, key {key}");
        assert!(
            fault.message().contains(&place),
            "{} lacks {place}",
            fault.message()
        );
        assert_eq!(fault.hint_text(), "check command usage and input schema");
    }
}

#[test]
fn a_file_of_another_shape_names_the_key_and_its_line_too() {
    for (yaml, key, line) in [
        (
            "rules:\n- name: a\n  effect: allow\n  priority: high",
            "rules[0].priority",
            4,
        ),
        ("rules:\n- name: a\n  efect: allow", "rules[0].efect", 3),
        (
            "default_verdict: allow\ndefault_verdict: block",
            "default_verdict",
            2,
        ),
        (
            "rules:\n- name: a\n  effect: allow\n  match:\n    tool_names: 7",
            "rules[0].match.tool_names",
            5,
        ),
        (
            "rules: [{name: a, effect: allow, match: [x]}]",
            "rules[0].match",
            1,
        ),
    ] {
        let fault = refusal(yaml);
        assert_eq!(fault.code(), "invalid_input", "{yaml}");
        let message = fault.message();
        assert!(
            message.contains(&format!("(key {key}")),
            "{message} lacks {key}"
        );
        assert!(
            message.contains(&format!("line {line}")),
            "{message} lacks line {line}"
        );
    }
}

#[test]
fn a_list_of_blanks_is_refused_because_it_would_ask_for_nothing() {
    for clause in [
        "match: {tool_name: ''}",
        "match: {tool_names: [' ']}",
        "match: {identities: [alice, '']}",
        "match: {workspace_prefixes: ['']}",
        "match: {target_values: ['']}",
        "endpoint: {path_allowlist: ['']}",
        "endpoint: {domain_allowlist: ['']}",
        "allowed_agent_ids: ['']",
        "allowed_credential_issuers: ['']",
        "sandbox: {allowed_writable_path_prefixes: [.]}",
        "sandbox: {required_read_only_roots: [x/..]}",
    ] {
        let yaml = format!("rules: [{{name: r, effect: allow, {clause}}}]");
        let fault = Policy::parse(yaml.as_bytes()).unwrap_err();
        assert_eq!(fault.code(), "invalid_input", "{clause}");
        let why = "would ask for nothing";
        assert!(fault.message().contains(why), "{clause}: {fault}");
    }
    let none = b"rules: [{name: r, effect: allow, match: {identities: []}}]";
    assert!(Policy::parse(none).is_ok());
}
