//! The choice of hosts.
//!
//! One host for each system, so many for each country, and continents at least or at most: that is a flow from systems over
//! countries to continents, and the most of a flow is found exactly. A network that spans systems does not fit in: where
//! the flow takes it twice, one of the two systems has to do without it, and both ways are tried.

use std::collections::{BTreeMap, BTreeSet};

use worldcompute_fault::{Category, Fault, Result};

use super::flow::{Flow, Node};
use super::{Candidate, Continent, Network, Rules};

/// Most flows of one search. One is enough where every network belongs to one system.
const MAX_FLOWS: usize = 256;

/// A system, and a network that it has to do without.
type Ban = (u32, Network);

/// Hosts that keep the rules, earlier ones preferred.
pub fn choose<'a>(hosts: &[&'a Candidate], rules: &Rules) -> Result<Vec<&'a Candidate>> {
    check_each(hosts, rules)?;
    // Only preferred, so that it does not matter why there is none.
    if let Ok(Some(chosen)) = search(hosts, rules, rules.per_continent) {
        return Ok(chosen);
    }
    search(hosts, rules, rules.hosts)?.ok_or_else(|| {
        let short = flow(hosts, rules, rules.hosts, &BTreeSet::new()).short;
        lacking("rules", "that keep all rules at once", short.max(1))
    })
}

/// As many hosts as the rules allow or ask for, and how many are missing.
struct Found {
    flow: Flow,
    short: usize,
}

/// `None` when there is no such choice with at most so many hosts of a continent.
fn search<'a>(
    hosts: &[&'a Candidate],
    rules: &Rules,
    per_continent: usize,
) -> Result<Option<Vec<&'a Candidate>>> {
    let mut open = vec![BTreeSet::new()];
    for _ in 0..MAX_FLOWS {
        let Some(banned) = open.pop() else {
            return Ok(None);
        };
        let found = flow(hosts, rules, per_continent, &banned);
        if found.short > 0 {
            continue;
        }
        let chosen = chosen(hosts, &found.flow, &banned);
        match conflict(&chosen) {
            None => return Ok(Some(chosen)),
            Some(bans) => open.extend(bans.map(|ban| with(&banned, ban))),
        }
    }
    Err(undecided())
}

fn flow(
    hosts: &[&Candidate],
    rules: &Rules,
    per_continent: usize,
    banned: &BTreeSet<Ban>,
) -> Found {
    let (mut flow, continents) = network(hosts, rules, banned);
    let widen = |flow: &mut Flow, units| {
        for continent in &continents {
            flow.widen(Node::Continent(*continent), Node::Sink, units);
        }
    };
    // One for each of so many continents first: what reaches the sink over an edge stays.
    widen(&mut flow, 1);
    let missing = rules.continents - flow.send(rules.continents);
    widen(&mut flow, per_continent.saturating_sub(1));
    let short = rules.hosts.saturating_sub(flow.send(rules.hosts));
    Found {
        flow,
        short: short.max(missing),
    }
}

/// Systems, countries and continents that there are, with all edges but those to the sink.
fn network(
    hosts: &[&Candidate],
    rules: &Rules,
    banned: &BTreeSet<Ban>,
) -> (Flow, BTreeSet<Continent>) {
    let (mut flow, mut continents) = (Flow::default(), BTreeSet::new());
    for host in hosts.iter().filter(|host| !banned.contains(&ban(host))) {
        let system = Node::System(host.system);
        let country = Node::Country(host.country);
        let continent = Node::Continent(host.continent);
        let edges = [
            (Node::Source, system, 1),
            (system, country, 1),
            (country, continent, rules.per_country),
        ];
        for (from, to, units) in edges {
            if !flow.has(from, to) {
                flow.widen(from, to, units);
            }
        }
        continents.insert(host.continent);
    }
    (flow, continents)
}

/// The hosts that a flow stands for, in their order.
fn chosen<'a>(hosts: &[&'a Candidate], flow: &Flow, banned: &BTreeSet<Ban>) -> Vec<&'a Candidate> {
    let mut systems = BTreeSet::new();
    let allowed = hosts.iter().filter(|host| !banned.contains(&ban(host)));
    let on_the_way = allowed
        .filter(|host| flow.goes(Node::System(host.system), Node::Country(host.country)))
        .filter(|host| systems.insert(host.system));
    on_the_way.copied().collect()
}

/// Two systems in one network: which of them could do without it.
fn conflict(chosen: &[&Candidate]) -> Option<[Ban; 2]> {
    let mut networks = BTreeMap::new();
    chosen.iter().find_map(|host| {
        let other = networks.insert(host.network, *host)?;
        Some([ban(host), ban(other)])
    })
}

fn ban(host: &Candidate) -> Ban {
    (host.system, host.network)
}

fn with(banned: &BTreeSet<Ban>, ban: Ban) -> BTreeSet<Ban> {
    let mut banned = banned.clone();
    banned.insert(ban);
    banned
}

/// Whether each rule alone could be kept.
fn check_each(hosts: &[&Candidate], rules: &Rules) -> Result<()> {
    let systems: BTreeSet<_> = hosts.iter().map(|host| host.system).collect();
    let networks: BTreeSet<_> = hosts.iter().map(|host| host.network).collect();
    let continents: BTreeSet<_> = hosts.iter().map(|host| host.continent).collect();
    let mut countries = BTreeMap::new();
    for host in hosts {
        *countries.entry(host.country).or_insert(0_usize) += 1;
    }
    let in_countries = countries
        .values()
        .map(|count| rules.per_country.min(*count));
    let counts = [
        ("hosts", "that suit", rules.hosts, hosts.len()),
        (
            "systems",
            "in other autonomous systems",
            rules.hosts,
            systems.len(),
        ),
        ("networks", "in other networks", rules.hosts, networks.len()),
        (
            "countries",
            "in other countries",
            rules.hosts,
            in_countries.sum(),
        ),
        (
            "continents",
            "in other continents",
            rules.continents,
            continents.len(),
        ),
    ];
    for (rule, which, needed, there) in counts {
        if there < needed {
            return Err(lacking(rule, which, needed - there));
        }
    }
    Ok(())
}

fn lacking(rule: &str, which: &str, short: usize) -> Fault {
    let message = format!("no placement: at least {short} more hosts {which} are needed");
    let code = format!("placement_{rule}_short");
    Fault::new(Category::DependencyMissing, code, message)
        .hint("wait for more donors, or ask for a lower tier or another residency")
}

fn undecided() -> Fault {
    let message = format!("no placement in {MAX_FLOWS} tries: too many networks span systems");
    Fault::new(Category::DependencyMissing, "placement_undecided", message)
        .hint("give fewer candidates whose network belongs to several autonomous systems")
}

#[cfg(test)]
mod tests;
