//! One fixture: a runpack, and what a run like it is expected to do.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use worldcompute_durable::read_bounded;
use worldcompute_fault::{Category, Fault, Result};

use super::config::{Listed, parse};
use super::trajectory::verdict;
use crate::in_file::InFile;
use crate::limits::{MAX_REGRESS_BYTES, invalid};
use crate::record::is_digest;
use crate::runpack::{Runpack, Stamp};
use crate::text::{sorted_set, trim_lower};

/// The file that says what is expected.
pub(super) const META: &str = "fixture.json";
/// The runpack beside it.
pub(super) const RUNPACK: &str = "runpack.zip";

/// A fixture that was loaded and found to fit together.
#[derive(Clone, Debug)]
pub struct Fixture {
    pub(super) name: String,
    pub(super) run_id: String,
    pub(super) runpack: PathBuf,
    pub(super) created_at: Stamp,
    pub(super) meta: Meta,
}

/// What is expected.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Meta {
    pub(super) schema_id: String,
    pub(super) schema_version: String,
    pub(super) name: String,
    pub(super) run_id: String,
    pub(super) runpack: String,
    pub(super) expected_replay_exit_code: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) expected_tool_sequence: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) expected_verdict_sequence: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) candidate_runpack: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) context_conformance: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) allow_context_runtime_drift: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) expected_context_set_digest: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) diff_allow_changed_files: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) session_chain: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) checkpoint_index: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(index: &u64) -> bool {
    *index == 0
}

impl Fixture {
    pub(super) fn load(listed: &Listed) -> Result<Self> {
        let name = &listed.name;
        if name.trim().is_empty() {
            return Err(invalid("fixture name is required"));
        }
        if listed.runpack.trim().is_empty() {
            return Err(invalid(format!("fixture runpack is required for {name}")));
        }
        let runpack = PathBuf::from(&listed.runpack);
        let run = Runpack::open(&runpack)
            .and_then(|pack| pack.run())
            .map_err(|fault| unusable(&format!("read fixture runpack for {name}"), fault))?;
        let meta = Meta::load(&runpack.with_file_name(META))
            .map_err(|fault| unusable(&format!("read fixture metadata for {name}"), fault))?;
        let checks = [
            (meta.name == *name, "fixture metadata name mismatch"),
            (
                listed.run_id.is_empty() || meta.run_id == listed.run_id,
                "fixture run_id mismatch",
            ),
            (run.run_id == meta.run_id, "runpack run_id mismatch"),
        ];
        if let Some((_, why)) = checks.iter().find(|(holds, _)| !holds) {
            return Err(invalid(format!("{why} for {name}")));
        }
        Ok(Self {
            name: name.clone(),
            run_id: run.run_id,
            runpack,
            created_at: run.created_at,
            meta,
        })
    }

    /// Whether it asks for proof of what the run read.
    pub(super) fn asks_context(&self) -> bool {
        self.meta.context_conformance == "required"
            || !self.meta.expected_context_set_digest.is_empty()
    }

    /// The files that are read.
    pub(super) fn files(&self) -> [PathBuf; 3] {
        let meta = self.runpack.with_file_name(META);
        [self.runpack.clone(), self.candidate(), meta]
    }

    /// The runpack that is graded against the fixture: itself, unless another is named.
    pub(super) fn candidate(&self) -> PathBuf {
        match self.meta.candidate_runpack.trim() {
            "" => self.runpack.clone(),
            candidate => self.runpack.with_file_name(candidate),
        }
    }
}

impl Meta {
    /// Reads what is expected, in one spelling.
    pub(super) fn load(path: &Path) -> Result<Self> {
        let bytes = read_bounded(path, MAX_REGRESS_BYTES as u64)?;
        let meta =
            parse(&bytes, "fixture metadata").and_then(|meta: Self| meta.normal().map_err(invalid));
        meta.in_file(path)
    }

    fn normal(mut self) -> Result<Self, String> {
        if self.name.is_empty() || self.run_id.is_empty() || self.runpack.is_empty() {
            return Err("fixture metadata incomplete".to_owned());
        }
        if self.expected_replay_exit_code < 0 {
            return Err("fixture expected_replay_exit_code must be >= 0".to_owned());
        }
        self.context_conformance = trim_lower(&self.context_conformance);
        if !["", "required", "none"].contains(&self.context_conformance.as_str()) {
            return Err("fixture context_conformance must be one of required|none".to_owned());
        }
        self.expected_context_set_digest = self.expected_context_set_digest.trim().to_owned();
        let digest = &self.expected_context_set_digest;
        if !digest.is_empty() && !is_digest(digest) {
            return Err("fixture expected_context_set_digest must be sha256 hex".to_owned());
        }
        self.diff_allow_changed_files = sorted_set(&self.diff_allow_changed_files);
        self.expected_tool_sequence = said(&self.expected_tool_sequence);
        let verdicts = said(&self.expected_verdict_sequence);
        let verdicts: Result<Vec<String>, String> =
            verdicts.iter().map(|text| known(text)).collect();
        self.expected_verdict_sequence =
            verdicts.map_err(|why| format!("fixture expected_verdict_sequence invalid: {why}"))?;
        Ok(self)
    }
}

/// The texts that are not blank, trimmed.
fn said(texts: &[String]) -> Vec<String> {
    let texts = texts.iter().map(|text| text.trim().to_owned());
    texts.filter(|text| !text.is_empty()).collect()
}

fn known(text: &str) -> Result<String, String> {
    verdict(text)
        .map(str::to_owned)
        .ok_or_else(|| format!("invalid verdict {text:?}"))
}

/// A fixture is what the caller names: one that is missing or damaged is a mistake of theirs.
fn unusable(action: &str, fault: Fault) -> Fault {
    match (fault.category(), fault.code()) {
        (Category::VerificationFailed, _) | (_, "not_found") => {
            invalid(format!("{action}: {}", fault.message())).because(
                "fixture_unusable",
                "restore the fixture from version control, or make it anew with gait regress init",
            )
        }
        (Category::InvalidInput, _) => invalid(format!("{action}: {}", fault.message())),
        _ => fault,
    }
}
