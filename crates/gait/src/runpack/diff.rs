//! What is different between two runs.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;
use worldcompute_fault::{Fault, Result};
use worldcompute_proof::canonical_json;

use super::index::Digests;
use super::manifest::Manifest;
use super::read::Runpack;
use super::record::{Intent, ResultRecord};
use super::refs::Refs;
use super::stamp::Stamp;
use crate::limits::invalid;

/// How much of the content is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Privacy {
    /// All of it.
    #[default]
    Full,
    /// Not what calls were given and returned.
    Metadata,
}

/// Two runs compared.
#[derive(Clone, Debug, Serialize)]
pub struct Diff {
    pub privacy: Privacy,
    pub summary: Summary,
}

/// What is different.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub run_id_left: String,
    pub run_id_right: String,
    pub manifest_changed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files_changed: Vec<String>,
    pub intents_changed: bool,
    pub results_changed: bool,
    pub refs_changed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_only_intents: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub right_only_intents: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_only_results: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub right_only_results: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_drift_classification: Option<Drift>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub context_runtime_only_changes: bool,
}

/// How far what two runs read is apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Drift {
    /// Not at all.
    None,
    /// It was read at another time.
    RuntimeOnly,
    /// It is something else.
    Semantic,
}

impl Privacy {
    /// Reads `full` or `metadata`; `invalid_input` for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "" | "full" => Ok(Self::Full),
            "metadata" => Ok(Self::Metadata),
            _ => Err(invalid(format!("unsupported privacy mode: {text}"))),
        }
    }
}

impl Summary {
    /// Whether anything is different but the runs' names and times.
    pub const fn is_same(&self) -> bool {
        !(self.manifest_changed
            || self.intents_changed
            || self.results_changed
            || self.refs_changed)
    }

    /// The entries of a runpack that are different.
    pub fn changed_files(&self) -> Vec<String> {
        let entries = [
            (self.manifest_changed, super::MANIFEST),
            (self.intents_changed, super::INTENTS),
            (self.results_changed, super::RESULTS),
            (self.refs_changed, super::REFS),
        ];
        let changed = entries.into_iter().filter(|(changed, _)| *changed);
        let changed = changed.map(|(_, name)| name.to_owned());
        let all: BTreeSet<String> = self.files_changed.iter().cloned().chain(changed).collect();
        all.into_iter().collect()
    }
}

/// Compares two runpacks; memory grows with the differences only.
///
/// # Errors
/// `verification_failed` for a runpack that does not hold; the refusals of the disk.
pub fn diff(left: &Path, right: &Path, privacy: Privacy) -> Result<Diff> {
    let (left, right) = (Runpack::open(left)?, Runpack::open(right)?);
    let intents = Compared::of(&left, &right, |pack, each| {
        let mut intents = pack.intents()?;
        while let Some(intent) = intents.advance()? {
            let (id, content) = intent.comparable(privacy)?;
            each(&id, &content);
        }
        Ok(())
    })?;
    let results = Compared::of(&left, &right, |pack, each| {
        let mut results = pack.results()?;
        while let Some(result) = results.advance()? {
            let (id, content) = result.comparable(privacy)?;
            each(&id, &content);
        }
        Ok(())
    })?;
    let refs = (left.refs()?, right.refs()?);
    let drift = match privacy {
        Privacy::Full => refs.0.drift(&refs.1)?,
        Privacy::Metadata => Drift::None,
    };
    let refs_changed = match privacy {
        Privacy::Full => drift != Drift::None,
        Privacy::Metadata => refs.0.receipts.len() != refs.1.receipts.len(),
    };
    let summary = Summary {
        run_id_left: left.run()?.run_id,
        run_id_right: right.run()?.run_id,
        manifest_changed: left.manifest().comparable() != right.manifest().comparable(),
        files_changed: files_changed(left.manifest(), right.manifest()),
        intents_changed: intents.changed,
        results_changed: results.changed,
        refs_changed,
        left_only_intents: intents.left_only,
        right_only_intents: intents.right_only,
        left_only_results: results.left_only,
        right_only_results: results.right_only,
        context_drift_classification: Some(drift),
        context_runtime_only_changes: drift == Drift::RuntimeOnly,
    };
    Ok(Diff { privacy, summary })
}

/// Records of one kind, compared by the intent they are about.
struct Compared {
    changed: bool,
    left_only: Vec<String>,
    right_only: Vec<String>,
}

type Each<'a> = &'a mut dyn FnMut(&str, &[u8]);

impl Compared {
    fn of(
        left: &Runpack,
        right: &Runpack,
        read: impl Fn(&Runpack, Each<'_>) -> Result<()>,
    ) -> Result<Self> {
        let (mut of_left, mut of_right) = (Digests::default(), Digests::default());
        read(left, &mut |id, content| of_left.insert(id, content))?;
        let mut right_only = BTreeSet::new();
        read(right, &mut |id, content| {
            of_right.insert(id, content);
            if !of_left.contains(id) {
                right_only.insert(id.to_owned());
            }
        })?;
        if of_left.agrees(&of_right) {
            return Ok(Self {
                changed: false,
                left_only: Vec::new(),
                right_only: Vec::new(),
            });
        }
        let mut left_only = BTreeSet::new();
        read(left, &mut |id, _| {
            if !of_right.contains(id) {
                left_only.insert(id.to_owned());
            }
        })?;
        Ok(Self {
            changed: true,
            left_only: left_only.into_iter().collect(),
            right_only: right_only.into_iter().collect(),
        })
    }
}

fn written(record: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(record).map_err(|error| invalid("compare records").caused_by(error))
}

impl<'a> Intent<'a> {
    /// Whom it is about, and what of it must be the same in both runs.
    fn comparable(mut self, privacy: Privacy) -> Result<(Cow<'a, str>, Vec<u8>), Fault> {
        (self.run_id, self.producer_version) = (Cow::default(), Cow::default());
        self.created_at = Stamp::default();
        self.args = match privacy {
            Privacy::Full => self.args.map(|args| args.canonical()).transpose()?,
            Privacy::Metadata => None,
        };
        Ok((self.intent_id.clone(), written(&self)?))
    }
}

impl<'a> ResultRecord<'a> {
    fn comparable(mut self, privacy: Privacy) -> Result<(Cow<'a, str>, Vec<u8>), Fault> {
        (self.run_id, self.producer_version) = (Cow::default(), Cow::default());
        self.created_at = Stamp::default();
        self.result = match privacy {
            Privacy::Full => self.result.map(|result| result.canonical()).transpose()?,
            Privacy::Metadata => None,
        };
        Ok((self.intent_id.clone(), written(&self)?))
    }
}

impl Manifest {
    fn comparable(&self) -> (super::CaptureMode, Vec<&str>) {
        let paths = self.files.iter().map(|file| file.path.as_str()).collect();
        (self.capture_mode, paths)
    }
}

fn files_changed(left: &Manifest, right: &Manifest) -> Vec<String> {
    let paths = |manifest: &Manifest| -> BTreeSet<String> {
        manifest
            .files
            .iter()
            .map(|file| file.path.clone())
            .collect()
    };
    let (left, right) = (paths(left), paths(right));
    left.symmetric_difference(&right).cloned().collect()
}

impl Refs {
    /// How far `other` is from this: names and times of the runs are part of what was read.
    pub(crate) fn drift(&self, other: &Self) -> Result<Drift> {
        let (mut left, mut right) = (self.clone(), other.clone());
        left.normalise()?;
        right.normalise()?;
        if canonical_json(&left)? == canonical_json(&right)? {
            return Ok(Drift::None);
        }
        left.forget_when();
        right.forget_when();
        Ok(match canonical_json(&left)? == canonical_json(&right)? {
            true => Drift::RuntimeOnly,
            false => Drift::Semantic,
        })
    }

    fn forget_when(&mut self) {
        self.context_set_digest.clear();
        for receipt in &mut self.receipts {
            receipt.retrieved_at = Stamp::default();
        }
    }
}
