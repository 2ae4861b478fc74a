//! What a node of the mesh is told at its start.

use std::sync::Arc;
use std::time::Duration;

use libp2p::Multiaddr;
use worldcompute_proof::{PeerId, SigningKey};

use crate::names::NameConfig;
use crate::status::KnownRelay;
use crate::wss::{Certificate, Inspection};

/// Relays that a node keeps a reservation on, where it knows so many.
pub const RESERVATIONS_HELD: usize = 2;
/// How long a relay grants a reservation. libp2p renews at three quarters of it: 30 s before the end.
pub const RESERVATION_DURATION: Duration = Duration::from_secs(120);
/// How long a node stays on a connection that is not the best kind before it tries a better one. Each time in vain, it
/// waits twice as long, up to ten times this.
pub const UPGRADE_AFTER: Duration = Duration::from_secs(60);
/// The longest of these pauses, in times of the first.
pub(crate) const MAX_UPGRADE_PAUSE: u32 = 10;
/// Requests that may wait for the application before further ones are answered "busy".
pub const INBOUND_QUEUE: usize = 256;

/// How a node takes part in the mesh. Start from [`MeshConfig::new`] and set what differs.
#[derive(Clone)]
pub struct MeshConfig {
    /// The node's identity; its peer id follows from it.
    pub key: SigningKey,
    /// What it calls itself to others, e.g. `worldcompute/0.1.0`.
    pub agent: String,
    /// Where it listens, e.g. `/ip4/0.0.0.0/tcp/19999`. With nothing here it is reached through relays only.
    pub listen: Vec<Multiaddr>,
    /// Addresses under which others reach it, beside those it listens on (port forwarding, a public name).
    pub external: Vec<Multiaddr>,
    /// Nodes to stay connected to. Those that relay are also asked for reservations.
    pub bootstrap: Vec<Multiaddr>,
    /// Relays that an earlier run of this node reached ([`Mesh::known_relays`](crate::Mesh::known_relays)); they are tried
    /// when those named here do not answer.
    pub known_relays: Vec<KnownRelay>,
    /// Peers that are shut out from the start; see [`Mesh::ban`](crate::Mesh::ban).
    pub banned: Vec<PeerId>,
    /// Who is asked for names.
    pub names: NameConfig,
    /// What it shows where it listens for WebSocket over TLS (`/ip4/../tcp/443/tls/ws`).
    pub certificate: Option<Arc<Certificate>>,
    /// Whether the TLS of connections that it dials may be opened on their way.
    pub inspection: Inspection,
    /// Whether to look for peers on the local network.
    pub mdns: bool,
    /// Whether to relay for others. Its listen addresses then count as reachable.
    pub relay_server: bool,
    /// What it grants together, if it relays.
    pub relay_limits: RelayLimits,
    /// How long it grants a reservation, if it relays; see [`RESERVATION_DURATION`].
    pub reservation_duration: Duration,
    /// Relays to hold a reservation on; see [`RESERVATIONS_HELD`]. A relay itself holds none.
    pub reservations: usize,
    /// When a better connection to a relay, or to a peer, is tried; see [`UPGRADE_AFTER`].
    pub upgrade_after: Duration,
    /// Requests that may wait for the application; see [`INBOUND_QUEUE`].
    pub inbound_queue: usize,
}

/// What a relay grants. libp2p's defaults end a circuit after 128 KiB or two minutes and let one address reserve 60 times: no
/// job lives on that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayLimits {
    /// Reservations together.
    pub reservations: usize,
    /// Those of them of one network (a /24 or a /48), which may be a whole company behind one address.
    pub reservations_of_network: usize,
    /// Circuits together.
    pub circuits: usize,
    /// Those of them that peers of one network asked for. A node behind two relays has room for more than twice as many.
    pub circuits_of_network: usize,
    /// Those of them that one peer asked for.
    pub circuits_of_peer: usize,
    /// Bytes of one circuit in both directions, after which it is cut. Whoever still needs one opens another.
    pub circuit_bytes: u64,
    /// How long one circuit lasts, busy or not.
    pub circuit_duration: Duration,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            reservations: 1024,
            reservations_of_network: 512,
            circuits: 4096,
            circuits_of_network: 768,
            circuits_of_peer: 64,
            circuit_bytes: 16 << 30,
            circuit_duration: Duration::from_secs(24 * 3600),
        }
    }
}

impl MeshConfig {
    /// A node that listens on nothing, knows nobody and looks for nobody.
    pub fn new(key: SigningKey) -> Self {
        Self {
            key,
            agent: concat!("worldcompute/", env!("CARGO_PKG_VERSION")).to_owned(),
            listen: Vec::new(),
            external: Vec::new(),
            bootstrap: Vec::new(),
            known_relays: Vec::new(),
            banned: Vec::new(),
            names: NameConfig::default(),
            certificate: None,
            inspection: Inspection::default(),
            mdns: false,
            relay_server: false,
            relay_limits: RelayLimits::default(),
            reservation_duration: RESERVATION_DURATION,
            reservations: RESERVATIONS_HELD,
            upgrade_after: UPGRADE_AFTER,
            inbound_queue: INBOUND_QUEUE,
        }
    }
}
