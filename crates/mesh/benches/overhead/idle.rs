//! The memory of a node with many peers that do nothing. The peers are in a process of their own: this program once more.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use worldcompute_mesh::{Mesh, MeshConfig, Multiaddr};
use worldcompute_proof::SigningKey;

use super::{Outcome, mesh};

/// The word by which this program is the peers.
pub const PEERS: &str = "--idle-peers";
const COUNT: usize = 200;
/// Between two looks at how many there are.
const LOOK: Duration = Duration::from_millis(50);
/// For how long they stay before memory is read: three pings.
const STAY: Duration = Duration::from_secs(15);

/// Starts a node and its peers, and prints what it takes of memory with them and without.
pub async fn measure() -> Outcome {
    let (node, _nobody_asks) = mesh::start(9, |config| mesh::listen(config, "tcp")).await?;
    let listen = node.status().await?.listen;
    let address = listen.first().ok_or("no address")?;
    let address = format!("{address}/p2p/{}", node.peer_id());
    let before = memory()?;
    let mut peers = Command::new(std::env::current_exe()?)
        .args([PEERS, &address])
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    while node.status().await?.connected_peers < COUNT {
        tokio::time::sleep(LOOK).await;
    }
    tokio::time::sleep(STAY).await;
    let with = memory()?;
    println!("{COUNT} idle peers over TCP: {with:.1} MiB, {before:.1} MiB before they came");
    peers.kill().await?;
    Ok(())
}

/// So many nodes that stay connected to one, until their parent ends them.
pub async fn stay(address: &str) -> Outcome {
    let address: Multiaddr = address.parse()?;
    let mut peers = Vec::new();
    for _ in 0..COUNT {
        let mut config = MeshConfig::new(SigningKey::generate()?);
        config.bootstrap = vec![address.clone()];
        peers.push(Mesh::start(config).await?);
    }
    std::future::pending().await
}

/// MiB of this process in the machine's memory.
fn memory() -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.ok_or("no VmRSS")?.parse::<f64>()? / 1024.0)
}
