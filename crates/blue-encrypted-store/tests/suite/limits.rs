//! What a record and a batch may be, at the limit and past it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::common::{Note, key_path, note};
use blue_encrypted_store::{
    Batch, ClearHalf, Entity, Id, Kind, LocalFileKeyProvider, MAX_BATCH_RECORDS, MAX_CLEAR_FIELDS,
    MAX_ID_BYTES, MAX_ITEM_BYTES, MAX_NAME_BYTES, PartitionVersion, Store, StoreConfig, StorePath,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use worldcompute_fault::{Category, Result};

/// A record of whatever fields.
struct Free {
    clear: Value,
    sealed: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct AnyClear(Value);

impl ClearHalf for AnyClear {}

impl Entity for Free {
    const TYPE: &'static str = "free";
    type Clear = AnyClear;
    type Sealed = Value;

    fn id(&self) -> String {
        "f1".to_owned()
    }

    fn split(self) -> (AnyClear, Value) {
        (AnyClear(self.clear), self.sealed)
    }

    fn join(_id: String, AnyClear(clear): AnyClear, sealed: Value) -> Result<Self> {
        Ok(Self { clear, sealed })
    }

    fn listed_as(AnyClear(clear): &AnyClear) -> Option<String> {
        Some(clear.get("status")?.as_str()?.to_owned())
    }
}

fn refusal(clear: Value, sealed: Value) -> (String, String) {
    let fault = insert(clear, sealed).unwrap_err();
    assert_eq!(fault.category(), Category::InvalidInput);
    (fault.code().to_owned(), fault.message().to_owned())
}

fn insert(clear: Value, sealed: Value) -> Result<()> {
    Batch::new().insert(Free { clear, sealed }).map(drop)
}

/// The most bytes that are accepted.
fn largest(insert: impl Fn(usize) -> Result<()>) -> usize {
    let (mut largest, mut too_large) = (0, MAX_ITEM_BYTES);
    while largest + 1 < too_large {
        let middle = usize::midpoint(largest, too_large);
        match insert(middle) {
            Ok(()) => largest = middle,
            Err(_) => too_large = middle,
        }
    }
    largest
}

async fn store() -> Store {
    let dir = tempfile::tempdir().unwrap();
    let keys = LocalFileKeyProvider::new(key_path(dir.path()));
    Store::open(StoreConfig::new(StorePath::Memory), Arc::new(keys))
        .await
        .unwrap()
}

#[tokio::test]
async fn the_largest_record_is_stored_and_a_larger_one_is_refused_by_the_name_of_its_largest_field()
{
    let text = |bytes: usize| "x".repeat(bytes);
    let largest = largest(|bytes| insert(json!({}), json!({"a": "b", "stdout": text(bytes)})));
    assert!(largest > MAX_ITEM_BYTES - 4096, "{largest}");
    let free = Free {
        clear: json!({"status": "s"}),
        sealed: json!({"stdout": text(largest - 100)}),
    };
    let mut batch = Batch::new();
    batch.insert(free).unwrap();
    let partition = store().await.partition(Kind::JOB, "j1").unwrap();
    partition
        .commit(batch, PartitionVersion::NONE)
        .await
        .unwrap();
    let snapshot = partition.load().await.unwrap().unwrap();
    let stored = snapshot.get::<Free>("f1").unwrap().unwrap();
    assert_eq!(
        stored.value().sealed["stdout"].as_str().unwrap().len(),
        largest - 100
    );

    let (code, message) = refusal(
        json!({"note": "n"}),
        json!({"a": "b", "stdout": text(MAX_ITEM_BYTES)}),
    );
    assert!(
        code == "item_too_large" && message.contains("stdout (4"),
        "{message}"
    );
    assert!(message.len() < 300, "the payload is not quoted");
    let (code, message) = refusal(json!({"note": text(MAX_ITEM_BYTES)}), json!({"a": "b"}));
    assert!(
        code == "item_too_large" && message.contains("note (4"),
        "{message}"
    );
    let (code, _) = refusal(json!({"note": text(300_000)}), json!({"a": text(200_000)}));
    assert_eq!(code, "item_too_large");
    let (code, message) = refusal(json!({}), json!(text(MAX_ITEM_BYTES)));
    assert!(
        code == "item_too_large" && message.contains("the whole sealed half"),
        "{message}"
    );
}

#[tokio::test]
async fn cleartext_that_grows_beside_a_large_payload_is_refused() {
    let store = store().await;
    let partition = store.partition(Kind::JOB, "j1").unwrap();
    let mut batch = Batch::new();
    let free = Free {
        clear: json!({"status": "s"}),
        sealed: json!("x".repeat(400_000)),
    };
    batch.insert(free).unwrap();
    partition
        .commit(batch, PartitionVersion::NONE)
        .await
        .unwrap();
    let snapshot = partition.load().await.unwrap().unwrap();
    let stored = snapshot.get::<Free>("f1").unwrap().unwrap();
    let clear = json!({"status": "y".repeat(200), "note": "n".repeat(10_000)});
    let clear = AnyClear(clear);
    let fault = Batch::new().update_clear(&stored, clear).err().unwrap();
    assert_eq!(fault.code(), "item_too_large");
}

/// A record of the longest type.
struct Longest(String);

impl Entity for Longest {
    const TYPE: &'static str = concat!(
        "tttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt",
        "tttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt"
    );
    type Clear = ();
    type Sealed = String;

    fn id(&self) -> String {
        "i".repeat(MAX_ID_BYTES)
    }

    fn split(self) -> (Self::Clear, String) {
        ((), self.0)
    }

    fn join(_id: String, (): (), text: String) -> Result<Self> {
        Ok(Self(text))
    }

    fn listed_as((): &()) -> Option<String> {
        Some("s".repeat(MAX_NAME_BYTES))
    }
}

#[tokio::test]
async fn the_largest_record_under_the_longest_names_fits_into_the_table() {
    let longest = |bytes| Longest("x".repeat(bytes));
    let largest = largest(|bytes| Batch::new().insert(longest(bytes)).map(drop));
    let mut batch = Batch::new();
    batch.insert(longest(largest)).unwrap();
    let kind = Kind::custom(Longest::TYPE).unwrap();
    let store = store().await;
    let partition = store.partition(kind, &"p".repeat(MAX_ID_BYTES)).unwrap();
    partition
        .commit(batch, PartitionVersion::NONE)
        .await
        .unwrap();
    let snapshot = partition.load().await.unwrap().unwrap();
    let stored = snapshot.entities::<Longest>().unwrap();
    assert_eq!(stored[0].value().0.len(), largest);
}

#[test]
fn cleartext_is_flat_named_and_bounded() {
    let fields = |count: usize| {
        let fields: BTreeMap<_, _> = (0..count).map(|field| (format!("f{field}"), 1)).collect();
        json!(fields)
    };
    let named = |name: String| Value::Object([(name, json!(1))].into_iter().collect());
    for good in [
        json!(null),
        json!({}),
        json!({"a": null, "b": true, "c": "", "d": -1.5, "e": 9_007_199_254_740_991_u64}),
        fields(MAX_CLEAR_FIELDS),
        named("n".repeat(MAX_NAME_BYTES)),
        json!({"status": "s".repeat(MAX_NAME_BYTES)}),
    ] {
        insert(good.clone(), json!(null)).unwrap_or_else(|fault| panic!("{good}: {fault}"));
    }
    for bad in [
        json!("text"),
        json!([1]),
        json!({"a": [1]}),
        json!({"a": {"b": 1}}),
        fields(MAX_CLEAR_FIELDS + 1),
        named("n".repeat(MAX_NAME_BYTES + 1)),
        named(String::new()),
        json!({"status": ""}),
        json!({"status": "s".repeat(MAX_NAME_BYTES + 1)}),
        json!({"a": 1e126}),
        json!({"a": 1e-131}),
    ] {
        assert_eq!(
            refusal(bad.clone(), json!(null)).0,
            "invalid_record",
            "{bad}"
        );
    }
    for reserved in [
        "pk",
        "sk",
        "seal",
        "ver",
        "env",
        "commit",
        "key_id",
        "gsi1pk",
        "gsi9sk",
        "updated_at",
    ] {
        assert_eq!(
            refusal(named(reserved.to_owned()), json!(null)).0,
            "invalid_record",
            "{reserved}"
        );
    }
}

#[test]
fn numbers_that_json_would_round_are_refused_in_either_half() {
    let large = json!({"n": 9_007_199_254_740_993_u64});
    assert_eq!(refusal(large.clone(), json!(null)).0, "inexact_number");
    assert_eq!(refusal(json!({}), large).0, "inexact_number");
}

#[test]
fn a_batch_holds_so_many_changes_and_no_more() {
    let mut batch = Batch::new();
    for id in 0..MAX_BATCH_RECORDS {
        batch.remove::<Note>(&format!("n{id}")).unwrap();
    }
    assert_eq!(batch.len(), MAX_BATCH_RECORDS);
    let fault = batch.insert(note("one-more", "x")).err().unwrap();
    assert_eq!(fault.code(), "batch_too_large");
}

#[tokio::test]
async fn ids_that_would_not_be_canonical_are_refused_everywhere() {
    let store = store().await;
    for bad in ["", "A", "a#b", "a/b", "..%2f", "é", "a b"] {
        assert_eq!(
            store.partition(Kind::JOB, bad).err().unwrap().code(),
            "invalid_id",
            "{bad}"
        );
        // What goes into a batch has an id already.
        assert_eq!(Id::parse(bad).err().unwrap().code(), "invalid_id", "{bad}");
        let fault = Batch::new().remove::<Note>(bad).err().unwrap();
        assert_eq!(fault.code(), "invalid_id", "{bad}");
    }
    assert_eq!(Kind::custom("Job").err().unwrap().code(), "invalid_id");
    assert!(Kind::custom("dialogue").is_ok());
}
