//! Liars, and what they come to.

use std::collections::HashSet;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn at(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

/// An address of the world; every number is in a region of its own.
fn far(number: u8) -> Multiaddr {
    at(&format!("/ip4/20.{number}.0.1/tcp/19999"))
}

fn source(number: u8, by: Way) -> Source {
    Source {
        network: Network::of(&at(&format!("/ip4/30.{number}.0.1/tcp/1"))),
        by,
    }
}

struct Bench {
    hearsay: Hearsay,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            hearsay: Hearsay::new(PeerId::random(), now),
            now,
        }
    }

    fn hears(&mut self, from: &Source, address: Multiaddr) -> PeerId {
        let peer = PeerId::random();
        self.says(from, peer, vec![address]);
        peer
    }

    fn says(&mut self, from: &Source, peer: PeerId, addresses: Vec<Multiaddr>) {
        self.hearsay
            .hear(peer, addresses, from, Scope::World, self.now);
    }

    fn reaches(&mut self, via: &Multiaddr, named: bool) -> PeerId {
        let peer = PeerId::random();
        self.hearsay.reached(peer, via, Vec::new(), named, self.now);
        peer
    }

    fn tries(&mut self) -> Option<(PeerId, Vec<Multiaddr>)> {
        self.hearsay.next(Need::Relay, self.now, |_| false)
    }

    fn knows(&self, peer: PeerId) -> bool {
        self.hearsay
            .reached
            .iter()
            .any(|reached| reached.peer == peer)
    }
}

#[test]
fn a_source_that_tells_of_relays_without_end_is_remembered_for_a_few() {
    let mut bench = Bench::new();
    let liar = source(1, Way::Exchange);
    for number in 0..=255 {
        bench.hears(&liar, far(number));
    }
    assert_eq!(bench.hearsay.heard.len(), MAX_OF_SOURCE);
    for number in 2..200 {
        for place in 0..20 {
            bench.hears(&source(number, Way::Gossip), far(place));
        }
    }
    assert_eq!(bench.hearsay.heard.len(), MAX_HEARD);
}

#[test]
fn a_full_book_still_takes_what_a_quiet_source_tells() {
    let mut bench = Bench::new();
    for number in 0..8 {
        for place in 0..20 {
            bench.hears(&source(number, Way::Gossip), far(place));
        }
    }
    assert_eq!(bench.hearsay.heard.len(), MAX_HEARD);
    let honest = bench.hears(&source(99, Way::Exchange), far(77));
    assert!(bench.hearsay.heard.iter().any(|heard| heard.peer == honest));
    assert_eq!(bench.hearsay.heard.len(), MAX_HEARD);
}

#[test]
fn false_relays_are_dialled_at_a_bounded_rate_and_forgotten() {
    let mut bench = Bench::new();
    let mut dialled = 0;
    // An hour of a source that always has a false relay ready.
    for second in 0..3600_u32 {
        bench.now += Duration::from_secs(1);
        bench.hears(
            &source(1, Way::Gossip),
            far(u8::try_from(second % 200).unwrap()),
        );
        if let Some((peer, _)) = bench.tries() {
            dialled += 1;
            bench.hearsay.failed(&peer, bench.now);
        }
    }
    let most = TRIALS + u32::try_from(3600 / TRIAL_PAUSE.as_secs()).unwrap();
    assert!(dialled <= most, "{dialled} of {most}");
    assert!(bench.hearsay.failed.len() <= MAX_REMEMBERED);
}

#[test]
fn one_network_is_not_dialled_again_and_again_whoever_names_it() {
    let mut bench = Bench::new();
    let mut dialled = 0;
    // Strangers everywhere name peers of one network, at ever other hosts and ports, for ten minutes.
    for second in 0..AVOIDED.as_secs() {
        bench.now += Duration::from_secs(1);
        let host = second % 250 + 1;
        let victim = at(&format!("/ip4/25.1.1.{host}/tcp/{}", second + 1));
        bench.hears(
            &source(u8::try_from(second % 200).unwrap(), Way::Exchange),
            victim,
        );
        if let Some((peer, _)) = bench.tries() {
            dialled += 1;
            bench.hearsay.failed(&peer, bench.now);
        }
    }
    assert_eq!(dialled, MAX_FAILED_NEAR);
}

#[test]
fn a_region_is_not_dialled_again_and_again_either() {
    let mut bench = Bench::new();
    let mut dialled = 0;
    for second in 0..AVOIDED.as_secs() {
        bench.now += Duration::from_secs(1);
        let victim = at(&format!("/ip4/25.1.{}.1/tcp/80", second % 250));
        bench.hears(
            &source(u8::try_from(second % 200).unwrap(), Way::Exchange),
            victim,
        );
        if let Some((peer, _)) = bench.tries() {
            dialled += 1;
            bench.hearsay.failed(&peer, bench.now);
        }
    }
    assert_eq!(dialled, MAX_FAILED_IN_REGION);
}

#[test]
fn one_relay_does_not_stand_for_many_victims() {
    let mut bench = Bench::new();
    let peer = PeerId::random();
    bench.says(&source(1, Way::Gossip), peer, (0..8).map(far).collect());
    let (_, addresses) = bench.tries().unwrap();
    assert_eq!(addresses.len(), MAX_NETWORKS);
}

#[test]
fn nobody_far_away_makes_this_node_dial_its_own_network() {
    let mut bench = Bench::new();
    for address in [
        "/ip4/127.0.0.1/tcp/80",
        "/ip4/192.168.1.1/tcp/80",
        "/ip4/169.254.169.254/tcp/80",
        "/ip6/fd00::1/tcp/80",
        "/dns4/router/tcp/443/tls/ws",
        "/dns4/intranet.internal/tcp/443/tls/ws",
        "/dns4/mail.example/tcp/25",
    ] {
        bench.hears(&source(1, Way::Exchange), at(address));
    }
    assert!(bench.hearsay.heard.is_empty(), "{:?}", bench.hearsay.heard);
    // Who is in the same network may speak of it, but not of this machine.
    for address in ["/ip4/127.0.0.1/tcp/80", "/ip4/192.168.1.1/tcp/19999"] {
        let from = source(1, Way::Exchange);
        let peer = PeerId::random();
        bench
            .hearsay
            .hear(peer, vec![at(address)], &from, Scope::Site, bench.now);
    }
    assert_eq!(bench.hearsay.heard.len(), 1);
}

#[test]
fn a_liar_about_a_relay_does_not_hide_what_an_honest_peer_says_of_it() {
    let mut bench = Bench::new();
    let relay = PeerId::random();
    for _ in 0..100 {
        bench.says(&source(1, Way::Exchange), relay, vec![far(1)]);
    }
    bench.says(&source(2, Way::Exchange), relay, vec![far(2)]);
    let mut tried = HashSet::new();
    for _ in 0..4 {
        if let Some((peer, addresses)) = bench.tries() {
            assert_eq!(peer, relay);
            tried.extend(addresses);
            bench.hearsay.failed(&peer, bench.now);
        }
        bench.now += MINUTE;
    }
    assert!(tried.contains(&far(2)), "{tried:?}");
}

#[test]
fn a_relay_that_works_is_found_among_the_lies_of_another_source() {
    let mut bench = Bench::new();
    let (liar, honest) = (source(1, Way::Gossip), source(2, Way::Exchange));
    let relay = bench.hears(&honest, far(200));
    let mut dialled = 0;
    loop {
        for place in 0..8 {
            bench.hears(&liar, far(place));
        }
        bench.now += Duration::from_secs(15);
        let Some((peer, _)) = bench.tries() else {
            continue;
        };
        dialled += 1;
        if peer == relay {
            break;
        }
        bench.hearsay.failed(&peer, bench.now);
    }
    assert!(dialled <= 2, "dialled {dialled} times");
}

#[test]
fn only_what_was_reached_is_told_on_and_kept() {
    let mut bench = Bench::new();
    bench.hears(&source(1, Way::Gossip), far(1));
    assert!(bench.hearsay.told_on(Scope::World, 8).is_empty());
    assert!(bench.hearsay.proven().is_empty());
    let relay = bench.reaches(&far(2), false);
    assert_eq!(
        bench.hearsay.told_on(Scope::World, 8),
        [(relay, vec![far(2)])]
    );
    assert_eq!(bench.hearsay.proven().len(), 1);
}

#[test]
fn a_relay_that_works_cannot_have_others_sent_to_places_where_it_did_not_answer() {
    let mut bench = Bench::new();
    let relay = PeerId::random();
    let stated = vec![
        far(2),
        at("/ip4/20.1.0.1/udp/19999/quic-v1"),
        at("/dns4/relay.example/tcp/443/tls/ws"),
        at("/ip4/20.1.0.2/tcp/80"),
    ];
    bench
        .hearsay
        .reached(relay, &far(1), stated.clone(), false, bench.now);
    let told = vec![far(1), stated[1].clone(), stated[2].clone()];
    assert_eq!(bench.hearsay.told_on(Scope::World, 8), [(relay, told)]);
    // Nor can somebody else.
    bench.says(&source(1, Way::Exchange), relay, vec![far(9)]);
    assert!(
        !bench.hearsay.told_on(Scope::World, 8)[0]
            .1
            .contains(&far(9))
    );
}

#[test]
fn what_means_something_here_alone_is_not_told_to_those_elsewhere() {
    let mut bench = Bench::new();
    bench.reaches(&at("/ip4/192.168.1.5/tcp/19999"), true);
    bench.reaches(&at("/ip4/127.0.0.1/tcp/19999"), true);
    assert!(bench.hearsay.told_on(Scope::World, 8).is_empty());
    assert_eq!(bench.hearsay.told_on(Scope::Site, 8).len(), 1);
    assert_eq!(bench.hearsay.told_on(Scope::Machine, 8).len(), 2);
}

#[test]
fn strangers_that_answer_do_not_push_out_relays_that_work() {
    let mut bench = Bench::new();
    let named = bench.reaches(&far(0), true);
    let found: Vec<PeerId> = (1..4)
        .map(|number| bench.reaches(&far(number), false))
        .collect();
    // One network has many hosts that all answer as relays, and so has a region.
    for host in 1..200 {
        bench.reaches(&at(&format!("/ip4/25.1.1.{host}/tcp/1")), false);
        bench.reaches(&at(&format!("/ip4/25.2.{host}.1/tcp/1")), false);
    }
    assert_eq!(bench.hearsay.reached.len(), 4 + MAX_NEAR + MAX_IN_REGION);
    // And somebody has hosts everywhere.
    for number in 10..=255 {
        bench.reaches(&far(number), false);
    }
    assert_eq!(bench.hearsay.reached.len(), MAX_REACHED);
    assert!(bench.knows(named) && found.iter().all(|peer| bench.knows(*peer)));
    // The operator's own choice has room in any case.
    let chosen = bench.reaches(&at("/ip4/40.1.1.1/tcp/1"), true);
    assert!(bench.knows(chosen) && bench.knows(named));
    assert_eq!(bench.hearsay.reached.len(), MAX_REACHED);
}

#[test]
fn what_was_reached_is_tried_first_and_what_was_heard_in_turn() {
    let mut bench = Bench::new();
    let reached = bench.reaches(&far(1), false);
    let heard = bench.hears(&source(1, Way::Gossip), far(2));
    assert_eq!(bench.tries().unwrap().0, reached);
    assert_eq!(bench.tries().unwrap().0, heard);
    assert_eq!(bench.tries(), None, "each is under way");
}

#[test]
fn a_relay_that_fails_is_tried_at_growing_pauses_and_stays_when_it_was_reached() {
    let mut bench = Bench::new();
    let relay = bench.reaches(&far(1), false);
    let mut pauses = Vec::new();
    for _ in 0..6 {
        let since = bench.now;
        while bench.tries().is_none() {
            bench.now += Duration::from_secs(1);
        }
        pauses.push(bench.now - since);
        bench.hearsay.failed(&relay, bench.now);
    }
    assert!(
        pauses.windows(2).all(|pair| pair[0] < pair[1]),
        "{pauses:?}"
    );
    assert!(bench.knows(relay));
    let heard = bench.hears(&source(1, Way::Gossip), far(2));
    for _ in 0..MAX_FAILURES {
        bench.now += 10 * MINUTE;
        while bench.tries().is_some_and(|(peer, _)| peer != heard) {}
        bench.hearsay.failed(&heard, bench.now);
    }
    assert!(bench.hearsay.heard.is_empty(), "{:?}", bench.hearsay.heard);
}

#[test]
fn a_relay_that_fails_is_tried_again_within_seconds_where_nothing_else_is_left() {
    let mut bench = Bench::new();
    let last = bench.reaches(&far(1), false);
    let seconds_until_tried = |bench: &mut Bench| {
        let since = bench.now;
        while bench.tries().is_none_or(|(peer, _)| peer != last) {
            bench.now += Duration::from_secs(1);
        }
        bench.hearsay.failed(&last, bench.now);
        (bench.now - since).as_secs()
    };
    assert_eq!(seconds_until_tried(&mut bench), 0);
    let first = seconds_until_tried(&mut bench);
    let second = seconds_until_tried(&mut bench);
    assert!((4..=6).contains(&first), "{first}");
    assert!((8..=12).contains(&second), "{second}");
}

#[test]
fn a_relay_that_fails_waits_while_there_are_others() {
    let mut bench = Bench::new();
    let failing = bench.reaches(&far(1), false);
    bench.tries();
    bench.hearsay.failed(&failing, bench.now);
    let others = [bench.reaches(&far(2), false), bench.reaches(&far(3), false)];
    bench.now += 2 * PRESSED_PAUSE;
    let tried = [(); 3].map(|()| bench.tries().unwrap().0);
    assert!(others.iter().all(|other| tried[..2].contains(other)));
    assert_eq!(tried[2], failing);
}

/// What was only heard of is forgotten after a few failures: it may be a relay that is restarted.
#[test]
fn a_relay_that_was_only_heard_of_is_tried_once_within_seconds() {
    let mut bench = Bench::new();
    let heard = bench.hears(&source(1, Way::Gossip), far(1));
    let mut tried = Vec::new();
    let start = bench.now;
    while tried.len() < MAX_FAILURES as usize {
        if bench.tries().is_some() {
            tried.push((bench.now - start).as_secs());
            bench.hearsay.failed(&heard, bench.now);
        }
        bench.now += Duration::from_secs(1);
    }
    assert!(tried[1] <= 6 && tried[2] >= 96, "{tried:?}");
}

#[test]
fn at_leisure_further_relays_are_visited_seldom_and_up_to_a_number() {
    let mut bench = Bench::new();
    let mut visits = 0;
    for _ in 0..100 {
        bench.now += MINUTE;
        bench.hears(&source(1, Way::Gossip), far(visits + 1));
        let next = bench.hearsay.next(Need::Reserve, bench.now, |_| false);
        if let Some((peer, addresses)) = next {
            visits += 1;
            bench
                .hearsay
                .reached(peer, &addresses[0], Vec::new(), false, bench.now);
        }
    }
    assert_eq!(usize::from(visits), IN_RESERVE);
}

#[test]
fn what_is_kept_comes_back_within_the_limits_and_not_for_ever() {
    let now = Instant::now();
    let me = PeerId::random();
    let kept = |number: u8, last: SystemTime| Proven {
        peer: PeerId::random(),
        addresses: vec![far(number)],
        last,
    };
    let recent = SystemTime::now();
    let mut all: Vec<Proven> = (0..100).map(|number| kept(number, recent)).collect();
    all.insert(0, kept(200, recent - 2 * FORGOTTEN));
    all.insert(
        1,
        Proven {
            peer: me,
            ..kept(201, recent)
        },
    );
    all.insert(
        2,
        Proven {
            addresses: vec![at("/ip4/0.0.0.0/tcp/1")],
            ..kept(202, recent)
        },
    );
    all.insert(
        3,
        Proven {
            addresses: (0..50).map(far).collect(),
            ..kept(203, recent)
        },
    );
    let mut hearsay = Hearsay::new(me, now);
    hearsay.remember(all.clone(), now);
    let back: Vec<PeerId> = hearsay.proven().iter().map(|relay| relay.peer).collect();
    assert!(back.len() <= MAX_REACHED && back.contains(&all[3].peer));
    assert!(all[..3].iter().all(|relay| !back.contains(&relay.peer)));
    let long = hearsay
        .proven()
        .into_iter()
        .find(|relay| relay.peer == all[3].peer);
    assert_eq!(long.unwrap().addresses.len(), MAX_RELAY_ADDRESSES);
    assert!(hearsay.next(Need::Relay, now, |_| false).is_some());
}
