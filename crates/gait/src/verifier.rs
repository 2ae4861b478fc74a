//! One verifier for whatever the gate leaves behind: what a file is follows from its content, never from its name.
//!
//! ```text
//! file ─► Artefact::recognise ─► Artefact::verify ─► Verified (what it is, what was checked, what is wrong)
//!                └► None: not of the gate
//! ```
//!
//! `gait verify` and `worldcompute verify` are two faces of it: what one refuses, the other refuses, with the same
//! findings. Nothing is executed, no socket is opened, and archives are read in constant memory.

mod finding;
mod form;

use std::path::{Path, PathBuf};

use serde::Serialize;
use worldcompute_durable::read_bounded;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{Sha256, VerifyingKey};

pub use crate::runpack::Requirements;
pub use finding::Finding;

use crate::archive::Archive;
use crate::limits::MAX_TRACE_BYTES;
use crate::pack::{self, VerifyOptions};
use crate::run_session::{self, ChainReport};
use crate::runpack;
use crate::session;
use crate::signature::unverified;
use crate::trace;
use crate::verdict::Verdict;
use form::{Form, Head};

/// A file that the gate made, before it is verified.
#[derive(Clone, Debug)]
pub struct Artefact {
    path: PathBuf,
    head: Head,
}

/// What a file was found to be, and what its verification found. [`Verified::holds`] is the verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "artefact", rename_all = "snake_case")]
pub enum Verified {
    /// A run.
    Runpack(runpack::Report),
    /// A pack of a run, a job, a call or an authorization.
    Pack(pack::Report),
    /// The evidence of a run for an auditor.
    GuardPack(pack::Report),
    /// One decision.
    Trace(SignedDecision),
    /// The numbered decisions of a session.
    Session(SignedSession),
    /// The checkpoints of a session, each with its runpack.
    SessionChain(ChainReport),
}

/// A decision whose signature holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names are those of the format")]
pub struct SignedDecision {
    pub trace_id: String,
    pub tool_name: String,
    pub verdict: Verdict,
    /// What would have been decided, if this was a simulation and decided nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub simulated_verdict: Option<Verdict>,
    pub intent_digest: Sha256,
    pub policy_digest: Sha256,
    pub key_id: String,
    pub signature_status: runpack::SignatureStatus,
}

/// A session of which every record holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SignedSession {
    /// How many decisions it has.
    pub decisions: u64,
    /// Whether its end is signed; records may be missing from the end of one that is open.
    pub closed: bool,
    /// The hex SHA-256 of the public key that signed.
    pub key_id: String,
    /// Always verified.
    pub signature_status: runpack::SignatureStatus,
}

/// Verifies the file at `path`.
///
/// # Errors
/// `verification_failed` (reason `artefact_unknown`) for what is not of the gate; those of [`Artefact::recognise`] and
/// [`Artefact::verify`].
pub fn verify(path: &Path, requirements: &Requirements<'_>) -> Result<Verified> {
    match Artefact::recognise(path)? {
        Some(artefact) => artefact.verify(requirements),
        None => Err(unknown(path)),
    }
}

impl Artefact {
    /// Looks at the file at `path`; `None` when it is nothing that the gate makes. A damaged archive is taken for one
    /// of the gate: no one else makes any.
    ///
    /// # Errors
    /// The refusals of the disk; `not_a_file` for a pipe, a device or a directory.
    pub fn recognise(path: &Path) -> Result<Option<Self>> {
        let head = Head::of(path)?;
        Ok(head.map(|head| Self {
            path: path.to_owned(),
            head,
        }))
    }

    /// Whether it says that it is one decision.
    pub(crate) fn is_trace(&self) -> bool {
        self.head.form == Form::Trace
    }

    /// Whether it is an archive.
    pub(crate) fn is_archive(&self) -> bool {
        self.head.form == Form::Archive
    }

    /// The hex SHA-256 of the public key that a decision or a session claims to be signed with: a claim, good for
    /// choosing the key to verify it with. `None` for what can be verified without a key.
    pub fn claimed_key(&self) -> Option<&str> {
        self.head.claimed_key.as_deref()
    }

    /// Verifies it. Missing, changed and undeclared entries and signatures that do not hold are in the result.
    ///
    /// # Errors
    /// `verification_failed` and the codes of sessions for what is damaged beyond listing; `invalid_input` (reason
    /// `verify_key_required`) for decisions and sessions without a key; `evidence_unproven` for records that are not
    /// signed; the refusals of the disk.
    pub fn verify(&self, requirements: &Requirements<'_>) -> Result<Verified> {
        match self.head.form {
            Form::Archive => self.archive(requirements),
            Form::Trace => self.trace(self.key(requirements)?),
            Form::Session => self.session(self.key(requirements)?),
            Form::SessionChain => {
                let report = run_session::verify_chain(&self.path, requirements)?;
                Ok(Verified::SessionChain(report))
            }
            Form::UnsignedRecord => Err(unsigned_record(&self.head.schema_id)),
        }
    }

    fn archive(&self, requirements: &Requirements<'_>) -> Result<Verified> {
        let archive = Archive::open(&self.path)?;
        if archive.entry(pack::MANIFEST_NAME).is_none() {
            let report = runpack::verify_archive(&archive, requirements)?;
            return Ok(Verified::Runpack(report));
        }
        let options = VerifyOptions {
            key: requirements.key,
            require_signature: requirements.signature,
        };
        let report = pack::verify_archive(archive, &options)?;
        Ok(match report.pack_type.as_str() {
            pack::GUARD => Verified::GuardPack(report),
            _ => Verified::Pack(report),
        })
    }

    fn trace(&self, key: &VerifyingKey) -> Result<Verified> {
        let bytes = read_bounded(&self.path, MAX_TRACE_BYTES as u64)?;
        let trace = trace::verify(&bytes, key)?;
        Ok(Verified::Trace(SignedDecision {
            trace_id: trace.trace_id().to_owned(),
            tool_name: trace.tool_name().to_owned(),
            verdict: trace.verdict(),
            simulated_verdict: trace.simulated(),
            intent_digest: trace.intent_digest(),
            policy_digest: trace.policy_digest(),
            key_id: trace.key_id().to_owned(),
            signature_status: runpack::SignatureStatus::Verified,
        }))
    }

    fn session(&self, key: &VerifyingKey) -> Result<Verified> {
        let report = session::verify(&self.path, key)?;
        Ok(Verified::Session(SignedSession {
            decisions: report.decisions,
            closed: report.closing.is_some(),
            key_id: key.key_id(),
            signature_status: runpack::SignatureStatus::Verified,
        }))
    }

    fn key<'a>(&self, requirements: &Requirements<'a>) -> Result<&'a VerifyingKey> {
        requirements.key.ok_or_else(|| {
            let what = self.head.form.name();
            let message = format!("a {what} is verified with a key: none was given");
            Fault::new(Category::InvalidInput, "invalid_input", message).because(
                "verify_key_required",
                "give the public key of the gate that signed it",
            )
        })
    }
}

impl Verified {
    /// Whether content and signatures are as required.
    pub fn holds(&self) -> bool {
        match self {
            Self::Runpack(report) => report.holds(),
            Self::Pack(report) | Self::GuardPack(report) => report.ok(),
            Self::Trace(_) | Self::Session(_) => true,
            Self::SessionChain(report) => report.holds(),
        }
    }

    /// What is wrong, part by part; nothing when it holds.
    pub fn findings(&self) -> Vec<Finding> {
        match self {
            Self::Runpack(report) => report.findings(),
            Self::Pack(report) | Self::GuardPack(report) => report.findings(),
            Self::Trace(_) | Self::Session(_) => Vec::new(),
            Self::SessionChain(report) => report.findings(),
        }
    }

    /// What it is, in words.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Runpack(_) => "runpack",
            Self::Pack(_) => "pack",
            Self::GuardPack(_) => "guard pack",
            Self::Trace(_) => "trace",
            Self::Session(_) => "session",
            Self::SessionChain(_) => "session chain",
        }
    }
}

fn unknown(path: &Path) -> Fault {
    let shown = path.display();
    unverified(format!("{shown} is nothing that the gate makes")).because(
        "artefact_unknown",
        "give a runpack, a pack, a guard pack, a trace, a session or a session chain; 'worldcompute verify' verifies receipts and jobs",
    )
}

fn unsigned_record(schema_id: &str) -> Fault {
    let message =
        format!("a record of schema {schema_id} is not signed: by itself it proves nothing");
    Fault::new(Category::VerificationFailed, "evidence_unproven", message)
        .hint("verify the guard pack that holds it")
}
