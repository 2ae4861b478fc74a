//! Peers of the local network. mDNS tells of each of them once, when it first hears of it; whoever was lost, or could
//! not be reached then, is dialled again for as long as mDNS knows of it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};

use super::Driver;
use super::pacing::Pacing;
use crate::book::Entry;
use crate::status::MeshEvent;

/// Peers of the local network that are connected to without a reason.
const MAX_NEIGHBOURS: usize = 64;
/// How often those that are not connected are looked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// The pause after a dial, which doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// When those that are not connected are looked for.
pub(super) struct Neighbours {
    looked: Instant,
    dials: Pacing,
}

impl Neighbours {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            looked: now,
            dials: Pacing::new(Duration::ZERO, FIRST_PAUSE, LONGEST_PAUSE),
        }
    }
}

impl Driver {
    pub(super) fn on_discovered(&mut self, found: Vec<(PeerId, Multiaddr)>) {
        let now = Instant::now();
        let mut told = HashSet::new();
        for (peer, address) in found {
            let Some(entry) = self.book.newcomer(peer, now) else {
                continue;
            };
            entry.learn(&peer, [address]);
            if told.insert(peer) {
                tracing::info!(%peer, "mdns_discovered");
                let id = entry.id;
                self.tell(MeshEvent::Discovered(id));
            }
        }
        told.retain(|peer| !self.swarm.is_connected(peer) && self.is_wanted_near(peer));
        let room = self.room_for_neighbours();
        for peer in told.into_iter().take(room) {
            self.connect(peer);
        }
    }

    pub(super) fn tend_neighbours(&mut self, now: Instant) {
        if now.saturating_duration_since(self.neighbours.looked) < LOOK_INTERVAL {
            return;
        }
        self.neighbours.looked = now;
        let mut absent = self.neighbourhood();
        absent.retain(|peer| !self.swarm.is_connected(peer) && self.is_wanted_near(peer));
        let room = self.room_for_neighbours();
        let due = self.neighbours.dials.due(&absent, now);
        for peer in due.into_iter().take(room) {
            self.neighbours.dials.tried(&peer, rand::random(), now);
            self.connect(peer);
        }
    }

    /// Other programs are found by mDNS too, and those that were shut out.
    fn is_wanted_near(&self, peer: &PeerId) -> bool {
        let stranger = self.book.get(peer).is_some_and(Entry::is_stranger);
        !stranger && !self.is_shut_out(peer)
    }

    /// Peers that are connected over the internet take no room from those nearby.
    fn room_for_neighbours(&self) -> usize {
        let neighbours = self.neighbourhood();
        let connected = neighbours
            .iter()
            .filter(|peer| self.swarm.is_connected(peer));
        MAX_NEIGHBOURS.saturating_sub(connected.count())
    }

    fn neighbourhood(&self) -> HashSet<PeerId> {
        let mdns = self.swarm.behaviour().mdns.as_ref();
        mdns.map(|mdns| mdns.discovered_nodes().copied().collect())
            .unwrap_or_default()
    }
}
