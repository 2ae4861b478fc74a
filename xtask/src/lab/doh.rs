//! Names that are looked up over HTTPS alone: of such a node nothing goes to port 53, of another something does.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::claim::Claim;
use super::ground::list;
use super::means::{Means, Report, Run};
use super::namespace::Namespace;
use super::nat::Nat;
use super::node::Node;
use super::profile::Profile;
use super::scenario::{Cell, joining};
use super::stop::Stop;
use super::tools;
use super::world::World;
use crate::shell::{Failure, Result};

/// In which a node finds the relay by its name, and is reserved on it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// For how long more what it sends is counted.
const AFTER: Duration = Duration::from_secs(5);
/// Counts what leaves for a resolver.
const COUNTER: &str = "table inet asked {\n\
    counter asked { }\n\
    chain out { type filter hook output priority 0; meta l4proto { tcp, udp } th dport 53 counter name asked; }\n\
    }\n";

/// Plays it.
pub fn play(claim: &Claim, means: &Means, stop: &Stop) -> Result<Report> {
    let cell = Cell {
        nats: [Nat::PortRestricted; 2],
        profile: Profile::Dns,
    };
    let world = World::make(claim, "doh", cell, Duration::ZERO)?;
    let run = Run::of("doh", claim, means, stop);
    let words = ["relay", "--no-mdns", "--wss-listen"];
    let relay = run.start(&world.relay.namespace, "relay", &words)?;
    let join = joining(&world, cell.profile, &relay);
    let join: Vec<&str> = join.iter().map(String::as_str).collect();
    let asked = |host: &Namespace, name: &str, more: &[&str]| {
        host.nft(COUNTER)?;
        let node = run.start(host, name, &[&join[..], more].concat())?;
        reserved(&node, stop)?;
        stop.wait(AFTER)?;
        count(host)
    };
    let [quiet, other] = &world.sites;
    Ok(report(
        asked(&quiet.host, "quiet", &["--doh-only"])?,
        asked(&other.host, "other", &[])?,
    ))
}

fn reserved(node: &Node<'_>, stop: &Stop) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !list(node, stop)?.iter().any(|held| held.stands()) {
        if Instant::now() > deadline {
            return Err(Failure::new("the relay was not found by its name"));
        }
        stop.wait(LOOK)?;
    }
    Ok(())
}

fn count(host: &Namespace) -> Result<u64> {
    let printed = tools::ip(&format!(
        "netns exec {} nft -j list counter inet asked asked",
        host.name()
    ))?;
    let listed: Value = serde_json::from_str(&printed).unwrap_or_default();
    let counters = listed.get("nftables").and_then(Value::as_array);
    let mut counters = counters.into_iter().flatten();
    let packets = counters.find_map(|one| one.pointer("/counter/packets")?.as_u64());
    packets.ok_or_else(|| Failure::new(format!("nftables counted nothing: {printed}")))
}

fn report(quiet: u64, other: u64) -> Report {
    let mut broken = Vec::new();
    if quiet > 0 {
        broken.push(format!(
            "{quiet} packets went to port 53 in spite of --doh-only"
        ));
    }
    if other == 0 {
        broken.push("without --doh-only nothing went to port 53 either".to_owned());
    }
    Report {
        data: json!({ "scenario": "doh", "doh_only": quiet, "without": other }),
        text: format!("packets to port 53: {quiet} with --doh-only, {other} without\n"),
        broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_too_many_and_a_count_that_counts_nothing_are_each_named() {
        assert!(report(0, 4).broken.is_empty());
        assert!(report(1, 4).broken[0].starts_with("1 packets"));
        assert!(report(0, 0).broken[0].starts_with("without"));
    }
}
