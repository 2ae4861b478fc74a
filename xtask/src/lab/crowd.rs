//! A thousand peers of one /24 take all that they get of a relay and of the donor behind it: every network has its share, memory
//! and log stay small, and who comes from elsewhere is served.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::claim::Claim;
use super::ground::{Ground, Held, Nodes, list};
use super::internet::Host;
use super::island::Jobs;
use super::means::{Means, Report};
use super::node::ANSWER_TIME;
use super::sizes::{Sizes, mib};
use super::stop::Stop;
use super::teller::Teller;
use crate::shell::{Failure, Result};

/// Identities.
pub const CROWD: u64 = 1000;
/// What one network may have at a relay: connections, as many reservations, and circuits. They are the program's own limits.
const MOST_CONNECTIONS: u64 = 512;
const MOST_CIRCUITS: u64 = 768;
/// Connections of those who are no part of the crowd.
const OTHERS: u64 = 24;
/// What a process may take more of the machine's memory than before: a quarter of a MiB for a connection, and a half for a
/// circuit that ends there, with what is encrypted and multiplexed on it.
const MOST_GROWTH: [u64; 2] = [
    MOST_CONNECTIONS * (256 << 10) + MOST_CIRCUITS * (64 << 10),
    MOST_CIRCUITS * (512 << 10),
];
/// Lines that a node may log in all.
const MOST_LINES: usize = 1000;
/// In which the crowd has its share, and somebody honest a reservation.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at a list.
const LOOK: Duration = Duration::from_millis(500);
/// What relays grant.
const RESERVATION_S: u32 = 120;

/// Plays it for so long, from when the crowd has its share.
pub fn play(claim: &Claim, time: Duration, means: &Means, stop: &Stop) -> Result<Report> {
    let ground = Ground::make(claim, "crowd")?;
    let host = ground.host("many", 6)?;
    spread(&host)?;
    let nodes = ground.start(means, RESERVATION_S, stop)?;
    nodes.all_held(stop)?;
    let jobs = Jobs::write(&claim.dir("crowd/jobs")?, means, stop)?;
    let before = Sizes::of(&nodes)?;
    let crowd = start(&host, &ground, &nodes, means)?;
    let is_there = |told: &[Got]| {
        let got = Got::most(told);
        got.reservations > MOST_CONNECTIONS / 2 && got.circuits > 0
    };
    if !crowd.until(is_there, PATIENCE, stop)? {
        let last = crowd.told().pop();
        return Err(Failure::new(format!("the crowd never came: {last:?}")));
    }
    let until = Instant::now() + time;
    let (most, connections, served) = std::thread::scope(|scope| {
        let most = scope.spawn(|| Sizes::most(&nodes, before, until, stop));
        let connections = scope.spawn(|| connections(&nodes, until, stop));
        let served = serve(&ground, &nodes, means, &jobs, until, stop);
        let unwatched = || Failure::new("the nodes were not watched");
        (
            most.join().unwrap_or_else(|_| Err(unwatched())),
            connections.join().unwrap_or_else(|_| Err(unwatched())),
            served,
        )
    });
    let told = Told {
        time,
        before,
        most: most?,
        connections: connections?,
        got: Got::most(&crowd.told()),
        served: served?,
        lines: [nodes.relays[0].lines(), nodes.donor.lines()],
        counted: nodes.relays[0].inbound(stop)?,
    };
    Ok(told.report())
}

/// The most connections that relay and donor had at a time, until then, as they tell.
fn connections(nodes: &Nodes<'_>, until: Instant, stop: &Stop) -> Result<[u64; 2]> {
    let mut most = [0; 2];
    while Instant::now() < until {
        for (most, node) in most.iter_mut().zip([&nodes.relays[0], &nodes.donor]) {
            let status = node.ask_json(&["admin", "status"], ANSWER_TIME, stop)?;
            let now = status.get("connections").and_then(Value::as_u64);
            *most = now.unwrap_or_default().max(*most);
        }
        stop.wait(LOOK)?;
    }
    Ok(most)
}

/// What leaves the machine comes from one of half of the addresses of its network, each in turn.
fn spread(host: &Host) -> Result<()> {
    let [first, _] = host.addresses;
    let [a, b, c, _] = first.octets();
    host.namespace
        .ip(&format!("route add local {a}.{b}.{c}.128/25 dev lo"))?;
    let map: Vec<String> = (128..255)
        .map(|last| format!("{} : {a}.{b}.{c}.{last}", last - 128))
        .collect();
    host.namespace.nft(&format!(
        "table ip crowd {{\nchain leaving {{\ntype nat hook postrouting priority 100;\n\
         oifname \"eth0\" snat to numgen inc mod {} map {{ {} }}\n}}\n}}\n",
        map.len(),
        map.join(", ")
    ))
}

fn start(
    host: &Host,
    ground: &Ground<'_>,
    nodes: &Nodes<'_>,
    means: &Means,
) -> Result<Teller<Got>> {
    let [relay, _] = &nodes.relays;
    let mut addresses = ground.public(0, relay).into_iter();
    let tcp = addresses.find(|one| one.contains("/tcp/") && !one.contains("/ws"));
    let tcp = tcp.ok_or_else(|| Failure::new("the relay does not listen for TCP"))?;
    let count = CROWD.to_string();
    let words = [
        "--count",
        &count,
        "--relay",
        &tcp,
        "--peer",
        &nodes.donor.peer,
    ];
    let words: Vec<String> = words.iter().map(ToString::to_string).collect();
    Teller::start(&host.namespace, &means.crowd, &words, Got::parse)
}

/// Somebody honest comes from elsewhere, is reserved on the relay that the crowd is at, and has jobs done until it is over. How
/// long the reservation took, how many jobs were done, and what was wrong.
fn serve(
    ground: &Ground<'_>,
    nodes: &Nodes<'_>,
    means: &Means,
    jobs: &Jobs<'_>,
    until: Instant,
    stop: &Stop,
) -> Result<Served> {
    let since = Instant::now();
    let submitter = ground.submitter(means, nodes, stop)?;
    let relay = &nodes.relays[0].peer;
    while !list(&submitter, stop)?
        .iter()
        .any(|held| held.relay == *relay && Held::stands(held))
    {
        if since.elapsed() > PATIENCE {
            return Err(Failure::new("somebody honest got no reservation"));
        }
        stop.wait(LOOK)?;
    }
    let reserved = since.elapsed();
    let (done, wrong) =
        jobs.run_until(until, "a job beside the crowd", &submitter, &nodes.donor)?;
    Ok(Served {
        reserved,
        jobs: done,
        wrong,
    })
}

/// What the crowd has.
#[derive(Clone, Copy, Debug, Default)]
struct Got {
    reservations: u64,
    circuits: u64,
}

impl Got {
    fn parse(line: &str) -> Option<Self> {
        let told: Value = serde_json::from_str(line).ok()?;
        let count = |name: &str| told.get(name)?.as_u64();
        Some(Self {
            reservations: count("reservations")?,
            circuits: count("circuits")?,
        })
    }

    /// The most it had of each.
    fn most(told: &[Self]) -> Self {
        told.iter().fold(Self::default(), |most, got| Self {
            reservations: most.reservations.max(got.reservations),
            circuits: most.circuits.max(got.circuits),
        })
    }
}

struct Served {
    reserved: Duration,
    jobs: u64,
    wrong: Vec<String>,
}

/// What was seen.
struct Told {
    time: Duration,
    before: Sizes,
    most: Sizes,
    connections: [u64; 2],
    got: Got,
    served: Served,
    lines: [usize; 2],
    counted: Value,
}

impl Told {
    fn report(&self) -> Report {
        let (got, served) = (&self.got, &self.served);
        let [relay, donor] = self.connections;
        let mut text = format!(
            "{CROWD} peers of one /24 had {} reservations and {} circuits of a relay, for {:.0} s; it had {relay} connections at most, the donor {donor}\n\
             somebody from elsewhere was reserved there after {:.1} s, and had {} jobs done\n",
            got.reservations,
            got.circuits,
            self.time.as_secs_f64(),
            served.reserved.as_secs_f64(),
            served.jobs
        );
        let sizes = self.before.0.into_iter().zip(self.most.0).zip(self.lines);
        for (name, ((before, most), lines)) in ["relay", "donor"].into_iter().zip(sizes) {
            text += &format!(
                "{name}: {:.1} MiB before, {:.1} MiB at most, {lines} lines of log\n",
                mib(before),
                mib(most)
            );
        }
        text += &format!("the relay counted {}\n", self.counted);
        Report {
            data: self.data(),
            text,
            broken: self.broken(),
        }
    }

    fn broken(&self) -> Vec<String> {
        let mut broken = self.served.wrong.clone();
        let shares = [
            (
                "connections with others",
                self.connections[0],
                MOST_CONNECTIONS + OTHERS,
            ),
            (
                "connections with others at the donor",
                self.connections[1],
                MOST_CIRCUITS + OTHERS,
            ),
            ("reservations", self.got.reservations, MOST_CONNECTIONS),
            ("circuits", self.got.circuits, MOST_CIRCUITS),
        ];
        let over = shares.into_iter().filter(|(_, got, most)| got > most);
        broken.extend(
            over.map(|(what, got, most)| {
                format!("one network had {got} {what}, {most} is its share")
            }),
        );
        let sizes = self.before.0.into_iter().zip(self.most.0);
        let nodes = ["relay", "donor"].into_iter().zip(sizes);
        for (((name, (before, most)), lines), growth) in nodes.zip(self.lines).zip(MOST_GROWTH) {
            if most > before + growth {
                broken.push(format!("the {name} grew from {before} to {most} bytes"));
            }
            if lines > MOST_LINES {
                broken.push(format!(
                    "the {name} logged {lines} lines, {MOST_LINES} are the most"
                ));
            }
        }
        for what in ["connections_refused", "circuits_refused"] {
            let count = self.counted.get(what).and_then(Value::as_u64);
            if count.unwrap_or(0) == 0 {
                broken.push(format!("the relay counted no {what}: {}", self.counted));
            }
        }
        broken
    }

    fn data(&self) -> Value {
        json!({
            "scenario": "crowd",
            "peers": CROWD,
            "seconds": self.time.as_secs(),
            "connections_most": { "relay": self.connections[0], "donor": self.connections[1] },
            "reservations": self.got.reservations,
            "circuits": self.got.circuits,
            "reserved_ms": self.served.reserved.as_millis(),
            "jobs_done": self.served.jobs,
            "memory_before": { "relay": self.before.0[0], "donor": self.before.0[1] },
            "memory_most": { "relay": self.most.0[0], "donor": self.most.0[1] },
            "log_lines": { "relay": self.lines[0], "donor": self.lines[1] },
            "counted": self.counted,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(change: impl Fn(&mut Told)) -> Vec<String> {
        let mut told = Told {
            time: Duration::from_secs(60),
            before: Sizes([1 << 20; 2]),
            most: Sizes([1 << 20; 2]),
            connections: [MOST_CONNECTIONS + OTHERS, MOST_CIRCUITS + OTHERS],
            got: Got {
                reservations: MOST_CONNECTIONS,
                circuits: MOST_CIRCUITS,
            },
            served: Served {
                reserved: Duration::ZERO,
                jobs: 1,
                wrong: Vec::new(),
            },
            lines: [MOST_LINES; 2],
            counted: json!({ "connections_refused": 1, "circuits_refused": 1 }),
        };
        change(&mut told);
        told.report().broken
    }

    #[test]
    fn each_share_that_is_exceeded_and_each_promise_that_is_broken_is_named() {
        assert!(told(|_| {}).is_empty());
        for (broken, why) in [
            (told(|told| told.connections[0] += 1), "connections"),
            (told(|told| told.connections[1] += 1), "at the donor"),
            (told(|told| told.got.reservations += 1), "reservations"),
            (told(|told| told.got.circuits += 1), "circuits"),
            (
                told(|told| told.most.0[0] += MOST_GROWTH[0] + 1),
                "relay grew",
            ),
            (
                told(|told| told.most.0[1] += MOST_GROWTH[1] + 1),
                "donor grew",
            ),
            (told(|told| told.lines[1] += 1), "donor logged"),
            (
                told(|told| told.counted = json!({ "connections_refused": 1 })),
                "no circuits_refused",
            ),
            (
                told(|told| told.served.wrong.push("a job".to_owned())),
                "a job",
            ),
        ] {
            assert_eq!(broken.len(), 1, "{broken:?}");
            assert!(broken[0].contains(why), "{broken:?}");
        }
    }

    #[test]
    fn what_the_crowd_has_is_read_from_its_lines() {
        let line = r#"{"connections":3,"reservations":2,"circuits":1,"refused":9}"#;
        let got = Got::parse(line).unwrap();
        assert_eq!((got.reservations, got.circuits), (2, 1));
        assert!(Got::parse("{}").is_none());
    }
}
