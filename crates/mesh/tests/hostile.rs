//! Peers that send garbage, too much, half of it, or nothing; and one that behaves and must not notice.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

#[expect(dead_code, reason = "a part is used here")]
#[path = "support/attacker.rs"]
mod attacker;
mod support;

use std::time::Duration;

use attacker::*;
use libp2p::PeerId;
use support::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use worldcompute_fault::{Category, WcCode};
use worldcompute_mesh::{Mesh, MeshConfig, MeshEvent, Path};
use worldcompute_proof::Cid;

fn nothing(_: &[u8]) -> Raw {
    Raw::whole([])
}

/// A node under attack, one that behaves and knows it, and the attacker, connected to the first.
async fn scene() -> (Mesh, Mesh, Attacker) {
    scene_by("/tcp/").await
}

async fn scene_by(transport: &str) -> (Mesh, Mesh, Attacker) {
    let (victim, inbound) = open(1).await;
    serve(inbound, Objects::new());
    let (friend, _friend_in) = open(2).await;
    friend
        .add_peer(victim.peer_id(), dialled(&victim).await)
        .await;
    let mut attacker = Attacker::start("/worldcompute/1.0.0", nothing).await;
    attacker.dial(id_of(&victim), &listens_by(&victim, transport).await);
    // A peer that has heard nothing of topics yet may still be taken for deaf, and cut off.
    within(
        "the node's subscription",
        attacker.is_heard_by(id_of(&victim)),
    )
    .await;
    (victim, friend, attacker)
}

async fn still_serves(victim: &Mesh, friend: &Mesh) {
    let offer = within(
        "an honest offer",
        friend.offer(victim.peer_id(), an_offer()),
    )
    .await
    .unwrap();
    assert!(offer.accepted);
}

/// The attacker as the node sees it.
fn named(attacker: &Attacker) -> worldcompute_proof::PeerId {
    worldcompute_proof::PeerId::from_bytes(&attacker.peer.to_bytes()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_insists_on_garbage_is_shut_out_and_others_are_served() {
    logged();
    let (victim, friend, mut attacker) = scene().await;
    for round in 0..9_u8 {
        let garbage = Raw::whole(vec![0xff - round; 100]);
        let answer = within(
            "an end of the stream",
            attacker.send(id_of(&victim), OFFER, garbage),
        )
        .await;
        assert!(
            !matches!(answer, Ok(Ok(bytes)) if !bytes.is_empty()),
            "garbage was answered"
        );
    }
    within(
        "the end",
        attacker.happens(|happening| *happening == Happening::Disconnected),
    )
    .await;
    let inbound = victim.status().await.unwrap().inbound;
    assert_eq!(
        (inbound.malformed, inbound.blocked, inbound.accepted),
        (9, 1, 0)
    );
    attacker.dial(id_of(&victim), &tcp_of(&victim).await);
    // The dialler believes in the connection for as long as it takes to hear of its end.
    within(
        "a refusal",
        attacker.happens(|happening| {
            matches!(happening, Happening::Disconnected | Happening::Refused(_))
        }),
    )
    .await;
    still_serves(&victim, &friend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_past_its_limit_is_no_request() {
    let (victim, friend, attacker) = scene().await;
    let long = Raw::whole(vec![0x60; 16 * 1024 + 1]);
    let answer = within("an end", attacker.send(id_of(&victim), OFFER, long))
        .await
        .unwrap();
    assert!(
        !matches!(&answer, Ok(bytes) if !bytes.is_empty()),
        "{answer:?}"
    );
    let inbound = victim.status().await.unwrap().inbound;
    assert_eq!((inbound.malformed, inbound.accepted), (1, 0));
    still_serves(&victim, &friend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_half_requests_do_not_keep_others_out() {
    let (victim, friend, attacker) = scene().await;
    let half = || Raw::half(vec![0xa1; 1000]);
    let open: Vec<_> = (0..1000)
        .map(|_| attacker.send(id_of(&victim), DISPATCH, half()))
        .collect();
    still_serves(&victim, &friend).await;
    drop(open);
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_requests_are_answered_or_refused_and_none_is_kept() {
    let mut config = MeshConfig::new(key(1));
    config.listen = addresses(&LOOPBACK);
    config.inbound_queue = 4;
    // Nobody takes what comes in.
    let (victim, _inbound) = Mesh::start(config).await.unwrap();
    let mut attacker = Attacker::start("/worldcompute/1.0.0", nothing).await;
    attacker.dial(id_of(&victim), &tcp_of(&victim).await);
    within(
        "the attacker's connection",
        attacker.happens(|happening| *happening == Happening::Connected),
    )
    .await;
    let offer = valid_offer();
    let sent: Vec<_> = (0..3000)
        .map(|_| attacker.send(id_of(&victim), OFFER, Raw::whole(offer.clone())))
        .collect();
    let mut ended = 0;
    within("the ends of the streams", async {
        for answer in sent.into_iter().skip(4) {
            let answered = answer.await.unwrap();
            assert!(
                answered.is_err()
                    || answered
                        .is_ok_and(|bytes| contains(&bytes, b"peer_busy") || bytes.is_empty())
            );
            ended += 1;
        }
    })
    .await;
    let status = victim.status().await.unwrap();
    assert_eq!((ended, status.inbound.accepted), (2996, 4));
    assert_eq!(status.inbound.malformed, 0, "a busy node blames nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_on_the_port_change_nothing() {
    let (victim, inbound) = open(1).await;
    serve(inbound, Objects::new());
    let (friend, _friend_in) = open(2).await;
    friend
        .add_peer(victim.peer_id(), dialled(&victim).await)
        .await;
    let address = tcp_of(&victim).await.to_string();
    let port: u16 = address.rsplit('/').next().unwrap().parse().unwrap();
    let attacks = (0..50).map(|round| async move {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .unwrap();
        // The node may hang up at any byte.
        let _ = stream.write_all(&bytes(4096, round)).await;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    });
    within("the node to hang up", futures::future::join_all(attacks)).await;
    still_serves(&victim, &friend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_one_network_that_say_nothing_do_not_keep_others_out() {
    let (victim, inbound) = open(1).await;
    serve(inbound, Objects::new());
    let (friend, _friend_in) = open(2).await;
    friend
        .add_peer(victim.peer_id(), dialled(&victim).await)
        .await;
    let address = tcp_of(&victim).await.to_string();
    let port: u16 = address.rsplit('/').next().unwrap().parse().unwrap();
    let mut silent = Vec::new();
    for _ in 0..300 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.9.9.1:0".parse().unwrap()).unwrap();
        let stream = socket.connect(([127, 0, 0, 1], port).into()).await;
        silent.push(stream.unwrap());
    }
    // The last one finds no place, so all before it have been seen.
    let mut rest = Vec::new();
    let _ = within("a refusal", silent[299].read_to_end(&mut rest)).await;
    still_serves(&victim, &friend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_peer_holds_at_most_six_connections() {
    let (victim, friend, mut attacker) = scene().await;
    for _ in 0..10 {
        attacker.dial(id_of(&victim), &tcp_of(&victim).await);
    }
    let mut ended = 0;
    within("the refusals", async {
        while ended < 5 {
            attacker
                .happens(|happening| {
                    matches!(happening, Happening::Disconnected | Happening::Refused(_))
                })
                .await;
            ended += 1;
        }
    })
    .await;
    assert!(victim.status().await.unwrap().connections <= 6);
    still_serves(&victim, &friend).await;
}

/// Connects a node to an attacker that answers everything with `answers`.
async fn asks(answers: impl FnMut(&[u8]) -> Raw + Send + 'static) -> (Mesh, Attacker) {
    let mut attacker = Attacker::start("/worldcompute/1.0.0", answers).await;
    let mut config = MeshConfig::new(key(1));
    config.listen = addresses(&LOOPBACK);
    // One that wants relays would ask the attacker for them.
    config.reservations = 0;
    let (mesh, _inbound) = Mesh::start(config).await.unwrap();
    mesh.add_peer(named(&attacker), vec![attacker.address.clone()])
        .await;
    attacker.dial(id_of(&mesh), &tcp_of(&mesh).await);
    within(
        "the node's subscription",
        attacker.is_heard_by(id_of(&mesh)),
    )
    .await;
    (mesh, attacker)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_garbage_fails_the_request_and_counts_against_the_peer() {
    let (mesh, attacker) = asks(|_| Raw::whole(*b"\xffgarbage")).await;
    let fault = within("an answer", mesh.offer(named(&attacker), an_offer()))
        .await
        .unwrap_err();
    assert_eq!(
        (fault.code(), fault.category()),
        ("malformed_answer", Category::VerificationFailed)
    );
    assert_eq!(mesh.status().await.unwrap().inbound.malformed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_off_is_asked_for_again_and_counts_against_nobody() {
    let whole = content_answer(3, b"two");
    let mut ends = [whole.len() - 1, 1, 0].into_iter();
    let (mesh, attacker) = asks(move |_| {
        let end = ends.next().unwrap_or(whole.len());
        Raw::whole(&whole[..end])
    })
    .await;
    let two = Cid::raw(b"two");
    let fetched = mesh.fetch(named(&attacker), &two, 3);
    assert_eq!(within("the object", fetched).await.unwrap(), b"two");
    assert_eq!(mesh.status().await.unwrap().inbound.malformed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_lost_only_after_as_many_connections_as_a_peer_can_have() {
    for (breaks, answered) in [(6, true), (7, false)] {
        let mut left = breaks;
        let (mesh, attacker) = asks(move |_| match left {
            0 => Raw::whole(offer_answer()),
            _ => {
                left -= 1;
                Raw::whole([])
            }
        })
        .await;
        let offered = within("an answer", mesh.offer(named(&attacker), an_offer())).await;
        match answered {
            true => assert!(offered.unwrap().accepted),
            false => assert_eq!(offered.unwrap_err().code(), "connection_lost"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_requests_of_a_connection_that_broke_count_against_nobody() {
    for transport in ["/tcp/", "/quic-v1"] {
        half_requests_break_off(transport).await;
    }
}

async fn half_requests_break_off(transport: &str) {
    let (victim, friend, attacker) = scene_by(transport).await;
    let half = || Raw::half([0xa1]);
    let open: Vec<_> = (0..20)
        .map(|_| attacker.send(id_of(&victim), DISPATCH, half()))
        .collect();
    let garbage = attacker.send(id_of(&victim), OFFER, Raw::whole(*b"garbage"));
    let answer = within("an end of what came after them", garbage)
        .await
        .unwrap();
    assert!(
        !matches!(&answer, Ok(bytes) if !bytes.is_empty()),
        "{answer:?}"
    );
    drop((attacker, open));
    still_serves(&victim, &friend).await;
    within("the end", async {
        while victim
            .peers()
            .await
            .iter()
            .filter(|peer| peer.connected)
            .count()
            > 1
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let inbound = victim.status().await.unwrap().inbound;
    assert_eq!((inbound.malformed, inbound.blocked), (1, 0), "{transport}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_past_its_limit_fails_the_request() {
    let (mesh, attacker) = asks(|_| Raw::whole(vec![0; 3 << 20])).await;
    let fault = within(
        "an answer",
        mesh.fetch(named(&attacker), &Cid::raw(b"x"), 1 << 30),
    )
    .await
    .unwrap_err();
    assert_eq!(fault.code(), "malformed_answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_answers_nothing_fails_the_request_in_time() {
    let (mesh, attacker) = asks(|_| Raw::half([])).await;
    let fault = within("the timeout", mesh.offer(named(&attacker), an_offer()))
        .await
        .unwrap_err();
    assert_eq!((fault.code(), fault.retryable()), ("network_timeout", true));
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_do_not_match_their_name_are_refused() {
    let (mesh, attacker) = asks(|_| Raw::whole(content_answer(3, b"two"))).await;
    let peer = named(&attacker);
    assert_eq!(
        within("two", mesh.fetch(peer, &Cid::raw(b"two"), 3))
            .await
            .unwrap(),
        b"two"
    );
    let fault = within("one", mesh.fetch(peer, &Cid::raw(b"one"), 3))
        .await
        .unwrap_err();
    assert_eq!(
        (fault.code(), fault.category()),
        ("content_mismatch", Category::VerificationFailed)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_larger_than_asked_for_or_claimed_is_refused() {
    let (mesh, attacker) = asks(|_| Raw::whole(content_answer(u64::MAX, b"x"))).await;
    let fault = within("x", mesh.fetch(named(&attacker), &Cid::raw(b"x"), u64::MAX))
        .await
        .unwrap_err();
    assert_eq!(
        fault.code(),
        "content_mismatch",
        "a chunk shorter than its place demands"
    );
    let (mesh, attacker) = asks(|_| Raw::whole(content_answer(1 << 20, &[0; 1 << 20]))).await;
    let fault = within(
        "x",
        mesh.fetch(named(&attacker), &Cid::raw(b"x"), (1 << 20) - 1),
    )
    .await
    .unwrap_err();
    assert_eq!(fault.code(), "content_too_large");
}

#[tokio::test(flavor = "multi_thread")]
async fn gossip_that_is_none_stops_at_the_first_node_and_its_sender_is_shut_out() {
    logged();
    let hub = relay(1, &LOOPBACK).await;
    let (node, _node_in) = hidden(2, &[&hub]).await;
    let mut heard = node.subscribe();
    let mut attacker = Attacker::start("/worldcompute/1.0.0", nothing).await;
    attacker.dial(id_of(&hub), &tcp_of(&hub).await);
    within("the hub's subscription", attacker.is_heard_by(id_of(&hub))).await;
    for round in 0..9_u8 {
        let topic = if round % 2 == 0 { CAPACITY } else { RELAYS };
        attacker.publish(topic, vec![0xff, round]);
    }
    within(
        "the end",
        attacker.happens(|happening| *happening == Happening::Disconnected),
    )
    .await;
    let inbound = hub.status().await.unwrap().inbound;
    assert_eq!(inbound.blocked, 1);
    assert!(inbound.malformed >= 9, "{inbound:?}");

    // What an honest donor says still arrives, and nothing of the garbage did.
    let (donor, _donor_in) = hidden(3, &[&hub]).await;
    donor.announce(a_capacity()).await;
    capacity_of(donor.peer_id(), &mut heard).await;
    assert_eq!(node.status().await.unwrap().inbound.malformed, 0);
    assert!(peer_info(&node, named(&attacker)).await.is_none());
}

/// Words of a version that this node does not know, say: whoever passes them on is right to.
#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_is_not_shut_out_for_what_another_signed() {
    logged();
    let (node, _node_in) = open(1).await;
    let mut heard = node.subscribe();
    let mut neighbour = Attacker::start("/worldcompute/1.0.0", nothing).await;
    let mut source = Attacker::start("/worldcompute/1.0.0", nothing).await;
    source.dial(neighbour.peer, &neighbour.address);
    within("subscriptions", source.is_heard_by(neighbour.peer)).await;
    within("subscriptions", neighbour.is_heard_by(source.peer)).await;
    neighbour.dial(id_of(&node), &tcp_of(&node).await);
    within("the node's", neighbour.is_heard_by(id_of(&node))).await;
    let from = named(&source);
    within("words that come through", async {
        // The neighbour passes on what the node has not subscribed to in its eyes to nobody.
        for round in 0..u64::MAX {
            source.publish(CAPACITY, [[0xff; 8], round.to_be_bytes()].concat());
            source.publish(CAPACITY, announcement(round + 1, 4));
            let next = tokio::time::timeout(Duration::from_millis(100), heard.recv()).await;
            if let Ok(Ok(MeshEvent::Capacity(of, _))) = next
                && of == from
                && round >= 20
            {
                return;
            }
        }
    })
    .await;
    let inbound = node.status().await.unwrap().inbound;
    assert_eq!((inbound.malformed, inbound.blocked), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_announces_in_the_name_of_another() {
    let (node, inbound) = open(1).await;
    serve(inbound, Objects::new());
    let mut heard = node.subscribe();
    let donor = key(7).peer_id();
    let mut forger = Attacker::posing_as(PeerId::from_bytes(&donor.to_bytes()).unwrap()).await;
    forger.dial(id_of(&node), &tcp_of(&node).await);
    within("the node's subscription", forger.is_heard_by(id_of(&node))).await;
    // Whoever sends what is not signed is listened to no more: that tells that the forged word has come.
    listens_to(&forger, 1).await;
    // Were it believed, it would be the donor's last word.
    forger.publish(CAPACITY, announcement(u64::MAX, 666));
    listens_to(&forger, 0).await;
    let (real, _real_in) = open(7).await;
    real.add_peer(node.peer_id(), dialled(&node).await).await;
    let _ = within("the connection", real.offer(node.peer_id(), an_offer())).await;
    real.announce(a_capacity()).await;
    let capacity = capacity_of(donor, &mut heard).await;
    assert_eq!(capacity.cores, a_capacity().cores);
}

/// Waits until so many nodes pass on what the forger says of capacities: the one that there is, or none.
async fn listens_to(forger: &Attacker, nodes: usize) {
    within("the node to make up its mind", async {
        while forger.neighbours(CAPACITY).await != nodes {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_no_member_is_never_announced() {
    let (mesh, _inbound) = open(1).await;
    let mut events = mesh.subscribe();
    let mut stranger = Attacker::start("/ipfs/0.1.0", nothing).await;
    stranger.dial(id_of(&mesh), &tcp_of(&mesh).await);
    within(
        "the connection",
        stranger.happens(|happening| *happening == Happening::Connected),
    )
    .await;
    let (member, _member_in) = open(2).await;
    member.add_peer(mesh.peer_id(), dialled(&mesh).await).await;
    let offered = tokio::spawn({
        let (member, peer) = (member.clone(), mesh.peer_id());
        async move { member.offer(peer, an_offer()).await }
    });
    let up = event("a member", &mut events, |event| match event {
        MeshEvent::PeerUp(peer, path) => Some((peer, path)),
        _ => None,
    })
    .await;
    assert_eq!(up, (member.peer_id(), Path::Direct));
    assert!(peer_info(&mesh, named(&stranger)).await.unwrap().connected);
    offered.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_where_somebody_else_answers_is_no_way_to_a_peer() {
    let (mesh, _inbound) = open(1).await;
    let attacker = Attacker::start("/worldcompute/1.0.0", nothing).await;
    let wanted = key(9).peer_id();
    mesh.add_peer(wanted, vec![attacker.address.clone()]).await;
    let fault = within("a refusal", mesh.offer(wanted, an_offer()))
        .await
        .unwrap_err();
    assert_eq!(fault.number(), Some(WcCode::DialFailureWithDetail));
    assert!(
        fault.message().contains(&attacker.peer.to_string()),
        "{fault}"
    );
    assert_eq!(mesh.status().await.unwrap().dials.transport_errors, 1);
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

fn valid_offer() -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(&an_offer(), &mut bytes).unwrap();
    bytes
}

/// What a donor says, as it is on the wire.
fn announcement(sequence: u64, cores: u32) -> Vec<u8> {
    let capacity = worldcompute_mesh::wire::Capacity {
        cores,
        ..a_capacity()
    };
    let field = |name: &str, value| (ciborium::Value::Text(name.to_owned()), value);
    let message = ciborium::Value::Map(vec![
        field("sequence", sequence.into()),
        field("capacity", ciborium::Value::serialized(&capacity).unwrap()),
    ]);
    let mut bytes = Vec::new();
    ciborium::into_writer(&message, &mut bytes).unwrap();
    bytes
}

/// `{"ok": {"total": total, "bytes": bytes}}`
fn content_answer(total: u64, bytes: &[u8]) -> Vec<u8> {
    answer(&worldcompute_mesh::wire::ContentReply {
        total,
        bytes: bytes.to_vec(),
    })
}

fn offer_answer() -> Vec<u8> {
    answer(&worldcompute_mesh::wire::OfferReply {
        accepted: true,
        load: 0.5,
        reason: None,
    })
}

fn answer(reply: &impl serde::Serialize) -> Vec<u8> {
    let mut answer = Vec::new();
    let ok = std::collections::BTreeMap::from([("ok", reply)]);
    ciborium::into_writer(&ok, &mut answer).unwrap();
    answer
}
