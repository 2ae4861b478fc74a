//! What the network around this machine lets through, found out by sending it.
//!
//! Every address of every relay is tried by itself, over its own transport, with an identity made for this alone; beside
//! that, what stands below a transport is tried too, so that it shows where the way ends: a datagram below QUIC, TCP
//! and TLS below the WebSocket, the system's resolver beside DNS over HTTPS. At the same time a node joins by the same
//! addresses as a daemon would. Nothing here touches a daemon that runs.

mod dialler;
mod naming;
mod nat;
mod probe;
mod raw;
mod rehearsal;
mod verdict;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use worldcompute_fault::{Category, Fault, Result};

use crate::address::{Transport, is_relayed, peer_of};
use crate::config::MeshConfig;
use crate::names::{Names, named, reached_at};
use crate::network;
use dialler::Diallers;
use naming::Question;
use nat::Observation;

pub use nat::{Nat, NatKind};
pub use probe::{Probe, ProbeKind, ProbeState, SeenCertificate};
pub use rehearsal::FirstPath;
pub use verdict::{Blocker, Verdict};

/// Addresses that are tried. Further ones are left out.
pub const MAX_TARGETS: usize = 64;
/// A reservation is waited for so long after everything else is known, if there is a way to a relay.
const RESERVATION_GRACE: Duration = Duration::from_secs(15);

/// Everything that was found out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// What it comes to.
    pub verdict: Verdict,
    /// The way that a daemon takes, and how soon it has an address there; `None` when it has none.
    pub path: Option<FirstPath>,
    /// Why there is no way, by the node that tried to join.
    pub no_path: Option<String>,
    /// What translates this machine's addresses, as far as relays can tell.
    pub nat: Nat,
    /// Everything that was tried, in the order in which it was known.
    pub probes: Vec<Probe>,
}

/// Finds out what is between this machine and the relays of `config.bootstrap`, within a time; sooner when everything is
/// known sooner. Each probe is sent to `told` as soon as it is over; what was not over in time is told as unknown.
///
/// Listens nowhere, and uses keys of its own: `config.key`, `listen` and `mdns` are not looked at.
///
/// # Errors
/// `no_relays` for nobody to try; `invalid_doh_server`; `no_local_authorities`.
pub async fn diagnose(
    config: &MeshConfig,
    within: Duration,
    told: mpsc::UnboundedSender<Probe>,
) -> Result<Diagnosis> {
    if config.bootstrap.is_empty() {
        return Err(no_relays());
    }
    let deadline = Instant::now() + within;
    let (rehearsal, probes) = (
        rehearsal::begin(config, within).await?,
        begin(config, told)?,
    );
    let (probes, observed) = probes.until(deadline).await;
    let ways: Vec<&Probe> = probes.iter().filter(|probe| probe.is_a_way()).collect();
    let patience = match ways.is_empty() {
        false => (Instant::now() + RESERVATION_GRACE).min(deadline),
        true => Instant::now(),
    };
    let joined = rehearsal.until(patience, &ways, deadline).await;
    let (path, no_path) = match joined {
        Ok(path) => (Some(path), None),
        Err(why) => (None, Some(why)),
    };
    Ok(Diagnosis {
        verdict: verdict::of(&probes, path.as_ref()),
        nat: nat::of(&observed, &probes),
        path,
        no_path,
        probes,
    })
}

/// Probes under way.
struct Probing {
    running: FuturesUnordered<BoxFuture<'static, Done>>,
    /// What has not come to an end.
    open: Vec<(ProbeKind, String)>,
    told: mpsc::UnboundedSender<Probe>,
    work: Arc<Work>,
}

/// What comes of one step: what is known, what a relay saw, and what there is to be tried next.
#[derive(Default)]
struct Done {
    probes: Vec<Probe>,
    observed: Option<Observation>,
    next: Vec<Step>,
}

/// Something to be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Ask who is behind a name that stands for several nodes.
    Seed(Multiaddr),
    /// Ask for the addresses of a host, then try the address there.
    Host(Multiaddr),
    /// Dial an address without a name in front.
    Dial(Multiaddr),
    /// Send a datagram there.
    Udp(Multiaddr),
    /// Connect to the port of the web there.
    Web(IpAddr),
    /// Connect there, and look at the certificate.
    Tls(Multiaddr),
    /// Compare what the system's resolver says of a name with DNS over HTTPS.
    Name(Question),
    /// Ask one resolver over HTTPS.
    Https(usize, Question),
}

struct Work {
    config: MeshConfig,
    names: Arc<Names>,
    diallers: Diallers,
}

fn begin(config: &MeshConfig, told: mpsc::UnboundedSender<Probe>) -> Result<Probing> {
    let work = Arc::new(Work {
        config: config.clone(),
        names: Arc::new(Names::new(&config.names, config.inspection)?),
        diallers: Diallers::start(config)?,
    });
    let mut probing = Probing {
        running: FuturesUnordered::new(),
        open: Vec::new(),
        told,
        work,
    };
    probing.add(first_steps(config));
    Ok(probing)
}

fn first_steps(config: &MeshConfig) -> Vec<Step> {
    let addresses = config
        .bootstrap
        .iter()
        .filter(|address| !is_relayed(address));
    let addresses: Vec<Multiaddr> = addresses.take(MAX_TARGETS).cloned().collect();
    let mut questions: Vec<Question> = Vec::new();
    for question in addresses.iter().filter_map(Question::of) {
        if !questions.contains(&question) {
            questions.push(question);
        }
    }
    // A relay that is known by its address alone says nothing about names; a name that is known to be there does.
    let control = config.names.doh.first().map(naming::of_resolver);
    if questions.is_empty() {
        questions.extend(control);
    }
    let first = questions.first().cloned();
    let https = first.into_iter().flat_map(|question| {
        (0..config.names.doh.len()).map(move |index| Step::Https(index, question.clone()))
    });
    let names = questions.iter().cloned().map(Step::Name);
    let steps: Vec<Step> = names.chain(https).collect();
    steps
        .into_iter()
        .chain(webs(&addresses))
        .chain(addresses.iter().flat_map(steps_of))
        .collect()
}

/// What is to be tried of an address.
fn steps_of(address: &Multiaddr) -> Vec<Step> {
    let address = address.clone();
    if naming::seed_name(&address).is_some() {
        return vec![Step::Seed(address)];
    }
    if named(&address).is_some() {
        return vec![Step::Host(address)];
    }
    match Transport::of(&address) {
        Transport::Quic => vec![Step::Udp(address.clone()), Step::Dial(address)],
        Transport::Wss => vec![Step::Tls(address.clone()), Step::Dial(address)],
        _ => vec![Step::Dial(address)],
    }
}

/// Machines of which nobody said that they listen for the web: whether that port is closed on the way, or there.
fn webs(addresses: &[Multiaddr]) -> Vec<Step> {
    let ips = |of: &dyn Fn(&Multiaddr) -> bool| -> BTreeSet<IpAddr> {
        addresses
            .iter()
            .filter(|address| of(address))
            .filter_map(network::ip)
            .collect()
    };
    let web = ips(&|address| Transport::of(address) == Transport::Wss);
    let all = ips(&|_| true);
    all.difference(&web).copied().map(Step::Web).collect()
}

impl Probing {
    fn add(&mut self, steps: Vec<Step>) {
        for step in steps {
            if self.open.len() < 4 * MAX_TARGETS {
                self.open.extend(step.promises());
                self.running.push(step.run(self.work.clone()).boxed());
            }
        }
    }

    /// Everything that is over by the deadline, and the rest as unknown.
    async fn until(mut self, deadline: Instant) -> (Vec<Probe>, Vec<Observation>) {
        let (mut probes, mut observed) = (Vec::new(), Vec::new());
        while let Ok(Some(done)) = timeout_at(deadline, self.running.next()).await {
            self.add(done.next);
            observed.extend(done.observed);
            for probe in done.probes {
                self.open
                    .retain(|(kind, target)| (*kind, target) != (probe.kind, &probe.target));
                // Whoever no longer listens gets all of them in the end.
                let _ = self.told.send(probe.clone());
                probes.push(probe);
            }
        }
        let unknown = self.open.drain(..);
        probes
            .extend(unknown.map(|(kind, target)| Probe::unknown(kind, target, "the time was up")));
        (probes, observed)
    }
}

impl Step {
    /// What will be known after it, whatever comes of it.
    fn promises(&self) -> Option<(ProbeKind, String)> {
        match self {
            Self::Seed(_) | Self::Host(_) => None,
            Self::Dial(address) => Some((ProbeKind::of(address), address.to_string())),
            Self::Udp(address) => Some((ProbeKind::Udp, address.to_string())),
            Self::Web(ip) => Some((ProbeKind::WebTcp, raw::web_of(*ip).to_string())),
            Self::Tls(address) => Some((ProbeKind::WebTls, address.to_string())),
            Self::Name(question) => Some((ProbeKind::SystemDns, question.to_string())),
            Self::Https(..) => None,
        }
    }

    async fn run(self, work: Arc<Work>) -> Done {
        match self {
            Self::Seed(seed) => behind_seed(&work, &seed).await,
            Self::Host(address) => behind_host(&work, address).await,
            Self::Dial(address) => work.diallers.dial(address).await.into(),
            Self::Udp(address) => raw::knock(address).await.into(),
            Self::Web(ip) => raw::connect(raw::web_of(ip)).await.into(),
            Self::Tls(address) => raw::look(address).await.into(),
            Self::Name(question) => naming::compare(&work.names, &work.config.names, question)
                .await
                .into(),
            Self::Https(index, question) => naming::over_https(&work.config.names, index, question)
                .await
                .into(),
        }
    }
}

async fn behind_seed(work: &Work, seed: &Multiaddr) -> Done {
    let Some(host) = naming::seed_name(seed) else {
        return Done::default();
    };
    // Why nobody is behind it the probe of the name tells.
    let found = work.names.entries(&host).await.unwrap_or_default();
    let wanted = peer_of(seed);
    let is_wanted = |found: &Multiaddr| {
        let is_node = naming::seed_name(found).is_none() && !is_relayed(found);
        is_node && (wanted.is_none() || peer_of(found) == wanted)
    };
    let found: Vec<Multiaddr> = found.into_iter().filter(is_wanted).collect();
    Done {
        next: webs(&found)
            .into_iter()
            .chain(found.iter().flat_map(steps_of))
            .collect(),
        ..Done::default()
    }
}

async fn behind_host(work: &Work, address: Multiaddr) -> Done {
    let Some((host, family)) = named(&address) else {
        return Done::default();
    };
    let found = work
        .names
        .addresses(&host, family)
        .await
        .unwrap_or_default();
    let reached: Vec<Multiaddr> = found
        .into_iter()
        .map(|ip| reached_at(&address, &host, ip))
        .collect();
    Done {
        next: webs(&reached)
            .into_iter()
            .chain(reached.iter().flat_map(steps_of))
            .collect(),
        ..Done::default()
    }
}

impl From<Vec<Probe>> for Done {
    fn from(probes: Vec<Probe>) -> Self {
        Self {
            probes,
            ..Self::default()
        }
    }
}

impl From<Probe> for Done {
    fn from(probe: Probe) -> Self {
        vec![probe].into()
    }
}

impl From<(Probe, Option<Observation>)> for Done {
    fn from((probe, observed): (Probe, Option<Observation>)) -> Self {
        Self {
            probes: vec![probe],
            observed,
            next: Vec::new(),
        }
    }
}

fn no_relays() -> Fault {
    Fault::new(
        Category::InvalidInput,
        "no_relays",
        "no relay is known that could be tried",
    )
    .hint("name one with --bootstrap, in config.toml or in WORLDCOMPUTE_BOOTSTRAP_SEEDS")
}

#[cfg(test)]
mod tests;
