//! Placements keep every rule, and say what is missing where there is none.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use worldcompute_content::erasure::{DATA_SHARDS, SHARDS};
use worldcompute_content::placement::{
    Candidate, Continent, Country, MAX_CANDIDATES, MAX_PER_COUNTRY, MIN_CONTINENTS, Network,
    Placement, Residency, Wanted, place,
};
use worldcompute_proof::SigningKey;

const CONTINENTS: [Continent; 6] = [
    Continent::Africa,
    Continent::Asia,
    Continent::Europe,
    Continent::NorthAmerica,
    Continent::Oceania,
    Continent::SouthAmerica,
];
const CLASSES: [Residency; 6] = [
    Residency::Public,
    Residency::OpaqueEncrypted,
    Residency::Eu,
    Residency::Us,
    Residency::Uk,
    Residency::Jp,
];
const PUBLIC: Wanted = Wanted {
    shard: 4 << 20,
    residency: Residency::Public,
    min_tier: 1,
    seed: 7,
};

fn country(code: &str) -> Country {
    code.parse().unwrap()
}

/// A host that suits, with a system and a network of its own.
fn host(number: u16, continent: Continent, code: &str) -> Candidate {
    let mut seed = [0; 32];
    let [high, low] = number.to_be_bytes();
    seed[0] = high;
    seed[1] = low;
    Candidate {
        host: SigningKey::from_seed(seed).peer_id(),
        continent,
        country: country(code),
        system: 64_512 + u32::from(number),
        network: Network::of([10, high, low, 9].into()),
        takes: CLASSES.into_iter().collect(),
        tier: 1,
        free: 4 << 20,
    }
}

/// So many hosts on each of these continents, two in a country.
fn world(continents: &[(Continent, u16)]) -> Vec<Candidate> {
    let mut hosts = Vec::new();
    for (continent, count) in continents {
        for _ in 0..*count {
            let number = hosts.len() as u16;
            let [a, b] = [number / 2 / 26, number / 2 % 26].map(|letter| b'A' + letter as u8);
            hosts.push(host(number, *continent, str::from_utf8(&[a, b]).unwrap()));
        }
    }
    hosts
}

fn code(candidates: &[Candidate], wanted: &Wanted) -> String {
    let fault = place(candidates, wanted).unwrap_err();
    fault.code().to_owned()
}

fn counts<K: Ord>(placement: &Placement, key: impl Fn(&Candidate) -> K) -> BTreeMap<K, usize> {
    let mut counts = BTreeMap::new();
    for host in placement.hosts() {
        *counts.entry(key(host)).or_default() += 1;
    }
    counts
}

/// Every rule, read anew.
fn assert_keeps_the_rules(placement: &Placement, wanted: &Wanted) {
    let anywhere = matches!(
        wanted.residency,
        Residency::Public | Residency::OpaqueEncrypted
    );
    assert_eq!(placement.hosts().len(), SHARDS);
    assert_eq!(counts(placement, |host| host.host.to_bytes()).len(), SHARDS);
    assert_eq!(counts(placement, |host| host.system).len(), SHARDS);
    assert_eq!(counts(placement, |host| host.network).len(), SHARDS);
    if anywhere || wanted.residency == Residency::Eu {
        let countries = counts(placement, |host| host.country);
        assert!(countries.values().all(|count| *count <= MAX_PER_COUNTRY));
    }
    if anywhere {
        assert!(counts(placement, |host| host.continent).len() >= MIN_CONTINENTS);
    }
    for host in placement.hosts() {
        assert!(host.free >= wanted.shard && host.tier >= wanted.min_tier);
        assert!(host.takes.contains(&wanted.residency));
        assert!(wanted.residency.allows(host.country));
    }
}

#[test]
fn eighteen_hosts_as_the_rules_want_them_are_all_taken() {
    let hosts = world(&[(CONTINENTS[0], 6), (CONTINENTS[1], 6), (CONTINENTS[2], 6)]);
    let placement = place(&hosts, &PUBLIC).unwrap();
    assert_keeps_the_rules(&placement, &PUBLIC);
    assert!(placement.survives_any_continent());
}

#[test]
fn each_rule_that_cannot_be_met_is_named_with_how_many_hosts_are_missing() {
    let good = world(&[(CONTINENTS[0], 6), (CONTINENTS[1], 6), (CONTINENTS[2], 6)]);
    let refused = |change: &dyn Fn(&mut Vec<Candidate>)| {
        let mut hosts = good.clone();
        change(&mut hosts);
        let fault = place(&hosts, &PUBLIC).unwrap_err();
        let message = fault.message().to_owned();
        let number = message
            .split_whitespace()
            .find_map(|word| word.parse().ok());
        (fault.code().to_owned(), number.unwrap())
    };
    let short = |code: &str, missing: usize| (format!("placement_{code}_short"), missing);
    let first = |hosts: &mut Vec<Candidate>, count: usize, change: &dyn Fn(&mut Candidate)| {
        hosts.iter_mut().take(count).for_each(change);
    };
    assert_eq!(refused(&|hosts| hosts.truncate(15)), short("hosts", 3));
    assert_eq!(
        refused(&|hosts| first(hosts, 1, &|host| host.free -= 1)),
        short("hosts", 1)
    );
    assert_eq!(
        refused(&|hosts| first(hosts, 2, &|host| host.tier = 0)),
        short("hosts", 2)
    );
    assert_eq!(
        refused(&|hosts| first(hosts, 4, &|host| host.takes.clear())),
        short("hosts", 4)
    );
    assert_eq!(
        refused(&|hosts| first(hosts, 3, &|host| host.system = 1)),
        short("systems", 2)
    );
    let one = Network::of([192, 0, 2, 200].into());
    assert_eq!(
        refused(&|hosts| first(hosts, 3, &|host| host.network = one)),
        short("networks", 2)
    );
    let same = |host: &mut Candidate| host.country = country("AA");
    assert_eq!(
        refused(&|hosts| first(hosts, 5, &same)),
        short("countries", 3)
    );
    let two = |host: &mut Candidate| {
        if host.continent == CONTINENTS[2] {
            host.continent = CONTINENTS[1];
        }
    };
    assert_eq!(
        refused(&|hosts| first(hosts, 18, &two)),
        short("continents", 1)
    );
}

#[test]
fn rules_that_hold_one_by_one_and_not_together_are_told_as_such() {
    // Two continents are there only in one system, which gets one shard.
    let mut hosts = world(&[(CONTINENTS[0], 17)]);
    for (number, continent, code) in [(900, CONTINENTS[1], "ZY"), (901, CONTINENTS[2], "ZZ")] {
        let mut host = host(number, continent, code);
        host.system = 1;
        hosts.push(host);
    }
    assert_eq!(code(&hosts, &PUBLIC), "placement_rules_short");
}

#[test]
fn what_is_needed_of_a_system_decides_which_of_its_hosts_is_taken() {
    // Its host on the third continent is the only one there.
    for seed in 0..20 {
        let mut hosts = world(&[(CONTINENTS[0], 10), (CONTINENTS[1], 8)]);
        let system = hosts.last().unwrap().system;
        let mut third = host(900, CONTINENTS[2], "ZZ");
        third.system = system;
        hosts.push(third.clone());
        let wanted = Wanted { seed, ..PUBLIC };
        let placement = place(&hosts, &wanted).unwrap();
        assert_keeps_the_rules(&placement, &wanted);
        assert!(placement.hosts().contains(&third));
        assert!(!placement.survives_any_continent());
    }
}

#[test]
fn eight_a_continent_are_preferred_and_more_are_taken_where_there_is_nothing_else() {
    let spread = world(&[(CONTINENTS[0], 40), (CONTINENTS[1], 8), (CONTINENTS[2], 2)]);
    let crowded = world(&[(CONTINENTS[0], 40), (CONTINENTS[1], 8), (CONTINENTS[2], 1)]);
    for seed in 0..20 {
        let wanted = Wanted { seed, ..PUBLIC };
        let placement = place(&spread, &wanted).unwrap();
        assert!(placement.survives_any_continent());
        let placement = place(&crowded, &wanted).unwrap();
        assert_keeps_the_rules(&placement, &wanted);
        assert!(!placement.survives_any_continent());
        let lost = |host: &Candidate| host.continent == CONTINENTS[0];
        assert!(!placement.survives(lost));
    }
}

#[test]
fn residency_is_absolute() {
    let eu = ["AT", "BE", "DE", "DK", "ES", "FI", "FR", "IE", "IT"];
    let single = [
        (Residency::Us, "US", CONTINENTS[3]),
        (Residency::Uk, "GB", CONTINENTS[2]),
        (Residency::Jp, "JP", CONTINENTS[1]),
    ];
    let mut hosts = Vec::new();
    for number in 0..18_u16 {
        hosts.push(host(number, CONTINENTS[2], eu[usize::from(number) / 2]));
        for (place, (_, code, continent)) in (1_u16..).zip(single) {
            hosts.push(host(number + 100 * place, continent, code));
        }
    }
    // Beside the union, and no part of it.
    hosts.extend((0..18).map(|number| host(500 + number, CONTINENTS[2], "CH")));
    for residency in CLASSES.into_iter().skip(2) {
        let wanted = Wanted {
            residency,
            ..PUBLIC
        };
        assert_keeps_the_rules(&place(&hosts, &wanted).unwrap(), &wanted);
        let mut fewer = hosts.clone();
        let one = fewer.iter().position(|host| residency.allows(host.country));
        fewer.remove(one.unwrap());
        assert_eq!(code(&fewer, &wanted), "placement_hosts_short");
        let mut unwilling = hosts.clone();
        for host in &mut unwilling {
            host.takes = [Residency::Public].into();
        }
        assert_eq!(code(&unwilling, &wanted), "placement_hosts_short");
    }
}

#[test]
fn candidates_that_contradict_each_other_are_refused() {
    let mut hosts = world(&[(CONTINENTS[0], 6), (CONTINENTS[1], 6), (CONTINENTS[2], 6)]);
    hosts.push(hosts[0].clone());
    assert_eq!(code(&hosts, &PUBLIC), "inconsistent_candidates");
    hosts.pop();
    hosts[0].continent = CONTINENTS[5];
    assert_eq!(code(&hosts, &PUBLIC), "inconsistent_candidates");
}

#[test]
fn so_many_candidates_are_looked_at_and_no_more() {
    let one = host(0, CONTINENTS[0], "AA");
    let hosts = vec![one; MAX_CANDIDATES + 1];
    assert_eq!(code(&hosts, &PUBLIC), "too_many_candidates");
    assert_eq!(code(&hosts[1..], &PUBLIC), "inconsistent_candidates");
}

#[test]
fn networks_are_told_apart_by_what_is_routed() {
    let of = |address: &str| Network::of(address.parse().unwrap());
    assert_eq!(of("192.0.2.1"), of("192.0.2.254"));
    assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
    assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.9"));
    assert_eq!(of("2001:db8:1:ffff::1"), of("2001:db8:1::2"));
    assert_ne!(of("2001:db8:1::1"), of("2001:db8:2::1"));
}

#[test]
fn countries_are_two_capital_letters() {
    for bad in ["", "D", "de", "DEU", "D1", "Ä"] {
        assert_eq!(
            bad.parse::<Country>().unwrap_err().code(),
            "invalid_country"
        );
    }
}

/// Hosts of a world with few systems and networks, so that the rules bite.
fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let continents: Vec<(u8, Continent)> = (0..).zip(CONTINENTS).collect();
    let one = (
        proptest::sample::select(continents),
        0_u8..4,
        0_u32..40,
        0_u8..60,
        0_u8..3,
        0_u64..20,
        any::<u8>(),
    );
    proptest::collection::vec(one, 18..90).prop_map(|hosts| {
        (0_u16..)
            .zip(hosts)
            .map(
                |(number, (continent, place, system, network, tier, free, takes))| {
                    let (letter, continent) = continent;
                    let letters = [b'A' + letter, b'A' + place];
                    let code = str::from_utf8(&letters).unwrap();
                    let mut host = host(number, continent, code);
                    host.system = system;
                    // Most networks belong to one system.
                    host.network = Network::of([10, system as u8, network / 20, 1].into());
                    if network % 20 == 0 {
                        host.network = Network::of([11, 0, network, 1].into());
                    }
                    host.tier = tier;
                    host.free = (4 << 20) + free - 1;
                    if takes < 16 {
                        host.takes.remove(&Residency::Public);
                    }
                    host
                },
            )
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_placement_keeps_every_rule_and_survives_what_they_promise(
        hosts in candidates(),
        seed in any::<u64>(),
        tier in 0_u8..2,
    ) {
        let wanted = Wanted { seed, min_tier: tier, ..PUBLIC };
        let Ok(placement) = place(&hosts, &wanted) else {
            return Ok(());
        };
        assert_keeps_the_rules(&placement, &wanted);
        let countries: Vec<_> = counts(&placement, |host| host.country).into_keys().collect();
        for four in countries.windows(4) {
            prop_assert!(placement.survives(|host| four.contains(&host.country)));
        }
        for (one, a) in countries.iter().enumerate() {
            for b in &countries[one..] {
                prop_assert!(placement.survives(|host| [a, b].contains(&&host.country)));
            }
        }
        let continents = counts(&placement, |host| host.continent);
        let bearable = continents.values().all(|count| SHARDS - count >= DATA_SHARDS);
        prop_assert_eq!(placement.survives_any_continent(), bearable);
    }

    #[test]
    fn the_order_of_candidates_does_not_matter_and_the_seed_does(
        hosts in Just(world(&[(CONTINENTS[0], 30), (CONTINENTS[1], 30), (CONTINENTS[3], 30)])),
        order in Just((0..90_usize).collect::<Vec<_>>()).prop_shuffle(),
        seed in any::<u64>(),
    ) {
        let wanted = Wanted { seed, ..PUBLIC };
        let shuffled: Vec<_> = order.into_iter().map(|place| hosts[place].clone()).collect();
        let placement = place(&hosts, &wanted).unwrap();
        prop_assert_eq!(&place(&shuffled, &wanted).unwrap(), &placement);
        let other = Wanted { seed: seed ^ 1, ..PUBLIC };
        prop_assert_ne!(&place(&hosts, &other).unwrap(), &placement);
    }
}

#[test]
fn many_seeds_use_many_hosts() {
    let hosts = world(&[
        (CONTINENTS[0], 30),
        (CONTINENTS[1], 30),
        (CONTINENTS[3], 30),
    ]);
    let used: BTreeSet<_> = (0..50)
        .flat_map(|seed| {
            let placement = place(&hosts, &Wanted { seed, ..PUBLIC }).unwrap();
            let hosts = placement.hosts().iter().map(|host| host.system);
            hosts.collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(used.len(), hosts.len());
}
