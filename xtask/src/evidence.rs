//! Whether a folder is a bundle of evidence, by the one validator that there is.

use std::path::Path;

use worldcompute_evidence::{Commits, validate};

use crate::shell::{Failure, Result};

/// Judges the folder, its commit by the checkout in `root`.
pub fn run(root: &Path, dir: &Path) -> Result<()> {
    let valid = validate(dir, Commits::Of(root)).map_err(|fault| {
        Failure::new(format!(
            "not a bundle of evidence: {}: {} ({})\n  hint: {}",
            dir.display(),
            fault.message(),
            fault.code(),
            fault.hint_text()
        ))
    })?;
    for warning in &valid.warnings {
        eprintln!("warning: {}: {warning}", dir.display());
    }
    let results = &valid.results;
    let passed = results.assertions.iter().filter(|one| one.pass).count();
    println!(
        "ok: {}: {} of {}, {:?}, {passed} of {} assertions pass, {} bytes",
        dir.display(),
        valid.metadata.area,
        valid.metadata.git_sha,
        results.overall,
        results.assertions.len(),
        valid.bytes
    );
    Ok(())
}
