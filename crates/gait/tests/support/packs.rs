//! Runpacks made by hand, and packs taken apart and put together again.

#![allow(
    dead_code,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "every test binary uses a part of it"
)]

use std::collections::BTreeMap;
use std::path::Path;

use gait::archive::{self, Archive};
use serde_json::{Value, json};
use worldcompute_proof::{Sha256, canonical_json};

/// The entries of an archive.
pub type Entries = BTreeMap<String, Vec<u8>>;

/// How many records a runpack has.
#[derive(Clone, Copy)]
pub struct Size {
    pub intents: usize,
    pub receipts: usize,
}

/// Writes a sound runpack of that size.
pub fn runpack(path: &Path, size: Size) {
    let intents: Vec<u8> = lines(size.intents, |number| {
        json!({
            "args_digest": "1".repeat(64), "created_at": "2026-02-14T00:00:00Z", "intent_id": id("intent", number),
            "producer_version": "0.0.0-dev", "run_id": "run_made", "schema_id": "gait.runpack.intent",
            "schema_version": "1.0.0", "tool_name": "tool.write",
        })
    });
    let results = lines(size.intents, |number| {
        json!({
            "created_at": "2026-02-14T00:00:00Z", "intent_id": id("intent", number), "producer_version": "0.0.0-dev",
            "result_digest": "2".repeat(64), "run_id": "run_made", "schema_id": "gait.runpack.result",
            "schema_version": "1.0.0", "status": if number % 2 == 0 { "ok" } else { "error" },
        })
    });
    let receipts: Vec<Value> = (0..size.receipts).map(receipt).collect();
    let entries = BTreeMap::from([
        ("intents.jsonl".to_owned(), intents),
        ("refs.json".to_owned(), refs(&receipts)),
        ("results.jsonl".to_owned(), results),
        ("run.json".to_owned(), run()),
    ]);
    sealed_runpack(path, entries);
}

/// Writes a runpack of these entries, with a manifest that fits them.
pub fn sealed_runpack(path: &Path, mut entries: Entries) {
    let files: Vec<Value> = entries
        .iter()
        .map(|(name, bytes)| json!({"path": name, "sha256": Sha256::of(bytes)}))
        .collect();
    let mut manifest = json!({
        "capture_mode": "reference", "created_at": "2026-02-14T00:00:00Z", "files": files, "manifest_digest": "",
        "producer_version": "0.0.0-dev", "run_id": "run_made", "schema_id": "gait.runpack.manifest",
        "schema_version": "1.0.0",
    });
    let digest = Sha256::of(canonical_json(&manifest).unwrap()).to_string();
    manifest["manifest_digest"] = digest.into();
    entries.insert(
        "manifest.json".to_owned(),
        canonical_json(&manifest).unwrap(),
    );
    write(path, &entries);
}

pub fn receipt(number: usize) -> Value {
    json!({
        "content_digest": "4".repeat(64), "immutability": "unknown", "query_digest": "3".repeat(64),
        "redaction_mode": "metadata", "ref_id": id("ref", number), "retrieved_at": "2026-02-14T00:00:00Z",
        "source_locator": "https://example.com", "source_type": "http",
    })
}

pub fn refs(receipts: &[Value]) -> Vec<u8> {
    canonical_json(&json!({
        "created_at": "2026-02-14T00:00:00Z", "producer_version": "0.0.0-dev", "receipts": receipts,
        "run_id": "run_made", "schema_id": "gait.runpack.refs", "schema_version": "1.0.0",
    }))
    .unwrap()
}

pub fn run() -> Vec<u8> {
    canonical_json(&json!({
        "created_at": "2026-02-14T00:00:00Z", "env": {"arch": "amd64", "os": "linux", "runtime": "go"},
        "producer_version": "0.0.0-dev", "run_id": "run_made", "schema_id": "gait.runpack.run",
        "schema_version": "1.0.0", "timeline": [],
    }))
    .unwrap()
}

/// The entries of the archive at `path`.
pub fn read(path: &Path) -> Entries {
    let archive = Archive::open(path).unwrap();
    let names: Vec<String> = archive
        .entries()
        .iter()
        .map(|entry| entry.name().to_owned())
        .collect();
    names
        .into_iter()
        .map(|name| {
            let bytes = archive.bytes(&name, 200 << 20).unwrap();
            (name, bytes)
        })
        .collect()
}

/// Writes an archive of these entries.
pub fn write(path: &Path, entries: &Entries) {
    archive::write(path, |writer| {
        entries.iter().try_for_each(|(name, bytes)| {
            writer.entry(name, |out| {
                out.write_all(bytes)
                    .map_err(|error| archive::fault_of("write", error))
            })
        })
    })
    .unwrap();
}

/// What somebody does who changes a pack and covers the traces: contents, digests and id of the manifest fit again;
/// only the signatures do not.
pub fn repack(path: &Path, change: impl FnOnce(&mut Entries)) {
    let mut entries = read(path);
    let mut manifest: Value =
        serde_json::from_slice(&entries.remove("pack_manifest.json").unwrap()).unwrap();
    change(&mut entries);
    for entry in manifest["contents"].as_array_mut().unwrap() {
        if let Some(bytes) = entries.get(entry["path"].as_str().unwrap()) {
            entry["sha256"] = Sha256::of(bytes).to_string().into();
        }
    }
    with_manifest(path, entries, manifest);
}

/// The pack of these entries under this manifest, its id made to fit.
pub fn with_manifest(path: &Path, mut entries: Entries, mut manifest: Value) {
    let mut unnamed = manifest.clone();
    unnamed["pack_id"] = "".into();
    unnamed.as_object_mut().unwrap().remove("signatures");
    manifest["pack_id"] = Sha256::of(canonical_json(&unnamed).unwrap())
        .to_string()
        .into();
    entries.insert(
        "pack_manifest.json".to_owned(),
        canonical_json(&manifest).unwrap(),
    );
    write(path, &entries);
}

fn id(kind: &str, number: usize) -> String {
    format!("{kind}_{number:06}")
}

fn lines(count: usize, line: impl Fn(usize) -> Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..count {
        bytes.extend(canonical_json(&line(number)).unwrap());
        bytes.push(b'\n');
    }
    bytes
}
