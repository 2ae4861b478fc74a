//! Files that the gate hands out: tokens, audits, evidence, traces. Mode 0600, whole or not there.

use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};

use worldcompute_durable::{Mode, Pending, create_new, output_dir, write_atomic};
use worldcompute_fault::{Fault, Result};

use crate::limits::invalid;

/// Writes an artefact, in a directory that is made if it is missing.
///
/// Errors: `invalid_input` for a relative path that climbs (`..`), and those of writing.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    prepare(path)?;
    write_atomic(path, bytes, Mode::Private)
}

/// [`write`], unless there is something already: then `already_exists`.
pub fn create(path: &Path, bytes: &[u8]) -> Result<()> {
    prepare(path)?;
    create_new(path, bytes, Mode::Private)
}

/// Whether both paths name one file, by what is on the disk or, where nothing is, by their spelling.
pub fn is_same(one: &Path, other: &Path) -> bool {
    match (one.metadata(), other.metadata()) {
        (Ok(one), Ok(other)) => {
            one.is_file() && (one.dev(), one.ino()) == (other.dev(), other.ino())
        }
        (Err(_), Err(_)) => match (std::path::absolute(one), std::path::absolute(other)) {
            (Ok(one), Ok(other)) => one == other,
            _ => one == other,
        },
        _ => false,
    }
}

/// The refusal of an output that would take the place of an input or of another output.
pub fn clash(output: &str, other: &str, path: &str) -> Fault {
    invalid(format!("{output} and {other} name the same file: {path}"))
        .because("output_clash", "give every output a path of its own")
}

/// Takes the place of an artefact before its content is known; errors are those of [`write`].
pub(crate) fn reserve(path: &Path) -> Result<Pending> {
    prepare(path)?;
    Pending::reserve(path)
}

/// Makes the directory of an artefact that is written piece by piece.
///
/// Errors: as [`write`].
pub fn prepare(path: &Path) -> Result<()> {
    let climbs = path.components().any(|part| part == Component::ParentDir);
    if path.is_relative() && climbs {
        let message = format!(
            "relative output path must not traverse parent directories: {}",
            path.display()
        );
        return Err(invalid(message).because(
            "output_path_climbs",
            "give an absolute path, or one below the working directory",
        ));
    }
    path.parent().map_or(Ok(()), output_dir)
}
