//! A checkout of the gate's own sources.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::check::Check;

/// Where the hooks of a checkout are.
const HOOKS: &str = ".githooks";
/// What a checkout has to run its hooks and its examples.
const ASSETS: [&str; 2] = ["crates/gait/Cargo.toml", "README.md"];

/// How the gate is used here.
pub(super) fn mode(workdir: &Path) -> &'static str {
    match is_checkout(workdir) {
        true => "repo_checkout",
        false => "installed_binary",
    }
}

pub(super) fn checks(workdir: &Path) -> Vec<Check> {
    if !is_checkout(workdir) {
        return Vec::new();
    }
    let schemas = workdir
        .join("schemas")
        .is_dir()
        .then(|| schema_files(workdir));
    let mut checks: Vec<Check> = schemas.into_iter().collect();
    checks.push(hooks_path(workdir));
    checks.push(assets(workdir));
    checks
}

fn is_checkout(workdir: &Path) -> bool {
    workdir.join(".git").exists() && workdir.join("crates/gait").is_dir()
}

/// A checkout that carries the schemas must carry all of them: nothing but the repository can bring them back.
fn schema_files(workdir: &Path) -> Check {
    let name = "schema_files";
    let families = [
        "gate", "guard", "pack", "regress", "registry", "runpack", "scout",
    ];
    let missing: Vec<&str> = families
        .into_iter()
        .filter(|family| !has_schema(&workdir.join("schemas/v1").join(family)))
        .collect();
    match missing.is_empty() {
        true => Check::pass(name, "required schema files are present"),
        false => Check::fail(
            name,
            format!("missing required schema files: {}", missing.join(",")),
        )
        .beyond_repair(),
    }
}

fn has_schema(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .ends_with(".schema.json")
        })
    })
}

fn hooks_path(workdir: &Path) -> Check {
    let name = "hooks_path";
    let asked = Command::new("git")
        .arg("-C")
        .arg(workdir)
        .args(["config", "--get", "core.hooksPath"])
        .output();
    let Ok(answer) = asked else {
        return Check::warn(name, "git is not available; cannot verify core.hooksPath")
            .fix("make hooks");
    };
    match String::from_utf8_lossy(&answer.stdout).trim() {
        HOOKS => Check::pass(name, "git hooks path is configured"),
        "" => Check::warn(name, "git core.hooksPath is not configured").fix("make hooks"),
        other => Check::warn(
            name,
            format!("git core.hooksPath is {other:?} (expected {HOOKS})"),
        )
        .fix("make hooks"),
    }
}

fn assets(workdir: &Path) -> Check {
    let name = "onboarding_assets";
    let missing: Vec<&str> = ASSETS
        .into_iter()
        .filter(|asset| !workdir.join(asset).is_file())
        .collect();
    match missing.is_empty() {
        true => Check::pass(name, "onboarding assets are present"),
        false => Check::warn(
            name,
            format!("missing onboarding assets: {}", missing.join(",")),
        )
        .fix(format!(
            "git restore --source=HEAD -- {}",
            missing.join(" ")
        )),
    }
}
