//! Epochs of the key that wraps data keys: a new one, its way to every partition, and the end of the old ones.
//!
//! The store's own row says which epoch is current and which is the oldest that counts. A data key is wrapped anew when its
//! partition is next written, or by [`Store::retire_keks`], which does it for all and then raises the floor. Whatever
//! writes a wrapped key does so on the condition that the store's row is still the one by which it was wrapped: who has
//! missed an epoch cannot leave a key behind under one that has been retired.

use std::collections::BTreeSet;
use std::sync::Arc;

use worldcompute_fault::{Category, Fault, Result};

use crate::anchor::{Identity, Mark};
use crate::audit::{Audited, Draft, Lane, Operation};
use crate::check::Check;
use crate::identity::{MAX_EPOCHS, STORE, StoreRow};
use crate::keyring::{Epochs, Wrapping};
use crate::manifest::{SealPrefix, prefix};
use crate::partition::{MAX_SWEPT_KEYS, Partition, Shared};
use crate::plan::{MAX_FLIP_ACTIONS, Open, Stray};
use crate::reader::Stand;
use crate::row::Row;
use crate::store::Inner;
use crate::table::{Action, When};
use crate::task::blocking;
use crate::verify::history::History;
use crate::{Kind, MAX_VERIFIED_PARTITIONS, META, Store};

/// How often the keys of a partition are wrapped anew when somebody else writes it meanwhile.
const MAX_ATTEMPTS: u32 = 8;

impl Store {
    /// Begins the next epoch of the key that wraps data keys, and says its number. Reads and writes go on meanwhile.
    ///
    /// # Errors
    /// `too_many_key_epochs` while 16 are in use; `state_contention` when somebody else has begun one;
    /// `key_provider_unsound` when the provider gives the key of another epoch for the new one; those of the key provider and
    /// of [`Store::open`].
    pub async fn rotate_kek(&self) -> Result<u64> {
        let begun = Box::pin(self.begin_epoch()).await;
        begun.inspect_err(|fault| self.0.metrics.failed(fault))
    }

    async fn begin_epoch(&self) -> Result<u64> {
        let row = self.0.refresh().await?;
        let Epochs { current, floor } = row.epochs;
        let next = current.saturating_add(1);
        if next.saturating_sub(floor) >= MAX_EPOCHS {
            return Err(too_many());
        }
        let epochs = Epochs {
            current: next,
            floor,
        };
        let event = Draft::kek(Operation::Rotate, next);
        self.0.write_row(&row, epochs, event).await?;
        Ok(next)
    }

    /// Wraps the data keys of all partitions under the current epoch, then has older epochs refused for ever. Says how many
    /// keys it has wrapped anew. What breaks off is taken up again by the next call.
    ///
    /// Every partition is loaded and compared with the audit before its keys are wrapped. Other processes refuse the old
    /// epochs as soon as they read the store's row again, at the latest after [`crate::KeyLifetime::max_age`]; a machine that
    /// has never seen the new row knows it from [`crate::StoreConfig::min_key_epoch`] alone. **Backups of the table from
    /// before cannot be read any more once they are put back.** Copies of old records beside today's rows of keys can:
    /// data keys stay the same until they are rotated.
    ///
    /// # Errors
    /// Those of [`Partition::load`], for the first partition whose keys are not to be had; `state_contention`;
    /// `audit_chain_broken` when any event of the audit is not what was written, however old: nothing then says which
    /// partitions there are and how far they have come. Events cannot be mended; export the partitions, import them into a
    /// new store and discard this one, and its epochs end with its master key.
    ///
    /// `too_many_kinds` when somebody filled the table with partitions of more kinds than there can be.
    pub async fn retire_keks(&self) -> Result<usize> {
        let retired = Box::pin(self.end_epochs()).await;
        retired.inspect_err(|fault| self.0.metrics.failed(fault))
    }

    async fn end_epochs(&self) -> Result<usize> {
        let row = self.0.refresh().await?;
        let current = row.epochs.current;
        if row.epochs.floor == current {
            return Ok(0);
        }
        let wrapped = self.wrap_all_anew().await?;
        let epochs = Epochs {
            current,
            floor: current,
        };
        let retired = current.saturating_sub(row.epochs.floor);
        let last = Draft::kek(Operation::Erase, current.saturating_sub(1));
        let event = last.times(usize::try_from(retired).unwrap_or(usize::MAX));
        self.0.write_row(&row, epochs, event).await?;
        Ok(wrapped)
    }

    /// Does what can be done before it tells what cannot.
    async fn wrap_all_anew(&self) -> Result<usize> {
        let (history, audit) = History::read(self).await?;
        audit.check()?;
        let mut ours: BTreeSet<_> = self.0.anchor.names().into_iter().collect();
        ours.extend(history.names().cloned());
        let found = self.0.table.partitions(MAX_VERIFIED_PARTITIONS).await?;
        let others = found.iter().filter(|pk| !ours.contains(*pk));
        let (mut wrapped, mut failed) = (0_usize, None);
        for pk in ours.iter().chain(others) {
            match self.wrap_one_anew(pk, &history).await {
                Ok(anew) => wrapped = wrapped.saturating_add(anew),
                Err(fault) if fault.retryable() => return Err(fault),
                // Whoever can write the table can leave anything there; it holds nothing that was ever committed.
                Err(_) if !ours.contains(pk) => {}
                Err(fault) => drop(failed.get_or_insert(fault)),
            }
        }
        failed.map_or(Ok(wrapped), Err)
    }

    async fn wrap_one_anew(&self, pk: &str, history: &History) -> Result<usize> {
        let key = self.0.kinds.partition(pk)?;
        match key.kind == Kind::AUDIT {
            true => Ok(0),
            false => self.handle(key).wrap_anew(history).await,
        }
    }
}

impl Partition {
    /// Wraps its data keys anew that are under an older epoch; says how many these were. Only those of what is there and
    /// verifies: keys of a partition that has ended, and keys that nothing needs, were put back, and are deleted again.
    async fn wrap_anew(&self, history: &History) -> Result<usize> {
        for attempt in 0..MAX_ATTEMPTS {
            if attempt > 0 {
                self.0.store.sources.pause(attempt).await?;
            }
            match self.0.wrap_anew(history).await {
                Err(fault) if fault.code() == "partition_erased" => {
                    return self.erase_again().await.map(|()| 0);
                }
                Err(fault) if fault.category() == Category::StateContention => {}
                done => return done,
            }
        }
        Err(self.0.contended())
    }
}

impl Shared {
    async fn wrap_anew(&self, history: &History) -> Result<usize> {
        let mut guard = self.open.lock().await;
        *guard = None;
        let pk = self.scope.key.to_string();
        let open = self.read().await?.open;
        let stand = Stand::At(open.manifest.header.version);
        if history.contradiction(&self.scope.key, stand).is_some() {
            let why = "the audit tells of versions that are not there";
            return Err(Check::VersionFloor.failed(&self.scope.key, why));
        }
        self.destroy_unneeded(&pk, &open).await?;
        let before = self.store.wrapping().count_outdated(&open.keyring);
        self.up_to_date(open).await?;
        Ok(before)
    }

    /// Deletes the data keys that nothing needs: what is left would outlive its epoch, and lock the partition. Before them
    /// the rows that no manifest lists, which nobody could tell from a stranger's once their key has gone.
    async fn destroy_unneeded(&self, pk: &str, open: &Open) -> Result<()> {
        let (keys, rows) = Stray::keys_apart(open.strays.clone());
        if keys.is_empty() {
            return Ok(());
        }
        let rows = rows.chunks(MAX_FLIP_ACTIONS);
        for part in rows.chain(keys.chunks(MAX_SWEPT_KEYS)) {
            if self.delete(pk, part).await? == Audited::Refused {
                return Err(self.contended());
            }
        }
        Ok(())
    }

    /// With all data keys wrapped under the current epoch.
    pub(crate) async fn up_to_date(&self, open: Open) -> Result<Open> {
        let wrapping = self.store.wrapping();
        let tick = self.store.sources.tick();
        let outdated = wrapping.outdated(&self.scope, &open.keyring, tick).await?;
        if outdated.is_empty() {
            return Ok(open);
        }
        let mut keyring = (*open.keyring).clone();
        for (_, row) in &outdated {
            let (key, kept) = wrapping.open_one(&self.scope, row).await?;
            keyring.replace(key, kept);
        }
        let same_epoch = vec![wrapping.same_epoch()];
        match self.put_keys(outdated, same_epoch).await? {
            true => Ok(Open {
                keyring: Arc::new(keyring),
                ..open
            }),
            false => Err(self.contended()),
        }
    }

    /// Writes rows over those with these seals, and with them on record that these keys were wrapped; whether they were
    /// there still, and what is checked held.
    pub(crate) async fn put_keys(
        &self,
        rows: Vec<(SealPrefix, Row)>,
        checks: Vec<Action>,
    ) -> Result<bool> {
        let mut actions = checks;
        actions.extend(rows.into_iter().map(|(seal, row)| Action::Put {
            row,
            when: When::Sealed(seal),
        }));
        let (lane, pk) = (self.lane(), self.scope.key.to_string());
        let put = self.store.audit.transact(lane, &pk, actions, Vec::new());
        let Audited::Done(mark) = put.await? else {
            self.store.learn_from_now_on().await?;
            return Ok(false);
        };
        self.store.reach(lane, mark).await?;
        Ok(true)
    }
}

impl Wrapping<'_> {
    /// Holds while the store's row is the one that says under which epochs keys are wrapped. It is of the moment at which
    /// they were wrapped: this process may have learned of a later row since.
    pub(crate) fn same_epoch(&self) -> Action {
        Action::Check {
            pk: STORE.to_owned(),
            sk: META.to_owned(),
            when: When::Sealed(self.row),
        }
    }
}

impl Inner {
    /// Reads the store's row again.
    pub(crate) async fn refresh(&self) -> Result<StoreRow> {
        // Before it is read: others may learn of a later one meanwhile.
        let known = self.row();
        let Some(row) = self.table.get(STORE, META).await? else {
            let why = "the row that says which store this is has gone";
            return Err(Check::Manifest.failed(STORE, why));
        };
        let found = StoreRow::parse(&row)?;
        found.check_epochs(known.epochs)?;
        let epoch = found.epochs.current;
        if epoch == known.epochs.current {
            found.check_seal(&row, &*self.keks.get(epoch).await?)?;
        } else {
            // Who can write the table can name any epoch: what it derives is kept only once the row holds.
            let kek = self.keks.derive_new(epoch).await?;
            found.check_seal(&row, &kek)?;
            self.keks.keep(epoch, kek)?;
        }
        if found.epochs != known.epochs {
            self.remember(&found).await?;
        }
        self.set_row(found.clone());
        Ok(found)
    }

    /// Replaces the store's row by one with these epochs, which `event` records.
    async fn write_row(&self, old: &StoreRow, epochs: Epochs, event: Draft) -> Result<()> {
        let kek = self.keks.derive_new(epochs.current).await?;
        let row = old.at(epochs).row(&kek)?;
        let new = StoreRow::parse(&row)?;
        let put = Action::Put {
            row,
            when: When::Sealed(prefix(&old.seal)),
        };
        let written = self
            .audit
            .transact(Lane::STORE, STORE, vec![put], vec![event])
            .await?;
        let Audited::Done(mark) = written else {
            let message = "the store's row was changed by somebody else";
            return Err(
                Fault::new(Category::StateContention, "state_contention", message)
                    .hint("try again"),
            );
        };
        self.reach(Lane::STORE, mark).await?;
        self.keks.keep(epochs.current, kek)?;
        self.remember(&new).await?;
        self.set_row(new);
        Ok(())
    }

    /// Remembers how far a lane of the audit has come.
    pub(crate) async fn reach(&self, lane: Lane, mark: Option<Mark>) -> Result<()> {
        let marks = mark.map(|mark| (lane.pk(), mark));
        self.anchor.advance(marks.into_iter().collect()).await
    }

    async fn remember(&self, row: &StoreRow) -> Result<()> {
        let identity = Identity::new(&row.store, &row.kcv, row.epochs);
        let anchor = self.anchor.clone();
        blocking(move || anchor.remember(identity)).await
    }
}

fn too_many() -> Fault {
    let message = format!("data keys are wrapped under {MAX_EPOCHS} epochs already");
    Fault::new(Category::InvalidInput, "too_many_key_epochs", message)
        .hint("retire the old ones first")
}
