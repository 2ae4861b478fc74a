//! A partition in a file: sealed, verifiable without its table, and of use to nobody without the master key.
//!
//! A bundle has the partition's rows as they are in the table, encrypted as they are there, and a MAC over all of it
//! under a key of the store that no rotation retires. It is written and read piece by piece: what is in memory is the
//! manifest and one transaction's rows.
//!
//! ```text
//! Partition::export ─► data keys, manifest, records ─► file          a Boundary event before the file has its name
//! Store::import     ─► MAC ─► every row against the manifest ─► staged rows ─► the flip, with a Boundary event
//! ```
//!
//! Into the store that it is from, a bundle goes row by row as it is; into another store it goes with the keys of the
//! first: each record is decrypted, and encrypted for the store that it comes to. Nothing of a partition that is whole
//! is ever overwritten.

mod codec;
mod export;
mod import;
mod proof;
mod sheet;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde::Serialize;
use worldcompute_fault::{Category, Fault, Result};

use self::codec::{Header, Reader};
pub use self::codec::{MAX_BUNDLE_BYTES, MAX_BUNDLE_ROW_BYTES};
use crate::crypto::{Digest, Key, expand};
use crate::kek::{Keks, OWN};
use crate::keys::{KCV_BYTES, kcv};
use crate::name::time;

/// What a bundle says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BundleInfo {
    /// The id of the store that it is from.
    pub store: String,
    /// Whose store.
    pub tenant: String,
    /// Whose key.
    pub user: String,
    /// The partition, `{kind}#{id}`.
    pub partition: String,
    /// The partition's version.
    pub version: u64,
    /// When it was made, UTC.
    pub created_at: String,
    /// Rows: data keys, manifest and records.
    pub rows: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// The MAC over everything before it, in hex.
    pub mac: String,
}

impl BundleInfo {
    /// Reads a bundle to its end without any key: its form is checked, nothing of it is authenticated. Blocks.
    ///
    /// # Errors
    /// `bundle_malformed`, `bundle_too_large`, those of reading the file.
    pub fn read(path: &Path) -> Result<Self> {
        let file = codec::open(path)?;
        let header = Header::read(&file)?;
        // Of no key: what is computed is never compared.
        let mut reader = Reader::new(file, header, &Key::default())?;
        while reader.row()?.is_some() {}
        reader.end().map(|(info, _)| info)
    }

    fn of(header: &Header, bytes: u64, mac: &Digest) -> Self {
        Self {
            store: header.store.clone(),
            tenant: header.tenant.clone(),
            user: header.user.clone(),
            partition: header.partition.to_string(),
            version: header.version,
            created_at: time(header.created_at),
            rows: header.rows,
            bytes,
            mac: hex::encode(mac),
        }
    }
}

/// How an import ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// What was imported.
    #[serde(flatten)]
    pub bundle: BundleInfo,
    /// How many records it has.
    pub records: usize,
    /// The version that the partition has now.
    pub version_now: u64,
    /// Whether anything was written: not where the partition was there already, whole and the same.
    pub written: bool,
}

/// The key of the bundles of a store.
async fn key_of(keks: &Keks) -> Result<(Key, [u8; KCV_BYTES])> {
    let kek = keks.get(OWN).await?;
    let key = expand(kek.bytes(), b"blue/v1/bundle")?;
    let check = kcv(&key);
    Ok((key, check))
}

fn malformed(why: impl std::fmt::Display) -> Fault {
    let message = format!("this is no bundle: {why}");
    Fault::new(Category::VerificationFailed, "bundle_malformed", message)
        .hint("take another copy of the bundle: this one is cut off, damaged or something else")
}
