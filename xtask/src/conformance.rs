//! The conformance cases of the gate, against the program as it is.

use std::path::Path;
use std::process::Command;

use crate::shell::{Failure, Result, forget_cargo};

/// With the features of the whole workspace, so that nothing is compiled for it a second time.
const TEST: [&str; 6] = [
    "test",
    "--workspace",
    "--test",
    "cases",
    "--",
    "--nocapture",
];

/// Runs the cases in or beside the checkout, if they are there.
pub fn run_beside(root: &Path) -> Result<()> {
    let places = ["shared/cases/gait", "../shared/cases/gait"].map(|place| root.join(place));
    match places.iter().find(|place| place.is_dir()) {
        Some(folder) => run(root, folder),
        None => {
            println!("skipped: no folder shared/cases/gait in or beside the checkout");
            Ok(())
        }
    }
}

/// Runs the cases in `folder` and prints the tally per family.
pub fn run(root: &Path, folder: &Path) -> Result<()> {
    let folder = std::path::absolute(folder)
        .ok()
        .filter(|folder| folder.join("index.tsv").is_file())
        .ok_or_else(|| Failure::new(format!("{} holds no index.tsv", folder.display())))?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    forget_cargo(&mut command);
    let status = command
        .args(TEST)
        .current_dir(root)
        .env("GAIT_CASES", folder)
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::new(format!("the cases do not hold: {status}"))),
        Err(error) => Err(Failure::new(format!("cannot run cargo: {error}"))),
    }
}
