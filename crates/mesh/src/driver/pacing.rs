//! What is tried with a peer again and again, and less and less often while it is in vain.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use libp2p::PeerId;

/// When something is tried with each of some peers.
pub(super) struct Pacing {
    /// Before the first time, and after it.
    first: Duration,
    pause: Duration,
    longest: Duration,
    trials: HashMap<PeerId, Trial>,
}

struct Trial {
    due: Instant,
    pause: Duration,
}

impl Pacing {
    /// The first time comes after `first`; then there is a `pause`, which doubles up to the `longest`.
    pub(super) fn new(first: Duration, pause: Duration, longest: Duration) -> Self {
        Self {
            first,
            pause,
            longest,
            trials: HashMap::new(),
        }
    }

    /// Those among `peers` whose turn it is. Whoever is not among them any more begins anew when next there.
    pub(super) fn due(&mut self, peers: &HashSet<PeerId>, now: Instant) -> Vec<PeerId> {
        self.trials.retain(|peer, _| peers.contains(peer));
        let (first, pause) = (self.first, self.pause);
        let due = peers.iter().filter(|peer| {
            let due = now + first;
            let trial = self.trials.entry(**peer).or_insert(Trial { due, pause });
            trial.due <= now
        });
        due.copied().collect()
    }

    /// It was tried. The next pause is a fifth longer or shorter, by `jitter` in 0..1, so that not everybody comes at once.
    pub(super) fn tried(&mut self, peer: &PeerId, jitter: f64, now: Instant) {
        if let Some(trial) = self.trials.get_mut(peer) {
            trial.due = now + trial.pause.mul_f64(0.8 + 0.4 * jitter);
            trial.pause = (2 * trial.pause).min(self.longest);
        }
    }

    /// What was in vain may not be any more: everybody begins anew.
    pub(super) fn begin_anew(&mut self) {
        self.trials.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// The seconds in which it is the turn of somebody who is there all the time.
    fn turns(pacing: &mut Pacing, peers: &HashSet<PeerId>, start: Instant) -> Vec<u64> {
        let turn = |second: &u64| {
            let now = start + seconds(*second);
            let due = pacing.due(peers, now);
            due.iter().for_each(|peer| pacing.tried(peer, 0.5, now));
            !due.is_empty()
        };
        (0..150).filter(turn).collect()
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_whoever_was_gone_begins_anew() {
        let start = Instant::now();
        let mut pacing = Pacing::new(Duration::ZERO, seconds(5), seconds(30));
        let peers = HashSet::from([PeerId::random()]);
        assert_eq!(
            turns(&mut pacing, &peers, start),
            [0, 5, 15, 35, 65, 95, 125]
        );
        let later = start + seconds(150);
        assert!(pacing.due(&HashSet::new(), later).is_empty());
        assert_eq!(pacing.due(&peers, later).len(), 1);
        assert_eq!(pacing.due(&peers, later).len(), 1, "it was not tried");
    }

    #[test]
    fn pauses_of_different_peers_differ() {
        let start = Instant::now();
        let mut pacing = Pacing::new(Duration::ZERO, seconds(100), seconds(100));
        let peers = HashSet::from([PeerId::random()]);
        for (jitter, pause) in [(0.0, 80), (1.0, 120)] {
            let peer = pacing.due(&peers, start + seconds(1000));
            pacing.tried(&peer[0], jitter, start);
            assert!(pacing.due(&peers, start + seconds(pause - 1)).is_empty());
            assert_eq!(pacing.due(&peers, start + seconds(pause)).len(), 1);
        }
    }

    #[test]
    fn nothing_is_tried_before_its_time_and_the_pauses_are_short_again_after_a_change() {
        let start = Instant::now();
        let mut pacing = Pacing::new(seconds(10), seconds(20), seconds(60));
        let peers = HashSet::from([PeerId::random()]);
        assert_eq!(turns(&mut pacing, &peers, start), [10, 30, 70, 130]);
        pacing.begin_anew();
        let later = start + seconds(150);
        assert_eq!(turns(&mut pacing, &peers, later), [10, 30, 70, 130]);
    }
}
