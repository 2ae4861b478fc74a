//! Requests on their way to a peer, and the dials that get them there.

use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, Instant};

use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId, kad};
use tokio::sync::oneshot;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof as proof;

use super::Driver;
use crate::address::{Transport, is_relayed, peer_of, relay_of, without_peer};
use crate::book::Entry;
use crate::dial::{self, Failure};
use crate::inbound::busy;

/// How long QUIC and TCP are ahead of what looks like the web.
const HEAD_START: Duration = Duration::from_millis(500);
/// After how long a lost relay is tried again over TLS where it refused, with a fifth more or less.
const KNOCK_AGAIN: Duration = Duration::from_millis(500);
/// A dial that was dropped belongs to a connection of which the swarm tells within this time, or to none. A machine that is
/// busy may take a while over it.
const SETTLED: Duration = Duration::from_secs(5);
/// Addresses of one dial.
const MAX_DIALLED: usize = 12;
/// Those among them for which there is room however many direct ones there are: nothing else may lead to the peer.
const MAX_CIRCUITS_DIALLED: usize = 4;
/// Those among them that look like the web, of one dial.
const MAX_WEB_DIALLED: usize = 4;
/// Dials of one peer under way at once.
const MAX_BESIDE: usize = 4;
/// Requests to one peer that wait for a connection.
const MAX_WAITING: usize = 256;
/// Searches for the addresses of unknown peers under way.
const MAX_LOOKUPS: usize = 32;

/// A dial of ours under way.
#[derive(Debug)]
pub(super) struct Attempt {
    pub peer: Option<PeerId>,
    pub addresses: Vec<Multiaddr>,
    /// What came of those before and beside it.
    failed: Vec<Failure>,
}

/// The addresses over TLS of a peer that is being dialled at its others.
#[derive(Debug)]
pub(super) struct Fallback {
    due: Instant,
    addresses: Vec<Multiaddr>,
}

impl Driver {
    /// Tells when there is a connection to the peer, after dialling it if need be.
    pub(super) fn connect_for(
        &mut self,
        peer: proof::PeerId,
        connected: oneshot::Sender<Result<()>>,
    ) {
        let Ok(peer) = PeerId::from_bytes(&peer.to_bytes()) else {
            return tell(connected, Err(dial::unreachable(&peer, &[])));
        };
        if peer == *self.swarm.local_peer_id() {
            return tell(connected, Err(to_itself()));
        }
        if self.lines.lead_to(&peer) {
            return tell(connected, Ok(()));
        }
        let waiting = self.waiting.entry(peer).or_default();
        if waiting.len() >= MAX_WAITING {
            return tell(connected, Err(busy()));
        }
        waiting.push(connected);
        // A connection that ends is seen to when it has ended.
        if !self.lost.contains_key(&peer) && !self.swarm.is_connected(&peer) {
            self.connect(peer);
        }
    }

    pub(super) fn add_peer(&mut self, peer: proof::PeerId, addresses: Vec<Multiaddr>) {
        let Ok(peer) = PeerId::from_bytes(&peer.to_bytes()) else {
            return;
        };
        if let Some(entry) = self.book.entry(peer, Instant::now()) {
            entry.learn(&peer, addresses);
        }
        self.dial_beside(peer);
    }

    /// Another way to a peer may have opened while it is dialled: addresses that nobody answers at, such as those of its
    /// own network, do not hold up those that are new.
    pub(super) fn dial_beside(&mut self, peer: PeerId) {
        let under_way = || {
            let attempts = self.attempts.values();
            attempts.filter(|attempt| attempt.peer == Some(peer))
        };
        let count = under_way().count();
        if self.swarm.is_connected(&peer) || count == 0 || count >= MAX_BESIDE {
            return;
        }
        let later = self
            .fallbacks
            .get(&peer)
            .map(|fallback| &fallback.addresses);
        let tried: HashSet<&Multiaddr> = under_way()
            .flat_map(|attempt| &attempt.addresses)
            .chain(later.into_iter().flatten())
            .collect();
        let mut fresh = self.worth_dialling(&self.known_addresses(&peer));
        fresh.retain(|address| !tried.contains(address));
        let fresh = with_circuits(fresh);
        if !fresh.is_empty() {
            self.dial_now(peer, fresh, PeerCondition::Always, Vec::new());
        }
    }

    /// The same for everybody who is waited for, when a relay is there again.
    pub(super) fn dial_beside_all(&mut self) {
        let awaited: Vec<PeerId> = self.waiting.keys().copied().collect();
        for peer in awaited {
            self.dial_beside(peer);
        }
    }

    /// Dials a peer where it is known to be, or searches for it; beside a dial under way, where that does not.
    pub(super) fn connect(&mut self, peer: PeerId) {
        if self.is_dialling(&peer) {
            return self.dial_beside(peer);
        }
        if self.lookups.values().any(|sought| *sought == peer) {
            return;
        }
        let known = self.known_addresses(&peer);
        let addresses = self.worth_dialling(&known);
        match (known.is_empty(), addresses.is_empty()) {
            (true, _) => self.look_up(peer),
            (false, true) => self.on_unreachable(peer, &dial::relays_lost(&known)),
            (false, false) => self.dial(peer, addresses, PeerCondition::Disconnected),
        }
    }

    pub(super) fn is_dialling(&self, peer: &PeerId) -> bool {
        self.fallbacks.contains_key(peer)
            || self
                .attempts
                .values()
                .any(|attempt| attempt.peer == Some(*peer))
    }

    fn known_addresses(&self, peer: &PeerId) -> Vec<Multiaddr> {
        self.book
            .get(peer)
            .map(|entry| entry.addresses())
            .unwrap_or_default()
    }

    /// Leaves out circuits through relays that were just lost and are being dialled anyway, and all but one through
    /// a relay that is connected: they would all use that connection.
    fn worth_dialling(&self, known: &[Multiaddr]) -> Vec<Multiaddr> {
        let mut through = HashSet::new();
        let worth = |address: &&Multiaddr| match relay_of(address) {
            None => true,
            Some(relay) if self.relays.has_lost(&relay) => false,
            Some(relay) if self.is_direct(&relay) => through.insert(relay),
            Some(_) => true,
        };
        known.iter().filter(worth).cloned().collect()
    }

    pub(super) fn is_direct(&self, peer: &PeerId) -> bool {
        self.book.get(peer).is_some_and(|entry| entry.has_direct())
    }

    /// Dials over QUIC, TCP and circuits at once, and over TLS when these come to nothing or take long: what passes for a
    /// website costs a relay more than they do.
    fn dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, condition: PeerCondition) {
        let (mut web, others): (Vec<_>, Vec<_>) = addresses
            .into_iter()
            .partition(|address| Transport::of(address) == Transport::Wss);
        web.truncate(MAX_WEB_DIALLED);
        let others = with_circuits(others);
        if web.is_empty() || others.is_empty() {
            let addresses = if web.is_empty() { others } else { web };
            return self.dial_now(peer, addresses, condition, Vec::new());
        }
        let due = Instant::now() + HEAD_START;
        self.fallbacks.insert(
            peer,
            Fallback {
                due,
                addresses: web,
            },
        );
        self.dial_now(peer, others, condition, Vec::new());
    }

    pub(super) fn tend_fallbacks(&mut self, now: Instant) {
        let due = |(peer, fallback): (&PeerId, &Fallback)| (fallback.due <= now).then_some(*peer);
        let peers: Vec<PeerId> = self.fallbacks.iter().filter_map(due).collect();
        for peer in peers {
            self.fall_back(peer, Vec::new());
        }
    }

    /// Dials over TLS, if that is left to be done for this peer.
    fn fall_back(&mut self, peer: PeerId, failed: Vec<Failure>) {
        let Some(fallback) = self.fallbacks.remove(&peer) else {
            return;
        };
        if self.is_direct(&peer) {
            return;
        }
        let reason = match failed.as_slice() {
            [] => self.unanswered(&peer),
            failed => dial::in_words(failed),
        };
        let port = fallback.addresses.first().and_then(port);
        tracing::info!(%peer, reason, "falling back to wss/{}", port.unwrap_or_default());
        self.dial_now(peer, fallback.addresses, PeerCondition::Always, failed);
    }

    /// What the head start was not enough for.
    fn unanswered(&self, peer: &PeerId) -> String {
        let under_way = self.attempts.values();
        let under_way = under_way.filter(|attempt| attempt.peer == Some(*peer));
        let addresses = under_way.flat_map(|attempt| &attempt.addresses);
        let kinds: BTreeSet<Transport> = addresses.map(Transport::of).collect();
        let kinds: Vec<&str> = kinds.into_iter().map(Transport::as_str).collect();
        let (kinds, after) = (kinds.join(", "), HEAD_START.as_millis());
        format!("{kinds}: no answer after {after} ms")
    }

    /// One record for every address of a dial that succeeded, and why it is not something better.
    pub(super) fn record_dial(
        &mut self,
        peer: &PeerId,
        winner: &Multiaddr,
        mut failed: Vec<Failure>,
    ) {
        let beside = self
            .given_up
            .take(|dial| peer_of(&dial.address) == Some(*peer));
        failed.extend(
            beside
                .into_iter()
                .map(|dial| dial::abandoned(dial, Some(winner))),
        );
        for failure in &failed {
            dial::record_failure(Some(peer), failure, &mut self.dials);
        }
        dial::record_success(peer, winner, &mut self.dials);
        let better = dial::better_than(winner, failed);
        if !better.is_empty() {
            let (kind, reason) = (Transport::of(winner).as_str(), dial::in_words(&better));
            tracing::info!(%peer, reason, "falling back to {kind}");
        }
    }

    /// Dials that were dropped without anything else to tell of.
    pub(super) fn tend_given_up(&mut self, now: Instant) {
        let Some(settled) = now.checked_sub(SETTLED) else {
            return;
        };
        for dial in self.given_up.take(|dial| dial.is_before(settled)) {
            let peer = peer_of(&dial.address);
            let failure = dial::abandoned(dial, None);
            dial::record_failure(peer.as_ref(), &failure, &mut self.dials);
        }
    }

    /// Tries for a better connection to a peer, unless somebody needs the one there is.
    pub(super) fn upgrade(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        if !self.is_needed(&peer) && !self.is_dialling(&peer) {
            self.dial_now(peer, addresses, PeerCondition::Always, Vec::new());
        }
    }

    pub(super) fn dial_now(
        &mut self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        condition: PeerCondition,
        failed: Vec<Failure>,
    ) {
        self.swarm.behaviour_mut().ways.lead_to(&addresses);
        let dial = DialOpts::peer_id(peer)
            .addresses(addresses.clone())
            .condition(condition)
            .build();
        self.attempt(Some(peer), addresses, failed, dial);
    }

    /// Dials a node to stay connected to. A circuit to it is not enough: one cannot reserve over it.
    pub(super) fn dial_bootstrap(&mut self, peer: Option<PeerId>, addresses: Vec<Multiaddr>) {
        match (peer, addresses.first()) {
            (Some(peer), _) => self.dial(peer, addresses, PeerCondition::Always),
            (None, Some(address)) => {
                let dial = DialOpts::unknown_peer_id().address(address.clone()).build();
                self.attempt(None, addresses, Vec::new(), dial);
            }
            (None, None) => {}
        }
    }

    fn attempt(
        &mut self,
        peer: Option<PeerId>,
        addresses: Vec<Multiaddr>,
        failed: Vec<Failure>,
        dial: DialOpts,
    ) {
        let id = dial.connection_id();
        let attempt = Attempt {
            peer,
            addresses,
            failed,
        };
        self.attempts.insert(id, attempt);
        if let Err(error) = self.swarm.dial(dial) {
            self.on_dial_error(id, peer, &error);
        }
    }

    /// Searches the routing tables of relays for a peer without known addresses.
    fn look_up(&mut self, peer: PeerId) {
        let kad = &mut self.swarm.behaviour_mut().kad;
        let known = kad.kbuckets().any(|bucket| !bucket.is_empty());
        if !known || self.lookups.len() >= MAX_LOOKUPS {
            return self.fail_waiting(&peer, &[]);
        }
        let query = kad.get_closest_peers(peer);
        self.lookups.insert(query, peer);
    }

    pub(super) fn on_kad(&mut self, event: kad::Event) {
        let kad::Event::OutboundQueryProgressed {
            id, result, step, ..
        } = event
        else {
            return;
        };
        if let kad::QueryResult::GetClosestPeers(Ok(found)) = &result {
            self.learn_found(found);
        }
        if !step.last {
            return;
        }
        if let Some(peer) = self.lookups.remove(&id) {
            match self.known_addresses(&peer).is_empty() {
                true => self.fail_waiting(&peer, &[]),
                false => self.connect(peer),
            }
        }
    }

    fn learn_found(&mut self, found: &kad::GetClosestPeersOk) {
        for info in &found.peers {
            if let Some(entry) = self.book.newcomer(info.peer_id, Instant::now()) {
                entry.learn(&info.peer_id, info.addrs.iter().cloned());
            }
        }
    }

    pub(super) fn on_dial_error(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        error: &DialError,
    ) {
        let attempt = self.attempts.remove(&id);
        let tried = attempt
            .as_ref()
            .map(|attempt| attempt.addresses.clone())
            .unwrap_or_default();
        let failures = dial::failures(error, &tried);
        for failure in &failures {
            dial::record_failure(peer.as_ref(), failure, &mut self.dials);
        }
        let Some(mut attempt) = attempt else { return };
        attempt.failed.extend(failures);
        if let Some(peer) = attempt.peer {
            if let Some(others) = self.others_than_misled(peer, error, &attempt) {
                return self.dial_now(peer, others, PeerCondition::Always, attempt.failed);
            }
            if self.fallbacks.contains_key(&peer) {
                return self.fall_back(peer, attempt.failed);
            }
            if let Some(beside) = self.beside(&peer) {
                beside.failed.append(&mut attempt.failed);
                return self.knock_again(peer, attempt.addresses);
            }
        }
        self.fail_bootstrap(&attempt);
        if let Some(peer) = attempt.peer {
            self.on_unreachable(peer, &attempt.failed);
        }
    }

    /// The addresses that are left of a dial that ended early because somebody else answers at one of them: one of
    /// another's network, as a rule, and whoever has it here answers before a circuit can.
    fn others_than_misled(
        &mut self,
        peer: PeerId,
        error: &DialError,
        attempt: &Attempt,
    ) -> Option<Vec<Multiaddr>> {
        let (DialError::WrongPeerId { address, .. } | DialError::LocalPeerId { address }) = error
        else {
            return None;
        };
        let wrong = without_peer(address.clone());
        if let Some(entry) = self.book.get_mut(&peer) {
            entry.forget(&wrong);
        }
        let tried = attempt.addresses.iter();
        let others: Vec<Multiaddr> = tried
            .filter(|address| without_peer((*address).clone()) != wrong)
            .cloned()
            .collect();
        // Each time one less, or it would have no end.
        let fewer = others.len() < attempt.addresses.len();
        (fewer && !others.is_empty()).then_some(others)
    }

    /// A lost relay that is back answers over TLS before firewalls have let the dials of its other addresses run out of
    /// time: until then it is tried again and again.
    fn knock_again(&mut self, peer: PeerId, mut addresses: Vec<Multiaddr>) {
        addresses.retain(|address| Transport::of(address) == Transport::Wss);
        if !addresses.is_empty() && self.relays.has_lost(&peer) {
            let due = Instant::now() + KNOCK_AGAIN.mul_f64(rand::random_range(0.8..1.2));
            self.fallbacks.insert(peer, Fallback { due, addresses });
        }
    }

    /// Another attempt at the same peer, which may yet succeed.
    fn beside(&mut self, peer: &PeerId) -> Option<&mut Attempt> {
        self.attempts
            .values_mut()
            .find(|attempt| attempt.peer == Some(*peer))
    }

    fn fail_bootstrap(&mut self, attempt: &Attempt) {
        let why = dial::in_words(&attempt.failed);
        let (now, jitter) = (Instant::now(), rand::random());
        let action = self
            .relays
            .dial_failed(attempt.peer, &attempt.addresses, why, now, jitter);
        self.perform_all(action);
    }

    fn on_unreachable(&mut self, peer: PeerId, failures: &[Failure]) {
        if self.swarm.is_connected(&peer) {
            return self.flush_waiting(&peer);
        }
        if self.is_dialling(&peer) {
            return;
        }
        self.fail_waiting(&peer, failures);
        self.tell_down(&peer);
    }

    pub(super) fn flush_waiting(&mut self, peer: &PeerId) {
        for connected in self.waiting.remove(peer).unwrap_or_default() {
            tell(connected, Ok(()));
        }
    }

    /// Whether a box opens the TLS on the way to a peer, as far as it can be seen from here.
    pub(super) fn is_inspected_to(&self, peer: &PeerId) -> bool {
        self.book.get(peer).is_some_and(Entry::is_inspected)
    }

    fn fail_waiting(&mut self, peer: &PeerId, failures: &[Failure]) {
        let waiting = self.waiting.remove(peer).unwrap_or_default();
        let Ok(id) = proof::PeerId::from_bytes(&peer.to_bytes()) else {
            return;
        };
        for connected in waiting {
            tell(connected, Err(dial::unreachable(&id, failures)));
        }
    }
}

/// The first of them, and of the circuits.
fn with_circuits(addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
    let (circuits, mut chosen): (Vec<_>, Vec<_>) = addresses.into_iter().partition(is_relayed);
    chosen.truncate(MAX_DIALLED - circuits.len().min(MAX_CIRCUITS_DIALLED));
    chosen.extend(circuits);
    chosen.truncate(MAX_DIALLED);
    chosen
}

fn port(address: &Multiaddr) -> Option<u16> {
    address.iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    })
}

fn tell(waiting: oneshot::Sender<Result<()>>, outcome: Result<()>) {
    // Whoever no longer waits need not be told.
    let _ = waiting.send(outcome);
}

fn to_itself() -> Fault {
    Fault::new(
        Category::InvalidInput,
        "own_peer",
        "a node does not send requests to itself",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_direct_addresses_leave_room_for_circuits() {
        let direct = |n: usize| -> Multiaddr { format!("/ip4/10.0.{n}.1/tcp/1").parse().unwrap() };
        let relay = PeerId::random();
        let circuit = |n: usize| -> Multiaddr {
            format!("/ip4/20.0.{n}.1/tcp/1/p2p/{relay}/p2p-circuit")
                .parse()
                .unwrap()
        };
        let chosen = |directs: usize, circuits: usize| {
            let all = (0..directs).map(direct).chain((0..circuits).map(circuit));
            let chosen = with_circuits(all.collect());
            let relayed = chosen.iter().filter(|address| is_relayed(address)).count();
            (chosen.len() - relayed, relayed)
        };
        assert_eq!(chosen(20, 1), (MAX_DIALLED - 1, 1));
        assert_eq!(
            chosen(20, 9),
            (MAX_DIALLED - MAX_CIRCUITS_DIALLED, MAX_CIRCUITS_DIALLED)
        );
        assert_eq!(chosen(20, 0), (MAX_DIALLED, 0));
        assert_eq!(chosen(2, 20), (2, MAX_DIALLED - 2));
        assert_eq!(chosen(1, 1), (1, 1));
    }
}
