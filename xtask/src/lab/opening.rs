//! Two sites whose firewalls let nothing but the web out, and then everything: what went through a relay goes directly, and a
//! job that is under way does not notice.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
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
    let over = AtomicBool::new(false);
    let (opened, worked) = std::thread::scope(|scope| {
        let worked = scope.spawn(|| without_a_pause(&jobs, &submitter, &donor, &over));
        let opened = open(&world, [&donor, &relay], [&submitter, &donor], stop);
        over.store(true, Ordering::Relaxed);
        let panicked = |_| Err(Failure::new("jobs could not be run"));
        (opened, worked.join().unwrap_or_else(panicked))
    });
    let (done, wrong) = worked?;
    broken.extend(wrong);
    Ok(report(closed, opened?, done, broken))
}

/// Jobs one after the other until it is over, and one more: how many, and what was wrong.
fn without_a_pause(
    jobs: &Jobs<'_>,
    submitter: &Node<'_>,
    donor: &Node<'_>,
    over: &AtomicBool,
) -> Result<(u64, Vec<String>)> {
    let (mut done, mut wrong) = (0, Vec::new());
    loop {
        let last = over.load(Ordering::Relaxed);
        let ended = jobs.run(submitter, "many")?;
        wrong.extend(jobs.wrong("a job while firewalls opened", &ended, donor)?);
        done += 1;
        if last || !wrong.is_empty() {
            return Ok((done, wrong));
        }
    }
}

/// Opens both firewalls, and waits until the first two are connected by QUIC, and the other two through a hole.
fn open(
    world: &World<'_>,
    by_quic: [&Node<'_>; 2],
    through_hole: [&Node<'_>; 2],
    stop: &Stop,
) -> Result<Opened> {
    let mut sites = world.sites.iter();
    sites.try_for_each(|site| site.reopen(Profile::Open))?;
    let since = Instant::now();
    let (mut to_relay, mut to_peer) = (None, None);
    until("better connected", stop, || {
        let [donor, relay] = by_quic;
        let way = Way::of(donor, relay, stop)?;
        if way.transport == "quic" {
            to_relay.get_or_insert(since.elapsed());
        }
        let [submitter, donor] = through_hole;
        let way = Way::of(submitter, donor, stop)?;
        if way.path == "hole_punched" {
            to_peer.get_or_insert((since.elapsed(), way.transport));
        }
        let both = to_relay.zip(to_peer.clone());
        Ok(both.map(|(to_relay, (to_peer, transport))| Opened {
            to_relay,
            to_peer,
            transport,
        }))
    })
}

/// How long it took until what was connected by WSS was so by QUIC, and what was connected through the relay directly.
struct Opened {
    to_relay: Duration,
    to_peer: Duration,
    transport: String,
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
fn until<T>(what: &str, stop: &Stop, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
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

fn report(closed: [Way; 2], opened: Opened, jobs: u64, mut broken: Vec<String>) -> Report {
    let [peer, relay] = &closed;
    if peer.path != "relayed" || relay.transport != "wss" {
        broken.push(format!("the firewalls were not closed before: {closed:?}"));
    }
    let text = format!(
        "two firewalls opened: the donor was connected to the relay by quic {:.1} s later (by wss before), and to the \
         submitter by {}, through a hole, {:.1} s later (relayed before); {jobs} jobs of 60 tasks completed meanwhile, without \
         a pause\n",
        opened.to_relay.as_secs_f64(),
        opened.transport,
        opened.to_peer.as_secs_f64()
    );
    let data = json!({
        "scenario": "opening",
        "upgrade_after_s": UPGRADE_AFTER_S,
        "to_relay_ms": opened.to_relay.as_millis(),
        "to_peer_ms": opened.to_peer.as_millis(),
        "transport": opened.transport,
        "jobs": jobs,
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
        let opened = Opened {
            to_relay: Duration::from_secs(6),
            to_peer: Duration::from_secs(9),
            transport: "tcp".to_owned(),
        };
        let wrong = wrong.iter().map(ToString::to_string).collect();
        report(closed, opened, 1, wrong).broken
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
