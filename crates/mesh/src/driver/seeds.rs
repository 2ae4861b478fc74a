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

/// When a question that was not answered is asked again, first; then after twice as long, up to the pause after an answer.
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
        every: Duration,
    ) {
        for seed in seeds {
            let following = follow(names.clone(), seed, every, self.own.clone());
            self.tasks.spawn(following);
        }
    }

    /// A name was answered: the nodes that it stands for at present.
    pub(super) fn on_seeds(&mut self, seed: &Multiaddr, mut found: Found) {
        let me = *self.swarm.local_peer_id();
        let banned = |peer: PeerId| self.banned.contains(&peer);
        found.nodes.retain(|address| {
            peer_of(address) != Some(me) && !peer_of(address).is_some_and(banned)
        });
        self.relays
            .named(seed, &found.nodes, found.whole, Instant::now());
    }
}

/// What is behind a name.
#[derive(Debug)]
pub(crate) struct Found {
    nodes: Vec<Multiaddr>,
    /// Whether every name was answered that had to be asked for it.
    whole: bool,
}

async fn follow(
    names: Arc<Names>,
    seed: Multiaddr,
    every: Duration,
    commands: mpsc::WeakSender<Command>,
) {
    let first = AGAIN.min(every);
    let mut again = first;
    loop {
        let pause = match expand(&names, &seed).await {
            Ok(found) => {
                tracing::info!(name = %seed, nodes = found.nodes.len(), "found behind a name");
                let Some(commands) = commands.upgrade() else {
                    return;
                };
                let answer = Command::Seeds(seed.clone(), found);
                if commands.send(answer).await.is_err() {
                    return;
                }
                again = first;
                every
            }
            Err(error) => {
                tracing::info!(name = %seed, %error, "nobody is found behind a name");
                let pause = again;
                again = (again * 2).min(every);
                pause
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// The addresses behind a name, those behind names among them included. Only such as say whose they are, and none but
/// those of the peer that a name is asked for.
async fn expand(names: &Names, seed: &Multiaddr) -> io::Result<Found> {
    let mut asked = Vec::new();
    let mut left = vec![seed.clone()];
    let mut nodes = Vec::new();
    let mut failed = None;
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
                failed = Some(error);
                continue;
            }
        };
        let (further, found): (Vec<_>, Vec<_>) = entries.into_iter().partition(is_seed);
        let wanted = peer_of(&name);
        nodes.extend(found.into_iter().filter(|node| is_wanted(node, wanted)));
        left.extend(
            further
                .into_iter()
                .filter_map(|next| asking_for(next, wanted)),
        );
    }
    nodes.truncate(MAX_FOUND);
    match nodes.is_empty() {
        true => Err(failed.unwrap_or_else(unnamed)),
        false => Ok(Found {
            nodes,
            whole: failed.is_none(),
        }),
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
