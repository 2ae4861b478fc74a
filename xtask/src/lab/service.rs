//! Something that the lab itself answers on a socket: in this process, on sockets of a namespace.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use tokio::runtime::{Builder, Runtime};

use super::namespace::Namespace;
use crate::shell::{Failure, Result};

/// A service, until it is dropped.
pub struct Service(Option<Runtime>);

impl Service {
    /// Runs a service to its end, which is that of this value.
    pub fn spawn(
        serve: impl Future<Output = std::io::Result<()>> + Send + 'static,
    ) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime =
            runtime.map_err(|error| Failure::new(format!("cannot start a service: {error}")))?;
        runtime.spawn(async move {
            if let Err(error) = serve.await {
                eprintln!("a service of the lab ended: {error}");
            }
        });
        Ok(Self(Some(runtime)))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A socket in a namespace, for a service.
pub fn listener(namespace: &Namespace, address: SocketAddr) -> Result<TcpListener> {
    let bind = || {
        TcpListener::bind(address).and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
    };
    namespace
        .inside(bind)?
        .map_err(|error| taken(namespace, address, &error))
}

/// The same, for datagrams.
pub fn datagrams(namespace: &Namespace, address: SocketAddr) -> Result<UdpSocket> {
    let bind = || {
        UdpSocket::bind(address).and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
    };
    namespace
        .inside(bind)?
        .map_err(|error| taken(namespace, address, &error))
}

fn taken(namespace: &Namespace, address: SocketAddr, error: &std::io::Error) -> Failure {
    Failure::new(format!(
        "cannot listen on {address} in {}: {error}",
        namespace.name()
    ))
}
