//! Resolvers: on UDP and TCP for a site, and over HTTPS for the world (RFC 8484).

use std::convert::Infallible;
use std::io::Result as IoResult;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::TlsAcceptor;

use super::authority::Authority;
use super::names::{Lie, Zone, answer};
use super::namespace::Namespace;
use super::profile::HTTPS;
use super::service::{Service, datagrams, listener};
use crate::shell::Result;

/// The port of DNS.
pub const PORT: u16 = 53;
/// The largest question that is read.
const MAX_QUESTION: usize = 4096;
/// What questions and answers are called over HTTPS.
const MESSAGE: &str = "application/dns-message";

/// Names that resolvers share.
pub type Names = Arc<Mutex<Zone>>;

/// Answers on UDP and TCP at an address, and lies about relays.
pub fn start(
    namespace: &Namespace,
    address: Ipv4Addr,
    names: &Names,
    lie: Lie,
) -> Result<[Service; 2]> {
    let address = SocketAddr::new(IpAddr::V4(address), PORT);
    let (udp, tcp) = (
        datagrams(namespace, address)?,
        listener(namespace, address)?,
    );
    let (for_udp, for_tcp) = (names.clone(), names.clone());
    Ok([
        Service::spawn(async move { on_udp(&UdpSocket::from_std(udp)?, &for_udp, lie).await })?,
        Service::spawn(async move {
            let listener = TcpListener::from_std(tcp)?;
            loop {
                let (client, _) = listener.accept().await?;
                let names = for_tcp.clone();
                tokio::spawn(async move { on_tcp(client, &names, lie).await });
            }
        })?,
    ])
}

/// Answers over HTTPS at an address, with the truth.
pub fn start_https(
    namespace: &Namespace,
    address: Ipv4Addr,
    name: &str,
    authority: &Authority,
    names: &Names,
) -> Result<Service> {
    let listener = listener(namespace, SocketAddr::new(IpAddr::V4(address), HTTPS))?;
    let protocols = ["h2", "http/1.1"].map(|protocol| protocol.as_bytes().to_vec());
    let tls = TlsAcceptor::from(authority.server(name, protocols.into())?);
    let names = names.clone();
    Service::spawn(async move {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (client, _) = listener.accept().await?;
            let (tls, names) = (tls.clone(), names.clone());
            tokio::spawn(async move { on_https(client, tls, names).await });
        }
    })
}

fn told(question: &[u8], names: &Names, lie: Lie) -> Option<Vec<u8>> {
    answer(
        question,
        &names.lock().unwrap_or_else(PoisonError::into_inner),
        lie,
    )
}

async fn on_udp(socket: &UdpSocket, names: &Names, lie: Lie) -> IoResult<()> {
    let mut buffer = [0; MAX_QUESTION];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await?;
        if let Some(answer) = told(buffer.get(..length).unwrap_or_default(), names, lie) {
            socket.send_to(&answer, from).await?;
        }
    }
}

/// Questions and answers behind their lengths (RFC 1035, 4.2.2).
async fn on_tcp(mut client: TcpStream, names: &Names, lie: Lie) -> IoResult<()> {
    loop {
        let length = usize::from(client.read_u16().await?);
        let mut question = vec![0; length.min(MAX_QUESTION)];
        client.read_exact(&mut question).await?;
        if let Some(answer) = told(&question, names, lie) {
            client
                .write_u16(u16::try_from(answer.len()).unwrap_or(u16::MAX))
                .await?;
            client.write_all(&answer).await?;
        }
    }
}

async fn on_https(client: TcpStream, tls: TlsAcceptor, names: Names) -> IoResult<()> {
    let client = tls.accept(client).await?;
    let speaks_2 = client.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request| respond(request, names.clone()));
    let io = TokioIo::new(client);
    let served = match speaks_2 {
        true => {
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(io, service)
                .await
        }
        false => {
            hyper::server::conn::http1::Builder::new()
                .serve_connection(io, service)
                .await
        }
    };
    served.map_err(std::io::Error::other)
}

async fn respond(
    request: Request<Incoming>,
    names: Names,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let asks = request.uri().path() == "/dns-query";
    let question = question(request).await.filter(|_| asks);
    let answer = question.and_then(|question| told(&question, &names, Lie::None));
    let mut response = Response::new(Full::default());
    match answer {
        Some(answer) => {
            *response.body_mut() = Full::from(answer);
            let kind = hyper::header::HeaderValue::from_static(MESSAGE);
            response.headers_mut().insert(CONTENT_TYPE, kind);
        }
        None => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    Ok(response)
}

/// `GET /dns-query?dns=<base64url>`, or a `POST` whose body it is.
async fn question(request: Request<Incoming>) -> Option<Vec<u8>> {
    if request.method() == Method::POST {
        let body = Limited::new(request.into_body(), MAX_QUESTION)
            .collect()
            .await
            .ok()?;
        return Some(body.to_bytes().to_vec());
    }
    let mut parameters = request.uri().query()?.split('&');
    let question = parameters.find_map(|parameter| parameter.strip_prefix("dns="))?;
    URL_SAFE_NO_PAD.decode(question).ok()
}
