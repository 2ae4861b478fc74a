//! What interrupted commits have left in a partition goes before more is staged beside it, lest a partition whose commits
//! never end well grows until nobody can read it.
//!
//! Rows that no manifest lists may be those of a commit that is under way. So before the first of them is deleted,
//! something changes that every such commit has its flip depend on: the root, where there is one, and before that the
//! row of the data key. It then fails, and lists nothing that has gone. What it stages later is left for the next to sweep.

use std::sync::Arc;

use worldcompute_fault::{Category, Fault, Result};

use crate::audit::{Audited, Draft, Operation};
use crate::partition::Shared;
use crate::plan::{self, Open, Stray};
use crate::table::{Action, When};

impl Shared {
    /// With no more leftovers than one partition's worth.
    pub(crate) async fn with_little_left(&self, open: Open) -> Result<Open> {
        let limit = self.store.limits.bytes;
        if !Stray::are_many(&open.strays, limit) {
            return Ok(open);
        }
        let open = self.swept(open).await?;
        match Stray::are_many(&open.strays, limit) {
            true => Err(self.not_swept()),
            false => Ok(open),
        }
    }

    /// With nothing left over that is known of, if it can be deleted.
    pub(crate) async fn swept(&self, open: Open) -> Result<Open> {
        let mut open = match open.manifest.header.version {
            0 => self.with_renewed_key(open).await?,
            _ => self.at_next_version(open).await?,
        };
        let strays = std::mem::take(&mut open.strays);
        open.strays = self.sweep(&self.scope.key.to_string(), strays).await;
        Ok(open)
    }

    /// The same records under a new root: a commit without any change.
    async fn at_next_version(&self, mut open: Open) -> Result<Open> {
        let keyring = open.keyring.clone();
        let key = keyring.active().ok_or_else(plan::no_key)?;
        let before = open.manifest.header;
        let now = self.store.sources.tick();
        let root = Action::Put {
            row: open.manifest.write(&self.scope, key, now, false).root,
            when: When::Root {
                version: before.version,
                seal: before.seal,
            },
        };
        let event = Draft::dek(Operation::Encrypt, &self.scope.key, key.version).times(0);
        let (lane, pk) = (self.lane(), self.scope.key.to_string());
        let audit = &self.store.audit;
        let written = audit.transact(lane, &pk, vec![root], vec![event]).await?;
        let Audited::Done(mark) = written else {
            return Err(self.contended());
        };
        let advanced = self.advance(&open, mark).await;
        advanced.map_err(|fault| self.not_anchored(&open, "commit_not_anchored", fault))?;
        Ok(open)
    }

    /// The same data key in a new row, provided that there is no root still.
    async fn with_renewed_key(&self, open: Open) -> Result<Open> {
        let (key, kept) = open.keyring.active_row().ok_or_else(plan::no_key)?;
        let (wrapping, now) = (self.store.wrapping(), self.store.sources.tick());
        let row = wrapping.again(&self.scope, key, kept, now).await?;
        let (key, renewed) = wrapping.open_one(&self.scope, &row).await?;
        let checks = vec![wrapping.same_epoch(), self.no_root()];
        if !self.put_keys(vec![(kept.seal, row)], checks).await? {
            return Err(self.contended());
        }
        let mut keyring = (*open.keyring).clone();
        keyring.replace(key, renewed);
        Ok(Open {
            keyring: Arc::new(keyring),
            ..open
        })
    }

    fn not_swept(&self) -> Fault {
        let message = format!(
            "interrupted commits have left more in {} than it may hold, and it cannot be deleted",
            self.scope.key
        );
        Fault::new(Category::NetworkTransient, "leftovers_not_swept", message)
            .hint("try again; the log says why the table does not delete")
    }
}
