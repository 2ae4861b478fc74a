//! Any ten of eighteen shards give the object back, and nothing gives another.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde::Serialize;
use tempfile::TempDir;
use worldcompute_content::erasure::{
    self, DATA_SHARDS, Encoded, MAX_MANIFEST, MAX_OBJECT, Manifest, SHARD_BYTES, SHARDS, ShardId,
    Why,
};
use worldcompute_content::{Collect, ContentStore, Limits};
use worldcompute_proof::{Cid, canonical_cbor};

const ROW: usize = DATA_SHARDS * (64 << 10);
const STRIPE: usize = DATA_SHARDS * SHARD_BYTES as usize;

/// Bytes that look random, as no two pieces of a real object are alike.
fn bytes(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let words = (0..length.div_ceil(8)).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    });
    let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    bytes.truncate(length);
    bytes
}

/// An object in shards, which alone are in the store.
struct Lab {
    dir: TempDir,
    store: ContentStore,
    coded: Encoded,
    bytes: Vec<u8>,
}

impl Lab {
    fn new(length: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = ContentStore::open(dir.path().join("content"), Limits::default()).unwrap();
        let bytes = bytes(length);
        let object = store.put(&bytes).unwrap();
        let coded = erasure::encode(&store, &object).unwrap();
        store.collect(Collect::All).unwrap();
        // Sixty-four bytes are their own first shard.
        let is_shard = coded.manifest.shards().any(|(_, cid)| *cid == object);
        assert_eq!(store.has(&object).unwrap(), is_shard);
        Self {
            dir,
            store,
            coded,
            bytes,
        }
    }

    fn manifest(&self) -> &Manifest {
        &self.coded.manifest
    }

    fn file(&self, shard: ShardId) -> PathBuf {
        let name = self.manifest().shard(shard).unwrap().to_string();
        let folder = name.get(56..58).unwrap();
        let objects = self.dir.path().join("content/objects");
        objects.join(folder).join(&name)
    }

    fn lose(&self, shards: impl IntoIterator<Item = ShardId>) {
        for shard in shards {
            fs::remove_file(self.file(shard)).unwrap();
        }
    }

    fn assert_restored(&self) {
        let restored = erasure::restore(&self.store, self.manifest()).unwrap();
        assert_eq!(self.store.get(restored.object.cid()).unwrap(), self.bytes);
    }
}

fn of_stripe(stripe: u32, indices: impl IntoIterator<Item = u8>) -> Vec<ShardId> {
    let indices = indices.into_iter();
    indices.map(|index| ShardId { stripe, index }).collect()
}

fn overwrite(path: &Path, bytes: &[u8]) {
    let file = fs::File::options().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, bytes, 0).unwrap();
}

#[test]
fn objects_of_every_length_come_back_from_code_shards_and_two_others() {
    for length in [
        0,
        1,
        2,
        64,
        65,
        640,
        641,
        4096,
        ROW - 1,
        ROW,
        ROW + 1,
        1_000_003,
    ] {
        let lab = Lab::new(length);
        let stripes = length.div_ceil(STRIPE);
        assert_eq!(lab.manifest().shards().count(), stripes * SHARDS);
        let names: BTreeSet<_> = lab.manifest().shards().map(|(_, cid)| cid).collect();
        assert_eq!(
            names.len(),
            stripes * SHARDS,
            "shards of {length} are alike"
        );
        for stripe in 0..stripes as u32 {
            lab.lose(of_stripe(stripe, 0..8));
        }
        lab.assert_restored();
    }
}

#[test]
fn an_object_of_several_stripes_comes_back_with_other_losses_in_each() {
    let lab = Lab::new(STRIPE + 100_001);
    assert_eq!(lab.manifest().shard_length(0), SHARD_BYTES);
    assert_eq!(lab.manifest().shard_length(1), 10_002);
    assert_eq!(lab.manifest().shard_length(2), 0);
    lab.lose(of_stripe(0, 10..18));
    lab.lose(of_stripe(1, [0, 2, 4, 6, 8, 10, 12, 14]));
    lab.assert_restored();
}

#[test]
fn one_shard_too_few_in_one_stripe_is_too_few_and_leaves_nothing() {
    let lab = Lab::new(1_000_003);
    lab.lose(of_stripe(0, 3..12));
    let used = lab.store.used();
    let fault = erasure::restore(&lab.store, lab.manifest()).err().unwrap();
    assert_eq!(fault.code(), "too_few_shards");
    assert!(fault.message().contains("shard 11 of stripe 0"), "{fault}");
    assert!(!lab.store.has(lab.manifest().object()).unwrap());
    assert_eq!(lab.store.used(), used);
    let lost = of_stripe(0, 3..4);
    let fault = erasure::repair(&lab.store, lab.manifest(), lost).err();
    assert_eq!(fault.unwrap().code(), "too_few_shards");
}

#[test]
fn corrupt_shards_are_named_and_treated_as_missing() {
    let lab = Lab::new(1_000_003);
    let [swapped, other] = [0, 1].map(|index| ShardId { stripe: 0, index });
    let foreign = fs::read(lab.file(other)).unwrap();
    overwrite(&lab.file(swapped), &foreign);
    for shard in of_stripe(0, 2..8) {
        overwrite(&lab.file(shard), b"!!");
    }
    lab.lose([other]);
    let restored = erasure::restore(&lab.store, lab.manifest()).unwrap();
    assert_eq!(lab.store.get(restored.object.cid()).unwrap(), lab.bytes);
    let named: Vec<_> = restored
        .unusable
        .iter()
        .map(|found| (found.shard.index, found.why))
        .collect();
    let mut expected: Vec<_> = (0..8).map(|index| (index, Why::Corrupt)).collect();
    expected.retain(|(index, _)| *index != 1);
    expected.insert(1, (1, Why::Missing));
    assert_eq!(named, expected);
    // What is in quarantine now is simply missing, and the same shards are named again.
    let survey = erasure::survey(&lab.store, lab.manifest()).unwrap();
    let named: Vec<_> = survey
        .iter()
        .map(|found| (found.shard.index, found.why))
        .collect();
    assert_eq!(
        named,
        (0..8)
            .map(|index| (index, Why::Missing))
            .collect::<Vec<_>>()
    );
}

#[test]
fn nine_corrupt_shards_are_too_many() {
    let lab = Lab::new(50_000);
    for shard in of_stripe(0, 0..9) {
        overwrite(&lab.file(shard), b"!!");
    }
    let fault = erasure::restore(&lab.store, lab.manifest()).err().unwrap();
    assert_eq!(fault.code(), "too_few_shards");
    assert_eq!(fault.message().matches("corrupt").count(), 9);
}

#[test]
fn a_repair_makes_what_was_lost_and_touches_nothing_else() {
    let lab = Lab::new(STRIPE + 77);
    let lost = [
        of_stripe(0, [1, 12]),
        of_stripe(1, [0, 1, 2, 3, 4, 5, 6, 17]),
    ]
    .concat();
    let before = lab.store.used();
    let others = lab.manifest().shards().map(|(shard, _)| shard);
    let others = others.filter(|shard| !lost.contains(shard));
    let files: Vec<_> = others.map(|shard| lab.file(shard)).collect();
    let inode = |path: &PathBuf| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let inodes: Vec<_> = files.iter().map(inode).collect();
    lab.lose(lost.iter().copied());

    let made = erasure::repair(&lab.store, lab.manifest(), lost.iter().copied()).unwrap();
    let names: Vec<Cid> = made.iter().map(|held| *held.cid()).collect();
    let expected = lost
        .iter()
        .map(|shard| *lab.manifest().shard(*shard).unwrap());
    assert_eq!(names, expected.collect::<Vec<_>>());
    assert!(
        erasure::survey(&lab.store, lab.manifest())
            .unwrap()
            .is_empty()
    );
    assert_eq!(files.iter().map(inode).collect::<Vec<_>>(), inodes);
    // The files were removed behind the store's back, which counts what it made once more.
    assert!(lab.store.used() > before);
}

#[test]
fn a_repair_relies_on_no_shard_that_is_said_to_be_lost() {
    let lab = Lab::new(10_000);
    let all_but_nine = of_stripe(0, 0..9);
    let fault = erasure::repair(&lab.store, lab.manifest(), all_but_nine).err();
    assert_eq!(fault.unwrap().code(), "too_few_shards");
    let unknown = [
        ShardId {
            stripe: 1,
            index: 0,
        },
        ShardId {
            stripe: 0,
            index: 18,
        },
    ];
    for shard in unknown {
        let fault = erasure::repair(&lab.store, lab.manifest(), [shard]).err();
        assert_eq!(fault.unwrap().code(), "no_such_shard");
    }
}

#[test]
fn an_object_that_is_there_is_restored_from_nothing() {
    let lab = Lab::new(10_000);
    let restored = erasure::restore(&lab.store, lab.manifest()).unwrap();
    lab.lose(of_stripe(0, 0..18));
    erasure::restore(&lab.store, lab.manifest()).unwrap();
    drop(restored);
    lab.store.collect(Collect::All).unwrap();
    assert!(erasure::restore(&lab.store, lab.manifest()).is_err());
}

#[test]
fn the_shards_of_an_object_are_the_same_everywhere_and_for_ever() {
    let lab = Lab::new(1_000_003);
    let stored = lab.store.get(&lab.coded.manifest_cid).unwrap();
    assert_eq!(stored, lab.manifest().to_bytes().unwrap());
    assert_eq!(&Manifest::parse(&stored).unwrap(), lab.manifest());
    assert_eq!(lab.coded.manifest_cid.to_string(), GOLDEN);
}

/// Of the 1,000,003 bytes of [`bytes`]. Changes with the code, the geometry or the form of the manifest, and with any of
/// them what others keep can no longer be read.
const GOLDEN: &str = "bafyreical5n3zo5mo36jp65lfri5ojgkgtmyc4sqfodl5n4atbelpavp5q";

/// A manifest as an outsider writes it.
#[derive(Clone, Serialize)]
struct Forged {
    version: u64,
    object: Cid,
    length: u64,
    data_shards: u64,
    shards: u64,
    shard_bytes: u64,
    stripes: Vec<Vec<Cid>>,
}

impl Forged {
    fn of(manifest: &Manifest) -> Self {
        let shards: Vec<_> = manifest.shards().map(|(_, cid)| *cid).collect();
        Self {
            version: 1,
            object: *manifest.object(),
            length: manifest.length(),
            data_shards: 10,
            shards: 18,
            shard_bytes: SHARD_BYTES,
            stripes: shards.chunks(18).map(<[Cid]>::to_vec).collect(),
        }
    }

    fn code(&self) -> String {
        let parsed = Manifest::parse(&canonical_cbor(self).unwrap());
        parsed.map_or_else(|fault| fault.code().to_owned(), |_| "read".to_owned())
    }
}

#[test]
fn manifests_of_other_geometries_and_lengths_are_refused() {
    let lab = Lab::new(50_000);
    let good = Forged::of(lab.manifest());
    assert_eq!(good.code(), "read");
    let wrong: [fn(&mut Forged); 10] = [
        |forged| forged.version = 2,
        |forged| forged.data_shards = 9,
        |forged| forged.shards = 17,
        |forged| forged.shard_bytes += 1,
        |forged| forged.length = 0,
        |forged| forged.length = STRIPE as u64 + 1,
        |forged| forged.length = u64::MAX,
        |forged| forged.stripes.clear(),
        |forged| forged.stripes.extend(forged.stripes.clone()),
        |forged| {
            forged
                .stripes
                .iter_mut()
                .for_each(|stripe| stripe.truncate(17))
        },
    ];
    for (number, change) in wrong.into_iter().enumerate() {
        let mut forged = good.clone();
        change(&mut forged);
        assert_eq!(forged.code(), "invalid_erasure_manifest", "change {number}");
    }
}

#[test]
fn the_manifest_of_the_largest_object_is_read_and_nothing_larger() {
    let cid = Cid::raw(b"shard");
    let stripes = (MAX_OBJECT / STRIPE as u64) as usize;
    let mut forged = Forged {
        version: 1,
        object: cid,
        length: MAX_OBJECT,
        data_shards: 10,
        shards: 18,
        shard_bytes: SHARD_BYTES,
        stripes: vec![vec![cid; 18]; stripes],
    };
    assert_eq!(forged.code(), "read");
    forged.length += 1;
    forged.stripes.push(vec![cid; 18]);
    assert_eq!(forged.code(), "invalid_erasure_manifest");
    let fault = Manifest::parse(&vec![0; MAX_MANIFEST + 1]).unwrap_err();
    assert_eq!(fault.code(), "erasure_manifest_too_large");
}

#[test]
fn a_manifest_whose_shards_give_something_else_is_found_out() {
    let lab = Lab::new(50_000);
    let mut forged = Forged::of(lab.manifest());
    forged
        .stripes
        .iter_mut()
        .for_each(|stripe| stripe.swap(0, 1));
    let lie = Manifest::parse(&canonical_cbor(&forged).unwrap()).unwrap();
    let used = lab.store.used();
    let fault = erasure::restore(&lab.store, &lie).err().unwrap();
    assert_eq!(fault.code(), "verification_failed");
    assert!(fault.message().contains(&lie.object().to_string()));
    assert!(!lab.store.has(lie.object()).unwrap());
    let code = of_stripe(0, [17]);
    let fault = erasure::repair(&lab.store, &lie, code).err().unwrap();
    assert_eq!(fault.code(), "verification_failed");
    assert_eq!(lab.store.used(), used);
}

#[test]
fn a_shard_of_a_wrong_length_is_of_no_use() {
    let lab = Lab::new(50_000);
    let mut forged = Forged::of(lab.manifest());
    let long = lab.store.put(&[7; 6000]).unwrap();
    forged
        .stripes
        .iter_mut()
        .for_each(|stripe| stripe.splice(3..4, [long]).for_each(drop));
    let lie = Manifest::parse(&canonical_cbor(&forged).unwrap()).unwrap();
    let restored = erasure::restore(&lab.store, &lie).unwrap();
    let named: Vec<_> = restored
        .unusable
        .iter()
        .map(|found| (found.shard.index, found.why))
        .collect();
    assert_eq!(named, [(3, Why::WrongLength)]);
    assert_eq!(lab.store.get(restored.object.cid()).unwrap(), lab.bytes);
}

#[test]
fn a_store_too_small_for_all_shards_keeps_none_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        max_object: 1 << 20,
        max_total: 250_000,
    };
    let store = ContentStore::open(dir.path().join("content"), limits).unwrap();
    let object = store.put(&bytes(100_000)).unwrap();
    let fault = erasure::encode(&store, &object).err().unwrap();
    assert_eq!(fault.code(), "content_store_full");
    let _held = store.hold(&object);
    store.collect(Collect::All).unwrap();
    assert_eq!(store.used(), 100_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_eight_shards_may_be_lost_or_corrupt_and_be_made_again(
        length in 1_usize..5000,
        lost in proptest::sample::subsequence((0..18_u8).collect::<Vec<_>>(), 0..=8),
        corrupt in any::<u32>(),
    ) {
        let lab = Lab::new(length);
        let lost = of_stripe(0, lost);
        for shard in &lost {
            match corrupt >> shard.index & 1 {
                0 => lab.lose([*shard]),
                _ => overwrite(&lab.file(*shard), b"\xa5\x5a"),
            }
        }
        let found = erasure::survey(&lab.store, lab.manifest()).unwrap();
        let found: Vec<_> = found.iter().map(|found| found.shard).collect();
        prop_assert_eq!(&found, &lost);
        erasure::repair(&lab.store, lab.manifest(), found).unwrap();
        prop_assert_eq!(erasure::survey(&lab.store, lab.manifest()).unwrap(), vec![]);
        lab.assert_restored();
    }

    #[test]
    fn any_ten_shards_are_enough_and_any_nine_are_not(
        length in 1_usize..2000,
        order in Just((0..18_u8).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let lab = Lab::new(length);
        lab.lose(of_stripe(0, order.iter().copied().take(8)));
        let restored = erasure::restore(&lab.store, lab.manifest()).unwrap();
        prop_assert_eq!(&lab.store.get(restored.object.cid()).unwrap(), &lab.bytes);
        drop(restored);
        lab.store.collect(Collect::All).unwrap();
        // An object of 64 bytes is its own first shard, which was lost and is there again.
        let mut nine = of_stripe(0, order.iter().copied().take(9));
        nine.retain(|shard| lab.file(*shard).exists());
        lab.lose(nine);
        let fault = erasure::restore(&lab.store, lab.manifest()).err().unwrap();
        prop_assert_eq!(fault.code(), "too_few_shards");
    }

    #[test]
    fn a_damaged_manifest_is_refused_or_is_another_one(at in 0_usize..1200, bit in 0_u8..8) {
        let object = Cid::raw(b"object");
        let forged = Forged {
            version: 1,
            object,
            length: 7,
            data_shards: 10,
            shards: 18,
            shard_bytes: SHARD_BYTES,
            stripes: vec![(0..18_u8).map(|index| Cid::raw([index])).collect()],
        };
        let mut bytes = canonical_cbor(&forged).unwrap();
        let good = Manifest::parse(&bytes).unwrap();
        let at = at % bytes.len();
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << bit;
        }
        if let Ok(other) = Manifest::parse(&bytes) {
            prop_assert_ne!(&other, &good);
            prop_assert_eq!(other.to_bytes().unwrap(), bytes);
        }
    }
}
