//! One thing that was tried, and what came of it.

use std::error::Error;
use std::io;
use std::time::Duration;

use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};

use crate::address::Transport;
use crate::dial;
use crate::wss::{Refusal, Why};

/// How it is told by whoever asks over HTTPS that a certificate's time is over or has not come.
const OUT_OF_DATE: [&str; 2] = ["certificate expired", "certificate not valid yet"];
/// Why a certificate was refused by whoever looks it up over HTTPS.
const BAD_CERTIFICATE: &str = "invalid peer certificate";

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeKind {
    /// A connection over QUIC.
    Quic,
    /// A datagram to the port of QUIC, and its answer.
    Udp,
    /// A connection over TCP to the port of the mesh.
    Tcp,
    /// TCP to the port of the web.
    WebTcp,
    /// TLS to the port of the web, with a look at the certificate.
    WebTls,
    /// A connection over WebSocket and TLS.
    Wss,
    /// A name, by the resolver of the operating system.
    SystemDns,
    /// A name, by a resolver over HTTPS.
    HttpsDns,
}

impl ProbeKind {
    /// How an address is dialled.
    pub(super) fn of(address: &Multiaddr) -> Self {
        match Transport::of(address) {
            Transport::Quic => Self::Quic,
            Transport::Wss => Self::Wss,
            _ => Self::Tcp,
        }
    }

    /// What kind of a way to a relay it is, if it is a whole one.
    pub(super) const fn way(self) -> Option<Transport> {
        match self {
            Self::Quic => Some(Transport::Quic),
            Self::Tcp => Some(Transport::Tcp),
            Self::Wss => Some(Transport::Wss),
            _ => None,
        }
    }

    /// As it is written in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::WebTcp => "web_tcp",
            Self::WebTls => "web_tls",
            Self::Wss => "wss",
            Self::SystemDns => "system_dns",
            Self::HttpsDns => "https_dns",
        }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeState {
    /// It came through.
    Works,
    /// Nothing came back.
    Silent,
    /// Something on the way, or at the other end, says no.
    Refused,
    /// It came through to somebody else, who opens TLS.
    Inspected,
    /// What was answered is not so.
    Lies,
    /// It failed in another way.
    Failed,
    /// It was not tried to its end.
    Unknown,
}

impl ProbeState {
    /// As it is written in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Silent => "silent",
            Self::Refused => "refused",
            Self::Inspected => "inspected",
            Self::Lies => "lies",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// A certificate that is not the one that should be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenCertificate {
    /// SHA-256, in hexadecimal digits.
    pub sha256: String,
    /// Whom it is for, by its own word.
    pub subject: String,
    /// Who vouches for it, by its own word.
    pub issuer: String,
    /// Which one should be there.
    pub expected: String,
}

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// What.
    pub kind: ProbeKind,
    /// Where: an address, or a name.
    pub target: String,
    /// What came of it.
    pub state: ProbeState,
    /// How long that took, in milliseconds.
    pub after_ms: f64,
    /// The root cause, where it does not work.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cause: Option<String>,
    /// The certificate that was seen, where it is not the right one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub certificate: Option<SeenCertificate>,
}

impl Probe {
    /// It came through.
    /// Whether it is a whole way to a relay, and works.
    pub(super) fn is_a_way(&self) -> bool {
        self.kind.way().is_some() && self.state == ProbeState::Works
    }

    pub(super) fn works(kind: ProbeKind, target: impl Into<String>, after: Duration) -> Self {
        Self {
            kind,
            target: target.into(),
            state: ProbeState::Works,
            after_ms: milliseconds(after),
            cause: None,
            certificate: None,
        }
    }

    /// It did not.
    pub(super) fn not(
        kind: ProbeKind,
        target: impl Into<String>,
        state: ProbeState,
        after: Duration,
        cause: impl Into<String>,
    ) -> Self {
        Self {
            state,
            cause: Some(cause.into()),
            ..Self::works(kind, target, after)
        }
    }

    /// Nobody knows.
    pub(super) fn unknown(kind: ProbeKind, target: impl Into<String>, why: &str) -> Self {
        Self::not(kind, target, ProbeState::Unknown, Duration::ZERO, why)
    }

    /// It failed with an error.
    pub(super) fn failed(
        kind: ProbeKind,
        target: impl Into<String>,
        after: Duration,
        error: &(dyn Error + 'static),
    ) -> Self {
        let chain = dial::causes(error);
        let refusal = chain
            .iter()
            .find_map(|error| error.downcast_ref::<Refusal>());
        Self {
            certificate: refusal.map(seen),
            ..Self::not(
                kind,
                target,
                state_of(&chain),
                after,
                dial::root_cause(&chain),
            )
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 10.0
}

fn seen(refusal: &Refusal) -> SeenCertificate {
    SeenCertificate {
        sha256: refusal.fingerprint.clone(),
        subject: refusal.subject.clone(),
        issuer: refusal.issuer.clone(),
        expected: refusal.expected.clone(),
    }
}

/// What an error says of whoever is between.
fn state_of(chain: &[&(dyn Error + 'static)]) -> ProbeState {
    let kinds = || {
        let kind = |error: &&(dyn Error + 'static)| match error.downcast_ref::<io::Error>() {
            Some(error) => Some(error.kind()),
            None => kind_in_words(&error.to_string()),
        };
        chain.iter().filter_map(kind)
    };
    let is_refusal = |error: &&(dyn Error + 'static)| match error.downcast_ref::<Refusal>() {
        Some(refusal) => refusal.why == Why::Inspected,
        None => is_inspected_in_words(&error.to_string()),
    };
    let is_out_of_date = |error: &&(dyn Error + 'static)| {
        let refusal = error.downcast_ref::<Refusal>();
        refusal.is_some_and(|refusal| refusal.why == Why::OutOfDate)
    };
    if chain.iter().any(is_refusal) {
        ProbeState::Inspected
    } else if chain.iter().any(is_out_of_date) {
        ProbeState::Failed
    } else if dial::is_timeout(chain) {
        ProbeState::Silent
    } else if kinds().any(says_no) {
        ProbeState::Refused
    } else {
        ProbeState::Failed
    }
}

fn is_inspected_in_words(text: &str) -> bool {
    text.contains(BAD_CERTIFICATE) && !OUT_OF_DATE.iter().any(|told| text.contains(told))
}

/// Some transports keep the words of an error of the system and not its kind; the words end in its number.
fn kind_in_words(text: &str) -> Option<io::ErrorKind> {
    let (_, number) = text.rsplit_once("(os error ")?;
    let number = number.split(')').next()?.parse().ok()?;
    Some(io::Error::from_raw_os_error(number).kind())
}

/// A reset, an end, an ICMP message, or a firewall of this very machine.
const fn says_no(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable,
        NetworkUnreachable, PermissionDenied, UnexpectedEof,
    };
    matches!(
        kind,
        BrokenPipe
            | ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | NetworkUnreachable
            | PermissionDenied
            | UnexpectedEof
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(error: &(dyn Error + 'static)) -> ProbeState {
        Probe::failed(ProbeKind::Tcp, "t", Duration::ZERO, error).state
    }

    #[test]
    fn an_error_says_whether_somebody_said_no_or_nobody_said_anything() {
        for (kind, expected) in [
            (io::ErrorKind::ConnectionRefused, ProbeState::Refused),
            (io::ErrorKind::ConnectionReset, ProbeState::Refused),
            (io::ErrorKind::HostUnreachable, ProbeState::Refused),
            (io::ErrorKind::UnexpectedEof, ProbeState::Refused),
            (io::ErrorKind::TimedOut, ProbeState::Silent),
            (io::ErrorKind::InvalidData, ProbeState::Failed),
        ] {
            let wrapped = io::Error::other(io::Error::from(kind));
            assert_eq!(
                (state(&io::Error::from(kind)), state(&wrapped)),
                (expected, expected)
            );
        }
    }

    #[test]
    fn the_words_of_an_error_of_the_system_say_its_kind() {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Hiding(String);
        let refused = io::Error::from_raw_os_error(111).to_string();
        assert_eq!(state(&Hiding(refused)), ProbeState::Refused);
        for other in ["(os error x)", "(os error ", "os error 111"] {
            assert_eq!(state(&Hiding(other.to_owned())), ProbeState::Failed);
        }
    }

    #[test]
    fn a_certificate_that_is_refused_is_shown_and_no_denial_of_this_machine() {
        let refusal = Refusal {
            fingerprint: "ab".to_owned(),
            subject: "CN=relay".to_owned(),
            issuer: "CN=corp".to_owned(),
            expected: "another".to_owned(),
            why: Why::Inspected,
        };
        let expired = Refusal {
            why: Why::OutOfDate,
            ..refusal.clone()
        };
        let error = io::Error::new(io::ErrorKind::PermissionDenied, expired);
        let probe = Probe::failed(ProbeKind::Wss, "t", Duration::ZERO, &error);
        assert_eq!(probe.state, ProbeState::Failed);
        for (told, state) in [
            (
                "invalid peer certificate: UnknownIssuer",
                ProbeState::Inspected,
            ),
            (
                "invalid peer certificate: certificate expired: verification time 1",
                ProbeState::Failed,
            ),
        ] {
            let error = io::Error::other(told);
            assert_eq!(state_of(&dial::causes(&error)), state, "{told}");
        }
        let error = io::Error::new(io::ErrorKind::PermissionDenied, refusal);
        let probe = Probe::failed(ProbeKind::Wss, "t", Duration::from_millis(7), &error);
        assert_eq!((probe.state, probe.after_ms), (ProbeState::Inspected, 7.0));
        assert_eq!(probe.certificate.unwrap().issuer, "CN=corp");
    }
}
