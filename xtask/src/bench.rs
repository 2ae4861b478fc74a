//! Runs every bench, and says in one table what came out.

use std::path::{Path, PathBuf};

use crate::shell::{Failure, Result, tee};

/// Runs the benches of each crate that has a `benches` folder.
pub fn run(root: &Path) -> Result<()> {
    let crates = with_benches(root)?;
    if crates.is_empty() {
        return Err(Failure::new("no crate has a benches folder"));
    }
    let mut medians = Vec::new();
    for manifest in crates {
        let printed = tee(
            root,
            &format!(
                "cargo bench --manifest-path {} --bench *",
                manifest.display()
            ),
        )?;
        medians.extend(parse(&printed));
    }
    print!("\n{}", table(&medians));
    Ok(())
}

/// Manifests of the crates that have benches, by name, relative to the root.
fn with_benches(root: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(root.join("crates")).map_err(|error| {
        Failure::new(format!(
            "cannot list {}: {error}",
            root.join("crates").display()
        ))
    })?;
    let folders = entries
        .filter_map(std::result::Result::ok)
        .filter(|entry| entry.path().join("benches").is_dir());
    let mut manifests: Vec<_> = folders
        .map(|entry| Path::new("crates").join(entry.file_name()))
        .collect();
    manifests.sort();
    Ok(manifests
        .into_iter()
        .map(|folder| folder.join("Cargo.toml"))
        .collect())
}

/// One bench: its name, and the middle of the interval that criterion gives for its time.
#[derive(Debug, PartialEq)]
struct Median {
    name: String,
    nanoseconds: f64,
}

/// Finds criterion's lines: `name    time:   [1.0 µs 1.1 µs 1.2 µs]`. A long name stands on the line before.
fn parse(printed: &str) -> Vec<Median> {
    let mut before = "";
    let mut medians = Vec::new();
    for line in printed.lines() {
        if let Some((name, nanoseconds)) = line
            .split_once("time:")
            .and_then(|(name, time)| Some((name, median(time)?)))
        {
            let name = if name.trim().is_empty() {
                before
            } else {
                name.trim()
            };
            medians.push(Median {
                name: name.to_owned(),
                nanoseconds,
            });
        }
        before = line.trim();
    }
    medians
}

/// The second value of `[1.0 µs 1.1 µs 1.2 µs]`, in nanoseconds.
fn median(interval: &str) -> Option<f64> {
    let inner = interval.trim().strip_prefix('[')?.strip_suffix(']')?;
    let [_, _, value, unit, _, _] = inner
        .split_ascii_whitespace()
        .collect::<Vec<_>>()
        .try_into()
        .ok()?;
    let nanoseconds = match unit {
        "ps" => 1e-3,
        "ns" => 1.0,
        "µs" | "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return None,
    };
    value.parse::<f64>().ok().map(|value| value * nanoseconds)
}

/// Each bench with its median and, within a group (`group/name`), its ratio to the first of the group.
fn table(medians: &[Median]) -> String {
    let row = |bench: &Median| {
        let group = group_of(&bench.name);
        let first = medians
            .iter()
            .find(|other| group_of(&other.name) == group)
            .filter(|_| group.is_some());
        let ratio = first
            .filter(|first| *first != bench)
            .map(|first| bench.nanoseconds / first.nanoseconds);
        let ratio = ratio.map_or_else(String::new, |ratio| format!("  x {ratio:.2}"));
        format!(
            "{:<60}{:>12}{ratio}\n",
            bench.name,
            in_units(bench.nanoseconds)
        )
    };
    medians.iter().map(row).collect()
}

fn group_of(name: &str) -> Option<&str> {
    name.split_once('/').map(|(group, _)| group)
}

fn in_units(nanoseconds: f64) -> String {
    match nanoseconds {
        n if n < 1e3 => format!("{n:.1} ns"),
        n if n < 1e6 => format!("{:.2} us", n / 1e3),
        n if n < 1e9 => format!("{:.2} ms", n / 1e6),
        n => format!("{:.2} s", n / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
        gate/decide             time:   [7.0000 µs 7.5000 µs 8.0000 µs]\n\
        a_very_long_group_name/and_a_long_name\n\
                                time:   [900.00 ps 999.00 ps 1.2000 ns]\n\
                                change: [-1.0% +0.0% +1.0%] (p = 0.5 > 0.05)\n\
        gate/parse              time:   [14.000 µs 15.000 µs 16.000 µs]\n\
        time: is money\n\
        broken                  time:   [1 parsec 2 parsec 3 parsec]\n\
        alone                   time:   [1.0000 s 1.5000 s 2.0000 s]\n";

    #[test]
    fn the_middle_of_each_interval_is_found_with_its_name() {
        let found: Vec<_> = parse(PRINTED)
            .into_iter()
            .map(|bench| (bench.name, in_units(bench.nanoseconds)))
            .collect();
        let expected = [
            ("gate/decide", "7.50 us"),
            ("a_very_long_group_name/and_a_long_name", "1.0 ns"),
            ("gate/parse", "15.00 us"),
            ("alone", "1.50 s"),
        ];
        assert_eq!(
            found,
            expected.map(|(name, time)| (name.to_owned(), time.to_owned()))
        );
    }

    #[test]
    fn ratios_are_to_the_first_of_the_group() {
        let table = table(&parse(PRINTED));
        let ratios: Vec<_> = table
            .lines()
            .map(|line| line.split_once(" x ").map(|(_, ratio)| ratio))
            .collect();
        assert_eq!(ratios, [None, None, Some("2.00"), None]);
    }

    #[test]
    fn only_crates_with_benches_are_run() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["crates/b/benches", "crates/a/benches", "crates/c/src"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let manifests = with_benches(root.path()).unwrap();
        assert_eq!(
            manifests,
            [
                Path::new("crates/a/Cargo.toml"),
                Path::new("crates/b/Cargo.toml")
            ]
        );
    }
}
