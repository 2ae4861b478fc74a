//! Names that stand for several nodes: `/dnsaddr/<host>` is looked up again and again, so that the nodes behind it can
//! change without anybody's being told.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tokio::sync::mpsc;

use super::{Command, Driver};
use crate::address::{is_relayed, peer_of};
use crate::names::Names;

/// When an answer is looked at again.
const EVERY: Duration = Duration::from_secs(600);
/// When a question that was not answered is asked again.
const AGAIN: Duration = Duration::from_secs(5);
/// Names behind one name.
const MAX_LOOKUPS: usize = 8;
/// Addresses behind one name.
const MAX_FOUND: usize = 32;

/// Whether the address is a name that stands for several.
pub(super) fn is_seed(address: &Multiaddr) -> bool {
    matches!(address.iter().next(), Some(Protocol::Dnsaddr(_)))
}

impl Driver {
    /// Looks the names up for as long as this node is there.
    pub(super) fn follow_seeds(
        &mut self,
        names: Arc<Names>,
        seeds: Vec<Multiaddr>,
        commands: mpsc::WeakSender<Command>,
    ) {
        if !seeds.is_empty() {
            self.tasks.spawn(follow(names, seeds, commands));
        }
    }

    pub(super) fn on_seeds(&mut self, found: &[Multiaddr]) {
        let me = *self.swarm.local_peer_id();
        let others = found.iter().filter(|address| peer_of(address) != Some(me));
        self.relays.learn_all(others, Instant::now());
    }
}

async fn follow(names: Arc<Names>, seeds: Vec<Multiaddr>, commands: mpsc::WeakSender<Command>) {
    loop {
        let mut pause = EVERY;
        for seed in &seeds {
            let found = match expand(&names, seed).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::info!(%seed, %error, "nobody is found behind a name");
                    pause = AGAIN;
                    continue;
                }
            };
            tracing::info!(%seed, nodes = found.len(), "found behind a name");
            let Some(commands) = commands.upgrade() else {
                return;
            };
            if commands.send(Command::Seeds(found)).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// The addresses behind a name, those behind names among them included. Only such as say whose they are, and none but
/// those of the peer that the name is asked for.
async fn expand(names: &Names, seed: &Multiaddr) -> io::Result<Vec<Multiaddr>> {
    let wanted = peer_of(seed);
    let mut asked = Vec::new();
    let mut names_left = vec![seed.clone()];
    let mut found = Vec::new();
    while let Some(name) = names_left.pop() {
        let Some(Protocol::Dnsaddr(host)) = name.iter().next() else {
            continue;
        };
        if asked.contains(&host.to_string()) || asked.len() >= MAX_LOOKUPS {
            continue;
        }
        asked.push(host.to_string());
        for entry in names.entries(&host).await? {
            let theirs = wanted.is_none() || peer_of(&entry) == wanted;
            match is_seed(&entry) {
                true => names_left.push(entry),
                false if theirs && peer_of(&entry).is_some() && !is_relayed(&entry) => {
                    found.push(entry);
                }
                false => {}
            }
        }
    }
    found.truncate(MAX_FOUND);
    match found.is_empty() {
        true => Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the entries name no node",
        )),
        false => Ok(found),
    }
}
