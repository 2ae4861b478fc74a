//! Somebody reads and writes the whole table, without any key. Whatever they do to the audit, verifying it names it.

use std::collections::BTreeMap;
use std::sync::Arc;

use dynoxide::AttributeValue;

use super::event::{Flaw, sort_key};
use super::*;
use crate::anchor::Anchor;
use crate::lab::{Item, Lab, partition, put};
use crate::store::Ground;
use crate::{Store, StoreConfig, StorePath};

/// How many events the lane under attack has: more than opening looks at, so that both are tested.
const EVENTS: u64 = 24;

fn lane() -> Lane {
    Lane::of(partition_key())
}

fn partition_key() -> &'static PartitionKey {
    static KEY: std::sync::LazyLock<PartitionKey> = std::sync::LazyLock::new(|| PartitionKey {
        kind: Kind::JOB,
        id: crate::Id::parse("j1").unwrap(),
    });
    &KEY
}

/// A table whose lane has exactly [`EVENTS`] events.
async fn attacked() -> Lab {
    let lab = Lab::new();
    let store = lab.store().await;
    put(&partition(&store, "j1"), &[("t1", "x")]).await;
    store.0.audit.flush_all().await.unwrap();
    while events(&lab).len() < EVENTS as usize {
        let draft = Draft::dek(Operation::Decrypt, partition_key(), 1);
        store
            .0
            .audit
            .transact(lane(), &lane().pk(), Vec::new(), vec![draft])
            .await
            .unwrap();
    }
    let head = lab.rows(&lane().pk()).remove("head").unwrap();
    assert_eq!(head["seq"], AttributeValue::N(EVENTS.to_string()));
    lab.anchor
        .advance(vec![(lane().pk(), mark(&lab, EVENTS))])
        .await
        .unwrap();
    lab
}

fn events(lab: &Lab) -> BTreeMap<String, Item> {
    let rows = lab.rows(&lane().pk()).into_iter();
    rows.filter(|(sk, _)| sk != "head").collect()
}

fn event(lab: &Lab, seq: u64) -> Item {
    events(lab).remove(&sort_key(seq)).unwrap()
}

fn bytes(item: &Item, name: &str) -> [u8; 32] {
    match &item[name] {
        AttributeValue::B(bytes) => bytes.as_slice().try_into().unwrap(),
        other => panic!("{name} is {other:?}"),
    }
}

fn mark(lab: &Lab, seq: u64) -> Mark {
    Mark::new(seq, &bytes(&event(lab, seq), "event_hash"))
}

/// The table as somebody opens it who wants to look into it.
async fn inspected(lab: &Lab, anchor: &Arc<Anchor>, key: u8) -> Store {
    let config = StoreConfig::new(StorePath::Memory).on_audit_break(OnAuditBreak::Inspect);
    let ground = Ground {
        table: crate::lab::table(&lab.engine),
        anchor: anchor.clone(),
        set_up: true,
    };
    let keys = Arc::new(crate::lab::MemoryKey([key; 32]));
    Store::open_on(ground, config, keys, Sources::system())
        .await
        .unwrap()
}

/// What is wrong with the lane under attack; every other one is whole.
async fn found(lab: &Lab, anchor: &Arc<Anchor>) -> Option<(u64, BreakKind)> {
    let report = inspected(lab, anchor, 1)
        .await
        .verify_chain()
        .await
        .unwrap();
    for other in &report.lanes {
        assert!(
            other.lane == lane().0 || other.broken.is_none(),
            "{other:?}"
        );
    }
    let broken = report.first_break();
    assert_eq!(report.is_whole(), broken.is_none());
    broken.map(|(_, broken)| (broken.seq, broken.kind))
}

/// Verifying names the break; so does opening, when it is near the end.
async fn is_broken(lab: &Lab, seq: u64, kind: BreakKind) {
    assert_eq!(found(lab, &lab.anchor).await, Some((seq, kind)));
    let opened = lab.open(lab.anchor.clone(), 1).await;
    if EVENTS - seq.min(EVENTS) < chain::TAIL as u64 {
        assert_eq!(
            opened.err().unwrap().code(),
            "audit_chain_broken",
            "{seq} {kind:?}"
        );
    }
}

fn set(item: &mut Item, name: &str, value: AttributeValue) {
    item.insert(name.to_owned(), value);
}

/// The same row at another place.
fn moved(mut item: Item, seq: u64) -> Item {
    set(&mut item, "sk", AttributeValue::S(sort_key(seq)));
    item
}

#[tokio::test]
async fn an_audit_that_nobody_touched_is_whole() {
    let lab = attacked().await;
    let store = lab.store().await;
    let report = store.verify_chain().await.unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.lanes.len(), AUDIT_LANES);
    assert_eq!(report.lanes[lane().index()].events, EVENTS);
    assert!(report.events() >= EVENTS);
    let first = store.audit_events(lane().0, 0).await.unwrap();
    assert_eq!(first.len() as u64, EVENTS);
    assert!(
        first
            .windows(2)
            .all(|pair| pair[1].previous_hash == pair[0].event_hash)
    );
    assert_eq!(store.audit_events(lane().0, EVENTS).await.unwrap(), []);
    assert_eq!(store.audit_events(AUDIT_LANES as u8, 0).await.unwrap(), []);
}

#[tokio::test]
async fn every_changed_attribute_of_an_event_is_noticed() {
    let lab = attacked().await;
    for seq in [2, EVENTS] {
        let original = event(&lab, seq);
        for name in original
            .keys()
            .filter(|name| !["pk", "sk"].contains(&name.as_str()))
        {
            let mut changed = original.clone();
            let value = match &original[name] {
                AttributeValue::S(text) => AttributeValue::S(format!("{text}0")),
                AttributeValue::N(text) => AttributeValue::N(format!("1{text}")),
                AttributeValue::B(bytes) => {
                    let mut bytes = bytes.clone();
                    bytes[0] ^= 1;
                    AttributeValue::B(bytes)
                }
                other => panic!("{other:?} is never written"),
            };
            set(&mut changed, name, value);
            lab.put(&changed);
            let kind = match name.as_str() {
                "seq" => BreakKind::Reordered,
                "event_mac" => BreakKind::ForeignMac,
                _ => BreakKind::Edited,
            };
            is_broken(&lab, seq, kind).await;
        }
        for odd in [AttributeValue::L(Vec::new()), AttributeValue::BOOL(true)] {
            let mut changed = original.clone();
            set(&mut changed, "unknown", odd);
            lab.put(&changed);
            is_broken(&lab, seq, BreakKind::Edited).await;
        }
        lab.put(&original);
    }
    assert_eq!(found(&lab, &lab.anchor).await, None);
}

#[tokio::test]
async fn an_event_that_is_deleted_is_missed() {
    for seq in [1, 2, EVENTS - 1] {
        let lab = attacked().await;
        lab.delete(&event(&lab, seq));
        is_broken(&lab, seq, BreakKind::Missing).await;
    }
}

#[tokio::test]
async fn events_that_changed_places_are_noticed() {
    let lab = attacked().await;
    let (one, two) = (event(&lab, EVENTS - 2), event(&lab, EVENTS - 1));
    lab.put(&moved(one, EVENTS - 1));
    lab.put(&moved(two, EVENTS - 2));
    is_broken(&lab, EVENTS - 2, BreakKind::Reordered).await;
}

#[tokio::test]
async fn an_event_that_was_inserted_is_noticed() {
    let lab = attacked().await;
    // An authentic one once more, and one whose hashes were computed without the key.
    lab.put(&moved(event(&lab, EVENTS), EVENTS + 1));
    is_broken(&lab, EVENTS + 1, BreakKind::Reordered).await;
    let store = inspected(&lab, &lab.anchor, 1).await;
    let mut forged = store
        .0
        .audit
        .reader(lane())
        .event(EVENTS)
        .await
        .unwrap()
        .unwrap();
    forged.seq += 1;
    forged.previous_hash = forged.event_hash;
    let other_key = Signer::new(
        store.id(),
        "local/local".to_owned(),
        &KekHandle::new(zeroize::Zeroizing::new([7; 32])),
        1,
    );
    let forged = forged.close(&other_key.unwrap(), lane());
    assert_eq!(
        CryptoAuditEvent::open(
            &forged.row(lane()),
            EVENTS + 1,
            &store.0.audit.signer,
            lane()
        ),
        Err(Flaw::ForeignMac)
    );
    let table = &store.0.table;
    let put = Action::Put {
        row: forged.row(lane()),
        when: crate::table::When::Always,
    };
    table.transact(&lane().pk(), vec![put]).await.unwrap();
    is_broken(&lab, EVENTS + 1, BreakKind::ForeignMac).await;
}

#[tokio::test]
async fn a_history_that_was_continued_elsewhere_is_noticed() {
    let lab = attacked().await;
    let ours = lab.dump();
    // The same store goes another way from an earlier state on, unaware of ours.
    for row in events(&lab).into_values() {
        let AttributeValue::N(seq) = &row["seq"] else {
            panic!()
        };
        if seq.parse::<u64>().unwrap() == EVENTS {
            lab.delete(&row);
        }
    }
    let stranger = Arc::new(Anchor::memory());
    let opened = lab.open(stranger, 1).await;
    assert_eq!(
        opened.err().unwrap().code(),
        "audit_chain_broken",
        "the head names what is gone"
    );
    lab.restore(&ours);
    let fresh = attacked().await;
    // Another store's event of the same number.
    lab.put(&event(&fresh, EVENTS));
    is_broken(&lab, EVENTS, BreakKind::Edited).await;
}

/// Two histories that part after the same events: the rows of the first, the table with the second.
async fn forked() -> (Vec<Item>, Lab) {
    let lab = attacked().await;
    let before = lab.dump();
    let append = async |lab: &Lab| {
        let store = lab.stranger().await;
        for _ in 0..3 {
            let draft = Draft::dek(Operation::Decrypt, partition_key(), 1);
            store
                .0
                .audit
                .transact(lane(), &lane().pk(), Vec::new(), vec![draft])
                .await
                .unwrap();
        }
    };
    append(&lab).await;
    let one = lab.dump();
    lab.restore(&before);
    append(&lab).await;
    (one, lab)
}

#[tokio::test]
async fn an_event_of_another_history_of_the_same_store_is_a_fork() {
    let (one, lab) = forked().await;
    let other = one.iter().find(|row| {
        row.contains_key("event_id")
            && crate::lab::text(row, "pk") == lane().pk()
            && crate::lab::text(row, "sk") == sort_key(EVENTS + 2)
    });
    lab.put(other.unwrap());
    is_broken(&lab, EVENTS + 2, BreakKind::Forked).await;
}

#[tokio::test]
async fn the_last_events_are_missed_when_they_are_cut_off() {
    let lab = attacked().await;
    for seq in (EVENTS - 2..=EVENTS).rev() {
        lab.delete(&event(&lab, seq));
        is_broken(&lab, seq, BreakKind::Truncated).await;
    }
    for row in events(&lab).values() {
        lab.delete(row);
    }
    is_broken(&lab, 1, BreakKind::Truncated).await;
}

#[tokio::test]
async fn a_head_that_is_changed_or_taken_away_is_noticed() {
    let lab = attacked().await;
    let head = lab.rows(&lane().pk()).remove("head").unwrap();
    for name in [
        "seq",
        "event_hash",
        "updated_at",
        "kek_epoch",
        "seal",
        "entity_type",
    ] {
        let mut changed = head.clone();
        changed.remove(name);
        lab.put(&changed);
        assert!(matches!(
            found(&lab, &lab.anchor).await,
            Some((_, BreakKind::HeadMismatch))
        ));
    }
    lab.delete(&head);
    is_broken(&lab, EVENTS, BreakKind::HeadMismatch).await;
}

#[tokio::test]
async fn rows_that_are_no_events_are_noticed() {
    for sk in ["aaa", "event#1", "event#x", "zzz"] {
        let lab = attacked().await;
        let mut row = event(&lab, EVENTS);
        set(&mut row, "sk", AttributeValue::S(sk.to_owned()));
        lab.put(&row);
        let (_, kind) = found(&lab, &lab.anchor).await.unwrap();
        assert_eq!(kind, BreakKind::UnknownRow, "{sk}");
    }
}

/// The lane as it was, or nothing of it.
fn put_back(lab: &Lab, rows: &[Item]) {
    for row in lab.rows(&lane().pk()).values() {
        lab.delete(row);
    }
    for row in rows
        .iter()
        .filter(|row| crate::lab::text(row, "pk") == lane().pk())
    {
        lab.put(row);
    }
}

#[tokio::test]
async fn a_lane_that_is_put_back_is_known_by_the_anchor_alone() {
    let lab = attacked().await;
    let before = lab.dump();
    put(&partition(&lab.store().await, "j1"), &[("t1", "newer")]).await;
    let later = lab.anchor.mark(&lane().pk()).unwrap().version();
    assert!(later > EVENTS);
    for rows in [before.as_slice(), &[]] {
        put_back(&lab, rows);
        is_broken(&lab, later, BreakKind::RolledBack).await;
        // A machine that knows nothing cannot tell. The documentation says so.
        assert_eq!(found(&lab, &Arc::new(Anchor::memory())).await, None);
    }
}

#[tokio::test]
async fn a_lane_of_another_history_is_known_by_the_anchor() {
    let (one, lab) = forked().await;
    lab.anchor
        .advance(vec![(lane().pk(), mark(&lab, EVENTS + 3))])
        .await
        .unwrap();
    put_back(&lab, &one);
    is_broken(&lab, EVENTS + 3, BreakKind::RolledBack).await;
}

#[tokio::test]
async fn a_process_notices_that_its_lane_was_put_back_when_it_writes() {
    let lab = attacked().await;
    let before = lab.dump();
    let store = lab.store().await;
    put(&partition(&store, "j1"), &[("t1", "newer")]).await;
    put_back(&lab, &before);
    let draft = Draft::dek(Operation::Decrypt, partition_key(), 1);
    let audit = &store.0.audit;
    let written = audit
        .transact(lane(), &lane().pk(), Vec::new(), vec![draft])
        .await;
    assert_eq!(written.unwrap_err().code(), "audit_chain_broken");
    // And stays with that.
    audit
        .record(lane(), Draft::dek(Operation::Decrypt, partition_key(), 1))
        .unwrap();
    assert_eq!(
        audit.flush(lane()).await.unwrap_err().code(),
        "audit_chain_broken"
    );
    let read = partition(&store, "j1").load().await;
    assert_eq!(read.unwrap_err().code(), "audit_chain_broken");
}

#[tokio::test]
async fn a_store_that_is_looked_into_records_nothing_in_a_broken_lane() {
    let lab = attacked().await;
    lab.delete(&event(&lab, EVENTS));
    let store = inspected(&lab, &lab.anchor, 1).await;
    let fault = partition(&store, "j1").load().await.unwrap_err();
    assert_eq!(fault.code(), "audit_chain_broken");
    assert!(fault.message().contains(&lane().pk()), "{fault}");
}

#[tokio::test]
async fn a_checkpoint_finds_out_a_table_that_was_put_back_with_its_anchor() {
    let lab = attacked().await;
    let before = lab.dump();
    let store = lab.store().await;
    put(&partition(&store, "j1"), &[("t1", "newer")]).await;
    let checkpoint = store.audit_checkpoint().await.unwrap();
    let kept = serde_json::to_string(&checkpoint).unwrap();
    assert!(
        store
            .verify_checkpoint(&checkpoint)
            .await
            .unwrap()
            .is_whole()
    );
    put(&partition(&store, "j1"), &[("t1", "newest")]).await;
    assert!(
        store
            .verify_checkpoint(&checkpoint)
            .await
            .unwrap()
            .is_whole()
    );
    lab.restore(&before);
    let unaware = inspected(&lab, &Arc::new(Anchor::memory()), 1).await;
    assert!(unaware.verify_chain().await.unwrap().is_whole());
    let kept: AuditCheckpoint = serde_json::from_str(&kept).unwrap();
    let (_, broken) = unaware
        .verify_checkpoint(&kept)
        .await
        .unwrap()
        .first_break()
        .unwrap();
    assert_eq!(broken.kind, BreakKind::RolledBack);
}

#[tokio::test]
async fn a_checkpoint_that_was_changed_says_nothing() {
    let lab = attacked().await;
    let store = lab.store().await;
    let good = store.audit_checkpoint().await.unwrap();
    let mut changes = Vec::new();
    for change in [
        |of: &mut AuditCheckpoint| of.lanes[0].seq += 1,
        |of: &mut AuditCheckpoint| drop(of.lanes.pop()),
        |of: &mut AuditCheckpoint| of.lanes.swap(0, 1),
        |of: &mut AuditCheckpoint| of.store.push('0'),
        |of: &mut AuditCheckpoint| of.kek_epoch += 1,
        |of: &mut AuditCheckpoint| of.lanes[1].event_hash.make_ascii_uppercase(),
        |of: &mut AuditCheckpoint| of.mac.clear(),
    ] {
        let mut changed = good.clone();
        change(&mut changed);
        changes.push(changed);
    }
    for changed in changes {
        let fault = store.verify_checkpoint(&changed).await.unwrap_err();
        assert_eq!(fault.code(), "seal_mismatch");
    }
}

#[tokio::test]
async fn a_boundary_ties_the_end_of_one_store_to_the_beginning_of_another() {
    let (old, new) = (attacked().await, Lab::new());
    let (from, to) = (old.store().await, new.store().await);
    to.continue_audit_of(&from).await.unwrap();
    for lane in Lane::all() {
        let last = async |store: &Store| {
            let events = store.audit_events(lane.0, 0).await.unwrap();
            events.into_iter().next_back().unwrap()
        };
        let (end, start) = (last(&from).await, last(&to).await);
        assert_eq!(
            (end.operation, start.operation),
            (Operation::Boundary, Operation::Boundary)
        );
        let hash = hex::encode(lane.genesis(to.id()));
        assert!(
            end.key_id
                .starts_with(&format!("chain#{}#{:02}#0#{hash}#", to.id(), lane.0))
        );
        let names = format!(
            "chain#{}#{:02}#{}#{}#{}",
            from.id(),
            lane.0,
            end.seq,
            hex::encode(end.event_hash),
            hex::encode(end.event_mac)
        );
        assert_eq!(start.key_id, names);
    }
    assert!(from.verify_chain().await.unwrap().is_whole());
    assert!(to.verify_chain().await.unwrap().is_whole());
}

#[tokio::test]
async fn a_walk_over_a_store_whose_record_is_broken_reaches_its_end_and_changes_nothing() {
    let lab = attacked().await;
    lab.delete(&event(&lab, EVENTS));
    let store = inspected(&lab, &lab.anchor, 1).await;
    let report = store.verify(&[], &mut |_| {}).await.unwrap();
    assert!(!report.is_sound());
    assert!(report.audit.first_break().is_some());
    assert_eq!(report.records, 1);
    let partition = partition(&store, "j1");
    let mut batch = crate::Batch::new();
    batch.put(crate::lab::task("t2", "y")).unwrap();
    let fault = partition
        .commit(batch, crate::PartitionVersion::NONE)
        .await
        .unwrap_err();
    assert_eq!(fault.code(), "audit_chain_broken");
    store.close().await.unwrap();
    let refused = lab.open(lab.anchor.clone(), 1).await.err().unwrap();
    assert_eq!(refused.code(), "audit_chain_broken");
}
