//! Peers that stay connected, on a network that begins to let through what it did not.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

mod support;

use std::net::Ipv4Addr;
use std::time::Duration;

use support::*;
use tokio::sync::mpsc;
use worldcompute_mesh::wire::{DispatchReply, DispatchRequest, DispatchStatus};
use worldcompute_mesh::{
    Inbound, Mesh, MeshConfig, MeshEvent, Multiaddr, Path, Request, Responder, Transport,
};

/// Before a better connection is tried first.
const SOON: Duration = Duration::from_millis(200);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// A node that tries again soon, and has a reservation where there is a relay.
async fn node(
    seed: u8,
    listen: &[&str],
    external: Vec<Multiaddr>,
    relay: &[Multiaddr],
) -> (Mesh, mpsc::Receiver<Inbound>) {
    let mut config = MeshConfig::new(key(seed));
    config.listen = addresses(listen);
    config.external = external;
    config.bootstrap = relay.to_vec();
    config.upgrade_after = SOON;
    let (mesh, inbound) = Mesh::start(config).await.unwrap();
    if !relay.is_empty() {
        let reserved = mesh.reserved(DEADLINE);
        within("a reservation", reserved).await.unwrap();
    }
    (mesh, inbound)
}

/// Where a node is reached through its relay.
async fn circuits(mesh: &Mesh) -> Vec<Multiaddr> {
    let mut external = mesh.status().await.unwrap().external;
    external.retain(|address| address.to_string().contains("p2p-circuit"));
    external
}

/// Takes offers, and passes tasks on to whoever answers them.
fn serve_all_but_tasks(
    mut inbound: mpsc::Receiver<Inbound>,
) -> mpsc::UnboundedReceiver<(Box<DispatchRequest>, Responder<DispatchReply>)> {
    let (tasks, passed_on) = mpsc::unbounded_channel();
    let (others, served) = mpsc::channel(64);
    serve(served, Objects::new());
    tokio::spawn(async move {
        while let Some(asked) = inbound.recv().await {
            match asked.request {
                Request::Dispatch(task, responder) => tasks.send((task, responder)).unwrap(),
                _ => others.send(asked).await.unwrap(),
            }
        }
    });
    passed_on
}

fn ip(address: &Multiaddr) -> Ipv4Addr {
    let text = address.to_string();
    text.split('/').nth(2).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_gives_way_when_an_address_of_the_peer_begins_to_answer() {
    logged();
    let Some((_relay, at)) = relay_on_a_network().await else {
        println!("skipped: this machine has no address but those of its loopback");
        return;
    };
    let (closed, gate) = refusing_at(ip(at.first().unwrap()));
    let inside = ["/ip4/127.0.0.1/tcp/0"];
    let (donor, donor_in) = node(3, &inside, vec![gate.clone()], &at).await;
    serve(donor_in, Objects::new());
    // Without a listener it takes no part in punching holes.
    let (submitter, _submitter_in) = node(2, &[], Vec::new(), &at).await;
    let mut events = submitter.subscribe();
    submitter
        .add_peer(donor.peer_id(), circuits(&donor).await)
        .await;
    submitter.offer(donor.peer_id(), an_offer()).await.unwrap();
    within("an address that refuses", async {
        while submitter.status().await.unwrap().dials.transport_errors == 0 {
            tokio::time::sleep(LOOK).await;
        }
    })
    .await;
    let seen = peer_info(&submitter, donor.peer_id()).await.unwrap();
    assert_eq!(seen.path, Some(Path::Relayed));

    let port = donor.status().await.unwrap().listen;
    let port = port.first().unwrap().to_string();
    let port = port.rsplit('/').next().unwrap().parse().unwrap();
    pass_through(closed.listen(64).unwrap(), port, Duration::ZERO);
    event("a better path", &mut events, |event| match event {
        MeshEvent::PathChanged(peer, Path::HolePunched) if peer == donor.peer_id() => Some(()),
        _ => None,
    })
    .await;
    within("the end of the circuit", async {
        while submitter.status().await.unwrap().connections > 2 {
            tokio::time::sleep(LOOK).await;
        }
    })
    .await;
    let offer = within("an offer", submitter.offer(donor.peer_id(), an_offer())).await;
    assert!(offer.unwrap().accepted);
}

#[tokio::test(flavor = "multi_thread")]
async fn circuits_are_made_anew_without_end_or_number_and_no_request_is_lost() {
    logged();
    let relay = relay(1, &["/ip4/127.0.0.1/tcp/0"]).await;
    let at = dialled(&relay).await;
    // By QUIC nobody sees where they are, for the relay has none: no hole can be punched.
    let quic = ["/ip4/127.0.0.1/udp/0/quic-v1"];
    let (donor, donor_in) = node(3, &quic, Vec::new(), &at).await;
    let mut tasks = serve_all_but_tasks(donor_in);
    let (submitter, _submitter_in) = node(2, &quic, Vec::new(), &at).await;
    submitter
        .add_peer(donor.peer_id(), circuits(&donor).await)
        .await;
    let task = tokio::spawn({
        let (submitter, peer) = (submitter.clone(), donor.peer_id());
        async move { submitter.dispatch(peer, a_task(vec![1])).await }
    });
    let (task_there, answer) = within("the task", tasks.recv()).await.unwrap();
    let until_dialled = async |dials| {
        loop {
            submitter.offer(donor.peer_id(), an_offer()).await.unwrap();
            let status = submitter.status().await.unwrap();
            assert!(status.connections <= 3, "the relay and two circuits");
            if status.dials.succeeded >= dials {
                return;
            }
        }
    };
    within("a second circuit", until_dialled(3)).await;
    // Longer than a circuit lasts on which nothing is under way.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(answer.send(ran(&task_there)), "its circuit was closed");
    let reply = within("the reply", task).await.unwrap().unwrap();
    assert_eq!(reply.status, DispatchStatus::Succeeded);
    within("circuits that are made anew", until_dialled(6)).await;
    let seen = peer_info(&submitter, donor.peer_id()).await.unwrap();
    assert_eq!(seen.path, Some(Path::Relayed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_was_dialled_over_tcp_is_soon_connected_over_quic() {
    logged();
    let (donor, donor_in) = node(3, &LOOPBACK, Vec::new(), &[]).await;
    serve(donor_in, Objects::new());
    let (submitter, _submitter_in) = node(2, &[], Vec::new(), &[]).await;
    let tcp = listens_by(&donor, "tcp").await;
    submitter.add_peer(donor.peer_id(), vec![tcp]).await;
    submitter.offer(donor.peer_id(), an_offer()).await.unwrap();
    within("one connection by QUIC", async {
        loop {
            let seen = peer_info(&submitter, donor.peer_id()).await.unwrap();
            let connections = submitter.status().await.unwrap().connections;
            if seen.transport == Some(Transport::Quic) && connections == 1 {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    })
    .await;
    let dials = submitter.status().await.unwrap().dials;
    assert_eq!(dials.succeeded, 2, "first by TCP, then by QUIC: {dials:?}");
    submitter.offer(donor.peer_id(), an_offer()).await.unwrap();
}
