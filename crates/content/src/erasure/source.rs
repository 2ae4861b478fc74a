//! A stripe, read from whichever of its shards are there.

use std::fmt;
use std::io::Read;

use reed_solomon_simd::ReedSolomonDecoder;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::Cid;

use super::encode::coder;
use super::geometry::{CODE_SHARDS, DATA_SHARDS, Row};
use super::manifest::{Manifest, ShardId};
use crate::reader::{Reader, fault_of};
use crate::store::ContentStore;

/// A shard that is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// Which one.
    pub shard: ShardId,
    /// Its name.
    pub cid: Cid,
    /// What is wrong with it.
    pub why: Why,
}

/// Why a shard is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is not in the store.
    Missing,
    /// It is not what its name says, and is in quarantine now.
    Corrupt,
    /// It is what its name says, but no shard of such an object: the manifest is wrong.
    WrongLength,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            Why::Missing => "missing",
            Why::Corrupt => "corrupt",
            Why::WrongLength => "of a wrong length",
        };
        write!(f, "{} ({}) is {why}", self.shard, self.cid)
    }
}

/// Opens a shard, which verifies all of it; the inner error says that it is of no use.
pub fn open(
    store: &ContentStore,
    manifest: &Manifest,
    shard: ShardId,
) -> Result<Result<Reader, Unusable>> {
    let cid = *manifest.shard(shard)?;
    let unusable = |why| Ok(Err(Unusable { shard, cid, why }));
    match store.reader(&cid) {
        Ok(reader) if reader.length() == manifest.shard_length(shard.stripe) => Ok(Ok(reader)),
        Ok(_) => unusable(Why::WrongLength),
        Err(fault) if fault.code() == "object_missing" => unusable(Why::Missing),
        Err(fault) if fault.category() == Category::VerificationFailed => unusable(Why::Corrupt),
        Err(fault) => Err(fault),
    }
}

/// Ten shards of a stripe, which give all of it.
pub struct Source {
    shards: Vec<(usize, Reader)>,
    decoder: Option<ReedSolomonDecoder>,
    segment: Vec<u8>,
}

impl Source {
    /// The first ten of these shards that are of use; those found to be of none are added to `unusable`.
    ///
    /// # Errors
    /// `too_few_shards`, naming those of no use.
    pub fn open(
        store: &ContentStore,
        manifest: &Manifest,
        candidates: impl Iterator<Item = ShardId>,
        unusable: &mut Vec<Unusable>,
    ) -> Result<Self> {
        let (mut shards, known) = (Vec::new(), unusable.len());
        for shard in candidates {
            match open(store, manifest, shard)? {
                Ok(reader) => shards.push((usize::from(shard.index), reader)),
                Err(found) => unusable.push(found),
            }
            if shards.len() == DATA_SHARDS {
                return Ok(Self {
                    shards,
                    decoder: None,
                    segment: Vec::new(),
                });
            }
        }
        let found = unusable.get(known..).unwrap_or_default();
        Err(too_few(manifest, shards.len(), found))
    }

    /// The next row: the segments of the ten data shards, one after the other.
    pub fn row(&mut self, row: Row, data: &mut Vec<u8>) -> Result<()> {
        data.clear();
        data.resize(row.segment * DATA_SHARDS, 0);
        self.segment.resize(row.segment, 0);
        let mut decoder = match self.has_all_data() {
            true => None,
            false => Some(decoder(&mut self.decoder, row)?),
        };
        for (index, reader) in &mut self.shards {
            let read = reader.read_exact(&mut self.segment);
            read.map_err(|error| fault_of("read a shard", &error))?;
            let place = data.chunks_mut(row.segment).nth(*index);
            if let Some(place) = place {
                place.copy_from_slice(&self.segment);
            }
            if let Some(decoder) = &mut decoder {
                let added = match index.checked_sub(DATA_SHARDS) {
                    None => decoder.add_original_shard(*index, &self.segment),
                    Some(index) => decoder.add_recovery_shard(index, &self.segment),
                };
                added.map_err(coder)?;
            }
        }
        let Some(decoder) = decoder else {
            return Ok(());
        };
        let restored = decoder.decode().map_err(coder)?;
        for (index, segment) in restored.restored_original_iter() {
            if let Some(place) = data.chunks_mut(row.segment).nth(index) {
                place.copy_from_slice(segment);
            }
        }
        Ok(())
    }

    fn has_all_data(&self) -> bool {
        self.shards.iter().all(|(index, _)| *index < DATA_SHARDS)
    }
}

fn decoder(kept: &mut Option<ReedSolomonDecoder>, row: Row) -> Result<&mut ReedSolomonDecoder> {
    match kept {
        Some(decoder) => {
            let reset = decoder.reset(DATA_SHARDS, CODE_SHARDS, row.segment);
            reset.map_err(coder).map(|()| decoder)
        }
        none => {
            let new = ReedSolomonDecoder::new(DATA_SHARDS, CODE_SHARDS, row.segment);
            Ok(none.insert(new.map_err(coder)?))
        }
    }
}

fn too_few(manifest: &Manifest, usable: usize, unusable: &[Unusable]) -> Fault {
    let named: Vec<String> = unusable.iter().map(Unusable::to_string).collect();
    let message = format!(
        "{} of {DATA_SHARDS} shards for {}: {}",
        usable,
        manifest.object(),
        named.join(", ")
    );
    Fault::new(Category::DependencyMissing, "too_few_shards", message)
        .hint("fetch more of the shards that are missing")
}
