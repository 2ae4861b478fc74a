//! What earlier commands left behind.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::check::{Check, quoted, quoted_text};
use crate::clock::SystemClock;
use crate::environment::Environment;
use crate::job::{IssueKind, Jobs};
use crate::registry::Cache;

/// Where the gate counts calls unless it is told otherwise.
pub(super) const RATE_LIMIT_STATE: &str = ".gait-out/gate_rate_limits.json";
/// The age from which the gate takes another program's lock for a dead owner's.
const STALE_AFTER: SignedDuration = SignedDuration::from_secs(15);

pub(super) fn jobs(root: &Path) -> Check {
    let name = "job_runtime_durability";
    let issues = match Jobs::at(root, Arc::new(SystemClock)).diagnose() {
        Ok(issues) => issues,
        Err(fault) => return Check::fail(name, format!("jobs cannot be examined: {fault}")),
    };
    let Some(first) = issues.first() else {
        return Check::pass(name, "every job agrees with its log");
    };
    let message = format!("{} of {}: {}", issues.len(), root.display(), first.message);
    // A marker is settled by the next command on its job; anything else needs a person to look.
    if issues
        .iter()
        .all(|issue| issue.kind == IssueKind::PendingMutation)
    {
        let job = quoted_text(&first.job.to_string());
        return Check::warn(name, message).fix(format!(
            "gait job status --id {job} --root {}",
            quoted(root)
        ));
    }
    let job = quoted_text(&first.job.to_string());
    Check::fail(name, message).fix(format!(
        "gait job inspect --id {job} --root {}",
        quoted(root)
    ))
}

pub(super) fn registry_cache(environment: &dyn Environment) -> Check {
    let name = "registry_cache";
    let cache = match Cache::resolve("", environment) {
        Ok(cache) => cache,
        Err(fault) => {
            return Check::warn(name, format!("registry cache not found: {fault}"))
                .fix("export HOME=~");
        }
    };
    let root = cache.root();
    match fs::metadata(root) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Check::warn(name, "registry cache is not initialized")
                .fix(format!("mkdir -p {}", quoted(root)));
        }
        Err(error) => return Check::fail(name, format!("registry cache check failed: {error}")),
        Ok(found) if !found.is_dir() => {
            return Check::fail(name, "registry cache path is not a directory")
                .fix(format!("mv {0} {0}.old && mkdir -p {0}", quoted(root)));
        }
        Ok(_) => {}
    }
    packs(&cache)
}

fn packs(cache: &Cache) -> Check {
    let name = "registry_cache";
    let inspect = format!("gait registry list --cache-dir {}", quoted(cache.root()));
    let listing = match cache.list() {
        Ok(listing) => listing,
        Err(fault) => {
            return Check::fail(name, format!("registry cache check failed: {fault}")).fix(inspect);
        }
    };
    let pinned = listing
        .packs
        .iter()
        .filter(|pack| pack.pin_verified)
        .count();
    let broken = match cache.dangling_pins() {
        Ok(dangling) => dangling.len().saturating_add(listing.warnings.len()),
        Err(fault) => {
            return Check::fail(name, format!("registry pins unreadable: {fault}")).fix(inspect);
        }
    };
    match broken {
        0 => Check::pass(
            name,
            format!("registry cache healthy ({pinned} pinned packs)"),
        ),
        _ => Check::warn(
            name,
            format!("registry cache has {broken} inconsistent entries"),
        )
        .fix(inspect),
    }
}

pub(super) fn rate_limit_lock(lock: &Path, now: Timestamp) -> Check {
    let name = "gate_rate_limit_lock";
    let found = match fs::symlink_metadata(lock) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Check::pass(name, format!("no rate-limit lock at {}", lock.display()));
        }
        Err(error) => {
            return Check::warn(
                name,
                format!("unable to inspect {}: {error}", lock.display()),
            );
        }
        Ok(found) => found,
    };
    if !found.is_file() {
        return Check::fail(name, format!("{} is not a file", lock.display()))
            .fix(format!("rm -rf {}", quoted(lock)));
    }
    let changed = found
        .modified()
        .ok()
        .and_then(|at| Timestamp::try_from(at).ok())
        .unwrap_or(now);
    let age = now.duration_since(changed);
    if age > STALE_AFTER {
        let message = format!(
            "stale rate-limit lock {} ({} s old)",
            lock.display(),
            age.as_secs()
        );
        return Check::warn(name, message).fix(format!("rm -f {}", quoted(lock)));
    }
    Check::pass(
        name,
        format!("rate-limit lock {} is in use", lock.display()),
    )
}

pub(super) fn binary(environment: &dyn Environment) -> Check {
    let name = "onboarding_binary";
    let Ok(own) = std::env::current_exe() else {
        return Check::warn(name, "this program cannot tell where it is");
    };
    let ready = || {
        Check::pass(
            name,
            format!(
                "gait binary ready (path={} version={})",
                own.display(),
                crate::VERSION
            ),
        )
    };
    let install = format!(
        "mkdir -p ~/.local/bin && ln -sf {} ~/.local/bin/gait",
        quoted(&own)
    );
    match on_path(environment) {
        Some(first) if same(&first, &own) => ready(),
        Some(first) => Check::warn(
            name,
            format!("another gait comes first on PATH: {}", first.display()),
        )
        .fix(format!(
            "hash -r; command -v -a gait; rm -i {}",
            quoted(&first)
        )),
        None => Check::warn(
            name,
            format!("gait is not on PATH (this one: {})", own.display()),
        )
        .fix(install),
    }
}

fn on_path(environment: &dyn Environment) -> Option<PathBuf> {
    let path = environment.setting("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join("gait"))
        .find(|candidate| candidate.is_file())
}

fn same(left: &Path, right: &Path) -> bool {
    match (left.canonicalize(), right.canonicalize()) {
        (Ok(left), Ok(right)) => left == right,
        _ => false,
    }
}
