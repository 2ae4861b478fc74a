//! A node that joins as a daemon would, with an identity of its own, until it has its first reservation.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use worldcompute_fault::Result;
use worldcompute_proof::SigningKey;

use super::probe::Probe;
use crate::address::Transport;
use crate::config::MeshConfig;
use crate::mesh::Mesh;

/// A daemon takes a minute before it tries a better way to its relay; this node, so long.
const UPGRADE_AFTER: Duration = Duration::from_secs(1);
/// In which it is on the way that a daemon stays on: the first two tries, and what a dial may take.
const SETTLE_TIME: Duration = Duration::from_secs(10);
/// Between two looks at which way it is on.
const LOOK: Duration = Duration::from_millis(50);

/// The way to the first relay that keeps an address for a node here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FirstPath {
    /// The relay.
    pub relay: String,
    /// Over what it is reached: `quic`, `tcp` or `wss`. Where the first answer came over something else than the best that
    /// works, what the connection gave way to.
    pub transport: String,
    /// Whether a box on the way, which this machine was told to trust, opens its TLS.
    pub inspected: bool,
    /// From the start of the node to its first reservation, in milliseconds.
    pub first_reservation_ms: u64,
}

/// A node that is joining.
pub(super) struct Rehearsal {
    joining: JoinHandle<std::result::Result<FirstPath, String>>,
    mesh: Mesh,
}

/// Begins to join.
pub(super) async fn begin(config: &MeshConfig, within: Duration) -> Result<Rehearsal> {
    let begun = Instant::now();
    let mut config = config.clone();
    config.key = SigningKey::generate()?;
    config.listen.clear();
    (config.mdns, config.relay_server) = (false, false);
    config.upgrade_after = UPGRADE_AFTER;
    let (mesh, _requests) = Mesh::start(config).await?;
    let joining = mesh.clone();
    Ok(Rehearsal {
        joining: tokio::spawn(async move { join(&joining, begun, within).await }),
        mesh,
    })
}

async fn join(
    mesh: &Mesh,
    begun: Instant,
    within: Duration,
) -> std::result::Result<FirstPath, String> {
    let held = mesh
        .reserved(within)
        .await
        .map_err(|fault| fault.message().to_owned())?;
    let after = begun.elapsed();
    let relay = held.relay.to_string();
    let (transport, inspected) = way_to(mesh, &relay).await;
    Ok(FirstPath {
        relay,
        transport: transport.as_str().to_owned(),
        inspected,
        first_reservation_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
    })
}

/// Over what a relay is reached, and whether that is inspected.
async fn way_to(mesh: &Mesh, relay: &str) -> (Transport, bool) {
    let peers = mesh.peers().await;
    let relay = peers.iter().find(|peer| peer.peer.to_string() == relay);
    let transport = relay.and_then(|relay| relay.transport);
    (
        transport.unwrap_or(Transport::Other),
        relay.is_some_and(|relay| relay.inspected),
    )
}

impl Rehearsal {
    /// What came of it within `patience`, on the best of the `ways` that work if it gets there soon, and before the
    /// deadline; else why not, as far as that is known then.
    pub(super) async fn until(
        mut self,
        patience: Instant,
        ways: &[&Probe],
        deadline: Instant,
    ) -> std::result::Result<FirstPath, String> {
        let mut joined = match timeout_at(patience, &mut self.joining).await {
            Ok(Ok(joined)) => joined,
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => {
                self.joining.abort();
                Err(why_not(&self.mesh).await)
            }
        };
        if let Ok(path) = &mut joined {
            let settled = deadline.min(Instant::now() + SETTLE_TIME);
            // Where it does not get there, the last way that was seen is the one.
            let _ = timeout_at(settled, self.settle(path, ways)).await;
        }
        self.mesh.shutdown().await;
        joined
    }

    /// Which of several answers comes first is a race.
    async fn settle(&self, path: &mut FirstPath, ways: &[&Probe]) {
        let to_relay = ways.iter().filter(|way| way.target.ends_with(&path.relay));
        let best = to_relay.filter_map(|way| way.kind.way()).min();
        while let Some(best) = best {
            let (transport, inspected) = way_to(&self.mesh, &path.relay).await;
            path.transport = transport.as_str().to_owned();
            path.inspected = inspected;
            if transport <= best {
                return;
            }
            sleep(LOOK).await;
        }
    }
}

/// What is known of each relay that was tried.
async fn why_not(mesh: &Mesh) -> String {
    let tried = mesh.status().await.map(|status| status.reservations);
    let causes: Vec<String> = tried
        .unwrap_or_default()
        .iter()
        .map(|relay| {
            relay
                .last_error
                .clone()
                .unwrap_or_else(|| "no answer".to_owned())
        })
        .collect();
    match causes.as_slice() {
        [] => "no reservation: no relay is known or can be reached".to_owned(),
        causes => format!("no reservation: {}", causes.join("; ")),
    }
}
