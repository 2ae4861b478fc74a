//! Verifying a guard pack, offline.

use std::collections::BTreeSet;
use std::path::Path;

use worldcompute_fault::Result;

use super::manifest::Manifest;
use crate::archive::{Archive, ReadAt};
use crate::limits::MAX_PACK_MANIFEST_BYTES;
use crate::pack::{GUARD, MANIFEST_NAME, Report, VerifyOptions, compare};
use crate::signature::unverified;
use crate::signatures::SignatureReport;

/// Verifies the guard pack at `path`.
///
/// Errors: `verification_failed` for what is no guard pack, or one that contradicts itself; those of reading. Missing,
/// changed and undeclared entries and signatures that do not hold are in the report: see [`Report::ok`].
pub fn verify(path: &Path, options: &VerifyOptions<'_>) -> Result<Report> {
    let archive = Archive::open(path)?;
    if archive.entry(MANIFEST_NAME).is_none() {
        return Err(unverified(format!("missing {MANIFEST_NAME}")));
    }
    let bytes = archive.bytes(MANIFEST_NAME, MAX_PACK_MANIFEST_BYTES as u64)?;
    check(&archive, &bytes, options).map(|(_, report)| report)
}

/// Verifies an open guard pack with this manifest.
pub(crate) fn check<R: ReadAt>(
    archive: &Archive<R>,
    manifest: &[u8],
    options: &VerifyOptions<'_>,
) -> Result<(Manifest, Report)> {
    let (manifest, signable) = Manifest::parse(manifest)?;
    check_pointers(&manifest)?;
    let declared = manifest
        .contents
        .iter()
        .map(|entry| (&*entry.path, &*entry.sha256));
    let found = compare(archive, MANIFEST_NAME, declared)?;
    // Every guard pack is signed: its id covers the run and the contents, and nothing else that it says.
    let unsigned = manifest.signatures.is_empty();
    let signatures = SignatureReport::of(
        &manifest.signatures,
        &signable,
        options.key,
        options.require_signature || unsigned,
    )
    .concluded();
    let report = Report {
        pack_id: manifest.pack_id.clone(),
        pack_type: GUARD.to_owned(),
        source_ref: manifest.run_id.clone(),
        files_checked: manifest.contents.len(),
        proof_records: 0,
        missing_files: found.missing,
        hash_mismatches: found.mismatches,
        undeclared_files: found.undeclared,
        signature_status: signatures.status,
        signature_errors: signatures.errors,
        signatures_total: signatures.total,
        signatures_valid: signatures.valid,
        legacy_type: GUARD,
        asked_for: options.ask() || unsigned,
    };
    Ok((manifest, report))
}

/// What the manifest points an auditor to has to be what it declares.
fn check_pointers(manifest: &Manifest) -> Result<()> {
    let declared: BTreeSet<(&str, &str)> = manifest
        .contents
        .iter()
        .map(|entry| (&*entry.path, &*entry.sha256))
        .collect();
    if declared.len() != manifest.contents.len() {
        return Err(unverified("an entry is declared twice"));
    }
    let pointers = manifest
        .evidence_pointers
        .iter()
        .map(|one| (&*one.path, &*one.sha256));
    let rendered = manifest
        .rendered_artifacts
        .iter()
        .map(|one| (&*one.path, &*one.sha256));
    match pointers
        .chain(rendered)
        .find(|pointer| !declared.contains(pointer))
    {
        None => Ok(()),
        Some((path, _)) => Err(unverified(format!(
            "{path} is pointed to and not declared as such"
        ))),
    }
}
