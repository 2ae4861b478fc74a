//! What the supervisor does, one step after the other, by a clock and senses that may be any.

use std::sync::Arc;
use std::time::Duration;

use crate::report::Yield;
use crate::sandboxes::{Shared, State};
use crate::senses::{Clock, Reading, Senses};
use crate::{Settings, Trigger};

/// After what time sandboxes whose memory is wanted are told to give it back: half of what they may take is left to them.
pub const RELEASE_AFTER: Duration = Duration::from_millis(250);

/// After what time their memory is the owner's.
pub const RELEASE_WITHIN: Duration = Duration::from_millis(500);

/// How often sandboxes are looked at that are about to stop or to end.
const CLOSE_LOOK: Duration = Duration::from_millis(1);

/// How often frozen ones are.
const LOOK: Duration = Duration::from_millis(100);

/// How often input devices are looked for while they are listened to.
const DEVICES: Duration = Duration::from_secs(1);

/// Told when yielding begins (true) and ends, after the sandboxes were.
pub type OnChange = Box<dyn Fn(bool) + Send>;

pub struct Warden<S, C> {
    settings: Settings,
    senses: S,
    clock: C,
    shared: Arc<Shared>,
    on_change: OnChange,
    /// When each trigger is looked at next.
    due: [Duration; Trigger::ALL.len()],
    /// What fired when it was looked at last.
    fires: [bool; Trigger::ALL.len()],
    current: Option<Current>,
}

/// A machine that is given back.
struct Current {
    since: Duration,
    last_fired: Duration,
    /// Since when memory is wanted.
    claimed: Option<Duration>,
    /// By somebody who does not go away with what was seen.
    by_a_person: bool,
    /// Sandboxes are about to stop or to end.
    in_motion: bool,
}

impl<S: Senses, C: Clock> Warden<S, C> {
    pub fn new(
        settings: Settings,
        senses: S,
        clock: C,
        shared: Arc<Shared>,
        on_change: OnChange,
    ) -> Self {
        Self {
            settings,
            senses,
            clock,
            shared,
            on_change,
            due: Default::default(),
            fires: Default::default(),
            current: None,
        }
    }

    /// Until it is to close. Whatever stands still then goes on: nobody would be left to let it.
    pub fn run(mut self) {
        while !self.shared.lock().closing {
            self.step();
            let patience = self.patience();
            if self.senses.wait(patience, self.listens()) {
                self.look_soon(Trigger::Input);
            }
        }
        self.shared.lock().sandboxes.resume();
    }

    pub fn step(&mut self) {
        let told = std::mem::take(&mut self.shared.lock().go_on);
        if told && self.current.is_some() {
            self.end();
        }
        self.look();
        self.settle();
    }

    /// How long nothing is to be done; `None` for ever.
    pub fn patience(&self) -> Option<Duration> {
        let now = self.clock.now();
        let looks = self.watched().map(|trigger| self.due_in(trigger, now));
        let settling = self.current.iter().flat_map(|current| {
            let resumes = current.last_fired + self.settings.resume_after();
            let empty = self.shared.lock().sandboxes.is_empty();
            [
                Some(resumes.saturating_sub(now)),
                current.next_look(now, empty),
            ]
        });
        looks.chain(settling.flatten()).min()
    }

    /// Whether input wakes it. While it yields, input is looked at in passing: a moving mouse says so a thousand times a
    /// second.
    fn listens(&self) -> bool {
        self.current.is_none() && self.settings.on.contains(&Trigger::Input)
    }

    fn watched(&self) -> impl Iterator<Item = Trigger> {
        let on = &self.settings.on;
        Trigger::ALL
            .into_iter()
            .filter(|trigger| on.contains(trigger))
    }

    fn look(&mut self) {
        for trigger in Trigger::ALL {
            let now = self.clock.now();
            if !self.settings.on.contains(&trigger) || self.due_in(trigger, now) > Duration::ZERO {
                continue;
            }
            let reading = self.senses.look(trigger);
            let fires = reading == Reading::Fires;
            if fires {
                self.fired(trigger, now);
            }
            self.note(trigger, now, fires);
            self.shared.lock().log.read(trigger, reading);
        }
    }

    fn fired(&mut self, trigger: Trigger, now: Duration) {
        if self.current.is_none() {
            self.begin(trigger, now);
        }
        let claims = self.settings.release_on.contains(&trigger);
        if let Some(current) = &mut self.current {
            current.last_fired = now;
            if claims {
                current.claimed.get_or_insert(now);
                current.by_a_person |= !trigger.passes();
            }
        }
    }

    /// From what was noticed to the last sandbox being told: nothing here allocates.
    fn begin(&mut self, trigger: Trigger, noticed: Duration) {
        let mut state = self.shared.lock();
        let sandboxes = state.sandboxes.freeze();
        let still = state.sandboxes.all_stand_still();
        let took = self.clock.now().saturating_sub(noticed);
        state.log.begin(Yield {
            trigger,
            noticed_at: self.clock.wall(),
            sandboxes,
            frozen_after_us: still.then(|| micros(took)),
            released: 0,
            released_after_ms: None,
            would_not_stop: 0,
            resumed_at: None,
            resumed: 0,
        });
        drop(state);
        self.current = Some(Current {
            since: noticed,
            last_fired: noticed,
            claimed: None,
            by_a_person: false,
            in_motion: !still,
        });
        (self.on_change)(true);
    }

    fn settle(&mut self) {
        let wanted = self.memory_is_wanted();
        let Some(current) = &mut self.current else {
            return;
        };
        let now = self.clock.now();
        if !wanted {
            current.claimed = None;
        }
        current.tend(now, &mut self.shared.lock());
        if now.saturating_sub(current.last_fired) >= self.settings.resume_after() {
            self.end();
        }
    }

    fn end(&mut self) {
        let mut state = self.shared.lock();
        let resumed = state.sandboxes.resume();
        state.log.yielding = None;
        if let Some(latest) = state.log.latest() {
            latest.resumed_at = Some(self.clock.wall());
            latest.resumed = resumed;
        }
        drop(state);
        self.current = None;
        self.fires = Default::default();
        self.look_soon(Trigger::Input);
        (self.on_change)(false);
    }

    fn memory_is_wanted(&self) -> bool {
        let by_a_person = self
            .current
            .as_ref()
            .is_some_and(|current| current.by_a_person);
        let mut claims = self.settings.release_on.iter();
        by_a_person || claims.any(|trigger| trigger.passes() && self.fired_last(*trigger))
    }

    fn fired_last(&self, trigger: Trigger) -> bool {
        self.fires.get(trigger.index()).is_some_and(|fires| *fires)
    }

    fn note(&mut self, trigger: Trigger, now: Duration, fires: bool) {
        let period = self.period(trigger);
        if let Some(due) = self.due.get_mut(trigger.index()) {
            *due = now + period;
        }
        if let Some(fired) = self.fires.get_mut(trigger.index()) {
            *fired = fires;
        }
    }

    fn look_soon(&mut self, trigger: Trigger) {
        if let Some(due) = self.due.get_mut(trigger.index()) {
            *due = Duration::ZERO;
        }
    }

    /// Zero also where the clock was set back to before the last look.
    fn due_in(&self, trigger: Trigger, now: Duration) -> Duration {
        let due = self.due.get(trigger.index()).copied().unwrap_or_default();
        let left = due.saturating_sub(now);
        if left > self.period(trigger) {
            Duration::ZERO
        } else {
            left
        }
    }

    fn period(&self, trigger: Trigger) -> Duration {
        if trigger == Trigger::Input && self.listens() {
            DEVICES
        } else {
            trigger.period()
        }
    }
}

impl Current {
    /// Ends what has to end, and takes note of what has happened since.
    fn tend(&mut self, now: Duration, state: &mut State) {
        let State { sandboxes, log, .. } = state;
        let all = self
            .claimed
            .is_some_and(|claimed| now.saturating_sub(claimed) >= RELEASE_AFTER);
        let released = sandboxes.release(now, all);
        let still = sandboxes.all_stand_still();
        let gone = !sandboxes.releasing();
        self.in_motion = !still || !gone;
        if let Some(latest) = log.latest() {
            latest.released += released.count;
            latest.would_not_stop += released.would_not_stop;
            if still && latest.frozen_after_us.is_none() {
                latest.frozen_after_us = Some(micros(now.saturating_sub(self.since)));
            }
            if gone && latest.released > 0 && latest.released_after_ms.is_none() {
                latest.released_after_ms = Some(millis(now.saturating_sub(self.asked())));
            }
        }
    }

    /// When sandboxes are to be looked at again. What does not end for long is not looked at closely for as long.
    fn next_look(&self, now: Duration, empty: bool) -> Option<Duration> {
        let since_asked = now.saturating_sub(self.asked());
        let releases = RELEASE_AFTER.saturating_sub(since_asked);
        match empty {
            true => None,
            false if self.in_motion && since_asked < RELEASE_WITHIN => Some(CLOSE_LOOK),
            false if self.claimed.is_some() && !releases.is_zero() => Some(releases.min(LOOK)),
            false => Some(LOOK),
        }
    }

    fn asked(&self) -> Duration {
        self.claimed.unwrap_or(self.since)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
