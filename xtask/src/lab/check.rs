//! Whether the lab is what it says: each part is measured, and nothing may stay behind.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::authority::Authority;
use super::board::{self, Game};
use super::claim::{self, Claim};
use super::clock;
use super::cut;
use super::diagnose;
use super::doh;
use super::first;
use super::flap;
use super::flood;
use super::hold::{self, Hold};
use super::idle;
use super::internet::{Host, Internet};
use super::island;
use super::loss::{self, Loss};
use super::means::{Means, Report};
use super::names::{Lie, RELAY};
use super::nat::{Behaviour, Nat};
use super::opening;
use super::probe::Told;
use super::profile::Profile;
use super::scenario::{Cell, Trial};
use super::stop::Stop;
use super::world::{DOH, World};
use super::{inspection, measure, probe, reach, tools};
use crate::shell::{Failure, Result};

/// What a server is called.
const SERVER: &str = "server.lab";
/// The distance that is measured, and how far off it may be.
const DISTANCE: Duration = Duration::from_millis(100);
const ERROR: Duration = Duration::from_millis(5);
/// How often it is measured.
const ROUND_TRIPS: usize = 40;

/// How long what is held in the short form of `hold`.
const HOLD: Hold = Hold {
    reservation_s: 8,
    time: Duration::from_secs(24),
};
/// How long the short form of `flood` is.
const FLOOD: Duration = Duration::from_secs(10);

/// Measures everything, plays the short forms of the scenarios, and prints what came out. Returns what cannot be played on
/// this machine, with the reason for each; all of it where there can be no lab.
pub fn run(root: &Path, program: Option<PathBuf>) -> Result<Vec<String>> {
    if let Some(why) = tools::missing() {
        println!("skipped: lab: {why}");
        return Ok(vec![format!("lab: {why}")]);
    }
    let means = Means::find(program)?;
    let stop = Stop::listen()?;
    let before = of_this_machine()?;
    let claim = Claim::take()?;
    let measured = everything(&claim, &stop).and_then(|()| scenarios(&claim, &means, &stop));
    let measured = measured.and_then(|()| cells(&claim, root, &means, &stop));
    let id = claim.id().to_owned();
    drop(claim);
    measured?;
    nothing_left(&id)?;
    a_killed_run_is_swept()?;
    an_interrupted_run_cleans_up()?;
    match of_this_machine()? == before {
        true => said("the network of this machine is what it was".to_owned())?,
        false => return Err(Failure::new("the lab changed the network of this machine")),
    }
    Ok(clock::missing().into_iter().collect())
}

fn everything(claim: &Claim, stop: &Stop) -> Result<()> {
    for nat in Nat::ALL {
        stop.check()?;
        said(format!("nat {}: {}", nat.name(), as_promised(claim, nat)?))?;
    }
    for profile in Profile::ALL
        .into_iter()
        .filter(|profile| !profile.by_name())
    {
        stop.check()?;
        profile_as_promised(claim, profile)?;
        said(format!("firewall {}", profile.name()))?;
    }
    for profile in Profile::ALL.into_iter().filter(|profile| profile.by_name()) {
        stop.check()?;
        said(names_as_promised(claim, profile)?)?;
    }
    stop.check()?;
    said(inspection_as_promised(claim)?)?;
    stop.check()?;
    said(distance_as_promised(claim)?)
}

/// A whole job with every pair of NATs behind every firewall.
fn cells(claim: &Claim, root: &Path, means: &Means, stop: &Stop) -> Result<()> {
    let game = Game {
        cells: board::cells(&[], &[]),
        trial: Trial::of(root, means.worldcompute.clone(), Duration::ZERO)?,
        at_once: board::at_once(),
        json: false,
        out: None,
        witness: None,
    };
    board::play_all(claim, &game, stop)
}

/// Two at a time, since most of each is waiting; those that take all that the machine has, alone.
fn scenarios(claim: &Claim, means: &Means, stop: &Stop) -> Result<()> {
    tell(&diagnose::play(claim, means, stop)?)?;
    side_by_side([
        &[
            &|| hold::play(claim, &HOLD, means, stop),
            &|| cut::play(claim, means, stop),
            &|| island::play(claim, means, stop),
            &|| doh::play(claim, means, stop),
            &|| first::play(claim, means, stop),
            &|| idle::play(claim, means, stop),
            &|| opening::play(claim, means, stop),
        ],
        &[
            &|| loss::play(claim, &Loss::ALL, true, means, stop),
            &|| flap::play(claim, means, stop),
        ],
    ])?;
    match clock::missing() {
        None => tell(&clock::play(claim, means, stop)?)?,
        Some(why) => println!("skipped: {why}"),
    }
    tell(&flood::play(claim, FLOOD, means, stop)?)
}

type Scenario<'a> = &'a (dyn Fn() -> Result<Report> + Sync);

/// Plays one row of scenarios beside another.
fn side_by_side(rows: [&[Scenario<'_>]; 2]) -> Result<()> {
    let play = |row: &[Scenario<'_>]| row.iter().try_for_each(|scenario| tell(&scenario()?));
    let [one, other] = rows;
    std::thread::scope(|scope| {
        let one = scope.spawn(move || play(one));
        let other = play(other);
        let panicked = |_| Err(Failure::new("a scenario could not be played"));
        match (one.join().unwrap_or_else(panicked), other) {
            (Err(one), Err(other)) => {
                Err(Failure::new(format!("{}\n{}", one.message, other.message)))
            }
            (one, other) => one.and(other),
        }
    })
}

fn tell(report: &Report) -> Result<()> {
    report
        .text
        .lines()
        .try_for_each(|line| said(line.to_owned()))?;
    report.verdict()
}

/// Half of the round trips, at least, take what they are to take.
fn distance_as_promised(claim: &Claim) -> Result<String> {
    let internet = Internet::make(claim, "distance", DISTANCE)?;
    let [one, two] = outside(&internet)?;
    let mut times = measure::round_trips(&one, &two, ROUND_TRIPS)?;
    times.sort();
    let at = |share: usize| {
        times
            .get(times.len() * share / 100)
            .copied()
            .unwrap_or_default()
    };
    let (median, spread) = (at(50), [at(0), at(90)].map(|time| time.as_secs_f64() * 1e3));
    let told = format!(
        "a distance of {} ms: {ROUND_TRIPS} round trips, half of them within {:.1} ms, nine of ten from {:.1} to {:.1} ms",
        DISTANCE.as_millis(),
        median.as_secs_f64() * 1e3,
        spread[0],
        spread[1]
    );
    match median >= DISTANCE && median <= DISTANCE + ERROR {
        true => Ok(told),
        false => Err(Failure::new(format!("not {told}"))),
    }
}

/// What a NAT does, measured.
///
/// # Errors
/// When that is not what its name says.
pub fn as_promised(claim: &Claim, nat: Nat) -> Result<Behaviour> {
    let internet = Internet::make(claim, &format!("nat-{}", nat.name()), Duration::ZERO)?;
    let outside = outside(&internet)?;
    let site = internet.site("inside", 3, nat, Profile::Open)?;
    let measured = measure::behaviour(&site, &outside)?;
    match measured == nat.promise() {
        true => Ok(measured),
        false => Err(Failure::new(format!(
            "nat {} is not what its name says\n  promised: {}\n  measured: {measured}",
            nat.name(),
            nat.promise()
        ))),
    }
}

fn outside(internet: &Internet) -> Result<[Host; 2]> {
    Ok([internet.host("one", 1)?, internet.host("two", 2)?])
}

fn profile_as_promised(claim: &Claim, profile: Profile) -> Result<()> {
    let internet = Internet::make(
        claim,
        &format!("profile-{}", profile.name()),
        Duration::ZERO,
    )?;
    let outside = internet.host("outside", 1)?;
    let site = internet.site("inside", 2, Nat::None, profile)?;
    let foreign = Arc::new(Authority::make("foreign")?);
    let _box = profile
        .inspects()
        .then(|| inspection::start(&site.gate, foreign))
        .transpose()?;
    for sent in reach::ALL {
        let (promised, fate) = (profile.promise(sent), reach::fate(&site, &outside, sent)?);
        if fate != promised {
            let what = format!("{sent:?}: promised {promised:?}, measured {fate:?}");
            return Err(Failure::new(format!("profile {}: {what}", profile.name())));
        }
    }
    Ok(())
}

/// What a site's resolver says of a relay and of somebody else, by UDP and TCP, and what is said over HTTPS.
fn names_as_promised(claim: &Claim, profile: Profile) -> Result<String> {
    let cell = Cell {
        nats: [Nat::PortRestricted; 2],
        profile,
    };
    let world = World::make(
        claim,
        &format!("names-{}", profile.name()),
        cell,
        Duration::ZERO,
    )?;
    let [site, _] = &world.sites;
    let [relay, doh] = [&world.relay, &world.doh].map(|host| Told::Address(host.addresses[0]));
    let lied = match profile.lie() {
        Lie::None => relay,
        Lie::NoSuchName => Told::NoSuchName,
        Lie::Garbage => Told::Garbage,
        Lie::Silence => Told::Nothing,
    };
    let (by_udp, by_tcp) = (probe::by_udp, probe::by_tcp);
    let told = [
        by_udp(&site.host, site.near, RELAY)?,
        by_tcp(&site.host, site.near, RELAY)?,
        by_udp(&site.host, site.near, DOH)?,
        probe::by_https(
            &site.host,
            world.doh.addresses[0],
            DOH,
            &world.authority,
            RELAY,
        )?,
    ];
    match told == [lied, lied, doh, relay] {
        true => Ok(format!(
            "resolver {}: {lied:?} for a relay; over HTTPS the truth",
            profile.name()
        )),
        false => Err(Failure::new(format!(
            "resolver {}: {told:?}",
            profile.name()
        ))),
    }
}

/// Behind a box that inspects, a server is who the box says; elsewhere it is who it is.
fn inspection_as_promised(claim: &Claim) -> Result<String> {
    let internet = Internet::make(claim, "inspection", Duration::ZERO)?;
    let server = internet.host("server", 1)?;
    let read = internet.site("read", 2, Nat::PortRestricted, Profile::Inspected)?;
    let unread = internet.site("unread", 3, Nat::PortRestricted, Profile::DenyDrop)?;
    let [own, foreign] = [Authority::make("its own")?, Authority::make("foreign")?];
    let at = server.addresses[0];
    let _echo = probe::echo(&server.namespace, at, SERVER, &own)?;
    let foreign = Arc::new(foreign);
    let _box = inspection::start(&read.gate, foreign.clone())?;
    let mut told = Vec::new();
    for site in [&unread, &read] {
        for authority in [&own, &*foreign] {
            told.push(probe::echoes(&site.host, at, SERVER, authority)?);
        }
    }
    match told == [true, false, false, true] {
        true => Ok("inspection: who trusts the box alone is answered through it, who trusts the server alone is not".to_owned()),
        false => Err(Failure::new(format!("inspection: {told:?}"))),
    }
}

fn nothing_left(id: &str) -> Result<()> {
    match claim::left_of(id)? {
        left if left.is_empty() => Ok(()),
        left => Err(Failure::new(format!("left behind: {}", left.join(" ")))),
    }
}

fn a_killed_run_is_swept() -> Result<()> {
    let mut other = Other::start()?;
    let there = claim::left_of(&other.id)?;
    let alive = claim::sweep();
    other.end(Signal::KILL)?;
    if there.is_empty() || alive?.iter().any(|name| there.contains(name)) {
        return Err(Failure::new("a run that lives was swept, or made nothing"));
    }
    let swept = claim::sweep()?;
    nothing_left(&other.id)?;
    match swept.iter().filter(|name| there.contains(name)).count() {
        0 => Err(Failure::new("a run that was killed left nothing to sweep")),
        count => said(format!(
            "a run that was killed: {count} namespaces swept, and none while it lived"
        )),
    }
}

fn an_interrupted_run_cleans_up() -> Result<()> {
    for signal in [Signal::INT, Signal::TERM] {
        let mut other = Other::start()?;
        other.end(signal)?;
        nothing_left(&other.id)?;
    }
    said("a run that was interrupted left nothing".to_owned())
}

/// This program once more, holding a network.
struct Other {
    id: String,
    child: Child,
    _output: BufReader<ChildStdout>,
}

impl Other {
    fn start() -> Result<Self> {
        let failed = |what: &str| Failure::new(format!("cannot start another run: {what}"));
        let io_failed = |error: std::io::Error| failed(&error.to_string());
        // Not by its path: a build of the workspace meanwhile puts another program there.
        let mut child = Command::new("/proc/self/exe")
            .args(["lab", "keep"])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(io_failed)?;
        let output = child.stdout.take().ok_or_else(|| failed("no output"))?;
        let mut output = BufReader::new(output);
        let mut line = String::new();
        output.read_line(&mut line).map_err(io_failed)?;
        let id = line.trim().strip_prefix("run ");
        let id = id.ok_or_else(|| failed(line.trim()))?.to_owned();
        Ok(Self {
            id,
            child,
            _output: output,
        })
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal)
            .map_err(std::io::Error::from)
            .and_then(|()| self.child.wait())
            .map(drop)
            .map_err(|error| Failure::new(format!("cannot end the other run: {error}")))
    }
}

/// What this machine's own namespace has of the kinds that the lab makes: interfaces of its names, routes to its networks.
fn of_this_machine() -> Result<String> {
    let links = tools::ip("-o link show")?;
    let names = links.lines().filter_map(|line| line.split(": ").nth(1));
    let ours = |name: &&str| {
        ["link", "lan", "wan"]
            .iter()
            .any(|own| name.starts_with(own))
    };
    let links = names.filter(ours).collect::<Vec<_>>().join("\n");
    let routes = tools::ip("-4 route show table all")?;
    let routes = routes
        .lines()
        .filter(|route| route.contains("20.0.") || route.contains("20.1."));
    Ok(links + &routes.collect::<Vec<_>>().join("\n"))
}

fn said(what: String) -> Result<()> {
    println!("ok lab: {what}");
    Ok(())
}
