//! A peer that is banned is neither spoken to nor heard, whichever way it comes, until it is banned no more.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

mod support;

use support::*;
use tokio::sync::mpsc;
use worldcompute_mesh::{Inbound, Mesh, MeshConfig, MeshEvent};
use worldcompute_proof::PeerId;

async fn is_served(asking: &Mesh, asked: &Mesh) -> bool {
    let offer = within("an answer", asking.offer(asked.peer_id(), an_offer())).await;
    offer.is_ok_and(|reply| reply.accepted)
}

async fn down(what: &str, of: PeerId, at: &Mesh) {
    within(what, async {
        while peer_info(at, of).await.is_some_and(|info| info.connected) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Bans one of two that serve each other, lets it in again, and expects to see that each time, from both sides.
async fn barred(host: &Mesh, guest: &Mesh) {
    assert!(is_served(guest, host).await && is_served(host, guest).await);
    host.ban(guest.peer_id()).await;
    down("the end of the connections", guest.peer_id(), host).await;
    assert!(!is_served(guest, host).await && !is_served(host, guest).await);
    assert!(!peer_info(host, guest.peer_id()).await.unwrap().connected);
    host.unban(guest.peer_id()).await;
    within("the host's welcome", async {
        while !is_served(guest, host).await {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(is_served(host, guest).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_peer_is_refused_directly_in_both_directions() {
    logged();
    let (host, host_in) = open(1).await;
    let (guest, guest_in) = open(2).await;
    let _serving = (
        serve(host_in, Objects::new()),
        serve(guest_in, Objects::new()),
    );
    guest.add_peer(host.peer_id(), dialled(&host).await).await;
    host.add_peer(guest.peer_id(), dialled(&guest).await).await;
    barred(&host, &guest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_peer_is_refused_over_circuits_in_both_directions() {
    logged();
    let relay = relay(3, &LOOPBACK).await;
    let (host, host_in) = hidden(1, &[&relay]).await;
    let (guest, guest_in) = hidden(2, &[&relay]).await;
    let _serving = (
        serve(host_in, Objects::new()),
        serve(guest_in, Objects::new()),
    );
    for (one, other) in [(&host, &guest), (&guest, &host)] {
        let at = other.status().await.unwrap().external;
        one.add_peer(other.peer_id(), at).await;
    }
    barred(&host, &guest).await;
}

/// A donor that nobody may speak to is no donor.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_banned_peer_announces_is_neither_heard_nor_passed_on() {
    logged();
    let relay = relay(3, &LOOPBACK).await;
    let (banned, _banned_in) = hidden(1, &[&relay]).await;
    let (other, _other_in) = hidden(2, &[&relay]).await;
    let (hearer, _hearer_in) = hidden(4, &[&relay]).await;
    let mut events = hearer.subscribe();
    banned.announce(a_capacity()).await;
    capacity_of(banned.peer_id(), &mut events).await;
    hearer.ban(banned.peer_id()).await;
    down("the end", banned.peer_id(), &hearer).await;
    let mut events = hearer.subscribe();
    banned.announce(a_capacity()).await;
    other.announce(a_capacity()).await;
    let first = event("a capacity", &mut events, |event| match event {
        MeshEvent::Capacity(of, _) => Some(of),
        _ => None,
    })
    .await;
    assert_eq!(first, other.peer_id());
    let known = peer_info(&hearer, banned.peer_id()).await.unwrap();
    assert_eq!(known.capacity, None);
}

async fn start(config: MeshConfig) -> (Mesh, mpsc::Receiver<Inbound>) {
    Mesh::start(config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_banned_at_the_start_is_refused_and_a_banned_relay_is_not_joined() {
    logged();
    let relay = relay(3, &LOOPBACK).await;
    let (guest, _guest_in) = open(2).await;
    let mut config = MeshConfig::new(key(1));
    config.listen = addresses(&LOOPBACK);
    config.bootstrap = dialled(&relay).await;
    config.banned = vec![guest.peer_id(), relay.peer_id()];
    let (host, host_in) = start(config).await;
    let _serving = serve(host_in, Objects::new());
    guest.add_peer(host.peer_id(), dialled(&host).await).await;
    assert!(!is_served(&guest, &host).await);
    let status = host.status().await.unwrap();
    assert!(status.reservations.is_empty(), "{status:?}");
    assert_eq!(status.dials.succeeded, 0);
    assert_eq!(relay.status().await.unwrap().connected_peers, 0);
}
