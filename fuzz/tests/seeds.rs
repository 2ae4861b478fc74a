//! Every target holds on its seeds and on the shared cases, on every toolchain and without libFuzzer.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use worldcompute_fuzz::TARGETS;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let (folders, mut files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.extend(folders.iter().flat_map(|folder| files_below(folder)));
    files.sort();
    files
}

#[test]
fn every_target_holds_on_its_seeds() {
    for (name, fuzz) in TARGETS {
        let seeds = files_below(&here("seeds").join(name));
        assert!(!seeds.is_empty(), "{name} has no seed");
        for seed in seeds {
            println!("{name}: {}", seed.display());
            fuzz(&fs::read(seed).unwrap());
        }
    }
}

#[test]
fn every_target_holds_on_the_shared_cases() {
    let shared = ["../../shared", "../shared"].map(|shared| here(shared).join("cases"));
    let Some(cases) = shared.into_iter().find(|path| path.is_dir()) else {
        println!("skipped: no folder shared/cases beside or inside the checkout");
        return;
    };
    for case in files_below(&cases) {
        let bytes = fs::read(&case).unwrap();
        for (name, fuzz) in TARGETS.iter().filter(|_| bytes.len() <= 64 << 10) {
            println!("{name}: {}", case.display());
            fuzz(&bytes);
        }
    }
}

#[test]
fn every_target_is_built_seeded_and_told_about() {
    let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let stems = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(here(folder)).unwrap();
        let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        entries.map(|entry| stem(entry.unwrap().path())).collect()
    };
    assert_eq!(stems("fuzz_targets"), names);
    assert_eq!(stems("seeds"), names);
    let manifest = fs::read_to_string(here("Cargo.toml")).unwrap();
    let readme = fs::read_to_string(here("README.md")).unwrap();
    let listed = |text: &str, before: &str| -> BTreeSet<String> {
        let rows = text.lines().filter_map(|line| line.strip_prefix(before));
        let names = rows.filter_map(|row| row.split(['`', '"', '.']).next());
        names.map(str::to_owned).collect()
    };
    assert_eq!(listed(&manifest, "path = \"fuzz_targets/"), names);
    assert_eq!(listed(&readme, "| `"), names);
}
