//! What approvals and delegations have in common: signed records of a scope that ends.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use worldcompute_fault::Result;
use worldcompute_proof::{SigningKey, VerifyingKey};

use crate::in_file::InFile;
use crate::limits::{MAX_FIELD, MAX_SCOPE, at_most, invalid};
use crate::record::{self, Record, Unsigned};
use crate::text;
use crate::wire_time::WireTime;

/// The code of what is larger than a token may be.
const TOO_LARGE: &str = "token_too_large";

/// A token as it was read; whether it is worth anything is up to its `check`.
#[derive(Clone, Debug)]
pub struct Token<F> {
    record: Record,
    fields: F,
}

/// The fields of one kind of token, in the order in which the format writes them.
pub trait Fields: Serialize + DeserializeOwned {
    /// What messages call the token.
    const WHAT: &'static str;

    /// What names the token.
    fn token_id(&self) -> &str;

    /// For which uses, as written.
    fn scope(&self) -> &[String];

    /// Until when.
    fn expires_at(&self) -> WireTime;

    /// Whether every field is there and has a valid value.
    fn is_complete(&self) -> bool;
}

/// Why nothing that a token says counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// A field is missing or has no valid value.
    Incomplete,
    /// Nobody signed it.
    Unsigned,
    /// The key did not sign it as it is.
    Forged,
}

impl<F: Fields> Token<F> {
    /// Signs `fields`; returns the token with the bytes of its file.
    pub(crate) fn issue(fields: &F, key: &SigningKey) -> Result<(Self, Vec<u8>)> {
        let bytes = record::signed_file(fields, key)?;
        Ok((Self::parse(&bytes)?, bytes))
    }

    /// Reads a token file.
    ///
    /// Errors: those of reading the file; `invalid_input` for what is no JSON object of this shape.
    pub fn load(path: &Path) -> Result<Self> {
        Self::read(Record::load(F::WHAT, path)?).in_file(path)
    }

    /// Reads a token.
    ///
    /// Errors: `invalid_input` for what is no JSON object of this shape.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        Self::read(Record::parse(F::WHAT, bytes)?)
    }

    fn read(record: Record) -> Result<Self> {
        let fields: F = record.read(F::WHAT)?;
        let what = format!("{} scopes", F::WHAT);
        at_most(&what, fields.scope().len(), MAX_SCOPE, TOO_LARGE)?;
        Ok(Self { record, fields })
    }

    /// What it says, whoever says so.
    pub(crate) const fn unverified(&self) -> &F {
        &self.fields
    }

    /// What it says, if it is complete and `key` says so.
    pub(crate) fn verified(&self, key: &VerifyingKey) -> Result<&F, Unfit> {
        if !self.fields.is_complete() {
            return Err(Unfit::Incomplete);
        }
        self.record.verify(key).map_err(|unsigned| match unsigned {
            Unsigned::Missing => Unfit::Unsigned,
            Unsigned::Invalid => Unfit::Forged,
        })?;
        Ok(&self.fields)
    }

    /// What names the token.
    pub fn token_id(&self) -> &str {
        self.fields.token_id().trim()
    }

    /// For which uses: lower-case, sorted.
    pub fn scope(&self) -> Vec<String> {
        text::sorted_set_lower(self.fields.scope())
    }

    /// Until when; unset when it does not say, and then it is invalid.
    pub fn expires_at(&self) -> WireTime {
        self.fields.expires_at()
    }

    /// The hex SHA-256 of the public key that claims to have signed.
    pub fn key_id(&self) -> &str {
        self.record.key_id()
    }
}

/// The flaw of the first check that does not hold.
pub(crate) fn first_flaw<F>(checks: impl IntoIterator<Item = (bool, F)>) -> Result<(), F> {
    match checks.into_iter().find(|(holds, _)| !holds) {
        None => Ok(()),
        Some((_, flaw)) => Err(flaw),
    }
}

/// A text that a token to be made has to have, trimmed.
pub(crate) fn required(what: &str, text: &str) -> Result<String> {
    match bounded(what, text)? {
        "" => Err(invalid(format!("{what} is required"))),
        text => Ok(text.to_owned()),
    }
}

/// A text that a token to be made may have, trimmed.
pub(crate) fn bounded<'a>(what: &str, text: &'a str) -> Result<&'a str> {
    at_most(what, text.len(), MAX_FIELD, TOO_LARGE)?;
    Ok(text.trim())
}

/// The scope of a token to be made.
pub(crate) fn scope_of(uses: &[String]) -> Result<Vec<String>> {
    let scope = text::sorted_set_lower(uses);
    if scope.is_empty() {
        return Err(invalid("scope must include at least one value"));
    }
    at_most("scopes", scope.len(), MAX_SCOPE, TOO_LARGE)?;
    Ok(scope)
}
