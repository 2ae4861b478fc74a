//! Reservations that are held for long: each is renewed in time, the list of them has no gap, and a newcomer gets through
//! at any moment.

use std::fmt::{self, Write as _};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::caller::{Call, Caller, now};
use super::claim::Claim;
use super::ground::{Ground, Nodes, list};
use super::means::{Means, Report};
use super::node::Record;
use super::stop::Stop;
use crate::shell::Result;

/// A newcomer calls so often.
const CALL_EVERY: Duration = Duration::from_millis(500);
/// Between two looks at the list.
const LOOK: Duration = Duration::from_millis(500);
/// In which the first newcomer gets through.
const FIRST_CALL: Duration = Duration::from_secs(60);

/// How long what is held.
pub struct Hold {
    /// For how long a relay grants a reservation.
    pub reservation_s: u32,
    /// For how long it is held.
    pub time: Duration,
}

/// Holds reservations on two relays.
pub fn play(claim: &Claim, hold: &Hold, means: &Means, stop: &Stop) -> Result<Report> {
    let ground = Ground::make(claim, "hold")?;
    let nodes = ground.start(means, hold.reservation_s, stop)?;
    let held = nodes.all_held(stop)?;
    let mut words = vec![
        "--anew".to_owned(),
        "--peer".to_owned(),
        nodes.donor.peer.clone(),
    ];
    words.extend(
        held.into_iter()
            .flat_map(|held| ["--at".to_owned(), held.address]),
    );
    words.extend(["--every-ms".to_owned(), CALL_EVERY.as_millis().to_string()]);
    let newcomers = Caller::start(&ground.outside.namespace, &means.caller, &words)?;
    newcomers.until(
        |calls| calls.iter().any(Call::is_answered),
        FIRST_CALL,
        stop,
    )?;
    let since = now();
    let looks = look_on(&nodes, hold.time, stop)?;
    let until = now();
    let calls = newcomers.calls();
    let during = |at: u64| (since..=until).contains(&at);
    let told = Told {
        reservation: Duration::from_secs(hold.reservation_s.into()),
        time: Duration::from_millis(until - since),
        renewed: renewed(&nodes, since, until),
        looks,
        calls: calls.into_iter().filter(|call| during(call.at)).collect(),
    };
    Ok(told.report())
}

/// What the list said, look by look: how many of the reservations stood.
fn look_on(nodes: &Nodes<'_>, time: Duration, stop: &Stop) -> Result<Vec<usize>> {
    let deadline = Instant::now() + time;
    let mut looks = Vec::new();
    while Instant::now() < deadline {
        looks.push(
            list(&nodes.donor, stop)?
                .iter()
                .filter(|held| held.stands())
                .count(),
        );
        stop.wait(LOOK)?;
    }
    Ok(looks)
}

/// For each relay the times at which the reservation on it was renewed, the one before the first among them.
fn renewed(nodes: &Nodes<'_>, since: u64, until: u64) -> Vec<Vec<u64>> {
    let granted: Vec<Record> = nodes.donor.records("reservation_accepted");
    let of = |peer: &str| {
        let own = granted.iter().filter(|record| record.text("relay") == peer);
        let times: Vec<u64> = own
            .map(|record| record.at)
            .filter(|at| *at <= until)
            .collect();
        let before = times.iter().filter(|at| **at < since).count();
        times.into_iter().skip(before.saturating_sub(1)).collect()
    };
    nodes.relays.iter().map(|relay| of(&relay.peer)).collect()
}

/// What was seen.
struct Told {
    reservation: Duration,
    time: Duration,
    renewed: Vec<Vec<u64>>,
    looks: Vec<usize>,
    calls: Vec<Call>,
}

impl Told {
    fn report(&self) -> Report {
        let failed: Vec<&Call> = self
            .calls
            .iter()
            .filter(|call| !call.is_answered())
            .collect();
        let slowest = self.calls.iter().map(|call| call.took).max().unwrap_or(0);
        let least = self.looks.iter().copied().min().unwrap_or(0);
        let rhythms: Vec<Rhythm> = self
            .renewed
            .iter()
            .map(|times| self.rhythm(times))
            .collect();
        let (looks, called) = (self.looks.len(), self.calls.len());
        let mut text = format!(
            "reservations of {} s held for {:.0} s; {looks} looks at the list saw {least} at least\n",
            self.reservation.as_secs(),
            self.time.as_secs_f64(),
        );
        for (number, rhythm) in (1..).zip(&rhythms) {
            let _ = writeln!(text, "relay {number}: {rhythm}");
        }
        let _ = writeln!(
            text,
            "newcomers: {called} called, {} did not get through, the slowest took {slowest} ms",
            failed.len()
        );
        let data = json!({
            "scenario": "hold",
            "reservation_s": self.reservation.as_secs(),
            "held_s": seconds(self.time),
            "relays": rhythms.iter().map(Rhythm::data).collect::<Vec<_>>(),
            "looks": looks,
            "fewest_reservations_seen": least,
            "newcomers": { "called": called, "failed": failed.len(), "slowest_ms": slowest },
        });
        Report {
            data,
            text,
            broken: self.broken(&failed, least),
        }
    }

    fn rhythm(&self, times: &[u64]) -> Rhythm {
        let mut leads = between(times);
        leads
            .iter_mut()
            .for_each(|time| *time = self.reservation.saturating_sub(*time));
        leads.sort_unstable();
        Rhythm(leads)
    }

    fn broken(&self, failed: &[&Call], least: usize) -> Vec<String> {
        let mut broken = Vec::new();
        let due = self.time.as_secs() / self.reservation.as_secs();
        for (number, times) in (1..).zip(&self.renewed) {
            let between = between(times);
            if (between.len() as u64) < due {
                broken.push(format!(
                    "relay {number}: {} renewals, {due} at least were due",
                    between.len()
                ));
            }
            if let Some(late) = between.iter().find(|time| **time >= self.reservation) {
                broken.push(format!(
                    "relay {number}: renewed after {late:?}, when it had ended"
                ));
            }
        }
        if least < self.renewed.len() || self.looks.is_empty() {
            let looks = self.looks.len();
            broken.push(format!(
                "of {looks} looks at the list, one saw {least} reservations"
            ));
        }
        if let Some(call) = failed.first() {
            let (count, all) = (failed.len(), self.calls.len());
            broken.push(format!(
                "{count} of {all} newcomers did not get through, the first for {}",
                call.came_to
            ));
        }
        if self.calls.is_empty() {
            broken.push("no newcomer called".to_owned());
        }
        broken
    }
}

/// How long before its end a reservation was renewed, each time, the shortest first.
struct Rhythm(Vec<Duration>);

impl Rhythm {
    fn least_median_most(&self) -> [f64; 3] {
        let last = self.0.len().saturating_sub(1);
        let at = |index: usize| self.0.get(index).copied().unwrap_or_default();
        [0, last / 2, last].map(|index| seconds(at(index)))
    }

    fn data(&self) -> Value {
        let [least, median, most] = self.least_median_most();
        json!({
            "renewals": self.0.len(),
            "before_the_end_s": { "least": least, "median": median, "most": most },
        })
    }
}

impl fmt::Display for Rhythm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [least, median, most] = self.least_median_most();
        let times = self.0.len();
        write!(
            f,
            "renewed {times} times, {least:.1} to {most:.1} s before its end, half of them at least {median:.1} s"
        )
    }
}

fn between(times: &[u64]) -> Vec<Duration> {
    let pairs = times
        .windows(2)
        .filter_map(|pair| pair.last()?.checked_sub(*pair.first()?));
    pairs.map(Duration::from_millis).collect()
}

fn seconds(time: Duration) -> f64 {
    time.as_millis() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(renewed: &[u64], looks: &[usize], came_to: &[&str]) -> Report {
        let call = |came_to: &&str| Call {
            at: 0,
            took: 7,
            came_to: (*came_to).to_owned(),
            relays_known: 2,
        };
        let told = Told {
            reservation: Duration::from_secs(30),
            time: Duration::from_secs(60),
            renewed: vec![renewed.to_vec()],
            looks: looks.to_vec(),
            calls: came_to.iter().map(call).collect(),
        };
        told.report()
    }

    #[test]
    fn what_is_renewed_before_its_end_with_no_gap_is_held() {
        let report = told(&[0, 22_500, 45_000, 67_500], &[1, 1, 1], &["ok", "ok"]);
        assert_eq!(report.broken, Vec::<String>::new());
        let relay = &report.data["relays"][0];
        assert_eq!(relay["renewals"], 3);
        assert_eq!(relay["before_the_end_s"]["least"], 7.5);
        assert!(
            report.text.contains("renewed 3 times, 7.5 to 7.5 s"),
            "{}",
            report.text
        );
    }

    #[test]
    fn too_few_renewals_a_late_one_a_gap_and_a_newcomer_who_fails_are_each_named() {
        let fine = [0, 22_500, 45_000];
        for (report, why) in [
            (
                told(&fine[..2], &[1], &["ok"]),
                "1 renewals, 2 at least were due",
            ),
            (
                told(&[0, 30_000, 50_000], &[1], &["ok"]),
                "when it had ended",
            ),
            (told(&fine, &[1, 0, 1], &["ok"]), "one saw 0 reservations"),
            (told(&fine, &[], &["ok"]), "of 0 looks"),
            (
                told(&fine, &[1], &["ok", "no_answer"]),
                "1 of 2 newcomers did not get through, the first for no_answer",
            ),
            (told(&fine, &[1], &[]), "no newcomer called"),
        ] {
            assert!(
                report.broken.iter().any(|broken| broken.contains(why)),
                "{why}: {:?}",
                report.broken
            );
        }
    }
}
