//! Questions about multiaddresses.

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

/// Bytes of an address that anyone outside gives us.
pub(crate) const MAX_ADDRESS: usize = 512;

/// How an address is reached, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// QUIC, over UDP.
    Quic,
    /// TCP.
    Tcp,
    /// WebSocket over TLS, which looks like the web.
    Wss,
    /// Through a relay.
    Circuit,
    /// Anything else.
    Other,
}

impl Transport {
    pub(crate) fn of(address: &Multiaddr) -> Self {
        let mut transport = Self::Other;
        for part in address {
            match part {
                Protocol::P2pCircuit => return Self::Circuit,
                Protocol::Tcp(_) => transport = Self::Tcp,
                Protocol::Quic | Protocol::QuicV1 => transport = Self::Quic,
                Protocol::Ws(_) | Protocol::Wss(_) => transport = Self::Wss,
                _ => {}
            }
        }
        transport
    }

    /// `quic`, `tcp`, `wss`, `circuit` or `other`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
            Self::Wss => "wss",
            Self::Circuit => "circuit",
            Self::Other => "other",
        }
    }
}

/// Whether a relay is on the way.
pub(crate) fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// The peer at the end of the address.
pub(crate) fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

/// The address without the peer at its end.
pub(crate) fn without_peer(mut address: Multiaddr) -> Multiaddr {
    if peer_of(&address).is_some() {
        address.pop();
    }
    address
}

/// An address at which `peer` may be dialled: short, of at most one relay, somewhere, and of no other peer.
pub(crate) fn dialable(address: &Multiaddr, peer: &PeerId) -> bool {
    let circuits = address
        .iter()
        .filter(|part| *part == Protocol::P2pCircuit)
        .count();
    let nowhere = address.iter().any(|part| match part {
        Protocol::Ip4(ip) => ip.is_unspecified() || ip.is_multicast(),
        Protocol::Ip6(ip) => ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local(),
        Protocol::Tcp(port) | Protocol::Udp(port) => port == 0,
        // Who gives an address does not choose what is asked for there.
        Protocol::Ws(path) | Protocol::Wss(path) => path != "/",
        _ => false,
    });
    let ends_there = peer_of(address).is_none_or(|end| end == *peer);
    !address.is_empty()
        && address.len() <= MAX_ADDRESS
        && circuits <= 1
        && !nowhere
        && ends_there
        && (circuits == 0 || relay_of(address).is_some_and(|relay| relay != *peer))
}

/// The relay of a circuit address.
pub(crate) fn relay_of(address: &Multiaddr) -> Option<PeerId> {
    let mut relay = None;
    for part in address {
        match part {
            Protocol::P2p(peer) => relay = Some(peer),
            Protocol::P2pCircuit => return relay,
            _ => {}
        }
    }
    None
}

/// The relay of a circuit address, and where that is.
pub(crate) fn way_to_relay(address: &Multiaddr) -> Option<(PeerId, Multiaddr)> {
    let relay = relay_of(address)?;
    let before = |part: &Protocol<'_>| !matches!(part, Protocol::P2p(_) | Protocol::P2pCircuit);
    let way: Multiaddr = address.iter().take_while(before).collect();
    (!way.is_empty()).then_some((relay, way))
}

/// Whether the address leads to this machine only.
pub(crate) fn is_loopback(address: &Multiaddr) -> bool {
    address.iter().any(|part| match part {
        Protocol::Ip4(ip) => ip.is_loopback(),
        Protocol::Ip6(ip) => ip.is_loopback(),
        _ => false,
    })
}

/// The circuit address through `relay`, which is reached at `address`, to `peer`.
pub(crate) fn circuit(address: &Multiaddr, relay: PeerId, peer: PeerId) -> Multiaddr {
    without_peer(address.clone())
        .with(Protocol::P2p(relay))
        .with(Protocol::P2pCircuit)
        .with(Protocol::P2p(peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_names_its_transport() {
        let relay = PeerId::random();
        assert_eq!(
            Transport::of(&address("/ip4/10.0.0.1/tcp/4001")),
            Transport::Tcp
        );
        assert_eq!(
            Transport::of(&address("/ip4/10.0.0.1/udp/4001/quic-v1")),
            Transport::Quic
        );
        assert_eq!(
            Transport::of(&address("/ip4/10.0.0.1/tcp/443/tls/sni/a.example/ws")),
            Transport::Wss
        );
        let circuit = circuit(&address("/ip4/10.0.0.1/tcp/4001"), relay, PeerId::random());
        assert_eq!(Transport::of(&circuit), Transport::Circuit);
        assert_eq!(relay_of(&circuit), Some(relay));
    }

    #[test]
    fn a_circuit_address_has_exactly_one_circuit() {
        let (relay, peer) = (PeerId::random(), PeerId::random());
        let base = address("/ip4/10.0.0.1/tcp/4001");
        let once = circuit(&base, relay, peer);
        assert!(dialable(&once, &peer));
        let twice = circuit(&once, PeerId::random(), peer);
        assert!(!dialable(&twice, &peer));
        let circuits = once
            .iter()
            .filter(|part| *part == Protocol::P2pCircuit)
            .count();
        assert_eq!(circuits, 1);
        // A relay address that already names the relay does not name it twice.
        assert_eq!(circuit(&base.with(Protocol::P2p(relay)), relay, peer), once);
    }

    #[test]
    fn addresses_of_another_peer_or_of_nobody_are_not_dialled() {
        let (peer, other) = (PeerId::random(), PeerId::random());
        assert!(dialable(&address("/ip4/10.0.0.1/tcp/4001"), &peer));
        assert!(!dialable(
            &address("/ip4/10.0.0.1/tcp/4001").with(Protocol::P2p(other)),
            &peer
        ));
        assert!(!dialable(&Multiaddr::empty(), &peer));
        assert!(!dialable(&address("/ip4/0.0.0.0/tcp/4001"), &peer));
        assert!(!dialable(&address("/ip4/10.0.0.1/tcp/0"), &peer));
        assert!(!dialable(&address("/ip4/224.0.0.1/udp/1/quic-v1"), &peer));
        assert!(!dialable(&address("/p2p-circuit"), &peer));
        assert!(!dialable(&address("/ip6/fe80::1/tcp/4001"), &peer));
        assert!(dialable(&address("/ip6/2a00::1/tcp/4001"), &peer));
        let web = |path: &str| address(&format!("/ip4/10.0.0.1/tcp/443/tls/{path}"));
        assert!(dialable(&web("ws"), &peer));
        assert!(!dialable(&web("x-parity-ws/%2Fadmin"), &peer));
        let through_itself = circuit(&address("/ip4/10.0.0.1/tcp/4001"), peer, peer);
        assert!(!dialable(&through_itself, &peer));
    }

    #[test]
    fn the_length_of_an_address_is_bounded() {
        let peer = PeerId::random();
        let named = |length: usize| {
            Multiaddr::empty()
                .with(Protocol::Dns4("a".repeat(length).into()))
                .with(Protocol::Tcp(1))
        };
        let overhead = named(200).len() - 200;
        assert!(dialable(&named(MAX_ADDRESS - overhead), &peer));
        assert!(!dialable(&named(MAX_ADDRESS - overhead + 1), &peer));
    }
}
