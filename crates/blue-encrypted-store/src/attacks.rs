//! Somebody reads and writes the whole table, without any key. Whatever they do, no load believes it.

use std::sync::Arc;

use dynoxide::AttributeValue;
use worldcompute_fault::{Category, Fault};

use crate::anchor::Anchor;
use crate::lab::{Item, Job, Lab, Task, job, partition, put, secrets, task, text, version};
use crate::manifest::CHUNK_ENTRIES;
use crate::{Batch, CrossPartition, Kind, PartitionVersion, Store};

const PK: &str = "job#j1";

async fn load_fails(store: &Store, id: &str) -> Fault {
    let Err(fault) = partition(store, id).load().await else {
        panic!("the change to {id} was believed");
    };
    assert_eq!(fault.category(), Category::VerificationFailed, "{fault}");
    let told = format!("{fault} {fault:?}");
    assert!(!told.contains("the payload"), "an error tells the payload");
    fault
}

/// A partition with one record of either kind.
async fn small() -> (Lab, Store) {
    let lab = Lab::new();
    let store = lab.store().await;
    let mut batch = Batch::new();
    batch.insert(job("analysis")).unwrap();
    batch.insert(task("t1", "the payload")).unwrap();
    let partition = partition(&store, "j1");
    let none = PartitionVersion::NONE;
    partition.commit(batch, none).await.unwrap();
    (lab, store)
}

/// A partition whose manifest has chunks.
async fn large() -> (Lab, Store) {
    let lab = Lab::new();
    let store = lab.store().await;
    let mut batch = Batch::new();
    for number in 0..=CHUNK_ENTRIES {
        batch
            .insert(task(format!("t{number:03}"), "first"))
            .unwrap();
    }
    let partition = partition(&store, "j1");
    let none = PartitionVersion::NONE;
    partition.commit(batch, none).await.unwrap();
    (lab, store)
}

/// Every value that differs from `value` in one byte, or is of another type.
pub(crate) fn changed(value: &AttributeValue) -> Vec<AttributeValue> {
    match value {
        AttributeValue::S(text) => {
            let texts = flips(text.as_bytes()).into_iter();
            let texts = texts.filter_map(|bytes| String::from_utf8(bytes).ok());
            texts.map(AttributeValue::S).collect()
        }
        AttributeValue::N(text) => (0..text.len())
            .map(|at| {
                let mut bytes = text.clone().into_bytes();
                bytes[at] = if bytes[at] == b'9' { b'8' } else { b'9' };
                AttributeValue::N(String::from_utf8(bytes).unwrap())
            })
            .collect(),
        AttributeValue::B(bytes) => flips(bytes).into_iter().map(AttributeValue::B).collect(),
        AttributeValue::BOOL(value) => vec![AttributeValue::BOOL(!value)],
        AttributeValue::NULL(_) => vec![AttributeValue::BOOL(true)],
        other => panic!("{other:?} is never written"),
    }
}

/// How many values [`changed`] gives for all attributes of a row.
fn bytes_of(row: &Item) -> usize {
    let size = |value: &AttributeValue| match value {
        AttributeValue::S(text) | AttributeValue::N(text) => text.len(),
        AttributeValue::B(bytes) => bytes.len(),
        _ => 1,
    };
    row.values().map(size).sum()
}

fn flips(bytes: &[u8]) -> Vec<Vec<u8>> {
    (0..bytes.len())
        .map(|at| {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 1;
            bytes
        })
        .collect()
}

/// The codes that a change of one byte of this attribute may be refused with.
fn allowed(row: &Item, attribute: &str) -> &'static [&'static str] {
    match (text(row, "entity_type"), attribute) {
        ("manifest", "pk" | "sk") => &["version_rolled_back"],
        // Under another number it is taken for another key, or for none.
        ("dek", "pk" | "sk") => &["key_check_mismatch", "commitment_mismatch"],
        (_, "pk" | "sk") => &["manifest_mismatch"],
        (_, "entity_type") => &["address_mismatch"],
        ("dek", "wrapped") => &["tag_mismatch"],
        ("dek", "commit" | "wrap_nonce") => &["commitment_mismatch"],
        ("dek", "kcv") => &["key_check_mismatch"],
        (_, "env" | "kek_epoch") => &["attributes_malformed"],
        (_, "key_id") => &["attributes_malformed", "key_check_mismatch"],
        (_, "created_at" | "updated_at" | "min_env" | "ver" | "status") => {
            &["seal_mismatch", "attributes_malformed"]
        }
        _ => &["seal_mismatch"],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_changed_byte_of_every_attribute_of_every_row_is_refused_by_its_check() {
    let (lab, store) = small().await;
    let (rows, mut total) = (lab.rows(PK), 0);
    for (sk, row) in &rows {
        let mut changes = 0;
        for (attribute, value) in row {
            for value in changed(value) {
                let mut other = row.clone();
                other.insert(attribute.clone(), value);
                lab.delete(row);
                lab.put(&other);
                let fault = load_fails(&store, "j1").await;
                let code = fault.code();
                let what = format!("{attribute} of {sk}: {code}: {fault}");
                assert!(allowed(row, attribute).contains(&code), "{what}");
                lab.delete(&other);
                lab.put(row);
                changes += 1;
            }
        }
        assert_eq!(changes, bytes_of(row), "{sk}");
        println!(
            "byte-flip matrix: {sk}: {} attributes, {changes} bytes changed, 0 accepted",
            row.len()
        );
        total += changes;
    }
    println!(
        "byte-flip matrix: {} rows, {total} bytes changed, 0 accepted",
        rows.len()
    );
    assert_eq!((rows.len(), total > 1_000), (4, true));
    assert_eq!(secrets(&partition(&store, "j1")).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_that_are_cut_extended_removed_added_or_of_another_type_are_refused() {
    let (lab, store) = small().await;
    let junk = [
        AttributeValue::S("x".to_owned()),
        AttributeValue::N("1".to_owned()),
        AttributeValue::B(vec![0; 32]),
        AttributeValue::BOOL(true),
        AttributeValue::NULL(true),
        AttributeValue::L(Vec::new()),
        AttributeValue::SS(vec!["x".to_owned()]),
    ];
    for row in lab.rows(PK).into_values() {
        let mut others = Vec::new();
        for (attribute, value) in row
            .iter()
            .filter(|(name, _)| *name != "pk" && *name != "sk")
        {
            let mut with = |value: AttributeValue| {
                let mut other = row.clone();
                other.insert(attribute.clone(), value);
                others.push(other);
            };
            if let AttributeValue::B(bytes) = value {
                with(AttributeValue::B(
                    bytes[..bytes.len().saturating_sub(1)].to_vec(),
                ));
                with(AttributeValue::B([&bytes[..], &[0]].concat()));
                with(AttributeValue::B(Vec::new()));
            }
            junk.iter()
                .filter(|junk| *junk != value)
                .cloned()
                .for_each(with);
            let mut without = row.clone();
            without.remove(attribute);
            others.push(without);
        }
        for name in ["note", "gsi2pk", "ttl"] {
            let mut other = row.clone();
            other.insert(name.to_owned(), junk[0].clone());
            others.push(other);
        }
        for other in others
            .iter()
            .filter(|other| **other != row && indexable(other))
        {
            lab.put(other);
            load_fails(&store, "j1").await;
        }
        lab.put(&row);
    }
    assert_eq!(secrets(&partition(&store, "j1")).await.len(), 1);
}

/// The engine refuses other types than text in an index's keys.
fn indexable(item: &Item) -> bool {
    ["gsi1pk", "gsi1sk"]
        .iter()
        .all(|name| matches!(item.get(*name), None | Some(AttributeValue::S(_))))
}

#[tokio::test]
async fn swapped_ciphertexts_are_refused() {
    let (lab, store) = small().await;
    put(&partition(&store, "j1"), &[("t2", "another payload")]).await;
    let keys = lab.keys(PK, "task");
    let rows = lab.rows(PK);
    let (one, two) = (&rows[&keys[0]], &rows[&keys[1]]);
    for names in [
        &["content_encrypted"][..],
        &["content_encrypted", "content_nonce", "commit"],
        &[
            "content_encrypted",
            "content_nonce",
            "commit",
            "seal",
            "aad_hash",
            "ver",
        ],
    ] {
        let (mut first, mut second) = (one.clone(), two.clone());
        for name in names {
            first.insert((*name).to_owned(), two[*name].clone());
            second.insert((*name).to_owned(), one[*name].clone());
        }
        lab.put(&first);
        lab.put(&second);
        assert_eq!(load_fails(&store, "j1").await.code(), "seal_mismatch");
    }
}

#[tokio::test]
async fn records_that_are_moved_to_another_partition_are_not_read_there() {
    let (lab, store) = small().await;
    put(&partition(&store, "j2"), &[("t1", "of the other job")]).await;
    let moved = |row: &Item| {
        let mut row = row.clone();
        row.insert("pk".to_owned(), AttributeValue::S("job#j2".to_owned()));
        row
    };
    let task = lab.rows(PK)[&lab.keys(PK, "task")[0]].clone();
    lab.put(&moved(&task));
    let partition = partition(&store, "j2");
    let snapshot = partition.load().await.unwrap().unwrap();
    assert_eq!((snapshot.len(), snapshot.uncommitted().len()), (1, 1));
    // Nor with all that belongs to it.
    for row in lab.rows(PK).values() {
        lab.put(&moved(row));
    }
    let fault = load_fails(&store, "j2").await;
    assert_eq!(fault.code(), "commitment_mismatch");
}

#[tokio::test]
async fn a_replaced_data_key_is_refused() {
    let (lab, store) = small().await;
    put(&partition(&store, "j2"), &[("t1", "x")]).await;
    let mut theirs = lab.rows("job#j2")["dek#0001"].clone();
    theirs.insert("pk".to_owned(), AttributeValue::S(PK.to_owned()));
    lab.put(&theirs);
    assert_eq!(load_fails(&store, "j1").await.code(), "commitment_mismatch");
    theirs.insert("sk".to_owned(), AttributeValue::S("dek#0002".to_owned()));
    let (lab, store) = small().await;
    lab.put(&theirs);
    assert_eq!(load_fails(&store, "j1").await.code(), "commitment_mismatch");
}

#[tokio::test]
async fn an_older_version_of_a_record_is_refused() {
    let (lab, store) = small().await;
    let task = lab.keys(PK, "task").remove(0);
    let old = lab.rows(PK)[&task].clone();
    put(&partition(&store, "j1"), &[("t1", "newer")]).await;
    assert_eq!(lab.keys(PK, "task"), [&*task]);
    lab.put(&old);
    assert_eq!(load_fails(&store, "j1").await.code(), "manifest_mismatch");
    assert_eq!(
        load_fails(&lab.stranger().await, "j1").await.code(),
        "manifest_mismatch"
    );
}

#[tokio::test]
async fn older_cleartext_of_a_record_is_refused_though_its_payload_is_the_same() {
    let (lab, store) = small().await;
    let sk = lab.keys(PK, "task").remove(0);
    let old = lab.rows(PK)[&sk].clone();
    let partition = partition(&store, "j1");
    let snapshot = partition.load().await.unwrap().unwrap();
    let stored = snapshot.get::<Task>("t1").unwrap().unwrap();
    let mut clear = stored.value().clear.clone();
    clear.status = "done".to_owned();
    let mut batch = Batch::new();
    batch.update_clear(&stored, clear).unwrap();
    partition.commit(batch, snapshot.version()).await.unwrap();
    assert_eq!(old["ver"], lab.rows(PK)[&sk]["ver"]);
    lab.put(&old);
    assert_eq!(load_fails(&store, "j1").await.code(), "manifest_mismatch");
}

#[tokio::test]
async fn an_older_chunk_of_the_manifest_is_refused() {
    let (lab, store) = large().await;
    let before = lab.rows(PK);
    put(&partition(&store, "j1"), &[("t000", "second")]).await;
    let after = lab.rows(PK);
    let chunk = &lab.keys(PK, "manifest#")[0];
    assert_ne!(before[chunk], after[chunk]);
    lab.put(&before[chunk]);
    assert_eq!(load_fails(&store, "j1").await.code(), "manifest_mismatch");
    // Nor together with the record that it lists.
    let record = &lab.keys(PK, "task")[0];
    assert_ne!(before[record], after[record]);
    lab.put(&before[record]);
    assert_eq!(load_fails(&store, "j1").await.code(), "manifest_mismatch");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_chunk_of_the_manifest_is_refused() {
    let (lab, store) = large().await;
    let chunk = lab.rows(PK)[&lab.keys(PK, "manifest#")[0]].clone();
    for (attribute, value) in &chunk {
        // Every byte is flipped in the tests of the manifest itself, without an engine.
        for value in changed(value).into_iter().step_by(97) {
            let mut other = chunk.clone();
            other.insert(attribute.clone(), value);
            lab.delete(&chunk);
            lab.put(&other);
            load_fails(&store, "j1").await;
            lab.delete(&other);
            lab.put(&chunk);
        }
    }
}

#[tokio::test]
async fn a_missing_chunk_is_refused() {
    let (lab, store) = large().await;
    lab.delete(&lab.rows(PK)[&lab.keys(PK, "manifest#")[0]]);
    assert_eq!(load_fails(&store, "j1").await.code(), "manifest_mismatch");
}

#[tokio::test]
async fn a_deleted_record_is_missed() {
    let (lab, store) = small().await;
    lab.delete(&lab.rows(PK)[&lab.keys(PK, "task")[0]]);
    assert_eq!(load_fails(&store, "j1").await.code(), "manifest_mismatch");
}

#[tokio::test]
async fn a_resurrected_record_stays_dead_and_is_reported() {
    let (lab, store) = small().await;
    let row = lab.rows(PK)[&lab.keys(PK, "task")[0]].clone();
    let partition = partition(&store, "j1");
    let mut batch = Batch::new();
    batch.remove::<Task>("t1").unwrap();
    let at = version(&partition).await;
    partition.commit(batch, at).await.unwrap();
    lab.put(&row);
    let snapshot = partition.load().await.unwrap().unwrap();
    assert!(snapshot.get::<Task>("t1").unwrap().is_none());
    assert_eq!(snapshot.uncommitted(), [text(&row, "sk")]);
}

#[tokio::test]
async fn a_partition_that_is_put_back_is_refused_by_who_saw_it_later() {
    let (lab, store) = small().await;
    let before = lab.dump();
    put(&partition(&store, "j1"), &[("t1", "newer")]).await;
    lab.restore(&before);
    assert_eq!(load_fails(&store, "j1").await.code(), "version_rolled_back");
    let reopened = lab.open(lab.anchor.clone(), 1).await;
    assert_eq!(reopened.err().unwrap().code(), "audit_chain_broken");
    // Who never saw it later cannot know. The documentation says so.
    let partition = partition(&lab.stranger().await, "j1");
    assert_eq!(secrets(&partition).await[0].1, "the payload");
}

#[tokio::test]
async fn a_partition_that_is_taken_away_is_missed() {
    let (lab, store) = small().await;
    for row in lab.rows(PK).values() {
        lab.delete(row);
    }
    assert_eq!(load_fails(&store, "j1").await.code(), "version_rolled_back");
}

#[tokio::test]
async fn two_histories_of_one_version_are_told_apart() {
    let (lab, store) = small().await;
    let before = lab.dump();
    put(&partition(&store, "j1"), &[("t1", "one history")]).await;
    lab.restore(&before);
    let stranger = lab.stranger().await;
    put(&partition(&stranger, "j1"), &[("t1", "another history")]).await;
    assert_eq!(load_fails(&store, "j1").await.code(), "version_rolled_back");
}

#[tokio::test]
async fn a_commit_on_top_of_another_history_of_the_same_version_is_refused() {
    let (lab, store) = small().await;
    let before = lab.dump();
    let ours = partition(&store, "j1");
    let at = put(&ours, &[("t1", "one history")]).await;
    lab.restore(&before);
    let theirs = partition(&lab.stranger().await, "j1");
    assert_eq!(put(&theirs, &[("t1", "another history")]).await, at);
    let mut batch = Batch::new();
    batch.put(task("t2", "x")).unwrap();
    let fault = ours.commit(batch, at).await.unwrap_err();
    assert_eq!(fault.code(), "audit_chain_broken");
    assert_eq!(secrets(&theirs).await.len(), 1);
}

#[tokio::test]
async fn what_is_swept_is_the_row_that_was_left_and_not_what_took_its_place() {
    let (lab, store) = small().await;
    let left = lab.rows(PK)["meta"].clone();
    let first = partition(&store, "j1");
    let mut batch = Batch::new();
    batch.remove::<Job>("").unwrap();
    let at = version(&first).await;
    first.commit(batch, at).await.unwrap();
    lab.put(&left);
    let later = partition(&lab.store().await, "j1");
    let snapshot = later.load().await.unwrap().unwrap();
    assert_eq!(snapshot.uncommitted(), ["meta"]);
    let mut batch = Batch::new();
    batch.insert(job("again")).unwrap();
    later.commit(batch, snapshot.version()).await.unwrap();
    let snapshot = later.load().await.unwrap().unwrap();
    let job = snapshot.get::<Job>("").unwrap().unwrap();
    assert_eq!(job.into_value().name, "again");
}

#[tokio::test]
async fn a_partition_that_is_put_back_takes_no_commit_either() {
    let (lab, store) = small().await;
    let before = lab.rows(PK);
    let at = put(&partition(&store, "j1"), &[("t1", "newer")]).await;
    for row in lab.rows(PK).values() {
        lab.delete(row);
    }
    for row in before.values() {
        lab.put(row);
    }
    let mut batch = Batch::new();
    batch.put(task("t2", "x")).unwrap();
    let fault = partition(&lab.store().await, "j1")
        .commit(batch, at)
        .await
        .unwrap_err();
    assert_eq!(fault.code(), "version_rolled_back");
}

#[tokio::test]
async fn rows_of_another_table_are_not_taken_for_this_ones() {
    let (lab, store) = small().await;
    let (other, _) = small().await;
    for row in other.rows(PK).values() {
        lab.put(row);
    }
    assert_eq!(load_fails(&store, "j1").await.code(), "commitment_mismatch");
    // Nor with the other table's name on them.
    lab.put(&other.rows("store")["meta"]);
    let fault = lab.open(lab.anchor.clone(), 1).await.err().unwrap();
    assert_eq!(fault.code(), "address_mismatch");
}

#[tokio::test]
async fn every_changed_byte_of_the_stores_own_row_is_tampering_and_never_a_changed_key() {
    let (lab, _store) = small().await;
    let row = lab.rows("store")["meta"].clone();
    let mut changes = 0;
    for (attribute, value) in &row {
        for value in changed(value) {
            let mut other = row.clone();
            other.insert(attribute.clone(), value);
            lab.delete(&row);
            lab.put(&other);
            for anchor in [lab.anchor.clone(), Arc::new(Anchor::memory())] {
                let fault = lab.open(anchor, 1).await.err().unwrap();
                assert_eq!(fault.category(), Category::VerificationFailed);
                assert_ne!(fault.code(), "encryption_key_changed", "{attribute}");
            }
            lab.delete(&other);
            lab.put(&row);
            changes += 1;
        }
    }
    println!(
        "byte-flip matrix: the store's own row: {} attributes, {changes} bytes changed, 0 accepted",
        row.len()
    );
    assert_eq!(changes, bytes_of(&row));
    lab.store().await;
}

#[tokio::test]
async fn a_changed_key_is_told_from_tampering_by_what_is_remembered_outside_of_the_table() {
    let (lab, _store) = small().await;
    for (anchor, code) in [
        (lab.anchor.clone(), "encryption_key_changed"),
        (Arc::new(Anchor::memory()), "encryption_key_unconfirmed"),
    ] {
        let fault = lab.open(anchor, 2).await.err().unwrap();
        assert_eq!(fault.code(), code);
    }
}

#[tokio::test]
async fn a_row_of_which_several_attributes_were_changed_never_passes_for_a_changed_key() {
    let (lab, _store) = small().await;
    let mut row = lab.rows("store")["meta"].clone();
    for name in ["kcv", "created_at"] {
        let value = changed(&row[name]).pop().unwrap();
        row.insert(name.to_owned(), value);
    }
    lab.put(&row);
    for anchor in [lab.anchor.clone(), Arc::new(Anchor::memory())] {
        let fault = lab.open(anchor, 1).await.err().unwrap();
        assert_ne!(fault.code(), "encryption_key_changed");
    }
}

#[tokio::test]
async fn a_table_without_its_own_row_is_not_set_up_again() {
    let (lab, _store) = small().await;
    lab.delete(&lab.rows("store")["meta"]);
    for anchor in [lab.anchor.clone(), Arc::new(Anchor::memory())] {
        let fault = lab.open(anchor, 1).await.err().unwrap();
        assert_eq!(fault.code(), "manifest_mismatch");
    }
    // Nor an empty one on a machine that knows there was a store.
    lab.restore(&[]);
    let fault = lab.open(lab.anchor.clone(), 1).await.err().unwrap();
    assert_eq!(fault.code(), "manifest_mismatch");
}

#[tokio::test]
async fn a_forged_index_entry_is_a_hint_that_does_not_survive_the_load() {
    let (lab, store) = small().await;
    let mut row = lab.rows(PK)[&lab.keys(PK, "task")[0]].clone();
    row.insert(
        "gsi1pk".to_owned(),
        AttributeValue::S("status#paid".to_owned()),
    );
    lab.put(&row);
    let hints = store.list(Kind::JOB, "paid").await.unwrap();
    assert_eq!(hints.len(), 1);
    assert_eq!(
        load_fails(&store, hints[0].partition.id.as_str())
            .await
            .code(),
        "seal_mismatch"
    );
}

#[tokio::test]
async fn a_hint_is_confirmed_by_the_record_and_a_strangers_rows_are_passed_over() {
    let (lab, store) = small().await;
    let before = Lab::new().store().await;
    store.continue_audit_of(&before).await.unwrap();
    let task = lab.rows(PK)[&lab.keys(PK, "task")[0]].clone();
    let place = |pk: &str, sk: &str, row: &Item| {
        let mut row = row.clone();
        for (name, value) in [("pk", pk), ("sk", sk), ("gsi1pk", "status#open")] {
            row.insert(name.to_owned(), AttributeValue::S(value.to_owned()));
        }
        lab.put(&row);
    };
    // A record that the partition does not have, and rows of a partition that never was.
    place(PK, "task#2026-01-02T03:04:05.000000006Z#other", &task);
    place("job#stranger", "meta", &task);
    place("job#stranger", "dek#0001", &lab.rows(PK)["dek#0001"]);
    let gone = partition(&store, "gone");
    put(&gone, &[("t1", "x")]).await;
    gone.erase().await.unwrap();
    place("job#gone", "meta", &task);
    for store in [store, lab.stranger().await] {
        let mut confirmed = Vec::new();
        for hint in store.list(Kind::JOB, "open").await.unwrap() {
            if let Some(snapshot) = store.confirm(&hint).await.unwrap() {
                assert_eq!(snapshot.version().get(), 1);
                confirmed.push((hint.partition.to_string(), hint.id));
            }
        }
        assert_eq!(confirmed, [(PK.to_owned(), "t1".to_owned())]);
    }
    // What was committed and does not verify is an error, also for who knows it by the audit alone.
    let mut damaged = task.clone();
    damaged.insert("updated_at".to_owned(), AttributeValue::S("now".to_owned()));
    place(PK, text(&task, "sk"), &damaged);
    for store in [lab.store().await, lab.stranger().await] {
        let hints = store.list(Kind::JOB, "open").await.unwrap();
        let hint = hints.iter().find(|hint| hint.id == "t1").unwrap();
        let fault = store.confirm(hint).await.unwrap_err();
        assert_eq!(fault.category(), Category::VerificationFailed);
    }
}

#[tokio::test]
async fn an_index_entry_of_a_partition_that_is_not_there_leads_nowhere() {
    let (lab, store) = small().await;
    let mut row = lab.rows(PK)[&lab.keys(PK, "task")[0]].clone();
    let nowhere = AttributeValue::S("job#nowhere".to_owned());
    row.insert("pk".to_owned(), nowhere);
    lab.put(&row);
    let hints = store.list(Kind::JOB, "open").await.unwrap();
    assert_eq!(hints.len(), 2);
    for hint in hints {
        let partition = partition(&store, hint.partition.id.as_str());
        let there = partition.load().await.unwrap().is_some();
        assert_eq!(there, hint.partition.id.as_str() == "j1");
    }
}

#[tokio::test]
async fn rows_that_nobody_here_wrote_are_ignored_and_left_alone() {
    let (lab, store) = small().await;
    let mut junk = lab.rows(PK)[&lab.keys(PK, "task")[0]].clone();
    let names = [
        "zzz",
        "audit#0001",
        "task#2026-01-02T03:04:05.000000006Z#other",
        "manifest#99",
        "dek#x",
    ];
    for sk in names {
        junk.insert("sk".to_owned(), AttributeValue::S(sk.to_owned()));
        lab.put(&junk);
    }
    let partition = partition(&store, "j1");
    let snapshot = partition.load().await.unwrap().unwrap();
    assert_eq!((snapshot.len(), snapshot.uncommitted().len()), (2, 5));
    let job = snapshot.get::<Job>("").unwrap().unwrap();
    assert_eq!(job.into_value(), crate::lab::job("analysis"));
    put(&partition, &[("t2", "x")]).await;
    for sk in names {
        assert!(lab.rows(PK).contains_key(sk), "{sk}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chunk_rows_that_nobody_here_wrote_get_in_nobodys_way() {
    let lab = Lab::new();
    let store = lab.store().await;
    let partition = partition(&store, "j1");
    let mut at = put(&partition, &[("t000", "x")]).await;
    let mut junk = lab.rows(PK)["manifest"].clone();
    for number in ["01", "02", "18446744073709551615"] {
        let sk = AttributeValue::S(format!("manifest#{number}"));
        junk.insert("sk".to_owned(), sk);
        lab.put(&junk);
    }
    partition.load().await.unwrap();
    // Chunks that are written in the flip, and chunks that are staged.
    for (from, to) in [(1, 90), (90, 200), (200, 3_000)] {
        let mut batch = Batch::new();
        for id in from..to {
            batch.insert(task(format!("t{id:03}"), "x")).unwrap();
        }
        at = partition.commit(batch, at).await.unwrap();
        assert_eq!(secrets(&partition).await.len(), to);
    }
    let chunk = &lab.rows(PK)["manifest#02"];
    assert_eq!(chunk["seal"], junk["seal"], "left alone");
}
