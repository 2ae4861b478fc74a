//! The smallest node: joins, says what happens, answers offers, leaves on Ctrl-C.
//!
//! ```sh
//! node --seed 1 --relay --listen /ip4/0.0.0.0/tcp/19999
//! node --seed 2 --bootstrap /ip4/192.0.2.1/tcp/19999/p2p/12D3KooW...
//! node --seed 3 --mdns --listen /ip4/0.0.0.0/tcp/0
//! ```

use worldcompute_mesh::wire::{Capacity, OfferReply};
use worldcompute_mesh::{Inbound, Mesh, MeshConfig, MeshEvent, Request};
use worldcompute_proof::SigningKey;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let (mesh, mut inbound) = Mesh::start(arguments()?).await?;
    println!(
        "{} listens on {:?}",
        mesh.peer_id(),
        mesh.status().await?.listen
    );
    mesh.announce(capacity()).await;
    let mut events = mesh.subscribe();
    loop {
        tokio::select! {
            event = events.recv() => on_event(&mesh, event?),
            Some(request) = inbound.recv() => answer(request),
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    mesh.shutdown().await;
    Ok(())
}

fn arguments() -> Outcome<MeshConfig> {
    let mut arguments = std::env::args().skip(1);
    let mut config = MeshConfig::new(SigningKey::generate()?);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--seed" => config.key = SigningKey::from_seed([value()?.parse()?; 32]),
            "--listen" => config.listen.push(value()?.parse()?),
            "--bootstrap" => config.bootstrap.push(value()?.parse()?),
            "--relay" => config.relay_server = true,
            "--mdns" => config.mdns = true,
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    Ok(config)
}

fn capacity() -> Capacity {
    Capacity {
        cores: 1,
        memory_mb: 512,
        load: 0.0,
        classes: vec!["scientific".to_owned()],
        paused: false,
        addresses: Vec::new(),
        slots: 1,
        images: false,
    }
}

/// Says what happened, and asks every donor it hears of whether it would take a task.
fn on_event(mesh: &Mesh, event: MeshEvent) {
    println!("{event:?}");
    if let MeshEvent::Capacity(peer, _) = event {
        let mesh = mesh.clone();
        tokio::spawn(async move { println!("{peer}: {:?}", mesh.offer(peer, an_offer()).await) });
    }
}

fn an_offer() -> worldcompute_mesh::wire::OfferRequest {
    worldcompute_mesh::wire::OfferRequest {
        task_id: "task".to_owned(),
        manifest_cid: worldcompute_proof::Cid::raw(b"manifest"),
        min_cpu_cores: 1,
        min_memory_mb: 64,
        needs_gpu: false,
        max_wallclock_ms: 1000,
        classes: vec!["scientific".to_owned()],
    }
}

fn answer(inbound: Inbound) {
    if let Request::Offer(_, responder) = inbound.request {
        responder.send(OfferReply {
            accepted: true,
            load: 0.0,
            reason: None,
        });
    }
}
