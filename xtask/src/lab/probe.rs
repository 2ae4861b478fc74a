//! What a machine of a site is told: over TLS, and about names.

use std::io::{Error, ErrorKind, Read, Result as IoResult, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::authority::Authority;
use super::names::{TYPE_A, question};
use super::namespace::Namespace;
use super::profile::HTTPS;
use super::resolver::PORT;
use super::service::{Service, listener};
use crate::shell::{Failure, Result};

/// What has not come within this time does not come.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where nothing is to come.
const SILENCE: Duration = Duration::from_millis(500);
/// The largest answer that is read.
const MAX_ANSWER: usize = 4096;

/// What an answer to the question for an address says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Address(Ipv4Addr),
    NoSuchName,
    Garbage,
    Nothing,
}

/// A server on port 443 that repeats what it is told.
pub fn echo(
    namespace: &Namespace,
    address: Ipv4Addr,
    name: &str,
    authority: &Authority,
) -> Result<Service> {
    let listener = listener(namespace, SocketAddr::new(IpAddr::V4(address), HTTPS))?;
    let tls = TlsAcceptor::from(authority.server(name, Vec::new())?);
    Service::spawn(async move {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (client, _) = listener.accept().await?;
            let tls = tls.clone();
            tokio::spawn(async move {
                let (mut from, mut to) = tokio::io::split(tls.accept(client).await?);
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    })
}

/// Whether a client that trusts `authority` alone is told by a server what it says.
pub fn echoes(
    from: &Namespace,
    server: Ipv4Addr,
    name: &str,
    authority: &Authority,
) -> Result<bool> {
    let said = b"is anybody there?";
    let mut heard = vec![0; said.len()];
    let mut stream = tls(from, server, name, authority)?;
    let exchanged = stream
        .write_all(said)
        .and_then(|()| stream.read_exact(&mut heard));
    match exchanged {
        Ok(()) => Ok(heard == said),
        // How rustls says that it does not trust who answers.
        Err(error) if error.kind() == ErrorKind::InvalidData => Ok(false),
        Err(error) => Err(Failure::new(format!("no word with {name}: {error}"))),
    }
}

/// What the resolver of a site says about a name.
pub fn by_udp(from: &Namespace, resolver: Ipv4Addr, name: &str) -> Result<Told> {
    let asked = question(name, TYPE_A);
    let ask = || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(SILENCE))?;
        socket.send_to(&asked, (resolver, PORT))?;
        let mut answer = vec![0; MAX_ANSWER];
        let length = socket.recv(&mut answer)?;
        answer.truncate(length);
        Ok(answer)
    };
    read(&asked, from.inside(ask)?)
}

/// The same over TCP.
pub fn by_tcp(from: &Namespace, resolver: Ipv4Addr, name: &str) -> Result<Told> {
    let asked = question(name, TYPE_A);
    let ask = || {
        let address = SocketAddr::new(IpAddr::V4(resolver), PORT);
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(SILENCE))?;
        let length = u16::try_from(asked.len()).unwrap_or(u16::MAX);
        stream.write_all(&[&length.to_be_bytes()[..], &asked].concat())?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).map(|()| answer)
    };
    read(&asked, from.inside(ask)?)
}

/// What the resolver over HTTPS says about a name.
pub fn by_https(
    from: &Namespace,
    server: Ipv4Addr,
    host: &str,
    authority: &Authority,
    name: &str,
) -> Result<Told> {
    let asked = question(name, TYPE_A);
    let mut stream = tls(from, server, host, authority)?;
    let path = format!("/dns-query?dns={}", URL_SAFE_NO_PAD.encode(&asked));
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let mut response = Vec::new();
    let exchanged = stream
        .write_all(request.as_bytes())
        .and_then(|()| stream.read_to_end(&mut response));
    let body = exchanged.map(|_| {
        let head = response.windows(4).position(|window| window == b"\r\n\r\n");
        response.split_off(head.map_or(response.len(), |head| head + 4))
    });
    read(&asked, body)
}

fn tls(
    from: &Namespace,
    server: Ipv4Addr,
    name: &str,
    authority: &Authority,
) -> Result<StreamOwned<ClientConnection, TcpStream>> {
    let failed = |what: String| Failure::new(format!("no TLS with {name}: {what}"));
    let address = SocketAddr::new(IpAddr::V4(server), HTTPS);
    let connect = || {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE)).map(|()| stream)
    };
    let stream = from
        .inside(connect)?
        .map_err(|error| failed(error.to_string()))?;
    let called =
        ServerName::try_from(name.to_owned()).map_err(|error| failed(error.to_string()))?;
    let connection = ClientConnection::new(authority.client()?, called);
    let connection = connection.map_err(|error| failed(error.to_string()))?;
    Ok(StreamOwned::new(connection, stream))
}

fn read(asked: &[u8], answer: IoResult<Vec<u8>>) -> Result<Told> {
    let silent =
        |error: &Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
    match answer {
        Ok(answer) => Ok(told(asked, &answer)),
        Err(error) if silent(&error) => Ok(Told::Nothing),
        Err(error) => Err(Failure::new(format!("cannot ask for a name: {error}"))),
    }
}

/// What an answer says: it repeats id and question, and is an answer.
fn told(asked: &[u8], answer: &[u8]) -> Told {
    let same = answer.get(..2) == asked.get(..2) && answer.get(12..asked.len()) == asked.get(12..);
    match (same, answer.get(2..8), answer.last_chunk::<4>()) {
        (true, Some([0x81, 0x80, 0, 1, 0, 1]), Some(address)) => Told::Address((*address).into()),
        (true, Some([0x81, 0x83, 0, 1, 0, 0]), _) => Told::NoSuchName,
        _ => Told::Garbage,
    }
}
