//! Relays that fail while a donor is reached through them: for how long others do not reach it.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::caller::{Call, Caller, now, silence};
use super::claim::Claim;
use super::ground::{Ground, Nodes};
use super::means::{Means, Report};
use super::node::text;
use super::stop::Stop;
use crate::shell::{Failure, Result};

/// In which a peer has to be reached again, whatever fails.
const LIMIT: Duration = Duration::from_secs(60);
/// Both callers call so often.
const CALL_EVERY: Duration = Duration::from_millis(250);
/// In which somebody gets through, before and after.
const PATIENCE: Duration = Duration::from_secs(90);
/// Answers in a row after which somebody gets through again.
const ANSWERS: usize = 8;
/// For how long a relay is frozen or parted: longer than it takes to notice.
const AWAY: Duration = Duration::from_secs(25);
/// For how long relays are down that come back.
const DOWN: Duration = Duration::from_secs(3);
/// What relays grant, as they do by themselves.
const RESERVATION_S: u32 = 120;

/// What happens to relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// One is killed, and stays away.
    Killed,
    /// One does nothing for a while, its connections open (SIGSTOP).
    Frozen,
    /// Nothing gets to one, and nothing from it, for a while.
    Parted,
    /// One ends in order and comes back.
    Restarted,
    /// Both are killed and come back.
    Both,
}

impl Loss {
    /// Everything that can happen.
    pub const ALL: [Self; 5] = [
        Self::Killed,
        Self::Frozen,
        Self::Parted,
        Self::Restarted,
        Self::Both,
    ];

    /// As it is written on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Frozen => "frozen",
            Self::Parted => "parted",
            Self::Restarted => "restarted",
            Self::Both => "both",
        }
    }

    /// What the reservation on the first relay goes through, in this order, whatever is between.
    const fn promise(self) -> &'static [&'static str] {
        match self {
            Self::Killed => &["Lost", "Requesting"],
            _ => &["Lost", "Requesting", "Active"],
        }
    }

    const fn comes_back(self) -> bool {
        !matches!(self, Self::Killed)
    }
}

/// What came of one loss.
struct Lost {
    loss: Loss,
    /// The longest time that newcomers, who dial, were without an answer.
    newcomer: Duration,
    /// The same for somebody who had a connection through the relay that fails, and had heard of the other by gossip.
    resident: Duration,
    /// What became of the reservation on each relay, and how long after the fault.
    traces: Vec<Vec<(String, Duration)>>,
    broken: Vec<String>,
}

/// Plays these, one after the other or all at once.
pub fn play(
    claim: &Claim,
    losses: &[Loss],
    at_once: bool,
    means: &Means,
    stop: &Stop,
) -> Result<Report> {
    let one = |loss: &Loss| suffer(claim, *loss, means, stop);
    let lost: Result<Vec<Lost>> = match at_once {
        false => losses.iter().map(one).collect(),
        true => std::thread::scope(|scope| {
            let running: Vec<_> = losses
                .iter()
                .map(|loss| scope.spawn(move || one(loss)))
                .collect();
            let panicked = |_| Err(Failure::new("a loss could not be played"));
            running
                .into_iter()
                .map(|one| one.join().unwrap_or_else(panicked))
                .collect()
        }),
    };
    Ok(report(&lost?))
}

fn suffer(claim: &Claim, loss: Loss, means: &Means, stop: &Stop) -> Result<Lost> {
    let ground = Ground::make(claim, &format!("loss-{}", loss.name()))?;
    let mut nodes = ground.start(means, RESERVATION_S, stop)?;
    let callers = Callers::start(&ground, &nodes, means, stop)?;
    let since = now();
    strike(&ground, &mut nodes, loss, means, stop)?;
    let until_here = now();
    callers.all_through(until_here, stop)?;
    if loss.comes_back() {
        nodes.all_held(stop)?;
        callers.all_through(now(), stop)?;
    }
    let peer = text(
        &nodes.donor.ask_json(&["admin", "status"], PATIENCE, stop)?,
        "peer_id",
    );
    let [newcomer, resident] = callers.calls().map(|calls| silence(&calls, since));
    let mut lost = Lost {
        loss,
        newcomer,
        resident,
        traces: traces(&nodes, since),
        broken: Vec::new(),
    };
    lost.judge(peer == nodes.donor.peer);
    Ok(lost)
}

/// Lets it happen, up to where everything that comes back is back.
fn strike<'a>(
    ground: &'a Ground<'_>,
    nodes: &mut Nodes<'a>,
    loss: Loss,
    means: &'a Means,
    stop: &Stop,
) -> Result<()> {
    let [first, second] = &mut nodes.relays;
    match loss {
        Loss::Killed => first.kill(),
        Loss::Frozen => {
            first.freeze()?;
            stop.wait(AWAY)?;
            first.thaw()?;
        }
        Loss::Parted => {
            ground.part(0)?;
            stop.wait(AWAY)?;
            ground.mend(0)?;
        }
        Loss::Restarted => {
            first.end();
            stop.wait(DOWN)?;
            *first = ground.relay(0, means, RESERVATION_S, stop)?;
        }
        Loss::Both => {
            first.kill();
            second.kill();
            stop.wait(DOWN)?;
            *first = ground.relay(0, means, RESERVATION_S, stop)?;
            *second = ground.relay(1, means, RESERVATION_S, stop)?;
        }
    }
    Ok(())
}

/// Those who call the donor.
struct Callers {
    newcomer: Caller,
    resident: Caller,
}

impl Callers {
    /// The newcomer knows both circuits. The resident gets through by the first relay, and hears of the second.
    fn start(ground: &Ground<'_>, nodes: &Nodes<'_>, means: &Means, stop: &Stop) -> Result<Self> {
        let held = nodes.all_held(stop)?;
        let [first, _] = &nodes.relays;
        let through_first = held.iter().filter(|held| held.relay == first.peer);
        let resident = [
            said("--at", through_first.map(|held| held.address.clone())),
            said("--bootstrap", ground.public(0, first)),
        ];
        let mut newcomer = said("--at", held.iter().map(|held| held.address.clone()));
        newcomer.push("--anew".to_owned());
        let start = |words: Vec<String>| {
            let peer = ["--peer".to_owned(), nodes.donor.peer.clone()];
            let every = ["--every-ms".to_owned(), CALL_EVERY.as_millis().to_string()];
            let words = [&peer[..], &every, &words].concat();
            Caller::start(&ground.outside.namespace, &means.caller, &words)
        };
        let callers = Self {
            newcomer: start(newcomer)?,
            resident: start(resident.concat())?,
        };
        callers.all_through(0, stop)?;
        let heard = |calls: &[Call]| calls.iter().any(|call| call.relays_known > 1);
        match callers.resident.until(heard, PATIENCE, stop)? {
            true => Ok(callers),
            false => Err(Failure::new(
                "the resident did not hear of the second relay",
            )),
        }
    }

    fn all_through(&self, since: u64, stop: &Stop) -> Result<()> {
        let answered = |call: &&Call| call.is_answered() && call.at >= since;
        let through = |calls: &[Call]| calls.iter().filter(answered).count() >= ANSWERS;
        for (name, caller) in [("newcomer", &self.newcomer), ("resident", &self.resident)] {
            if !caller.until(through, PATIENCE, stop)? {
                let last = caller
                    .calls()
                    .pop()
                    .map(|call| call.came_to)
                    .unwrap_or_default();
                let seconds = PATIENCE.as_secs();
                return Err(Failure::new(format!(
                    "no {name} got through within {seconds} s, the last for {last:?}"
                )));
            }
        }
        Ok(())
    }

    fn calls(&self) -> [Vec<Call>; 2] {
        [&self.newcomer, &self.resident].map(Caller::calls)
    }
}

/// A flag before every value.
fn said(flag: &str, values: impl IntoIterator<Item = String>) -> Vec<String> {
    let values = values.into_iter();
    values.flat_map(|value| [flag.to_owned(), value]).collect()
}

/// What the donor's log tells of the reservation on each relay since the fault.
fn traces(nodes: &Nodes<'_>, since: u64) -> Vec<Vec<(String, Duration)>> {
    let records = nodes.donor.records("reservation");
    let of = |peer: &str| {
        let own = records
            .iter()
            .filter(|record| record.at >= since && record.text("relay") == peer);
        own.map(|record| {
            (
                record.text("state"),
                Duration::from_millis(record.at - since),
            )
        })
        .collect()
    };
    nodes.relays.iter().map(|relay| of(&relay.peer)).collect()
}

impl Lost {
    fn judge(&mut self, same_peer: bool) {
        for (who, gap) in [
            ("newcomers", self.newcomer),
            ("the resident", self.resident),
        ] {
            if gap > LIMIT {
                self.broken.push(format!(
                    "{}: {who} had no answer for {gap:?}",
                    self.loss.name()
                ));
            }
        }
        let mut states = self
            .traces
            .first()
            .into_iter()
            .flatten()
            .map(|(state, _)| state);
        let kept = self
            .loss
            .promise()
            .iter()
            .all(|due| states.any(|state| state == due));
        if !kept {
            let promise = self.loss.promise().join(", ");
            self.broken.push(format!(
                "{}: the reservation did not go through {promise}",
                self.loss.name()
            ));
        }
        if !same_peer {
            self.broken
                .push(format!("{}: the donor is another peer", self.loss.name()));
        }
    }

    fn data(&self) -> Value {
        let trace = |trace: &Vec<(String, Duration)>| {
            let steps = trace
                .iter()
                .map(|(state, after)| json!({ "state": state, "after_ms": after.as_millis() }));
            steps.collect::<Vec<_>>()
        };
        json!({
            "loss": self.loss.name(),
            "newcomer_gap_ms": self.newcomer.as_millis(),
            "resident_gap_ms": self.resident.as_millis(),
            "relays": self.traces.iter().map(trace).collect::<Vec<_>>(),
        })
    }
}

fn report(lost: &[Lost]) -> Report {
    let mut text = format!(
        "{:<10} {:>9} {:>9}  {}\n",
        "LOSS", "NEWCOMER", "RESIDENT", "RESERVATION ON THE FIRST RELAY"
    );
    for one in lost {
        let steps = one.traces.first().into_iter().flatten();
        let steps: Vec<String> = steps
            .map(|(state, after)| format!("{state} {:.1}", after.as_secs_f64()))
            .collect();
        let _ = writeln!(
            text,
            "{:<10} {:>7.1} s {:>7.1} s  {}",
            one.loss.name(),
            one.newcomer.as_secs_f64(),
            one.resident.as_secs_f64(),
            steps.join(", ")
        );
    }
    Report {
        data: json!({ "scenario": "loss", "losses": lost.iter().map(Lost::data).collect::<Vec<_>>() }),
        text,
        broken: lost.iter().flat_map(|one| one.broken.clone()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(loss: Loss, gap: Duration, states: &[&str]) -> Lost {
        let trace = states
            .iter()
            .map(|state| ((*state).to_owned(), Duration::ZERO));
        Lost {
            loss,
            newcomer: Duration::ZERO,
            resident: gap,
            traces: vec![trace.collect()],
            broken: Vec::new(),
        }
    }

    #[test]
    fn a_gap_past_the_limit_a_state_that_is_missing_and_another_peer_are_each_named() {
        let whole = ["Lost", "Requesting", "Requesting", "Active"];
        let judged = |mut lost: Lost, same| {
            lost.judge(same);
            lost.broken
        };
        assert!(judged(lost(Loss::Frozen, LIMIT, &whole), true).is_empty());
        assert!(judged(lost(Loss::Killed, LIMIT, &whole[..2]), true).is_empty());
        let too_long = LIMIT + Duration::from_millis(1);
        for (broken, why) in [
            (
                judged(lost(Loss::Frozen, too_long, &whole), true),
                "the resident had no answer for",
            ),
            (
                judged(lost(Loss::Frozen, LIMIT, &whole[..3]), true),
                "did not go through Lost, Requesting, Active",
            ),
            (
                judged(lost(Loss::Killed, LIMIT, &["Requesting", "Lost"]), true),
                "did not go through Lost, Requesting",
            ),
            (
                judged(lost(Loss::Frozen, LIMIT, &whole), false),
                "another peer",
            ),
        ] {
            assert_eq!(broken.len(), 1, "{broken:?}");
            assert!(broken[0].contains(why), "{broken:?}");
        }
    }
}
