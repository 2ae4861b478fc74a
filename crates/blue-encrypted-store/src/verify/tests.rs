//! Whatever is done to the table, a walk names the item.

use dynoxide::AttributeValue;

use super::*;
use crate::lab::{Item, Lab, Task, partition, put, task};
use crate::manifest::CHUNK_ENTRIES;
use crate::{Batch, PartitionVersion};

const PK: &str = "job#j1";

async fn walked(store: &Store) -> VerifyReport {
    let mut told = 0;
    let mut seen = Vec::new();
    let mut progress = |step: Progress<'_>| match step {
        Progress::Partition { name, .. } => seen.push(name.to_owned()),
        Progress::Found(_) => told += 1,
    };
    let report = store.verify(&[], &mut progress).await.unwrap();
    assert_eq!(report.found + report.left, told);
    assert_eq!(report.findings.len() as u64, report.found);
    assert_eq!(report.partitions, seen.len() as u64);
    assert!(report.audit.is_whole());
    assert_eq!(report.is_sound(), report.found == 0);
    report
}

/// What a walk says of partition `job#j1`: items with their problems.
async fn said(lab: &Lab) -> Vec<(String, Problem)> {
    let report = walked(&lab.store().await).await;
    let findings = report.findings.into_iter();
    findings
        .map(|finding| {
            assert_eq!(finding.partition, PK);
            (finding.item.unwrap_or_default(), finding.problem)
        })
        .collect()
}

async fn filled() -> Lab {
    let lab = Lab::new();
    let store = lab.store().await;
    put(&partition(&store, "j1"), &[("t1", "x"), ("t2", "y")]).await;
    put(&partition(&store, "j2"), &[("t1", "x")]).await;
    lab
}

fn item(lab: &Lab, sk: &str) -> Item {
    lab.rows(PK).remove(sk).unwrap()
}

fn forged(mut item: Item) -> Item {
    item.insert(
        "updated_at".to_owned(),
        AttributeValue::S("1970-01-01T00:00:00.000000000Z".to_owned()),
    );
    item
}

#[tokio::test]
async fn a_table_that_nobody_touched_is_sound() {
    let lab = filled().await;
    let report = walked(&lab.store().await).await;
    assert_eq!((report.partitions, report.records, report.found), (2, 3, 0));
    assert!(report.is_sound());
}

#[tokio::test]
async fn a_partition_of_many_chunks_is_looked_through() {
    let lab = Lab::new();
    let store = lab.store().await;
    let mut batch = Batch::new();
    for id in 0..2 * CHUNK_ENTRIES {
        batch.insert(task(format!("t{id:03}"), "x")).unwrap();
    }
    let partition = partition(&store, "j1");
    partition
        .commit(batch, PartitionVersion::NONE)
        .await
        .unwrap();
    assert_eq!(walked(&store).await.records, 2 * CHUNK_ENTRIES as u64);
    let chunk = lab.keys(PK, "manifest#").remove(0);
    lab.delete(&item(&lab, &chunk));
    assert_eq!(said(&lab).await, [(ROOT.to_owned(), Problem::Tampered)]);
}

#[tokio::test]
async fn every_item_that_was_changed_or_deleted_is_named() {
    let lab = filled().await;
    let tasks = lab.keys(PK, "task");
    lab.put(&forged(item(&lab, &tasks[0])));
    lab.delete(&item(&lab, &tasks[1]));
    let named = [
        (tasks[0].clone(), Problem::Tampered),
        (tasks[1].clone(), Problem::Missing),
    ];
    assert_eq!(said(&lab).await, named);
}

#[tokio::test]
async fn an_attribute_of_an_unknown_type_is_named() {
    let lab = filled().await;
    let sk = lab.keys(PK, "task").remove(0);
    let mut odd = item(&lab, &sk);
    odd.insert("status".to_owned(), AttributeValue::L(Vec::new()));
    lab.put(&odd);
    let said = said(&lab).await;
    assert!(said.contains(&(sk.clone(), Problem::Tampered)));
    assert!(said.iter().all(|(item, _)| *item == sk), "{said:?}");
}

#[tokio::test]
async fn a_changed_manifest_and_a_changed_key_are_named() {
    for sk in [ROOT, "dek#0001"] {
        let lab = filled().await;
        lab.put(&forged(item(&lab, sk)));
        let said = said(&lab).await;
        assert_eq!(said[0], (sk.to_owned(), Problem::Tampered), "{said:?}");
    }
}

#[tokio::test]
async fn what_no_manifest_lists_is_left_over_if_this_store_wrote_it_and_else_extra() {
    let lab = filled().await;
    let sk = lab.keys(PK, "task").remove(0);
    let left = item(&lab, &sk);
    let store = lab.store().await;
    let partition = partition(&store, "j1");
    let at = crate::lab::version(&partition).await;
    let mut batch = Batch::new();
    let id = sk.rsplit('#').next().unwrap();
    batch.remove::<Task>(id).unwrap();
    partition.commit(batch, at).await.unwrap();
    lab.put(&left);
    let mut unknown = left.clone();
    unknown.insert("sk".to_owned(), AttributeValue::S("other".to_owned()));
    lab.put(&unknown);
    let report = walked(&lab.store().await).await;
    assert_eq!((report.found, report.left), (1, 1));
    let of = |finding: &Finding| (finding.item.clone(), finding.problem);
    let extra = (Some("other".to_owned()), Problem::Extra);
    assert_eq!(of(&report.findings[0]), extra);
    assert_eq!(of(&report.leftovers[0]), (Some(sk), Problem::Leftover));
}

#[tokio::test]
async fn a_partition_of_another_programs_kind_is_looked_through_if_it_was_committed() {
    let lab = filled().await;
    let store = lab.store().await;
    let visit = store.partition_named("visit#p1").unwrap();
    put(&visit, &[("t1", "x")]).await;
    let mut stranger = lab.rows("visit#p1").remove(ROOT).unwrap();
    let name = AttributeValue::S("visit#p2".to_owned());
    stranger.insert("pk".to_owned(), name);
    lab.put(&stranger);
    for store in [store, lab.stranger().await] {
        let report = walked(&store).await;
        assert_eq!((report.partitions, report.records), (3, 4));
        let found = &report.findings[0];
        assert_eq!((report.found, &*found.partition), (1, "visit#p2"));
    }
}

#[tokio::test]
async fn an_older_version_of_a_record_and_of_a_partition_is_named() {
    let lab = filled().await;
    let sk = lab.keys(PK, "task").remove(0);
    let before = lab.rows(PK);
    put(
        &partition(&lab.store().await, "j1"),
        &[("t1", "newer"), ("t2", "newer")],
    )
    .await;
    let after = lab.rows(PK);
    lab.put(&before[&sk]);
    assert_eq!(said(&lab).await, [(sk.clone(), Problem::Tampered)]);
    for row in before.values() {
        lab.put(row);
    }
    assert_eq!(said(&lab).await, [(String::new(), Problem::RolledBack)]);
    for row in after.values() {
        lab.delete(row);
    }
    assert_eq!(said(&lab).await, [(String::new(), Problem::Missing)]);
}

#[tokio::test]
async fn partitions_that_nobody_writes_and_rows_beside_the_stores_own_are_extra() {
    let lab = filled().await;
    let row = item(&lab, ROOT);
    let mut names = Vec::new();
    for pk in ["alien#1", "job#NOT-AN-ID", "nothing", STORE] {
        let mut moved = row.clone();
        moved.insert("pk".to_owned(), AttributeValue::S(pk.to_owned()));
        lab.put(&moved);
        names.push(pk);
    }
    let store = lab.store().await;
    let mut found: Vec<_> = walked(&store).await.findings;
    assert!(
        found
            .iter()
            .all(|finding| finding.problem == Problem::Extra)
    );
    found.sort_by(|a, b| a.partition.cmp(&b.partition));
    let partitions: Vec<_> = found
        .iter()
        .map(|finding| finding.partition.as_str())
        .collect();
    assert_eq!(partitions, names);
    assert_eq!(found[3].item.as_deref(), Some(ROOT));
    // To whom the kind belongs, it is not.
    let alien = Kind::custom("alien").unwrap();
    let report = store.verify(&[alien], &mut |_| {}).await.unwrap();
    let of_alien = report
        .findings
        .iter()
        .find(|finding| finding.partition == "alien#1");
    assert_eq!(of_alien.unwrap().problem, Problem::Tampered);
}

#[tokio::test]
async fn a_changed_or_missing_row_of_the_store_itself_is_named() {
    let lab = filled().await;
    let store = lab.store().await;
    let own = lab.rows(STORE).remove(META).unwrap();
    let mut changed = own.clone();
    changed.insert("tenant".to_owned(), AttributeValue::S("other".to_owned()));
    lab.put(&changed);
    let of = |report: VerifyReport| {
        report
            .findings
            .into_iter()
            .map(|found| (found.partition, found.problem))
    };
    let found: Vec<_> = of(walked(&store).await).collect();
    assert_eq!(found, [(STORE.to_owned(), Problem::Tampered)]);
    lab.delete(&own);
    let found: Vec<_> = of(walked(&store).await).collect();
    assert_eq!(found, [(STORE.to_owned(), Problem::Missing)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_meanwhile_are_not_taken_for_tampering() {
    let lab = filled().await;
    let store = lab.store().await;
    let writer = partition(&lab.store().await, "j1");
    let writing = tokio::spawn(async move {
        for round in 0..20 {
            put(&writer, &[("t1", &format!("round {round}"))]).await;
        }
    });
    while !writing.is_finished() {
        assert!(walked(&store).await.is_sound());
    }
    writing.await.unwrap();
}

// What the audit tells.

/// What a walk says on a machine that has never seen the table: partitions as a whole, with their problems.
async fn strangers_words(lab: &Lab) -> Vec<(String, Problem)> {
    let report = lab.stranger().await.verify(&[], &mut |_| {}).await.unwrap();
    assert_eq!(report.found, report.findings.len() as u64);
    let whole = report.findings.into_iter();
    let whole = whole.filter(|finding| finding.item.is_none() || finding.partition == STORE);
    whole
        .map(|finding| (finding.partition, finding.problem))
        .collect()
}

#[tokio::test]
async fn a_partition_that_is_put_back_alone_is_named_by_who_has_never_seen_it() {
    let lab = filled().await;
    let before = lab.rows(PK);
    put(&partition(&lab.store().await, "j1"), &[("t3", "z")]).await;
    assert_eq!(strangers_words(&lab).await, []);
    lab.rows(PK).values().for_each(|row| lab.delete(row));
    before.values().for_each(|row| lab.put(row));
    let back = [(PK.to_owned(), Problem::RolledBack)];
    assert_eq!(strangers_words(&lab).await, back);
    before.values().for_each(|row| lab.delete(row));
    let gone = [(PK.to_owned(), Problem::Missing)];
    assert_eq!(strangers_words(&lab).await, gone);
}

#[tokio::test]
async fn an_erased_partition_whose_lane_was_cut_back_to_match_is_told_by_a_checkpoint_alone() {
    let lab = filled().await;
    let before = lab.dump();
    let store = lab.store().await;
    partition(&store, "j1").erase().await.unwrap();
    let checkpoint = store.audit_checkpoint().await.unwrap();
    store.close().await.unwrap();
    lab.restore(&before);
    // Nothing in the table contradicts it, and this machine remembers nothing.
    assert_eq!(strangers_words(&lab).await, []);
    let stranger = lab.stranger().await;
    let report = stranger.verify_checkpoint(&checkpoint).await.unwrap();
    assert!(!report.is_whole(), "{report:?}");
}

#[tokio::test]
async fn an_erased_partition_that_is_put_back_is_named_by_who_has_never_seen_it() {
    let lab = filled().await;
    let before = lab.rows(PK);
    partition(&lab.store().await, "j1").erase().await.unwrap();
    assert_eq!(strangers_words(&lab).await, []);
    before.values().for_each(|row| lab.put(row));
    let back = [(PK.to_owned(), Problem::RolledBack)];
    assert_eq!(strangers_words(&lab).await, back);
}

#[tokio::test]
async fn an_epoch_that_is_put_back_is_named_by_who_has_never_seen_it() {
    let lab = filled().await;
    let first = lab.rows(STORE).remove(META).unwrap();
    let store = lab.store().await;
    store.rotate_kek().await.unwrap();
    let second = lab.rows(STORE).remove(META).unwrap();
    store.retire_keks().await.unwrap();
    assert_eq!(strangers_words(&lab).await, []);
    for row in [first, second] {
        lab.put(&row);
        let back = [(STORE.to_owned(), Problem::RolledBack)];
        assert_eq!(strangers_words(&lab).await, back);
    }
}

#[tokio::test]
async fn rotations_and_commits_are_counted_alike() {
    let lab = filled().await;
    let store = lab.store().await;
    for round in ["a", "b", "c"] {
        partition(&store, "j1").rotate().await.unwrap();
        put(&partition(&store, "j1"), &[("t1", round)]).await;
    }
    assert_eq!(strangers_words(&lab).await, []);
}

#[tokio::test]
async fn commits_that_no_event_tells_of_are_named() {
    let lab = filled().await;
    for lane in 0..8 {
        lab.rows(&format!("audit#{lane:02}"))
            .values()
            .for_each(|row| lab.delete(row));
    }
    let untold = ["job#j1", "job#j2"].map(|name| (name.to_owned(), Problem::Unrecorded));
    assert_eq!(strangers_words(&lab).await, untold);
    // That the audit goes on from another store's excuses nothing: what came from there is committed here.
    let (stranger, before) = (lab.stranger().await, filled().await.store().await);
    stranger.continue_audit_of(&before).await.unwrap();
    stranger.close().await.unwrap();
    assert_eq!(strangers_words(&lab).await, untold);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_while_the_table_is_looked_through_is_no_contradiction() {
    let lab = filled().await;
    let store = lab.store().await;
    let (late, runtime) = (partition(&store, "j2"), tokio::runtime::Handle::current());
    let mut progress = |step: Progress<'_>| {
        if matches!(step, Progress::Partition { name: PK, .. }) {
            tokio::task::block_in_place(|| runtime.block_on(put(&late, &[("t9", "late")])));
        }
    };
    let report = store.verify(&[], &mut progress).await.unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.records, 4);
}
