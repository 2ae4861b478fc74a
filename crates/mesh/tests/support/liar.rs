//! Relays that are none of ours, and not what they seem.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, Swarm, identify, ping, relay};
use tokio::sync::mpsc;

use crate::support::foreign;

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    relay: relay::Behaviour,
    client: relay::client::Behaviour,
}

/// One of them, on loopback. It is gone when this is.
pub struct Liar {
    pub address: Multiaddr,
    /// How many circuits it has refused.
    pub refused: Arc<AtomicUsize>,
    dials: mpsc::UnboundedSender<Multiaddr>,
    introduced: mpsc::UnboundedReceiver<()>,
}

impl Liar {
    pub async fn start(config: relay::Config) -> Self {
        let mut swarm = swarm(config);
        let any = "/ip4/127.0.0.1/tcp/0".parse().unwrap();
        swarm.listen_on(any).unwrap();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        swarm.add_external_address(address.clone());
        let address = address.with_p2p(*swarm.local_peer_id()).unwrap();
        let refused = Arc::new(AtomicUsize::new(0));
        let (dials, to_dial) = mpsc::unbounded_channel();
        let (tell, introduced) = mpsc::unbounded_channel();
        tokio::spawn(run(swarm, to_dial, refused.clone(), tell));
        Self {
            address,
            refused,
            dials,
            introduced,
        }
    }

    pub fn peer(&self) -> worldcompute_proof::PeerId {
        let text = self.address.to_string();
        text.rsplit_once("/p2p/").unwrap().1.parse().unwrap()
    }

    /// Connects to a peer over a circuit, and returns when it has told it there what it is.
    pub async fn introduce_itself(&mut self, circuit: Multiaddr) {
        while self.introduced.try_recv().is_ok() {}
        self.dials.send(circuit).unwrap();
        self.introduced.recv().await.unwrap();
    }
}

fn swarm(config: relay::Config) -> Swarm<Behaviour> {
    foreign(|keypair, client| {
        let who = identify::Config::new("/ipfs/0.1.0".to_owned(), keypair.public());
        Behaviour {
            identify: identify::Behaviour::new(who),
            ping: ping::Behaviour::default(),
            relay: relay::Behaviour::new(keypair.public().to_peer_id(), config),
            client,
        }
    })
}

async fn run(
    mut swarm: Swarm<Behaviour>,
    mut to_dial: mpsc::UnboundedReceiver<Multiaddr>,
    refused: Arc<AtomicUsize>,
    tell: mpsc::UnboundedSender<()>,
) {
    let mut circuits = Vec::new();
    loop {
        let event = tokio::select! {
            address = to_dial.recv() => match address {
                None => return,
                Some(address) => {
                    let dial = DialOpts::unknown_peer_id().address(address).build();
                    circuits.push(dial.connection_id());
                    swarm.dial(dial).unwrap();
                    continue;
                }
            },
            event = swarm.select_next_some() => event,
        };
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Relay(relay::Event::CircuitReqDenied {
                ..
            })) => {
                refused.fetch_add(1, Ordering::Relaxed);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Sent {
                connection_id,
                ..
            })) if circuits.contains(&connection_id) => {
                let _ = tell.send(());
            }
            _ => {}
        }
    }
}
