//! Verifying a pack, offline: is it what its manifest says, and who says so?

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use serde::Serialize;
use worldcompute_fault::Result;
use worldcompute_proof::VerifyingKey;

use super::manifest::Manifest;
use super::{MANIFEST_NAME, PROOF_RECORDS_NAME};
use super::{open, payload, proof_records};
use crate::archive::{Archive, ReadAt};
use crate::guard;
use crate::limits::MAX_PACK_MANIFEST_BYTES;
use crate::runpack::{self, HashMismatch, SignatureStatus};
use crate::signature::unverified;
use crate::signatures::{SignatureReport, passes};
use crate::verifier::Finding;

/// What a verifier asks for besides integrity.
#[derive(Clone, Copy, Default)]
pub struct VerifyOptions<'a> {
    /// The key that should have signed. With a key, a pack without signatures fails.
    pub key: Option<&'a VerifyingKey>,
    /// Fail unless a signature verifies, of the manifest and of every proof record.
    pub require_signature: bool,
}

impl VerifyOptions<'_> {
    /// Whether a signature is asked for.
    pub(crate) const fn ask(&self) -> bool {
        self.require_signature || self.key.is_some()
    }
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names are those of the contract")]
pub struct Report {
    pub pack_id: String,
    pub pack_type: String,
    pub source_ref: String,
    pub files_checked: usize,
    #[serde(rename = "proof_records_verified", skip_serializing_if = "is_zero")]
    pub proof_records: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing_files: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hash_mismatches: Vec<HashMismatch>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undeclared_files: Vec<String>,
    pub signature_status: SignatureStatus,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signature_errors: Vec<String>,
    #[serde(skip_serializing_if = "is_none_of")]
    pub signatures_total: usize,
    #[serde(skip_serializing_if = "is_none_of")]
    pub signatures_valid: usize,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub legacy_type: &'static str,
    /// Whether a signature was asked for.
    #[serde(skip)]
    pub(crate) asked_for: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the form that serde asks for"
)]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the form that serde asks for"
)]
const fn is_none_of(value: &usize) -> bool {
    *value == 0
}

impl Report {
    /// Whether everything holds.
    pub fn ok(&self) -> bool {
        self.is_intact() && passes(self.signature_status, self.asked_for)
    }

    /// What is wrong, part by part; nothing when everything holds.
    pub fn findings(&self) -> Vec<Finding> {
        let (missing, changed) = (&self.missing_files, &self.hash_mismatches);
        let mut findings = Finding::of_archive(missing, changed, &self.undeclared_files);
        if !passes(self.signature_status, self.asked_for) {
            let errors = self.signature_errors.iter().cloned();
            findings.extend(errors.map(Finding::Signature));
        }
        findings
    }

    /// Whether content and declaration agree, whoever signed.
    pub(super) fn is_intact(&self) -> bool {
        self.missing_files.is_empty()
            && self.hash_mismatches.is_empty()
            && self.undeclared_files.is_empty()
    }
}

/// Verifies the pack, runpack or guard pack at `path`.
///
/// Errors: `verification_failed` for what is no pack, or one that contradicts itself; those of reading. Missing,
/// changed and undeclared entries and signatures that do not hold are in the report: see [`Report::ok`].
pub fn verify(path: &Path, options: &VerifyOptions<'_>) -> Result<Report> {
    verify_archive(Archive::open(path)?, options)
}

/// [`verify`] for an archive that is open already.
pub(crate) fn verify_archive(
    archive: Archive<File>,
    options: &VerifyOptions<'_>,
) -> Result<Report> {
    read(archive, options).map(|(_, _, report)| report)
}

/// What kind of archive it is.
pub(super) enum Kind {
    /// A pack.
    Pack(Manifest),
    /// A guard pack.
    Guard(Box<guard::Manifest>),
    /// A runpack.
    Runpack(Vec<super::Entry>),
}

/// Verifies, and says what it is.
pub(super) fn read(
    archive: Archive<File>,
    options: &VerifyOptions<'_>,
) -> Result<(Archive<File>, Kind, Report)> {
    if archive.entry(MANIFEST_NAME).is_none() {
        if archive.entry(runpack::MANIFEST).is_none() {
            return Err(unverified(format!("missing {MANIFEST_NAME}")));
        }
        let (contents, report) = open::runpack_report(&archive, options)?;
        return Ok((archive, Kind::Runpack(contents), report));
    }
    let bytes = archive.bytes(MANIFEST_NAME, MAX_PACK_MANIFEST_BYTES as u64)?;
    if guard::Manifest::is_in(&bytes) {
        let (manifest, report) = guard::check(&archive, &bytes, options)?;
        return Ok((archive, Kind::Guard(Box::new(manifest)), report));
    }
    let manifest = Manifest::parse(&bytes)?;
    let report = check(&archive, &manifest, options)?;
    Ok((archive, Kind::Pack(manifest), report))
}

fn check<R: ReadAt>(
    archive: &Archive<R>,
    manifest: &Manifest,
    options: &VerifyOptions<'_>,
) -> Result<Report> {
    let declared = manifest
        .contents
        .iter()
        .map(|entry| (&*entry.path, &*entry.sha256));
    let found = compare(archive, MANIFEST_NAME, declared)?;
    let chain = check_chain(archive, manifest, &found, options)?;
    if found.is_clean() {
        payload::check(archive, manifest)?;
    }
    let mut signatures = SignatureReport::of(
        &manifest.signatures,
        &manifest.signable()?,
        options.key,
        options.require_signature,
    )
    .concluded();
    if options.require_signature && !chain.signature_errors.is_empty() {
        signatures.status = SignatureStatus::Failed;
        signatures.errors.extend(chain.signature_errors);
        signatures.errors.sort();
    }
    Ok(Report {
        pack_id: manifest.pack_id.clone(),
        pack_type: manifest.pack_type.as_str().to_owned(),
        source_ref: manifest.source_ref.clone(),
        files_checked: manifest.contents.len(),
        proof_records: chain.verified,
        missing_files: found.missing,
        hash_mismatches: found.mismatches,
        undeclared_files: found.undeclared,
        signature_status: signatures.status,
        signature_errors: signatures.errors,
        signatures_total: signatures.total,
        signatures_valid: signatures.valid,
        legacy_type: "",
        asked_for: options.ask(),
    })
}

fn check_chain<R: ReadAt>(
    archive: &Archive<R>,
    manifest: &Manifest,
    found: &Comparison,
    options: &VerifyOptions<'_>,
) -> Result<proof_records::Chain> {
    let declared = manifest
        .contents
        .iter()
        .any(|entry| entry.path == PROOF_RECORDS_NAME);
    if !declared || !found.is_sound(PROOF_RECORDS_NAME) {
        return Ok(proof_records::Chain::none());
    }
    let key = options.key.filter(|_| options.require_signature);
    let reader = archive.read(PROOF_RECORDS_NAME)?;
    proof_records::verify(reader, &manifest.contents, key)
}

/// What is there against what is declared.
#[derive(Default)]
pub(crate) struct Comparison {
    pub(crate) missing: Vec<String>,
    pub(crate) mismatches: Vec<HashMismatch>,
    pub(crate) undeclared: Vec<String>,
}

impl Comparison {
    fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.mismatches.is_empty() && self.undeclared.is_empty()
    }

    fn is_sound(&self, path: &str) -> bool {
        let missing = self.missing.iter().any(|missing| missing == path);
        !missing && !self.mismatches.iter().any(|mismatch| mismatch.path == path)
    }
}

/// Compares every entry but the manifest with its declaration.
pub(crate) fn compare<'a, R: ReadAt>(
    archive: &Archive<R>,
    manifest: &str,
    declared: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Comparison> {
    let mut found = Comparison::default();
    let mut names: BTreeSet<String> = archive
        .entries()
        .iter()
        .map(|entry| entry.name().to_owned())
        .collect();
    names.remove(manifest);
    for (path, expected) in declared {
        if !names.remove(path) {
            found.missing.push(path.to_owned());
            continue;
        }
        let actual = archive.digest(path)?.to_string();
        if !actual.eq_ignore_ascii_case(expected) {
            found.mismatches.push(HashMismatch {
                path: path.to_owned(),
                expected: expected.to_owned(),
                actual,
            });
        }
    }
    found.undeclared = names.into_iter().collect();
    if found.undeclared.is_empty() && !archive.is_in_order() {
        return Err(archive.disorder());
    }
    found.missing.sort();
    found.mismatches.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}
