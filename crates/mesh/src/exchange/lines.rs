//! Who can be asked, over which connections, and what is under way: known to whoever asks as well as to the task that
//! owns the swarm, so that a request need not pass through that task.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;
use tokio::sync::{mpsc, oneshot};
use worldcompute_proof as proof;

use super::asking::{CallError, Order};
use super::handler::Ends;
use crate::status::Path;
use crate::wire::{Exchange, Kind};

/// After its last request a connection is needed for so long: the answer may still be on its way.
const LINGER: Duration = Duration::from_secs(1);
/// Requests of all peers together that may wait for an answer of this node, per protocol.
const MAX_ANSWERING: usize = 1024;

/// Which of the two kinds of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Route {
    Direct,
    Relayed,
}

/// What the node knows of its connections to a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub id: proof::PeerId,
    /// The best path there is.
    pub path: Path,
}

/// Who is connected how. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Arc<Mutex<Table>>);

/// A request that may be sent.
#[derive(Debug)]
pub(crate) struct Line {
    pub(super) orders: mpsc::UnboundedSender<Order>,
    pub(super) ticket: Ticket,
    /// Whether a box opens the TLS on the way.
    pub(crate) inspected: bool,
}

/// A request under way, to a peer or from it. It counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    occupied: Occupied,
    kind: Kind,
    direction: Direction,
}

/// Keeps a connection from being retired as drained, until it is dropped.
#[derive(Debug)]
pub(super) struct Occupied {
    lines: Lines,
    peer: PeerId,
    id: ConnectionId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Direction {
    To,
    From,
}

#[derive(Debug, Default)]
struct Table {
    peers: HashMap<PeerId, Peer>,
    by_peer: Counts<(PeerId, Kind, Direction)>,
    of_peer: Counts<PeerId>,
    by_connection: Counts<ConnectionId>,
    answering: Counts<Kind>,
    /// Peers to or from whom a request was under way when a connection ended.
    cut: HashSet<PeerId>,
}

#[derive(Debug, Default)]
struct Peer {
    standing: Option<Standing>,
    /// The newest last.
    connections: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    route: Route,
    orders: mpsc::UnboundedSender<Order>,
    /// Lets the connection begin; gone when it has.
    begin: Option<oneshot::Sender<()>>,
    /// Whether a box opens the TLS on it.
    inspected: bool,
    /// When a request on it came to its end.
    asked_at: Option<Instant>,
    retired: bool,
}

impl Lines {
    /// A connection is made. Nothing is asked or answered on it before it is [introduced](Self::introduce).
    pub(super) fn add(&self, peer: PeerId, id: ConnectionId, route: Route) -> Ends {
        let (orders, ordered) = mpsc::unbounded_channel();
        let (begin, begun) = oneshot::channel();
        let connection = Connection {
            id,
            route,
            orders,
            begin: Some(begin),
            inspected: false,
            asked_at: None,
            retired: false,
        };
        let mut table = self.lock();
        let known = table.peers.entry(peer).or_default();
        known.connections.push(connection);
        Ends {
            orders: ordered,
            begun,
        }
    }

    /// A connection is gone, or came to nothing.
    pub(super) fn remove(&self, peer: &PeerId, id: ConnectionId) {
        let gone = self.lock().take(peer, id);
        // What it was still to carry out counts in the table: it is not dropped under its lock.
        drop(gone);
    }

    /// Opens a connection to requests, now that it is known what it is: whether a box opens the TLS on it.
    pub(crate) fn introduce(&self, peer: &PeerId, id: ConnectionId, inspected: bool) {
        let mut table = self.lock();
        let known = table.peers.get_mut(peer);
        let connection = known.and_then(|known| known.get_mut(id));
        let Some(connection) = connection else {
            return;
        };
        connection.inspected = inspected;
        if let Some(begin) = connection.begin.take() {
            // A connection that broke meanwhile has nothing to begin.
            let _ = begin.send(());
        }
    }

    /// Notes what is known of the connections to a peer.
    pub(crate) fn stands(&self, peer: &PeerId, standing: Option<Standing>) {
        if let Some(known) = self.lock().peers.get_mut(peer) {
            known.standing = standing;
        }
    }

    /// What is known of the connections to a peer, and whether a box opens the TLS on this one.
    pub(super) fn standing(&self, peer: &PeerId, id: ConnectionId) -> Option<(Standing, bool)> {
        let table = self.lock();
        let known = table.peers.get(peer)?;
        let connection = known.connections.iter().find(|other| other.id == id)?;
        Some((known.standing?, connection.inspected))
    }

    /// Keeps new requests off these connections, so that they can be closed. False, with nothing changed, when a request
    /// to or from the peer is under way.
    pub(crate) fn retire(&self, peer: &PeerId, ids: &[ConnectionId]) -> bool {
        let mut table = self.lock();
        if table.is_engaged(peer) {
            return false;
        }
        table.retire(peer, ids);
        true
    }

    /// The same for one beside a better one: it has to wait for nothing but requests on it, and answers on their way.
    pub(crate) fn retire_drained(&self, peer: &PeerId, id: ConnectionId, now: Instant) -> bool {
        let mut table = self.lock();
        if table.is_drained(peer, id, now) {
            table.retire(peer, &[id]);
            return true;
        }
        false
    }

    /// Whether any request to or from the peer is under way.
    pub(crate) fn is_engaged(&self, peer: &PeerId) -> bool {
        self.lock().is_engaged(peer)
    }

    /// Whether a request to or from the peer is under way, or was within this time.
    pub(crate) fn is_used(&self, peer: &PeerId, within: Duration, now: Instant) -> bool {
        let table = self.lock();
        let known = table.peers.get(peer);
        let connections = known.into_iter().flat_map(|known| &known.connections);
        let last = connections
            .filter_map(|connection| connection.asked_at)
            .max();
        let lately = last.is_some_and(|at| now.saturating_duration_since(at) < within);
        lately || table.is_engaged(peer)
    }

    /// Whether a peer can be asked at present.
    pub(crate) fn lead_to(&self, peer: &PeerId) -> bool {
        self.lock().best(peer).is_some()
    }

    /// A connection to the peer ends, with whatever is under way on it. Who had a request on it may ask again before the
    /// task of the swarm knows.
    pub(super) fn end(&self, peer: &PeerId, id: ConnectionId) {
        let mut table = self.lock();
        if table.is_engaged(peer) {
            table.cut.insert(*peer);
        }
        drop(table);
        self.remove(peer, id);
    }

    /// Whether a request was under way when a connection to the peer ended. Tells it once.
    pub(crate) fn take_cut(&self, peer: &PeerId) -> bool {
        self.lock().cut.remove(peer)
    }

    /// A way to ask a peer: over a direct connection if there is one, the newest first. `None` where there is none.
    pub(crate) fn line<E: Exchange>(&self, peer: &PeerId) -> Result<Option<Line>, CallError> {
        let mut table = self.lock();
        let Some(connection) = table.best(peer) else {
            return Ok(None);
        };
        let (id, orders) = (connection.id, connection.orders.clone());
        let inspected = connection.inspected;
        if table.by_peer.of(&(*peer, E::KIND, Direction::To)) >= E::STREAMS {
            return Err(CallError::Busy);
        }
        let ticket = self.ticket(&mut table, *peer, id, E::KIND, Direction::To);
        Ok(Some(Line {
            orders,
            ticket,
            inspected,
        }))
    }

    /// Room for one more request of a peer on this connection, if there is any.
    pub(super) fn admit<E: Exchange>(&self, peer: PeerId, id: ConnectionId) -> Option<Ticket> {
        let mut table = self.lock();
        let of_peer = table.by_peer.of(&(peer, E::KIND, Direction::From));
        if of_peer >= E::STREAMS || table.answering.of(&E::KIND) >= MAX_ANSWERING {
            return None;
        }
        table.answering.add(E::KIND);
        Some(self.ticket(&mut table, peer, id, E::KIND, Direction::From))
    }

    fn ticket(
        &self,
        table: &mut Table,
        peer: PeerId,
        id: ConnectionId,
        kind: Kind,
        direction: Direction,
    ) -> Ticket {
        table.by_peer.add((peer, kind, direction));
        table.of_peer.add(peer);
        Ticket {
            occupied: self.occupied(table, peer, id),
            kind,
            direction,
        }
    }

    /// A stream of the peer is read: what comes on it may become a request.
    pub(super) fn occupy(&self, peer: PeerId, id: ConnectionId) -> Occupied {
        self.occupied(&mut self.lock(), peer, id)
    }

    fn occupied(&self, table: &mut Table, peer: PeerId, id: ConnectionId) -> Occupied {
        table.by_connection.add(id);
        let lines = self.clone();
        Occupied { lines, peer, id }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let peer = self.occupied.peer;
        let mut table = self.occupied.lines.lock();
        table.by_peer.take((peer, self.kind, self.direction));
        table.of_peer.take(peer);
        if self.direction == Direction::From {
            table.answering.take(self.kind);
        }
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        let mut table = self.lines.lock();
        table.by_connection.take(self.id);
        let known = table.peers.get_mut(&self.peer);
        if let Some(connection) = known.and_then(|known| known.get_mut(self.id)) {
            connection.asked_at = Some(Instant::now());
        }
    }
}

impl Peer {
    fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|other| other.id == id)
    }
}

impl Table {
    fn take(&mut self, peer: &PeerId, id: ConnectionId) -> Vec<Connection> {
        let Some(known) = self.peers.get_mut(peer) else {
            return Vec::new();
        };
        let gone = known.connections.extract_if(.., |other| other.id == id);
        let gone = gone.collect();
        if known.connections.is_empty() {
            self.peers.remove(peer);
        }
        gone
    }

    fn best(&self, peer: &PeerId) -> Option<&Connection> {
        let known = self.peers.get(peer)?;
        let open = |connection: &&Connection| connection.begin.is_none() && !connection.retired;
        let newest = || known.connections.iter().rev().filter(open);
        let direct = newest().find(|connection| connection.route == Route::Direct);
        direct.or_else(|| newest().next())
    }

    fn retire(&mut self, peer: &PeerId, ids: &[ConnectionId]) {
        let known = self.peers.get_mut(peer);
        for connection in known.into_iter().flat_map(|known| &mut known.connections) {
            connection.retired |= ids.contains(&connection.id);
        }
    }

    /// Whether no request is under way on a connection, and none was a moment ago.
    fn is_drained(&self, peer: &PeerId, id: ConnectionId, now: Instant) -> bool {
        let known = self.peers.get(peer);
        let mut connections = known.into_iter().flat_map(|known| &known.connections);
        let connection = connections.find(|connection| connection.id == id);
        let ended = connection.and_then(|connection| connection.asked_at);
        let lately = ended.is_some_and(|at| now.saturating_duration_since(at) < LINGER);
        self.by_connection.of(&id) == 0 && !lately
    }

    fn is_engaged(&self, peer: &PeerId) -> bool {
        self.of_peer.of(peer) > 0
    }
}

/// How many there are of each.
#[derive(Debug)]
pub(super) struct Counts<K>(HashMap<K, usize>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Counts<K> {
    pub(super) fn of(&self, key: &K) -> usize {
        self.0.get(key).copied().unwrap_or_default()
    }

    pub(super) fn add(&mut self, key: K) {
        *self.0.entry(key).or_default() += 1;
    }

    pub(super) fn take(&mut self, key: K) {
        if let Entry::Occupied(mut entry) = self.0.entry(key) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests;
