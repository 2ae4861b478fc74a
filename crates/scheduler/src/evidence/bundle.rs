//! Verifying a whole bundle, and the steps that a single file of it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use gait::limits::MAX_TRACE_BYTES;
use worldcompute_fault::Result;
use worldcompute_ledger::receipt::{
    DecisionRef, MAX_RECEIPT_BYTES, Outcome, Receipt, SignedReceipt, Status,
};
use worldcompute_proof::dsse::MAX_ENVELOPE_BYTES;
use worldcompute_proof::{Cid, PeerId, Sha256};
use worldcompute_sandbox::RunRequest;

use super::folder::Folder;
use super::index::{Index, MAX_FILES};
use super::part::Part;
use super::refusal::{changed, invalid, too_large, unexpected};
use super::report::{CheckedPart, Report};
use super::request::Asked;
use super::{MAX_OBJECT_BYTES, MAX_TOTAL_BYTES, Pins};
use crate::LeaseId;
use crate::manifest::{MAX_WIRE_BYTES, VerifiedManifest};

/// Verifies every file of the bundle at `path`, and that there is no other: first that they are the files that were
/// signed for, then what they say.
pub(super) fn verify(path: &Path, pins: &Pins) -> Result<Report> {
    let mut bundle = Bundle::open(path, pins)?;
    bundle.check_files()?;
    for index in 0..bundle.manifest.manifest().array_count {
        bundle.check_receipt(index)?;
    }
    bundle.check_objects()?;
    bundle.check_nothing_else()?;
    Ok(Report::of_bundle(&bundle))
}

/// A bundle whose manifest and index are verified, and what else has been so far.
pub(super) struct Bundle<'a> {
    pub(super) folder: Folder,
    pub(super) pins: &'a Pins,
    pub(super) manifest: VerifiedManifest,
    pub(super) index: Index,
    /// Every part whose bytes are those that were signed for.
    pub(super) parts: BTreeMap<String, CheckedPart>,
    pub(super) executors: BTreeSet<PeerId>,
    /// How many tasks ended in which way.
    pub(super) ends: BTreeMap<&'static str, u32>,
    /// Tasks whose receipts say that TLS was opened on the way.
    pub(super) inspected: u32,
    /// What the manifest, or something it leads to, refers to.
    referred: BTreeSet<String>,
    submit_intent: Sha256,
    decisions: BTreeMap<(Cid, PeerId), DecisionRef>,
    objects: BTreeMap<Cid, Claim>,
    exits: BTreeSet<(PeerId, u64)>,
    bytes_left: u64,
}

/// What is said about an object, and by which part.
#[derive(Clone, Copy)]
struct Claim {
    size: Option<u64>,
    by: Part,
}

impl<'a> Bundle<'a> {
    /// Verifies manifest and index.
    pub(super) fn open(path: &Path, pins: &'a Pins) -> Result<Self> {
        let folder = Folder::open(path)?;
        let manifest = open_manifest(&folder.read(Part::Manifest, MAX_WIRE_BYTES)?, pins)?;
        let sealed = folder.read(Part::Index, MAX_ENVELOPE_BYTES)?;
        let index = Index::open(&sealed, &manifest)?;
        index.check(Part::Manifest, manifest.cid().digest())?;
        let submit_intent = manifest.submit_intent()?.digest();
        let mut bundle = Self {
            folder,
            pins,
            manifest,
            index,
            parts: BTreeMap::new(),
            executors: BTreeSet::new(),
            ends: BTreeMap::new(),
            inspected: 0,
            referred: BTreeSet::from([Part::Manifest.to_string()]),
            submit_intent,
            decisions: BTreeMap::new(),
            objects: BTreeMap::new(),
            exits: BTreeSet::new(),
            bytes_left: MAX_TOTAL_BYTES,
        };
        let length = bundle.manifest.bytes().len();
        bundle.checked(
            Part::Manifest,
            bundle.manifest.cid().digest(),
            length as u64,
        );
        bundle.checked(Part::Index, Sha256::of(&sealed), sealed.len() as u64);
        Ok(bundle)
    }

    /// The folder holds exactly the files that the submitter signed for.
    fn check_files(&mut self) -> Result<()> {
        let names = self.folder.list(MAX_FILES + 1)?;
        let index = Part::Index.to_string();
        self.index.check_names(
            names
                .iter()
                .map(String::as_str)
                .filter(|name| **name != index),
        )?;
        for part in names.iter().filter_map(|name| Part::parse(name)) {
            match part {
                Part::Index | Part::Manifest => {}
                Part::Receipt(_) => self.check_bytes(part, MAX_RECEIPT_BYTES)?,
                Part::Decision(_) => self.check_bytes(part, MAX_TRACE_BYTES)?,
                Part::Object(cid) => drop(self.check_object(cid)?),
            }
        }
        Ok(())
    }

    fn check_bytes(&mut self, part: Part, limit: usize) -> Result<()> {
        let (digest, length) = self.folder.digest(part, limit as u64)?;
        self.index.check(part, digest)?;
        self.checked(part, digest, length);
        Ok(())
    }

    /// Verifies the receipt of a task and everything that it refers to.
    pub(super) fn check_task(&mut self, task: u32) -> Result<SignedReceipt> {
        if task >= self.manifest.manifest().array_count {
            return Err(unexpected(
                Part::Receipt(task),
                "manifest.cbor asks for no such task",
            ));
        }
        let signed = self.check_receipt(task)?;
        self.check_objects()?;
        Ok(signed)
    }

    /// Verifies the receipt of a task: signatures, request, decisions. Its objects are noted for later.
    pub(super) fn check_receipt(&mut self, task: u32) -> Result<SignedReceipt> {
        let part = Part::Receipt(task);
        let bytes = self.read(part, MAX_RECEIPT_BYTES)?;
        let signed = SignedReceipt::open(&bytes).map_err(|fault| invalid(part, fault.message()))?;
        let receipt = signed.receipt();
        let request = self.manifest.task(task)?;
        check_executor(part, &receipt.executor, self.pins)?;
        self.check_request(part, receipt, &request)?;
        self.check_exit(part, receipt)?;
        let run_intent = request.intent()?.digest();
        self.check_decision(
            part,
            "decision",
            &receipt.decision,
            receipt.executor,
            run_intent,
        )?;
        let submit_intent = self.submit_intent;
        self.check_decision(
            part,
            "submitter_decision",
            &receipt.submitter_decision,
            receipt.submitter,
            submit_intent,
        )?;
        self.note_objects(part, receipt)?;
        *self
            .ends
            .entry(receipt.outcome.status.as_str())
            .or_default() += 1;
        self.inspected += u32::from(receipt.inspected);
        self.executors.insert(receipt.executor);
        Ok(signed)
    }

    /// The receipt answers exactly the request that follows from the manifest.
    fn check_request(&self, part: Part, receipt: &Receipt, request: &RunRequest) -> Result<()> {
        if receipt.manifest_cid != *self.manifest.cid() {
            return Err(invalid(
                part,
                format_args!(
                    "belongs to manifest {}, not to manifest.cbor",
                    receipt.manifest_cid
                ),
            ));
        }
        if let Some(field) = Asked::told_by(receipt).difference(&Asked::by(request)?) {
            return Err(invalid(
                part,
                format_args!(
                    "{field} is not what manifest.cbor asks of task {}",
                    request.task_index
                ),
            ));
        }
        check_lease(part, receipt, request)?;
        check_outputs(part, &receipt.outcome, request)
    }

    /// An executor numbers every exit once.
    fn check_exit(&mut self, part: Part, receipt: &Receipt) -> Result<()> {
        if self.exits.insert((receipt.executor, receipt.sequence)) {
            return Ok(());
        }
        let why = format_args!(
            "{} gave exit number {} to two receipts",
            receipt.executor, receipt.sequence
        )
        .to_string();
        Err(invalid(part, why))
    }

    /// The decision is on that intent, and its trace says the same under that signer's signature.
    fn check_decision(
        &mut self,
        by: Part,
        field: &str,
        told: &DecisionRef,
        signer: PeerId,
        intent: Sha256,
    ) -> Result<()> {
        if told.intent_digest != intent {
            return Err(invalid(
                by,
                format_args!(
                    "{field} is on another intent than the one that follows from manifest.cbor"
                ),
            ));
        }
        if *told == self.decision(told.trace_cid, signer)? {
            return Ok(());
        }
        Err(invalid(
            Part::Decision(told.trace_cid),
            format_args!("says something else than {by}"),
        ))
    }

    /// The decision in a trace, verified with the signer's key.
    fn decision(&mut self, cid: Cid, signer: PeerId) -> Result<DecisionRef> {
        if let Some(known) = self.decisions.get(&(cid, signer)) {
            return Ok(known.clone());
        }
        let part = Part::Decision(cid);
        let bytes = self.read(part, MAX_TRACE_BYTES)?;
        if !cid.matches(&bytes) {
            return Err(changed(part, "not the bytes that its name stands for"));
        }
        let decision = open_decision(part, &bytes, &signer)?;
        self.decisions.insert((cid, signer), decision.clone());
        Ok(decision)
    }

    fn note_objects(&mut self, by: Part, receipt: &Receipt) -> Result<()> {
        let Outcome {
            stdout_cid,
            stderr_cid,
            outputs,
            ..
        } = &receipt.outcome;
        let read = [receipt.workload_cid, *stdout_cid, *stderr_cid]
            .into_iter()
            .chain(receipt.stdin);
        let unsized_ones = read
            .chain(receipt.inputs.iter().map(|input| input.cid))
            .map(|cid| (cid, None));
        for (cid, size) in
            unsized_ones.chain(outputs.iter().map(|output| (output.cid, Some(output.size))))
        {
            if self.objects.len() > MAX_FILES {
                return Err(too_large("objects", format_args!("{MAX_FILES} files")));
            }
            let claim = self.objects.entry(cid).or_insert(Claim { size, by });
            match (claim.size, size) {
                (Some(one), Some(other)) if one != other => {
                    return Err(invalid(
                        by,
                        format_args!("says that {cid} has {other} bytes, {} says {one}", claim.by),
                    ));
                }
                (None, Some(_)) => *claim = Claim { size, by },
                _ => {}
            }
        }
        Ok(())
    }

    /// Every file is there because something refers to it.
    fn check_nothing_else(&self) -> Result<()> {
        match self
            .index
            .names()
            .find(|name| !self.referred.contains(*name))
        {
            Some(name) => Err(unexpected(name, "nothing in the bundle refers to it")),
            None => Ok(()),
        }
    }

    /// Verifies every object that was noted.
    fn check_objects(&mut self) -> Result<()> {
        for (cid, claim) in std::mem::take(&mut self.objects) {
            let name = Part::Object(cid).to_string();
            let size = match self.parts.get(&name) {
                Some(checked) => checked.bytes,
                None => self.check_object(cid)?,
            };
            if claim.size.is_some_and(|told| told != size) {
                return Err(invalid(
                    claim.by,
                    format_args!("tells another size of {name} than its {size} bytes"),
                ));
            }
            self.referred.insert(name);
        }
        Ok(())
    }

    /// Verifies that an object has the bytes its name stands for, and returns how many.
    pub(super) fn check_object(&mut self, cid: Cid) -> Result<u64> {
        let part = Part::Object(cid);
        let (digest, size) = self.folder.digest(part, MAX_OBJECT_BYTES)?;
        if digest != cid.digest() {
            return Err(changed(part, "not the bytes that its name stands for"));
        }
        self.index.check(part, digest)?;
        self.bytes_left = self
            .bytes_left
            .checked_sub(size)
            .ok_or_else(|| too_large("objects", format_args!("{MAX_TOTAL_BYTES} bytes")))?;
        self.checked(part, digest, size);
        Ok(size)
    }

    /// The bytes of a part that something refers to, as the submitter signed for them.
    fn read(&mut self, part: Part, limit: usize) -> Result<Vec<u8>> {
        let bytes = self.folder.read(part, limit)?;
        let digest = Sha256::of(&bytes);
        self.index.check(part, digest)?;
        self.checked(part, digest, bytes.len() as u64);
        self.referred.insert(part.to_string());
        Ok(bytes)
    }

    fn checked(&mut self, part: Part, sha256: Sha256, bytes: u64) {
        let name = part.to_string();
        self.parts.insert(
            name.clone(),
            CheckedPart {
                name,
                sha256,
                bytes,
            },
        );
    }
}

/// Verifies a manifest, and its submitter if one is expected.
pub(super) fn open_manifest(bytes: &[u8], pins: &Pins) -> Result<VerifiedManifest> {
    let manifest =
        VerifiedManifest::open(bytes).map_err(|fault| invalid(Part::Manifest, fault.message()))?;
    match &pins.submitter {
        Some(expected) if expected != manifest.submitter() => {
            let why = format!("its submitter is {}, not {expected}", manifest.submitter());
            Err(invalid(Part::Manifest, why))
        }
        _ => Ok(manifest),
    }
}

/// The executor is among those expected, if any are.
pub(super) fn check_executor(
    part: impl std::fmt::Display,
    executor: &PeerId,
    pins: &Pins,
) -> Result<()> {
    if pins.executors.is_empty() || pins.executors.contains(executor) {
        return Ok(());
    }
    Err(invalid(
        part,
        format_args!("its executor {executor} is none of those expected"),
    ))
}

/// The decision in a trace, verified with the signer's key.
pub(super) fn open_decision(
    part: impl std::fmt::Display,
    bytes: &[u8],
    signer: &PeerId,
) -> Result<DecisionRef> {
    let trace = gait::trace::verify(bytes, &signer.verifying_key()).map_err(|fault| {
        invalid(
            part,
            format_args!("not a decision signed by {signer}: {}", fault.message()),
        )
    })?;
    Ok(DecisionRef {
        trace_id: trace.trace_id().to_owned(),
        policy_digest: trace.policy_digest(),
        intent_digest: trace.intent_digest(),
        verdict: trace.verdict(),
        trace_cid: Cid::raw(bytes),
    })
}

/// The lease is one of this task, and of this attempt at it.
fn check_lease(part: Part, receipt: &Receipt, request: &RunRequest) -> Result<()> {
    let lease: Option<LeaseId> = receipt.lease_id.parse().ok();
    let same = |lease: LeaseId| {
        lease.task.job.to_string() == request.job_id
            && lease.task.index == request.task_index
            && lease.attempt == receipt.attempt
    };
    if lease.is_some_and(same) {
        Ok(())
    } else {
        Err(invalid(part, "lease_id is not a lease of this task"))
    }
}

/// A task that succeeded left behind what was asked for, in order and within its limits.
fn check_outputs(part: Part, outcome: &Outcome, request: &RunRequest) -> Result<()> {
    if outcome.status != Status::Succeeded {
        return Ok(());
    }
    let asked = request.outputs.iter();
    if !outcome
        .outputs
        .iter()
        .map(|output| &output.name)
        .eq(asked.clone().map(|output| &output.name))
    {
        return Err(invalid(
            part,
            "the outputs are not those that manifest.cbor asks for",
        ));
    }
    match outcome
        .outputs
        .iter()
        .zip(asked)
        .find(|(left, asked)| left.size > asked.max_bytes)
    {
        Some((output, _)) => Err(invalid(
            part,
            format_args!("the output {:?} exceeds its limit", output.name),
        )),
        None => Ok(()),
    }
}
