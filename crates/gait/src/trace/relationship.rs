//! How the decision hangs together with agents, tools and policies: the trace's graph.
//!
//! Fields are declared in the order of RFC 8785, as in the record; lists are sorted as the format sorts them.

use std::borrow::Cow;

use serde::Serialize;
use worldcompute_proof::Sha256;

use super::{Link, SIMULATED, Subject};
use crate::intent::Normal;
use crate::policy;
use crate::verdict::Verdict;

/// The graph around one decision.
#[derive(Serialize)]
pub struct Relationship<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    agent_chain: Vec<Agent<'a>>,
    edges: Vec<Edge<'a>>,
    entity_refs: Vec<Node<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_record_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_ref: Option<Node<'a>>,
    policy_ref: PolicyRef<'a>,
    related_entity_ids: Vec<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    related_record_ids: Vec<String>,
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
    #[serde(skip_serializing_if = "str::is_empty")]
    policy_id: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    policy_version: &'static str,
}

#[derive(PartialEq, Serialize)]
struct Agent<'a> {
    identity: &'a str,
    role: &'static str,
}

#[derive(Clone, PartialEq, Serialize)]
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
            parent_record_id: None,
            related_record_ids: Vec::new(),
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

impl<'a> Relationship<'a> {
    /// With the place of the trace in its session: the number of the decision, and the record before it.
    pub(super) fn linked(mut self, link: Option<&Link>) -> Self {
        let Some(link) = link else {
            return self;
        };
        self.related_record_ids = vec![link.name()];
        self.parent_record_id = link.previous.map(|digest| format!("sha256:{digest}"));
        self
    }

    /// With the mark of a simulation: what would have been decided.
    pub(super) fn simulated(mut self, verdict: Option<Verdict>) -> Self {
        let mark = verdict.map(|verdict| format!("{SIMULATED}{verdict}"));
        self.related_record_ids.extend(mark);
        self
    }

    /// The graph of an audit record of approvals.
    pub(crate) fn of_approvers(subject: &Subject<'a>, approvers: &[&'a str]) -> Self {
        Self::beside(subject, approvers.iter().copied(), Vec::new(), Vec::new())
    }

    /// The graph of an audit record of delegations, each from one agent to another.
    pub(crate) fn of_delegations(subject: &Subject<'a>, links: &[(&'a str, &'a str)]) -> Self {
        let named = |identity: &&str| !identity.is_empty();
        let ends = links.iter().flat_map(|(from, to)| [*from, *to]);
        let delegators = links.iter().map(|(from, _)| ("delegator", *from));
        let delegates = links.iter().map(|(_, to)| ("delegate", *to));
        let chain = delegates.chain(delegators);
        let chain = chain.filter(|(_, identity)| named(identity));
        let chain = chain.map(|(role, identity)| Agent { identity, role });
        let whole = links.iter().filter(|(from, to)| named(from) && named(to));
        let edges = whole.map(|(from, to)| Edge {
            from: Node::new("agent", *from),
            kind: "delegates_to",
            to: Node::new("agent", *to),
        });
        Self::beside(
            subject,
            ends.filter(named),
            edges.collect(),
            chain.collect(),
        )
    }

    fn beside(
        subject: &Subject<'a>,
        agents: impl Iterator<Item = &'a str>,
        mut edges: Vec<Edge<'a>>,
        mut agent_chain: Vec<Agent<'a>>,
    ) -> Self {
        let trace = Node::new("trace", subject.trace_id);
        let policy = Node::new("policy", subject.policy_digest.to_string());
        let tool = Node::new("tool", subject.tool_name);
        edges.push(Edge {
            from: tool.clone(),
            kind: "governed_by",
            to: policy.clone(),
        });
        sort_edges(&mut edges);
        sort_agents(&mut agent_chain);
        let mut entity_refs: Vec<_> = agents.map(|agent| Node::new("agent", agent)).collect();
        entity_refs.extend([policy, tool, trace.clone()]);
        entity_refs.sort_by(|a, b| a.rank().cmp(&b.rank()));
        entity_refs.dedup();
        Self {
            agent_chain,
            edges,
            related_entity_ids: ids(&entity_refs),
            entity_refs,
            parent_record_id: Some(subject.trace_id.to_owned()),
            related_record_ids: Vec::new(),
            parent_ref: Some(trace),
            policy_ref: PolicyRef {
                matched_rule_ids: &[],
                policy_digest: subject.policy_digest,
                policy_id: "",
                policy_version: "",
            },
        }
    }
}

fn sort_edges(edges: &mut Vec<Edge<'_>>) {
    edges.sort_by(|a, b| {
        (a.kind, a.from.rank(), a.to.rank()).cmp(&(b.kind, b.from.rank(), b.to.rank()))
    });
    edges.dedup();
}

fn sort_agents(agents: &mut Vec<Agent<'_>>) {
    agents.sort_by_key(|agent| (agent.role, agent.identity));
    agents.dedup();
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
    sort_edges(&mut edges);
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
    sort_agents(&mut agents);
    agents
}
