//! Whether a folder is a bundle of evidence.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;
use worldcompute_durable::read_bounded;
use worldcompute_fault::{Category, Fault, Result};

use crate::commit::{Commit, Commits};
use crate::model::{Metadata, Overall, Results};

/// A bundle that is larger is none, in bytes: bundles are kept with the source.
pub const MAX_BUNDLE_BYTES: u64 = 10_000_000;
/// A bundle that is larger is told to be large, in bytes.
pub const WARN_BUNDLE_BYTES: u64 = 5_000_000;
/// Pictures of one bundle.
pub const MAX_SCREENSHOTS: usize = 100;

const METADATA: &str = "metadata.json";
const RESULTS: &str = "results.json";
const TRACE: &str = "trace.jsonl";
const SCREENSHOTS: &str = "screenshots";
/// What every bundle has.
const REQUIRED: [&str; 4] = ["run.log", METADATA, RESULTS, "index.md"];
/// How every PNG begins (PNG specification, 5.2).
const PNG: [u8; 8] = [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a];

/// A bundle that is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Valid {
    /// Its metadata.
    pub metadata: Metadata,
    /// What came of the run. A run that failed may have a valid bundle.
    pub results: Results,
    /// All of its files together, in bytes.
    pub bytes: u64,
    /// What is odd about it all the same.
    pub warnings: Vec<String>,
}

/// Whether the folder `dir` is a bundle of evidence.
///
/// # Errors
/// What it is not: `evidence_too_large`, `evidence_missing` naming the file, `evidence_unexpected`, `evidence_invalid`
/// naming file and member, `no_commit`, `unknown_commit`, `no_git`; those of reading.
pub fn validate(dir: &Path, commits: Commits<'_>) -> Result<Valid> {
    let sizes = files(dir)?;
    let bytes = sizes.values().sum();
    // First of all: nothing larger is read.
    if bytes > MAX_BUNDLE_BYTES {
        return Err(too_large(bytes));
    }
    if let Some(missing) = REQUIRED.iter().find(|name| !sizes.contains_key(**name)) {
        return Err(refused("evidence_missing", format!("{missing} is missing")));
    }
    let metadata: Metadata = json(dir, METADATA)?;
    let results: Results = json(dir, RESULTS)?;
    check_metadata(&metadata, commits)?;
    check_results(&results)?;
    if sizes.contains_key(TRACE) {
        check_trace(&read(dir, TRACE)?)?;
    }
    for name in sizes.keys().filter(|name| name.starts_with(SCREENSHOTS)) {
        check_picture(name, &read(dir, name)?)?;
    }
    let large = (bytes > WARN_BUNDLE_BYTES)
        .then(|| format!("{bytes} bytes are much to keep with the source"));
    Ok(Valid {
        metadata,
        results,
        bytes,
        warnings: large.into_iter().collect(),
    })
}

/// The files of a bundle with their sizes, all of which it may have.
fn files(dir: &Path) -> Result<BTreeMap<String, u64>> {
    let mut sizes = BTreeMap::new();
    collect(dir, "", &mut sizes)?;
    Ok(sizes)
}

fn collect(dir: &Path, above: &str, sizes: &mut BTreeMap<String, u64>) -> Result<()> {
    let cannot_read = |error| Fault::io(format_args!("read {}", dir.display()), &error);
    for entry in fs::read_dir(dir).map_err(cannot_read)? {
        let entry = entry.map_err(cannot_read)?;
        let name = format!("{above}{}", entry.file_name().to_string_lossy());
        let metadata = entry.metadata().map_err(cannot_read)?;
        if metadata.is_dir() && name == SCREENSHOTS {
            collect(&entry.path(), "screenshots/", sizes)?;
        } else if metadata.is_file()
            && is_expected(&name)
            && sizes.len() < REQUIRED.len() + 1 + MAX_SCREENSHOTS
        {
            sizes.insert(name, metadata.len());
        } else {
            return Err(refused(
                "evidence_unexpected",
                format!("{name:?} is no part of a bundle"),
            ));
        }
    }
    Ok(())
}

fn is_expected(name: &str) -> bool {
    let is_picture = |name: &str| name.ends_with(".png") && name.len() > ".png".len();
    REQUIRED.contains(&name)
        || name == TRACE
        || name.strip_prefix("screenshots/").is_some_and(is_picture)
}

fn check_metadata(metadata: &Metadata, commits: Commits<'_>) -> Result<()> {
    if metadata.run_id.is_nil() {
        return Err(invalid(METADATA, "run_id is nobody's"));
    }
    for (member, text) in [
        ("spec", &metadata.spec),
        ("software_version", &metadata.software_version),
    ] {
        if text.trim().is_empty() {
            return Err(invalid(METADATA, format!("{member} is empty")));
        }
    }
    if metadata.ended_at < metadata.started_at {
        return Err(invalid(METADATA, "ended_at is before started_at"));
    }
    if metadata.machines.is_empty() {
        return Err(invalid(METADATA, "machines is empty"));
    }
    let commit: Commit = metadata.git_sha.parse().map_err(|fault: Fault| {
        let message = format!("{METADATA}: git_sha: {}", fault.message());
        Fault::new(Category::VerificationFailed, "no_commit", message)
            .hint(fault.hint_text().to_owned())
    })?;
    commits.check(&commit)
}

/// The word for all of it and the assertions say the same.
fn check_results(results: &Results) -> Result<()> {
    let failed = results.assertions.iter().find(|one| !one.pass);
    if let Some(unnamed) = results
        .assertions
        .iter()
        .position(|one| one.name.trim().is_empty())
    {
        return Err(invalid(
            RESULTS,
            format!("assertions[{unnamed}] has no name"),
        ));
    }
    match (results.overall, failed) {
        (_, None) if results.assertions.is_empty() => Err(invalid(
            RESULTS,
            "assertions is empty: nothing was looked at",
        )),
        (Overall::Pass, Some(failed)) => Err(invalid(
            RESULTS,
            format!("overall is pass, and {:?} did not", failed.name),
        )),
        (Overall::Fail | Overall::Partial, None) => Err(invalid(
            RESULTS,
            "overall is not pass, and every assertion is",
        )),
        _ => Ok(()),
    }
}

fn check_trace(bytes: &[u8]) -> Result<()> {
    let text = std::str::from_utf8(bytes).map_err(|_| invalid(TRACE, "not UTF-8"))?;
    for (line, number) in text.lines().zip(1..) {
        serde_json::from_str::<serde::de::IgnoredAny>(line)
            .map_err(|error| invalid(TRACE, format!("line {number}: {error}")))?;
    }
    Ok(())
}

fn check_picture(name: &str, bytes: &[u8]) -> Result<()> {
    match bytes.starts_with(&PNG) {
        true => Ok(()),
        false => Err(invalid(name, "not a PNG")),
    }
}

fn json<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<T> {
    let bytes = read(dir, name)?;
    let mut text = serde_json::Deserializer::from_slice(&bytes);
    let value =
        serde_path_to_error::deserialize(&mut text).map_err(|error| invalid(name, error))?;
    text.end().map_err(|error| invalid(name, error))?;
    Ok(value)
}

fn read(dir: &Path, name: &str) -> Result<Vec<u8>> {
    read_bounded(&dir.join(name), MAX_BUNDLE_BYTES)
}

fn invalid(file: &str, why: impl std::fmt::Display) -> Fault {
    refused("evidence_invalid", format!("{file}: {why}"))
}

fn too_large(bytes: u64) -> Fault {
    refused(
        "evidence_too_large",
        format!("{bytes} bytes, and {MAX_BUNDLE_BYTES} are the most"),
    )
    .hint("keep what is large elsewhere, and name it in index.md by its digest")
}

fn refused(code: &'static str, why: String) -> Fault {
    Fault::new(Category::VerificationFailed, code, why)
        .hint("a bundle has run.log, metadata.json, results.json and index.md, and may have trace.jsonl and screenshots/*.png")
}
