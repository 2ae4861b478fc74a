//! Peers that nobody can dial, joined by relays.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

mod support;

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use support::*;
use worldcompute_fault::WcCode;
use worldcompute_mesh::wire::{DispatchStatus, LeaseMessage, Topic};
use worldcompute_mesh::{Mesh, MeshConfig, MeshEvent, Path, Request, ReservationState};
use worldcompute_proof::Cid;

#[tokio::test(flavor = "multi_thread")]
async fn two_peers_without_listeners_run_tasks_for_each_other_over_a_circuit() {
    logged();
    let relay = relay(1, &LOOPBACK).await;
    let (submitter, submitter_in) = hidden(2, &[&relay]).await;
    let mut events = submitter.subscribe();
    let (donor, donor_in) = hidden(3, &[&relay]).await;
    let (_a, _b) = (
        serve(submitter_in, Objects::new()),
        serve(donor_in, Objects::new()),
    );

    donor.announce(a_capacity()).await;
    let capacity = capacity_of(donor.peer_id(), &mut events).await;
    let circuits = capacity
        .addresses
        .iter()
        .map(|a| a.to_string().matches("/p2p-circuit").count());
    assert!(
        circuits.clone().count() > 0 && circuits.clone().all(|count| count == 1),
        "{capacity:?}"
    );

    let offer = within("an offer", submitter.offer(donor.peer_id(), an_offer()))
        .await
        .unwrap();
    assert!(offer.accepted);
    let reply = within(
        "a task",
        submitter.dispatch(donor.peer_id(), a_task(b"wasm".to_vec())),
    )
    .await
    .unwrap();
    assert_eq!(
        (reply.status, reply.output.as_slice()),
        (DispatchStatus::Succeeded, b"wasm".as_slice())
    );
    let lease = LeaseMessage::Heartbeat {
        lease_id: "lease-1".to_owned(),
    };
    assert!(
        within("a lease", submitter.lease(donor.peer_id(), lease))
            .await
            .unwrap()
            .known
    );
    let seen = peer_info(&submitter, donor.peer_id()).await.unwrap();
    assert_eq!((seen.connected, seen.path), (true, Some(Path::Relayed)));

    // And the other way round, on the connection that the submitter opened.
    let back = within(
        "an offer back",
        donor.offer(submitter.peer_id(), an_offer()),
    )
    .await
    .unwrap();
    assert!(back.accepted);
    let status = donor.status().await.unwrap();
    assert!(status.listen.is_empty(), "{:?}", status.listen);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_mebibytes_pass_through_a_circuit_and_match_their_name() {
    logged();
    let relay = relay(1, &LOOPBACK).await;
    let (submitter, _submitter_in) = hidden(2, &[&relay]).await;
    let (donor, donor_in) = hidden(3, &[&relay]).await;
    let object = bytes(10 * 1024 * 1024 + 1, 7);
    let cid = Cid::raw(&object);
    let _serving = serve(donor_in, Objects::from([(cid.to_string(), object.clone())]));
    submitter
        .add_peer(donor.peer_id(), donor.status().await.unwrap().external)
        .await;

    let fetched = within(
        "the object",
        submitter.fetch(donor.peer_id(), &cid, 64 << 20),
    )
    .await
    .unwrap();
    assert!(fetched == object);
    assert_eq!(
        peer_info(&submitter, donor.peer_id()).await.unwrap().path,
        Some(Path::Relayed)
    );

    let fault = submitter
        .fetch(donor.peer_id(), &cid, 10 << 20)
        .await
        .unwrap_err();
    assert_eq!(fault.code(), "content_too_large");
    let fault = submitter
        .fetch(donor.peer_id(), &Cid::raw(b"another"), 1)
        .await
        .unwrap_err();
    assert_eq!(fault.number(), Some(WcCode::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_is_dialled_by_every_address_of_its_relay() {
    logged();
    let relay = relay(1, &LOOPBACK[..1]).await;
    let (donor, donor_in) = hidden(2, &[&relay]).await;
    serve(donor_in, Objects::new());
    let (submitter, _nobody_asks) = Mesh::start(MeshConfig::new(key(3))).await.unwrap();
    // QUIC is dialled first, and waits for an answer there.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let nowhere = format!(
        "/ip4/127.0.0.1/udp/{}/quic-v1/p2p/{}/p2p-circuit/p2p/{}",
        silent.local_addr().unwrap().port(),
        relay.peer_id(),
        donor.peer_id()
    );
    let circuits = vec![relayed_by(&donor, &relay).await, nowhere.parse().unwrap()];
    submitter.add_peer(donor.peer_id(), circuits).await;
    let offered = submitter.offer(donor.peer_id(), an_offer());
    assert!(within("an answer", offered).await.unwrap().accepted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_goes_on_after_its_connection_was_cut() {
    logged();
    let relay_one = relay(1, &LOOPBACK).await;
    let relay_two = relay(2, &LOOPBACK).await;
    let (submitter, _submitter_in) = hidden(3, &[&relay_one, &relay_two]).await;
    let (donor, mut donor_in) = hidden(4, &[&relay_one, &relay_two]).await;
    both_reserved(&donor).await;
    let object = bytes(6 * 1024 * 1024, 9);
    let cid = Cid::raw(&object);
    let objects = Objects::from([(cid.to_string(), object.clone())]);
    let served = Arc::new(AtomicUsize::new(0));

    let first = relayed_by(&donor, &relay_one).await;
    submitter.add_peer(donor.peer_id(), vec![first]).await;
    // The third chunk finds its relay dead.
    let victim = relay_one.clone();
    let count = Arc::clone(&served);
    let _serving = tokio::spawn(async move {
        while let Some(inbound) = donor_in.recv().await {
            let Request::Content(request, responder) = inbound.request else {
                continue;
            };
            if count.fetch_add(1, Ordering::SeqCst) == 2 {
                victim.shutdown().await;
            }
            responder.send(part(&objects, &request).unwrap());
        }
    });
    let second = relayed_by(&donor, &relay_two).await;
    submitter.offer(donor.peer_id(), an_offer()).await.ok();
    submitter.add_peer(donor.peer_id(), vec![second]).await;
    let fetched = within(
        "the object",
        submitter.fetch(donor.peer_id(), &cid, 64 << 20),
    )
    .await
    .unwrap();
    assert!(fetched == object);
    let served = served.load(Ordering::SeqCst);
    assert!(served > 6, "nothing was asked for twice");
    assert!(served <= 6 + 4, "what was there was asked for again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_donor_behind_the_same_relay_is_reached_by_what_it_announces() {
    logged();
    let relay = relay(1, &LOOPBACK).await;
    let (submitter, _submitter_in) = hidden(2, &[&relay]).await;
    let mut events = submitter.subscribe();
    let (one, one_in) = hidden(3, &[&relay]).await;
    let (two, two_in) = hidden(4, &[&relay]).await;
    let _serving = (serve(one_in, Objects::new()), serve(two_in, Objects::new()));
    one.announce(a_capacity()).await;
    two.announce(a_capacity()).await;
    let mut missing = vec![one.peer_id(), two.peer_id()];
    while !missing.is_empty() {
        let from = event("a capacity", &mut events, |event| match event {
            MeshEvent::Capacity(from, _) => Some(from),
            _ => None,
        })
        .await;
        missing.retain(|peer| *peer != from);
    }
    for donor in [&one, &two] {
        assert!(
            within("an offer", submitter.offer(donor.peer_id(), an_offer()))
                .await
                .unwrap()
                .accepted
        );
    }
}

/// A relay of today has to pass on what later versions will say, or they could not rely on it.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_passes_on_unread_what_is_said_on_topics_that_are_reserved() {
    logged();
    let relay = relay(1, &LOOPBACK).await;
    let (speaker, _speaker_in) = hidden(2, &[&relay]).await;
    let (hearer, _hearer_in) = hidden(3, &[&relay]).await;
    for topic in [Topic::KillSwitch, Topic::Bans, Topic::Governance] {
        let mut events = hearer.subscribe();
        let (from, words) = within("the words", async {
            loop {
                // Nobody hears it before the subscriptions are exchanged.
                let words = topic.as_str().as_bytes().to_vec();
                speaker.publish(topic, words).await.unwrap();
                let next = tokio::time::timeout(Duration::from_millis(600), events.recv()).await;
                if let Ok(Ok(MeshEvent::Gossip {
                    topic: on,
                    from,
                    bytes,
                })) = next
                    && on == topic
                {
                    return (from, bytes);
                }
            }
        })
        .await;
        assert_eq!(from, speaker.peer_id());
        assert_eq!(&*words, topic.as_str().as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_learns_of_a_donor_that_announced_long_before() {
    logged();
    let relay = relay(1, &LOOPBACK).await;
    let (donor, _donor_in) = hidden(2, &[&relay]).await;
    let (witness, _witness_in) = hidden(3, &[&relay]).await;
    let mut seen = witness.subscribe();
    donor.announce(a_capacity()).await;
    capacity_of(donor.peer_id(), &mut seen).await;

    let started = std::time::Instant::now();
    let (newcomer, _newcomer_in) = hidden(4, &[&relay]).await;
    let mut events = newcomer.subscribe();
    if peer_info(&newcomer, donor.peer_id())
        .await
        .and_then(|info| info.capacity)
        .is_none()
    {
        capacity_of(donor.peer_id(), &mut events).await;
    }
    println!(
        "a newcomer knew the donor's capacity after {:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn reservations_are_held_on_two_relays_and_a_third_replaces_a_dead_one() {
    logged();
    let relays = [
        relay(1, &LOOPBACK).await,
        relay(2, &LOOPBACK).await,
        relay(3, &LOOPBACK).await,
    ];
    let (donor, _donor_in) = hidden(4, &[&relays[0], &relays[1], &relays[2]]).await;
    let held = both_reserved(&donor).await;
    assert_eq!(held.len(), 2);
    let mut events = donor.subscribe();
    let victim = relays
        .iter()
        .find(|relay| relay.peer_id() == held[0])
        .unwrap();
    victim.shutdown().await;
    assert_eq!(
        reservation(ReservationState::Lost, &mut events).await,
        held[0]
    );
    let third = reservation(ReservationState::Active, &mut events).await;
    assert!(!held.contains(&third));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_comes_back_with_its_relay_and_the_peer_id_stays() {
    logged();
    let first = relay(1, &LOOPBACK).await;
    let home = first.status().await.unwrap().listen;
    let (donor, donor_in) = hidden(2, &[&first]).await;
    let _serving = serve(donor_in, Objects::new());
    let identity = donor.peer_id();
    let mut events = donor.subscribe();
    first.shutdown().await;
    reservation(ReservationState::Lost, &mut events).await;
    reservation(ReservationState::Requesting, &mut events).await;

    let mut config = MeshConfig::new(key(1));
    config.listen = home;
    config.relay_server = true;
    let again = start_again(&config).await;
    let lost = std::time::Instant::now();
    assert_eq!(
        reservation(ReservationState::Active, &mut events).await,
        again.peer_id()
    );
    println!(
        "the reservation was back {:?} after the relay",
        lost.elapsed()
    );
    assert_eq!(donor.peer_id(), identity);

    let (submitter, _submitter_in) = hidden(3, &[&again]).await;
    submitter
        .add_peer(identity, donor.status().await.unwrap().external)
        .await;
    assert!(
        within("an offer", submitter.offer(identity, an_offer()))
            .await
            .unwrap()
            .accepted
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_on_through_the_second_relay_when_the_first_dies() {
    logged();
    let (one, two) = (relay(1, &LOOPBACK).await, relay(2, &LOOPBACK).await);
    let (submitter, _submitter_in) = hidden(3, &[&one, &two]).await;
    let mut events = submitter.subscribe();
    let (donor, donor_in) = hidden(4, &[&one, &two]).await;
    let _serving = serve(donor_in, Objects::new());
    both_reserved(&donor).await;
    donor.announce(a_capacity()).await;
    event("both circuits", &mut events, |event| match event {
        MeshEvent::Capacity(_, capacity) => {
            let text = format!("{:?}", capacity.addresses);
            [&one, &two]
                .iter()
                .all(|relay| text.contains(&relay.peer_id().to_string()))
                .then_some(())
        }
        _ => None,
    })
    .await;
    assert!(
        submitter
            .offer(donor.peer_id(), an_offer())
            .await
            .unwrap()
            .accepted
    );
    one.shutdown().await;
    assert!(
        within("an offer", submitter.offer(donor.peer_id(), an_offer()))
            .await
            .unwrap()
            .accepted
    );
    two.shutdown().await;
    event("the donor's end", &mut events, |event| match event {
        MeshEvent::PeerDown(peer) if peer == donor.peer_id() => Some(()),
        _ => None,
    })
    .await;
    let fault = within("a refusal", submitter.offer(donor.peer_id(), an_offer()))
        .await
        .unwrap_err();
    assert_eq!(
        fault.number(),
        Some(WcCode::DialFailureWithDetail),
        "{fault}"
    );
    assert!(
        fault.message().contains("/p2p-circuit (circuit): "),
        "{fault}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_donor_that_restarts_with_its_key_is_reached_again_under_the_same_id() {
    logged();
    let relay = relay(1, &LOOPBACK).await;
    let (submitter, _submitter_in) = hidden(2, &[&relay]).await;
    let mut events = submitter.subscribe();
    let (donor, donor_in) = hidden(3, &[&relay]).await;
    let serving = serve(donor_in, Objects::new());
    donor.announce(a_capacity()).await;
    capacity_of(donor.peer_id(), &mut events).await;
    assert!(
        submitter
            .offer(donor.peer_id(), an_offer())
            .await
            .unwrap()
            .accepted
    );
    donor.shutdown().await;
    serving.await.unwrap();
    event("the donor's end", &mut events, |event| match event {
        MeshEvent::PeerDown(peer) if peer == donor.peer_id() => Some(()),
        _ => None,
    })
    .await;

    let (again, again_in) = hidden(3, &[&relay]).await;
    let _serving = serve(again_in, Objects::new());
    assert_eq!(again.peer_id(), donor.peer_id());
    again.announce(a_capacity()).await;
    capacity_of(again.peer_id(), &mut events).await;
    assert!(
        within("an offer", submitter.offer(again.peer_id(), an_offer()))
            .await
            .unwrap()
            .accepted
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_is_renewed_before_it_ends_and_is_never_missing() {
    let mut config = MeshConfig::new(key(1));
    config.listen = addresses(&LOOPBACK);
    config.relay_server = true;
    config.reservation_duration = Duration::from_secs(4);
    let (relay, _relay_in) = Mesh::start(config).await.unwrap();
    let (donor, _donor_in) = hidden(2, &[&relay]).await;
    let mut events = donor.subscribe();
    let renewals = event("two renewals", &mut events, |event| match event {
        MeshEvent::Reservation(info) => {
            use ReservationState::{Active, Renewing};
            assert!(matches!(info.state, Active | Renewing), "{info:?}");
            (info.renewals == 2).then_some(info.renewals)
        }
        _ => None,
    })
    .await;
    let status = donor.status().await.unwrap();
    assert_eq!(status.reservations[0].renewals, renewals);
    assert!(
        status
            .external
            .iter()
            .any(|address| address.to_string().contains("p2p-circuit"))
    );
}

#[test]
fn a_donor_that_lost_power_is_reached_again_under_the_same_id() {
    logged();
    let world = tokio::runtime::Runtime::new().unwrap();
    let (relay, submitter, mut events, _submitter_in) = world.block_on(async {
        let relay = relay(1, &LOOPBACK).await;
        let (submitter, submitter_in) = hidden(2, &[&relay]).await;
        let events = submitter.subscribe();
        (relay, submitter, events, submitter_in)
    });
    let life = |relay: &Mesh| {
        let machine = tokio::runtime::Runtime::new().unwrap();
        let donor = machine.block_on(async {
            let (donor, donor_in) = hidden(3, &[relay]).await;
            serve(donor_in, Objects::new());
            donor.announce(a_capacity()).await;
            donor
        });
        (machine, donor.peer_id(), donor)
    };
    let (machine, identity, donor) = life(&relay);
    world.block_on(async {
        capacity_of(identity, &mut events).await;
        assert!(
            submitter
                .offer(identity, an_offer())
                .await
                .unwrap()
                .accepted
        );
    });
    // Its tasks end without another word: no farewell, no closed stream.
    machine.shutdown_background();
    drop(donor);

    let started = std::time::Instant::now();
    let (_machine, again, _donor) = life(&relay);
    assert_eq!(again, identity);
    world.block_on(async {
        within("an offer", async {
            while submitter.offer(identity, an_offer()).await.is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    });
    println!("reached again after {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_relay_the_fault_names_every_cause() {
    let mut config = MeshConfig::new(key(1));
    let nobody = key(9).peer_id();
    config.bootstrap = vec![
        format!("/ip4/127.0.0.1/tcp/1/p2p/{nobody}")
            .parse()
            .unwrap(),
    ];
    let (mesh, _inbound) = Mesh::start(config).await.unwrap();
    let mut events = mesh.subscribe();
    reservation_failed(&mut events).await;
    let fault = mesh.reserved(std::time::Duration::ZERO).await.unwrap_err();
    assert_eq!(
        (fault.number(), fault.exit_code()),
        (Some(WcCode::ReservationAcquisitionFailed), 65)
    );
    assert!(fault.message().contains("/ip4/127.0.0.1/tcp/1"), "{fault}");
    assert!(
        fault.message().to_lowercase().contains("refused"),
        "{fault}"
    );
    let dials = mesh.status().await.unwrap().dials;
    assert!(
        dials.transport_errors >= 1 && dials.succeeded == 0,
        "{dials:?}"
    );
}

async fn reservation_failed(events: &mut tokio::sync::broadcast::Receiver<MeshEvent>) {
    event("a failed attempt", events, |event| match event {
        MeshEvent::Reservation(info) => info.last_error.map(|_| ()),
        _ => None,
    })
    .await;
}

/// Waits until a node holds two reservations, and returns their relays.
async fn both_reserved(mesh: &Mesh) -> Vec<worldcompute_proof::PeerId> {
    let mut events = mesh.subscribe();
    loop {
        let reservations = mesh.status().await.unwrap().reservations;
        let held: Vec<_> = reservations
            .iter()
            .filter(|info| info.state == ReservationState::Active)
            .map(|info| info.relay)
            .collect();
        if held.len() >= 2 {
            return held;
        }
        reservation(ReservationState::Active, &mut events).await;
    }
}

async fn relayed_by(mesh: &Mesh, relay: &Mesh) -> worldcompute_mesh::Multiaddr {
    let relay = format!("/p2p/{}/p2p-circuit", relay.peer_id());
    let external = mesh.status().await.unwrap().external;
    external
        .into_iter()
        .find(|address| address.to_string().contains(&relay))
        .unwrap()
}
