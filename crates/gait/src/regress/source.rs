//! What becomes a fixture: a runpack, a checkpoint of a session, or what a capture receipt names.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use worldcompute_durable::read_bounded;
use worldcompute_fault::{Fault, Result};
use worldcompute_proof::parse_json_within;

use crate::environment::Environment;
use crate::limits::{MAX_CHAIN_BYTES, invalid};
use crate::run_session::{Chain, Checkpoint};
use crate::runpack;

const RECEIPT: &str = "gait.capture.receipt";
const RECEIPT_VERSION: &str = "1.0.0";

/// A runpack that a fixture is made of, and where it comes from.
#[derive(Clone, Debug)]
pub struct Source {
    pub(super) runpack: PathBuf,
    /// The chain it is a checkpoint of, and which one.
    pub(super) checkpoint: Option<(PathBuf, u64)>,
    /// The run that it has to be of, if somebody said so.
    pub(super) run_id: Option<String>,
}

/// What `gait capture` writes: where a captured run lies.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Receipt {
    schema_version: String,
    ok: bool,
    artifact_type: String,
    artifact_path: String,
    session_chain_path: String,
    run_id: String,
}

impl Source {
    /// The run that `reference` names: by id or path, as the checkpoint `checkpoint` of the session chain at a path that
    /// ends in `.json`, or through the capture receipt there.
    ///
    /// # Errors
    /// `invalid_input` for what names no run; `verification_failed` for a chain or a checkpoint that does not hold; the
    /// refusals of the disk.
    pub fn find(reference: &str, checkpoint: &str, environment: &dyn Environment) -> Result<Self> {
        let reference = reference.trim();
        if !Chain::is_named_by(reference) {
            return Ok(Self::of(runpack::locate(reference, environment)?));
        }
        let path = Path::new(reference);
        let bytes = read_bounded(path, MAX_CHAIN_BYTES as u64)?;
        let value = parse_json_within(&bytes, MAX_CHAIN_BYTES)
            .map_err(|fault| invalid(format!("parse {reference}: {}", fault.message())))?;
        match value.get("schema_id").and_then(Value::as_str) {
            Some(RECEIPT) => Self::captured(value),
            _ => Self::of_session(path, |chain| chain.sound_checkpoint(checkpoint)),
        }
    }

    /// What the receipt names.
    fn captured(receipt: Value) -> Result<Self> {
        let receipt: Receipt = serde_json::from_value(receipt)
            .map_err(|error| invalid("parse capture receipt").caused_by(error))?;
        receipt.check()?;
        let run_id = Some(receipt.run_id.trim()).filter(|id| !id.is_empty());
        if receipt.session_chain_path.trim().is_empty() {
            return Ok(Self {
                run_id: run_id.map(str::to_owned),
                ..Self::of(PathBuf::from(receipt.artifact_path.trim()))
            });
        }
        let path = Path::new(receipt.session_chain_path.trim());
        Self::of_session(path, |chain| {
            if run_id.is_some_and(|id| id != chain.run_id) {
                return Err(another_run(&receipt.run_id, &chain.run_id));
            }
            receipt.checkpoint_of(chain)
        })
    }

    fn of(runpack: PathBuf) -> Self {
        Self {
            runpack,
            checkpoint: None,
            run_id: None,
        }
    }

    fn of_session(path: &Path, choose: impl FnOnce(&Chain) -> Result<&Checkpoint>) -> Result<Self> {
        let chain = Chain::linked(path)?;
        let checkpoint = choose(&chain)?;
        Ok(Self {
            runpack: PathBuf::from(&checkpoint.runpack_path),
            checkpoint: Some((path.to_owned(), checkpoint.checkpoint_index)),
            run_id: None,
        })
    }
}

impl Receipt {
    fn check(&self) -> Result<()> {
        if self.schema_version != RECEIPT_VERSION {
            let version = &self.schema_version;
            return Err(invalid(format!(
                "unsupported capture receipt schema_version {version:?}"
            )));
        }
        if !self.ok {
            return Err(invalid("the capture receipt is of a capture that failed"));
        }
        if self.artifact_type != "runpack" {
            return Err(invalid(format!(
                "capture receipt artifact_type {:?} is not supported by regress add",
                self.artifact_type
            )));
        }
        match self.artifact_path.trim() {
            "" => Err(invalid("capture receipt artifact_path is required")),
            _ => Ok(()),
        }
    }

    fn checkpoint_of<'c>(&self, chain: &'c Chain) -> Result<&'c Checkpoint> {
        let path = self.artifact_path.trim();
        let mut checkpoints = chain.checkpoints.iter();
        let named = checkpoints.find(|checkpoint| checkpoint.runpack_path == path);
        let named = named.ok_or_else(|| {
            invalid(format!(
                "capture receipt names {path}, which is no checkpoint of its session chain"
            ))
        })?;
        chain.sound_checkpoint(&named.checkpoint_index.to_string())
    }
}

/// The runpack is not of the run that was asked for.
pub(super) fn another_run(expected: &str, found: &str) -> Fault {
    invalid(format!(
        "capture receipt names run {expected}, and its artifact is of run {found}"
    ))
}
