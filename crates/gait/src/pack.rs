//! Packs (PackSpec v1): the evidence of a run, a job, a call or an authorization in one zip that anyone can verify.
//!
//! A pack holds its evidence, a chain of proof records over it (`proof_records.jsonl`) and a manifest that declares
//! every entry (`pack_manifest.json`). The pack's id is the digest of its manifest, so it names the content. What is
//! not declared, not as declared, or not there fails verification. Runpacks and guard packs are read as well.
//!
//! Everything is streamed: neither a long run nor a large entry is ever held in memory.

mod assemble;
mod authorization;
mod call;
mod diff;
mod export;
mod inspect;
mod job;
mod manifest;
mod open;
mod payload;
mod proof_records;
mod refs;
mod run;
mod verify;

pub(crate) use assemble::{Part, write_parts};
pub use authorization::Bundle;
pub use authorization::build_authorization;
pub use call::build_call;
pub use diff::{Diff, DiffSummary, diff};
pub use export::{Export, ExportMetrics, append_otel, export, postgres_sql};
pub use inspect::{
    AuthorizationPayload, CheckpointRef, Inspection, IntentResult, JobLineage, RunLineage, inspect,
};
pub use job::build_job;
pub use manifest::{Entry, Manifest, PackType};
pub(crate) use open::sound_runpack;
pub use open::{Pack, open};
pub use payload::{CallPayload, JobPayload, RunPayload};
pub(crate) use run::RunFacts;
pub use run::build_run;
pub use verify::{Report, VerifyOptions, verify};
pub(crate) use verify::{compare, verify_archive};

use std::path::{Path, PathBuf};

pub use crate::runpack::{HashMismatch, SignatureStatus};
use worldcompute_fault::Result;
use worldcompute_proof::SigningKey;

/// The manifest's name in a pack.
pub const MANIFEST_NAME: &str = "pack_manifest.json";
/// The type that a guard pack is reported with.
pub(crate) const GUARD: &str = "guard";
/// The proof records' name in a pack.
pub const PROOF_RECORDS_NAME: &str = "proof_records.jsonl";
/// The name of a run's own runpack in a pack.
pub const SOURCE_NAME: &str = "source/runpack.zip";

/// Where a pack goes and who vouches for it.
#[derive(Clone, Copy)]
pub struct Build<'a> {
    /// The file to write; `None` for `pack_<id>.zip` beside the source.
    pub output: Option<&'a Path>,
    /// The program's version.
    pub producer_version: &'a str,
    /// The key that signs manifest and proof records, if any.
    pub key: Option<&'a SigningKey>,
}

/// A pack that was just written.
#[derive(Clone, Debug)]
pub struct Built {
    /// Where it is.
    pub path: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
}

impl Build<'_> {
    /// Writes the pack of these parts, in `fallback` unless a path was given.
    fn write(
        &self,
        pack_type: PackType,
        source_ref: &str,
        parts: Vec<Part>,
        fallback: &Path,
    ) -> Result<Built> {
        let mut parts = parts;
        let proof = proof_records::build(pack_type, source_ref, self, &parts)?;
        parts.push(Part::bytes(PROOF_RECORDS_NAME, proof));
        let manifest = Manifest::of(pack_type, source_ref, self, &parts)?;
        let path = match self.output {
            Some(path) => path.to_owned(),
            None => fallback.join(format!("pack_{}.zip", manifest.pack_id)),
        };
        parts.push(Part::json(MANIFEST_NAME, &manifest)?);
        write_parts(&path, parts)?;
        Ok(Built { path, manifest })
    }
}
