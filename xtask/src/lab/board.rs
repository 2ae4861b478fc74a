//! The scoreboard: what World Compute comes to in every cell.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::available_parallelism;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::bundle::Witness;
use super::check;
use super::claim::Claim;
use super::nat::Nat;
use super::profile::Profile;
use super::scenario::{Cell, Outcome, Played, Trial, play};
use super::stop::Stop;
use super::tools;
use crate::shell::{Failure, Result};

/// What one cell takes of memory at most: three nodes of the largest build.
const MEMORY_OF_CELL: u64 = 1 << 30;

/// Which cells, played how, told how.
pub struct Game {
    pub cells: Vec<Cell>,
    pub trial: Trial,
    /// How many cells at a time.
    pub at_once: usize,
    pub json: bool,
    pub out: Option<PathBuf>,
    pub witness: Option<Witness>,
}

/// Plays the cells and prints the scoreboard.
///
/// # Errors
/// Cells that failed, each with its reason; a NAT that is not what its name says.
pub fn run(game: &Game) -> Result<()> {
    let stop = Stop::listen()?;
    let claim = Claim::take()?;
    are_what_they_say(&claim, &game.cells, &stop)?;
    play_all(&claim, game, &stop)
}

/// The same with NATs that were looked at before.
///
/// # Errors
/// Cells that failed, each with its reason.
pub fn play_all(claim: &Claim, game: &Game, stop: &Stop) -> Result<()> {
    let version = tools::call(&game.trial.program.display().to_string(), &["--version"])?;
    let played = all(claim, game, stop)?;
    let scores = scores(version.trim(), &played);
    match game.json {
        true => println!("{scores}"),
        false => print!("{}", table(&played)),
    }
    if let Some(out) = &game.out {
        write(out, version.trim(), &played, &scores)?;
    }
    if let Some(witness) = &game.witness {
        let cells = scores.get("cells").and_then(Value::as_array);
        let cells = cells.map(Vec::as_slice).unwrap_or_default();
        let sum = tools::call("sha256sum", &[&game.trial.program.display().to_string()])?;
        let sum = sum.split_whitespace().next().unwrap_or_default();
        let place = witness.write((version.trim(), sum), &played, cells, &table(&played))?;
        eprintln!("evidence: {}", place.display());
    }
    verdict(&played)
}

/// Cells at a time: six to a core, since most of a cell is waiting, and as memory allows.
pub fn at_once() -> usize {
    let cores = available_parallelism().map_or(1, usize::from);
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let fit = kib.map_or(1, |kib| kib * 1024 / MEMORY_OF_CELL);
    (6 * cores)
        .min(usize::try_from(fit).unwrap_or(usize::MAX))
        .max(1)
}

/// There is no score for a NAT that is something else.
fn are_what_they_say(claim: &Claim, cells: &[Cell], stop: &Stop) -> Result<()> {
    let used = |nat: &Nat| cells.iter().any(|cell| cell.nats.contains(nat));
    for nat in Nat::ALL.into_iter().filter(used) {
        stop.check()?;
        check::as_promised(claim, nat)?;
    }
    Ok(())
}

fn all(claim: &Claim, game: &Game, stop: &Stop) -> Result<Vec<Played>> {
    let bar = progress(game.cells.len());
    let cells: VecDeque<(usize, Cell)> = game.cells.iter().copied().enumerate().collect();
    let (cells, played, broken) = (Mutex::new(cells), Mutex::new(Vec::new()), Mutex::new(None));
    let next = || {
        cells
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    };
    let work = || {
        while let Some((number, cell)) = next() {
            match play(claim, &format!("cell{number}"), cell, &game.trial, stop) {
                Ok(one) => {
                    told(&bar, &one);
                    played
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((number, one));
                }
                Err(failure) => {
                    cells.lock().unwrap_or_else(PoisonError::into_inner).clear();
                    let mut first = broken.lock().unwrap_or_else(PoisonError::into_inner);
                    first.get_or_insert(failure);
                }
            }
        }
    };
    std::thread::scope(|scope| (0..game.at_once).for_each(|_| drop(scope.spawn(work))));
    bar.finish_and_clear();
    if let Some(failure) = broken.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(failure);
    }
    let mut played = played.into_inner().unwrap_or_else(PoisonError::into_inner);
    played.sort_by_key(|(number, _)| *number);
    Ok(played.into_iter().map(|(_, played)| played).collect())
}

/// A bar on a terminal, a line a cell elsewhere; on standard error both.
fn progress(cells: usize) -> ProgressBar {
    let bar = ProgressBar::new(cells as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar
}

fn told(bar: &ProgressBar, played: &Played) {
    let line = format!("{}: {}", played.cell, played.outcome.name());
    bar.inc(1);
    match bar.is_hidden() {
        true => eprintln!("{line}"),
        false => bar.set_message(line),
    }
}

fn verdict(played: &[Played]) -> Result<()> {
    let failed = played
        .iter()
        .filter(|played| played.outcome == Outcome::Failed);
    let failed: Vec<_> = failed
        .map(|played| format!("failed {}: {}", played.cell, played.why))
        .collect();
    match failed.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(format!(
            "{}\n{} of {} cells failed",
            failed.join("\n"),
            failed.len(),
            played.len()
        ))),
    }
}

fn columns(played: &Played) -> [String; 7] {
    let [donor, submitter] = played.cell.nats.map(Nat::name);
    let time = played
        .first_result
        .map(|time| format!("{:.1} s", time.as_secs_f64()));
    [
        donor.to_owned(),
        submitter.to_owned(),
        played.cell.profile.name().to_owned(),
        played.outcome.name().to_owned(),
        played.first.map(Outcome::name).unwrap_or("-").to_owned(),
        played.transport.clone(),
        time.unwrap_or_else(|| "-".to_owned()),
    ]
}

const HEADS: [&str; 7] = [
    "DONOR",
    "SUBMITTER",
    "FIREWALL",
    "OUTCOME",
    "FIRST",
    "TRANSPORT",
    "RESULT",
];

fn table(played: &[Played]) -> String {
    let rows: Vec<_> = std::iter::once(HEADS.map(String::from))
        .chain(played.iter().map(columns))
        .collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let lengths = rows
                .iter()
                .filter_map(|row| row.get(column).map(String::len));
            format!("{cell:<width$}", width = lengths.max().unwrap_or(0))
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text + &totals(played) + "\n"
}

fn totals(played: &[Played]) -> String {
    let count = |outcome| {
        played
            .iter()
            .filter(|played| played.outcome == outcome)
            .count()
    };
    Outcome::ALL
        .map(|outcome| format!("{} {}", count(outcome), outcome.name()))
        .join(", ")
}

fn scores(program: &str, played: &[Played]) -> Value {
    let cells = played.iter().map(|played| {
        let [donor, submitter] = played.cell.nats.map(Nat::name);
        json!({
            "donor_nat": donor,
            "submitter_nat": submitter,
            "profile": played.cell.profile.name(),
            "outcome": played.outcome.name(),
            "first_path": played.first.map(Outcome::name),
            "transport": played.transport,
            "first_verified_result_ms": played.first_result.map(|time| time.as_millis()),
            "why": played.why,
        })
    });
    json!({ "program": program, "cells": cells.collect::<Vec<_>>() })
}

/// Markdown, unless the name asks for JSON.
fn write(path: &Path, program: &str, played: &[Played], scores: &Value) -> Result<()> {
    let text = match path
        .extension()
        .is_some_and(|extension| extension == "json")
    {
        true => format!("{scores}\n"),
        false => markdown(program, played),
    };
    let failed = |why: String| Failure::new(format!("cannot write {}: {why}", path.display()));
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let file = tempfile::NamedTempFile::new_in(dir.unwrap_or(Path::new(".")));
    let mut file = file.map_err(|error| failed(error.to_string()))?;
    file.write_all(text.as_bytes())
        .map_err(|error| failed(error.to_string()))?;
    file.persist(path)
        .map(drop)
        .map_err(|error| failed(error.to_string()))
}

fn markdown(program: &str, played: &[Played]) -> String {
    let row = |cells: [String; 7]| format!("| {} |\n", cells.join(" | "));
    let mut text = format!("Measured with `{program}`: {}.\n\n", totals(played));
    text += &row(HEADS.map(|head| head.to_lowercase()));
    text += &row([(); 7].map(|()| "---".to_owned()));
    played
        .iter()
        .for_each(|played| text += &row(columns(played)));
    let failed = played
        .iter()
        .filter(|played| played.outcome == Outcome::Failed);
    let reasons: String = failed
        .map(|played| format!("- {}: {}\n", played.cell, played.why))
        .collect();
    if !reasons.is_empty() {
        text += &format!("\nWhat failed:\n\n{reasons}");
    }
    text
}

/// Every pair of NATs and every profile, or those that are named.
pub fn cells(pairs: &[[Nat; 2]], profiles: &[Profile]) -> Vec<Cell> {
    let every = || Nat::ALL.into_iter().flat_map(|a| Nat::ALL.map(|b| [a, b]));
    let pairs: Vec<_> = match pairs {
        [] => every().collect(),
        pairs => pairs.to_vec(),
    };
    let profiles: &[Profile] = match profiles {
        [] => &Profile::ALL,
        profiles => profiles,
    };
    let of_profile = |profile: &Profile| {
        pairs
            .iter()
            .map(|nats| Cell {
                nats: *nats,
                profile: *profile,
            })
            .collect::<Vec<_>>()
    };
    profiles.iter().flat_map(of_profile).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn played(outcome: Outcome) -> Played {
        Played {
            cell: Cell {
                nats: [Nat::None, Nat::Symmetric],
                profile: Profile::Open,
            },
            outcome,
            first: None,
            transport: "quic".to_owned(),
            first_result: None,
            why: "because".to_owned(),
        }
    }

    #[test]
    fn a_cell_that_failed_fails_the_run_and_is_named_with_its_reason() {
        assert!(verdict(&[played(Outcome::Relayed)]).is_ok());
        let failure = verdict(&[played(Outcome::Relayed), played(Outcome::Failed)]).unwrap_err();
        assert_eq!(failure.code, 1);
        assert_eq!(
            failure.message,
            "failed none,symmetric open: because\n1 of 2 cells failed"
        );
    }

    #[test]
    fn every_pair_and_profile_is_played_unless_some_are_named() {
        assert_eq!(
            cells(&[], &[]).len(),
            Nat::ALL.len() * Nat::ALL.len() * Profile::ALL.len()
        );
        let pair = [Nat::None, Nat::FullCone];
        assert_eq!(
            cells(&[pair], &[Profile::Open]),
            [Cell {
                nats: pair,
                profile: Profile::Open
            }]
        );
    }

    #[test]
    fn the_scoreboard_is_the_same_as_a_table_as_markdown_and_as_json() {
        let all = [played(Outcome::Failed), played(Outcome::Direct)];
        for text in [table(&all), markdown("worldcompute 1", &all)] {
            assert!(
                text.contains("1 direct, 0 hole_punched, 0 relayed, 0 refused, 1 failed"),
                "{text}"
            );
            assert_eq!(
                text.matches("symmetric").count(),
                2 + text.matches("because").count()
            );
        }
        let scores = scores("worldcompute 1", &all);
        assert_eq!(scores["cells"][0]["outcome"], "failed");
        assert_eq!(scores["cells"][1]["outcome"], "direct");
    }
}
