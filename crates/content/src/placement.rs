//! Placement: which hosts get the shards of a stripe, so that what they have in common takes few of them away.
//!
//! The rules, in the order in which they are reported:
//! - a host gets one shard at most, has room for it, is of the tier that is asked for, and takes data of its residency;
//! - an autonomous system gets one shard at most, and so does a network: a /24 of IPv4, a /48 of IPv6;
//! - a country gets two at most, and three continents get one at least.
//!
//! So any two countries may be lost, and four of them: ten shards are left. Of continents the rules say no such thing: a
//! placement with eight a continent at most, of which any may be lost, is preferred where there is one, and
//! [`Placement::survives_any_continent`] tells.
//!
//! Residency is absolute. [`Residency::Eu`] and the classes of one country leave shards where they say and nowhere else,
//! and the rules of geography that cannot hold there do not: continents for the union, countries as well for one country.
//!
//! A placement is a pure function: the same candidates, in any order, and the same seed give the same one. Whether what is
//! known of a host is true is for the caller to know; country and continent come from its address, not from its word.

mod flow;
mod search;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{Hasher, PeerId, Sha256};

use crate::erasure::{DATA_SHARDS, SHARDS};

/// Most candidates of one placement.
pub const MAX_CANDIDATES: usize = 16_384;
/// Most shards of a stripe in one country.
pub const MAX_PER_COUNTRY: usize = 2;
/// Fewest continents of a stripe.
pub const MIN_CONTINENTS: usize = 3;

/// Where data may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Residency {
    /// Anywhere, in the clear.
    Public,
    /// Anywhere, as what nobody there can read.
    OpaqueEncrypted,
    /// In member states of the European Union only.
    Eu,
    /// In the United States only.
    Us,
    /// In the United Kingdom only.
    Uk,
    /// In Japan only.
    Jp,
}

/// A country: two capital letters (ISO 3166-1 alpha-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

/// A continent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Continent {
    /// Africa.
    Africa,
    /// Antarctica.
    Antarctica,
    /// Asia.
    Asia,
    /// Europe.
    Europe,
    /// North America.
    NorthAmerica,
    /// Oceania.
    Oceania,
    /// South America.
    SouthAmerica,
}

/// A host's network: what is routed and run as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(IpAddr);

/// A host that could take a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Who it is.
    pub host: PeerId,
    /// Where its address is.
    pub continent: Continent,
    /// Where its address is.
    pub country: Country,
    /// The number of the autonomous system that announces its address.
    pub system: u32,
    /// The network of its address.
    pub network: Network,
    /// What it takes.
    pub takes: BTreeSet<Residency>,
    /// Its tier of trust, 0 to 4.
    pub tier: u8,
    /// Bytes that it has free.
    pub free: u64,
}

/// What is to be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Bytes of a shard.
    pub shard: u64,
    /// Where it may lie.
    pub residency: Residency,
    /// Lowest tier of trust.
    pub min_tier: u8,
    /// Which of many placements: another seed spreads the load otherwise.
    pub seed: u64,
}

/// The host of each shard of a stripe. Only [`place`] makes one, so that it keeps the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    hosts: Vec<Candidate>,
}

/// Chooses the hosts for the shards of one stripe.
///
/// # Errors
/// The rule that cannot be met, and how many hosts more it takes at least: `placement_hosts_short`,
/// `placement_systems_short`, `placement_networks_short`, `placement_countries_short`, `placement_continents_short`, and
/// `placement_rules_short` where each can be met and not all at once. `too_many_candidates` past [`MAX_CANDIDATES`];
/// `inconsistent_candidates` for a host twice or a country in two continents; `placement_undecided` where networks that
/// span systems leave too many ways to try.
pub fn place(candidates: &[Candidate], wanted: &Wanted) -> Result<Placement> {
    check(candidates)?;
    let mut suitable: Vec<&Candidate> = candidates
        .iter()
        .filter(|candidate| wanted.suits(candidate))
        .collect();
    suitable.sort_by_cached_key(|candidate| wanted.order(&candidate.host));
    let chosen = search::choose(&suitable, &wanted.residency.rules())?;
    let hosts = chosen.into_iter().cloned().collect();
    Ok(Placement { hosts })
}

impl Placement {
    /// The hosts, that of shard 0 first: 18.
    pub fn hosts(&self) -> &[Candidate] {
        &self.hosts
    }

    /// Whether enough shards are left to have the object when these hosts are lost.
    pub fn survives(&self, lost: impl Fn(&Candidate) -> bool) -> bool {
        let left = self.hosts.iter().filter(|host| !lost(host));
        left.count() >= DATA_SHARDS
    }

    /// Whether any one continent may be lost.
    pub fn survives_any_continent(&self) -> bool {
        let mut hosts = self.hosts.iter();
        hosts.all(|host| self.survives(|other| other.continent == host.continent))
    }
}

impl Residency {
    /// Whether a host in this country may have it.
    pub fn allows(self, country: Country) -> bool {
        let code = str::from_utf8(&country.0).unwrap_or_default();
        match self {
            Self::Public | Self::OpaqueEncrypted => true,
            Self::Eu => EUROPEAN_UNION.contains(&code),
            Self::Us => code == "US",
            Self::Uk => code == "GB",
            Self::Jp => code == "JP",
        }
    }

    const fn rules(self) -> Rules {
        let everywhere = Rules {
            hosts: SHARDS,
            per_country: MAX_PER_COUNTRY,
            continents: MIN_CONTINENTS,
            per_continent: SHARDS - DATA_SHARDS,
        };
        match self {
            Self::Public | Self::OpaqueEncrypted => everywhere,
            Self::Eu => Rules {
                continents: 1,
                per_continent: SHARDS,
                ..everywhere
            },
            Self::Us | Self::Uk | Self::Jp => Rules {
                continents: 1,
                per_continent: SHARDS,
                per_country: SHARDS,
                ..everywhere
            },
        }
    }
}

/// What a choice of hosts has to keep, besides one host for each system and network.
struct Rules {
    hosts: usize,
    per_country: usize,
    /// Fewest continents.
    continents: usize,
    /// Most hosts of a continent, where that can be had.
    per_continent: usize,
}

impl Wanted {
    fn suits(&self, candidate: &Candidate) -> bool {
        candidate.free >= self.shard
            && candidate.tier >= self.min_tier
            && candidate.takes.contains(&self.residency)
            && self.residency.allows(candidate.country)
    }

    /// Where the seed puts a host among the others.
    fn order(&self, host: &PeerId) -> Sha256 {
        let mut hasher = Hasher::new();
        hasher.update(self.seed.to_le_bytes());
        hasher.update(host.to_bytes());
        hasher.finish()
    }
}

/// Member states of the European Union.
const EUROPEAN_UNION: [&str; 27] = [
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT",
    "LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
];

impl FromStr for Country {
    type Err = Fault;

    /// `invalid_country` for anything but two capital letters.
    fn from_str(text: &str) -> Result<Self> {
        let code = <[u8; 2]>::try_from(text.as_bytes());
        let code = code
            .ok()
            .filter(|code| code.iter().all(u8::is_ascii_uppercase));
        code.map(Self).ok_or_else(|| {
            let message = "a country is two capital letters, as ISO 3166-1 has them";
            Fault::new(Category::InvalidInput, "invalid_country", message)
        })
    }
}

impl Network {
    /// The network of an address.
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                Ipv4Addr::new(a, b, c, 0).into()
            }
            IpAddr::V6(address) => {
                let [a, b, c, ..] = address.segments();
                Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into()
            }
        })
    }
}

fn check(candidates: &[Candidate]) -> Result<()> {
    if candidates.len() > MAX_CANDIDATES {
        let message = format!(
            "{} candidates: {MAX_CANDIDATES} are the most",
            candidates.len()
        );
        return Err(Fault::new(
            Category::InvalidInput,
            "too_many_candidates",
            message,
        ));
    }
    let (mut hosts, mut continents) = (HashSet::new(), BTreeMap::new());
    for candidate in candidates {
        let continent = *continents
            .entry(candidate.country)
            .or_insert(candidate.continent);
        if !hosts.insert(candidate.host.to_bytes()) || continent != candidate.continent {
            let message = "a host is there twice, or a country in two continents";
            return Err(
                Fault::new(Category::InvalidInput, "inconsistent_candidates", message)
                    .hint("take country and continent from one table of addresses"),
            );
        }
    }
    Ok(())
}
