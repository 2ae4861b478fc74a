//! Whether `worldcompute admin firewall-diagnose` says of each network of the lab what that network is.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use worldcompute_evidence::{Commits, validate};

use super::claim::Claim;
use super::means::{Means, Report};
use super::names::RELAY;
use super::nat::Nat;
use super::node::{Node, command, run_for, text};
use super::profile::Profile;
use super::scenario::Cell;
use super::stop::Stop;
use super::world::{DOH, World};
use crate::shell::{Failure, Result};

/// A diagnosis has come to an end within this time. What vanishes is waited for, for about 5 s.
const PATIENCE: Duration = Duration::from_secs(60);
/// Networks that are made at the same time.
const AT_ONCE: usize = 4;

/// What is to be said of a network.
struct Expected {
    profile: Profile,
    nat: Nat,
    blocker: &'static str,
    how: &'static str,
    /// Over what a relay is reached, if at all.
    over: Option<&'static str>,
    inspected: bool,
    kind: &'static str,
}

/// Diagnoses every network.
///
/// # Errors
/// When the lab itself fails; what the program says wrongly is broken.
pub fn play(claim: &Claim, means: &Means, stop: &Stop) -> Result<Report> {
    let (waiting, said) = (Mutex::new(expected()), Mutex::new(Vec::new()));
    let work = || {
        while let Some(next) = take(&waiting) {
            stop.check()?;
            let what = diagnosed(claim, stop, &means.worldcompute, &next)?;
            said.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(what);
        }
        Ok(())
    };
    let done: Result<()> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            let done = worker.join();
            done.unwrap_or_else(|_| Err(Failure::new("a diagnosis could not be played")))
        })
    });
    done?;
    let mut said = said.into_inner().unwrap_or_else(PoisonError::into_inner);
    said.sort_by(|one, other| one.label.cmp(&other.label));
    Ok(Report {
        data: said.iter().map(|said| said.report.clone()).collect(),
        text: said.iter().map(|said| format!("{}\n", said.text)).collect(),
        broken: said.into_iter().filter_map(|said| said.broken).collect(),
    })
}

/// What was said of one network.
struct Said {
    label: String,
    text: String,
    report: Value,
    broken: Option<String>,
}

fn take(waiting: &Mutex<Vec<Expected>>) -> Option<Expected> {
    waiting.lock().ok()?.pop()
}

fn expected() -> Vec<Expected> {
    let of = |profile| {
        let (blocker, how, over) = said_of(profile);
        // By UDP, and by two addresses of the relay; its name stands for one.
        let kind = match over {
            Some("quic") if !profile.by_name() => "endpoint_independent",
            _ => "unknown",
        };
        Expected {
            profile,
            nat: Nat::PortRestricted,
            blocker,
            how,
            over,
            inspected: profile.trusts_inspection(),
            kind,
        }
    };
    let behind = |(nat, kind)| Expected {
        nat,
        kind,
        ..of(Profile::Open)
    };
    let nats = [
        (Nat::None, "none"),
        (Nat::AddressDependent, "endpoint_dependent"),
        (Nat::Symmetric, "endpoint_dependent"),
    ];
    let profiles = Profile::ALL.into_iter().map(of);
    profiles.chain(nats.into_iter().map(behind)).collect()
}

/// The blocker, how it blocks, and the way that is left.
const fn said_of(profile: Profile) -> (&'static str, &'static str, Option<&'static str>) {
    match profile {
        Profile::Open | Profile::Dns => ("nothing_blocked", "", Some("quic")),
        Profile::NoUdp => ("udp_blocked", "silent", Some("tcp")),
        Profile::Only443 | Profile::DenyDrop => ("only_443", "silent", Some("wss")),
        Profile::DenyReject => ("only_443", "refused", Some("wss")),
        Profile::Inspected => ("tls_inspection", "inspected", None),
        Profile::InspectedTrusted => ("tls_inspection", "inspected", Some("wss")),
        Profile::DnsNxdomain | Profile::DnsGarbage => ("dns_filtered", "lies", Some("quic")),
        Profile::DnsSilent => ("dns_filtered", "silent", Some("quic")),
    }
}

/// Diagnoses one network.
fn diagnosed(claim: &Claim, stop: &Stop, program: &Path, expected: &Expected) -> Result<Said> {
    let (profile, nat) = (expected.profile.name(), expected.nat.name());
    let label = format!("diagnose-{profile}-{nat}");
    let cell = Cell {
        nats: [expected.nat; 2],
        profile: expected.profile,
    };
    let world = World::make(claim, &label, cell, Duration::ZERO)?;
    let home = |name: &str| claim.dir(&format!("{label}/{name}"));
    let relays = ["relay", "--no-mdns", "--wss-listen"];
    let machine = &world.relay.namespace;
    let relay = Node::start(machine, program, home("relay")?, &relays, stop)?;
    let relay = relay.map_err(|why| Failure::new(format!("{label}: relay: {why}")))?;
    let begun = Instant::now();
    let [site, _] = &world.sites;
    let mut asked = command(&site.host, program, &home("donor")?);
    asked
        .args(words(&world, expected.profile, &relay))
        .arg("--out")
        .arg(home("evidence")?);
    let said = run_for(asked, PATIENCE, stop)?;
    let took = begun.elapsed().as_secs_f64();
    let report = said.map(|said| said.json()).unwrap_or_default();
    let (observed, wanted) = (observed(&report), expected.in_words());
    let evidence = evidence(&report)?;
    let wrong =
        || format!("diagnose {profile} behind {nat}: {observed}, and not {wanted}: {report:#}");
    Ok(Said {
        text: format!("diagnose {profile} behind {nat}: {observed}; {took:.1} s; {evidence}"),
        broken: (observed != wanted).then(wrong),
        label,
        report,
    })
}

/// The command line, with every address of the relay, or with its name.
fn words(world: &World<'_>, profile: Profile, relay: &Node<'_>) -> Vec<String> {
    let public = world
        .relay
        .addresses
        .map(|address| format!("/ip4/{address}/"));
    let own = relay.addresses.iter().map(String::as_str);
    let own: Vec<&str> = own
        .filter(|address| public.iter().any(|public| address.starts_with(public)))
        .collect();
    // More than one would be more than fits into an answer by datagram.
    let first = public.first().map_or("", String::as_str);
    let published: Vec<&str> = own
        .iter()
        .copied()
        .filter(|address| address.starts_with(first))
        .collect();
    world.publish(&published);
    let bootstrap = match profile.by_name() {
        true => format!("/dnsaddr/{RELAY}"),
        false => own.join(","),
    };
    let doh = format!("{DOH}@{}", world.doh.addresses[0]);
    let authorities = world.authorities.display().to_string();
    let words = [
        "admin",
        "firewall-diagnose",
        "--duration-s",
        "30",
        "--bootstrap",
        &bootstrap,
    ];
    let names = ["--doh", &doh, "--doh-authorities", &authorities];
    let trusted = profile
        .trusts_inspection()
        .then_some("--allow-ssl-inspection");
    let words = words.into_iter().chain(names).chain(trusted);
    words.map(String::from).collect()
}

/// What a report says, in the words of [`Expected::in_words`].
fn observed(report: &Value) -> String {
    let member = |of: &Value, name: &str| of.get(name).cloned().unwrap_or_default();
    let (verdict, path) = (member(report, "verdict"), member(report, "path"));
    let first = verdict.pointer("/blockers/0").cloned().unwrap_or_default();
    in_words(
        &text(&verdict, "blocker"),
        &text(&first, "how"),
        &text(&path, "transport"),
        member(&path, "inspected") == true,
        &text(&member(report, "nat"), "kind"),
    )
}

fn in_words(blocker: &str, how: &str, over: &str, inspected: bool, nat: &str) -> String {
    let how = if how.is_empty() {
        String::new()
    } else {
        format!(" ({how})")
    };
    let over = match (over, inspected) {
        ("", _) => "no way".to_owned(),
        (over, true) => format!("over {over}, inspected"),
        (over, false) => format!("over {over}"),
    };
    format!("{blocker}{how}, {over}, NAT {nat}")
}

impl Expected {
    fn in_words(&self) -> String {
        let over = self.over.unwrap_or_default();
        in_words(self.blocker, self.how, over, self.inspected, self.kind)
    }
}

fn evidence(report: &Value) -> Result<String> {
    let place = text(report, "evidence");
    if place.is_empty() {
        return Ok(format!(
            "skipped: evidence: {}",
            text(report, "no_evidence")
        ));
    }
    let valid = validate(Path::new(&place), Commits::Unchecked);
    let valid = valid.map_err(|fault| Failure::new(format!("{place}: {}", fault.message())))?;
    Ok(format!("evidence {:?}", valid.results.overall))
}
