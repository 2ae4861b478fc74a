//! Erasure coding: an object in shards, any ten of eighteen of which give it back.
//!
//! Systematic Reed-Solomon, RS(10,18), over GF(2^16) as in Leopard-RS. An object is cut into stripes of 40 MiB, each of
//! which gives 18 shards of 4 MiB; the last stripe is shorter, and so are its shards. Shards are objects like any other: named
//! by their CID, verified on every read. A [`Manifest`] binds them to the object.
//!
//! Within a stripe the bytes go round in rows: row after row, each data shard gets the next segment of 64 KiB, and
//! the other shards get the code of that row. So whatever the size of the object, coding it is one pass in less than
//! 20 MiB of memory. The segments of the last row have the same length each, an even one and at least 64 bytes,
//! and are filled up with bytes that differ (place `p` of the row with the low byte of `p xor p / 256`); [`Manifest::length`] says where the object ends. An empty object has
//! no stripe: its manifest says it all. Shards of equal content, as a stripe of zeros gives, are one object to a store: on
//! one machine they are lost together, and found together.
//!
//! ```
//! # let dir = tempfile::tempdir().unwrap();
//! use worldcompute_content::{ContentStore, Limits, erasure};
//!
//! let store = ContentStore::open(dir.path().join("content"), Limits::default())?;
//! let object = store.put(b"Hello, world")?;
//! let coded = erasure::encode(&store, &object)?;
//! let lost = coded.manifest.shards().take(8).map(|(shard, _)| shard);
//! let repaired = erasure::repair(&store, &coded.manifest, lost)?;
//! assert_eq!(repaired.len(), 8);
//! # Ok::<(), worldcompute_fault::Fault>(())
//! ```

mod encode;
mod geometry;
mod manifest;
mod restore;
mod source;

pub use encode::{Encoded, encode};
pub use geometry::{DATA_SHARDS, MAX_OBJECT, SHARD_BYTES, SHARDS};
pub use manifest::{MAX_MANIFEST, Manifest, ShardId};
pub use restore::{Restored, repair, restore, survey};
pub use source::{Unusable, Why};
