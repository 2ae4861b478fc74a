//! The signed record of one decision (`gait.gate.trace` 1.0.0), made by the gate and verified by anyone, offline.
//!
//! The signature covers the canonical JSON of the whole record but for the signature itself, so nothing in a verified
//! trace is hearsay, and nothing can be added to it.

mod parts;
mod record;
mod relationship;
mod verify;

use jiff::Timestamp;
use worldcompute_proof::Sha256;

pub(crate) use record::issue;
pub use relationship::Relationship;
pub(crate) use verify::UNSIGNED;
pub use verify::{Claims, UnverifiedTrace, claims, unverified_trace, verify};

use crate::broker::Credential;
use crate::kill_switch;
use crate::verdict::Verdict;
use crate::wire_time::WireTime;

/// The `schema_id` of a trace.
pub const SCHEMA_ID: &str = "gait.gate.trace";
/// The only `schema_version`.
pub const SCHEMA_VERSION: &str = "1.0.0";

/// When the gate decided, and in whose conversation.
pub(crate) struct Observation<'a> {
    pub(crate) started_at: Timestamp,
    pub(crate) ended_at: Timestamp,
    pub(crate) correlation_id: &'a str,
}

/// What took part in a decision beside the policy and the intent; what is empty took no part.
#[derive(Default)]
pub(crate) struct Circumstances<'a> {
    pub(crate) approval_token_ref: String,
    pub(crate) delegation_token_ref: String,
    pub(crate) delegation_codes: Vec<&'static str>,
    pub(crate) kill_switch: Option<&'a kill_switch::Decision>,
    pub(crate) approved_script: Option<&'a str>,
    pub(crate) registry_reason: &'static str,
    pub(crate) credential: Option<&'a Credential>,
    pub(crate) link: Option<Link>,
    /// What would have been decided, if nothing was.
    pub(crate) simulated: Option<Verdict>,
}

/// How the record of a simulation begins to say what would have been decided.
pub(crate) const SIMULATED: &str = "simulated:";

/// The place of a trace in a session: its number and the record before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) sequence: u64,
    pub(crate) previous: Option<Sha256>,
}

impl Link {
    /// How a record says its number.
    pub(crate) fn name(&self) -> String {
        format!("decision:{}", self.sequence)
    }
}

/// What a record beside a trace is about: one decision.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub(crate) created_at: WireTime,
    pub(crate) trace_id: &'a str,
    pub(crate) tool_name: &'a str,
    pub(crate) intent_digest: Sha256,
    pub(crate) policy_digest: Sha256,
}

/// A trace that this process just signed.
#[derive(Clone, Debug)]
pub struct SignedTrace(Trace);

/// A trace whose signature held; only [`verify`] makes one.
///
/// ```compile_fail,E0423
/// # fn forge(signed: gait::SignedTrace) -> gait::VerifiedTrace {
/// gait::VerifiedTrace(signed)
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct VerifiedTrace(Trace);

#[derive(Clone, Debug)]
struct Trace {
    bytes: Vec<u8>,
    trace_id: String,
    verdict: Verdict,
    tool_name: String,
    intent_digest: Sha256,
    policy_digest: Sha256,
    key_id: String,
    simulated: Option<Verdict>,
    run_id: String,
}

/// What both kinds of trace tell.
macro_rules! accessors {
    ($type:ty) => {
        impl $type {
            /// 24 hex digits that follow from policy, intent and verdict alone.
            pub fn trace_id(&self) -> &str {
                &self.0.trace_id
            }

            /// What was decided.
            pub const fn verdict(&self) -> Verdict {
                self.0.verdict
            }

            /// What would have been decided; `None` unless this was a simulation, whose own verdict permits nothing.
            pub const fn simulated(&self) -> Option<Verdict> {
                self.0.simulated
            }

            /// The tool that was asked for.
            pub fn tool_name(&self) -> &str {
                &self.0.tool_name
            }

            /// The run that the call is part of; empty where it is part of none.
            pub fn run_id(&self) -> &str {
                &self.0.run_id
            }

            /// Which intent was decided.
            pub const fn intent_digest(&self) -> Sha256 {
                self.0.intent_digest
            }

            /// Under which policy.
            pub const fn policy_digest(&self) -> Sha256 {
                self.0.policy_digest
            }

            /// The hex SHA-256 of the public key that signed.
            pub fn key_id(&self) -> &str {
                &self.0.key_id
            }

            /// The record as kept and sent: JSON with a final line break.
            pub fn bytes(&self) -> &[u8] {
                &self.0.bytes
            }
        }
    };
}

accessors!(SignedTrace);
accessors!(VerifiedTrace);

/// The id of the decision `verdict` of `policy` on `intent`.
pub(crate) fn trace_id(policy: Sha256, intent: Sha256, verdict: Verdict) -> String {
    short_id(&format!("{policy}:{intent}:{verdict}"))
}

/// The first 24 hex digits of the SHA-256 of `text`.
pub(crate) fn short_id(text: &str) -> String {
    let mut id = Sha256::of(text).to_string();
    id.truncate(24);
    id
}

#[cfg(test)]
mod tests;
