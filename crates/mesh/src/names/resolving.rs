//! A transport whose addresses may hold names.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use libp2p::Multiaddr;
use libp2p::core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;

use super::{Family, Names};

/// Looks up the name in an address, then dials what it stands for, one after the other.
pub(crate) struct Resolving<T> {
    inner: Arc<Mutex<T>>,
    names: Arc<Names>,
}

impl<T> Resolving<T> {
    pub(crate) fn new(inner: T, names: Arc<Names>) -> Self {
        Self {
            inner: Arc::new(Mutex::new(inner)),
            names,
        }
    }

    fn inner(&self) -> MutexGuard<'_, T> {
        locked(&self.inner)
    }
}

fn locked<T>(inner: &Mutex<T>) -> MutexGuard<'_, T> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Transport for Resolving<T>
where
    T: Transport<Error = io::Error> + Send + Unpin + 'static,
    T::Dial: Send + 'static,
    T::Output: 'static,
{
    type Output = T::Output;
    type Error = io::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = BoxFuture<'static, io::Result<T::Output>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        self.inner().listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner().remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some((host, family)) = named(&address) else {
            return Ok(self.inner().dial(address, opts)?.boxed());
        };
        let (inner, names) = (self.inner.clone(), self.names.clone());
        Ok(async move {
            let found = names.addresses(&host, family).await?;
            let mut failed = unanswered(&host);
            for ip in found {
                let dial = locked(&inner).dial(reached_at(&address, &host, ip), opts);
                match dial {
                    Ok(dial) => match dial.await {
                        Ok(output) => return Ok(output),
                        Err(error) => failed = error,
                    },
                    Err(TransportError::Other(error)) => failed = error,
                    Err(TransportError::MultiaddrNotSupported(address)) => {
                        failed = io::Error::new(
                            io::ErrorKind::Unsupported,
                            format!("no transport for {address}"),
                        );
                    }
                }
            }
            Err(failed)
        }
        .boxed())
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut *self.inner()).poll(cx)
    }
}

fn unanswered(host: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"))
}

/// The name that an address begins with, and which addresses of it are meant.
pub(crate) fn named(address: &Multiaddr) -> Option<(String, Family)> {
    match address.iter().next()? {
        Protocol::Dns(host) => Some((host.into_owned(), Family::Any)),
        Protocol::Dns4(host) => Some((host.into_owned(), Family::V4)),
        Protocol::Dns6(host) => Some((host.into_owned(), Family::V6)),
        _ => None,
    }
}

/// The address with the name replaced. Where TLS follows, the name is what it asks for, unless it has one already.
pub(crate) fn reached_at(address: &Multiaddr, host: &str, ip: IpAddr) -> Multiaddr {
    let has_sni = address.iter().any(|part| matches!(part, Protocol::Sni(_)));
    let mut reached = Multiaddr::from(ip);
    for part in address.iter().skip(1) {
        match part {
            Protocol::Tls if !has_sni => {
                reached.push(Protocol::Tls);
                reached.push(Protocol::Sni(host.into()));
            }
            Protocol::Wss(path) => {
                reached.push(Protocol::Tls);
                reached.push(Protocol::Sni(host.into()));
                reached.push(Protocol::Ws(path.into_owned().into()));
            }
            part => reached.push(part),
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(text: &str) -> String {
        let address: Multiaddr = text.parse().unwrap();
        let (host, _) = named(&address).unwrap();
        reached_at(&address, &host, "192.0.2.1".parse().unwrap()).to_string()
    }

    #[test]
    fn the_name_stays_what_tls_asks_for() {
        assert_eq!(
            reached("/dns4/relay.example/tcp/19999"),
            "/ip4/192.0.2.1/tcp/19999"
        );
        for address in [
            "/dns4/relay.example/tcp/443/tls/ws",
            "/dns/relay.example/tcp/443/wss",
            "/dns4/other.example/tcp/443/tls/sni/relay.example/ws",
        ] {
            assert_eq!(
                reached(address),
                "/ip4/192.0.2.1/tcp/443/tls/sni/relay.example/ws"
            );
        }
    }

    #[test]
    fn an_address_without_a_name_in_front_is_left_alone() {
        for address in ["/ip4/192.0.2.1/tcp/1", "/dnsaddr/relay.example", ""] {
            let address = if address.is_empty() {
                Multiaddr::empty()
            } else {
                address.parse().unwrap()
            };
            assert_eq!(named(&address), None);
        }
    }
}
