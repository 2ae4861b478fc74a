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

    /// Those among `peers` whose turn it is, as many as there is `room` for. Whoever is not among them any more begins
    /// anew when next there.
    pub(super) fn due(
        &mut self,
        peers: &HashSet<PeerId>,
        room: usize,
        now: Instant,
    ) -> Vec<PeerId> {
        self.trials.retain(|peer, _| peers.contains(peer));
        let mut due = Vec::new();
        for peer in peers {
            let trial = self.trials.entry(*peer).or_insert(Trial {
                due: now + self.first,
                pause: self.pause,
            });
            if trial.due <= now && due.len() < room {
                trial.due = now + trial.pause;
                trial.pause = (2 * trial.pause).min(self.longest);
                due.push(*peer);
            }
        }
        due
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
        let turn = |second: &u64| !pacing.due(peers, 1, start + seconds(*second)).is_empty();
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
        assert!(pacing.due(&HashSet::new(), 1, later).is_empty());
        assert!(pacing.due(&peers, 0, later).is_empty());
        assert_eq!(pacing.due(&peers, 1, later).len(), 1);
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
