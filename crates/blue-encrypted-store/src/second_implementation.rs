//! Tables are exchanged with `scripts/store_format.py`, which was written from `docs/store/format.md` alone.

use std::io::{Seek, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tempfile::NamedTempFile;
use worldcompute_fault::Result;

use crate::anchor::Anchor;
use crate::lab::{
    Item, Job, Lab, MemoryKey, Task, job, partition, put, secrets, table, task, text, version,
};
use crate::sources::Sources;
use crate::store::Ground;
use crate::vectors::{Fixed, Vectors};
use crate::{
    Batch, ClearHalf, Entity, Kind, META, PartitionVersion, Snapshot, Store, StoreConfig, StorePath,
};

const PK: &str = "job#j1";

/// The other program, on a machine that has what it needs.
struct Python(PathBuf);

impl Python {
    /// `None`, with the reason printed, where it cannot run.
    fn find() -> Option<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/store_format.py");
        let mut question = Command::new("python3");
        let answer = question.args(["-c", "import cryptography"]).output();
        if !answer.is_ok_and(|answer| answer.status.success()) {
            println!("skipped: there is no python3 with the package cryptography on this machine");
            return None;
        }
        Some(Self(PathBuf::from(script)))
    }

    fn run(&self, arguments: &[&str], input: impl AsRef<[u8]>) -> Output {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(input.as_ref()).unwrap();
        file.rewind().unwrap();
        let mut command = Command::new("python3");
        command.arg(&self.0).args(arguments);
        command.stdin(Stdio::from(file)).output().unwrap()
    }

    /// Runs a command with the lab's master key.
    fn run_with_key(&self, command: &str, input: impl AsRef<[u8]>) -> Output {
        let mut key = NamedTempFile::new().unwrap();
        key.write_all(&[1; 32]).unwrap();
        self.run(&[command, "--key", key.path().to_str().unwrap()], input)
    }

    /// What it makes of a table.
    fn read(&self, table: &[Item]) -> Value {
        let output = self.run_with_key("read", scan(table));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }

    /// The table after one change of the other program.
    fn write(&self, table: &[Item], change: Value) -> Vec<Item> {
        self.change(table, change).0
    }

    /// What it makes of a bundle.
    fn bundle(&self, bytes: &[u8]) -> Value {
        let output = self.run_with_key("bundle", bytes);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }

    /// A bundle that it has exported, in a file, and the table after that.
    fn export(&self, table: &[Item], change: Value) -> (Vec<Item>, NamedTempFile) {
        let (items, answer) = self.change(table, change);
        let bytes = hex::decode(answer["bundle"].as_str().unwrap());
        (items, file_of(&bytes.unwrap()))
    }

    /// The same, and all that it answered.
    fn change(&self, table: &[Item], change: Value) -> (Vec<Item>, Value) {
        let mut request = change;
        request["Items"] = json!(table);
        let output = self.run_with_key("write", request.to_string());
        let answer: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        let items = serde_json::from_value(answer["Items"].clone()).unwrap();
        (items, answer)
    }
}

fn file_of(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// One line, as `aws dynamodb scan` would print it.
fn scan(table: &[Item]) -> String {
    format!("{}\n", json!({ "Items": table }))
}

/// Any record of type task, whatever its fields.
#[derive(Debug)]
struct AnyTask {
    id: String,
    clear: Map<String, Value>,
    sealed: Value,
}

impl ClearHalf for Map<String, Value> {}

impl Entity for AnyTask {
    const TYPE: &'static str = "task";
    type Clear = Map<String, Value>;
    type Sealed = Value;

    fn id(&self) -> String {
        self.id.clone()
    }

    fn split(self) -> (Self::Clear, Value) {
        (self.clear, self.sealed)
    }

    fn join(id: String, clear: Self::Clear, sealed: Value) -> Result<Self> {
        Ok(Self { id, clear, sealed })
    }
}

/// A partition as the other program shows it, but for the status that records are listed under.
fn shown(snapshot: &Snapshot) -> Value {
    let mut records = Vec::new();
    if let Some(job) = snapshot.get::<Job>("").unwrap() {
        let times = (job.created_at(), job.updated_at());
        records.push(json!({
            "type": META, "id": "", "version": job.row.version, "clear": {}, "payload": {"name": job.value().name},
            "created_at": crate::name::time(times.0), "updated_at": crate::name::time(times.1),
        }));
    }
    let mut tasks = snapshot.entities::<AnyTask>().unwrap();
    tasks.sort_by(|a, b| a.id().cmp(b.id()));
    for stored in tasks {
        let times = (stored.created_at(), stored.updated_at());
        let version = stored.row.version;
        let AnyTask { id, clear, sealed } = stored.into_value();
        records.push(json!({
            "type": "task", "id": id, "version": version, "clear": clear, "payload": sealed,
            "created_at": crate::name::time(times.0), "updated_at": crate::name::time(times.1),
        }));
    }
    json!({ "version": snapshot.version().get(), "records": records, "uncommitted": snapshot.uncommitted() })
}

/// What the other program shows of [`PK`], in the same form.
fn read_there(python: &Python, lab: &Lab) -> Value {
    let table = lab.dump();
    let mut there = python.read(&table);
    let events = table
        .iter()
        .filter(|row| text(row, "entity_type") == "audit_event");
    assert_eq!(there["events"], events.count());
    let partition = &mut there["partitions"][PK];
    for record in partition["records"].as_array_mut().unwrap() {
        record.as_object_mut().unwrap().remove("status");
    }
    partition.take()
}

/// Has both read the table, and says how many records both found.
async fn both_read_the_same(python: &Python, lab: &Lab, store: &Store) -> usize {
    let snapshot = partition(store, "j1").load().await.unwrap().unwrap();
    let (here, there) = (shown(&snapshot), read_there(python, lab));
    for name in ["version", "uncommitted"] {
        assert_eq!(here[name], there[name]);
    }
    let records = |partition: &Value| partition["records"].as_array().unwrap().clone();
    let (here, there) = (records(&here), records(&there));
    for (here, there) in here.iter().zip(&there) {
        assert_eq!(here, there);
    }
    assert_eq!(here.len(), there.len());
    here.len()
}

#[test]
fn the_committed_vectors_are_what_the_second_implementation_makes() {
    let Some(python) = Python::find() else { return };
    let output = python.run(&["vectors", "--check"], "");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    println!("scripts/store_format.py: {}", said.trim());
    assert_eq!(
        said.trim(),
        "5 records read; 6405 changed bytes, 0 accepted []\n\
         a bundle: 2634 changed bytes, 2635 cuts, 17 forgeries, [0, 0, 0] accepted"
    );
}

/// The store of the vectors, out of these rows.
async fn vectors_store(items: &[Item]) -> Store {
    let (lab, vectors) = (Lab::new(), Vectors::read());
    table(&lab.engine).ensure().await.unwrap();
    lab.restore(items);
    let config = StoreConfig::new(StorePath::Memory)
        .tenant(vectors.text("tenant"))
        .user(vectors.text("user"));
    let ground = Ground {
        table: table(&lab.engine),
        anchor: Arc::new(Anchor::memory()),
        set_up: false,
    };
    let store = Store::open_on(ground, config, Arc::new(Fixed), Sources::system());
    store.await.unwrap()
}

#[tokio::test]
async fn a_table_that_the_second_implementation_made_is_read() {
    let vectors = Vectors::read();
    let store = vectors_store(&vectors.items()).await;
    assert_eq!(store.id(), vectors.text("store"));
    let partition = store.partition(Kind::JOB, vectors.text("id")).unwrap();
    let snapshot = partition.load().await.unwrap().unwrap();
    assert_eq!((snapshot.version().get(), snapshot.len()), (9, 3));
    assert!(snapshot.uncommitted().is_empty());
    let meta = snapshot.get::<Job>("").unwrap().unwrap();
    assert_eq!(meta.into_value(), job("analysis"));
    let stored = snapshot.get::<AnyTask>("t1").unwrap().unwrap();
    assert_eq!(
        stored.value().sealed,
        json!({"argv": ["a", "b"], "secret": "é"})
    );
    let clear =
        json!({"attempts": 7, "paused": true, "reason": null, "score": 0.85, "status": "open"});
    assert_eq!(Value::Object(stored.into_value().clear), clear);
    let odd = snapshot
        .get::<AnyTask>("01J9ZC3F5V7K8M0N1P2Q3R4S5V")
        .unwrap()
        .unwrap()
        .into_value();
    let want = json!({"\u{fffd}": -12.5, "😀": 1e-7, "z": 9_007_199_254_740_991_u64});
    assert_eq!((odd.sealed, Value::Object(odd.clear)), (want.clone(), want));
    let chains = store.verify_chain().await.unwrap();
    assert!(chains.is_whole() && chains.events() > 0, "{chains:?}");
    println!("vectors of scripts/store_format.py: 9 rows of every kind, 3 records read");
}

/// A lab with a partition of `tasks` tasks and a record about itself.
async fn filled(tasks: usize) -> (Lab, Store) {
    let lab = Lab::new();
    let store = lab.store().await;
    let mut batch = Batch::new();
    batch.insert(job("analysis")).unwrap();
    for number in 0..tasks {
        batch
            .insert(task(
                format!("t{number:03}"),
                format!("secret \"{number}\" é\u{1}"),
            ))
            .unwrap();
    }
    let none = PartitionVersion::NONE;
    partition(&store, "j1").commit(batch, none).await.unwrap();
    (lab, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_implementation_reads_what_this_one_writes() {
    let Some(python) = Python::find() else { return };
    let (lab, store) = filled(200).await;
    assert_eq!(both_read_the_same(&python, &lab, &store).await, 201);
    // Replaced, removed, moved, and with other cleartext only.
    let partition = partition(&store, "j1");
    let snapshot = partition.load().await.unwrap().unwrap();
    let stored = snapshot.get::<Task>("t007").unwrap().unwrap();
    let mut clear = stored.value().clear.clone();
    (clear.status, clear.score) = ("done".to_owned(), -1.5e-7);
    let mut batch = Batch::new();
    batch.update_clear(&stored, clear).unwrap();
    batch.remove::<Task>("t008").unwrap();
    for number in 10..160 {
        batch.put(task(format!("t{number:03}"), "anew")).unwrap();
    }
    partition.commit(batch, snapshot.version()).await.unwrap();
    assert_eq!(both_read_the_same(&python, &lab, &store).await, 200);
    println!("scripts/store_format.py: 200 records of this crate read, as they are here");
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_both_implementations_follow_each_other() {
    let Some(python) = Python::find() else { return };
    let (lab, store) = filled(70).await;
    // What it holds back of its audit must not be written while the table is exchanged.
    store.close().await.unwrap();
    for round in 1..=3 {
        let records: Vec<_> = (0..50)
            .map(|number| {
                json!({
                    "type": "task", "id": format!("p{:03}", round * 25 + number), "status": "open",
                    "clear": {"status": "open", "attempts": number, "score": 1e21, "paused": false, "reason": "none"},
                    "payload": format!("of round {round}"),
                })
            })
            .collect();
        let at = format!("2030-01-0{round}T00:00:00.999999990Z");
        let change = json!({
            "partition": PK, "at": at, "put": records, "remove": [["task", format!("t00{round}")]],
        });
        lab.restore(&python.write(&lab.dump(), change));
        let stranger = lab.stranger().await;
        both_read_the_same(&python, &lab, &stranger).await;
        put(
            &partition(&stranger, "j1"),
            &[("t000", "of this one"), (&format!("n{round}"), "x")],
        )
        .await;
        both_read_the_same(&python, &lab, &stranger).await;
        assert!(stranger.verify_chain().await.unwrap().is_whole());
        stranger.close().await.unwrap();
    }
    let here = partition(&lab.stranger().await, "j1");
    assert_eq!(version(&here).await.get(), 7);
    // 70 - 3 removed, 100 different ones from there, 3 from here.
    assert_eq!(secrets(&here).await.len(), 170);
}

#[tokio::test]
async fn a_store_that_the_second_implementation_set_up_is_opened_and_used() {
    let Some(python) = Python::find() else { return };
    let lab = Lab::new();
    table(&lab.engine).ensure().await.unwrap();
    let record = json!({
        "type": "task", "id": "t1", "status": null, "payload": "from there",
        "clear": {"status": "hidden", "attempts": 0, "score": 0.0, "paused": false, "reason": null},
    });
    let change = json!({"partition": PK, "at": "2026-01-02T03:04:05.000000006Z", "put": [record]});
    lab.restore(&python.write(&[], change));
    let store = lab.store().await;
    assert_eq!(text(&lab.rows("store")["meta"], "store_id"), store.id());
    put(&partition(&store, "j1"), &[("t2", "from here")]).await;
    let found = secrets(&partition(&store, "j1")).await;
    let want = [("t1", "from there"), ("t2", "from here")];
    assert_eq!(
        found,
        want.map(|(id, secret)| (id.to_owned(), secret.to_owned()))
    );
}

#[tokio::test]
async fn epochs_data_keys_and_a_tombstone_of_the_second_implementation_are_read() {
    let later = Vectors::read().later();
    let store = vectors_store(&later.items()).await;
    let report = store.verify(&[], &mut |_| {}).await.unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.records, 2);
    let snapshot = partition(&store, "j1").load().await.unwrap().unwrap();
    assert_eq!(snapshot.version().get(), 3);
    for version in 1..=2 {
        let stored = snapshot
            .get::<AnyTask>(&format!("t{version}"))
            .unwrap()
            .unwrap();
        assert_eq!(stored.value().sealed, json!(format!("under key {version}")));
        assert_eq!(stored.row.key_version, version);
    }
    let erased = partition(&store, "j2").load().await.unwrap_err();
    assert_eq!(erased.code(), "partition_erased");
    let certificate = serde_json::from_value(later.value("certificate")).unwrap();
    store.check_certificate(&certificate).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_keys_of_both_implementations_follow_each_other() {
    let Some(python) = Python::find() else { return };
    let (lab, store) = filled(70).await;
    put(&partition(&store, "j2"), &[("t1", "x")]).await;
    store.close().await.unwrap();
    let at = |round: u32| format!("2030-02-0{round}T00:00:00.000000001Z");
    for round in 1..=2 {
        for (doing, minute) in [("begin_epoch", 0), ("rotate", 1), ("end_epochs", 2)] {
            let at = at(round).replace(":00:00.", &format!(":{minute:02}:00."));
            let change = json!({"partition": PK, "at": at, "do": doing});
            lab.restore(&python.write(&lab.dump(), change));
            let stranger = lab.stranger().await;
            let id = format!("{doing}{round}").replace('_', "-");
            put(
                &partition(&stranger, "j1"),
                &[("t000", "of this one"), (&id, "x")],
            )
            .await;
            both_read_the_same(&python, &lab, &stranger).await;
            match doing {
                "begin_epoch" => drop(stranger.rotate_kek().await.unwrap()),
                "rotate" => drop(partition(&stranger, "j1").rotate().await.unwrap()),
                _ => assert_eq!(stranger.retire_keks().await.unwrap(), 0),
            }
            both_read_the_same(&python, &lab, &stranger).await;
            assert!(stranger.verify(&[], &mut |_| {}).await.unwrap().is_sound());
            stranger.close().await.unwrap();
        }
    }
    let (table, answer) = python.change(
        &lab.dump(),
        json!({"partition": PK, "at": at(3), "do": "erase"}),
    );
    lab.restore(&table);
    let stranger = lab.stranger().await;
    let gone = partition(&stranger, "j1").load().await.unwrap_err();
    assert_eq!(gone.code(), "partition_erased");
    let certificate = serde_json::from_value(answer["certificate"].clone()).unwrap();
    stranger.check_certificate(&certificate).await.unwrap();
    partition(&stranger, "j2").erase().await.unwrap();
    stranger.close().await.unwrap();
    let there = python.read(&lab.dump())["partitions"].clone();
    assert_eq!(there[PK], json!({"erased": at(3)}));
    assert!(there["job#j2"]["erased"].is_string(), "{there}");
    assert!(
        lab.stranger()
            .await
            .verify(&[], &mut |_| {})
            .await
            .unwrap()
            .is_sound()
    );
}

/// What both show of a bundle's partition.
fn of_a_bundle(mut there: Value) -> Value {
    for record in there["records"].as_array_mut().unwrap() {
        record.as_object_mut().unwrap().remove("status");
    }
    json!({ "version": there["version"], "records": there["records"], "uncommitted": there["uncommitted"] })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_of_this_implementation_is_read_by_the_second() {
    let Some(python) = Python::find() else { return };
    let (_lab, store) = filled(200).await;
    let here = partition(&store, "j1");
    here.rotate().await.unwrap();
    put(&here, &[("t000", "under the second key")]).await;
    store.rotate_kek().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bundle");
    let info = here.export(&path).await.unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let there = python.bundle(&bytes);
    assert_eq!(there["store"], info.store);
    assert_eq!(
        (&there["partition"], &there["created_at"]),
        (&json!(PK), &json!(info.created_at))
    );
    let snapshot = here.load().await.unwrap().unwrap();
    assert_eq!(of_a_bundle(there), shown(&snapshot));
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    assert!(python.bundle(&bytes)["refused"].is_string());
    println!("scripts/store_format.py: a bundle of 201 records read");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_of_the_second_implementation_is_imported_here_and_elsewhere() {
    let Some(python) = Python::find() else { return };
    let (lab, store) = filled(70).await;
    store.close().await.unwrap();
    let change = json!({"partition": PK, "at": "2030-01-01T00:00:00.000000001Z", "do": "export"});
    let (table, bundle) = python.export(&lab.dump(), change);
    lab.restore(&table);
    let before = shown(
        &partition(&lab.stranger().await, "j1")
            .load()
            .await
            .unwrap()
            .unwrap(),
    );
    lab.rows(PK).values().for_each(|row| lab.delete(row));
    let here = lab.stranger().await;
    let imported = here.import(bundle.path(), None).await.unwrap();
    assert_eq!((imported.written, imported.records), (true, 71));
    let after = partition(&here, "j1").load().await.unwrap().unwrap();
    assert_eq!(shown(&after), before);
    assert!(here.verify(&[], &mut |_| {}).await.unwrap().is_sound());

    let (elsewhere, source) = (Lab::new(), Arc::new(MemoryKey([1; 32])));
    let there = elsewhere.store().await;
    let imported = there.import(bundle.path(), Some(source)).await.unwrap();
    assert_eq!((imported.records, imported.version_now), (71, 1));
    let found = secrets(&partition(&there, "j1")).await;
    assert_eq!(found, secrets(&partition(&here, "j1")).await);
}

#[tokio::test]
async fn the_bundle_of_the_vectors_is_imported() {
    let later = Vectors::read().later();
    let bytes = hex::decode(later.text("bundle")).unwrap();
    assert_eq!(
        hex::encode(crate::crypto::sha256(&bytes)),
        later.text("bundle_sha256")
    );
    let mut items = later.items();
    items.retain(|item| text(item, "pk") != PK);
    let store = vectors_store(&items).await;
    let imported = store.import(file_of(&bytes).path(), None).await.unwrap();
    assert_eq!((imported.records, imported.version_now), (2, 3));
    let snapshot = partition(&store, "j1").load().await.unwrap().unwrap();
    let stored = snapshot.get::<AnyTask>("t1").unwrap().unwrap();
    assert_eq!(stored.value().sealed, json!("under key 1"));
}
