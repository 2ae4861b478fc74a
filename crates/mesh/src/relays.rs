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

use std::time::{Duration, Instant};

use libp2p::core::transport::ListenerId;
use libp2p::{Multiaddr, PeerId};

use crate::address::{Transport, circuit, peer_of, without_peer};
use crate::config::RESERVATION_DURATION;
use crate::status::ReservationState;

/// Nodes to stay connected to. Further ones are refused at the start.
pub(crate) const MAX_BOOTSTRAP: usize = 32;
/// Addresses of one of them. Further ones are left out.
const MAX_ADDRESSES: usize = 16;
/// The longest pause before a better connection is tried, in times of the first.
const MAX_UPGRADE_PAUSE: u32 = 10;
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
}

/// All of them.
pub(crate) struct Relays {
    me: PeerId,
    wanted: usize,
    upgrade_after: Duration,
    slots: Vec<Slot>,
}

/// One node to stay connected to.
#[derive(Debug)]
pub(crate) struct Slot {
    peer: Option<PeerId>,
    addresses: Vec<Multiaddr>,
    /// The address that the current connection uses.
    via: Option<Multiaddr>,
    /// When a better one is tried, and the pause before that.
    upgrade: (Instant, Duration),
    link: Link,
    was_up: bool,
    /// When the connection came to stand, until the node has said on it what it is.
    unnamed: Option<Instant>,
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
            upgrade_after,
            slots: Vec::new(),
        };
        relays.learn_all(addresses, now);
        relays
    }

    /// Further nodes to stay connected to, and further addresses of those that are known. Past the limit they are left
    /// out.
    pub(crate) fn learn_all<'a>(
        &mut self,
        addresses: impl IntoIterator<Item = &'a Multiaddr>,
        now: Instant,
    ) {
        for address in addresses {
            self.learn(address, now);
        }
    }

    fn learn(&mut self, address: &Multiaddr, now: Instant) {
        let peer = peer_of(address);
        let address = without_peer(address.clone());
        let has_room = self.slots.len() < MAX_BOOTSTRAP;
        match self
            .slots
            .iter_mut()
            .find(|slot| peer.is_some() && slot.peer == peer)
        {
            Some(slot) if slot.addresses.contains(&address) => {}
            Some(slot) if slot.addresses.len() < MAX_ADDRESSES => slot.addresses.push(address),
            None if has_room => {
                self.slots.push(Slot::new(peer, address, now));
            }
            Some(_) | None => {}
        }
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
        self.of(relay)?.give_up(why, now)
    }

    /// A relay granted or renewed a reservation.
    pub(crate) fn granted(
        &mut self,
        relay: &PeerId,
        renewal: bool,
        now: Instant,
    ) -> Option<Action> {
        let slot = self.of(relay)?;
        if let (true, Some(confirmed)) = (renewal, slot.confirmed) {
            slot.rhythm = now.saturating_duration_since(confirmed);
            slot.renewals += 1;
        }
        slot.confirmed = Some(now);
        slot.attempts = 0;
        slot.last_error = None;
        slot.state = Some(ReservationState::Active);
        slot.report()
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
        slot.pause(now, jitter);
        match refusal {
            Refusal::Passing => slot.lose(why),
            Refusal::Final => slot.give_up(why, now),
        }
    }

    /// What is due. Call it a few times a second.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        for slot in &mut self.slots {
            actions.extend(slot.age(now));
            actions.extend(slot.dial(now));
            actions.extend(slot.upgrade(now, self.upgrade_after * MAX_UPGRADE_PAUSE));
        }
        actions.extend(self.reserve(now));
        actions
    }

    /// Asks further relays until enough reservations are held or on their way.
    fn reserve(&mut self, now: Instant) -> Vec<Action> {
        let me = self.me;
        let engaged = self.slots.iter().filter(|slot| slot.is_engaged()).count();
        let missing = self.wanted.saturating_sub(engaged);
        let mut free: Vec<&mut Slot> = self
            .slots
            .iter_mut()
            .filter(|slot| slot.can_reserve(now))
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
    fn new(peer: Option<PeerId>, address: Multiaddr, now: Instant) -> Self {
        Self {
            peer,
            addresses: vec![address],
            via: None,
            upgrade: (now, Duration::ZERO),
            link: Link::Down,
            was_up: false,
            unnamed: None,
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
        matches!(
            self.state,
            Some(ReservationState::Active | ReservationState::Renewing)
        )
        .then(|| end.saturating_duration_since(now))
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
