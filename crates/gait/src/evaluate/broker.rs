//! The credential that a call has to be given by a broker: what the rules ask for, which the gate then fetches.

use jiff::Timestamp;
use serde::Serialize;

use super::credential::CredentialClause;
use super::outcome::insert;
use crate::broker::Credential;

/// What a rule says about brokered credentials; serialised, it is the rule's part of the policy digest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct BrokerClause {
    #[serde(
        rename = "RequireBrokerCredential",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub(crate) required: bool,
    #[serde(rename = "BrokerReference", skip_serializing_if = "String::is_empty")]
    pub(crate) reference: String,
    #[serde(rename = "BrokerScopes", skip_serializing_if = "Vec::is_empty")]
    pub(crate) scopes: Vec<String>,
}

/// What the rules that decided ask of the broker together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Broker {
    /// Whether the call may only happen with a credential from the broker.
    pub required: bool,
    /// What the rules call the credential, sorted, each once.
    pub references: Vec<String>,
    /// What it must be good for, sorted, each once.
    pub scopes: Vec<String>,
    /// What the rules say about credentials, which holds for the one from the broker too.
    pub(crate) clauses: Vec<CredentialClause>,
}

impl Broker {
    /// What the rules have against `credential`, handed out at the time `now`, as stable codes, sorted, each once.
    pub(crate) fn faults(&self, credential: &Credential, now: Timestamp) -> Vec<&'static str> {
        let clauses = self.clauses.iter();
        let mut codes: Vec<_> = clauses
            .flat_map(|clause| clause.faults(credential, now))
            .collect();
        codes.sort_unstable();
        codes.dedup();
        codes
    }

    /// The references, joined by commas.
    pub fn reference(&self) -> String {
        self.references.join(",")
    }

    pub(super) fn of(clause: &BrokerClause, credential: &CredentialClause) -> Self {
        let reference = Some(&clause.reference).filter(|reference| !reference.is_empty());
        Self {
            required: clause.required,
            references: reference.cloned().into_iter().collect(),
            scopes: clause.scopes.clone(),
            clauses: match clause.required && !credential.says_nothing() {
                true => vec![credential.clone()],
                false => Vec::new(),
            },
        }
    }

    pub(super) fn absorb(&mut self, other: &Self) {
        self.required |= other.required;
        for reference in &other.references {
            insert(&mut self.references, reference);
        }
        for scope in &other.scopes {
            insert(&mut self.scopes, scope);
        }
        for clause in &other.clauses {
            if !self.clauses.contains(clause) {
                self.clauses.push(clause.clone());
            }
        }
    }
}
