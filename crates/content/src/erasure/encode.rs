//! From an object to its shards.

use std::io::Read;

use reed_solomon_simd::ReedSolomonEncoder;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::Cid;

use super::geometry::{
    CODE_SHARDS, DATA_SHARDS, MAX_OBJECT, Row, SHARDS, rows, stripe_length, stripes,
};
use super::manifest::Manifest;
use crate::draft::Draft;
use crate::needed::Held;
use crate::reader::{Reader, fault_of};
use crate::store::ContentStore;

/// An object's shards, all of them in the store, and their manifest, which is there as well.
pub struct Encoded {
    /// The manifest.
    pub manifest: Manifest,
    /// The manifest's name.
    pub manifest_cid: Cid,
    /// Keeps manifest and shards from being collected.
    pub held: Vec<Held>,
}

/// Puts the shards of an object of the store into the store, and their manifest. The same object gives the same shards and
/// the same manifest, everywhere.
///
/// # Errors
/// `object_too_large` past [`MAX_OBJECT`]; those of [`ContentStore::reader`] and [`ContentStore::put`]. Shards that were
/// made by then are garbage.
pub fn encode(store: &ContentStore, object: &Cid) -> Result<Encoded> {
    let mut bytes = store.reader(object)?;
    let length = bytes.length();
    if length > MAX_OBJECT {
        return Err(too_large(object, length));
    }
    let mut held = Vec::new();
    for stripe in 0..stripes(length) {
        held.extend(encode_stripe(
            store,
            &mut bytes,
            stripe_length(length, stripe),
        )?);
    }
    let (shards, []) = held.as_chunks::<SHARDS>() else {
        return Err(coder("a stripe came out short"));
    };
    let shards = shards
        .iter()
        .map(|stripe| stripe.each_ref().map(|held| *held.cid()));
    let manifest = Manifest::new(*object, length, shards.collect());
    let encoded = manifest.to_bytes()?;
    let manifest_cid = Cid::dag_cbor(&encoded);
    held.push(store.hold(&manifest_cid));
    store.put_as(&manifest_cid, &encoded)?;
    Ok(Encoded {
        manifest,
        manifest_cid,
        held,
    })
}

/// The shards of the next stripe, in order.
fn encode_stripe(store: &ContentStore, bytes: &mut Reader, length: u64) -> Result<Vec<Held>> {
    let drafts = (0..SHARDS).map(|_| store.draft());
    let mut drafts = drafts.collect::<Result<Vec<Draft>>>()?;
    let mut coder = Coder::default();
    let mut data = Vec::new();
    for row in rows(length) {
        data.clear();
        let read = bytes.take(row.data as u64).read_to_end(&mut data);
        read.map_err(|error| fault_of("read an object to code it", &error))?;
        // Not zeros: shards that hold nothing else would be one object, and lost together.
        let padding = data.len()..row.segment * DATA_SHARDS;
        data.extend(padding.map(|place| (place ^ (place >> 8)) as u8));
        let code = coder.code(row, &data)?;
        let segments = data.chunks(row.segment).chain(code.chunks(row.segment));
        for (draft, segment) in drafts.iter_mut().zip(segments) {
            draft.append(segment)?;
        }
    }
    let kept = drafts.into_iter().map(|draft| store.keep_raw(draft));
    kept.collect()
}

/// Codes rows, in memory that it keeps from one to the next.
#[derive(Default)]
pub struct Coder {
    encoder: Option<ReedSolomonEncoder>,
    code: Vec<u8>,
}

impl Coder {
    /// The segments of the code shards for those of the data shards.
    pub fn code(&mut self, row: Row, data: &[u8]) -> Result<&[u8]> {
        let encoder = match &mut self.encoder {
            Some(encoder) => {
                let reset = encoder.reset(DATA_SHARDS, CODE_SHARDS, row.segment);
                reset.map_err(coder)?;
                encoder
            }
            none => {
                let new = ReedSolomonEncoder::new(DATA_SHARDS, CODE_SHARDS, row.segment);
                none.insert(new.map_err(coder)?)
            }
        };
        for segment in data.chunks(row.segment) {
            encoder.add_original_shard(segment).map_err(coder)?;
        }
        let coded = encoder.encode().map_err(coder)?;
        self.code.clear();
        coded
            .recovery_iter()
            .for_each(|segment| self.code.extend_from_slice(segment));
        Ok(&self.code)
    }
}

/// What the library refuses is a mistake of ours: it is given nothing that an outsider chose.
pub fn coder(why: impl std::fmt::Display) -> Fault {
    let message = format!("the erasure code failed: {why}");
    Fault::new(Category::InternalFailure, "erasure_code_failed", message)
}

fn too_large(object: &Cid, length: u64) -> Fault {
    let message = format!("{object} has {length} bytes: {MAX_OBJECT} is the most that is coded");
    Fault::new(Category::InvalidInput, "object_too_large", message)
}
