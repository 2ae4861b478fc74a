//! A node that joins as a daemon would, with an identity of its own, until it has its first reservation.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use worldcompute_fault::Result;
use worldcompute_proof::SigningKey;

use crate::config::MeshConfig;
use crate::mesh::Mesh;

/// The way to the first relay that keeps an address for a node here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FirstPath {
    /// The relay.
    pub relay: String,
    /// Over what it is reached: `quic`, `tcp` or `wss`.
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
    let peers = mesh.peers().await;
    let relay = peers.iter().find(|peer| peer.peer == held.relay);
    let transport = relay.and_then(|relay| relay.transport);
    Ok(FirstPath {
        relay: held.relay.to_string(),
        transport: transport
            .map_or("other", |transport| transport.as_str())
            .to_owned(),
        inspected: relay.is_some_and(|relay| relay.inspected),
        first_reservation_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
    })
}

impl Rehearsal {
    /// What came of it by the deadline; else why not, as far as that is known then.
    pub(super) async fn until(
        mut self,
        deadline: Instant,
    ) -> std::result::Result<FirstPath, String> {
        let joined = match timeout_at(deadline, &mut self.joining).await {
            Ok(Ok(joined)) => joined,
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => {
                self.joining.abort();
                Err(why_not(&self.mesh).await)
            }
        };
        self.mesh.shutdown().await;
        joined
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
