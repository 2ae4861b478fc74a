//! What the firewall of a site lets through, beside what its NAT does.

use super::inspection;
use super::names::Lie;
use super::nat::Nat;

/// The port of HTTPS.
pub const HTTPS: u16 = 443;

/// A firewall's profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// Everything out; in, whatever the NAT lets.
    Open,
    /// No UDP, neither way.
    NoUdp,
    /// Out, TCP to port 443 and nothing else; in, whatever the NAT lets.
    Only443,
    /// Out, TCP to port 443; in, nothing. What is not let through vanishes.
    DenyDrop,
    /// The same, and whoever tries is told.
    DenyReject,
    /// Like `DenyDrop`, and what goes to port 443 is ended and read by a box whose authority nobody trusts.
    Inspected,
    /// The same, but the machines trust that authority, and the nodes are told to bear with it.
    InspectedTrusted,
    /// Everything passes; relays are known by their names.
    Dns,
    /// The same, and the site's resolver says that relays do not exist.
    DnsNxdomain,
    /// The same, and it answers nonsense for relays.
    DnsGarbage,
    /// The same, and it answers nothing for relays.
    DnsSilent,
}

/// What comes of sending something to the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives.
    Passes,
    /// Nothing comes back.
    Vanishes,
    /// The firewall says no.
    Refused,
}

/// What can be sent, as far as firewalls care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A connection out, to a port.
    TcpOut(u16),
    /// A datagram out, to a port.
    UdpOut(u16),
    /// A connection in, to a public address inside.
    TcpIn,
    /// A datagram in.
    UdpIn,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 11] = [
        Self::Open,
        Self::NoUdp,
        Self::Only443,
        Self::DenyDrop,
        Self::DenyReject,
        Self::Inspected,
        Self::InspectedTrusted,
        Self::Dns,
        Self::DnsNxdomain,
        Self::DnsGarbage,
        Self::DnsSilent,
    ];

    /// As it is written on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::NoUdp => "no-udp",
            Self::Only443 => "only-443",
            Self::DenyDrop => "deny-drop",
            Self::DenyReject => "deny-reject",
            Self::Inspected => "inspected",
            Self::InspectedTrusted => "inspected-trusted",
            Self::Dns => "dns",
            Self::DnsNxdomain => "dns-nxdomain",
            Self::DnsGarbage => "dns-garbage",
            Self::DnsSilent => "dns-silent",
        }
    }

    /// What the site's resolver says of relays.
    pub const fn lie(self) -> Lie {
        match self {
            Self::DnsNxdomain => Lie::NoSuchName,
            Self::DnsGarbage => Lie::Garbage,
            Self::DnsSilent => Lie::Silence,
            _ => Lie::None,
        }
    }

    /// Whether nodes are told where the relay is by its name.
    pub const fn by_name(self) -> bool {
        matches!(
            self,
            Self::Dns | Self::DnsNxdomain | Self::DnsGarbage | Self::DnsSilent
        )
    }

    /// Whether somebody reads what goes to port 443.
    pub const fn inspects(self) -> bool {
        matches!(self, Self::Inspected | Self::InspectedTrusted)
    }

    /// Whether those who are read know of it.
    pub const fn trusts_inspection(self) -> bool {
        matches!(self, Self::InspectedTrusted)
    }

    /// Whether anything gets out that a hole can be punched with.
    pub const fn leaves_holes(self) -> bool {
        self.is_open() || matches!(self, Self::NoUdp)
    }

    /// Whether everything passes.
    const fn is_open(self) -> bool {
        matches!(self, Self::Open) || self.by_name()
    }

    /// What is to come of something, where there is no NAT.
    pub const fn promise(self, sent: Sent) -> Fate {
        let denied = match self {
            Self::DenyReject => Fate::Refused,
            _ => Fate::Vanishes,
        };
        match (self, sent) {
            _ if self.is_open() => Fate::Passes,
            (_, Sent::TcpOut(HTTPS))
            | (Self::NoUdp, Sent::TcpOut(_) | Sent::TcpIn)
            | (Self::Only443, Sent::TcpIn | Sent::UdpIn) => Fate::Passes,
            _ => denied,
        }
    }

    /// The rules of a gate behind `nat`, for `nft -f`. Its interfaces are `wan` and `lan`.
    ///
    /// What comes in for the gate itself vanishes: an answer of its own to what comes before a hole is punched would
    /// close the hole.
    pub fn rules(self, nat: Nat) -> String {
        // Who has no public address is reached through the NAT or not at all.
        let as_nat_lets = match nat {
            Nat::None => "accept",
            _ => "ct status dnat accept; drop",
        };
        let (out, inbound) = match self {
            Self::Open | Self::Dns | Self::DnsNxdomain | Self::DnsGarbage | Self::DnsSilent => {
                ("accept".to_owned(), as_nat_lets.to_owned())
            }
            Self::NoUdp => (
                "meta l4proto udp drop; accept".to_owned(),
                format!("meta l4proto udp drop; {as_nat_lets}"),
            ),
            Self::Only443 => (
                format!("tcp dport {HTTPS} accept; drop"),
                as_nat_lets.to_owned(),
            ),
            Self::DenyDrop => (format!("tcp dport {HTTPS} accept; drop"), "drop".to_owned()),
            Self::Inspected | Self::InspectedTrusted => ("drop".to_owned(), "drop".to_owned()),
            Self::DenyReject => (
                format!("tcp dport {HTTPS} accept; {REJECT}"),
                REJECT.to_owned(),
            ),
        };
        let inspection = match self.inspects() {
            true => inspection::rules(HTTPS),
            false => String::new(),
        };
        inspection
            + &format!(
                "table ip firewall {{\n\
             chain input {{ type filter hook input priority filter; iifname \"wan\" ct state new drop; }}\n\
             chain out {{ {out}; }}\n\
             chain inbound {{ {inbound}; }}\n\
             chain forward {{ type filter hook forward priority filter; policy drop; \
             ct state established,related accept; iifname \"lan\" jump out; iifname \"wan\" jump inbound; }}\n\
             }}\n"
            )
    }
}

/// A reset for a connection, a word of the administrator for everything else.
const REJECT: &str =
    "meta l4proto tcp reject with tcp reset; reject with icmp type admin-prohibited";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_profile_promises_is_what_its_name_says() {
        use Fate::{Passes, Refused, Vanishes};
        let fates = |profile: Profile| {
            [
                Sent::TcpOut(HTTPS),
                Sent::TcpOut(80),
                Sent::UdpOut(HTTPS),
                Sent::TcpIn,
                Sent::UdpIn,
            ]
            .map(|sent| profile.promise(sent))
        };
        for open in [Profile::Open, Profile::DnsSilent] {
            assert_eq!(fates(open), [Passes; 5]);
        }
        assert_eq!(
            fates(Profile::NoUdp),
            [Passes, Passes, Vanishes, Passes, Vanishes]
        );
        assert_eq!(
            fates(Profile::Only443),
            [Passes, Vanishes, Vanishes, Passes, Passes]
        );
        for nothing_in in [Profile::DenyDrop, Profile::Inspected] {
            assert_eq!(
                fates(nothing_in),
                [Passes, Vanishes, Vanishes, Vanishes, Vanishes]
            );
        }
        assert_eq!(
            fates(Profile::DenyReject),
            [Passes, Refused, Refused, Refused, Refused]
        );
    }
}
