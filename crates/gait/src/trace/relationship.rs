//! How the decision hangs together with agents, tools and policies: the trace's graph.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::Serialize;
use worldcompute_proof::Sha256;

use crate::intent::Normal;
use crate::policy;

/// The graph around one decision; every list is a sorted set.
#[derive(Serialize)]
pub(super) struct Relationship<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_ref: Option<Node<'a>>,
    entity_refs: BTreeSet<Node<'a>>,
    policy_ref: PolicyRef<'a>,
    agent_chain: BTreeSet<Agent<'a>>,
    edges: BTreeSet<Edge<'a>>,
    related_entity_ids: BTreeSet<Cow<'a, str>>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Node<'a> {
    kind: &'static str,
    id: Cow<'a, str>,
}

#[derive(Serialize)]
struct PolicyRef<'a> {
    policy_id: &'static str,
    policy_version: &'static str,
    policy_digest: Sha256,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    matched_rule_ids: &'a [String],
}

/// Sorted by role, then by identity.
#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Agent<'a> {
    role: &'static str,
    identity: &'a str,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Edge<'a> {
    kind: &'static str,
    from: Node<'a>,
    to: Node<'a>,
}

impl<'a> Node<'a> {
    fn new(kind: &'static str, id: impl Into<Cow<'a, str>>) -> Self {
        let id = id.into();
        Self { kind, id }
    }
}

impl<'a> Relationship<'a> {
    pub(super) fn new(
        intent: &'a Normal,
        trace_id: &str,
        policy_digest: Sha256,
        matched_rules: &'a [String],
    ) -> Self {
        let session = intent.context.session_id.as_str();
        let agent = Node::new("agent", intent.context.identity.as_str());
        let tool = Node::new("tool", intent.tool_name.as_str());
        let policy = Node::new("policy", policy_digest.to_string());
        let trace = Node::new("trace", trace_id.to_owned());
        let mut edges = BTreeSet::from([
            Edge {
                kind: "calls",
                from: agent.clone(),
                to: tool.clone(),
            },
            Edge {
                kind: "governed_by",
                from: tool.clone(),
                to: policy.clone(),
            },
        ]);
        edges.extend(delegations(intent));
        let entity_refs = BTreeSet::from([agent, tool, policy, trace]);
        Self {
            parent_ref: (!session.is_empty()).then(|| Node::new("session", session)),
            related_entity_ids: entity_refs.iter().map(|node| node.id.clone()).collect(),
            entity_refs,
            policy_ref: PolicyRef {
                policy_id: policy::SCHEMA_ID,
                policy_version: policy::SCHEMA_VERSION,
                policy_digest,
                matched_rule_ids: matched_rules,
            },
            agent_chain: agents(intent),
            edges,
        }
    }
}

fn delegations(intent: &Normal) -> impl Iterator<Item = Edge<'_>> {
    let links = intent
        .delegation
        .iter()
        .flat_map(|delegation| &delegation.chain);
    links.map(|link| Edge {
        kind: "delegates_to",
        from: Node::new("agent", link.delegator_identity.as_str()),
        to: Node::new("agent", link.delegate_identity.as_str()),
    })
}

fn agents(intent: &Normal) -> BTreeSet<Agent<'_>> {
    let Some(delegation) = &intent.delegation else {
        let identity = intent.context.identity.as_str();
        return BTreeSet::from([Agent {
            role: "requester",
            identity,
        }]);
    };
    let mut agents = BTreeSet::from([Agent {
        role: "requester",
        identity: &delegation.requester_identity,
    }]);
    for link in &delegation.chain {
        agents.insert(Agent {
            role: "delegator",
            identity: &link.delegator_identity,
        });
        agents.insert(Agent {
            role: "delegate",
            identity: &link.delegate_identity,
        });
    }
    agents
}
