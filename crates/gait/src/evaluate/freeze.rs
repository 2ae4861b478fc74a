//! Times at which a rule does not allow what it otherwise allows.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Serialize, Serializer};

use super::breach::Breach;
use super::matching::admits;
use crate::intent::Context;
use crate::text;
use crate::verdict::Verdict;
use crate::wire_time::{self, WireTime};

/// The freeze window clause of a rule; serialised, it is the rule's `FreezeWindow` of the policy digest.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Freeze {
    /// Always true: a clause that is not enabled is none.
    pub(crate) enabled: bool,
    pub(crate) timezone: Zone,
    pub(crate) effect: Verdict,
    pub(crate) reason: String,
    pub(crate) environments: Vec<String>,
    pub(crate) risk_classes: Vec<String>,
    pub(crate) windows: Vec<FreezeRange>,
}

/// A time zone by its name; without rules if nobody knows the name.
#[derive(Debug)]
pub(crate) struct Zone {
    name: String,
    rules: Option<TimeZone>,
}

/// One window, in the local time of the clause's zone; without instants if it is none.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct FreezeRange {
    name: String,
    start: String,
    end: String,
    #[serde(skip)]
    instants: Option<(Timestamp, Timestamp)>,
}

/// What a freeze window says; its fields are in canonical order, which the trace relies on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FreezeDecision {
    /// What an active window raises the verdict to.
    pub effect: Verdict,
    /// When it was asked.
    pub evaluated_at: WireTime,
    /// Why, for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Why, as a stable code; empty when the window is not active.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub reason_code: &'static str,
    /// Whether it is active.
    pub status: FreezeStatus,
    /// The time zone.
    pub timezone: String,
    /// When the active window ends; the format writes it even when unset.
    pub window_end: WireTime,
    /// Which window is active.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub window_name: String,
    /// When the active window started; the format writes it even when unset.
    pub window_start: WireTime,
}

/// Whether a freeze window applies; the order runs from the mildest to the strictest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FreezeStatus {
    /// No window contains the time, or the clause is about other environments or risks.
    Inactive,
    /// A window contains the time.
    Active,
    /// The clause cannot be understood, which blocks.
    Invalid,
}

impl Zone {
    /// The zone of that name in the time zone data of this program, whatever the machine has.
    pub(crate) fn named(name: String) -> Self {
        let rules = TimeZoneDatabase::bundled().get(&name).ok();
        Self { name, rules }
    }

    /// The instant at which clocks in the zone show `local`.
    ///
    /// Where a change of the clock makes that ambiguous or skips it, the offset is the one that holds at the time
    /// found with a first guess, as in the format.
    fn instant(&self, local: DateTime) -> Option<Timestamp> {
        let rules = self.rules.as_ref()?;
        let as_utc = TimeZone::UTC.to_timestamp(local).ok()?;
        let guess = as_utc.checked_sub(offset(rules, as_utc)).ok()?;
        as_utc.checked_sub(offset(rules, guess)).ok()
    }
}

fn offset(rules: &TimeZone, at: Timestamp) -> jiff::SignedDuration {
    jiff::SignedDuration::from_secs(i64::from(rules.to_offset(at).seconds()))
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

impl FreezeRange {
    pub(crate) fn new(name: String, start: String, end: String, zone: &Zone) -> Self {
        let instant = |text: &str| zone.instant(local(text)?);
        let instants = instant(&start).zip(instant(&end));
        Self {
            name,
            start,
            end,
            instants: instants.filter(|(start, end)| start < end),
        }
    }
}

/// `2006-01-02T15:04:05` and nothing else.
fn local(text: &str) -> Option<DateTime> {
    wire_time::is_local(text)
        .then(|| text.parse().ok())
        .flatten()
}

impl Freeze {
    /// What the clause says at `at`, noting the breach if it is active or cannot be understood.
    pub(super) fn decide<'r>(
        &'r self,
        context: &Context,
        at: Timestamp,
        found: &mut Vec<Breach<'r>>,
    ) -> FreezeDecision {
        let mut decision = self.inactive(at);
        let concerned = admits(&self.environments, &text::trim_lower(&context.environment))
            && admits(&self.risk_classes, &context.risk_class);
        if concerned {
            self.look(at, &mut decision);
        }
        let verdict = match decision.status {
            FreezeStatus::Inactive => return decision,
            FreezeStatus::Active => self.effect,
            FreezeStatus::Invalid => Verdict::Block,
        };
        found.push(Breach {
            clause: "freeze_window",
            verdict,
            reason: decision.reason_code,
            violation: decision.reason_code,
        });
        decision
    }

    /// What the clause cannot be understood for, so that it blocks whenever it is asked.
    pub(crate) fn oddities(&self) -> Vec<String> {
        if self.timezone.rules.is_none() {
            let name = &self.timezone.name;
            return vec![format!(
                "timezone {name:?} is no time zone: whatever the rule matches is blocked"
            )];
        }
        let invalid = self.windows.iter().enumerate();
        let invalid = invalid.filter(|(_, window)| window.instants.is_none());
        let told = invalid.map(|(index, _)| {
            format!(
                "windows[{index}] is no range of times such as 2006-01-02T15:04:05: whatever the rule matches is blocked"
            )
        });
        told.collect()
    }

    fn inactive(&self, at: Timestamp) -> FreezeDecision {
        FreezeDecision {
            effect: self.effect,
            evaluated_at: WireTime::at(at),
            reason: String::new(),
            reason_code: "",
            status: FreezeStatus::Inactive,
            timezone: self.timezone.name.clone(),
            window_end: WireTime::default(),
            window_name: String::new(),
            window_start: WireTime::default(),
        }
    }

    fn look(&self, at: Timestamp, decision: &mut FreezeDecision) {
        if self.timezone.rules.is_none() {
            return decision.set_invalid(
                "freeze_window_invalid_timezone",
                "freeze window timezone could not be loaded",
            );
        }
        for window in &self.windows {
            let Some((start, end)) = window.instants else {
                decision.window_name.clone_from(&window.name);
                return decision.set_invalid(
                    "freeze_window_invalid_window",
                    "freeze window has an invalid range",
                );
            };
            if start <= at && at < end {
                return self.activate(window, (start, end), decision);
            }
        }
    }

    fn activate(
        &self,
        window: &FreezeRange,
        (start, end): (Timestamp, Timestamp),
        decision: &mut FreezeDecision,
    ) {
        decision.status = FreezeStatus::Active;
        decision.window_name.clone_from(&window.name);
        decision.window_start = WireTime::at(start);
        decision.window_end = WireTime::at(end);
        let reason = if self.reason.is_empty() {
            &window.name
        } else {
            &self.reason
        };
        decision.reason.clone_from(reason);
        decision.reason_code = match self.effect {
            Verdict::RequireApproval => "freeze_window_active_require_approval",
            _ => "freeze_window_active_block",
        };
    }
}

impl FreezeDecision {
    fn set_invalid(&mut self, code: &'static str, reason: &str) {
        self.status = FreezeStatus::Invalid;
        self.reason_code = code;
        reason.clone_into(&mut self.reason);
    }

    /// The stricter of two decisions; of equally strict ones, that of the window whose name comes first.
    pub(super) fn stricter(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        let Some((a, b)) = a.as_ref().zip(b.as_ref()) else {
            return a.or(b);
        };
        let rank = |one: &Self| (one.status, one.effect);
        let by_name = || b.window_name.cmp(&a.window_name);
        let first = rank(a).cmp(&rank(b)).then_with(by_name).is_ge();
        Some(if first { a } else { b }.clone())
    }
}
