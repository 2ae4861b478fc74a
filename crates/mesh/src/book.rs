//! Who is known, where, and how well connected.
//!
//! Bounded in every direction: peers, addresses of a peer, faults of a peer. A full book forgets the disconnected peer
//! that was silent for longest; but for somebody it only hears of, nobody it heard from lately.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use worldcompute_proof as proof;

use crate::address::{Transport, dialable, is_loopback, is_relayed, without_peer};
use crate::allowance::Allowance;
use crate::behaviour::MAX_CONNECTIONS_PER_PEER;
use crate::network::{Scope, scope};
use crate::status::{Path, PeerInfo};
use crate::wire::{Announcement, Capacity};

/// Peers that the book holds.
pub(crate) const MAX_PEERS: usize = 4096;
/// Addresses that it holds of one peer.
pub(crate) const MAX_ADDRESSES_OF_PEER: usize = 24;
/// Offences within [`OFFENCE_WINDOW`] that a peer is forgiven.
pub(crate) const MAX_OFFENCES: u32 = 8;
const OFFENCE_WINDOW: Duration = Duration::from_secs(60);
/// Connections that punching a hole may make.
const HOLE: usize = 2;
/// A connection that stands for so long is no left-over of a dial, and both sides know of it.
const STANDING: Duration = Duration::from_secs(1);
/// Announcements that one peer may make in a burst, and how long until it may make one more.
const ANNOUNCEMENTS: f64 = 20.0;
const ANNOUNCEMENT_PAUSE: Duration = Duration::from_millis(500);
/// The same for what a neighbour passes on, in units of up to [`PASSED_ON_UNIT`] bytes: a relay speaks for a thousand.
const PASSED_ON: f64 = 4096.0;
const PASSED_ON_UNIT: usize = 1024;
const PASSED_ON_PAUSE: Duration = Duration::from_millis(1);
/// What a relay may say of itself, and what a neighbour may pass on of such words.
const RELAY_WORDS: (f64, Duration) = (4.0, Duration::from_secs(15));
const RELAY_WORDS_PASSED_ON: (f64, Duration) = (64.0, Duration::from_secs(1));
/// Questions for relays that one peer gets an answer to.
const RELAY_QUESTIONS: (f64, Duration) = (4.0, Duration::from_secs(10));
/// An announcement without a successor is no longer told after this time.
const CAPACITY_LIFETIME: Duration = Duration::from_secs(60);

/// Everybody known.
#[derive(Debug, Default)]
pub(crate) struct Book {
    peers: HashMap<PeerId, Entry>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Entry {
    pub id: proof::PeerId,
    /// The most recently learnt last.
    addresses: Vec<Multiaddr>,
    /// Those of them, as it says itself.
    stated: Vec<Multiaddr>,
    connections: HashMap<ConnectionId, Connection>,
    agent: Option<String>,
    /// It told that it speaks the mesh's protocols, or announced itself in them.
    pub member: bool,
    /// Whether `PeerUp` was told and `PeerDown` was not.
    pub announced_up: bool,
    /// It answers who asks it for relays.
    pub exchanges: bool,
    /// It sent its subscriptions over the present connections.
    pub subscribed: bool,
    /// Since when there is a connection.
    pub up_since: Option<Instant>,
    capacity: Option<(Capacity, Instant)>,
    sequence: u64,
    allowance: Allowance,
    passing: Allowance,
    relaying: Relaying,
    offences: (u32, Instant),
    last_seen: SystemTime,
}

/// What is known of a connection when it is made.
#[derive(Debug)]
pub(crate) struct Link {
    /// The address at the other end.
    pub remote: Multiaddr,
    pub inbound: bool,
    pub relayed: bool,
    /// The relay that it runs through.
    pub relay: Option<PeerId>,
    /// From where that can be reached.
    pub relay_scope: Option<Scope>,
    /// Its TLS, or that of the way to its relay, is opened on the way.
    pub inspected: bool,
}

#[derive(Debug)]
struct Connection {
    link: Link,
    path: Path,
    since: Instant,
    rtt: Option<Duration>,
}

/// What a peer says and asks of relays.
#[derive(Debug)]
struct Relaying {
    sequence: u64,
    words: Allowance,
    passing: Allowance,
    questions: Allowance,
}

/// What becomes of an announcement.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// It is the latest of its peer. `new` when nothing was known of that peer's capacity.
    Fresh { new: bool },
    /// Older than what is known, or one too many: not passed on, no fault of whoever passed it.
    Stale,
}

impl Book {
    /// The entry of a peer, made if there is none. `None` when its id holds no key, or the book is full of connected
    /// peers.
    pub(crate) fn entry(&mut self, peer: PeerId, now: Instant) -> Option<&mut Entry> {
        self.entry_after(peer, now, Duration::ZERO)
    }

    /// The same for a peer that is only heard of. `None` also when nobody was silent for long: whoever makes up peers
    /// does not make the book forget those that there are.
    pub(crate) fn newcomer(&mut self, peer: PeerId, now: Instant) -> Option<&mut Entry> {
        self.entry_after(peer, now, CAPACITY_LIFETIME)
    }

    fn entry_after(&mut self, peer: PeerId, now: Instant, silence: Duration) -> Option<&mut Entry> {
        if !self.peers.contains_key(&peer) {
            let id = proof::PeerId::from_bytes(&peer.to_bytes()).ok()?;
            self.make_room(silence)?;
            self.peers.insert(peer, Entry::new(id, now));
        }
        self.peers.get_mut(&peer)
    }

    pub(crate) fn get(&self, peer: &PeerId) -> Option<&Entry> {
        self.peers.get(peer)
    }

    pub(crate) fn get_mut(&mut self, peer: &PeerId) -> Option<&mut Entry> {
        self.peers.get_mut(peer)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&PeerId, &Entry)> {
        self.peers.iter()
    }

    fn make_room(&mut self, silence: Duration) -> Option<()> {
        if self.peers.len() < MAX_PEERS {
            return Some(());
        }
        let disconnected = self.peers.iter().filter(|(_, entry)| !entry.is_connected());
        let (&oldest, entry) = disconnected.min_by_key(|(_, entry)| entry.last_seen)?;
        if entry.last_seen.elapsed().unwrap_or_default() < silence {
            return None;
        }
        self.peers.remove(&oldest);
        Some(())
    }
}

impl Entry {
    fn new(id: proof::PeerId, now: Instant) -> Self {
        Self {
            id,
            addresses: Vec::new(),
            stated: Vec::new(),
            connections: HashMap::new(),
            agent: None,
            member: false,
            announced_up: false,
            exchanges: false,
            subscribed: false,
            up_since: None,
            capacity: None,
            sequence: 0,
            allowance: Allowance::new(ANNOUNCEMENTS, ANNOUNCEMENT_PAUSE, now),
            passing: Allowance::new(PASSED_ON, PASSED_ON_PAUSE, now),
            relaying: Relaying::new(now),
            offences: (0, now),
            last_seen: SystemTime::now(),
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        !self.connections.is_empty()
    }

    /// Whether it said who it is, and is no member of the mesh.
    pub(crate) fn is_stranger(&self) -> bool {
        self.agent.is_some() && !self.member
    }

    /// Whether a circuit to the peer runs through `relay`.
    pub(crate) fn is_reached_through(&self, relay: &PeerId) -> bool {
        self.connections
            .values()
            .any(|connection| connection.link.relay == Some(*relay))
    }

    /// The other connections that were dialled directly and are of a worse kind than this one, and whether this one is
    /// of the best kind. One that was dialled by the peer is the peer's to keep or to close.
    pub(crate) fn beside(&self, id: ConnectionId) -> (Vec<ConnectionId>, bool) {
        let Some(this) = self.connections.get(&id) else {
            return (Vec::new(), true);
        };
        let dialled =
            |connection: &Connection| !connection.link.inbound && connection.path == Path::Direct;
        if !dialled(this) {
            return (Vec::new(), true);
        }
        let others = || {
            let others = self.connections.iter();
            others.filter(|(other, connection)| **other != id && dialled(connection))
        };
        let kind = this.transport();
        let worse = others().filter(|(_, other)| other.transport() > kind);
        (
            worse.map(|(other, _)| *other).collect(),
            others().all(|(_, other)| other.transport() >= kind),
        )
    }

    /// The address at the other end of the best connection, and whether this node dialled it.
    pub(crate) fn remote(&self) -> Option<(&Multiaddr, bool)> {
        let best = self.connections.values().min_by_key(|connection| {
            (
                connection.path,
                connection.link.inbound,
                connection.transport(),
            )
        })?;
        Some((&best.link.remote, !best.link.inbound))
    }

    /// From where the relay can be reached, if nothing but a circuit leads to the peer.
    pub(crate) fn circuit_scope(&self) -> Option<Scope> {
        let circuits = self.connections.values();
        let mut scopes = circuits.filter_map(|circuit| circuit.link.relay_scope);
        (self.path() == Some(Path::Relayed)).then(|| scopes.next())?
    }

    /// Whether this connection to it goes through a relay.
    pub(crate) fn is_circuit(&self, id: ConnectionId) -> bool {
        let connection = self.connections.get(&id);
        connection.is_some_and(|connection| connection.link.relayed)
    }

    /// Whether there is a connection without a relay.
    pub(crate) fn has_direct(&self) -> bool {
        self.path().is_some_and(|path| path != Path::Relayed)
    }

    /// Whether what is said to it goes through a box that opens TLS.
    pub(crate) fn is_inspected(&self) -> bool {
        let path = self.path();
        let mut best = self
            .connections
            .values()
            .filter(|connection| Some(connection.path) == path);
        best.any(|connection| connection.link.inspected)
    }

    /// The best path there is.
    pub(crate) fn path(&self) -> Option<Path> {
        self.connections
            .values()
            .map(|connection| connection.path)
            .min()
    }

    /// Where to dial it, direct addresses first, the latest first within each kind.
    pub(crate) fn addresses(&self) -> Vec<Multiaddr> {
        let latest = || self.addresses.iter().rev();
        latest()
            .filter(|address| !is_relayed(address))
            .chain(latest().filter(|address| is_relayed(address)))
            .cloned()
            .collect()
    }

    /// Remembers where the peer may be dialled. What cannot be an address of it is left out.
    pub(crate) fn learn(&mut self, peer: &PeerId, addresses: impl IntoIterator<Item = Multiaddr>) {
        for address in addresses {
            if !dialable(&address, peer) {
                continue;
            }
            let address = without_peer(address);
            self.addresses.retain(|known| *known != address);
            self.addresses.push(address);
        }
        let excess = self.addresses.len().saturating_sub(MAX_ADDRESSES_OF_PEER);
        self.addresses.drain(..excess);
    }

    /// Forgets where the peer is not, until it is said to be there again.
    pub(crate) fn forget(&mut self, address: &Multiaddr) {
        self.addresses.retain(|known| known != address);
    }

    /// Remembers what the peer says of itself. Addresses of a loopback interface mean something only to a peer on the
    /// same machine.
    pub(crate) fn identified(
        &mut self,
        peer: &PeerId,
        agent: &str,
        member: bool,
        listen: Vec<Multiaddr>,
    ) {
        self.agent = Some(agent.chars().take(crate::wire::MAX_NAME).collect());
        self.member = member;
        let here = self
            .connections
            .values()
            .any(|connection| is_loopback(&connection.link.remote));
        let usable = |address: &Multiaddr| here || is_relayed(address) || !is_loopback(address);
        let listen = listen.into_iter().filter(usable);
        self.stated = listen.take(MAX_ADDRESSES_OF_PEER).collect();
        self.learn(peer, self.stated.clone());
    }

    /// Both ends judge by what both see: which of them dialled, or how often, is not the same at each.
    pub(crate) fn connect(&mut self, id: ConnectionId, link: Link, now: Instant) {
        let has_circuit = || self.connections.values().any(|other| other.link.relayed);
        let path = match link.relayed {
            true => Path::Relayed,
            false if has_circuit() => Path::HolePunched,
            false => Path::Direct,
        };
        self.up_since.get_or_insert(now);
        self.connections.insert(
            id,
            Connection {
                link,
                path,
                since: now,
                rtt: None,
            },
        );
        self.heard();
    }

    /// Forgets a connection. True when it was the last one.
    pub(crate) fn disconnect(&mut self, id: ConnectionId) -> bool {
        let known = self.connections.remove(&id).is_some();
        let last = known && self.connections.is_empty();
        if last {
            self.up_since = None;
            self.subscribed = false;
        }
        last
    }

    pub(crate) fn pinged(&mut self, id: ConnectionId, rtt: Duration) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.rtt = Some(rtt);
        }
        self.heard();
    }

    pub(crate) fn heard(&mut self) {
        self.last_seen = SystemTime::now();
    }

    /// The relayed connections, when a better one has stood beside them for so long that the peer knows of it too; else
    /// those that this node dialled but for the newest, when that has and something has come back on it.
    pub(crate) fn superseded(&self, now: Instant) -> Vec<ConnectionId> {
        let better =
            |connection: &Connection| connection.path != Path::Relayed && connection.has_stood(now);
        let relayed = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.path == Path::Relayed);
        if self.connections.values().any(better) {
            return relayed.map(|(id, _)| *id).collect();
        }
        let mut own: Vec<_> = relayed
            .filter(|(_, circuit)| !circuit.link.inbound)
            .collect();
        own.sort_by_key(|(_, circuit)| circuit.since);
        match own.pop() {
            Some((_, newest)) if newest.has_stood(now) && newest.rtt.is_some() => {
                own.into_iter().map(|(id, _)| *id).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether there may be a better way than that there is: it is a circuit, or this node dialled it over something else
    /// than an address of the peer offers.
    pub(crate) fn could_be_better(&self) -> bool {
        match self.path() {
            Some(Path::Relayed) => true,
            Some(Path::Direct) => {
                let mut direct = self.stated.iter().filter(|address| !is_relayed(address));
                direct.any(|address| self.is_outdone_by(address))
            }
            Some(Path::HolePunched) | None => false,
        }
    }

    /// Whether an address would be a better kind of connection than the best of those that this node dialled directly.
    pub(crate) fn is_outdone_by(&self, address: &Multiaddr) -> bool {
        let dialled = self
            .connections
            .values()
            .filter(|connection| !connection.link.inbound && connection.path == Path::Direct);
        let best = dialled.map(Connection::transport).min();
        best.is_some_and(|best| Transport::of(address) < best)
    }

    /// The address of the only circuit that this node dialled, and whether the peer dialled one too. `None` without one, with
    /// several, and where no hole could be punched beside one more.
    pub(crate) fn renewable_circuit(&self) -> Option<(&Multiaddr, bool)> {
        let circuits = || {
            let all = self.connections.values();
            all.filter(|connection| connection.path == Path::Relayed)
        };
        let mut own = circuits().filter(|circuit| !circuit.link.inbound);
        let (one, another) = (own.next()?, own.next());
        let room = self.connections.len() + 1 + HOLE <= MAX_CONNECTIONS_PER_PEER as usize;
        (another.is_none() && room).then_some((&one.link.remote, circuits().count() > 1))
    }

    /// Where the peer itself said last that it is.
    pub(crate) fn stated(&self) -> &[Multiaddr] {
        &self.stated
    }

    /// Whether a box opens the TLS on this connection.
    pub(crate) fn is_inspected_on(&self, id: ConnectionId) -> bool {
        let connection = self.connections.get(&id);
        connection.is_some_and(|connection| connection.link.inspected)
    }

    /// Whether the peer dialled us directly and more than once: its earlier process is gone, and only we do not know.
    /// (A dial that tries several addresses may connect twice too, but drops all but one at once.)
    pub(crate) fn has_returned(&self, now: Instant) -> bool {
        let dialled = |connection: &&Connection| {
            connection.link.inbound && connection.path != Path::Relayed && connection.has_stood(now)
        };
        self.connections.values().filter(dialled).count() > 1
    }

    /// Judges an announcement that the peer signed.
    pub(crate) fn announced(&mut self, announcement: &Announcement, now: Instant) -> Verdict {
        if announcement.sequence <= self.sequence || !self.allowance.take(1, now) {
            return Verdict::Stale;
        }
        self.sequence = announcement.sequence;
        self.member = true;
        self.heard();
        let new = self.capacity(now).is_none();
        self.capacity = announcement
            .capacity
            .clone()
            .map(|capacity| (capacity, now));
        Verdict::Fresh { new }
    }

    /// One more message of the peer on any other topic: whether it is within its allowance.
    pub(crate) fn may_publish(&mut self, now: Instant) -> bool {
        self.heard();
        self.allowance.take(1, now)
    }

    /// One more message, of whomever, that the peer passes on: whether it is within its allowance.
    pub(crate) fn may_pass_on(&mut self, bytes: usize, now: Instant) -> bool {
        let units = bytes.div_ceil(PASSED_ON_UNIT).max(1);
        self.passing
            .take(u32::try_from(units).unwrap_or(u32::MAX), now)
    }

    /// Whether what the peer says of itself as a relay is its latest word, and within its allowance.
    pub(crate) fn may_announce_a_relay(&mut self, sequence: u64, now: Instant) -> bool {
        let fresh = sequence > self.relaying.sequence && self.relaying.words.take(1, now);
        if fresh {
            self.relaying.sequence = sequence;
            self.heard();
        }
        fresh
    }

    /// The same for what the peer passes on of the words of relays.
    pub(crate) fn may_pass_on_a_relay(&mut self, now: Instant) -> bool {
        self.relaying.passing.take(1, now)
    }

    /// Whether the peer may ask for relays once more.
    pub(crate) fn may_ask_for_relays(&mut self, now: Instant) -> bool {
        self.relaying.questions.take(1, now)
    }

    pub(crate) fn capacity(&self, now: Instant) -> Option<&Capacity> {
        let (capacity, at) = self.capacity.as_ref()?;
        (now.saturating_duration_since(*at) < CAPACITY_LIFETIME).then_some(capacity)
    }

    /// Nothing that it announced counts any more.
    pub(crate) fn silence(&mut self) {
        self.capacity = None;
    }

    /// Counts an offence. True when it is one too many.
    pub(crate) fn offended(&mut self, now: Instant) -> bool {
        let (count, since) = &mut self.offences;
        if now.saturating_duration_since(*since) > OFFENCE_WINDOW {
            (*count, *since) = (0, now);
        }
        *count += 1;
        *count > MAX_OFFENCES
    }

    pub(crate) fn info(&self, now: Instant) -> PeerInfo {
        let best = self.connections.values().min_by_key(|connection| {
            (
                connection.path,
                connection.transport(),
                connection.rtt.is_none(),
            )
        });
        PeerInfo {
            peer: self.id,
            addresses: self.addresses(),
            connected: self.is_connected(),
            path: self.path(),
            transport: best.map(Connection::transport),
            from_afar: self.connections.values().any(Connection::is_from_afar),
            inspected: best.is_some_and(|connection| connection.link.inspected),
            rtt: best.and_then(|connection| connection.rtt),
            agent: self.agent.clone(),
            capacity: self.capacity(now).cloned(),
            last_seen: self.last_seen,
        }
    }
}

impl Connection {
    fn transport(&self) -> Transport {
        match self.link.relayed {
            true => Transport::Circuit,
            false => Transport::of(&self.link.remote),
        }
    }

    fn is_from_afar(&self) -> bool {
        !self.link.relayed && scope(&self.link.remote) == Some(Scope::World)
    }

    fn has_stood(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= STANDING
    }
}

impl Relaying {
    fn new(now: Instant) -> Self {
        let allowance = |(most, pause): (f64, Duration)| Allowance::new(most, pause, now);
        Self {
            sequence: 0,
            words: allowance(RELAY_WORDS),
            passing: allowance(RELAY_WORDS_PASSED_ON),
            questions: allowance(RELAY_QUESTIONS),
        }
    }
}

#[cfg(test)]
mod tests;
