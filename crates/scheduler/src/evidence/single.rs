//! Verifying one file: with its bundle if it lies in one, else as far as it goes by itself.

use std::ffi::OsStr;
use std::fs::File;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use gait::verifier::Artefact;
use rustix::fs::CWD;
use worldcompute_fault::{Fault, Result};
use worldcompute_ledger::receipt::SignedReceipt;
use worldcompute_proof::dsse::{Envelope, MAX_ENVELOPE_BYTES};
use worldcompute_proof::{Cid, Sha256, parse_json_strict};

use super::bundle::{self, Bundle, check_executor, open_manifest};
use super::folder::{digest, open_file, read};
use super::gate;
use super::index::PREDICATE_TYPE;
use super::part::{FOLDERS, Part};
use super::refusal::{changed, invalid, unexpected, unproven};
use super::report::{CheckedPart, Report, whose};
use super::{MAX_OBJECT_BYTES, Pins};

/// With what a map starts in CBOR (RFC 8949, section 3.1), and so a manifest.
const CBOR_MAP: RangeInclusive<u8> = 0xa0..=0xbf;

/// Verifies the file at `path`.
pub(super) fn verify(path: &Path, pins: &Pins) -> Result<Report> {
    let path = std::path::absolute(path)
        .map_err(|error| Fault::io(format_args!("find {}", path.display()), &error))?;
    match place_in_bundle(&path) {
        Some((folder, Part::Index)) => bundle::verify(&folder, pins),
        Some((folder, part)) => verify_part(Bundle::open(&folder, pins)?, part),
        None => verify_alone(&path, pins),
    }
}

/// The bundle that the file lies in, and which part it is.
pub(super) fn place_in_bundle(path: &Path) -> Option<(PathBuf, Part)> {
    let name = path.file_name()?.to_str()?;
    let parent = path.parent()?;
    let inner = parent
        .file_name()
        .and_then(OsStr::to_str)
        .filter(|folder| FOLDERS.contains(folder));
    let (folder, part) = match inner.and_then(|folder| Part::parse(&format!("{folder}/{name}"))) {
        Some(part) => (parent.parent()?, part),
        None => (parent, Part::parse(name)?),
    };
    let is_bundle = ["index.json", "manifest.cbor"]
        .iter()
        .all(|file| folder.join(file).is_file());
    is_bundle.then(|| (folder.to_owned(), part))
}

fn verify_part(mut bundle: Bundle<'_>, part: Part) -> Result<Report> {
    match part {
        Part::Receipt(task) => {
            let signed = bundle.check_task(task)?;
            Ok(Report::of_receipt_in(&bundle, &signed))
        }
        Part::Decision(cid) => verify_decision(bundle, cid),
        Part::Object(cid) => {
            let size = bundle.check_object(cid)?;
            Ok(Report::of_object(
                bundle.parts.into_values().collect(),
                &cid,
                size,
                true,
            ))
        }
        Part::Manifest | Part::Index => Ok(Report::of_manifest(
            bundle.parts.into_values().collect(),
            &bundle.manifest,
            bundle.pins,
        )),
    }
}

/// A trace does not carry its signer's key: the receipt that refers to it does.
fn verify_decision(mut bundle: Bundle<'_>, cid: Cid) -> Result<Report> {
    for task in 0..bundle.manifest.manifest().array_count {
        let signed = bundle.check_receipt(task)?;
        let receipt = signed.receipt();
        let signer = if receipt.decision.trace_cid == cid {
            receipt.executor
        } else if receipt.submitter_decision.trace_cid == cid {
            receipt.submitter
        } else {
            continue;
        };
        let bytes = bundle
            .folder
            .read(Part::Decision(cid), gait::limits::MAX_TRACE_BYTES)?;
        let trace = gait::trace::verify(&bytes, &signer.verifying_key())
            .map_err(|fault| invalid(Part::Decision(cid), fault.message()))?;
        let parts = bundle.parts.values().cloned().collect();
        return Ok(Report::of_decision(
            parts,
            &trace,
            &signer,
            whose(bundle.pins),
        ));
    }
    Err(unexpected(Part::Decision(cid), "no receipt refers to it"))
}

fn verify_alone(path: &Path, pins: &Pins) -> Result<Report> {
    let shown = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .escape_debug()
        .to_string();
    let file = open_file(CWD, path, &shown)?;
    if let Ok(cid) = shown.parse::<Cid>() {
        return verify_object(file, &shown, cid);
    }
    if let Some(artefact) = Artefact::recognise(path)? {
        return gate::verify(&artefact, file, &shown, pins);
    }
    let bytes = read(file, &shown, MAX_ENVELOPE_BYTES)?;
    let part = CheckedPart {
        name: shown.clone(),
        sha256: Sha256::of(&bytes),
        bytes: bytes.len() as u64,
    };
    match bytes.first() {
        Some(b'{') => {
            refuse_index(&part, &bytes)?;
            verify_receipt(part, &bytes, pins)
        }
        Some(first) if CBOR_MAP.contains(first) => {
            let manifest =
                open_manifest(&bytes, pins).map_err(|fault| invalid(&shown, fault.message()))?;
            Ok(Report::of_manifest(vec![part], &manifest, pins))
        }
        _ => Err(unknown(&shown)),
    }
}

fn unknown(shown: &str) -> Fault {
    invalid(shown, "nothing that a node or a gate makes").hint(
        "give a bundle's directory, a receipt, a manifest, or a runpack, pack or session of a gate",
    )
}

fn verify_receipt(part: CheckedPart, bytes: &[u8], pins: &Pins) -> Result<Report> {
    let signed =
        SignedReceipt::open(bytes).map_err(|fault| invalid(&part.name, fault.message()))?;
    let receipt = signed.receipt();
    check_executor(&part.name, &receipt.executor, pins)?;
    if pins
        .submitter
        .is_some_and(|expected| expected != receipt.submitter)
    {
        return Err(invalid(
            &part.name,
            format_args!(
                "its submitter is {}, not the one expected",
                receipt.submitter
            ),
        ));
    }
    Ok(Report::of_receipt(part, &signed, pins))
}

fn verify_object(file: File, shown: &str, cid: Cid) -> Result<Report> {
    let (sha256, bytes) = digest(file, shown, MAX_OBJECT_BYTES)?;
    if sha256 != cid.digest() {
        return Err(changed(shown, "not the bytes that its name stands for"));
    }
    let part = CheckedPart {
        name: shown.to_owned(),
        sha256,
        bytes,
    };
    Ok(Report::of_object(vec![part], &cid, bytes, false))
}

/// An index lists files by digest: without them, and without the manifest, it says nothing that can be checked.
fn refuse_index(part: &CheckedPart, bytes: &[u8]) -> Result<()> {
    let payload =
        Envelope::from_bytes(bytes).and_then(|envelope| parse_json_strict(&envelope.payload));
    let predicate = payload
        .ok()
        .and_then(|statement| Some(statement.get("predicateType")?.as_str()? == PREDICATE_TYPE));
    if predicate != Some(true) {
        return Ok(());
    }
    let hint = "verify the folder that the index lists";
    Err(unproven(
        &part.name,
        "an index is verified with the files that it lists",
        hint,
    ))
}
