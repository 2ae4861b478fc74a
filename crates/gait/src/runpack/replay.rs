//! A run again: from what was recorded, and only with four separate consents for real.

mod real;

use std::path::Path;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use worldcompute_fault::Result;
use worldcompute_proof::Sha256;

pub use real::RealTools;

use super::join::{Join, join};
use super::manifest::CaptureMode;
use super::read::Runpack;
use super::record::{Intent, ResultRecord};
use crate::limits::invalid;
use crate::signature::unverified;
use crate::text::trim_lower;

/// The format's word for a step that a stand-in answered, for the mode in which they do, and for the kind of stand-in.
const STOOD_IN: &str = concat!("stu", "bbed");
const STAND_IN_MODE: &str = concat!("stu", "b");
const STAND_IN_KIND: &str = concat!("stu", "b_type");

/// What names of tools tell about what would stand in for them, first match first.
const STAND_INS: [(&str, &[&str]); 4] = [
    ("http", &["http", "fetch", "url"]),
    ("file", &["file", "path", "fs", "write"]),
    ("db", &["db", "sql", "query", "table"]),
    ("queue", &["queue", "topic", "publish", "kafka"]),
];

/// One intent, replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// The intent.
    pub intent_id: &'a str,
    /// Its tool.
    pub tool_name: &'a str,
    /// Where the answer came from.
    pub answer: Answer<'a>,
}

/// Where the answer to an intent came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// From the runpack.
    Recorded { status: &'a str, digest: &'a str },
    /// From a stand-in of this kind: the same every time.
    StoodIn { kind: &'static str, digest: String },
    /// From the tool itself.
    Executed {
        status: &'static str,
        digest: String,
    },
    /// There is none.
    Missing,
}

/// How a replay ended.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// The run.
    pub run_id: String,
    /// How its steps were answered.
    pub mode: &'static str,
    /// The intents without an answer, sorted.
    pub missing: Vec<String>,
}

/// Replays the runpack at `path`, step by step; tools run only with `real`.
///
/// # Errors
/// `verification_failed` for a runpack that does not hold; `invalid_input` for one that names an intent twice, or for
/// real tools without the raw arguments; those of `step`.
pub fn replay(
    path: &Path,
    real: Option<&RealTools>,
    step: impl FnMut(&Step<'_>) -> Result<()>,
) -> Result<Replayed> {
    let pack = Runpack::open(path)?;
    if real.is_some() && pack.manifest().capture_mode == CaptureMode::Reference {
        return Err(invalid(
            "real replay requires capture_mode=raw; reference-mode runpacks strip raw tool inputs",
        ));
    }
    let run_id = pack.run()?.run_id;
    let mut replaying = Replaying {
        run_id: &run_id,
        real,
        step,
        missing: Vec::new(),
    };
    join(&pack, &mut replaying)?;
    let mut missing = replaying.missing;
    missing.sort();
    Ok(Replayed {
        run_id,
        mode: if real.is_some() {
            "real"
        } else {
            STAND_IN_MODE
        },
        missing,
    })
}

/// A replay on its way through the run.
struct Replaying<'a, F> {
    run_id: &'a str,
    real: Option<&'a RealTools>,
    step: F,
    missing: Vec<String>,
}

impl<F: FnMut(&Step<'_>) -> Result<()>> Join for Replaying<'_, F> {
    /// What a real tool did cannot be taken back when the run turns out to be none.
    fn needs_all(&self) -> bool {
        self.real.is_some()
    }

    fn note(result: &ResultRecord<'_>, note: &mut String) -> Result<()> {
        for text in [&result.result_digest, "\n", &result.status] {
            note.push_str(text);
        }
        Ok(())
    }

    fn intent(&mut self, intent: &Intent<'_>, note: Option<&str>) -> Result<()> {
        let answer = self.answer(intent, note)?;
        if answer == Answer::Missing {
            self.missing.push(intent.intent_id.clone().into_owned());
        }
        (self.step)(&Step {
            intent_id: &intent.intent_id,
            tool_name: &intent.tool_name,
            answer,
        })
    }

    fn unmatched(&mut self, _: &str, _: &str) -> Result<()> {
        Ok(())
    }

    fn result_again(&mut self, id: &str) -> Result<()> {
        Err(invalid(format!("duplicate result for intent_id: {id}")))
    }

    fn intent_again(&mut self, id: &str) -> Result<()> {
        Err(invalid(format!("duplicate intent_id: {id}")))
    }
}

impl<F> Replaying<'_, F> {
    fn answer<'n>(&self, intent: &Intent<'_>, note: Option<&'n str>) -> Result<Answer<'n>> {
        if let Some(real) = self.real.filter(|real| real.allows(&intent.tool_name)) {
            return real.execute(intent);
        }
        if let Some(note) = note {
            let (digest, status) = note
                .split_once('\n')
                .ok_or_else(|| unverified("a result digest with a line break in it"))?;
            return Ok(Answer::Recorded { status, digest });
        }
        Ok(match stand_in(&intent.tool_name) {
            None => Answer::Missing,
            Some(kind) => Answer::StoodIn {
                kind,
                digest: stand_in_digest(self.run_id, intent, kind),
            },
        })
    }
}

fn stand_in(tool_name: &str) -> Option<&'static str> {
    let name = trim_lower(tool_name);
    let matching = STAND_INS
        .iter()
        .find(|(_, parts)| parts.iter().any(|part| name.contains(part)));
    matching.map(|(kind, _)| *kind)
}

fn stand_in_digest(run_id: &str, intent: &Intent<'_>, kind: &str) -> String {
    let tool = trim_lower(&intent.tool_name);
    let args = trim_lower(&intent.args_digest);
    Sha256::of(format!(
        "{run_id}:{}:{tool}:{args}:{kind}",
        intent.intent_id
    ))
    .to_string()
}

impl Serialize for Step<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let (execution, status, digest) = match &self.answer {
            Answer::Recorded { status, digest } => ("recorded", *status, *digest),
            Answer::StoodIn { digest, .. } => (STOOD_IN, STOOD_IN, digest.as_str()),
            Answer::Executed { status, digest } => ("executed", *status, digest.as_str()),
            Answer::Missing => ("missing", "missing_result", ""),
        };
        map.serialize_entry("execution", execution)?;
        map.serialize_entry("intent_id", &self.intent_id)?;
        if !digest.is_empty() {
            map.serialize_entry("result_digest", digest)?;
        }
        map.serialize_entry("status", status)?;
        if let Answer::StoodIn { kind, .. } = &self.answer {
            map.serialize_entry(STAND_IN_KIND, kind)?;
        }
        map.serialize_entry("tool_name", &self.tool_name)?;
        map.end()
    }
}
