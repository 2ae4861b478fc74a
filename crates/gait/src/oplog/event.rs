//! One line of a log (`gait.scout.operational_event` and `gait.scout.adoption_event`, both 1.0.0).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use worldcompute_fault::Fault;

use crate::wire_time::WireTime;

const OPERATIONAL: &str = "gait.scout.operational_event";
pub(super) const ADOPTION: &str = "gait.scout.adoption_event";
pub(super) const VERSION: &str = "1.0.0";

/// How a command ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code.
    pub exit_code: u8,
    /// The category of what went wrong; `None` when nothing did.
    pub error_category: Option<&'static str>,
    /// Whether the same command may succeed later.
    pub retryable: bool,
}

/// Which end of a run an event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The command starts.
    Start,
    /// The command has ended.
    End,
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The operating system.
    pub os: String,
    /// The processor.
    pub arch: String,
}

/// One line of the operational log.
#[derive(Clone, Debug, Serialize)]
pub struct OperationalEvent {
    schema_id: &'static str,
    schema_version: &'static str,
    created_at: WireTime,
    producer_version: &'static str,
    correlation_id: String,
    command: String,
    phase: Phase,
    exit_code: u8,
    error_category: &'static str,
    retryable: bool,
    /// Milliseconds since the start.
    pub elapsed_ms: u64,
    environment: Machine,
}

/// One line of the adoption log.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdoptionEvent {
    pub(super) schema_id: String,
    pub(super) schema_version: String,
    /// When the command ended.
    pub created_at: WireTime,
    producer_version: String,
    /// Its words.
    pub command: String,
    /// The workflow it was part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_id: Option<String>,
    /// Whether its exit code was 0.
    pub success: bool,
    /// Its exit code.
    pub exit_code: u8,
    /// Milliseconds it took.
    pub elapsed_ms: u64,
    /// The steps towards full use that it marks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub milestones: Vec<Milestone>,
    environment: Machine,
}

/// A step towards full use: four of activation, three of expansion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Milestone {
    /// The demo ran.
    A1,
    /// A runpack was verified.
    A2,
    /// A regression was made of a run.
    A3,
    /// A regression ran.
    A4,
    /// Reserved by the format.
    E1,
    /// Reserved by the format.
    E2,
    /// Reserved by the format.
    E3,
}

impl Ended {
    /// An end with this exit code and fault.
    pub fn of(exit_code: u8, fault: Option<&Fault>) -> Self {
        Self {
            exit_code,
            error_category: fault.map(|fault| fault.category().as_str()),
            retryable: fault.is_some_and(Fault::retryable),
        }
    }
}

impl Machine {
    /// This one, in the names that Gait uses.
    fn this() -> Self {
        let os = match std::env::consts::OS {
            "macos" => "darwin",
            other => other,
        };
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self {
            os: os.to_owned(),
            arch: arch.to_owned(),
        }
    }
}

impl OperationalEvent {
    pub(super) fn new(
        command: &str,
        correlation_id: &str,
        phase: Phase,
        ended: Ended,
        now: Timestamp,
    ) -> Self {
        Self {
            schema_id: OPERATIONAL,
            schema_version: VERSION,
            created_at: WireTime::at(now),
            producer_version: crate::VERSION,
            correlation_id: correlation_id.to_owned(),
            command: command.to_owned(),
            phase,
            exit_code: ended.exit_code,
            error_category: ended.error_category.unwrap_or("none"),
            retryable: ended.retryable,
            elapsed_ms: 0,
            environment: Machine::this(),
        }
    }
}

impl AdoptionEvent {
    pub(super) fn new(command: &str, ended: Ended, now: Timestamp) -> Self {
        let success = ended.exit_code == 0;
        let milestone = success.then(|| Milestone::of(command)).flatten();
        Self {
            schema_id: ADOPTION.to_owned(),
            schema_version: VERSION.to_owned(),
            created_at: WireTime::at(now),
            producer_version: crate::VERSION.to_owned(),
            command: command.to_owned(),
            workflow_id: None,
            success,
            exit_code: ended.exit_code,
            elapsed_ms: 0,
            milestones: milestone.into_iter().collect(),
            environment: Machine::this(),
        }
    }
}

impl Milestone {
    /// All of them, in order.
    pub const ALL: [Self; 7] = [
        Self::A1,
        Self::A2,
        Self::A3,
        Self::A4,
        Self::E1,
        Self::E2,
        Self::E3,
    ];

    /// What a first success of `command` marks.
    fn of(command: &str) -> Option<Self> {
        match command {
            "demo" => Some(Self::A1),
            "verify" => Some(Self::A2),
            "regress init" => Some(Self::A3),
            "regress run" => Some(Self::A4),
            _ => None,
        }
    }
}
