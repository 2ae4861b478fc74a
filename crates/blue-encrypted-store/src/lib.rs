//! Records in DynamoDB, encrypted on the client, with the same code on a laptop and in production.
//!
//! A [`Store`] is one table. It is divided into partitions (`job#<id>`, `peer#<id>`, ..), each with its own data key.
//! A [`Partition`] is read whole ([`Partition::load`]) and changed by all-or-nothing batches ([`Partition::commit`]).
//! What is stored is an [`Entity`]: a Rust type that says which of its fields are cleartext; all others are sealed.
//!
//! The client is the official AWS SDK. What differs between a laptop and production is its configuration alone
//! ([`Backend`]): requests are answered by an embedded DynamoDB engine in this process, by DynamoDB Local at an endpoint,
//! or by AWS.
//!
//! # Quick start
//! ```
//! use std::sync::Arc;
//!
//! use blue_encrypted_store::{
//!     Batch, Entity, Id, Kind, Label, LocalFileKeyProvider, PartitionVersion, Store, StoreConfig, StorePath,
//! };
//!
//! /// Everybody who reads the table sees the status, and nobody without the key the notes.
//! #[derive(Entity)]
//! #[entity(name = "visit")]
//! struct Visit {
//!     #[id]
//!     id: Id,
//!     #[clear]
//!     status: Label,
//!     notes: String,
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let home = tempfile::tempdir()?;
//! # let path = home.path().join("keys/umk.key");
//! let keys = Arc::new(LocalFileKeyProvider::new(path));
//! let store = Store::open(StoreConfig::new(StorePath::Memory), keys).await?;
//! let patient = store.partition(Kind::custom("patient")?, "p1")?;
//!
//! let mut batch = Batch::new();
//! let (id, status) = (Id::parse("v1")?, Label::parse("open")?);
//! batch.insert(Visit { id, status, notes: "slept badly".into() })?;
//! let version = patient.commit(batch, PartitionVersion::NONE).await?;
//!
//! let snapshot = patient.load().await?.ok_or("nothing was committed")?;
//! let visit = snapshot.get::<Visit>("v1")?.ok_or("there is no such visit")?;
//! assert_eq!(visit.value().notes, "slept badly");
//!
//! // Cleartext changes without encrypting the payload anew; a commit on an outdated version is refused.
//! let mut batch = Batch::new();
//! batch.update_clear(&visit, VisitClear { status: Label::parse("done")? })?;
//! patient.commit(batch, version).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Keys
//! ```text
//! UMK          the user's master key: in a file, or in a key service that never gives it out
//!  └ KEK       one for each store, tenant, user and epoch; derived
//!     └ DEK    one for each partition and version; random, stored wrapped under the KEK
//!        ├ content key   one for each write; derived, with a commitment that is stored
//!        └ seal keys     records, manifest: authenticate every attribute of every row
//! ```
//! Every key is 32 bytes of HKDF-SHA256 or of the operating system's generator. Ciphertexts are AES-256-GCM, seals
//! HMAC-SHA256. The stored format is described in `docs/store/format.md`, to the byte; a second implementation was
//! written from that page.
//!
//! ## Choosing a provider
//! | provider | the master key is | for |
//! |---|---|---|
//! | [`LocalFileKeyProvider`] | 32 bytes in a file of this user | laptops, tests; tables in AWS refuse it |
//! | `AwsKmsKeyProvider` (feature `aws`) | an HMAC key in AWS KMS, pinned by its ARN | tables in AWS |
//! | `Tpm2KeyProvider` (feature `tpm2`) | sealed to this machine's TPM 2.0, its firmware and its Secure Boot state | one machine, tables anywhere |
//! | your own [`KeyProvider`] | wherever you keep it | a gate that rules on each key, another key service |
//!
//! [`KeySource::from_env`] chooses one by `BLUE_KEYS`, as [`StoreConfig::from_env`] chooses the table.
//!
//! A provider is asked for a KEK again after [`KeyLifetime`], so that a key which is disabled stops the store.
//!
//! # What is protected
//! Against somebody who reads and writes the whole table, replays what was ever in it, and has no key: the sealed half
//! of every record is secret, and whatever is changed, swapped, moved, replayed, deleted or resurrected is refused when
//! it is read, by an error that names the check. `docs/store/attacks.md` lists the attacks with the tests that try them.
//!
//! Every use of a key is on record in the table, in chains that are protected in the same way ([`Store::verify_chain`],
//! [`CryptoAuditEvent`]); a commit and its record are one transaction.
//!
//! A partition goes into a sealed file and comes back, also into another store ([`Partition::export`],
//! [`Store::import`]): all of it or nothing, and never over anything that is whole.
//!
//! # What is not
//! - Names, times, sizes and the fields that are declared cleartext are visible. [`Entity::PADDED_TO`] hides lengths.
//! - Data can be destroyed: it is noticed, not prevented.
//! - Putting a partition back as it was earlier is recognised by machines that saw it later, by their anchor file
//!   ([`StoreConfig::anchor`]), and by nobody else. Who opens a table elsewhere without one says so
//!   ([`StoreConfig::without_anchor`]).
//! - Lists across partitions ([`CrossPartition`]) are hints: confirm one before acting on it ([`Store::confirm`]).
//! - Whoever reads the memory of a process that has the store open has its keys. Nothing is hidden from the machine.
//!   [`forbid_core_dumps`] keeps that memory out of core dumps, and other users' debuggers out of it; swap space and
//!   hibernation are the operating system's to encrypt.
//! - Who reads when, and how often, is visible to who runs the table.
//!
//! # Beside other libraries
//! | | this crate | AWS Database Encryption SDK | MongoDB CSFLE |
//! |---|---|---|---|
//! | what is encrypted | half of a record, as one ciphertext | attributes | fields |
//! | what is authenticated | every attribute, its place, and which records there are | the attributes of an item that are signed | each encrypted field by itself |
//! | moving a ciphertext to another record | refused | refused within the signature of an item | not told |
//! | an older version of a record put back | refused | not told | not told |
//! | a deleted record | refused | not told | not told |
//! | several records at once | up to 50,000, all or nothing | DynamoDB's transactions of 100 | the server's transactions |
//! | change of cleartext alone | without touching the ciphertext | the item is signed anew | without touching the ciphertext |
//! | finding by encrypted values | no | beacons | deterministic encryption |
//! | finding by cleartext | by status, as a hint | indexes | indexes |
//! | reading | a partition at a time | an item, a query, a scan | any query |
//! | without a server | embedded engine | no | no |
//! | languages | Rust; a Python script reads and writes tables | several | the official drivers |
//!
//! | operation | this crate | AWS Database Encryption SDK | MongoDB CSFLE |
//! |---|---|---|---|
//! | put, update on a condition, delete, several at once | [`Partition::commit`] of a [`Batch`] on a [`PartitionVersion`] | `PutItem`, `DeleteItem` with a condition, `TransactWriteItems`; no `UpdateItem` of encrypted attributes | `insertOne`, `updateOne`, `deleteOne`, transactions |
//! | get, query | [`Partition::load`], then [`Snapshot::get`] and [`Snapshot::entities`] | `GetItem`, `Query`, `Scan` | `find` |
//! | change cleartext alone | [`Batch::update_clear`] | put the item | `updateOne` |
//! | list across partitions | [`CrossPartition::list`], then [`Store::confirm`] | `Query` of an index | `find` |
//! | rotate a data key | [`Partition::rotate`], or by itself | an item's key is made anew at each put | `rewrapManyDataKey` keeps it; encrypt anew with another |
//! | rotate the master key | [`Store::rotate_kek`] and [`Store::retire_keks`] begin and end epochs of what it derives | KMS, or branch keys with `VersionKey` | `rewrapManyDataKey` |
//! | erase | [`Partition::erase`], with a certificate | delete items; the KMS key for all of them | delete the data key's document |
//! | export, import | [`Partition::export`], [`Store::import`] | no | no |
//! | audit | [`Store::verify_chain`], [`Store::audit_events`], in the table | CloudTrail has the calls of KMS | the server's, and KMS's |
//! | look for damage | [`Store::verify`] | read each item | read each document |
//!
//! Take one of the others to search in encrypted values, or to add encryption to a table that exists.

#[cfg(test)]
extern crate self as blue_encrypted_store;

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod anchor;
#[cfg(test)]
mod attacks;
mod audit;
mod backend;
mod batch;
mod bundle;
mod check;
mod client;
#[cfg(test)]
mod commits;
mod config;
mod core_dumps;
mod counted;
mod crypto;
mod draft;
#[cfg(any(feature = "embedded", test))]
mod embedded;
mod entity;
mod envelope;
mod epochs;
mod erasure;
mod failure;
#[cfg(test)]
mod faults;
mod flight;
mod hints;
mod identity;
mod kek;
#[cfg(test)]
mod key_attacks;
#[cfg(test)]
mod key_changes;
#[cfg(test)]
mod key_ends;
#[cfg(test)]
mod key_races;
mod key_source;
mod keyring;
mod keys;
#[cfg(any(feature = "aws", test))]
mod kms;
#[cfg(test)]
mod lab;
mod label;
mod leftovers;
mod local_key;
mod manifest;
mod metrics;
mod name;
#[cfg(any(feature = "aws", test))]
mod only_to_aws;
#[cfg(test)]
mod opening;
#[cfg(test)]
mod parity;
mod partition;
mod plaintext;
mod plan;
#[cfg(test)]
mod published;
mod reader;
mod record;
mod rotation;
mod row;
#[cfg(test)]
mod second_implementation;
mod snapshot;
mod sources;
mod store;
mod table;
mod task;
#[cfg(feature = "tpm2")]
mod tpm;
#[cfg(test)]
mod vectors;
mod verify;

pub use audit::{
    AUDIT_LANES, AuditCheckpoint, AuditOutcome, AuditReads, BreakKind, ChainBreak, ChainReport,
    CryptoAuditEvent, LaneHead, LaneReport, OnAuditBreak, Operation, TraceSource,
};
pub use backend::{Aws, AwsEndpoint, Backend, LocalEndpoint, MAX_ENDPOINT_BYTES, Profile, Realm};
pub use batch::{Batch, MAX_BATCH_RECORDS};
pub use blue_encrypted_store_derive::Entity;
pub use bundle::{BundleInfo, Imported, MAX_BUNDLE_BYTES, MAX_BUNDLE_ROW_BYTES};
pub use config::{DEFAULT_PARTITION_BYTES, PARTITION_BYTES_RANGE, StoreConfig, StorePath};
pub use core_dumps::forbid_core_dumps;
pub use draft::{MAX_CLEAR_FIELDS, MAX_NAME_BYTES};
pub use entity::{ClearField, ClearHalf, Entity, META, Stored};
pub use erasure::{Confirmed, Erasure, ErasureCertificate, ErasureEvent, ResidualCopy};
pub use hints::{Confirming, CrossPartition, Hint, MAX_HINTS};
pub use kek::KeyLifetime;
pub use key_source::{KeySource, Registers};
pub use keys::{
    DekContext, DekHandle, EncryptedDek, KekContext, KekHandle, KeyError, KeyProvider, UmkHandle,
};
#[cfg(feature = "aws")]
pub use kms::{AwsKmsKeyProvider, KmsKeyArn, MAX_ARN_BYTES};
pub use label::{Label, MAX_LABEL_BYTES};
pub use local_key::LocalFileKeyProvider;
pub use manifest::MAX_PARTITION_RECORDS;
pub use name::{Id, Kind, MAX_ID_BYTES, PartitionKey};
pub use partition::{Partition, PartitionVersion};
pub use row::MAX_ITEM_BYTES;
pub use snapshot::Snapshot;
pub use store::Store;
#[cfg(feature = "tpm2")]
pub use tpm::{PcrValues, Tpm, Tpm2KeyProvider};
pub use verify::{
    Finding, MAX_LISTED_FINDINGS, MAX_VERIFIED_PARTITIONS, Problem, Progress, VerifyReport,
};

/// What the methods here fail with: a category, a code, what to do next. [`KeyProvider`] and [`Entity`] of your own build and
/// return it too.
pub use worldcompute_fault::{Category, Fault, Result};
/// For a [`KeyProvider`] of your own: its methods are asynchronous, and the keys that it gives are wiped.
pub use {async_trait::async_trait, zeroize::Zeroizing};

/// What derived code names, so that it needs no dependency of its own.
#[doc(hidden)]
pub mod derived {
    pub use serde::*;
    pub use worldcompute_fault::Result;

    pub use crate::name::is_type_name;
    pub use crate::record::is_field_name;
}
