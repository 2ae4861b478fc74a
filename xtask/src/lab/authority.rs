//! An authority that signs certificates: one that nodes trust, or one that belongs to somebody in between.

use std::sync::Arc;

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, KeyPair};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::shell::{Failure, Result};

/// A root and its key.
pub struct Authority {
    root: Certificate,
    key: KeyPair,
}

impl Authority {
    /// A new one.
    pub fn make(name: &str) -> Result<Self> {
        let make = || {
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, name);
            Ok(Self {
                root: params.self_signed(&key)?,
                key,
            })
        };
        make().map_err(|error: rcgen::Error| failed("make an authority", &error))
    }

    /// Its root, as files of trusted roots have it.
    pub fn pem(&self) -> String {
        self.root.pem()
    }

    /// What a server needs that is called `name`, a name or an address, and speaks `protocols`.
    pub fn server(&self, name: &str, protocols: Vec<Vec<u8>>) -> Result<Arc<ServerConfig>> {
        let (chain, key) = self
            .leaf(name)
            .map_err(|error| failed("sign a certificate", &error))?;
        let builder =
            ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let config =
            builder.and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
        let mut config = config.map_err(|error| failed("serve TLS", &error))?;
        config.alpn_protocols = protocols;
        Ok(Arc::new(config))
    }

    /// A client that trusts this authority and no other.
    pub fn client(&self) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.root.der().clone())
            .map_err(|error| failed("trust an authority", &error))?;
        let builder =
            ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| failed("speak TLS", &error))?;
        Ok(Arc::new(
            builder.with_root_certificates(roots).with_no_client_auth(),
        ))
    }

    fn leaf(
        &self,
        name: &str,
    ) -> std::result::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), rcgen::Error>
    {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        let leaf = params.signed_by(&key, &self.root, &self.key)?;
        let chain = vec![leaf.der().clone(), self.root.der().clone()];
        Ok((chain, PrivateKeyDer::Pkcs8(key.serialize_der().into())))
    }
}

/// What all TLS of the lab is computed with.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn failed(what: &str, error: &dyn std::error::Error) -> Failure {
    Failure::new(format!("cannot {what}: {error}"))
}
