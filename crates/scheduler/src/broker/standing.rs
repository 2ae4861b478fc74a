//! What donors are worth by what they did: whether their word counts, and how often they took a task and did nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use worldcompute_proof::PeerId;

/// Most donors whose deeds are kept in mind, also while they are away; the one of longest ago makes room.
pub const MAX_STANDINGS: usize = 10_000;
/// How long a donor is left alone after it did nothing; doubles each time in a row.
const FIRST_PENALTY: Duration = Duration::from_secs(10);
/// Most doublings: 21 minutes.
const MAX_DOUBLINGS: u32 = 7;

/// What every donor did so far.
#[derive(Default)]
pub(super) struct Standings(BTreeMap<PeerId, Standing>);

#[derive(Clone, Copy, Default)]
struct Standing {
    /// Whether the last task that came to anything came to a receipt.
    delivered: bool,
    /// How often since then it did nothing.
    no_shows: u32,
    barred_until: Duration,
    changed: Duration,
}

impl Standings {
    /// The donor gave a receipt that counts, or is this node's own.
    pub(super) fn delivered(&mut self, now: Duration, peer: PeerId) {
        let standing = Standing {
            delivered: true,
            changed: now,
            ..Standing::default()
        };
        self.set(peer, standing);
    }

    /// The donor did nothing with a task that it was given at `since`. Tasks that were given before the last time are
    /// the same failure.
    pub(super) fn no_show(&mut self, now: Duration, peer: PeerId, since: Duration) {
        let before = self.of(&peer);
        if before.no_shows > 0 && since <= before.changed {
            return;
        }
        let standing = Standing {
            delivered: false,
            no_shows: before.no_shows.saturating_add(1),
            barred_until: now + FIRST_PENALTY * (1 << before.no_shows.min(MAX_DOUBLINGS)),
            changed: now,
        };
        self.set(peer, standing);
    }

    /// Whether the donor is believed when it says that it works.
    pub(super) fn is_believed(&self, peer: &PeerId) -> bool {
        self.of(peer).delivered
    }

    /// How often in a row it did nothing.
    pub(super) fn no_shows(&self, peer: &PeerId) -> u32 {
        self.of(peer).no_shows
    }

    /// Until when it gets no task.
    pub(super) fn barred_until(&self, peer: &PeerId) -> Duration {
        self.of(peer).barred_until
    }

    /// When the next donor is barred no more.
    pub(super) fn next_release(&self, now: Duration) -> Option<Duration> {
        let barred = self.0.values().map(|standing| standing.barred_until);
        barred.filter(|until| *until > now).min()
    }

    fn of(&self, peer: &PeerId) -> Standing {
        self.0.get(peer).copied().unwrap_or_default()
    }

    fn set(&mut self, peer: PeerId, standing: Standing) {
        if self.0.len() >= MAX_STANDINGS && !self.0.contains_key(&peer) {
            let oldest = self.0.iter().min_by_key(|(_, standing)| standing.changed);
            if let Some(oldest) = oldest.map(|(peer, _)| *peer) {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(peer, standing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn peer(number: u32) -> PeerId {
        let mut seed = [9; 32];
        seed[..4].copy_from_slice(&number.to_be_bytes());
        worldcompute_proof::SigningKey::from_seed(seed).peer_id()
    }

    #[test]
    fn every_failure_bars_for_longer_until_a_receipt_ends_it() {
        let (mut standings, mut now) = (Standings::default(), SECOND);
        let mut penalties = Vec::new();
        for _ in 0..9 {
            standings.no_show(now, peer(0), now);
            penalties.push((standings.barred_until(&peer(0)) - now).as_secs());
            now += SECOND;
        }
        assert_eq!(penalties, [10, 20, 40, 80, 160, 320, 640, 1280, 1280]);
        assert_eq!(standings.no_shows(&peer(0)), 9);
        standings.delivered(now, peer(0));
        assert_eq!(standings.no_shows(&peer(0)), 0);
        assert!(standings.barred_until(&peer(0)) < now);
    }

    #[test]
    fn tasks_that_were_given_at_once_are_one_failure() {
        let mut standings = Standings::default();
        for _ in 0..256 {
            standings.no_show(50 * SECOND, peer(0), SECOND);
        }
        assert_eq!(standings.no_shows(&peer(0)), 1);
        standings.no_show(90 * SECOND, peer(0), 51 * SECOND);
        assert_eq!(standings.no_shows(&peer(0)), 2);
    }

    #[test]
    fn so_many_are_kept_in_mind_and_the_oldest_makes_room() {
        let mut standings = Standings::default();
        for number in 0..=MAX_STANDINGS as u32 {
            standings.delivered(SECOND * number, peer(number));
        }
        assert_eq!(standings.0.len(), MAX_STANDINGS);
        assert!(!standings.is_believed(&peer(0)));
        assert!(standings.is_believed(&peer(1)) && standings.is_believed(&peer(10_000)));
    }
}
