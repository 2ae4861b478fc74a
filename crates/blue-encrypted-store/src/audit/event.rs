//! One event, what its hash covers, and its row.

use aws_lc_rs::hmac;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use uuid::Uuid;
use worldcompute_fault::{Category, Fault};

use super::{Lane, Signer};
use crate::check::Check;
use crate::crypto::{Digest, hmac as mac, lp, same, sha256};
use crate::name::{parse_time, time};
use crate::row::Row;

const TYPE: &str = "audit_event";
const SK_PREFIX: &str = "event#";
const ATTRIBUTES: [&str; 17] = [
    "pk",
    "sk",
    "entity_type",
    "event_id",
    "timestamp",
    "trace_id",
    "span_id",
    "operation",
    "key_id",
    "principal",
    "outcome",
    "count",
    "kek_epoch",
    "seq",
    "previous_hash",
    "event_hash",
    "event_mac",
];

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// The word for it, as it is stored.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            fn parse(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

words! {
    /// What was done with a key.
    Operation {
        /// Records were encrypted and committed, or taken out: one event a commit.
        Encrypt = "Encrypt",
        /// Records were decrypted.
        Decrypt = "Decrypt",
        /// A key-encryption key was derived from the master key.
        DeriveKek = "DeriveKek",
        /// A data key was made.
        GenerateDek = "GenerateDek",
        /// A data key was wrapped for storing.
        WrapDek = "WrapDek",
        /// A data key was unwrapped.
        UnwrapDek = "UnwrapDek",
        /// A newer key took the place of a key: the new one is named.
        Rotate = "Rotate",
        /// Data keys were destroyed; of an epoch's key: it and all older ones are refused from then on.
        Erase = "Erase",
        /// The key was compared with the one that the store was set up with.
        KcvCheck = "KcvCheck",
        /// The chain goes on in another store, or goes on from one.
        Boundary = "Boundary",
    }
}

words! {
    /// How it ended.
    AuditOutcome {
        /// It was done.
        Success = "success",
        /// It failed: a check, a provider of keys.
        Failure = "failure",
        /// A policy forbade it.
        Denied = "denied",
    }
}

impl AuditOutcome {
    /// That of an operation that ended with this fault.
    pub(crate) const fn of(fault: &Fault) -> Self {
        match fault.category() {
            Category::PolicyBlocked | Category::ApprovalRequired => Self::Denied,
            _ => Self::Failure,
        }
    }
}

/// One event of the audit. It names operations and keys, never a key or content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CryptoAuditEvent {
    /// UUID version 7.
    pub event_id: Uuid,
    /// When the operation took place; for several that were counted together, the first of them.
    pub timestamp: Timestamp,
    /// W3C trace id, zero when there is none; in JSON as hex.
    #[serde(serialize_with = "in_hex")]
    pub trace_id: [u8; 16],
    /// W3C span id, zero when there is none; in JSON as hex.
    #[serde(serialize_with = "in_hex")]
    pub span_id: [u8; 8],
    /// What was done.
    pub operation: Operation,
    /// With which key: `dek#{kind}#{id}#{version}`, `dek#{kind}#{id}` when no version is known, `kek#{epoch}`.
    pub key_id: String,
    /// Who: `{tenant}/{user}`, with `/{actor}` where that is told ([`crate::StoreConfig::actor`]).
    pub principal: String,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// On how many records or keys.
    pub count: u64,
    /// The epoch of the key-encryption key that the MAC's key is derived from.
    pub kek_epoch: u64,
    /// Counts the events of a lane from 1.
    pub seq: u64,
    /// The hash of the event before it; of the first one, the hash of the store's id and the lane.
    #[serde(serialize_with = "in_hex")]
    pub previous_hash: Digest,
    /// SHA-256 of all fields above, the store's id and the lane.
    #[serde(serialize_with = "in_hex")]
    pub event_hash: Digest,
    /// HMAC-SHA256 of the hash under the audit's key.
    #[serde(serialize_with = "in_hex")]
    pub event_mac: Digest,
}

fn in_hex<S: Serializer, const N: usize>(bytes: &[u8; N], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&hex::encode(bytes))
}

/// The sort key of an event.
pub(super) fn sort_key(seq: u64) -> String {
    format!("{SK_PREFIX}{seq:020}")
}

/// The number in an event's sort key.
pub(super) fn parse_sort_key(sk: &str) -> Option<u64> {
    let seq = sk.strip_prefix(SK_PREFIX)?.parse().ok()?;
    (sort_key(seq) == sk).then_some(seq)
}

/// Why a row is no event of this lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It is not the event that its key says.
    Misplaced,
    /// Its hash does not cover what it says, or it has other attributes.
    Changed,
    /// It was not written by this store's key.
    ForeignMac,
}

impl CryptoAuditEvent {
    /// Hashes and authenticates the event that the other fields make.
    pub(super) fn close(mut self, signer: &Signer, lane: Lane) -> Self {
        self.event_hash = sha256(&self.covered(&signer.store, lane));
        self.event_mac = mac(&signer.event_key, &self.event_hash);
        self
    }

    /// A domain tag, then each field with its length before it.
    fn covered(&self, store: &str, Lane(lane): Lane) -> Vec<u8> {
        let mut out = b"blue/v1/audit/event".to_vec();
        let time = time(self.timestamp);
        let fields: [&[u8]; 14] = [
            store.as_bytes(),
            &[lane],
            &self.seq.to_be_bytes(),
            &self.kek_epoch.to_be_bytes(),
            self.event_id.as_bytes(),
            time.as_bytes(),
            &self.trace_id,
            &self.span_id,
            self.operation.as_str().as_bytes(),
            self.key_id.as_bytes(),
            self.principal.as_bytes(),
            self.outcome.as_str().as_bytes(),
            &self.count.to_be_bytes(),
            &self.previous_hash,
        ];
        for field in fields {
            lp(&mut out, field);
        }
        out
    }

    pub(super) fn row(&self, lane: Lane) -> Row {
        let mut row = Row::new(&lane.pk(), &sort_key(self.seq), TYPE);
        row.set_text("event_id", self.event_id.to_string());
        row.set_text("timestamp", time(self.timestamp));
        row.set_text("trace_id", hex::encode(self.trace_id));
        row.set_text("span_id", hex::encode(self.span_id));
        row.set_text("operation", self.operation.as_str());
        row.set_text("key_id", self.key_id.as_str());
        row.set_text("principal", self.principal.as_str());
        row.set_text("outcome", self.outcome.as_str());
        row.set_integer("count", self.count);
        row.set_integer("kek_epoch", self.kek_epoch);
        row.set_integer("seq", self.seq);
        row.set_bytes("previous_hash", self.previous_hash);
        row.set_bytes("event_hash", self.event_hash);
        row.set_bytes("event_mac", self.event_mac);
        row
    }

    /// The event in the row with that number, if this store wrote it there.
    pub(super) fn open(row: &Row, seq: u64, signer: &Signer, lane: Lane) -> Result<Self, Flaw> {
        let event = Self::parse(row).map_err(|_| Flaw::Changed)?;
        if event.seq != seq || row.text("pk") != Ok(lane.pk().as_str()) {
            return Err(Flaw::Misplaced);
        }
        if !same(
            &sha256(&event.covered(&signer.store, lane)),
            &event.event_hash,
        ) {
            return Err(Flaw::Changed);
        }
        if !event.is_of(&signer.event_key) {
            return Err(Flaw::ForeignMac);
        }
        Ok(event)
    }

    fn is_of(&self, key: &hmac::Key) -> bool {
        same(&mac(key, &self.event_hash), &self.event_mac)
    }

    fn parse(row: &Row) -> Result<Self, Check> {
        row.only(&ATTRIBUTES)?;
        if row.text("entity_type")? != TYPE {
            return Err(Check::Address);
        }
        Ok(Self {
            event_id: uuid(row.text("event_id")?).ok_or(Check::Attributes)?,
            timestamp: parse_time(row.text("timestamp")?).ok_or(Check::Attributes)?,
            trace_id: from_hex(row.text("trace_id")?)?,
            span_id: from_hex(row.text("span_id")?)?,
            operation: Operation::parse(row.text("operation")?).ok_or(Check::Attributes)?,
            key_id: row.text("key_id")?.to_owned(),
            principal: row.text("principal")?.to_owned(),
            outcome: AuditOutcome::parse(row.text("outcome")?).ok_or(Check::Attributes)?,
            count: row.integer("count")?,
            kek_epoch: row.integer("kek_epoch")?,
            seq: row.integer("seq")?,
            previous_hash: row.array("previous_hash")?,
            event_hash: row.array("event_hash")?,
            event_mac: row.array("event_mac")?,
        })
    }
}

/// In its one spelling.
fn uuid(text: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(text).ok()?;
    (id.to_string() == text).then_some(id)
}

/// In its one spelling.
fn from_hex<const N: usize>(text: &str) -> Result<[u8; N], Check> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| Check::Attributes)?;
    match hex::encode(bytes) == text {
        true => Ok(bytes),
        false => Err(Check::Attributes),
    }
}
