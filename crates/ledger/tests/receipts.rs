//! A receipt opens only as the executor and the submitter signed it, byte for byte.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test helpers may fail loudly"
)]

use gait::Verdict;
use proptest::prelude::*;
use serde_json::{Value, json};
use worldcompute_ledger::receipt::*;
use worldcompute_proof::dsse::{Envelope, EnvelopeSignature};
use worldcompute_proof::{
    Cid, STATEMENT_PAYLOAD_TYPE, Sha256, Signature, SigningKey, Statement, Subject, canonical_json,
};

fn executor() -> SigningKey {
    SigningKey::from_seed([1; 32])
}

fn submitter() -> SigningKey {
    SigningKey::from_seed([2; 32])
}

fn stranger() -> SigningKey {
    SigningKey::from_seed([3; 32])
}

fn decision(name: &str) -> DecisionRef {
    let (policy_digest, intent_digest) = (
        Sha256::of(format!("policy of {name}")),
        Sha256::of(format!("intent of {name}")),
    );
    let id = Sha256::of(format!("{policy_digest}:{intent_digest}:allow")).to_string();
    DecisionRef {
        trace_id: id[..24].to_owned(),
        policy_digest,
        intent_digest,
        verdict: Verdict::Allow,
        trace_cid: Cid::raw(name),
    }
}

fn receipt() -> Receipt {
    Receipt {
        job_id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".into(),
        task_index: 3,
        attempt: 1,
        lease_id: "01ARZ3NDEKTSV4RRFFQ69G5FAV.3.0.1".into(),
        manifest_cid: Cid::dag_cbor("manifest"),
        workload_cid: Cid::raw("module"),
        request_digest: Sha256::of("request"),
        stdin: Some(Cid::raw("stdin")),
        inputs: vec![Input {
            path: "/in/a".into(),
            cid: Cid::raw("a"),
        }],
        limits: Limits {
            fuel: 1000,
            memory_bytes: 65536,
            wall_ms: 5000,
            output_bytes: 100,
        },
        profile: Profile::Deterministic { seed: 42 },
        machine: None,
        executor: executor().peer_id(),
        submitter: submitter().peer_id(),
        sequence: 7,
        decision: decision("executor"),
        submitter_decision: decision("submitter"),
        outcome: Outcome {
            status: Status::Succeeded,
            exit_code: Some(0),
            stdout_cid: Cid::raw("out"),
            stderr_cid: Cid::raw(""),
            outputs: vec![Output {
                name: "result".into(),
                cid: Cid::raw("12345"),
                size: 5,
            }],
            fuel_used: 999,
            wall_ms: 12,
            error: None,
        },
        started_at: "2026-01-02T03:04:05Z".parse().unwrap(),
        ended_at: "2026-01-02T03:04:05.012Z".parse().unwrap(),
        path: Path::Relayed,
        inspected: false,
    }
}

fn changed(change: impl FnOnce(&mut Receipt)) -> Receipt {
    let mut changed = receipt();
    change(&mut changed);
    changed
}

fn signed() -> SignedReceipt {
    receipt()
        .sign(&executor())
        .unwrap()
        .countersign(&submitter())
        .unwrap()
}

fn envelope() -> Envelope {
    Envelope::from_bytes(signed().bytes()).unwrap()
}

/// What `keys` sign, whatever it is.
fn signed_by(payload: impl Into<Vec<u8>>, keys: &[SigningKey]) -> Vec<u8> {
    let mut envelope = Envelope {
        payload_type: STATEMENT_PAYLOAD_TYPE.into(),
        payload: payload.into(),
        signatures: vec![],
    };
    keys.iter().for_each(|key| envelope.add_signature(key));
    envelope.to_bytes().unwrap()
}

/// The statement as anybody could write it, without the checks of signing.
fn statement(receipt: &Receipt) -> Value {
    let Outcome {
        stdout_cid,
        stderr_cid,
        outputs,
        ..
    } = &receipt.outcome;
    let mut subject = vec![
        Subject::new("stdout", stdout_cid.digest()),
        Subject::new("stderr", stderr_cid.digest()),
    ];
    subject.extend(
        outputs
            .iter()
            .map(|output| Subject::new(format!("output:{}", output.name), output.cid.digest())),
    );
    serde_json::to_value(Statement::new(subject, PREDICATE_TYPE, receipt)).unwrap()
}

fn open_forged(statement: &Value) -> String {
    code(&signed_by(
        canonical_json(statement).unwrap(),
        &[executor(), submitter()],
    ))
}

fn code(bytes: &[u8]) -> String {
    match SignedReceipt::open(bytes) {
        Ok(_) => "opened".into(),
        Err(fault) => fault.code().to_owned(),
    }
}

#[test]
fn a_signed_receipt_opens_to_what_was_signed() {
    let signed = signed();
    let opened = SignedReceipt::open(signed.bytes()).unwrap();
    assert_eq!(opened.receipt(), &receipt());
    assert_eq!(opened.bytes(), signed.bytes());
    assert!(opened == signed && opened.cid().matches(signed.bytes()));
    let half = receipt().sign(&executor()).unwrap();
    assert_eq!(
        ExecutorReceipt::open(half.bytes()).unwrap().receipt(),
        &receipt()
    );
    assert_eq!(
        code(&signed_by(
            canonical_json(&statement(&receipt())).unwrap(),
            &[executor(), submitter()]
        )),
        "opened"
    );
}

#[test]
fn each_state_opens_as_itself_only() {
    let half = receipt().sign(&executor()).unwrap();
    assert_eq!(code(half.bytes()), "receipt_signature_invalid");
    assert!(ExecutorReceipt::open(signed().bytes()).is_err());
}

#[test]
fn every_changed_byte_is_refused() {
    let good = signed().bytes().to_vec();
    for position in 0..good.len() {
        for mask in [0x01, 0x20, 0x80] {
            let mut bent = good.clone();
            bent[position] ^= mask;
            assert_ne!(code(&bent), "opened", "byte {position} ^ {mask:#x}");
        }
    }
}

#[test]
fn every_missing_or_added_byte_is_refused() {
    let good = signed().bytes().to_vec();
    for position in 0..good.len() {
        let mut shorter = good.clone();
        shorter.remove(position);
        assert_ne!(code(&shorter), "opened", "without byte {position}");
        let mut longer = good.clone();
        longer.insert(position, b' ');
        assert_ne!(code(&longer), "opened", "space at {position}");
        assert_ne!(code(&good[..position]), "opened", "cut at {position}");
    }
    assert_ne!(code(&[good.as_slice(), b"\n"].concat()), "opened");
}

#[test]
fn another_spelling_of_the_same_statement_is_refused_though_both_sign_it() {
    let statement = statement(&receipt());
    let text = String::from_utf8(canonical_json(&statement).unwrap()).unwrap();
    let respelled = [
        serde_json::to_string_pretty(&statement).unwrap(),
        format!("{text}\n"),
        text.replace("\"sequence\":7", "\"sequence\":7.0"),
        text.replace("\"sequence\":7", "\"sequence\":7e0"),
        text.replace("\"sequence\":7", "\"sequence\":8,\"sequence\":7"),
        text.replace("\"error\":null,", ""),
        text.replace("05Z", "05.000Z"),
        text.replace("05Z", "05+00:00"),
        text.replace("relayed", "rel\\u0061yed"),
        text.replace("\"path\":\"relayed\",", "")
            .replace("\"predicate\":{", "\"predicate\":{\"path\":\"relayed\","),
    ];
    for text in respelled {
        assert_eq!(
            code(&signed_by(text.clone(), &[executor(), submitter()])),
            "receipt_malformed",
            "{text}"
        );
    }
}

#[test]
fn members_that_are_unknown_missing_or_of_another_type_are_refused_though_both_sign_them() {
    let pointers = [
        "",
        "/subject/0",
        "/subject/0/digest",
        "/predicate",
        "/predicate/outcome",
        "/predicate/limits",
        "/predicate/decision",
        "/predicate/profile",
        "/predicate/inputs/0",
        "/predicate/outcome/outputs/0",
    ];
    for pointer in pointers {
        let mut with = statement(&receipt());
        with.pointer_mut(pointer).unwrap()["extra"] = json!(1);
        assert_eq!(
            open_forged(&with),
            "receipt_malformed",
            "{pointer} with an extra member"
        );
        for name in statement(&receipt())
            .pointer(pointer)
            .unwrap()
            .as_object()
            .unwrap()
            .keys()
        {
            let mut without = statement(&receipt());
            without
                .pointer_mut(pointer)
                .unwrap()
                .as_object_mut()
                .unwrap()
                .remove(name);
            assert_eq!(
                open_forged(&without),
                "receipt_malformed",
                "{pointer} without {name}"
            );
            let mut retyped = statement(&receipt());
            retyped.pointer_mut(pointer).unwrap()[name] = json!(true);
            assert_eq!(
                open_forged(&retyped),
                "receipt_malformed",
                "{pointer}/{name} of another type"
            );
        }
    }
}

/// What a receipt from before there was the mark had by way of members, in the order of the canonical form.
const MEMBERS: [&str; 19] = [
    "attempt",
    "decision",
    "ended_at",
    "executor",
    "inputs",
    "job_id",
    "lease_id",
    "limits",
    "manifest_cid",
    "outcome",
    "path",
    "profile",
    "request_digest",
    "sequence",
    "started_at",
    "stdin",
    "submitter",
    "submitter_decision",
    "task_index",
];

#[test]
fn a_receipt_without_the_mark_has_the_bytes_that_it_had_before_there_was_one() {
    let statement = statement(&receipt());
    let predicate = statement["predicate"].as_object().unwrap();
    let mut members: Vec<&str> = predicate.keys().map(String::as_str).collect();
    members.sort_unstable();
    members.retain(|member| *member != "workload_cid");
    assert_eq!(members, MEMBERS);
    assert!(
        !SignedReceipt::open(signed().bytes())
            .unwrap()
            .receipt()
            .inspected
    );
}

#[test]
fn the_mark_of_inspection_is_signed_by_both_and_read_by_a_person() {
    let marked = changed(|receipt| receipt.inspected = true);
    let signed = marked
        .clone()
        .sign(&executor())
        .unwrap()
        .countersign(&submitter())
        .unwrap();
    let opened = SignedReceipt::open(signed.bytes()).unwrap();
    assert_eq!(opened.receipt(), &marked);
    assert!(
        opened.in_words().contains("opened the TLS"),
        "{}",
        opened.in_words()
    );
    assert!(!self::signed().in_words().contains("TLS"));
}

#[test]
fn a_mark_that_is_taken_away_or_put_there_breaks_both_signatures() {
    for mark in [true, false] {
        let honest = changed(|receipt| receipt.inspected = mark);
        let signed = honest
            .sign(&executor())
            .unwrap()
            .countersign(&submitter())
            .unwrap();
        let mut envelope = Envelope::from_bytes(signed.bytes()).unwrap();
        let lie = changed(|receipt| receipt.inspected = !mark);
        envelope.payload = canonical_json(&statement(&lie)).unwrap();
        assert_eq!(
            code(&envelope.to_bytes().unwrap()),
            "receipt_signature_invalid"
        );
    }
}

#[test]
fn a_mark_has_one_spelling_though_both_sign_another() {
    for other in [json!(false), json!(null), json!(1), json!("true")] {
        let mut forged = statement(&receipt());
        forged["predicate"]["inspected"] = other.clone();
        assert_eq!(open_forged(&forged), "receipt_malformed", "{other}");
    }
}

/// A receipt of an image, which ran in a machine.
fn of_image(change: impl FnOnce(&mut Receipt)) -> Receipt {
    changed(|receipt| {
        receipt.profile = Profile::MicroVm { vcpus: 2 };
        receipt.machine = Some(Machine {
            backend: Backend::QemuEmulation,
            kernel: Sha256::of("kernel"),
        });
        (receipt.limits.fuel, receipt.outcome.fuel_used) = (0, 0);
        change(receipt);
    })
}

#[test]
fn a_receipt_of_an_image_says_what_it_ran_in() {
    let receipt = of_image(|_| {});
    let signed = receipt.clone().sign(&executor()).unwrap();
    let signed = signed.countersign(&submitter()).unwrap();
    let opened = SignedReceipt::open(signed.bytes()).unwrap();
    assert_eq!(opened.receipt(), &receipt);
    let words = opened.in_words();
    let kernel = Sha256::of("kernel").to_string();
    for told in ["2 processors", "QEMU, its processor emulated", &kernel] {
        assert!(words.contains(told), "{words}");
    }
    assert!(!words.contains("fuel"), "{words}");
}

#[test]
fn a_machine_has_one_spelling_though_both_sign_another() {
    let machine = &statement(&of_image(|_| {}))["predicate"]["machine"];
    let other = |member: &str, value: Value| {
        let mut machine = machine.clone();
        machine[member] = value;
        machine
    };
    let spellings = [
        json!(null),
        json!({}),
        json!("qemu_emulation"),
        other("backend", json!("xen")),
        other("kernel", json!(null)),
        other("colour", json!("red")),
    ];
    for spelling in spellings {
        let mut forged = statement(&of_image(|_| {}));
        forged["predicate"]["machine"] = spelling.clone();
        assert_eq!(open_forged(&forged), "receipt_malformed", "{spelling}");
    }
}

#[test]
fn modules_and_images_end_each_in_ways_of_their_own() {
    let ends = |status| {
        of_image(|receipt| {
            receipt.outcome.outputs.clear();
            (receipt.outcome.status, receipt.outcome.exit_code) = (status, None);
            receipt.outcome.error = Some("it did".to_owned());
        })
    };
    for status in [
        Status::Killed,
        Status::NotStarted,
        Status::ProcessLimit,
        Status::DiskLimit,
        Status::BrokeOff,
        Status::OutOfMemory,
        Status::OutputLimit,
        Status::Cancelled,
    ] {
        ends(status).sign(&executor()).unwrap();
    }
    let with_exit_code = |status| {
        let mut receipt = ends(status);
        receipt.outcome.exit_code = Some(0);
        receipt
    };
    let as_module = |status| {
        let mut receipt = ends(status);
        (receipt.profile, receipt.machine) = (Profile::Deterministic { seed: 1 }, None);
        receipt
    };
    let contradictions = [
        ends(Status::Trapped),
        ends(Status::OutOfFuel),
        as_module(Status::Killed),
        as_module(Status::NotStarted),
        as_module(Status::ProcessLimit),
        as_module(Status::DiskLimit),
        as_module(Status::BrokeOff),
        with_exit_code(Status::Killed),
        with_exit_code(Status::NotStarted),
        with_exit_code(Status::BrokeOff),
        of_image(|receipt| receipt.machine = None),
        of_image(|receipt| receipt.limits.fuel = 1),
        of_image(|receipt| receipt.profile = Profile::Deterministic { seed: 1 }),
    ];
    for (place, receipt) in contradictions.into_iter().enumerate() {
        let fault = receipt.clone().sign(&executor()).unwrap_err();
        assert_eq!(fault.code(), "receipt_inconsistent", "{place}");
        assert_eq!(open_forged(&statement(&receipt)), "receipt_inconsistent");
    }
}

#[test]
fn another_payload_type_or_predicate_type_is_refused() {
    let payload = envelope().payload;
    let mut other = Envelope::sign("application/json", payload, &executor());
    other.add_signature(&submitter());
    assert_eq!(code(&other.to_bytes().unwrap()), "receipt_malformed");
    let mut retyped = statement(&receipt());
    retyped["predicateType"] = json!("https://worldcompute.org/receipt/v2");
    assert_eq!(open_forged(&retyped), "receipt_malformed");
}

#[test]
fn subjects_that_are_not_the_results_are_refused() {
    let good = statement(&receipt());
    let changes: [fn(&mut Vec<Value>); 5] = [
        |subjects| subjects.truncate(2),
        |subjects| subjects.swap(0, 1),
        |subjects| subjects.push(json!({"name": "more", "digest": {"sha256": Sha256::of("")}})),
        |subjects| subjects[2]["name"] = json!("output:other"),
        |subjects| subjects[0]["digest"]["sha256"] = json!(Sha256::of("other")),
    ];
    for change in changes {
        let mut forged = good.clone();
        change(forged["subject"].as_array_mut().unwrap());
        assert_eq!(open_forged(&forged), "receipt_inconsistent");
    }
}

#[test]
fn only_the_executor_signs_and_only_the_submitter_countersigns() {
    for key in [submitter(), stranger()] {
        assert_eq!(
            receipt().sign(&key).unwrap_err().code(),
            "receipt_wrong_key"
        );
    }
    for key in [executor(), stranger()] {
        let half = receipt().sign(&executor()).unwrap();
        assert_eq!(
            half.countersign(&key).unwrap_err().code(),
            "receipt_wrong_key"
        );
    }
}

#[test]
fn other_signers_and_other_orders_are_refused() {
    let payload = envelope().payload;
    let refused: [&[SigningKey]; 8] = [
        &[submitter(), executor()],
        &[executor(), stranger()],
        &[stranger(), submitter()],
        &[submitter()],
        &[executor()],
        &[stranger()],
        &[executor(), submitter(), stranger()],
        &[stranger(), executor(), submitter()],
    ];
    for keys in refused {
        assert_eq!(
            code(&signed_by(payload.clone(), keys)),
            "receipt_signature_invalid"
        );
    }
    assert_eq!(
        code(&signed_by(payload, &[executor(), submitter()])),
        "opened"
    );
}

#[test]
fn a_signature_under_another_s_name_is_refused() {
    let mut swapped = envelope();
    let [first, second] = swapped.signatures.as_mut_slice() else {
        panic!("two signatures")
    };
    std::mem::swap(&mut first.sig, &mut second.sig);
    assert_eq!(
        code(&swapped.to_bytes().unwrap()),
        "receipt_signature_invalid"
    );
    let mut posing = envelope();
    posing.signatures[0].sig =
        Envelope::sign(STATEMENT_PAYLOAD_TYPE, posing.payload.clone(), &stranger()).signatures[0]
            .sig;
    assert_eq!(
        code(&posing.to_bytes().unwrap()),
        "receipt_signature_invalid"
    );
}

#[test]
fn a_doubled_signature_is_refused() {
    let mut doubled = envelope();
    doubled.signatures.push(doubled.signatures[0].clone());
    let bytes = canonical_json(&doubled).unwrap();
    assert_eq!(code(&bytes), "receipt_malformed");
    let mut replaced = envelope();
    replaced.signatures[1] = replaced.signatures[0].clone();
    assert_eq!(
        code(&canonical_json(&replaced).unwrap()),
        "receipt_malformed"
    );
}

#[test]
fn a_signature_replayed_from_another_receipt_is_refused() {
    let other = changed(|receipt| receipt.sequence = 8)
        .sign(&executor())
        .unwrap()
        .countersign(&submitter())
        .unwrap();
    let other = Envelope::from_bytes(other.bytes()).unwrap();
    for position in 0..2 {
        let mut replayed = envelope();
        replayed.signatures[position] = other.signatures[position].clone();
        assert_eq!(
            code(&replayed.to_bytes().unwrap()),
            "receipt_signature_invalid"
        );
    }
    let replayed = Envelope {
        payload: other.payload,
        ..envelope()
    };
    assert_eq!(
        code(&replayed.to_bytes().unwrap()),
        "receipt_signature_invalid"
    );
}

#[test]
fn empty_and_invented_signatures_are_refused() {
    for bytes in [[0; 64], [255; 64]] {
        let mut forged = envelope();
        forged.signatures[1].sig = Signature::from_bytes(bytes);
        assert_eq!(
            code(&forged.to_bytes().unwrap()),
            "receipt_signature_invalid"
        );
    }
    let unsigned = Envelope {
        signatures: vec![],
        ..envelope()
    };
    assert_eq!(
        code(&canonical_json(&unsigned).unwrap()),
        "receipt_malformed"
    );
    let unnamed = EnvelopeSignature {
        keyid: String::new(),
        sig: envelope().signatures[0].sig,
    };
    let unnamed = Envelope {
        signatures: vec![unnamed],
        ..envelope()
    };
    assert_eq!(
        code(&unnamed.to_bytes().unwrap()),
        "receipt_signature_invalid"
    );
}

#[test]
fn who_runs_their_own_job_signs_once_and_says_so() {
    let own = changed(|receipt| receipt.executor = receipt.submitter);
    let signed = own
        .sign(&submitter())
        .unwrap()
        .countersign(&submitter())
        .unwrap();
    let opened = SignedReceipt::open(signed.bytes()).unwrap();
    assert!(opened.in_words().contains("nobody else vouches"));
    let payload = Envelope::from_bytes(signed.bytes()).unwrap().payload;
    assert_ne!(
        code(&signed_by(payload, &[submitter(), stranger()])),
        "opened"
    );
}

/// Every way in which one part of a receipt can contradict another.
fn contradictions() -> Vec<(&'static str, Receipt)> {
    let outcome = |status, exit_code: Option<i32>, error: Option<&str>| {
        changed(|receipt| {
            receipt.outcome.outputs.clear();
            (receipt.outcome.status, receipt.outcome.exit_code) = (status, exit_code);
            receipt.outcome.error = error.map(str::to_owned);
        })
    };
    let out = |status, exit_code, (fuel, wall_ms)| {
        let mut receipt = outcome(status, exit_code, Some("no more"));
        (receipt.outcome.fuel_used, receipt.outcome.wall_ms) = (fuel, wall_ms);
        receipt
    };
    vec![
        (
            "succeeded with exit code 1",
            outcome(Status::Succeeded, Some(1), None),
        ),
        (
            "succeeded without exit code",
            outcome(Status::Succeeded, None, None),
        ),
        (
            "succeeded with an error",
            outcome(Status::Succeeded, Some(0), Some("no")),
        ),
        (
            "failed without exit code",
            outcome(Status::Failed, None, Some("no")),
        ),
        (
            "failed with exit code 0 and no reason",
            outcome(Status::Failed, Some(0), None),
        ),
        (
            "trapped with exit code",
            outcome(Status::Trapped, Some(1), Some("trap")),
        ),
        (
            "out of fuel with exit code",
            out(Status::OutOfFuel, Some(1), (1000, 12)),
        ),
        (
            "out of fuel with fuel left",
            out(Status::OutOfFuel, None, (999, 5000)),
        ),
        (
            "timed out with time left",
            out(Status::TimedOut, None, (1000, 4999)),
        ),
        (
            "timed out with exit code",
            out(Status::TimedOut, Some(0), (1000, 5000)),
        ),
        (
            "cancelled with exit code 0 and no reason",
            outcome(Status::Cancelled, Some(0), None),
        ),
        (
            "failed with outputs",
            changed(|receipt| {
                (receipt.outcome.status, receipt.outcome.exit_code) = (Status::Failed, Some(1))
            }),
        ),
        (
            "ended before it started",
            changed(|receipt| receipt.ended_at = "2026-01-02T03:04:04Z".parse().unwrap()),
        ),
        (
            "more fuel than allowed",
            changed(|receipt| receipt.outcome.fuel_used = 1001),
        ),
        (
            "more output than allowed",
            changed(|receipt| receipt.outcome.outputs[0].size = 101),
        ),
        (
            "blocked by the executor",
            changed(|receipt| receipt.decision.verdict = Verdict::Block),
        ),
        (
            "blocked by the submitter",
            changed(|receipt| receipt.submitter_decision.verdict = Verdict::RequireApproval),
        ),
        (
            "a trace of another policy",
            changed(|receipt| receipt.decision.policy_digest = Sha256::of("other")),
        ),
        (
            "a trace of another intent",
            changed(|receipt| receipt.submitter_decision.intent_digest = Sha256::of("other")),
        ),
        (
            "a trace of no decision",
            changed(|receipt| receipt.decision.trace_id = String::new()),
        ),
        ("no job", changed(|receipt| receipt.job_id.clear())),
        (
            "a lease with a space",
            changed(|receipt| receipt.lease_id.push(' ')),
        ),
        (
            "an input twice",
            changed(|receipt| receipt.inputs.push(receipt.inputs[0].clone())),
        ),
        (
            "a relative input",
            changed(|receipt| receipt.inputs[0].path = "a".into()),
        ),
        (
            "an output twice",
            changed(|receipt| {
                receipt
                    .outcome
                    .outputs
                    .push(receipt.outcome.outputs[0].clone())
            }),
        ),
        (
            "standard output named as something else than bytes",
            changed(|receipt| receipt.outcome.stdout_cid = Cid::dag_cbor("out")),
        ),
        (
            "standard error named as something else than bytes",
            changed(|receipt| receipt.outcome.stderr_cid = Cid::dag_cbor("")),
        ),
        (
            "an output named as something else than bytes",
            changed(|receipt| receipt.outcome.outputs[0].cid = Cid::dag_cbor("12345")),
        ),
        (
            "an output without a name",
            changed(|receipt| receipt.outcome.outputs[0].name.clear()),
        ),
    ]
}

#[test]
fn a_receipt_that_contradicts_itself_is_neither_signed_nor_opened() {
    for (what, receipt) in contradictions() {
        let fault = receipt.clone().sign(&executor()).expect_err(what);
        assert_eq!(fault.code(), "receipt_inconsistent", "{what}");
        assert_eq!(fault.number().unwrap().number(), 9, "{what}");
        assert_eq!(
            open_forged(&statement(&receipt)),
            "receipt_inconsistent",
            "{what}"
        );
    }
}

#[test]
fn every_way_to_end_can_be_said() {
    let ends = [
        (Status::Failed, Some(3), None),
        (Status::Failed, Some(i32::MAX), None),
        (Status::Failed, Some(-1), None),
        (
            Status::Failed,
            Some(0),
            Some("the output result is missing"),
        ),
        (Status::Trapped, None, Some("unreachable")),
        (Status::OutOfFuel, None, None),
        (Status::OutOfMemory, None, Some("refused")),
        (Status::OutOfMemory, Some(1), None),
        (Status::TimedOut, None, None),
        (Status::OutputLimit, None, Some("too much")),
        (Status::Cancelled, None, None),
    ];
    for (status, exit_code, error) in ends {
        let ended = changed(|receipt| {
            receipt.outcome.outputs.clear();
            (receipt.outcome.status, receipt.outcome.exit_code) = (status, exit_code);
            receipt.outcome.error = error.map(str::to_owned);
            (receipt.outcome.fuel_used, receipt.outcome.wall_ms) = (1000, 5000);
        });
        let signed = ended
            .clone()
            .sign(&executor())
            .unwrap()
            .countersign(&submitter())
            .unwrap();
        assert_eq!(
            SignedReceipt::open(signed.bytes()).unwrap().receipt(),
            &ended
        );
    }
}

#[test]
fn limits_hold_at_and_past() {
    let signs = |receipt: Receipt| receipt.sign(&executor()).is_ok();
    let inputs = |count: usize| {
        changed(|receipt| {
            receipt.inputs = (0..count)
                .map(|n| Input {
                    path: format!("/{n}"),
                    cid: Cid::raw(""),
                })
                .collect()
        })
    };
    assert!(signs(inputs(MAX_ENTRIES)) && !signs(inputs(MAX_ENTRIES + 1)));
    let outputs = |count: usize| {
        changed(|receipt| {
            receipt.outcome.outputs = (0..count)
                .map(|n| Output {
                    name: n.to_string(),
                    cid: Cid::raw(""),
                    size: 0,
                })
                .collect();
        })
    };
    assert!(signs(outputs(MAX_ENTRIES)) && !signs(outputs(MAX_ENTRIES + 1)));
    let path = |length: usize| {
        changed(|receipt| receipt.inputs[0].path = format!("/{}", "a".repeat(length - 1)))
    };
    assert!(signs(path(MAX_PATH_BYTES)) && !signs(path(MAX_PATH_BYTES + 1)));
    let id = |length: usize| changed(|receipt| receipt.job_id = "a".repeat(length));
    assert!(signs(id(MAX_ID_BYTES)) && !signs(id(MAX_ID_BYTES + 1)));
    let sum = changed(|receipt| {
        receipt.limits.output_bytes = (1 << 53) - 1;
        receipt.outcome.outputs = (0..2)
            .map(|n| Output {
                name: n.to_string(),
                cid: Cid::raw(""),
                size: u64::MAX,
            })
            .collect();
    });
    assert!(!signs(sum));
    assert!(
        !signs(changed(|receipt| receipt.sequence = 1 << 53)),
        "a number that JSON would round"
    );
}

#[test]
fn an_error_is_cut_to_what_a_receipt_carries() {
    let long = "é".repeat(MAX_ERROR_BYTES);
    assert_eq!(bounded_error(&long).len(), MAX_ERROR_BYTES);
    assert_eq!(
        bounded_error(&format!("a{long}")).len(),
        MAX_ERROR_BYTES - 1
    );
    assert_eq!(bounded_error("short"), "short");
    let trapped = |error: String| {
        changed(|receipt| {
            receipt.outcome.outputs.clear();
            (
                receipt.outcome.status,
                receipt.outcome.exit_code,
                receipt.outcome.error,
            ) = (Status::Trapped, None, Some(error));
        })
    };
    assert!(trapped(bounded_error(&long)).sign(&executor()).is_ok());
    assert!(trapped(long).sign(&executor()).is_err());
}

#[test]
fn the_largest_receipt_that_passes_the_limits_can_be_signed() {
    // A control character takes six bytes in JSON, and base64 makes them eight.
    let path = |n: usize| format!("/{n:02}{}", "\u{1}".repeat(MAX_PATH_BYTES - 3));
    let largest = changed(|receipt| {
        receipt.inputs = (0..MAX_ENTRIES)
            .map(|n| Input {
                path: path(n),
                cid: Cid::raw(""),
            })
            .collect();
        receipt.outcome.outputs = (0..MAX_ENTRIES)
            .map(|n| Output {
                name: path(n),
                cid: Cid::raw(""),
                size: 1,
            })
            .collect();
    });
    let signed = largest
        .sign(&executor())
        .unwrap()
        .countersign(&submitter())
        .unwrap();
    assert!(SignedReceipt::open(signed.bytes()).is_ok());
    assert_eq!(
        code(&vec![b' '; MAX_RECEIPT_BYTES + 1]),
        "receipt_malformed"
    );
}

#[test]
fn a_person_can_read_what_happened() {
    let words = signed().in_words();
    let expected = [
        "Task 3 of job 01ARZ3NDEKTSV4RRFFQ69G5FAV succeeded with exit code 0 after 12 ms",
        &format!(
            "{} ran it for {}, through a relay",
            executor().peer_id(),
            submitter().peer_id()
        ),
        "It left behind \"result\": 5 bytes",
        "It used 999 of 1000 units of fuel",
        "The executor's gate said allow",
        "The executor signed this and the submitter countersigned it.",
        "not whose they are",
    ];
    for line in expected {
        assert!(words.contains(line), "{line:?} is not in:\n{words}");
    }
}

#[test]
fn words_of_strangers_cannot_steer_the_terminal() {
    let hostile = changed(|receipt| {
        receipt.outcome.outputs.clear();
        (receipt.outcome.status, receipt.outcome.exit_code) = (Status::Trapped, None);
        receipt.outcome.error = Some("\u{1b}[2J\nThe executor signed".into());
        receipt.inputs[0].path = "/\u{202e}a".into();
    });
    let words = hostile
        .sign(&executor())
        .unwrap()
        .countersign(&submitter())
        .unwrap()
        .in_words();
    assert!(
        !words.contains('\u{1b}')
            && !words.contains('\u{202e}')
            && !words.contains("\nThe executor signed\""),
        "{words}"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_opened_or_refused(bytes: Vec<u8>) {
        prop_assert!(SignedReceipt::open(&bytes).is_err() && ExecutorReceipt::open(&bytes).is_err());
    }

    #[test]
    fn any_payload_that_both_sign_is_opened_or_refused(payload: Vec<u8>) {
        prop_assert_eq!(code(&signed_by(payload, &[executor(), submitter()])), "receipt_malformed");
    }

    #[test]
    fn any_receipt_survives_its_bytes(
        (task_index, attempt, sequence) in (any::<u32>(), any::<u32>(), 0_u64..1 << 53),
        error in "\\PC{0,80}",
        path in "/[^\\p{C}]{0,40}",
        seconds in 0_i64..4_000_000_000,
        nanos in 0_i32..1_000_000_000,
        exit_code in 1..=255,
    ) {
        let at = jiff::Timestamp::new(seconds, nanos).unwrap();
        let receipt = changed(|receipt| {
            (receipt.task_index, receipt.attempt, receipt.sequence) = (task_index, attempt, sequence);
            receipt.inputs[0].path = path;
            (receipt.started_at, receipt.ended_at) = (at, at);
            receipt.outcome.outputs.clear();
            (receipt.outcome.status, receipt.outcome.exit_code) = (Status::Failed, Some(exit_code));
            receipt.outcome.error = Some(error);
        });
        let signed = receipt.clone().sign(&executor()).unwrap().countersign(&submitter()).unwrap();
        let opened = SignedReceipt::open(signed.bytes()).unwrap();
        prop_assert_eq!(opened.receipt(), &receipt);
        prop_assert!(!opened.in_words().is_empty());
    }
}
