//! Several tokens against the chain that an intent claims.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;
use worldcompute_proof::{Sha256, VerifyingKey};

use super::token::{Expected, Flaw, Token};
use crate::intent::{Delegation, Intent};
use crate::wire_time::WireTime;

/// The chain of one intent, checked link by link.
#[derive(Clone, Debug)]
pub struct Chain {
    required: usize,
    presented: bool,
    /// Sorted, as the audit has them.
    entries: Vec<Entry>,
}

/// One token, or one link without a token, in an audit record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    #[serde(skip_serializing_if = "String::is_empty")]
    token_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) delegator_identity: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) delegate_identity: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scope: Vec<String>,
    expires_at: WireTime,
    valid: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    error_code: &'static str,
}

/// What has to be lent, from whom to whom.
struct Link<'a> {
    delegator: &'a str,
    delegate: &'a str,
}

impl Chain {
    /// Finds a valid token for every link of the intent's chain; each token serves one link.
    ///
    /// `scope` are the uses that the policy asks for, lower-case; one of them has to be in every token.
    pub fn validate(
        tokens: &[Token],
        key: &VerifyingKey,
        intent: &Intent,
        policy_digest: Sha256,
        scope: &[String],
        now: Timestamp,
    ) -> Self {
        let links = intent.delegation().map(links).unwrap_or_default();
        let flaw = |link: &Link<'_>, token: &Token| {
            let expected = Expected {
                delegator: link.delegator,
                delegate: link.delegate,
                scope,
                intent_digest: Some(intent.digest()),
                policy_digest: Some(policy_digest),
                now,
            };
            token.check(key, &expected).err()
        };
        let mut unused: Vec<&Token> = tokens.iter().collect();
        let mut open = Vec::new();
        let mut entries = Vec::new();
        for link in &links {
            match unused.iter().position(|token| flaw(link, token).is_none()) {
                Some(place) => entries.push(Entry::of(unused.remove(place), None)),
                None => open.push(link),
            }
        }
        entries.extend(open.iter().map(|link| Entry::missing(link)));
        entries.extend(unused.into_iter().map(|token| {
            let first = open.first().and_then(|link| flaw(link, token));
            Entry::of(token, Some(first.unwrap_or(Flaw::ChainMismatch)))
        }));
        entries.sort_by(|a, b| a.rank().cmp(&b.rank()));
        Self {
            required: links.len(),
            presented: !tokens.is_empty(),
            entries,
        }
    }

    /// How many links have a valid token.
    pub fn valid(&self) -> usize {
        self.entries.iter().filter(|entry| entry.valid).count()
    }

    /// Whether there is a chain and each of its links has a token.
    pub fn granted(&self) -> bool {
        self.required > 0 && self.valid() == self.required
    }

    /// The codes that say how it went.
    pub fn reason_codes(&self) -> BTreeSet<&'static str> {
        if !self.presented {
            return BTreeSet::from(["delegation_token_missing"]);
        }
        if self.granted() {
            return BTreeSet::from(["delegation_granted"]);
        }
        let errors = self.entries.iter().map(|entry| entry.error_code);
        let mut codes: BTreeSet<_> = errors.filter(|code| !code.is_empty()).collect();
        codes.insert("delegation_chain_insufficient");
        codes
    }

    /// The ids of the valid tokens of a complete chain, sorted, joined by commas.
    pub fn reference(&self) -> String {
        if !self.granted() {
            return String::new();
        }
        let valid = self.entries.iter().filter(|entry| entry.valid);
        let ids: BTreeSet<_> = valid.map(|entry| entry.token_id.as_str()).collect();
        ids.into_iter().collect::<Vec<_>>().join(",")
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

/// The links that need a token; a delegation without a chain is one link from anybody to the requester.
fn links(delegation: &Delegation) -> Vec<Link<'_>> {
    if delegation.chain.is_empty() {
        return vec![Link {
            delegator: "",
            delegate: &delegation.requester_identity,
        }];
    }
    let links = delegation.chain.iter();
    links
        .map(|link| Link {
            delegator: &link.delegator_identity,
            delegate: &link.delegate_identity,
        })
        .collect()
}

impl Entry {
    fn of(token: &Token, flaw: Option<Flaw>) -> Self {
        Self {
            token_id: token.token_id().to_owned(),
            delegator_identity: token.delegator_identity().to_owned(),
            delegate_identity: token.delegate_identity().to_owned(),
            scope: token.scope(),
            expires_at: token.expires_at(),
            valid: flaw.is_none(),
            error_code: flaw.map_or("", Flaw::code),
        }
    }

    fn missing(link: &Link<'_>) -> Self {
        Self {
            token_id: String::new(),
            delegator_identity: link.delegator.to_owned(),
            delegate_identity: link.delegate.to_owned(),
            scope: Vec::new(),
            expires_at: WireTime::default(),
            valid: false,
            error_code: "delegation_token_missing",
        }
    }

    fn rank(&self) -> impl Ord + '_ {
        (
            &self.delegator_identity,
            &self.delegate_identity,
            &self.token_id,
        )
    }
}
