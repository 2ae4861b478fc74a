//! The records of a runpack.
//!
//! Fields are declared in the order of RFC 8785, so that writing a record is writing its canonical form.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use worldcompute_fault::Result;
use worldcompute_proof::{Sha256, canonical_json, parse_json_within};

use super::stamp::Stamp;
use crate::limits::{MAX_RECORD_BYTES, invalid};

/// The `schema_version` of every record.
pub(super) const VERSION: &str = "1.0.0";

/// A run: when, where, and what happened in it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Run {
    pub created_at: Stamp,
    pub env: Env,
    pub producer_version: String,
    pub run_id: String,
    pub schema_id: String,
    pub schema_version: String,
    pub timeline: Vec<TimelineEvent>,
}

/// Where a run took place.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Env {
    pub arch: String,
    pub os: String,
    pub runtime: String,
}

/// Something that happened in a run.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct TimelineEvent {
    pub event: String,
    #[serde(rename = "ref", skip_serializing_if = "String::is_empty")]
    pub reference: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relationship: Option<Value>,
    pub ts: Stamp,
}

/// A tool call that was intended.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Intent<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Payload>,
    #[serde(borrow)]
    pub args_digest: Cow<'a, str>,
    pub created_at: Stamp,
    #[serde(borrow)]
    pub intent_id: Cow<'a, str>,
    #[serde(borrow)]
    pub producer_version: Cow<'a, str>,
    #[serde(borrow)]
    pub run_id: Cow<'a, str>,
    #[serde(borrow)]
    pub schema_id: Cow<'a, str>,
    #[serde(borrow)]
    pub schema_version: Cow<'a, str>,
    #[serde(borrow)]
    pub tool_name: Cow<'a, str>,
}

impl Intent<'_> {
    /// The same, whatever it was read from.
    pub fn into_owned(self) -> Intent<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Intent {
            args: self.args,
            args_digest: owned(self.args_digest),
            created_at: self.created_at,
            intent_id: owned(self.intent_id),
            producer_version: owned(self.producer_version),
            run_id: owned(self.run_id),
            schema_id: owned(self.schema_id),
            schema_version: owned(self.schema_version),
            tool_name: owned(self.tool_name),
        }
    }
}

/// What came of an intent.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResultRecord<'a> {
    pub created_at: Stamp,
    #[serde(borrow)]
    pub intent_id: Cow<'a, str>,
    #[serde(borrow)]
    pub producer_version: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Payload>,
    #[serde(borrow)]
    pub result_digest: Cow<'a, str>,
    #[serde(borrow)]
    pub run_id: Cow<'a, str>,
    #[serde(borrow)]
    pub schema_id: Cow<'a, str>,
    #[serde(borrow)]
    pub schema_version: Cow<'a, str>,
    #[serde(borrow)]
    pub status: Cow<'a, str>,
}

impl ResultRecord<'_> {
    /// The same, whatever it was read from.
    pub fn into_owned(self) -> ResultRecord<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        ResultRecord {
            created_at: self.created_at,
            intent_id: owned(self.intent_id),
            producer_version: owned(self.producer_version),
            result: self.result,
            result_digest: owned(self.result_digest),
            run_id: owned(self.run_id),
            schema_id: owned(self.schema_id),
            schema_version: owned(self.schema_version),
            status: owned(self.status),
        }
    }
}

/// The proof that something was read.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Receipt {
    pub content_digest: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub freshness_sla_seconds: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub immutability: String,
    pub query_digest: String,
    pub redaction_mode: String,
    pub ref_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retrieval_params: Option<Map<String, Value>>,
    pub retrieved_at: Stamp,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sensitivity_label: String,
    pub source_locator: String,
    pub source_type: String,
}

pub(super) const fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// A JSON object as it was given: parsed only when it is needed.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Payload(Box<RawValue>);

impl Payload {
    /// The object `members`.
    pub fn new(members: &Map<String, Value>) -> Result<Self> {
        Self::of_text(canonical_json(members)?)
    }

    /// The members; `invalid_input` for anything but one strict JSON object.
    pub fn members(&self) -> Result<Map<String, Value>> {
        match parse_json_within(self.0.get().as_bytes(), MAX_RECORD_BYTES) {
            Ok(Value::Object(members)) => Ok(members),
            Ok(_) => Err(invalid("a payload is a JSON object")),
            Err(fault) => Err(invalid(fault.message())),
        }
    }

    /// As it was given.
    pub(super) fn text(&self) -> &str {
        self.0.get()
    }

    /// The same object in its canonical spelling.
    pub(super) fn canonical(&self) -> Result<Self> {
        Self::of_text(canonical_json(&self.members()?)?)
    }

    /// The digest of the canonical spelling.
    pub(super) fn digest(&self) -> Result<Sha256> {
        Ok(Sha256::of(canonical_json(&self.members()?)?))
    }

    fn of_text(text: Vec<u8>) -> Result<Self> {
        let text = String::from_utf8(text).map_err(|error| invalid("payload").caused_by(error))?;
        RawValue::from_string(text)
            .map(Self)
            .map_err(|error| invalid("payload").caused_by(error))
    }
}
