//! What several targets need: files for readers of files, and archives that get past their own checksums.

use std::fs;
use std::path::{Path, PathBuf};

use gait::{Clock, archive};
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use worldcompute_durable::{Mode, write_atomic};
use worldcompute_proof::{Sha256, canonical_json};

/// When everything happens: 2026-02-05T00:00:00Z.
pub const NOW: Timestamp = Timestamp::constant(1_770_249_600, 0);

/// The clock that stands at [`NOW`].
pub struct Then;

impl Clock for Then {
    fn now(&self) -> Timestamp {
        NOW
    }
}

thread_local! {
    /// A folder of this thread: tests run several targets at a time.
    static FOLDER: TempDir = TempDir::new().expect("a folder for temporary files");
}

/// Where the file `name` of this thread is.
pub fn path(name: &str) -> PathBuf {
    FOLDER.with(|folder| folder.path().join(name))
}

/// Puts `bytes` there.
#[expect(
    clippy::disallowed_methods,
    reason = "nobody needs this file after a crash"
)]
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = path(name);
    fs::write(&path, bytes).expect("room for a file");
    path
}

/// Puts `bytes` at `path`, for readers of what is closed to everybody else.
pub fn private_file(path: &Path, bytes: &[u8]) {
    write_atomic(path, bytes, Mode::Private).expect("room for a file");
}

/// The parts of `bytes` between NULs, as many as asked for; those that are not there are empty.
pub fn parts<const N: usize>(bytes: &[u8]) -> [&[u8]; N] {
    let mut parts = bytes.splitn(N, |byte| *byte == 0);
    [(); N].map(|()| parts.next().unwrap_or_default())
}

/// A runpack of these entries under a manifest that fits them.
pub fn runpack(name: &str, entries: [(&str, &[u8]); 4]) -> PathBuf {
    let path = path(name);
    let manifest = manifest(&entries);
    let mut entries = Vec::from(entries);
    entries.push(("manifest.json", &manifest));
    entries.sort_unstable();
    let written = archive::write(&path, |writer| {
        entries
            .iter()
            .try_for_each(|(name, bytes)| writer.add(name, *bytes).map(drop))
    });
    written.expect("an archive of small entries");
    path
}

fn manifest(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let files: Vec<Value> = entries
        .iter()
        .map(|(name, bytes)| json!({"path": name, "sha256": Sha256::of(bytes)}))
        .collect();
    let mut manifest = json!({
        "capture_mode": "raw", "created_at": "2026-02-14T00:00:00Z", "files": files, "manifest_digest": "",
        "producer_version": "0.0.0-dev", "run_id": "run_made", "schema_id": "gait.runpack.manifest",
        "schema_version": "1.0.0",
    });
    let digest = Sha256::of(canonical_json(&manifest).expect("plain JSON"));
    manifest["manifest_digest"] = digest.to_string().into();
    canonical_json(&manifest).expect("plain JSON")
}
