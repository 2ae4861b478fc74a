//! Whoever keeps a bundle can change its files, and each change shows by name.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::fs::{CWD, Mode};
use worldcompute_proof::Cid;
use worldcompute_scheduler::evidence::{self, MAX_OBJECT_BYTES, Pins};

use crate::job::{Bundle, Job, expect, receipt_name};

/// What counts as a small file, in bytes.
const SMALL: usize = 8 << 10;

#[test]
fn a_changed_byte_of_manifest_or_index_is_named() {
    change_bytes(|name| !name.contains('/'), 1);
}

#[test]
fn a_changed_byte_of_a_receipt_is_named() {
    change_bytes(|name| name == receipt_name(0), 1);
    change_bytes(|name| name.starts_with("receipts/"), 16);
}

#[test]
fn a_changed_byte_of_a_decision_is_named() {
    let cid = Job::new().receipts[0].receipt().decision.trace_cid;
    change_bytes(|name| name == format!("decisions/{cid}.json"), 1);
    change_bytes(|name| name.starts_with("decisions/"), 16);
}

#[test]
fn a_changed_byte_of_an_object_is_named() {
    change_bytes(|name| name.starts_with("objects/"), 1);
}

/// Changes these files at every byte that is a multiple of `step`, large ones at one that chance picks.
fn change_bytes(of: impl Fn(&str) -> bool, step: usize) {
    let bundle = Bundle::new();
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    for name in bundle.names().into_iter().filter(|name| of(name)) {
        let good = bundle.read(&name);
        let positions = if good.len() <= SMALL {
            0..good.len()
        } else {
            one_position(seed, good.len())
        };
        for position in positions.step_by(step) {
            let mut bent = good.clone();
            bent[position] ^= 1 << (position % 8);
            bundle.put(&name, &bent);
            let fault = bundle.verify().expect_err(&name);
            let named = fault.message().starts_with(&format!("{name}: "));
            assert!(named, "byte {position} of {name}, seed {seed}: {fault}");
        }
        bundle.put(&name, &good);
    }
    bundle.verify().unwrap();
}

fn one_position(seed: u64, length: usize) -> std::ops::Range<usize> {
    let hash = worldcompute_proof::Sha256::of(seed.to_be_bytes());
    let random = u64::from_be_bytes(hash.as_bytes()[..8].try_into().unwrap());
    let position = usize::try_from(random % length as u64).unwrap();
    position..position + 1
}

#[test]
fn a_file_that_is_cut_or_longer_is_named() {
    let bundle = Bundle::new();
    for name in bundle.names() {
        let good = bundle.read(&name);
        for bent in [
            [good.as_slice(), b"\n"].concat(),
            good[..good.len() / 2].to_vec(),
            Vec::new(),
        ] {
            if bent != good {
                bundle.put(&name, &bent);
                let fault = bundle.verify().expect_err(&name);
                assert!(fault.message().starts_with(&format!("{name}: ")), "{fault}");
            }
        }
        bundle.put(&name, &good);
    }
}

#[test]
fn a_deleted_file_is_named() {
    let bundle = Bundle::new();
    for name in bundle.names() {
        let good = bundle.read(&name);
        bundle.remove(&name);
        bundle.fails("evidence_missing", &name);
        bundle.put(&name, &good);
    }
    bundle.verify().unwrap();
}

#[test]
fn a_renamed_file_is_named() {
    let bundle = Bundle::new();
    for name in bundle.names() {
        let good = bundle.read(&name);
        let renamed = match name.split_once('/') {
            Some(("receipts", _)) => "receipts/00007.json".to_owned(),
            Some(("decisions", _)) => format!("decisions/{}.json", Cid::raw("x")),
            Some(_) => format!("objects/{}", Cid::raw("x")),
            None => format!("{name}.bak"),
        };
        bundle.remove(&name);
        bundle.put(&renamed, &good);
        let fault = bundle.verify().expect_err(&name);
        let named = [&name, &renamed]
            .iter()
            .any(|part| fault.message().starts_with(&format!("{part}: ")));
        assert!(named, "{name} as {renamed}: {fault}");
        bundle.remove(&renamed);
        bundle.put(&name, &good);
    }
}

#[test]
fn an_added_file_is_named() {
    let bundle = Bundle::new();
    let cid = Cid::raw("x");
    let sound = [
        "receipts/00003.json".to_owned(),
        format!("decisions/{cid}.json"),
        format!("objects/{cid}"),
    ];
    let strange = [
        "notes.txt",
        ".hidden",
        "receipts/notes.txt",
        "objects/.hidden",
        "receipts/3.json",
        "index.json~",
    ]
    .map(str::to_owned);
    for name in sound.iter().chain(&strange) {
        bundle.put(name, b"x");
        bundle.fails("evidence_unexpected", name);
        bundle.remove(name);
    }
    fs::create_dir(bundle.path("more")).unwrap();
    bundle.fails("evidence_unexpected", "more");
    fs::remove_dir(bundle.path("more")).unwrap();
    fs::create_dir(bundle.path("objects/more")).unwrap();
    bundle.fails("evidence_unexpected", "objects/more");
}

#[test]
fn swapped_files_are_named() {
    let bundle = Bundle::new();
    for folder in ["receipts/", "objects/", "decisions/"] {
        let names: Vec<_> = bundle
            .names()
            .into_iter()
            .filter(|name| name.starts_with(folder))
            .collect();
        for pair in names.windows(2) {
            bundle.swap(&pair[0], &pair[1]);
            let fault = bundle.verify().expect_err(folder);
            assert!(
                pair.iter()
                    .any(|name| fault.message().starts_with(&format!("{name}: "))),
                "{pair:?}: {fault}"
            );
            bundle.swap(&pair[0], &pair[1]);
        }
    }
    bundle.verify().unwrap();
}

#[test]
fn a_file_of_another_job_is_named() {
    let (bundle, other) = (Bundle::new(), Bundle::of(&Job::numbered(2)));
    for name in ["index.json", &receipt_name(0), &receipt_name(2)] {
        let good = bundle.read(name);
        bundle.put(name, &other.read(name));
        expect(
            bundle.verify(),
            if name == "index.json" {
                "evidence_invalid"
            } else {
                "evidence_changed"
            },
            name,
        );
        bundle.put(name, &good);
    }
    bundle.put("manifest.cbor", &other.read("manifest.cbor"));
    bundle.fails("evidence_invalid", "index.json");
}

#[test]
fn links_pipes_and_folders_in_place_of_files_are_named() {
    let bundle = Bundle::new();
    let outside = tempfile::tempdir().unwrap();
    for name in bundle.names() {
        let good = bundle.read(&name);
        let kept = outside.path().join("kept");
        fs::rename(bundle.path(&name), &kept).unwrap();
        symlink(&kept, bundle.path(&name)).unwrap();
        bundle.fails("evidence_unexpected", &name);
        bundle.remove(&name);
        rustix::fs::mkfifoat(CWD, bundle.path(&name), Mode::RUSR | Mode::WUSR).unwrap();
        bundle.fails("evidence_unexpected", &name);
        bundle.remove(&name);
        fs::create_dir(bundle.path(&name)).unwrap();
        bundle.fails("evidence_unexpected", &name);
        fs::remove_dir(bundle.path(&name)).unwrap();
        bundle.put(&name, &good);
    }
    for folder in ["decisions", "objects", "receipts"] {
        let kept = outside.path().join(folder);
        fs::rename(bundle.path(folder), &kept).unwrap();
        symlink(&kept, bundle.path(folder)).unwrap();
        bundle.fails("evidence_unexpected", folder);
        bundle.remove(folder);
        fs::rename(&kept, bundle.path(folder)).unwrap();
    }
    bundle.verify().unwrap();
}

#[test]
fn a_file_past_its_limit_is_refused_unread() {
    let bundle = Bundle::new();
    let object = bundle
        .names()
        .into_iter()
        .find(|name| name.starts_with("objects/"))
        .unwrap();
    let limits = [
        ("manifest.cbor", 128 << 10),
        ("index.json", 16 << 20),
        ("receipts/00000.json", 1 << 20),
        (object.as_str(), MAX_OBJECT_BYTES),
    ];
    for (name, limit) in limits {
        let good = bundle.read(name);
        let file = fs::File::options()
            .write(true)
            .open(bundle.path(name))
            .unwrap();
        file.set_len(limit + 1).unwrap();
        bundle.fails("evidence_too_large", name);
        bundle.put(name, &good);
    }
}

#[test]
fn an_empty_or_missing_folder_is_no_evidence() {
    let empty = tempfile::tempdir().unwrap();
    let pins = Pins::default();
    expect(
        evidence::verify(empty.path(), &pins),
        "evidence_missing",
        "manifest.cbor",
    );
    assert!(evidence::verify(&empty.path().join("none"), &pins).is_err());
}
