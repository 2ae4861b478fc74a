//! Tells the program of which commit it is built.

use std::path::Path;
use std::process::Command;

/// Names the commit where there is no checkout, as in a package of sources.
const GIVEN: &str = "GIT_COMMIT_HASH";

fn main() {
    println!("cargo:rerun-if-env-changed={GIVEN}");
    println!("cargo:rerun-if-changed=build.rs");
    let given = std::env::var(GIVEN)
        .ok()
        .filter(|commit| !commit.is_empty());
    if let Some(commit) = given.or_else(of_checkout) {
        println!("cargo:rustc-env=WORLDCOMPUTE_COMMIT={commit}");
    }
}

/// The commit that is checked out; whenever that changes, this is asked again.
fn of_checkout() -> Option<String> {
    let head = git(&["rev-parse", "HEAD"])?;
    let reference = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "packed-refs"]
        .into_iter()
        .chain(reference.as_deref())
    {
        if let Some(file) =
            git(&["rev-parse", "--git-path", name]).filter(|file| Path::new(file).exists())
        {
            println!("cargo:rerun-if-changed={file}");
        }
    }
    Some(head)
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let is_told = output.status.success() && !text.trim().is_empty();
    is_told.then(|| text.trim().to_owned())
}
