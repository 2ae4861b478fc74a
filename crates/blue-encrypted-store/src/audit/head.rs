//! The head of a lane: how many events there are, and the hash of the last.

use super::{Lane, Signer};
use crate::anchor::Mark;
use crate::check::Check;
use crate::crypto::Digest;
use crate::manifest::prefix;
use crate::name::{parse_time, time};
use crate::row::{Row, SEAL};
use crate::sources::Sources;
use crate::table::{Action, When};

/// Its sort key: after those of all events.
pub(super) const SK: &str = "head";
const TYPE: &str = "audit_head";
const ATTRIBUTES: [&str; 8] = [
    "pk",
    "sk",
    "entity_type",
    "updated_at",
    "kek_epoch",
    "seq",
    "event_hash",
    SEAL,
];

/// How far a lane has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) seq: u64,
    pub(super) hash: Digest,
    /// That of its row; `None` when there is no row, because there is no event.
    pub(super) seal: Option<Digest>,
}

impl Head {
    /// That of a lane without any event.
    pub(super) fn genesis(signer: &Signer, lane: Lane) -> Self {
        Self {
            seq: 0,
            hash: lane.genesis(&signer.store),
            seal: None,
        }
    }

    /// The head in a row, if this store wrote it there.
    pub(super) fn open(row: &Row, signer: &Signer, lane: Lane) -> Result<Self, Check> {
        row.only(&ATTRIBUTES)?;
        let seal = row.check_seal(&signer.head_key)?;
        parse_time(row.text("updated_at")?).ok_or(Check::Attributes)?;
        if row.text("pk")? != lane.pk() || row.text("sk")? != SK {
            return Err(Check::Address);
        }
        Ok(Self {
            seq: row.integer("seq")?,
            hash: row.array("event_hash")?,
            seal: Some(seal),
        })
    }

    /// The head after the event with that number and hash, and the action that puts it in this one's place.
    pub(super) fn advance(
        &self,
        (seq, hash): (u64, Digest),
        signer: &Signer,
        lane: Lane,
        sources: &Sources,
    ) -> (Self, Action) {
        let mut row = Row::new(&lane.pk(), SK, TYPE);
        row.set_text("updated_at", time(sources.tick()));
        row.set_integer("kek_epoch", signer.epoch);
        row.set_integer("seq", seq);
        row.set_bytes("event_hash", hash);
        let seal = Some(row.seal(&signer.head_key));
        let when = match &self.seal {
            None => When::Absent,
            Some(seal) => When::Sealed(prefix(seal)),
        };
        (Self { seq, hash, seal }, Action::Put { row, when })
    }

    /// As the anchor remembers it.
    pub(super) fn mark(&self) -> Mark {
        Mark::new(self.seq, &self.hash)
    }
}
