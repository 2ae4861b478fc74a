//! The certificate that a relay shows: one from an authority, or one of its own, which its address then names.

use std::sync::Arc;

use futures_rustls::rustls::crypto::aws_lc_rs;
use futures_rustls::rustls::pki_types::pem::PemObject;
use futures_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use futures_rustls::rustls::{self, ServerConfig};
use libp2p::Multiaddr;
use rcgen::{CertificateParams, KeyPair};
use sha2::{Digest, Sha256};
use worldcompute_fault::{Category, Fault};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::address::Facade;
use super::trust;

/// Bytes of a file of certificates, or of a key.
pub const MAX_PEM: usize = 64 * 1024;
/// What HTTP/1.1 is called while TLS is agreed on (RFC 7301).
pub(super) const HTTP: &[u8] = b"http/1.1";

/// SHA-256 of a certificate.
pub(super) type Fingerprint = [u8; 32];

/// A certificate with its key.
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    name: Option<String>,
    pin: Option<Fingerprint>,
}

impl Certificate {
    /// Reads a chain, the relay's own certificate first, and its key, both PEM (RFC 7468).
    ///
    /// If no public authority vouches for it, the addresses of the relay name it by its hash.
    ///
    /// # Errors
    /// `tls_certificate` for what is no chain, no key, longer than [`MAX_PEM`], or not a pair.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, Fault> {
        if certificate.len() > MAX_PEM || key.len() > MAX_PEM {
            return Err(unusable(format!("a file of more than {MAX_PEM} bytes")));
        }
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<_, _>>()
            .map_err(|error| unusable(format!("the chain: {error}")))?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| unusable(format!("the key: {error}")))?;
        Self::new(chain, key)
    }

    /// Makes one that nobody vouches for. Beside it, certificate and key in PEM, to be kept: a secret.
    ///
    /// # Errors
    /// `tls_certificate` if the system gives no randomness.
    pub fn self_signed() -> Result<(Self, Zeroizing<String>), Fault> {
        let key = KeyPair::generate().map_err(|error| unusable(error.to_string()))?;
        let certificate = CertificateParams::new(Vec::new())
            .and_then(|params| params.self_signed(&key))
            .map_err(|error| unusable(error.to_string()))?;
        let secret = Zeroizing::new(key.serialize_pem());
        let both = Zeroizing::new(format!("{}{}", certificate.pem(), *secret));
        Ok((Self::from_pem(both.as_bytes(), both.as_bytes())?, both))
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, Fault> {
        let own = chain
            .first()
            .ok_or_else(|| unusable("the file holds no certificate"))?;
        let name = name_in(own);
        let vouched = name
            .as_deref()
            .is_some_and(|name| trust::is_public(&chain, name));
        let certificate = Self {
            name: name.filter(|_| vouched),
            pin: (!vouched).then(|| fingerprint(own)),
            chain,
            key,
        };
        certificate.server()?;
        Ok(certificate)
    }

    /// An address of this node over TLS that names neither host nor certificate, with what the certificate is known by.
    /// Any other address as it is.
    pub fn complete(&self, address: Multiaddr) -> Multiaddr {
        Facade::of(self).completed(&address).unwrap_or(address)
    }

    /// The name to ask for it by, if an authority vouches for that name.
    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Its hash, if nobody else vouches for it.
    pub(super) fn pin(&self) -> Option<Fingerprint> {
        self.pin
    }

    /// What shows it to whoever connects.
    pub(super) fn server(&self) -> Result<Arc<ServerConfig>, Fault> {
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .and_then(|builder| {
                    builder
                        .with_no_client_auth()
                        .with_single_cert(self.chain.clone(), self.key.clone_key())
                })
                .map_err(|error: rustls::Error| unusable(error.to_string()))?;
        config.alpn_protocols = vec![HTTP.to_vec()];
        Ok(Arc::new(config))
    }
}

pub(super) fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    Sha256::digest(certificate).into()
}

/// The first name of the site, if it is one that can be asked for.
fn name_in(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    names
        .value
        .general_names
        .iter()
        .find_map(|name| match name {
            GeneralName::DNSName(name) if !name.starts_with('*') => Some((*name).to_owned()),
            _ => None,
        })
}

fn unusable(why: impl Into<String>) -> Fault {
    Fault::new(
        Category::InvalidInput,
        "tls_certificate",
        format!("the TLS certificate cannot be used: {}", why.into()),
    )
    .hint("give a PEM chain with --tls-cert and its PEM key with --tls-key, or neither")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_of_ones_own_is_the_same_when_it_is_read_again() {
        let (made, pem) = Certificate::self_signed().unwrap();
        let read = Certificate::from_pem(pem.as_bytes(), pem.as_bytes()).unwrap();
        assert_eq!(made.pin(), read.pin());
        assert!(read.pin().is_some() && read.name().is_none());
    }

    #[test]
    fn what_is_no_pair_is_refused() {
        let (_, one) = Certificate::self_signed().unwrap();
        let (_, other) = Certificate::self_signed().unwrap();
        let key_at = one.find("-----BEGIN PRIVATE KEY").unwrap();
        let (certificate, key) = one.as_bytes().split_at(key_at);
        let long = vec![b'\n'; MAX_PEM + 1];
        let cut = &certificate[..certificate.len() / 2];
        for (certificate, key) in [
            (certificate, other.as_bytes()),
            (key, key),
            (certificate, certificate),
            (cut, key),
            (b"".as_slice(), key),
            (certificate, b"".as_slice()),
            (&long, key),
            (certificate, &long),
            (b"\xff\xfe".as_slice(), key),
        ] {
            let fault = Certificate::from_pem(certificate, key).err().unwrap();
            assert_eq!(fault.code(), "tls_certificate");
        }
        let padded = [&long[..MAX_PEM - certificate.len()], certificate].concat();
        assert!(Certificate::from_pem(&padded, key).is_ok());
    }
}
