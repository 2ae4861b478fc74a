//! Bytes that survive a crash.
//!
//! - [`write_atomic`] and [`create_new`]: a reader sees the old content or the new, whole, never a mixture;
//! - [`Journal`]: an append-only file whose acknowledged records are there after any crash;
//! - [`OwnedLock`]: mutual exclusion between processes, released by the kernel when its owner dies;
//! - [`read_bounded`], [`read_private`], [`private_dir`]: limits and least-privilege modes on the way in.
//!
//! Everything blocks: in async code call it from a blocking thread. The crate is for Unix systems. Each step that
//! touches the disk goes through [`Disk`], so that a test can fail or crash the program at any of them.

mod atomic;
mod dir;
mod disk;
mod flock;
mod journal;
mod lock;
mod owner;
mod read;
mod temp;

pub use atomic::{create_new, create_new_on, write_atomic, write_atomic_on};
pub use dir::private_dir;
pub use disk::{Disk, Mode, OsDisk};
pub use journal::{Journal, Limits, Recovered};
pub use lock::{LockOptions, OwnedLock};
pub use owner::{Birth, Owner};
pub use read::{read_bounded, read_private};
