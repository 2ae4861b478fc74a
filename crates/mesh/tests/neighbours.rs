//! A neighbour that is lost. Apart from other tests of neighbours: whoever has found one asks for others in minutes only.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

mod support;

use futures::StreamExt;
use libp2p::swarm::SwarmEvent;
use support::*;
use tokio::sync::mpsc;
use worldcompute_mesh::{Mesh, MeshConfig};
use worldcompute_proof::SigningKey;

/// A neighbour that hangs up on whoever dials it, as one does whose network is gone.
fn hangs_up() -> mpsc::UnboundedReceiver<libp2p::PeerId> {
    let keypair = libp2p::identity::Keypair::generate_ed25519();
    let peer = keypair.public().to_peer_id();
    let mut swarm = libp2p::SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(
            libp2p::tcp::Config::default(),
            libp2p::noise::Config::new,
            libp2p::yamux::Config::default,
        )
        .unwrap()
        .with_behaviour(|_| {
            libp2p::mdns::tokio::Behaviour::new(libp2p::mdns::Config::default(), peer).unwrap()
        })
        .unwrap()
        .build();
    swarm
        .listen_on("/ip4/0.0.0.0/tcp/0".parse().unwrap())
        .unwrap();
    let (called, callers) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while !called.is_closed() {
            if let SwarmEvent::ConnectionEstablished { peer_id, .. } =
                swarm.select_next_some().await
            {
                // Fails only when the caller has just gone by itself.
                let _ = swarm.disconnect_peer_id(peer_id);
                let _ = called.send(peer_id);
            }
        }
    });
    callers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_that_is_lost_is_dialled_again_and_again() {
    logged();
    if let Err(reason) = multicast() {
        println!("skipped: no multicast on this machine ({reason})");
        return;
    }
    let mut callers = hangs_up();
    let mut config = MeshConfig::new(SigningKey::generate().unwrap());
    config.listen = addresses(&["/ip4/0.0.0.0/tcp/0"]);
    config.mdns = true;
    let (mesh, _inbound) = Mesh::start(config).await.unwrap();
    for _ in 0..3 {
        // Neighbours of other tests may call too.
        while within("a call", callers.recv()).await.unwrap().to_bytes()
            != mesh.peer_id().to_bytes()
        {}
    }
}
