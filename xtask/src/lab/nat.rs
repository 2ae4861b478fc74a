//! The kinds of NAT, made of nftables, and what each promises in the words of RFC 4787.

use std::fmt;
use std::net::Ipv4Addr;

/// For how long a NAT remembers that somebody inside spoke.
const MEMORY: &str = "2m";

/// A kind of NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Nat {
    /// Public addresses inside.
    None,
    /// Once a port has spoken, everybody reaches it.
    FullCone,
    /// Once a port has spoken to an address, every port of that address reaches it.
    AddressRestricted,
    /// Only who was spoken to reaches the port.
    PortRestricted,
    /// Another port outside for every address that is spoken to.
    AddressDependent,
    /// Another port outside, at random, for everyone who is spoken to.
    Symmetric,
}

/// What a mapping or a filter depends on (RFC 4787, 4.1 and 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependence {
    /// On nothing outside.
    Independent,
    /// On the address outside.
    Address,
    /// On the address and the port outside.
    AddressAndPort,
}

/// What can be told of a NAT by those on its two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// Whether others see another address than the one inside.
    pub translates: bool,
    /// Whether others see the port inside.
    pub keeps_ports: bool,
    /// What the address and port that others see depend on.
    pub mapping: Dependence,
    /// Who reaches a port inside that has spoken.
    pub filtering: Dependence,
    /// Whether a port is reached that has not spoken to anybody.
    pub open: bool,
}

impl Nat {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::None,
        Self::FullCone,
        Self::AddressRestricted,
        Self::PortRestricted,
        Self::AddressDependent,
        Self::Symmetric,
    ];

    /// As it is written on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::FullCone => "full-cone",
            Self::AddressRestricted => "address-restricted",
            Self::PortRestricted => "port-restricted",
            Self::AddressDependent => "address-dependent",
            Self::Symmetric => "symmetric",
        }
    }

    /// What it is to do.
    pub const fn promise(self) -> Behaviour {
        use Dependence::{Address, AddressAndPort, Independent};
        let (mapping, filtering) = match self {
            Self::None | Self::FullCone => (Independent, Independent),
            Self::AddressRestricted => (Independent, Address),
            Self::PortRestricted => (Independent, AddressAndPort),
            Self::AddressDependent => (Address, AddressAndPort),
            Self::Symmetric => (AddressAndPort, AddressAndPort),
        };
        Behaviour {
            translates: !matches!(self, Self::None),
            keeps_ports: !matches!(self, Self::AddressDependent | Self::Symmetric),
            mapping,
            filtering,
            open: matches!(self, Self::None),
        }
    }

    /// The rules of a gate with one machine `inside`, for `nft -f`. Its interfaces are `wan` and `lan`.
    ///
    /// The kernel keeps a port that is free, which makes a plain masquerade port-restricted with a mapping that is the
    /// same for all. A cone lets more in: to ports that are remembered to have spoken, or to have spoken to somebody.
    pub fn rules(self, inside: Ipv4Addr, wan: Ipv4Addr) -> String {
        let (memory, inbound, outbound) = match self {
            Self::None => return String::new(),
            Self::FullCone => (
                "meta l4proto . th sport".to_owned(),
                format!("meta l4proto . th dport @spoke dnat to {inside}"),
                "masquerade".to_owned(),
            ),
            Self::AddressRestricted => (
                "meta l4proto . th sport . ip daddr".to_owned(),
                format!("meta l4proto . th dport . ip saddr @spoke dnat to {inside}"),
                "masquerade".to_owned(),
            ),
            Self::PortRestricted => (String::new(), String::new(), "masquerade".to_owned()),
            Self::AddressDependent => (
                String::new(),
                String::new(),
                format!(
                    "meta l4proto {{ tcp, udp }} snat to {wan}:jhash ip daddr . th sport mod 20000 offset 20000"
                ),
            ),
            Self::Symmetric => (
                String::new(),
                String::new(),
                "masquerade fully-random".to_owned(),
            ),
        };
        let remembering = match memory.is_empty() {
            true => String::new(),
            false => remembering(&memory, &inbound),
        };
        format!(
            "table ip nat {{\n{remembering}\
             chain outbound {{ type nat hook postrouting priority srcnat; oifname \"wan\" {outbound}; }}\n\
             }}\n"
        )
    }
}

/// A set of who spoke, what fills it, and what it lets in.
fn remembering(key: &str, inbound: &str) -> String {
    let address = match key.contains("daddr") {
        true => " . ipv4_addr",
        false => "",
    };
    format!(
        "set spoke {{ type inet_proto . inet_service{address}; flags dynamic, timeout; timeout {MEMORY}; }}\n\
         chain remember {{ type filter hook postrouting priority srcnat - 10; \
         oifname \"wan\" meta l4proto {{ tcp, udp }} update @spoke {{ {key} }}; }}\n\
         chain inbound {{ type nat hook prerouting priority dstnat; iifname \"wan\" {inbound}; }}\n"
    )
}

impl fmt::Display for Dependence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Independent => "endpoint-independent",
            Self::Address => "address-dependent",
            Self::AddressAndPort => "address-and-port-dependent",
        })
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.translates {
            f.write_str("no translation, ")?;
        }
        let ports = if self.keeps_ports { "kept" } else { "changed" };
        let unasked = if self.open { "passes" } else { "is dropped" };
        write!(
            f,
            "{} mapping, {} filtering, ports {ports}, what nobody asked for {unasked}",
            self.mapping, self.filtering
        )
    }
}
