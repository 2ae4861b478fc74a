//! Pins, holds and garbage collection: what is needed stays, the rest makes room.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use tempfile::TempDir;
use worldcompute_content::{
    Collect, Collected, ContentStore, Limits, MAX_PIN_NAME, MAX_PIN_OBJECTS, MAX_PINNED, PinName,
};
use worldcompute_fault::Result;
use worldcompute_proof::Cid;

const LIMITS: Limits = Limits {
    max_object: 64,
    max_total: 100,
};
const HOUR: Duration = Duration::from_secs(3600);

fn reopen(dir: &TempDir) -> Result<ContentStore> {
    ContentStore::open(dir.path().join("content"), LIMITS)
}

fn open() -> (TempDir, ContentStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = reopen(&dir).unwrap();
    (dir, store)
}

fn collecting() -> (TempDir, ContentStore) {
    let (dir, store) = open();
    store.collect_when_full();
    (dir, store)
}

fn name(text: &str) -> PinName {
    text.parse().unwrap()
}

fn file_of(dir: &TempDir, cid: &Cid) -> PathBuf {
    let cid = cid.to_string();
    let shard = cid.get(56..58).unwrap();
    dir.path().join("content/objects").join(shard).join(&cid)
}

/// As if it was last used so long ago.
fn age(dir: &TempDir, cid: &Cid, age: Duration) {
    let file = fs::File::open(file_of(dir, cid)).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

fn damage(path: &Path) {
    let file = fs::File::options().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"!", 0).unwrap();
}

fn there(store: &ContentStore, cids: &[Cid]) -> Vec<bool> {
    cids.iter().map(|cid| store.has(cid).unwrap()).collect()
}

#[test]
fn what_is_pinned_or_held_stays_and_the_rest_goes() {
    let (_dir, store) = open();
    let cids = [b"pinned", b"held..", b"bare.."].map(|bytes| store.put(bytes).unwrap());
    store.pin(&name("job:1"), [cids[0]]).unwrap();
    let held = store.hold(&cids[1]);
    let one = Collected {
        objects: 1,
        bytes: 6,
    };
    assert_eq!(store.collect(Collect::All).unwrap(), one);
    assert_eq!(there(&store, &cids), [true, true, false]);
    drop(held);
    assert_eq!(store.collect(Collect::All).unwrap(), one);
    assert!(store.unpin(&name("job:1")).unwrap());
    assert_eq!(store.collect(Collect::All).unwrap(), one);
    assert_eq!((there(&store, &cids), store.used()), (vec![false; 3], 0));
    assert_eq!(store.collect(Collect::All).unwrap(), Collected::default());
}

#[test]
fn of_what_is_named_only_that_goes_which_nobody_needs() {
    let (_dir, store) = open();
    let cids = [b"pinned", b"held..", b"bare..", b"other."].map(|bytes| store.put(bytes).unwrap());
    store.pin(&name("job:1"), [cids[0]]).unwrap();
    let held = store.hold(&cids[1]);
    let named = [cids[0], cids[1], cids[2], cids[2], Cid::raw(b"absent")];
    let one = Collected {
        objects: 1,
        bytes: 6,
    };
    assert_eq!(store.remove_unneeded(named).unwrap(), one);
    assert_eq!(there(&store, &cids), [true, true, false, true]);
    assert_eq!(store.used(), 18);
    drop(held);
    assert_eq!(store.remove_unneeded(named).unwrap(), one);
    assert_eq!(there(&store, &cids), [true, false, false, true]);
}

#[test]
fn an_object_stays_until_the_last_who_needs_it_is_gone() {
    let (_dir, store) = open();
    let cid = store.put(b"shared").unwrap();
    let holds = [store.hold(&cid), store.hold(&cid)];
    for pin in ["job:1", "job:2"] {
        store.pin(&name(pin), [cid, cid]).unwrap();
        store.pin(&name(pin), [cid]).unwrap();
    }
    for hold in holds {
        drop(hold);
        store.collect(Collect::All).unwrap();
    }
    store.unpin(&name("job:1")).unwrap();
    store.collect(Collect::All).unwrap();
    assert!(store.has(&cid).unwrap());
    store.unpin(&name("job:2")).unwrap();
    store.collect(Collect::All).unwrap();
    assert!(!store.has(&cid).unwrap());
}

#[test]
fn pins_are_there_after_reopening_and_so_is_that_they_are_gone() {
    let (dir, store) = open();
    let cids = [b"a", b"b"].map(|bytes| store.put(bytes).unwrap());
    store.pin(&name("job:1"), [cids[0]]).unwrap();
    store.pin(&name("job:1"), [cids[1]]).unwrap();
    store.pin(&name("image:none"), []).unwrap();
    drop(store);
    let store = reopen(&dir).unwrap();
    assert_eq!(store.pins(), [name("image:none"), name("job:1")]);
    let mut pinned = store.pinned(&name("job:1")).unwrap();
    pinned.sort();
    let mut expected = cids;
    expected.sort();
    assert_eq!(pinned, expected);
    store.collect(Collect::All).unwrap();
    assert_eq!(there(&store, &cids), [true, true]);
    store.unpin(&name("job:1")).unwrap();
    drop(store);
    let store = reopen(&dir).unwrap();
    assert_eq!(store.pinned(&name("job:1")), None);
    assert!(!store.unpin(&name("job:1")).unwrap());
    store.collect(Collect::All).unwrap();
    assert_eq!(there(&store, &cids), [false, false]);
}

#[test]
fn a_crash_between_pin_and_put_leaves_a_pin_that_the_next_put_falls_under() {
    let cid = Cid::raw(b"later");
    if let Some(dir) = std::env::var_os("PIN_INTO") {
        let store = ContentStore::open(dir, LIMITS).unwrap();
        store.pin(&name("job:1"), [cid]).unwrap();
        std::process::abort();
    }
    let dir = tempfile::tempdir().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact"])
        .arg("a_crash_between_pin_and_put_leaves_a_pin_that_the_next_put_falls_under")
        .env("PIN_INTO", dir.path().join("content"))
        .output()
        .unwrap();
    assert!(!child.status.success());
    let store = reopen(&dir).unwrap();
    assert_eq!(store.pinned(&name("job:1")), Some(vec![cid]));
    store.put(b"later").unwrap();
    store.collect(Collect::All).unwrap();
    assert!(store.has(&cid).unwrap());
}

#[test]
fn a_pin_that_the_disk_refuses_pins_nothing() {
    let (dir, store) = open();
    let cid = store.put(b"bytes").unwrap();
    let pins = dir.path().join("content/pins");
    fs::remove_dir(&pins).unwrap();
    std::os::unix::fs::symlink("/dev/null", &pins).unwrap();
    store.pin(&name("job:1"), [cid]).unwrap_err();
    assert_eq!(store.pinned(&name("job:1")), None);
    store.collect(Collect::All).unwrap();
    assert!(!store.has(&cid).unwrap());
}

#[test]
fn a_damaged_pin_keeps_the_store_closed_and_is_named() {
    for damaged in ["no cid\n", "\u{fffd}", "bafk"] {
        let (dir, store) = open();
        let cid = store.put(b"bytes").unwrap();
        store.pin(&name("job:1"), [cid]).unwrap();
        drop(store);
        let path = dir.path().join("content/pins/job:1");
        worldcompute_durable::write_atomic(
            &path,
            damaged.as_bytes(),
            worldcompute_durable::Mode::Private,
        )
        .unwrap();
        let fault = reopen(&dir).err().unwrap();
        assert_eq!(fault.code(), "pin_corrupt");
        assert!(fault.message().contains("job:1"), "{fault}");
        fs::remove_file(path).unwrap();
        assert_eq!(reopen(&dir).unwrap().pins(), []);
    }
}

#[test]
fn a_pin_takes_so_many_objects_and_all_pins_so_many_together() {
    let (_dir, store) = open();
    let some = |from: usize, count: usize| {
        let names = from..from + count;
        names.map(|number| Cid::raw(number.to_le_bytes()))
    };
    let first = name("first");
    let fault = store.pin(&first, some(0, MAX_PIN_OBJECTS + 1)).unwrap_err();
    assert_eq!(fault.code(), "pin_too_large");
    assert_eq!(store.pinned(&first), None);
    let full = MAX_PINNED / (MAX_PIN_OBJECTS + 1);
    for number in 0..full {
        store
            .pin(&name(&number.to_string()), some(0, MAX_PIN_OBJECTS))
            .unwrap();
    }
    let rest = MAX_PINNED - full * (MAX_PIN_OBJECTS + 1) - 1;
    store.pin(&first, some(0, rest)).unwrap();
    for (pin, from) in [("first", rest), ("second", 0)] {
        let fault = store.pin(&name(pin), some(from, 1)).unwrap_err();
        assert_eq!(fault.code(), "too_many_pins");
    }
    assert_eq!(store.pinned(&first).unwrap().len(), rest);
}

#[test]
fn names_of_pins_lead_nowhere_else() {
    for bad in [
        "", ".", "..", "../x", "a/b", ".hidden", ":x", "a b", "a\n", "ä", "a\0",
    ] {
        assert_eq!(
            bad.parse::<PinName>().unwrap_err().code(),
            "invalid_pin_name",
            "{bad:?}"
        );
    }
    "x".repeat(MAX_PIN_NAME).parse::<PinName>().unwrap();
    "x".repeat(MAX_PIN_NAME + 1).parse::<PinName>().unwrap_err();
}

#[test]
fn what_was_not_used_for_longest_goes_first() {
    let (dir, store) = open();
    let cids = [[1; 10], [2; 10], [3; 10]].map(|bytes| store.put(&bytes).unwrap());
    for (cid, hours) in cids.iter().zip([3, 2, 1]) {
        age(&dir, cid, HOUR * hours);
    }
    store.get(&cids[0]).unwrap();
    store.collect(Collect::DownTo(20)).unwrap();
    assert_eq!(there(&store, &cids), [true, false, true]);
    store.collect(Collect::DownTo(19)).unwrap();
    assert_eq!(there(&store, &cids), [true, false, false]);
    store.collect(Collect::DownTo(10)).unwrap();
    assert_eq!(store.used(), 10);
}

#[test]
fn every_way_of_reading_or_putting_again_is_a_use() {
    let uses: [fn(&ContentStore, &Cid); 5] = [
        |store, cid| drop(store.get(cid).unwrap()),
        |store, cid| drop(store.read_range(cid, 0, 1).unwrap()),
        |store, cid| drop(store.reader(cid).unwrap()),
        |store, cid| assert_eq!(store.put(b"used").unwrap(), *cid),
        |store, cid| assert!(!store.put_reader_as(cid, b"used".as_slice()).unwrap()),
    ];
    for (number, using) in uses.into_iter().enumerate() {
        let (dir, store) = open();
        let cid = store.put(b"used").unwrap();
        age(&dir, &cid, HOUR);
        using(&store, &cid);
        store.collect(Collect::Unused(HOUR / 2)).unwrap();
        assert!(store.has(&cid).unwrap(), "use {number}");
    }
}

#[test]
fn what_is_old_goes_after_its_time_and_nothing_else() {
    let (dir, store) = open();
    let cids = [b"old", b"new", b"pin"].map(|bytes| store.put(bytes).unwrap());
    age(&dir, &cids[0], HOUR * 2);
    age(&dir, &cids[2], HOUR * 2);
    store.pin(&name("job:1"), [cids[2]]).unwrap();
    store.collect(Collect::Unused(HOUR)).unwrap();
    assert_eq!(there(&store, &cids), [false, true, true]);
}

#[test]
fn corrupt_copies_go_before_any_object() {
    let (dir, store) = open();
    let bad = store.put(b"corrupt").unwrap();
    let good = store.put(b"good").unwrap();
    age(&dir, &good, HOUR);
    store.pin(&name("job:1"), [bad]).unwrap();
    damage(&file_of(&dir, &bad));
    store.get(&bad).unwrap_err();
    assert_eq!(store.used(), 11);
    store.collect(Collect::DownTo(4)).unwrap();
    assert_eq!((store.used(), store.has(&good).unwrap()), (4, true));
}

#[test]
fn files_of_other_names_are_left_alone() {
    let (dir, store) = open();
    let objects = dir.path().join("content/objects/aa");
    worldcompute_durable::private_dir(&objects).unwrap();
    fs::File::create(objects.join("notes.txt")).unwrap();
    store.collect(Collect::All).unwrap();
    assert!(objects.join("notes.txt").exists());
}

#[test]
fn a_full_store_makes_room_for_new_work() {
    let (dir, store) = collecting();
    let old = store.put(&[1; 60]).unwrap();
    age(&dir, &old, HOUR);
    let young = store.put(&[2; 30]).unwrap();
    let new = store.put_reader([3; 40].as_slice()).unwrap();
    assert_eq!(there(&store, &[old, young, new]), [false, true, true]);
    assert_eq!(store.used(), 70);
}

#[test]
fn a_store_full_of_what_is_needed_says_so_and_loses_nothing() {
    let (_dir, store) = collecting();
    let pinned = store.put(&[1; 50]).unwrap();
    store.pin(&name("job:1"), [pinned]).unwrap();
    let held = store.put_reader_held([2; 30].as_slice()).unwrap();
    let fault = store.put(&[3; 21]).unwrap_err();
    assert_eq!(fault.code(), "content_store_full");
    assert_eq!(there(&store, &[pinned, *held.cid()]), [true, true]);
    store.put(&[3; 20]).unwrap();
}

#[test]
fn what_never_fits_costs_no_other_object() {
    let limits = Limits {
        max_object: 1000,
        ..LIMITS
    };
    let dir = tempfile::tempdir().unwrap();
    let store = ContentStore::open(dir.path().join("content"), limits).unwrap();
    store.collect_when_full();
    let cid = store.put(&[1; 50]).unwrap();
    let fault = store.put(&[2; 101]).unwrap_err();
    assert_eq!(fault.code(), "content_store_full");
    assert!(store.has(&cid).unwrap());
}

#[test]
fn an_object_that_is_read_is_not_taken_away() {
    let (_dir, store) = open();
    let cid = store.put(b"being read").unwrap();
    let mut reader = store.reader(&cid).unwrap();
    store.collect(Collect::All).unwrap();
    let mut read = String::new();
    reader.read_to_string(&mut read).unwrap();
    assert_eq!(read, "being read");
    assert!(store.has(&cid).unwrap());
    drop(reader);
    store.collect(Collect::All).unwrap();
    assert!(!store.has(&cid).unwrap());
}

#[test]
fn a_collection_never_takes_what_somebody_came_to_need_first() {
    let (_dir, store) = open();
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let workers: Vec<_> = (0..4_u8)
            .map(|worker| {
                let (store, bytes) = (&store, [worker / 2; 9]);
                threads.spawn(move || {
                    for round in 0..100 {
                        let cid = Cid::raw(bytes);
                        let pin = name(&format!("job:{worker}"));
                        let held = (round % 2 == 0).then(|| store.hold(&cid));
                        if held.is_none() {
                            store.pin(&pin, [cid]).unwrap();
                        }
                        store.put(&bytes).unwrap();
                        std::thread::yield_now();
                        assert_eq!(store.get(&cid).unwrap(), bytes);
                        assert_eq!(store.read_range(&cid, 0, 9).unwrap(), bytes);
                        store.unpin(&pin).unwrap();
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            threads.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    store.collect(Collect::All).unwrap();
                }
            });
        }
        let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(|worker| worker.is_ok()));
    });
    store.collect(Collect::All).unwrap();
    assert_eq!(store.used(), 0);
}

#[test]
fn racing_writers_of_a_full_store_all_get_room_while_there_is_garbage() {
    let (_dir, store) = collecting();
    std::thread::scope(|threads| {
        for worker in 0..4_u8 {
            let store = &store;
            threads.spawn(move || {
                for round in 0..50 {
                    store.put(&[worker * 50 + round; 20]).unwrap();
                    assert!(store.used() <= LIMITS.max_total);
                }
            });
        }
    });
    store.collect(Collect::All).unwrap();
    assert_eq!(store.used(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn after_any_history_what_is_needed_is_there_and_the_count_is_right(
        steps in proptest::collection::vec((0_u8..6, 0_u8..5), 1..40),
    ) {
        let (dir, store) = collecting();
        let bytes = |number: u8| vec![number; 5 + usize::from(number) * 5];
        let mut pinned = [false; 5];
        let mut holds: Vec<(u8, worldcompute_content::Held)> = Vec::new();
        for (step, number) in steps {
            let cid = Cid::raw(bytes(number));
            let pin = name(&format!("pin:{number}"));
            match step {
                0 => prop_assert_eq!(store.put(&bytes(number)).unwrap(), cid),
                1 => {
                    store.pin(&pin, [cid]).unwrap();
                    store.put(&bytes(number)).unwrap();
                    pinned[usize::from(number)] = true;
                }
                2 => {
                    store.unpin(&pin).unwrap();
                    pinned[usize::from(number)] = false;
                }
                3 => {
                    holds.push((number, store.hold(&cid)));
                    store.put(&bytes(number)).unwrap();
                }
                4 => drop(holds.pop()),
                _ => prop_assert!(store.collect(Collect::All).is_ok()),
            }
            let held = holds.iter().map(|(number, _)| *number);
            let pins = (0..5).filter(|number| pinned[usize::from(*number)]);
            for number in held.chain(pins) {
                prop_assert_eq!(store.get(&Cid::raw(bytes(number))).unwrap(), bytes(number));
            }
        }
        let used = store.used();
        drop((holds, store));
        prop_assert_eq!(reopen(&dir).unwrap().used(), used);
    }
}
