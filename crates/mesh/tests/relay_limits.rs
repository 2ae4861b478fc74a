//! A relay at its limits: full, renewing what it granted, carrying what is large, cutting what is too much.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

mod support;

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::request_response::{self as rr, Message, ProtocolSupport};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{PeerId, StreamProtocol, Swarm, identify, ping, relay};
use std::time::{Duration, Instant};
use support::*;
use tokio::sync::mpsc;
use worldcompute_mesh::{
    Mesh, MeshConfig, MeshEvent, Multiaddr, Path, RelayLimits, ReservationInfo, ReservationState,
};
use worldcompute_proof::{self as proof, Cid};

#[derive(NetworkBehaviour)]
struct Client {
    /// Takes its circuits before libp2p does, if it refuses them.
    refuses: Toggle<rr::Behaviour<NoRoom>>,
    relay: relay::client::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

/// What becomes of a client's reservation.
#[derive(Debug)]
enum Fate {
    Granted(PeerId),
    Renewed(PeerId),
    /// Why, and how long after it was granted or renewed.
    Lost(String, Duration),
}

/// What says to a relay that there is no room for another circuit.
#[derive(Clone, Default)]
struct NoRoom;

impl rr::Codec for NoRoom {
    type Protocol = StreamProtocol;
    type Request = ();
    type Response = ();

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<()> {
        let mut length = [0];
        io.read_exact(&mut length).await?;
        io.read_exact(&mut vec![0; length[0].into()]).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        _: &mut T,
    ) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        _: &mut T,
        (): (),
    ) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// `{type: STATUS, status: RESOURCE_LIMIT_EXCEEDED}`
    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        (): (),
    ) -> io::Result<()> {
        io.write_all(&[5, 0x08, 1, 0x20, 0xc9, 0x01]).await?;
        io.close().await
    }
}

fn no_room() -> rr::Behaviour<NoRoom> {
    let stop = (relay::STOP_PROTOCOL_NAME, ProtocolSupport::Inbound);
    rr::Behaviour::new([stop], rr::Config::default())
}

fn client(refuses: bool) -> Swarm<Client> {
    foreign(|keypair, relay| Client {
        refuses: refuses.then(no_room).into(),
        relay,
        identify: identify::Behaviour::new(identify::Config::new(
            "/ipfs/0.1.0".to_owned(),
            keypair.public(),
        )),
        ping: ping::Behaviour::default(),
    })
}

/// Holds a reservation on the relay at `circuits`, and tells what becomes of it.
async fn hold(circuits: Multiaddr, fates: mpsc::UnboundedSender<Fate>) {
    hold_with(client(false), circuits, fates).await;
}

async fn hold_with(
    mut swarm: Swarm<Client>,
    circuits: Multiaddr,
    fates: mpsc::UnboundedSender<Fate>,
) {
    let me = *swarm.local_peer_id();
    swarm.listen_on(circuits).unwrap();
    let mut granted = Instant::now();
    loop {
        let fate = match swarm.select_next_some().await {
            SwarmEvent::Behaviour(ClientEvent::Relay(
                relay::client::Event::ReservationReqAccepted { renewal, .. },
            )) => {
                granted = Instant::now();
                match renewal {
                    true => Fate::Renewed(me),
                    false => Fate::Granted(me),
                }
            }
            SwarmEvent::Behaviour(ClientEvent::Refuses(rr::Event::Message {
                message: Message::Request { channel, .. },
                ..
            })) => {
                // Whoever asked may have gone.
                let refuses = swarm.behaviour_mut().refuses.as_mut();
                let _ = refuses.unwrap().send_response(channel, ());
                continue;
            }
            SwarmEvent::ListenerClosed { reason, .. } => {
                Fate::Lost(format!("{reason:?}"), granted.elapsed())
            }
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

async fn circuits_of(relay: &Mesh) -> Multiaddr {
    let (at, peer) = (tcp_of(relay).await, relay.peer_id());
    format!("{at}/p2p/{peer}/p2p-circuit").parse().unwrap()
}

/// Fills a relay with `count` clients, a few at a time: a network knocks so often at once and no more.
async fn filled(relay: &Mesh, count: usize) -> mpsc::UnboundedReceiver<Fate> {
    let circuits = circuits_of(relay).await;
    let (fates, mut happened) = mpsc::unbounded_channel();
    for batch in (0..count).collect::<Vec<_>>().chunks(16) {
        for _ in batch {
            tokio::spawn(hold(circuits.clone(), fates.clone()));
        }
        for _ in batch {
            let fate = within("a reservation", happened.recv()).await.unwrap();
            assert!(matches!(fate, Fate::Granted(_)), "{fate:?}");
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
    has_reserved(&donor, &other).await;
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
    let duration = Duration::from_secs(16);
    let full = limited(limits, duration).await;
    let mut held = filled(&full, 4).await;
    let mut renewed = std::collections::HashSet::new();
    while renewed.len() < 4 {
        match within("a renewal", held.recv()).await.unwrap() {
            Fate::Renewed(peer) => drop(renewed.insert(peer)),
            Fate::Granted(_) => panic!("asked for anew"),
            Fate::Lost(why, after) => panic!("{why} after {after:?} of {duration:?}"),
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
    let started = Instant::now();
    let fetch = submitter.fetch(donor.peer_id(), &cid, 64 << 20);
    let fetched = within("50 MiB", fetch).await.unwrap();
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

/// A stranger that holds a reservation on a relay; the task that it runs in, and what a peer calls it and where it is.
async fn stranger(
    relay: &Mesh,
    refuses: bool,
) -> (tokio::task::JoinHandle<()>, proof::PeerId, Multiaddr) {
    let (fates, mut happened) = mpsc::unbounded_channel();
    let circuits = circuits_of(relay).await;
    let running = tokio::spawn(hold_with(client(refuses), circuits.clone(), fates));
    let Some(Fate::Granted(peer)) = within("a reservation", happened.recv()).await else {
        panic!("no reservation");
    };
    tokio::spawn(async move { while happened.recv().await.is_some() {} });
    let at = format!("{circuits}/p2p/{peer}").parse().unwrap();
    (running, peer.to_string().parse().unwrap(), at)
}

/// Waits until a request gets to a node, over a circuit as a rule.
async fn gets_to(from: &Mesh, to: &Mesh) {
    within("room", async {
        while from.offer(to.peer_id(), an_offer()).await.is_err() {}
    })
    .await;
}

/// A relay that carries so many circuits of this machine, and two donors that serve behind it.
async fn carrying(circuits: usize) -> (Mesh, [Mesh; 2]) {
    let limits = RelayLimits {
        circuits_of_network: circuits,
        ..RelayLimits::default()
    };
    let relay = limited(limits, Duration::from_secs(120)).await;
    let (one, one_in) = hidden(2, &[&relay]).await;
    let (other, other_in) = hidden(3, &[&relay]).await;
    serve(one_in, Objects::new());
    serve(other_in, Objects::new());
    (relay, [one, other])
}

/// One that asks behind a relay, and knows these donors.
async fn submitter(seed: u8, relay: &Mesh, donors: &[Mesh]) -> Mesh {
    let (mesh, _inbound) = hidden(seed, &[relay]).await;
    for donor in donors {
        let external = donor.status().await.unwrap().external;
        mesh.add_peer(donor.peer_id(), external).await;
    }
    mesh
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_whose_destination_goes_makes_room_for_one_and_no_more() {
    logged();
    let (relay, donors) = carrying(2).await;
    let first = submitter(4, &relay, &donors).await;
    let second = submitter(5, &relay, &donors).await;
    let (running, stranger, at) = stranger(&relay, false).await;
    first.add_peer(stranger, vec![at]).await;
    let asked = first.offer(stranger, an_offer());
    assert!(within("an answer", asked).await.is_err(), "it is no donor");
    assert!(peer_info(&first, stranger).await.unwrap().connected);
    gets_to(&first, &donors[0]).await;

    // It goes without a word, so that its connection is the first thing to end.
    running.abort();
    gets_to(&second, &donors[0]).await;
    let asked = second.offer(donors[1].peer_id(), an_offer());
    assert!(within("an answer", asked).await.is_err(), "one too many");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_that_its_destination_has_no_room_for_makes_room_at_once() {
    logged();
    let (relay, donors) = carrying(1).await;
    let first = submitter(4, &relay, &donors).await;
    let (_running, stranger, at) = stranger(&relay, true).await;
    first.add_peer(stranger, vec![at]).await;
    let asked = first.offer(stranger, an_offer());
    let fault = within("a refusal", asked).await.unwrap_err();
    assert!(fault.message().contains("resource limit"), "{fault}");
    // Long before what is never heard of again is forgotten.
    let room = tokio::time::timeout(Duration::from_secs(30), gets_to(&first, &donors[0]));
    room.await.expect("room");
}
