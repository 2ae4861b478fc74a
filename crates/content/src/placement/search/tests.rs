//! The search beside one that tries every choice.

use proptest::prelude::*;
use worldcompute_proof::SigningKey;

use super::*;
use crate::placement::Country;

const CONTINENTS: [Continent; 4] = [
    Continent::Africa,
    Continent::Asia,
    Continent::Europe,
    Continent::Oceania,
];

fn host(number: usize, country: u8, system: u32, network: u8) -> Candidate {
    let seed = [number as u8; 32];
    Candidate {
        host: SigningKey::from_seed(seed).peer_id(),
        continent: CONTINENTS[usize::from(country) % CONTINENTS.len()],
        country: Country([b'A', b'A' + country]),
        system,
        network: Network::of([10, 0, network, 1].into()),
        takes: BTreeSet::new(),
        tier: 0,
        free: 0,
    }
}

/// What the rules say, read anew.
fn keeps(chosen: &[&Candidate], rules: &Rules) -> bool {
    let distinct = |key: &dyn Fn(&Candidate) -> u64| {
        let keys: BTreeSet<u64> = chosen.iter().map(|host| key(host)).collect();
        keys.len()
    };
    let networks: BTreeSet<Network> = chosen.iter().map(|host| host.network).collect();
    chosen.len() == rules.hosts
        && distinct(&|host| u64::from(host.system)) == rules.hosts
        && networks.len() == rules.hosts
        && most_of(chosen, |host| host.country) <= rules.per_country
        && distinct(&|host| host.continent as u64) >= rules.continents
}

/// How many have the same, at most.
fn most_of<K: PartialEq>(chosen: &[&Candidate], key: impl Fn(&Candidate) -> K) -> usize {
    let same = |host: &Candidate| {
        let alike = chosen.iter().filter(|other| key(other) == key(host));
        alike.count()
    };
    chosen.iter().map(|host| same(host)).max().unwrap_or(0)
}

/// Whether any choice at all will do.
fn exists(hosts: &[&Candidate], rules: &Rules, will_do: impl Fn(&[&Candidate]) -> bool) -> bool {
    (0_u32..1 << hosts.len())
        .filter(|set| set.count_ones() as usize == rules.hosts)
        .any(|set| {
            let chosen: Vec<_> = (0..hosts.len())
                .filter(|bit| set >> bit & 1 == 1)
                .map(|bit| hosts[bit])
                .collect();
            will_do(&chosen)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_choice_is_found_exactly_when_there_is_one_and_a_preferred_one_is_preferred(
        hosts in proptest::collection::vec((0_u8..6, 0_u32..7, 0_u8..9), 1..11),
        wanted in 3_usize..6,
        per_country in 1_usize..3,
        continents in 1_usize..4,
    ) {
        let hosts: Vec<_> = (0..)
            .zip(hosts)
            .map(|(number, (country, system, network))| host(number, country, system, network))
            .collect();
        let hosts: Vec<&Candidate> = hosts.iter().collect();
        let rules = Rules { hosts: wanted, per_country, continents, per_continent: wanted.div_ceil(2) };
        let evenly = |chosen: &[&Candidate]| {
            keeps(chosen, &rules) && most_of(chosen, |host| host.continent) <= rules.per_continent
        };
        match choose(&hosts, &rules) {
            Ok(chosen) => {
                prop_assert!(keeps(&chosen, &rules));
                prop_assert_eq!(evenly(&chosen), exists(&hosts, &rules, evenly));
            }
            Err(fault) => {
                let any = exists(&hosts, &rules, |chosen| keeps(chosen, &rules));
                prop_assert!(!any, "{}", fault.code());
            }
        }
    }
}

#[test]
fn a_network_that_spans_systems_is_given_to_the_one_that_needs_it() {
    // The first system could take either network, the second only the one that they share.
    let hosts = [host(0, 0, 1, 1), host(1, 0, 1, 2), host(2, 1, 2, 1)];
    let rules = Rules {
        hosts: 2,
        per_country: 2,
        continents: 1,
        per_continent: 2,
    };
    let hosts: Vec<&Candidate> = hosts.iter().collect();
    let chosen = choose(&hosts, &rules).unwrap();
    assert_eq!(chosen, [hosts[1], hosts[2]]);
    let fault = choose(&[hosts[0], hosts[2]], &rules).unwrap_err();
    assert_eq!(fault.code(), "placement_networks_short");
}

#[test]
fn a_search_that_could_go_on_for_ever_ends() {
    // Ten pairs of systems that can share their two networks in two ways each, and a last pair that cannot.
    let mut places: Vec<(u8, u8)> = (0..20)
        .flat_map(|system| [system & !1, system | 1].map(|network| (system, network)))
        .collect();
    places.extend([(20, 20), (21, 20)]);
    places.extend((21..30).map(|network| (22, network)));
    let hosts: Vec<_> = (0..)
        .zip(places)
        .map(|(number, (system, network))| host(number, system, u32::from(system), network))
        .collect();
    let hosts: Vec<&Candidate> = hosts.iter().collect();
    let rules = Rules {
        hosts: 23,
        per_country: 2,
        continents: 1,
        per_continent: 23,
    };
    let fault = choose(&hosts, &rules).unwrap_err();
    assert_eq!(fault.code(), "placement_undecided");
}
