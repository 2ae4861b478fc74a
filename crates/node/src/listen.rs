//! Where a node listens, and how addresses are read.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use worldcompute_fault::{Category, Fault, Result};
use worldcompute_mesh::{Multiaddr, Scope};

/// Reads bootstrap addresses.
///
/// # Errors
/// `invalid_address` for one that is no multiaddr or names no peer.
pub fn parse(addresses: &[String]) -> Result<Vec<Multiaddr>> {
    addresses
        .iter()
        .map(|text| {
            text.parse()
                .map_err(|_| invalid(text))
                .and_then(|address| with_peer(address, text))
        })
        .collect()
}

/// Reads addresses of this node, which need not say whose they are.
///
/// # Errors
/// `invalid_address` for one that is no multiaddr.
pub fn parse_own(addresses: &[String]) -> Result<Vec<Multiaddr>> {
    addresses
        .iter()
        .map(|text| own(text).ok_or_else(|| invalid_own(text)))
        .collect()
}

fn own(text: &str) -> Option<Multiaddr> {
    let leads_here = text.contains("/tcp/") || text.contains("/udp/");
    text.parse()
        .ok()
        .filter(|_| leads_here && !text.contains("/p2p-circuit"))
}

/// TCP and QUIC on one port of every interface, with IPv6 where there is any. Unless `exact`, a port that is taken is replaced by any free one.
///
/// # Errors
/// `port_in_use` when `exact`.
pub fn addresses(port: u16, exact: bool) -> Result<Vec<Multiaddr>> {
    let port = match free(port) {
        true => port,
        false if exact => return Err(in_use(port)),
        false => {
            tracing::warn!(port, "the port is taken: listening on any free one");
            0
        }
    };
    let all = [
        format!("/ip4/0.0.0.0/tcp/{port}"),
        format!("/ip4/0.0.0.0/udp/{port}/quic-v1"),
        format!("/ip6/::/tcp/{port}"),
        format!("/ip6/::/udp/{port}/quic-v1"),
    ];
    all.iter()
        .map(|text| text.parse().map_err(|_| invalid(text)))
        .collect()
}

/// The mesh binds its sockets itself; this look before it turns a taken port into a clear answer.
fn free(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    port == 0 || (is_free(port) && UdpSocket::bind(address).is_ok())
}

/// The same for TCP alone.
fn is_free(port: u16) -> bool {
    bind(port).is_ok()
}

/// Whether this process can listen on a port, tried and let go.
///
/// # Errors
/// What the system says.
pub fn bind(port: u16) -> io::Result<()> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).map(drop)
}

/// The addresses to give to others: without those that lead to this machine alone, unless there are no others.
pub fn worth_giving(addresses: &[String]) -> Vec<&str> {
    let confined = |address: &&str| reach(address) == Some(Scope::Machine);
    let all = || addresses.iter().map(String::as_str);
    let wider: Vec<&str> = all().filter(|address| !confined(address)).collect();
    match wider.is_empty() {
        true => all().collect(),
        false => wider,
    }
}

/// Whether one of the addresses leads here from everywhere.
pub fn is_public(addresses: &[String]) -> bool {
    addresses
        .iter()
        .any(|address| reach(address) == Some(Scope::World))
}

/// From where an address, or the relay of a circuit, can be reached.
pub fn reach(address: &str) -> Option<Scope> {
    address.parse().ok().and_then(|address| Scope::of(&address))
}

fn with_peer(address: Multiaddr, text: &str) -> Result<Multiaddr> {
    // A name that stands for several nodes has entries that say whose they are.
    match text.contains("/p2p/") || text.starts_with("/dnsaddr/") {
        true => Ok(address),
        false => Err(invalid(text)),
    }
}

fn invalid(text: &str) -> Fault {
    Fault::new(
        Category::InvalidInput,
        "invalid_address",
        format!("{text:?} is not a multiaddr with a peer id"),
    )
    .hint("take it as the relay prints it: /ip4/203.0.113.7/tcp/19999/p2p/12D3Koo...")
}

fn invalid_own(text: &str) -> Fault {
    Fault::new(
        Category::InvalidInput,
        "invalid_address",
        format!("{text:?} is not a multiaddr"),
    )
    .hint("write it as /dns4/relay.example/tcp/443/tls/ws or /ip4/203.0.113.7/tcp/19999")
}

fn in_use(port: u16) -> Fault {
    Fault::new(
        Category::StateContention,
        "port_in_use",
        format!("port {port} is in use"),
    )
    .hint("choose another with --port, or --port 0 for any free one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_an_error_only_when_it_was_asked_for() {
        let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_eq!(addresses(port, true).unwrap_err().code(), "port_in_use");
        assert_eq!(
            addresses(port, false).unwrap()[0].to_string(),
            "/ip4/0.0.0.0/tcp/0"
        );
    }

    #[test]
    fn what_leads_to_this_machine_alone_is_given_to_others_only_where_there_is_nothing_else() {
        let list = |texts: &[&str]| -> Vec<String> {
            texts.iter().map(|text| (*text).to_owned()).collect()
        };
        let [machine, site, world, circuit] = [
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/192.168.1.2/tcp/1",
            "/ip4/20.0.1.1/tcp/1",
            "/ip4/20.0.1.1/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit",
        ];
        assert_eq!(worth_giving(&list(&[machine])), [machine]);
        let all = list(&[world, circuit, site, machine]);
        assert_eq!(worth_giving(&all), [world, circuit, site]);
        assert!(is_public(&all) && is_public(&list(&[machine, circuit])));
        assert!(!is_public(&list(&[machine, site])));
    }

    #[test]
    fn an_address_without_a_peer_is_refused() {
        for text in ["", "127.0.0.1:80", "/ip4/127.0.0.1/tcp/80", "/p2p/nonsense"] {
            assert_eq!(
                parse(&[text.to_owned()]).unwrap_err().code(),
                "invalid_address",
                "{text}"
            );
        }
    }
}
