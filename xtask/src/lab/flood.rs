//! Garbage on every port of a relay and of a donor, fast and slow: memory stays flat, the log stays short, and who is honest
//! is served.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::claim::Claim;
use super::garbage::{Sent, Target, linger, send};
use super::ground::Ground;
use super::island::Jobs;
use super::means::{Means, Report};
use super::profile::HTTPS;
use super::sizes::{Sizes, mib};
use super::stop::Stop;
use crate::shell::{Failure, Result};

/// Frames a second that are sent to each of the six ports.
const RATE: u64 = 2_500;
/// Senders that share this.
const SENDERS: usize = 2;
/// What a process may take more of the machine's memory than before.
const MOST_GROWTH: u64 = 64 << 20;
/// Lines that a node may log in all.
const MOST_LINES: usize = 1000;
/// The port for TCP and QUIC.
const PORT: u16 = 19999;
/// What relays grant.
const RESERVATION_S: u32 = 120;

/// Plays it for so long.
pub fn play(claim: &Claim, time: Duration, means: &Means, stop: &Stop) -> Result<Report> {
    let ground = Ground::make(claim, "flood")?;
    let nodes = ground.start(means, RESERVATION_S, stop)?;
    nodes.all_held(stop)?;
    let at = |port| SocketAddr::new(IpAddr::V4(ground.relay_address()), port);
    let targets = [
        Target::Udp(at(PORT)),
        Target::Tcp(at(PORT)),
        Target::Tcp(at(HTTPS)),
        Target::Unix(nodes.donor.home().join("run/control.sock")),
    ];
    // From the donor's own network, where no firewall is in between.
    let near = ground.donor_inside(PORT);
    let targets_near = [Target::Udp(near), Target::Tcp(near)];
    let jobs = Jobs::write(&claim.dir("flood/jobs")?, means, stop)?;
    let before = Sizes::of(&nodes)?;
    let (sent, until) = (Sent::default(), Instant::now() + time);
    let (most, served) = std::thread::scope(|scope| {
        let (outside, beside) = (&ground.outside.namespace, ground.beside_donor());
        let sent = &sent;
        for (from, targets) in [(outside, &targets[..]), (beside, &targets_near[..])] {
            for target in targets.iter().flat_map(|target| [target; SENDERS]) {
                let rate = RATE / SENDERS as u64;
                scope.spawn(move || from.inside(|| send(target, rate, sent, until)));
            }
        }
        for (from, target) in [(outside, at(PORT)), (outside, at(HTTPS)), (beside, near)] {
            scope.spawn(move || from.inside(|| linger(target, sent, until)));
        }
        let most = scope.spawn(|| Sizes::most(&nodes, before, until, stop));
        // Somebody honest comes while it goes on.
        let served = ground.submitter(means, &nodes, stop).and_then(|submitter| {
            jobs.run_until(until, "a job in the flood", &submitter, &nodes.donor)
        });
        let panicked = |_| Err(Failure::new("memory was not watched"));
        (most.join().unwrap_or_else(panicked), served)
    });
    let told = Told {
        time,
        before,
        most: most?,
        sent,
        served: served?,
        lines: [nodes.relays[0].lines(), nodes.donor.lines()],
        counted: [nodes.relays[0].inbound(stop)?, nodes.donor.inbound(stop)?],
    };
    Ok(told.report())
}

/// What was seen.
struct Told {
    time: Duration,
    before: Sizes,
    most: Sizes,
    sent: Sent,
    served: (u64, Vec<String>),
    lines: [usize; 2],
    counted: [Value; 2],
}

impl Told {
    fn report(&self) -> Report {
        let (done, wrong) = &self.served;
        let [frames, connections, slow] = [
            &self.sent.frames,
            &self.sent.connections,
            &self.sent.slow_closed,
        ]
        .map(|count| count.load(Ordering::Relaxed));
        let mut broken = wrong.clone();
        let mut text = format!(
            "{frames} frames in {:.0} s, {connections} connections; {slow} slow ones were closed; {done} jobs were done meanwhile\n",
            self.time.as_secs_f64()
        );
        let sizes = self.before.0.into_iter().zip(self.most.0).zip(self.lines);
        let told = sizes.zip(&self.counted);
        for (name, (((before, most), lines), counted)) in ["relay", "donor"].into_iter().zip(told) {
            text += &format!(
                "{name}: {:.1} MiB before, {:.1} MiB at most, {lines} lines of log; it counted {counted}\n",
                mib(before),
                mib(most)
            );
            if counted.get("failed").and_then(Value::as_u64).unwrap_or(0) == 0 {
                broken.push(format!(
                    "the {name} counted no failed connection: {counted}"
                ));
            }
            if most > before + MOST_GROWTH {
                broken.push(format!("the {name} grew from {before} to {most} bytes"));
            }
            if lines > MOST_LINES {
                broken.push(format!(
                    "the {name} logged {lines} lines, {MOST_LINES} are the most"
                ));
            }
        }
        let data = json!({
            "scenario": "flood",
            "seconds": self.time.as_secs(),
            "frames": frames,
            "connections": connections,
            "slow_connections_closed": slow,
            "jobs_done": done,
            "memory_before": { "relay": self.before.0[0], "donor": self.before.0[1] },
            "memory_most": { "relay": self.most.0[0], "donor": self.most.0[1] },
            "log_lines": { "relay": self.lines[0], "donor": self.lines[1] },
            "counted": { "relay": self.counted[0], "donor": self.counted[1] },
        });
        Report { data, text, broken }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(grown: u64, lines: usize, failed: u64, wrong: &[&str]) -> Vec<String> {
        let told = Told {
            time: Duration::from_secs(60),
            before: Sizes([1 << 20; 2]),
            most: Sizes([(1 << 20) + grown, 1 << 20]),
            sent: Sent::default(),
            served: (1, wrong.iter().map(ToString::to_string).collect()),
            lines: [lines, 0],
            counted: [json!({ "failed": failed }), json!({ "failed": 1 })],
        };
        told.report().broken
    }

    #[test]
    fn memory_that_grows_a_long_log_nothing_counted_and_a_job_that_fails_are_each_named() {
        assert!(told(MOST_GROWTH, MOST_LINES, 1, &[]).is_empty());
        for (broken, why) in [
            (told(MOST_GROWTH + 1, 0, 1, &[]), "the relay grew"),
            (told(0, MOST_LINES + 1, 1, &[]), "the relay logged"),
            (told(0, 0, 0, &[]), "counted no failed"),
            (told(0, 0, 1, &["a job"]), "a job"),
        ] {
            assert_eq!(broken.len(), 1, "{broken:?}");
            assert!(broken[0].contains(why), "{broken:?}");
        }
    }
}
