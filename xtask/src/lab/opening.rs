//! Two sites whose firewalls let nothing but the web out, and then everything: what went through a relay goes directly, and a
//! job that is under way does not notice.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::claim::Claim;
use super::ground::list;
use super::island::{Jobs, sees};
use super::means::{Means, Report, Run};
use super::nat::Nat;
use super::node::{ANSWER_TIME, Node, text};
use super::profile::Profile;
use super::scenario::{Cell, joining};
use super::stop::Stop;
use super::world::World;
use crate::shell::{Failure, Result};

/// After how many seconds on a worse connection nodes try a better one here.
const UPGRADE_AFTER_S: u32 = 5;
/// In which a node is reserved, and a better way is taken: the second and the third try are in it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);

/// Plays it.
pub fn play(claim: &Claim, means: &Means, stop: &Stop) -> Result<Report> {
    let cell = Cell {
        nats: [Nat::PortRestricted; 2],
        profile: Profile::DenyDrop,
    };
    let world = World::make(claim, "opening", cell, Duration::ZERO)?;
    let run = Run::of("opening", claim, means, stop);
    for name in ["donor", "submitter"] {
        configure(&run.home(name)?)?;
    }
    let words = ["relay", "--no-mdns", "--wss-listen"];
    let relay = run.start(&world.relay.namespace, "relay", &words)?;
    let join = joining(&world, cell.profile, &relay);
    let join: Vec<&str> = join.iter().map(String::as_str).collect();
    let jobs_only = [&join[..], &["--consent", "rendering"]].concat();
    let [one, other] = &world.sites;
    let donor = run.start(&one.host, "donor", &join)?;
    let submitter = run.start(&other.host, "submitter", &jobs_only)?;
    until("reserved", stop, || {
        let held = list(&donor, stop)?;
        Ok(held.iter().any(|held| held.stands()).then_some(()))
    })?;
    sees(&submitter, &donor.peer, stop)?;
    let jobs = Jobs::write(&claim.dir("opening/jobs")?, means, stop)?;
    let mut broken = Vec::new();
    let before = jobs.run(&submitter, "one")?;
    broken.extend(jobs.wrong("a job through the relay", &before, &donor)?);
    let closed = [
        Way::of(&submitter, &donor, stop)?,
        Way::of(&donor, &relay, stop)?,
    ];
    let under_way = jobs.submit(&submitter, "many")?;
    world
        .sites
        .iter()
        .try_for_each(|site| site.reopen(Profile::Open))?;
    let since = Instant::now();
    let better = |from: &Node<'_>, to: &Node<'_>, wanted: fn(&Way) -> bool| {
        until("better connected", stop, || {
            let way = Way::of(from, to, stop)?;
            Ok(wanted(&way).then(|| (way, since.elapsed())))
        })
    };
    let to_relay = better(&donor, &relay, |way| way.transport == "quic")?;
    let to_peer = better(&submitter, &donor, |way| way.path == "hole_punched")?;
    let ended = jobs.end(&submitter, &under_way)?;
    broken.extend(jobs.wrong("a job that was under way", &ended, &donor)?);
    let after = jobs.run(&submitter, "one")?;
    broken.extend(jobs.wrong("a job without the relay", &after, &donor)?);
    Ok(report(closed, to_relay, to_peer, broken))
}

/// Nodes that do not take a minute before they try.
fn configure(home: &Path) -> Result<()> {
    let path = home.join("config.toml");
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&path);
    file.and_then(|mut file| writeln!(file, "upgrade_after_s = {UPGRADE_AFTER_S}"))
        .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
}

/// Looks until there is what is looked for.
fn until<T>(what: &str, stop: &Stop, look: impl Fn() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            let seconds = PATIENCE.as_secs();
            return Err(Failure::new(format!("not {what} after {seconds} s")));
        }
        stop.wait(LOOK)?;
    }
}

/// How one node says that it is connected to another.
#[derive(Debug, Default)]
struct Way {
    path: String,
    transport: String,
}

impl Way {
    fn of(from: &Node<'_>, to: &Node<'_>, stop: &Stop) -> Result<Self> {
        let peers = from.ask_json(&["cluster", "peers"], ANSWER_TIME, stop)?;
        let mut peers = peers.as_array().into_iter().flatten();
        let peer = peers.find(|peer| text(peer, "peer_id") == to.peer);
        Ok(peer.map(Self::read).unwrap_or_default())
    }

    fn read(peer: &Value) -> Self {
        Self {
            path: text(peer, "path"),
            transport: text(peer, "transport"),
        }
    }
}

fn report(
    closed: [Way; 2],
    (_, to_relay): (Way, Duration),
    (way, to_peer): (Way, Duration),
    mut broken: Vec<String>,
) -> Report {
    let [peer, relay] = &closed;
    if peer.path != "relayed" || relay.transport != "wss" {
        broken.push(format!("the firewalls were not closed before: {closed:?}"));
    }
    let text = format!(
        "two firewalls opened: the donor was connected to the relay by quic {:.1} s later (by wss before), and to the \
         submitter by {}, through a hole, {:.1} s later (relayed before); a job under way completed\n",
        to_relay.as_secs_f64(),
        way.transport,
        to_peer.as_secs_f64()
    );
    let data = json!({
        "scenario": "opening",
        "upgrade_after_s": UPGRADE_AFTER_S,
        "to_relay_ms": to_relay.as_millis(),
        "to_peer_ms": to_peer.as_millis(),
        "transport": way.transport,
    });
    Report { data, text, broken }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(path: &str, transport: &str, wrong: &[&str]) -> Vec<String> {
        let way = |path: &str, transport: &str| {
            Way::read(&json!({ "path": path, "transport": transport }))
        };
        let closed = [way(path, "wss"), way("direct", transport)];
        let after = (way("hole_punched", "quic"), Duration::from_secs(9));
        let again = (way("hole_punched", "quic"), Duration::from_secs(9));
        let wrong = wrong.iter().map(ToString::to_string).collect();
        report(closed, after, again, wrong).broken
    }

    #[test]
    fn firewalls_that_were_never_closed_and_jobs_that_fail_are_named() {
        assert!(broken("relayed", "wss", &[]).is_empty());
        assert_eq!(broken("relayed", "wss", &["a job"]), ["a job"]);
        for (path, transport) in [("direct", "wss"), ("relayed", "quic")] {
            assert!(broken(path, transport, &[])[0].contains("not closed"));
        }
    }
}
