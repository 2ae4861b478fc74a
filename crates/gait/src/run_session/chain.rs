//! The checkpoints of a session, one hanging on the other.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use worldcompute_durable::read_bounded;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::parse_json_within;

use super::journal::Journal;
use super::record::{CHECKPOINT_SCHEMA_ID, Checkpoint, VERSION};
use super::relation::Relation;
use crate::artefact;
use crate::in_file::InFile;
use crate::limits::{MAX_CHAIN_BYTES, invalid};
use crate::record::json_file;
use crate::runpack::{self, Requirements, SignatureStatus, Stamp};
use crate::signature::unverified;
use crate::verifier::Finding;

pub(crate) const SCHEMA_ID: &str = "gait.runpack.session_chain";

/// The checkpoints of a session, first to last.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Chain {
    schema_id: String,
    schema_version: String,
    created_at: Stamp,
    producer_version: String,
    pub session_id: String,
    pub run_id: String,
    pub checkpoints: Vec<Checkpoint>,
}

/// What is wrong with a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChainReport {
    pub session_id: String,
    pub run_id: String,
    pub checkpoints_checked: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub linkage_errors: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checkpoint_errors: Vec<String>,
}

impl Chain {
    pub(super) fn of(journal: Journal, last: Checkpoint) -> Result<Self> {
        let header = journal.header()?.clone();
        let mut checkpoints = journal.checkpoints;
        checkpoints.push(last);
        Ok(Self {
            schema_id: SCHEMA_ID.to_owned(),
            schema_version: VERSION.to_owned(),
            created_at: header.created_at,
            producer_version: header.producer_version,
            session_id: header.session_id,
            run_id: header.run_id,
            checkpoints,
        })
    }

    /// Whether `reference` names the file of a chain, and not a runpack or a run: it ends in `.json`.
    pub fn is_named_by(reference: &str) -> bool {
        reference.trim().to_ascii_lowercase().ends_with(".json")
    }

    /// Reads the chain at `path`.
    ///
    /// # Errors
    /// `verification_failed` for what is no chain; the refusals of the disk.
    pub fn load(path: &Path) -> Result<Self> {
        Self::parse(&read_bounded(path, MAX_CHAIN_BYTES as u64)?).in_file(path)
    }

    /// Reads the chain at `path`, whose checkpoints hang on each other without a gap.
    ///
    /// # Errors
    /// Those of [`Chain::load`]; `verification_failed` (reason `session_chain_broken`) for a broken link.
    pub fn linked(path: &Path) -> Result<Self> {
        let chain = Self::load(path)?;
        match chain.linkage_errors().into_iter().next() {
            None => Ok(chain),
            Some(why) => Err(broken(&why)),
        }
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let value = parse_json_within(bytes, MAX_CHAIN_BYTES)
            .map_err(|fault| unverified(format!("parse session chain: {}", fault.message())))?;
        let chain: Self = serde_json::from_value(value)
            .map_err(|error| unverified("parse session chain").caused_by(error))?;
        if chain.schema_id != SCHEMA_ID || chain.schema_version != VERSION {
            return Err(unverified("unsupported session chain schema"));
        }
        let is_known = |one: &Checkpoint| {
            one.schema_id == CHECKPOINT_SCHEMA_ID && one.schema_version == VERSION
        };
        if !chain.checkpoints.iter().all(is_known) {
            return Err(unverified("unsupported session checkpoint schema"));
        }
        if chain.session_id.is_empty() || chain.run_id.is_empty() {
            return Err(unverified("session chain missing session_id/run_id"));
        }
        match chain.checkpoints.is_empty() {
            true => Err(unverified("session chain has no checkpoints")),
            false => Ok(chain),
        }
    }

    /// Writes the chain to `path`.
    ///
    /// # Errors
    /// Those of writing.
    pub fn write(&self, path: &Path) -> Result<()> {
        artefact::write(path, &json_file(self)?)
    }

    /// Where the chain of a journal goes unless told otherwise: beside it, as `<name>_chain.json`.
    pub fn beside(journal: &Path) -> PathBuf {
        let stem = journal
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or("session");
        journal.with_file_name(format!("{stem}_chain.json"))
    }

    /// The checkpoint that `reference` names: `latest` or its number.
    ///
    /// # Errors
    /// `invalid_input` when there is none.
    pub fn checkpoint(&self, reference: &str) -> Result<&Checkpoint> {
        let reference = reference.trim();
        if reference.is_empty() || reference.eq_ignore_ascii_case("latest") {
            return self
                .checkpoints
                .last()
                .ok_or_else(|| invalid("session chain has no checkpoints"));
        }
        let index: u64 = reference
            .parse()
            .map_err(|_| invalid(format!("invalid checkpoint reference: {reference}")))?;
        let mut checkpoints = self.checkpoints.iter();
        checkpoints
            .find(|checkpoint| checkpoint.checkpoint_index == index)
            .ok_or_else(|| invalid(format!("checkpoint {index} not found")))
    }

    /// [`Chain::checkpoint`], whose runpack is there and is the one that was chained.
    ///
    /// # Errors
    /// Those of [`Chain::checkpoint`]; `verification_failed` (reason `session_chain_broken`) for a runpack that is
    /// missing, damaged or another one.
    pub fn sound_checkpoint(&self, reference: &str) -> Result<&Checkpoint> {
        let checkpoint = self.checkpoint(reference)?;
        match content(checkpoint, &Requirements::default())?.first() {
            None => Ok(checkpoint),
            Some(why) => Err(broken(why)),
        }
    }

    fn linkage_errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        let mut last = &Checkpoint::default();
        for (position, checkpoint) in self.checkpoints.iter().enumerate() {
            if (&checkpoint.session_id, &checkpoint.run_id) != (&self.session_id, &self.run_id) {
                errors.push(format!(
                    "checkpoint {} of another session",
                    checkpoint.checkpoint_index
                ));
            }
            errors.extend(linkage(position, checkpoint, last));
            last = checkpoint;
        }
        errors
    }
}

fn broken(why: &str) -> Fault {
    unverified(format!("session chain: {why}")).because(
        "session_chain_broken",
        "see all that is wrong with gait verify session-chain --chain <session_chain.json>",
    )
}

impl ChainReport {
    /// Whether nothing is wrong.
    pub fn holds(&self) -> bool {
        self.linkage_errors.is_empty() && self.checkpoint_errors.is_empty()
    }

    /// What is wrong, checkpoint by checkpoint.
    pub fn findings(&self) -> Vec<Finding> {
        let errors = self.linkage_errors.iter().chain(&self.checkpoint_errors);
        errors.cloned().map(Finding::Checkpoint).collect()
    }
}

/// Verifies the chain at `path` and the runpack of every checkpoint.
///
/// # Errors
/// Those of [`Chain::load`]; the refusals of the disk that are not about one runpack.
pub fn verify_chain(path: &Path, requirements: &Requirements<'_>) -> Result<ChainReport> {
    let chain = Chain::load(path)?;
    let mut checkpoint_errors = Vec::new();
    for checkpoint in &chain.checkpoints {
        checkpoint_errors.extend(content(checkpoint, requirements)?);
    }
    Ok(ChainReport {
        checkpoints_checked: chain.checkpoints.len(),
        linkage_errors: chain.linkage_errors(),
        checkpoint_errors,
        session_id: chain.session_id,
        run_id: chain.run_id,
    })
}

/// What is wrong between a checkpoint and the one before.
fn linkage(position: usize, checkpoint: &Checkpoint, last: &Checkpoint) -> Vec<String> {
    let index = checkpoint.checkpoint_index;
    let is_itself = checkpoint.checkpoint_digest == checkpoint.digest();
    let checks = [
        (
            index == last.checkpoint_index.saturating_add(1),
            format!("checkpoint index mismatch at position {position}"),
        ),
        (
            checkpoint.prev_checkpoint_digest == last.checkpoint_digest,
            format!("prev_checkpoint_digest mismatch at checkpoint {index}"),
        ),
        (
            checkpoint.sequence_start > last.sequence_end,
            format!("sequence overlap at checkpoint {index}"),
        ),
        (
            checkpoint.sequence_start <= last.sequence_end.saturating_add(1),
            format!("sequence gap at checkpoint {index}"),
        ),
        (
            checkpoint.sequence_end >= checkpoint.sequence_start,
            format!("sequence range empty at checkpoint {index}"),
        ),
        (
            is_itself,
            format!("checkpoint_digest mismatch at checkpoint {index}"),
        ),
        // Its digest does not cover this, and all of it follows from what the digest covers.
        (
            !is_itself || tells_its_relations(checkpoint),
            format!("relationship mismatch at checkpoint {index}"),
        ),
    ];
    let failed = checks.into_iter().filter(|(holds, _)| !holds);
    failed.map(|(_, error)| error).collect()
}

/// Or tells none.
fn tells_its_relations(checkpoint: &Checkpoint) -> bool {
    let relations = || Relation::of_checkpoint(checkpoint, &checkpoint.runpack_run_id());
    let told = checkpoint.relationship.as_ref();
    told.is_none_or(|told| *told == relations())
}

/// What is wrong with the runpack of a checkpoint.
fn content(checkpoint: &Checkpoint, requirements: &Requirements<'_>) -> Result<Vec<String>> {
    let index = checkpoint.checkpoint_index;
    let report = match runpack::verify(Path::new(&checkpoint.runpack_path), requirements) {
        Ok(report) => report,
        Err(fault)
            if fault.category() == Category::VerificationFailed || fault.code() == "not_found" =>
        {
            return Ok(vec![format!(
                "checkpoint {index} verify error: {}",
                fault.message()
            )]);
        }
        Err(fault) => return Err(fault),
    };
    let unsigned = match report.signature_status {
        SignatureStatus::Verified => false,
        SignatureStatus::Missing => requirements.signature || requirements.key.is_some(),
        SignatureStatus::Skipped => requirements.signature,
        SignatureStatus::Failed => true,
    };
    let checks = [
        (
            report.manifest_digest == checkpoint.manifest_digest,
            "manifest digest mismatch",
        ),
        // The chain is not signed, the runpack is: it says which checkpoint of which session it is, made when by whom.
        (
            report.run_id == checkpoint.runpack_run_id()
                && report.created_at == checkpoint.created_at
                && report.producer_version == checkpoint.producer_version,
            "is not the one that its runpack was made for",
        ),
        (report.holds() || unsigned, "runpack integrity failure"),
        (!unsigned, "signature verification failed"),
    ];
    let failed = checks.into_iter().filter(|(holds, _)| !holds);
    Ok(failed
        .map(|(_, what)| format!("checkpoint {index} {what}"))
        .collect())
}
