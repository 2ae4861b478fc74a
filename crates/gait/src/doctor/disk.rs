//! Directories.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use worldcompute_durable::{Mode, write_atomic};
use worldcompute_fault::{Fault, Result};

use super::check::{Check, quoted};
use crate::environment::Environment;

/// The file that tries a directory out.
const PROBE: &str = ".gait-doctor-writecheck";

pub(super) fn workdir(dir: &Path) -> Check {
    let name = "workdir";
    match fs::metadata(dir) {
        Err(error) => Check::fail(name, format!("workdir not accessible: {error}"))
            .fix(format!("mkdir -p {}", quoted(dir))),
        Ok(found) if !found.is_dir() => Check::fail(name, "workdir is not a directory")
            .fix(format!("mv {0} {0}.old && mkdir -p {0}", quoted(dir))),
        Ok(_) => match probe(dir) {
            Ok(()) => Check::pass(name, "workdir is writable"),
            Err(fault) => Check::fail(name, format!("workdir not writable: {fault}"))
                .fix(format!("chmod u+w {}", quoted(dir))),
        },
    }
}

pub(super) fn output_dir(dir: &Path) -> Check {
    let name = "output_dir";
    match fs::metadata(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Check::warn(name, "output directory does not exist")
                .fix(format!("mkdir -p {}", quoted(dir)))
        }
        Err(error) => Check::fail(name, format!("output directory check failed: {error}")),
        Ok(found) if !found.is_dir() => Check::fail(name, "output path is not a directory")
            .fix(format!("mv {0} {0}.old && mkdir -p {0}", quoted(dir))),
        Ok(_) => match probe(dir) {
            Ok(()) => Check::pass(name, "output directory is writable"),
            Err(fault) => Check::fail(name, format!("output directory not writable: {fault}"))
                .fix(format!("chmod u+w {}", quoted(dir))),
        },
    }
}

pub(super) fn temp_dir(environment: &dyn Environment) -> Check {
    let name = "temp_dir";
    let dir = PathBuf::from(
        environment
            .setting("TMPDIR")
            .unwrap_or_else(|| "/tmp".to_owned()),
    );
    match probe(&dir) {
        Ok(()) => Check::pass(name, "temporary directory is writable"),
        Err(fault) => Check::fail(
            name,
            format!("temporary directory is not writable: {fault}"),
        )
        .fix(format!("mkdir -p {0} && chmod u+w {0}", quoted(&dir))),
    }
}

/// Writes a file the way every artefact is written, and removes it.
fn probe(dir: &Path) -> Result<()> {
    let path = dir.join(format!("{PROBE}-{}", std::process::id()));
    write_atomic(&path, b"ok", Mode::Private)?;
    fs::remove_file(&path)
        .map_err(|error| Fault::io(format_args!("remove {}", path.display()), &error))
}
