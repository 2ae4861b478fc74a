//! Graders that are programs of their own. What one says need not follow from the runpacks, and need not be the same
//! again: such a grader runs only when that is allowed.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use worldcompute_fault::{Fault, Result};
use worldcompute_proof::parse_json_within;

use super::Status;
use super::fixture::Fixture;
use super::grade::{BUILT_IN, Finding};
use crate::limits::{
    MAX_GRADER_OUTPUT, MAX_GRADER_TIMEOUT_SECONDS, MAX_REGRESS_GRADERS, at_most, invalid,
};
use crate::program::{Program, Silence};

/// A grader as the configuration lists it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct External {
    pub(super) name: String,
    /// The program and its arguments.
    command: Vec<String>,
    #[serde(default = "half_a_minute")]
    timeout_seconds: u64,
}

const fn half_a_minute() -> u64 {
    30
}

/// What the program answers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    status: Status,
    #[serde(default)]
    reason_codes: Vec<String>,
    #[serde(default)]
    details: Map<String, Value>,
}

/// Refuses graders that cannot be told apart or started, and any at all unless they are `allowed`.
pub(super) fn check(graders: &[External], allowed: bool) -> Result<()> {
    at_most(
        "graders",
        graders.len(),
        MAX_REGRESS_GRADERS,
        "invalid_input",
    )?;
    for (place, grader) in graders.iter().enumerate() {
        let mut before = graders.iter().take(place);
        if before.any(|other| other.name == grader.name) || BUILT_IN.contains(&&*grader.name) {
            return Err(invalid(format!("grader {} is there twice", grader.name)));
        }
        grader.check()?;
    }
    match graders.first() {
        Some(grader) if !allowed => Err(blocked(&grader.name)),
        _ => Ok(()),
    }
}

fn blocked(name: &str) -> Fault {
    invalid(format!("non-deterministic grader blocked: {name}")).because(
        "nondeterministic_grader",
        "allow it with --allow-nondeterministic, or take it out of the configuration",
    )
}

impl External {
    fn check(&self) -> Result<()> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if self.name.is_empty() || self.name.len() > 64 || !self.name.bytes().all(plain) {
            return Err(invalid(format!("invalid grader name: {:?}", self.name)));
        }
        if self
            .command
            .first()
            .is_none_or(|program| program.trim().is_empty())
        {
            return Err(invalid(format!("grader {} has no command", self.name)));
        }
        if !(1..=MAX_GRADER_TIMEOUT_SECONDS).contains(&self.timeout_seconds) {
            return Err(invalid(format!(
                "timeout_seconds of grader {} is not 1 to {MAX_GRADER_TIMEOUT_SECONDS}",
                self.name
            )));
        }
        Ok(())
    }

    /// Asks the program about `fixture`. An answer that is none is an error, and so a failure of the grader.
    pub(super) fn grade(&self, fixture: &Fixture) -> Result<Finding> {
        let question = json!({
            "schema_id": "gait.regress.grader_request",
            "schema_version": "1.0.0",
            "fixture": fixture.name,
            "run_id": fixture.run_id,
            "runpack": fixture.runpack,
            "candidate_runpack": fixture.candidate(),
        });
        let (program, arguments) = self
            .command
            .split_first()
            .ok_or_else(|| invalid("a grader has no command"))?;
        let program = Program {
            name: program,
            arguments,
            timeout: Duration::from_secs(self.timeout_seconds),
            limit: MAX_GRADER_OUTPUT,
        };
        let answer = program
            .ask(question.to_string().as_bytes())
            .map_err(|silence| invalid(said(silence)))?;
        let answer = parse_json_within(&answer, MAX_GRADER_OUTPUT)
            .ok()
            .and_then(|value| serde_json::from_value::<Answer>(value).ok());
        let answer = answer.ok_or_else(|| invalid("the grader's answer is not of the format"))?;
        Ok(answer.finding())
    }
}

impl Answer {
    fn finding(self) -> Finding {
        let mut details = self.details;
        details.insert("deterministic".to_owned(), false.into());
        Finding {
            failed: self.status == Status::Fail,
            reasons: self.reason_codes,
            details: Value::Object(details),
            context: None,
        }
    }
}

const fn said(silence: Silence) -> &'static str {
    match silence {
        Silence::NotStarted => "the grader does not start",
        Silence::Insecure => "everybody may write or replace the grader: chmod o-w",
        Silence::TooMuch => "the grader says too much",
        Silence::Failed => "the grader fails",
        Silence::TooLong => "the grader takes too long",
    }
}
