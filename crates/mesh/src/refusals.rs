//! What limits forbid is said once for each network, and after a while again with how often it came: whoever runs into a limit does
//! so as often as it likes, and a log is to be read.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::network::Network;

/// A network is told of again after this time.
const PAUSE: Duration = Duration::from_secs(600);
/// Networks that are told apart. Those beyond are told of as one.
const MAX_TOLD: usize = 64;

/// What is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Refused {
    Connection,
    Reservation,
    Circuit,
}

/// When each network was told of last.
#[derive(Default)]
pub(crate) struct Refusals(HashMap<(Refused, Option<Network>), Told>);

struct Told {
    at: Instant,
    since: u64,
}

impl Refusals {
    /// One more was refused; how many were since the network was told of last, if it is to be told of now.
    pub(crate) fn note(
        &mut self,
        what: Refused,
        network: Option<Network>,
        now: Instant,
    ) -> Option<u64> {
        if self.0.len() >= MAX_TOLD {
            self.forget_old(now);
        }
        let known = self.0.contains_key(&(what, network.clone()));
        let key = match known || self.0.len() < MAX_TOLD {
            true => (what, network),
            false => (what, None),
        };
        let Some(told) = self.0.get_mut(&key) else {
            self.0.insert(key, Told { at: now, since: 0 });
            return Some(1);
        };
        told.since += 1;
        if now.saturating_duration_since(told.at) < PAUSE {
            return None;
        }
        told.at = now;
        Some(std::mem::take(&mut told.since))
    }

    /// Those that would be told of again now make room. What was not told of them yet is told with those told of as one.
    fn forget_old(&mut self, now: Instant) {
        let is_old = |told: &Told| now.saturating_duration_since(told.at) >= PAUSE;
        let old: Vec<_> = self.0.extract_if(|_, told| is_old(told)).collect();
        for ((what, _), told) in old.into_iter().filter(|(_, told)| told.since > 0) {
            let rest = self
                .0
                .entry((what, None))
                .or_insert(Told { since: 0, ..told });
            rest.since += told.since;
        }
    }
}

/// How many lines about single peers there may be: so many at once, then one at each interval. What is left out is counted.
pub(crate) struct PeerLines {
    allowance: crate::allowance::Allowance,
    left_out: u64,
}

impl PeerLines {
    pub(crate) const fn new(now: Instant) -> Self {
        let (most, pause) = (512.0, Duration::from_secs(2));
        Self {
            allowance: crate::allowance::Allowance::new(most, pause, now),
            left_out: 0,
        }
    }

    /// How many lines were left out before this one; `None` where it is to be left out itself.
    pub(crate) fn next(&mut self, now: Instant) -> Option<u64> {
        if self.allowance.take(1, now) {
            return Some(std::mem::take(&mut self.left_out));
        }
        self.left_out += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: u32) -> Option<Network> {
        Some(Network::V4(number << 8))
    }

    #[test]
    fn a_network_is_told_of_once_and_later_with_how_often_it_came() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let what = Refused::Connection;
        assert_eq!(refusals.note(what, network(1), start), Some(1));
        for _ in 0..1000 {
            assert_eq!(refusals.note(what, network(1), start), None);
        }
        assert_eq!(refusals.note(what, network(2), start), Some(1));
        assert_eq!(
            refusals.note(Refused::Reservation, network(1), start),
            Some(1)
        );
        assert_eq!(refusals.note(what, network(1), start + PAUSE), Some(1001));
    }

    #[test]
    fn networks_without_end_are_told_of_as_one() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        let told = (0..10_000)
            .filter_map(|number| refusals.note(Refused::Circuit, network(number), now))
            .count();
        assert_eq!((told, refusals.0.len()), (MAX_TOLD + 1, MAX_TOLD + 1));
    }

    #[test]
    fn networks_that_were_told_of_long_ago_make_room_and_what_is_left_of_them_is_told() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let mut note = |number, now| refusals.note(Refused::Circuit, network(number), now);
        let many = u32::try_from(MAX_TOLD).unwrap();
        for number in 0..many {
            note(number, start);
            note(number, start);
        }
        let later = start + PAUSE;
        assert!((many..2 * many - 1).all(|number| note(number, later) == Some(1)));
        assert_eq!(note(many, later), None, "it was told of by itself");
        assert_eq!(note(9999, later), Some(u64::from(many) + 1));
        assert_eq!(note(9998, later), None);
    }

    #[test]
    fn lines_about_peers_without_end_are_few_and_those_left_out_are_counted() {
        let start = Instant::now();
        let mut lines = PeerLines::new(start);
        let written = (0..10_000).filter(|_| lines.next(start).is_some()).count();
        assert_eq!(written, 512);
        let later = start + Duration::from_secs(2);
        assert_eq!(lines.next(later), Some(10_000 - 512));
        assert_eq!(lines.next(later), None);
    }
}
