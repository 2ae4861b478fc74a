//! What there is to tell of a donor's yielding.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::senses::Reading;
use crate::{Settings, Trigger};

/// How many of the last yields are told.
pub const MAX_YIELDS: usize = 16;

/// One time that a machine was given back to its owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Yield {
    /// What fired first.
    pub trigger: Trigger,
    /// When that was seen.
    pub noticed_at: Timestamp,
    /// How many sandboxes were told to stop then.
    pub sandboxes: usize,
    /// Microseconds from there until the last of them stood still; absent while one does not.
    pub frozen_after_us: Option<u64>,
    /// How many were told to give their memory back, which ended them: their work is lost.
    pub released: usize,
    /// Milliseconds from the trigger that asked for it until the last of those was gone.
    pub released_after_ms: Option<u64>,
    /// How many of those were ended because they did not stand still.
    pub would_not_stop: usize,
    /// When nothing had fired for long enough; absent while it lasts.
    pub resumed_at: Option<Timestamp>,
    /// How many went on then, where they were.
    pub resumed: usize,
}

/// What one sense has to tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sense {
    /// Of what.
    pub trigger: Trigger,
    /// `quiet`, `fires` or `blind`.
    pub reading: String,
    /// Why nothing can be sensed here, for one that is blind.
    pub why: Option<String>,
}

/// How things stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What the machine is yielded for, while it is.
    pub yielding: Option<Trigger>,
    /// What is watched.
    pub senses: Vec<Sense>,
    /// The last yields, the newest last.
    pub last: Vec<Yield>,
}

/// The same as it grows, in memory that is taken beforehand.
pub struct Log {
    pub yielding: Option<Trigger>,
    readings: [Option<Reading>; Trigger::ALL.len()],
    last: VecDeque<Yield>,
}

impl Log {
    pub fn of(settings: &Settings) -> Self {
        let unread = Reading::Blind("it was not looked at yet");
        Self {
            yielding: None,
            readings: Trigger::ALL.map(|trigger| settings.on.contains(&trigger).then_some(unread)),
            last: VecDeque::with_capacity(MAX_YIELDS),
        }
    }

    pub fn read(&mut self, trigger: Trigger, reading: Reading) {
        if let Some(kept) = self.readings.get_mut(trigger.index()) {
            *kept = Some(reading);
        }
    }

    pub fn begin(&mut self, latest: Yield) {
        if self.last.len() == MAX_YIELDS {
            self.last.pop_front();
        }
        self.yielding = Some(latest.trigger);
        self.last.push_back(latest);
    }

    pub fn latest(&mut self) -> Option<&mut Yield> {
        self.last.back_mut()
    }

    pub fn report(&self) -> Report {
        let read = Trigger::ALL.into_iter().zip(self.readings);
        Report {
            yielding: self.yielding,
            senses: read
                .filter_map(|(trigger, reading)| Some(sense(trigger, reading?)))
                .collect(),
            last: self.last.iter().cloned().collect(),
        }
    }
}

fn sense(trigger: Trigger, reading: Reading) -> Sense {
    let (reading, why) = match reading {
        Reading::Quiet => ("quiet", None),
        Reading::Fires => ("fires", None),
        Reading::Blind(why) => ("blind", Some(why.to_owned())),
    };
    Sense {
        trigger,
        reading: reading.to_owned(),
        why,
    }
}
