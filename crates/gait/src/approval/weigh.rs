//! Several tokens against what a policy asks for.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;
use worldcompute_fault::Result;
use worldcompute_proof::{Sha256, VerifyingKey};

use super::token::{Flaw, Token};
use crate::intent::Intent;
use crate::text;
use crate::wire_time::WireTime;

/// What a token has to approve.
#[derive(Clone, Debug)]
pub struct Expected {
    pub(super) intent_digest: Sha256,
    pub(super) policy_digest: Sha256,
    pub(super) delegation_binding: Option<Sha256>,
    pub(super) scope: Vec<String>,
    pub(super) targets: i64,
    pub(super) operations: i64,
    pub(super) now: Timestamp,
}

impl Expected {
    /// What approves `intent` under the policy with this digest.
    pub fn of(intent: &Intent, policy_digest: Sha256, now: Timestamp) -> Result<Self> {
        let (targets, operations) = intent.extent();
        Ok(Self {
            intent_digest: intent.digest(),
            policy_digest,
            delegation_binding: intent.delegation_digest()?,
            scope: required_scope(intent),
            targets,
            operations,
            now,
        })
    }

    /// The scope that a token needs: lower-case, sorted.
    pub fn scope(&self) -> &[String] {
        &self.scope
    }
}

fn required_scope(intent: &Intent) -> Vec<String> {
    let mut scope = vec![format!("tool:{}", intent.tool_name())];
    if intent.context().phase == "apply" && intent.is_destructive() {
        scope.extend(["phase:apply".to_owned(), "destructive:apply".to_owned()]);
    }
    text::sorted_set_lower(&scope)
}

/// How many approvals a policy asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// This many valid tokens.
    pub required: usize,
    /// Whether each must come from another person.
    pub distinct: bool,
}

/// One token in an audit record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) token_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) approver_identity: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) reason_code: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) scope: Vec<String>,
    pub(super) expires_at: WireTime,
    pub(super) valid: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) error_code: &'static str,
}

/// The tokens, weighed.
#[derive(Clone, Debug)]
pub struct Approvals {
    demand: Demand,
    presented: bool,
    /// Sorted, as the audit has them.
    entries: Vec<Entry>,
}

impl Approvals {
    /// Checks every token; what one of them lacks never costs another its worth.
    pub fn weigh(
        tokens: &[Token],
        key: &VerifyingKey,
        expected: &Expected,
        demand: Demand,
    ) -> Self {
        Self::of(tokens, demand, |token| token.check(key, expected))
    }

    /// [`Approvals::weigh`] with another rule for what a token is worth.
    pub(crate) fn of(
        tokens: &[Token],
        demand: Demand,
        check: impl Fn(&Token) -> Result<(), Flaw>,
    ) -> Self {
        let entry = |token| Entry::new(token, check(token).err());
        let mut entries: Vec<Entry> = tokens.iter().map(entry).collect();
        entries.sort_by(|a, b| a.rank().cmp(&b.rank()));
        Self {
            demand,
            presented: !tokens.is_empty(),
            entries,
        }
    }

    /// How many approvals were asked for.
    pub const fn required(&self) -> usize {
        self.demand.required
    }

    /// How many tokens are valid.
    pub fn valid(&self) -> usize {
        self.entries.iter().filter(|entry| entry.valid).count()
    }

    /// Who approved validly.
    pub fn approvers(&self) -> BTreeSet<&str> {
        let valid = self.entries.iter().filter(|entry| entry.valid);
        valid
            .map(|entry| entry.approver_identity.as_str())
            .collect()
    }

    /// Whether that is what the policy asks for: enough tokens and, where it says so, enough people.
    pub fn granted(&self) -> bool {
        self.is_sufficient() && self.is_distinct()
    }

    fn is_sufficient(&self) -> bool {
        self.valid() >= self.demand.required
    }

    fn is_distinct(&self) -> bool {
        let alone = self.demand.required <= 1 || !self.demand.distinct;
        let people: BTreeSet<_> = self.approvers().into_iter().map(text::trim_lower).collect();
        alone || people.len() >= self.demand.required
    }

    /// The codes that say how it went.
    pub fn reason_codes(&self) -> BTreeSet<&'static str> {
        if !self.presented {
            return BTreeSet::from(["approval_token_missing"]);
        }
        let errors = self.entries.iter().map(|entry| entry.error_code);
        let mut codes: BTreeSet<_> = errors.filter(|code| !code.is_empty()).collect();
        if self.granted() {
            codes.insert("approval_granted");
        }
        if !self.is_sufficient() {
            codes.insert("approval_chain_insufficient");
        }
        if !self.is_distinct() {
            codes.insert("approval_distinct_approvers_required");
        }
        codes
    }

    /// The ids of the valid tokens, sorted, joined by commas.
    pub fn reference(&self) -> String {
        let valid = self.entries.iter().filter(|entry| entry.valid);
        let ids: BTreeSet<_> = valid.map(|entry| entry.token_id.as_str()).collect();
        ids.into_iter().collect::<Vec<_>>().join(",")
    }

    /// Whether the token is one of the valid ones.
    pub(crate) fn counts(&self, token: &Token) -> bool {
        let mut valid = self.entries.iter().filter(|entry| entry.valid);
        valid.any(|entry| entry.token_id == token.token_id())
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

impl Entry {
    fn new(token: &Token, flaw: Option<Flaw>) -> Self {
        Self {
            token_id: token.token_id().to_owned(),
            approver_identity: token.approver_identity().to_owned(),
            reason_code: token.reason_code().to_owned(),
            scope: token.scope(),
            expires_at: token.expires_at(),
            valid: flaw.is_none(),
            error_code: flaw.map_or("", Flaw::code),
        }
    }

    fn rank(&self) -> impl Ord + '_ {
        (
            &self.token_id,
            &self.approver_identity,
            &self.reason_code,
            self.expires_at.get(),
            &self.scope,
        )
    }
}
