//! WebSocket over TLS: what passes where nothing but the web does.
//!
//! Seen from a firewall this is a visit to a website: TCP to port 443, TLS with the site's name, where it has one, and `http/1.1`, then
//! an upgrade to WebSocket (RFC 6455). Whoever comes by with a browser gets a page. Inside run Noise and yamux, as
//! they do over TCP, so a box that opens the TLS on its way sees nothing more; that there is one is told all the same
//! ([`trust`]).
//!
//! libp2p has such a transport, but with a TLS configuration of its own and no answer for a browser.

mod address;
mod certificate;
mod door;
mod stream;
mod trust;

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncWrite, FutureExt};
use futures_rustls::rustls::ServerConfig;
use futures_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use libp2p::Multiaddr;
use libp2p::core::Endpoint;
use libp2p::core::transport::{
    DialOpts, ListenerId, PortUse, Transport, TransportError, TransportEvent,
};
use worldcompute_fault::Fault;

use crate::network;

pub use certificate::{Certificate, MAX_PEM};
pub use trust::Inspection;

use address::{Facade, Target};
use door::Prefixed;
use stream::ByteStream;
use trust::{Roots, Trust};

pub(crate) use door::answer;
pub(crate) use trust::{Refusal, Sightings, Why, local_authorities};

/// A warning about the same host and issuer is given once. Of so many it is remembered; then they are told again.
const MAX_WARNED: usize = 256;

/// The transport, on top of one for TCP whose addresses hold no names.
pub(crate) struct Wss<T> {
    tcp: T,
    roots: Arc<Roots>,
    served: Option<(Arc<ServerConfig>, Facade)>,
    sightings: Sightings,
    warned: Arc<Mutex<HashSet<String>>>,
}

impl<T> Wss<T> {
    /// Dials with `inspection`; listens if there is a certificate. What is seen of inspection is noted in `sightings`.
    pub(crate) fn new(
        tcp: T,
        certificate: Option<&Certificate>,
        inspection: Inspection,
        sightings: Sightings,
    ) -> Result<Self, Fault> {
        let served = match certificate {
            Some(certificate) => Some((certificate.server()?, Facade::of(certificate))),
            None => None,
        };
        Ok(Self {
            tcp,
            roots: Arc::new(Roots::new(inspection)?),
            served,
            sightings,
            warned: Arc::default(),
        })
    }
}

type Connection<S> = ByteStream<Prefixed<TlsStream<S>>>;

impl<T> Transport for Wss<T>
where
    T: Transport + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T::Error: Send + Sync + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
{
    type Output = Connection<T::Output>;
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<Self::Output>>;
    type Dial = BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        let tcp = address::listened(&address)
            .filter(|_| self.served.is_some())
            .ok_or(TransportError::MultiaddrNotSupported(address))?;
        self.tcp.listen_on(id, tcp).map_err(of_tcp)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.tcp.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let target = Target::of(&address)
            .ok_or_else(|| TransportError::MultiaddrNotSupported(address.clone()))?;
        let socket = self.tcp.dial(target.tcp.clone(), opts).map_err(of_tcp)?;
        let (roots, sightings) = (self.roots.clone(), self.sightings.clone());
        let warned = self.warned.clone();
        Ok(async move {
            let socket = socket.await.map_err(io::Error::other)?;
            let (tls, trust) = dial_tls(socket, &target, &roots, &warned).await?;
            sightings.at(address, trust);
            door::knock(tls, &target).await
        }
        .boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        let event = futures::ready!(Pin::new(&mut self.tcp).poll(cx));
        // Nothing is listened on without it.
        let Some((server, facade)) = self.served.clone() else {
            return Poll::Pending;
        };
        let acceptor = TlsAcceptor::from(server);
        let event = event
            .map_upgrade(move |socket| accept(socket, acceptor).boxed())
            .map_err(io::Error::other);
        Poll::Ready(facade.seen_from_outside(event))
    }
}

async fn dial_tls<S: AsyncRead + AsyncWrite + Send + Unpin>(
    socket: S,
    target: &Target,
    roots: &Arc<Roots>,
    warned: &Mutex<HashSet<String>>,
) -> io::Result<(TlsStream<S>, Trust)> {
    let (config, verdict) = roots.client(target.pin)?;
    let connected = TlsConnector::from(config)
        .connect(target.name.clone(), socket)
        .await;
    match connected {
        Ok(tls) => {
            if let Some(mismatch) = verdict.mismatch() {
                warn_once(&target.host, &mismatch, true, warned);
            }
            Ok((TlsStream::Client(tls), verdict.trust()))
        }
        Err(error) => {
            let refusal = verdict.mismatch().ok_or(error)?;
            warn_once(&target.host, &refusal, false, warned);
            Err(io::Error::new(io::ErrorKind::PermissionDenied, refusal))
        }
    }
}

/// Where an address of this transport leads.
pub(crate) fn socket_of(address: &Multiaddr) -> Option<SocketAddr> {
    network::socket(&Target::of(address)?.tcp)
}

/// Speaks TLS to an address of this transport, to see whether the certificate is the right one, and says no more.
///
/// # Errors
/// [`Refusal`] within, for a certificate that is another.
pub(crate) async fn look(address: &Multiaddr) -> io::Result<()> {
    let target = Target::of(address).ok_or(io::ErrorKind::Unsupported)?;
    let roots =
        Roots::new(Inspection::Refused).map_err(|fault| io::Error::other(fault.to_string()))?;
    let opts = DialOpts {
        role: Endpoint::Dialer,
        port_use: PortUse::New,
    };
    let socket = crate::socket::tcp().dial(target.tcp.clone(), opts);
    let socket = socket.map_err(io::Error::other)?.await?;
    dial_tls(socket, &target, &Arc::new(roots), &Mutex::default())
        .await
        .map(drop)
}

async fn accept<S, F, E>(socket: F, acceptor: TlsAcceptor) -> io::Result<Connection<S>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
    F: Future<Output = Result<S, E>>,
    E: std::error::Error + Send + Sync + 'static,
{
    let socket = socket.await.map_err(io::Error::other)?;
    let tls = acceptor.accept(socket).await?;
    door::open(TlsStream::Server(tls)).await
}

/// A site that inspects does so at each attempt; telling it once is enough.
fn warn_once(host: &str, refusal: &Refusal, taken: bool, warned: &Mutex<HashSet<String>>) {
    let mut warned = warned.lock().unwrap_or_else(PoisonError::into_inner);
    if warned.len() >= MAX_WARNED {
        warned.clear();
    }
    if warned.insert(format!("{host} {}", refusal.issuer)) {
        tracing::warn!(
            host,
            fingerprint = refusal.fingerprint,
            subject = refusal.subject,
            issuer = refusal.issuer,
            expected = refusal.expected,
            taken,
            "{}",
            in_words(refusal.why)
        );
    }
}

const fn in_words(why: Why) -> &'static str {
    match why {
        Why::Inspected => {
            "security: the certificate is not the relay's; something on the way opens TLS"
        }
        Why::OutOfDate => {
            "the relay's certificate was not renewed, or this machine's clock is wrong"
        }
    }
}

fn of_tcp<E: std::error::Error + Send + Sync + 'static>(
    error: TransportError<E>,
) -> TransportError<io::Error> {
    error.map(io::Error::other)
}
