//! From a circuit to a direct connection, and from nothing to a neighbour.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use support::*;
use tokio::sync::{broadcast, mpsc};
use worldcompute_mesh::wire::{DispatchStatus, Topic};
use worldcompute_mesh::{Inbound, Mesh, MeshConfig, MeshEvent, Multiaddr, Path, Request};
use worldcompute_proof::{PeerId, SigningKey};

/// Two nodes that listen, and know each other by the first circuit of the second only.
async fn apart(relay: &Mesh) -> (Mesh, Mesh, mpsc::Receiver<Inbound>) {
    let start = async |seed| {
        let mut config = MeshConfig::new(key(seed));
        config.listen = addresses(&LOOPBACK);
        config.bootstrap = dialled(relay).await;
        let (mesh, inbound) = Mesh::start(config).await.unwrap();
        within("a reservation", mesh.reserved(DEADLINE))
            .await
            .unwrap();
        (mesh, inbound)
    };
    let (submitter, _) = start(2).await;
    let (donor, inbound) = start(3).await;
    let circuit = |address: &Multiaddr| address.to_string().contains("p2p-circuit");
    let external = donor.status().await.unwrap().external.into_iter();
    submitter
        .add_peer(donor.peer_id(), external.filter(circuit).take(1).collect())
        .await;
    (submitter, donor, inbound)
}

async fn better_path(peer: PeerId, events: &mut broadcast::Receiver<MeshEvent>) -> Path {
    event("a better path", events, |event| match event {
        MeshEvent::PathChanged(of, path) if of == peer && path != Path::Relayed => Some(path),
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_gives_way_to_a_direct_connection_and_no_request_is_lost() {
    logged();
    let relay = relay(1, &LOOPBACK).await;
    let (submitter, donor, donor_in) = apart(&relay).await;
    serve(donor_in, Objects::new());
    let mut events = submitter.subscribe();
    // Requests without a pause, across the change of the path and the end of the circuit.
    let asking = tokio::spawn({
        let (submitter, peer) = (submitter.clone(), donor.peer_id());
        async move {
            let mut relayed = 0;
            loop {
                submitter.offer(peer, an_offer()).await.unwrap();
                let path = peer_info(&submitter, peer).await.unwrap().path;
                relayed += usize::from(path == Some(Path::Relayed));
                // One connection to the relay and one to the donor, or two where both dialled.
                let connections = submitter.status().await.unwrap().connections;
                if path != Some(Path::Relayed) && connections <= 3 {
                    return relayed;
                }
            }
        }
    });
    let path = better_path(donor.peer_id(), &mut events).await;
    let relayed = within("the requests", asking).await.unwrap();
    println!("{relayed} requests went over the circuit before the path was {path:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ends_tell_the_same_path_after_a_circuit() {
    logged();
    let relay = relay(1, &LOOPBACK).await;
    let (submitter, donor, donor_in) = apart(&relay).await;
    serve(donor_in, Objects::new());
    let (mut here, mut there) = (submitter.subscribe(), donor.subscribe());
    submitter.offer(donor.peer_id(), an_offer()).await.unwrap();
    let one = better_path(donor.peer_id(), &mut here).await;
    let other = better_path(submitter.peer_id(), &mut there).await;
    assert_eq!((one, other), (Path::HolePunched, Path::HolePunched));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_that_becomes_known_is_dialled_beside_addresses_where_nobody_answers() {
    logged();
    let relay = relay(1, &LOOPBACK).await;
    let (submitter, _submitter_in) = hidden(2, &[&relay]).await;
    let (donor, donor_in) = hidden(3, &[&relay]).await;
    serve(donor_in, Objects::new());
    // The donor's words get there at once: a silent address is not waited for without end.
    is_heard(&donor, &submitter).await;
    let (at, mut came) = silent().await;
    submitter.add_peer(donor.peer_id(), vec![at]).await;
    let asking = tokio::spawn({
        let (submitter, peer) = (submitter.clone(), donor.peer_id());
        async move { submitter.offer(peer, an_offer()).await }
    });
    // The dial is under way, and its other end stays open without a word.
    let dialled = came.wait_for(|count| *count > 0);
    within("the dial", dialled).await.unwrap();
    donor.announce(a_capacity()).await;
    let offer = within("an offer", asking).await.unwrap().unwrap();
    assert!(offer.accepted);
    let dials = submitter.status().await.unwrap().dials;
    assert_eq!(dials.timed_out, 0, "the silent address was waited for");
}

/// Waits until what a node says gets to another.
async fn is_heard(speaker: &Mesh, hearer: &Mesh) {
    let mut events = hearer.subscribe();
    let mut heard = std::pin::pin!(event("some words", &mut events, |event| match event {
        MeshEvent::Gossip { from, .. } => (from == speaker.peer_id()).then_some(()),
        _ => None,
    }));
    within("words that come through", async {
        loop {
            // Nobody hears it before the subscriptions are exchanged.
            let words = b"are you there?".to_vec();
            speaker.publish(Topic::Governance, words).await.unwrap();
            let patience = Duration::from_millis(600);
            if tokio::time::timeout(patience, &mut heard).await.is_ok() {
                return;
            }
        }
    })
    .await;
}

/// An address that leads to `to` and takes longer over it than any stranger nearby.
async fn far(to: SocketAddr) -> Multiaddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = at_port_of(listener.local_addr().unwrap());
    pass_through(listener, to.port(), Duration::from_millis(500));
    at
}

fn socket(address: &Multiaddr) -> Option<SocketAddr> {
    let text = address.to_string();
    let (ip, port) = text.strip_prefix("/ip4/")?.split_once("/tcp/")?;
    format!("{ip}:{}", port.split('/').next()?).parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_at_addresses_of_a_peer_do_not_keep_from_it_whoever_dials_its_others() {
    logged();
    let (submitter, _submitter_in) = open(2).await;
    let (donor, donor_in) = open(3).await;
    serve(donor_in, Objects::new());
    let tcp = dialled(&donor).await.iter().find_map(socket).unwrap();
    let mut at = vec![far(tcp).await];
    let strangers = [open(4).await, open(5).await, open(6).await];
    for (stranger, _) in &strangers {
        let there = stranger.status().await.unwrap().listen;
        at.extend(
            there
                .into_iter()
                .filter(|address| socket(address).is_some()),
        );
    }
    submitter.add_peer(donor.peer_id(), at).await;
    let offer = within("an offer", submitter.offer(donor.peer_id(), an_offer())).await;
    assert!(offer.unwrap().accepted);
    let dials = submitter.status().await.unwrap().dials;
    assert_eq!((dials.transport_errors, dials.succeeded), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_began_on_a_circuit_ends_on_it_beside_a_direct_connection() {
    logged();
    let relay = relay(1, &LOOPBACK).await;
    let (submitter, donor, mut donor_in) = apart(&relay).await;
    let mut events = submitter.subscribe();
    let mut task = tokio::spawn({
        let (submitter, peer) = (submitter.clone(), donor.peer_id());
        async move { submitter.dispatch(peer, a_task(vec![1])).await }
    });
    let held = within("the task", donor_in.recv()).await.unwrap();
    assert_eq!(held.path, Path::Relayed);
    better_path(donor.peer_id(), &mut events).await;
    // The time in which the circuit would end if nothing were under way on it.
    let early = tokio::time::timeout(Duration::from_secs(3), &mut task).await;
    assert!(early.is_err(), "the task ended early: {early:?}");
    let Request::Dispatch(request, responder) = held.request else {
        panic!("a task")
    };
    assert!(responder.send(ran(&request)));
    let reply = within("the reply", task).await.unwrap().unwrap();
    assert_eq!(reply.status, DispatchStatus::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_neighbours_find_each_other_without_any_configuration() {
    logged();
    if let Err(reason) = multicast() {
        println!("skipped: no multicast on this machine ({reason})");
        return;
    }
    // Others who test on this network at the same time are others.
    let start = || async {
        let mut config = MeshConfig::new(SigningKey::generate().unwrap());
        config.listen = addresses(&["/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1"]);
        config.mdns = true;
        Mesh::start(config).await.unwrap()
    };
    let (one, _one_in) = start().await;
    let mut events = one.subscribe();
    let started = Instant::now();
    let (two, two_in) = start().await;
    serve(two_in, Objects::new());
    let (mut discovered, mut up) = (None, None);
    while discovered.is_none() || up.is_none() {
        event("the neighbour", &mut events, |event| match event {
            MeshEvent::Discovered(peer) if peer == two.peer_id() => {
                discovered.get_or_insert(started.elapsed());
                Some(())
            }
            MeshEvent::PeerUp(peer, _) if peer == two.peer_id() => {
                up.get_or_insert(started.elapsed());
                Some(())
            }
            _ => None,
        })
        .await;
    }
    two.announce(a_capacity()).await;
    capacity_of(two.peer_id(), &mut events).await;
    assert!(
        within("an offer", one.offer(two.peer_id(), an_offer()))
            .await
            .unwrap()
            .accepted
    );
    println!(
        "discovered after {discovered:?}, connected after {up:?}, usable after {:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_nobody_can_dial_dials_out_of_a_circuit() {
    logged();
    let Some((_relay, at)) = relay_on_a_network().await else {
        println!("skipped: this machine has no address but those of its loopback");
        return;
    };
    let start = async |seed, listen: &[&str]| {
        let mut config = MeshConfig::new(key(seed));
        config.listen = addresses(listen);
        config.bootstrap = at.clone();
        let (mesh, inbound) = Mesh::start(config).await.unwrap();
        let reserved = mesh.reserved(DEADLINE);
        within("a reservation", reserved).await.unwrap();
        (mesh, inbound)
    };
    let (submitter, _submitter_in) = start(2, &["/ip4/0.0.0.0/tcp/0"]).await;
    // Without a listener it takes no part in punching holes.
    let (donor, donor_in) = start(3, &[]).await;
    serve(donor_in, Objects::new());
    let (mut here, mut there) = (submitter.subscribe(), donor.subscribe());
    let external = donor.status().await.unwrap().external;
    submitter.add_peer(donor.peer_id(), external).await;
    submitter.offer(donor.peer_id(), an_offer()).await.unwrap();
    let one = better_path(donor.peer_id(), &mut here).await;
    let other = better_path(submitter.peer_id(), &mut there).await;
    assert_eq!((one, other), (Path::HolePunched, Path::HolePunched));
    let offer = within("an offer", submitter.offer(donor.peer_id(), an_offer())).await;
    assert!(offer.unwrap().accepted);
}

const ALL_OF_IPV6: [&str; 2] = ["/ip6/::/tcp/0", "/ip6/::/udp/0/quic-v1"];

#[tokio::test(flavor = "multi_thread")]
async fn nodes_meet_by_ipv6_where_there_is_any() {
    logged();
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        println!("skipped: this machine has no IPv6");
        return;
    }
    let start = async |seed| {
        let mut config = MeshConfig::new(key(seed));
        config.listen = addresses(&[&LOOPBACK[..], &ALL_OF_IPV6].concat());
        Mesh::start(config).await.unwrap()
    };
    let (submitter, _submitter_in) = start(2).await;
    let (donor, donor_in) = start(3).await;
    serve(donor_in, Objects::new());
    let by_ipv6 = |address: &Multiaddr| address.to_string().starts_with("/ip6/::1/");
    let at = within("addresses of IPv6", async {
        loop {
            let mut listen = donor.status().await.unwrap().listen;
            listen.retain(by_ipv6);
            if listen.len() == ALL_OF_IPV6.len() {
                return listen;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    submitter.add_peer(donor.peer_id(), at).await;
    let offer = within("an offer", submitter.offer(donor.peer_id(), an_offer())).await;
    assert!(offer.unwrap().accepted);
    let known = peer_info(&submitter, donor.peer_id()).await.unwrap();
    assert!(known.addresses.iter().any(by_ipv6), "{known:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_starts_also_where_ipv6_cannot_be_listened_on() {
    logged();
    let taken =
        std::net::TcpListener::bind("[::]:0").or_else(|_| std::net::TcpListener::bind("0.0.0.0:0"));
    let port = taken.as_ref().unwrap().local_addr().unwrap().port();
    let mut config = MeshConfig::new(key(2));
    let taken_too = format!("/ip6/::/tcp/{port}");
    config.listen = addresses(&[LOOPBACK[0], &taken_too]);
    let (mesh, _inbound) = Mesh::start(config).await.unwrap();
    assert_eq!(mesh.status().await.unwrap().listen.len(), 1);
}
