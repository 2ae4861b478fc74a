//! Asking one of those who are asked for names, and nobody else.

use std::io;
use std::sync::Arc;

use futures_rustls::TlsConnector;
use futures_rustls::rustls::pki_types::ServerName;
use libp2p::Multiaddr;
use libp2p::core::Endpoint;
use libp2p::core::transport::{DialOpts, PortUse, Transport};
use libp2p::multiaddr::Protocol;

use super::{DohServer, Family, Names, of_resolver, texts, tls};
use crate::wss::Inspection;

impl DohServer {
    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Speaks TLS to it, to see whether it can be had and is itself, and says no more.
    pub(crate) async fn greet(&self, authorities: &[u8]) -> io::Result<()> {
        let config = tls(authorities, Inspection::Refused)
            .map_err(|fault| io::Error::other(fault.to_string()))?;
        let address = Multiaddr::from(self.at.ip()).with(Protocol::Tcp(self.at.port()));
        let opts = DialOpts {
            role: Endpoint::Dialer,
            port_use: PortUse::New,
        };
        let socket = crate::socket::tcp().dial(address, opts);
        let socket = socket.map_err(io::Error::other)?.await?;
        let name = ServerName::try_from(self.name.clone()).map_err(io::Error::other)?;
        let tls = TlsConnector::from(Arc::new(config)).connect(name, socket);
        tls.await.map(drop)
    }
}

impl Names {
    /// The entries of `/dnsaddr/<host>` by the system's resolver.
    pub(crate) async fn nodes_by_system(&self, host: &str) -> io::Result<Vec<String>> {
        let Some(system) = &self.system else {
            return Err(io::ErrorKind::NotFound.into());
        };
        entries(system, host).await
    }

    /// The same over HTTPS.
    pub(crate) async fn nodes_over_https(&self, host: &str) -> io::Result<Vec<String>> {
        entries(self.https()?, host).await
    }

    /// The addresses of a host over HTTPS.
    pub(crate) async fn addresses_over_https(
        &self,
        host: &str,
        family: Family,
    ) -> io::Result<Vec<String>> {
        let found = of_resolver(self.https()?, host, family).await?;
        Ok(found.iter().map(ToString::to_string).collect())
    }

    fn https(&self) -> io::Result<&hickory_resolver::TokioResolver> {
        self.doh.as_ref().ok_or(io::ErrorKind::NotFound.into())
    }
}

async fn entries(
    resolver: &hickory_resolver::TokioResolver,
    host: &str,
) -> io::Result<Vec<String>> {
    let found = texts(resolver, &format!("{}{host}", super::DNSADDR.1)).await?;
    Ok(found.iter().map(ToString::to_string).collect())
}
