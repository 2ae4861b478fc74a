//! The nodes that this one stays connected to, and its reservations on those that relay.
//!
//! A state machine without I/O: the driver tells it what happened and when, and does what it says. libp2p renews a
//! reservation by itself, but forgets one that was lost; this machine asks for it again.
//!
//! ```text
//!            +-- refused for good --> Failed --+ (at long intervals)
//!            |                                 |
//! Requesting +-> Active <-> Renewing           |
//!     ^               |         |              |
//!     +--- Lost <-----+---------+              |
//!     +----------------------------------------+
//! ```

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::core::transport::ListenerId;
use libp2p::{Multiaddr, PeerId};

use crate::address::{Transport, circuit, peer_of, without_peer};
use crate::config::{MAX_UPGRADE_PAUSE, RESERVATION_DURATION};
use crate::hearsay::Need;
use crate::status::ReservationState;

/// Nodes to stay connected to. Further ones are refused at the start.
pub(crate) const MAX_BOOTSTRAP: usize = 32;
/// Nodes beside these that others told of.
const MAX_LEARNT: usize = 4;
/// Other relays that a relay stays connected to, so that all of them together are one mesh.
const LINKS: usize = 4;
/// Attempts to reach a relay again that others told of.
const LEARNT_ATTEMPTS: u32 = 3;
/// A relay that others told of says within this time that it is one, and stays for so long where it is not needed.
const LINGER: Duration = Duration::from_secs(10);
/// Answers in a row that a name gives without a node before that is given up.
const MAX_ABSENCES: u32 = 2;
/// Addresses of one of them. Further ones are left out.
const MAX_ADDRESSES: usize = 16;
/// Pauses before further attempts; the last one stays.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(5),
];
/// The pause after a refusal that more attempts do not change.
const FAILED_PAUSE: Duration = Duration::from_secs(30);
/// Pauses vary by this share in both directions, so that a relay that returns is not met by all at once.
const JITTER: f64 = 0.2;
/// A relay that says nothing to a request for so long is left and dialled again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the driver shall do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Connect to this node.
    Dial {
        peer: Option<PeerId>,
        addresses: Vec<Multiaddr>,
    },
    /// Connect to this node, to which there is a connection, in a better way.
    Upgrade {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
    },
    /// Ask this relay, to which there is a connection, for a reservation.
    Reserve { relay: PeerId, listen: Multiaddr },
    /// Close every connection to this relay; it is stuck.
    Disconnect(PeerId),
    /// This node is none to stay connected to any more.
    GiveUp {
        peer: PeerId,
        listener: Option<ListenerId>,
        /// Whether it is to be told from one that failed.
        works: bool,
    },
    /// Tell that the reservation on this relay changed.
    Report(PeerId),
}

/// How a reservation ended or was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// More attempts may help.
    Passing,
    /// They will not.
    Final,
    /// Nobody refused: the connection is gone.
    Lost,
}

/// Why a node is one to stay connected to.
#[derive(Clone, Debug, PartialEq)]
enum Title {
    /// The operator named it.
    Configured,
    /// Names stand for it, each with the answers in a row that did without it.
    Named(HashMap<Multiaddr, u32>),
    /// Others told of it.
    Learnt,
    /// No name stands for it any more; another is to take its place.
    Leaving,
}

/// All of them.
pub(crate) struct Relays {
    me: PeerId,
    wanted: usize,
    links: usize,
    upgrade_after: Duration,
    slots: Vec<Slot>,
}

/// One node to stay connected to.
#[derive(Debug)]
pub(crate) struct Slot {
    peer: Option<PeerId>,
    title: Title,
    addresses: Vec<Multiaddr>,
    /// The address that the current connection uses.
    via: Option<Multiaddr>,
    /// When a better one is tried, and the pause before that.
    upgrade: (Instant, Duration),
    link: Link,
    was_up: bool,
    /// When the connection came to stand, until the node has said on it what it is.
    unnamed: Option<Instant>,
    /// Since when it is connected.
    up_at: Instant,
    /// It did not want to give a reservation when it was last asked.
    refused: bool,
    /// It said that it relays.
    relays: bool,
    state: Option<ReservationState>,
    listener: Option<ListenerId>,
    asked: Instant,
    confirmed: Option<Instant>,
    /// From one confirmation to the next.
    rhythm: Duration,
    renewals: u64,
    attempts: u32,
    not_before: Instant,
    last_error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down,
    Dialling,
    Up,
}

impl Relays {
    /// `addresses` without a peer id are dialled to learn it.
    pub(crate) fn new(
        me: PeerId,
        wanted: usize,
        upgrade_after: Duration,
        addresses: &[Multiaddr],
        now: Instant,
    ) -> Self {
        let mut relays = Self {
            me,
            wanted,
            links: 0,
            upgrade_after,
            slots: Vec::new(),
        };
        for address in addresses {
            relays.learn(address, Title::Configured, now);
        }
        relays
    }

    /// The same for a node that relays: it wants no reservation, and to be connected to other relays.
    pub(crate) fn linked(self) -> Self {
        let links = LINKS;
        Self { links, ..self }
    }

    /// What a name stands for at present: nodes that it did not stand for are taken up, and those that it does not stand for any
    /// more, twice in a row, are given up as soon as another takes their place, unless there may be more than was `found`
    /// because the answer is not `whole`. Past the limit they are left out.
    pub(crate) fn named(
        &mut self,
        name: &Multiaddr,
        found: &[Multiaddr],
        whole: bool,
        now: Instant,
    ) {
        for slot in &mut self.slots {
            let present = found.iter().any(|address| peer_of(address) == slot.peer);
            if present || whole {
                slot.answered(name, present);
            }
        }
        for address in found {
            self.learn(
                address,
                Title::Named(HashMap::from([(name.clone(), 0)])),
                now,
            );
        }
    }

    /// A relay that others told of, to be tried.
    pub(crate) fn try_out(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, now: Instant) {
        let learnt = self.slots.iter().filter(|slot| slot.title == Title::Learnt);
        if learnt.count() < MAX_LEARNT && !self.contains(&peer) {
            let mut slot = Slot::new(Some(peer), Title::Learnt, now);
            slot.addresses = addresses;
            self.slots.push(slot);
        }
    }

    fn learn(&mut self, address: &Multiaddr, title: Title, now: Instant) {
        let peer = peer_of(address);
        let address = without_peer(address.clone());
        let known = self.slots.iter_mut();
        let mut known = known.filter(|slot| peer.is_some() && slot.peer == peer);
        if let Some(slot) = known.next() {
            slot.entitle(title);
            return slot.learn(address);
        }
        let others = self.slots.iter().filter(|slot| slot.title != Title::Learnt);
        if others.count() < MAX_BOOTSTRAP {
            let mut slot = Slot::new(peer, title, now);
            slot.addresses.push(address);
            self.slots.push(slot);
        }
    }

    /// What relays are wanted for beyond those that there are.
    pub(crate) fn need(&self, now: Instant) -> Option<Need> {
        let learnt = self.slots.iter().filter(|slot| slot.title == Title::Learnt);
        let wanted = self.wanted.max(self.links);
        if wanted == 0 || learnt.count() >= MAX_LEARNT {
            return None;
        }
        let serves = |slot: &&Slot| match self.links {
            0 => slot.is_engaged() && slot.title != Title::Leaving,
            _ => slot.link == Link::Up && slot.relays,
        };
        let serving = self.slots.iter().filter(serves).count();
        let others = self.slots.iter().filter(|slot| !serves(slot));
        let hopeful = others.filter(|slot| slot.is_hopeful(now)).count();
        match serving + hopeful < wanted {
            true => Some(Need::Relay),
            false => (hopeful == 0).then_some(Need::Reserve),
        }
    }

    /// This node is none to stay connected to any more, whoever named it. Returns the listener of its reservation.
    pub(crate) fn strike(&mut self, peer: &PeerId) -> Option<ListenerId> {
        let known = |slot: &Slot| slot.peer == Some(*peer);
        let index = self.slots.iter().position(known)?;
        self.slots.remove(index).listener
    }

    /// The relays that are connected.
    pub(crate) fn connected_relays(&self) -> impl Iterator<Item = PeerId> {
        let up = self.slots.iter();
        let up = up.filter(|slot| slot.link == Link::Up && slot.relays);
        up.filter_map(|slot| slot.peer)
    }

    /// Whether the operator named the node, or whoever stands behind a name.
    pub(crate) fn is_named(&self, peer: &PeerId) -> bool {
        let named = |slot: &Slot| slot.peer == Some(*peer) && slot.is_named();
        self.slots.iter().any(named)
    }

    /// The reservations, in the order in which the nodes were named.
    pub(crate) fn reservations(&self) -> impl Iterator<Item = (PeerId, &Slot)> {
        self.slots
            .iter()
            .filter_map(|slot| Some((slot.peer?, slot)))
    }

    /// Whether this node is one to stay connected to.
    pub(crate) fn contains(&self, peer: &PeerId) -> bool {
        self.slots.iter().any(|slot| slot.peer == Some(*peer))
    }

    /// Whether the node was connected, is not now, and is being dialled again.
    pub(crate) fn has_lost(&self, peer: &PeerId) -> bool {
        let lost = |slot: &Slot| slot.link != Link::Up && slot.was_up;
        self.slots
            .iter()
            .any(|slot| slot.peer == Some(*peer) && lost(slot))
    }

    /// A direct connection to a peer stands; `dialled` is the address when we dialled it.
    pub(crate) fn connected(&mut self, peer: PeerId, dialled: Option<Multiaddr>, now: Instant) {
        if let Some(address) = &dialled {
            self.identify_slot(peer, address);
        }
        let first = self.upgrade_after;
        let Some(slot) = self.of(&peer) else { return };
        slot.via = dialled.or(slot.via.take());
        slot.upgrade = (now + first, first);
        if slot.link != Link::Up {
            slot.link = Link::Up;
            slot.unnamed = Some(now);
            slot.was_up = true;
            slot.up_at = now;
            slot.refused = false;
            slot.attempts = 0;
            slot.not_before = now;
            slot.last_error = None;
        }
    }

    /// A node named without its peer id has told who it is.
    fn identify_slot(&mut self, peer: PeerId, address: &Multiaddr) {
        let nameless = |slot: &Slot| slot.peer.is_none() && slot.addresses.contains(address);
        let Some(index) = self.slots.iter().position(nameless) else {
            return;
        };
        if self.contains(&peer) {
            self.slots.remove(index);
            if let Some(slot) = self.of(&peer) {
                slot.addresses.push(address.clone());
            }
        } else if let Some(slot) = self.slots.get_mut(index) {
            slot.peer = Some(peer);
        }
    }

    /// The last direct connection to a peer is gone.
    pub(crate) fn disconnected(
        &mut self,
        peer: &PeerId,
        now: Instant,
        jitter: f64,
    ) -> Option<Action> {
        let slot = self.of(peer)?;
        slot.link = Link::Down;
        slot.via = None;
        slot.relays = false;
        slot.unnamed = None;
        slot.listener = None;
        slot.pause(now, jitter);
        slot.lose("the connection to the relay was lost")
    }

    /// A dial of a node failed.
    pub(crate) fn dial_failed(
        &mut self,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        why: String,
        now: Instant,
        jitter: f64,
    ) -> Option<Action> {
        let slot = self.slots.iter_mut().find(|slot| {
            slot.link == Link::Dialling
                && slot.peer == peer
                && (peer.is_some() || slot.addresses.iter().any(|known| addresses.contains(known)))
        })?;
        slot.link = Link::Down;
        slot.last_error = Some(why);
        slot.pause(now, jitter);
        slot.report()
    }

    /// A node told whether it relays.
    pub(crate) fn offers(&mut self, peer: &PeerId, relays: bool) {
        if let Some(slot) = self.of(peer) {
            slot.relays = relays;
            slot.unnamed = None;
            if !relays && slot.state.is_none() {
                slot.last_error = Some("the node does not relay".to_owned());
            }
        }
    }

    /// The driver asked for a reservation; libp2p reports on it under `listener`.
    pub(crate) fn asked(&mut self, relay: &PeerId, listener: ListenerId) {
        if let Some(slot) = self.of(relay) {
            slot.listener = Some(listener);
        }
    }

    /// A reservation could not even be asked for.
    pub(crate) fn unaskable(&mut self, relay: &PeerId, why: &str, now: Instant) -> Option<Action> {
        let slot = self.of(relay)?;
        slot.refused = true;
        slot.give_up(why, now)
    }

    /// A relay granted or renewed a reservation.
    pub(crate) fn granted(
        &mut self,
        relay: &PeerId,
        renewal: bool,
        now: Instant,
    ) -> Option<Action> {
        let slot = self.of(relay)?;
        slot.renewals += u64::from(renewal);
        // Only what libp2p renews by itself tells for how long the relay grants.
        if let (true, Some(confirmed)) = (renewal, slot.confirmed)
            && slot.asked <= confirmed
        {
            slot.rhythm = now.saturating_duration_since(confirmed);
        }
        slot.confirmed = Some(now);
        slot.attempts = 0;
        slot.last_error = None;
        slot.state = Some(ReservationState::Active);
        slot.report()
    }

    /// The relay of which a reservation was asked under this listener.
    pub(crate) fn relay_of(&self, listener: ListenerId) -> Option<PeerId> {
        let mut slots = self.slots.iter();
        slots.find(|slot| slot.listener == Some(listener))?.peer
    }

    /// The listener of a reservation closed: it was refused, not renewed, or its connection is gone.
    pub(crate) fn closed(
        &mut self,
        listener: ListenerId,
        refusal: Refusal,
        why: &str,
        now: Instant,
        jitter: f64,
    ) -> Option<Action> {
        let slot = self
            .slots
            .iter_mut()
            .find(|slot| slot.listener == Some(listener))?;
        slot.listener = None;
        slot.refused = refusal != Refusal::Lost;
        slot.pause(now, jitter);
        match refusal {
            Refusal::Passing | Refusal::Lost => slot.lose(why),
            Refusal::Final => slot.give_up(why, now),
        }
    }

    /// What is due. Call it a few times a second.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Action> {
        let (me, mut actions) = (self.me, self.give_up(now));
        for slot in &mut self.slots {
            actions.extend(slot.age(now));
            actions.extend(slot.renew(me, now));
            actions.extend(slot.dial(now));
            actions.extend(slot.upgrade(now, self.upgrade_after * MAX_UPGRADE_PAUSE));
        }
        actions.extend(self.reserve(now));
        actions
    }

    /// Leaves those that are of no use any more.
    fn give_up(&mut self, now: Instant) -> Vec<Action> {
        let counts = |slot: &Slot| slot.title != Title::Leaving;
        let engaged = |slot: &&Slot| counts(slot) && slot.is_engaged();
        let active = |slot: &Slot| counts(slot) && slot.is_active();
        let covered = self.wanted > 0 && self.slots.iter().filter(engaged).count() >= self.wanted;
        let replaced = self.wanted == 0 || self.slots.iter().any(active);
        let given_up = |slot: &mut Slot| slot.is_over(covered, replaced, now);
        let gone: Vec<Slot> = self.slots.extract_if(.., given_up).collect();
        let left = |slot: Slot| {
            Some(Action::GiveUp {
                peer: slot.peer?,
                listener: slot.listener,
                works: slot.link == Link::Up && slot.relays && !slot.refused,
            })
        };
        gone.into_iter().filter_map(left).collect()
    }

    /// Asks further relays until enough reservations are held or on their way.
    fn reserve(&mut self, now: Instant) -> Vec<Action> {
        let me = self.me;
        let engaged = |slot: &&Slot| slot.is_engaged() && slot.title != Title::Leaving;
        let engaged = self.slots.iter().filter(engaged).count();
        let missing = self.wanted.saturating_sub(engaged);
        let mut free: Vec<&mut Slot> = self
            .slots
            .iter_mut()
            .filter(|slot| slot.can_reserve(now) && slot.title != Title::Leaving)
            .collect();
        free.sort_by_key(|slot| slot.attempts);
        free.into_iter()
            .take(missing)
            .flat_map(|slot| slot.reserve(me, now))
            .collect()
    }

    fn of(&mut self, peer: &PeerId) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.peer == Some(*peer))
    }
}

impl Slot {
    fn new(peer: Option<PeerId>, title: Title, now: Instant) -> Self {
        Self {
            peer,
            title,
            addresses: Vec::new(),
            via: None,
            upgrade: (now, Duration::ZERO),
            link: Link::Down,
            was_up: false,
            unnamed: None,
            up_at: now,
            refused: false,
            relays: false,
            state: None,
            listener: None,
            asked: now,
            confirmed: None,
            rhythm: RESERVATION_DURATION * 3 / 4,
            renewals: 0,
            attempts: 0,
            not_before: now,
            last_error: None,
        }
    }

    /// Where the reservation stands, if one was ever asked for or is still being sought.
    pub(crate) fn state(&self) -> ReservationState {
        self.state.unwrap_or(ReservationState::Requesting)
    }

    /// Whether this node relays, did, or was never asked.
    pub(crate) fn is_reported(&self) -> bool {
        self.state.is_some() || self.last_error.is_some()
    }

    /// The circuit address that the relay passes on to `me`.
    pub(crate) fn address(&self, me: PeerId) -> Option<Multiaddr> {
        let relay = self.via.as_ref().or(self.addresses.first())?;
        Some(circuit(relay, self.peer?, me))
    }

    /// How long the reservation lasts if it is not renewed.
    pub(crate) fn expires_in(&self, now: Instant) -> Option<Duration> {
        let end = self.confirmed? + self.rhythm * 4 / 3;
        self.is_active().then(|| end.saturating_duration_since(now))
    }

    pub(crate) const fn renewals(&self) -> u64 {
        self.renewals
    }

    pub(crate) const fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(crate) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    const fn is_named(&self) -> bool {
        matches!(self.title, Title::Configured | Title::Named(_))
    }

    const fn is_active(&self) -> bool {
        matches!(
            self.state,
            Some(ReservationState::Active | ReservationState::Renewing)
        )
    }

    /// One more address. Behind a name there may be others every day: the first that is not in use makes room.
    fn learn(&mut self, address: Multiaddr) {
        if self.addresses.contains(&address) {
            return;
        }
        if self.addresses.len() >= MAX_ADDRESSES && matches!(self.title, Title::Named(_)) {
            let unused = |known: &Multiaddr| self.via.as_ref() != Some(known);
            let oldest = self.addresses.iter().position(unused);
            oldest.map(|oldest| self.addresses.remove(oldest));
        }
        if self.addresses.len() < MAX_ADDRESSES {
            self.addresses.push(address);
        }
    }

    /// The better title stays; of two names both do.
    fn entitle(&mut self, title: Title) {
        match (&mut self.title, title) {
            (Title::Configured, _) => {}
            (Title::Named(names), Title::Named(more)) => names.extend(more),
            (held, title) => *held = title,
        }
    }

    /// A name was looked up, and this node was among those that it stands for, or not.
    fn answered(&mut self, name: &Multiaddr, present: bool) {
        let Title::Named(names) = &mut self.title else {
            return;
        };
        if let Some(absences) = names.get_mut(name) {
            *absences = if present { 0 } else { *absences + 1 };
        }
        names.retain(|_, absences| *absences < MAX_ABSENCES);
        if names.is_empty() {
            self.title = Title::Leaving;
        }
    }

    /// Whether it may yet be what it is wanted for, without having failed.
    fn is_hopeful(&self, now: Instant) -> bool {
        if self.title == Title::Leaving || self.refused {
            return false;
        }
        match self.link {
            Link::Down => !self.was_up && self.last_error.is_none(),
            Link::Dialling => self.last_error.is_none(),
            Link::Up if self.relays => self.can_reserve(now),
            Link::Up => self.last_error.is_none() && now < self.up_at + LINGER,
        }
    }

    /// Whether there is no reason any more to stay connected to it.
    fn is_over(&self, covered: bool, replaced: bool, now: Instant) -> bool {
        match self.title {
            Title::Configured | Title::Named(_) => false,
            Title::Leaving => replaced || !self.is_engaged() || self.link == Link::Down,
            Title::Learnt => match self.link {
                Link::Dialling => false,
                Link::Down => {
                    let tries = if self.was_up { LEARNT_ATTEMPTS } else { 1 };
                    self.attempts >= tries && self.last_error.is_some()
                }
                Link::Up if self.is_engaged() => false,
                Link::Up if self.refused => true,
                Link::Up => {
                    let silent = !self.relays;
                    let denied = silent && self.last_error.is_some();
                    denied || (now >= self.up_at + LINGER && (silent || covered))
                }
            },
        }
    }

    fn is_engaged(&self) -> bool {
        self.listener.is_some()
    }

    fn can_reserve(&self, now: Instant) -> bool {
        self.link == Link::Up && self.relays && self.listener.is_none() && self.not_before <= now
    }

    fn reserve(&mut self, me: PeerId, now: Instant) -> Vec<Action> {
        let (Some(relay), Some(mut listen)) = (self.peer, self.address(me)) else {
            return Vec::new();
        };
        // One listens on a relay, not on oneself through it.
        listen.pop();
        self.asked = now;
        self.attempts += 1;
        let report = self.turn(ReservationState::Requesting);
        report
            .into_iter()
            .chain([Action::Reserve { relay, listen }])
            .collect()
    }

    fn dial(&mut self, now: Instant) -> Vec<Action> {
        if self.link != Link::Down || now < self.not_before {
            return Vec::new();
        }
        self.link = Link::Dialling;
        self.attempts += 1;
        let report = self
            .state
            .and_then(|_| self.turn(ReservationState::Requesting));
        let dial = Action::Dial {
            peer: self.peer,
            addresses: self.addresses.clone(),
        };
        report.into_iter().chain([dial]).collect()
    }

    /// A network may begin to let through what it did not when this node came.
    fn upgrade(&mut self, now: Instant, most: Duration) -> Option<Action> {
        let used = Transport::of(self.via.as_ref()?);
        let (due, pause) = self.upgrade;
        if self.link != Link::Up || now < due {
            return None;
        }
        let pause = (pause * 2).min(most);
        self.upgrade = (now + pause, pause);
        let is_better = |address: &&Multiaddr| Transport::of(address) < used;
        let better: Vec<Multiaddr> = self.addresses.iter().filter(is_better).cloned().collect();
        (!better.is_empty()).then_some(Action::Upgrade {
            peer: self.peer?,
            addresses: better,
        })
    }

    /// Time alone changes three things: a renewal comes due, a relay that should have answered is stuck, and so is a
    /// connection on which nobody says what the node is.
    fn age(&mut self, now: Instant) -> Option<Action> {
        let peer = self.peer?;
        let overdue = |since: Instant| now >= since + ANSWER_TIMEOUT;
        if self.unnamed.is_some_and(overdue) {
            self.last_error = Some("the node does not say what it is".to_owned());
            self.unnamed = Some(now);
            return Some(Action::Disconnect(peer));
        }
        match (self.state, self.confirmed) {
            (Some(ReservationState::Active), Some(confirmed)) if now >= confirmed + self.rhythm => {
                self.turn(ReservationState::Renewing)
            }
            (Some(ReservationState::Requesting), _)
                if self.listener.is_some() && overdue(self.asked) =>
            {
                self.last_error = Some("the relay does not answer".to_owned());
                self.asked = now;
                Some(Action::Disconnect(peer))
            }
            _ => None,
        }
    }

    /// libp2p renews by this machine's clock, of which the relay's may be hours ahead: then it would never do so. What is
    /// halfway from when it should have been renewed to its end is asked for once more.
    fn renew(&mut self, me: PeerId, now: Instant) -> Option<Action> {
        let halfway = self.confirmed? + self.rhythm * 7 / 6;
        let asked_again = self.asked + ANSWER_TIMEOUT > now;
        let due = self.state == Some(ReservationState::Renewing) && now >= halfway;
        if !due || asked_again || self.listener.is_none() {
            return None;
        }
        self.asked = now;
        let mut listen = self.address(me)?;
        listen.pop();
        Some(Action::Reserve {
            relay: self.peer?,
            listen,
        })
    }

    fn pause(&mut self, now: Instant, jitter: f64) {
        self.not_before = now + backoff(self.attempts.saturating_sub(1), jitter);
    }

    fn lose(&mut self, why: &str) -> Option<Action> {
        self.state?;
        self.confirmed = None;
        self.last_error.get_or_insert_with(|| why.to_owned());
        self.turn(ReservationState::Lost)
    }

    fn give_up(&mut self, why: &str, now: Instant) -> Option<Action> {
        self.confirmed = None;
        self.not_before = now + FAILED_PAUSE;
        self.last_error = Some(why.to_owned());
        self.turn(ReservationState::Failed)
    }

    /// Changes the state, and reports it if it is another.
    fn turn(&mut self, state: ReservationState) -> Option<Action> {
        let before = self.state.replace(state);
        (before != Some(state)).then_some(Action::Report(self.peer?))
    }

    fn report(&self) -> Option<Action> {
        self.peer.map(Action::Report)
    }
}

/// The pause before attempt `tries + 1`, between 80 and 120 % of its length for a `jitter` of 0 to 1.
fn backoff(tries: u32, jitter: f64) -> Duration {
    let last = PAUSES.len() - 1;
    let step = usize::try_from(tries).unwrap_or(last).min(last);
    let pause = PAUSES.get(step).copied().unwrap_or(ANSWER_TIMEOUT);
    pause.mul_f64(1.0 - JITTER + 2.0 * JITTER * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests;
