//! TCP. A dial leaves from the port that this node listens on, for a NAT on the way has opened that one already; where
//! the system has given the same port to somebody else on another address, it leaves from any.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use libp2p::core::transport::{
    DialOpts, ListenerId, PortUse, Transport, TransportError, TransportEvent,
};
use libp2p::{Multiaddr, tcp};

/// TCP of libp2p, without Nagle's delay.
pub(crate) fn tcp() -> tcp::tokio::Transport {
    tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
}

/// The same, to listen and to dial from where it listens.
pub(crate) struct Sockets(tcp::tokio::Transport);

impl Sockets {
    pub(crate) fn new() -> Self {
        Self(tcp())
    }
}

type Stream = <tcp::tokio::Transport as Transport>::Output;

impl Transport for Sockets {
    type Output = Stream;
    type Error = io::Error;
    type ListenerUpgrade = <tcp::tokio::Transport as Transport>::ListenerUpgrade;
    type Dial = BoxFuture<'static, io::Result<Stream>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        self.0.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.0.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let dial = self.0.dial(address.clone(), opts)?;
        Ok(async move {
            match dial.await {
                // libp2p does the same where it is told so later, by `connect`.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    tracing::debug!(%address, "the port listened on cannot be dialled from");
                    from_any_port(address, opts).await
                }
                outcome => outcome,
            }
        }
        .boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut self.0).poll(cx)
    }
}

async fn from_any_port(address: Multiaddr, opts: DialOpts) -> io::Result<Stream> {
    let opts = DialOpts {
        port_use: PortUse::New,
        ..opts
    };
    let dial = tcp().dial(address, opts).map_err(io::Error::other)?;
    dial.await
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};

    use futures::StreamExt;
    use libp2p::core::Endpoint;

    use super::*;
    use crate::network;

    async fn listening(at: &str) -> (Sockets, SocketAddr) {
        let mut sockets = Sockets::new();
        sockets
            .listen_on(ListenerId::next(), at.parse().unwrap())
            .unwrap();
        let event = futures::stream::poll_fn(|cx| Pin::new(&mut sockets).poll(cx).map(Some))
            .next()
            .await;
        match event.unwrap() {
            TransportEvent::NewAddress { listen_addr, .. } => {
                (sockets, network::socket(&listen_addr).unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    async fn dialled_from(sockets: &mut Sockets) -> SocketAddr {
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = target.local_addr().unwrap().port();
        let address = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
        let opts = DialOpts {
            role: Endpoint::Dialer,
            port_use: PortUse::Reuse,
        };
        let _stream = sockets.dial(address, opts).unwrap().await.unwrap();
        target.accept().unwrap().1
    }

    #[tokio::test]
    async fn a_dial_leaves_from_the_port_listened_on() {
        let (mut sockets, at) = listening("/ip4/127.0.0.1/tcp/0").await;
        assert_eq!(dialled_from(&mut sockets).await, at);
    }

    #[tokio::test]
    async fn a_dial_leaves_from_another_port_when_somebody_else_has_the_same_on_another_address() {
        let (mut sockets, at) = listening("/ip4/127.0.0.1/tcp/0").await;
        let _other = TcpListener::bind(("127.0.0.2", at.port())).unwrap();
        assert_ne!(dialled_from(&mut sockets).await.port(), at.port());
    }
}
