//! Logs of the commands that were run, kept on this machine by whoever asks for them.
//!
//! Both are off unless their variable names a file: `GAIT_OPERATIONAL_LOG` gets one line when a command starts and one
//! when it ends, `GAIT_ADOPTION_LOG` one when it ends. They hold names, times and outcomes, and never an argument, a
//! path or a message. A log that cannot be written never changes how the command ends: the trouble is handed back as
//! warnings.

mod adoption;
mod event;

pub use adoption::{AdoptionReport, MAX_ADOPTION_LINE, report};
pub use event::{AdoptionEvent, Ended, OperationalEvent, Phase};

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use worldcompute_durable::{Mode, write_atomic};
use worldcompute_fault::{Category, Fault, Result};

use crate::clock::Clock;
use crate::environment::Environment;
use crate::record_log;
use crate::wire_time::WireTime;

/// The variable that names the operational log.
pub const OPERATIONAL_LOG: &str = "GAIT_OPERATIONAL_LOG";
/// The variable that names the adoption log.
pub const ADOPTION_LOG: &str = "GAIT_ADOPTION_LOG";
/// The variable that names the workflow which adoption events belong to.
pub const ADOPTION_WORKFLOW: &str = "GAIT_ADOPTION_WORKFLOW";
/// The variable that names the file which counts the written and the lost events of a run.
pub const HEALTH_PATH: &str = "GAIT_TELEMETRY_HEALTH_PATH";
/// The variable that silences the warnings when it is `off`.
pub const WARNINGS: &str = "GAIT_TELEMETRY_WARN";

const RECORDS: record_log::Kind = record_log::Kind {
    max_record: MAX_ADOPTION_LINE,
    mark: "\"correlation_id\":",
};

/// The log of one command's run.
pub struct Run<'a> {
    environment: &'a dyn Environment,
    clock: &'a dyn Clock,
    command: String,
    correlation_id: String,
    started: Timestamp,
    streams: BTreeMap<&'static str, Stream>,
    warnings: Vec<String>,
}

/// How many events of one kind were written.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Stream {
    attempts: u64,
    failed: u64,
    success: u64,
}

/// What [`HEALTH_PATH`] gets.
#[derive(Serialize)]
struct Health<'a> {
    schema_id: &'static str,
    schema_version: &'static str,
    created_at: WireTime,
    producer_version: &'static str,
    streams: &'a BTreeMap<&'static str, Stream>,
}

impl<'a> Run<'a> {
    /// Notes that `command` starts.
    pub fn start(
        environment: &'a dyn Environment,
        clock: &'a dyn Clock,
        command: &str,
        correlation_id: &str,
    ) -> Self {
        let mut run = Self {
            environment,
            clock,
            command: command.to_owned(),
            correlation_id: correlation_id.to_owned(),
            started: clock.now(),
            streams: BTreeMap::new(),
            warnings: Vec::new(),
        };
        run.operational(Phase::Start, Ended::default());
        run
    }

    /// Notes how it ended, and hands back what to tell the user on standard error.
    pub fn end(mut self, ended: Ended) -> Vec<String> {
        self.operational(Phase::End, ended);
        self.adoption(ended);
        self.health();
        match self.environment.setting(WARNINGS) {
            Some(value) if value.eq_ignore_ascii_case("off") => Vec::new(),
            _ => self.warnings,
        }
    }

    fn operational(&mut self, phase: Phase, ended: Ended) {
        let Some(path) = self.environment.setting(OPERATIONAL_LOG) else {
            return;
        };
        let now = self.clock.now();
        let mut event =
            OperationalEvent::new(&self.command, &self.correlation_id, phase, ended, now);
        event.elapsed_ms = self.elapsed_ms();
        self.append("operational", &path, &event);
    }

    fn adoption(&mut self, ended: Ended) {
        let Some(path) = self.environment.setting(ADOPTION_LOG) else {
            return;
        };
        let mut event = AdoptionEvent::new(&self.command, ended, self.clock.now());
        event.elapsed_ms = self.elapsed_ms();
        event.workflow_id = self.environment.setting(ADOPTION_WORKFLOW);
        self.append("adoption", &path, &event);
    }

    fn health(&mut self) {
        let Some(path) = self.environment.setting(HEALTH_PATH) else {
            return;
        };
        let health = Health {
            schema_id: "gait.scout.telemetry_health",
            schema_version: "1.0.0",
            created_at: WireTime::at(self.clock.now()),
            producer_version: crate::VERSION,
            streams: &self.streams,
        };
        if let Err(fault) = write_health(Path::new(&path), &health) {
            self.warn("telemetry_health", &fault);
        }
    }

    fn append(&mut self, name: &'static str, path: &str, event: &impl Serialize) {
        let written = append(Path::new(path), event);
        let stream = self.streams.entry(name).or_default();
        stream.attempts += 1;
        match written {
            Ok(()) => stream.success += 1,
            Err(fault) => {
                stream.failed += 1;
                self.warn(name, &fault);
            }
        }
    }

    fn warn(&mut self, name: &str, fault: &Fault) {
        self.warnings
            .push(format!("warning: the {name} log was not written: {fault}"));
    }

    fn elapsed_ms(&self) -> u64 {
        let elapsed = self.clock.now().duration_since(self.started);
        u64::try_from(elapsed.as_millis()).unwrap_or_default()
    }
}

fn append(path: &Path, event: &impl Serialize) -> Result<()> {
    let line = serde_json::to_vec(event).map_err(unwritable)?;
    record_log::append_shared(path, &[line], RECORDS)
}

fn write_health(path: &Path, health: &Health<'_>) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(health).map_err(unwritable)?;
    bytes.push(b'\n');
    write_atomic(path, &bytes, Mode::Private)
}

fn unwritable(error: serde_json::Error) -> Fault {
    Fault::new(
        Category::InternalFailure,
        "internal_failure",
        "write an event",
    )
    .caused_by(error)
}

#[cfg(test)]
mod tests;
