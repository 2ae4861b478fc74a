//! The store as its users see it: what goes in comes out, and nothing else does.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};

use proptest::prelude::*;
use tempfile::TempDir;
use worldcompute_content::{ContentStore, Limits, MAX_RANGE};
use worldcompute_fault::Category;
use worldcompute_proof::Cid;

const SMALL: Limits = Limits {
    max_object: 64,
    max_total: 100,
};

fn open(limits: Limits) -> (TempDir, ContentStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = ContentStore::open(dir.path().join("content"), limits).unwrap();
    (dir, store)
}

/// Every file below a directory but the store's lock.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path))
        } else if !path.ends_with("lock") {
            found.push(path)
        }
    }
    found
}

fn object_file(dir: &TempDir, cid: &Cid) -> PathBuf {
    let all = files(&dir.path().join("content/objects"));
    all.into_iter()
        .find(|path| path.ends_with(cid.to_string()))
        .unwrap()
}

fn damage(path: &Path, bytes: &[u8]) {
    let file = fs::File::options()
        .write(true)
        .truncate(true)
        .open(path)
        .unwrap();
    std::io::Write::write_all(&mut &file, bytes).unwrap();
}

#[test]
fn an_object_is_found_under_the_name_of_its_bytes_also_after_reopening() {
    let (dir, store) = open(SMALL);
    let cid = store.put(b"bytes").unwrap();
    assert_eq!(cid, Cid::raw(b"bytes"));
    drop(store);
    let store = ContentStore::open(dir.path().join("content"), SMALL).unwrap();
    assert_eq!(store.get(&cid).unwrap(), b"bytes");
    assert_eq!(store.size(&cid).unwrap(), 5);
    assert!(store.has(&cid).unwrap());
    assert_eq!(store.used(), 5);
}

#[test]
fn the_empty_object_is_an_object() {
    let (_dir, store) = open(SMALL);
    let cid = store.put(b"").unwrap();
    assert_eq!(store.get(&cid).unwrap(), b"");
    assert_eq!(store.read_range(&cid, 0, 10).unwrap(), b"");
}

#[test]
fn putting_the_same_object_again_takes_no_more_room() {
    let (_dir, store) = open(SMALL);
    let first = store.put(b"bytes").unwrap();
    assert_eq!(store.put(b"bytes").unwrap(), first);
    assert_eq!(store.used(), 5);
}

#[test]
fn an_unknown_object_is_missing_for_every_way_of_reading() {
    let (_dir, store) = open(SMALL);
    let cid = Cid::raw(b"never put");
    assert!(!store.has(&cid).unwrap());
    for fault in [
        store.get(&cid).unwrap_err(),
        store.size(&cid).unwrap_err(),
        store.read_range(&cid, 0, 1).unwrap_err(),
    ] {
        assert_eq!(fault.code(), "object_missing");
        assert!(fault.message().contains(&cid.to_string()));
    }
}

#[test]
fn a_corrupt_object_is_refused_by_name_set_aside_and_repaired_by_the_next_put() {
    let (dir, store) = open(SMALL);
    let cid = store.put(b"the truth").unwrap();
    damage(&object_file(&dir, &cid), b"the trutH");

    let fault = store.get(&cid).unwrap_err();
    assert_eq!(
        (fault.category(), fault.code()),
        (Category::VerificationFailed, "verification_failed")
    );
    assert!(fault.message().contains(&cid.to_string()));

    let aside = dir.path().join("content/quarantine").join(cid.to_string());
    assert_eq!(fs::read(aside).unwrap(), b"the trutH");
    assert_eq!(store.get(&cid).unwrap_err().code(), "object_missing");

    store.put(b"the truth").unwrap();
    assert_eq!(store.get(&cid).unwrap(), b"the truth");
}

#[test]
fn a_put_repairs_an_object_that_nobody_has_read_since_it_was_damaged() {
    let (dir, store) = open(SMALL);
    let cid = store.put(b"the truth").unwrap();
    damage(&object_file(&dir, &cid), b"");
    store.put(b"the truth").unwrap();
    assert_eq!(store.get(&cid).unwrap(), b"the truth");
}

#[test]
fn an_object_grown_past_the_limit_on_disk_is_corrupt() {
    let (dir, store) = open(SMALL);
    let cid = store.put(b"small").unwrap();
    damage(&object_file(&dir, &cid), &[b'x'; 65]);
    assert_eq!(
        store.get(&cid).unwrap_err().category(),
        Category::VerificationFailed
    );
}

#[test]
fn every_single_flipped_bit_is_noticed() {
    let (dir, store) = open(SMALL);
    let good = b"flip me";
    let cid = Cid::raw(good);
    for bit in 0..good.len() * 8 {
        store.put(good).unwrap();
        let mut bad = good.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        damage(&object_file(&dir, &cid), &bad);
        assert_eq!(
            store.get(&cid).unwrap_err().category(),
            Category::VerificationFailed,
            "bit {bit}"
        );
    }
}

#[test]
fn the_largest_object_fits_and_one_byte_more_leaves_nothing() {
    let (dir, store) = open(SMALL);
    store.put(&[1; 64]).unwrap();
    let before = files(dir.path());
    assert_eq!(store.put(&[1; 65]).unwrap_err().code(), "object_too_large");
    assert_eq!(files(dir.path()), before);
    assert_eq!(store.used(), 64);
}

#[test]
fn a_full_store_takes_no_more_and_leaves_nothing() {
    let (dir, store) = open(SMALL);
    store.put(&[1; 60]).unwrap();
    store.put(&[2; 40]).unwrap();
    let before = files(dir.path());
    let fault = store.put(b"x").unwrap_err();
    assert_eq!(fault.code(), "content_store_full");
    assert_eq!(files(dir.path()), before);
    assert_eq!(store.used(), 100);
    store.put(&[2; 40]).unwrap();
}

#[test]
fn what_is_in_quarantine_counts_against_the_total() {
    let (dir, store) = open(SMALL);
    let cid = store.put(&[1; 60]).unwrap();
    damage(&object_file(&dir, &cid), &[2; 60]);
    store.get(&cid).unwrap_err();
    assert_eq!(store.used(), 60);
    assert_eq!(
        store.put(&[1; 60]).unwrap_err().code(),
        "content_store_full"
    );
}

#[test]
fn a_write_that_the_disk_refuses_takes_no_room() {
    let (dir, store) = open(SMALL);
    let objects = dir.path().join("content/objects");
    fs::remove_dir(&objects).unwrap();
    std::os::unix::fs::symlink("/dev/null", &objects).unwrap();
    store.put(b"bytes").unwrap_err();
    assert_eq!(store.used(), 0);
}

#[test]
fn bytes_under_a_name_that_is_not_theirs_are_refused() {
    let (dir, store) = open(SMALL);
    let fault = store.put_as(&Cid::raw(b"one"), b"other").unwrap_err();
    assert_eq!(fault.category(), Category::VerificationFailed);
    assert!(files(dir.path()).is_empty());
}

#[test]
fn an_object_can_be_kept_under_a_name_of_another_codec() {
    let (_dir, store) = open(SMALL);
    let cid = Cid::dag_cbor(b"\xa0");
    assert!(store.put_as(&cid, b"\xa0").unwrap());
    assert!(!store.put_as(&cid, b"\xa0").unwrap());
    assert_eq!(store.get(&cid).unwrap(), b"\xa0");
    assert!(!store.has(&Cid::raw(b"\xa0")).unwrap());
}

#[test]
fn ranges_stop_at_the_end_and_do_not_start_past_it() {
    let (_dir, store) = open(SMALL);
    let cid = store.put(b"0123456789").unwrap();
    assert_eq!(store.read_range(&cid, 2, 3).unwrap(), b"234");
    assert_eq!(store.read_range(&cid, 8, 100).unwrap(), b"89");
    assert_eq!(store.read_range(&cid, 10, 1).unwrap(), b"");
    assert_eq!(
        store.read_range(&cid, 11, 0).unwrap_err().code(),
        "range_out_of_bounds"
    );
    assert_eq!(
        store
            .read_range(&cid, u64::MAX, MAX_RANGE)
            .unwrap_err()
            .code(),
        "range_out_of_bounds"
    );
    assert_eq!(store.read_range(&cid, 0, MAX_RANGE).unwrap(), b"0123456789");
    assert_eq!(
        store.read_range(&cid, 0, MAX_RANGE + 1).unwrap_err().code(),
        "range_too_long"
    );
}

#[test]
fn a_range_of_an_object_damaged_after_its_first_read_is_refused() {
    let (dir, store) = open(SMALL);
    let cid = store.put(b"0123456789").unwrap();
    assert_eq!(store.read_range(&cid, 0, 5).unwrap(), b"01234");
    assert_eq!(store.read_range(&cid, 0, 5).unwrap(), b"01234");
    damage(&object_file(&dir, &cid), b"0123456780");
    assert_eq!(
        store.read_range(&cid, 0, 5).unwrap_err().category(),
        Category::VerificationFailed
    );
}

#[test]
fn everything_on_disk_is_private() {
    let (dir, store) = open(SMALL);
    store.put(b"bytes").unwrap();
    for file in files(dir.path()) {
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600,
            "{file:?}"
        );
        assert_eq!(
            fs::metadata(file.parent().unwrap())
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o700
        );
    }
}

#[test]
fn racing_readers_of_a_corrupt_object_are_told_that_it_is_corrupt_or_gone() {
    let (dir, store) = open(SMALL);
    for round in 0..64_u8 {
        let cid = store.put(&[round]).unwrap();
        damage(&object_file(&dir, &cid), b"damaged");
        let start = Arc::new(Barrier::new(8));
        let readers = (0..8).map(|_| {
            let (store, start) = (store.clone(), start.clone());
            std::thread::spawn(move || {
                start.wait();
                store.get(&cid).unwrap_err()
            })
        });
        for reader in readers.collect::<Vec<_>>() {
            let fault = reader.join().unwrap();
            let code = fault.code();
            assert!(
                ["verification_failed", "object_missing"].contains(&code),
                "{fault}"
            );
        }
    }
}

#[test]
fn racing_writers_of_one_object_all_succeed_and_it_counts_once() {
    let (dir, store) = open(Limits {
        max_object: 4096,
        max_total: 4096,
    });
    let start = Arc::new(Barrier::new(16));
    let writers = (0..16).map(|_| {
        let (store, start) = (store.clone(), start.clone());
        std::thread::spawn(move || {
            start.wait();
            store.put(&[7; 4096]).unwrap()
        })
    });
    let cids: Vec<_> = writers
        .collect::<Vec<_>>()
        .into_iter()
        .map(|writer| writer.join().unwrap())
        .collect();
    assert!(cids.iter().all(|cid| *cid == cids[0]));
    assert_eq!(files(dir.path()).len(), 1);
    assert_eq!(store.used(), 4096);
}

#[test]
fn racing_writers_of_different_objects_never_pass_the_total() {
    let (dir, store) = open(Limits {
        max_object: 10,
        max_total: 50,
    });
    let start = Arc::new(Barrier::new(16));
    let writers = (0..16_u8).map(|index| {
        let (store, start) = (store.clone(), start.clone());
        std::thread::spawn(move || {
            start.wait();
            store.put(&[index; 10]).is_ok()
        })
    });
    let stored = writers
        .collect::<Vec<_>>()
        .into_iter()
        .map(|writer| writer.join().unwrap());
    assert_eq!(stored.filter(|stored| *stored).count(), 5);
    assert_eq!(files(dir.path()).len(), 5);
}

proptest! {
    // Each case opens a store of its own, which syncs to the disk.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_range_is_what_slicing_the_object_gives(
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
        offset in 0_u64..80,
        length in 0_u64..80,
    ) {
        let (_dir, store) = open(SMALL);
        let cid = store.put(&bytes).unwrap();
        let expected = bytes.get(offset as usize..).map(|rest| &rest[..rest.len().min(length as usize)]);
        match expected {
            Some(expected) => prop_assert_eq!(store.read_range(&cid, offset, length).unwrap(), expected),
            None => prop_assert_eq!(store.read_range(&cid, offset, length).unwrap_err().code().to_owned(), "range_out_of_bounds"),
        }
    }
}
