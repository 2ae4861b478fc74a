//! What became of reservations over time: since when they stand where they do, and how they were lost last.

use std::collections::HashMap;
use std::time::SystemTime;

use libp2p::PeerId;

use crate::status::{Loss, ReservationState};

/// Relays that are remembered; those that are not named any more are forgotten first.
pub(super) const MAX_HISTORIES: usize = 128;

/// The past of every reservation that was ever asked for.
#[derive(Default)]
pub(super) struct Histories(HashMap<PeerId, History>);

struct History {
    held: bool,
    state: ReservationState,
    since: SystemTime,
    last_loss: Option<Loss>,
}

impl Histories {
    /// A reservation stands here now. `is_named` says whether a relay still is one to stay connected to.
    pub(super) fn note(
        &mut self,
        relay: PeerId,
        state: ReservationState,
        why: Option<&str>,
        is_named: impl Fn(&PeerId) -> bool,
    ) {
        let now = SystemTime::now();
        if self.0.len() >= MAX_HISTORIES && !self.0.contains_key(&relay) {
            self.0.retain(|known, _| is_named(known));
        }
        let history = self.0.entry(relay).or_insert(History {
            held: false,
            state,
            since: now,
            last_loss: None,
        });
        let held = is_held(state);
        if history.held && !held {
            history.last_loss = Some(Loss {
                at: now,
                why: why.unwrap_or("unknown").to_owned(),
            });
        }
        // One that is being renewed is held all the while.
        if state != history.state && !(held && history.held) {
            history.since = now;
        }
        (history.held, history.state) = (held, state);
    }

    /// Since when it stands where it does.
    pub(super) fn since(&self, relay: &PeerId) -> Option<SystemTime> {
        self.0.get(relay).map(|history| history.since)
    }

    /// How it was lost last.
    pub(super) fn last_loss(&self, relay: &PeerId) -> Option<Loss> {
        self.0.get(relay)?.last_loss.clone()
    }
}

const fn is_held(state: ReservationState) -> bool {
    matches!(state, ReservationState::Active | ReservationState::Renewing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ReservationState::{Active, Failed, Lost, Renewing, Requesting};

    /// Notes the states in turn; since when the last stands, and how it was lost.
    fn after(states: &[ReservationState]) -> (bool, Option<String>) {
        let (mut histories, relay) = (Histories::default(), PeerId::random());
        let mut moved = false;
        for state in states {
            let before = histories.since(&relay);
            // The clock may stand still between two states.
            if let Some(history) = histories.0.get_mut(&relay) {
                history.since = SystemTime::UNIX_EPOCH;
            }
            histories.note(relay, *state, Some("cut"), |_| true);
            moved = before.is_none() || histories.since(&relay) != Some(SystemTime::UNIX_EPOCH);
        }
        (moved, histories.last_loss(&relay).map(|loss| loss.why))
    }

    #[test]
    fn a_reservation_that_is_renewed_is_held_since_it_was_granted() {
        assert_eq!(after(&[Requesting, Active]), (true, None));
        assert_eq!(after(&[Requesting, Active, Renewing]), (false, None));
        assert_eq!(
            after(&[Requesting, Active, Renewing, Active]),
            (false, None)
        );
    }

    #[test]
    fn only_one_that_was_held_is_lost_and_the_loss_is_remembered() {
        let cut = Some("cut".to_owned());
        assert_eq!(after(&[Requesting, Failed]), (true, None));
        assert_eq!(after(&[Active, Lost]), (true, cut.clone()));
        assert_eq!(after(&[Renewing, Failed]), (true, cut.clone()));
        assert_eq!(after(&[Active, Lost, Requesting, Active]), (true, cut));
    }

    #[test]
    fn no_more_relays_are_remembered_than_are_named_once_there_are_many() {
        let mut histories = Histories::default();
        for _ in 0..3 * MAX_HISTORIES {
            histories.note(PeerId::random(), Active, None, |_| false);
            assert!(histories.0.len() <= MAX_HISTORIES);
        }
    }
}
