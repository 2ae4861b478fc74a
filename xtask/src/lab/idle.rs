//! A donor that offers everything, says for ever that it works, and never runs anything: the task goes to one that does.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::claim::Claim;
use super::ground::{Ground, Nodes};
use super::island::{Jobs, sees};
use super::means::{Means, Report};
use super::node::{ANSWER_TIME, text};
use super::stop::Stop;
use super::teller::Teller;
use crate::shell::{Failure, Result};

/// In which a task that nobody works on is done by somebody else.
const LIMIT: Duration = Duration::from_secs(60);
/// In which the idler is there, and is asked.
const PATIENCE: Duration = Duration::from_secs(60);
/// Jobs that follow at once, and again after [`PENALTY`].
const FOLLOWING: u32 = 10;
/// For longer than the idler is left alone the first time.
const PENALTY: Duration = Duration::from_secs(15);
/// What relays grant.
const RESERVATION_S: u32 = 120;

/// Plays it.
pub fn play(claim: &Claim, means: &Means, stop: &Stop) -> Result<Report> {
    let ground = Ground::make(claim, "idle")?;
    let nodes = ground.start(means, RESERVATION_S, stop)?;
    nodes.all_held(stop)?;
    let submitter = ground.submitter(means, &nodes, stop)?;
    sees(&submitter, &nodes.donor.peer, stop)?;
    nodes.donor.ask(&["donor", "pause"], ANSWER_TIME, stop)?;
    let idler = start(&ground, &nodes, means)?;
    sees(&submitter, &idler.peer(stop)?, stop)?;
    let jobs = Jobs::write(&claim.dir("idle/jobs")?, means, stop)?;
    let long = jobs.submit(&submitter, "long")?;
    idler.asked(stop)?;
    let since = Instant::now();
    nodes.donor.ask(&["donor", "resume"], ANSWER_TIME, stop)?;
    let ended = jobs.end(&submitter, &long)?;
    let took = since.elapsed();
    let mut broken = Vec::new();
    broken.extend(jobs.wrong("the job", &ended, &nodes.donor)?);
    for pause in [Duration::ZERO, PENALTY] {
        stop.wait(pause)?;
        for _ in 0..FOLLOWING {
            let ended = jobs.run(&submitter, "one")?;
            broken.extend(jobs.wrong("a job that followed", &ended, &nodes.donor)?);
        }
    }
    Ok(report(took, idler.count(), broken))
}

fn start(ground: &Ground<'_>, nodes: &Nodes<'_>, means: &Means) -> Result<Idler> {
    let listen = ["--listen".to_owned(), "/ip4/0.0.0.0/tcp/19999".to_owned()];
    let known = nodes.relays.iter().enumerate();
    let known = known.flat_map(|(index, relay)| ground.public(index, relay));
    let known = known.flat_map(|address| ["--bootstrap".to_owned(), address]);
    let words: Vec<String> = listen.into_iter().chain(known).collect();
    let namespace = &ground.outside.namespace;
    Teller::start(namespace, &means.idler, &words, |line| {
        serde_json::from_str(line).ok()
    })
    .map(Idler)
}

/// The donor that runs nothing.
struct Idler(Teller<Value>);

impl Idler {
    fn peer(&self, stop: &Stop) -> Result<String> {
        self.0.until(|told| !told.is_empty(), PATIENCE, stop)?;
        let first = self.0.told().into_iter().next().unwrap_or_default();
        match text(&first, "peer_id") {
            peer if peer.is_empty() => Err(Failure::new("the idler did not start")),
            peer => Ok(peer),
        }
    }

    /// Waits until it took a task.
    fn asked(&self, stop: &Stop) -> Result<()> {
        match self.0.until(|told| taken(told) > 0, PATIENCE, stop)? {
            true => Ok(()),
            false => Err(Failure::new("the idler was never asked")),
        }
    }

    fn count(&self) -> usize {
        taken(&self.0.told())
    }
}

fn taken(told: &[Value]) -> usize {
    told.iter().filter(|one| one.get("took").is_some()).count()
}

fn report(took: Duration, asked: usize, mut broken: Vec<String>) -> Report {
    if took > LIMIT {
        broken.push(format!("the task was done after {took:?}"));
    }
    if asked != 1 {
        broken.push(format!("the idler was asked {asked} times, not once"));
    }
    let text = format!(
        "a task of an hour that a donor only said it worked on was done by another after {:.1} s; of {} jobs that followed it got {}\n",
        took.as_secs_f64(),
        2 * FOLLOWING,
        asked.saturating_sub(1)
    );
    let data = json!({
        "scenario": "idle",
        "took_ms": took.as_millis(),
        "idler_asked": asked,
        "jobs_that_followed": 2 * FOLLOWING,
    });
    Report { data, text, broken }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_waits_too_long_and_an_idler_that_is_asked_again_are_each_named() {
        assert!(report(LIMIT, 1, Vec::new()).broken.is_empty());
        for (report, why) in [
            (report(2 * LIMIT, 1, Vec::new()), "done after"),
            (report(LIMIT, 2, Vec::new()), "asked 2 times"),
            (report(LIMIT, 1, vec!["a job".to_owned()]), "a job"),
        ] {
            assert_eq!(report.broken.len(), 1);
            assert!(report.broken[0].contains(why), "{:?}", report.broken);
        }
    }
}
