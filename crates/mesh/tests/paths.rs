//! From a circuit to a direct connection, and from nothing to a neighbour.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

mod support;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use support::*;
use worldcompute_mesh::{Mesh, MeshConfig, MeshEvent, Path};

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_gives_way_to_a_direct_connection_and_no_request_is_lost() {
    logged();
    let relay = relay(1, &LOOPBACK).await;
    let start = |seed| {
        let relay = &relay;
        async move {
            let mut config = MeshConfig::new(key(seed));
            config.listen = addresses(&LOOPBACK);
            config.bootstrap = dialled(relay).await;
            let (mesh, inbound) = Mesh::start(config).await.unwrap();
            within("a reservation", mesh.reserved(DEADLINE))
                .await
                .unwrap();
            (mesh, inbound)
        }
    };
    let (submitter, _submitter_in) = start(2).await;
    let (donor, donor_in) = start(3).await;
    serve(donor_in, Objects::new());
    let mut events = submitter.subscribe();
    let circuits = donor.status().await.unwrap().external.into_iter();
    let circuit = circuits
        .filter(|address| address.to_string().contains("p2p-circuit"))
        .take(1)
        .collect();
    submitter.add_peer(donor.peer_id(), circuit).await;

    // Requests without a pause, across the change of the path.
    let asking = tokio::spawn({
        let (submitter, peer) = (submitter.clone(), donor.peer_id());
        async move {
            let mut answered = 0;
            loop {
                submitter.offer(peer, an_offer()).await.unwrap();
                answered += 1;
                let info = peer_info(&submitter, peer).await.unwrap();
                if info.path != Some(Path::Relayed) && answered > 100 {
                    return answered;
                }
            }
        }
    });
    let path = event("a better path", &mut events, |event| match event {
        MeshEvent::PathChanged(peer, path) if peer == donor.peer_id() && path != Path::Relayed => {
            Some(path)
        }
        _ => None,
    })
    .await;
    let answered = within("the requests", asking).await.unwrap();
    println!("{answered} requests answered, the path is {path:?}");
    within("the end of the circuit", async {
        // One connection to the relay, and direct ones to the donor.
        while peer_info(&submitter, donor.peer_id()).await.unwrap().path == Some(Path::Relayed) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Whether multicast works between two sockets on this machine's network. mDNS cannot work where it does not.
fn multicast() -> Result<(), String> {
    let group = Ipv4Addr::new(239, 255, 77, 77);
    let reason = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let receiver = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(reason("bind"))?;
    receiver
        .join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED)
        .map_err(reason("join a group"))?;
    receiver
        .set_read_timeout(Some(Duration::from_secs(2)))
        .map_err(reason("set a timeout"))?;
    let to = SocketAddr::from((
        group,
        receiver.local_addr().map_err(reason("address"))?.port(),
    ));
    let sender = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(reason("bind"))?;
    sender
        .send_to(b"anybody?", to)
        .map_err(reason("send to a group"))?;
    receiver
        .recv_from(&mut [0; 16])
        .map_err(reason("hear the group"))?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_neighbours_find_each_other_without_any_configuration() {
    logged();
    if let Err(reason) = multicast() {
        println!("skipped: no multicast on this machine ({reason})");
        return;
    }
    let start = |seed| async move {
        let mut config = MeshConfig::new(key(seed));
        config.listen = addresses(&["/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1"]);
        config.mdns = true;
        Mesh::start(config).await.unwrap()
    };
    let (one, _one_in) = start(101).await;
    let mut events = one.subscribe();
    let started = Instant::now();
    let (two, two_in) = start(102).await;
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
