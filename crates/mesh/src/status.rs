//! What a node can tell about itself and about others.

use std::time::{Duration, SystemTime};

use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};
use worldcompute_proof::PeerId;

use crate::address::Transport;
use crate::wire::{Capacity, Topic};

/// How two peers are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Path {
    /// One dialled the other.
    Direct,
    /// Direct, and made while a circuit stood, through which one told the other when or where to dial. Both ends say so.
    HolePunched,
    /// A relay carries the bytes; it cannot read them.
    Relayed,
}

impl Path {
    /// `direct`, `hole_punched` or `relayed`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::HolePunched => "hole_punched",
            Self::Relayed => "relayed",
        }
    }
}

/// What is known about a peer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeerInfo {
    /// Who.
    pub peer: PeerId,
    /// Where it said, or was said, to be.
    pub addresses: Vec<Multiaddr>,
    /// Whether there is a connection now.
    pub connected: bool,
    /// The best of its connections.
    pub path: Option<Path>,
    /// What that one is made of.
    pub transport: Option<Transport>,
    /// Whether one of them is direct, and leads to or comes from an address of the world's, not of a local network.
    pub from_afar: bool,
    /// Whether a box on the way, which this machine trusts, opens its TLS. It sees what a firewall sees, and no content.
    pub inspected: bool,
    /// The last round trip.
    pub rtt: Option<Duration>,
    /// What it calls itself.
    pub agent: Option<String>,
    /// What it announced last.
    pub capacity: Option<Capacity>,
    /// When something was heard from it last.
    pub last_seen: SystemTime,
}

/// Where a reservation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReservationState {
    /// Dialling the relay, or waiting for its answer.
    Requesting,
    /// The relay passes circuits on to us.
    Active,
    /// The same, and the next renewal is due.
    Renewing,
    /// The relay or the connection to it is gone; a new request follows.
    Lost,
    /// The relay refuses for good; asked again at long intervals.
    Failed,
}

/// One reservation on a relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReservationInfo {
    /// The relay.
    pub relay: PeerId,
    /// Where others reach us through it; it has exactly one `/p2p-circuit`.
    pub address: Multiaddr,
    /// Where it stands.
    pub state: ReservationState,
    /// When it ends if it is not renewed, judged by the rhythm of its renewals (the relay's own clock is not told).
    pub expires: Option<SystemTime>,
    /// How often it was renewed.
    pub renewals: u64,
    /// Attempts since it was last active.
    pub attempts: u32,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// Since when it stands where it does; one that is held, since it was granted.
    pub since: Option<SystemTime>,
    /// How it was lost last, if it ever was.
    pub last_loss: Option<Loss>,
}

/// The loss of a reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// When.
    pub at: SystemTime,
    /// Why.
    pub why: String,
}

/// A relay that this node reached, at addresses that answered or are at the same place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KnownRelay {
    /// Who it is.
    pub peer: PeerId,
    /// Where, without its peer id.
    pub addresses: Vec<Multiaddr>,
    /// When it was reached last.
    pub reached: SystemTime,
}

/// Dial attempts since the start, one count for each address tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DialCounts {
    /// A connection came of it.
    pub succeeded: u64,
    /// Nobody answered in time.
    pub timed_out: u64,
    /// The transport failed.
    pub transport_errors: u64,
    /// A limit or a block forbade it, here or there.
    pub denied: u64,
    /// Another address was first.
    pub abandoned: u64,
}

/// What came in since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InboundCounts {
    /// Requests handed to the application.
    pub accepted: u64,
    /// Requests answered "busy".
    pub busy: u64,
    /// Requests and announcements that were no such thing.
    pub malformed: u64,
    /// Peers shut out for a while.
    pub blocked: u64,
    /// Connections that came to nothing: they spoke something else, said nothing in time, or were too many.
    pub failed: u64,
    /// Those of them that a limit forbade.
    pub connections_refused: u64,
    /// Reservations on this relay that a limit forbade.
    pub reservations_refused: u64,
    /// Circuits through this relay that a limit forbade, or that led to nobody.
    pub circuits_refused: u64,
}

/// Where a node stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MeshStatus {
    /// Who it is.
    pub peer: PeerId,
    /// What it calls itself.
    pub agent: String,
    /// Where it listens.
    pub listen: Vec<Multiaddr>,
    /// Where others reach it, circuits included.
    pub external: Vec<Multiaddr>,
    /// Its reservations.
    pub reservations: Vec<ReservationInfo>,
    /// Open connections.
    pub connections: usize,
    /// Peers with an open connection.
    pub connected_peers: usize,
    /// Dial attempts by outcome.
    pub dials: DialCounts,
    /// Requests by outcome.
    pub inbound: InboundCounts,
}

/// What happens in the mesh. A receiver that lags loses the oldest events and is told how many.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MeshEvent {
    /// A member of the mesh is connected.
    PeerUp(PeerId, Path),
    /// Its connections changed.
    PathChanged(PeerId, Path),
    /// Its last connection is gone and it does not answer.
    PeerDown(PeerId),
    /// It answered on the local network.
    Discovered(PeerId),
    /// It announced what it can take.
    Capacity(PeerId, Capacity),
    /// A reservation changed its state.
    Reservation(ReservationInfo),
    /// What is known of relays that were reached may have changed; see [`Mesh::known_relays`](crate::Mesh::known_relays).
    Relays,
    /// This node is reachable under one more address.
    Reachable(Multiaddr),
    /// A message on a topic other than capacity.
    Gossip {
        /// The topic.
        topic: Topic,
        /// Who signed it.
        from: PeerId,
        /// What it says.
        bytes: std::sync::Arc<[u8]>,
    },
}
