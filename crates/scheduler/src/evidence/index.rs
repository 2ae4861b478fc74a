//! The submitter's list of every other file of a bundle: an in-toto statement in a DSSE envelope.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use worldcompute_fault::{Fault, Result};
use worldcompute_proof::dsse::{Envelope, MAX_ENVELOPE_BYTES};
use worldcompute_proof::{
    Cid, STATEMENT_PAYLOAD_TYPE, Sha256, SigningKey, Statement, Subject, canonical_json,
    from_canonical_json,
};

use super::part::Part;
use super::refusal::{changed, invalid, missing, too_large, unexpected};
use crate::JobId;
use crate::manifest::VerifiedManifest;

/// The meaning of the statement's predicate.
pub const PREDICATE_TYPE: &str = "https://worldcompute.org/evidence/v1";
/// Most files of a bundle, the index not counted.
pub const MAX_FILES: usize = 1 << 16;

/// What the files are the evidence of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Job {
    job_id: JobId,
    manifest_cid: Cid,
    task_count: u32,
}

impl Job {
    fn of(manifest: &VerifiedManifest) -> Self {
        let task_count = manifest.manifest().array_count;
        Self {
            job_id: manifest.job_id(),
            manifest_cid: *manifest.cid(),
            task_count,
        }
    }
}

/// Every file by its digest, as the submitter signed it.
pub(super) struct Index {
    files: BTreeMap<String, Sha256>,
}

impl Index {
    /// Signs the list for the job of `manifest`.
    pub(super) fn seal(
        files: BTreeMap<String, Sha256>,
        manifest: &VerifiedManifest,
        key: &SigningKey,
    ) -> Result<Vec<u8>> {
        check_count(files.len())?;
        let subjects = files
            .into_iter()
            .map(|(name, digest)| Subject::new(name, digest))
            .collect();
        let payload = canonical_json(&Statement::new(subjects, PREDICATE_TYPE, Job::of(manifest)))?;
        Envelope::sign(STATEMENT_PAYLOAD_TYPE, payload, key).to_bytes()
    }

    /// Verifies that the submitter of `manifest`, and nobody else, signed the list for that job.
    pub(super) fn open(bytes: &[u8], manifest: &VerifiedManifest) -> Result<Self> {
        let envelope = Envelope::from_bytes(bytes).map_err(unreadable)?;
        if envelope.payload_type != STATEMENT_PAYLOAD_TYPE || envelope.signatures.len() != 1 {
            return Err(invalid(
                Part::Index,
                "not one signature over an in-toto statement",
            ));
        }
        envelope
            .verify(&manifest.submitter().verifying_key())
            .map_err(|fault| {
                invalid(
                    Part::Index,
                    format_args!(
                        "not signed by the submitter of manifest.cbor: {}",
                        fault.message()
                    ),
                )
            })?;
        let statement: Statement<Job> =
            from_canonical_json(&envelope.payload, MAX_ENVELOPE_BYTES).map_err(unreadable)?;
        if statement.predicate_type != PREDICATE_TYPE || statement.predicate != Job::of(manifest) {
            return Err(invalid(
                Part::Index,
                "signed for another job than that of manifest.cbor",
            ));
        }
        Ok(Self {
            files: by_name(statement.subject)?,
        })
    }

    /// Checks a file's bytes against the list.
    pub(super) fn check(&self, part: Part, digest: Sha256) -> Result<()> {
        match self.files.get(&part.to_string()) {
            Some(expected) if *expected == digest => Ok(()),
            Some(_) => Err(changed(
                part,
                "not the bytes that the submitter signed for in index.json",
            )),
            None => Err(missing(
                part,
                "the submitter did not sign for it in index.json",
            )),
        }
    }

    /// Checks that the list names exactly these files.
    pub(super) fn check_names<'a>(&self, names: impl Iterator<Item = &'a str>) -> Result<()> {
        let mut found = BTreeSet::new();
        for name in names {
            if !self.files.contains_key(name) {
                return Err(unexpected(
                    name,
                    "the submitter did not sign for it in index.json",
                ));
            }
            found.insert(name);
        }
        match self
            .files
            .keys()
            .find(|name| !found.contains(name.as_str()))
        {
            Some(name) => Err(missing(name, "index.json names it")),
            None => Ok(()),
        }
    }

    /// The names of all files.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }
}

/// Every subject is a part, none is the index itself, and they stand in ascending order, so none is there twice.
fn by_name(subjects: Vec<Subject>) -> Result<BTreeMap<String, Sha256>> {
    check_count(subjects.len())?;
    let mut files = BTreeMap::new();
    for Subject { name, digest } in subjects {
        if matches!(Part::parse(&name), None | Some(Part::Index)) {
            return Err(invalid(
                Part::Index,
                format_args!("\"{}\" is no part of a bundle", name.escape_debug()),
            ));
        }
        if files
            .last_key_value()
            .is_some_and(|(last, _)| *last >= name)
        {
            return Err(invalid(Part::Index, "the names are not in ascending order"));
        }
        files.insert(name, digest.sha256);
    }
    Ok(files)
}

fn check_count(count: usize) -> Result<()> {
    if count <= MAX_FILES {
        Ok(())
    } else {
        Err(too_large(Part::Index, format_args!("{MAX_FILES} files")))
    }
}

fn unreadable(fault: Fault) -> Fault {
    invalid(Part::Index, fault.message())
}

#[cfg(test)]
mod tests {
    use worldcompute_proof::PeerId;

    use super::*;
    use crate::manifest::Manifest;

    fn key() -> SigningKey {
        SigningKey::from_seed([7; 32])
    }

    fn manifest() -> VerifiedManifest {
        let document =
            b"{apiVersion: worldcompute/v1, kind: Job, metadata: {name: a}, spec: {wasm: a}}";
        let manifest = Manifest::parse(document)
            .unwrap()
            .resolve(|_| Ok(Cid::raw("a")))
            .unwrap();
        manifest.sign(&key()).unwrap()
    }

    /// As many files as asked, with the longest names there are.
    fn files(count: usize) -> BTreeMap<String, Sha256> {
        let named = |number: usize| {
            let digest = Sha256::of(number.to_be_bytes());
            (
                Part::Decision(Cid::raw(number.to_be_bytes())).to_string(),
                digest,
            )
        };
        (0..count).map(named).collect()
    }

    #[test]
    fn as_many_files_as_the_limit_says_fit_an_index_and_no_more() {
        let manifest = manifest();
        let sealed = Index::seal(files(MAX_FILES), &manifest, &key()).unwrap();
        assert_eq!(
            Index::open(&sealed, &manifest).unwrap().names().count(),
            MAX_FILES
        );
        let fault = Index::seal(files(MAX_FILES + 1), &manifest, &key()).unwrap_err();
        assert_eq!(fault.code(), "evidence_too_large");
    }

    #[test]
    fn a_second_signature_is_refused() {
        let manifest = manifest();
        let sealed = Index::seal(files(1), &manifest, &key()).unwrap();
        let mut envelope = Envelope::from_bytes(&sealed).unwrap();
        assert_eq!(PeerId::from(&key().verifying_key()), *manifest.submitter());
        envelope.add_signature(&SigningKey::from_seed([8; 32]));
        assert!(Index::open(&envelope.to_bytes().unwrap(), &manifest).is_err());
    }
}
