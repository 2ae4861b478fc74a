//! The graders. Each that is built in is deterministic, and one that cannot grade has failed.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Map, Value, json};
use worldcompute_fault::{Fault, Result};

use super::Status;
use super::fixture::Fixture;
use super::trajectory;
use crate::limits::invalid;
use crate::runpack::{self, Drift, Privacy, Requirements, Runpack};

/// How strict the graders are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Ask for proof of what every run read.
    pub context_conformance: bool,
    /// Take the same at another time for the same.
    pub allow_context_runtime_drift: bool,
    /// Run graders whose verdict may be another one next time.
    pub allow_nondeterministic: bool,
}

/// What one grader found in one fixture.
#[derive(Clone, Debug, Serialize)]
pub struct GraderResult {
    pub name: String,
    pub status: Status,
    pub reason_codes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_conformance: Option<&'static str>,
    pub details: Map<String, Value>,
}

/// The exit of a replay with missing results.
const MISSING_RESULTS: i64 = 2;

/// The graders that need no program.
pub(super) const BUILT_IN: [&str; 5] = [
    "schema_validation",
    "expected_exit_code",
    "trajectory",
    "diff",
    "context_conformance",
];

/// All built-in graders on one fixture; the one for context only if `conformance`.
pub(super) fn grade(fixture: &Fixture, rules: Rules, conformance: bool) -> Vec<GraderResult> {
    let mut found = vec![
        named(fixture, "schema_validation", schema(fixture)),
        named(fixture, "expected_exit_code", exit_code(fixture)),
        named(fixture, "trajectory", trajectory(fixture)),
        named(fixture, "diff", diff(fixture)),
    ];
    if conformance {
        found.push(named(
            fixture,
            "context_conformance",
            context(fixture, rules),
        ));
    }
    found
}

/// What a grader says, before it has a name.
pub(super) struct Finding {
    pub(super) failed: bool,
    pub(super) reasons: Vec<String>,
    pub(super) details: Value,
    pub(super) context: Option<&'static str>,
}

impl Finding {
    fn new(failed: bool, reasons: Vec<&'static str>, details: Value) -> Self {
        Self {
            failed,
            reasons: reasons.into_iter().map(str::to_owned).collect(),
            details,
            context: None,
        }
    }

    /// Passes unless there are reasons against it.
    fn of(reasons: Vec<&'static str>, details: Value) -> Self {
        Self::new(!reasons.is_empty(), reasons, details)
    }
}

/// The finding of `grader` as a result; one that could not grade has failed.
pub(super) fn named(fixture: &Fixture, grader: &str, finding: Result<Finding>) -> GraderResult {
    let finding = finding.unwrap_or_else(|fault| {
        Finding::new(
            true,
            vec![error_reason(grader, &fault)],
            json!({"error": fault.message()}),
        )
    });
    let mut reason_codes = finding.reasons;
    reason_codes.sort();
    let mut details = match finding.details {
        Value::Object(details) => details,
        _ => Map::new(),
    };
    details.insert("fixture".to_owned(), fixture.name.clone().into());
    details.insert("run_id".to_owned(), fixture.run_id.clone().into());
    GraderResult {
        name: format!("{}/{grader}", fixture.name),
        status: if finding.failed {
            Status::Fail
        } else {
            Status::Pass
        },
        reason_codes,
        context_conformance: finding.context,
        details,
    }
}

const CANDIDATE_MISSING: &str = "candidate_path_invalid";

/// Why a grader could not grade.
fn error_reason(grader: &str, fault: &Fault) -> &'static str {
    match grader {
        _ if fault.reason() == CANDIDATE_MISSING => CANDIDATE_MISSING,
        "schema_validation" => "schema_validation_error",
        "expected_exit_code" => "replay_error",
        "diff" => "diff_error",
        "context_conformance" => "candidate_runpack_invalid",
        _ => "grader_error",
    }
}

fn schema(fixture: &Fixture) -> Result<Finding> {
    let report = runpack::verify(&fixture.runpack, &Requirements::default())?;
    let pack = Runpack::open(&fixture.runpack)?;
    let (run, refs) = (pack.run()?, pack.refs()?);
    let mut reasons = Vec::new();
    let mut check = |schema_id: &str, schema_version: &str, only: &str, reason: &'static str| {
        if (schema_id, schema_version) != (only, "1.0.0") && !reasons.contains(&reason) {
            reasons.push(reason);
        }
    };
    check(
        &run.schema_id,
        &run.schema_version,
        "gait.runpack.run",
        "run_schema_invalid",
    );
    check(
        &refs.schema_id,
        &refs.schema_version,
        "gait.runpack.refs",
        "refs_schema_invalid",
    );
    let (mut intents, mut results) = (0_u64, 0_u64);
    let mut records = pack.intents()?;
    while let Some(intent) = records.advance()? {
        intents += 1;
        check(
            &intent.schema_id,
            &intent.schema_version,
            "gait.runpack.intent",
            "intent_schema_invalid",
        );
    }
    let mut records = pack.results()?;
    while let Some(result) = records.advance()? {
        results += 1;
        check(
            &result.schema_id,
            &result.schema_version,
            "gait.runpack.result",
            "result_schema_invalid",
        );
    }
    let details = json!({
        "missing_files": report.missing_files,
        "hash_mismatches": report.hash_mismatches.len(),
        "intent_records": intents,
        "result_records": results,
        "reference_receipts": refs.receipts.len(),
    });
    Ok(Finding::of(reasons, details))
}

fn exit_code(fixture: &Fixture) -> Result<Finding> {
    let replayed = runpack::replay(&fixture.runpack, None, |_| Ok(()))?;
    let expected = fixture.meta.expected_replay_exit_code;
    let actual = match replayed.missing.is_empty() {
        true => 0,
        false => MISSING_RESULTS,
    };
    let reasons = if actual == expected {
        vec![]
    } else {
        vec!["unexpected_exit_code"]
    };
    let details = json!({
        "expected_exit_code": expected,
        "actual_exit_code": actual,
        "missing_results": replayed.missing,
    });
    Ok(Finding::of(reasons, details))
}

/// The candidate, which has to be there.
fn candidate(fixture: &Fixture) -> Result<PathBuf> {
    let candidate = fixture.candidate();
    match candidate.is_file() {
        true => Ok(candidate),
        false => {
            let message = format!("candidate runpack not found: {}", candidate.display());
            Err(invalid(message).because(
                CANDIDATE_MISSING,
                "record the candidate, or correct candidate_runpack of the fixture",
            ))
        }
    }
}

fn trajectory(fixture: &Fixture) -> Result<Finding> {
    let pack = Runpack::open(&candidate(fixture)?)?;
    let (tools, verdicts) = (trajectory::tools(&pack)?, trajectory::verdicts(&pack)?);
    let meta = &fixture.meta;
    let differs =
        |expected: &[String], actual: &[String]| !expected.is_empty() && expected != actual;
    let mut reasons = Vec::new();
    if differs(&meta.expected_tool_sequence, &tools) {
        reasons.push("unexpected_tool_sequence");
    }
    if differs(&meta.expected_verdict_sequence, &verdicts) {
        reasons.push("unexpected_verdict_sequence");
    }
    let details = json!({
        "candidate_runpack": fixture.candidate(),
        "expected_tool_sequence": meta.expected_tool_sequence,
        "actual_tool_sequence": tools,
        "expected_verdict_sequence": meta.expected_verdict_sequence,
        "actual_verdict_sequence": verdicts,
    });
    Ok(match reasons.is_empty() {
        true => Finding::new(false, vec!["trajectory_match"], details),
        false => Finding::of(reasons, details),
    })
}

fn diff(fixture: &Fixture) -> Result<Finding> {
    let candidate = candidate(fixture)?;
    let diff = runpack::diff(&fixture.runpack, &candidate, Privacy::Full)?;
    let changed = diff.summary.changed_files();
    let allowed = &fixture.meta.diff_allow_changed_files;
    let unexpected: Vec<&String> = changed
        .iter()
        .filter(|file| !allowed.contains(file))
        .collect();
    let reasons = if unexpected.is_empty() {
        vec![]
    } else {
        vec!["unexpected_diff"]
    };
    let mut details = json!({
        "candidate_runpack": candidate,
        "changed_files": changed,
        "allowed_files": allowed,
    });
    if let (false, Some(details)) = (unexpected.is_empty(), details.as_object_mut()) {
        details.insert("unexpected_files".to_owned(), json!(unexpected));
    }
    Ok(Finding::of(reasons, details))
}

fn context(fixture: &Fixture, rules: Rules) -> Result<Finding> {
    let candidate = candidate(fixture)?;
    let ours = Runpack::open(&fixture.runpack)?.refs()?;
    let theirs = Runpack::open(&candidate)?.refs()?;
    let drift = ours.drift(&theirs)?;
    let (expected, actual) = (
        &fixture.meta.expected_context_set_digest,
        &theirs.context_set_digest,
    );
    let enforced = rules.context_conformance || fixture.asks_context();
    let runtime_allowed =
        rules.allow_context_runtime_drift || fixture.meta.allow_context_runtime_drift;
    let another = !expected.is_empty() && !actual.eq_ignore_ascii_case(expected);
    let (failed, reason, context) = match drift {
        Drift::None | Drift::Semantic if another => {
            (true, "context_set_digest_mismatch", "semantic")
        }
        _ if !enforced => (false, "context_conformance_not_required", word(drift)),
        _ if actual.trim().is_empty() => (true, "context_evidence_missing", "missing"),
        Drift::Semantic => (true, "context_semantic_drift", "semantic"),
        Drift::RuntimeOnly if !runtime_allowed => {
            (true, "context_runtime_drift_blocked", "runtime_only")
        }
        _ => (false, "context_conformance_pass", word(drift)),
    };
    let details = json!({
        "candidate_runpack": candidate,
        "context_set_digest_fixture": ours.context_set_digest,
        "context_set_digest_candidate": actual,
        "context_changed": drift != Drift::None,
        "context_runtime_only": drift == Drift::RuntimeOnly,
    });
    Ok(Finding {
        context: Some(context),
        ..Finding::new(failed, vec![reason], details)
    })
}

const fn word(drift: Drift) -> &'static str {
    match drift {
        Drift::None => "none",
        Drift::RuntimeOnly => "runtime_only",
        Drift::Semantic => "semantic",
    }
}
