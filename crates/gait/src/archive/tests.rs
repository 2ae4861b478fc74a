//! Archives that lie.

use std::fs::File;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use worldcompute_fault::Category;

use super::header::{Central, Common, DEFLATED, End, STORED, STREAMED, Sums, TIME_STAMP, UTF8};
use super::*;
use crate::limits::{MAX_ENTRIES, MAX_ENTRY_BYTES};
use crate::signature::unverified;

const TWO: [(&str, &[u8]); 2] = [("a.json", b"{\"a\":1}"), ("b.jsonl", b"1\n2\n3\n")];

fn written(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), "test.zip");
    for (name, content) in entries {
        writer.add(name, *content).unwrap();
    }
    writer.finish().unwrap()
}

fn opened(bytes: &[u8]) -> worldcompute_fault::Result<Archive<&[u8]>> {
    Archive::new(bytes, "test.zip")
}

fn contents(bytes: &[u8]) -> worldcompute_fault::Result<Vec<(String, Vec<u8>)>> {
    let archive = opened(bytes)?;
    let names: Vec<String> = archive
        .entries()
        .iter()
        .map(|entry| entry.name().to_owned())
        .collect();
    names
        .into_iter()
        .map(|name| Ok((name.clone(), archive.bytes(&name, MAX_ENTRY_BYTES)?)))
        .collect()
}

fn owned(entries: &[(&str, &[u8])]) -> Vec<(String, Vec<u8>)> {
    entries
        .iter()
        .map(|(name, content)| ((*name).to_owned(), content.to_vec()))
        .collect()
}

/// Says why the archive is refused, and that it is for what it says and not for what the disk did.
fn refusal(bytes: &[u8]) -> String {
    let fault = contents(bytes).expect_err("taken for sound");
    assert_eq!(
        (fault.category(), fault.code()),
        (Category::VerificationFailed, "verification_failed")
    );
    fault.message().to_owned()
}

#[test]
fn what_is_written_is_read_back_by_us_and_by_others() {
    let bytes = written(&TWO);
    assert_eq!(contents(&bytes).unwrap(), owned(&TWO));
    let mut other = zip::ZipArchive::new(Cursor::new(&bytes)).unwrap();
    for (name, content) in TWO {
        let mut file = other.by_name(name).unwrap();
        let mut read = Vec::new();
        file.read_to_end(&mut read).unwrap();
        assert_eq!(
            (read.as_slice(), file.unix_mode()),
            (content, Some(0o100_644))
        );
    }
}

#[test]
fn the_same_entries_give_the_same_bytes() {
    assert_eq!(written(&TWO), written(&TWO));
    let head = written(&TWO)[..30 + 6 + 9].to_vec();
    let expected = b"PK\x03\x04\x14\0\x08\0\x08\0\0\0\x21\0\0\0\0\0\0\0\0\0\0\0\0\0\x06\0\x09\0a.jsonUT\x05\0\x01\0\xa6\xce\x12";
    assert_eq!(head, expected);
}

#[test]
fn what_gait_wrote_is_read_as_others_read_it() {
    let Some(packs) = packs_of_gait() else {
        println!("skipped: no folder shared/cases/gait beside or inside the checkout");
        return;
    };
    let mut refused = Vec::new();
    for path in packs {
        match Archive::open(&path) {
            Ok(archive) => assert_read_alike(&path, archive),
            Err(_) => refused.push(path.file_stem().unwrap().to_str().unwrap().to_owned()),
        }
    }
    // The folder may have more of them one day.
    for damaged in [
        "empty",
        "not_a_zip",
        "pack_run_duplicate_entry",
        "pack_run_truncated",
        "rp_duplicate",
    ] {
        assert!(refused.iter().any(|name| name == damaged), "{damaged}");
    }
}

fn packs_of_gait() -> Option<Vec<PathBuf>> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = ["shared/cases/gait", "../shared/cases/gait"]
        .map(|relative| checkout.join(relative))
        .into_iter()
        .find(|folder| folder.is_dir())?;
    let files = ["runpacks", "tck", "session"]
        .into_iter()
        .flat_map(|kind| std::fs::read_dir(folder.join(kind)).unwrap())
        .map(|file| file.unwrap().path());
    Some(
        files
            .filter(|path| path.extension().is_some_and(|kind| kind == "zip"))
            .collect(),
    )
}

fn assert_read_alike(path: &Path, archive: Archive<File>) {
    let mut other = zip::ZipArchive::new(File::open(path).unwrap()).unwrap();
    assert_eq!(other.len(), archive.entries().len(), "{}", path.display());
    for index in 0..other.len() {
        let mut file = other.by_index(index).unwrap();
        let mut read = Vec::new();
        file.read_to_end(&mut read).unwrap();
        let name = file.name().unwrap();
        match archive.bytes(&name, MAX_ENTRY_BYTES) {
            Ok(own) => assert_eq!(own, read),
            // What somebody added to a pack, as no pack has it.
            Err(fault) => assert_eq!(name, "extra.txt", "{fault}"),
        }
    }
}

#[test]
fn an_archive_without_entries_and_an_entry_without_content_are_sound() {
    assert_eq!(contents(&written(&[])).unwrap(), []);
    assert_eq!(
        contents(&written(&[("a", b"")])).unwrap(),
        owned(&[("a", b"")])
    );
}

#[test]
fn content_deflated_ahead_of_its_turn_gives_the_same_archive() {
    let mut deflating = Deflating::begin().unwrap();
    deflating.write_all(TWO[1].1).unwrap();
    let b = deflating.finish().unwrap();
    let mut writer = Writer::new(Vec::new(), "test.zip");
    writer.add(TWO[0].0, TWO[0].1).unwrap();
    writer.add_deflated(TWO[1].0, b).unwrap();
    assert_eq!(writer.finish().unwrap(), written(&TWO));
}

#[test]
fn an_archive_in_an_archive_is_opened() {
    let outer = written(&[("source/runpack.zip", &written(&TWO))]);
    let nested = opened(&outer)
        .unwrap()
        .nested("source/runpack.zip")
        .unwrap();
    assert_eq!(nested.bytes("a.json", 100).unwrap(), TWO[0].1);
    let broken = written(&[("source/runpack.zip", b"PK")]);
    let fault = opened(&broken)
        .unwrap()
        .nested("source/runpack.zip")
        .unwrap_err();
    assert!(fault.message().contains("too short"), "{fault}");
}

#[test]
fn names_out_of_order_or_twice_are_not_written() {
    for second in ["b", "a"] {
        let mut writer = Writer::new(Vec::new(), "test.zip");
        writer.add("b", &b""[..]).unwrap();
        assert_eq!(
            writer.add(second, &b""[..]).unwrap_err().code(),
            "archive_order"
        );
    }
    let mut writer = Writer::new(Vec::new(), "test.zip");
    assert_eq!(
        writer.add("../b", &b""[..]).unwrap_err().code(),
        "archive_limit"
    );
}

#[test]
fn an_archive_with_an_unfinished_entry_is_never_finished() {
    let mut writer = Writer::new(Vec::new(), "test.zip");
    let refused = writer.entry("a", |_| Err::<(), _>(unverified("no content")));
    assert_eq!(refused.unwrap_err().message(), "no content");
    assert_eq!(writer.finish().unwrap_err().code(), "archive_unfinished");
}

#[test]
fn a_failed_write_leaves_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.zip");
    write(&path, |writer| writer.add("a", &b"old"[..])).unwrap();
    let before = std::fs::read(&path).unwrap();
    let refused = write(&path, |writer| {
        writer.add("a", &b"new"[..])?;
        Err::<(), _>(unverified("changed its mind"))
    });
    assert!(refused.is_err());
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// An entry said and an entry meant: the parts of an archive before they are put together.
struct Forged {
    name: String,
    listed_name: String,
    data: Vec<u8>,
    local: Common,
    central: Central,
    extra: Vec<u8>,
    listed_extra: Vec<u8>,
    descriptor: Option<Sums>,
}

fn stored(name: &str, content: &[u8]) -> Forged {
    let mut crc = flate2::Crc::new();
    crc.update(content);
    let sums = Sums {
        crc: crc.sum(),
        packed: content.len() as u32,
        size: content.len() as u32,
    };
    let local = Common {
        version: 20,
        flags: 0,
        method: STORED,
        time: 0,
        date: 33,
        sums,
        name_len: name.len() as u16,
        extra_len: 0,
    };
    let central = Central {
        made_by: 0x314,
        common: local,
        comment_len: 0,
        disk: 0,
        internal: 0,
        external: 0o100_644 << 16,
        offset: 0,
    };
    Forged {
        name: name.to_owned(),
        listed_name: name.to_owned(),
        data: content.to_vec(),
        local,
        central,
        extra: Vec::new(),
        listed_extra: Vec::new(),
        descriptor: None,
    }
}

fn assembled(entries: &[Forged], end: impl FnOnce(&mut End)) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let offset = (out.len() as u32).wrapping_add(entry.central.offset);
        entry.local.write_local(&mut out);
        out.extend(entry.name.as_bytes());
        out.extend(&entry.extra);
        out.extend(&entry.data);
        if let Some(sums) = entry.descriptor {
            sums.write_descriptor(&mut out);
        }
        Central {
            offset,
            ..entry.central
        }
        .write(&mut directory);
        directory.extend(entry.listed_name.as_bytes());
        directory.extend(&entry.listed_extra);
    }
    let mut last = End {
        disk: 0,
        directory_disk: 0,
        entries_here: entries.len() as u16,
        entries: entries.len() as u16,
        size: directory.len() as u32,
        offset: out.len() as u32,
        comment_len: 0,
    };
    end(&mut last);
    out.extend(directory);
    last.write(&mut out);
    out
}

type Lie = fn(&mut Forged);

fn forged(lie: impl FnOnce(&mut Forged)) -> Vec<u8> {
    let mut entry = stored("a.json", b"{}");
    lie(&mut entry);
    assembled(&[entry], |_| ())
}

#[test]
fn an_honest_archive_put_together_by_hand_is_sound() {
    assert_eq!(
        contents(&forged(|_| ())).unwrap(),
        owned(&[("a.json", b"{}")])
    );
}

#[test]
fn a_name_twice_is_refused() {
    let twice = assembled(
        &[stored("a", b"1"), stored("b", b"2"), stored("a", b"3")],
        |_| (),
    );
    assert_eq!(
        refusal(&twice),
        "test.zip: zip contains duplicate entries: a"
    );
}

#[test]
fn bytes_before_between_and_after_are_refused() {
    let honest = written(&TWO);
    assert!(refusal(&[b"#!/bin/sh\n", honest.as_slice()].concat()).contains("directory"));
    assert!(refusal(&[honest.as_slice(), b"\n"].concat()).contains("after its end"));
    assert!(refusal(&[honest.as_slice(), honest.as_slice()].concat()).contains("directory"));
    let mut gap = stored("a", b"1");
    gap.data.push(b'?');
    assert!(refusal(&assembled(&[gap, stored("b", b"2")], |_| ())).contains("not where"));
    let mut gap = stored("a", b"1");
    gap.data.push(b'?');
    assert!(refusal(&assembled(&[gap], |_| ())).contains("between"));
}

#[test]
fn entries_that_share_bytes_or_stand_elsewhere_are_refused() {
    let mut overlapping = stored("b", b"1");
    overlapping.central.offset = 0_u32.wrapping_sub(32);
    assert!(refusal(&assembled(&[stored("a", b"1"), overlapping], |_| ())).contains("not where"));
}

#[test]
fn a_directory_that_contradicts_what_stands_before_the_data_is_refused() {
    let lies: [Lie; 9] = [
        |entry| entry.listed_name = "b.json".to_owned(),
        |entry| entry.local.sums.size += 1,
        |entry| entry.local.sums.crc ^= 1,
        |entry| entry.local.method = DEFLATED,
        |entry| entry.local.flags = STREAMED,
        |entry| entry.local.time = 1,
        |entry| entry.local.version = 10,
        |entry| {
            let sums = entry.local.sums;
            streamed(entry);
            entry.local.sums = sums;
        },
        |entry| {
            streamed(entry);
            entry.descriptor = Some(Sums {
                crc: 1,
                ..entry.central.common.sums
            });
        },
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let message = refusal(&forged(lie));
        assert!(message.contains("directory says"), "{number}: {message}");
    }
}

/// A lie that both records tell.
fn both(entry: &mut Forged, change: impl Fn(&mut Common)) {
    change(&mut entry.local);
    change(&mut entry.central.common);
}

fn extra(entry: &mut Forged, field: &[u8]) {
    entry.extra = field.to_vec();
    entry.listed_extra = field.to_vec();
    both(entry, |common| common.extra_len = field.len() as u16);
}

/// As Go's writer does it.
fn streamed(entry: &mut Forged) {
    extra(entry, &TIME_STAMP);
    both(entry, |common| common.flags = STREAMED);
    entry.descriptor = Some(entry.local.sums);
    entry.local.sums = Sums::default();
}

#[test]
fn what_is_streamed_has_its_sums_behind_it_and_its_stamp() {
    assert_eq!(
        contents(&forged(streamed)).unwrap(),
        owned(&[("a.json", b"{}")])
    );
}

#[test]
fn an_entry_that_does_not_say_that_it_is_a_file_is_listed_and_not_read() {
    let bytes = forged(|entry| entry.central.external = 0o644 << 16);
    assert_eq!(opened(&bytes).unwrap().entries().len(), 1);
    assert!(refusal(&bytes).contains("does not say that it is a file"));
}

#[test]
fn features_times_and_methods_that_no_pack_has_are_refused() {
    refused(&[
        (
            |entry| both(entry, |common| common.flags = 1 << 1),
            "unknown feature",
        ),
        (
            |entry| both(entry, |common| common.flags = UTF8),
            "unknown feature",
        ),
        (
            |entry| both(entry, |common| common.time = 1),
            "another time",
        ),
        (
            |entry| both(entry, |common| common.date = 34),
            "another time",
        ),
        (|entry| both(entry, |common| common.version = 10), "version"),
        (|entry| entry.central.made_by = 0x0314 + 1, "version"),
        (|entry| both(entry, |common| common.flags = 1), "encrypted"),
        (
            |entry| both(entry, |common| common.flags = 1 << 6),
            "encrypted",
        ),
        (
            |entry| both(entry, |common| common.flags = 1 << 13),
            "encrypted",
        ),
        (|entry| both(entry, |common| common.method = 12), "method"),
        (|entry| both(entry, |common| common.method = 99), "method"),
    ]);
}

#[test]
fn entries_that_are_no_plain_files_or_say_more_are_refused() {
    refused(&[
        (|entry| extra(entry, &TIME_STAMP), "extra field"),
        (
            |entry| {
                streamed(entry);
                extra(entry, b"UT\x05\0\x01\0\0\0\0");
            },
            "extra field",
        ),
        (|entry| entry.central.external = 0, "no plain file"),
        (
            |entry| both(entry, |common| common.sums.size = 3),
            "another size",
        ),
        (
            |entry| both(entry, |common| common.sums.size = u32::MAX),
            "another size",
        ),
        (
            |entry| entry.central.external = 0o120_644 << 16,
            "no plain file",
        ),
        (
            |entry| entry.central.external = 0o040_644 << 16,
            "no plain file",
        ),
        (
            |entry| entry.central.external = 0o104_755 << 16,
            "no plain file",
        ),
        (|entry| entry.central.external = 0x10, "no plain file"),
        (|entry| entry.central.disk = 1, "another part"),
        (|entry| entry.central.internal = 1, "another part"),
        (
            |entry| extra(entry, b"\x01\0\x08\0\0\0\0\0\x01\0\0\0"),
            "extra field",
        ),
        (|entry| extra(entry, b"up\x05\0\x01\0\0\0\0"), "extra field"),
        (|entry| extra(entry, b"UT\x09\0"), "extra field"),
    ]);
}

fn refused(lies: &[(Lie, &str)]) {
    for (number, (lie, reason)) in lies.iter().enumerate() {
        let message = refusal(&forged(*lie));
        assert!(message.contains(reason), "{number}: {message}");
    }
}

#[test]
fn names_that_lead_out_of_the_folder_are_refused() {
    for name in ["../x", "/etc/x", "a\\b", "a/", "C:x"] {
        assert!(
            refusal(&assembled(&[stored(name, b"")], |_| ())).contains("zip entry"),
            "{name}"
        );
    }
    let mut entry = stored("a", b"");
    entry.name = "\u{fffd}".to_owned();
    assert!(refusal(&assembled(&[entry], |_| ())).contains("zip entry"));
}

#[test]
fn a_wrong_checksum_or_content_is_damage() {
    let crc = forged(|entry| both(entry, |common| common.sums.crc ^= 1));
    assert_eq!(refusal(&crc), "zip entry a.json is damaged");
    let deflated = forged(|entry| both(entry, |common| common.method = DEFLATED));
    assert_eq!(refusal(&deflated), "zip entry a.json is damaged");
}

#[test]
fn an_end_that_contradicts_the_directory_is_refused() {
    let lies: [fn(&mut End); 8] = [
        |end| end.entries += 1,
        |end| {
            end.entries += 1;
            end.entries_here += 1;
        },
        |end| {
            end.entries -= 1;
            end.entries_here -= 1;
        },
        |end| end.offset -= 1,
        |end| end.size = u32::MAX,
        |end| end.disk = 1,
        |end| end.directory_disk = 1,
        |end| end.comment_len = 1,
    ];
    for lie in lies {
        refusal(&assembled(&[stored("a", b"1"), stored("b", b"2")], lie));
    }
}

/// Deflate of `size` zeros that says it has `claimed` bytes.
fn bomb(name: &str, size: usize, claimed: u32) -> Forged {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![0; size]).unwrap();
    let mut entry = stored(name, b"");
    entry.data = encoder.finish().unwrap();
    let packed = entry.data.len() as u32;
    both(&mut entry, |common| {
        common.method = DEFLATED;
        common.sums = Sums {
            crc: 0,
            packed,
            size: claimed,
        };
    });
    entry
}

#[test]
fn content_longer_than_said_is_damage_as_soon_as_it_passes_that_length() {
    let bytes = assembled(&[bomb("a", 10 << 20, 100)], |_| ());
    let archive = opened(&bytes).unwrap();
    let mut reader = archive.read("a").unwrap();
    let mut taken = 0;
    let refused = loop {
        match reader.read(&mut [0; 64]) {
            Ok(got) => taken += got,
            Err(error) => break error,
        }
    };
    assert_eq!(
        (taken, fault_of("", refused).message()),
        (64, "zip entry a is damaged")
    );
}

#[test]
fn an_entry_is_taken_at_the_size_limit_and_refused_past_it() {
    let claim = |size: u64| assembled(&[bomb("a", 10, size as u32)], |_| ());
    assert!(opened(&claim(MAX_ENTRY_BYTES)).is_ok());
    assert!(refusal(&claim(MAX_ENTRY_BYTES + 1)).contains("larger than 100 MiB"));
}

#[test]
fn an_entry_is_written_to_the_size_limit_and_not_past_it() {
    let zeros = |bytes: u64| std::io::repeat(0).take(bytes);
    let mut writer = Writer::new(Vec::new(), "test.zip");
    assert_eq!(
        writer.add("a", zeros(MAX_ENTRY_BYTES)).unwrap(),
        MAX_ENTRY_BYTES
    );
    let bytes = writer.finish().unwrap();
    let archive = opened(&bytes).unwrap();
    std::io::copy(&mut archive.read("a").unwrap(), &mut std::io::sink()).unwrap();
    let mut writer = Writer::new(Vec::new(), "test.zip");
    let refused = writer.add("a", zeros(MAX_ENTRY_BYTES + 1)).unwrap_err();
    assert_eq!(
        (refused.code(), refused.category()),
        ("archive_limit", Category::InvalidInput)
    );
}

#[test]
fn a_bomb_is_refused_before_anything_is_inflated() {
    let claims = |count: usize| {
        let names: Vec<String> = (0..count).map(|number| format!("{number:02}")).collect();
        let entries: Vec<Forged> = names
            .iter()
            .map(|name| bomb(name, 10, MAX_ENTRY_BYTES as u32))
            .collect();
        assembled(&entries, |_| ())
    };
    assert!(opened(&claims(1)).is_ok());
    assert!(refusal(&claims(2)).contains("more than 200 times"));
    assert!(refusal(&claims(11)).contains("past the limit"));
}

#[test]
fn entries_are_taken_to_the_limit_and_refused_past_it() {
    let names: Vec<String> = (0..=MAX_ENTRIES)
        .map(|number| format!("{number:05}"))
        .collect();
    let entries: Vec<Forged> = names.iter().map(|name| stored(name, b"")).collect();
    assert_eq!(
        opened(&assembled(&entries[1..], |_| ()))
            .unwrap()
            .entries()
            .len(),
        MAX_ENTRIES
    );
    assert!(refusal(&assembled(&entries, |_| ())).contains("limit is 10000"));
}

#[test]
fn an_archive_cut_at_any_byte_is_refused() {
    let bytes = written(&TWO);
    for len in 0..bytes.len() {
        refusal(&bytes[..len]);
    }
}

#[test]
fn no_changed_byte_changes_content_unnoticed() {
    let bytes = written(&TWO);
    let mut unnoticed = 0;
    for at in 0..bytes.len() {
        for change in (0..8).map(|bit| 1 << bit).chain([0xff]) {
            let mut changed = bytes.clone();
            changed[at] ^= change;
            if let Ok(read) = contents(&changed) {
                assert_eq!(read, owned(&TWO), "byte {at} ^ {change:#x}");
                unnoticed += 1;
            }
        }
    }
    // The bits that fill up the last byte of a deflate stream, which nothing reads.
    assert!(unnoticed <= 7 * TWO.len(), "{unnoticed}");
}

#[test]
fn a_missing_archive_is_the_disks_fault_and_a_missing_entry_the_archives() {
    let missing = Archive::open(std::path::Path::new("/nonexistent/x.zip")).unwrap_err();
    assert_eq!(
        (missing.category(), missing.code()),
        (Category::IoFailure, "not_found")
    );
    let bytes = written(&TWO);
    let archive = opened(&bytes).unwrap();
    let missing = archive.bytes("manifest.json", 10).unwrap_err();
    assert_eq!(
        (missing.category(), missing.message()),
        (Category::VerificationFailed, "missing manifest.json")
    );
    assert_eq!(
        archive.bytes("a.json", 6).unwrap_err().category(),
        Category::VerificationFailed
    );
    assert!(archive.bytes("a.json", 7).is_ok());
}

/// A disk that fails at one of its reads.
#[derive(Debug)]
struct Failing<'a> {
    source: &'a [u8],
    reads_left: AtomicUsize,
}

impl ReadAt for Failing<'_> {
    fn size(&self) -> io::Result<u64> {
        self.source.size()
    }

    fn read_at(&self, out: &mut [u8], at: u64) -> io::Result<usize> {
        if self.reads_left.load(Ordering::Relaxed) == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.reads_left.fetch_sub(1, Ordering::Relaxed);
        self.source.read_at(out, at)
    }
}

#[test]
fn a_disk_that_fails_at_any_read_is_not_taken_for_damage() {
    let bytes = written(&TWO);
    let read_all = |reads_left: usize| {
        let failing = Failing {
            source: bytes.as_slice(),
            reads_left: AtomicUsize::new(reads_left),
        };
        let archive = Archive::new(failing, "x")?;
        archive.digest("a.json")?;
        archive.bytes("b.jsonl", 100)
    };
    let mut refused = 0;
    while let Err(fault) = read_all(refused) {
        assert_eq!(
            fault.category(),
            Category::IoFailure,
            "read {refused}: {fault}"
        );
        refused += 1;
    }
    assert_eq!(
        refused, 8,
        "end, directory, two records an entry, two entries"
    );
}

proptest! {
    #[test]
    fn any_contents_are_read_back(contents_in in prop::collection::btree_map("[a-z]{1,8}(/[a-z]{1,8})?", prop::collection::vec(any::<u8>(), 0..300), 0..6)) {
        let entries: Vec<(&str, &[u8])> = contents_in.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
        prop_assert_eq!(contents(&written(&entries)).unwrap(), owned(&entries));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let _ = contents(&bytes);
    }
}

#[test]
fn content_packed_by_another_thread_is_the_same_as_content_written_at_once() {
    let text = |size: usize| -> Vec<u8> { (0..size).map(|at| (at * at % 251) as u8).collect() };
    for size in [0, 1, 255 << 10, 256 << 10, (1 << 20) + 7] {
        let content = text(size);
        let mut packing = Packing::new("a");
        content
            .chunks(1000)
            .for_each(|chunk| packing.push(chunk).unwrap());
        let (deflated, digest) = packing.finish().unwrap();
        assert_eq!(digest, worldcompute_proof::Sha256::of(&content), "{size}");
        let mut writer = Writer::new(Vec::new(), "test.zip");
        writer.add_deflated("a", deflated).unwrap();
        assert_eq!(writer.finish().unwrap(), written(&[("a", &content)]));
    }
}

#[test]
fn content_past_the_limit_is_refused_and_stays_refused() {
    let mut packing = Packing::new("a");
    let block = vec![0; 1 << 20];
    let blocks = MAX_ENTRY_BYTES / block.len() as u64 + 8;
    let refused = (0..blocks).find_map(|_| packing.push(&block).err());
    let refused = refused.expect("refused before the end");
    assert_eq!(refused.code(), "archive_limit");
    assert!(packing.finish().is_err());
}

proptest! {
    #[test]
    fn an_entry_is_the_same_bytes_however_it_was_cut_when_it_was_written(
        words in prop::collection::vec("[a-d]{1,9}", 1..40),
        cuts in prop::collection::vec(1_usize..90_000, 1..20),
    ) {
        let words: String = words.concat();
        let content: Vec<u8> = words.bytes().cycle().take(200_000).collect();
        let mut writer = Writer::new(Vec::new(), "test.zip");
        writer.entry("a", |out| {
            let (mut rest, mut cuts) = (&content[..], cuts.iter().cycle());
            while let Some(cut) = cuts.next().filter(|_| !rest.is_empty()) {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                out.write_all(piece).map_err(|error| fault_of("write", error))?;
                rest = after;
            }
            Ok(())
        }).unwrap();
        prop_assert_eq!(writer.finish().unwrap(), written(&[("a", &content)]));
    }
}
