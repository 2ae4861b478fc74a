//! Decisions of gates, as receipts refer to them.

use gait::{Decision, Verdict, VerifiedTrace};
use worldcompute_fault::{Fault, Result, WcCode};
use worldcompute_ledger::receipt::DecisionRef;
use worldcompute_proof::{Cid, PeerId};
use worldcompute_scheduler::manifest::VerifiedManifest;

/// How a receipt names a decision made here.
pub fn reference(decision: &Decision) -> DecisionRef {
    let trace = decision.trace();
    DecisionRef {
        trace_id: trace.trace_id().to_owned(),
        policy_digest: decision.policy_digest(),
        intent_digest: decision.intent_digest(),
        verdict: decision.verdict(),
        trace_cid: Cid::raw(trace.bytes()),
    }
}

/// The submitter's decision to send a job out: signed by the submitter, about this job, and an allow.
#[derive(Clone, Debug)]
pub struct Submission(DecisionRef);

impl Submission {
    /// Checks the trace that came with a task.
    ///
    /// # Errors
    /// WC-014 for a trace that is not the submitter's word about this job, WC-020 when it is not an allow.
    pub fn open(manifest: &VerifiedManifest, trace: &[u8]) -> Result<Self> {
        let verified = opened(trace, manifest.submitter())?;
        if verified.intent_digest() != manifest.submit_intent()?.digest() {
            return Err(Fault::wc(
                WcCode::Unauthorized,
                "the submitter's decision is about another job",
            ));
        }
        Ok(Self(allowing(&verified, trace)?))
    }

    /// How a receipt names it.
    pub fn reference(&self) -> DecisionRef {
        self.0.clone()
    }
}

/// Checks that `trace` is `signer`'s word, and gives it as receipts refer to it.
pub fn allowed_by(trace: &[u8], signer: &PeerId) -> Result<DecisionRef> {
    allowing(&opened(trace, signer)?, trace)
}

fn opened(trace: &[u8], signer: &PeerId) -> Result<VerifiedTrace> {
    gait::trace::verify(trace, &signer.verifying_key()).map_err(|fault| {
        Fault::wc(
            WcCode::Unauthorized,
            format!(
                "the decision of {signer} does not verify: {}",
                fault.message()
            ),
        )
    })
}

fn allowing(verified: &VerifiedTrace, bytes: &[u8]) -> Result<DecisionRef> {
    if verified.verdict() != Verdict::Allow {
        return Err(Fault::wc(
            WcCode::PermissionDenied,
            format!("the decision says {}, not allow", verified.verdict()),
        ));
    }
    Ok(DecisionRef {
        trace_id: verified.trace_id().to_owned(),
        policy_digest: verified.policy_digest(),
        intent_digest: verified.intent_digest(),
        verdict: verified.verdict(),
        trace_cid: Cid::raw(bytes),
    })
}
