//! Bytes that survive a crash.
//!
//! - [`write_atomic`] and [`create_new`]: a reader sees the old content or the new, whole, never a mixture;
//! - [`AtomicFile`]: the same for content that is written piece by piece; [`scratch_file`], [`scratch_file_in`]: room for it
//!   meanwhile; [`sweep`]: after writers that died;
//! - [`PendingDir`]: a folder that appears with everything in it, or not at all;
//! - [`Journal`]: an append-only file whose acknowledged records are there after any crash;
//! - [`append_line`]: the same for a text file of one record a line, which other programs read;
//! - [`Pending`]: a file that takes its place first and its content later;
//! - [`OwnedLock`]: mutual exclusion between processes, released by the kernel when its owner dies;
//! - [`LockFile`]: the same, also understood by programs whose lock is that a file is there;
//! - [`NewDirs`]: directories that go again when that fails which they were made for;
//! - [`open_to_read`], [`read_bounded`], [`read_guarded`], [`read_trusted`], [`read_private`], [`private_dir`], [`output_dir`]: limits and least-privilege modes.
//!
//! Everything blocks: in async code call it from a blocking thread. The crate is for Unix systems. Each step that
//! touches the disk goes through [`Disk`], so that a test can fail or crash the program at any of them.

mod atomic;
mod dir;
mod disk;
mod flock;
mod folder;
mod journal;
mod lines;
mod lock;
mod lock_file;
mod owner;
mod read;
mod stream;
mod temp;

pub use atomic::{Pending, create_new, create_new_on, write_atomic, write_atomic_on};
pub use dir::{NewDirs, output_dir, private_dir};
pub use disk::{Disk, Mode, OsDisk};
pub use folder::PendingDir;
pub use journal::{Journal, Limits, Recovered};
pub use lines::{append_line, append_line_on, last_line, torn_tail};
pub use lock::{LockOptions, OwnedLock};
pub use lock_file::{LockFile, LockForm};
pub use owner::{Birth, Owner};
pub use read::{
    check_guarded, open_to_read, read_bounded, read_guarded, read_private, read_trusted,
};
pub use stream::{AtomicFile, scratch_file, scratch_file_in, sweep};
