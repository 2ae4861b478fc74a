//! What became of a dial, address by address, in words that name the root cause.

use std::error::Error;
use std::fmt;
use std::io;

use libp2p::core::transport::TransportError;
use libp2p::swarm::DialError;
use libp2p::{Multiaddr, PeerId};
use worldcompute_fault::{Fault, WcCode};
use worldcompute_proof as proof;

use crate::address::Transport;
use crate::given_up::Unanswered;
use crate::status::DialCounts;

/// Failures that a fault spells out; more of them say nothing new.
const MAX_TOLD: usize = 8;
/// How deep a chain of causes is followed.
const MAX_CAUSES: usize = 16;

/// How one address turned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    Timeout,
    TransportError,
    Denied,
    /// Nobody waits for it any more: another address was first.
    Abandoned,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "Success",
            Self::Timeout => "Timeout",
            Self::TransportError => "TransportError",
            Self::Denied => "Denied",
            Self::Abandoned => "Abandoned",
        }
    }
}

/// One address that was dialled in vain.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    pub target: Option<Multiaddr>,
    pub outcome: Outcome,
    pub root_cause: String,
}

impl Failure {
    fn new(target: Option<Multiaddr>, outcome: Outcome, root_cause: impl Into<String>) -> Self {
        Self {
            target,
            outcome,
            root_cause: root_cause.into(),
        }
    }

    fn of_transport(target: &Multiaddr, error: &TransportError<io::Error>) -> Self {
        let target = Some(target.clone());
        match error {
            TransportError::MultiaddrNotSupported(_) => Self::new(
                target,
                Outcome::TransportError,
                "no transport for this address",
            ),
            TransportError::Other(error) => {
                let chain = causes(error);
                Self::new(target, outcome(&chain), root_cause(&chain))
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Some(target) => write!(f, "{target} ({}): ", Transport::of(target).as_str())?,
            None => f.write_str("no address: ")?,
        }
        write!(f, "{}: {}", self.outcome.as_str(), self.root_cause)
    }
}

/// The addresses that failed in a dial that failed. `tried` are those of the attempt, where they are known.
pub(crate) fn failures(error: &DialError, tried: &[Multiaddr]) -> Vec<Failure> {
    match error {
        DialError::Transport(errors) => of_attempt(errors),
        DialError::Denied { cause } => all(tried, Outcome::Denied, &root_cause(&causes(cause))),
        DialError::WrongPeerId { obtained, address } => {
            vec![Failure::new(
                Some(address.clone()),
                Outcome::TransportError,
                format!("{obtained} answers there"),
            )]
        }
        DialError::LocalPeerId { address } => {
            vec![Failure::new(
                Some(address.clone()),
                Outcome::TransportError,
                "this node itself answers there",
            )]
        }
        DialError::Aborted => all(tried, Outcome::TransportError, "the attempt was aborted"),
        DialError::NoAddresses => vec![Failure::new(
            None,
            Outcome::TransportError,
            "no address is known",
        )],
        // Nothing was dialled: there is a connection, or another attempt is under way.
        DialError::DialPeerConditionFalse(_) => Vec::new(),
    }
}

/// The addresses that failed, also beside one that succeeded.
pub(crate) fn of_attempt(errors: &[(Multiaddr, TransportError<io::Error>)]) -> Vec<Failure> {
    errors
        .iter()
        .map(|(address, error)| Failure::of_transport(address, error))
        .collect()
}

/// A dial that nobody answered before it was dropped, because `winner` did if there is one.
pub(crate) fn abandoned(dial: Unanswered, winner: Option<&Multiaddr>) -> Failure {
    let first = winner.map_or_else(String::new, |winner| {
        format!("; {} was first", Transport::of(winner).as_str())
    });
    let why = format!("no answer after {} ms{first}", dial.after.as_millis());
    Failure::new(Some(dial.address), Outcome::Abandoned, why)
}

/// Those that were tried in vain at something better than what answered.
pub(crate) fn better_than(winner: &Multiaddr, failures: Vec<Failure>) -> Vec<Failure> {
    let kind = Transport::of(winner);
    let better = |target: &Multiaddr| Transport::of(target) < kind;
    failures
        .into_iter()
        .filter(|failure| failure.target.as_ref().is_some_and(better))
        .collect()
}

/// All of them on one line.
pub(crate) fn in_words(failures: &[Failure]) -> String {
    let told: Vec<String> = failures.iter().map(ToString::to_string).collect();
    told.join("; ")
}

fn all(tried: &[Multiaddr], outcome: Outcome, why: &str) -> Vec<Failure> {
    match tried {
        [] => vec![Failure::new(None, outcome, why)],
        tried => tried
            .iter()
            .map(|address| Failure::new(Some(address.clone()), outcome, why))
            .collect(),
    }
}

/// Circuits that are not dialled because their relay is gone.
pub(crate) fn relays_lost(circuits: &[Multiaddr]) -> Vec<Failure> {
    all(
        circuits,
        Outcome::TransportError,
        "the connection to the relay was lost",
    )
}

/// Writes the record of an address that answered.
pub(crate) fn record_success(peer: &PeerId, address: &Multiaddr, counts: &mut DialCounts) {
    counts.succeeded += 1;
    let (transport, outcome) = (Transport::of(address).as_str(), Outcome::Success.as_str());
    tracing::info!(%peer, %address, transport, outcome, "dial");
}

/// Writes the record of an address that did not.
pub(crate) fn record_failure(peer: Option<&PeerId>, failure: &Failure, counts: &mut DialCounts) {
    match failure.outcome {
        Outcome::Success => counts.succeeded += 1,
        Outcome::Timeout => counts.timed_out += 1,
        Outcome::TransportError => counts.transport_errors += 1,
        Outcome::Denied => counts.denied += 1,
        Outcome::Abandoned => counts.abandoned += 1,
    }
    let peer = peer.map(ToString::to_string);
    let address = failure.target.as_ref().map(ToString::to_string);
    let transport = failure
        .target
        .as_ref()
        .map_or("none", |target| Transport::of(target).as_str());
    let (outcome, root_cause) = (failure.outcome.as_str(), failure.root_cause.as_str());
    tracing::info!(peer, address, transport, outcome, root_cause, "dial");
}

/// WC-022 with the cause for every address.
pub(crate) fn unreachable(peer: &proof::PeerId, failures: &[Failure]) -> Fault {
    let told: Vec<String> = failures
        .iter()
        .take(MAX_TOLD)
        .map(ToString::to_string)
        .collect();
    let causes = match told.as_slice() {
        [] => "no address is known".to_owned(),
        told => told.join("; "),
    };
    Fault::wc(
        WcCode::DialFailureWithDetail,
        format!("cannot reach {peer}: {causes}"),
    )
    .hint("see `worldcompute mesh status` for reservations, and the log for every dial")
}

/// The error and what caused it, outermost first. An `io::Error` hides the error it wraps from `source()`.
pub(crate) fn causes<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    let mut chain = Vec::new();
    let mut next = Some(error);
    while let (Some(error), true) = (next, chain.len() < MAX_CAUSES) {
        chain.push(error);
        next = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    chain
}

/// The innermost cause that has something to say.
pub(crate) fn root_cause(chain: &[&(dyn Error + 'static)]) -> String {
    let texts = chain.iter().rev().map(ToString::to_string);
    texts
        .into_iter()
        .find(|text| !text.is_empty())
        .unwrap_or_else(|| "unknown".to_owned())
}

fn outcome(chain: &[&(dyn Error + 'static)]) -> Outcome {
    if is_timeout(chain) {
        Outcome::Timeout
    } else if is_denied(chain) {
        Outcome::Denied
    } else {
        Outcome::TransportError
    }
}

/// A firewall of this machine says so, and so does whoever does not believe a certificate.
fn is_denied(chain: &[&(dyn Error + 'static)]) -> bool {
    let kinds = chain
        .iter()
        .filter_map(|error| error.downcast_ref::<io::Error>());
    kinds
        .map(io::Error::kind)
        .any(|kind| kind == io::ErrorKind::PermissionDenied)
}

pub(crate) fn is_timeout(chain: &[&(dyn Error + 'static)]) -> bool {
    chain.iter().any(|error| {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        // The transports' own timeouts have no common type; their texts are all there is.
        let text = error.to_string();
        kind == Some(io::ErrorKind::TimedOut)
            || text.contains("Timeout has been reached")
            || text.contains("timed out")
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    #[test]
    fn the_root_cause_is_found_behind_an_io_error() {
        let inner = io::Error::from(io::ErrorKind::ConnectionRefused);
        let text = inner.to_string();
        let error = io::Error::other(Outer(io::Error::other(Outer(inner))));
        assert_eq!(root_cause(&causes(&error)), text);
        assert!(!is_timeout(&causes(&error)));
    }

    #[test]
    fn a_chain_without_end_is_not_followed_to_it() {
        let mut error = io::Error::other("core");
        for _ in 0..100 {
            error = io::Error::other(Outer(error));
        }
        assert_eq!(causes(&error).len(), MAX_CAUSES);
    }

    #[test]
    fn every_dial_is_told_at_info_with_its_target_transport_and_root_cause() {
        let lines = tempfile::NamedTempFile::new().unwrap();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::INFO)
            .with_ansi(false)
            .with_writer(Arc::new(lines.reopen().unwrap()))
            .finish();
        let peer = PeerId::random();
        let dialled = [
            (
                "/ip4/10.0.0.1/tcp/1",
                "tcp",
                io::ErrorKind::ConnectionRefused,
            ),
            (
                "/ip4/10.0.0.1/udp/1/quic-v1",
                "quic",
                io::ErrorKind::TimedOut,
            ),
            (
                "/ip4/10.0.0.1/tcp/1/p2p-circuit",
                "circuit",
                io::ErrorKind::BrokenPipe,
            ),
        ];
        let mut counts = DialCounts::default();
        tracing::subscriber::with_default(subscriber, || {
            for (address, _, why) in dialled {
                let error = TransportError::Other(why.into());
                let failure = Failure::of_transport(&address.parse().unwrap(), &error);
                record_failure(Some(&peer), &failure, &mut counts);
            }
            record_success(&peer, &"/ip4/10.0.0.2/tcp/2".parse().unwrap(), &mut counts);
        });
        let told = std::fs::read_to_string(lines.path()).unwrap();
        let told: Vec<&str> = told.lines().collect();
        assert_eq!(told.len(), 4, "{told:?}");
        for (line, (address, transport, why)) in told.iter().zip(dialled) {
            let cause = io::Error::from(why).to_string();
            for part in ["INFO", &peer.to_string(), address, transport, &cause] {
                assert!(line.contains(part), "{part}: {line}");
            }
        }
        assert!(told[3].contains("/ip4/10.0.0.2/tcp/2") && told[3].contains("Success"));
        assert_eq!((counts.timed_out, counts.transport_errors), (1, 2));
    }

    #[test]
    fn timeouts_are_told_apart_from_other_failures() {
        let address: Multiaddr = "/ip4/10.0.0.1/tcp/1".parse().unwrap();
        let failed = |error: io::Error| {
            Failure::of_transport(&address, &TransportError::Other(error)).outcome
        };
        assert_eq!(failed(io::ErrorKind::TimedOut.into()), Outcome::Timeout);
        assert_eq!(
            failed(io::Error::other("Timeout has been reached")),
            Outcome::Timeout
        );
        assert_eq!(
            failed(io::Error::other("Handshake with the remote timed out.")),
            Outcome::Timeout
        );
        assert_eq!(
            failed(io::ErrorKind::ConnectionRefused.into()),
            Outcome::TransportError
        );
        assert_eq!(
            failed(io::Error::other(io::Error::from(
                io::ErrorKind::PermissionDenied
            ))),
            Outcome::Denied
        );
    }

    #[test]
    fn every_failed_address_is_counted_once() {
        let addresses: Vec<Multiaddr> = ["/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.1/udp/1/quic-v1"]
            .map(|text| text.parse().unwrap())
            .into();
        let error = DialError::Transport(
            addresses
                .iter()
                .map(|address| {
                    (
                        address.clone(),
                        TransportError::Other(io::ErrorKind::ConnectionRefused.into()),
                    )
                })
                .collect(),
        );
        let failures = failures(&error, &addresses);
        let mut counts = DialCounts::default();
        for failure in &failures {
            record_failure(None, failure, &mut counts);
        }
        assert_eq!((failures.len(), counts.transport_errors), (2, 2));
        assert!(
            failures[0]
                .to_string()
                .starts_with("/ip4/10.0.0.1/tcp/1 (tcp): TransportError: ")
        );
    }
}
