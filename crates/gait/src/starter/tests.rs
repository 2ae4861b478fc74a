use super::*;
use crate::evidence::Ask;
use crate::intent::{Context, Intent, IntentDraft, Target};
use crate::policy::Policy;
use crate::verdict::Verdict;

fn intent(tool: &str, targets: Vec<Target>) -> Intent {
    let draft = IntentDraft {
        tool_name: tool.to_owned(),
        targets,
        context: Context {
            identity: "12D3KooW".to_owned(),
            workspace: "worldcompute".to_owned(),
            risk_class: "low".to_owned(),
            ..Context::default()
        },
        ..IntentDraft::default()
    };
    draft.normalise().unwrap()
}

fn job(classes: &[&str]) -> Intent {
    let label = |class: &&str| Target::label(format!("class:{class}"), PUBLIC);
    intent(TASK_RUN, classes.iter().map(label).collect())
}

fn donor(consented: &[&str]) -> Policy {
    Policy::parse(donor_policy(consented).as_bytes()).unwrap()
}

fn verdict(policy: &Policy, intent: &Intent) -> Verdict {
    policy.ask(intent).verdict
}

#[test]
fn each_class_runs_exactly_where_it_is_consented_to() {
    for consented in CLASSES {
        let policy = donor(&[consented]);
        for asked in CLASSES {
            let expected = if asked == consented {
                Verdict::Allow
            } else {
                Verdict::Block
            };
            assert_eq!(
                verdict(&policy, &job(&[asked])),
                expected,
                "{consented} {asked}"
            );
        }
    }
}

#[test]
fn one_refused_class_blocks_a_job_in_any_order() {
    let policy = donor(&["scientific", "general"]);
    for refused in [
        "rendering",
        "public-good-ml",
        "indexing",
        "self-improvement",
    ] {
        for classes in [
            ["scientific", refused, "general"],
            [refused, "scientific", "general"],
            ["general", "scientific", refused],
        ] {
            let outcome = policy.ask(&job(&classes));
            assert_eq!(outcome.verdict, Verdict::Block, "{classes:?}");
            assert_eq!(outcome.reason_codes, ["class_not_consented"]);
        }
    }
    assert_eq!(
        verdict(&policy, &job(&["scientific", "general"])),
        Verdict::Allow
    );
}

#[test]
fn an_unknown_class_blocks_a_job_whatever_else_it_declares() {
    for consented in [&CLASSES[..], &["scientific"]] {
        let policy = donor(consented);
        for classes in [
            &["military"][..],
            &["scientific", "military"],
            &["military", "scientific"],
            &["Scientific"],
            &["scientific "],
            &["scientific", ""],
            &["scientific.military"],
            &["*"],
        ] {
            let expected = if *classes == ["scientific "] {
                Verdict::Allow
            } else {
                Verdict::Block
            };
            assert_eq!(verdict(&policy, &job(classes)), expected, "{classes:?}");
        }
    }
}

#[test]
fn only_public_data_is_taken_even_beside_public_data() {
    let policy = donor(&CLASSES);
    let class = "class:scientific";
    let public = Target::label(class, PUBLIC);
    for other in ["", "secret", "confidential", "public-ish"] {
        let targets = vec![public.clone(), Target::label(class, other)];
        assert_eq!(
            verdict(&policy, &intent(TASK_RUN, targets)),
            Verdict::Block,
            "{other:?}"
        );
    }
    assert_eq!(
        verdict(&policy, &intent(TASK_RUN, vec![public])),
        Verdict::Allow
    );
}

#[test]
fn nothing_but_running_a_task_is_allowed_on_a_donor() {
    let policy = donor(&CLASSES);
    let targets = vec![Target::label("class:general", PUBLIC)];
    for tool in [
        JOB_SUBMIT,
        "worldcompute.task.run.x",
        "worldcompute.task",
        "proc.exec",
    ] {
        assert_eq!(
            verdict(&policy, &intent(tool, targets.clone())),
            Verdict::Block,
            "{tool}"
        );
    }
    assert_eq!(
        verdict(&policy, &intent(TASK_RUN, Vec::new())),
        Verdict::Block
    );
}

#[test]
fn a_target_that_is_no_label_is_never_simply_allowed() {
    let policy = donor(&CLASSES);
    let plain = Target {
        endpoint_class: String::new(),
        endpoint_domain: String::new(),
        ..Target::label("class:scientific", PUBLIC)
    };
    let address = Target {
        kind: "url".to_owned(),
        value: "https://example.org".to_owned(),
        ..Target::default()
    };
    let label = Target::label("class:scientific", PUBLIC);
    for odd in [plain, address] {
        let targets = vec![label.clone(), odd];
        assert_ne!(verdict(&policy, &intent(TASK_RUN, targets)), Verdict::Allow);
    }
}

#[test]
fn a_donor_who_consents_to_nothing_runs_nothing() {
    let policy = donor(&[]);
    for class in CLASSES {
        assert_eq!(verdict(&policy, &job(&[class])), Verdict::Block);
    }
}

#[test]
fn the_order_and_repetition_of_consent_do_not_matter() {
    let one = donor_policy(&["general", "scientific", "general"]);
    assert_eq!(one, donor_policy(&["scientific", "general"]));
}

#[test]
fn a_submitter_may_send_known_classes_with_public_data() {
    let policy = Policy::parse(submitter_policy().as_bytes()).unwrap();
    let submit = |name: &str, data: &str| intent(JOB_SUBMIT, vec![Target::label(name, data)]);
    assert_eq!(
        verdict(&policy, &submit("class:rendering", PUBLIC)),
        Verdict::Allow
    );
    assert_eq!(
        verdict(&policy, &submit("class:rendering", "secret")),
        Verdict::Block
    );
    assert_eq!(
        verdict(&policy, &submit("class:weapons", PUBLIC)),
        Verdict::Block
    );
    assert_eq!(verdict(&policy, &job(&["rendering"])), Verdict::Block);
}

#[test]
fn consent_to_a_name_that_is_no_class_is_consent_to_nothing() {
    let none: [&str; 0] = [];
    for name in ["", "Scientific", "scientific ", "weapons", "*", "x\"]\n"] {
        assert_eq!(donor_policy(&[name]), donor_policy(&none), "{name:?}");
    }
}

fn key(label: &str, class: &str) -> Intent {
    intent(KEY_RELEASE, vec![Target::label(label, class)])
}

#[test]
fn the_keys_that_the_roles_need_are_given_out_and_no_others() {
    let policy = Policy::parse(keys_policy().as_bytes()).unwrap();
    for given in ["key:store", "key:job", "key:receipt", "key:dialogue"] {
        assert_eq!(verdict(&policy, &key(given, SECRET)), Verdict::Allow);
        assert_eq!(verdict(&policy, &key(given, PUBLIC)), Verdict::Block);
    }
    for kept in [
        "key:ledger",
        "key:approval",
        "key:",
        "store",
        "key:job*",
        "*",
    ] {
        assert_eq!(
            verdict(&policy, &key(kept, SECRET)),
            Verdict::Block,
            "{kept}"
        );
        let beside = vec![
            Target::label("key:job", SECRET),
            Target::label(kept, SECRET),
        ];
        assert_eq!(
            verdict(&policy, &intent(KEY_RELEASE, beside)),
            Verdict::Block,
            "{kept}"
        );
    }
    let other = intent(TASK_RUN, vec![Target::label("key:job", SECRET)]);
    assert_eq!(verdict(&policy, &other), Verdict::Block);
}

#[test]
fn no_other_starter_policy_gives_out_a_key() {
    for policy in [donor_policy(&CLASSES), submitter_policy()] {
        let policy = Policy::parse(policy.as_bytes()).unwrap();
        for class in [PUBLIC, SECRET] {
            assert_eq!(verdict(&policy, &key("key:store", class)), Verdict::Block);
        }
    }
}

#[test]
fn the_starter_policies_are_readable() {
    let policy = donor_policy(&["scientific", "general"]);
    assert_eq!(policy, include_str!("donor.yaml"));
    assert_eq!(keys_policy(), include_str!("keys.yaml"));
}
