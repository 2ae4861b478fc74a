//! What came of the cases, family by family.

use std::collections::BTreeMap;
use std::fmt;

use crate::case::{Case, Failure};

#[derive(Default)]
struct Family {
    passed: usize,
    defects: usize,
    failed: usize,
}

/// Counts, and the failures in words.
#[derive(Default)]
pub struct Tally {
    families: BTreeMap<String, Family>,
    failures: Vec<String>,
}

impl Tally {
    /// Notes how a case came out.
    pub fn note(&mut self, case: &Case, outcome: Result<(), Failure>) {
        let family = self.families.entry(case.kind.clone()).or_default();
        match outcome {
            Ok(()) if case.note.is_empty() => family.passed += 1,
            Ok(()) => family.defects += 1,
            Err(why) => {
                family.failed += 1;
                self.failures.push(format!("{}: {why}", case.id));
            }
        }
    }

    /// Notes a check that is no case of the index.
    pub fn conclude(&mut self, name: &str, outcomes: Vec<Result<(), Failure>>) {
        for outcome in outcomes {
            let family = self.families.entry(name.to_owned()).or_default();
            match outcome {
                Ok(()) => family.passed += 1,
                Err(why) => {
                    family.failed += 1;
                    self.failures.push(format!("{name}: {why}"));
                }
            }
        }
    }

    /// Whether anything failed, or nothing ran.
    pub fn failed(&self) -> bool {
        !self.failures.is_empty() || self.families.is_empty()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{:<26}{:>8}{:>20}{:>8}",
            "family", "as said", "defect not copied", "failed"
        )?;
        let mut total = Family::default();
        for (name, family) in &self.families {
            let Family {
                passed,
                defects,
                failed,
            } = family;
            writeln!(formatter, "{name:<26}{passed:>8}{defects:>20}{failed:>8}")?;
            total.passed += passed;
            total.defects += defects;
            total.failed += failed;
        }
        for failure in &self.failures {
            writeln!(formatter, "FAILED {failure}")?;
        }
        let passed = total.passed + total.defects;
        writeln!(
            formatter,
            "conformance: {passed} passed, {} failed",
            total.failed
        )
    }
}
