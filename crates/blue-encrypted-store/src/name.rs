//! Names: kinds and ids.

use std::fmt;

use worldcompute_fault::{Category, Fault, Result};

/// The longest id, in bytes.
pub const MAX_ID_BYTES: usize = 128;

/// A lowercase slug or a ULID: `[a-z0-9][a-z0-9._-]*`, or 26 characters of Crockford's base 32 in upper case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(String);

impl Id {
    /// # Errors
    /// `invalid_id` when `text` is neither a lowercase slug of at most [`MAX_ID_BYTES`] nor a ULID.
    pub fn parse(text: &str) -> Result<Self> {
        if is_slug(text) || is_ulid(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(Fault::new(
            Category::InvalidInput,
            "invalid_id",
            format!("{text:.200?} is neither a lowercase slug nor a ULID"),
        ))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_slug(text: &str) -> bool {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() <= MAX_ID_BYTES
        && text.bytes().next().is_some_and(edge)
        && text.bytes().all(|b| edge(b) || b"._-".contains(&b))
}

fn is_ulid(text: &str) -> bool {
    text.len() == 26
        && text.starts_with(|c: char| ('0'..='7').contains(&c))
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b.is_ascii_uppercase() && !b"ILOU".contains(&b)))
}

/// What a partition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(&'static str);

impl Kind {
    /// A submitted job with its tasks, leases and receipts.
    pub const JOB: Self = Self("job");
    /// Receipts kept apart from a job.
    pub const RECEIPT: Self = Self("receipt");
    /// A shard of the credit ledger.
    pub const LEDGER: Self = Self("ledger");
    /// Proposals, votes, bans.
    pub const GOVERNANCE: Self = Self("governance");
    /// Approvals of the gate.
    pub const APPROVAL: Self = Self("approval");
    /// What is known of a peer.
    pub const PEER: Self = Self("peer");

    /// A kind of the caller's own.
    ///
    /// # Errors
    /// `invalid_id` when `name` is not a lowercase slug.
    pub fn custom(name: &'static str) -> Result<Self> {
        Id::parse(name).map(|_| Self(name))
    }

    /// The text.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

/// One partition of the table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    /// What it is about.
    pub kind: Kind,
    /// Which one.
    pub id: Id,
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.kind.as_str(), self.id)
    }
}
