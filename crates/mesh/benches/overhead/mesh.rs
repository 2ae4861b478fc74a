//! Two nodes of the mesh, one of which serves content.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use worldcompute_mesh::wire::{ContentReply, OfferReply, OfferRequest};
use worldcompute_mesh::{Certificate, Inbound, Mesh, MeshConfig, Multiaddr, Request};
use worldcompute_proof::{Cid, PeerId, SigningKey};

use super::bare::FILLING;
use super::{Asks, LARGE, Outcome, SMALL};

const DEADLINE: Duration = Duration::from_secs(30);

/// Somebody who fetches objects from a node.
pub struct Pair {
    asking: Mesh,
    asked: PeerId,
    names: HashMap<usize, Cid>,
    /// Stay until the pair is gone.
    _others: Vec<Mesh>,
}

impl Pair {
    /// Has an offer answered.
    pub async fn offer(&self) -> Outcome {
        let offer = OfferRequest {
            task_id: "task".to_owned(),
            manifest_cid: Cid::raw(b"manifest"),
            min_cpu_cores: 1,
            min_memory_mb: 64,
            needs_gpu: false,
            max_wallclock_ms: 1000,
            classes: vec!["scientific".to_owned()],
        };
        self.asking.offer(self.asked, offer).await?;
        Ok(())
    }
}

impl Asks for Pair {
    fn ask(&self, bytes: usize) -> BoxFuture<'_, Outcome> {
        async move {
            let cid = self.names.get(&bytes).ok_or("no object of this size")?;
            let got = self.asking.fetch(self.asked, cid, bytes as u64).await?;
            assert_eq!(got.len(), bytes);
            Ok(())
        }
        .boxed()
    }
}

pub async fn direct(transport: &str) -> Outcome<Pair> {
    let (asked, inbound) = start(1, |config| listen(config, transport)).await?;
    let (asking, _nobody_asks) = start(2, |_| Ok(())).await?;
    let addresses = asked.status().await?.listen;
    pair(asking, asked, inbound, addresses, Vec::new()).await
}

pub async fn relayed() -> Outcome<Pair> {
    let (relay, _nobody_asks) = start(3, |config| {
        config.relay_server = true;
        listen(config, "tcp")
    })
    .await?;
    let suffix = format!("/p2p/{}", relay.peer_id());
    let listen = relay.status().await?.listen;
    let home = listen
        .iter()
        .filter_map(|address| format!("{address}{suffix}").parse().ok());
    let home: Vec<Multiaddr> = home.collect();
    let join = |config: &mut MeshConfig| {
        config.bootstrap.clone_from(&home);
        Ok(())
    };
    let (asked, inbound) = start(1, join).await?;
    let (asking, _nobody_asks) = start(2, join).await?;
    asked.reserved(DEADLINE).await?;
    let addresses = asked.status().await?.external;
    pair(asking, asked, inbound, addresses, vec![relay]).await
}

async fn pair(
    asking: Mesh,
    asked: Mesh,
    inbound: mpsc::Receiver<Inbound>,
    addresses: Vec<Multiaddr>,
    mut others: Vec<Mesh>,
) -> Outcome<Pair> {
    let objects = [SMALL, LARGE].map(|bytes| {
        let object = Arc::new(vec![FILLING; bytes]);
        (Cid::raw(object.as_slice()), object)
    });
    let names = objects
        .iter()
        .map(|(cid, object)| (object.len(), *cid))
        .collect();
    tokio::spawn(serve(inbound, objects.into()));
    asking.add_peer(asked.peer_id(), addresses).await;
    let peer = asked.peer_id();
    others.push(asked);
    Ok(Pair {
        asking,
        asked: peer,
        names,
        _others: others,
    })
}

pub async fn start(
    seed: u8,
    change: impl FnOnce(&mut MeshConfig) -> Outcome,
) -> Outcome<(Mesh, mpsc::Receiver<Inbound>)> {
    let mut config = MeshConfig::new(SigningKey::from_seed([seed; 32]));
    change(&mut config)?;
    Ok(Mesh::start(config).await?)
}

pub fn listen(config: &mut MeshConfig, transport: &str) -> Outcome {
    let address = match transport {
        "tcp" => "/ip4/127.0.0.1/tcp/0",
        "quic" => "/ip4/127.0.0.1/udp/0/quic-v1",
        _ => {
            config.certificate = Some(Arc::new(Certificate::self_signed()?.0));
            "/ip4/127.0.0.1/tcp/0/tls/ws"
        }
    };
    config.listen = vec![address.parse()?];
    Ok(())
}

async fn serve(mut inbound: mpsc::Receiver<Inbound>, objects: HashMap<Cid, Arc<Vec<u8>>>) {
    while let Some(Inbound { request, .. }) = inbound.recv().await {
        match request {
            Request::Content(request, responder) => {
                let Some(object) = objects.get(&request.cid) else {
                    continue;
                };
                let len = object.len();
                let from = usize::try_from(request.offset).unwrap_or(len).min(len);
                let to = (from + request.len as usize).min(len);
                responder.send(ContentReply {
                    total: len as u64,
                    bytes: object.get(from..to).unwrap_or_default().to_vec(),
                });
            }
            Request::Offer(_, responder) => {
                responder.send(OfferReply {
                    accepted: true,
                    load: 0.0,
                    reason: None,
                });
            }
            _ => {}
        }
    }
}
