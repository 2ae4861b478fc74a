//! Where the evidence of a decision goes.

use std::path::{Path, PathBuf};

use worldcompute_durable::{Mode, Pending};
use worldcompute_fault::Result;

use crate::artefact;

/// The paths that a caller wants; what is `None` goes to the working directory under the name of the decision.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    /// The trace.
    pub trace: Option<PathBuf>,
    /// The audit of the approvals.
    pub approval_audit: Option<PathBuf>,
    /// The audit of the delegations.
    pub delegation_audit: Option<PathBuf>,
    /// The evidence of a credential.
    pub credential_evidence: Option<PathBuf>,
}

/// The paths that were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The trace.
    pub trace: Option<PathBuf>,
    /// The audit of the approvals.
    pub approval_audit: Option<PathBuf>,
    /// The audit of the delegations.
    pub delegation_audit: Option<PathBuf>,
    /// The evidence of a credential.
    pub credential_evidence: Option<PathBuf>,
}

/// What a decision has to say besides its trace.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    pub(super) approvals: bool,
    pub(super) delegation: bool,
    pub(super) credential: bool,
}

/// Places on the disk for everything that a decision has to say.
pub(super) struct Places {
    pub(super) approval_audit: Option<Pending>,
    pub(super) delegation_audit: Option<Pending>,
    pub(super) credential_evidence: Option<Pending>,
    pub(super) trace: Pending,
}

impl Outputs {
    /// Takes the places for the decision `trace_id`.
    pub(super) fn reserve(&self, trace_id: &str, parts: Parts) -> Result<Places> {
        let place = |wanted: bool, path: &Option<PathBuf>, kind: &str| {
            let path = named(path.as_deref(), kind, trace_id);
            wanted.then(|| artefact::reserve(&path)).transpose()
        };
        Ok(Places {
            approval_audit: place(parts.approvals, &self.approval_audit, "approval_audit")?,
            delegation_audit: place(parts.delegation, &self.delegation_audit, "delegation_audit")?,
            credential_evidence: place(
                parts.credential,
                &self.credential_evidence,
                "credential_evidence",
            )?,
            trace: artefact::reserve(&named(self.trace.as_deref(), "trace", trace_id))?,
        })
    }
}

fn named(given: Option<&Path>, kind: &str, trace_id: &str) -> PathBuf {
    given.map_or_else(
        || PathBuf::from(format!("{kind}_{trace_id}.json")),
        Path::to_path_buf,
    )
}

/// Gives a place its content, and says where that is.
pub(super) fn fill(place: Pending, bytes: &[u8]) -> Result<PathBuf> {
    let path = place.path().to_owned();
    place.commit(bytes, Mode::Private)?;
    Ok(path)
}
