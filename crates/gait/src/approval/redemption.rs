//! Tokens that are good for one decision: the memory of those that were used.
//!
//! This is an extension of the format: a token asks for it with the scope value [`super::SINGLE_USE`], which other
//! gates ignore, and a caller can ask for it for all tokens.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use worldcompute_durable::{LockForm, LockOptions};
use worldcompute_fault::Result;
use worldcompute_proof::Sha256;

use super::token::Token;
use crate::state_file::{Held, Kind, StateFile};
use crate::wire_time::WireTime;

/// Where `gait gate eval` keeps them, unless told otherwise.
pub const DEFAULT_REDEMPTIONS: &str = ".gait-out/approval_redemptions.json";
const SCHEMA_ID: &str = "gait.gate.approval_redemptions";

static KIND: Kind = Kind {
    what: "approval redemptions",
    max_bytes: 16 << 20,
    corrupt: "approval_redemptions_corrupt",
    unavailable: "approval_redemptions_unavailable",
    lock_timeout: "approval_redemptions_lock_timeout",
    lock_failed: "approval_redemptions_lock_failed",
    lock: LockForm {
        schema_id: "gait.gate.approval_redemptions_lock",
        schema_version: "1.0.0",
        stale_after: Duration::from_secs(15),
    },
    wait: LockOptions {
        wait: Duration::from_secs(3),
        poll: Duration::from_millis(5),
    },
    anew: "lets approvals that were used be used again until they expire",
};

/// The file that remembers which tokens were used.
#[derive(Clone, Copy)]
pub struct Redemptions<'a> {
    path: &'a Path,
}

/// The same, locked: what is not used now will not be used before this is dropped.
pub struct Reserved<'a> {
    held: Held<'a>,
    state: State,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    schema_id: String,
    schema_version: String,
    redeemed: Vec<Redeemed>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Redeemed {
    token_id: String,
    intent_digest: Sha256,
    redeemed_at: WireTime,
    expires_at: WireTime,
}

impl<'a> Redemptions<'a> {
    /// The file at `path`; it is made when the first token is used.
    pub const fn at(path: &'a Path) -> Self {
        Self { path }
    }

    /// Which tokens were used, at this moment.
    ///
    /// Errors: `approval_redemptions_corrupt`, `approval_redemptions_unavailable`.
    pub fn used(&self) -> Result<impl Fn(&Token) -> bool + use<>> {
        let file = StateFile::new(self.path, &KIND);
        let state = State::read(&file)?;
        Ok(move |token: &Token| state.has(token))
    }

    /// Keeps others from using tokens until the result is committed or dropped.
    ///
    /// Errors: those of [`Redemptions::used`], `approval_redemptions_lock_timeout`,
    /// `approval_redemptions_lock_failed`.
    pub fn reserve(&self) -> Result<Reserved<'a>> {
        let held = StateFile::new(self.path, &KIND).lock()?;
        let state = State::read(held.file())?;
        Ok(Reserved { held, state })
    }
}

impl Reserved<'_> {
    /// Whether the token was used.
    pub fn is_used(&self, token: &Token) -> bool {
        self.state.has(token)
    }

    /// Remembers that these tokens were used for the intent, and forgets those that have expired. What is forgotten
    /// expired before the newest use that is remembered, which is how a clock that was set back renews nothing.
    pub fn commit<'t>(
        mut self,
        tokens: impl Iterator<Item = &'t Token>,
        intent_digest: Sha256,
        now: Timestamp,
    ) -> Result<()> {
        let used = tokens.map(|token| Redeemed {
            token_id: token.token_id().to_owned(),
            intent_digest,
            redeemed_at: WireTime::at(now),
            expires_at: token.expires_at(),
        });
        let used: Vec<_> = used.collect();
        if used.is_empty() {
            return Ok(());
        }
        let redeemed = &mut self.state.redeemed;
        redeemed.retain(|one| one.expires_at.get().is_none_or(|end| now < end));
        redeemed.extend(used);
        self.held.write(&self.state)
    }
}

impl State {
    fn read(file: &StateFile<'_>) -> Result<Self> {
        let state = file.read::<Self>()?.unwrap_or_else(|| Self {
            schema_id: SCHEMA_ID.to_owned(),
            schema_version: super::SCHEMA_VERSION.to_owned(),
            redeemed: Vec::new(),
        });
        if state.schema_id != SCHEMA_ID || state.schema_version != super::SCHEMA_VERSION {
            return Err(file.corrupt("not of this kind and version"));
        }
        Ok(state)
    }

    /// Whether the token was used, or may have been and is forgotten because it had expired then.
    fn has(&self, token: &Token) -> bool {
        let id = token.token_id();
        let newest = self.redeemed.iter().filter_map(|one| one.redeemed_at.get());
        let expired = token.expires_at().get().zip(newest.max());
        expired.is_some_and(|(end, newest)| end <= newest)
            || self.redeemed.iter().any(|one| one.token_id == id)
    }
}
