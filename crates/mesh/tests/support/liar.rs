//! A relay that says yes to everybody who asks for a reservation, and carries nothing to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, SwarmBuilder, identify, noise, ping, relay, tcp, yamux};

#[derive(NetworkBehaviour)]
struct Liar {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    relay: relay::Behaviour,
}

/// Starts one on loopback. Where it is, and how many circuits it has refused.
pub async fn start() -> (Multiaddr, Arc<AtomicUsize>) {
    let mut swarm = SwarmBuilder::with_existing_identity(Keypair::generate_ed25519())
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )
        .unwrap()
        .with_behaviour(|keypair| Liar {
            identify: identify::Behaviour::new(identify::Config::new(
                "/ipfs/0.1.0".to_owned(),
                keypair.public(),
            )),
            ping: ping::Behaviour::default(),
            relay: relay::Behaviour::new(
                keypair.public().to_peer_id(),
                relay::Config {
                    max_circuits: 0,
                    ..relay::Config::default()
                },
            ),
        })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(120)))
        .build();
    let any = "/ip4/127.0.0.1/tcp/0".parse().unwrap();
    swarm.listen_on(any).unwrap();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    swarm.add_external_address(address.clone());
    let refused = Arc::new(AtomicUsize::new(0));
    let (peer, counted) = (*swarm.local_peer_id(), refused.clone());
    tokio::spawn(async move {
        loop {
            if let SwarmEvent::Behaviour(LiarEvent::Relay(relay::Event::CircuitReqDenied {
                ..
            })) = swarm.select_next_some().await
            {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let address = address.with_p2p(peer).unwrap();
    (address, refused)
}
