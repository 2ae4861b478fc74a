//! Records in DynamoDB, encrypted on the client, with the same code on a laptop and in production.
//!
//! A [`Store`] is one table. It is divided into partitions (`job#<id>`, `peer#<id>`, ..), each with its own data key.
//! A [`Partition`] is read whole ([`Partition::load`]) and changed by all-or-nothing batches ([`Partition::commit`]).
//! What is stored is an [`Entity`]: a Rust type that says which of its fields are cleartext and which are sealed.

mod batch;
mod config;
mod entity;
mod keys;
mod name;
mod partition;
mod snapshot;
mod store;

pub use batch::Batch;
pub use config::{StoreConfig, StorePath};
pub use entity::{Entity, META, Stored};
pub use keys::{KeyProvider, LocalFileKeyProvider};
pub use name::{Id, Kind, PartitionKey};
pub use partition::{Partition, PartitionVersion};
pub use snapshot::Snapshot;
pub use store::{CrossPartition, Hint, Store};
