//! What the store says no to, in words.

use std::io;

use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::Cid;

use crate::store::{MAX_RANGE, MAX_WHOLE};

/// Refuses an object of that many bytes if it is more than `max`.
pub fn check_size(bytes: u64, max: u64) -> Result<()> {
    if bytes <= max {
        return Ok(());
    }
    let message = format!("an object of {bytes} bytes or more: {max} is the most");
    Err(Fault::new(
        Category::InvalidInput,
        "object_too_large",
        message,
    ))
}

/// More than is read into memory at once.
pub fn too_large_for_memory(cid: &Cid) -> Fault {
    let message = format!("{cid} has more than the {MAX_WHOLE} bytes that are read at once");
    Fault::new(
        Category::InvalidInput,
        "object_too_large_for_memory",
        message,
    )
    .hint("read it as a stream or in ranges")
}

/// The disk refused to read the object.
pub fn cannot_read(cid: &Cid, error: &io::Error) -> Fault {
    Fault::io(format_args!("read {cid}"), error)
}

/// More than is read in one range.
pub fn too_long(cid: &Cid, length: u64) -> Fault {
    Fault::new(
        Category::InvalidInput,
        "range_too_long",
        format!("{length} bytes of {cid} asked for at once, {MAX_RANGE} is the most"),
    )
}

/// Nothing is there under this name.
pub fn missing(cid: &Cid) -> Fault {
    Fault::new(
        Category::DependencyMissing,
        "object_missing",
        format!("no object {cid} in the content store"),
    )
    .hint("fetch it from a peer that has it")
}

/// The bytes are not those of this name.
pub fn mismatch(cid: &Cid, what: &str) -> Fault {
    Fault::new(
        Category::VerificationFailed,
        "verification_failed",
        format!("{what} does not match {cid}"),
    )
}
