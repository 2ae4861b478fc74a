//! How often something happened: the counters behind `rate_limit` and `destructive_budget`.
//!
//! One file holds all counters. A decision is counted once, for all its limits at once or for none, and only when
//! nothing else can deny it any more.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use worldcompute_durable::{LockForm, LockOptions};
use worldcompute_fault::Result;

use crate::evaluate::{RateLimit, Scope, Window};
use crate::record::is_schema;
use crate::state_file::{Kind, StateFile};

/// Where `gait gate eval` keeps the counters, unless told otherwise.
pub const DEFAULT_STATE: &str = ".gait-out/gate_rate_limits.json";
const SCHEMA_ID: &str = "gait.gate.rate_limit_state";
const SCHEMA_VERSION: &str = "1.0.0";

static KIND: Kind = Kind {
    what: "rate limit state",
    max_bytes: 16 << 20,
    corrupt: "rate_limit_state_corrupt",
    unavailable: "rate_limit_state_unavailable",
    lock_timeout: "rate_limit_lock_timeout",
    lock_failed: "rate_limit_lock_acquire_failed",
    lock: LockForm {
        schema_id: "gait.gate.rate_limit_lock",
        schema_version: "1.0.0",
        stale_after: Duration::from_secs(15),
    },
    wait: LockOptions {
        wait: Duration::from_secs(3),
        poll: Duration::from_millis(15),
    },
    anew: "forgets what was counted in the current minute and hour",
};

/// The counters at a path.
#[derive(Clone, Copy, Debug)]
pub struct Counters<'a> {
    path: &'a Path,
}

/// One limit, applied to one call at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    limit: RateLimit,
    /// What the limit is counted for: the tool, the identity, or both.
    scope_key: String,
    /// The window and what it is counted for.
    counter: String,
}

/// How a limit stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Counted for whom.
    pub scope: Scope,
    /// For whom exactly.
    pub key: String,
    /// How many times, this one included if it was counted.
    pub used: u64,
    /// How many times more.
    pub remaining: u64,
    /// Whether this time is within the limit.
    pub allowed: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    #[serde(default)]
    schema_id: String,
    #[serde(default)]
    schema_version: String,
    counters: Vec<Counter>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counter {
    key: String,
    count: u64,
}

impl Charge {
    /// The charge of a rate limit for a call of `tool` by `identity`.
    pub fn of_rate(limit: RateLimit, tool: &str, identity: &str, now: Timestamp) -> Self {
        Self::new(limit, "", (tool, identity), now)
    }

    /// The charge of a destructive budget, which is counted apart from the rate of the same calls.
    pub fn of_budget(limit: RateLimit, tool: &str, identity: &str, now: Timestamp) -> Self {
        Self::new(limit, "destructive_budget|", (tool, identity), now)
    }

    fn new(limit: RateLimit, kind: &str, (tool, identity): (&str, &str), now: Timestamp) -> Self {
        let scope_key = match limit.scope {
            Scope::Tool => format!("{kind}{tool}"),
            Scope::Identity => format!("{kind}{identity}"),
            Scope::ToolIdentity => format!("{kind}{tool}|{identity}"),
        };
        let (window, scope) = (limit.window.as_str(), limit.scope.as_str());
        let counter = format!("{window}|{scope}|{}|{scope_key}", bucket(limit.window, now));
        Self {
            limit,
            scope_key,
            counter,
        }
    }

    fn usage(&self, used: u64, allowed: bool) -> Usage {
        Usage {
            scope: self.limit.scope,
            key: self.scope_key.clone(),
            used,
            remaining: self.limit.requests.saturating_sub(used),
            allowed,
        }
    }
}

impl<'a> Counters<'a> {
    /// The counters at `path`; the file is made when the first decision is counted.
    pub const fn at(path: &'a Path) -> Self {
        Self { path }
    }

    /// How the limits stand, with nothing counted. Charges that share a counter must be within their limits together.
    ///
    /// Errors: `rate_limit_state_corrupt`, `rate_limit_state_unavailable`.
    pub fn peek(&self, charges: &[Charge]) -> Result<Vec<Usage>> {
        let state = State::read(&StateFile::new(self.path, &KIND))?;
        let look =
            |charge: &Charge| charge.usage(state.count(charge), state.has_room(charge, charges));
        Ok(charges.iter().map(look).collect())
    }

    /// Counts one decision against all the limits, or against none if one of them is used up.
    ///
    /// Errors: those of [`Counters::peek`], `rate_limit_lock_timeout`, `rate_limit_lock_acquire_failed`.
    pub fn charge(&self, charges: &[Charge], now: Timestamp) -> Result<Vec<Usage>> {
        let held = StateFile::new(self.path, &KIND).lock()?;
        let mut state = State::read(held.file())?;
        let within = |charge: &Charge| state.has_room(charge, charges);
        let allowed: Vec<_> = charges.iter().map(within).collect();
        let all = allowed.iter().all(|allowed| *allowed);
        if all {
            state.forget_before(now);
            charges.iter().for_each(|charge| state.add(charge));
            held.write(&state)?;
        }
        let charges = charges.iter().zip(allowed);
        Ok(charges
            .map(|(charge, allowed)| charge.usage(state.count(charge), allowed))
            .collect())
    }
}

impl State {
    fn read(file: &StateFile<'_>) -> Result<Self> {
        let state = file.read::<Self>()?.unwrap_or_default();
        let known = is_schema(&state.schema_id, SCHEMA_ID)
            && is_schema(&state.schema_version, SCHEMA_VERSION);
        if !known {
            return Err(file.corrupt("not of this kind and version"));
        }
        if let Some(counter) = state.counters.iter().find(|counter| !counter.is_whole()) {
            return Err(file.corrupt(&format!("the counter {:?} is none", counter.key)));
        }
        Ok(Self {
            schema_id: SCHEMA_ID.to_owned(),
            schema_version: SCHEMA_VERSION.to_owned(),
            ..state
        })
    }

    fn count(&self, charge: &Charge) -> u64 {
        let same = self.counters.iter().filter(|one| one.key == charge.counter);
        same.map(|counter| counter.count).sum()
    }

    /// Whether `charge` is within its limit after all of `charges` are counted.
    fn has_room(&self, charge: &Charge, charges: &[Charge]) -> bool {
        let same = charges.iter().filter(|one| one.counter == charge.counter);
        let demand = u64::try_from(same.count()).unwrap_or(u64::MAX);
        self.count(charge).saturating_add(demand) <= charge.limit.requests
    }

    /// Sorted by key, as the format has them.
    fn add(&mut self, charge: &Charge) {
        let place = self
            .counters
            .binary_search_by(|one| one.key.cmp(&charge.counter));
        match place.map(|place| self.counters.get_mut(place)) {
            Ok(Some(counter)) => counter.count = counter.count.saturating_add(1),
            Ok(None) => {}
            Err(place) => self.counters.insert(
                place,
                Counter {
                    key: charge.counter.clone(),
                    count: 1,
                },
            ),
        }
    }

    /// Drops the windows that are over. Those that lie ahead stay: a clock that was set back must not renew a limit.
    fn forget_before(&mut self, now: Timestamp) {
        self.counters.sort_by(|a, b| a.key.cmp(&b.key));
        self.counters.retain(|counter| !counter.is_over(now));
    }
}

impl Counter {
    /// Whether the key has the format's four parts.
    fn is_whole(&self) -> bool {
        self.window().is_some() && self.key.split('|').count() >= 4
    }

    fn window(&self) -> Option<(Window, &str)> {
        let mut parts = self.key.split('|');
        let name = parts.next()?;
        let (_, window) = Window::ALL.into_iter().find(|(known, _)| *known == name)?;
        Some((window, parts.nth(1)?))
    }

    fn is_over(&self, now: Timestamp) -> bool {
        let window = self.window();
        window.is_some_and(|(window, start)| start < bucket(window, now).as_str())
    }
}

/// The start of the window that `now` is in, in UTC.
fn bucket(window: Window, now: Timestamp) -> String {
    let seconds = match window {
        Window::Minute => 60,
        Window::Hour => 3600,
    };
    let start = now.as_second().div_euclid(seconds).saturating_mul(seconds);
    // A whole minute before an instant of a calendar is an instant of that calendar, but for its first minute.
    Timestamp::from_second(start)
        .unwrap_or(Timestamp::MIN)
        .to_string()
}

#[cfg(test)]
mod tests;
