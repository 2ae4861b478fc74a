//! The records of a voice call (`gait.voice.*`).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use worldcompute_proof::Sha256;

use crate::verdict::Verdict;
use crate::wire_time::WireTime;

/// `gait.voice.call_record`: the file that a pack is made of.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) schema_id: String,
    pub(super) schema_version: String,
    pub(super) created_at: WireTime,
    pub(super) producer_version: String,
    pub(super) call_id: String,
    pub(super) runpack_path: String,
    #[serde(default)]
    pub(super) privacy_mode: PrivacyMode,
    #[serde(default)]
    pub(super) environment_fingerprint: String,
    pub(super) events: Vec<CallEvent>,
    pub(super) commitments: Vec<Commitment>,
    pub(super) gate_decisions: Vec<GateDecision>,
    pub(super) speak_receipts: Vec<SpeakReceipt>,
    #[serde(default)]
    pub(super) reference_digests: Vec<ReferenceDigest>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PrivacyMode {
    #[default]
    HashOnly,
    DisputeEncrypted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Class {
    AccountChange,
    Cancel,
    Eligibility,
    Quote,
    Refund,
    Schedule,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum EventType {
    #[serde(rename = "approval.granted")]
    ApprovalGranted,
    #[serde(rename = "asr.final")]
    AsrFinal,
    #[serde(rename = "commitment.declared")]
    CommitmentDeclared,
    #[serde(rename = "gate.decision")]
    GateDecision,
    #[serde(rename = "tool.intent")]
    ToolIntent,
    #[serde(rename = "tool.result")]
    ToolResult,
    #[serde(rename = "tts.emitted")]
    TtsEmitted,
    #[serde(rename = "tts.request")]
    TtsRequest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CallEvent {
    pub(super) schema_id: String,
    pub(super) schema_version: String,
    pub(super) created_at: WireTime,
    pub(super) call_id: String,
    pub(super) call_seq: u64,
    pub(super) turn_index: u64,
    pub(super) event_type: EventType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) commitment_class: Option<Class>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) intent_digest: Option<Sha256>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) policy_digest: Option<Sha256>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) say_token_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) payload_digest: Option<Sha256>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(super) attributes: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Commitment {
    pub(super) schema_id: String,
    pub(super) schema_version: String,
    pub(super) created_at: WireTime,
    pub(super) producer_version: String,
    pub(super) call_id: String,
    pub(super) turn_index: u64,
    pub(super) call_seq: u64,
    pub(super) commitment_class: Class,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) utterance_digest: Option<Sha256>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) currency: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) quote_min_cents: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) quote_max_cents: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) refund_ceiling_cents: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) approval_required: Option<bool>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) approval_artifact_refs: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) evidence_reference_digests: Vec<Sha256>,
    pub(super) context: Context,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Context {
    pub(super) identity: String,
    pub(super) workspace: String,
    pub(super) risk_class: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) session_id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) request_id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) environment_fingerprint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GateDecision {
    pub(super) call_id: String,
    pub(super) call_seq: u64,
    pub(super) turn_index: u64,
    pub(super) commitment_class: Class,
    pub(super) verdict: Verdict,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) reason_codes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) intent_digest: Option<Sha256>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) policy_digest: Option<Sha256>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) approval_ref: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SpeakReceipt {
    pub(super) call_id: String,
    pub(super) call_seq: u64,
    pub(super) turn_index: u64,
    pub(super) commitment_class: Class,
    pub(super) say_token_id: String,
    pub(super) spoken_digest: Sha256,
    pub(super) emitted_at: WireTime,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReferenceDigest {
    pub(super) ref_id: String,
    sha256: Sha256,
}

impl SpeakReceipt {
    pub(super) const fn key(&self) -> (u64, u64, Class) {
        (self.call_seq, self.turn_index, self.commitment_class)
    }
}
