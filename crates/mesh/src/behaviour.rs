//! What the swarm does: the protocols of libp2p with the settings that the mesh needs, and its own.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use libp2p::gossipsub::{
    self, IdentTopic, MessageAuthenticity, PeerScoreParams, PeerScoreThresholds, TopicScoreParams,
    ValidationMode, WhitelistSubscriptionFilter,
};
use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, allow_block_list, autonat, connection_limits, dcutr,
    identify, kad, mdns, memory_connection_limits, ping, relay,
};
use worldcompute_fault::{Category, Fault};

use crate::admission::Admission;
use crate::carrier::Carrier;
use crate::circuits::Circuits;
use crate::config::MeshConfig;
use crate::exchange::{Desk, Exchanger};
use crate::sites::Sites;
use crate::ways::Ways;
use crate::wire::{MAX_GOSSIP, Topic};

/// What a member of the mesh calls its version of the protocols.
pub(crate) const PROTOCOL: &str = "/worldcompute/1.0.0";
pub(crate) const KAD_PROTOCOL: StreamProtocol = StreamProtocol::new("/worldcompute/kad/1.0.0");

/// A search for the addresses of a peer ends within this time.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages that wait for one slow peer.
const GOSSIP_QUEUE: usize = 512;

/// A silent peer is noticed within two of these and one more for the answer.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections of one peer: two directions of a hole punch, a circuit that each side dialled, one that is made anew, and one
/// that something is still under way on.
pub(crate) const MAX_CONNECTIONS_PER_PEER: u32 = 6;
const MAX_PENDING_INCOMING: u32 = 256;
const MAX_PENDING_OUTGOING: u32 = 128;
const MAX_CONNECTIONS: u32 = 2048;
/// What others may take of them, so that this node can always reach its relays.
const MAX_INCOMING: u32 = MAX_CONNECTIONS - 256;
/// New connections are refused while the process holds more than this share of the machine's memory.
const MAX_MEMORY_SHARE: f64 = 0.9;

/// Circuits that are asked for from one IP address: so many at once, then one at each interval.
const CIRCUITS_PER_IP: NonZeroU32 = NonZeroU32::new(4096).unwrap();
const CIRCUITS_INTERVAL: Duration = Duration::from_millis(20);

/// Behaviours that deny connections come first: the others must not see a connection that is then denied.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub limits: Sites,
    pub memory: memory_connection_limits::Behaviour,
    pub block: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
    pub ways: Ways,
    pub relay_server: Toggle<Carrier>,
    pub relay_client: relay::client::Behaviour,
    pub dcutr: Toggle<dcutr::Behaviour>,
    pub autonat_client: Toggle<autonat::v2::client::Behaviour>,
    pub autonat_server: Toggle<autonat::v2::server::Behaviour>,
    pub identify: identify::Behaviour,
    pub ping: ping::Behaviour,
    pub kad: kad::Behaviour<kad::store::MemoryStore>,
    pub gossip: Gossipsub,
    pub mdns: Toggle<mdns::tokio::Behaviour>,
    pub exchange: Exchanger,
}

type Gossipsub = gossipsub::Behaviour<gossipsub::IdentityTransform, WhitelistSubscriptionFilter>;

impl Behaviour {
    pub(crate) fn new(
        config: &MeshConfig,
        keypair: &Keypair,
        relay_client: relay::client::Behaviour,
        admission: &Admission,
        circuits: &Circuits,
        desk: Arc<Desk>,
    ) -> Result<Self, Fault> {
        let me = keypair.public().to_peer_id();
        // Hole punching and its tests need a port that the outside could find.
        let listens = !config.listen.is_empty();
        Ok(Self {
            limits: Sites::new(limits()),
            memory: memory_connection_limits::Behaviour::with_max_percentage(MAX_MEMORY_SHARE),
            block: allow_block_list::Behaviour::default(),
            ways: Ways::new(),
            relay_server: config
                .relay_server
                .then(|| {
                    let relay = relay_config(config, admission, circuits);
                    Carrier::new(relay::Behaviour::new(me, relay), circuits.clone())
                })
                .into(),
            relay_client,
            dcutr: (listens && !config.relay_server)
                .then(|| dcutr::Behaviour::new(me))
                .into(),
            autonat_client: (listens && !config.relay_server)
                .then(autonat::v2::client::Behaviour::default)
                .into(),
            autonat_server: config
                .relay_server
                .then(autonat::v2::server::Behaviour::default)
                .into(),
            identify: identify::Behaviour::new(identify_config(config, keypair)),
            ping: ping::Behaviour::new(
                ping::Config::new()
                    .with_interval(PING_INTERVAL)
                    .with_timeout(PING_TIMEOUT),
            ),
            kad: kademlia(me, config.relay_server),
            gossip: gossipsub(keypair, config.relay_server)?,
            mdns: mdns(config, me)?.into(),
            exchange: Exchanger::new(desk),
        })
    }
}

fn limits() -> connection_limits::ConnectionLimits {
    connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(MAX_PENDING_INCOMING))
        .with_max_pending_outgoing(Some(MAX_PENDING_OUTGOING))
        .with_max_established_incoming(Some(MAX_INCOMING))
        .with_max_established(Some(MAX_CONNECTIONS))
        .with_max_established_per_peer(Some(MAX_CONNECTIONS_PER_PEER))
}

/// How many reservations there are is [`Admission`]'s to say, not libp2p's.
fn relay_config(config: &MeshConfig, admission: &Admission, circuits: &Circuits) -> relay::Config {
    let (limits, admission) = (&config.relay_limits, admission.clone());
    let circuits = circuits.clone();
    let connects = move |peer, from: &Multiaddr, now| circuits.admits(peer, from, now);
    let admits = move |peer, from: &Multiaddr, now| admission.admits(peer, from, now);
    let mut granted = relay::Config {
        max_reservations: usize::MAX,
        max_reservations_per_peer: MAX_CONNECTIONS_PER_PEER as usize,
        reservation_duration: config.reservation_duration,
        reservation_rate_limiters: vec![Box::new(admits)],
        max_circuits: limits.circuits,
        max_circuits_per_peer: limits.circuits_of_peer,
        max_circuit_duration: limits.circuit_duration,
        max_circuit_bytes: limits.circuit_bytes,
        circuit_src_rate_limiters: Vec::new(),
    };
    granted = granted.circuit_src_per_ip(CIRCUITS_PER_IP, CIRCUITS_INTERVAL);
    // The last to be asked: what it admits is a circuit.
    granted.circuit_src_rate_limiters.push(Box::new(connects));
    granted
}

/// No cache of addresses: the mesh dials the addresses it chose, and a stale one costs a whole timeout.
fn identify_config(config: &MeshConfig, keypair: &Keypair) -> identify::Config {
    identify::Config::new(PROTOCOL.to_owned(), keypair.public())
        .with_agent_version(config.agent.clone())
        .with_push_listen_addr_updates(true)
        .with_cache_size(0)
}

/// Finds the addresses of relays and public nodes. Nobody's records are stored.
pub(crate) fn kademlia(me: PeerId, serves: bool) -> kad::Behaviour<kad::store::MemoryStore> {
    let mut config = kad::Config::new(KAD_PROTOCOL);
    config.set_record_filtering(kad::StoreInserts::FilterBoth);
    config.set_query_timeout(LOOKUP_TIMEOUT);
    // Who gets a place is for [`crate::routes`] to say.
    config.set_kbucket_inserts(kad::BucketInserts::Manual);
    let mut kademlia = kad::Behaviour::with_config(me, kad::store::MemoryStore::new(me), config);
    kademlia.set_mode(Some(if serves {
        kad::Mode::Server
    } else {
        kad::Mode::Client
    }));
    kademlia
}

/// Signed messages on the mesh's topics only, passed on after they were judged.
fn gossipsub(keypair: &Keypair, hub: bool) -> Result<Gossipsub, Fault> {
    let mut config = gossipsub::ConfigBuilder::default();
    config
        .max_transmit_size(MAX_GOSSIP)
        .connection_handler_queue_len(GOSSIP_QUEUE)
        .validation_mode(ValidationMode::Strict)
        .validate_messages();
    if hub {
        // Peers behind a relay see each other through it alone, so it has to pass on to all of them.
        config.mesh_n(256).mesh_n_low(64).mesh_n_high(512);
    }
    let topics: Vec<IdentTopic> = Topic::ALL
        .map(|topic| IdentTopic::new(topic.as_str()))
        .into();
    let allowed =
        WhitelistSubscriptionFilter(topics.iter().map(IdentTopic::hash).collect::<HashSet<_>>());
    let config = config.build().map_err(|error| setup(&error))?;
    let mut gossip = Gossipsub::new_with_subscription_filter(
        MessageAuthenticity::Signed(keypair.clone()),
        config,
        allowed,
    )
    .map_err(|error| setup(&error))?;
    gossip
        .with_peer_score(scores(&topics), PeerScoreThresholds::default())
        .map_err(|error| setup(&error))?;
    for topic in &topics {
        gossip.subscribe(topic).map_err(|error| setup(&error))?;
    }
    Ok(gossip)
}

/// Only messages that are refused, and breaches of gossipsub itself, cost a peer its standing. A quiet or a slow peer is
/// a fine one, and many peers share one address: behind a company's firewall, or behind a relay.
fn scores(topics: &[IdentTopic]) -> PeerScoreParams {
    let of_topic = TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.0,
        first_message_deliveries_weight: 0.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: -1.0,
        invalid_message_deliveries_decay: 0.9,
        ..TopicScoreParams::default()
    };
    PeerScoreParams {
        topics: topics
            .iter()
            .map(|topic| (topic.hash(), of_topic.clone()))
            .collect::<HashMap<_, _>>(),
        ip_colocation_factor_weight: 0.0,
        slow_peer_weight: 0.0,
        ..PeerScoreParams::default()
    }
}

fn mdns(config: &MeshConfig, me: PeerId) -> Result<Option<mdns::tokio::Behaviour>, Fault> {
    config
        .mdns
        .then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), me))
        .transpose()
        .map_err(|error| Fault::io("watch the network interfaces for mDNS", &error))
}

fn setup(error: &impl ToString) -> Fault {
    Fault::new(
        Category::InternalFailure,
        "gossip_setup",
        format!("cannot set up gossip: {}", error.to_string()),
    )
}
