//! Whether this machine and this project are fit for the gate, and which command repairs what is not.
//!
//! The doctor looks and does not repair; the files it writes to try a directory out are gone when it is done.

mod check;
mod disk;
mod key;
mod production;
mod repository;
mod state;

pub use check::{Check, Status};

use std::path::{Path, PathBuf};

use serde::Serialize;
use worldcompute_fault::Result;

use crate::clock::{self, Clock};
use crate::environment::Environment;
use crate::project_config::{self, ProjectConfig};
use crate::wire_time::WireTime;

/// What to examine.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The project.
    pub workdir: PathBuf,
    /// Where its artefacts go; relative to the project.
    pub output_dir: PathBuf,
    /// The keys as they were given.
    pub keys: Keys,
    /// Whether to be as strict as production asks for.
    pub production_readiness: bool,
}

/// The key flags, unread: what is wrong with them is a finding.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "each is the flag of that name")]
pub struct Keys {
    pub mode: String,
    pub private_key: String,
    pub private_key_env: String,
    pub public_key: String,
    pub public_key_env: String,
}

/// What the checks ask.
pub struct Means<'a> {
    /// The time.
    pub clock: &'a dyn Clock,
    /// The environment variables.
    pub environment: &'a dyn Environment,
}

/// The findings (`gait.doctor.result` 1.0.0).
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    schema_id: &'static str,
    schema_version: &'static str,
    created_at: WireTime,
    producer_version: &'static str,
    onboarding_mode: &'static str,
    /// The worst of the checks.
    pub status: Status,
    /// Whether a check failed that no command repairs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub non_fixable: bool,
    /// All of it in a line.
    pub summary: String,
    /// The commands that repair, sorted, each once.
    pub fix_commands: Vec<String>,
    /// The checks, in the order of the contract.
    pub checks: Vec<Check>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary_path: Option<PathBuf>,
    binary_version: &'static str,
}

/// Examines everything.
pub fn examine(options: &Options, means: &Means<'_>) -> Report {
    let examined = Examined::new(options, means);
    let checks = match options.production_readiness {
        true => examined.production(),
        false => examined.everyday(),
    };
    Report::of(checks, &examined)
}

/// Where the checks look.
struct Examined<'a> {
    workdir: PathBuf,
    output_dir: PathBuf,
    keys: &'a Keys,
    config: Result<Option<ProjectConfig>>,
    means: &'a Means<'a>,
}

impl<'a> Examined<'a> {
    fn new(options: &'a Options, means: &'a Means<'a>) -> Self {
        let workdir = match options.workdir.as_os_str().is_empty() {
            true => PathBuf::from("."),
            false => options.workdir.clone(),
        };
        Self {
            output_dir: workdir.join(&options.output_dir),
            config: ProjectConfig::load(&workdir.join(project_config::DEFAULT_PATH)),
            keys: &options.keys,
            means,
            workdir,
        }
    }

    fn everyday(&self) -> Vec<Check> {
        let mut checks = vec![
            disk::workdir(&self.workdir),
            disk::output_dir(&self.output_dir),
            state::jobs(&self.output_dir.join("jobs")),
            disk::temp_dir(self.means.environment),
            state::registry_cache(self.means.environment),
            state::rate_limit_lock(&self.rate_limit_lock(), self.means.clock.now()),
            state::binary(self.means.environment),
            key::ambiguity(self.keys),
            key::permissions(self.keys),
            key::config(self.keys, self.means.environment),
        ];
        checks.extend(repository::checks(&self.workdir));
        checks.push(self.clock());
        checks
    }

    fn production(&self) -> Vec<Check> {
        let mut checks = vec![
            disk::workdir(&self.workdir),
            disk::output_dir(&self.output_dir),
            disk::temp_dir(self.means.environment),
            key::ambiguity(self.keys),
            key::permissions(self.keys),
            key::config(self.keys, self.means.environment),
        ];
        checks.extend(production::checks(&self.config));
        checks.push(self.clock());
        checks
    }

    fn clock(&self) -> Check {
        let now = self.means.clock.now();
        match clock::check_set(now) {
            Ok(()) => Check::pass("clock", format!("the clock shows {now}")),
            Err(fault) => Check::fail("clock", fault.message()).beyond_repair(),
        }
    }

    /// Where the gate takes its lock: beside the state that the project sets, or else beside the default one.
    fn rate_limit_lock(&self) -> PathBuf {
        let configured = match &self.config {
            Ok(Some(config)) => config.gate.rate_limit_state.trim(),
            _ => "",
        };
        let state = match configured {
            "" => Path::new(state::RATE_LIMIT_STATE),
            path => Path::new(path),
        };
        let mut lock = self.workdir.join(state).into_os_string();
        lock.push(".lock");
        PathBuf::from(lock)
    }
}

impl Report {
    fn of(checks: Vec<Check>, examined: &Examined<'_>) -> Self {
        let count = |status| checks.iter().filter(|check| check.status == status).count();
        let (failed, warned) = (count(Status::Fail), count(Status::Warn));
        let status = checks
            .iter()
            .map(|check| check.status)
            .max()
            .unwrap_or(Status::Pass);
        let non_fixable = checks.iter().any(|check| check.non_fixable);
        let mut fixes: Vec<String> = checks
            .iter()
            .filter_map(|check| check.fix_command.clone())
            .collect();
        fixes.sort_unstable();
        fixes.dedup();
        Self {
            schema_id: "gait.doctor.result",
            schema_version: "1.0.0",
            created_at: WireTime::at(examined.means.clock.now()),
            producer_version: crate::VERSION,
            onboarding_mode: repository::mode(&examined.workdir),
            status,
            non_fixable,
            summary: format!(
                "doctor: status={status} failed={failed} warned={warned} non_fixable={non_fixable}"
            ),
            fix_commands: fixes,
            checks,
            binary_path: std::env::current_exe().ok(),
            binary_version: crate::VERSION,
        }
    }

    /// Whether no check failed.
    pub fn is_healthy(&self) -> bool {
        self.status != Status::Fail && !self.non_fixable
    }
}

#[cfg(test)]
mod tests;
