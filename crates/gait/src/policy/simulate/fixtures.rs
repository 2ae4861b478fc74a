//! Finding and reading fixtures: files and directories of intents and traces, as JSON.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;
use worldcompute_durable::read_bounded;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{VerifyingKey, parse_json_within};

use super::{Fixture, Recorded};
use crate::intent::Intent;
use crate::limits::{MAX_FIXTURE_DEPTH, MAX_FIXTURES, MAX_TRACE_BYTES, at_most, invalid};
use crate::runpack::SignatureStatus;
use crate::signature::unverified;
use crate::trace::{self, UnverifiedTrace, VerifiedTrace};

/// The fixtures at `paths`: JSON files, and all JSON files below directories; sorted, each once.
///
/// Links inside directories are not followed. Refused as `invalid_input`: a file of another kind, and no fixture at
/// all; as `too_many_fixtures`: anything past [`crate::limits`].
pub fn fixture_paths<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<PathBuf>> {
    let mut found = BTreeSet::new();
    for path in paths {
        let path = path.as_ref();
        let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
        if metadata.is_dir() {
            walk(path, 0, &mut found)?;
        } else if is_json(path) {
            insert(path, &mut found)?;
        } else {
            let message = format!("fixture file must be .json: {}", path.display());
            return Err(invalid(message));
        }
    }
    if found.is_empty() {
        return Err(invalid("no intent fixtures discovered from --fixtures"));
    }
    Ok(found.into_iter().collect())
}

fn walk(directory: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    at_most(
        "fixture directory depth",
        depth,
        MAX_FIXTURE_DEPTH,
        TOO_MANY,
    )?;
    let entries = fs::read_dir(directory).map_err(|error| unreadable(directory, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(directory, &error))?;
        let path = entry.path();
        let kind = entry
            .file_type()
            .map_err(|error| unreadable(&path, &error))?;
        if kind.is_dir() {
            walk(&path, depth + 1, found)?;
        } else if kind.is_file() && is_json(&path) {
            insert(&path, found)?;
        }
    }
    Ok(())
}

const TOO_MANY: &str = "too_many_fixtures";

fn insert(path: &Path, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    let plain = path.components().filter(|part| *part != Component::CurDir);
    found.insert(plain.collect());
    at_most("fixtures", found.len(), MAX_FIXTURES, TOO_MANY)
}

fn is_json(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Fault {
    Fault::io(format_args!("read fixtures at {}", path.display()), error)
}

/// The fixture in the file at `path`: a trace if it says so, else an intent. A trace is verified with `key`, if there is
/// one; without, it has to agree with itself, and says that nobody looked at its signature.
///
/// # Errors
/// `verification_failed` for a trace that `key` did not sign, or that contradicts itself; `invalid_input` for what is
/// neither trace nor intent; the refusals of the disk.
pub fn read(path: &Path, key: Option<&VerifyingKey>) -> Result<Fixture> {
    let bytes = read_bounded(path, MAX_TRACE_BYTES as u64)?;
    parse(&bytes, key).map_err(|fault| match fault.category() {
        Category::VerificationFailed => {
            unverified(format!("{}: {}", path.display(), fault.message()))
        }
        _ => invalid(format!("{}: {fault}", path.display())),
    })
}

fn parse(bytes: &[u8], key: Option<&VerifyingKey>) -> Result<Fixture> {
    let value = parse_json_within(bytes, MAX_TRACE_BYTES)
        .map_err(|fault| invalid(format!("parse fixture: {fault}")))?;
    if value.get("schema_id").and_then(Value::as_str) != Some(trace::SCHEMA_ID) {
        return Ok(Fixture::Intent(Box::new(Intent::parse(bytes)?)));
    }
    Ok(Fixture::Trace(match key {
        Some(key) => verified(&trace::verify(bytes, key)?),
        None => claimed(trace::unverified_trace(bytes)?),
    }))
}

fn verified(trace: &VerifiedTrace) -> Recorded {
    Recorded {
        trace_id: trace.trace_id().to_owned(),
        intent_digest: trace.intent_digest(),
        verdict: trace.simulated().unwrap_or(trace.verdict()),
        signature_status: SignatureStatus::Verified,
    }
}

fn claimed(trace: UnverifiedTrace) -> Recorded {
    Recorded {
        trace_id: trace.trace_id,
        intent_digest: trace.intent_digest,
        verdict: trace.simulated.unwrap_or(trace.verdict),
        signature_status: match trace.is_signed {
            true => SignatureStatus::Skipped,
            false => SignatureStatus::Missing,
        },
    }
}
