//! A relay at its limits: full, renewing what it granted, carrying what is large, cutting what is too much.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

mod support;

use futures::StreamExt;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{PeerId, Swarm, SwarmBuilder, identify, noise, ping, relay, tcp, yamux};
use std::time::Duration;
use support::*;
use tokio::sync::mpsc;
use worldcompute_mesh::{
    Mesh, MeshConfig, MeshEvent, Multiaddr, Path, RelayLimits, ReservationInfo, ReservationState,
};
use worldcompute_proof::Cid;

#[derive(NetworkBehaviour)]
struct Client {
    relay: relay::client::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

/// What becomes of a client's reservation.
#[derive(Debug)]
enum Fate {
    Granted,
    Renewed(PeerId),
    Lost(String),
}

fn client() -> Swarm<Client> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )
        .unwrap()
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|keypair, relay| Client {
            relay,
            identify: identify::Behaviour::new(identify::Config::new(
                "/ipfs/0.1.0".to_owned(),
                keypair.public(),
            )),
            ping: ping::Behaviour::default(),
        })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(DEADLINE))
        .build()
}

/// Holds a reservation on the relay at `circuits`, and tells what becomes of it.
async fn hold(circuits: Multiaddr, fates: mpsc::UnboundedSender<Fate>) {
    let mut swarm = client();
    let me = *swarm.local_peer_id();
    swarm.listen_on(circuits).unwrap();
    loop {
        let fate = match swarm.select_next_some().await {
            SwarmEvent::Behaviour(ClientEvent::Relay(
                relay::client::Event::ReservationReqAccepted { renewal, .. },
            )) => match renewal {
                true => Fate::Renewed(me),
                false => Fate::Granted,
            },
            SwarmEvent::ListenerClosed { reason, .. } => Fate::Lost(format!("{reason:?}")),
            _ => continue,
        };
        if fates.send(fate).is_err() {
            return;
        }
    }
}

async fn limited(limits: RelayLimits, duration: Duration) -> Mesh {
    let mut config = MeshConfig::new(key(1));
    config.listen = addresses(&LOOPBACK);
    config.relay_server = true;
    config.relay_limits = limits;
    config.reservation_duration = duration;
    Mesh::start(config).await.unwrap().0
}

async fn tcp_of(mesh: &Mesh) -> Multiaddr {
    let all = dialled(mesh).await.into_iter();
    let mut tcp = all.filter(|address| address.to_string().contains("/tcp/"));
    tcp.next().unwrap()
}

/// Fills a relay with `count` clients, a few at a time: a network knocks so often at once and no more.
async fn filled(relay: &Mesh, count: usize) -> mpsc::UnboundedReceiver<Fate> {
    let circuits: Multiaddr = format!("{}/p2p-circuit", tcp_of(relay).await)
        .parse()
        .unwrap();
    let (fates, mut happened) = mpsc::unbounded_channel();
    for batch in (0..count).collect::<Vec<_>>().chunks(16) {
        for _ in batch {
            tokio::spawn(hold(circuits.clone(), fates.clone()));
        }
        for _ in batch {
            let fate = within("a reservation", happened.recv()).await.unwrap();
            assert!(matches!(fate, Fate::Granted), "{fate:?}");
        }
    }
    happened
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_serves_128_at_once_and_the_next_is_told_why_and_finds_another() {
    logged();
    let limits = RelayLimits {
        reservations: 128,
        ..RelayLimits::default()
    };
    let full = limited(limits, Duration::from_secs(120)).await;
    let mut held = filled(&full, 128).await;

    // Another relay says to the full one that it is there.
    let mut config = MeshConfig::new(key(2));
    config.listen = addresses(&LOOPBACK);
    config.relay_server = true;
    config.bootstrap = dialled(&full).await;
    let (other, _other_in) = Mesh::start(config).await.unwrap();

    let mut config = MeshConfig::new(key(3));
    config.bootstrap = dialled(&full).await;
    let (donor, _donor_in) = Mesh::start(config).await.unwrap();
    let mut events = donor.subscribe();
    let reason = event("a refusal", &mut events, |event| match event {
        MeshEvent::Reservation(info) if info.relay == full.peer_id() => refusal(info),
        _ => None,
    })
    .await;
    assert!(reason.contains("resource limit exceeded"), "{reason}");
    while reservation(ReservationState::Active, &mut events).await != other.peer_id() {}
    assert!(held.try_recv().is_err(), "all 128 are still held");
}

fn refusal(info: ReservationInfo) -> Option<String> {
    (info.state == ReservationState::Lost)
        .then_some(info.last_error)
        .flatten()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_relay_renews_what_it_granted() {
    logged();
    let limits = RelayLimits {
        reservations: 4,
        ..RelayLimits::default()
    };
    let full = limited(limits, Duration::from_secs(12)).await;
    let mut held = filled(&full, 4).await;
    let mut renewed = std::collections::HashSet::new();
    while renewed.len() < 4 {
        match within("a renewal", held.recv()).await.unwrap() {
            Fate::Renewed(peer) => drop(renewed.insert(peer)),
            Fate::Granted => panic!("asked for anew"),
            Fate::Lost(why) => panic!("{why}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_mebibytes_pass_through_a_circuit() {
    logged();
    let relay = limited(RelayLimits::default(), Duration::from_secs(120)).await;
    let (submitter, _submitter_in) = hidden(2, &[&relay]).await;
    let (donor, donor_in) = hidden(3, &[&relay]).await;
    let object = bytes(50 << 20, 7);
    let cid = Cid::raw(&object);
    let _serving = serve(donor_in, Objects::from([(cid.to_string(), object.clone())]));
    let external = donor.status().await.unwrap().external;
    submitter.add_peer(donor.peer_id(), external).await;
    let started = std::time::Instant::now();
    let fetched = submitter
        .fetch(donor.peer_id(), &cid, 64 << 20)
        .await
        .unwrap();
    assert!(fetched == object);
    println!("50 MiB through a circuit took {:?}", started.elapsed());
    let path = peer_info(&submitter, donor.peer_id()).await.unwrap().path;
    assert_eq!(path, Some(Path::Relayed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_that_carries_too_much_is_cut_and_the_next_one_serves() {
    logged();
    let limits = RelayLimits {
        circuit_bytes: 2 << 20,
        ..RelayLimits::default()
    };
    let relay = limited(limits, Duration::from_secs(120)).await;
    let (submitter, _submitter_in) = hidden(2, &[&relay]).await;
    let (donor, donor_in) = hidden(3, &[&relay]).await;
    let _serving = serve(donor_in, Objects::new());
    let external = donor.status().await.unwrap().external;
    submitter.add_peer(donor.peer_id(), external).await;
    let large = submitter.dispatch(donor.peer_id(), a_task(bytes(4 << 20, 1)));
    let fault = within("the end of the circuit", large).await.unwrap_err();
    assert_eq!(fault.code(), "connection_lost", "{fault}");
    let small = submitter.dispatch(donor.peer_id(), a_task(bytes(1 << 10, 1)));
    assert!(within("a small task", small).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_network_has_its_share_of_circuits_and_one_that_goes_makes_room() {
    logged();
    let limits = RelayLimits {
        circuits_of_network: 1,
        ..RelayLimits::default()
    };
    let relay = limited(limits, Duration::from_secs(120)).await;
    let (donor, donor_in) = hidden(2, &[&relay]).await;
    let _serving = serve(donor_in, Objects::new());
    let external = donor.status().await.unwrap().external;
    let (first, _first_in) = hidden(3, &[&relay]).await;
    let (second, _second_in) = hidden(4, &[&relay]).await;
    for mesh in [&first, &second] {
        mesh.add_peer(donor.peer_id(), external.clone()).await;
    }
    let answered = |mesh: Mesh| {
        let donor = donor.peer_id();
        async move { within("an answer", mesh.offer(donor, an_offer())).await }
    };
    answered(first.clone()).await.unwrap();
    answered(second.clone()).await.unwrap_err();
    // The refusal may get there before the relay has counted it.
    within("the relay to count it", async {
        while relay.status().await.unwrap().inbound.circuits_refused == 0 {}
    })
    .await;
    first.shutdown().await;
    within("room for the second", async {
        while answered(second.clone()).await.is_err() {}
    })
    .await;
}
