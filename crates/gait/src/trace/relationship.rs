//! How the decision hangs together with agents, tools and policies: the trace's graph.
//!
//! Fields are declared in the order of RFC 8785, as in the record; lists are sorted as the format sorts them.

use std::borrow::Cow;

use serde::Serialize;
use worldcompute_proof::Sha256;

use crate::intent::Normal;
use crate::policy;

/// The graph around one decision.
#[derive(Serialize)]
pub(super) struct Relationship<'a> {
    agent_chain: Vec<Agent<'a>>,
    edges: Vec<Edge<'a>>,
    entity_refs: Vec<Node<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_ref: Option<Node<'a>>,
    policy_ref: PolicyRef<'a>,
    related_entity_ids: Vec<Cow<'a, str>>,
}

#[derive(Clone, PartialEq, Serialize)]
struct Node<'a> {
    id: Cow<'a, str>,
    kind: &'static str,
}

#[derive(Serialize)]
struct PolicyRef<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    matched_rule_ids: &'a [String],
    policy_digest: Sha256,
    policy_id: &'static str,
    policy_version: &'static str,
}

#[derive(PartialEq, Serialize)]
struct Agent<'a> {
    identity: &'a str,
    role: &'static str,
}

#[derive(PartialEq, Serialize)]
struct Edge<'a> {
    from: Node<'a>,
    kind: &'static str,
    to: Node<'a>,
}

impl<'a> Node<'a> {
    fn new(kind: &'static str, id: impl Into<Cow<'a, str>>) -> Self {
        let id = id.into();
        Self { id, kind }
    }

    fn rank(&self) -> (&str, &str) {
        (self.kind, &self.id)
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
        let edges = edges(intent, &agent, &tool, &policy);
        // In the order of their kinds, as the format sorts them.
        let entity_refs = vec![agent, policy, tool, trace];
        Self {
            agent_chain: agents(intent),
            edges,
            related_entity_ids: ids(&entity_refs),
            entity_refs,
            parent_ref: (!session.is_empty()).then(|| Node::new("session", session)),
            policy_ref: PolicyRef {
                matched_rule_ids: matched_rules,
                policy_digest,
                policy_id: policy::SCHEMA_ID,
                policy_version: policy::SCHEMA_VERSION,
            },
        }
    }
}

fn ids<'a>(nodes: &[Node<'a>]) -> Vec<Cow<'a, str>> {
    let mut ids: Vec<_> = nodes.iter().map(|node| node.id.clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn edges<'a>(
    intent: &'a Normal,
    agent: &Node<'a>,
    tool: &Node<'a>,
    policy: &Node<'a>,
) -> Vec<Edge<'a>> {
    let links = intent
        .delegation
        .iter()
        .flat_map(|delegation| &delegation.chain);
    let mut edges: Vec<Edge<'a>> = links
        .map(|link| Edge {
            from: Node::new("agent", link.delegator_identity.as_str()),
            kind: "delegates_to",
            to: Node::new("agent", link.delegate_identity.as_str()),
        })
        .collect();
    edges.push(Edge {
        from: agent.clone(),
        kind: "calls",
        to: tool.clone(),
    });
    edges.push(Edge {
        from: tool.clone(),
        kind: "governed_by",
        to: policy.clone(),
    });
    edges.sort_by(|a, b| {
        (a.kind, a.from.rank(), a.to.rank()).cmp(&(b.kind, b.from.rank(), b.to.rank()))
    });
    edges.dedup();
    edges
}

fn agents(intent: &Normal) -> Vec<Agent<'_>> {
    let mut agents = Vec::new();
    let mut add = |role, identity| agents.push(Agent { identity, role });
    match &intent.delegation {
        None => add("requester", intent.context.identity.as_str()),
        Some(delegation) => {
            add("requester", &delegation.requester_identity);
            for link in &delegation.chain {
                add("delegator", &link.delegator_identity);
                add("delegate", &link.delegate_identity);
            }
        }
    }
    agents.sort_by_key(|agent| (agent.role, agent.identity));
    agents.dedup();
    agents
}
