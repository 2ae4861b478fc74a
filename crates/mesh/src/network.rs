//! Where an address leads: how far it means anything, and to which network, so that limits can be set for each.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use crate::address::{Transport, is_relayed};

/// From where an address can be reached, the narrowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// From this machine.
    Machine,
    /// From one network, where others have the same addresses.
    Site,
    /// From everywhere.
    World,
}

impl Scope {
    /// That of an address, or of the relay of a circuit. `None` where it can be reached from nowhere, or from where
    /// is not known.
    pub fn of(address: &Multiaddr) -> Option<Self> {
        match is_relayed(address) {
            true => relay_scope(address),
            false => scope(address),
        }
    }
}

/// A network that is handed out as one: a /24 of IPv4, a /48 of IPv6, or what is behind one name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Network {
    V4(u32),
    V6(u128),
    Name(String),
}

impl Network {
    /// That of an address. `None` for a circuit, and for what begins with neither IP nor name.
    pub(crate) fn of(address: &Multiaddr) -> Option<Self> {
        match is_relayed(address) {
            true => None,
            false => Self::next_on(address),
        }
    }

    /// That which an address begins in: for a circuit, its relay's.
    pub(crate) fn next_on(address: &Multiaddr) -> Option<Self> {
        Some(match address.iter().next()? {
            Protocol::Ip4(ip) => Self::of_ip(ip.into()),
            Protocol::Ip6(ip) => Self::of_ip(ip.to_canonical()),
            part => Self::Name(name(&part)?.to_ascii_lowercase()),
        })
    }

    fn of_ip(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::V4(u32::from(ip) & (u32::MAX << 8)),
            IpAddr::V6(ip) => Self::V6(u128::from(ip) & (u128::MAX << 80)),
        }
    }

    /// What it is a part of: a /16, a /32, or the last two labels of the name.
    pub(crate) fn region(&self) -> Self {
        match self {
            Self::V4(bits) => Self::V4(bits & (u32::MAX << 16)),
            Self::V6(bits) => Self::V6(bits & (u128::MAX << 96)),
            Self::Name(name) => {
                let labels: Vec<&str> = name.rsplit('.').take(2).collect();
                Self::Name(labels.join("."))
            }
        }
    }
}

/// From where the address can be reached. `None` where that is nowhere, or a circuit. A name is one of the world's only
/// over TLS, which asks whoever answers for it.
pub(crate) fn scope(address: &Multiaddr) -> Option<Scope> {
    if is_relayed(address) {
        return None;
    }
    match address.iter().next()? {
        Protocol::Ip4(ip) => of_ip(ip.into()),
        Protocol::Ip6(ip) => of_ip(ip.to_canonical()),
        part => {
            let public = is_public(name(&part)?) && Transport::of(address) == Transport::Wss;
            public.then_some(Scope::World)
        }
    }
}

/// From where the relay of a circuit can be reached.
pub(crate) fn relay_scope(circuit: &Multiaddr) -> Option<Scope> {
    if !is_relayed(circuit) {
        return None;
    }
    let before = circuit.iter();
    let before = before.take_while(|part| !matches!(part, Protocol::P2p(_) | Protocol::P2pCircuit));
    scope(&before.collect())
}

/// The IP address that an address begins with.
pub(crate) fn ip(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.to_canonical()),
        _ => None,
    }
}

/// Where an address of TCP or UDP leads, without what is spoken there.
pub(crate) fn socket(address: &Multiaddr) -> Option<SocketAddr> {
    match address.iter().nth(1)? {
        Protocol::Udp(port) | Protocol::Tcp(port) => Some(SocketAddr::new(ip(address)?, port)),
        _ => None,
    }
}

fn name<'a>(part: &'a Protocol<'_>) -> Option<&'a str> {
    match part {
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => Some(name),
        _ => None,
    }
}

/// Names that networks give to machines of their own are not for strangers to hand out.
fn is_public(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let local = ["localhost", "local", "internal", "lan", "home", "arpa"];
    let top = name.rsplit('.').next().unwrap_or_default();
    name.contains('.') && !local.contains(&top) && name.parse::<IpAddr>().is_err()
}

fn of_ip(ip: IpAddr) -> Option<Scope> {
    match ip {
        IpAddr::V4(ip) => of_v4(ip),
        IpAddr::V6(ip) => of_v6(ip),
    }
}

fn of_v4(ip: Ipv4Addr) -> Option<Scope> {
    let [a, b, ..] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let benchmark = a == 198 && (b == 18 || b == 19);
    if ip.is_loopback() {
        Some(Scope::Machine)
    } else if ip.is_private() || ip.is_link_local() || shared || benchmark || ip.is_documentation()
    {
        Some(Scope::Site)
    } else if a == 0 || a >= 224 {
        None
    } else {
        Some(Scope::World)
    }
}

/// Addresses that only wrap one of IPv4 could wrap any.
fn of_v6(ip: Ipv6Addr) -> Option<Scope> {
    let [first, second, ..] = ip.segments();
    let wraps = first == 0x2002 || (first == 0x2001 && second == 0);
    let documentation = first == 0x2001 && second == 0xdb8;
    if ip.is_loopback() {
        Some(Scope::Machine)
    } else if ip.is_unique_local() || documentation {
        Some(Scope::Site)
    // One of a link means nothing without the interface, which an address does not name.
    } else if first & 0xe000 != 0x2000 || wraps {
        None
    } else {
        Some(Scope::World)
    }
}

#[cfg(test)]
mod tests {
    use libp2p::PeerId;

    use super::*;

    fn of(text: &str) -> Option<Scope> {
        scope(&text.parse().unwrap())
    }

    #[test]
    fn what_an_address_means_ends_at_the_machine_the_network_or_nowhere() {
        for (text, expected) in [
            ("/ip4/127.0.0.1/tcp/1", Some(Scope::Machine)),
            ("/ip6/::1/tcp/1", Some(Scope::Machine)),
            ("/ip4/192.168.1.1/tcp/1", Some(Scope::Site)),
            ("/ip4/10.1.1.1/tcp/1", Some(Scope::Site)),
            ("/ip4/100.64.0.1/tcp/1", Some(Scope::Site)),
            ("/ip4/169.254.169.254/tcp/80", Some(Scope::Site)),
            ("/ip6/fd00::1/tcp/1", Some(Scope::Site)),
            ("/ip6/fe80::1/tcp/1", None),
            ("/ip6/::ffff:10.0.0.1/tcp/1", Some(Scope::Site)),
            ("/ip4/20.0.1.10/tcp/1", Some(Scope::World)),
            ("/ip6/2a00::1/tcp/1", Some(Scope::World)),
            ("/ip6/2002:a00:1::1/tcp/1", None),
            ("/ip6/64:ff9b::a00:1/tcp/1", None),
            ("/ip4/0.0.0.0/tcp/1", None),
            ("/ip4/240.0.0.1/tcp/1", None),
            ("/ip4/203.0.113.7/tcp/1", Some(Scope::Site)),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
        let peer = PeerId::random();
        assert_eq!(
            of(&format!("/ip4/20.0.1.10/tcp/1/p2p/{peer}/p2p-circuit")),
            None
        );
        assert_eq!(of(&format!("/p2p/{peer}")), None);
    }

    #[test]
    fn a_circuit_means_as_much_as_its_relay() {
        let (relay, peer) = (PeerId::random(), PeerId::random());
        let of = |base: &str| {
            relay_scope(
                &format!("{base}/p2p/{relay}/p2p-circuit/p2p/{peer}")
                    .parse()
                    .unwrap(),
            )
        };
        assert_eq!(of("/ip4/20.0.1.10/tcp/1"), Some(Scope::World));
        assert_eq!(of("/ip4/192.168.1.1/udp/1/quic-v1"), Some(Scope::Site));
        assert_eq!(of(""), None);
        assert_eq!(relay_scope(&"/ip4/20.0.1.10/tcp/1".parse().unwrap()), None);
    }

    #[test]
    fn a_name_of_the_world_is_asked_for_over_tls_only() {
        assert_eq!(of("/dns4/relay.example/tcp/443/tls/ws"), Some(Scope::World));
        for text in [
            "/dns4/relay.example/tcp/25",
            "/dns4/localhost/tcp/443/tls/ws",
            "/dns4/printer.local/tcp/443/tls/ws",
            "/dns4/metadata.google.internal/tcp/443/tls/ws",
            "/dns4/router/tcp/443/tls/ws",
            "/dns4/192.168.1.1/tcp/443/tls/ws",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn networks_and_the_regions_that_they_are_a_part_of() {
        let network = |text: &str| Network::of(&text.parse().unwrap()).unwrap();
        let one = network("/ip4/20.0.1.1/tcp/1");
        assert_eq!(one, network("/ip6/::ffff:20.0.1.200/tcp/9"));
        let other = network("/ip4/20.0.2.1/udp/1/quic-v1");
        assert!(one != other && one.region() == other.region());
        assert_ne!(one.region(), network("/ip4/20.1.1.1/tcp/1").region());
        assert_eq!(
            network("/ip6/2a00:1:2:3::1/tcp/1"),
            network("/ip6/2a00:1:2:4::1/tcp/1")
        );
        assert_ne!(
            network("/ip6/2a00:1:2::1/tcp/1"),
            network("/ip6/2a00:1:3::1/tcp/1")
        );
        let peer = PeerId::random();
        assert_eq!(Network::of(&format!("/p2p/{peer}").parse().unwrap()), None);
        assert_eq!(Network::of(&Multiaddr::empty()), None);
        let (a, b) = (
            network("/dns4/a.Example.org/tcp/1"),
            network("/dns/b.example.org/tcp/1"),
        );
        assert!(a != b && a.region() == b.region());
    }
}
