//! `refs.json` of a runpack: what the run looked at, receipt by receipt.

use std::io::Write;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{Hasher, Sha256, canonical_json};

use super::manifest::is_digest;
use crate::archive::{Archive, ReadAt, fault_of};
use crate::json_stream;
use crate::limits::MAX_UNSORTED_RECEIPTS;
use crate::signature::unverified;
use crate::wire_time::WireTime;

/// The entry's name in a runpack.
pub(super) const REFS_NAME: &str = "refs.json";
/// The mode of evidence when none is named.
const BEST_EFFORT: &str = "best_effort";

/// What `refs.json` says besides its receipts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    #[serde(rename = "schema_id")]
    _schema_id: String,
    #[serde(rename = "schema_version")]
    _schema_version: String,
    created_at: WireTime,
    producer_version: String,
    run_id: String,
    #[serde(default)]
    context_set_digest: String,
    #[serde(default)]
    context_evidence_mode: String,
    #[serde(default)]
    context_ref_count: u64,
}

/// One thing that the run looked at.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Receipt {
    pub(crate) ref_id: String,
    pub(crate) source_type: String,
    pub(crate) source_locator: String,
    query_digest: String,
    pub(crate) content_digest: String,
    pub(crate) retrieved_at: WireTime,
    redaction_mode: String,
    #[serde(default)]
    immutability: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    freshness_sla_seconds: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    sensitivity_label: String,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    retrieval_params: Map<String, Value>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the form that serde asks for"
)]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// What the receipts come to, however many there are.
#[derive(Clone, Debug)]
pub(crate) struct Refs {
    header: Header,
    pub(crate) receipts: u64,
    /// How the receipts are redacted: one mode for all, `mixed`, or empty without receipts.
    pub(crate) privacy_mode: String,
    /// Whether they come in the order they are written in.
    sorted: bool,
}

/// All that a run looked at, to be compared with what another one did.
#[derive(Clone, Debug)]
pub(super) struct Context {
    refs: Refs,
    /// All receipts, whatever their order.
    content: Sha256,
    /// All receipts but for when they were retrieved.
    timeless: Sha256,
}

/// How much the context of two runs differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Drift {
    /// Not at all.
    None,
    /// Only in when it was retrieved.
    RuntimeOnly,
    /// In what was retrieved.
    Semantic,
}

impl Refs {
    /// Reads the refs of a runpack.
    pub(crate) fn read<R: ReadAt>(archive: &Archive<R>) -> Result<Self> {
        let (mut tally, mut last) = (Tally::default(), None);
        let members = json_stream::object_with_list(
            REFS_NAME,
            archive.read(REFS_NAME)?,
            "receipts",
            |receipt: Receipt| {
                let receipt = receipt.normalised();
                tally.add(&receipt);
                let key = receipt.key();
                tally.unsorted |= last.as_ref().is_some_and(|last| *last > key);
                last = Some(key);
                Ok(())
            },
        )?;
        let mut header: Header = serde_json::from_value(Value::Object(members))
            .map_err(|error| unverified(format!("{REFS_NAME} is malformed: {error}")))?;
        header.check()?;
        Ok(tally.finish(header))
    }

    /// The digest of the context that the run declares, if it does.
    pub(crate) fn set_digest(&self) -> &str {
        &self.header.context_set_digest
    }

    /// The mode of evidence that the run declares, if it does.
    pub(crate) fn evidence_mode(&self) -> &str {
        &self.header.context_evidence_mode
    }

    /// Hands every receipt to `each`, in order.
    pub(crate) fn for_each<R: ReadAt>(
        &self,
        archive: &Archive<R>,
        mut each: impl FnMut(&Receipt) -> Result<()>,
    ) -> Result<()> {
        let mut held = Vec::new();
        json_stream::object_with_list(
            REFS_NAME,
            archive.read(REFS_NAME)?,
            "receipts",
            |receipt: Receipt| match self.sorted {
                true => each(&receipt.normalised()),
                false => hold(&mut held, receipt.normalised()),
            },
        )?;
        held.sort_by_key(Receipt::key);
        held.iter().try_for_each(each)
    }

    /// Writes the context envelope (`gait.context.envelope`) of the run, in constant memory.
    pub(super) fn write_envelope<R: ReadAt>(
        &self,
        archive: &Archive<R>,
        out: &mut dyn Write,
    ) -> Result<()> {
        let digest = self.envelope_digest(archive)?;
        let mode = match self.evidence_mode() {
            "" => BEST_EFFORT,
            mode => mode,
        };
        let mut head = canonical_json(&serde_json::json!({
            "context_set_digest": digest,
            "context_set_id": self.header.run_id,
            "created_at": dated(self.header.created_at),
            "evidence_mode": mode,
            "producer_version": self.header.producer_version,
        }))?;
        head.pop();
        head.extend_from_slice(b",\"records\":[");
        let mut put = |bytes: &[u8]| {
            out.write_all(bytes)
                .map_err(|error| fault_of("write the context envelope", error))
        };
        put(&head)?;
        let mut first = true;
        self.for_each(archive, |receipt| {
            if !std::mem::take(&mut first) {
                put(b",")?;
            }
            put(&canonical_json(receipt)?)
        })?;
        put(b"],\"schema_id\":\"gait.context.envelope\",\"schema_version\":\"1.0.0\"}")
    }

    /// The digest of the records; has to be the one that the run declares, if it does.
    fn envelope_digest<R: ReadAt>(&self, archive: &Archive<R>) -> Result<Sha256> {
        let (mut hasher, mut first) = (Hasher::new(), true);
        hasher.update(b"[");
        self.for_each(archive, |receipt| {
            receipt.check()?;
            if !std::mem::take(&mut first) {
                hasher.update(b",");
            }
            hasher.update(canonical_json(receipt)?);
            Ok(())
        })?;
        hasher.update(b"]");
        let digest = hasher.finish();
        let declared = self.set_digest();
        match declared.is_empty() || declared == digest.to_string() {
            true => Ok(digest),
            false => Err(unverified("context_set_digest mismatch")),
        }
    }

    const fn ref_count(&self) -> u64 {
        match self.header.context_ref_count {
            0 => self.receipts,
            count => count,
        }
    }
}

impl Context {
    /// Reads all that a runpack's run looked at.
    pub(super) fn read<R: ReadAt>(archive: &Archive<R>) -> Result<Self> {
        let refs = Refs::read(archive)?;
        let (mut content, mut timeless) = (Sum::default(), Sum::default());
        refs.for_each(archive, |receipt| {
            content.add(Sha256::of(canonical_json(receipt)?));
            let undated = Receipt {
                retrieved_at: WireTime::at(WireTime::UNDATED),
                ..receipt.clone()
            };
            timeless.add(Sha256::of(canonical_json(&undated)?));
            Ok(())
        })?;
        Ok(Self {
            content: content.digest(refs.receipts),
            timeless: timeless.digest(refs.receipts),
            refs,
        })
    }

    /// How the context of `self` and `other` differs.
    pub(super) fn drift(&self, other: &Self) -> Drift {
        let (ours, theirs) = (&self.refs, &other.refs);
        let alike = ours.evidence_mode() == theirs.evidence_mode()
            && ours.ref_count() == theirs.ref_count()
            && ours.header.created_at == theirs.header.created_at
            && ours.header.run_id == theirs.header.run_id;
        if !alike || self.timeless != other.timeless {
            Drift::Semantic
        } else if self.content == other.content && ours.set_digest() == theirs.set_digest() {
            Drift::None
        } else {
            Drift::RuntimeOnly
        }
    }
}

impl Header {
    fn check(&mut self) -> Result<()> {
        let mode = self.context_evidence_mode.trim().to_ascii_lowercase();
        self.context_evidence_mode = mode;
        self.context_set_digest = self.context_set_digest.trim().to_ascii_lowercase();
        if !matches!(&*self.context_evidence_mode, "" | BEST_EFFORT | "required") {
            return Err(unverified(
                "context evidence mode must be best_effort or required",
            ));
        }
        if !self.context_set_digest.is_empty() && !is_digest(&self.context_set_digest) {
            return Err(unverified("refs context_set_digest must be sha256 hex"));
        }
        Ok(())
    }
}

impl Receipt {
    fn normalised(mut self) -> Self {
        let lower = |text: &str| text.trim().to_ascii_lowercase();
        self.ref_id = self.ref_id.trim().to_owned();
        self.source_type = self.source_type.trim().to_owned();
        self.source_locator = self.source_locator.trim().to_owned();
        self.redaction_mode = self.redaction_mode.trim().to_owned();
        self.query_digest = lower(&self.query_digest);
        self.content_digest = lower(&self.content_digest);
        self.immutability = match &*lower(&self.immutability) {
            "" => "unknown".to_owned(),
            given => given.to_owned(),
        };
        self.retrieved_at = dated(self.retrieved_at);
        self
    }

    fn check(&self) -> Result<()> {
        let required = [
            &self.ref_id,
            &self.source_type,
            &self.source_locator,
            &self.redaction_mode,
        ];
        if required.iter().any(|text| text.is_empty()) {
            let fields = "ref_id/source_type/source_locator/redaction_mode";
            return Err(unverified(format!(
                "context record fields {fields} are required"
            )));
        }
        if !is_digest(&self.query_digest) || !is_digest(&self.content_digest) {
            return Err(unverified("context record digests must be sha256 hex"));
        }
        match &*self.immutability {
            "unknown" | "mutable" | "immutable" => Ok(()),
            _ => Err(unverified(
                "context record immutability must be unknown|mutable|immutable",
            )),
        }
    }

    fn key(&self) -> (String, String, String, String) {
        (
            self.ref_id.clone(),
            self.source_type.clone(),
            self.source_locator.clone(),
            self.content_digest.clone(),
        )
    }
}

/// What is noted of each receipt on the way.
#[derive(Default)]
struct Tally {
    receipts: u64,
    modes: Vec<String>,
    unsorted: bool,
}

impl Tally {
    fn add(&mut self, receipt: &Receipt) {
        self.receipts += 1;
        let mode = match &*receipt.redaction_mode {
            "" => "unknown",
            mode => mode,
        };
        if self.modes.len() < 2 && !self.modes.iter().any(|known| known == mode) {
            self.modes.push(mode.to_owned());
        }
    }

    fn finish(self, header: Header) -> Refs {
        Refs {
            header,
            receipts: self.receipts,
            privacy_mode: match &*self.modes {
                [] => String::new(),
                [one] => one.clone(),
                _ => "mixed".to_owned(),
            },
            sorted: !self.unsorted,
        }
    }
}

/// A digest of many digests that does not depend on their order: their sum modulo 2^256, each taken through a hash of
/// its own, and the number of them. Good for comparing two lists that are both signed for, not for finding forgeries.
#[derive(Default)]
struct Sum([u8; 32]);

impl Sum {
    fn add(&mut self, digest: Sha256) {
        let mut carry = 0u16;
        for (sum, byte) in self.0.iter_mut().zip(digest.as_bytes()) {
            carry += u16::from(*sum) + u16::from(*byte);
            *sum = carry.to_le_bytes()[0];
            carry >>= 8;
        }
    }

    fn digest(&self, count: u64) -> Sha256 {
        let mut hasher = Hasher::new();
        hasher.update(self.0);
        hasher.update(count.to_le_bytes());
        hasher.finish()
    }
}

fn hold(held: &mut Vec<Receipt>, receipt: Receipt) -> Result<()> {
    held.push(receipt);
    if held.len() <= MAX_UNSORTED_RECEIPTS {
        return Ok(());
    }
    let message =
        format!("more than {MAX_UNSORTED_RECEIPTS} receipts of {REFS_NAME} are out of order");
    Err(Fault::new(
        Category::InvalidInput,
        "too_many_unsorted_receipts",
        message,
    )
    .hint("record the run again: receipts are then in order of their ref_id"))
}

fn dated(time: WireTime) -> WireTime {
    WireTime::at(time.get().unwrap_or(WireTime::UNDATED))
}
