//! Where a job runs, in one word.

use worldcompute_proof::Sha256;

/// A name for this environment, or `chosen` when that is not blank: `envfp:` and a digest of operating system,
/// architecture and shell.
///
/// Other implementations of the format mix their own language's version in, so that a job moves between
/// implementations only with a chosen fingerprint.
pub fn environment_fingerprint(chosen: &str, shell: &str) -> String {
    if !chosen.trim().is_empty() {
        return chosen.trim().to_owned();
    }
    let parts = [
        format!("arch={}", std::env::consts::ARCH),
        format!("os={}", std::env::consts::OS),
        format!("shell={}", shell.trim()),
    ];
    format!("envfp:{}", Sha256::of(parts.join("|")))
}
