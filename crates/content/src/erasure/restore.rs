//! From shards back to the object, and to shards that were lost.

use std::collections::{BTreeMap, BTreeSet};

use worldcompute_fault::Result;

use super::encode::Coder;
use super::geometry::{DATA_SHARDS, SHARDS, rows, stripe_length};
use super::manifest::{Manifest, ShardId};
use super::source::{Source, Unusable, open};
use crate::draft::Draft;
use crate::needed::Held;
use crate::refusal::mismatch;
use crate::store::ContentStore;

/// An object that is back.
pub struct Restored {
    /// The object, which is in the store and verified.
    pub object: Held,
    /// Shards that were looked at and are of no use, for [`repair`]. Those behind the first ten good ones of a stripe are
    /// not looked at: [`survey`] looks at all.
    pub unusable: Vec<Unusable>,
}

/// Puts the object of a manifest into the store, from any ten shards of each stripe that are there. A shard that is
/// not what its name says is treated as one that is missing. An object that is there already is left as it is.
///
/// # Errors
/// `too_few_shards`, naming those that are of no use; `verification_failed` when all are what their names say and give
/// another object, so that the manifest is wrong; else those of [`ContentStore::put`]. The object is then not there.
pub fn restore(store: &ContentStore, manifest: &Manifest) -> Result<Restored> {
    let object = store.hold(manifest.object());
    let mut unusable = Vec::new();
    if store.is_there_and_whole(manifest.object())? {
        return Ok(Restored { object, unusable });
    }
    let (mut draft, mut data) = (store.draft()?, Vec::new());
    for stripe in numbers(manifest) {
        let shards = (0..SHARDS as u8).map(|index| ShardId { stripe, index });
        let mut source = Source::open(store, manifest, shards, &mut unusable)?;
        for row in rows(stripe_length(manifest.length(), u64::from(stripe))) {
            source.row(row, &mut data)?;
            draft.append(data.get(..row.data).unwrap_or_default())?;
        }
    }
    if draft.digest() != manifest.object().digest() {
        return Err(mismatch(manifest.object(), "what its shards give"));
    }
    store.settle(manifest.object(), draft)?;
    Ok(Restored { object, unusable })
}

/// Makes lost shards anew, and only those, from any ten others of each stripe, and puts them into the store, held.
///
/// # Errors
/// `no_such_shard`; `verification_failed` when what was made does not have its name, so that the manifest is wrong;
/// else as [`restore`]. Shards that were made by then are garbage.
pub fn repair(
    store: &ContentStore,
    manifest: &Manifest,
    lost: impl IntoIterator<Item = ShardId>,
) -> Result<Vec<Held>> {
    let mut stripes: BTreeMap<u32, BTreeSet<u8>> = BTreeMap::new();
    for shard in lost {
        manifest.shard(shard)?;
        stripes.entry(shard.stripe).or_default().insert(shard.index);
    }
    let mut made = Vec::new();
    for (stripe, lost) in stripes {
        made.extend(repair_stripe(store, manifest, stripe, &lost)?);
    }
    Ok(made)
}

/// Looks at every shard of a manifest and names those that are of no use.
///
/// # Errors
/// What the disk says.
pub fn survey(store: &ContentStore, manifest: &Manifest) -> Result<Vec<Unusable>> {
    let mut unusable = Vec::new();
    for (shard, _) in manifest.shards() {
        if let Err(found) = open(store, manifest, shard)? {
            unusable.push(found);
        }
    }
    Ok(unusable)
}

fn repair_stripe(
    store: &ContentStore,
    manifest: &Manifest,
    stripe: u32,
    lost: &BTreeSet<u8>,
) -> Result<Vec<Held>> {
    let others = (0..SHARDS as u8).filter(|index| !lost.contains(index));
    let others = others.map(|index| ShardId { stripe, index });
    let mut source = Source::open(store, manifest, others, &mut Vec::new())?;
    let drafts = lost.iter().map(|index| Ok((*index, store.draft()?)));
    let mut drafts = drafts.collect::<Result<Vec<(u8, Draft)>>>()?;
    let (mut coder, mut data) = (Coder::default(), Vec::new());
    let codes = lost.iter().any(|index| usize::from(*index) >= DATA_SHARDS);
    for row in rows(stripe_length(manifest.length(), u64::from(stripe))) {
        source.row(row, &mut data)?;
        let code = match codes {
            true => coder.code(row, &data)?,
            false => &[],
        };
        for (index, draft) in &mut drafts {
            let mut segments = data.chunks(row.segment).chain(code.chunks(row.segment));
            draft.append(segments.nth(usize::from(*index)).unwrap_or_default())?;
        }
    }
    let kept = drafts.into_iter().map(|(index, draft)| {
        let cid = manifest.shard(ShardId { stripe, index })?;
        if draft.digest() != cid.digest() {
            return Err(mismatch(cid, "what the other shards give"));
        }
        let held = store.hold(cid);
        store.settle(cid, draft)?;
        Ok(held)
    });
    kept.collect()
}

fn numbers(manifest: &Manifest) -> impl Iterator<Item = u32> + use<> {
    0..manifest.stripes().len() as u32
}
