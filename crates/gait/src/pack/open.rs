//! Packs that were verified and are open for reading.

use std::fs::File;
use std::path::Path;

use serde::Deserialize;
use worldcompute_fault::Result;

use super::SOURCE_NAME;
use super::manifest::{Entry, entry_type};
use super::verify::{Kind, Report, VerifyOptions, read};
use crate::archive::{Archive, ReadAt};
use crate::limits::MAX_PACK_MANIFEST_BYTES;
use crate::runpack::{self, Requirements};
use crate::signature::unverified;

/// A pack, runpack or guard pack whose content is what its manifest declares; only [`open`] makes one.
pub struct Pack {
    pub(super) archive: Archive<File>,
    pub(super) kind: Kind,
    /// What its verification found.
    pub report: Report,
}

/// Opens a pack after verifying it, signatures aside.
///
/// Errors: `verification_failed` for one that is not intact; those of reading.
pub fn open(path: &Path) -> Result<Pack> {
    let (archive, kind, report) = read(Archive::open(path)?, &VerifyOptions::default())?;
    if report.is_intact() {
        return Ok(Pack {
            archive,
            kind,
            report,
        });
    }
    let message = format!(
        "{} is not what its manifest declares: {} missing, {} changed, {} undeclared",
        path.display(),
        report.missing_files.len(),
        report.hash_mismatches.len(),
        report.undeclared_files.len()
    );
    Err(unverified(message))
}

/// The runpack at `path`, once its files were found as its manifest says.
pub(crate) fn sound_runpack(path: &Path) -> Result<Archive<File>> {
    let archive = Archive::open(path)?;
    sound(&archive)?;
    Ok(archive)
}

/// A runpack inside of a pack, once its files were found as its manifest says.
pub(super) struct EmbeddedRunpack {
    pub(super) archive: Archive<File>,
    pub(super) run_id: String,
}

/// The runpack that a pack of a run or call was made from.
pub(super) fn embedded_runpack<R: ReadAt>(archive: &Archive<R>) -> Result<EmbeddedRunpack> {
    let archive = archive.nested(SOURCE_NAME)?;
    let report = sound(&archive)?;
    Ok(EmbeddedRunpack {
        archive,
        run_id: report.source_ref,
    })
}

fn sound<R: ReadAt>(archive: &Archive<R>) -> Result<Report> {
    let (_, report) = runpack_report(archive, &VerifyOptions::default())?;
    match report.is_intact() {
        true => Ok(report),
        false => Err(unverified("the runpack is not what its manifest declares")),
    }
}

/// The part of a runpack's manifest that its report does not tell.
#[derive(Deserialize)]
struct Listing {
    files: Vec<ListedFile>,
}

#[derive(Deserialize)]
struct ListedFile {
    path: String,
    sha256: String,
}

/// Verifies a runpack as [`super::verify`] reports it, with the files it declares.
pub(super) fn runpack_report<R: ReadAt>(
    archive: &Archive<R>,
    options: &VerifyOptions<'_>,
) -> Result<(Vec<Entry>, Report)> {
    let requirements = Requirements {
        key: options.key,
        signature: options.require_signature,
    };
    let found = runpack::verify_archive(archive, &requirements)?;
    let report = Report {
        pack_id: found.manifest_digest,
        pack_type: "run".to_owned(),
        source_ref: found.run_id,
        files_checked: found.files_checked,
        proof_records: 0,
        missing_files: found.missing_files,
        hash_mismatches: found.hash_mismatches,
        undeclared_files: found.undeclared_files,
        signature_status: found.signature_status,
        signature_errors: found.signature_errors,
        signatures_total: found.signatures_total,
        signatures_valid: found.signatures_valid,
        legacy_type: "runpack",
        asked_for: options.ask(),
    };
    Ok((listed(archive)?, report))
}

fn listed<R: ReadAt>(archive: &Archive<R>) -> Result<Vec<Entry>> {
    let bytes = archive.bytes(runpack::MANIFEST, MAX_PACK_MANIFEST_BYTES as u64)?;
    let listing: Listing = serde_json::from_slice(&bytes)
        .map_err(|error| unverified(format!("parse manifest: {error}")))?;
    let entry = |file: ListedFile| Entry {
        kind: entry_type(&file.path).to_owned(),
        path: file.path,
        sha256: file.sha256,
    };
    Ok(listing.files.into_iter().map(entry).collect())
}
