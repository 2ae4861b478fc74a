//! Relays that nobody configured: told of by others, found, lost, and lied about.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

#[expect(dead_code, reason = "a part is used here")]
#[path = "support/attacker.rs"]
mod attacker;
#[path = "support/liar.rs"]
mod liar;
mod support;

use std::num::NonZeroU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use attacker::{Attacker, EXCHANGE, RELAYS, Raw, id_of};
use ciborium::Value;
use liar::Liar;
use libp2p::relay;
use support::*;
use tokio::net::TcpListener;
use tokio::sync::watch;
use worldcompute_mesh::{KnownRelay, Mesh, MeshConfig, MeshEvent, Multiaddr, ReservationState};
use worldcompute_proof as proof;

/// A relay that is told of `others` at its start.
async fn relay_beside(seed: u8, others: &[&Mesh]) -> Mesh {
    let mut config = MeshConfig::new(key(seed));
    config.listen = addresses(&LOOPBACK);
    config.relay_server = true;
    for other in others {
        config.bootstrap.extend(dialled(other).await);
    }
    Mesh::start(config).await.unwrap().0
}

/// Waits until a node has reached a relay.
async fn has_reached(mesh: &Mesh, relay: &Mesh) -> Vec<KnownRelay> {
    let mut events = mesh.subscribe();
    loop {
        let known = mesh.known_relays().await.unwrap();
        if known.iter().any(|known| known.peer == relay.peer_id()) {
            return known;
        }
        event("a relay to be reached", &mut events, |event| {
            (event == MeshEvent::Relays).then_some(())
        })
        .await;
    }
}

fn joining(seed: u8, bootstrap: &[Multiaddr]) -> MeshConfig {
    let mut config = MeshConfig::new(key(seed));
    config.bootstrap = bootstrap.to_vec();
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_donor_whose_relays_are_gone_for_ever_is_served_by_such_as_it_was_told_of() {
    logged();
    let third = relay(3, &LOOPBACK).await;
    let second = relay_beside(2, &[&third]).await;
    has_reached(&second, &third).await;
    let first = relay_beside(1, &[&second]).await;
    has_reached(&first, &second).await;

    let named = dialled(&first).await;
    let (donor, donor_in) = Mesh::start(joining(4, &named)).await.unwrap();
    serve(donor_in, Objects::new());
    has_reserved(&donor, &first).await;
    // Which of the others it takes beside the one that it was named, nobody says.
    let named_one = first.peer_id();
    has_reserved_at(&donor, |at| at != named_one).await;
    first.shutdown().await;
    has_reserved(&donor, &second).await;
    has_reserved(&donor, &third).await;
    second.shutdown().await;
    let known = has_reached(&donor, &third).await;
    donor.shutdown().await;

    // The built-in relay is gone, and so is the one that told of the other.
    let mut config = joining(4, &named);
    config.known_relays = known;
    let (again, again_in) = Mesh::start(config).await.unwrap();
    serve(again_in, Objects::new());
    let held = has_reserved(&again, &third).await;
    let (submitter, _submitter_in) = hidden(5, &[&third]).await;
    submitter
        .add_peer(again.peer_id(), vec![held.address])
        .await;
    let offer = within("an offer", submitter.offer(again.peer_id(), an_offer())).await;
    assert!(offer.unwrap().accepted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_grants_reservations_and_carries_nothing_keeps_nobody_from_a_donor() {
    logged();
    let liar = Liar::start(relay::Config {
        max_circuits: 0,
        ..relay::Config::default()
    })
    .await;
    let honest = relay(1, &LOOPBACK).await;
    let mut named = vec![liar.address.clone()];
    named.extend(dialled(&honest).await);
    let (donor, donor_in) = Mesh::start(joining(4, &named)).await.unwrap();
    serve(donor_in, Objects::new());
    let lie = has_reserved_at(&donor, |at| at == liar.peer()).await;
    let held = has_reserved(&donor, &honest).await;

    let (submitter, _submitter_in) = Mesh::start(MeshConfig::new(key(5))).await.unwrap();
    submitter
        .add_peer(donor.peer_id(), vec![lie.address.clone()])
        .await;
    let asked = submitter.offer(donor.peer_id(), an_offer());
    assert!(within("a refusal", asked).await.is_err());
    assert!(liar.refused.load(Ordering::Relaxed) > 0);
    let (submitter, _submitter_in) = Mesh::start(MeshConfig::new(key(6))).await.unwrap();
    submitter
        .add_peer(donor.peer_id(), vec![lie.address, held.address])
        .await;
    let offer = within("an offer", async {
        loop {
            // On a machine that is busy a dial may take too long altogether.
            if let Ok(offer) = submitter.offer(donor.peer_id(), an_offer()).await {
                return offer;
            }
        }
    })
    .await;
    assert!(offer.accepted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_came_over_a_circuit_too_is_asked_again_for_a_reservation() {
    logged();
    let once = NonZeroU32::MIN;
    let config = relay::Config {
        reservation_duration: Duration::from_secs(8),
        ..relay::Config::default()
    };
    let config = config.reservation_rate_per_peer(once, Duration::from_secs(3600));
    let mut stingy = Liar::start(config).await;
    // The other speaks nothing but TCP.
    let honest = relay(1, &LOOPBACK[..1]).await;
    let mut named = vec![stingy.address.clone()];
    named.extend(dialled(&honest).await);
    let (donor, _donor_in) = Mesh::start(joining(4, &named)).await.unwrap();
    let mut events = donor.subscribe();
    let held = has_reserved(&donor, &honest).await;
    has_reserved_at(&donor, |at| at == stingy.peer()).await;
    within("a circuit", stingy.introduce_itself(held.address)).await;
    let mut of_it = async |state| while reservation(state, &mut events).await != stingy.peer() {};
    of_it(ReservationState::Lost).await;
    of_it(ReservationState::Requesting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_joins_later_is_known_to_those_that_came_before() {
    logged();
    let first = relay(1, &LOOPBACK).await;
    let (donor, _donor_in) = Mesh::start(joining(4, &dialled(&first).await))
        .await
        .unwrap();
    has_reserved(&donor, &first).await;
    // The donor asked the first relay long ago, when there was no other.
    let second = relay_beside(2, &[&first]).await;
    has_reserved(&donor, &second).await;
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

fn binary(address: &Multiaddr) -> Value {
    Value::Bytes(address.to_vec())
}

/// What a relay says of itself.
fn word(sequence: u64, address: &Multiaddr) -> Vec<u8> {
    encoded(&Value::Map(vec![
        (text("sequence"), sequence.into()),
        (text("addresses"), Value::Array(vec![binary(address)])),
    ]))
}

/// An answer that names a relay for each address.
fn told(addresses: &[Multiaddr]) -> Raw {
    let record = |(seed, address): (u8, &Multiaddr)| {
        let peer = Value::serialized(&key(seed).peer_id()).unwrap();
        let addresses = Value::Array(vec![binary(address)]);
        Value::Map(vec![(text("peer"), peer), (text("addresses"), addresses)])
    };
    let relays = (100..).zip(addresses).map(record).collect();
    let reply = Value::Map(vec![(text("relays"), Value::Array(relays))]);
    Raw::whole(encoded(&Value::Map(vec![(text("ok"), reply)])))
}

/// Somebody who has nothing to do with it, and the address at which it would be dialled.
async fn victim(ip: &str) -> (TcpListener, Multiaddr) {
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let at = format!("/ip4/{ip}/tcp/{port}").parse().unwrap();
    (listener, at)
}

/// What a node answers when it is asked for relays.
async fn asked(attacker: &Attacker, node: &Mesh) -> Vec<u8> {
    let request = Raw::whole(encoded(&Value::Map(Vec::new())));
    let answer = attacker.send(id_of(node), EXCHANGE, request);
    within("an answer", answer).await.unwrap().unwrap()
}

/// A node without a relay, and an attacker that is connected to it.
async fn scene(answers: impl FnMut(&[u8]) -> Raw + Send + 'static) -> (Mesh, Attacker) {
    let (node, inbound) = open(1).await;
    serve(inbound, Objects::new());
    let mut attacker = Attacker::start("/worldcompute/1.0.0", answers).await;
    attacker.dial(id_of(&node), &tcp_of(&node).await);
    let heard = attacker.is_heard_by(id_of(&node));
    within("the node's subscription", heard).await;
    (node, attacker)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_says_where_it_is_is_tried_and_not_told_on_when_it_does_not_answer() {
    logged();
    let (node, attacker) = scene(|_| Raw::whole([])).await;
    let (nobody, at) = victim("127.0.0.1").await;
    attacker.publish(RELAYS, word(1, &at));
    drop(within("the trial", nobody.accept()).await.unwrap());
    assert_eq!(asked(&attacker, &node).await, told(&[]).bytes);
    assert!(node.known_relays().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_names_false_relays_has_few_of_them_tried_and_none_told_on() {
    logged();
    let (many, at) = victim("127.0.0.1").await;
    let (last, other) = victim("127.9.9.9").await;
    let mut named = vec![at; 7];
    named.push(other);
    let all = told(&named);
    let (node, attacker) = scene(move |_| all.clone()).await;
    // The trials that there are end with the last one's: they come in any order, and each ends at once.
    drop(
        within("the trial of another network", last.accept())
            .await
            .unwrap(),
    );
    let mut tried = 1;
    while let Ok(Ok(_)) = tokio::time::timeout(Duration::from_secs(1), many.accept()).await {
        tried += 1;
    }
    // Two of one network, each once.
    assert!(tried <= 3, "{tried} were tried");
    assert_eq!(asked(&attacker, &node).await, told(&[]).bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_relays_without_end_is_told_to_wait() {
    logged();
    let (node, attacker) = scene(|_| Raw::whole([])).await;
    let mut refused = 0;
    for _ in 0..20 {
        let answer = asked(&attacker, &node).await;
        refused += usize::from(answer != told(&[]).bytes);
    }
    assert!(refused >= 10, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_answer_was_cut_off_is_asked_for_others_again() {
    logged();
    let (asked, mut times) = watch::channel(0);
    let attacker = Attacker::relaying(move |_| {
        asked.send_modify(|times| *times += 1);
        match *asked.borrow() {
            1 => Raw::whole([]),
            _ => told(&[]),
        }
    })
    .await;
    let at = format!("{}/p2p/{}", attacker.address, attacker.peer);
    let mut config = joining(1, &[at.parse().unwrap()]);
    // With all that it wants it has no other reason to ask.
    config.reservations = 1;
    let (node, _inbound) = Mesh::start(config).await.unwrap();
    let reserved = node.reserved(DEADLINE);
    within("a reservation", reserved).await.unwrap();
    let once = times.wait_for(|times| *times == 1);
    within("the question", once).await.unwrap();
    attacker.hang_up(id_of(&node));
    let again = times.wait_for(|times| *times == 2);
    within("the question again", again).await.unwrap();
}

#[test]
fn a_peer_id_on_the_wire_is_its_own() {
    let peer: proof::PeerId = key(1).peer_id();
    let value = Value::serialized(&peer).unwrap();
    assert_eq!(value.deserialized::<proof::PeerId>().unwrap(), peer);
}
