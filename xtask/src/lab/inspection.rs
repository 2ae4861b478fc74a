//! A box between a site and the world that reads what TLS hides: it ends every connection to port 443 itself, with a
//! certificate of its own authority for whatever name is asked for, and passes on what it read.

use std::collections::HashMap;
use std::io::{Error, Result as IoResult};
use std::net::{Ipv4Addr, SocketAddr, TcpStream as StdStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{Acceptor, ClientHello};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsConnector};

use super::authority::{Authority, provider};
use super::namespace::{Namespace, inside};
use super::service::{Service, listener};
use crate::shell::Result;

/// Where the gate's connections to port 443 end.
const PORT: u16 = 8443;
/// Who does not say within this time what they want, or answer, is let go.
const PATIENCE: Duration = Duration::from_secs(10);

/// The rule that brings connections here, for `nft -f`.
pub fn rules(https: u16) -> String {
    format!(
        "table ip inspection {{\n\
         chain inbound {{ type nat hook prerouting priority dstnat; iifname \"lan\" tcp dport {https} redirect to :{PORT}; }}\n\
         }}\n"
    )
}

/// Inspects at a gate.
pub fn start(gate: &Namespace, authority: Arc<Authority>) -> Result<Service> {
    let listener = listener(gate, SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)))?;
    let inspector = Arc::new(Inspector {
        gate: gate.name().to_owned(),
        authority,
        shown: Mutex::default(),
    });
    Service::spawn(async move {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (client, _) = listener.accept().await?;
            let inspector = inspector.clone();
            // Whatever a client does, or the server it asks for, ends its own connection only.
            tokio::spawn(async move { inspector.inspect(client).await });
        }
    })
}

struct Inspector {
    gate: String,
    authority: Arc<Authority>,
    /// One certificate to a name, as such boxes have it.
    shown: Mutex<HashMap<Shown, Arc<ServerConfig>>>,
}

/// A name and the protocol that its server took.
type Shown = (String, Option<Vec<u8>>);

impl Inspector {
    async fn inspect(&self, client: TcpStream) -> IoResult<()> {
        let to = rustix::net::sockopt::ip_original_dst(&client)?;
        let hello = LazyConfigAcceptor::new(Acceptor::default(), client);
        let hello = tokio::time::timeout(PATIENCE, hello).await??;
        let (name, protocols) = asked(&hello.client_hello(), *to.ip());
        let mut server = self.connect(to.into(), &name, protocols).await?;
        let protocol = server.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        let config = self.show((name, protocol))?;
        let mut client = hello.into_stream(config).await?;
        tokio::io::copy_bidirectional(&mut client, &mut server)
            .await
            .map(drop)
    }

    fn show(&self, what: Shown) -> IoResult<Arc<ServerConfig>> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = shown.get(&what) {
            return Ok(config.clone());
        }
        let config = self
            .authority
            .server(&what.0, what.1.clone().into_iter().collect());
        let config = config.map_err(|failure| Error::other(failure.message))?;
        shown.insert(what, config.clone());
        Ok(config)
    }

    /// The gate itself speaks to the server, whoever says to be it.
    async fn connect(
        &self,
        to: SocketAddr,
        name: &str,
        protocols: Vec<Vec<u8>>,
    ) -> IoResult<TlsStream<TcpStream>> {
        let gate = self.gate.clone();
        let connect = move || inside(&gate, || StdStream::connect_timeout(&to, PATIENCE));
        let stream = tokio::task::spawn_blocking(connect).await?;
        let stream = stream.map_err(|failure| Error::other(failure.message))??;
        stream.set_nonblocking(true)?;
        let builder =
            ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let mut config = builder
            .map_err(Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider())))
            .with_no_client_auth();
        config.alpn_protocols = protocols;
        let name = ServerName::try_from(name.to_owned()).map_err(Error::other)?;
        TlsConnector::from(Arc::new(config))
            .connect(name, TcpStream::from_std(stream)?)
            .await
    }
}

/// The name that a client asks for, or the address where it asks for none; and what it wants to speak.
fn asked(hello: &ClientHello<'_>, address: Ipv4Addr) -> (String, Vec<Vec<u8>>) {
    let name = hello
        .server_name()
        .map_or_else(|| address.to_string(), String::from);
    let protocols = hello.alpn().into_iter().flatten();
    (name, protocols.map(<[u8]>::to_vec).collect())
}

/// Takes every server for who it says to be, so that what is tried is the inspection and not the server's certificate.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
