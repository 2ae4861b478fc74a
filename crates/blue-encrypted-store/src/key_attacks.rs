//! Somebody brings wrapped data keys from elsewhere, changes them, or has a record name another key. No key is given out.

use std::collections::BTreeSet;

use jiff::Timestamp;
use proptest::prelude::*;
use zeroize::Zeroizing;

use crate::check::Check;
use crate::crypto::{CommittedKey, Key};
use crate::draft::Clear;
use crate::keyring::{DataKey, Kept, Keyring};
use crate::keys::{
    DekContext, DekHandle, EncryptedDek, KekContext, KekHandle, KeyError, kcv, unwrap, wrap,
};
use crate::name::{Place, RecordId};
use crate::record::{Content, STATUS_KEY, STATUS_SORT, Scope, build, rebuild, verify};
use crate::row::{Attribute, Row};
use crate::{Id, Kind, PartitionKey};

const DEK: [u8; 32] = [7; 32];

fn kek(byte: u8) -> KekHandle {
    KekHandle::new(Zeroizing::new([byte; 32]))
}

fn context(store: &str, kind: Kind, id: &str, version: u32) -> DekContext {
    DekContext {
        store: store.to_owned(),
        partition: PartitionKey {
            kind,
            id: Id::parse(id).unwrap(),
        },
        version,
        epoch: 1,
    }
}

fn home() -> DekContext {
    context("s1", Kind::JOB, "j1", 1)
}

fn wrapped() -> EncryptedDek {
    wrap(&kek(1), &home(), &Zeroizing::new(DEK), [9; 12]).unwrap()
}

/// Why a wrapped key is not given out, `None` when it is.
fn refusal(kek: &KekHandle, context: &DekContext, wrapped: &EncryptedDek) -> Option<Check> {
    match unwrap(kek, context, wrapped) {
        Ok(dek) => {
            assert_eq!(*dek.bytes(), DEK, "another key was given out");
            None
        }
        Err(KeyError::Commitment) => Some(Check::Commitment),
        Err(KeyError::Tag) => Some(Check::Tag),
        Err(KeyError::KeyCheck) => Some(Check::Kcv),
        Err(other) => panic!("{other}"),
    }
}

fn any_context() -> impl Strategy<Value = DekContext> {
    let store = prop::sample::select(vec!["s1", "s2", "s"]);
    let kind = prop::sample::select(vec![Kind::JOB, Kind::PEER]);
    let id = prop::sample::select(vec!["j1", "j2", "1", "01J9ZC3F5V7K8M0N1P2Q3R4S5T"]);
    (store, kind, id, 1_u32..4)
        .prop_map(|(store, kind, id, version)| context(store, kind, id, version))
}

proptest! {
    /// Also when a key service ignores what it was asked for, and gives one key-encryption key to all.
    #[test]
    fn a_data_key_that_was_wrapped_for_one_place_opens_at_no_other(a in any_context(), b in any_context()) {
        let dek = Zeroizing::new(DEK);
        let wrapped = wrap(&kek(1), &a, &dek, [9; 12]).unwrap();
        let want = (a != b).then_some(Check::Commitment);
        prop_assert_eq!(refusal(&kek(1), &b, &wrapped), want);
        prop_assert_eq!(refusal(&kek(2), &a, &wrapped), Some(Check::Commitment));
    }

    #[test]
    fn key_encryption_keys_of_different_contexts_are_derived_from_different_messages(
        a in ("[ab]{0,2}", "[ab]{0,2}", "[ab]{0,2}", 0_u64..3),
        b in ("[ab]{0,2}", "[ab]{0,2}", "[ab]{0,2}", 0_u64..3),
    ) {
        let message = |(store, tenant, user, epoch): &(String, String, String, u64)| KekContext {
            store: store.clone(), tenant: tenant.clone(), user: user.clone(), epoch: *epoch,
        }
        .message();
        prop_assert_eq!(a == b, message(&a) == message(&b));
    }
}

#[test]
fn every_changed_bit_of_a_wrapped_data_key_is_refused_by_its_check() {
    let good = wrapped();
    let mut changes = 0;
    for bit in 0..8 * (12 + 48 + 32 + 8) {
        let (at, mask) = (bit / 8, 1 << (bit % 8));
        let mut changed = good.clone();
        let check = match at {
            0..12 => {
                changed.nonce[at] ^= mask;
                Check::Commitment
            }
            12..60 => {
                changed.wrapped[at - 12] ^= mask;
                Check::Tag
            }
            60..92 => {
                changed.commitment[at - 60] ^= mask;
                Check::Commitment
            }
            _ => {
                changed.kcv[at - 92] ^= mask;
                Check::Kcv
            }
        };
        assert_eq!(refusal(&kek(1), &home(), &changed), Some(check), "{at}");
        changes += 1;
    }
    assert_eq!(refusal(&kek(1), &home(), &good), None);
    println!("wrapped data key: {changes} changed bits, none accepted");
    assert_eq!(changes, 800);
}

/// Whoever wraps may choose a ciphertext that opens under two keys; what tells them apart is compared before.
#[test]
fn a_wrapped_key_of_another_key_encryption_key_is_refused_before_it_is_decrypted() {
    let mut forged = wrapped();
    let other = CommittedKey::derive(&[3; 32], b"another place").unwrap();
    forged.commitment = other.commitment;
    let sealed = other.seal(forged.nonce, &[0; 32], &DEK).unwrap();
    forged.wrapped.copy_from_slice(&sealed);
    let found = refusal(&kek(1), &home(), &forged);
    assert_eq!(found, Some(Check::Commitment));
}

#[test]
fn the_key_check_value_tells_keys_apart_and_is_no_part_of_any() {
    let values: BTreeSet<_> = (0..=255).map(|byte| kcv(&[byte; 32])).collect();
    assert_eq!(values.len(), 256);
    let kcv = kcv(&DEK);
    assert!(!DEK.windows(kcv.len()).any(|part| part == kcv));
}

fn scope() -> Scope {
    Scope {
        store: "s1".to_owned(),
        key: home().partition,
    }
}

fn data_key(version: u32) -> DataKey {
    let key: Key = Zeroizing::new([u8::try_from(version).unwrap(); 32]);
    DataKey::new(version, DekHandle::new(key)).unwrap()
}

/// A record under the first of two data keys.
fn record() -> (Keyring, Row) {
    let mut keyring = Keyring::empty(&scope());
    keyring.add(data_key(1).into(), Kept::default());
    keyring.add(data_key(2).into(), Kept::default());
    let now = Timestamp::UNIX_EPOCH;
    let content = Content {
        place: &Place::new(RecordId::new("task", "t1").unwrap(), now),
        created_at: now,
        updated_at: now,
        version: 1,
        clear: Clear::default(),
        sealed: b"null",
    };
    let (row, _) = build(&scope(), &data_key(1), content, &[0; 32]).unwrap();
    (keyring, row)
}

#[test]
fn a_record_that_is_led_to_another_data_key_is_refused() {
    let (keyring, row) = record();
    let named = |key_id: &str| {
        let mut row = row.clone();
        row.set_text("key_id", key_id);
        verify(&scope(), &keyring, row).map(|row| row.key_version)
    };
    assert_eq!(named("dek#j1#1"), Ok(1));
    assert_eq!(named("dek#j1#2"), Err(Check::Seal), "another that is there");
    assert_eq!(named("dek#j1#3"), Err(Check::Kcv), "one that is not");
    for other in [
        "dek#j2#1",
        "dek#j1#0001",
        "dek#j1#+1",
        "dek#j1#",
        "1",
        "dek#j1#4294967297",
    ] {
        assert_eq!(named(other), Err(Check::Attributes), "{other}");
    }
}

/// Sealed by somebody with the data key, so that only the named check stands in the way.
#[test]
fn a_record_of_an_unknown_suite_or_of_no_version_is_refused_whoever_sealed_it() {
    let (keyring, row) = record();
    let with = |name: &str, value: u64| {
        let mut row = row.clone();
        row.set_integer(name, value);
        row.seal(&data_key(1).seal_key);
        verify(&scope(), &keyring, row).map(|row| row.version)
    };
    assert_eq!(with("env", 1), Ok(1));
    assert_eq!(with("ver", 7), Ok(7));
    for suite in [0, 2, 255, 257, u64::MAX] {
        assert_eq!(with("env", suite), Err(Check::Attributes), "{suite}");
    }
    assert_eq!(with("ver", 0), Err(Check::Attributes));
}

#[test]
fn a_record_whose_attributes_are_of_other_lengths_is_refused_whoever_sealed_it() {
    let (keyring, row) = record();
    let with = |name: &str, length: usize| {
        let mut row = row.clone();
        row.set_bytes(name, vec![0; length]);
        row.seal(&data_key(1).seal_key);
        verify(&scope(), &keyring, row).map(|row| row.version)
    };
    for (name, length) in [("content_nonce", 12), ("commit", 32)] {
        assert_eq!(with(name, length), Ok(1));
        assert_eq!(with(name, length - 1), Err(Check::Attributes));
        assert_eq!(with(name, length + 1), Err(Check::Attributes));
    }
    assert_eq!(with("content_encrypted", 16), Ok(1));
    assert_eq!(with("content_encrypted", 15), Err(Check::Attributes));
}

#[test]
fn a_verified_record_tells_how_much_it_takes() {
    let (keyring, row) = record();
    let size = row.size();
    let verified = verify(&scope(), &keyring, row).unwrap();
    // "null" and the tag.
    assert_eq!((verified.size(), verified.payload_bytes()), (size, 20));
}

/// A field that was taken back must not stay in the clear, nor a record in an index that it has left.
#[test]
fn nothing_of_the_old_cleartext_outlives_its_change() {
    let (keyring, row) = record();
    let old = verify(&scope(), &keyring, row.clone()).unwrap();
    let listed = Clear {
        fields: [("note".to_owned(), Attribute::integer(7))].into(),
        listed_as: Some("open".to_owned()),
    };
    let now = Timestamp::UNIX_EPOCH;
    let (with, _) = rebuild(&scope(), &keyring, &old, listed, now).unwrap();
    for name in ["note", STATUS_KEY, STATUS_SORT] {
        assert!(with.0.contains_key(name), "{name}");
    }
    let with = verify(&scope(), &keyring, with).unwrap();
    let (without, _) = rebuild(&scope(), &keyring, &with, Clear::default(), now).unwrap();
    assert_eq!(without, row);
}
