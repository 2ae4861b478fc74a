//! Certificates, and what somebody who can write the table does to what they say.

use dynoxide::AttributeValue;
use worldcompute_fault::{Category, Fault};

use crate::audit::{Draft, Lane, Operation};
use crate::lab::{Item, Lab, partition, put, text};
use crate::name::PartitionKey;
use crate::{ErasureCertificate, Id, Kind, Store};

const PK: &str = "job#j1";

fn lane() -> Lane {
    let id = Id::parse("j1").unwrap();
    Lane::of(&PartitionKey {
        kind: Kind::JOB,
        id,
    })
}

/// The partition's rows among all.
fn ours(rows: &[Item]) -> impl Iterator<Item = &Item> {
    rows.iter().filter(|row| text(row, "pk") == PK)
}

/// The lane as it was, with its own head: it lacks nothing in itself.
fn cut_back(lab: &Lab, before: &[Item]) {
    let pk = lane().pk();
    lab.rows(&pk).values().for_each(|row| lab.delete(row));
    let of_then = before.iter().filter(|row| text(row, "pk") == pk);
    of_then.for_each(|row| lab.put(row));
}

/// More events in the lane.
async fn lengthen(store: &Store, events: usize) {
    for _ in 0..events {
        let event = Draft::kek(Operation::DeriveKek, 1);
        store.0.audit.record(lane(), event).unwrap();
        store.0.audit.flush(lane()).await.unwrap();
    }
}

async fn load_fails(store: &Store, id: &str) -> Fault {
    let Err(fault) = partition(store, id).load().await else {
        panic!("{id} was believed");
    };
    fault
}

/// A partition with records under two data keys.
async fn rotated() -> (Lab, Store) {
    let lab = Lab::new();
    let store = lab.store().await;
    let partition = partition(&store, "j1");
    put(&partition, &[("t1", "first")]).await;
    partition.rotate().await.unwrap();
    put(&partition, &[("t2", "second")]).await;
    (lab, store)
}

#[tokio::test]
async fn a_certificate_is_this_stores_and_unchanged_or_refused() {
    let (lab, store) = rotated().await;
    let certificate = partition(&store, "j1").erase().await.unwrap();
    let erasure = &certificate.erasure;
    assert_eq!((erasure.data_keys_destroyed, erasure.rows_deleted), (2, 2));
    assert_eq!((&*erasure.partition, &*erasure.store), (PK, store.id()));
    assert!(!erasure.residual_copies.is_empty());
    let text = serde_json::to_string(&certificate).unwrap();
    let read = serde_json::from_str(&text).unwrap();
    let confirmed = store.check_certificate(&certificate).await.unwrap();
    assert_eq!(confirmed.event, erasure.event);
    assert!(confirmed.events_read >= confirmed.event.seq && confirmed.remembered);
    store.close().await.unwrap();
    let store = lab.stranger().await;
    let confirmed = store.check_certificate(&read).await.unwrap();
    assert!(!confirmed.remembered, "{confirmed:?}");
    let mut others = vec![certificate.clone(); 8];
    others[0].erasure.partition = "job#j2".to_owned();
    others[1].erasure.erased_at = "2026-01-02T03:04:05.000000006Z".to_owned();
    others[2].erasure.data_keys_destroyed += 1;
    others[3].erasure.residual_copies.clear();
    others[4].mac = "00".repeat(32);
    others[5].mac = String::new();
    others[6].erasure.event.seq += 1;
    others[7].erasure.format = "blue/v1/bundle".to_owned();
    for other in others {
        let fault = store.check_certificate(&other).await.unwrap_err();
        assert_eq!(fault.code(), "seal_mismatch");
    }
    let elsewhere = Lab::new().store().await;
    let fault = elsewhere.check_certificate(&certificate).await;
    assert_eq!(fault.unwrap_err().code(), "certificate_of_another_store");
    let more = text.replacen('{', "{\"note\":1,", 1);
    assert!(serde_json::from_str::<ErasureCertificate>(&more).is_err());
}

/// What becomes of a certificate once somebody has done this to the table.
async fn certificate_after(change: impl AsyncFnOnce(&Lab, &[Item])) -> String {
    let (lab, store) = rotated().await;
    let before = lab.dump();
    let certificate = partition(&store, "j1").erase().await.unwrap();
    store.close().await.unwrap();
    change(&lab, &before).await;
    let store = lab.stranger().await;
    let fault = store.check_certificate(&certificate).await.unwrap_err();
    assert_eq!(fault.category(), Category::VerificationFailed);
    fault.code().to_owned()
}

#[tokio::test]
async fn a_certificate_of_what_lives_again_says_so() {
    let put_back = async |lab: &Lab, before: &[Item]| ours(before).for_each(|row| lab.put(row));
    assert_eq!(certificate_after(put_back).await, "partition_alive_again");
    // Around the tombstone.
    let keys = async |lab: &Lab, before: &[Item]| {
        let keys = ours(before).filter(|row| text(row, "sk").starts_with("dek#"));
        keys.for_each(|row| lab.put(row));
    };
    assert_eq!(certificate_after(keys).await, "partition_alive_again");
    // Written again by who has never seen it erased, and then hidden behind the tombstone.
    let written = async |lab: &Lab, before: &[Item]| {
        let tombstone = lab.rows(PK)["manifest"].clone();
        ours(before).for_each(|row| lab.put(row));
        let stranger = lab.stranger().await;
        put(&partition(&stranger, "j1"), &[("t9", "later")]).await;
        stranger.close().await.unwrap();
        lab.rows(PK).values().for_each(|row| lab.delete(row));
        lab.put(&tombstone);
    };
    assert_eq!(certificate_after(written).await, "partition_alive_again");
}

#[tokio::test]
async fn a_certificate_whose_tombstone_has_gone_or_is_another_says_so() {
    let gone = async |lab: &Lab, _: &[Item]| lab.delete(&lab.rows(PK)["manifest"].clone());
    assert_eq!(certificate_after(gone).await, "tombstone_missing");
    let again = async |lab: &Lab, _: &[Item]| {
        lab.delete(&lab.rows(PK)["manifest"].clone());
        let stranger = lab.stranger().await;
        partition(&stranger, "j1").erase().await.unwrap();
        stranger.close().await.unwrap();
    };
    assert_eq!(certificate_after(again).await, "erasure_superseded");
    let changed = async |lab: &Lab, _: &[Item]| {
        let mut tombstone = lab.rows(PK)["manifest"].clone();
        let at = "2026-01-02T03:04:05.000000006Z".to_owned();
        tombstone.insert("updated_at".to_owned(), AttributeValue::S(at));
        lab.put(&tombstone);
    };
    assert_eq!(certificate_after(changed).await, "seal_mismatch");
}

#[tokio::test]
async fn a_certificate_of_an_erasure_that_the_audit_does_not_know_says_so() {
    let back = async |lab: &Lab, before: &[Item]| cut_back(lab, before);
    assert_eq!(certificate_after(back).await, "erasure_not_on_record");
    // Whatever is missing, long before it.
    let (lab, store) = rotated().await;
    lengthen(&store, 40).await;
    let certificate = partition(&store, "j1").erase().await.unwrap();
    store.close().await.unwrap();
    lab.delete(&lab.rows(&lane().pk())["event#00000000000000000001"]);
    let store = lab.stranger().await;
    let fault = store.check_certificate(&certificate).await.unwrap_err();
    assert_eq!(fault.code(), "audit_chain_broken");
}

#[tokio::test]
async fn who_erases_what_is_erased_is_given_the_event_of_then_or_none_that_is_not_there() {
    let (lab, store) = rotated().await;
    let before = lab.dump();
    let first = partition(&store, "j1").erase().await.unwrap();
    // More in the lane than is looked back at once.
    lengthen(&store, 70).await;
    store.close().await.unwrap();
    let stranger = lab.stranger().await;
    let again = partition(&stranger, "j1").erase().await.unwrap();
    assert_eq!(again.erasure.event, first.erasure.event);
    assert_eq!(again.erasure.data_keys_destroyed, 0);
    stranger.close().await.unwrap();
    cut_back(&lab, &before);
    let fault = partition(&lab.stranger().await, "j1").erase().await;
    assert_eq!(fault.unwrap_err().code(), "erasure_not_on_record");
}

#[tokio::test]
async fn a_certificate_outlives_the_epoch_it_was_made_in() {
    let (lab, store) = rotated().await;
    let certificate = partition(&store, "j1").erase().await.unwrap();
    store.rotate_kek().await.unwrap();
    store.retire_keks().await.unwrap();
    for store in [&store, &lab.stranger().await] {
        store.check_certificate(&certificate).await.unwrap();
        assert_eq!(load_fails(store, "j1").await.code(), "partition_erased");
    }
}
