//! The reservation machine against a clock of its own.

use std::collections::HashMap;

use libp2p::multiaddr::Protocol;
use proptest::prelude::*;

use super::*;

const STEADY: f64 = 0.5;
const UPGRADE: Duration = Duration::from_secs(60);

fn base(port: u16) -> Multiaddr {
    format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap()
}

/// Relays on ports 1, 2, .. with a machine that wants `wanted` reservations.
struct Bench {
    machine: Relays,
    relays: Vec<PeerId>,
    now: Instant,
    listeners: HashMap<PeerId, ListenerId>,
}

impl Bench {
    fn new(count: u16, wanted: usize) -> Self {
        let relays: Vec<PeerId> = (0..count).map(|_| PeerId::random()).collect();
        let named = |(port, relay): (u16, &PeerId)| base(port).with(Protocol::P2p(*relay));
        let addresses: Vec<Multiaddr> = (1..).zip(&relays).map(named).collect();
        let now = Instant::now();
        let machine = Relays::new(PeerId::random(), wanted, UPGRADE, &addresses, now);
        Self {
            machine,
            relays,
            now,
            listeners: HashMap::new(),
        }
    }

    fn pass(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.machine.tick(self.now)
    }

    fn connect(&mut self, index: usize) {
        let relay = self.relays[index];
        let port = u16::try_from(index).unwrap() + 1;
        self.machine.connected(relay, Some(base(port)), self.now);
        self.machine.offers(&relay, true);
    }

    /// Lets the driver's part happen: every request gets a listener.
    fn ask(&mut self, actions: &[Action]) -> Vec<PeerId> {
        let mut asked = Vec::new();
        for action in actions {
            if let Action::Reserve { relay, .. } = action {
                let listener = ListenerId::next();
                self.listeners.insert(*relay, listener);
                self.machine.asked(relay, listener);
                asked.push(*relay);
            }
        }
        asked
    }

    /// Connects to everybody and gets what is wanted.
    fn settled(count: u16, wanted: usize) -> Self {
        let mut bench = Self::new(count, wanted);
        bench.pass(Duration::ZERO);
        for index in 0..usize::from(count) {
            bench.connect(index);
        }
        let actions = bench.pass(Duration::ZERO);
        for relay in bench.ask(&actions) {
            bench.machine.granted(&relay, false, bench.now);
        }
        bench
    }

    fn state(&self, relay: PeerId) -> Option<ReservationState> {
        self.machine
            .slots
            .iter()
            .find(|slot| slot.peer == Some(relay))
            .and_then(|slot| slot.state)
    }

    fn held(&self) -> Vec<PeerId> {
        let active = |relay: &&PeerId| self.state(**relay) == Some(ReservationState::Active);
        self.relays.iter().filter(active).copied().collect()
    }

    fn lose(&mut self, relay: PeerId) -> Option<Action> {
        self.machine.disconnected(&relay, self.now, STEADY)
    }
}

fn dials(actions: &[Action]) -> usize {
    actions
        .iter()
        .filter(|action| matches!(action, Action::Dial { .. }))
        .count()
}

#[test]
fn a_reservation_that_is_not_renewed_in_time_is_asked_for_again_before_its_end() {
    let mut bench = Bench::settled(1, 1);
    let relay = bench.relays[0];
    let due = RESERVATION_DURATION * 3 / 4;
    bench.pass(due);
    assert_eq!(bench.state(relay), Some(ReservationState::Renewing));
    let halfway = RESERVATION_DURATION / 8;
    assert_eq!(bench.pass(halfway - Duration::from_millis(1)), []);
    let actions = bench.pass(Duration::from_millis(1));
    assert_eq!(bench.ask(&actions), [relay]);
    assert_eq!(
        bench.state(relay),
        Some(ReservationState::Renewing),
        "it stands until it ends"
    );
    assert_eq!(bench.pass(Duration::from_millis(1)), [], "asked once");
    bench.machine.granted(&relay, true, bench.now);
    assert_eq!(bench.state(relay), Some(ReservationState::Active));
    let slot = bench.machine.reservations().next().unwrap().1;
    assert_eq!(slot.renewals(), 1);
    bench.pass(due);
    let actions = bench.pass(halfway);
    assert_eq!(bench.ask(&actions), [relay], "and so each time");
}

#[test]
fn a_connection_on_which_nobody_says_what_the_node_is_is_made_anew() {
    let mut bench = Bench::new(1, 1);
    let relay = bench.relays[0];
    bench.pass(Duration::ZERO);
    bench.machine.connected(relay, Some(base(1)), bench.now);
    let almost = ANSWER_TIMEOUT - Duration::from_millis(1);
    assert_eq!(bench.pass(almost), []);
    assert_eq!(
        bench.pass(Duration::from_millis(1)),
        [Action::Disconnect(relay)]
    );
    bench.machine.disconnected(&relay, bench.now, STEADY);
    let actions = bench.pass(PAUSES[0]);
    assert!(matches!(actions.last(), Some(Action::Dial { .. })));
    bench.connect(0);
    let actions = bench.pass(ANSWER_TIMEOUT);
    assert_eq!(bench.ask(&actions), [relay], "who said it is left alone");
}

#[test]
fn every_node_is_dialled_and_the_wanted_number_is_asked() {
    let mut bench = Bench::new(3, 2);
    assert_eq!(dials(&bench.pass(Duration::ZERO)), 3);
    assert_eq!(dials(&bench.pass(Duration::ZERO)), 0, "one dial at a time");
    let settled = Bench::settled(3, 2);
    assert_eq!(settled.held().len(), 2);
}

#[test]
fn a_circuit_address_is_listened_on_at_the_address_that_answered() {
    let mut bench = Bench::new(1, 1);
    bench.pass(Duration::ZERO);
    bench
        .machine
        .connected(bench.relays[0], Some(base(1)), bench.now);
    assert!(
        bench.pass(Duration::ZERO).is_empty(),
        "it has not said that it relays"
    );
    bench.machine.offers(&bench.relays[0], true);
    let expected = base(1)
        .with(Protocol::P2p(bench.relays[0]))
        .with(Protocol::P2pCircuit);
    let actions = bench.pass(Duration::ZERO);
    assert!(
        actions.contains(&Action::Reserve {
            relay: bench.relays[0],
            listen: expected
        }),
        "{actions:?}"
    );
}

#[test]
fn a_node_that_does_not_relay_is_never_asked() {
    let mut bench = Bench::new(1, 1);
    bench.pass(Duration::ZERO);
    bench
        .machine
        .connected(bench.relays[0], Some(base(1)), bench.now);
    bench.machine.offers(&bench.relays[0], false);
    assert!(bench.pass(Duration::from_secs(60)).is_empty());
    let (_, slot) = bench.machine.reservations().next().unwrap();
    assert!(slot.last_error().unwrap().contains("does not relay"));
}

#[test]
fn a_lost_reservation_is_told_once_and_replaced_at_once_by_another_relay() {
    let mut bench = Bench::settled(3, 2);
    let lost = bench.held()[0];
    assert_eq!(bench.lose(lost), Some(Action::Report(lost)));
    assert_eq!(bench.state(lost), Some(ReservationState::Lost));
    // The listener's end comes after the connection's and says nothing new.
    let listener = bench.listeners[&lost];
    assert_eq!(
        bench
            .machine
            .closed(listener, Refusal::Passing, "gone", bench.now, STEADY),
        None
    );
    let actions = bench.pass(Duration::ZERO);
    let asked = bench.ask(&actions);
    assert!(asked.len() == 1 && !asked.contains(&lost), "{asked:?}");
}

#[test]
fn the_listeners_end_before_the_connections_is_told_once_too() {
    let mut bench = Bench::settled(1, 1);
    let relay = bench.relays[0];
    let listener = bench.listeners[&relay];
    let told = bench
        .machine
        .closed(listener, Refusal::Passing, "gone", bench.now, STEADY);
    assert_eq!(told, Some(Action::Report(relay)));
    assert_eq!(bench.lose(relay), None);
}

#[test]
fn a_lost_relay_is_dialled_after_pauses_that_grow_to_five_seconds() {
    let mut bench = Bench::settled(1, 1);
    let relay = bench.relays[0];
    bench.lose(relay);
    for pause in [500, 500, 1000, 2000, 4000, 5000, 5000, 5000] {
        let pause = Duration::from_millis(pause);
        assert_eq!(
            dials(&bench.pass(pause - Duration::from_millis(1))),
            0,
            "before {pause:?}"
        );
        let actions = bench.pass(Duration::from_millis(1));
        assert_eq!(dials(&actions), 1, "after {pause:?}");
        bench
            .machine
            .dial_failed(Some(relay), &[], "refused".to_owned(), bench.now, STEADY);
    }
    assert_eq!(bench.state(relay), Some(ReservationState::Requesting));
}

#[test]
fn the_states_of_a_relay_that_returns_are_told_in_order() {
    let mut bench = Bench::settled(1, 1);
    let relay = bench.relays[0];
    let mut trace = vec![bench.state(relay)];
    bench.lose(relay);
    trace.push(bench.state(relay));
    bench.pass(Duration::from_secs(1));
    trace.push(bench.state(relay));
    bench.connect(0);
    let actions = bench.pass(Duration::ZERO);
    bench.ask(&actions);
    assert_eq!(
        bench.machine.granted(&relay, false, bench.now),
        Some(Action::Report(relay))
    );
    trace.push(bench.state(relay));
    use ReservationState::{Active, Lost, Requesting};
    assert_eq!(trace, [Active, Lost, Requesting, Active].map(Some));
}

#[test]
fn a_renewal_is_expected_thirty_seconds_before_the_end() {
    let mut bench = Bench::settled(1, 1);
    let relay = bench.relays[0];
    let before = RESERVATION_DURATION - Duration::from_secs(30);
    assert!(bench.pass(before - Duration::from_secs(1)).is_empty());
    assert_eq!(bench.pass(Duration::from_secs(1)), [Action::Report(relay)]);
    assert_eq!(bench.state(relay), Some(ReservationState::Renewing));
    let (_, slot) = bench.machine.reservations().next().unwrap();
    assert_eq!(slot.expires_in(bench.now), Some(Duration::from_secs(30)));
    bench.machine.granted(&relay, true, bench.now);
    let (_, slot) = bench.machine.reservations().next().unwrap();
    assert_eq!(
        (slot.state(), slot.renewals()),
        (ReservationState::Active, 1)
    );
}

#[test]
fn the_rhythm_of_a_relay_is_learnt_from_its_renewals() {
    let mut bench = Bench::settled(1, 1);
    let relay = bench.relays[0];
    bench.pass(Duration::from_secs(15));
    bench.machine.granted(&relay, true, bench.now);
    let (_, slot) = bench.machine.reservations().next().unwrap();
    assert_eq!(slot.expires_in(bench.now), Some(Duration::from_secs(20)));
}

#[test]
fn a_relay_that_does_not_answer_is_left() {
    let mut bench = Bench::new(1, 1);
    bench.pass(Duration::ZERO);
    bench.connect(0);
    let actions = bench.pass(Duration::ZERO);
    bench.ask(&actions);
    assert!(
        bench
            .pass(ANSWER_TIMEOUT - Duration::from_millis(1))
            .is_empty()
    );
    assert_eq!(
        bench.pass(Duration::from_millis(1)),
        [Action::Disconnect(bench.relays[0])]
    );
}

#[test]
fn a_final_refusal_is_not_repeated_for_long() {
    let mut bench = Bench::new(1, 1);
    bench.pass(Duration::ZERO);
    bench.connect(0);
    let actions = bench.pass(Duration::ZERO);
    bench.ask(&actions);
    let (relay, listener) = (bench.relays[0], bench.listeners[&bench.relays[0]]);
    bench
        .machine
        .closed(listener, Refusal::Final, "refused", bench.now, STEADY);
    assert_eq!(bench.state(relay), Some(ReservationState::Failed));
    assert!(
        bench
            .pass(FAILED_PAUSE - Duration::from_millis(1))
            .is_empty()
    );
    let actions = bench.pass(Duration::from_millis(1));
    assert_eq!(bench.ask(&actions), [relay]);
}

#[test]
fn a_denied_request_goes_to_the_relay_that_was_tried_least() {
    let mut bench = Bench::new(2, 1);
    bench.pass(Duration::ZERO);
    bench.connect(0);
    bench.connect(1);
    let actions = bench.pass(Duration::ZERO);
    let first = bench.ask(&actions)[0];
    bench.machine.closed(
        bench.listeners[&first],
        Refusal::Passing,
        "full",
        bench.now,
        STEADY,
    );
    let actions = bench.pass(Duration::from_secs(5));
    assert_ne!(bench.ask(&actions)[0], first);
}

#[test]
fn a_node_named_without_its_id_is_known_after_it_answered() {
    let now = Instant::now();
    let mut machine = Relays::new(PeerId::random(), 1, UPGRADE, &[base(1)], now);
    let dial = Action::Dial {
        peer: None,
        addresses: vec![base(1)],
    };
    assert_eq!(machine.tick(now), [dial]);
    let relay = PeerId::random();
    machine.connected(relay, Some(base(1)), now);
    assert!(machine.contains(&relay));
    machine.offers(&relay, true);
    assert!(
        machine
            .tick(now)
            .iter()
            .any(|action| matches!(action, Action::Reserve { .. }))
    );
}

#[test]
fn two_names_of_one_node_become_one() {
    let (now, relay) = (Instant::now(), PeerId::random());
    let named = base(2).with(Protocol::P2p(relay));
    let mut machine = Relays::new(PeerId::random(), 1, UPGRADE, &[base(1), named], now);
    assert_eq!(machine.slots.len(), 2);
    machine.tick(now);
    machine.connected(relay, Some(base(1)), now);
    assert_eq!(machine.slots.len(), 1);
    assert_eq!(machine.slots[0].addresses, [base(2), base(1)]);
}

#[test]
fn no_more_nodes_are_kept_than_the_limit() {
    let addresses: Vec<Multiaddr> = (1..=100).map(base).collect();
    let machine = Relays::new(PeerId::random(), 1, UPGRADE, &addresses, Instant::now());
    assert_eq!(machine.slots.len(), MAX_BOOTSTRAP);
}

#[test]
fn a_worse_connection_is_improved_on_at_pauses_that_double() {
    let relay = PeerId::random();
    let quic: Multiaddr = "/ip4/10.0.0.1/udp/1/quic-v1".parse().unwrap();
    let web: Multiaddr = "/ip4/10.0.0.1/tcp/443/tls/ws".parse().unwrap();
    let named = [&quic, &base(1), &web].map(|a| a.clone().with(Protocol::P2p(relay)));
    let start = Instant::now();
    let mut machine = Relays::new(PeerId::random(), 1, UPGRADE, &named, start);
    let tried = |actions: Vec<Action>| {
        actions.into_iter().find_map(|action| match action {
            Action::Upgrade { addresses, .. } => Some(addresses),
            _ => None,
        })
    };
    machine.tick(start);
    machine.connected(relay, Some(web), start);
    let mut at = Vec::new();
    for second in 1..=3000 {
        let now = start + Duration::from_secs(second);
        if let Some(addresses) = tried(machine.tick(now)) {
            assert_eq!(addresses, [quic.clone(), base(1)]);
            at.push(second);
        }
    }
    assert_eq!(at, [60, 180, 420, 900, 1500, 2100, 2700]);
    let now = start + Duration::from_secs(3001);
    machine.connected(relay, Some(base(1)), now);
    assert_eq!(tried(machine.tick(now + UPGRADE)), Some(vec![quic.clone()]));
    machine.connected(relay, Some(quic), now + UPGRADE);
    assert_eq!(tried(machine.tick(now + UPGRADE * 100)), None);
}

/// A machine that knows what one name stands for.
fn behind_a_name(relays: &[PeerId], wanted: usize) -> (Bench, Multiaddr) {
    let mut bench = Bench::new(0, wanted);
    let name: Multiaddr = "/dnsaddr/relay.example".parse().unwrap();
    bench.relays = relays.to_vec();
    let found = bench.found(&[0, 1]);
    bench.machine.named(&name, &found, true, bench.now);
    bench.pass(Duration::ZERO);
    (0..2).for_each(|index| bench.connect(index));
    bench.grant_all();
    (bench, name)
}

impl Bench {
    fn found(&self, indices: &[usize]) -> Vec<Multiaddr> {
        let address = |index: &usize| {
            let port = u16::try_from(*index).unwrap() + 1;
            base(port).with(Protocol::P2p(self.relays[*index]))
        };
        indices.iter().map(address).collect()
    }

    fn grant_all(&mut self) -> Vec<Action> {
        let actions = self.pass(Duration::from_secs(1));
        for relay in self.ask(&actions) {
            self.machine.granted(&relay, false, self.now);
        }
        actions
    }
}

fn given_up(actions: &[Action]) -> Vec<(PeerId, bool)> {
    let of = |action: &Action| match action {
        Action::GiveUp { peer, works, .. } => Some((*peer, *works)),
        _ => None,
    };
    actions.iter().filter_map(of).collect()
}

fn three() -> Vec<PeerId> {
    (0..3).map(|_| PeerId::random()).collect()
}

#[test]
fn a_relay_that_left_a_name_is_given_up_when_another_serves() {
    let relays = three();
    let (mut bench, name) = behind_a_name(&relays, 1);
    assert_eq!(bench.held(), [relays[0]]);
    let found = bench.found(&[1, 2]);
    bench.machine.named(&name, &found, true, bench.now);
    assert!(
        given_up(&bench.grant_all()).is_empty(),
        "one answer may be wrong"
    );
    bench.machine.named(&name, &found, true, bench.now);
    let mut gone = given_up(&bench.grant_all());
    assert!(gone.is_empty(), "it serves until another does");
    assert_eq!(bench.held().len(), 2);
    gone.extend(given_up(&bench.pass(Duration::from_secs(1))));
    assert_eq!(gone, [(relays[0], true)]);
    assert!(
        bench.machine.contains(&relays[2]),
        "and what came is taken up"
    );
}

#[test]
fn a_name_that_answers_in_part_or_wrongly_once_costs_no_relay() {
    let relays = three();
    let (mut bench, name) = behind_a_name(&relays, 2);
    for round in 0..20 {
        let (found, whole) = match round % 2 {
            0 => (bench.found(&[2]), round % 4 == 0),
            _ => (bench.found(&[0, 1]), true),
        };
        bench.machine.named(&name, &found, whole, bench.now);
        assert!(given_up(&bench.grant_all()).is_empty());
    }
    for _ in 0..20 {
        let found = bench.found(&[2]);
        bench.machine.named(&name, &found, false, bench.now);
        assert!(given_up(&bench.grant_all()).is_empty());
    }
}

#[test]
fn the_last_relay_that_serves_is_kept_although_no_name_stands_for_it() {
    let relays = three();
    let (mut bench, name) = behind_a_name(&relays, 1);
    let found = bench.found(&[2]);
    for _ in 0..5 {
        bench.machine.named(&name, &found, true, bench.now);
        bench.grant_all();
    }
    assert_eq!(
        bench.held(),
        [relays[0]],
        "nobody answers where the others are said to be"
    );
    // A name that stands for it again makes it what it was.
    let found = bench.found(&[0]);
    bench.machine.named(&name, &found, true, bench.now);
    assert!(bench.machine.is_named(&relays[0]));
}

#[test]
fn what_the_operator_named_is_not_given_up_for_a_name_that_leaves_it_out() {
    let mut bench = Bench::settled(2, 1);
    let name: Multiaddr = "/dnsaddr/relay.example".parse().unwrap();
    let found = bench.found(&[0, 1]);
    bench.machine.named(&name, &found, true, bench.now);
    for _ in 0..5 {
        let found = bench.found(&[1]);
        bench.machine.named(&name, &found, true, bench.now);
        assert!(given_up(&bench.pass(Duration::from_secs(1))).is_empty());
    }
    assert!(bench.machine.is_named(&bench.relays[0]));
}

#[test]
fn a_relay_whose_address_changes_every_day_stays_known_where_it_is() {
    let mut bench = Bench::new(0, 1);
    let name: Multiaddr = "/dnsaddr/relay.example".parse().unwrap();
    let relay = PeerId::random();
    for port in 1..100 {
        let found = [base(port).with(Protocol::P2p(relay))];
        bench.machine.named(&name, &found, true, bench.now);
    }
    let slot = &bench.machine.slots[0];
    assert!(slot.addresses.len() <= MAX_ADDRESSES && slot.addresses.contains(&base(99)));
}

#[test]
fn others_are_sought_when_those_named_have_failed_and_no_sooner() {
    let mut bench = Bench::new(2, 1);
    assert_eq!(bench.machine.need(bench.now), None);
    bench.pass(Duration::ZERO);
    assert_eq!(
        bench.machine.need(bench.now),
        None,
        "both are being dialled"
    );
    for relay in bench.relays.clone() {
        bench
            .machine
            .dial_failed(Some(relay), &[], "gone".to_owned(), bench.now, STEADY);
    }
    assert_eq!(bench.machine.need(bench.now), Some(Need::Relay));
    let learnt = PeerId::random();
    bench.machine.try_out(learnt, vec![base(9)], bench.now);
    assert_eq!(bench.machine.need(bench.now), None, "that one is on trial");
    bench.machine.tick(bench.now);
    bench.machine.connected(learnt, Some(base(9)), bench.now);
    bench.machine.offers(&learnt, true);
    let actions = bench.machine.tick(bench.now);
    assert_eq!(bench.ask(&actions), [learnt]);
    bench.machine.granted(&learnt, false, bench.now);
    assert_eq!(bench.machine.need(bench.now), Some(Need::Reserve));
}

/// A machine without a relay that tries one that others told of; it is being dialled.
fn on_trial() -> (Bench, PeerId) {
    let mut bench = Bench::new(0, 1);
    let learnt = PeerId::random();
    bench.machine.try_out(learnt, vec![base(9)], bench.now);
    assert_eq!(dials(&bench.pass(Duration::ZERO)), 1);
    (bench, learnt)
}

#[test]
fn a_relay_that_others_told_of_and_that_is_none_is_left_at_once() {
    let (mut bench, learnt) = on_trial();
    bench
        .machine
        .dial_failed(Some(learnt), &[], "nobody".to_owned(), bench.now, STEADY);
    assert_eq!(given_up(&bench.pass(Duration::ZERO)), [(learnt, false)]);
    assert_eq!(
        dials(&bench.pass(Duration::from_secs(60))),
        0,
        "it is not dialled again"
    );

    let (mut bench, learnt) = on_trial();
    bench.machine.connected(learnt, Some(base(9)), bench.now);
    bench.machine.offers(&learnt, false);
    assert_eq!(given_up(&bench.pass(Duration::ZERO)), [(learnt, false)]);

    let (mut bench, learnt) = on_trial();
    bench.machine.connected(learnt, Some(base(9)), bench.now);
    assert!(given_up(&bench.pass(LINGER / 2)).is_empty());
    assert_eq!(
        given_up(&bench.pass(LINGER)),
        [(learnt, false)],
        "it says nothing"
    );

    let (mut bench, learnt) = on_trial();
    bench.machine.connected(learnt, Some(base(9)), bench.now);
    bench.machine.offers(&learnt, true);
    let actions = bench.pass(Duration::ZERO);
    bench.ask(&actions);
    let listener = bench.listeners[&learnt];
    bench
        .machine
        .closed(listener, Refusal::Passing, "full", bench.now, STEADY);
    assert_eq!(given_up(&bench.pass(Duration::ZERO)), [(learnt, false)]);
}

#[test]
fn a_relay_that_others_told_of_and_that_served_is_dialled_again_a_few_times() {
    let (mut bench, learnt) = on_trial();
    bench.machine.connected(learnt, Some(base(9)), bench.now);
    bench.machine.offers(&learnt, true);
    bench.grant_all();
    bench.lose(learnt);
    let mut tried = 0;
    loop {
        let actions = bench.pass(Duration::from_secs(1));
        tried += dials(&actions);
        bench
            .machine
            .dial_failed(Some(learnt), &[], "gone".to_owned(), bench.now, STEADY);
        if given_up(&actions) == [(learnt, false)] {
            break;
        }
    }
    assert_eq!(tried, LEARNT_ATTEMPTS as usize);
}

#[test]
fn a_relay_that_is_not_needed_is_left_in_peace() {
    let (mut bench, learnt) = on_trial();
    let served = PeerId::random();
    bench.machine.try_out(served, vec![base(8)], bench.now);
    bench.pass(Duration::ZERO);
    bench.machine.connected(served, Some(base(8)), bench.now);
    bench.machine.offers(&served, true);
    bench.grant_all();
    bench.machine.connected(learnt, Some(base(9)), bench.now);
    bench.machine.offers(&learnt, true);
    assert!(given_up(&bench.pass(LINGER / 2)).is_empty());
    assert_eq!(given_up(&bench.pass(LINGER)), [(learnt, true)]);
}

#[test]
fn relays_that_others_told_of_leave_room_for_those_that_are_named() {
    let mut bench = Bench::new(0, 1);
    for port in 1..100 {
        bench
            .machine
            .try_out(PeerId::random(), vec![base(port)], bench.now);
    }
    assert_eq!(bench.machine.slots.len(), MAX_LEARNT);
    let name: Multiaddr = "/dnsaddr/relay.example".parse().unwrap();
    let found: Vec<Multiaddr> = (1..100)
        .map(|port| base(port).with(Protocol::P2p(PeerId::random())))
        .collect();
    bench.machine.named(&name, &found, true, bench.now);
    assert_eq!(bench.machine.slots.len(), MAX_LEARNT + MAX_BOOTSTRAP);
}

#[test]
fn a_relay_keeps_connections_to_a_few_others() {
    let now = Instant::now();
    let mut machine = Relays::new(PeerId::random(), 0, UPGRADE, &[], now).linked();
    for port in 1..=4 {
        assert_eq!(machine.need(now), Some(Need::Relay));
        let other = PeerId::random();
        machine.try_out(other, vec![base(port)], now);
        machine.tick(now);
        machine.connected(other, Some(base(port)), now);
        machine.offers(&other, true);
    }
    assert_eq!(machine.need(now), None);
    assert!(machine.tick(now + 10 * LINGER).is_empty(), "none is left");
}

proptest! {
    #[test]
    fn pauses_stay_within_their_jitter(tries in 0_u32..1000, jitter in -1.0_f64..2.0) {
        let pause = backoff(tries, jitter);
        prop_assert!(pause >= Duration::from_millis(399) && pause <= Duration::from_millis(6001));
        prop_assert!(backoff(tries, 0.0) <= pause && pause <= backoff(tries, 1.0));
    }

    /// Whatever happens in whatever order, the machine never asks for more than is wanted, never asks one relay
    /// twice at a time, and holds what is wanted once the world is kind.
    #[test]
    fn any_history_ends_with_the_wanted_reservations(events in prop::collection::vec((0_u8..8, 0_usize..4), 0..200)) {
        let mut bench = Bench::settled(4, 2);
        for (event, index) in events {
            let relay = bench.relays[index];
            match event {
                0 => bench.connect(index),
                1 => { bench.lose(relay); }
                2 => { bench.machine.granted(&relay, true, bench.now); }
                3 | 4 => {
                    if let Some(listener) = bench.listeners.get(&relay) {
                        let refusal = if event == 3 { Refusal::Passing } else { Refusal::Final };
                        bench.machine.closed(*listener, refusal, "closed", bench.now, STEADY);
                    }
                }
                5 => { bench.machine.dial_failed(Some(relay), &[], "failed".to_owned(), bench.now, STEADY); }
                6 => bench.machine.offers(&relay, false),
                _ => {}
            }
            let actions = bench.pass(Duration::from_millis(700));
            let asked = bench.ask(&actions);
            prop_assert!(asked.len() <= 2);
            prop_assert!(bench.machine.slots.iter().filter(|slot| slot.is_engaged()).count() <= 2);
        }
        for _ in 0..40 {
            for index in 0..4 {
                bench.connect(index);
            }
            let actions = bench.pass(Duration::from_secs(1));
            for relay in bench.ask(&actions) {
                bench.machine.granted(&relay, false, bench.now);
            }
        }
        prop_assert!(bench.machine.slots.iter().filter(|slot| slot.is_engaged()).count() == 2);
    }
}
