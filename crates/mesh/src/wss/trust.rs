//! Whether the certificate that comes is the relay's, or that of a box on the way.
//!
//! An address either names the one right certificate by its hash, or a public authority has to vouch for the name that
//! is asked for; the authorities are those that browsers ship with, not those of this machine, for a site that inspects
//! TLS adds its own there. Any other certificate is refused, unless the operator allows inspection: then an authority
//! of this machine may vouch for it, and the connection is marked.
//!
//! None of this protects what is said: Noise does, with the peer's key. It tells the donor what the network does.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_rustls::rustls::client::WebPkiServerVerifier;
use futures_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use futures_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use futures_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use futures_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use libp2p::{Multiaddr, PeerId};
use worldcompute_fault::{Category, Fault};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificate::{Fingerprint, HTTP, fingerprint};

/// Handshakes that may wait for their peer to become known.
const MAX_SIGHTINGS: usize = 1024;
/// Characters of a name in a certificate that are told.
const MAX_NAME: usize = 200;

/// Whether a site may open the TLS of this node's connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inspection {
    /// A certificate that is not the relay's is refused.
    #[default]
    Refused,
    /// One that this machine trusts is taken; the connection is marked as inspected.
    DangerouslyAllowed,
}

/// How far a connection can be trusted to be nobody else's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// The certificate is the relay's.
    Relay,
    /// It is that of a box on the way.
    Inspected,
}

/// Why a certificate is not the right one, with what it says of itself.
#[derive(Clone, Debug, thiserror::Error)]
#[error("certificate {fingerprint} (subject {subject}, issuer {issuer}) is not {expected}: {why}")]
pub(crate) struct Refusal {
    pub fingerprint: String,
    pub subject: String,
    pub issuer: String,
    pub expected: String,
    pub why: Why,
}

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It is somebody else's.
    Inspected,
    /// It is the relay's, and its time is over or has not come.
    OutOfDate,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inspected => "TLS is inspected on the way",
            Self::OutOfDate => "it was not renewed, or this machine's clock is wrong",
        })
    }
}

/// Whom this node believes.
#[derive(Debug)]
pub(super) struct Roots {
    provider: Arc<CryptoProvider>,
    public: Arc<WebPkiServerVerifier>,
    local: Option<Arc<WebPkiServerVerifier>>,
}

impl Roots {
    /// # Errors
    /// `no_local_authorities` if inspection is allowed and this machine trusts nobody.
    pub(super) fn new(inspection: Inspection) -> Result<Self, Fault> {
        let local = match inspection {
            Inspection::Refused => None,
            Inspection::DangerouslyAllowed => Some(local_authorities()?),
        };
        Self::with(local)
    }

    fn with(local: Option<RootCertStore>) -> Result<Self, Fault> {
        let verifier = |roots| verifier(roots).map_err(|error| setup(&error));
        Ok(Self {
            provider: provider(),
            public: verifier(public_authorities())?,
            local: local.map(verifier).transpose()?,
        })
    }

    /// For one dial: the configuration, and where to look for the verdict.
    pub(super) fn client(
        self: &Arc<Self>,
        pin: Option<Fingerprint>,
    ) -> io::Result<(Arc<ClientConfig>, Verdict)> {
        let verdict = Verdict::default();
        let judge = Judge {
            roots: self.clone(),
            pin,
            verdict: verdict.clone(),
        };
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(judge))
            .with_no_client_auth();
        config.alpn_protocols = vec![HTTP.to_vec()];
        Ok((Arc::new(config), verdict))
    }
}

/// Whether a public authority vouches for a chain, the site's own certificate first, under a name.
pub(super) fn is_public(chain: &[CertificateDer<'_>], name: &str) -> bool {
    let Some((own, others)) = chain.split_first() else {
        return false;
    };
    let (Ok(verifier), Ok(name)) = (verifier(public_authorities()), ServerName::try_from(name))
    else {
        return false;
    };
    verifier
        .verify_server_cert(own, others, &name, &[], UnixTime::now())
        .is_ok()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn verifier(
    roots: RootCertStore,
) -> Result<Arc<WebPkiServerVerifier>, futures_rustls::rustls::client::VerifierBuilderError> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build()
}

fn public_authorities() -> RootCertStore {
    RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    }
}

pub(crate) fn local_authorities() -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    let (taken, _) =
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if taken > 0 {
        return Ok(roots);
    }
    Err(Fault::new(
        Category::DependencyMissing,
        "no_local_authorities",
        "inspection of TLS is allowed, and this machine trusts no authority that could do it",
    )
    .hint("install the site's authority on this machine, or name its file with SSL_CERT_FILE"))
}

fn setup(error: &impl fmt::Display) -> Fault {
    Fault::new(
        Category::InternalFailure,
        "tls_setup",
        format!("cannot set up TLS: {error}"),
    )
}

/// What a dial's certificate came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict(Arc<Mutex<Option<Judgement>>>);

#[derive(Clone, Debug)]
enum Judgement {
    Relays,
    /// Not the relay's, and taken all the same.
    Allowed(Refusal),
    Refused(Refusal),
}

impl Verdict {
    /// Of a handshake that succeeded.
    pub(super) fn trust(&self) -> Trust {
        match &*self.lock() {
            Some(Judgement::Relays) => Trust::Relay,
            // Without a verdict there is no handshake. It would be told as the worse of both.
            Some(Judgement::Allowed(_) | Judgement::Refused(_)) | None => Trust::Inspected,
        }
    }

    /// What is wrong with the certificate, whether it was taken or not.
    pub(super) fn mismatch(&self) -> Option<Refusal> {
        match &*self.lock() {
            Some(Judgement::Allowed(refusal) | Judgement::Refused(refusal)) => {
                Some(refusal.clone())
            }
            Some(Judgement::Relays) | None => None,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Judgement>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The verifier of one dial.
#[derive(Debug)]
struct Judge {
    roots: Arc<Roots>,
    pin: Option<Fingerprint>,
    verdict: Verdict,
}

impl Judge {
    /// `vouches` tells whether an authority does, at a time.
    fn judge(
        &self,
        own: &CertificateDer<'_>,
        now: UnixTime,
        vouches: impl Fn(&WebPkiServerVerifier, UnixTime) -> bool,
    ) -> Judgement {
        let is_relays = |time| match self.pin {
            Some(pin) => pin == fingerprint(own),
            None => vouches(&self.roots.public, time),
        };
        if is_relays(now) {
            return Judgement::Relays;
        }
        let refusal = |why| self.refusal(own, why);
        match self.roots.local.as_deref() {
            Some(local) if vouches(local, now) => Judgement::Allowed(refusal(Why::Inspected)),
            _ if its_own_time(own).is_some_and(is_relays) => {
                Judgement::Refused(refusal(Why::OutOfDate))
            }
            _ => Judgement::Refused(refusal(Why::Inspected)),
        }
    }

    fn refusal(&self, own: &CertificateDer<'_>, why: Why) -> Refusal {
        let parsed = X509Certificate::from_der(own).ok();
        let named = |name: &x509_parser::x509::X509Name<'_>| printable(&name.to_string());
        let (subject, issuer) = parsed.map_or_else(
            || ("unreadable".to_owned(), "unreadable".to_owned()),
            |(_, parsed)| (named(parsed.subject()), named(parsed.issuer())),
        );
        Refusal {
            fingerprint: hex::encode(fingerprint(own)),
            subject,
            issuer,
            expected: match (why, self.pin) {
                (Why::OutOfDate, _) => "valid at this time".to_owned(),
                (Why::Inspected, None) => "from a public authority".to_owned(),
                (Why::Inspected, Some(pin)) => {
                    format!("the one that the address names, {}", hex::encode(pin))
                }
            },
            why,
        }
    }
}

/// A time at which the certificate was valid, as were those above it when it was made.
fn its_own_time(own: &CertificateDer<'_>) -> Option<UnixTime> {
    let (_, parsed) = X509Certificate::from_der(own).ok()?;
    let begin = parsed.validity().not_before.timestamp();
    Some(UnixTime::since_unix_epoch(Duration::from_secs(
        u64::try_from(begin).ok()?,
    )))
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judgement = self.judge(own, now, |verifier, time| {
            verifier
                .verify_server_cert(own, others, name, ocsp, time)
                .is_ok()
        });
        let refused = matches!(judgement, Judgement::Refused(_));
        *self.verdict.lock() = Some(judgement);
        if refused {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.roots
            .public
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.roots
            .public
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.roots.public.supported_verify_schemes()
    }
}

/// A name out of a certificate that whoever is on the way has written, fit for a log.
fn printable(name: &str) -> String {
    name.chars()
        .filter(|character| !character.is_control())
        .take(MAX_NAME)
        .collect()
}

/// Peers that are reached through a box that opens TLS, as long as they are: no more than there are connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sightings(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    /// Handshakes whose peer is not known yet.
    at: HashMap<Multiaddr, Trust>,
    inspected: HashSet<PeerId>,
}

impl Sightings {
    /// A TLS handshake came to this.
    pub(super) fn at(&self, address: Multiaddr, trust: Trust) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A handshake that was followed by none of Noise leaves its entry behind.
        if seen.at.len() >= MAX_SIGHTINGS {
            seen.at.clear();
        }
        // Of two handshakes with one address the worse counts.
        let known = seen.at.entry(address).or_insert(trust);
        if trust == Trust::Inspected {
            *known = trust;
        }
    }

    /// This peer answers behind it.
    pub(crate) fn met(&self, address: &Multiaddr, peer: PeerId) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.at.remove(address) {
            Some(Trust::Inspected) => {
                seen.inspected.insert(peer);
            }
            Some(Trust::Relay) => {
                seen.inspected.remove(&peer);
            }
            None => {}
        }
    }

    /// There is no connection to this peer any more.
    pub(crate) fn left(&self, peer: &PeerId) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.inspected.remove(peer);
    }

    /// Whether the last connection to this peer over TLS was inspected.
    pub(crate) fn is_inspected(&self, peer: &PeerId) -> bool {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.inspected.contains(peer)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    /// An authority, and a certificate for `name` by it.
    fn authority(name: &str) -> (CertificateDer<'static>, CertificateDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap();
        let leaf_key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&leaf_key, &root, &key)
            .unwrap();
        (root.der().clone(), leaf.der().clone())
    }

    fn roots(local: Option<&CertificateDer<'static>>) -> Arc<Roots> {
        let local = local.map(|root| {
            let mut roots = RootCertStore::empty();
            roots.add(root.clone()).unwrap();
            roots
        });
        Arc::new(Roots::with(local).unwrap())
    }

    fn verdict(
        roots: &Arc<Roots>,
        pin: Option<Fingerprint>,
        shown: &CertificateDer<'_>,
        name: &'static str,
    ) -> Result<Trust, Refusal> {
        let verdict = Verdict::default();
        let judge = Judge {
            roots: roots.clone(),
            pin,
            verdict: verdict.clone(),
        };
        let name = ServerName::try_from(name).unwrap();
        let accepted = judge
            .verify_server_cert(shown, &[], &name, &[], UnixTime::now())
            .is_ok();
        match accepted {
            true => Ok(verdict.trust()),
            false => Err(verdict.mismatch().unwrap()),
        }
    }

    #[test]
    fn the_pinned_certificate_is_taken_and_no_other() {
        let (_, relays) = authority("relay.example");
        let (_, other) = authority("relay.example");
        let (roots, pin) = (roots(None), Some(fingerprint(&relays)));
        assert_eq!(
            verdict(&roots, pin, &relays, "relay.example").unwrap(),
            Trust::Relay
        );
        let refusal = verdict(&roots, pin, &other, "relay.example").unwrap_err();
        assert_eq!(refusal.fingerprint, hex::encode(fingerprint(&other)));
        assert!(
            refusal
                .expected
                .contains(&hex::encode(fingerprint(&relays)))
        );
    }

    #[test]
    fn without_a_pin_nobody_but_a_public_authority_vouches() {
        let (_, made_up) = authority("relay.example");
        let refusal = verdict(&roots(None), None, &made_up, "relay.example").unwrap_err();
        assert!(refusal.issuer.contains("rcgen"), "{refusal}");
    }

    #[test]
    fn where_inspection_is_allowed_this_machine_vouches_and_the_connection_is_marked() {
        let (_, relays) = authority("relay.example");
        let (inspectors, forged) = authority("relay.example");
        let (_, strangers) = authority("relay.example");
        let roots = roots(Some(&inspectors));
        for pin in [None, Some(fingerprint(&relays))] {
            let taken = verdict(&roots, pin, &forged, "relay.example").unwrap();
            assert_eq!(taken, Trust::Inspected);
            assert!(verdict(&roots, pin, &strangers, "relay.example").is_err());
            assert!(verdict(&roots, pin, &forged, "another.example").is_err());
        }
        let pinned = verdict(&roots, Some(fingerprint(&relays)), &relays, "relay.example");
        assert_eq!(pinned.unwrap(), Trust::Relay);
    }

    #[test]
    fn a_certificate_whose_time_is_over_or_has_not_come_is_no_sign_of_inspection() {
        let (root, _) = authority("relay.example");
        let (_, strangers) = authority("relay.example");
        let (_, shown) = authority("relay.example");
        let why = |now: u64, vouches: &dyn Fn(UnixTime) -> bool| {
            let judge = Judge {
                roots: roots(None),
                pin: None,
                verdict: Verdict::default(),
            };
            let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
            match judge.judge(&shown, now, |_, time| vouches(time)) {
                Judgement::Refused(refusal) => Some(refusal.why),
                _ => None,
            }
        };
        // The authority vouches at the certificate's own time, which is none of these.
        let its_own = its_own_time(&shown).unwrap();
        let by_the_public = |time: UnixTime| time.as_secs() == its_own.as_secs();
        assert_eq!(why(0, &by_the_public), Some(Why::OutOfDate));
        assert_eq!(
            why(u64::from(u32::MAX), &by_the_public),
            Some(Why::OutOfDate)
        );
        assert_eq!(why(its_own.as_secs(), &by_the_public), None);
        assert_eq!(why(0, &|_| false), Some(Why::Inspected));
        // Whom nobody vouches for at any time is somebody else.
        let refusal = verdict(&roots(Some(&root)), None, &strangers, "relay.example").unwrap_err();
        assert_eq!(refusal.why, Why::Inspected);
    }

    #[test]
    fn garbage_is_refused_and_what_it_says_cannot_steer_a_terminal() {
        let garbage = CertificateDer::from(vec![0x30; 64]);
        let refusal = verdict(&roots(None), Some([0; 32]), &garbage, "relay.example").unwrap_err();
        assert_eq!(refusal.subject, "unreadable");
        assert_eq!(printable("CN=\u{1b}[2Jcorp\n"), "CN=[2Jcorp");
        assert_eq!(printable(&"x".repeat(1000)).len(), MAX_NAME);
    }

    #[test]
    fn a_peer_is_marked_until_it_is_reached_otherwise_or_gone() {
        let (sightings, peer) = (Sightings::default(), PeerId::random());
        let address: Multiaddr = "/ip4/192.0.2.1/tcp/443/tls/ws".parse().unwrap();
        let met = |trust| {
            sightings.at(address.clone(), trust);
            sightings.met(&address, peer);
            sightings.is_inspected(&peer)
        };
        assert!(met(Trust::Inspected));
        assert!(!met(Trust::Relay));
        assert!(met(Trust::Inspected));
        // A connection by another transport says nothing.
        sightings.met(&"/ip4/192.0.2.1/tcp/1".parse().unwrap(), peer);
        assert!(sightings.is_inspected(&peer));
        sightings.left(&peer);
        assert!(!sightings.is_inspected(&peer));
    }
}
