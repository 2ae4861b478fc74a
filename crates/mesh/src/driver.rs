//! The task that owns the swarm: everything that happens goes through here, one thing at a time.

mod bans;
mod connections;
mod dialling;
mod gossip;
mod history;
mod neighbours;
mod pacing;
mod relaying;
mod requests;
mod reservations;
mod reversal;
mod seeds;
mod snapshot;
mod upgrades;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::core::transport::ListenerId;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{self, ConnectionId, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Stream, Swarm, identify, kad, mdns};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, timeout};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof as proof;

use self::seeds::is_seed;
use crate::address::{is_relayed, peer_of};
use crate::admission::Admission;
use crate::behaviour::{Behaviour, BehaviourEvent};
use crate::book::Book;
use crate::circuits::Circuits;
use crate::codec::Offence;
use crate::config::MeshConfig;
use crate::exchange::{Desk, Lines};
use crate::given_up::GivenUp;
use crate::hearsay::Hearsay;
use crate::inbound::{Inbound, Responder};
use crate::names::Names;
use crate::refusals::{PeerLines, Refusals};
use crate::relays::{MAX_BOOTSTRAP, Relays};
use crate::routes::Routes;
use crate::status::{DialCounts, InboundCounts, KnownRelay, MeshEvent, MeshStatus, PeerInfo};
use crate::transport::{self, Beside};
use crate::wire::{Capacity, RelaysReply, Topic};
use crate::wss::Sightings;

/// Commands that may wait for the task.
const COMMANDS: usize = 1024;
/// Events that a subscriber may lag behind.
const EVENTS: usize = 1024;
/// How often time alone is looked at.
const TICK: Duration = Duration::from_millis(100);
/// An idle connection is closed after this time.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// A listener stands within this time.
const BIND_TIMEOUT: Duration = Duration::from_secs(5);
/// Peers learn within this time that this node leaves.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);
/// Streams of one connection that may negotiate their protocol at the same time.
const MAX_NEGOTIATING: usize = 64;

/// What the handle asks for.
#[derive(Debug)]
pub(crate) enum Command {
    Peers(oneshot::Sender<Vec<PeerInfo>>),
    Status(oneshot::Sender<MeshStatus>),
    Inspects(proof::PeerId, oneshot::Sender<bool>),
    Connect(proof::PeerId, oneshot::Sender<Result<()>>),
    Announce(Box<Capacity>),
    Publish(Topic, Vec<u8>),
    AddPeer(proof::PeerId, Vec<Multiaddr>),
    Ban(proof::PeerId),
    Unban(proof::PeerId),
    Seeds(Multiaddr, seeds::Found),
    Told(PeerId, RelaysReply),
    /// The connection to a peer that was asked for relays broke before it answered.
    Unanswered(PeerId),
    Asked(PeerId, Responder<RelaysReply>),
    /// What a peer did wrong, and the stream it did it on.
    Offence(PeerId, Offence, Option<Stream>),
    KnownRelays(oneshot::Sender<Vec<KnownRelay>>),
    Shutdown(oneshot::Sender<()>),
}

type Started = (
    mpsc::Sender<Command>,
    Lines,
    broadcast::WeakSender<MeshEvent>,
    mpsc::Receiver<Inbound>,
);

/// Builds a node, makes it listen, and lets it run.
pub(crate) async fn start(config: &MeshConfig) -> Result<Started> {
    let (commands, commanded) = mpsc::channel(COMMANDS);
    let (inbound, requests) = mpsc::channel(config.inbound_queue.max(1));
    let (mut driver, names) = Driver::new(config, commands.downgrade(), commanded, inbound)?;
    let (events, lines) = (driver.events.downgrade(), driver.lines.clone());
    driver.listen(&config.listen).await?;
    driver.follow_seeds(names, seeds(config), config.names.again_after);
    tokio::spawn(driver.run());
    Ok((commands, lines, events, requests))
}

/// The state of a node.
struct Driver {
    me: proof::PeerId,
    agent: String,
    hub: bool,
    swarm: Swarm<Behaviour>,
    /// For tasks of its own to tell it something.
    own: mpsc::WeakSender<Command>,
    commands: mpsc::Receiver<Command>,
    lines: Lines,
    desk: Arc<Desk>,
    events: broadcast::Sender<MeshEvent>,
    book: Book,
    relays: Relays,
    histories: history::Histories,
    /// Who holds a reservation on this node, if it relays.
    admission: Admission,
    /// Who has circuits through it.
    circuits: Circuits,
    routes: Routes,
    refusals: Refusals,
    peer_lines: PeerLines,
    hearsay: Hearsay,
    rounds: relaying::Rounds,
    reversals: reversal::Reversals,
    upgrades: upgrades::Upgrades,
    neighbours: neighbours::Neighbours,
    voice: gossip::Voice,
    attempts: HashMap<ConnectionId, dialling::Attempt>,
    given_up: GivenUp,
    /// What is dialled next where the first attempt comes to nothing.
    fallbacks: HashMap<PeerId, dialling::Fallback>,
    /// Who is reached through a box that opens TLS.
    sightings: Sightings,
    lookups: HashMap<kad::QueryId, PeerId>,
    waiting: HashMap<PeerId, Vec<oneshot::Sender<Result<()>>>>,
    /// Peers whose last circuit ended, when to see to it, and whether a request was under way on it.
    lost: HashMap<PeerId, (Instant, bool)>,
    blocked: VecDeque<(PeerId, Instant)>,
    banned: HashSet<PeerId>,
    /// What ends with this node.
    tasks: JoinSet<()>,
    dials: DialCounts,
    counts: InboundCounts,
}

/// Why the task ended, and who wants to know.
type Farewell = Option<oneshot::Sender<()>>;

impl Driver {
    fn new(
        config: &MeshConfig,
        own: mpsc::WeakSender<Command>,
        commands: mpsc::Receiver<Command>,
        inbound: mpsc::Sender<Inbound>,
    ) -> Result<(Self, Arc<Names>)> {
        let me = config.key.peer_id();
        let admission = Admission::new(&config.relay_limits, config.reservation_duration);
        let circuits = Circuits::new(config.relay_limits.circuits_of_network);
        let lines = Lines::default();
        let desk = Arc::new(Desk::new(lines.clone(), inbound, own.clone()));
        let (swarm, beside) = swarm(config, &admission, &circuits, desk.clone())?;
        let bootstrap = bootstrap(config, swarm.local_peer_id())?;
        let wanted = if config.relay_server {
            0
        } else {
            config.reservations
        };
        let (local, now) = (*swarm.local_peer_id(), Instant::now());
        let mut relays = Relays::new(local, wanted, config.upgrade_after, &bootstrap, now);
        if config.relay_server {
            relays = relays.linked();
        }
        let mut hearsay = Hearsay::new(local, now);
        hearsay.remember(relaying::kept(&config.known_relays), now);
        let mut driver = Self {
            me,
            agent: config.agent.clone(),
            hub: config.relay_server,
            swarm,
            own,
            commands,
            lines,
            desk,
            events: broadcast::channel(EVENTS).0,
            book: Book::default(),
            relays,
            histories: history::Histories::default(),
            admission,
            circuits,
            routes: Routes::default(),
            refusals: Refusals::default(),
            peer_lines: PeerLines::new(now),
            hearsay,
            rounds: relaying::Rounds::new(now),
            reversals: reversal::Reversals::new(now),
            upgrades: upgrades::Upgrades::new(config.upgrade_after, now),
            neighbours: neighbours::Neighbours::new(now),
            voice: gossip::Voice::new(),
            attempts: HashMap::new(),
            given_up: beside.given_up,
            fallbacks: HashMap::new(),
            sightings: beside.sightings,
            lookups: HashMap::new(),
            waiting: HashMap::new(),
            lost: HashMap::new(),
            blocked: VecDeque::new(),
            banned: HashSet::new(),
            tasks: JoinSet::new(),
            dials: DialCounts::default(),
            counts: InboundCounts::default(),
        };
        for peer in &config.banned {
            driver.ban(peer);
        }
        Ok((driver, beside.names))
    }

    /// Listens, and returns when every listener has an address. Those on all of IPv6 are not waited for: not every
    /// machine has it.
    async fn listen(&mut self, addresses: &[Multiaddr]) -> Result<()> {
        let mut pending = HashMap::new();
        for address in addresses {
            match self.swarm.listen_on(address.clone()) {
                Ok(listener) if !is_all_of_ipv6(address) => {
                    pending.insert(listener, address.clone());
                }
                Ok(_) => {}
                Err(error) if is_all_of_ipv6(address) => {
                    let fault = unlistenable(address, &error);
                    tracing::info!(reason = fault.message(), "there is no IPv6");
                }
                Err(error) => return Err(unlistenable(address, &error)),
            }
        }
        timeout(BIND_TIMEOUT, self.bind(&mut pending))
            .await
            .unwrap_or_else(|_| {
                let late: Vec<String> = pending.values().map(ToString::to_string).collect();
                Err(Fault::new(
                    Category::IoFailure,
                    "listen_timeout",
                    format!("no address on {}", late.join(", ")),
                ))
            })
    }

    async fn bind(&mut self, pending: &mut HashMap<ListenerId, Multiaddr>) -> Result<()> {
        while !pending.is_empty() {
            let event = self.swarm.select_next_some().await;
            match &event {
                SwarmEvent::NewListenAddr { listener_id, .. } => {
                    pending.remove(listener_id);
                }
                SwarmEvent::ListenerClosed {
                    listener_id,
                    reason: Err(error),
                    ..
                } => {
                    if let Some(address) = pending.get(listener_id) {
                        return Err(unlistenable(address, error));
                    }
                }
                _ => {}
            }
            self.on_swarm_event(event);
        }
        Ok(())
    }

    async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let farewell = loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                _ = tick.tick() => self.on_tick(),
                command = self.commands.recv() => match command {
                    None => break None,
                    Some(Command::Shutdown(done)) => break Some(done),
                    Some(command) => self.on_command(command),
                },
            }
        };
        self.leave(farewell).await;
    }

    /// Closes every connection and waits until the peers know, then gives up the ports.
    async fn leave(mut self, farewell: Farewell) {
        self.commands.close();
        let connected: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in connected {
            // Fails only when the peer has just gone by itself.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closed = async {
            while self.swarm.network_info().num_peers() > 0 {
                self.swarm.select_next_some().await;
            }
        };
        if timeout(LEAVE_TIMEOUT, closed).await.is_err() {
            tracing::info!("some peers were left without a farewell");
        }
        drop(self);
        drop(farewell);
    }

    fn on_command(&mut self, command: Command) {
        match command {
            // Whoever no longer waits need not be told.
            Command::Peers(reply) => drop(reply.send(self.peers())),
            Command::Status(reply) => drop(reply.send(self.status())),
            Command::Inspects(peer, reply) => drop(reply.send(self.inspects(&peer))),
            Command::Connect(peer, connected) => self.connect_for(peer, connected),
            Command::Announce(capacity) => self.announce(*capacity),
            // A message that nobody hears is no error.
            Command::Publish(topic, bytes) => drop(self.publish(topic, bytes)),
            Command::AddPeer(peer, addresses) => self.add_peer(peer, addresses),
            Command::Ban(peer) => self.ban(&peer),
            Command::Unban(peer) => self.unban(&peer),
            Command::Seeds(seed, found) => self.on_seeds(&seed, found),
            Command::Told(from, reply) => self.on_told(&from, reply),
            Command::Unanswered(peer) => self.rounds.unanswered(&peer, Instant::now()),
            Command::Asked(by, responder) => self.on_asked(&by, responder),
            Command::Offence(peer, offence, _stream) => self.on_offence(peer, &offence),
            Command::KnownRelays(reply) => drop(reply.send(self.known_relays())),
            // Ends the loop that calls this.
            Command::Shutdown(done) => drop(done),
        }
    }

    fn on_tick(&mut self) {
        let now = Instant::now();
        self.tend_relays(now);
        self.tend_hearsay(now);
        self.tend_fallbacks(now);
        self.tend_given_up(now);
        self.tend_connections(now);
        self.tend_upgrades(now);
        self.tend_neighbours(now);
        self.forgive(now);
        self.speak(now);
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                concurrent_dial_errors,
                ..
            } => {
                self.on_established(
                    peer_id,
                    connection_id,
                    &endpoint,
                    &concurrent_dial_errors.unwrap_or_default(),
                );
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                endpoint,
                cause,
                ..
            } => {
                self.on_closed(peer_id, connection_id, &endpoint, cause.as_ref());
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                peer_id,
                error,
            } => {
                self.on_dial_error(connection_id, peer_id, &error);
            }
            SwarmEvent::IncomingConnectionError {
                send_back_addr,
                error,
                ..
            } => self.on_failed_incoming(&send_back_addr, &error),
            SwarmEvent::NewListenAddr { address, .. } => self.on_listening(address),
            SwarmEvent::ListenerClosed {
                listener_id,
                reason,
                ..
            } => self.on_listener_closed(listener_id, &reason),
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "a listener had trouble")
            }
            SwarmEvent::ExternalAddrConfirmed { address } => self.on_reachable(address),
            _ => {}
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gossip(event) => self.on_gossip(event),
            BehaviourEvent::RelayClient(event) => self.on_relay_client(&event),
            BehaviourEvent::RelayServer(event) => self.on_relay_server(&event),
            BehaviourEvent::Identify(identify::Event::Received {
                peer_id,
                connection_id,
                info,
            }) => self.on_identified(peer_id, connection_id, info),
            BehaviourEvent::Ping(event) => self.on_ping(&event),
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => self.on_discovered(found),
            BehaviourEvent::Dcutr(event) => self.on_punched(event.remote_peer_id, &event.result),
            BehaviourEvent::AutonatClient(event) => self.on_probed(&event),
            BehaviourEvent::Kad(event) => self.on_kad(event),
            _ => {}
        }
    }

    fn tell(&self, event: MeshEvent) {
        // Nobody has to listen.
        let _ = self.events.send(event);
    }
}

fn swarm(
    config: &MeshConfig,
    admission: &Admission,
    circuits: &Circuits,
    desk: Arc<Desk>,
) -> Result<(Swarm<Behaviour>, Beside)> {
    let mut seed = config.key.seed();
    let keypair = Keypair::ed25519_from_bytes(seed.as_mut_slice()).map_err(|error| {
        Fault::new(
            Category::InternalFailure,
            "identity",
            "cannot use the key as an identity",
        )
        .caused_by(error)
    })?;
    let transport::Composed {
        wire,
        relay_client,
        beside,
    } = transport::compose(config, &keypair)?;
    let behaviour = Behaviour::new(config, &keypair, relay_client, admission, circuits, desk)?;
    let settings = swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(IDLE_TIMEOUT)
        .with_max_negotiating_inbound_streams(MAX_NEGOTIATING)
        .with_substream_upgrade_protocol_override(libp2p::core::upgrade::Version::V1Lazy)
        .with_smart_dial();
    let mut swarm = Swarm::new(wire, behaviour, keypair.public().to_peer_id(), settings);
    for address in &config.external {
        swarm.add_external_address(address.clone());
    }
    Ok((swarm, beside))
}

/// The names that stand for several nodes.
fn seeds(config: &MeshConfig) -> Vec<Multiaddr> {
    let seeds = config.bootstrap.iter().filter(|address| is_seed(address));
    seeds.take(MAX_BOOTSTRAP).cloned().collect()
}

/// The nodes to stay connected to, without this one.
fn bootstrap(config: &MeshConfig, me: &PeerId) -> Result<Vec<Multiaddr>> {
    let others: Vec<Multiaddr> = config
        .bootstrap
        .iter()
        .filter(|address| peer_of(address) != Some(*me) && !is_seed(address))
        .cloned()
        .collect();
    // A node has several addresses. Who is at one without a name is not known yet.
    let nodes: HashSet<_> = others
        .iter()
        .map(|address| peer_of(address).ok_or(address))
        .collect();
    if nodes.len() > MAX_BOOTSTRAP {
        return Err(Fault::new(
            Category::InvalidInput,
            "invalid_bootstrap",
            format!("at most {MAX_BOOTSTRAP} nodes to join through"),
        )
        .hint("name fewer"));
    }
    match others.iter().find(|address| is_relayed(address)) {
        Some(relayed) => Err(Fault::new(
            Category::InvalidInput,
            "invalid_bootstrap",
            format!("{relayed} is a circuit; name the relay itself"),
        )),
        None => Ok(others),
    }
}

fn is_all_of_ipv6(address: &Multiaddr) -> bool {
    matches!(address.iter().next(), Some(Protocol::Ip6(ip)) if ip.is_unspecified())
}

fn unlistenable(address: &Multiaddr, error: &(dyn std::error::Error + 'static)) -> Fault {
    Fault::new(
        Category::IoFailure,
        "cannot_listen",
        format!(
            "cannot listen on {address}: {}",
            crate::dial::root_cause(&crate::dial::causes(error))
        ),
    )
    .hint("choose another port, or stop what uses this one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_to_join_through_are_counted_whatever_the_number_of_their_addresses() {
        let me = PeerId::random();
        let joins_through = |nodes: usize| {
            let mut config = MeshConfig::new(proof::SigningKey::from_seed([1; 32]));
            for _ in 0..nodes {
                let node = PeerId::random();
                config
                    .bootstrap
                    .extend((1..4).map(|port: u16| -> Multiaddr {
                        format!("/ip4/10.0.0.1/tcp/{port}/p2p/{node}")
                            .parse()
                            .unwrap()
                    }));
            }
            bootstrap(&config, &me).map(|addresses| addresses.len())
        };
        assert_eq!(joins_through(MAX_BOOTSTRAP).unwrap(), 3 * MAX_BOOTSTRAP);
        let fault = joins_through(MAX_BOOTSTRAP + 1).unwrap_err();
        assert_eq!(fault.code(), "invalid_bootstrap");
        let nameless: Vec<Multiaddr> = (1..=33)
            .map(|port| format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap())
            .collect();
        let mut config = MeshConfig::new(proof::SigningKey::from_seed([1; 32]));
        config.bootstrap = nameless;
        assert!(bootstrap(&config, &me).is_err());
    }
}
