//! What binds shards to their object.

use std::fmt;

use serde::{Deserialize, Serialize};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{Cid, canonical_cbor, from_canonical_cbor};

use super::geometry::{
    DATA_SHARDS, MAX_OBJECT, SHARD_BYTES, SHARDS, shard_length, stripe_length, stripes,
};

/// Largest manifest that is read, in bytes; that of the largest object is smaller.
pub const MAX_MANIFEST: usize = 2 << 20;

/// The form described here; another one gets another number.
const VERSION: u64 = 1;

/// Which shard of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId {
    /// Its stripe, from 0.
    pub stripe: u32,
    /// Its place in the stripe, from 0: the first ten hold the object's own bytes.
    pub index: u8,
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {} of stripe {}", self.index, self.stripe)
    }
}

/// An object's name and length, and the names of its shards: complete, and of the one geometry that its length gives.
///
/// That the shards give the object is not known before they are decoded, and is verified then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    object: Cid,
    length: u64,
    stripes: Vec<[Cid; SHARDS]>,
}

/// The manifest on the wire: a map in deterministic CBOR (RFC 8949, 4.2.1), CIDs as text.
#[derive(Serialize, Deserialize)]
struct Wire {
    version: u64,
    object: Cid,
    length: u64,
    data_shards: u64,
    shards: u64,
    shard_bytes: u64,
    stripes: Vec<Vec<Cid>>,
}

impl Manifest {
    pub(super) fn new(object: Cid, length: u64, stripes: Vec<[Cid; SHARDS]>) -> Self {
        Self {
            object,
            length,
            stripes,
        }
    }

    /// Reads the one encoding of a manifest.
    ///
    /// # Errors
    /// `erasure_manifest_too_large` past [`MAX_MANIFEST`]; `invalid_cbor` and `not_canonical_cbor`;
    /// `invalid_erasure_manifest` for another version or geometry, and where shards are missing or too many.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > MAX_MANIFEST {
            return Err(too_large(bytes.len()));
        }
        let wire: Wire = from_canonical_cbor(bytes)?;
        let geometry = (wire.data_shards, wire.shards, wire.shard_bytes);
        if wire.version != VERSION || geometry != OURS {
            return Err(invalid("of another version or geometry"));
        }
        if wire.length > MAX_OBJECT || stripes(wire.length) != wire.stripes.len() as u64 {
            return Err(invalid("its stripes do not fit the length of its object"));
        }
        let whole = wire.stripes.into_iter().map(<[Cid; SHARDS]>::try_from);
        let stripes = whole.collect::<Result<_, _>>();
        let stripes = stripes.map_err(|_| invalid("a stripe has 18 shards"))?;
        Ok(Self::new(wire.object, wire.length, stripes))
    }

    /// The encoding that [`Self::parse`] reads.
    ///
    /// # Errors
    /// None that is known.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let (data_shards, shards, shard_bytes) = OURS;
        canonical_cbor(&Wire {
            version: VERSION,
            object: self.object,
            length: self.length,
            data_shards,
            shards,
            shard_bytes,
            stripes: self.stripes.iter().map(|shards| shards.to_vec()).collect(),
        })
    }

    /// The object.
    pub const fn object(&self) -> &Cid {
        &self.object
    }

    /// The object's size in bytes.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Every shard and its name, stripe by stripe. Shards of equal content have equal names.
    pub fn shards(&self) -> impl Iterator<Item = (ShardId, &Cid)> {
        let stripes = (0_u32..).zip(&self.stripes);
        stripes.flat_map(|(stripe, shards)| {
            let shards = (0_u8..).zip(shards);
            shards.map(move |(index, cid)| (ShardId { stripe, index }, cid))
        })
    }

    /// Bytes of each shard of this stripe; 0 where there is no such stripe.
    pub fn shard_length(&self, stripe: u32) -> u64 {
        shard_length(stripe_length(self.length, u64::from(stripe)))
    }

    pub(super) fn stripes(&self) -> &[[Cid; SHARDS]] {
        &self.stripes
    }

    /// The shard's name.
    ///
    /// # Errors
    /// `no_such_shard`.
    pub fn shard(&self, shard: ShardId) -> Result<&Cid> {
        let stripe = self.stripes.get(shard.stripe as usize);
        let cid = stripe.and_then(|shards| shards.get(usize::from(shard.index)));
        cid.ok_or_else(|| {
            let message = format!("{} has no {shard}", self.object);
            Fault::new(Category::InvalidInput, "no_such_shard", message)
        })
    }
}

const OURS: (u64, u64, u64) = (DATA_SHARDS as u64, SHARDS as u64, SHARD_BYTES);

fn too_large(bytes: usize) -> Fault {
    let message = format!("a manifest of {bytes} bytes: {MAX_MANIFEST} is the most");
    Fault::new(
        Category::InvalidInput,
        "erasure_manifest_too_large",
        message,
    )
}

fn invalid(why: &str) -> Fault {
    let message = format!("no manifest of shards that is read here: {why}");
    Fault::new(Category::InvalidInput, "invalid_erasure_manifest", message)
        .hint("check that the manifest is of RS(10,18) with shards of 4 MiB, version 1")
}
