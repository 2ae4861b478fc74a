//! What stands below a transport: a datagram, a connection, a certificate.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use libp2p::Multiaddr;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

use super::probe::{Probe, ProbeKind, ProbeState};
use crate::network::socket;
use crate::transport::CONNECTION_TIMEOUT;
use crate::wss;

/// The port of the web.
const WEB: u16 = 443;
/// When the same datagram is sent again: one may be lost for no reason.
const KNOCKS: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_millis(1000),
    Duration::from_millis(1500),
];
/// Bytes of the first datagram of a connection over QUIC (RFC 9000, 14.1).
const FIRST_DATAGRAM: usize = 1200;
/// A version that no server speaks, so that each has to say which it does (RFC 9000, 6.1 and 15).
const NO_VERSION: [u8; 4] = [0x1a, 0x2a, 0x3a, 0x4a];

/// Where a machine listens for the web.
pub(super) const fn web_of(ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, WEB)
}

/// Sends what begins like a connection over QUIC, and waits for the server to say which versions it speaks.
pub(super) async fn knock(address: Multiaddr) -> Probe {
    let (target, begun) = (address.to_string(), Instant::now());
    let Some(to) = socket(&address) else {
        return Probe::unknown(ProbeKind::Udp, target, "no address of UDP");
    };
    match answered(to).await {
        Ok(true) => Probe::works(ProbeKind::Udp, target, begun.elapsed()),
        Ok(false) => {
            let why = "what came back is no answer of a server for QUIC";
            Probe::not(
                ProbeKind::Udp,
                target,
                ProbeState::Failed,
                begun.elapsed(),
                why,
            )
        }
        Err(error) => Probe::failed(ProbeKind::Udp, target, begun.elapsed(), &error),
    }
}

async fn answered(to: SocketAddr) -> io::Result<bool> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    // The kernel passes on what ICMP says of a socket that is connected.
    socket.connect(to).await?;
    let mut bytes = [0; FIRST_DATAGRAM];
    for patience in KNOCKS {
        socket.send(&first_datagram()).await?;
        if let Ok(received) = timeout(patience, socket.recv(&mut bytes)).await {
            let length = received?;
            return Ok(is_negotiation(bytes.get(..length).unwrap_or_default()));
        }
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("no answer to {} datagrams", KNOCKS.len()),
    ))
}

/// A long header with connection ids of eight bytes each, then nothing.
fn first_datagram() -> Vec<u8> {
    let mut datagram = vec![0xc0];
    datagram.extend(NO_VERSION);
    datagram.push(8);
    datagram.extend(rand::random::<[u8; 8]>());
    datagram.push(8);
    datagram.extend(rand::random::<[u8; 8]>());
    datagram.resize(FIRST_DATAGRAM, 0);
    datagram
}

/// RFC 9000, 17.2.1: a long header of version 0.
fn is_negotiation(bytes: &[u8]) -> bool {
    matches!(bytes, [first, 0, 0, 0, 0, ..] if first & 0x80 != 0)
}

/// Connects, and no more.
pub(super) async fn connect(to: SocketAddr) -> Probe {
    let begun = Instant::now();
    match connected(to).await {
        Ok(_) => Probe::works(ProbeKind::WebTcp, to.to_string(), begun.elapsed()),
        Err(error) => Probe::failed(ProbeKind::WebTcp, to.to_string(), begun.elapsed(), &error),
    }
}

async fn connected(to: SocketAddr) -> io::Result<TcpStream> {
    let silent = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer to a connection");
    timeout(CONNECTION_TIMEOUT, TcpStream::connect(to))
        .await
        .map_err(silent)?
}

/// Connects to where WebSocket over TLS is spoken, and looks at the certificate. The box that the operator allows is told
/// all the same.
pub(super) async fn look(address: Multiaddr) -> Vec<Probe> {
    let target = address.to_string();
    let Some(to) = wss::socket_of(&address) else {
        return vec![Probe::unknown(
            ProbeKind::WebTls,
            target,
            "no address of WebSocket over TLS",
        )];
    };
    let tcp = connect(to).await;
    if tcp.state != ProbeState::Works {
        let tls = Probe::unknown(
            ProbeKind::WebTls,
            target,
            "there is no connection to speak TLS over",
        );
        return vec![tcp, tls];
    }
    let begun = Instant::now();
    let tls = match timeout(CONNECTION_TIMEOUT, wss::look(&address)).await {
        Ok(Ok(())) => Probe::works(ProbeKind::WebTls, target, begun.elapsed()),
        Ok(Err(error)) => Probe::failed(ProbeKind::WebTls, target, begun.elapsed(), &error),
        Err(_) => {
            let why = "no answer to a greeting of TLS";
            Probe::not(
                ProbeKind::WebTls,
                target,
                ProbeState::Silent,
                begun.elapsed(),
                why,
            )
        }
    };
    vec![tcp, tls]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(socket: &std::net::UdpSocket) -> Multiaddr {
        let port = socket.local_addr().unwrap().port();
        format!("/ip4/127.0.0.1/udp/{port}/quic-v1")
            .parse()
            .unwrap()
    }

    #[tokio::test]
    async fn a_datagram_is_refused_where_nobody_listens_and_answered_by_what_is_no_server() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = at(&socket);
        let echo = std::thread::spawn(move || {
            let mut bytes = [0; 2000];
            let (length, from) = socket.recv_from(&mut bytes).unwrap();
            assert_eq!(length, FIRST_DATAGRAM);
            socket.send_to(b"hello", from).unwrap();
        });
        assert_eq!(knock(address.clone()).await.state, ProbeState::Failed);
        echo.join().unwrap();
        // Closed now: the kernel says so.
        assert_eq!(knock(address).await.state, ProbeState::Refused);
    }

    #[tokio::test]
    async fn a_datagram_that_nobody_answers_is_silent() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(knock(at(&socket)).await.state, ProbeState::Silent);
    }

    #[tokio::test]
    async fn a_closed_port_refuses() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        assert_eq!(connect(to).await.state, ProbeState::Works);
        drop(listener);
        assert_eq!(connect(to).await.state, ProbeState::Refused);
    }
}
