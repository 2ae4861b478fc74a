//! Checking a trace that somebody else kept or sent.

use serde::Deserialize;
use serde_json::{Map, Value};
use worldcompute_fault::Result;
use worldcompute_proof::{Sha256, VerifyingKey, canonical_json, parse_json_strict};

use super::{SCHEMA_ID, SCHEMA_VERSION, SIMULATED, Trace, VerifiedTrace, trace_id};
use crate::limits::{MAX_TRACE_BYTES, at_most, invalid};
use crate::signature::{SignatureObject, unverified};
use crate::verdict::Verdict;
use crate::wire_time::WireTime;

/// The fields that a verified trace answers for.
#[derive(Deserialize)]
struct Facts {
    schema_id: String,
    schema_version: String,
    trace_id: String,
    tool_name: String,
    verdict: Verdict,
    intent_digest: Sha256,
    policy_digest: Sha256,
    #[serde(default)]
    run_id: String,
    #[serde(default)]
    created_at: WireTime,
    #[serde(default)]
    observed_at: WireTime,
    #[serde(default)]
    relationship: Related,
}

/// What else a trace is about.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Related {
    related_record_ids: Vec<String>,
}

/// What a trace says of itself, verified or not: for showing, never for deciding.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Claims {
    /// The id it carries.
    pub trace_id: String,
    /// The policy it names, in hex.
    pub policy_digest: String,
    /// The intent it names, in hex.
    pub intent_digest: String,
    /// The verdict it carries.
    pub verdict: String,
}

/// Reads what a trace says of itself; `invalid_input` for what is no trace, `verification_failed` for what is not even
/// JSON, such as the half of one.
pub fn claims(bytes: &[u8]) -> Result<Claims> {
    let record = parse(bytes)?;
    serde_json::from_value(Value::Object(record))
        .map_err(|error| invalid("parse trace record").caused_by(error))
}

/// What a trace says that agrees with itself; who signed it was not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedTrace {
    /// The id, which follows from policy, intent and verdict.
    pub trace_id: String,
    /// Which intent it is about.
    pub intent_digest: Sha256,
    /// Under which policy.
    pub policy_digest: Sha256,
    /// The tool that was asked for.
    pub tool_name: String,
    /// When its intent says that it was made.
    pub created_at: WireTime,
    /// When it says that it was decided; unset where it does not say.
    pub observed_at: WireTime,
    /// What it says was decided.
    pub verdict: Verdict,
    /// What it says would have been decided, if it says that this was a simulation.
    pub simulated: Option<Verdict>,
    /// Whether it carries a signature over itself as it is, of whomever.
    pub is_signed: bool,
}

/// What is wrong with a trace that is not [signed](UnverifiedTrace::is_signed).
pub(crate) const UNSIGNED: &str = "it carries no signature over itself as it is";

/// Reads a trace without a key.
///
/// `invalid_input` for what is no trace, `verification_failed` for what is not even JSON and for an id that does not
/// follow from policy, intent and verdict.
pub fn unverified_trace(bytes: &[u8]) -> Result<UnverifiedTrace> {
    let mut record = parse(bytes)?;
    let is_signed = match record.remove("signature").map(read_signature) {
        Some(Ok(signature)) => signature.covers(&canonical_json(&record)?),
        _ => false,
    };
    let facts: Facts = serde_json::from_value(Value::Object(record))
        .map_err(|error| invalid("parse trace record").caused_by(error))?;
    facts.check()?;
    Ok(UnverifiedTrace {
        simulated: facts.simulated()?,
        trace_id: facts.trace_id,
        intent_digest: facts.intent_digest,
        policy_digest: facts.policy_digest,
        tool_name: facts.tool_name,
        created_at: facts.created_at,
        observed_at: facts.observed_at,
        verdict: facts.verdict,
        is_signed,
    })
}

/// Verifies a trace against the key of the gate that should have signed it.
///
/// `invalid_input` for what is no trace; `verification_failed` for what is not even JSON, a missing or malformed
/// signature, another key,
/// any byte of content that is not covered or not as signed (a field that the format does not know included), and an
/// id that does not follow from policy, intent and verdict. No network, no clock, no files.
pub fn verify(bytes: &[u8], key: &VerifyingKey) -> Result<VerifiedTrace> {
    let mut record = parse(bytes)?;
    let signature = match record.remove("signature") {
        None | Some(Value::Null) => return Err(unverified("trace signature missing")),
        Some(signature) => read_signature(signature)?,
    };
    signature.verify(&canonical_json(&record)?, key)?;
    let facts: Facts = serde_json::from_value(Value::Object(record))
        .map_err(|error| invalid("parse trace record").caused_by(error))?;
    facts.check()?;
    Ok(VerifiedTrace(Trace {
        simulated: facts.simulated()?,
        bytes: bytes.to_vec(),
        run_id: facts.run_id,
        trace_id: facts.trace_id,
        verdict: facts.verdict,
        tool_name: facts.tool_name,
        intent_digest: facts.intent_digest,
        policy_digest: facts.policy_digest,
        key_id: signature.key_id,
    }))
}

fn parse(bytes: &[u8]) -> Result<Map<String, Value>> {
    at_most(
        "trace bytes",
        bytes.len(),
        MAX_TRACE_BYTES,
        "trace_too_large",
    )?;
    let parsed = parse_json_strict(bytes)
        .map_err(|fault| unverified(format!("parse trace record: {}", fault.message())))?;
    match parsed {
        Value::Object(record) => Ok(record),
        _ => Err(invalid("parse trace record: not a JSON object")),
    }
}

fn read_signature(signature: Value) -> Result<SignatureObject> {
    serde_json::from_value(signature)
        .map_err(|error| unverified("malformed trace signature").caused_by(error))
}

impl Facts {
    /// The verdict behind the mark of a simulation; refused for a mark without one.
    fn simulated(&self) -> Result<Option<Verdict>> {
        let mut names = self.relationship.related_record_ids.iter();
        let mark = names.find_map(|name| name.strip_prefix(SIMULATED));
        let unknown = || unverified("the trace is of a simulation of no verdict");
        mark.map(|mark| Verdict::parse(mark).ok_or_else(unknown))
            .transpose()
    }

    fn check(&self) -> Result<()> {
        if self.schema_id != SCHEMA_ID || self.schema_version != SCHEMA_VERSION {
            let message = format!(
                "unsupported trace schema {} {}",
                self.schema_id, self.schema_version
            );
            return Err(invalid(message));
        }
        if self.trace_id != trace_id(self.policy_digest, self.intent_digest, self.verdict) {
            return Err(unverified(
                "trace_id does not follow from policy, intent and verdict",
            ));
        }
        Ok(())
    }
}
