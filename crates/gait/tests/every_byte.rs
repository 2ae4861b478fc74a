//! No byte of what the gate leaves behind can change, come or go unnoticed by its verifier.
//!
//! Every file is verified with the key that signed it. These bytes may vary, and no others:
//!
//! - how the content of an archive's entry is compressed, which the format leaves to the writer: of one bit flipped, that
//!   is the rest of the last byte of a deflate stream, which no reader reads;
//! - the layout of a trace in a file of its own and of a session chain. Both are documents that tools may lay out anew;
//!   the signature of the trace covers its values;
//! - of a session chain, which is not signed, what its runpacks do not repeat: when and by which version the session was
//!   begun, the relationships, which the digests follow into, and how the path of a runpack is spelled;
//! - of a sealed file when, by which version and from which kind of key it was made: the format leaves that out of
//!   what its cipher authenticates, and nothing is decided by it.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "support/artefacts.rs"]
mod artefacts;
#[path = "support/packs.rs"]
mod packs;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use artefacts::{Artefacts, Sample};
use gait::archive::Writer;
use gait::guard::seal::{SealingKey, seal, unseal};
use gait::verifier::{self, Requirements};
use serde_json::Value;
use worldcompute_proof::VerifyingKey;

/// How many bytes apart the changes are that are not made at every byte.
const EVERY: usize = 7;

/// Every which change is tried where each costs the check of several signatures; no multiple of the above.
const SIGNED_STEP: usize = 5;

/// Something that was done to bytes.
struct Change {
    what: String,
    at: usize,
    bytes: Vec<u8>,
}

/// Every byte with a bit flipped. Now and then, at places that shift from file to file, also a byte put in, another case
/// and a byte taken out: what tells one of those tells all of them. And a byte at the end.
fn changes(bytes: &[u8]) -> impl Iterator<Item = Change> {
    (0..=bytes.len()).flat_map(move |at| {
        let (before, after) = bytes.split_at(at);
        let change = |what: &str, parts: &[&[u8]]| Change {
            what: format!("{what} at {at}"),
            at,
            bytes: parts.concat(),
        };
        let inserted = change("a blank", &[before, b" ", after]);
        let Some((here, rest)) = after.split_first() else {
            return vec![inserted];
        };
        let flipped = [here ^ (1 << (at % 8))];
        let mut changes = vec![change("a flipped bit", &[before, &flipped, rest])];
        match at % EVERY {
            0 => changes.push(inserted),
            1 => changes.push(change("another case", &[before, &[here ^ 0x20], rest])),
            2 => changes.push(change("nothing", &[before, rest])),
            _ => {}
        }
        changes
    })
}

struct Verifier {
    scratch: PathBuf,
    key: VerifyingKey,
}

impl Verifier {
    fn of(artefacts: &Artefacts) -> Self {
        let key = std::fs::read_to_string(&artefacts.keys()[0]).unwrap();
        Self {
            scratch: artefacts.path("changed"),
            key: VerifyingKey::from_base64(key.trim()).unwrap(),
        }
    }

    fn holds_at(&self, path: &Path, signed: bool) -> bool {
        let requirements = Requirements {
            key: signed.then_some(&self.key),
            signature: signed,
        };
        verifier::verify(path, &requirements).is_ok_and(|verified| verified.holds())
    }

    fn holds(&self, bytes: &[u8], signed: bool) -> bool {
        // Tens of thousands of files, none of which has to outlast the next: no fsync.
        File::create(&self.scratch)
            .and_then(|mut file| file.write_all(bytes))
            .unwrap();
        self.holds_at(&self.scratch, signed)
    }
}

fn archives(artefacts: &Artefacts) -> Vec<Sample> {
    let mut archives = artefacts.all();
    archives.retain(|sample| matches!(sample.kind, "runpack" | "pack" | "guard_pack"));
    archives.push(artefacts.job_pack());
    archives
}

#[test]
fn no_byte_of_an_archive_varies_but_how_an_entry_is_compressed() {
    let artefacts = Artefacts::new();
    let verifier = Verifier::of(&artefacts);
    for sample in archives(&artefacts) {
        let (bytes, entries) = (
            std::fs::read(&sample.path).unwrap(),
            packs::read(&sample.path),
        );
        assert!(verifier.holds(&bytes, sample.signed), "{}", sample.kind);
        let mut unread = Vec::new();
        for change in changes(&bytes) {
            if verifier.holds(&change.bytes, sample.signed) {
                let same = packs::read(&verifier.scratch) == entries;
                assert!(same, "{}: {}", sample.kind, change.what);
                unread.push(change.at);
            }
        }
        unread.dedup();
        assert!(unread.len() <= entries.len(), "{}: {unread:?}", sample.kind);
    }
}

#[test]
fn no_byte_of_any_member_varies() {
    let artefacts = Artefacts::new();
    let verifier = Verifier::of(&artefacts);
    for sample in archives(&artefacts) {
        let entries = packs::read(&sample.path);
        for (name, content) in &entries {
            // A digest covers what is no manifest: a few changes show that it is looked at.
            let step = match name.ends_with("manifest.json") {
                true => 1,
                false => content.len() / 8 + 1,
            };
            for change in changes(content).step_by(step) {
                let mut changed = entries.clone();
                changed.insert(name.clone(), change.bytes);
                let holds = verifier.holds(&packed(&changed), sample.signed);
                assert!(!holds, "{}, {name}: {}", sample.kind, change.what);
            }
        }
    }
}

/// An archive of these entries.
fn packed(entries: &packs::Entries) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), "changed");
    for (name, content) in entries {
        writer.add(name, content.as_slice()).unwrap();
    }
    writer.finish().unwrap()
}

/// Where the record before an entry and the one in the directory stand, by what the end of the archive says.
fn records(bytes: &[u8]) -> Vec<(usize, usize)> {
    let number = |at: usize, len: usize| {
        let little_endian = bytes[at..at + len].iter().rev();
        little_endian.fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    };
    let end = bytes.len() - 22;
    let mut at = number(end + 16, 4);
    let mut records = Vec::new();
    for _ in 0..number(end + 10, 2) {
        records.push((number(at + 42, 4), at));
        at += 46 + number(at + 28, 2) + number(at + 30, 2) + number(at + 32, 2);
    }
    records
}

#[test]
fn no_field_varies_that_both_records_of_an_entry_agree_on() {
    let artefacts = Artefacts::new();
    let verifier = Verifier::of(&artefacts);
    for sample in archives(&artefacts) {
        let bytes = std::fs::read(&sample.path).unwrap();
        for (local, central) in records(&bytes) {
            let (name, extra) = (
                usize::from(bytes[local + 26]),
                usize::from(bytes[local + 28]),
            );
            let fixed = (4..14)
                .chain(26..30)
                .map(|at| (local + at, central + at + 2));
            let rest = (0..name + extra).map(|at| (local + 30 + at, central + 46 + at));
            for (before, listed) in fixed.chain(rest) {
                for bit in 0..8 {
                    let mut changed = bytes.clone();
                    changed[before] ^= 1 << bit;
                    changed[listed] ^= 1 << bit;
                    let holds = verifier.holds(&changed, sample.signed);
                    assert!(
                        !holds,
                        "{}: bit {bit} of {before} and {listed}",
                        sample.kind
                    );
                }
            }
        }
    }
}

#[test]
fn nothing_stands_before_after_or_beside_the_entries_and_they_stand_in_order() {
    let artefacts = Artefacts::new();
    let verifier = Verifier::of(&artefacts);
    for sample in archives(&artefacts) {
        let bytes = std::fs::read(&sample.path).unwrap();
        let refused = |what: &str, changed: &[u8]| {
            assert_ne!(changed, bytes, "{what}");
            assert!(
                !verifier.holds(changed, sample.signed),
                "{}: {what}",
                sample.kind
            );
        };
        let commented = |len: u8, comment: &[u8]| {
            let mut changed = bytes.clone();
            let at = bytes.len() - 2;
            changed[at] = len;
            [&changed, comment].concat()
        };
        refused("bytes before", &[b"#!/bin/sh\n", &*bytes].concat());
        refused("bytes after", &[&*bytes, b"\0"].concat());
        refused("a comment", &commented(4, b"more"));
        refused("a comment that is not there", &commented(4, b""));
        refused(
            "its end twice",
            &[&*bytes, &bytes[bytes.len() - 22..]].concat(),
        );
        refused("itself twice", &[&*bytes, &*bytes].concat());
        refused("another order", &reversed(&bytes));
    }
}

/// The same entries, the last one first.
fn reversed(bytes: &[u8]) -> Vec<u8> {
    let records = records(bytes);
    let (directory, end) = (records[0].1, bytes.len() - 22);
    let stops = |starts: Vec<usize>, stop: usize| -> Vec<(usize, usize)> {
        let next = starts
            .iter()
            .skip(1)
            .copied()
            .chain([stop])
            .collect::<Vec<_>>();
        starts.into_iter().zip(next).collect()
    };
    let locals = stops(records.iter().map(|record| record.0).collect(), directory);
    let listed = stops(records.iter().map(|record| record.1).collect(), end);
    let (mut out, mut list) = (Vec::new(), Vec::new());
    for ((local, local_end), (central, central_end)) in locals.into_iter().zip(listed).rev() {
        let mut entry = bytes[central..central_end].to_vec();
        entry[42..46].copy_from_slice(&u32::try_from(out.len()).unwrap().to_le_bytes());
        out.extend(&bytes[local..local_end]);
        list.extend(entry);
    }
    [out, list, bytes[end..].to_vec()].concat()
}

#[test]
fn no_byte_of_a_session_varies() {
    let artefacts = Artefacts::new();
    let verifier = Verifier::of(&artefacts);
    for sample in artefacts.all() {
        let bytes = std::fs::read(&sample.path).unwrap();
        if sample.kind == "session" {
            for change in changes(&bytes).step_by(SIGNED_STEP) {
                assert!(!verifier.holds(&change.bytes, true), "{}", change.what);
            }
        }
    }
}

#[test]
fn no_value_of_a_trace_varies() {
    let artefacts = Artefacts::new();
    let verifier = Verifier::of(&artefacts);
    let trace = artefacts.all().remove(3);
    let bytes = std::fs::read(&trace.path).unwrap();
    let said: Value = serde_json::from_slice(&bytes).unwrap();
    for change in changes(&bytes) {
        if verifier.holds(&change.bytes, true) {
            let says: Value = serde_json::from_slice(&change.bytes).unwrap();
            assert_eq!(says, said, "{}", change.what);
        }
    }
}

/// What a chain says that a runpack does not.
fn of_the_chain_alone(mut chain: Value) -> Value {
    for name in ["created_at", "producer_version"] {
        chain[name] = Value::Null;
    }
    for checkpoint in chain["checkpoints"].as_array_mut().unwrap() {
        for name in ["relationship", "runpack_path"] {
            checkpoint[name] = Value::Null;
        }
    }
    chain
}

#[test]
fn no_value_of_a_chain_varies_that_its_runpacks_repeat() {
    let artefacts = Artefacts::new();
    let verifier = Verifier::of(&artefacts);
    let chain = artefacts.all().remove(6);
    let bytes = std::fs::read(&chain.path).unwrap();
    let said = of_the_chain_alone(serde_json::from_slice(&bytes).unwrap());
    for change in changes(&bytes) {
        if verifier.holds(&change.bytes, true) {
            let says = serde_json::from_slice(&change.bytes).unwrap();
            assert_eq!(of_the_chain_alone(says), said, "{}", change.what);
        }
    }
}

#[test]
fn a_sealed_guard_pack_gives_back_the_same_pack_or_nothing() {
    let artefacts = Artefacts::new();
    let pack = artefacts.all().remove(2).path;
    let (sealed, opened) = (artefacts.path("sealed"), artefacts.path("opened"));
    let secret = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned();
    let environment = BTreeMap::from([("KEY".to_owned(), secret)]);
    let key = SealingKey::from_variable("KEY", &environment).unwrap();
    seal(
        &pack,
        Some(&sealed),
        &key,
        "1.0.0",
        jiff::Timestamp::UNIX_EPOCH,
    )
    .unwrap();
    let bytes = std::fs::read(&sealed).unwrap();
    let content = std::fs::read(&pack).unwrap();
    // Where the ciphertext begins and ends: inside of it, every sixteenth change is enough to see that a tag covers it.
    let at = |mark: &str| {
        bytes
            .windows(mark.len())
            .position(|part| part == mark.as_bytes())
    };
    let cipher = at("\"ciphertext\"").unwrap() + 16..at("\"created_at\"").unwrap() - 3;
    let wanted = |change: &Change| !cipher.contains(&change.at) || change.at.is_multiple_of(16);
    let said: Value = serde_json::from_slice(&bytes).unwrap();
    for change in changes(&bytes).filter(wanted) {
        let path = artefacts.put("changed", &change.bytes);
        if unseal(&path, Some(&opened), &key).is_ok() {
            assert_eq!(std::fs::read(&opened).unwrap(), content, "{}", change.what);
            let says: Value = serde_json::from_slice(&change.bytes).unwrap();
            assert_eq!(
                authenticated(says),
                authenticated(said.clone()),
                "{}",
                change.what
            );
        }
    }
}

/// What decides what a sealed file opens to.
fn authenticated(mut sealed: Value) -> Value {
    for name in ["created_at", "key_source", "producer_version"] {
        sealed[name] = Value::Null;
    }
    sealed
}
