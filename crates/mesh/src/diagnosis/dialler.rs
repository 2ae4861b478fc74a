//! Dials of one address each, over one transport each, that end where the relay has said what it sees.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, Swarm, identify, relay, swarm};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use worldcompute_fault::Result;

use super::nat::Observation;
use super::probe::{Probe, ProbeKind};
use crate::address::peer_of;
use crate::behaviour::PROTOCOL;
use crate::config::MeshConfig;
use crate::network::socket;
use crate::{dial, transport};

/// Dials that wait for their turn.
const QUEUE: usize = 256;
/// Whoever answered says within this time what it sees.
const IDENTIFY_TIME: Duration = Duration::from_secs(3);
/// What is left open that long with nothing to do is closed.
const IDLE_TIME: Duration = Duration::from_secs(30);

/// One node for each transport, so that none is taken for the other's return.
pub(super) struct Diallers {
    quic: mpsc::Sender<Asked>,
    tcp: mpsc::Sender<Asked>,
    wss: mpsc::Sender<Asked>,
}

#[derive(NetworkBehaviour)]
struct Asking {
    relay_client: relay::client::Behaviour,
    identify: identify::Behaviour,
}

struct Asked {
    address: Multiaddr,
    answer: oneshot::Sender<Answer>,
}

/// How a dial ended; for one that succeeded, where to wait for what the other side sees.
type Answer = std::result::Result<oneshot::Receiver<Multiaddr>, DialError>;

impl Diallers {
    /// Must be called within a tokio runtime; they end with this value.
    pub(super) fn start(config: &MeshConfig) -> Result<Self> {
        Ok(Self {
            quic: start(config)?,
            tcp: start(config)?,
            wss: start(config)?,
        })
    }

    /// Dials an address without a name in front of it.
    pub(super) async fn dial(&self, address: Multiaddr) -> (Probe, Option<Observation>) {
        let (kind, target) = (ProbeKind::of(&address), address.to_string());
        let dialler = match kind {
            ProbeKind::Quic => &self.quic,
            ProbeKind::Wss => &self.wss,
            _ => &self.tcp,
        };
        let begun = Instant::now();
        let (answer, answered) = oneshot::channel();
        let asked = Asked {
            address: address.clone(),
            answer,
        };
        // Fails only where the node is gone; then so is the answer.
        let _ = dialler.send(asked).await;
        match answered.await {
            Err(_) => (
                Probe::unknown(kind, target, "the node that was to dial is gone"),
                None,
            ),
            Ok(Err(error)) => (failed(kind, target, begun.elapsed(), &error), None),
            Ok(Ok(seen)) => {
                let probe = Probe::works(kind, target, begun.elapsed());
                let seen = timeout(IDENTIFY_TIME, seen)
                    .await
                    .ok()
                    .and_then(|seen| seen.ok());
                (
                    probe,
                    seen.and_then(|seen| observation(kind, &address, &seen)),
                )
            }
        }
    }
}

fn start(config: &MeshConfig) -> Result<mpsc::Sender<Asked>> {
    let keypair = Keypair::generate_ed25519();
    let composed = transport::compose(config, &keypair)?;
    let identify = identify::Config::new(PROTOCOL.to_owned(), keypair.public())
        .with_agent_version(config.agent.clone())
        .with_cache_size(0);
    let behaviour = Asking {
        relay_client: composed.relay_client,
        identify: identify::Behaviour::new(identify),
    };
    let settings = swarm::Config::with_tokio_executor().with_idle_connection_timeout(IDLE_TIME);
    let me = keypair.public().to_peer_id();
    let swarm = Swarm::new(composed.wire, behaviour, me, settings);
    let (asked, asking) = mpsc::channel(QUEUE);
    tokio::spawn(run(swarm, asking));
    Ok(asked)
}

/// Dials whatever is asked for, until nobody can ask any more.
async fn run(mut swarm: Swarm<Asking>, mut asking: mpsc::Receiver<Asked>) {
    let mut dialling: HashMap<ConnectionId, oneshot::Sender<Answer>> = HashMap::new();
    let mut seen: HashMap<ConnectionId, oneshot::Sender<Multiaddr>> = HashMap::new();
    loop {
        let event = tokio::select! {
            event = swarm.select_next_some() => event,
            asked = asking.recv() => {
                let Some(asked) = asked else { return };
                dial(&mut swarm, asked, &mut dialling);
                continue;
            }
        };
        // Whoever asked may have given up.
        match event {
            SwarmEvent::ConnectionEstablished { connection_id, .. } => {
                if let Some(answer) = dialling.remove(&connection_id) {
                    let (tell, told) = oneshot::channel();
                    seen.insert(connection_id, tell);
                    let _ = answer.send(Ok(told));
                }
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                error,
                ..
            } => {
                if let Some(answer) = dialling.remove(&connection_id) {
                    let _ = answer.send(Err(error));
                }
            }
            SwarmEvent::Behaviour(AskingEvent::Identify(identify::Event::Received {
                connection_id,
                info,
                ..
            })) => {
                if let Some(tell) = seen.remove(&connection_id) {
                    let _ = tell.send(info.observed_addr);
                }
            }
            SwarmEvent::ConnectionClosed { connection_id, .. } => drop(seen.remove(&connection_id)),
            _ => {}
        }
    }
}

fn dial(
    swarm: &mut Swarm<Asking>,
    asked: Asked,
    dialling: &mut HashMap<ConnectionId, oneshot::Sender<Answer>>,
) {
    let dial = match peer_of(&asked.address) {
        Some(peer) => DialOpts::peer_id(peer)
            .addresses(vec![asked.address])
            .condition(PeerCondition::Always)
            .build(),
        None => DialOpts::unknown_peer_id().address(asked.address).build(),
    };
    let id = dial.connection_id();
    match swarm.dial(dial) {
        Ok(()) => drop(dialling.insert(id, asked.answer)),
        Err(error) => drop(asked.answer.send(Err(error))),
    }
}

fn failed(kind: ProbeKind, target: String, after: Duration, error: &DialError) -> Probe {
    match error {
        DialError::Transport(errors) => match errors.first() {
            Some((_, libp2p::TransportError::Other(error))) => {
                Probe::failed(kind, target, after, error)
            }
            _ => Probe::failed(kind, target, after, error),
        },
        _ => {
            let told = dial::failures(error, &[]);
            let cause = told
                .first()
                .map_or_else(|| error.to_string(), |failure| failure.root_cause.clone());
            Probe::not(kind, target, super::ProbeState::Failed, after, cause)
        }
    }
}

/// What a relay sees of this machine's datagrams. Of a connection over TCP it sees a port that no other has.
fn observation(kind: ProbeKind, dialled: &Multiaddr, seen: &Multiaddr) -> Option<Observation> {
    (kind == ProbeKind::Quic).then_some(())?;
    Some(Observation {
        by: socket(dialled)?,
        seen: socket(seen)?,
    })
}
