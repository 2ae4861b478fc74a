//! Records in DynamoDB, encrypted on the client, with the same code on a laptop and in production.
//!
//! A [`Store`] is one table. It is divided into partitions (`job#<id>`, `peer#<id>`, ..), each with its own data key.
//! A [`Partition`] is read whole ([`Partition::load`]) and changed by all-or-nothing batches ([`Partition::commit`]).
//! What is stored is an [`Entity`]: a Rust type that says which of its fields are cleartext and which are sealed.
//!
//! The client is the official AWS SDK. What differs between a laptop and production is its configuration alone
//! ([`Backend`]): requests are answered by an embedded DynamoDB engine in this process, by DynamoDB Local at an endpoint,
//! or by AWS.
//!
//! # What an attacker can do who reads and writes the whole table but has no key
//! Read names, times, sizes and the fields that are declared cleartext; destroy data. Anything that is changed, swapped,
//! moved, replayed, deleted or resurrected is refused when it is read, by an error that names the check. Putting the
//! whole table back as it was earlier is recognised by machines that saw it later, by their anchor file, and by nobody
//! else. Lists across partitions ([`CrossPartition`]) are hints, without that protection. Every use of a key is on record in
//! the table, in chains that are protected in the same way ([`Store::verify_chain`], [`CryptoAuditEvent`]).

mod anchor;
#[cfg(test)]
mod attacks;
mod audit;
mod backend;
mod batch;
mod check;
mod client;
#[cfg(test)]
mod commits;
mod config;
mod crypto;
mod draft;
mod embedded;
mod entity;
mod envelope;
mod failure;
mod identity;
mod kek;
#[cfg(test)]
mod key_attacks;
mod keyring;
mod keys;
#[cfg(any(feature = "aws", test))]
mod kms;
#[cfg(test)]
mod lab;
mod local_key;
mod manifest;
mod name;
#[cfg(any(feature = "aws", test))]
mod only_to_aws;
#[cfg(test)]
mod opening;
mod partition;
mod plan;
#[cfg(test)]
mod published;
mod reader;
mod record;
mod row;
#[cfg(test)]
mod second_implementation;
mod snapshot;
mod sources;
mod store;
mod table;
mod task;
#[cfg(test)]
mod vectors;
mod verify;

pub use audit::{
    AUDIT_LANES, AuditCheckpoint, AuditOutcome, AuditReads, BreakKind, ChainBreak, ChainReport,
    CryptoAuditEvent, LaneHead, LaneReport, OnAuditBreak, Operation, TraceSource,
};
pub use backend::{Aws, AwsEndpoint, Backend, LocalEndpoint, MAX_ENDPOINT_BYTES, Profile, Realm};
pub use batch::{Batch, MAX_BATCH_RECORDS};
pub use config::{StoreConfig, StorePath};
pub use draft::{MAX_CLEAR_FIELDS, MAX_NAME_BYTES};
pub use entity::{Entity, META, Stored};
pub use kek::KeyLifetime;
pub use keys::{
    DekContext, DekHandle, EncryptedDek, KekContext, KekHandle, KeyError, KeyProvider, UmkHandle,
};
#[cfg(feature = "aws")]
pub use kms::{AwsKmsKeyProvider, KmsKeyArn, MAX_ARN_BYTES};
pub use local_key::LocalFileKeyProvider;
pub use manifest::MAX_PARTITION_RECORDS;
pub use name::{Id, Kind, MAX_ID_BYTES, PartitionKey};
pub use partition::{Partition, PartitionVersion};
pub use row::MAX_ITEM_BYTES;
pub use snapshot::Snapshot;
pub use store::{CrossPartition, Hint, MAX_HINTS, Store};
pub use verify::{
    Finding, MAX_LISTED_FINDINGS, MAX_VERIFIED_PARTITIONS, Problem, Progress, VerifyReport,
};
