//! A submitter can sign for any files, and both sides can sign any receipt: what does not follow from the manifest
//! is refused all the same.

use gait::{Intent, Verdict, starter};
use worldcompute_ledger::receipt::{DecisionRef, Input, Profile, Receipt};
use worldcompute_proof::{Cid, Sha256, Subject};

use crate::job::{Bundle, Job, donor, gate, receipt_name, refer_to, stranger, submitter};

#[test]
fn swapped_or_doubled_receipts_are_refused_though_signed_for() {
    let bundle = Bundle::new();
    bundle.swap(&receipt_name(0), &receipt_name(2));
    bundle.reseal();
    bundle.fails("evidence_invalid", &receipt_name(0));
    let bundle = Bundle::new();
    bundle.put(&receipt_name(2), &bundle.read(&receipt_name(0)));
    bundle.reseal();
    bundle.fails("evidence_invalid", &receipt_name(2));
}

#[test]
fn a_missing_part_is_refused_though_signed_for() {
    let bundle = Bundle::new();
    for name in bundle
        .listed()
        .into_iter()
        .filter(|name| name != "manifest.cbor")
    {
        let good = bundle.read(&name);
        bundle.remove(&name);
        bundle.reseal();
        bundle.fails("evidence_missing", &name);
        bundle.put(&name, &good);
    }
}

#[test]
fn a_part_that_nothing_refers_to_is_refused_though_signed_for() {
    let bundle = Bundle::new();
    let trace = Job::numbered(2).traces.remove(0);
    let extra = [
        (format!("objects/{}", Cid::raw("x")), b"x".to_vec()),
        (format!("decisions/{}.json", Cid::raw(&trace)), trace),
        (receipt_name(3), bundle.read(&receipt_name(0))),
    ];
    for (name, bytes) in extra {
        bundle.put(&name, &bytes);
        bundle.reseal();
        bundle.fails("evidence_unexpected", &name);
        bundle.remove(&name);
    }
}

#[test]
fn an_index_that_somebody_else_or_nobody_signed_is_refused() {
    let bundle = Bundle::new();
    for key in [stranger(), donor(0)] {
        bundle.seal(bundle.subjects(), &key);
        bundle.fails("evidence_invalid", "index.json");
    }
    bundle.reseal();
    bundle.verify().unwrap();
}

#[test]
fn an_index_for_another_job_is_refused() {
    let bundle = Bundle::new();
    let other = Bundle::of(&Job::numbered(2));
    other.seal(bundle.subjects(), &submitter());
    bundle.put("index.json", &other.read("index.json"));
    bundle.fails("evidence_invalid", "index.json");
}

#[test]
fn names_that_lead_out_of_the_folder_are_refused_though_signed_for() {
    let bundle = Bundle::new();
    let names = [
        "../outside",
        "/etc/passwd",
        "objects/../../outside",
        "receipts/./00000.json",
        "index.json",
        "",
        "\u{1b}[2J",
        "objects\\x",
    ];
    for name in names {
        let mut subjects = bundle.subjects();
        subjects.push(Subject::new(name, Sha256::of("x")));
        subjects.sort_by(|one, other| one.name.cmp(&other.name));
        bundle.seal(subjects, &submitter());
        bundle.fails("evidence_invalid", "index.json");
        assert!(!bundle.verify().unwrap_err().message().contains('\u{1b}'));
    }
}

#[test]
fn names_out_of_order_or_twice_are_refused_though_signed_for() {
    let bundle = Bundle::new();
    let mut subjects = bundle.subjects();
    subjects.swap(0, 1);
    bundle.seal(subjects, &submitter());
    bundle.fails("evidence_invalid", "index.json");
    let mut subjects = bundle.subjects();
    subjects.insert(1, subjects[0].clone());
    bundle.seal(subjects, &submitter());
    bundle.fails("evidence_invalid", "index.json");
}

/// Writes the job with a changed receipt for task 1, which executor and submitter both sign.
fn told(change: impl FnOnce(&mut Receipt)) -> String {
    let bundle = Bundle::new();
    let receipt = Job::new().with_receipt(1, change).receipts.swap_remove(1);
    bundle.put(&receipt_name(1), receipt.bytes());
    bundle.reseal();
    let fault = bundle.verify().unwrap_err();
    assert_eq!(fault.code(), "evidence_invalid", "{fault}");
    fault.message().to_owned()
}

#[test]
fn a_receipt_for_another_request_is_refused_though_both_sign_it() {
    type Change = fn(&mut Receipt);
    let cases: [(&str, Change); 10] = [
        ("manifest", |receipt| {
            receipt.manifest_cid = Cid::dag_cbor("other")
        }),
        ("workload_cid", |receipt| {
            receipt.workload_cid = Cid::raw("other")
        }),
        ("stdin", |receipt| receipt.stdin = None),
        ("inputs", |receipt| {
            receipt.inputs.push(Input {
                path: "/more".into(),
                cid: Cid::raw(""),
            })
        }),
        ("limits", |receipt| receipt.limits.fuel += 1),
        ("profile", |receipt| {
            receipt.profile = Profile::Deterministic { seed: 1 }
        }),
        ("request_digest", |receipt| {
            receipt.request_digest = Sha256::of("other")
        }),
        ("task_index", |receipt| receipt.task_index = 2),
        ("lease_id", |receipt| {
            receipt.lease_id = receipt.lease_id.replace(".1.0.0", ".2.0.0")
        }),
        ("lease_id", |receipt| receipt.attempt = 1),
    ];
    for (field, change) in cases {
        let message = told(change);
        assert!(
            message.starts_with(&format!("{}: ", receipt_name(1))) && message.contains(field),
            "{field}: {message}"
        );
    }
    let message = told(|receipt| receipt.job_id = "other".into());
    assert!(message.contains("job_id"), "{message}");
}

#[test]
fn results_that_the_manifest_does_not_ask_for_are_refused_though_both_sign_them() {
    assert!(told(|receipt| receipt.outcome.outputs.clear()).contains("outputs"));
    assert!(told(|receipt| receipt.outcome.outputs[0].name = "other".into()).contains("outputs"));
    assert!(told(|receipt| receipt.outcome.outputs[0].size = 1025).contains("exceeds its limit"));
    assert!(told(|receipt| receipt.outcome.outputs[0].size += 1).contains("another size"));
}

#[test]
fn an_exit_number_given_twice_is_refused_though_both_sign_it() {
    let bundle = Bundle::new();
    let receipt = Job::new()
        .with_receipt(2, |receipt| receipt.sequence = 0)
        .receipts
        .swap_remove(2);
    bundle.put(&receipt_name(2), receipt.bytes());
    bundle.reseal();
    bundle.fails("evidence_invalid", &receipt_name(2));
}

#[test]
fn a_receipt_for_another_submitter_is_refused() {
    let bundle = Bundle::new();
    let receipt = Job::new()
        .with_receipt(1, |receipt| receipt.submitter = stranger().peer_id())
        .receipts
        .swap_remove(1);
    bundle.put(&receipt_name(1), receipt.bytes());
    bundle.reseal();
    bundle.fails("evidence_invalid", &receipt_name(1));
}

/// A bundle whose receipt of task 1 refers to that decision, with that trace.
fn with_decision(told: DecisionRef, trace: &[u8]) -> Bundle {
    let job = Job::new();
    let honest = job.receipts[1].receipt().decision.trace_cid;
    let bundle = Bundle::of(&job);
    bundle.remove(&trace_name(honest));
    bundle.put(&trace_name(told.trace_cid), trace);
    bundle.put(
        &receipt_name(1),
        job.with_receipt(1, |receipt| receipt.decision = told)
            .receipts[1]
            .bytes(),
    );
    bundle.reseal();
    bundle
}

fn trace_name(cid: Cid) -> String {
    format!("decisions/{cid}.json")
}

fn run_intent(task: u32) -> Intent {
    Job::new().manifest.task(task).unwrap().intent().unwrap()
}

#[test]
fn a_decision_on_another_run_is_refused_though_signed() {
    let decision = gate(&starter::donor_policy(&["scientific"]), donor(1))
        .decide(&run_intent(2))
        .unwrap();
    let bundle = with_decision(refer_to(&decision), decision.trace().bytes());
    bundle.fails("evidence_invalid", &receipt_name(1));
}

#[test]
fn a_decision_of_somebody_else_s_gate_is_refused() {
    for key in [stranger(), submitter(), donor(0)] {
        let decision = gate(&starter::donor_policy(&["scientific"]), key)
            .decide(&run_intent(1))
            .unwrap();
        let told = refer_to(&decision);
        let name = trace_name(told.trace_cid);
        with_decision(told, decision.trace().bytes()).fails("evidence_invalid", &name);
    }
}

#[test]
fn a_decision_that_a_receipt_tells_otherwise_is_refused() {
    let refusal = gate(&starter::donor_policy(&["rendering"]), donor(1))
        .decide(&run_intent(1))
        .unwrap();
    let allowance = gate(&starter::donor_policy(&["scientific"]), donor(1))
        .decide(&run_intent(1))
        .unwrap();
    assert!(refusal.permit().is_err() && allowance.permit().is_ok());
    let told = refer_to(&refusal);
    let posing = allowed(DecisionRef {
        verdict: Verdict::Allow,
        ..told
    });
    let name = trace_name(posing.trace_cid);
    with_decision(posing, refusal.trace().bytes()).fails("evidence_invalid", &name);
    let told = refer_to(&allowance);
    let other_policy = allowed(DecisionRef {
        policy_digest: Sha256::of("a kinder policy"),
        ..told
    });
    let name = trace_name(other_policy.trace_cid);
    with_decision(other_policy, allowance.trace().bytes()).fails("evidence_invalid", &name);
}

/// The decision with the id that follows from it, so that the receipt does not contradict itself.
fn allowed(decision: DecisionRef) -> DecisionRef {
    let DecisionRef {
        policy_digest,
        intent_digest,
        verdict,
        ..
    } = &decision;
    let id = Sha256::of(format!("{policy_digest}:{intent_digest}:{verdict}")).to_string();
    DecisionRef {
        trace_id: id[..24].to_owned(),
        ..decision
    }
}

#[test]
fn a_trace_under_another_name_is_refused_though_signed_for() {
    let job = Job::new();
    let bundle = Bundle::of(&job);
    let cid = job.receipts[1].receipt().decision.trace_cid;
    let respelled = [bundle.read(&trace_name(cid)).as_slice(), b"\n"].concat();
    bundle.put(&trace_name(cid), &respelled);
    bundle.reseal();
    bundle.fails("evidence_changed", &trace_name(cid));
}

#[test]
fn objects_under_each_other_s_name_are_refused_though_signed_for() {
    let bundle = Bundle::new();
    let objects: Vec<_> = bundle
        .names()
        .into_iter()
        .filter(|name| name.starts_with("objects/"))
        .collect();
    bundle.swap(&objects[0], &objects[1]);
    bundle.reseal();
    bundle.fails("evidence_changed", &objects[0]);
}

#[test]
fn a_submitter_s_decision_on_another_job_is_refused() {
    let other = Job::numbered(2);
    let decision = other.receipts[0].receipt().submitter_decision.clone();
    let bundle = Bundle::new();
    bundle.put(&trace_name(decision.trace_cid), &other.traces[0]);
    let receipt = Job::new()
        .with_receipt(0, |receipt| receipt.submitter_decision = decision)
        .receipts
        .swap_remove(0);
    bundle.put(&receipt_name(0), receipt.bytes());
    bundle.reseal();
    bundle.fails("evidence_invalid", &receipt_name(0));
}
