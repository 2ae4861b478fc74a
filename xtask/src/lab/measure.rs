//! What a NAT really does, found out as RFC 5780 does: a socket inside, and two machines outside with two addresses each.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::internet::{Host, Site};
use super::namespace::Namespace;
use super::nat::{Behaviour, Dependence};
use crate::shell::{Failure, Result};

/// A datagram that is on its way is there within this time.
const PATIENCE: Duration = Duration::from_secs(2);
/// What came with the last of them is there within this time.
const GRACE: Duration = Duration::from_millis(50);
/// Datagrams may be lost; so many in a row are not.
const TRIES: usize = 3;

const UNASKED: u8 = 1;
const OTHER_ADDRESS: u8 = 2;
const OTHER_PORT: u8 = 3;
const LAST: u8 = 4;

/// Measures the NAT of a site.
pub fn behaviour(site: &Site, outside: &[Host; 2]) -> Result<Behaviour> {
    let servers = servers(outside)?;
    let seen = mapped(site, &servers)?;
    let client = socket(&site.host, IpAddr::V4(site.inside))?;
    let local = local(&client)?;
    let (open, filtering) = filtered(site, &client, &servers)?;
    Ok(Behaviour {
        translates: seen.iter().any(|seen| seen.as_seen.ip() != local.ip()),
        keeps_ports: seen.iter().all(|seen| seen.as_seen.port() == seen.port),
        mapping: mapping(&seen),
        filtering,
        open,
    })
}

/// How long a datagram and its answer take between two machines, so many times.
pub fn round_trips(one: &Host, other: &Host, times: usize) -> Result<Vec<Duration>> {
    let bound = |host: &Host| socket(&host.namespace, IpAddr::V4(host.addresses[0]));
    let (client, server) = (bound(one)?, bound(other)?);
    let there_and_back = |_| {
        let since = Instant::now();
        let from = ask(&client, &server)?;
        tell(&server, LAST, from)?;
        match receive(&client, PATIENCE)? {
            Some(_) => Ok(since.elapsed()),
            None => Err(Failure::new("a datagram got lost")),
        }
    };
    // The first of them finds out who is next to whom.
    there_and_back(0)?;
    (0..times).map(there_and_back).collect()
}

/// What a server saw of a socket inside that has the given port there.
#[derive(Clone, Copy, Debug)]
struct Seen {
    port: u16,
    server: SocketAddr,
    as_seen: SocketAddr,
}

/// Two ports on each address of both machines: eight, those of one address beside each other.
fn servers(outside: &[Host; 2]) -> Result<Vec<UdpSocket>> {
    let hosts = outside.iter();
    let addresses = hosts.flat_map(|host| host.addresses.iter().map(move |ip| (host, *ip)));
    addresses
        .flat_map(|(host, ip)| [(host, ip), (host, ip)])
        .map(|(host, ip)| socket(&host.namespace, IpAddr::V4(ip)))
        .collect()
}

/// One socket speaks to all servers.
fn mapped(site: &Site, servers: &[UdpSocket]) -> Result<Vec<Seen>> {
    let client = socket(&site.host, IpAddr::V4(site.inside))?;
    let port = local(&client)?.port();
    let speak = |server: &UdpSocket| {
        let as_seen = ask(&client, server)?;
        let server = local(server)?;
        Ok(Seen {
            port,
            server,
            as_seen,
        })
    };
    servers.iter().map(speak).collect()
}

/// How the address that others see depends on who they are.
fn mapping(seen: &[Seen]) -> Dependence {
    let outside = |of: &dyn Fn(&Seen) -> bool| {
        let seen: BTreeSet<SocketAddr> = seen
            .iter()
            .filter(|seen| of(seen))
            .map(|seen| seen.as_seen)
            .collect();
        seen.len()
    };
    let one_for_each_address = seen
        .iter()
        .all(|one| outside(&|other| other.server.ip() == one.server.ip()) == 1);
    match (outside(&|_| true), one_for_each_address) {
        (1, _) => Dependence::Independent,
        (_, true) => Dependence::Address,
        (_, false) => Dependence::AddressAndPort,
    }
}

/// Whether a port is reached before it has spoken, and by whom after it has spoken to the first server alone.
fn filtered(site: &Site, client: &UdpSocket, servers: &[UdpSocket]) -> Result<(bool, Dependence)> {
    let [first, other_port, other_address, _, other_host, ..] = servers else {
        return Err(Failure::new("too few servers to measure a NAT"));
    };
    let unasked = SocketAddr::new(IpAddr::V4(site.outside()), local(client)?.port());
    tell(other_host, UNASKED, unasked)?;
    let as_seen = ask(client, first)?;
    tell(other_host, OTHER_ADDRESS, as_seen)?;
    tell(other_address, OTHER_ADDRESS, as_seen)?;
    tell(other_port, OTHER_PORT, as_seen)?;
    tell(first, LAST, as_seen)?;
    let heard = heard(client)?;
    let times = |what| heard.iter().filter(|heard| **heard == what).count();
    let filtering = match (times(OTHER_ADDRESS), times(OTHER_PORT)) {
        (2, 1) => Dependence::Independent,
        (0, 1) => Dependence::Address,
        (0, 0) => Dependence::AddressAndPort,
        (addresses, ports) => {
            let what = format!("{addresses} of 2 other addresses and {ports} of 1 other ports");
            return Err(Failure::new(format!(
                "a filter of no known kind: {what} passed"
            )));
        }
    };
    Ok((times(UNASKED) > 0, filtering))
}

/// Everything that came up to the last, and shortly after.
fn heard(client: &UdpSocket) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some((what, _)) = receive(client, if all.contains(&LAST) { GRACE } else { PATIENCE })?
    {
        all.push(what);
    }
    match all.contains(&LAST) {
        true => Ok(all),
        false => Err(Failure::new(
            "an answer of who was spoken to did not come through",
        )),
    }
}

/// Speaks to a server; what the server sees.
fn ask(client: &UdpSocket, server: &UdpSocket) -> Result<SocketAddr> {
    let to = local(server)?;
    for _ in 0..TRIES {
        tell(client, 0, to)?;
        if let Some((_, from)) = receive(server, PATIENCE)? {
            return Ok(from);
        }
    }
    Err(Failure::new(format!("nothing sent to {to} arrived")))
}

fn tell(socket: &UdpSocket, what: u8, to: SocketAddr) -> Result<()> {
    let sent = socket.send_to(&[what], to).map(drop);
    sent.map_err(|error| Failure::new(format!("cannot send to {to}: {error}")))
}

fn receive(socket: &UdpSocket, patience: Duration) -> Result<Option<(u8, SocketAddr)>> {
    let failed = |error: std::io::Error| Failure::new(format!("cannot receive: {error}"));
    socket.set_read_timeout(Some(patience)).map_err(failed)?;
    let mut bytes = [0];
    match socket.recv_from(&mut bytes) {
        Ok((_, from)) => {
            let [what] = bytes;
            Ok(Some((what, from)))
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Ok(None)
        }
        Err(error) => Err(failed(error)),
    }
}

fn socket(namespace: &Namespace, ip: IpAddr) -> Result<UdpSocket> {
    let bound = namespace.inside(|| UdpSocket::bind((ip, 0)))?;
    bound
        .map_err(|error| Failure::new(format!("cannot bind {ip} in {}: {error}", namespace.name())))
}

fn local(socket: &UdpSocket) -> Result<SocketAddr> {
    socket
        .local_addr()
        .map_err(|error| Failure::new(format!("a socket without an address: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two addresses with two ports each see these ports.
    fn mapping_of(ports: [u16; 4]) -> Dependence {
        let servers = ["1.0.0.1:1", "1.0.0.1:2", "2.0.0.1:1", "2.0.0.1:2"];
        let seen = servers.into_iter().zip(ports).map(|(server, port)| Seen {
            port: 7,
            server: server.parse().unwrap(),
            as_seen: SocketAddr::new([9, 9, 9, 9].into(), port),
        });
        mapping(&seen.collect::<Vec<_>>())
    }

    #[test]
    fn a_mapping_is_told_by_what_the_servers_see() {
        assert_eq!(mapping_of([7, 7, 7, 7]), Dependence::Independent);
        assert_eq!(mapping_of([7, 7, 8, 8]), Dependence::Address);
        assert_eq!(mapping_of([7, 8, 9, 10]), Dependence::AddressAndPort);
        assert_eq!(mapping_of([7, 7, 7, 8]), Dependence::AddressAndPort);
    }
}
