//! What a firewall really lets through, found out by sending it.

use std::io::{Error, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use super::internet::{Host, Site};
use super::namespace::Namespace;
use super::profile::{Fate, HTTPS, Sent};
use crate::shell::{Failure, Result};

/// What has not come back within this time has vanished. On these links it takes less than a millisecond.
const PATIENCE: Duration = Duration::from_millis(500);
/// A port that no profile knows.
const OTHER: u16 = 19999;

/// Everything that is sent to find out.
pub const ALL: [Sent; 6] = [
    Sent::TcpOut(HTTPS),
    Sent::TcpOut(OTHER),
    Sent::UdpOut(HTTPS),
    Sent::UdpOut(OTHER),
    Sent::TcpIn,
    Sent::UdpIn,
];

/// What comes of it at a site without NAT.
pub fn fate(site: &Site, outside: &Host, sent: Sent) -> Result<Fate> {
    let (inside, public) = (
        (&site.host, site.inside),
        (&outside.namespace, outside.addresses[0]),
    );
    let tried = match sent {
        Sent::TcpOut(port) => tcp(
            inside.0,
            public.0,
            SocketAddr::new(IpAddr::V4(public.1), port),
        ),
        Sent::UdpOut(port) => udp(
            inside.0,
            public.0,
            SocketAddr::new(IpAddr::V4(public.1), port),
        ),
        Sent::TcpIn => tcp(
            public.0,
            inside.0,
            SocketAddr::new(IpAddr::V4(inside.1), OTHER),
        ),
        Sent::UdpIn => udp(
            public.0,
            inside.0,
            SocketAddr::new(IpAddr::V4(inside.1), OTHER),
        ),
    };
    let failed = |error: Error| Failure::new(format!("cannot try {sent:?}: {error}"));
    tried?.or_else(fate_of).map_err(failed)
}

fn tcp(from: &Namespace, to: &Namespace, address: SocketAddr) -> Result<std::io::Result<Fate>> {
    let listener = to.inside(|| TcpListener::bind(address))?;
    let connect = || TcpStream::connect_timeout(&address, PATIENCE).map(|_| Fate::Passes);
    let fate = from.inside(connect)?;
    Ok(listener.and(fate))
}

/// There and back.
fn udp(from: &Namespace, to: &Namespace, address: SocketAddr) -> Result<std::io::Result<Fate>> {
    let server = to.inside(|| UdpSocket::bind(address))?;
    let client = from.inside(|| {
        let client = UdpSocket::bind("0.0.0.0:0")?;
        client.connect(address)?;
        client.send(b"?").map(|_| client)
    })?;
    Ok(server.and_then(|server| there_and_back(&server, &client?)))
}

fn there_and_back(server: &UdpSocket, client: &UdpSocket) -> std::io::Result<Fate> {
    let mut bytes = [0; 1];
    server.set_read_timeout(Some(PATIENCE))?;
    client.set_read_timeout(Some(PATIENCE))?;
    if let Ok((_, from)) = server.recv_from(&mut bytes) {
        server.send_to(b"!", from)?;
    }
    client.recv(&mut bytes).map(|_| Fate::Passes)
}

/// What an error says of whoever is between.
fn fate_of(error: Error) -> std::io::Result<Fate> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Ok(Fate::Vanishes),
        ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable => Ok(Fate::Refused),
        _ => Err(error),
    }
}
