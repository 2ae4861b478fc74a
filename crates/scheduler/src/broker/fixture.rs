//! What the tests of the broker share: manifests, donors, and receipts that nobody signed.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use worldcompute_ledger::receipt::Status;
use worldcompute_proof::{Cid, PeerId, SigningKey};

use super::{Capacity, Classes, Execution, Now};
use crate::manifest::{Manifest, VerifiedManifest};
use crate::{JobId, LeaseId};

/// The moment `seconds` after the start.
pub(super) fn at(seconds: f64) -> Now {
    let since = Duration::from_secs_f64(seconds);
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    Now {
        monotonic: since,
        wall: start + SignedDuration::try_from(since).unwrap(),
    }
}

pub(super) fn submitter() -> SigningKey {
    SigningKey::from_seed([1; 32])
}

pub(super) fn peer(number: u8) -> PeerId {
    SigningKey::from_seed([number.wrapping_add(100); 32]).peer_id()
}

pub(super) fn job_id(number: u64) -> JobId {
    JobId::from_parts(1_700_000_000_000 + number, number.into())
}

/// A job of `tasks` tasks, with more lines under `spec`.
pub(super) fn manifest(number: u64, tasks: u32, more: &[&str]) -> Arc<VerifiedManifest> {
    let module = format!("wasm: cid:{}", Cid::raw(b"module"));
    manifest_of(&module, number, tasks, more)
}

/// A job of one task that runs an image.
pub(super) fn image_manifest(number: u64) -> Arc<VerifiedManifest> {
    let image = format!("image: oci+cid:{}", Cid::raw(b"image"));
    manifest_of(&image, number, 1, &[])
}

fn manifest_of(workload: &str, number: u64, tasks: u32, more: &[&str]) -> Arc<VerifiedManifest> {
    let more: String = more.iter().map(|line| format!("  {line}\n")).collect();
    let document = format!(
        "apiVersion: worldcompute/v1\nkind: Job\nmetadata: {{name: test}}\nspec:\n  {workload}\n  array: {{count: {tasks}}}\n{more}"
    );
    let manifest = Manifest::parse(document.as_bytes())
        .unwrap()
        .resolve(|file| Ok(Cid::raw(file)))
        .unwrap();
    Arc::new(manifest.sign_as(job_id(number), &submitter()).unwrap())
}

/// A donor of `slots` slots that takes anything.
pub(super) fn capacity(slots: u32) -> Capacity {
    Capacity {
        slots,
        cpu_millicores: 8_000,
        memory_bytes: 64 << 30,
        load_permille: 0,
        classes: Classes::of(crate::manifest::CLASSES),
        paused: false,
        images: true,
    }
}

/// A number that no other lease of a job has.
fn exit_of(lease: LeaseId) -> u64 {
    u64::from(lease.task.index) << 32 | u64::from(lease.attempt)
}

/// A receipt as [`Execution::verify`] would have let it through.
pub(super) fn execution(lease: LeaseId, executor: PeerId, status: Status) -> Execution {
    let error = (status != Status::Succeeded).then(|| "it went wrong".to_owned());
    Execution {
        lease,
        executor,
        status,
        error,
        exit: exit_of(lease),
        receipt: format!("{lease} by {executor}").into_bytes(),
    }
}
