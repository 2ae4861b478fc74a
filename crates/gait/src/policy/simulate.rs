//! What a change of policy would do: intents and recorded decisions, replayed under the policy of today and under the
//! one of tomorrow.

mod fixtures;

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use worldcompute_fault::Result;
use worldcompute_proof::{Sha256, VerifyingKey};

pub use fixtures::{fixture_paths, read};

use super::Policy;
use crate::evaluate::Evaluation;
use crate::evidence::Evidence;
use crate::intent::Intent;
use crate::runpack::SignatureStatus;
use crate::verdict::Verdict;

/// What a fixture holds.
#[derive(Clone, Debug)]
pub enum Fixture {
    /// Something that somebody might ask.
    Intent(Box<Intent>),
    /// Something that was decided.
    Trace(Recorded),
}

/// A recorded decision as its trace tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The id of the trace.
    pub trace_id: String,
    /// Which intent was decided.
    pub intent_digest: Sha256,
    /// How.
    pub verdict: Verdict,
    /// Whether that is proven: nobody looked at the signature of a trace that was `skipped`, and one where it is
    /// `missing` proves nothing.
    pub signature_status: SignatureStatus,
}

/// What a change of policy does to a set of fixtures; serialised, the output of `policy simulate`.
#[derive(Debug, Serialize)]
pub struct Simulation {
    /// The digest of today's policy.
    pub baseline_policy_digest: Sha256,
    /// The digest of tomorrow's policy.
    pub candidate_policy_digest: Sha256,
    /// How many intents were asked about.
    pub fixtures_total: usize,
    /// For how many of them anything changes.
    #[serde(skip_serializing_if = "is_zero")]
    pub changed_fixtures: usize,
    /// How often today's policy says what.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub baseline_verdicts: Vec<VerdictCount>,
    /// How often tomorrow's policy says what.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidate_verdicts: Vec<VerdictCount>,
    /// How to bring the change in.
    pub recommendation: Recommendation,
    /// All of this in one line.
    pub summary: String,
    /// The intents for which anything changes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<Change>,
    /// How many recorded decisions were replayed.
    #[serde(skip_serializing_if = "is_zero")]
    pub replayed_traces: usize,
    /// How many of all recorded decisions nobody has proven.
    #[serde(skip_serializing_if = "is_zero")]
    pub unverified_traces: usize,
    /// How many recorded decisions are about intents that are not among the fixtures: nobody knows what becomes of
    /// them.
    #[serde(skip_serializing_if = "is_zero")]
    pub unmatched_traces: usize,
    /// Where these are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unmatched: Vec<String>,
    /// What was blocked or held when it was recorded, and would be allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub would_allow: Vec<Replay>,
    /// What was allowed when it was recorded, and would not be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub would_deny: Vec<Replay>,
    /// What to know before believing it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// How often one verdict is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct VerdictCount {
    /// How often.
    pub count: usize,
    /// The verdict.
    pub verdict: Verdict,
}

/// How to bring a change of policy in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Recommendation {
    /// Nothing that was held back gets through, and nothing new is blocked.
    Enforce,
    /// Something new is blocked: let people approve it first.
    RequireApproval,
    /// Something that was held back gets through, or could not be replayed: watch before enforcing.
    Observe,
}

/// An intent for which the change of policy changes anything.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    pub fixture_path: String,
    pub intent_digest: Sha256,
    pub baseline_verdict: Verdict,
    pub candidate_verdict: Verdict,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub baseline_reason_codes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidate_reason_codes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub baseline_violations: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidate_violations: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub baseline_matched_rule: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub candidate_matched_rule: String,
    /// Always true.
    pub changed: bool,
}

/// A recorded decision that would be another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Replay {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub candidate_matched_rule: String,
    pub candidate_verdict: Verdict,
    pub fixture_path: String,
    pub intent_digest: Sha256,
    pub recorded_verdict: Verdict,
    pub signature_status: SignatureStatus,
    pub trace_id: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// A change of policy on trial: feed it fixtures, then ask what it does.
#[derive(Debug)]
pub struct Trial<'p> {
    baseline: &'p Policy,
    candidate: &'p Policy,
    at: Timestamp,
    fixtures: usize,
    counts: [BTreeMap<Verdict, usize>; 2],
    changed: Vec<Change>,
    /// What the candidate says to each intent, by its digest, and which of its rules say so.
    said: BTreeMap<Sha256, (Verdict, String)>,
    traces: Vec<(String, Recorded)>,
}

impl<'p> Trial<'p> {
    /// Tries `candidate` in the place of `baseline`, at `at`.
    pub const fn new(baseline: &'p Policy, candidate: &'p Policy, at: Timestamp) -> Self {
        Self {
            baseline,
            candidate,
            at,
            fixtures: 0,
            counts: [BTreeMap::new(), BTreeMap::new()],
            changed: Vec::new(),
            said: BTreeMap::new(),
            traces: Vec::new(),
        }
    }

    /// Adds the fixture in the file at `path`; a trace is verified with `key`, if there is one.
    ///
    /// # Errors
    /// Those of [`read`].
    pub fn add_file(&mut self, path: &Path, key: Option<&VerifyingKey>) -> Result<()> {
        let fixture = read(path, key)?;
        self.add(&path.display().to_string(), fixture)
    }

    /// Adds a fixture under the name `path`.
    pub fn add(&mut self, path: &str, fixture: Fixture) -> Result<()> {
        match fixture {
            Fixture::Trace(recorded) => {
                self.traces.push((path.to_owned(), recorded));
                Ok(())
            }
            Fixture::Intent(intent) => self.ask_both(path, &intent),
        }
    }

    fn ask_both(&mut self, path: &str, intent: &Intent) -> Result<()> {
        let prepared = intent.prepare(&Evidence::at(self.at))?;
        let outcomes = [self.baseline, self.candidate].map(|policy| policy.evaluate(&prepared));
        self.fixtures += 1;
        for (counts, outcome) in self.counts.iter_mut().zip(&outcomes) {
            *counts.entry(outcome.verdict).or_default() += 1;
        }
        let [before, after] = outcomes;
        for digest in [intent.digest(), prepared.intent().digest()] {
            self.said
                .insert(digest, (after.verdict, after.matched_rule()));
        }
        if differ(&before, &after) {
            self.changed.push(Change::new(path, intent, before, after));
        }
        Ok(())
    }

    /// What the change does.
    pub fn finish(self) -> Simulation {
        let mut would_allow = Vec::new();
        let mut would_deny = Vec::new();
        let mut unmatched = Vec::new();
        for (path, recorded) in &self.traces {
            let Some(now) = self.said.get(&recorded.intent_digest) else {
                unmatched.push(path.clone());
                continue;
            };
            let (was, is) = (recorded.verdict == Verdict::Allow, now.0 == Verdict::Allow);
            match (was, is) {
                (false, true) => would_allow.push(Replay::new(path, recorded, now)),
                (true, false) => would_deny.push(Replay::new(path, recorded, now)),
                _ => {}
            }
        }
        let recommendation = match unmatched.is_empty() {
            true => Recommendation::of(&self.changed),
            false => Recommendation::Observe,
        };
        let unverified = unverified(&self.traces);
        let [baseline_verdicts, candidate_verdicts] = self.counts.map(counted);
        Simulation {
            baseline_policy_digest: self.baseline.digest(),
            candidate_policy_digest: self.candidate.digest(),
            fixtures_total: self.fixtures,
            changed_fixtures: self.changed.len(),
            baseline_verdicts,
            candidate_verdicts,
            recommendation,
            summary: format!(
                "policy simulate fixtures={} changed={} recommendation={}",
                self.fixtures,
                self.changed.len(),
                recommendation.as_str()
            ),
            changed: self.changed,
            replayed_traces: self.traces.len() - unmatched.len(),
            unverified_traces: unverified,
            unmatched_traces: unmatched.len(),
            warnings: warnings(unverified, unmatched.len()),
            unmatched,
            would_allow,
            would_deny,
        }
    }
}

fn unverified(traces: &[(String, Recorded)]) -> usize {
    let proven = |recorded: &Recorded| recorded.signature_status == SignatureStatus::Verified;
    traces
        .iter()
        .filter(|(_, recorded)| !proven(recorded))
        .count()
}

fn warnings(unverified: usize, unmatched: usize) -> Vec<String> {
    let told = [
        (
            unverified,
            "recorded decisions are not verified: give the key of the gate that made them with --public-key",
        ),
        (
            unmatched,
            "recorded decisions are not replayed: a trace has the digest of its intent; add the intents to --fixtures",
        ),
    ];
    let told = told.into_iter().filter(|(count, _)| *count > 0);
    told.map(|(count, what)| format!("{count} {what}"))
        .collect()
}

fn differ(before: &Evaluation, after: &Evaluation) -> bool {
    before.verdict != after.verdict
        || before.reason_codes != after.reason_codes
        || before.violations != after.violations
        || before.matched_rules != after.matched_rules
}

fn counted(counts: BTreeMap<Verdict, usize>) -> Vec<VerdictCount> {
    let mut counted: Vec<_> = counts
        .into_iter()
        .map(|(verdict, count)| VerdictCount { count, verdict })
        .collect();
    counted.sort_by_key(|one| one.verdict.as_str());
    counted
}

impl Recommendation {
    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::RequireApproval => "require_approval",
            Self::Observe => "observe",
        }
    }

    fn of(changed: &[Change]) -> Self {
        let any = |becomes: Verdict| {
            changed.iter().any(|change| {
                change.candidate_verdict == becomes && change.baseline_verdict != becomes
            })
        };
        match (any(Verdict::Allow), any(Verdict::Block)) {
            (true, _) => Self::Observe,
            (false, true) => Self::RequireApproval,
            (false, false) => Self::Enforce,
        }
    }
}

impl Change {
    fn new(path: &str, intent: &Intent, before: Evaluation, after: Evaluation) -> Self {
        Self {
            fixture_path: path.to_owned(),
            intent_digest: intent.digest(),
            baseline_verdict: before.verdict,
            candidate_verdict: after.verdict,
            baseline_matched_rule: before.matched_rule(),
            candidate_matched_rule: after.matched_rule(),
            baseline_reason_codes: before.reason_codes,
            candidate_reason_codes: after.reason_codes,
            baseline_violations: before.violations,
            candidate_violations: after.violations,
            changed: true,
        }
    }
}

impl Replay {
    fn new(path: &str, recorded: &Recorded, (verdict, rule): &(Verdict, String)) -> Self {
        Self {
            candidate_matched_rule: rule.clone(),
            candidate_verdict: *verdict,
            fixture_path: path.to_owned(),
            intent_digest: recorded.intent_digest,
            recorded_verdict: recorded.verdict,
            signature_status: recorded.signature_status,
            trace_id: recorded.trace_id.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
