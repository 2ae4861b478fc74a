//! A new data key for a partition that has one.
//!
//! The new key and the manifest's root, sealed under it, are one transaction: from that version on the partition writes
//! under the new key. Records stay under the key they were written with until they are next written. A key that no
//! record and no chunk of the manifest needs any more is destroyed by the commit that made it so.

use std::sync::Arc;

use worldcompute_fault::{Category, Fault, Result};

use crate::PartitionVersion;
use crate::audit::{Audited, Draft, Operation};
use crate::keyring::{Kept, Keyring, MAX_DATA_KEYS};
use crate::manifest::{Header, Written};
use crate::partition::{Partition, Shared};
use crate::plan::{self, Open, Step};
use crate::row::Row;
use crate::table::{Action, When};

/// The rows of one rotation.
struct Rotation {
    keyring: Keyring,
    fresh: Row,
    /// The row of the key that is replaced, and the one that it replaces.
    replaced: Action,
    /// Holds while the epoch that both are wrapped under is the current one.
    same_epoch: Action,
}

impl Partition {
    /// Encrypts what is written from now on with a new data key; a version of the partition of its own. Commits do it
    /// by themselves after [`crate::StoreConfig::max_encryptions_per_key`] payloads. Sweeps what interrupted commits have
    /// left, however much that is. A partition without any commit keeps its key, and stays without one.
    ///
    /// # Errors
    /// `too_many_data_keys` while records are under 64 different ones; `state_contention`; `rotation_not_anchored` when it is
    /// done but could not be remembered outside of the table; those of [`Partition::load`].
    pub async fn rotate(&self) -> Result<PartitionVersion> {
        let metrics = &self.0.store.metrics;
        metrics.of("rotate", self.change_key()).await
    }

    async fn change_key(&self) -> Result<PartitionVersion> {
        let mut guard = self.0.open.lock().await;
        *guard = None;
        let open = self.0.read().await?.open;
        let open = match open.manifest.header.version {
            0 if open.strays.is_empty() => open,
            0 => Box::pin(self.0.swept(open)).await?,
            _ => self.0.rotated_and_swept(open).await?,
        };
        let version = PartitionVersion::new(open.manifest.header.version);
        *guard = Some(open);
        Ok(version)
    }
}

impl Shared {
    /// With a data key that may encrypt what `steps` write. One that may not does nevertheless when there can be no more
    /// keys: the partition would take no record any more, and each payload has a key of its own anyway.
    pub(crate) async fn with_room(&self, open: Open, steps: &[Step]) -> Result<Open> {
        let used = open
            .manifest
            .header
            .encryptions
            .saturating_add(self.spent());
        let total = used.saturating_add(plan::encryptions(steps));
        let is_full = open.keyring.next_version().is_none();
        if used == 0 || total <= self.store.limits.encryptions || is_full {
            return Ok(open);
        }
        self.rotated(open).await
    }

    async fn rotated_and_swept(&self, open: Open) -> Result<Open> {
        let mut open = self.rotated(open).await?;
        let strays = std::mem::take(&mut open.strays);
        open.strays = self.sweep(&self.scope.key.to_string(), strays).await;
        Ok(open)
    }

    /// With another active data key.
    async fn rotated(&self, mut open: Open) -> Result<Open> {
        let Rotation {
            keyring,
            fresh,
            replaced,
            same_epoch,
        } = self.rotation(&open.keyring).await?;
        let before = open.manifest.header;
        let keyring = Arc::new(keyring);
        let key = keyring.active().ok_or_else(plan::no_key)?;
        open.manifest.header.encryptions = 0;
        let now = self.store.sources.tick();
        let written = open.manifest.write(&self.scope, key, now, false);
        let mut actions = actions(before, written, fresh);
        actions.extend([replaced, same_epoch]);
        let (lane, pk) = (self.lane(), self.scope.key.to_string());
        let event = Draft::dek(Operation::Rotate, &self.scope.key, key.version);
        let rotated = self.store.audit.transact(lane, &pk, actions, vec![event]);
        let Audited::Done(mark) = rotated.await? else {
            self.store.learn_from_now_on().await?;
            return Err(self.contended());
        };
        self.spend(0);
        let advanced = self.advance(&open, mark).await;
        advanced.map_err(|fault| self.not_anchored(&open, "rotation_not_anchored", fault))?;
        Ok(Open { keyring, ..open })
    }

    async fn rotation(&self, keyring: &Keyring) -> Result<Rotation> {
        let (key, kept) = keyring.active_row().ok_or_else(plan::no_key)?;
        let version = keyring.next_version().ok_or_else(|| self.too_many_keys())?;
        let (wrapping, now) = (self.store.wrapping(), self.store.sources.tick());
        let fresh = wrapping.fresh(&self.scope, version, now).await?;
        let demoted = Kept {
            active: false,
            ..kept
        };
        let row = wrapping.again(&self.scope, key, demoted, now).await?;
        let mut keyring = keyring.clone();
        for row in [&row, &fresh] {
            let (key, kept) = wrapping.open_one(&self.scope, row).await?;
            keyring.add(key, kept);
        }
        let when = When::Sealed(kept.seal);
        Ok(Rotation {
            keyring,
            fresh,
            replaced: Action::Put { row, when },
            same_epoch: wrapping.same_epoch(),
        })
    }

    fn too_many_keys(&self) -> Fault {
        let message = format!(
            "records of {} are under {MAX_DATA_KEYS} data keys already",
            self.scope.key
        );
        Fault::new(Category::InvalidInput, "too_many_data_keys", message)
            .hint("write the oldest records again, then try again")
    }
}

/// The new root and the new key.
fn actions(Header { version, seal, .. }: Header, written: Written, fresh: Row) -> Vec<Action> {
    vec![
        Action::Put {
            row: written.root,
            when: When::Root { version, seal },
        },
        Action::Put {
            row: fresh,
            when: When::Absent,
        },
    ]
}
