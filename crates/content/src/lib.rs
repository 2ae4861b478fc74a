//! The bytes by their name: a store of immutable objects, each named by the CID of its bytes.
//!
//! **Public artefacts only.** Objects lie on disk as they are, so that any peer can be served them by name: workload
//! modules, public inputs, outputs of public jobs, receipts. A secret has no place here; it belongs into the
//! encrypted store.
//!
//! - A write is atomic and durable: a reader sees the whole object or none, also after a crash.
//! - A read is verified: bytes that do not match their CID are never returned. A corrupt object is moved into
//!   `quarantine/`, so that it can be looked at and the next [`ContentStore::put`] repairs it.
//! - A stream or a range is verified as well, in constant memory: the first pass over an object takes a digest of each
//!   piece of 256 KiB while it verifies the whole, and whatever is read from then on is held against those, in memory,
//!   after it was read. So nothing rests on the file being unchanged since it was verified, nor on its times. The digests
//!   take 128 KiB of memory for a GiB, as long as a [`Reader`] lives, and 4 MiB for all that are remembered.
//! - What is needed stays: an object that is pinned under a [`PinName`] does over restarts and crashes, one that is
//!   [`Held`] does as long as the guard lives, which readers and writers have for theirs. The rest is a cache:
//!   [`ContentStore::collect`] removes what was not used for longest, and a store that
//!   [collects when it is full](ContentStore::collect_when_full) refuses new objects only when what is needed fills it.
//! - [`erasure`] makes 18 shards of an object, any ten of which give it back; [`placement`] chooses hosts for them.
//! - Both the size of one object and the size of the store are capped ([`Limits`]), streams while they run.
//!
//! On disk: `lock` is held by the process that has the store open. `pins/<name>` lists CIDs, one a line. `drafts/` are bytes on their way, which [`ContentStore::open`] clears of what killed writers left. `objects/<two characters>/<cid>`, where the two characters are the last but one of the CID's text (the
//! first ones are the same in every CID, the last one carries only three bits).
//!
//! All calls block on the disk: from async code, call them where blocking is allowed.
//!
//! ```
//! # let dir = tempfile::tempdir().unwrap();
//! use worldcompute_content::{ContentStore, Limits};
//!
//! let store = ContentStore::open(dir.path().join("content"), Limits::default())?;
//! let cid = store.put(b"Hello, world")?;
//! assert_eq!(store.get(&cid)?, b"Hello, world");
//! assert_eq!(store.read_range(&cid, 7, 5)?, b"world");
//! # Ok::<(), worldcompute_fault::Fault>(())
//! ```

mod collect;
mod disk;
mod draft;
pub mod erasure;
mod needed;
mod pieces;
mod pin;
pub mod placement;
mod reader;
mod refusal;
mod room;
mod store;

pub use collect::{Collect, Collected};
pub use needed::Held;
pub use pin::{MAX_PIN_NAME, MAX_PIN_OBJECTS, MAX_PINNED, PinName};
pub use reader::Reader;
pub use store::{ContentStore, Limits, MAX_RANGE, MAX_WHOLE};
