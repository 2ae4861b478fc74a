//! Is this runpack what it says it is, and who says so?

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use serde::Serialize;
use worldcompute_fault::Result;
use worldcompute_proof::VerifyingKey;

use super::manifest::{Manifest, ManifestFile, Stated};
use super::stamp::Stamp;
use super::{INTENTS, MANIFEST, REFS, RESULTS, RUN};
use crate::archive::{Archive, ReadAt};
use crate::limits::MAX_MANIFEST_BYTES;
use crate::signature::unverified;
use crate::signatures::{SignatureReport, passes};
use crate::verifier::Finding;

/// What the verifier asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Requirements<'a> {
    /// The key that must have signed.
    pub key: Option<&'a VerifyingKey>,
    /// Whether an unsigned runpack fails without a key to check, too.
    pub signature: bool,
}

impl Requirements<'_> {
    /// Whether a signature is asked for: by itself, or with a key that must have made it.
    const fn ask(&self) -> bool {
        self.signature || self.key.is_some()
    }
}

/// What the verifier found. [`Report::holds`] is the verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    pub run_id: String,
    pub manifest_digest: String,
    pub files_checked: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing_files: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undeclared_files: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hash_mismatches: Vec<HashMismatch>,
    pub signature_status: SignatureStatus,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signature_errors: Vec<String>,
    #[serde(skip_serializing_if = "is_none")]
    pub signatures_total: usize,
    #[serde(skip_serializing_if = "is_none")]
    pub signatures_valid: usize,
    /// When its manifest says that it was made.
    #[serde(skip)]
    pub(crate) created_at: Stamp,
    /// By which version, as its manifest says.
    #[serde(skip)]
    pub(crate) producer_version: String,
    #[serde(skip)]
    signed_as_required: bool,
}

const fn is_none(count: &usize) -> bool {
    *count == 0
}

/// An entry whose content is not what the manifest says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HashMismatch {
    pub path: String,
    pub expected: String,
    pub actual: String,
}

/// What is known about the signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SignatureStatus {
    /// There are none.
    Missing,
    /// There are some, and no key to check them with.
    Skipped,
    /// The key signed this.
    Verified,
    /// It did not.
    Failed,
}

/// Verifies the runpack at `path`, in constant memory and without a network.
///
/// # Errors
/// `verification_failed` for what is no sound archive or has no sound manifest; the refusals of the disk.
pub fn verify(path: &Path, requirements: &Requirements<'_>) -> Result<Report> {
    verify_archive(&Archive::open(path)?, requirements)
}

/// [`verify`] for an archive that is open already.
///
/// # Errors
/// As [`verify`].
pub fn verify_archive<R: ReadAt>(
    archive: &Archive<R>,
    requirements: &Requirements<'_>,
) -> Result<Report> {
    Ok(examine(archive, requirements)?.0)
}

/// The runpack's manifest, if it holds.
pub(super) fn checked(archive: &Archive<File>) -> Result<Manifest> {
    let (report, manifest) = examine(archive, &Requirements::default())?;
    if !report.missing_files.is_empty() {
        let files = report.missing_files.join(", ");
        return Err(unverified(format!("missing runpack files: {files}")));
    }
    if !report.undeclared_files.is_empty() {
        let files = report.undeclared_files.join(", ");
        return Err(unverified(format!("undeclared runpack files: {files}")));
    }
    match report.holds() {
        true => Ok(manifest),
        false => Err(unverified("runpack hash mismatch")),
    }
}

impl Report {
    /// Whether content and signatures are as required.
    pub fn holds(&self) -> bool {
        self.missing_files.is_empty()
            && self.undeclared_files.is_empty()
            && self.hash_mismatches.is_empty()
            && self.signed_as_required
    }

    /// What is wrong, part by part; nothing when it holds.
    pub fn findings(&self) -> Vec<Finding> {
        let (missing, changed) = (&self.missing_files, &self.hash_mismatches);
        let mut findings = Finding::of_archive(missing, changed, &self.undeclared_files);
        if !self.signed_as_required {
            let errors = self.signature_errors.iter().cloned();
            findings.extend(errors.map(Finding::Signature));
        }
        findings
    }
}

fn examine<R: ReadAt>(
    archive: &Archive<R>,
    requirements: &Requirements<'_>,
) -> Result<(Report, Manifest)> {
    let stated = Stated::parse(&archive.bytes(MANIFEST, MAX_MANIFEST_BYTES as u64)?)?;
    let manifest = &stated.manifest;
    let declared = declared(manifest)?;
    let (missing_files, mut hash_mismatches) = check_files(archive, manifest, &declared)?;
    let digest = stated.digest()?;
    if digest != manifest.manifest_digest {
        hash_mismatches.push(HashMismatch {
            path: MANIFEST.to_owned(),
            expected: manifest.manifest_digest.clone(),
            actual: digest,
        });
    }
    hash_mismatches.sort_by(|a, b| a.path.cmp(&b.path));
    let signatures = SignatureReport::of(
        &manifest.signatures,
        &stated.signable()?,
        requirements.key,
        requirements.signature,
    );
    let report = Report {
        run_id: manifest.run_id.clone(),
        created_at: manifest.created_at,
        producer_version: manifest.producer_version.clone(),
        manifest_digest: manifest.manifest_digest.clone(),
        files_checked: manifest.files.len(),
        missing_files,
        undeclared_files: undeclared(archive, &declared)?,
        hash_mismatches,
        signed_as_required: passes(signatures.status, requirements.ask()),
        signature_status: signatures.status,
        signature_errors: signatures.errors,
        signatures_total: signatures.total,
        signatures_valid: signatures.valid,
    };
    Ok((report, stated.manifest))
}

fn declared(manifest: &Manifest) -> Result<BTreeSet<String>> {
    let mut declared = BTreeSet::new();
    for file in &manifest.files {
        if !declared.insert(file.path.clone()) {
            return Err(unverified(format!("manifest lists {} twice", file.path)));
        }
    }
    Ok(declared)
}

fn check_files<R: ReadAt>(
    archive: &Archive<R>,
    manifest: &Manifest,
    declared: &BTreeSet<String>,
) -> Result<(Vec<String>, Vec<HashMismatch>)> {
    let required = [RUN, INTENTS, RESULTS, REFS];
    let undeclared = required
        .into_iter()
        .filter(|name| !declared.contains(*name));
    let mut missing: Vec<String> = undeclared.map(str::to_owned).collect();
    let is_there = |file: &&ManifestFile| archive.entry(&file.path).is_some();
    let (present, absent): (Vec<_>, Vec<_>) = manifest.files.iter().partition(is_there);
    missing.extend(absent.into_iter().map(|file| file.path.clone()));
    let names: Vec<&str> = present.iter().map(|file| &*file.path).collect();
    let mut mismatches = Vec::new();
    for (file, actual) in present.into_iter().zip(archive.digests(&names)?) {
        let actual = actual.to_string();
        if !actual.eq_ignore_ascii_case(&file.sha256) {
            mismatches.push(HashMismatch {
                path: file.path.clone(),
                expected: file.sha256.clone(),
                actual,
            });
        }
    }
    missing.sort();
    Ok((missing, mismatches))
}

/// What is there that the manifest does not name; where there is nothing, the order of what is there is checked.
fn undeclared<R: ReadAt>(archive: &Archive<R>, declared: &BTreeSet<String>) -> Result<Vec<String>> {
    let names = archive.entries().iter().map(|entry| entry.name());
    let mut undeclared: Vec<String> = names
        .filter(|name| *name != MANIFEST && !declared.contains(*name))
        .map(str::to_owned)
        .collect();
    undeclared.sort();
    match undeclared.is_empty() && !archive.is_in_order() {
        true => Err(archive.disorder()),
        false => Ok(undeclared),
    }
}
