//! Which file a run is in.

use std::path::{Path, PathBuf};

use worldcompute_fault::{Fault, Result};

use crate::environment::Environment;
use crate::limits::invalid;

/// The runpack that `reference` names: a path, or the id of a run in `./gait-out` or `~/.gait/runpacks`.
///
/// # Errors
/// `invalid_input` (reason `runpack_not_found`) when there is none.
pub fn locate(reference: &str, environment: &dyn Environment) -> Result<PathBuf> {
    if reference.is_empty() {
        return Err(invalid("missing run_id or path"));
    }
    if is_path(reference) {
        let path = PathBuf::from(reference);
        return match exists(&path) {
            true => Ok(path),
            false => Err(not_found(format!("runpack not found: {reference}"))),
        };
    }
    let name = format!("runpack_{reference}.zip");
    let home = environment.setting("HOME").map(PathBuf::from);
    let home = home.map(|home| home.join(".gait/runpacks"));
    [Some(PathBuf::from("gait-out")), home]
        .into_iter()
        .flatten()
        .map(|folder| folder.join(&name))
        .find(|path| exists(path))
        .ok_or_else(|| not_found(format!("runpack not found for run_id: {reference}")))
}

fn is_path(reference: &str) -> bool {
    reference.contains(['/', '\\']) || reference.to_ascii_lowercase().ends_with(".zip")
}

/// A file that cannot be looked at is there: opening it says what is wrong.
fn exists(path: &Path) -> bool {
    match path.metadata() {
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        Ok(metadata) => !metadata.is_dir(),
    }
}

fn not_found(message: String) -> Fault {
    invalid(message).because(
        "runpack_not_found",
        "give the path of a runpack, or the id of a run whose runpack is in ./gait-out",
    )
}
