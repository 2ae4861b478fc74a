//! Connections: made, lost, made again, and never a relayed one where a direct one will do.

use std::io;
use std::time::{Duration, Instant};

use libp2p::core::ConnectedPoint;
use libp2p::core::transport::TransportError;
use libp2p::swarm::{ConnectionError, ConnectionId, ListenError};
use libp2p::{Multiaddr, PeerId, autonat, dcutr, identify, kad, ping, relay};

use super::Driver;
use crate::address::{Transport, is_relayed, relay_of, without_peer};
use crate::behaviour::{KAD_PROTOCOL, PROTOCOL};
use crate::book::{Entry, Link};
use crate::dial;
use crate::exchange::Standing;
use crate::network::{Network, relay_scope};
use crate::refusals::Refused;
use crate::status::{MeshEvent, Path};

/// When a relay dies, its circuits end a moment before the connection to it does. Dialling through it again at once
/// would be in vain.
const CIRCUIT_GRACE: Duration = Duration::from_millis(50);
/// A member sends its subscriptions within this time, or its end of the connection is not the one it thinks.
const SUBSCRIPTION_DEADLINE: Duration = Duration::from_secs(15);

impl Driver {
    pub(super) fn on_established(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        endpoint: &ConnectedPoint,
        failed: &[(Multiaddr, TransportError<io::Error>)],
    ) {
        let wanted = self.attempts.remove(&id).is_some();
        let remote = endpoint.get_remote_address();
        if endpoint.is_dialer() {
            self.record_dial(&peer, remote, dial::of_attempt(failed));
        }
        let now = Instant::now();
        let inspected = self.is_inspected(&peer, endpoint);
        let link = Link {
            remote: remote.clone(),
            inbound: !endpoint.is_dialer(),
            relayed: endpoint.is_relayed(),
            relay: relay_of(way(endpoint)),
            relay_scope: relay_scope(way(endpoint)),
            inspected,
        };
        let Some(entry) = self.book.entry(peer, now) else {
            // Its id holds no key that could sign anything, or there are too many peers.
            self.swarm.close_connection(id);
            return;
        };
        let before = entry.path();
        // The dialler of a circuit believes it made before the other side has let it in: where there is another way, it is
        // used when something has come back.
        let proven = !(endpoint.is_relayed() && endpoint.is_dialer() && entry.is_connected());
        entry.connect(id, link, now);
        if endpoint.is_dialer() {
            entry.learn(&peer, [remote.clone()]);
        }
        if !endpoint.is_relayed() {
            self.fallbacks.remove(&peer);
            self.relays.connected(
                peer,
                endpoint.is_dialer().then(|| without_peer(remote.clone())),
                now,
            );
        }
        if endpoint.is_relayed() && !self.is_dialling(&peer) {
            let why = "nothing but a circuit answered".to_owned();
            let action = self
                .relays
                .dial_failed(Some(peer), &[], why, now, rand::random());
            self.perform_all(action);
        }
        if self.keep_the_best(&peer, id, wanted) {
            self.tell_standing(&peer);
            if proven {
                self.lines.introduce(&peer, id, inspected);
            }
        }
        self.tell_path(&peer, before);
        self.tell_up(&peer);
        self.flush_waiting(&peer);
        if self.relays.contains(&peer) {
            self.dial_beside_all();
        }
    }

    /// Of connections that this node dialled directly, one is enough: the best, but none is taken away from under a
    /// request or a circuit; nor, with the reservation on it, for one that only the routing table dialled. False when it
    /// is the newest that goes.
    fn keep_the_best(&mut self, peer: &PeerId, newest: ConnectionId, wanted: bool) -> bool {
        let Some(entry) = self.book.get(peer) else {
            return true;
        };
        let (worse, is_best) = entry.beside(newest);
        if is_best && worse.is_empty() {
            return true;
        }
        if !is_best || !wanted || self.is_needed(peer) || !self.lines.retire(peer, &worse) {
            self.swarm.close_connection(newest);
            return false;
        }
        tracing::info!(%peer, "upgraded to a better connection");
        if self.relays.contains(peer) {
            self.upgrades.begin_anew();
        }
        for id in worse {
            self.swarm.close_connection(id);
        }
        true
    }

    /// What is told with requests of the peer, and kept in mind for those to it.
    fn tell_standing(&self, peer: &PeerId) {
        let standing = self.book.get(peer).and_then(|entry| {
            Some(Standing {
                id: entry.id,
                path: entry.path()?,
            })
        });
        self.lines.stands(peer, standing);
    }

    /// A connection from outside came to nothing, perhaps because a limit forbids it.
    pub(super) fn on_failed_incoming(&mut self, from: &Multiaddr, error: &ListenError) {
        self.counts.failed += 1;
        tracing::debug!(%from, %error, "an incoming connection failed");
        let ListenError::Denied { cause } = error else {
            return;
        };
        self.counts.connections_refused += 1;
        let told = self
            .refusals
            .note(Refused::Connection, Network::of(from), Instant::now());
        if let Some(refused) = told {
            let why = dial::root_cause(&dial::causes(cause));
            tracing::info!(%from, refused, why, "connections are refused");
        }
    }

    /// Whether a request, or a circuit through it, is on the way over the connections to a peer.
    pub(super) fn is_needed(&self, peer: &PeerId) -> bool {
        self.is_engaged(peer)
            || self
                .book
                .iter()
                .any(|(_, entry)| entry.is_reached_through(peer))
    }

    /// Whether a box on the way opens the TLS of this connection, or of the one to the relay that it runs through.
    fn is_inspected(&self, peer: &PeerId, endpoint: &ConnectedPoint) -> bool {
        let way = way(endpoint);
        match relay_of(way) {
            Some(relay) => self.book.get(&relay).is_some_and(Entry::is_inspected),
            None => {
                endpoint.is_dialer()
                    && Transport::of(way) == Transport::Wss
                    && self.sightings.is_inspected(peer)
            }
        }
    }

    pub(super) fn on_closed(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        endpoint: &ConnectedPoint,
        cause: Option<&ConnectionError>,
    ) {
        let (now, cut) = (Instant::now(), self.lines.take_cut(&peer));
        let Some(entry) = self.book.get_mut(&peer) else {
            return;
        };
        let before = entry.path();
        let last = entry.disconnect(id);
        let direct = entry.has_direct();
        self.tell_standing(&peer);
        tracing::debug!(%peer, remote = %endpoint.get_remote_address(), ?cause, last, "a connection closed");
        if !endpoint.is_relayed() && !direct {
            self.circuits.left(&peer);
            let jitter = rand::random();
            let action = self.relays.disconnected(&peer, now, jitter);
            self.perform_all(action);
        }
        if !last {
            return self.tell_path(&peer, before);
        }
        if !self.is_dialling(&peer) {
            self.sightings.left(&peer);
        }
        let awaited = self.waiting.contains_key(&peer);
        if matches!(cause, Some(ConnectionError::KeepAliveTimeout)) && !awaited {
            return;
        }
        match endpoint.is_relayed() {
            true => drop(self.lost.insert(peer, (now + CIRCUIT_GRACE, cut))),
            false => self.recover(peer, cut, now),
        }
    }

    /// The last connection to a peer is gone: dials it again if that matters to anybody, as to whoever had a request `cut`,
    /// or tells that it is down.
    fn recover(&mut self, peer: PeerId, cut: bool, now: Instant) {
        if self.swarm.is_connected(&peer) {
            return;
        }
        let donor = self
            .book
            .get(&peer)
            .is_some_and(|entry| entry.capacity(now).is_some());
        let matters = donor || cut || self.is_engaged(&peer);
        // Whoever waits for one that is shut out is told so by the dial that is denied.
        let dialled = matters && !self.is_shut_out(&peer) && !self.relays.contains(&peer);
        if dialled || self.waiting.contains_key(&peer) {
            self.connect(peer);
        } else {
            self.tell_down(&peer);
        }
    }

    pub(super) fn on_identified(&mut self, peer: PeerId, id: ConnectionId, info: identify::Info) {
        let relays = info.protocols.contains(&relay::HOP_PROTOCOL_NAME);
        // Over a circuit a relay does not relay, and does not say that it would elsewhere.
        if relays || !self.is_circuit(&peer, id) {
            self.relays.offers(&peer, relays);
        }
        self.on_relay_identified(&peer, info.listen_addrs.clone(), &info.protocols);
        let routes = info.protocols.contains(&KAD_PROTOCOL);
        // The protocol version tells a member of the mesh from any other libp2p node.
        let member = info.protocol_version == PROTOCOL;
        let Some(entry) = self.book.get_mut(&peer) else {
            return;
        };
        entry.identified(&peer, &info.agent_version, member, info.listen_addrs);
        if routes {
            let mut direct = entry.addresses();
            direct.retain(|address| !is_relayed(address));
            let seen_at = entry.remote().map(|(remote, _)| remote.clone());
            let table = &mut self.swarm.behaviour_mut().kad;
            if let Some(seen_at) = seen_at {
                self.routes.put(table, &peer, &seen_at, direct);
            }
        }
        self.tell_up(&peer);
        self.dial_out_of_circuit(peer);
    }

    fn is_circuit(&self, peer: &PeerId, id: ConnectionId) -> bool {
        let entry = self.book.get(peer);
        entry.is_some_and(|entry| entry.is_circuit(id))
    }

    /// A hole that was punched is a connection like any other.
    pub(super) fn on_punched(&mut self, peer: PeerId, result: &Result<ConnectionId, dcutr::Error>) {
        if let Err(error) = result
            && let Some(left_out) = self.peer_lines.next(Instant::now())
        {
            let root_cause = dial::root_cause(&dial::causes(error));
            tracing::info!(%peer, root_cause, left_out, "no hole could be punched; the relay stays");
        }
    }

    pub(super) fn on_probed(&mut self, event: &autonat::v2::client::Event) {
        tracing::debug!(address = %event.tested_addr, reachable = event.result.is_ok(), "a peer tested an address of ours");
        if event.result.is_ok() && !is_relayed(&event.tested_addr) {
            self.swarm
                .behaviour_mut()
                .kad
                .set_mode(Some(kad::Mode::Server));
        }
    }

    pub(super) fn on_ping(&mut self, event: &ping::Event) {
        match &event.result {
            Ok(rtt) => {
                if let Some(entry) = self.book.get_mut(&event.peer) {
                    entry.pinged(event.connection, *rtt);
                    let inspected = entry.is_inspected_on(event.connection);
                    self.lines
                        .introduce(&event.peer, event.connection, inspected);
                }
            }
            // libp2p only tells; a connection on which nothing comes back would stay until the kernel gives up.
            Err(error) => {
                if let Some(left_out) = self.peer_lines.next(Instant::now()) {
                    tracing::info!(peer = %event.peer, %error, left_out, "a peer fell silent");
                }
                self.swarm.close_connection(event.connection);
            }
        }
    }

    /// What time changes about connections.
    pub(super) fn tend_connections(&mut self, now: Instant) {
        let lost = self.lost.extract_if(|_, (at, _)| *at <= now);
        for (peer, (_, cut)) in lost.collect::<Vec<_>>() {
            self.recover(peer, cut, now);
        }
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            self.drop_superseded(&peer, now);
            if let Some(why) = self.is_out_of_step(&peer, now) {
                if let Some(left_out) = self.peer_lines.next(now) {
                    tracing::info!(%peer, why, left_out, "connecting anew");
                }
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
        (deaf && !self.is_engaged(peer)).then_some("a peer sent no subscriptions")
    }

    /// Closes relayed connections beside a better one, or a newer one, each as soon as no request is under way on it.
    fn drop_superseded(&mut self, peer: &PeerId, now: Instant) {
        let superseded = self
            .book
            .get(peer)
            .map(|entry| entry.superseded(now))
            .unwrap_or_default();
        for id in superseded {
            if self.lines.retire_drained(peer, id, now) {
                self.swarm.close_connection(id);
            }
        }
    }

    fn is_engaged(&self, peer: &PeerId) -> bool {
        self.waiting.contains_key(peer) || self.lines.is_engaged(peer)
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
            if let Some(left_out) = self.peer_lines.next(Instant::now()) {
                tracing::info!(peer = %id, path = path.as_str(), left_out, "peer_up");
            }
            self.tell(MeshEvent::PeerUp(id, path));
        }
    }

    pub(super) fn tell_down(&mut self, peer: &PeerId) {
        let Some(entry) = self.book.get_mut(peer) else {
            return;
        };
        if entry.announced_up && !entry.is_connected() {
            entry.announced_up = false;
            let id = entry.id;
            if let Some(left_out) = self.peer_lines.next(Instant::now()) {
                tracing::info!(peer = %id, left_out, "peer_down");
            }
            self.tell(MeshEvent::PeerDown(id));
        }
    }

    fn tell_path(&self, peer: &PeerId, before: Option<Path>) {
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

/// The address, of ours or of the peer, that tells of relays on the way.
fn way(endpoint: &ConnectedPoint) -> &Multiaddr {
    match endpoint {
        ConnectedPoint::Dialer { address, .. } => address,
        ConnectedPoint::Listener { local_addr, .. } => local_addr,
    }
}
