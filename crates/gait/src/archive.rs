//! Zip archives in which no two readers can see different things, read and written in constant memory.
//!
//! Only the part of the format that Gait's packs use is read: files one after the other from the first byte, stored or
//! deflated, and a central directory that agrees with what stands before each file. Everything that lets readers
//! disagree is refused: a name twice, bytes before, between or after, encryption, Zip64, links, directories, names that
//! lead out of a folder. So is everything that would let bytes vary that nobody reads: times, comments, unknown fields.
//! Only how the content is compressed is the writer's choice. What is refused is a fault of code `verification_failed`; a disk that refuses is one of
//! category `io_failure`.

mod header;
mod inflate;
mod name;
mod packing;
mod reader;
mod writer;

pub use inflate::EntryReader;
pub use packing::Packing;
pub use reader::{Archive, Entry, ReadAt};
pub use writer::{Deflated, Deflating, Writer, write};

use std::io;

use worldcompute_fault::Fault;

use crate::limits::{ARCHIVE_RATIO_FROM, MAX_ARCHIVE_BYTES, MAX_ARCHIVE_RATIO};

/// The fault behind an error of reading an entry or writing one; `action` (e.g. `"read x.zip"`) names what the disk
/// refused.
pub fn fault_of(action: &str, error: io::Error) -> Fault {
    match error.downcast::<Fault>() {
        Ok(fault) => fault,
        Err(error) => Fault::io(action, &error),
    }
}

/// Carries `fault` through an [`io::Read`] or [`io::Write`], to be unpacked by [`fault_of`].
pub fn error_of(fault: Fault) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, fault)
}

/// Why an archive of `packed` bytes that inflates to `size` is refused, if it is.
fn excess(size: u64, packed: u64) -> Option<String> {
    if size > MAX_ARCHIVE_BYTES {
        return Some(format!(
            "inflates to {size} bytes, past the limit of {MAX_ARCHIVE_BYTES}"
        ));
    }
    let bomb = size > ARCHIVE_RATIO_FROM && size > packed.saturating_mul(MAX_ARCHIVE_RATIO);
    bomb.then(|| {
        format!(
            "inflates from {packed} bytes to {size}, more than {MAX_ARCHIVE_RATIO} times as many"
        )
    })
}

#[cfg(test)]
mod tests;
