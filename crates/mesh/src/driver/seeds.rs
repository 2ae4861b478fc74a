//! Names that stand for several nodes: `/dnsaddr/<host>` is looked up again and again, so that the nodes behind it can
//! change without anybody's being told.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

use super::{Command, Driver};
use crate::address::{is_relayed, peer_of};
use crate::names::Names;

/// When an answer is looked at again.
const EVERY: Duration = Duration::from_secs(600);
/// When a question that was not answered is asked again, first; then after twice as long, up to [`EVERY`].
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
        for seed in seeds {
            self.tasks
                .spawn(follow(names.clone(), seed, commands.clone()));
        }
    }

    pub(super) fn on_seeds(&mut self, found: &[Multiaddr]) {
        let me = *self.swarm.local_peer_id();
        let others = found.iter().filter(|address| peer_of(address) != Some(me));
        self.relays.learn_all(others, Instant::now());
    }
}

async fn follow(names: Arc<Names>, seed: Multiaddr, commands: mpsc::WeakSender<Command>) {
    let mut again = AGAIN;
    loop {
        let pause = match expand(&names, &seed).await {
            Ok(found) => {
                tracing::info!(name = %seed, nodes = found.len(), "found behind a name");
                let Some(commands) = commands.upgrade() else {
                    return;
                };
                if commands.send(Command::Seeds(found)).await.is_err() {
                    return;
                }
                again = AGAIN;
                EVERY
            }
            Err(error) => {
                tracing::info!(name = %seed, %error, "nobody is found behind a name");
                let pause = again;
                again = (again * 2).min(EVERY);
                pause
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// The addresses behind a name, those behind names among them included. Only such as say whose they are, and none but
/// those of the peer that a name is asked for.
async fn expand(names: &Names, seed: &Multiaddr) -> io::Result<Vec<Multiaddr>> {
    let mut asked = Vec::new();
    let mut left = vec![seed.clone()];
    let mut found = Vec::new();
    let mut failed = unnamed();
    while let Some(name) = left.pop() {
        let Some(Protocol::Dnsaddr(host)) = name.iter().next() else {
            continue;
        };
        if asked.contains(&name) || asked.len() >= MAX_LOOKUPS {
            continue;
        }
        asked.push(name.clone());
        let entries = match names.entries(&host).await {
            Ok(entries) => entries,
            Err(error) => {
                failed = error;
                continue;
            }
        };
        let (further, nodes): (Vec<_>, Vec<_>) = entries.into_iter().partition(is_seed);
        let wanted = peer_of(&name);
        found.extend(nodes.into_iter().filter(|node| is_wanted(node, wanted)));
        left.extend(
            further
                .into_iter()
                .filter_map(|next| asking_for(next, wanted)),
        );
    }
    found.truncate(MAX_FOUND);
    match found.is_empty() {
        true => Err(failed),
        false => Ok(found),
    }
}

fn unnamed() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the entries name no node")
}

fn is_wanted(node: &Multiaddr, wanted: Option<PeerId>) -> bool {
    let peer = peer_of(node);
    peer.is_some() && (wanted.is_none() || peer == wanted) && !is_relayed(node)
}

/// A name among the entries of a name stands for the same peer, if that one stands for one.
fn asking_for(next: Multiaddr, wanted: Option<PeerId>) -> Option<Multiaddr> {
    match (peer_of(&next), wanted) {
        (None, Some(peer)) => Some(next.with(Protocol::P2p(peer))),
        (Some(peer), Some(wanted)) if peer != wanted => None,
        _ => Some(next),
    }
}
