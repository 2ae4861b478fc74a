//! Connections: made, lost, made again, and never a relayed one where a direct one will do.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use libp2p::core::ConnectedPoint;
use libp2p::core::transport::TransportError;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionError, ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId, identify, kad};
use worldcompute_fault::{Category, Fault};
use worldcompute_proof as proof;

use super::{Driver, is_member};
use crate::address::{is_relayed, relay_of, without_peer};
use crate::behaviour::KAD_PROTOCOL;
use crate::calls::Outgoing;
use crate::dial::{self, Failure};
use crate::inbound::busy;
use crate::status::MeshEvent;

/// Addresses of one dial.
const MAX_DIALLED: usize = 12;
/// Requests to one peer that wait for a connection.
const MAX_WAITING: usize = 256;
/// Searches for the addresses of unknown peers under way.
const MAX_LOOKUPS: usize = 32;
/// Peers of the local network that are connected to without a reason.
const MAX_LAN_PEERS: usize = 64;
/// When a relay dies, its circuits end a moment before the connection to it does. Dialling through it again at once
/// would be in vain.
const CIRCUIT_GRACE: Duration = Duration::from_millis(50);
/// A member sends its subscriptions within this time, or its end of the connection is not the one it thinks.
const SUBSCRIPTION_DEADLINE: Duration = Duration::from_secs(15);

/// A dial of ours under way.
#[derive(Debug)]
pub(super) struct Attempt {
    pub peer: Option<PeerId>,
    pub addresses: Vec<Multiaddr>,
}

impl Driver {
    /// Sends a request, after connecting if need be.
    pub(super) fn call(&mut self, peer: proof::PeerId, call: Outgoing) {
        let Ok(peer) = PeerId::from_bytes(&peer.to_bytes()) else {
            return call.fail(dial::unreachable(&peer, &[]));
        };
        if peer == *self.swarm.local_peer_id() {
            return call.fail(to_itself());
        }
        if self.swarm.is_connected(&peer) {
            return call.send(peer, self.swarm.behaviour_mut());
        }
        let waiting = self.waiting.entry(peer).or_default();
        if waiting.len() >= MAX_WAITING {
            return call.fail(busy());
        }
        waiting.push_back(call);
        if !self.lost.contains_key(&peer) {
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
    }

    /// Dials a peer where it is known to be, or searches for it. Does nothing while either is under way.
    fn connect(&mut self, peer: PeerId) {
        if self.is_dialling(&peer) || self.lookups.values().any(|sought| *sought == peer) {
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

    fn is_dialling(&self, peer: &PeerId) -> bool {
        self.attempts
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

    fn is_direct(&self, peer: &PeerId) -> bool {
        self.book.get(peer).is_some_and(|entry| entry.has_direct())
    }

    fn dial(&mut self, peer: PeerId, mut addresses: Vec<Multiaddr>, condition: PeerCondition) {
        addresses.truncate(MAX_DIALLED);
        let dial = DialOpts::peer_id(peer)
            .addresses(addresses.clone())
            .condition(condition)
            .build();
        self.attempt(Some(peer), addresses, dial);
    }

    /// Dials a node to stay connected to. A circuit to it is not enough: one cannot reserve over it.
    pub(super) fn dial_bootstrap(&mut self, peer: Option<PeerId>, addresses: Vec<Multiaddr>) {
        match (peer, addresses.first()) {
            (Some(peer), _) => self.dial(peer, addresses, PeerCondition::Always),
            (None, Some(address)) => {
                let dial = DialOpts::unknown_peer_id().address(address.clone()).build();
                self.attempt(None, addresses, dial);
            }
            (None, None) => {}
        }
    }

    fn attempt(&mut self, peer: Option<PeerId>, addresses: Vec<Multiaddr>, dial: DialOpts) {
        let id = dial.connection_id();
        self.attempts.insert(id, Attempt { peer, addresses });
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
            if let Some(entry) = self.book.entry(info.peer_id, Instant::now()) {
                entry.learn(&info.peer_id, info.addrs.iter().cloned());
            }
        }
    }

    pub(super) fn on_established(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        endpoint: &ConnectedPoint,
        failed: &[(Multiaddr, TransportError<io::Error>)],
    ) {
        self.attempts.remove(&id);
        for failure in dial::of_attempt(failed) {
            dial::record_failure(Some(&peer), &failure, &mut self.dials);
        }
        let remote = endpoint.get_remote_address();
        if endpoint.is_dialer() {
            dial::record_success(&peer, remote, &mut self.dials);
        }
        let now = Instant::now();
        let Some(entry) = self.book.entry(peer, now) else {
            // Its id holds no key that could sign anything, or there are too many peers.
            self.swarm.close_connection(id);
            return;
        };
        let before = entry.path();
        entry.connect(
            id,
            remote.clone(),
            !endpoint.is_dialer(),
            endpoint.is_relayed(),
            now,
        );
        if endpoint.is_dialer() {
            entry.learn(&peer, [remote.clone()]);
        }
        if !endpoint.is_relayed() {
            self.relays.connected(
                peer,
                endpoint.is_dialer().then(|| without_peer(remote.clone())),
                now,
            );
        }
        self.tell_path(&peer, before);
        self.tell_up(&peer);
        self.flush_waiting(&peer);
    }

    pub(super) fn on_closed(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        endpoint: &ConnectedPoint,
        cause: Option<&ConnectionError>,
    ) {
        let now = Instant::now();
        let Some(entry) = self.book.get_mut(&peer) else {
            return;
        };
        let before = entry.path();
        let last = entry.disconnect(id);
        let direct = entry.has_direct();
        tracing::debug!(%peer, remote = %endpoint.get_remote_address(), ?cause, last, "a connection closed");
        if !endpoint.is_relayed() && !direct {
            let jitter = rand::random();
            let action = self.relays.disconnected(&peer, now, jitter);
            self.perform_all(action);
        }
        if !last {
            return self.tell_path(&peer, before);
        }
        if matches!(cause, Some(ConnectionError::KeepAliveTimeout)) {
            return;
        }
        match endpoint.is_relayed() {
            true => drop(self.lost.insert(peer, now + CIRCUIT_GRACE)),
            false => self.recover(peer, now),
        }
    }

    /// The last connection to a peer is gone: dials it again if that matters to anybody, or tells that it is down.
    fn recover(&mut self, peer: PeerId, now: Instant) {
        if self.swarm.is_connected(&peer) {
            return;
        }
        let donor = self
            .book
            .get(&peer)
            .is_some_and(|entry| entry.capacity(now).is_some());
        let blocked = self.blocked.iter().any(|(shut_out, _)| *shut_out == peer);
        if (donor || self.is_engaged(&peer)) && !blocked && !self.relays.contains(&peer) {
            self.connect(peer);
        } else {
            self.tell_down(&peer);
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
        let Some(attempt) = attempt else { return };
        self.fail_bootstrap(&attempt, &failures);
        if let Some(peer) = attempt.peer {
            self.on_unreachable(peer, &failures);
        }
    }

    fn fail_bootstrap(&mut self, attempt: &Attempt, failures: &[Failure]) {
        let why = failures
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ");
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

    fn flush_waiting(&mut self, peer: &PeerId) {
        for call in self.waiting.remove(peer).unwrap_or_default() {
            call.send(*peer, self.swarm.behaviour_mut());
        }
    }

    fn fail_waiting(&mut self, peer: &PeerId, failures: &[Failure]) {
        let waiting: VecDeque<Outgoing> = self.waiting.remove(peer).unwrap_or_default();
        let Ok(id) = proof::PeerId::from_bytes(&peer.to_bytes()) else {
            return;
        };
        for call in waiting {
            call.fail(dial::unreachable(&id, failures));
        }
    }

    pub(super) fn on_identified(&mut self, peer: PeerId, info: identify::Info) {
        let relays = info.protocols.contains(&libp2p::relay::HOP_PROTOCOL_NAME);
        self.relays.offers(&peer, relays);
        let routes = info.protocols.contains(&KAD_PROTOCOL);
        let member = is_member(&info);
        let Some(entry) = self.book.get_mut(&peer) else {
            return;
        };
        entry.identified(&peer, &info.agent_version, member, info.listen_addrs);
        if routes {
            for address in entry
                .addresses()
                .into_iter()
                .filter(|address| !is_relayed(address))
            {
                self.swarm.behaviour_mut().kad.add_address(&peer, address);
            }
        }
        self.tell_up(&peer);
    }

    pub(super) fn on_discovered(&mut self, found: Vec<(PeerId, Multiaddr)>) {
        let now = Instant::now();
        let mut told = HashSet::new();
        for (peer, address) in found {
            let Some(entry) = self.book.entry(peer, now) else {
                continue;
            };
            entry.learn(&peer, [address]);
            if told.insert(peer) {
                tracing::info!(%peer, "mdns_discovered");
                let id = entry.id;
                self.tell(MeshEvent::Discovered(id));
            }
        }
        for peer in told {
            let connected = self.swarm.is_connected(&peer);
            if !connected && self.swarm.network_info().num_peers() < MAX_LAN_PEERS {
                self.connect(peer);
            }
        }
    }

    pub(super) fn on_punched(
        &mut self,
        peer: PeerId,
        result: &Result<ConnectionId, libp2p::dcutr::Error>,
    ) {
        match result {
            Ok(id) => {
                let Some(entry) = self.book.get_mut(&peer) else {
                    return;
                };
                let before = entry.path();
                entry.punched(*id);
                self.tell_path(&peer, before);
            }
            Err(error) => {
                let root_cause = dial::root_cause(&dial::causes(error));
                tracing::info!(%peer, root_cause, "no hole could be punched; the relay stays");
            }
        }
    }

    /// What time changes about connections.
    pub(super) fn tend_connections(&mut self, now: Instant) {
        let due = |(peer, at): (&PeerId, &Instant)| (*at <= now).then_some(*peer);
        let lost: Vec<PeerId> = self.lost.iter().filter_map(due).collect();
        for peer in lost {
            self.lost.remove(&peer);
            self.recover(peer, now);
        }
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            self.drop_superseded(&peer, now);
            if let Some(why) = self.is_out_of_step(&peer, now) {
                tracing::info!(%peer, why, "connecting anew");
                // Fails only when the peer has just gone by itself.
                let _ = self.swarm.disconnect_peer_id(peer);
            }
        }
    }

    /// Why a peer's end of its connections is not what we think it is, if so.
    ///
    /// A peer whose machine lost power comes back before its old connection ends here. A relay would pass circuits to
    /// the old one, and nobody would send the new one its subscriptions, for those go out with the first connection
    /// of a peer: all of them have to end.
    fn is_out_of_step(&self, peer: &PeerId, now: Instant) -> Option<&'static str> {
        let entry = self.book.get(peer)?;
        let overdue =
            |since: Instant| now.saturating_duration_since(since) >= SUBSCRIPTION_DEADLINE;
        if self.hub && entry.has_returned(now) {
            return Some("a peer came back while its old connection stood");
        }
        let deaf = entry.member && !entry.subscribed && entry.up_since.is_some_and(overdue);
        deaf.then_some("a peer sent no subscriptions")
    }

    /// Closes relayed connections beside a direct one, as soon as no request is under way on them.
    fn drop_superseded(&mut self, peer: &PeerId, now: Instant) {
        let superseded = self
            .book
            .get(peer)
            .map(|entry| entry.superseded(now))
            .unwrap_or_default();
        if superseded.is_empty() || self.relays_for(peer) {
            return;
        }
        for id in superseded {
            self.swarm.close_connection(id);
        }
    }

    fn relays_for(&self, peer: &PeerId) -> bool {
        let behaviour = self.swarm.behaviour();
        behaviour.offer.relays_for(peer)
            || behaviour.dispatch.relays_for(peer)
            || behaviour.lease.relays_for(peer)
            || behaviour.content.relays_for(peer)
    }

    fn is_engaged(&self, peer: &PeerId) -> bool {
        let behaviour = self.swarm.behaviour();
        self.waiting.contains_key(peer)
            || behaviour.offer.is_engaged(peer)
            || behaviour.dispatch.is_engaged(peer)
            || behaviour.lease.is_engaged(peer)
            || behaviour.content.is_engaged(peer)
    }

    /// Tells that a member is there, once until it is gone.
    fn tell_up(&mut self, peer: &PeerId) {
        let Some(entry) = self.book.get_mut(peer) else {
            return;
        };
        let Some(path) = entry.path() else { return };
        if entry.member && !entry.announced_up {
            entry.announced_up = true;
            let id = entry.id;
            tracing::info!(peer = %id, path = path.as_str(), "peer_up");
            self.tell(MeshEvent::PeerUp(id, path));
        }
    }

    fn tell_down(&mut self, peer: &PeerId) {
        let Some(entry) = self.book.get_mut(peer) else {
            return;
        };
        if entry.announced_up && !entry.is_connected() {
            entry.announced_up = false;
            let id = entry.id;
            tracing::info!(peer = %id, "peer_down");
            self.tell(MeshEvent::PeerDown(id));
        }
    }

    fn tell_path(&self, peer: &PeerId, before: Option<crate::status::Path>) {
        let Some(entry) = self.book.get(peer) else {
            return;
        };
        if let (true, Some(path)) = (entry.announced_up, entry.path())
            && before != Some(path)
        {
            self.tell(MeshEvent::PathChanged(entry.id, path));
        }
    }
}

fn to_itself() -> Fault {
    Fault::new(
        Category::InvalidInput,
        "own_peer",
        "a node does not send requests to itself",
    )
}
