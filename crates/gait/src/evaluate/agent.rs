//! Which agents a rule trusts.

use jiff::Timestamp;
use serde::Serialize;

use super::breach::Breach;
use super::matching::{admits, contains};
use crate::intent::{AgentIdentity, Context};
use crate::text;

/// What a rule says about the calling agent; serialised, it is the rule's part of the policy digest.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AgentClause {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) require_declared_agent: bool,
    #[serde(rename = "AllowedAgentIDs", skip_serializing_if = "Vec::is_empty")]
    pub(crate) allowed_ids: Vec<String>,
    #[serde(rename = "DeniedAgentIDs", skip_serializing_if = "Vec::is_empty")]
    pub(crate) denied_ids: Vec<String>,
    #[serde(
        rename = "RequiredAgentManifestDigest",
        skip_serializing_if = "String::is_empty"
    )]
    pub(crate) manifest_digest: String,
    #[serde(
        rename = "AllowedAgentManifestPublishers",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) publishers: Vec<String>,
    #[serde(
        rename = "AllowedAgentManifestSources",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) sources: Vec<String>,
    #[serde(
        rename = "RequiredAgentLifecycleStates",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) lifecycle_states: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) require_agent_owner: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) require_unexpired_agent: bool,
}

impl AgentClause {
    pub(super) fn breaches<'r>(
        &'r self,
        context: &Context,
        at: Timestamp,
        found: &mut Vec<Breach<'r>>,
    ) {
        if self.says_nothing() {
            return;
        }
        let identity = context.agent_identity.as_ref();
        self.declared(context, found);
        self.listed(&context.agent_id, found);
        if identity.is_some_and(|identity| identity.revoked) {
            found.push(Breach::same("agent_identity.revoked", "agent_revoked"));
        }
        self.kept(identity, at, found);
        self.published(identity, found);
    }

    fn says_nothing(&self) -> bool {
        let lists = [
            &self.allowed_ids,
            &self.denied_ids,
            &self.publishers,
            &self.sources,
            &self.lifecycle_states,
        ];
        let flags = [
            self.require_declared_agent,
            self.require_agent_owner,
            self.require_unexpired_agent,
        ];
        lists.iter().all(|list| list.is_empty())
            && flags.iter().all(|flag| !flag)
            && self.manifest_digest.is_empty()
    }

    fn declared(&self, context: &Context, found: &mut Vec<Breach<'_>>) {
        let declared = !context.agent_id.is_empty() && context.agent_identity.is_some();
        if self.require_declared_agent && !declared {
            found.push(Breach::block(
                "require_declared_agent",
                "agent_unknown",
                "agent_identity_missing",
            ));
        }
    }

    fn listed(&self, id: &str, found: &mut Vec<Breach<'_>>) {
        if contains(&self.denied_ids, id) {
            found.push(Breach::same("denied_agent_ids", "agent_revoked"));
        }
        if !admits(&self.allowed_ids, id) {
            found.push(Breach::block(
                "allowed_agent_ids",
                "agent_unknown",
                "agent_not_declared",
            ));
        }
    }

    fn kept(&self, identity: Option<&AgentIdentity>, at: Timestamp, found: &mut Vec<Breach<'_>>) {
        let owned = identity.is_some_and(|identity| !identity.owner.is_empty());
        if self.require_agent_owner && !owned {
            found.push(Breach::same("require_agent_owner", "agent_owner_missing"));
        }
        let states = identity.map_or(&[][..], |identity| &identity.lifecycle_states);
        if !self
            .lifecycle_states
            .iter()
            .all(|state| contains(states, state))
        {
            found.push(Breach::same(
                "required_agent_lifecycle_states",
                "agent_lifecycle_state_invalid",
            ));
        }
        let expires = identity.and_then(|identity| identity.expires_at.get());
        if self.require_unexpired_agent && expires.is_none_or(|expires| expires <= at) {
            found.push(Breach::same("require_unexpired_agent", "agent_expired"));
        }
    }

    fn published(&self, identity: Option<&AgentIdentity>, found: &mut Vec<Breach<'_>>) {
        let of = |field: fn(&AgentIdentity) -> &str| identity.map_or("", field);
        let digest = of(|identity| &identity.manifest_digest);
        let publisher = text::trim_lower(of(|identity| &identity.publisher));
        let source = text::trim_lower(of(|identity| &identity.source));
        let differs = [
            (
                "required_agent_manifest_digest",
                !self.manifest_digest.is_empty() && digest != self.manifest_digest,
            ),
            (
                "allowed_agent_manifest_publishers",
                !admits(&self.publishers, &publisher),
            ),
            (
                "allowed_agent_manifest_sources",
                !admits(&self.sources, &source),
            ),
        ];
        for (clause, _) in differs.into_iter().filter(|(_, differs)| *differs) {
            found.push(Breach::same(clause, "agent_manifest_mismatch"));
        }
    }
}
