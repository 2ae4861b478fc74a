//! Journals: what is read back, what is cut, and what is refused.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use worldcompute_durable::{Journal, Limits, Recovered};

const MAGIC: usize = 12;
const HEADER: usize = 20;

fn limits() -> Limits {
    Limits {
        max_record: 100,
        max_total: 1000,
    }
}

/// A journal of these records, closed, and its bytes.
fn journal_of(records: &[&[u8]]) -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let (mut journal, _) = Journal::open(&path, limits()).unwrap();
    for record in records {
        journal.append(record).unwrap();
    }
    let bytes = fs::read(&path).unwrap();
    (dir, path, bytes)
}

fn put(path: &Path, bytes: &[u8]) {
    File::create(path).unwrap().write_all(bytes).unwrap();
}

fn reopen(path: &Path) -> worldcompute_durable::Recovered {
    Journal::open(path, limits()).unwrap().1
}

fn damage(path: &Path) -> String {
    let fault = Journal::open(path, limits()).err().unwrap();
    assert_eq!(fault.code(), "journal_corrupt", "{fault}");
    fault.message().to_owned()
}

#[test]
fn a_new_journal_is_empty_and_private() {
    let (_dir, path, bytes) = journal_of(&[]);
    assert_eq!(
        (
            bytes.as_slice(),
            fs::metadata(&path).unwrap().mode() & 0o777
        ),
        (b"wcjournal-1\n".as_slice(), 0o600)
    );
    assert_eq!(reopen(&path), Recovered::default());
}

#[test]
fn the_format_on_disk_is_stable() {
    let (_dir, _path, bytes) = journal_of(&[b"123456789", b""]);
    // CRC-32 of "123456789" is the check value cbf43926.
    let expected = "77636a6f75726e616c2d310a\
        0000000000000000090000002639f4cb02417121313233343536373839\
        01000000000000000000000000000000c4dad342";
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, expected);
}

#[test]
fn sequence_numbers_go_on_after_reopening() {
    let (_dir, path, _) = journal_of(&[b"a", b"b"]);
    let (mut journal, recovered) = Journal::open(&path, limits()).unwrap();
    assert_eq!(
        (recovered.records.len(), journal.len(), journal.is_empty()),
        (2, 2, false)
    );
    assert_eq!(journal.append(b"c").unwrap(), 2);
}

#[test]
fn a_journal_cut_at_any_byte_gives_the_whole_records_reports_the_rest_and_goes_on() {
    let records: [&[u8]; 3] = [b"first", b"", b"third record"];
    let (_dir, path, bytes) = journal_of(&records);
    let ends = [
        MAGIC,
        MAGIC + HEADER + 5,
        MAGIC + 2 * HEADER + 5,
        bytes.len(),
    ];
    for cut in MAGIC..bytes.len() {
        put(&path, &bytes[..cut]);
        let whole = ends.iter().filter(|&&end| end <= cut).count() - 1;
        let recovered = reopen(&path);
        assert_eq!(recovered.records, records[..whole], "cut at {cut}");
        assert_eq!(
            recovered.torn_bytes,
            (cut - ends[whole]) as u64,
            "cut at {cut}"
        );
        let (mut journal, clean) = Journal::open(&path, limits()).unwrap();
        assert_eq!(clean.torn_bytes, 0, "cut at {cut}");
        assert_eq!(journal.append(b"next").unwrap(), whole as u64);
    }
}

#[test]
fn any_damaged_byte_before_the_last_record_is_an_error_that_names_the_place() {
    let (_dir, path, bytes) = journal_of(&[b"first", b"second", b"last"]);
    let starts = [MAGIC, MAGIC + HEADER + 5];
    let last = MAGIC + 2 * HEADER + 11;
    for at in 0..last {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            put(&path, &damaged);
            let start = starts
                .iter()
                .rev()
                .find(|&&start| start <= at)
                .copied()
                .unwrap_or(0);
            assert!(
                damage(&path).contains(&format!("byte {start}:")),
                "flip {flip:#x} at {at}"
            );
            assert_eq!(fs::read(&path).unwrap(), damaged, "left as it was");
        }
    }
}

#[test]
fn any_damaged_byte_of_the_last_record_is_reported_as_torn() {
    let (_dir, path, bytes) = journal_of(&[b"first", b"last"]);
    let last = MAGIC + HEADER + 5;
    for at in last..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        put(&path, &damaged);
        let recovered = reopen(&path);
        assert_eq!(
            (recovered.records.len(), recovered.torn_bytes),
            (1, (HEADER + 4) as u64),
            "at {at}"
        );
    }
}

#[test]
fn a_record_missing_from_the_middle_or_twice_there_is_an_error() {
    let (_dir, path, bytes) = journal_of(&[b"aaaa", b"bbbb", b"cccc"]);
    let record =
        |index: usize| &bytes[MAGIC + index * (HEADER + 4)..MAGIC + (index + 1) * (HEADER + 4)];
    for order in [&[0, 2][..], &[1, 2], &[0, 0, 1, 2], &[1, 0, 2], &[2]] {
        let records = order.iter().flat_map(|&index| record(index).to_vec());
        put(
            &path,
            &bytes[..MAGIC]
                .iter()
                .copied()
                .chain(records)
                .collect::<Vec<_>>(),
        );
        assert!(damage(&path).contains("a record is missing"), "{order:?}");
    }
}

#[test]
fn garbage_longer_than_one_record_is_no_torn_append() {
    let (_dir, path, bytes) = journal_of(&[b"first"]);
    let longest = HEADER + limits().max_record as usize;
    put(&path, &[&bytes[..], &vec![0; longest]].concat());
    assert_eq!(reopen(&path).torn_bytes, longest as u64);
    put(&path, &[&bytes[..], &vec![0; longest + 1]].concat());
    assert!(damage(&path).contains(&format!("byte {}:", bytes.len())));
}

#[test]
fn a_torn_record_that_quotes_a_whole_one_is_torn_all_the_same() {
    let (_inner_dir, _, inner) = journal_of(&[b"x", b"y"]);
    let quote = &inner[MAGIC + HEADER + 1..];
    let (_dir, path, bytes) = journal_of(&[b"first", &[quote, b"and more"].concat()]);
    put(&path, &bytes[..bytes.len() - 1]);
    assert_eq!(reopen(&path).records, [b"first"]);
}

#[test]
fn what_is_not_a_journal_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.txt");
    for bytes in [
        &b""[..],
        b"wcjournal-",
        b"wcjournal-2\n",
        b"hello, this is a text",
    ] {
        put(&path, bytes);
        assert!(damage(&path).contains("byte 0: not a journal of this version"));
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn a_record_at_the_limit_is_taken_and_one_past_it_refused() {
    let (_dir, path, _) = journal_of(&[]);
    let (mut journal, _) = Journal::open(&path, limits()).unwrap();
    assert_eq!(journal.append(&[7; 100]).unwrap(), 0);
    assert_eq!(
        journal.append(&[7; 101]).unwrap_err().code(),
        "record_too_large"
    );
    assert_eq!(journal.append(&[8; 100]).unwrap(), 1);
}

#[test]
fn a_journal_is_filled_to_its_limit_and_not_past_it() {
    let (_dir, path, _) = journal_of(&[]);
    let record = [0; 50];
    let total = (MAGIC + 3 * (HEADER + record.len())) as u64;
    for (max_total, fits) in [(total, 3), (total - 1, 2)] {
        fs::remove_file(&path).unwrap();
        let (mut journal, _) = Journal::open(
            &path,
            Limits {
                max_total,
                ..limits()
            },
        )
        .unwrap();
        let stored = (0..3)
            .take_while(|_| journal.append(&record).is_ok())
            .count();
        assert_eq!(stored, fits);
        assert_eq!(journal.append(&record).unwrap_err().code(), "journal_full");
        assert!(fs::metadata(&path).unwrap().len() <= max_total);
    }
}

#[test]
fn a_journal_larger_than_the_limit_is_not_read() {
    let (_dir, path, bytes) = journal_of(&[b"first"]);
    let limit = |max_total| Limits {
        max_total,
        ..limits()
    };
    assert!(Journal::open(&path, limit(bytes.len() as u64)).is_ok());
    let refused = Journal::open(&path, limit(bytes.len() as u64 - 1))
        .err()
        .unwrap();
    assert_eq!(refused.code(), "file_too_large");
}

#[test]
fn a_record_longer_than_todays_limit_is_an_error_and_not_lost() {
    let (_dir, path, _) = journal_of(&[&[1; 100]]);
    let smaller = Limits {
        max_record: 99,
        ..limits()
    };
    assert_eq!(
        Journal::open(&path, smaller).err().unwrap().code(),
        "journal_corrupt"
    );
    assert_eq!(reopen(&path).records, [[1; 100]]);
}

#[test]
fn a_journal_is_open_once_at_a_time() {
    let (_dir, path, _) = journal_of(&[b"a"]);
    let (journal, _) = Journal::open(&path, limits()).unwrap();
    let second = Journal::open(&path, limits()).err().unwrap();
    assert_eq!(
        (second.code(), second.retryable()),
        ("state_contention", true)
    );
    drop(journal);
    assert_eq!(reopen(&path).records, [b"a"]);
}

#[test]
fn of_many_that_create_the_same_journal_each_record_of_each_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let append = |id: u8| loop {
        match Journal::open(&path, limits()) {
            Ok((mut journal, _)) => break journal.append(&[id]).unwrap(),
            Err(fault) => assert!(fault.retryable(), "{fault}"),
        }
        std::thread::yield_now();
    };
    std::thread::scope(|scope| (0..8).for_each(|id| drop(scope.spawn(move || append(id)))));
    let mut records = reopen(&path).records;
    records.sort();
    assert_eq!(records, (0..8).map(|id| vec![id]).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_appended_is_read_back(
        records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..=100), 0..8),
    ) {
        let slices: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        let (_dir, path, _) = journal_of(&slices);
        prop_assert_eq!(reopen(&path), Recovered { records, torn_bytes: 0 });
    }

    #[test]
    fn any_bytes_are_opened_or_refused_without_panic_and_nothing_is_cut_that_is_not_reported(
        tail in prop::collection::vec(any::<u8>(), 0..300),
        at in 0..60_usize,
    ) {
        let (_dir, path, bytes) = journal_of(&[b"first", b"second"]);
        let kept = bytes.split_at(at.min(bytes.len())).0;
        let before = [kept, &tail].concat();
        put(&path, &before);
        match Journal::open(&path, limits()) {
            Ok((_, recovered)) => {
                let after = fs::read(&path).unwrap();
                prop_assert_eq!(after.len() as u64 + recovered.torn_bytes, before.len() as u64);
                prop_assert!(before.starts_with(&after));
            }
            Err(fault) => {
                prop_assert_eq!(fault.code(), "journal_corrupt");
                prop_assert_eq!(fs::read(&path).unwrap(), before);
            }
        }
    }
}
