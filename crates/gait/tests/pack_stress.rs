//! Large and hostile packs: done in constant memory, or refused.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

#[path = "support/packs.rs"]
mod packs;
mod support;

use std::io::Read;

use gait::archive;
use packs::{Entries, Size, read, runpack};
use serde_json::json;
use support::Gait;

/// KiB that the process may allocate.
const MEMORY: u32 = 16 << 10;

#[test]
fn the_limit_on_memory_is_felt() {
    let gait = Gait::new().env("SEAL", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
    let file = std::fs::File::create(gait.path().join("large")).unwrap();
    file.set_len(32 << 20).unwrap();
    // Sealing holds the whole file, so it cannot succeed here.
    let args = ["guard", "encrypt", "large", "--key-env", "SEAL"];
    assert_ne!(gait.within(MEMORY, &args).code, 0);
    assert!(!gait.path().join("large.gaitenc").exists());
}

#[test]
fn a_hundred_thousand_records_are_packed_and_verified_in_constant_memory() {
    let gait = Gait::new();
    let size = Size {
        intents: 100_000,
        receipts: 100_000,
    };
    runpack(&gait.path().join("run.zip"), size);
    for args in [
        &[
            "pack", "build", "--from", "run.zip", "--out", "p.zip", "--json",
        ][..],
        &["pack", "verify", "p.zip", "--json"],
        &[
            "guard", "pack", "--run", "run.zip", "--out", "g.zip", "--json",
        ],
        &["guard", "verify", "g.zip", "--json"],
    ] {
        let run = gait.within(MEMORY, args);
        assert_eq!(
            (run.code, &run.json()["ok"]),
            (0, &true.into()),
            "{args:?}: {} {}",
            run.stdout,
            run.stderr
        );
    }
    let told = gait.within(MEMORY, &["pack", "inspect", "p.zip", "--json"]);
    let told = &told.json()["inspect"]["run_lineage"];
    assert_eq!(
        (
            told["receipt_count"].as_u64(),
            told["timeline_events"].as_u64()
        ),
        (Some(100_000), Some(0))
    );
    let results = told["intent_results"].as_array().unwrap();
    assert_eq!(results.len(), 100_000);
    assert_eq!(
        results[99_999],
        json!({"intent_id": "intent_099999", "status": "error", "tool_name": "tool.write"})
    );
    let summary = &read(&gait.path().join("g.zip"))["runpack_summary.json"];
    assert!(String::from_utf8_lossy(summary).contains("\"intent_count\":100000"));
}

#[test]
fn an_entry_of_a_hundred_mebibytes_is_packed_in_constant_memory() {
    let gait = Gait::new();
    runpack(
        &gait.path().join("small.zip"),
        Size {
            intents: 1,
            receipts: 0,
        },
    );
    let mut entries = read(&gait.path().join("small.zip"));
    entries.remove("manifest.json");
    let line = entries.remove("intents.jsonl").unwrap();
    let mut intents = line.repeat((100 << 20) / line.len());
    intents.resize(100 << 20, b' ');
    entries.insert("intents.jsonl".to_owned(), intents);
    packs::sealed_runpack(&gait.path().join("run.zip"), entries);
    for args in [
        &[
            "pack", "build", "--from", "run.zip", "--out", "p.zip", "--json",
        ][..],
        &["pack", "verify", "p.zip", "--json"],
        &[
            "guard", "pack", "--run", "run.zip", "--out", "g.zip", "--json",
        ],
        &["verify", "./run.zip", "--json"],
    ] {
        let run = gait.within(MEMORY, args);
        assert_eq!(run.code, 0, "{args:?}: {}{}", run.stdout, run.stderr);
    }
}

#[test]
fn a_bomb_inside_of_a_pack_is_refused_in_constant_memory() {
    let gait = Gait::new();
    runpack(
        &gait.path().join("run.zip"),
        Size {
            intents: 1,
            receipts: 0,
        },
    );
    assert_eq!(
        gait.json(&["pack", "build", "--from", "run.zip", "--out", "p.zip"])
            .0,
        0
    );
    // Three entries of 90 MiB of zeros: sound, and more than an archive this small may inflate to.
    archive_of_zeros(&gait.path().join("bomb.zip"));
    let bomb = std::fs::read(gait.path().join("bomb.zip")).unwrap();
    packs::repack(&gait.path().join("p.zip"), |entries| {
        drop(entries.insert("source/runpack.zip".to_owned(), bomb))
    });
    for args in [
        &["pack", "verify", "p.zip", "--json"][..],
        &["pack", "verify", "bomb.zip", "--json"],
        &["pack", "inspect", "p.zip", "--json"],
    ] {
        let run = gait.within(MEMORY, args);
        assert_eq!(
            (run.code, &run.json()["error_code"]),
            (2, &"verification_failed".into()),
            "{args:?}: {}",
            run.stdout
        );
    }
}

/// The writer refuses bombs as the reader does, so three archives of one entry each are sewn together by hand.
fn archive_of_zeros(path: &std::path::Path) {
    let (mut data, mut directory) = (Vec::new(), Vec::new());
    for name in ["intents.jsonl", "manifest.json", "run.json"] {
        let part = path.with_extension(name);
        archive::write(&part, |writer| {
            writer.add(name, std::io::repeat(0).take(90 << 20))
        })
        .unwrap();
        let bytes = std::fs::read(&part).unwrap();
        let end = bytes.len() - 22;
        let offset = u32::from_le_bytes(bytes[end + 16..end + 20].try_into().unwrap()) as usize;
        let mut central = bytes[offset..end].to_vec();
        central[42..46].copy_from_slice(&(data.len() as u32).to_le_bytes());
        data.extend(&bytes[..offset]);
        directory.extend(central);
    }
    let mut end = vec![0x50, 0x4b, 5, 6, 0, 0, 0, 0, 3, 0, 3, 0];
    end.extend((directory.len() as u32).to_le_bytes());
    end.extend((data.len() as u32).to_le_bytes());
    end.extend([0, 0]);
    worldcompute_durable::write_atomic(
        path,
        &[data, directory, end].concat(),
        worldcompute_durable::Mode::Private,
    )
    .unwrap();
}

#[test]
fn what_is_nested_ten_thousand_levels_deep_is_refused_wherever_it_stands() {
    let gait = Gait::new();
    let deep = "[".repeat(10_000).into_bytes();
    for name in ["refs.json", "run.json", "intents.jsonl", "results.jsonl"] {
        runpack(
            &gait.path().join("run.zip"),
            Size {
                intents: 1,
                receipts: 1,
            },
        );
        let mut entries: Entries = read(&gait.path().join("run.zip"));
        entries.remove("manifest.json");
        entries.insert(name.to_owned(), deep.clone());
        packs::sealed_runpack(&gait.path().join("run.zip"), entries);
        let built = gait.json(&["pack", "build", "--from", "run.zip", "--out", "p.zip"]);
        if name.ends_with(".json") {
            assert_eq!(built.1["error_code"], "verification_failed", "{name}");
        } else {
            // Lines are counted, not read, until somebody asks what is in them.
            assert_eq!(built.0, 0, "{name}");
            assert_eq!(
                gait.json(&["pack", "inspect", "p.zip"]).1["error_code"],
                "verification_failed",
                "{name}"
            );
        }
    }
}
