//! The round trip of an offer, and the bytes of an object, directly and through a relay, on loopback.
//!
//! `cargo bench -p worldcompute-mesh` prints p50 and p99. Everything runs in this one process: the relay, both peers
//! and the clock share the machine's cores.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use worldcompute_mesh::wire::{ContentReply, OfferReply, OfferRequest};
use worldcompute_mesh::{Inbound, Mesh, MeshConfig, Multiaddr, Path, Request};
use worldcompute_proof::{Cid, PeerId, SigningKey};

const WARM_UP: usize = 200;
const ROUNDS: usize = 2000;
const OBJECT: usize = 10 * 1024 * 1024;
const DEADLINE: Duration = Duration::from_secs(30);

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome {
    tokio::runtime::Runtime::new()?.block_on(async {
        println!(
            "{:<22} {:>10} {:>10} {:>14}",
            "path", "p50", "p99", "10 MiB"
        );
        for transport in ["tcp", "quic"] {
            direct(transport).await?;
            relayed(transport).await?;
        }
        Ok(())
    })
}

async fn direct(transport: &str) -> Outcome {
    let (donor, inbound) = start(1, |config| config.listen = listen(transport)).await?;
    let (submitter, _none) = start(2, |_| {}).await?;
    submitter
        .add_peer(donor.peer_id(), donor.status().await?.listen)
        .await;
    measure(
        &format!("direct {transport}"),
        &submitter,
        &donor,
        inbound,
        Path::Direct,
    )
    .await
}

async fn relayed(transport: &str) -> Outcome {
    let (relay, _none) = start(3, |config| {
        config.listen = listen(transport);
        config.relay_server = true;
    })
    .await?;
    let home: Vec<Multiaddr> = relay
        .status()
        .await?
        .listen
        .iter()
        .filter_map(|address| format!("{address}/p2p/{}", relay.peer_id()).parse().ok())
        .collect();
    let (donor, inbound) = start(1, |config| config.bootstrap = home.clone()).await?;
    let (submitter, _none) = start(2, |config| config.bootstrap = home).await?;
    donor.reserved(DEADLINE).await?;
    submitter
        .add_peer(donor.peer_id(), donor.status().await?.external)
        .await;
    measure(
        &format!("relayed {transport}"),
        &submitter,
        &donor,
        inbound,
        Path::Relayed,
    )
    .await
}

async fn start(
    seed: u8,
    change: impl FnOnce(&mut MeshConfig),
) -> Outcome<(Mesh, mpsc::Receiver<Inbound>)> {
    let mut config = MeshConfig::new(SigningKey::from_seed([seed; 32]));
    change(&mut config);
    Ok(Mesh::start(config).await?)
}

fn listen(transport: &str) -> Vec<Multiaddr> {
    let address = match transport {
        "tcp" => "/ip4/127.0.0.1/tcp/0",
        _ => "/ip4/127.0.0.1/udp/0/quic-v1",
    };
    address.parse().into_iter().collect()
}

async fn measure(
    name: &str,
    submitter: &Mesh,
    donor: &Mesh,
    inbound: mpsc::Receiver<Inbound>,
    expected: Path,
) -> Outcome {
    let object = vec![7; OBJECT];
    let cid = Cid::raw(&object);
    let serving = tokio::spawn(serve(inbound, object));
    for _ in 0..WARM_UP {
        submitter.offer(donor.peer_id(), an_offer(cid)).await?;
    }
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let started = Instant::now();
        submitter.offer(donor.peer_id(), an_offer(cid)).await?;
        times.push(started.elapsed());
    }
    times.sort();
    let started = Instant::now();
    submitter
        .fetch(donor.peer_id(), &cid, OBJECT as u64)
        .await?;
    let rate = 10.0 / started.elapsed().as_secs_f64();
    assert_eq!(path_to(submitter, donor.peer_id()).await, Some(expected));
    let at = |share: usize| times.get(ROUNDS * share / 100).copied().unwrap_or_default();
    println!(
        "{name:<22} {:>10.2?} {:>10.2?} {rate:>8.1} MiB/s",
        at(50),
        at(99)
    );
    serving.abort();
    Ok(())
}

async fn path_to(mesh: &Mesh, peer: PeerId) -> Option<Path> {
    mesh.peers()
        .await
        .into_iter()
        .find(|info| info.peer == peer)?
        .path
}

async fn serve(mut inbound: mpsc::Receiver<Inbound>, object: Vec<u8>) {
    while let Some(Inbound { request, .. }) = inbound.recv().await {
        match request {
            Request::Offer(_, responder) => {
                responder.send(OfferReply {
                    accepted: true,
                    load: 0.0,
                    reason: None,
                });
            }
            Request::Content(request, responder) => {
                let from = usize::try_from(request.offset)
                    .unwrap_or(OBJECT)
                    .min(OBJECT);
                let to = (from + request.len as usize).min(OBJECT);
                let bytes = object.get(from..to).unwrap_or_default().to_vec();
                responder.send(ContentReply {
                    total: OBJECT as u64,
                    bytes,
                });
            }
            _ => {}
        }
    }
}

fn an_offer(manifest_cid: Cid) -> OfferRequest {
    OfferRequest {
        task_id: "task".to_owned(),
        manifest_cid,
        min_cpu_cores: 1,
        min_memory_mb: 64,
        needs_gpu: false,
        max_wallclock_ms: 1000,
        classes: vec!["scientific".to_owned()],
    }
}
