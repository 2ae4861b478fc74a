//! What an adoption log says about how far its users have come.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use worldcompute_durable::open_to_read;
use worldcompute_fault::{Category, Fault, Result};

use super::event::{ADOPTION, AdoptionEvent, Milestone, VERSION};
use crate::in_file::InFile;
use crate::wire_time::WireTime;

/// The longest line of an adoption log, in bytes.
pub const MAX_ADOPTION_LINE: usize = 1 << 20;
/// The most different commands that an adoption log may name.
const MAX_COMMANDS: usize = 1024;

/// The summary (`gait.doctor.adoption_report` 1.0.0).
#[derive(Clone, Debug, Serialize)]
pub struct AdoptionReport {
    schema_id: &'static str,
    schema_version: &'static str,
    created_at: WireTime,
    producer_version: &'static str,
    source: String,
    /// Lines with an event.
    pub total_events: u64,
    /// Those that succeeded.
    pub success_events: u64,
    /// Those that failed.
    pub failed_events: u64,
    first_event_at: WireTime,
    last_event_at: WireTime,
    /// By command, sorted.
    pub commands: Vec<CommandCount>,
    /// Every milestone and whether it was reached.
    pub milestones: Vec<MilestoneStatus>,
    /// Milliseconds from the first event to each milestone of activation.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub activation_timing_ms: BTreeMap<Milestone, u64>,
    /// Whether every milestone of activation was reached.
    pub activation_complete: bool,
    /// What to do next, one line for each missing milestone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blockers: Vec<String>,
}

/// How often a command ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CommandCount {
    command: String,
    total: u64,
    success: u64,
    failure: u64,
}

/// Whether a milestone was reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MilestoneStatus {
    name: Milestone,
    achieved: bool,
}

/// Reads the log at `path`, line by line, and sums it up as of `now`.
///
/// Errors: those of reading; `invalid_input` for a line that is no event, naming it.
pub fn report(path: &Path, now: Timestamp) -> Result<AdoptionReport> {
    let cannot_read = |error| Fault::io(format_args!("read {}", path.display()), &error);
    let mut reader = BufReader::new(open_to_read(path)?);
    let mut summary = Summary::default();
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let limit = (MAX_ADOPTION_LINE as u64).saturating_add(1);
        let read = (&mut reader).take(limit).read_until(b'\n', &mut line);
        if read.map_err(cannot_read)? == 0 {
            break;
        }
        if !line.trim_ascii().is_empty() {
            let event = event(&line, number).in_file(path)?;
            summary.add(&event, number).in_file(path)?;
        }
    }
    Ok(summary.report(path, now))
}

fn event(line: &[u8], number: u64) -> Result<AdoptionEvent> {
    if line.len() > MAX_ADOPTION_LINE {
        return Err(refused(
            number,
            &format!("longer than {MAX_ADOPTION_LINE} bytes"),
        ));
    }
    let event: AdoptionEvent =
        serde_json::from_slice(line).map_err(|error| refused(number, &error.to_string()))?;
    if event.schema_id != ADOPTION || event.schema_version != VERSION {
        return Err(refused(number, &format!("not a {ADOPTION} {VERSION}")));
    }
    if event.command.trim().is_empty() || event.created_at.is_unset() {
        return Err(refused(number, "without a command or a time"));
    }
    Ok(event)
}

fn refused(number: u64, why: &str) -> Fault {
    let message = format!("adoption log line {number}: {why}");
    Fault::new(Category::InvalidInput, "invalid_input", message)
}

#[derive(Default)]
struct Summary {
    commands: BTreeMap<String, CommandCount>,
    achieved: BTreeSet<Milestone>,
    first_success: BTreeMap<Milestone, Timestamp>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    total: u64,
    success: u64,
}

impl Summary {
    fn add(&mut self, event: &AdoptionEvent, number: u64) -> Result<()> {
        let command = event.command.trim();
        if self.commands.len() >= MAX_COMMANDS && !self.commands.contains_key(command) {
            return Err(refused(
                number,
                &format!("more than {MAX_COMMANDS} different commands"),
            ));
        }
        let count = self.commands.entry(command.to_owned()).or_default();
        command.clone_into(&mut count.command);
        count.total += 1;
        count.success += u64::from(event.success);
        count.failure += u64::from(!event.success);
        self.total += 1;
        self.success += u64::from(event.success);
        self.date(event);
        Ok(())
    }

    fn date(&mut self, event: &AdoptionEvent) {
        let Some(at) = event.created_at.get() else {
            return;
        };
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.last = Some(self.last.map_or(at, |last| last.max(at)));
        self.achieved.extend(&event.milestones);
        for milestone in event.milestones.iter().filter(|_| event.success) {
            let first = self.first_success.entry(*milestone).or_insert(at);
            *first = at.min(*first);
        }
    }

    fn report(self, path: &Path, now: Timestamp) -> AdoptionReport {
        let blockers: Vec<String> = ACTIVATION
            .iter()
            .filter(|(milestone, _)| !self.achieved.contains(milestone))
            .map(|(milestone, next)| format!("missing {milestone:?}: run `{next}`"))
            .collect();
        AdoptionReport {
            schema_id: "gait.doctor.adoption_report",
            schema_version: VERSION,
            created_at: WireTime::at(self.last.unwrap_or(now)),
            producer_version: crate::VERSION,
            source: path.display().to_string(),
            total_events: self.total,
            success_events: self.success,
            failed_events: self.total.saturating_sub(self.success),
            first_event_at: self.first.map_or_else(WireTime::default, WireTime::at),
            last_event_at: self.last.map_or_else(WireTime::default, WireTime::at),
            milestones: Milestone::ALL
                .map(|name| MilestoneStatus {
                    name,
                    achieved: self.achieved.contains(&name),
                })
                .to_vec(),
            activation_timing_ms: self.timing(),
            activation_complete: blockers.is_empty(),
            blockers,
            commands: self.commands.into_values().collect(),
        }
    }

    fn timing(&self) -> BTreeMap<Milestone, u64> {
        let Some(first) = self.first else {
            return BTreeMap::new();
        };
        ACTIVATION
            .iter()
            .filter_map(|(milestone, _)| self.first_success.get_key_value(milestone))
            .map(|(milestone, at)| {
                let elapsed = at.duration_since(first).as_millis();
                (*milestone, u64::try_from(elapsed).unwrap_or_default())
            })
            .collect()
    }
}

/// The milestones of activation, each with the command that reaches it.
const ACTIVATION: [(Milestone, &str); 4] = [
    (Milestone::A1, "gait demo"),
    (Milestone::A2, "gait verify <run_id>"),
    (Milestone::A3, "gait regress init --from <run_id>"),
    (Milestone::A4, "gait regress run"),
];
