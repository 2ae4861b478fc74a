//! What an erasure says of itself, and whether that is still so.
//!
//! A certificate names the event of the audit by which its partition was erased. So it is checked against what it speaks of:
//! the lane that leads over that event to its end, and the partition's place in the table.

use std::fmt;

use serde::{Deserialize, Serialize};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::canonical_json;

use super::{Ended, OwnKeys, Tombstone};
use crate::Store;
use crate::audit::{AuditOutcome, CryptoAuditEvent, Lane, Operation};
use crate::check::Check;
use crate::crypto::{hmac, same};
use crate::name::{PartitionKey, ROOT};
use crate::partition::Shared;
use crate::record::Scope;
use crate::store::Inner;
use crate::table::DATA_KEYS;

pub(super) const FORMAT: &str = "blue/v1/erasure";
/// Where copies may be that no store can delete, and how long.
const RESIDUAL: [(&str, &str); 6] = [
    (
        "points in time and backups of the table",
        "DynamoDB keeps points in time for up to 35 days; backups on demand stay until they are deleted, and so does what it \
         keeps of a table that is deleted",
    ),
    (
        "streams, exports and replicas of the table",
        "they are consumed or deleted; DynamoDB keeps streams for 24 hours",
    ),
    (
        "free pages and the write-ahead log of an embedded engine's file",
        "they are written over at some time, or never; or the file is destroyed",
    ),
    (
        "bundles that were exported from the partition",
        "they are deleted; retired epochs do not open them here, the master key does elsewhere",
    ),
    (
        "snapshots and handles in the memory of other processes that had loaded the partition",
        "they are dropped, or the process learns of the erasure",
    ),
    (
        "the partition's name, and what was done with its keys and when: tombstone, audit, anchors",
        "for ever; no content and no key",
    ),
];

/// What an erasure says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erasure {
    /// `blue/v1/erasure`.
    pub format: String,
    /// The store's id.
    pub store: String,
    /// Whose store.
    pub tenant: String,
    /// Whose key.
    pub user: String,
    /// The partition, `{kind}#{id}`.
    pub partition: String,
    /// When the tombstone was set, UTC.
    pub erased_at: String,
    /// The tombstone's seal, in hex.
    pub tombstone: String,
    /// What the audit has of it.
    pub event: ErasureEvent,
    /// Rows of wrapped data keys that this call deleted; not those that an earlier one had, which then broke off, and not
    /// those that somebody had hidden. That they were keys was not verified: destroying needs no trust.
    pub data_keys_destroyed: u64,
    /// All other rows that this call deleted.
    pub rows_deleted: u64,
    /// Who has one of these copies from before, and the master key or the key-encryption key of its epoch, can read it; so
    /// can who has the data keys themselves. Nobody else can.
    pub residual_copies: Vec<ResidualCopy>,
}

/// The last event of the audit that says of a partition that its data keys were destroyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErasureEvent {
    /// Which lane it is in.
    pub lane: u8,
    /// Its number there.
    pub seq: u64,
    /// Its hash, in hex.
    pub hash: String,
}

/// A copy that is out of the store's reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResidualCopy {
    /// Where it may be.
    pub place: String,
    /// When it is gone.
    pub until: String,
}

/// The statement that a partition was erased, authenticated by a key of the store: [`Store::check_certificate`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErasureCertificate {
    /// What happened.
    pub erasure: Erasure,
    /// HMAC-SHA256 of the canonical JSON (RFC 8785) of `erasure`, in hex.
    pub mac: String,
}

/// What was compared with a certificate, and agrees with it: the MAC, every event of the audit's lane, and the partition's
/// place in the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Confirmed {
    /// The partition that was erased, and is.
    pub partition: String,
    /// When, UTC.
    pub erased_at: String,
    /// The event that says so.
    pub event: ErasureEvent,
    /// How many events its lane has: they were read from the first to the last, and none after the erasure is a commit.
    pub events_read: u64,
    /// Whether this machine remembers the end of the partition outside of the table. Where it does not, the table was
    /// compared with itself alone: one that was put back as a whole to the time after the erasure looks the same.
    pub remembered: bool,
}

impl Store {
    /// Whether this store made `certificate`, nobody changed it, and what it says is so: the audit leads over the event that
    /// it names, tells of no commit after it, and in the table there is nothing but the tombstone that it names. Whoever has
    /// the store's keys could have made it: it proves to its owner, not to others, what was done.
    ///
    /// # Errors
    /// `certificate_of_another_store`; `seal_mismatch` (it was changed, or made with another key); `audit_chain_broken`;
    /// `erasure_not_on_record` (the audit has no such event); `partition_alive_again` (there were commits, or there are
    /// keys or records again); `tombstone_missing`; `erasure_superseded` (it was erased once more, and has another tombstone);
    /// those of the key provider and of the table.
    pub async fn check_certificate(&self, certificate: &ErasureCertificate) -> Result<Confirmed> {
        let (store, erasure) = (&*self.0, &certificate.erasure);
        is_of_this_store(store, erasure)?;
        let keys = OwnKeys::of(store).await?;
        is_unchanged(&keys, certificate)?;
        let scope = Scope {
            store: store.id().to_owned(),
            key: store.kinds.partition_of_records(&erasure.partition)?,
        };
        let remembered = store.audit.has_ended(&scope.key);
        is_gone(store, &scope, &keys, erasure).await?;
        let events_read = is_on_record(store, &scope, erasure).await?;
        Ok(Confirmed {
            partition: erasure.partition.clone(),
            erased_at: erasure.erased_at.clone(),
            event: erasure.event.clone(),
            events_read,
            remembered,
        })
    }
}

fn is_of_this_store(store: &Inner, erasure: &Erasure) -> Result<()> {
    let owner = &store.keks.owner;
    let here = [&owner.store, &owner.tenant, &owner.user];
    if [&erasure.store, &erasure.tenant, &erasure.user] == here {
        return Ok(());
    }
    let why = format!("it is of the store {:.80?}", erasure.store);
    let hint = "ask the store that made it, as the user who erased";
    Err(refused("certificate_of_another_store", &erasure.partition, why).hint(hint))
}

fn is_unchanged(keys: &OwnKeys, certificate: &ErasureCertificate) -> Result<()> {
    let erasure = &certificate.erasure;
    let expected = hex::encode(mac(keys, erasure)?);
    if erasure.format == FORMAT && same(expected.as_bytes(), certificate.mac.as_bytes()) {
        return Ok(());
    }
    let why = "this store did not make it, or it was changed";
    Err(Check::Seal.failed(
        format_args!("the certificate for {:.300?}", erasure.partition),
        why,
    ))
}

/// How many events the lane has that leads over the one of this erasure.
async fn is_on_record(store: &Inner, scope: &Scope, erasure: &Erasure) -> Result<u64> {
    let (lane, commits) = (Lane::of(&scope.key), format!("dek#{}#", scope.key));
    let (mut is_there, mut since) = (false, 0_u64);
    let see = &mut |event: &CryptoAuditEvent| {
        let is_commit = matches!(event.operation, Operation::Encrypt | Operation::Rotate);
        let is_done = event.outcome == AuditOutcome::Success;
        if erasure.event == place(lane, event) {
            is_there = is_erasure(&scope.key, event);
        } else if is_there && is_done && is_commit && event.key_id.starts_with(&commits) {
            since = since.saturating_add(1);
        }
    };
    let report = store.audit.walk(lane, see).await?;
    report.check()?;
    if !is_there {
        return Err(not_on_record(&erasure.partition));
    }
    if since > 0 {
        let why = format!("the audit tells of {since} commits since");
        return Err(alive(&erasure.partition, why));
    }
    Ok(report.events)
}

/// Whether the table has the tombstone, and no keys.
async fn is_gone(store: &Inner, scope: &Scope, keys: &OwnKeys, erasure: &Erasure) -> Result<()> {
    let pk = scope.key.to_string();
    let Some(root) = store.table.get(&pk, ROOT).await? else {
        let hint = "erase the partition again, and look for who deleted the tombstone";
        let why = "the table has no tombstone of it any more";
        return Err(refused("tombstone_missing", &pk, why).hint(hint));
    };
    if !Tombstone::is(&root) {
        return Err(alive(&erasure.partition, "there is a manifest again"));
    }
    let tombstone = Tombstone::open(scope, keys, &root)
        .map_err(|check| check.failed(&scope.key, "the tombstone is not as it was written"))?;
    if hex::encode(tombstone.seal) != erasure.tombstone {
        let why = format!("it was erased again at {}", tombstone.erased_at);
        let hint = "erase the partition once more for the certificate of that";
        return Err(refused("erasure_superseded", &pk, why).hint(hint));
    }
    let found = store.table.sort_keys(&pk, Some(DATA_KEYS), 1).await?;
    match found.is_empty() {
        true => Ok(()),
        false => Err(alive(
            &erasure.partition,
            "wrapped data keys lie beside its tombstone",
        )),
    }
}

fn alive(partition: &str, why: impl fmt::Display) -> Fault {
    refused("partition_alive_again", partition, why)
        .hint("erase the partition again, and look for who put it back")
}

fn not_on_record(partition: &str) -> Fault {
    let why = "the audit does not tell of this erasure";
    refused("erasure_not_on_record", partition, why).hint(
        "the audit was put back, or this is an older copy of the table: look with Store::verify",
    )
}

fn refused(code: &'static str, partition: &str, why: impl fmt::Display) -> Fault {
    let message = format!("{partition:.300}: {why}");
    Fault::new(Category::VerificationFailed, code, message)
}

fn is_erasure(key: &PartitionKey, event: &CryptoAuditEvent) -> bool {
    event.operation == Operation::Erase
        && event.outcome == AuditOutcome::Success
        && event.key_id == format!("dek#{key}")
}

fn place(lane: Lane, event: &CryptoAuditEvent) -> ErasureEvent {
    ErasureEvent {
        lane: lane.number(),
        seq: event.seq,
        hash: hex::encode(event.event_hash),
    }
}

/// The certificate of what has just been done, or was found to be.
pub(super) async fn issue(
    Shared { store, scope, .. }: &Shared,
    keys: &OwnKeys,
    ended: &Ended,
) -> Result<ErasureCertificate> {
    let lane = Lane::of(&scope.key);
    let wanted = |event: &CryptoAuditEvent| is_erasure(&scope.key, event);
    let event = store.audit.latest(lane, wanted).await?;
    let event = event.map(|event| place(lane, &event));
    let event = event.ok_or_else(|| not_on_record(&scope.key.to_string()))?;
    let erasure = stated(store, scope, ended, event);
    let mac = hex::encode(mac(keys, &erasure)?);
    Ok(ErasureCertificate { erasure, mac })
}

fn stated(store: &Inner, scope: &Scope, ended: &Ended, event: ErasureEvent) -> Erasure {
    let owner = &store.keks.owner;
    let residual = RESIDUAL.map(|(place, until)| ResidualCopy {
        place: place.to_owned(),
        until: until.to_owned(),
    });
    Erasure {
        format: FORMAT.to_owned(),
        store: owner.store.clone(),
        tenant: owner.tenant.clone(),
        user: owner.user.clone(),
        partition: scope.key.to_string(),
        erased_at: ended.tombstone.erased_at.clone(),
        tombstone: hex::encode(ended.tombstone.seal),
        event,
        data_keys_destroyed: ended.data_keys,
        rows_deleted: ended.rows,
        residual_copies: residual.to_vec(),
    }
}

fn mac(keys: &OwnKeys, erasure: &Erasure) -> Result<[u8; 32]> {
    Ok(hmac(&keys.certificates, &canonical_json(erasure)?))
}
