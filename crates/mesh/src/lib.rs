//! Reach it: the peers of World Compute, behind whatever firewall they are.
//!
//! A [`Mesh`] is one node. It dials and listens over QUIC, TCP and, where nothing but the web passes, WebSocket over TLS;
//! it holds reservations on relays so that others reach it where nobody can dial it, punches holes where that works, finds
//! peers on the local network and by gossip, and carries four kinds of requests ([`wire`]): offer, dispatch, lease and
//! content. Relays tell of themselves, and peers of those that they reached. Every connection is encrypted and
//! authenticated end to end (Noise or TLS 1.3), through relays too: a [`PeerId`](worldcompute_proof::PeerId) is a key,
//! and whoever answers for it holds that key.
//!
//! Whatever comes in is bounded: connections, streams, frames, lists, memory, queues. A peer that sends garbage is
//! shut out for a while, one that falls silent is left, and one that asks for too much is told "busy".

mod address;
mod admission;
mod allowance;
mod behaviour;
mod book;
mod carrier;
mod circuits;
mod codec;
mod config;
pub mod diagnosis;
mod dial;
mod driver;
mod exchange;
mod fetch;
mod given_up;
mod hearsay;
mod inbound;
mod mesh;
mod names;
mod network;
mod parting;
mod refusals;
mod relays;
mod routes;
mod sites;
mod socket;
mod status;
#[doc(hidden)]
pub mod strangers;
mod transport;
mod ways;
pub mod wire;
mod wss;

pub use address::Transport;
pub use config::{
    INBOUND_QUEUE, MeshConfig, RESERVATION_DURATION, RESERVATIONS_HELD, RelayLimits, UPGRADE_AFTER,
};
pub use inbound::{Inbound, Request, Responder};
pub use libp2p::Multiaddr;
pub use mesh::Mesh;
pub use names::{DohServer, MAX_DOH_SERVERS, NAMES_AGAIN_AFTER, NameConfig};
pub use network::Scope;
pub use status::{
    DialCounts, InboundCounts, KnownRelay, Loss, MeshEvent, MeshStatus, Path, PeerInfo,
    ReservationInfo, ReservationState,
};
pub use wss::{Certificate, Inspection, MAX_PEM};
