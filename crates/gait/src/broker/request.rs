//! What a broker is asked.

use serde::Serialize;
use worldcompute_fault::Result;
use worldcompute_proof::{Sha256, canonical_json};

use crate::intent::Intent;
use crate::text;

/// A request for a credential (`broker_request`).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Request<'a> {
    tool_name: &'a str,
    identity: &'a str,
    workspace: &'a str,
    #[serde(rename = "SessionID")]
    session_id: &'a str,
    #[serde(rename = "RequestID")]
    request_id: &'a str,
    #[serde(rename = "RunID")]
    run_id: &'a str,
    #[serde(rename = "JobID")]
    job_id: &'a str,
    reference: String,
    scope: Vec<String>,
    target_binding: String,
}

impl<'a> Request<'a> {
    /// The request for a credential called `reference`, good for `scope`, to do what `intent` says.
    pub fn new(intent: &'a Intent, reference: &str, scope: &[String]) -> Result<Self> {
        let context = intent.context();
        Ok(Self {
            tool_name: intent.tool_name(),
            identity: &context.identity,
            workspace: &context.workspace,
            session_id: &context.session_id,
            request_id: &context.request_id,
            run_id: &context.run_id,
            job_id: &context.job_id,
            reference: reference.trim().to_owned(),
            scope: text::sorted_set_lower(scope),
            target_binding: Sha256::of(canonical_json(intent.targets())?).to_string(),
        })
    }

    /// What the credential is called.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// What it is to be good for: lower-case, sorted.
    pub fn scope(&self) -> &[String] {
        &self.scope
    }

    /// The targets it is for, by digest.
    pub fn target_binding(&self) -> &str {
        &self.target_binding
    }

    /// The run it is for.
    pub const fn run_id(&self) -> &str {
        self.run_id
    }

    /// The job it is for.
    pub const fn job_id(&self) -> &str {
        self.job_id
    }

    /// The SHA-256 of the canonical JSON of the request.
    pub fn digest(&self) -> Result<Sha256> {
        Ok(Sha256::of(canonical_json(self)?))
    }

    /// The JSON that a program is asked with.
    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        canonical_json(self)
    }

    /// The credential's name, or the tool's where it has none.
    pub(super) fn wanted(&self) -> &str {
        match self.reference.as_str() {
            "" => self.tool_name,
            reference => reference,
        }
    }

    pub(super) fn short_digest(&self) -> String {
        let scope = self.scope.join(",");
        crate::trace::short_id(
            &[
                self.tool_name,
                self.identity,
                self.workspace,
                self.session_id,
                self.request_id,
                &self.reference,
                &scope,
            ]
            .join("|"),
        )
    }
}
