//! Manifests of shards are read in their one encoding and hold what their length says; what does not read them as they
//! are gets them with a valid frame around.

use serde_json::json;
use worldcompute_content::erasure::{Manifest, SHARDS};
use worldcompute_proof::{Cid, canonical_cbor};

/// Most stripes of the frame, so that building it is quick.
const MAX_STRIPES: usize = 16;

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    read(bytes);
    let length = bytes
        .iter()
        .take(8)
        .fold(0, |length, byte| length << 8 | u64::from(*byte));
    let stripes: Vec<Vec<Cid>> = bytes
        .iter()
        .take(MAX_STRIPES)
        .map(|count| (0..count % 24).map(|index| Cid::raw([index])).collect())
        .collect();
    let framed = json!({
        "version": 1,
        "object": Cid::raw(bytes),
        "length": length >> (bytes.len() as u32 % 64),
        "data_shards": 10,
        "shards": SHARDS,
        "shard_bytes": 4 << 20,
        "stripes": stripes,
    });
    read(&canonical_cbor(&framed).expect("plain values"));
}

fn read(bytes: &[u8]) {
    let Ok(manifest) = Manifest::parse(bytes) else {
        return;
    };
    assert_eq!(
        manifest.to_bytes().expect("what is read can be written"),
        bytes
    );
    let mut shards = 0_u64;
    for (id, cid) in manifest.shards() {
        assert_eq!(manifest.shard(id).expect("it is listed"), cid);
        assert!(manifest.shard_length(id.stripe) > 0);
        shards += 1;
    }
    assert_eq!(shards % SHARDS as u64, 0);
    assert!(shards / SHARDS as u64 * (40 << 20) >= manifest.length());
}
