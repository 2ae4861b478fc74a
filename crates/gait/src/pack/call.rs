//! Packs of voice calls: what was said, what was promised, who decided, and what was spoken in the end.
//!
//! A call's record has to be in normal form; what is not is refused rather than mended, so that a pack says what its
//! author wrote.

mod records;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use worldcompute_durable::read_bounded;
use worldcompute_fault::Result;
use worldcompute_proof::{canonical_json, parse_json_within};

use super::manifest::Manifest;
use super::open::{embedded_runpack, sound_runpack};
use super::payload::{CallPayload, disagree, read};
use super::run::{RunFacts, normalise};
use super::{Build, Built, PackType, Part, SOURCE_NAME};
use crate::archive::{Archive, ReadAt, fault_of};
use crate::in_file::InFile;
use crate::json_stream;
use crate::limits::{MAX_CALL_RECORD_BYTES, MAX_CALL_RECORDS, MAX_JSONL_LINE, from_value, invalid};
use crate::signature::unverified;
use crate::verdict::Verdict;
use crate::wire_time::WireTime;

use records::{
    CallEvent, Commitment, EventType, GateDecision, PrivacyMode, Record, ReferenceDigest,
    SpeakReceipt,
};

const EVENTS: &str = "call_events.jsonl";
const COMMITMENTS: &str = "commitments.jsonl";
const DECISIONS: &str = "gate_decisions.jsonl";
const RECEIPTS: &str = "speak_receipts.jsonl";
const REFERENCES: &str = "reference_digests.json";

/// What every call goes through.
const REQUIRED_EVENTS: [EventType; 7] = [
    EventType::AsrFinal,
    EventType::CommitmentDeclared,
    EventType::GateDecision,
    EventType::TtsRequest,
    EventType::TtsEmitted,
    EventType::ToolIntent,
    EventType::ToolResult,
];

/// Everything of a call that has to fit together.
struct Call {
    events: Vec<CallEvent>,
    commitments: Vec<Commitment>,
    decisions: Vec<GateDecision>,
    receipts: Vec<SpeakReceipt>,
    references: Vec<ReferenceDigest>,
}

/// Builds the pack of the call record at `path`; its runpack lies where the record says.
///
/// Errors: `invalid_input` for a record that is none or contradicts itself, `verification_failed` for a runpack that is
/// not what its manifest says; those of reading and writing.
pub fn build_call(path: &Path, build: &Build<'_>) -> Result<Built> {
    let bytes = read_bounded(path, MAX_CALL_RECORD_BYTES as u64)?;
    let refused = |why: &str| invalid(format!("call record: {why}")).in_file(path);
    let value = parse_json_within(&bytes, MAX_CALL_RECORD_BYTES)
        .map_err(|fault| refused(fault.message()))?;
    let record: Record = from_value("call record", value).in_file(path)?;
    let named = record.schema_id == "gait.voice.call_record" && record.schema_version == "1.0.0";
    if !named || record.call_id.trim().is_empty() || record.created_at.is_unset() {
        return Err(refused(
            "not a gait.voice.call_record 1.0.0 with call_id and created_at",
        ));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let runpack = sound_runpack(&folder.join(record.runpack_path.trim()))?;
    let run_id = RunFacts::read(&runpack)?.run_id;
    let head = Head {
        created_at: record.created_at,
        producer_version: record.producer_version,
        call_id: record.call_id,
        run_id,
        privacy_mode: record.privacy_mode,
        environment_fingerprint: record.environment_fingerprint,
    };
    let call = Call {
        events: record.events,
        commitments: record.commitments,
        decisions: record.gate_decisions,
        receipts: record.speak_receipts,
        references: record.reference_digests,
    };
    let call = call.in_order();
    call.check(&head.call_id).map_err(|why| refused(&why))?;
    let mut parts = call.parts(&head)?;
    let source = Part::streamed(SOURCE_NAME, |out| normalise(&runpack, out))?;
    parts.push(source.1);
    build.write(PackType::Call, &head.call_id, parts, folder)
}

/// Checks that the entries of a call's pack fit together.
pub(super) fn check<R: ReadAt>(archive: &Archive<R>, manifest: &Manifest) -> Result<()> {
    let payload: CallPayload = read(archive, "call_payload.json")?;
    payload.check()?;
    if payload.call_id != manifest.source_ref.trim() {
        return Err(disagree("call payload call_id", "manifest source_ref"));
    }
    let references: Option<Vec<ReferenceDigest>> = read(archive, REFERENCES)?;
    let call = Call {
        events: lines(archive, EVENTS)?,
        commitments: lines(archive, COMMITMENTS)?,
        decisions: lines(archive, DECISIONS)?,
        receipts: lines(archive, RECEIPTS)?,
        references: references.unwrap_or_default(),
    };
    call.check(&payload.call_id).map_err(unverified)?;
    let counted = [
        payload.event_count,
        payload.commitment_count,
        payload.decision_count,
        payload.speak_receipt_count,
        payload.reference_digest_count,
    ];
    if counted != call.counts() {
        return Err(disagree("call payload counts", "the entries"));
    }
    let inner: Map<String, Value> = read(archive, "callpack_manifest.json")?;
    let text = |name: &str| inner.get(name).and_then(Value::as_str).unwrap_or_default();
    let same = text("schema_id") == "gait.voice.callpack_manifest"
        && text("call_id") == payload.call_id
        && text("privacy_mode") == payload.privacy_mode
        && text("created_at") == payload.created_at.to_string()
        && COUNTS
            .iter()
            .zip(counted)
            .all(|(name, count)| inner.get(*name).and_then(Value::as_u64) == Some(count));
    if !same {
        return Err(disagree("callpack manifest", "call payload"));
    }
    let source = embedded_runpack(archive)?;
    match payload.run_id.is_empty() || source.run_id == payload.run_id {
        true => Ok(()),
        false => Err(disagree("call payload run_id", SOURCE_NAME)),
    }
}

/// What a call's payload and inner manifest count, in the order of [`Call::counts`].
const COUNTS: [&str; 5] = [
    "event_count",
    "commitment_count",
    "decision_count",
    "speak_receipt_count",
    "reference_digest_count",
];

/// What a call's payload and inner manifest both say.
struct Head {
    created_at: WireTime,
    producer_version: String,
    call_id: String,
    run_id: String,
    privacy_mode: PrivacyMode,
    environment_fingerprint: String,
}

impl Call {
    fn in_order(mut self) -> Self {
        self.events
            .sort_by_key(|event| (event.call_seq, event.event_type));
        self.commitments
            .sort_by_key(|one| (one.call_seq, one.commitment_class));
        self.decisions
            .sort_by_key(|one| (one.call_seq, one.commitment_class));
        self.receipts
            .sort_by_key(|one| (one.call_seq, one.commitment_class));
        self.references.sort();
        self.references.dedup();
        self
    }

    fn counts(&self) -> [u64; 5] {
        [
            self.events.len(),
            self.commitments.len(),
            self.decisions.len(),
            self.receipts.len(),
            self.references.len(),
        ]
        .map(|count| count as u64)
    }

    fn parts(&self, head: &Head) -> Result<Vec<Part>> {
        let [events, commitments, decisions, receipts, references] = self.counts();
        let common = serde_json::json!({
            "call_id": head.call_id,
            "commitment_count": commitments,
            "created_at": head.created_at,
            "decision_count": decisions,
            "environment_fingerprint": head.environment_fingerprint,
            "event_count": events,
            "privacy_mode": head.privacy_mode,
            "reference_digest_count": references,
            "schema_version": "1.0.0",
            "speak_receipt_count": receipts,
        });
        let with = |more: [(&str, &str); 2]| {
            let mut members = common.as_object().cloned().unwrap_or_default();
            let more = more
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.into()));
            members.extend(more);
            members.retain(|_, value| *value != "");
            members
        };
        let payload = with([("schema_id", "gait.pack.call"), ("run_id", &head.run_id)]);
        let inner = with([
            ("schema_id", "gait.voice.callpack_manifest"),
            ("producer_version", &head.producer_version),
        ]);
        Ok(vec![
            Part::json("call_payload.json", &payload)?,
            Part::json("callpack_manifest.json", &inner)?,
            jsonl(EVENTS, &self.events)?,
            jsonl(COMMITMENTS, &self.commitments)?,
            jsonl(DECISIONS, &self.decisions)?,
            jsonl(RECEIPTS, &self.receipts)?,
            Part::json(REFERENCES, &self.references)?,
        ])
    }

    fn check(&self, call_id: &str) -> Result<(), String> {
        self.check_events(call_id)?;
        self.check_records(call_id)?;
        self.check_spoken()?;
        self.check_allowed()
    }

    fn check_events(&self, call_id: &str) -> Result<(), String> {
        for event in &self.events {
            let named =
                event.schema_id == "gait.voice.call_event" && event.schema_version == "1.0.0";
            if !named
                || event.call_id != call_id
                || event.call_seq == 0
                || event.created_at.is_unset()
            {
                return Err(
                    "a call event has another schema, call_id, or no call_seq or time".to_owned(),
                );
            }
        }
        if !self.events.is_sorted_by_key(|event| event.call_seq) {
            return Err("call events must be sorted by call_seq".to_owned());
        }
        let seen: BTreeSet<EventType> = self.events.iter().map(|event| event.event_type).collect();
        match REQUIRED_EVENTS
            .iter()
            .find(|required| !seen.contains(required))
        {
            None => Ok(()),
            Some(missing) => Err(format!("call events missing required type: {missing:?}")),
        }
    }

    fn check_records(&self, call_id: &str) -> Result<(), String> {
        let commitments = self
            .commitments
            .iter()
            .map(|one| (&one.call_id, one.call_seq));
        let decisions = self
            .decisions
            .iter()
            .map(|one| (&one.call_id, one.call_seq));
        let receipts = self.receipts.iter().map(|one| (&one.call_id, one.call_seq));
        let mut all = commitments.chain(decisions).chain(receipts);
        if all.any(|(id, seq)| id != call_id || seq == 0) {
            return Err(
                "a commitment, decision or receipt has another call_id or no call_seq".to_owned(),
            );
        }
        let named = |one: &Commitment| {
            one.schema_id == "gait.voice.commitment_intent" && one.schema_version == "1.0.0"
        };
        match self.commitments.iter().all(named) {
            true => Ok(()),
            false => Err("a commitment is no gait.voice.commitment_intent 1.0.0".to_owned()),
        }
    }

    /// What was spoken under a commitment has a receipt with the same token.
    fn check_spoken(&self) -> Result<(), String> {
        let gated = self
            .events
            .iter()
            .filter(|event| event.event_type == EventType::TtsEmitted);
        for event in gated {
            let Some(class) = event.commitment_class else {
                continue;
            };
            let key = (event.call_seq, event.turn_index, class);
            let found = self.receipts.iter().find(|receipt| receipt.key() == key);
            let token = found
                .map(|receipt| &*receipt.say_token_id)
                .unwrap_or_default();
            if token.is_empty() || token != event.say_token_id {
                return Err(format!(
                    "gated tts.emitted event has no speak receipt with its say_token_id for call_seq={} turn_index={}",
                    event.call_seq, event.turn_index
                ));
            }
        }
        Ok(())
    }

    /// What was spoken was allowed by the latest decision before it.
    fn check_allowed(&self) -> Result<(), String> {
        for receipt in &self.receipts {
            let before = self.decisions.iter().filter(|decision| {
                decision.commitment_class == receipt.commitment_class
                    && decision.turn_index == receipt.turn_index
                    && decision.call_seq <= receipt.call_seq
            });
            let latest = before.clone().map(|decision| decision.call_seq).max();
            let mut last = before.filter(|decision| Some(decision.call_seq) == latest);
            // Of decisions at one time none is the later one: each must allow.
            let allowed = latest.is_some() && last.all(|one| one.verdict == Verdict::Allow);
            if !allowed {
                return Err(format!(
                    "speak receipt without a prior allow decision for call_seq={} turn_index={}",
                    receipt.call_seq, receipt.turn_index
                ));
            }
        }
        Ok(())
    }
}

fn jsonl<T: Serialize>(name: &str, records: &[T]) -> Result<Part> {
    let write = |out: &mut dyn Write| {
        for record in records {
            let mut line = canonical_json(record)?;
            line.push(b'\n');
            out.write_all(&line)
                .map_err(|error| fault_of(&format!("write {name}"), error))?;
        }
        Ok(())
    };
    Part::streamed(name, write).map(|((), part)| part)
}

fn lines<R: ReadAt, T: DeserializeOwned>(archive: &Archive<R>, name: &str) -> Result<Vec<T>> {
    let mut records = Vec::new();
    json_stream::values(
        name,
        archive.read(name)?,
        MAX_JSONL_LINE,
        |number, record| {
            records.push(record);
            match records.len() <= MAX_CALL_RECORDS {
                true => Ok(()),
                false => Err(unverified(format!(
                    "{name} line {number}: past the limit of {MAX_CALL_RECORDS} records"
                ))),
            }
        },
    )?;
    Ok(records)
}
