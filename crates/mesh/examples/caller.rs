//! Calls a peer again and again, and says of each call when it began, how long it took and what came of it.
//!
//! ```sh
//! caller --peer 12D3KooW... --at /ip4/192.0.2.1/tcp/19999/p2p/12D3KooX.../p2p-circuit --every-ms 250 --anew
//! ```
//!
//! With `--anew` each call is that of a newcomer, who has to dial. Without it one node calls all the time over whatever
//! connection it has, and joins by the nodes that `--bootstrap` names. It ends with its standard input.

mod support;

use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime};

use tokio::time::{MissedTickBehavior, interval, timeout};
use worldcompute_mesh::wire::OfferRequest;
use worldcompute_mesh::{Mesh, MeshConfig, Multiaddr};
use worldcompute_proof::{Cid, PeerId, SigningKey};

use support::{Outcome, end_of_input};

/// Whoever has not answered by then was not reached.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Outcome<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let caller = Caller::parse()?;
    let resident = match caller.anew {
        true => None,
        false => Some(caller.join(caller.bootstrap.clone()).await?),
    };
    let mut times = interval(caller.every);
    times.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut end = end_of_input();
    loop {
        tokio::select! {
            _ = &mut end => break,
            _ = times.tick() => drop(tokio::spawn(call(caller.clone(), resident.clone()))),
        }
    }
    if let Some(mesh) = resident {
        mesh.shutdown().await;
    }
    Ok(())
}

/// Whom it calls, and how.
#[derive(Clone)]
struct Caller {
    peer: PeerId,
    addresses: Vec<Multiaddr>,
    bootstrap: Vec<Multiaddr>,
    every: Duration,
    anew: bool,
}

impl Caller {
    fn parse() -> Outcome<Self> {
        let mut arguments = std::env::args().skip(1);
        let (mut peer, mut every, mut anew) = (None, Duration::from_secs(1), false);
        let (mut addresses, mut bootstrap) = (Vec::new(), Vec::new());
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--peer" => peer = Some(value()?.parse()?),
                "--at" => addresses.push(value()?.parse()?),
                "--bootstrap" => bootstrap.push(value()?.parse()?),
                "--every-ms" => every = Duration::from_millis(value()?.parse::<u64>()?.max(1)),
                "--anew" => anew = true,
                other => return Err(format!("unknown argument {other}").into()),
            }
        }
        Ok(Self {
            peer: peer.ok_or("--peer says whom to call")?,
            addresses,
            bootstrap,
            every,
            anew,
        })
    }

    async fn join(&self, bootstrap: Vec<Multiaddr>) -> Outcome<Mesh> {
        let mut config = MeshConfig::new(SigningKey::generate()?);
        config.bootstrap = bootstrap;
        let (mesh, _nobody_calls) = Mesh::start(config).await?;
        mesh.add_peer(self.peer, self.addresses.clone()).await;
        Ok(mesh)
    }

    /// `ok`, or the code of what went wrong; and through how many relays the peer is known to be reached.
    async fn reach(&self, resident: Option<Mesh>) -> (String, usize) {
        let mesh = match resident {
            Some(mesh) => Ok(mesh),
            None => self.join(Vec::new()).await,
        };
        let Ok(mesh) = mesh else {
            return ("cannot_start".to_owned(), 0);
        };
        let answer = timeout(PATIENCE, mesh.offer(self.peer, an_offer())).await;
        let relays = relays_of(&mesh, self.peer).await;
        if self.anew {
            mesh.shutdown().await;
        }
        let came_to = match answer {
            Ok(Ok(_)) => "ok".to_owned(),
            Ok(Err(fault)) => fault.code().to_owned(),
            Err(_) => "no_answer".to_owned(),
        };
        (came_to, relays)
    }
}

async fn call(caller: Caller, resident: Option<Mesh>) {
    let (at, began) = (SystemTime::now(), Instant::now());
    let (came_to, relays) = caller.reach(resident).await;
    let at = at.duration_since(SystemTime::UNIX_EPOCH);
    let at = at.unwrap_or_default().as_millis();
    let took = began.elapsed().as_millis();
    println!(r#"{{"at_ms":{at},"took_ms":{took},"relays_known":{relays},"came_to":"{came_to}"}}"#);
}

/// Through how many relays the peer is known to be reached.
async fn relays_of(mesh: &Mesh, peer: PeerId) -> usize {
    let peers = mesh.peers().await;
    let known = peers.into_iter().find(|info| info.peer == peer);
    let addresses = known.map(|info| info.addresses).unwrap_or_default();
    let relay = |address: &Multiaddr| {
        let address = address.to_string();
        let (relay, _) = address.split_once("/p2p-circuit")?;
        Some(relay.rsplit_once("/p2p/")?.1.to_owned())
    };
    let relays: HashSet<String> = addresses.iter().filter_map(relay).collect();
    relays.len()
}

fn an_offer() -> OfferRequest {
    OfferRequest {
        task_id: "task".to_owned(),
        manifest_cid: Cid::raw(b"manifest"),
        min_cpu_cores: 1,
        min_memory_mb: 64,
        needs_gpu: false,
        max_wallclock_ms: 1000,
        classes: vec!["general".to_owned()],
    }
}
