//! Memory does not grow with the object. Alone in its process, whose largest size it looks at.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::io::{self, Read};

use worldcompute_content::{Collect, ContentStore, Limits, erasure};

const OBJECT: u64 = 96 << 20;
const ROOM: u64 = 8 << 20;
/// Coding opens the shards of a stripe at the same time.
const CODING_ROOM: u64 = 20 << 20;

/// The most memory that this process ever had resident, in bytes (proc(5)); `None` where the system does not tell.
fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().unwrap();
    Some(kib << 10)
}

#[test]
fn a_large_object_is_kept_and_read_in_little_memory() {
    let Some(before) = peak() else {
        println!("skipped: this system does not tell the largest size of a process");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let store = ContentStore::open(dir.path().join("content"), Limits::default()).unwrap();
    let cid = store.put_reader(io::repeat(9).take(OBJECT)).unwrap();
    assert_eq!(store.read_range(&cid, OBJECT - 3, 9).unwrap(), [9; 3]);
    let read = io::copy(&mut store.reader(&cid).unwrap(), &mut io::sink()).unwrap();
    let grown = peak().unwrap() - before;
    println!("{read} bytes in {grown} bytes of memory");
    assert_eq!(read, OBJECT);
    assert!(grown < ROOM);

    let coded = erasure::encode(&store, &cid).unwrap();
    store.collect(Collect::All).unwrap();
    assert!(!store.has(&cid).unwrap());
    erasure::restore(&store, &coded.manifest).unwrap();
    let grown = peak().unwrap() - before;
    println!("coded and restored in {grown} bytes of memory");
    assert!(grown < CODING_ROOM);
}
