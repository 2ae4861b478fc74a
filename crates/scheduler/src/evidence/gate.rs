//! A file that a gate made, verified by the verifier that `gait verify` is.

use std::fs::File;

use gait::verifier::{Artefact, Finding, Requirements, Verified};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{PeerId, VerifyingKey};

use super::folder::digest;
use super::refusal::{changed, invalid, missing, unexpected, unproven};
use super::report::{CheckedPart, Report};
use super::{MAX_OBJECT_BYTES, Pins};

/// Verifies the `artefact` in `file`.
pub(super) fn verify(artefact: &Artefact, file: File, shown: &str, pins: &Pins) -> Result<Report> {
    let (verified, signer) = judged(artefact, shown, pins)?;
    if !verified.holds() {
        return Err(refusal(shown, &verified.findings()));
    }
    let (sha256, bytes) = digest(file, shown, MAX_OBJECT_BYTES)?;
    let part = CheckedPart {
        name: shown.to_owned(),
        sha256,
        bytes,
    };
    Ok(Report::of_artefact(part, verified, signer.as_ref()))
}

/// What the verifier says, and with which of the expected keys.
fn judged(artefact: &Artefact, shown: &str, pins: &Pins) -> Result<(Verified, Option<PeerId>)> {
    let keys = expected(artefact, shown, pins)?;
    let with = |key: Option<&VerifyingKey>| {
        let requirements = Requirements {
            key,
            signature: pins.signature,
        };
        let verified = artefact.verify(&requirements);
        let signer = key.map(PeerId::from);
        verified.map(|verified| (verified, signer))
    };
    let mut tried = keys.iter().map(|key| with(Some(key)));
    let holds = |judged: &Result<(Verified, Option<PeerId>)>| {
        judged.as_ref().is_ok_and(|(verified, _)| verified.holds())
    };
    let first = match tried.next() {
        None => with(None),
        Some(first) if holds(&first) => first,
        Some(first) => tried.find(holds).unwrap_or(first),
    };
    first.map_err(|fault| named(shown, fault))
}

/// The keys of which one must have signed: of a decision, those that were given for it, and the peer that it names.
fn expected(artefact: &Artefact, shown: &str, pins: &Pins) -> Result<Vec<VerifyingKey>> {
    let peers = pins.submitter.iter().chain(&pins.executors);
    let mut keys: Vec<_> = peers.map(PeerId::verifying_key).collect();
    if let Some(claimed) = artefact.claimed_key() {
        keys.retain(|key| key.key_id() == claimed);
        if keys.is_empty() && pins.gates.is_empty() {
            return Err(unknown_signer(shown));
        }
    }
    keys.extend(&pins.gates);
    Ok(keys)
}

fn unknown_signer(shown: &str) -> Fault {
    let why = "a decision does not carry its signer's key, and no expected key is the one it names";
    let hint = "pin the peer id of the gate's owner or give its public key, or verify the decision inside of its job's folder";
    unproven(shown, why, hint)
}

/// The same with the file in front; what the disk refuses stays what it is.
fn named(shown: &str, fault: Fault) -> Fault {
    match (fault.category(), fault.code(), fault.reason()) {
        (_, _, "verify_key_required") => unknown_signer(shown),
        (_, "evidence_unproven", _) => {
            let hint = "verify the guard pack that holds it";
            unproven(shown, fault.message(), hint)
        }
        (Category::VerificationFailed | Category::InvalidInput, _, _) => {
            invalid(shown, fault.message())
        }
        _ => fault,
    }
}

/// All findings, under the code of the first.
fn refusal(shown: &str, findings: &[Finding]) -> Fault {
    let told: Vec<_> = findings.iter().map(ToString::to_string).collect();
    let told = told.join("; ");
    match findings.first() {
        Some(Finding::Missing(_)) => missing(shown, &told),
        Some(Finding::Changed(_)) => changed(shown, &told),
        Some(Finding::Undeclared(_)) => unexpected(shown, &told),
        Some(Finding::Signature(_)) => {
            let hint = "give the public key that should have signed it, or ask for a signed copy";
            unproven(shown, &told, hint)
        }
        Some(Finding::Checkpoint(_)) | None => invalid(shown, &told),
    }
}
