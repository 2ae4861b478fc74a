//! Relays that others told of, and those that this node reached.
//!
//! To say something of a relay costs nothing. So what is only heard is bounded for each network that it was heard from,
//! is dialled seldom and only when a relay is wanted, displaces nothing that was reached, and is never told on. What was
//! reached holds its key: that much is proven, of the addresses that answered and of others at the same IP address.
//!
//! A state machine without I/O, as [`crate::relays`] is.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use libp2p::{Multiaddr, PeerId};
use rand::RngExt as _;
use rand::seq::SliceRandom as _;

use crate::address::{Transport, dialable, peer_of, without_peer};
use crate::network::{Network, Scope, ip, scope};
use crate::wire::MAX_RELAY_ADDRESSES;

/// Relays that were reached. Further ones are taken only in the place of those that are gone.
pub(crate) const MAX_REACHED: usize = 32;
/// Relays that were only heard of, all together.
pub(crate) const MAX_HEARD: usize = 64;
/// Those of them that were heard from one network in one way.
pub(crate) const MAX_OF_SOURCE: usize = 8;
/// Relays of one network that were heard from one source, or were reached without the operator's having named them.
pub(crate) const MAX_NEAR: usize = 2;
/// The same of a network's region.
pub(crate) const MAX_IN_REGION: usize = 4;
/// Networks that the addresses of one relay may be in, which is heard of.
const MAX_NETWORKS: usize = 3;
/// Dials of relays that are only heard of: so many at once, then one at each interval.
const TRIALS: u32 = 4;
const TRIAL_PAUSE: Duration = Duration::from_secs(15);
/// Such dials that fail in one network, and in its region, before it is left alone for [`AVOIDED`].
const MAX_FAILED_NEAR: usize = 3;
const MAX_FAILED_IN_REGION: usize = 8;
const AVOIDED: Duration = Duration::from_secs(600);
const MAX_REMEMBERED: usize = 128;
/// For so long a relay that is being tried is not tried again; twice that is the pause after a failure, and twice as long
/// each time.
const PAUSE: Duration = Duration::from_secs(30);
const MAX_PAUSE: Duration = Duration::from_secs(3600);
/// The first pause where nothing else is left to try: a relay that is restarted is back before the other one is over.
const PRESSED_PAUSE: Duration = Duration::from_secs(5);
/// Failures after which a relay that was never reached is forgotten.
const MAX_FAILURES: u32 = 3;
/// A relay that was reached within this time is told on, and makes room for no other.
const RECENT: Duration = Duration::from_secs(24 * 3600);
/// One that was not for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(30 * 24 * 3600);
/// Relays that are known to work besides those in use: so many are looked for at leisure.
const IN_RESERVE: usize = 4;
const VISIT_PAUSE: Duration = Duration::from_secs(300);

/// From whom something is heard: the network that the words come from, and how they came.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    pub network: Option<Network>,
    pub by: Way,
}

/// How something is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    /// A relay's own words, passed on by whoever.
    Gossip,
    /// What a peer says that it reached.
    Exchange,
}

/// What a relay is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// A reservation, or a relay's connection to others.
    Relay,
    /// To know more of them than are in use.
    Reserve,
}

/// All of them.
pub(crate) struct Hearsay {
    me: PeerId,
    reached: Vec<Reached>,
    heard: Vec<Heard>,
    /// Dials of what was heard from each source.
    trials: HashMap<Source, u32>,
    failed: VecDeque<(Instant, Network)>,
    credit: (f64, Instant),
    next_visit: Instant,
    turn_of_heard: bool,
}

#[derive(Debug)]
struct Reached {
    peer: PeerId,
    /// Those that answered, the latest first.
    worked: Vec<Multiaddr>,
    /// What the relay says of itself.
    stated: Vec<Multiaddr>,
    last: SystemTime,
    named: bool,
    failures: u32,
    rest: Rest,
}

#[derive(Debug)]
struct Heard {
    peer: PeerId,
    addresses: Vec<Multiaddr>,
    source: Source,
    failures: u32,
    rest: Rest,
}

/// Until when a relay is not tried: while there are others, and where it is the last.
#[derive(Debug)]
struct Rest {
    until: Instant,
    pressed: Instant,
}

impl Rest {
    const fn over(now: Instant) -> Self {
        let (until, pressed) = (now, now);
        Self { until, pressed }
    }

    /// It is being tried.
    fn under_way(now: Instant) -> Self {
        Self::over(now + PAUSE)
    }

    fn after(failures: u32, now: Instant) -> Self {
        Self {
            until: now + pause(PAUSE * 2, failures),
            pressed: now + pause(PRESSED_PAUSE, failures),
        }
    }

    fn is_over(&self, pressed: bool, now: Instant) -> bool {
        let until = if pressed { self.pressed } else { self.until };
        until <= now
    }
}

/// A relay that was reached, and when.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Proven {
    pub peer: PeerId,
    pub addresses: Vec<Multiaddr>,
    pub last: SystemTime,
}

impl Hearsay {
    pub(crate) fn new(me: PeerId, now: Instant) -> Self {
        Self {
            me,
            reached: Vec::new(),
            heard: Vec::new(),
            trials: HashMap::new(),
            failed: VecDeque::new(),
            credit: (f64::from(TRIALS), now),
            next_visit: now + VISIT_PAUSE,
            turn_of_heard: false,
        }
    }

    /// Takes up what was kept from an earlier run of this node.
    pub(crate) fn remember(&mut self, kept: Vec<Proven>, now: Instant) {
        let fresh = |relay: &Proven| age(relay.last) < FORGOTTEN && relay.peer != self.me;
        let kept: Vec<Proven> = kept.into_iter().filter(fresh).take(MAX_REACHED).collect();
        for relay in kept {
            let mut worked = usable(&relay.peer, relay.addresses, Scope::Machine);
            worked.truncate(MAX_RELAY_ADDRESSES);
            if !worked.is_empty() && self.of(&relay.peer).is_none() {
                let mut reached = Reached::new(relay.peer, relay.last, false, now);
                reached.worked = worked;
                self.reached.push(reached);
            }
        }
    }

    /// Somebody says that there is a relay. `within` is from where whoever says it is reached: addresses that mean
    /// something in a narrower place only are left out.
    pub(crate) fn hear(
        &mut self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        source: &Source,
        within: Scope,
        now: Instant,
    ) {
        let addresses = stated(&peer, addresses, within);
        if peer == self.me || addresses.is_empty() {
            return;
        }
        if let Some(reached) = self.of(&peer) {
            if source.by == Way::Gossip {
                reached.stated = addresses;
            }
            return;
        }
        let same = |heard: &&mut Heard| heard.peer == peer && heard.source == *source;
        if let Some(heard) = self.heard.iter_mut().find(same) {
            heard.addresses = addresses;
            return;
        }
        if !self.is_crowded(source, &addresses) && self.make_room(source) {
            self.heard.push(Heard {
                peer,
                addresses,
                source: source.clone(),
                failures: 0,
                rest: Rest::over(now),
            });
        }
    }

    /// Whether one source has told of enough relays where these addresses are.
    fn is_crowded(&self, source: &Source, addresses: &[Multiaddr]) -> bool {
        let told = self.heard.iter().filter(|heard| heard.source == *source);
        let others: Vec<&[Multiaddr]> = told.map(|heard| heard.addresses.as_slice()).collect();
        crowds(&others, addresses)
    }

    /// A full source loses what failed most, else any; a full book one of the source that has most in it.
    fn make_room(&mut self, source: &Source) -> bool {
        let of = |source: &Source, heard: &[Heard]| {
            heard.iter().filter(|other| other.source == *source).count()
        };
        if of(source, &self.heard) >= MAX_OF_SOURCE {
            return self.displace(source);
        }
        if self.heard.len() < MAX_HEARD {
            return true;
        }
        let fullest = self.heard.iter().map(|heard| &heard.source);
        let Some(fullest) = fullest.max_by_key(|other| of(other, &self.heard)).cloned() else {
            return false;
        };
        of(&fullest, &self.heard) > of(source, &self.heard) + 1 && self.displace(&fullest)
    }

    fn displace(&mut self, source: &Source) -> bool {
        let mut of_source: Vec<(u32, usize)> = self
            .heard
            .iter()
            .enumerate()
            .filter(|(_, heard)| heard.source == *source)
            .map(|(index, heard)| (heard.failures, index))
            .collect();
        of_source.shuffle(&mut rand::rng());
        let victim = of_source.into_iter().max_by_key(|(failures, _)| *failures);
        victim
            .map(|(_, index)| self.heard.swap_remove(index))
            .is_some()
    }

    /// A relay answered at `via` and says that it relays; `words` are its own on where it is. `named` when the
    /// operator named it, or whoever stands behind a name. True when there is something new to keep.
    pub(crate) fn reached(
        &mut self,
        peer: PeerId,
        via: &Multiaddr,
        words: Vec<Multiaddr>,
        named: bool,
        now: Instant,
    ) -> bool {
        self.heard.retain(|heard| heard.peer != peer);
        let via = without_peer(via.clone());
        if self.of(&peer).is_none() {
            if !self.has_room_for(&via, named) {
                return false;
            }
            self.reached
                .push(Reached::new(peer, SystemTime::now(), named, now));
        }
        let within = scope(&via).unwrap_or(Scope::World);
        let Some(reached) = self.of(&peer) else {
            return false;
        };
        let before = reached.vouched();
        reached.worked.retain(|known| *known != via);
        reached.worked.insert(0, via);
        reached.worked.truncate(MAX_RELAY_ADDRESSES / 2);
        if !words.is_empty() {
            reached.stated = stated(&peer, words, within);
        }
        reached.named |= named;
        reached.still(now);
        reached.vouched() != before
    }

    /// Room among those reached: what the operator named comes before what was found, and that is spread over networks.
    fn has_room_for(&mut self, via: &Multiaddr, named: bool) -> bool {
        if !named {
            let found = self.reached.iter().filter(|other| !other.named);
            let others: Vec<&[Multiaddr]> = found.map(|other| other.worked.as_slice()).collect();
            if crowds(&others, std::slice::from_ref(via)) {
                return false;
            }
        }
        if self.reached.len() < MAX_REACHED {
            return true;
        }
        let gone = |other: &Reached| age(other.last) > RECENT || (named && !other.named);
        let oldest = self
            .reached
            .iter()
            .enumerate()
            .filter(|(_, other)| gone(other));
        let oldest = oldest
            .max_by_key(|(_, other)| age(other.last))
            .map(|(index, _)| index);
        oldest
            .map(|index| self.reached.swap_remove(index))
            .is_some()
    }

    /// The connection to a relay still stands.
    pub(crate) fn still_reached(&mut self, peer: &PeerId, now: Instant) {
        if let Some(reached) = self.of(peer) {
            reached.still(now);
        }
    }

    /// A relay that was tried did not answer, does not relay, or has no room.
    pub(crate) fn failed(&mut self, peer: &PeerId, now: Instant) {
        if let Some(reached) = self.of(peer) {
            reached.failures += 1;
            reached.rest = Rest::after(reached.failures, now);
            return;
        }
        let mut networks = Vec::new();
        for heard in self
            .heard
            .iter_mut()
            .filter(|heard| heard.peer == *peer && heard.rest.until > now)
        {
            heard.failures += 1;
            heard.rest = Rest::after(heard.failures, now);
            if heard.failures > 1 {
                // It is forgotten after a few of them: not within seconds.
                heard.rest.pressed = heard.rest.until;
            }
            networks.extend(heard.addresses.iter().filter_map(Network::of));
        }
        networks.sort_by_key(|network| format!("{network:?}"));
        networks.dedup();
        self.failed
            .extend(networks.into_iter().map(|network| (now, network)));
        let excess = self.failed.len().saturating_sub(MAX_REMEMBERED);
        self.failed.drain(..excess);
        self.heard.retain(|heard| heard.failures < MAX_FAILURES);
    }

    /// The relay to try next, and where. `taken` are those that need not be.
    pub(crate) fn next(
        &mut self,
        need: Need,
        now: Instant,
        taken: impl Fn(&PeerId) -> bool,
    ) -> Option<(PeerId, Vec<Multiaddr>)> {
        self.reached.retain(|reached| age(reached.last) < FORGOTTEN);
        if need == Need::Reserve && !self.is_visit_due(now, &taken) {
            return None;
        }
        let rested = self.in_turn(need, false, now, &taken);
        let chosen = match need {
            Need::Relay => rested.or_else(|| self.in_turn(need, true, now, &taken)),
            Need::Reserve => rested,
        };
        self.turn_of_heard = chosen.is_some() != self.turn_of_heard;
        chosen
    }

    /// What was reached and what was heard take turns.
    fn in_turn(
        &mut self,
        need: Need,
        pressed: bool,
        now: Instant,
        taken: &impl Fn(&PeerId) -> bool,
    ) -> Option<(PeerId, Vec<Multiaddr>)> {
        match self.turn_of_heard {
            true => self
                .next_heard(pressed, now, taken)
                .or_else(|| self.next_reached(need, pressed, now, taken)),
            false => self
                .next_reached(need, pressed, now, taken)
                .or_else(|| self.next_heard(pressed, now, taken)),
        }
    }

    fn is_visit_due(&mut self, now: Instant, taken: &impl Fn(&PeerId) -> bool) -> bool {
        let working = |reached: &&Reached| {
            reached.failures == 0 && age(reached.last) < RECENT / 2 && !taken(&reached.peer)
        };
        let enough = self.reached.iter().filter(working).count() >= IN_RESERVE;
        if enough || now < self.next_visit {
            return false;
        }
        self.next_visit = now + VISIT_PAUSE;
        true
    }

    fn next_reached(
        &mut self,
        need: Need,
        pressed: bool,
        now: Instant,
        taken: &impl Fn(&PeerId) -> bool,
    ) -> Option<(PeerId, Vec<Multiaddr>)> {
        let stale = |reached: &Reached| need == Need::Relay || age(reached.last) > RECENT / 2;
        let rested = |reached: &Reached| reached.rest.is_over(pressed, now);
        let due = self
            .reached
            .iter_mut()
            .filter(|reached| rested(reached) && stale(reached) && !taken(&reached.peer));
        let next = due.min_by_key(|reached| (reached.failures, age(reached.last)))?;
        next.rest = Rest::under_way(now);
        Some((next.peer, next.known()))
    }

    fn next_heard(
        &mut self,
        pressed: bool,
        now: Instant,
        taken: &impl Fn(&PeerId) -> bool,
    ) -> Option<(PeerId, Vec<Multiaddr>)> {
        self.refill(now);
        if self.credit.0 < 1.0 {
            return None;
        }
        let mut due: Vec<usize> = Vec::new();
        for (index, heard) in self.heard.iter().enumerate() {
            if heard.rest.is_over(pressed, now) && !taken(&heard.peer) && !self.is_avoided(heard) {
                due.push(index);
            }
        }
        due.shuffle(&mut rand::rng());
        let rank = |index: &usize| {
            let heard = self.heard.get(*index)?;
            Some((
                heard.failures,
                self.trials.get(&heard.source).copied().unwrap_or_default(),
            ))
        };
        let chosen = due.into_iter().min_by_key(rank)?;
        let heard = self.heard.get_mut(chosen)?;
        heard.rest = Rest::under_way(now);
        self.credit.0 -= 1.0;
        *self.trials.entry(heard.source.clone()).or_default() += 1;
        Some((heard.peer, heard.addresses.clone()))
    }

    /// Time brings further trials, and ends what is remembered of earlier ones.
    fn refill(&mut self, now: Instant) {
        let (left, at) = self.credit;
        let earned = now.saturating_duration_since(at).as_secs_f64() / TRIAL_PAUSE.as_secs_f64();
        self.credit = ((left + earned).min(f64::from(TRIALS)), now);
        self.failed
            .retain(|(at, _)| now.saturating_duration_since(*at) < AVOIDED);
        let heard = &self.heard;
        self.trials
            .retain(|source, _| heard.iter().any(|heard| heard.source == *source));
    }

    /// Whether too many were tried in vain where this one is said to be.
    fn is_avoided(&self, heard: &Heard) -> bool {
        let count = |of: &dyn Fn(&Network) -> bool| {
            self.failed
                .iter()
                .filter(|(_, network)| of(network))
                .count()
        };
        heard.addresses.iter().filter_map(Network::of).any(|here| {
            count(&|there| *there == here) >= MAX_FAILED_NEAR
                || count(&|there| there.region() == here.region()) >= MAX_FAILED_IN_REGION
        })
    }

    /// Relays to tell of to somebody who is reached in `within`, in any order: such as were reached lately.
    pub(crate) fn told_on(&self, within: Scope, most: usize) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let recent = self
            .reached
            .iter()
            .filter(|reached| age(reached.last) < RECENT);
        let mut told: Vec<_> = recent
            .map(|reached| {
                (
                    reached.peer,
                    usable(&reached.peer, reached.vouched(), within),
                )
            })
            .filter(|(_, addresses)| !addresses.is_empty())
            .collect();
        told.shuffle(&mut rand::rng());
        told.truncate(most);
        told
    }

    /// What to keep for the next run of this node.
    pub(crate) fn proven(&self) -> Vec<Proven> {
        let proven = |reached: &Reached| Proven {
            peer: reached.peer,
            addresses: reached.vouched(),
            last: reached.last,
        };
        self.reached.iter().map(proven).collect()
    }

    fn of(&mut self, peer: &PeerId) -> Option<&mut Reached> {
        self.reached
            .iter_mut()
            .find(|reached| reached.peer == *peer)
    }
}

impl Reached {
    const fn new(peer: PeerId, last: SystemTime, named: bool, now: Instant) -> Self {
        Self {
            peer,
            worked: Vec::new(),
            stated: Vec::new(),
            last,
            named,
            failures: 0,
            rest: Rest::over(now),
        }
    }

    fn still(&mut self, now: Instant) {
        self.last = SystemTime::now();
        self.failures = 0;
        self.rest = Rest::over(now);
    }

    /// Where it answered, and where it says to be at the same IP address or, over TLS, under a name.
    fn vouched(&self) -> Vec<Multiaddr> {
        let there = |address: &&Multiaddr| {
            let own = self
                .worked
                .iter()
                .filter_map(ip)
                .any(|known| ip(address) == Some(known));
            own || (ip(address).is_none() && Transport::of(address) == Transport::Wss)
        };
        merged(self.worked.iter().chain(self.stated.iter().filter(there)))
    }

    /// The same, and wherever else it says to be.
    fn known(&self) -> Vec<Multiaddr> {
        merged(self.vouched().iter().chain(&self.stated))
    }
}

fn merged<'a>(addresses: impl Iterator<Item = &'a Multiaddr>) -> Vec<Multiaddr> {
    let mut merged: Vec<Multiaddr> = Vec::new();
    for address in addresses {
        if merged.len() < MAX_RELAY_ADDRESSES && !merged.contains(address) {
            merged.push(address.clone());
        }
    }
    merged
}

/// Addresses at which a relay may be dialled that somebody told of who is reached in `within`.
fn usable(peer: &PeerId, addresses: Vec<Multiaddr>, within: Scope) -> Vec<Multiaddr> {
    let usable = |address: &Multiaddr| {
        dialable(address, peer) && scope(address).is_some_and(|scope| scope >= within)
    };
    let bare = |address: Multiaddr| match peer_of(&address) {
        Some(_) => without_peer(address),
        None => address,
    };
    let usable = addresses.into_iter().filter(usable).map(bare);
    usable.take(MAX_RELAY_ADDRESSES).collect()
}

/// What a peer says of where it is, within the same bounds.
pub(crate) fn stated(peer: &PeerId, addresses: Vec<Multiaddr>, within: Scope) -> Vec<Multiaddr> {
    in_few_networks(usable(peer, addresses, within))
}

/// The addresses in the first few of their networks: one relay does not stand for many places.
fn in_few_networks(addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
    let mut networks: Vec<Network> = Vec::new();
    let mut kept = addresses;
    kept.retain(|address| {
        let Some(network) = Network::of(address) else {
            return false;
        };
        let known = networks.contains(&network);
        if !known && networks.len() < MAX_NETWORKS {
            networks.push(network);
            return true;
        }
        known
    });
    kept
}

/// Whether relays at `others` are as many as may be where these addresses are.
fn crowds(others: &[&[Multiaddr]], addresses: &[Multiaddr]) -> bool {
    let count = |of: &dyn Fn(&Network) -> bool| {
        let there =
            |other: &&&[Multiaddr]| other.iter().filter_map(Network::of).any(|net| of(&net));
        others.iter().filter(there).count()
    };
    addresses.iter().filter_map(Network::of).any(|here| {
        count(&|there| *there == here) >= MAX_NEAR
            || count(&|there| there.region() == here.region()) >= MAX_IN_REGION
    })
}

fn pause(first: Duration, failures: u32) -> Duration {
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(10));
    doubled
        .min(MAX_PAUSE)
        .mul_f64(rand::rng().random_range(0.8..1.2))
}

/// How long ago; nothing for a time to come.
fn age(at: SystemTime) -> Duration {
    at.elapsed().unwrap_or_default()
}

#[cfg(test)]
mod tests;
