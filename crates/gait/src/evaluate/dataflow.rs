//! Arguments from outside must not flow to places outside.

use serde::Serialize;

use super::Call;
use super::breach::Breach;
use super::matching::{admits, contains};
use super::readings;
use crate::intent::Target;
use crate::verdict::Verdict;

/// The dataflow clause of a rule; serialised, it is the rule's `Dataflow` of the policy digest.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Dataflow {
    /// Always true: a clause that is not enabled is none.
    pub(crate) enabled: bool,
    pub(crate) tainted_sources: Vec<String>,
    pub(crate) action: Verdict,
    pub(crate) reason_code: String,
    pub(crate) violation: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) destination_kinds: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) destination_values: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) destination_operations: Vec<String>,
}

/// The kinds of targets that leave the machine.
const OUTWARD: [&str; 5] = ["host", "url", "bucket", "queue", "topic"];

impl Dataflow {
    pub(super) fn breaches<'r>(&'r self, call: &Call<'_>, found: &mut Vec<Breach<'r>>) {
        let tainted = call
            .provenance()
            .any(|entry| contains(&self.tainted_sources, &entry.source));
        if tainted && call.targets.iter().any(|target| self.guards(target)) {
            found.push(Breach {
                clause: "dataflow",
                verdict: self.action,
                reason: &self.reason_code,
                violation: &self.violation,
            });
        }
    }

    fn guards(&self, target: &Target) -> bool {
        let lists = [
            (&self.destination_kinds, &target.kind),
            (&self.destination_operations, &target.operation),
        ];
        let values = &self.destination_values;
        if values.is_empty() && lists.iter().all(|(list, _)| list.is_empty()) {
            return OUTWARD.contains(&target.kind.as_str());
        }
        lists.iter().all(|(list, value)| admits(list, value))
            && (admits(values, &target.value) || readings::listed(values, target))
    }
}
