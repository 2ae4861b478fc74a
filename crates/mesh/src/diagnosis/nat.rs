//! What translates this machine's addresses, as far as it can be told by what others see.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use serde::{Deserialize, Serialize};

use super::probe::{Probe, ProbeKind, ProbeState};

/// What one relay saw of the socket from which all of them were dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Observation {
    /// Where it was dialled.
    pub by: SocketAddr,
    /// Whom it saw.
    pub seen: SocketAddr,
}

/// How ports are mapped (RFC 4787, 4.1). What is let in is not found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NatKind {
    /// Others see the address that this machine has.
    None,
    /// Everybody sees the same address and port: holes can be punched.
    EndpointIndependent,
    /// Everybody sees another port: relays carry what others dial directly.
    EndpointDependent,
    /// It cannot be told.
    Unknown,
}

impl NatKind {
    /// As it is written in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::EndpointIndependent => "endpoint_independent",
            Self::EndpointDependent => "endpoint_dependent",
            Self::Unknown => "unknown",
        }
    }
}

/// What translates this machine's addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nat {
    /// How.
    pub kind: NatKind,
    /// What relays saw of one socket.
    pub observed: Vec<String>,
    /// By what it is told, or why it cannot be.
    pub reason: String,
}

/// By what relays saw over QUIC, all of them from one socket of this machine.
pub(super) fn of(observed: &[Observation], probes: &[Probe]) -> Nat {
    let seen: BTreeSet<SocketAddr> = observed.iter().map(|one| one.seen).collect();
    let by: BTreeSet<IpAddr> = observed.iter().map(|one| one.by.ip()).collect();
    let is_own = |one: &Observation| own_address(one.by) == Some(one.seen.ip());
    let all_own = observed.iter().all(is_own);
    let (kind, reason) = match (by.len(), seen.len()) {
        (0, _) => (NatKind::Unknown, without_udp(probes)),
        (_, 1) if all_own => (
            NatKind::None,
            "relays see the address that this machine has".to_owned(),
        ),
        (1, _) => (
            NatKind::Unknown,
            "one address answered over QUIC, and it takes two to compare what they see".to_owned(),
        ),
        (count, 1) => (
            NatKind::EndpointIndependent,
            format!("{count} addresses see this machine at the same address and port"),
        ),
        (count, ports) => (
            NatKind::EndpointDependent,
            format!("{count} addresses see this machine at {ports} addresses and ports"),
        ),
    };
    Nat {
        kind,
        observed: seen.iter().map(ToString::to_string).collect(),
        reason,
    }
}

fn without_udp(probes: &[Probe]) -> String {
    let tried = probes.iter().any(|probe| probe.kind == ProbeKind::Quic);
    let works = probes
        .iter()
        .any(|probe| probe.kind == ProbeKind::Quic && probe.state == ProbeState::Works);
    match (tried, works) {
        (false, _) => "no relay is known to listen for QUIC, which it is told by",
        (true, false) => "no relay answered over QUIC, which it is told by",
        (true, true) => "no relay said what it sees",
    }
    .to_owned()
}

/// The address from which this machine would send there. Nothing is sent.
fn own_address(to: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(observed: &[(&str, &str)]) -> NatKind {
        let observed: Vec<Observation> = observed
            .iter()
            .map(|(by, seen)| Observation {
                by: by.parse().unwrap(),
                seen: seen.parse().unwrap(),
            })
            .collect();
        of(&observed, &[]).kind
    }

    #[test]
    fn what_two_relays_see_tells_the_mapping_and_one_alone_does_not() {
        let (one, two) = ("192.0.2.1:1", "192.0.2.2:1");
        assert_eq!(kind(&[]), NatKind::Unknown);
        assert_eq!(kind(&[(one, "198.51.100.7:5")]), NatKind::Unknown);
        assert_eq!(
            kind(&[(one, "198.51.100.7:5"), ("192.0.2.1:2", "198.51.100.7:5")]),
            NatKind::Unknown
        );
        assert_eq!(
            kind(&[(one, "198.51.100.7:5"), (two, "198.51.100.7:5")]),
            NatKind::EndpointIndependent
        );
        assert_eq!(
            kind(&[(one, "198.51.100.7:5"), (two, "198.51.100.7:6")]),
            NatKind::EndpointDependent
        );
        assert_eq!(
            kind(&[(one, "198.51.100.7:5"), (two, "198.51.100.8:5")]),
            NatKind::EndpointDependent
        );
    }

    #[test]
    fn an_address_that_this_machine_has_is_translated_by_nobody() {
        assert_eq!(kind(&[("127.0.0.1:9", "127.0.0.1:5")]), NatKind::None);
        assert_eq!(
            kind(&[
                ("127.0.0.1:9", "127.0.0.1:5"),
                ("127.0.0.2:9", "127.0.0.1:5")
            ]),
            NatKind::None
        );
    }
}
