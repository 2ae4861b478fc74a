//! A thousand identities in one process, each of which takes what it gets of a relay and of a node behind it: a connection, a
//! reservation, a place in routing tables, circuits. Says every second what they have.
//!
//! ```sh
//! crowd --count 1000 --relay /ip4/192.0.2.1/tcp/19999/p2p/12D3KooW... --peer 12D3KooX...
//! ```
//!
//! It ends with its standard input.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify, kad, noise, ping, relay, tcp,
    yamux,
};
use tokio::time::{interval, sleep};

use support::{Outcome, end_of_input};

/// So many begin in a second, and whoever was refused asks again after this time.
const BEGIN_A_SECOND: u64 = 100;
const AGAIN: Duration = Duration::from_secs(5);
/// One in eight says that it is a member, and is left for saying nothing that members say. Then it comes back.
const MEMBERS: u64 = 8;
const MEMBER: &str = "/worldcompute/1.0.0";
const NO_MEMBER: &str = "/ipfs/0.1.0";
/// Circuits that each asks for.
const CIRCUITS: usize = 2;

#[derive(NetworkBehaviour)]
struct Greedy {
    relay: relay::client::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    kad: kad::Behaviour<kad::store::MemoryStore>,
}

/// What all of them have, and what they were refused.
#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    reservations: AtomicU64,
    circuits: AtomicU64,
    refused: AtomicU64,
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let target = Target::parse()?;
    let (counts, mut end) = (Arc::new(Counts::default()), end_of_input());
    for number in 0..target.count {
        let (target, counts) = (target.clone(), counts.clone());
        tokio::spawn(async move {
            sleep(Duration::from_millis(1000 * number / BEGIN_A_SECOND)).await;
            let protocol = match number % MEMBERS {
                0 => MEMBER,
                _ => NO_MEMBER,
            };
            if let Err(error) = take(&target, &counts, protocol).await {
                eprintln!("{error}");
            }
        });
    }
    let mut seconds = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = &mut end => return Ok(()),
            _ = seconds.tick() => counts.print(),
        }
    }
}

#[derive(Clone)]
struct Target {
    count: u64,
    relay: Multiaddr,
    peer: PeerId,
}

impl Target {
    fn parse() -> Outcome<Self> {
        let mut arguments = std::env::args().skip(1);
        let (mut count, mut relay, mut peer) = (1000, None, None);
        while let Some(argument) = arguments.next() {
            let value = arguments
                .next()
                .ok_or(format!("{argument} needs a value"))?;
            match argument.as_str() {
                "--count" => count = value.parse()?,
                "--relay" => relay = Some(value.parse()?),
                "--peer" => peer = Some(value.parse()?),
                other => return Err(format!("unknown argument {other}").into()),
            }
        }
        Ok(Self {
            count,
            relay: relay.ok_or("--relay says which relay")?,
            peer: peer.ok_or("--peer says who is behind it")?,
        })
    }

    fn circuits(&self) -> Multiaddr {
        let circuit = libp2p::multiaddr::Protocol::P2pCircuit;
        self.relay.clone().with(circuit)
    }
}

/// One identity, for as long as the program runs.
async fn take(target: &Target, counts: &Counts, protocol: &str) -> Outcome<()> {
    let mut swarm = greedy(protocol)?;
    let (mut again, mut asked, mut reserved) = (interval(AGAIN), false, false);
    loop {
        tokio::select! {
            _ = again.tick() => {
                asked = asked || reserve(&mut swarm, target);
                if reserved {
                    dial(&mut swarm, target);
                }
            }
            event = swarm.select_next_some() => match event {
                SwarmEvent::ConnectionEstablished { endpoint, .. } => {
                    counts.of(endpoint.is_relayed()).fetch_add(1, Ordering::Relaxed);
                }
                SwarmEvent::ConnectionClosed { endpoint, .. } => {
                    counts.of(endpoint.is_relayed()).fetch_sub(1, Ordering::Relaxed);
                }
                SwarmEvent::OutgoingConnectionError { .. } => {
                    counts.refused.fetch_add(1, Ordering::Relaxed);
                }
                SwarmEvent::Behaviour(GreedyEvent::Relay(
                    relay::client::Event::ReservationReqAccepted { renewal: false, .. },
                )) => {
                    counts.reservations.fetch_add(1, Ordering::Relaxed);
                    reserved = true;
                }
                SwarmEvent::ListenerClosed { .. } => {
                    counts.reservations.fetch_sub(u64::from(reserved), Ordering::Relaxed);
                    (asked, reserved) = (false, false);
                }
                _ => {}
            }
        }
    }
}

/// Asks for a reservation. What is refused ends, and is asked for again.
fn reserve(swarm: &mut Swarm<Greedy>, target: &Target) -> bool {
    swarm.listen_on(target.circuits()).is_ok()
}

/// Asks for one more circuit, unless it has its fill.
fn dial(swarm: &mut Swarm<Greedy>, target: &Target) {
    let network = swarm.network_info();
    let connections = network.connection_counters().num_established_outgoing() as usize;
    if connections <= CIRCUITS {
        let dial = DialOpts::peer_id(target.peer)
            .condition(PeerCondition::Always)
            .addresses(vec![target.circuits()]);
        // It is tried again in any case.
        let _ = swarm.dial(dial.build());
    }
}

fn greedy(protocol: &str) -> Outcome<Swarm<Greedy>> {
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )?
        .with_relay_client(noise::Config::new, yamux::Config::default)?
        .with_behaviour(|keypair, relay| {
            let me = keypair.public().to_peer_id();
            let routing = StreamProtocol::new("/worldcompute/kad/1.0.0");
            let mut kad = kad::Behaviour::with_config(
                me,
                kad::store::MemoryStore::new(me),
                kad::Config::new(routing),
            );
            kad.set_mode(Some(kad::Mode::Server));
            Greedy {
                relay,
                identify: identify::Behaviour::new(identify::Config::new(
                    protocol.to_owned(),
                    keypair.public(),
                )),
                ping: ping::Behaviour::default(),
                kad,
            }
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(3600)));
    Ok(swarm.build())
}

impl Counts {
    const fn of(&self, relayed: bool) -> &AtomicU64 {
        match relayed {
            true => &self.circuits,
            false => &self.connections,
        }
    }

    fn print(&self) {
        let [connections, reservations, circuits, refused] = [
            &self.connections,
            &self.reservations,
            &self.circuits,
            &self.refused,
        ]
        .map(|count| count.load(Ordering::Relaxed));
        println!(
            r#"{{"connections":{connections},"reservations":{reservations},"circuits":{circuits},"refused":{refused}}}"#
        );
    }
}
