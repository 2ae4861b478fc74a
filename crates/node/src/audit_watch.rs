//! The daily look at the record of the store's keys: whether it is what was written, and a signed statement of how far it
//! has come, for keeping elsewhere. Once something was found, it is looked for at every look, also of the next process; and
//! once an hour when it was found twice, for as long as it is there.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use blue_encrypted_store::{AuditCheckpoint, ChainReport, Store};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use worldcompute_durable::{Disk, Mode, OsDisk, read_private, write_atomic};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::dsse::Envelope;
use worldcompute_proof::{SigningKey, canonical_json};

use crate::blocking::blocking;

/// How often the whole record is verified.
const CHECK_EVERY: SignedDuration = SignedDuration::from_hours(24);
/// How often it is verified while the same is found again and again: it takes as long as the record is.
const CHECK_AGAIN_EVERY: SignedDuration = SignedDuration::from_hours(1);
/// How often it is asked whether that is due: a machine may have slept, or its clock may have been set.
const LOOK_EVERY: Duration = Duration::from_secs(10 * 60);
/// What a signed checkpoint is called in its envelope.
const PAYLOAD_TYPE: &str = "application/vnd.worldcompute.store-audit+json";
/// The largest checkpoint file that is read, in bytes.
const MAX_CHECKPOINT_BYTES: u64 = 64 << 10;
/// The code of the alert.
const BROKEN: &str = "store_audit_broken";

/// Looks after the audit of a node's store.
pub struct AuditWatch {
    store: Store,
    key: SigningKey,
    /// Where the latest checkpoint is, signed by this node.
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    checked: Option<Timestamp>,
    broken: Option<String>,
    /// Whether the check before had found the same.
    is_known: bool,
}

impl AuditWatch {
    /// Of `store`, whose checkpoints are signed with `key` and kept at `path`.
    pub fn new(store: Store, key: SigningKey, path: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            store,
            key,
            path,
            state: Mutex::default(),
        })
    }

    /// What was wrong when the audit was last verified.
    pub fn broken(&self) -> Option<String> {
        self.state().broken.clone()
    }

    /// Verifies the audit once a day until the node ends.
    pub async fn keep_looking(self: Arc<Self>, stop: CancellationToken) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = look.tick() => self.look(Timestamp::now()).await,
            }
        }
    }

    /// Writes what the audit still holds back, before the node ends.
    ///
    /// # Errors
    /// As [`Store::close`].
    pub async fn close(&self) -> Result<()> {
        self.store.clone().close().await
    }

    /// Verifies the audit if that is due at `now`; what could not be verified is tried again at the next look.
    async fn look(&self, now: Timestamp) {
        let kept = self.kept().await;
        let (checked, is_known) = {
            let state = self.state();
            (state.checked, state.is_known)
        };
        let last = checked.or_else(|| Some(kept.as_ref().ok()?.as_ref()?.created_at));
        let is_due = match (self.is_alarmed(), is_known) {
            (false, _) => is_due(last, now, CHECK_EVERY),
            (true, true) => is_due(last, now, CHECK_AGAIN_EVERY),
            (true, false) => true,
        };
        if !is_due {
            return;
        }
        match self.check(kept).await {
            Ok(broken) => self.conclude(now, broken).await,
            Err(fault) => tracing::error!(
                code = fault.code(),
                reason = fault.message(),
                "the store's audit could not be verified"
            ),
        }
    }

    /// What is wrong with the audit, against the last checkpoint and in itself. When nothing is, the next checkpoint is
    /// written.
    async fn check(&self, kept: Result<Option<AuditCheckpoint>>) -> Result<Option<String>> {
        let kept = match kept {
            Err(fault) if fault.category() == Category::VerificationFailed => {
                return Ok(Some(fault.message().to_owned()));
            }
            kept => kept?,
        };
        // A checkpoint of a store that was here before says nothing about this one.
        if let Some(kept) = kept.filter(|kept| kept.store == self.store.id()) {
            match self.store.verify_checkpoint(&kept).await {
                Err(fault) if fault.category() == Category::VerificationFailed => {
                    return Ok(Some(fault.message().to_owned()));
                }
                report => {
                    if let Some(broken) = in_words(&report?) {
                        return Ok(Some(broken));
                    }
                }
            }
        }
        if let Some(broken) = in_words(&self.store.verify_chain().await?) {
            return Ok(Some(broken));
        }
        self.keep(&self.store.audit_checkpoint().await?).await?;
        Ok(None)
    }

    async fn conclude(&self, now: Timestamp, broken: Option<String>) {
        if let Err(fault) = self.remember(broken.clone()).await {
            tracing::error!(
                code = fault.code(),
                reason = fault.message(),
                "what was found of the store's audit could not be remembered"
            );
        }
        match &broken {
            Some(reason) => tracing::error!(
                code = BROKEN,
                reason,
                "the store's audit is not what was written"
            ),
            None => tracing::info!("the store's audit is whole"),
        }
        let mut state = self.state();
        *state = State {
            checked: Some(now),
            is_known: broken.is_some() && broken == state.broken,
            broken,
        };
    }

    /// Whether the last check found something, in this process or in one before it.
    fn is_alarmed(&self) -> bool {
        self.state().broken.is_some() || self.alarm().exists()
    }

    /// What makes the next look due, whoever takes it.
    fn alarm(&self) -> PathBuf {
        self.path.with_extension("broken")
    }

    async fn remember(&self, broken: Option<String>) -> Result<()> {
        let alarm = self.alarm();
        blocking(move || match broken {
            Some(reason) => write_atomic(&alarm, reason.as_bytes(), Mode::Private),
            None if alarm.exists() => OsDisk
                .remove(&alarm)
                .map_err(|error| Fault::io(format_args!("remove {}", alarm.display()), &error)),
            None => Ok(()),
        })
        .await
    }

    async fn keep(&self, checkpoint: &AuditCheckpoint) -> Result<()> {
        let payload = canonical_json(checkpoint)?;
        let bytes = Envelope::sign(PAYLOAD_TYPE, payload, &self.key).to_bytes()?;
        let path = self.path.clone();
        blocking(move || write_atomic(&path, &bytes, Mode::Private)).await
    }

    /// The last checkpoint, if there is one; it is this node's.
    async fn kept(&self) -> Result<Option<AuditCheckpoint>> {
        let path = self.path.clone();
        let bytes = match blocking(move || read_private(&path, MAX_CHECKPOINT_BYTES)).await {
            Err(fault) if fault.code() == "not_found" => return Ok(None),
            bytes => bytes?,
        };
        let read = || {
            let envelope = Envelope::from_bytes(&bytes).ok()?;
            envelope.verify(&self.key.verifying_key()).ok()?;
            serde_json::from_slice(&envelope.payload).ok()
        };
        read().map(Some).ok_or_else(|| {
            let message = format!("{} is not a checkpoint of this node", self.path.display());
            Fault::new(Category::VerificationFailed, BROKEN, message)
                .hint("restore the file from a backup, or move it away and keep it as evidence")
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A clock that was set back makes a check due, lest it is put off for ever.
fn is_due(last: Option<Timestamp>, now: Timestamp, every: SignedDuration) -> bool {
    last.is_none_or(|last| last > now || now.duration_since(last) >= every)
}

fn in_words(report: &ChainReport) -> Option<String> {
    let (lane, broken) = report.first_break()?;
    Some(format!("lane {lane}: {broken}"))
}

#[cfg(test)]
mod tests;
