//! A donor whose address changes again and again while it works: it stays who it is, its job completes, and nothing piles up.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::claim::Claim;
use super::cut::Files;
use super::ground::Ground;
use super::means::{Means, Report};
use super::node::{ANSWER_TIME, Node, text};
use super::stop::Stop;
use crate::shell::{Failure, Result};

/// How often the address changes, and how long each is kept.
const CHANGES: u8 = 8;
const KEPT: Duration = Duration::from_secs(4);
/// From the last change until the donor can be reached by a newcomer and the job is done.
const PATIENCE: Duration = Duration::from_secs(180);
/// Lines that a node may log in all.
const MOST_LINES: usize = 1000;
/// Addresses that a node may say that it has, or others may know of it. It has two relays.
const MOST_ADDRESSES: usize = 24;
/// What relays grant.
const RESERVATION_S: u32 = 120;

/// Plays it.
pub fn play(claim: &Claim, means: &Means, stop: &Stop) -> Result<Report> {
    let ground = Ground::make(claim, "flap")?;
    let nodes = ground.start(means, RESERVATION_S, stop)?;
    nodes.all_held(stop)?;
    let submitter = ground.submitter(means, &nodes, stop)?;
    let files = Files::write(&claim.dir("flap/job")?)?;
    let before = Standing::of(&nodes.donor, &submitter, stop)?;
    let begun = Instant::now();
    let manifest = files.manifest.display().to_string();
    let job = submitter.ask_json(&["job", "submit", &manifest], ANSWER_TIME, stop)?;
    let id = text(&job, "job_id");
    if id.is_empty() {
        return Err(Failure::new(format!("the job was not taken: {job}")));
    }
    for change in 0..CHANGES {
        ground.readdress(change, change + 1)?;
        stop.wait(KEPT)?;
    }
    let since = Instant::now();
    let ended = submitter.ask_json(&["job", "status", &id, "--watch"], PATIENCE, stop)?;
    let took = begun.elapsed();
    nodes.all_held(stop)?;
    let held = since.elapsed();
    let told = Told {
        took,
        held,
        same: files.came_back(&submitter, &id, stop)?,
        ended,
        before,
        after: Standing::of(&nodes.donor, &submitter, stop)?,
        lines: [
            nodes.donor.lines(),
            submitter.lines(),
            nodes.relays[0].lines(),
        ],
    };
    Ok(told.report())
}

/// What could pile up.
#[derive(Clone)]
struct Standing {
    peer: String,
    /// Where the donor listens.
    listens: usize,
    /// Where it says that it is.
    says: usize,
    /// Where the submitter knows it to be.
    known: usize,
}

impl Standing {
    fn of(donor: &Node<'_>, submitter: &Node<'_>, stop: &Stop) -> Result<Self> {
        let status = donor.ask_json(&["admin", "status"], ANSWER_TIME, stop)?;
        let peers = submitter.ask_json(&["cluster", "peers"], ANSWER_TIME, stop)?;
        let peer = text(&status, "peer_id");
        let mut others = peers.as_array().into_iter().flatten();
        let known = others.find(|one| text(one, "peer_id") == peer);
        Ok(Self {
            listens: count(&status, "listen"),
            says: count(&status, "addresses"),
            known: known.map_or(0, |one| count(one, "addresses")),
            peer,
        })
    }
}

fn count(object: &Value, name: &str) -> usize {
    let list = object.get(name).and_then(Value::as_array);
    list.map_or(0, Vec::len)
}

/// What was seen.
struct Told {
    took: Duration,
    held: Duration,
    same: bool,
    ended: Value,
    before: Standing,
    after: Standing,
    lines: [usize; 3],
}

impl Told {
    fn report(&self) -> Report {
        let (before, after) = (&self.before, &self.after);
        let text = format!(
            "{CHANGES} changes of address, one in {} s: the job with 50 MiB in and out was {} after {:.1} s, {:.1} s after the last the donor was whole\n\
             the donor listens at {} addresses (before: {}), says {} ({}), others know {} ({}); {} lines of log, the submitter {}, a relay {}\n",
            KEPT.as_secs(),
            text(&self.ended, "status"),
            self.took.as_secs_f64(),
            self.held.as_secs_f64(),
            after.listens,
            before.listens,
            after.says,
            before.says,
            after.known,
            before.known,
            self.lines[0],
            self.lines[1],
            self.lines[2],
        );
        let data = json!({
            "scenario": "flap",
            "changes": CHANGES,
            "took_ms": self.took.as_millis(),
            "whole_after_ms": self.held.as_millis(),
            "listens": [before.listens, after.listens],
            "says": [before.says, after.says],
            "known": [before.known, after.known],
            "log_lines": self.lines,
        });
        Report {
            data,
            text,
            broken: self.broken(),
        }
    }

    fn broken(&self) -> Vec<String> {
        let (before, after) = (&self.before, &self.after);
        let mut broken = Vec::new();
        if text(&self.ended, "status") != "completed" {
            broken.push(format!("the job ended otherwise: {}", self.ended));
        }
        if !self.same {
            broken.push("the result is not what the job makes of its input".to_owned());
        }
        if before.peer.is_empty() || before.peer != after.peer {
            broken.push(format!("{} became {}", before.peer, after.peer));
        }
        if after.listens > before.listens {
            let (listens, before) = (after.listens, before.listens);
            broken.push(format!("it listens at {listens} addresses, not {before}"));
        }
        let most = after.says.max(after.known);
        if most > MOST_ADDRESSES {
            broken.push(format!("{most} addresses, {MOST_ADDRESSES} are the most"));
        }
        for (name, lines) in ["donor", "submitter", "relay"].into_iter().zip(self.lines) {
            if lines > MOST_LINES {
                broken.push(format!(
                    "the {name} logged {lines} lines, {MOST_LINES} are the most"
                ));
            }
        }
        broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(change: impl Fn(&mut Told)) -> Vec<String> {
        let standing = Standing {
            peer: "donor".to_owned(),
            listens: 2,
            says: 4,
            known: MOST_ADDRESSES,
        };
        let mut told = Told {
            took: Duration::ZERO,
            held: Duration::ZERO,
            same: true,
            ended: json!({ "status": "completed" }),
            before: standing.clone(),
            after: standing,
            lines: [MOST_LINES; 3],
        };
        change(&mut told);
        told.report().broken
    }

    #[test]
    fn whatever_is_lost_or_piles_up_is_named() {
        assert!(told(|_| {}).is_empty());
        for (broken, why) in [
            (told(|told| told.ended = json!({})), "ended otherwise"),
            (told(|told| told.same = false), "not what the job makes"),
            (told(|told| told.after.peer = "other".to_owned()), "became"),
            (told(|told| told.after.listens += 1), "listens at 3"),
            (
                told(|told| told.after.says = MOST_ADDRESSES + 1),
                "addresses",
            ),
            (told(|told| told.after.known += 1), "addresses"),
            (told(|told| told.lines[2] += 1), "relay logged"),
        ] {
            assert_eq!(broken.len(), 1, "{broken:?}");
            assert!(broken[0].contains(why), "{broken:?}");
        }
    }
}
