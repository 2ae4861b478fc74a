//! Large objects: in and out as streams, in constant memory, verified all the way.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Barrier};

use proptest::prelude::*;
use tempfile::TempDir;
use worldcompute_content::{ContentStore, Limits, MAX_RANGE};
use worldcompute_fault::{Category, Fault};
use worldcompute_proof::Cid;

const PIECE: usize = 256 << 10;
const LIMITS: Limits = Limits {
    max_object: 1 << 20,
    max_total: 2 << 20,
};

fn open(limits: Limits) -> (TempDir, ContentStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = ContentStore::open(dir.path().join("content"), limits).unwrap();
    (dir, store)
}

/// Bytes of which no piece is like another.
fn bytes(length: usize) -> Vec<u8> {
    let words = (0..length.div_ceil(4)).map(|word| (word as u32).wrapping_mul(0x9e37_79b1));
    let mut bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
    bytes.truncate(length);
    bytes
}

/// Every file below a directory but the store's lock.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap();
    let entries = entries.map(|entry| entry.unwrap().path());
    let (dirs, mut below): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    below.retain(|path| !path.ends_with("lock"));
    below.extend(dirs.iter().flat_map(|dir| files(dir)));
    below
}

fn only_file(dir: &TempDir) -> PathBuf {
    let mut all = files(dir.path());
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    let file = fs::File::options().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, bytes, offset).unwrap();
}

/// What the fault inside of an error of a stream is called.
fn code(error: &io::Error) -> String {
    let fault = error.get_ref().unwrap().downcast_ref::<Fault>().unwrap();
    fault.code().to_owned()
}

fn assert_nothing_left(dir: &TempDir, store: &ContentStore) {
    assert_eq!(files(dir.path()), Vec::<PathBuf>::new());
    assert_eq!(store.used(), 0);
}

/// Gives some bytes, and then an error.
struct Breaking(io::Take<io::Repeat>, Option<io::Error>);

fn breaking(after: usize, error: io::Error) -> Breaking {
    Breaking(io::repeat(7).take(after as u64), Some(error))
}

impl Read for Breaking {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(self.1.take().unwrap()),
            read => Ok(read),
        }
    }
}

/// A stream that cannot be read.
fn untouched() -> Breaking {
    breaking(0, io::Error::other("nothing had to be read"))
}

#[test]
fn a_stream_of_any_length_comes_out_as_it_went_in() {
    let (_dir, store) = open(LIMITS);
    for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 5] {
        let bytes = bytes(length);
        let cid = store.put_reader(bytes.as_slice()).unwrap();
        assert_eq!(cid, Cid::raw(&bytes));
        assert_eq!(store.get(&cid).unwrap(), bytes);
        let mut reader = store.reader(&cid).unwrap();
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert_eq!((reader.length(), read), (length as u64, bytes));
    }
}

#[test]
fn a_stream_can_be_kept_under_a_name_of_another_codec() {
    let (_dir, store) = open(LIMITS);
    let cid = Cid::dag_cbor(b"\xa0");
    assert!(store.put_reader_as(&cid, b"\xa0".as_slice()).unwrap());
    assert_eq!(store.get(&cid).unwrap(), b"\xa0");
}

#[test]
fn a_stream_that_breaks_off_leaves_nothing_and_tells_why() {
    let (dir, store) = open(LIMITS);
    let lost = || breaking(PIECE, io::ErrorKind::ConnectionReset.into());
    assert_eq!(store.put_reader(lost()).unwrap_err().code(), "io_failure");
    let fault = Fault::new(Category::InvalidInput, "bomb", "too much of it");
    let refused = breaking(PIECE, io::Error::other(fault.clone()));
    assert_eq!(store.put_reader(refused).unwrap_err(), fault);
    assert_eq!(
        store
            .put_reader_as(&Cid::raw(b"x"), lost())
            .unwrap_err()
            .code(),
        "io_failure"
    );
    assert_nothing_left(&dir, &store);
}

#[test]
fn an_endless_stream_is_stopped_at_the_cap_of_an_object_and_leaves_nothing() {
    let (dir, store) = open(LIMITS);
    let fault = store.put_reader(io::repeat(1)).unwrap_err();
    assert_eq!(fault.code(), "object_too_large");
    let exact = io::repeat(1).take(LIMITS.max_object);
    store.put_reader(exact).unwrap();
    assert_eq!(files(dir.path()).len(), 1);
}

#[test]
fn a_stream_is_stopped_at_the_cap_of_the_store_and_leaves_what_was_there() {
    let (dir, store) = open(Limits {
        max_total: (1 << 20) + 10,
        ..LIMITS
    });
    store.put_reader(io::repeat(1).take(1 << 20)).unwrap();
    let before = files(dir.path());
    let fault = store.put_reader(io::repeat(2).take(11)).unwrap_err();
    assert_eq!(fault.code(), "content_store_full");
    assert_eq!((files(dir.path()), store.used()), (before, 1 << 20));
    store.put_reader(io::repeat(2).take(10)).unwrap();
}

#[test]
fn a_stream_of_another_name_is_refused_and_leaves_nothing() {
    let (dir, store) = open(LIMITS);
    let fault = store
        .put_reader_as(&Cid::raw(b"one"), b"other".as_slice())
        .unwrap_err();
    assert_eq!(fault.category(), Category::VerificationFailed);
    assert_nothing_left(&dir, &store);
}

#[test]
fn of_an_object_that_is_there_nothing_is_read_unless_it_is_corrupt() {
    let (dir, store) = open(LIMITS);
    let bytes = bytes(PIECE + 1);
    let cid = store.put(&bytes).unwrap();
    assert!(!store.put_reader_as(&cid, untouched()).unwrap());
    overwrite(&only_file(&dir), PIECE as u64, b"x");
    store.put_reader_as(&cid, bytes.as_slice()).unwrap();
    assert_eq!(store.get(&cid).unwrap(), bytes);
}

/// Ends the process where another stream would break off.
struct Killing(Breaking);

impl Read for Killing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer);
        read.map_err(|_| std::process::abort())
    }
}

#[test]
fn what_a_killed_writer_left_is_gone_when_the_store_is_opened() {
    if let Some(dir) = std::env::var_os("STREAM_INTO") {
        let store = ContentStore::open(dir, LIMITS).unwrap();
        let stream = breaking(PIECE, io::ErrorKind::Other.into());
        store.put_reader(Killing(stream)).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let content = dir.path().join("content");
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "what_a_killed_writer_left_is_gone_when_the_store_is_opened",
        ])
        .env("STREAM_INTO", &content)
        .output()
        .unwrap();
    assert!(!child.status.success());
    assert!(fs::metadata(only_file(&dir)).unwrap().len() > 0);
    let store = ContentStore::open(&content, LIMITS).unwrap();
    assert_nothing_left(&dir, &store);
}

/// Tries to open the store while it is read, once.
struct Opening<'a>(&'a Path, bool);

impl Read for Opening<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if std::mem::replace(&mut self.1, true) {
            return Ok(0);
        }
        let fault = ContentStore::open(self.0, LIMITS).err().unwrap();
        assert_eq!(fault.code(), "state_contention");
        buffer.fill(1);
        Ok(buffer.len())
    }
}

#[test]
fn a_store_is_open_once_at_a_time_and_a_second_opening_costs_no_living_writer_its_stream() {
    let (dir, store) = open(LIMITS);
    let content = dir.path().join("content");
    let cid = store.put_reader(Opening(&content, false)).unwrap();
    assert_eq!(store.size(&cid).unwrap(), store.used());
    assert!(store.used() > 0);
}

#[test]
fn racing_streams_never_pass_the_total_while_they_run() {
    let (dir, store) = open(LIMITS);
    let start = Arc::new(Barrier::new(8));
    let writers = (0..8_u8).map(|index| {
        let (store, start) = (store.clone(), start.clone());
        std::thread::spawn(move || {
            start.wait();
            let stream = io::repeat(index).take(512 << 10);
            let kept = store.put_reader(stream).is_ok();
            assert!(store.used() <= LIMITS.max_total);
            kept
        })
    });
    let kept = writers
        .collect::<Vec<_>>()
        .into_iter()
        .map(|writer| writer.join().unwrap());
    let kept = kept.filter(|kept| *kept).count();
    assert!(kept <= 4);
    assert_eq!(files(dir.path()).len(), kept);
    assert_eq!(store.used(), kept as u64 * (512 << 10));
}

#[test]
fn a_file_changed_under_an_open_reader_is_refused_where_it_changed() {
    let (dir, store) = open(LIMITS);
    let bytes = bytes(3 * PIECE);
    let cid = store.put(&bytes).unwrap();
    let mut reader = store.reader(&cid).unwrap();
    let mut first = vec![0; PIECE];
    reader.read_exact(&mut first).unwrap();
    assert_eq!(first, bytes[..PIECE]);

    overwrite(&only_file(&dir), 2 * PIECE as u64 - 1, b"!");
    let error = reader.read(&mut first).unwrap_err();
    assert_eq!(code(&error), "verification_failed");
    reader.seek(SeekFrom::Start(2 * PIECE as u64)).unwrap();
    reader.read_exact(&mut first).unwrap();
    assert_eq!(first, bytes[2 * PIECE..]);
    assert!(!store.has(&cid).unwrap());
    store.put(&bytes).unwrap();
    assert_eq!(store.get(&cid).unwrap(), bytes);
}

#[test]
fn a_file_cut_under_an_open_reader_is_refused() {
    let (dir, store) = open(LIMITS);
    let cid = store.put(&bytes(2 * PIECE)).unwrap();
    let mut reader = store.reader(&cid).unwrap();
    fs::File::options()
        .write(true)
        .open(only_file(&dir))
        .unwrap()
        .set_len(PIECE as u64 + 1)
        .unwrap();
    let error = io::copy(&mut reader, &mut io::sink()).unwrap_err();
    assert_eq!(code(&error), "verification_failed");
}

#[test]
fn a_change_that_leaves_the_times_of_the_file_alone_is_refused_too() {
    let (dir, store) = open(LIMITS);
    let cid = store.put(&bytes(PIECE)).unwrap();
    let path = only_file(&dir);
    store.read_range(&cid, 0, 1).unwrap();
    let times = fs::metadata(&path).unwrap().modified().unwrap();
    overwrite(&path, 0, b"!");
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(times).unwrap();
    let fault = store.read_range(&cid, 0, 1).unwrap_err();
    assert_eq!(fault.code(), "verification_failed");
    assert_eq!(store.reader(&cid).err().unwrap().code(), "object_missing");
}

#[test]
fn a_corrupt_object_gives_no_reader_and_is_set_aside() {
    let (dir, store) = open(LIMITS);
    let bytes = bytes(PIECE + 1);
    let cid = store.put(&bytes).unwrap();
    overwrite(&only_file(&dir), 0, b"!");
    let fault = store.reader(&cid).err().unwrap();
    assert_eq!(fault.code(), "verification_failed");
    assert!(fault.message().contains(&cid.to_string()));
    assert!(only_file(&dir).starts_with(dir.path().join("content/quarantine")));
    store.put(&bytes).unwrap();
    assert_eq!(store.read_range(&cid, 0, 1).unwrap(), bytes[..1]);
}

#[test]
fn what_is_too_large_for_memory_is_read_as_a_stream() {
    // A file with a hole takes no room on the disk; as the object of its name it is corrupt, which only a stream finds.
    let (dir, store) = open(Limits {
        max_object: 1 << 30,
        max_total: 1 << 30,
    });
    let cid = store.put(b"grows").unwrap();
    let file = fs::File::options()
        .write(true)
        .open(only_file(&dir))
        .unwrap();
    file.set_len((256 << 20) + 1).unwrap();
    assert_eq!(
        store.get(&cid).unwrap_err().code(),
        "object_too_large_for_memory"
    );
    assert_eq!(
        store.reader(&cid).err().unwrap().code(),
        "verification_failed"
    );
}

#[test]
fn seeking_before_the_start_is_refused_and_past_the_end_reads_nothing() {
    let (_dir, store) = open(LIMITS);
    let cid = store.put(b"0123").unwrap();
    let mut reader = store.reader(&cid).unwrap();
    reader.seek(SeekFrom::End(-5)).unwrap_err();
    for past in [
        SeekFrom::End(0),
        SeekFrom::End(9),
        SeekFrom::Start(u64::MAX),
    ] {
        reader.seek(past).unwrap();
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
    }
    reader.seek(SeekFrom::Start(u64::MAX)).unwrap();
    reader.seek(SeekFrom::Current(1)).unwrap_err();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn whatever_is_read_of_a_large_object_is_a_slice_of_it(
        reads in proptest::collection::vec((0..3 * PIECE, 0..2 * PIECE), 1..8),
    ) {
        let (_dir, store) = open(LIMITS);
        let bytes = bytes(2 * PIECE + 77);
        let cid = store.put(&bytes).unwrap();
        let mut reader = store.reader(&cid).unwrap();
        for (offset, length) in reads {
            let expected = bytes.get(offset..).unwrap_or_default();
            let expected = &expected[..expected.len().min(length)];
            let mut read = Vec::new();
            reader.seek(SeekFrom::Start(offset as u64)).unwrap();
            (&mut reader).take(length as u64).read_to_end(&mut read).unwrap();
            prop_assert_eq!(&read, expected);
            if offset <= bytes.len() {
                let range = store.read_range(&cid, offset as u64, (length as u64).min(MAX_RANGE));
                prop_assert_eq!(range.unwrap(), expected);
            }
        }
    }
}
