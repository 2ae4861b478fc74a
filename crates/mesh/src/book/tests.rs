//! The book at its limits.

use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;

use super::*;

fn peer() -> PeerId {
    Keypair::generate_ed25519().public().to_peer_id()
}

fn link(remote: Multiaddr, inbound: bool, relayed: bool) -> Link {
    Link {
        remote,
        inbound,
        relayed,
        relay: None,
        relay_scope: None,
        inspected: false,
    }
}

fn address(port: u16) -> Multiaddr {
    format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap()
}

fn connection(id: usize) -> ConnectionId {
    ConnectionId::new_unchecked(id)
}

fn entry(book: &mut Book) -> (PeerId, &mut Entry) {
    let peer = peer();
    (peer, book.entry(peer, Instant::now()).unwrap())
}

fn announcement(sequence: u64, cores: u32) -> Announcement {
    let capacity = Capacity {
        cores,
        memory_mb: 1,
        load: 0.0,
        classes: Vec::new(),
        paused: false,
        addresses: Vec::new(),
        slots: 1,
        images: false,
    };
    Announcement {
        sequence,
        capacity: Some(capacity),
    }
}

#[test]
fn a_full_book_forgets_the_disconnected_peer_that_was_silent_for_longest() {
    let mut book = Book::default();
    let now = Instant::now();
    let (kept, held) = entry(&mut book);
    held.connect(connection(1), link(address(1), false, false), now);
    held.last_seen = SystemTime::UNIX_EPOCH;
    let (oldest, silent) = entry(&mut book);
    silent.last_seen = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    while book.peers.len() < MAX_PEERS {
        entry(&mut book);
    }
    entry(&mut book);
    assert_eq!(book.peers.len(), MAX_PEERS);
    assert!(book.get(&oldest).is_none() && book.get(&kept).is_some());
}

#[test]
fn peers_that_are_only_heard_of_do_not_make_a_full_book_forget_those_heard_from() {
    let mut book = Book::default();
    let now = Instant::now();
    let (donor, announced) = entry(&mut book);
    announced.announced(&announcement(1, 1), now);
    let mut made_up = 0;
    for _ in 0..2 * MAX_PEERS {
        made_up += usize::from(book.newcomer(peer(), now).is_some());
    }
    assert_eq!(made_up, MAX_PEERS - 1);
    assert!(book.get(&donor).is_some());
    assert!(book.newcomer(donor, now).is_some(), "it is known");
    // Who was silent for long makes room.
    book.get_mut(&donor).unwrap().last_seen = SystemTime::now() - CAPACITY_LIFETIME;
    assert!(book.newcomer(peer(), now).is_some());
    assert!(book.get(&donor).is_none());
    assert!(
        book.entry(peer(), now).is_some(),
        "a connection has its place"
    );
}

#[test]
fn a_neighbour_is_heard_at_a_bounded_rate_whoever_it_speaks_for() {
    let mut book = Book::default();
    let now = Instant::now();
    let (_, entry) = entry(&mut book);
    let heard = (0..10_000).filter(|_| entry.may_pass_on(1, now)).count();
    assert_eq!(heard, PASSED_ON as usize);
    assert!(entry.may_pass_on(1, now + PASSED_ON_PAUSE));
    assert!(!entry.may_pass_on(1, now + PASSED_ON_PAUSE));
    let large = 64 * PASSED_ON_UNIT;
    assert!(
        !entry.may_pass_on(large, now + 64 * PASSED_ON_PAUSE),
        "one is gone"
    );
    assert!(entry.may_pass_on(large, now + 66 * PASSED_ON_PAUSE));
    let heard = (0..10_000)
        .filter(|_| entry.may_pass_on(1, now + Duration::from_secs(3600)))
        .count();
    assert_eq!(heard, PASSED_ON as usize);
}

#[test]
fn a_book_full_of_connected_peers_takes_no_other() {
    let mut book = Book::default();
    let now = Instant::now();
    for id in 0..MAX_PEERS {
        entry(&mut book)
            .1
            .connect(connection(id), link(address(1), true, false), now);
    }
    assert!(book.entry(peer(), now).is_none());
}

#[test]
fn an_id_that_holds_no_key_gets_no_entry() {
    assert!(
        Book::default()
            .entry(PeerId::random(), Instant::now())
            .is_none()
    );
}

#[test]
fn addresses_of_a_peer_are_bounded_and_the_latest_stay() {
    let mut book = Book::default();
    let (peer, entry) = entry(&mut book);
    let all = u16::try_from(MAX_ADDRESSES_OF_PEER).unwrap() + 5;
    entry.learn(&peer, (1..=all).map(address));
    assert_eq!(entry.addresses().len(), MAX_ADDRESSES_OF_PEER);
    assert_eq!(entry.addresses()[0], address(all));
    assert!(!entry.addresses().contains(&address(5)));
    entry.learn(&peer, [address(6).with(Protocol::P2p(peer))]);
    assert_eq!(
        entry.addresses()[0],
        address(6),
        "known again, with its peer's name or without"
    );
    entry.learn(&peer, [address(7).with(Protocol::P2p(PeerId::random()))]);
    assert_eq!(
        entry.addresses()[0],
        address(6),
        "the address of somebody else"
    );
}

#[test]
fn direct_addresses_come_before_circuits() {
    let mut book = Book::default();
    let (peer, entry) = entry(&mut book);
    let relayed = address(2)
        .with(Protocol::P2p(PeerId::random()))
        .with(Protocol::P2pCircuit);
    entry.learn(&peer, [address(1), relayed.clone()]);
    assert_eq!(entry.addresses(), [address(1), relayed]);
}

#[test]
fn loopback_addresses_are_believed_on_the_same_machine_only() {
    let here: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
    for (remote, believed) in [(address(9), false), (here.clone(), true)] {
        let mut book = Book::default();
        let (peer, entry) = entry(&mut book);
        entry.connect(connection(1), link(remote, true, false), Instant::now());
        entry.identified(&peer, "agent", true, vec![here.clone()]);
        assert_eq!(entry.addresses().contains(&here), believed);
    }
}

#[test]
fn the_best_path_counts_and_relayed_connections_beside_it_are_superseded() {
    let mut book = Book::default();
    let now = Instant::now();
    let later = now + STANDING;
    let (_, entry) = entry(&mut book);
    entry.connect(connection(1), link(address(1), true, true), now);
    assert_eq!(
        (entry.path(), entry.superseded(later)),
        (Some(Path::Relayed), Vec::new())
    );
    entry.connect(connection(2), link(address(2), false, false), now);
    assert_eq!(
        (entry.path(), entry.superseded(now)),
        (Some(Path::HolePunched), Vec::new()),
        "the peer may not know yet"
    );
    assert_eq!(
        (entry.path(), entry.superseded(later)),
        (Some(Path::HolePunched), vec![connection(1)])
    );
    assert!(!entry.disconnect(connection(2)) && entry.disconnect(connection(1)));
    assert!(!entry.disconnect(connection(1)), "the last one goes once");
}

#[test]
fn of_circuits_that_this_node_dialled_the_newest_is_kept_once_it_stands() {
    let mut book = Book::default();
    let now = Instant::now();
    let later = now + STANDING;
    let much_later = later + STANDING;
    let (_, entry) = entry(&mut book);
    entry.connect(connection(1), link(address(1), false, true), now);
    assert_eq!(entry.renewable_circuit(), Some((&address(1), false)));
    entry.connect(connection(2), link(address(2), true, true), later);
    assert_eq!(entry.renewable_circuit(), Some((&address(1), true)));
    entry.connect(connection(3), link(address(3), false, true), later);
    assert_eq!(entry.renewable_circuit(), None, "one is made anew already");
    assert_eq!(
        entry.superseded(much_later),
        Vec::new(),
        "nothing came back"
    );
    entry.pinged(connection(3), Duration::from_millis(1));
    assert_eq!(entry.superseded(later), Vec::new());
    assert_eq!(entry.superseded(much_later), vec![connection(1)]);
    entry.disconnect(connection(1));
    assert_eq!(entry.superseded(much_later), Vec::new());
    entry.connect(connection(4), link(address(4), true, true), later);
    entry.connect(connection(5), link(address(5), true, true), later);
    assert_eq!(entry.renewable_circuit(), None, "a hole needs room");
}

#[test]
fn a_connection_could_be_better_where_a_better_kind_of_address_is_known() {
    let mut book = Book::default();
    let now = Instant::now();
    let (peer, entry) = entry(&mut book);
    let quic: Multiaddr = "/ip4/10.0.0.1/udp/1/quic-v1".parse().unwrap();
    entry.connect(connection(1), link(address(1), false, false), now);
    entry.identified(&peer, "", true, vec![address(1), address(2)]);
    entry.learn(&peer, [quic.clone()]);
    assert!(!entry.could_be_better(), "others say so");
    entry.identified(&peer, "", true, vec![address(1), quic.clone()]);
    assert!(entry.could_be_better());
    entry.connect(connection(2), link(quic, false, false), now);
    assert!(!entry.could_be_better());
    let (peer, entry) = entry_of_inbound(&mut book, now);
    let quic = "/ip4/10.0.0.1/udp/1/quic-v1".parse().unwrap();
    entry.identified(&peer, "", true, vec![quic]);
    assert!(!entry.could_be_better(), "it is the peer's to dial");
}

fn entry_of_inbound(book: &mut Book, now: Instant) -> (PeerId, &mut Entry) {
    let (peer, entry) = entry(book);
    entry.connect(connection(9), link(address(9), true, false), now);
    (peer, entry)
}

#[test]
fn a_peer_that_dialled_twice_and_keeps_both_has_returned() {
    let mut book = Book::default();
    let now = Instant::now();
    let later = now + STANDING;
    let (_, entry) = entry(&mut book);
    entry.connect(connection(1), link(address(1), true, false), now);
    entry.connect(connection(2), link(address(2), false, false), now);
    entry.connect(connection(3), link(address(3), true, true), now);
    assert!(!entry.has_returned(later));
    entry.connect(connection(4), link(address(4), true, false), now);
    assert!(
        !entry.has_returned(now),
        "one of them may be dropped at once"
    );
    assert!(entry.has_returned(later));
}

#[test]
fn only_a_later_announcement_replaces_an_earlier_one() {
    let mut book = Book::default();
    let now = Instant::now();
    let (_, entry) = entry(&mut book);
    assert_eq!(
        entry.announced(&announcement(5, 1), now),
        Verdict::Fresh { new: true }
    );
    assert_eq!(entry.announced(&announcement(5, 2), now), Verdict::Stale);
    assert_eq!(entry.announced(&announcement(4, 3), now), Verdict::Stale);
    assert_eq!(entry.capacity(now).unwrap().cores, 1);
    assert_eq!(
        entry.announced(&announcement(6, 4), now),
        Verdict::Fresh { new: false }
    );
    assert_eq!(entry.capacity(now).unwrap().cores, 4);
}

#[test]
fn a_capacity_is_not_told_after_its_lifetime() {
    let mut book = Book::default();
    let now = Instant::now();
    let (_, entry) = entry(&mut book);
    entry.announced(&announcement(1, 1), now);
    assert!(
        entry
            .capacity(now + CAPACITY_LIFETIME - Duration::from_millis(1))
            .is_some()
    );
    assert!(entry.capacity(now + CAPACITY_LIFETIME).is_none());
}

#[test]
fn a_peer_that_announces_without_end_is_heard_at_a_bounded_rate() {
    let mut book = Book::default();
    let now = Instant::now();
    let (_, entry) = entry(&mut book);
    let heard = (1..1000)
        .filter(|n| entry.announced(&announcement(*n, 1), now) != Verdict::Stale)
        .count();
    assert_eq!(heard, ANNOUNCEMENTS as usize);
    let later = now + ANNOUNCEMENT_PAUSE;
    assert_eq!(
        entry.announced(&announcement(2000, 1), later),
        Verdict::Fresh { new: false }
    );
    assert_eq!(
        entry.announced(&announcement(2001, 1), later),
        Verdict::Stale
    );
    assert!(!entry.may_publish(later), "all topics share one allowance");
}

#[test]
fn offences_are_forgiven_up_to_a_number_and_after_a_time() {
    let mut book = Book::default();
    let now = Instant::now();
    let (_, entry) = entry(&mut book);
    assert!((0..MAX_OFFENCES).all(|_| !entry.offended(now)));
    assert!(entry.offended(now));
    assert!(!entry.offended(now + OFFENCE_WINDOW + Duration::from_secs(1)));
}

#[test]
fn both_ends_tell_a_connection_beside_a_circuit_alike_whoever_dialled() {
    let now = Instant::now();
    let told = |circuit: bool, inbound: bool| {
        let mut book = Book::default();
        let (_, entry) = entry(&mut book);
        if circuit {
            entry.connect(connection(1), link(address(1), inbound, true), now);
        }
        entry.connect(connection(2), link(address(2), inbound, false), now);
        entry.path()
    };
    for inbound in [false, true] {
        assert_eq!(told(true, inbound), Some(Path::HolePunched));
        assert_eq!(told(false, inbound), Some(Path::Direct));
    }
}
