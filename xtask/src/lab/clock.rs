//! Clocks that jump by minutes and hours, forward and back, at each node in turn, while a job is under way: what takes time does
//! not go by the time of day. libfaketime tells the nodes what time it is.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;

use super::claim::Claim;
use super::ground::Ground;
use super::island::Jobs;
use super::means::{Means, Report};
use super::node::{ANSWER_TIME, Node, text};
use super::stop::Stop;
use crate::shell::{Failure, Result};

/// Where Debian has it.
const LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
];
const MISSING: &str = "no clock can be set here: install libfaketime (Debian: faketime)";
/// By how many seconds a clock is ahead, one after the other. Each job begins by the clock before, and ends by the next.
const JUMPS: [i64; 5] = [7200, -7200, 300, -300, 0];
/// A node sees its clock jump within this time. libfaketime looks once a second.
const SEEN_TIME: Duration = Duration::from_secs(20);
/// How far the clock that a node tells may be off the one that was set.
const ERROR_S: i64 = 5;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// What relays grant. Renewals are due while clocks jump.
const RESERVATION_S: u32 = 12;

/// Plays it.
pub fn play(claim: &Claim, means: &Means, stop: &Stop) -> Result<Report> {
    let program = program(&claim.dir("clock/program")?, &means.worldcompute)?;
    let means = &means.with(program);
    let ground = Ground::make(claim, "clock")?;
    let nodes = ground.start(means, RESERVATION_S, stop)?;
    nodes.all_held(stop)?;
    let submitter = ground.submitter(means, &nodes, stop)?;
    let jobs = Jobs::write(&claim.dir("clock/jobs")?, means, stop)?;
    let mut told = Told::default();
    for (name, node) in [
        ("relay", &nodes.relays[0]),
        ("donor", &nodes.donor),
        ("submitter", &submitter),
    ] {
        for ahead in JUMPS {
            let id = jobs.submit(&submitter, "many")?;
            set(node, ahead)?;
            told.seen.push((name, ahead, seen(node, ahead, stop)?));
            let ended = jobs.end(&submitter, &id)?;
            let what = format!("a job while the clock of the {name} came to be {ahead} s ahead");
            told.broken.extend(jobs.wrong(&what, &ended, &nodes.donor)?);
            told.jobs += 1;
        }
        // Where the donor's own clock was ahead, it had none.
        nodes.all_held(stop)?;
    }
    Ok(told.report())
}

/// Why no clock can be set on this machine.
pub fn missing() -> Option<String> {
    library()
        .is_none()
        .then(|| format!("lab: clock: {MISSING}"))
}

fn library() -> Option<&'static str> {
    LIBRARIES.into_iter().find(|path| Path::new(path).exists())
}

/// The program with a clock of its own, whose file is in the home that it is started with; where it needs none, with the
/// machine's.
fn program(dir: &Path, worldcompute: &Path) -> Result<PathBuf> {
    let library = library().ok_or_else(|| Failure::new(MISSING))?;
    let path = dir.join("worldcompute");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = --home ] || exec {0} \"$@\"\n[ -f \"$2/clock\" ] || echo +0 > \"$2/clock\"\n\
         export LD_PRELOAD={library} FAKETIME_TIMESTAMP_FILE=\"$2/clock\"\n\
         export FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_CACHE_DURATION=1\nexec {0} \"$@\"\n",
        worldcompute.display()
    );
    write(&path, &script)?;
    Ok(path)
}

fn set(node: &Node<'_>, ahead: i64) -> Result<()> {
    write(&node.home().join("clock"), &format!("{ahead:+}\n"))
}

/// Writes a file that may be run; whoever reads it meanwhile reads all of it, or all of the one before.
fn write(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension("new");
    let written = File::create(&new)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::set_permissions(&new, fs::Permissions::from_mode(0o755)))
        .and_then(|()| fs::rename(&new, path));
    written.map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
}

/// By how many seconds a node's clock is ahead by its own word, as soon as that is what was set, or when it took too long.
fn seen(node: &Node<'_>, set: i64, stop: &Stop) -> Result<i64> {
    let deadline = Instant::now() + SEEN_TIME;
    loop {
        let status = node.ask_json(&["admin", "status"], ANSWER_TIME, stop)?;
        let time: Option<Timestamp> = text(&status, "time").parse().ok();
        let time = time.ok_or_else(|| Failure::new(format!("no time is told: {status}")))?;
        let ahead = time.as_second() - Timestamp::now().as_second();
        if (ahead - set).abs() <= ERROR_S || Instant::now() > deadline {
            return Ok(ahead);
        }
        stop.wait(LOOK)?;
    }
}

/// What was seen.
#[derive(Default)]
struct Told {
    jobs: usize,
    /// Whose clock was set to be how far ahead, and how far it is by the node's own word, in seconds.
    seen: Vec<(&'static str, i64, i64)>,
    broken: Vec<String>,
}

impl Told {
    fn report(mut self) -> Report {
        for (name, set, seen) in &self.seen {
            if (seen - set).abs() > ERROR_S {
                self.broken.push(format!(
                    "the {name} has its clock {seen} s ahead, not {set} s"
                ));
            }
        }
        let text = format!(
            "{} jobs of 60 tasks while clocks jumped by up to 4 hours; {} jumps were told by the nodes themselves\n",
            self.jobs,
            self.seen.len()
        );
        let data = json!({
            "scenario": "clock",
            "jobs": self.jobs,
            "seen_s": self.seen,
        });
        Report {
            data,
            text,
            broken: self.broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_fails_and_a_clock_that_did_not_jump_are_each_named() {
        let told = |seen, broken: &[&str]| {
            let told = Told {
                jobs: 15,
                seen: vec![("donor", 7200, seen)],
                broken: broken.iter().map(ToString::to_string).collect(),
            };
            told.report().broken
        };
        assert!(told(7201, &[]).is_empty());
        assert_eq!(told(7200, &["a job"]), ["a job"]);
        assert!(told(7200 - ERROR_S - 1, &[])[0].contains("7194 s ahead, not 7200 s"));
    }
}
