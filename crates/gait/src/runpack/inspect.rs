//! What happened in a run, intent by intent.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use worldcompute_fault::{Fault, Result};

use super::join::{Join, join};
use super::manifest::CaptureMode;
use super::read::Runpack;
use super::record::{Intent, Payload, ResultRecord};
use super::stamp::Stamp;
use crate::limits::invalid;
use crate::text::sorted_set;

/// One intent and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    pub index: usize,
    pub intent_id: String,
    pub tool_name: String,
    pub created_at: Stamp,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub args_digest: String,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of an intent.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Outcome {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub result_digest: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub verdict: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reason_codes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<String>,
}

/// The outcome of an intent that the run does not have.
#[derive(Clone, Debug, Serialize)]
pub struct Unmatched {
    pub intent_id: String,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The run as a whole.
#[derive(Clone, Debug)]
pub struct Inspection {
    pub run_id: String,
    pub capture_mode: CaptureMode,
    pub intents: usize,
    pub results: usize,
    pub unmatched: Vec<Unmatched>,
    pub warnings: Vec<String>,
}

/// Walks through the runpack at `path`.
///
/// # Errors
/// `verification_failed` for a runpack that does not hold; those of `each`.
pub fn inspect(path: &Path, each: impl FnMut(&Entry) -> Result<()>) -> Result<Inspection> {
    let pack = Runpack::open(path)?;
    let mut inspecting = Inspecting {
        each,
        intents: 0,
        unmatched: Vec::new(),
        repeated: BTreeSet::new(),
    };
    let counts = join(&pack, &mut inspecting)?;
    let mut unmatched = inspecting.unmatched;
    let order = |of: &Unmatched| (of.intent_id.clone(), of.outcome.result_digest.clone());
    unmatched.sort_by_cached_key(order);
    let repeated = inspecting.repeated;
    Ok(Inspection {
        unmatched,
        run_id: pack.run()?.run_id,
        capture_mode: pack.manifest().capture_mode,
        intents: counts.intents,
        results: counts.results,
        warnings: repeated.iter().map(|id| repeated_warning(id)).collect(),
    })
}

/// An inspection on its way through the run.
struct Inspecting<F> {
    each: F,
    intents: usize,
    unmatched: Vec<Unmatched>,
    repeated: BTreeSet<String>,
}

impl<F: FnMut(&Entry) -> Result<()>> Join for Inspecting<F> {
    fn needs_all(&self) -> bool {
        false
    }

    fn note(result: &ResultRecord<'_>, note: &mut String) -> Result<()> {
        note.push_str(&Outcome::of(result)?.noted()?);
        Ok(())
    }

    fn intent(&mut self, intent: &Intent<'_>, note: Option<&str>) -> Result<()> {
        self.intents += 1;
        (self.each)(&Entry {
            index: self.intents,
            intent_id: intent.intent_id.clone().into_owned(),
            tool_name: intent.tool_name.clone().into_owned(),
            created_at: intent.created_at.utc(),
            args_digest: intent.args_digest.clone().into_owned(),
            outcome: note.map(Outcome::of_note).transpose()?.unwrap_or_default(),
        })
    }

    fn unmatched(&mut self, id: &str, note: &str) -> Result<()> {
        self.unmatched.push(Unmatched {
            intent_id: id.to_owned(),
            outcome: Outcome::of_note(note)?,
        });
        Ok(())
    }

    fn result_again(&mut self, id: &str) -> Result<()> {
        self.repeated.insert(id.to_owned());
        Ok(())
    }

    fn intent_again(&mut self, _: &str) -> Result<()> {
        Ok(())
    }
}

fn repeated_warning(id: &str) -> String {
    let shown = if id.trim().is_empty() { "(empty)" } else { id };
    format!("multiple result records for intent_id={shown} (kept first)")
}

impl Outcome {
    fn of(result: &ResultRecord<'_>) -> Result<Self> {
        let members = result.result.as_ref().map(Payload::members).transpose()?;
        let member = |name: &str| members.as_ref().and_then(|members| members.get(name));
        let verdict = member("verdict").and_then(Value::as_str);
        Ok(Self {
            status: result.status.clone().into_owned(),
            result_digest: result.result_digest.clone().into_owned(),
            verdict: verdict.unwrap_or_default().trim().to_owned(),
            reason_codes: texts(member("reason_codes")),
            violations: texts(member("violations")),
        })
    }

    fn noted(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| unreadable(&error))
    }

    fn of_note(note: &str) -> Result<Self, Fault> {
        serde_json::from_str(note).map_err(|error| unreadable(&error))
    }
}

fn unreadable(error: &serde_json::Error) -> Fault {
    invalid(format!("inspect results: {error}"))
}

fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => sorted_set(&[text]),
        Some(Value::Array(items)) => {
            let texts: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            sorted_set(&texts)
        }
        _ => Vec::new(),
    }
}
