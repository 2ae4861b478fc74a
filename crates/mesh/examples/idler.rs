//! A donor that offers everything, takes every task, says that it works on it, and never runs one. Says which it took.
//!
//! ```sh
//! idler --listen /ip4/0.0.0.0/tcp/19999 --bootstrap /ip4/192.0.2.1/tcp/19999/p2p/12D3KooW...
//! ```
//!
//! It ends with its standard input.

mod support;

use std::time::Duration;

use tokio::time::interval;
use worldcompute_fault::{Fault, WcCode};
use worldcompute_mesh::wire::{Capacity, DispatchReply, LeaseReply, OfferReply};
use worldcompute_mesh::{Inbound, Mesh, MeshConfig, Request, Responder};
use worldcompute_proof::SigningKey;

use support::{Outcome, end_of_input};

/// How often it says what it has.
const BOAST_EVERY: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Outcome<()> {
    let (mesh, mut inbound) = Mesh::start(arguments()?).await?;
    println!(r#"{{"peer_id":"{}"}}"#, mesh.peer_id());
    let (mut times, mut end) = (interval(BOAST_EVERY), end_of_input());
    let mut taken = Vec::new();
    loop {
        tokio::select! {
            _ = &mut end => break,
            _ = times.tick() => mesh.announce(everything()).await,
            Some(request) = inbound.recv() => taken.extend(answer(request)),
        }
    }
    mesh.shutdown().await;
    Ok(())
}

fn arguments() -> Outcome<MeshConfig> {
    let mut config = MeshConfig::new(SigningKey::generate()?);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments
            .next()
            .ok_or(format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--listen" => config.listen.push(value.parse()?),
            "--bootstrap" => config.bootstrap.push(value.parse()?),
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    Ok(config)
}

/// What it took, to be kept: dropped, it would be an answer.
fn answer(inbound: Inbound) -> Option<Responder<DispatchReply>> {
    match inbound.request {
        Request::Dispatch(request, reply) => {
            println!(r#"{{"took":"{}"}}"#, request.lease_id);
            return Some(reply);
        }
        Request::Lease(_, reply) => drop(reply.send(LeaseReply { known: true })),
        Request::Offer(_, reply) => drop(reply.send(OfferReply {
            accepted: true,
            load: 0.0,
            reason: None,
        })),
        other => drop(other.refuse(&Fault::wc(WcCode::NotFound, "nothing is here"))),
    }
    None
}

fn everything() -> Capacity {
    Capacity {
        cores: 64,
        memory_mb: 65_536,
        load: 0.0,
        classes: vec!["general".to_owned()],
        paused: false,
        addresses: Vec::new(),
        slots: 64,
        images: false,
    }
}
