//! What holds for every policy, intent and byte string, as far as chance can tell.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

use gait::intent::Intent;
use gait::policy::why_not::why_not;
use gait::{Evaluation, Evidence, Gate, Policy, SystemClock, Verdict, trace};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use serde_json::{Value, json};
use worldcompute_proof::SigningKey;

const TOOLS: [&str; 3] = ["tool.read", "tool.write", "tool.delete"];
const KINDS: [&str; 3] = ["path", "url", "table"];
const VALUES: [&str; 4] = ["/tmp/a", "/tmp/../etc/b", "https://a.example/x", "t"];
const OPERATIONS: [&str; 4] = ["read", "write", "delete", ""];
const RISKS: [&str; 3] = ["low", "high", "critical"];
const EFFECTS: [&str; 4] = ["allow", "dry_run", "require_approval", "block"];

fn targets() -> impl Strategy<Value = Value> {
    let target = (select(&KINDS), select(&VALUES), select(&OPERATIONS), any::<bool>()).prop_map(
        |(kind, value, operation, hint)| json!({"kind": kind, "value": value, "operation": operation, "read_only_hint": hint}),
    );
    vec(target, 0..4).prop_map(Value::from)
}

fn step() -> impl Strategy<Value = Value> {
    (select(&TOOLS), targets())
        .prop_map(|(tool, targets)| json!({"tool_name": tool, "args": {}, "targets": targets}))
}

prop_compose! {
    fn intents()(
        tool in select(&TOOLS),
        args in "[ -~é]{0,12}",
        number in any::<f64>().prop_filter("JSON has finite numbers only", |number| number.is_finite()),
        targets in targets(),
        risk in select(&RISKS),
        phase in select(&["plan", "apply"]),
        agent in select(&["bot", ""]),
        tainted in any::<bool>(),
        steps in prop::option::weighted(0.3, vec(step(), 1..4)),
    ) -> Value {
        let mut intent = json!({
            "tool_name": tool,
            "args": {"text": args, "number": number},
            "targets": targets,
            "context": {
                "identity": "alice", "workspace": "/w", "risk_class": risk, "phase": phase, "agent_id": agent
            }
        });
        if tainted {
            intent["arg_provenance"] = json!([{"arg_path": "a", "source": "user"}]);
        }
        if let Some(steps) = steps {
            intent["script"] = json!({ "steps": steps });
        }
        intent
    }
}

prop_compose! {
    fn rules()(
        priority in 0..3,
        effect in select(&EFFECTS),
        tools in subsequence(TOOLS.to_vec(), 0..=TOOLS.len()),
        kinds in subsequence(KINDS.to_vec(), 0..=1),
        risks in subsequence(RISKS.to_vec(), 0..=1),
        endpoint in select(&["", "path_allowlist", "domain_denylist"]),
        approvals in 0..3,
        clauses in clauses(),
    ) -> Value {
        let mut rule = json!({
            "priority": priority,
            "effect": effect,
            "match": {"tool_names": tools, "target_kinds": kinds, "risk_classes": risks},
            "min_approvals": approvals,
        });
        for (key, clause) in clauses {
            rule[key] = clause;
        }
        if !endpoint.is_empty() {
            rule["endpoint"] = json!({ endpoint: ["/tmp/**", "a.example"] });
        }
        rule
    }
}

/// Clauses that raise a rule, each of which some intents keep and others break.
const CLAUSES: [(&str, &str); 9] = [
    ("denied_agent_ids", r#"["bot"]"#),
    ("allowed_agent_ids", r#"["bot"]"#),
    ("require_declared_agent", "true"),
    ("allowed_credential_sources", r#"["env"]"#),
    ("max_context_age_seconds", "5"),
    (
        "sandbox",
        r#"{"enabled": true, "allowed_user_modes": ["root"]}"#,
    ),
    (
        "dataflow",
        r#"{"destination_kinds": ["path"], "tainted_sources": ["user"], "action": "block"}"#,
    ),
    (
        "freeze_window",
        r#"{"timezone": "UTC", "windows": [{"start": "2026-01-01T00:00:00", "end": "2027-01-01T00:00:00"}]}"#,
    ),
    ("rate_limit", r#"{"requests": 1}"#),
];

prop_compose! {
    fn clauses()(clauses in subsequence(CLAUSES.to_vec(), 0..=2)) -> Vec<(&'static str, Value)> {
        let parse = |text: &str| serde_json::from_str(text).unwrap();
        clauses.into_iter().map(|(key, text)| (key, parse(text))).collect()
    }
}

prop_compose! {
    fn policies()(
        default in select(&EFFECTS),
        closed in any::<bool>(),
        mut rules in vec(rules(), 0..6),
    ) -> Value {
        for (index, rule) in rules.iter_mut().enumerate() {
            rule["name"] = json!(format!("r{index}"));
        }
        json!({"default_verdict": default, "fail_closed": {"enabled": closed}, "rules": rules})
    }
}

/// Asks with no evidence but a fixed time.
trait Ask {
    fn ask(&self, intent: &Intent) -> Evaluation;
}

impl Ask for Policy {
    fn ask(&self, intent: &Intent) -> Evaluation {
        let at = "2026-02-05T00:00:00Z".parse().unwrap();
        self.evaluate(&intent.prepare(&Evidence::at(at)).unwrap())
    }
}

fn intent(value: &Value) -> Intent {
    Intent::parse(value.to_string().as_bytes()).unwrap()
}

/// JSON is YAML.
fn policy(value: &Value) -> Policy {
    Policy::parse(value.to_string().as_bytes()).unwrap()
}

fn rules_of(policy: &mut Value) -> &mut Vec<Value> {
    policy["rules"].as_array_mut().unwrap()
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(bytes in vec(any::<u8>(), 0..256)) {
        let _ = Intent::parse(&bytes);
        let _ = Policy::parse(&bytes);
        let _ = trace::verify(&bytes, &SigningKey::from_seed([1; 32]).verifying_key());
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in "[ -~\n\té]{0,120}") {
        let _ = Intent::parse(text.as_bytes());
        let _ = Policy::parse(text.as_bytes());
    }

    #[test]
    fn no_change_of_a_sound_input_makes_a_parser_panic(
        intent in intents(), policy in policies(), place in any::<Index>(), byte in any::<u8>()
    ) {
        for text in [intent, policy] {
            let mut bytes = text.to_string().into_bytes();
            let place = place.index(bytes.len());
            bytes[place] = byte;
            let _ = Intent::parse(&bytes);
            let _ = Policy::parse(&bytes);
        }
    }

    #[test]
    fn normalising_twice_is_normalising_once(value in intents()) {
        let once = intent(&value);
        let again = Intent::parse(&once.canonical_bytes().unwrap()).unwrap();
        prop_assert_eq!(once.digest(), again.digest());
    }

    #[test]
    fn evaluation_is_deterministic_and_blind_to_the_order_of_rules(
        value in intents(), rules in policies(), shuffle in vec(any::<u16>(), 6)
    ) {
        let asked = intent(&value);
        let mut shuffled = rules.clone();
        let mut keyed: Vec<_> = rules_of(&mut shuffled).drain(..).zip(shuffle).collect();
        keyed.sort_by_key(|(_, key)| *key);
        *rules_of(&mut shuffled) = keyed.into_iter().map(|(rule, _)| rule).collect();
        let (policy, shuffled) = (policy(&rules), policy(&shuffled));
        prop_assert_eq!(policy.digest(), shuffled.digest());
        let outcome = policy.ask(&asked);
        prop_assert_eq!(&outcome, &policy.ask(&asked));
        prop_assert_eq!(&outcome, &shuffled.ask(&asked));
    }

    #[test]
    fn a_further_block_rule_never_allows_what_was_not_allowed(
        value in intents(), rules in policies(), mut extra in rules()
    ) {
        let asked = intent(&value);
        extra["name"] = json!("extra");
        extra["effect"] = json!("block");
        let mut extended = rules.clone();
        rules_of(&mut extended).push(extra);
        let before = policy(&rules).ask(&asked).verdict;
        let after = policy(&extended).ask(&asked).verdict;
        prop_assert!(before == Verdict::Allow || after != Verdict::Allow);
        prop_assert!(before == after || after == Verdict::Block);
    }

    #[test]
    fn every_decision_is_signed_verifiably_and_permits_only_what_it_allows(
        value in intents(), rules in policies()
    ) {
        let asked = intent(&value);
        let gate = Gate::new(policy(&rules), SigningKey::from_seed([7; 32]), SystemClock::shared());
        let decision = gate.decide(&asked).unwrap();
        let verified = trace::verify(decision.trace().bytes(), &gate.verifying_key()).unwrap();
        prop_assert_eq!(verified.verdict(), decision.verdict());
        prop_assert_eq!(verified.intent_digest(), asked.digest());
        prop_assert_eq!(decision.permit().is_ok(), decision.verdict() == Verdict::Allow);
    }

    #[test]
    fn whatever_is_not_allowed_names_what_denies_it_and_nothing_else_does(
        value in intents(), rules in policies()
    ) {
        let gate = Gate::new(policy(&rules), SigningKey::from_seed([7; 32]), SystemClock::shared());
        let decision = gate.decide(&intent(&value)).unwrap();
        let named = decision.denied_by();
        prop_assert_eq!(named.is_empty(), decision.verdict() == Verdict::Allow, "{:?}", named);
        for cause in named {
            prop_assert_eq!(cause.verdict, decision.verdict());
            prop_assert!(!cause.clause.is_empty() && !cause.reason_code.is_empty(), "{:?}", cause);
        }
    }

    #[test]
    fn the_suggested_change_really_brings_what_it_promises(value in intents(), rules in policies()) {
        let asked = intent(&value);
        let at = "2026-02-05T00:00:00Z".parse().unwrap();
        let prepared = asked.prepare(&Evidence::at(at)).unwrap();
        let before = policy(&rules);
        let verdict = before.evaluate(&prepared).verdict;
        let Some(why) = why_not(&before, &prepared) else {
            prop_assert_eq!(verdict, Verdict::Allow);
            return Ok(());
        };
        prop_assert!(!why.causes.is_empty());
        let mut changed = before;
        for edit in &why.change {
            let edited = edit.apply(&changed).unwrap();
            changed = Policy::parse(edited.to_yaml().unwrap().as_bytes()).unwrap();
        }
        let after = changed.evaluate(&prepared).verdict;
        prop_assert!(after <= why.attainable, "{after} after {:?}", why.change);
        prop_assert!(verdict <= why.attainable || !why.change.is_empty());
    }

    #[test]
    fn the_normal_form_of_a_policy_decides_as_the_policy_does(value in intents(), rules in policies()) {
        let asked = intent(&value);
        let policy = policy(&rules);
        let again = Policy::parse(policy.to_yaml().unwrap().as_bytes()).unwrap();
        prop_assert_eq!(policy.digest(), again.digest());
        prop_assert_eq!(policy.ask(&asked), again.ask(&asked));
    }
}
