//! What the store and the erasure code cost beside plain files: each is compared with writing or reading the same bytes and
//! hashing them once, in the same run, in turns. Ratios of medians; throughputs are of the object's bytes.

#![expect(clippy::unwrap_used, reason = "a bench")]

use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use worldcompute_content::erasure::{self, Manifest, ShardId};
use worldcompute_content::{Collect, ContentStore, Limits};
use worldcompute_durable::{Mode, write_atomic};
use worldcompute_proof::{Cid, Hasher, Sha256};

const OBJECT: usize = 80 << 20;
const SMALL: usize = 4096;
const SMALLS: usize = 64;
/// Rounds of which the medians are compared; the two sides take turns.
const ROUNDS: usize = 7;

fn main() {
    let bench = Bench::new();
    bench.streams();
    bench.small_objects();
    bench.erasure();
}

struct Bench {
    dir: tempfile::TempDir,
    store: ContentStore,
    bytes: Vec<u8>,
    plain: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = ContentStore::open(dir.path().join("content"), Limits::default()).unwrap();
        let mut state = 1_u64;
        let words = (0..OBJECT / 8).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        });
        let bytes = words.flat_map(u64::to_le_bytes).collect();
        let plain = dir.path().join("plain");
        Self {
            dir,
            store,
            bytes,
            plain,
        }
    }

    fn streams(&self) {
        let cid = Cid::raw(&self.bytes);
        let put = || {
            self.forget();
            self.store.put_reader(self.bytes.as_slice()).unwrap();
        };
        compare("put a stream", OBJECT, put, || self.write_and_hash());
        let read_and_hash = || read_and_hash(&self.plain);
        let get = || drop(black_box(self.store.get(&cid).unwrap()));
        compare("get into memory", OBJECT, get, read_and_hash);
        let again = || {
            let mut reader = self.store.reader(&cid).unwrap();
            io::copy(&mut reader, &mut io::sink()).unwrap();
        };
        compare("read as a stream, known", OBJECT, again, read_and_hash);
        let first = || {
            let limits = Limits::default();
            let place = self.dir.path().join("other");
            let store = ContentStore::open(place, limits).unwrap();
            io::copy(&mut store.reader(&cid).unwrap(), &mut io::sink()).unwrap();
        };
        let place = self.dir.path().join("other");
        let other = ContentStore::open(place, Limits::default()).unwrap();
        other.put(&self.bytes).unwrap();
        drop(other);
        compare("read as a stream, first", OBJECT, first, read_and_hash);
    }

    fn small_objects(&self) {
        let smalls = || self.bytes.chunks(SMALL).take(SMALLS);
        let put = || {
            self.forget();
            smalls().for_each(|bytes| drop(black_box(self.store.put(bytes).unwrap().to_string())));
        };
        let write = || {
            for bytes in smalls() {
                black_box(Sha256::of(bytes));
                write_atomic(&self.plain, bytes, Mode::Private).unwrap();
            }
        };
        compare("put 64 objects of 4 KiB", SMALL * SMALLS, put, write);
    }

    fn erasure(&self) {
        self.forget();
        let object = self.store.put(&self.bytes).unwrap();
        let coded = erasure::encode(&self.store, &object).unwrap();
        let kept = self.store.hold(&object);
        let encode = || {
            self.lose(&coded.manifest, 0..18);
            erasure::encode(&self.store, &object).unwrap();
        };
        // The same bytes that shards have, hashed and written.
        let write = || {
            self.write_and_hash();
            self.write_part_and_hash(OBJECT / 10 * 8);
        };
        compare("encode", OBJECT, encode, write);
        drop(kept);
        for (name, lost) in [
            ("restore, nothing lost", 0..0_u8),
            ("restore, 8 lost", 0..8),
        ] {
            self.lose(&coded.manifest, lost);
            let restore = || {
                self.store.collect(Collect::All).unwrap();
                erasure::restore(&self.store, &coded.manifest).unwrap();
            };
            compare(name, OBJECT, restore, || {
                read_and_hash(&self.plain);
                self.write_and_hash();
            });
        }
        let all: Vec<ShardId> = coded.manifest.shards().map(|(shard, _)| shard).collect();
        let eight: Vec<ShardId> = all.into_iter().filter(|shard| shard.index < 8).collect();
        let repair = || {
            for shard in &eight {
                self.remove(coded.manifest.shard(*shard).unwrap());
            }
            erasure::repair(&self.store, &coded.manifest, eight.iter().copied()).unwrap();
        };
        compare("repair 8 shards", OBJECT, repair, || {
            read_and_hash(&self.plain);
            self.write_part_and_hash(OBJECT / 10 * 8);
        });
    }

    /// Only what is held stays.
    fn forget(&self) {
        self.store.collect(Collect::All).unwrap();
    }

    fn lose(&self, manifest: &Manifest, indices: std::ops::Range<u8>) {
        for (shard, cid) in manifest.shards() {
            if indices.contains(&shard.index) {
                self.remove(cid);
            }
        }
    }

    fn remove(&self, cid: &Cid) {
        let name = cid.to_string();
        let objects = self.dir.path().join("content/objects");
        let path = objects.join(name.get(56..58).unwrap()).join(&name);
        if path.exists() {
            std::fs::remove_file(path).unwrap();
        }
    }

    fn write_and_hash(&self) {
        self.write_part_and_hash(self.bytes.len());
    }

    fn write_part_and_hash(&self, length: usize) {
        let mut file = File::create(&self.plain).unwrap();
        let mut hasher = Hasher::new();
        for chunk in self.bytes.get(..length).unwrap().chunks(64 << 10) {
            hasher.update(chunk);
            file.write_all(chunk).unwrap();
        }
        file.sync_all().unwrap();
        black_box(hasher.finish());
    }
}

fn read_and_hash(path: &Path) {
    let mut file = File::open(path).unwrap();
    let (mut hasher, mut buffer) = (Hasher::new(), vec![0; 64 << 10]);
    loop {
        let read = file.read(&mut buffer).unwrap();
        if read == 0 {
            break;
        }
        hasher.update(buffer.get(..read).unwrap());
    }
    black_box(hasher.finish());
}

fn compare(name: &str, bytes: usize, ours: impl Fn(), plain: impl Fn()) {
    let (mut our_times, mut plain_times) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        plain_times.push(time(&plain));
        our_times.push(time(&ours));
    }
    let (ours, plain) = (median(our_times), median(plain_times));
    let speed = bytes as f64 / ours.as_secs_f64() / 1e6;
    let ratio = ours.as_secs_f64() / plain.as_secs_f64();
    println!(
        "content: {name}: {speed:.1} MB/s, {ratio:.2} times plain files ({ours:.1?} against {plain:.1?})"
    );
}

fn time(work: impl Fn()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.into_iter().nth(ROUNDS / 2).unwrap()
}
