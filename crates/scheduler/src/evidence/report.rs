//! What verification shows, and what it cannot.

use gait::Verdict;
use gait::runpack::SignatureStatus;
use gait::verifier::Verified;
use serde::Serialize;
use worldcompute_ledger::receipt::SignedReceipt;
use worldcompute_proof::{Cid, PeerId, Sha256};

use super::Pins;
use super::bundle::Bundle;
use crate::manifest::VerifiedManifest;

const EXECUTION: &str = "that a run happened as told: a receipt is its executor's word; modules are deterministic, so running a task again checks it (--re-execute)";
const EXECUTOR: &str =
    "that it was the executor who ran it: whoever runs this request comes to these results";
const CLOCKS: &str = "when it happened: times are by the executors' clocks";
const POLICIES: &str = "what the policies say: they are named by digest only";
const OTHERS: &str =
    "what else an executor ran: it numbers its exits, and only those of this job are here";
const INTENT: &str = "what the intent was: it is named by digest only";
const PERMITS: &str = "that anything ran: a decision only permits";
const RECORDED: &str = "that anything happened as told: a record is its recorder's word";
const SUBMITTER: &str = "whose key the submitter's is: a signature shows which key spoke, not who holds it (pin the submitter to settle it)";
const EXECUTORS: &str = "whose keys the executors' are: a signature shows which key spoke, not who holds it (pin the executors to settle it)";

/// The outcome of a verification that found nothing wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Always true: what fails is a fault that names the part.
    pub ok: bool,
    /// The outcome in one line.
    pub summary: String,
    /// Every file that was read and found to be what it should be, by name.
    pub parts: Vec<CheckedPart>,
    /// What the evidence shows, a sentence each.
    pub proven: Vec<String>,
    /// What it leaves open, a phrase each.
    pub not_proven: Vec<String>,
    /// Tasks whose receipts say that a box on the way opened the TLS around them.
    #[serde(skip_serializing_if = "is_none")]
    pub inspected: u32,
    /// The task of the receipt, run again here and to the same end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_again: Option<RunAgain>,
    /// What a file of a gate was found to be, as `gait verify` shows it.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub artefact: Option<Verified>,
}

/// A run that came to what a receipt tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RunAgain {
    /// The policy of this machine, which allowed it.
    pub policy_digest: Sha256,
    /// Work done, in the units of the receipt; the same.
    pub fuel_used: u64,
    /// Wall-clock time that it took here, in milliseconds.
    pub wall_ms: u64,
}

/// One verified file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckedPart {
    /// Its name in the bundle.
    pub name: String,
    /// Its digest.
    pub sha256: Sha256,
    /// Its length.
    pub bytes: u64,
}

impl Report {
    /// The outcome in one line.
    pub fn one_line(&self) -> &str {
        &self.summary
    }

    /// Every file of a job.
    pub(super) fn of_bundle(bundle: &Bundle<'_>) -> Self {
        let manifest = &bundle.manifest;
        let (job, tasks, files) = (
            manifest.job_id(),
            manifest.manifest().array_count,
            bundle.parts.len(),
        );
        let ends: Vec<_> = bundle
            .ends
            .iter()
            .map(|(end, count)| format!("{count} {end}"))
            .collect();
        let executors = bundle.executors.len();
        let listed = bundle.index.names().count();
        let proven = vec![
            asked(manifest),
            format!("The submitter signed for exactly the {listed} files beside index.json, and each has the bytes that were signed for."),
            format!("Each of the {tasks} tasks has one receipt, signed by its executor and countersigned by the submitter."),
            "Every receipt answers the request that follows from the manifest: module, inputs, limits, seed.".to_owned(),
            "For every run both gates signed that they allow exactly this job and this run.".to_owned(),
            "Every module, input and result has the bytes that its name stands for.".to_owned(),
        ];
        Self::of(
            format!(
                "verified: job {job}: {tasks} tasks ({}) on {executors} executors, {files} files",
                ends.join(", ")
            ),
            bundle.parts.values().cloned().collect(),
            proven,
            [
                vec![EXECUTION, CLOCKS, POLICIES, OTHERS],
                whose(bundle.pins),
            ]
            .concat(),
        )
        .with_replicas(manifest)
        .with_inspected(bundle.inspected)
    }

    /// One receipt with everything in its bundle that it refers to.
    pub(super) fn of_receipt_in(bundle: &Bundle<'_>, signed: &SignedReceipt) -> Self {
        let receipt = signed.receipt();
        let proven = vec![
            asked(&bundle.manifest),
            signers(signed),
            "The receipt answers the request that follows from the manifest: module, inputs, limits, seed.".to_owned(),
            "Both gates signed that they allow exactly this job and this run.".to_owned(),
            "Module, inputs and results have the bytes that their names stand for.".to_owned(),
        ];
        Self::of(
            format!(
                "verified: task {} of job {}: {}",
                receipt.task_index,
                receipt.job_id,
                receipt.outcome.status.as_str()
            ),
            bundle.parts.values().cloned().collect(),
            proven,
            [
                vec![
                    "the other tasks of the job: only this one was verified",
                    EXECUTION,
                    CLOCKS,
                    POLICIES,
                    OTHERS,
                ],
                whose(bundle.pins),
            ]
            .concat(),
        )
        .with_replicas(&bundle.manifest)
        .with_inspected(u32::from(receipt.inspected))
    }

    /// One receipt by itself.
    pub(super) fn of_receipt(part: CheckedPart, signed: &SignedReceipt, pins: &Pins) -> Self {
        let receipt = signed.receipt();
        let open = [
            "that the manifest asks for this run: the manifest was not at hand",
            "that the gates allowed it: their traces were not at hand",
            "what the results are: only their names were at hand",
            EXECUTION,
            CLOCKS,
            POLICIES,
            OTHERS,
        ];
        Self::of(
            format!(
                "verified: receipt of task {} of job {}: {}",
                receipt.task_index,
                receipt.job_id,
                receipt.outcome.status.as_str()
            ),
            vec![part],
            vec![
                signers(signed),
                "The receipt does not contradict itself.".to_owned(),
            ],
            [open.to_vec(), whose(pins)].concat(),
        )
        .with_inspected(u32::from(receipt.inspected))
    }

    /// One manifest, in its bundle or by itself.
    pub(super) fn of_manifest(
        parts: Vec<CheckedPart>,
        manifest: &VerifiedManifest,
        pins: &Pins,
    ) -> Self {
        let open = ["that anything ran: a manifest only asks", SUBMITTER];
        let open = if pins.submitter.is_some() {
            open.split_at(1).0
        } else {
            &open
        };
        Self::of(
            format!(
                "verified: manifest of job {}: {} tasks",
                manifest.job_id(),
                manifest.manifest().array_count
            ),
            parts,
            vec![asked(manifest)],
            open.to_vec(),
        )
    }

    /// One decision, verified with `signer`'s key.
    pub(super) fn of_decision(
        parts: Vec<CheckedPart>,
        trace: &gait::VerifiedTrace,
        signer: &PeerId,
        open: Vec<&str>,
    ) -> Self {
        let (verdict, tool) = (trace.verdict(), trace.tool_name());
        let (intent, policy) = (trace.intent_digest(), trace.policy_digest());
        let proven = vec![decided(&signer.to_string(), verdict, tool, intent, policy)];
        let always = vec![INTENT, POLICIES, PERMITS];
        Self::of(
            format!("verified: decision {}: {verdict}", trace.trace_id()),
            parts,
            proven,
            [always, open].concat(),
        )
    }

    /// A file that a gate made, verified with `signer`'s key if one was expected.
    pub(super) fn of_artefact(
        part: CheckedPart,
        verified: Verified,
        signer: Option<&PeerId>,
    ) -> Self {
        let (mut proven, mut open) = told(&verified, signer);
        match (signed(&verified), signer) {
            (true, Some(signer)) => proven.push(format!("The key of {signer} signed it.")),
            _ => open.push("who made it: no signature was checked (expect a key to settle it)"),
        }
        let summary = format!("verified: {} {}", verified.name(), name(&verified));
        Self {
            artefact: Some(verified),
            ..Self::of(summary, vec![part], proven, open)
        }
    }

    /// One object; `listed` says whether a submitter signed for it.
    pub(super) fn of_object(parts: Vec<CheckedPart>, cid: &Cid, size: u64, listed: bool) -> Self {
        let origin = "where it comes from: only its name was at hand";
        Self::of(
            format!("verified: object {cid}: {size} bytes"),
            parts,
            vec![format!("The file has the bytes that {cid} stands for.")],
            if listed {
                vec!["what it is for: no receipt was verified"]
            } else {
                vec![origin]
            },
        )
    }

    fn of(
        summary: String,
        parts: Vec<CheckedPart>,
        proven: Vec<String>,
        not_proven: Vec<&str>,
    ) -> Self {
        let not_proven = not_proven.into_iter().map(str::to_owned).collect();
        Self {
            ok: true,
            summary,
            parts,
            proven,
            not_proven,
            inspected: 0,
            run_again: None,
            artefact: None,
        }
    }

    /// What donors and submitters say of their networks, by those of their receipts that say it.
    fn with_inspected(mut self, receipts: u32) -> Self {
        self.inspected = receipts;
        if receipts > 0 {
            self.proven.push(format!(
                "By {receipts} of the receipts, a box on the way opened the TLS around the task: it saw who spoke to whom and how much, and no content."
            ));
        }
        self
    }

    /// What was the executor's word alone is now known: not who did it, but what it comes to.
    pub(super) fn with_run_again(mut self, again: RunAgain) -> Self {
        self.not_proven.retain(|question| question != EXECUTION);
        self.not_proven.push(EXECUTOR.to_owned());
        self.proven.push(format!(
            "Run again here, the task came to the same: status, exit code, {} units of fuel, standard output and error, every result.",
            again.fuel_used
        ));
        self.summary
            .push_str(", and the same when it was run again");
        self.run_again = Some(again);
        self
    }

    fn with_replicas(mut self, manifest: &VerifiedManifest) -> Self {
        let replicas = manifest.manifest().replica_count;
        if replicas > 1 {
            self.not_proven.push(format!(
                "that {replicas} executors agreed on each result: the receipt of one is here"
            ));
        }
        self
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_none(receipts: &u32) -> bool {
    *receipts == 0
}

/// What a file that a gate made shows, and what it leaves open.
fn told(verified: &Verified, signer: Option<&PeerId>) -> (Vec<String>, Vec<&'static str>) {
    let entries = |count: usize| {
        vec![format!(
            "It has exactly the {count} files that its manifest declares, and each has the declared bytes."
        )]
    };
    match verified {
        Verified::Runpack(report) => (entries(report.files_checked), vec![RECORDED]),
        Verified::Pack(report) | Verified::GuardPack(report) => {
            (entries(report.files_checked), vec![RECORDED])
        }
        Verified::SessionChain(report) => {
            let (count, session) = (report.checkpoints_checked, &report.session_id);
            let proven = format!(
                "The {count} checkpoints of session {session} follow one another, and the runpack of each is as it was."
            );
            (vec![proven], vec![RECORDED])
        }
        Verified::Trace(trace) => {
            let gate = signer.map_or_else(|| trace.key_id.clone(), ToString::to_string);
            let (intent, policy) = (trace.intent_digest, trace.policy_digest);
            let proven = decided(&gate, trace.verdict, &trace.tool_name, intent, policy);
            (vec![proven], vec![INTENT, POLICIES, PERMITS])
        }
        Verified::Session(session) => {
            let count = session.decisions;
            let mut proven = vec![format!(
                "Decisions 1 to {count} are here, each in its place and as it was signed."
            )];
            let mut open = vec![INTENT, POLICIES, PERMITS];
            match session.closed {
                true => proven.push("The end is signed: there are no others.".to_owned()),
                false => {
                    open.push("that no decision is missing from the end: the session is not closed")
                }
            }
            (proven, open)
        }
    }
}

fn signed(verified: &Verified) -> bool {
    let status = match verified {
        Verified::Runpack(report) => report.signature_status,
        Verified::Pack(report) | Verified::GuardPack(report) => report.signature_status,
        Verified::Trace(trace) => trace.signature_status,
        Verified::Session(session) => session.signature_status,
        // One whose runpacks the expected key did not sign does not hold.
        Verified::SessionChain(_) => SignatureStatus::Verified,
    };
    status == SignatureStatus::Verified
}

/// What names a file that a gate made, for one line.
fn name(verified: &Verified) -> String {
    match verified {
        Verified::Runpack(report) => report.run_id.clone(),
        Verified::Pack(report) | Verified::GuardPack(report) => report.pack_id.clone(),
        Verified::Trace(trace) => format!("{}: {}", trace.trace_id, trace.verdict),
        Verified::Session(session) => format!("of {} decisions", session.decisions),
        Verified::SessionChain(report) => report.session_id.clone(),
    }
}

fn decided(gate: &str, verdict: Verdict, tool: &str, intent: Sha256, policy: Sha256) -> String {
    format!(
        "The gate of {gate} signed that it says {verdict} to intent {intent} of the tool {tool:?}, by policy {policy}."
    )
}

/// Whose keys are left open, given those that are pinned.
pub(super) fn whose(pins: &Pins) -> Vec<&'static str> {
    let submitter = pins.submitter.is_none().then_some(SUBMITTER);
    submitter
        .into_iter()
        .chain(pins.executors.is_empty().then_some(EXECUTORS))
        .collect()
}

fn asked(manifest: &VerifiedManifest) -> String {
    let (job, tasks) = (manifest.job_id(), manifest.manifest().array_count);
    format!(
        "{} signed manifest {}: job {job}, {tasks} tasks.",
        manifest.submitter(),
        manifest.cid()
    )
}

fn signers(signed: &SignedReceipt) -> String {
    let (executor, submitter) = (signed.receipt().executor, signed.receipt().submitter);
    if executor == submitter {
        return format!(
            "{executor}, at once executor and submitter, signed the receipt; nobody else vouches for it."
        );
    }
    format!(
        "{executor} signed the receipt as executor, and {submitter} countersigned it as submitter."
    )
}
