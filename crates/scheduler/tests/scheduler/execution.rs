//! A receipt counts only when its executor signed it and every fact in it is the one of the lease.

use crate::support::{donor, job_id, manifest_with, receipt, submitter};
use worldcompute_fault::WcCode;
use worldcompute_ledger::receipt::{self, Receipt, Status};
use worldcompute_proof::{Cid, Sha256};
use worldcompute_scheduler::broker::Execution;
use worldcompute_scheduler::manifest::VerifiedManifest;
use worldcompute_scheduler::{LeaseId, TaskId};

fn lease(index: u32) -> LeaseId {
    LeaseId {
        task: TaskId {
            job: job_id(1),
            index,
        },
        replica: 0,
        attempt: 2,
    }
}

fn manifest() -> std::sync::Arc<VerifiedManifest> {
    let cid = Cid::raw(b"data");
    let more = format!(
        "  stdin: cid:{cid}\n  inputs: [{{cid: {cid}, mount: /data}}]\n  outputs: [{{name: sum, path: /out/sum, max_bytes: 1Mi}}]\n  seed: 5\n"
    );
    manifest_with(1, 3, &more)
}

fn verify(receipt: Receipt) -> Result<Execution, worldcompute_fault::Fault> {
    let signed = receipt.sign(&donor(0)).unwrap();
    Execution::verify(signed.bytes(), lease(1), &manifest())
}

fn genuine() -> Receipt {
    receipt(&manifest(), lease(1), donor(0).peer_id(), Status::Succeeded)
}

#[test]
fn an_honest_receipt_of_any_end_is_taken() {
    for status in [
        Status::Succeeded,
        Status::Failed,
        Status::Trapped,
        Status::OutOfFuel,
        Status::OutOfMemory,
        Status::TimedOut,
        Status::OutputLimit,
        Status::Cancelled,
    ] {
        let execution = verify(receipt(&manifest(), lease(1), donor(0).peer_id(), status)).unwrap();
        assert_eq!(execution.status(), status);
        assert_eq!(execution.executor(), donor(0).peer_id());
    }
}

#[test]
fn a_receipt_that_says_one_thing_differently_is_refused() {
    type Change = (&'static str, fn(&mut Receipt));
    let changes: [Change; 20] = [
        ("job", |r| r.job_id = job_id(2).to_string()),
        ("lease", |r| r.lease_id = lease(2).to_string()),
        ("task", |r| r.task_index = 2),
        ("attempt", |r| r.attempt = 1),
        ("manifest", |r| r.manifest_cid = Cid::raw(b"other")),
        ("module", |r| r.workload_cid = Cid::raw(b"other")),
        ("request", |r| r.request_digest = Sha256::of("other")),
        ("standard input", |r| r.stdin = None),
        ("inputs", |r| r.inputs.clear()),
        ("inputs", |r| r.inputs[0].cid = Cid::raw(b"other")),
        ("limits", |r| r.limits.fuel += 1),
        ("limits", |r| r.limits.memory_bytes += 1),
        ("limits", |r| r.limits.wall_ms += 1),
        ("limits", |r| r.limits.output_bytes += 1),
        ("profile", |r| {
            r.profile = receipt::Profile::Deterministic { seed: 5 }
        }),
        ("submitter", |r| r.submitter = donor(3).peer_id()),
        ("outputs", |r| r.outcome.outputs.clear()),
        ("outputs", |r| r.outcome.outputs[0].name = "product".into()),
        ("exceeds its limit", |r| {
            r.outcome.outputs[0].size = (1 << 20) + 1
        }),
        ("intent", |r| r.decision = r.submitter_decision.clone()),
    ];
    for (what, change) in changes {
        let mut receipt = genuine();
        change(&mut receipt);
        let fault = verify(receipt).unwrap_err();
        assert_eq!(
            fault.number(),
            Some(WcCode::LedgerVerificationFailed),
            "{what}: {fault}"
        );
        assert!(fault.message().contains(what), "{what}: {fault}");
    }
    let mut receipt = genuine();
    receipt.submitter_decision = receipt.decision.clone();
    assert!(
        verify(receipt)
            .unwrap_err()
            .message()
            .contains("submitter's gate")
    );
}

#[test]
fn a_receipt_is_not_taken_for_another_lease_job_or_index() {
    let signed = genuine().sign(&donor(0)).unwrap();
    let check = |lease| Execution::verify(signed.bytes(), lease, &manifest());
    assert!(check(lease(1)).is_ok());
    assert!(check(lease(2)).is_err());
    assert!(check(lease(3)).is_err());
    assert!(
        check(LeaseId {
            attempt: 3,
            ..lease(1)
        })
        .is_err()
    );
    assert!(
        check(LeaseId {
            replica: 1,
            ..lease(1)
        })
        .is_err()
    );
    let foreign = LeaseId {
        task: TaskId {
            job: job_id(2),
            index: 1,
        },
        ..lease(1)
    };
    assert!(check(foreign).is_err());
}

#[test]
fn bytes_that_are_not_exactly_the_executors_receipt_are_refused() {
    let signed = genuine().sign(&donor(0)).unwrap();
    let bytes = signed.bytes().to_vec();
    for at in (0..bytes.len()).step_by(7) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        assert!(
            Execution::verify(&flipped, lease(1), &manifest()).is_err(),
            "byte {at}"
        );
    }
    assert!(Execution::verify(&[], lease(1), &manifest()).is_err());
    let countersigned = signed.countersign(&submitter()).unwrap();
    assert!(Execution::verify(countersigned.bytes(), lease(1), &manifest()).is_err());
}
