//! How what a session records hangs together: the graph that records of the format carry.

use serde_json::{Map, Value, json};

use super::record::{Checkpoint, Event};

/// A graph in the making.
pub(super) struct Relation {
    parent: Node,
    nodes: Vec<Node>,
    edges: Vec<(&'static str, Node, Node)>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Node {
    kind: &'static str,
    id: String,
}

fn node(kind: &'static str, id: &str) -> Node {
    Node {
        kind,
        id: id.to_owned(),
    }
}

impl Relation {
    /// The graph of an event in its journal.
    pub(super) fn of_event(event: &Event) -> Value {
        let (tool, policy) = (
            node("tool", &event.tool_name),
            node("policy", &event.policy_digest),
        );
        let trace = node("trace", &event.trace_id);
        let relation = Self {
            parent: node("session", &event.session_id),
            nodes: vec![
                policy.clone(),
                node("run", &event.run_id),
                tool.clone(),
                trace,
            ],
            edges: vec![("governed_by", tool, policy)],
        };
        let mut value = relation.into_members();
        if !event.policy_digest.is_empty() {
            let policy = json!({"policy_digest": event.policy_digest});
            value.insert("policy_ref".to_owned(), policy);
        }
        Value::Object(value)
    }

    /// The graph of an event in the runpack of its checkpoint, whose id is `run_id`.
    pub(super) fn in_timeline(event: &Event, run_id: &str) -> Value {
        let (tool, policy) = (
            node("tool", &event.tool_name),
            node("policy", &event.policy_digest),
        );
        let (trace, run) = (node("trace", &event.trace_id), node("run", run_id));
        let session = node("evidence", &event.session_id);
        let relation = Self {
            parent: run.clone(),
            nodes: vec![session, policy.clone(), tool.clone(), trace.clone()],
            edges: vec![("derived_from", trace, run), ("governed_by", tool, policy)],
        };
        Value::Object(relation.into_members())
    }

    /// The graph of the moment when a checkpoint was made.
    pub(super) fn of_emission(reference: &str, run_id: &str) -> Value {
        let (run, evidence) = (node("run", run_id), node("evidence", reference));
        let relation = Self {
            parent: run.clone(),
            nodes: vec![evidence.clone()],
            edges: vec![("emits_evidence", run, evidence)],
        };
        Value::Object(relation.into_members())
    }

    /// The graph of a checkpoint, whose runpack has the id `run_id`.
    pub(super) fn of_checkpoint(checkpoint: &Checkpoint, run_id: &str) -> Value {
        let digest = node("evidence", &checkpoint.checkpoint_digest);
        let manifest = node("evidence", &checkpoint.manifest_digest);
        let run = node("run", run_id);
        let relation = Self {
            parent: node("session", &checkpoint.session_id),
            nodes: vec![
                manifest,
                digest.clone(),
                node("run", &checkpoint.run_id),
                run.clone(),
            ],
            edges: vec![("derived_from", digest, run)],
        };
        Value::Object(relation.into_members())
    }

    /// The members of the record; what has no name is left out.
    fn into_members(self) -> Map<String, Value> {
        let shown = |node: &Node| json!({"kind": node.kind, "id": node.id});
        let mut nodes: Vec<Node> = self.nodes;
        nodes.retain(|node| !node.id.is_empty());
        nodes.sort();
        nodes.dedup();
        let whole = |edge: &(&str, Node, Node)| !edge.1.id.is_empty() && !edge.2.id.is_empty();
        let mut edges = self.edges;
        edges.retain(whole);
        edges.sort();
        let mut ids: Vec<&str> = nodes.iter().map(|node| node.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        let edges: Vec<Value> = edges
            .iter()
            .map(|(kind, from, to)| json!({"kind": kind, "from": shown(from), "to": shown(to)}))
            .collect();
        let members = [
            ("parent_ref", shown(&self.parent)),
            ("entity_refs", nodes.iter().map(shown).collect()),
            ("edges", Value::Array(edges)),
            ("parent_record_id", self.parent.id.clone().into()),
            ("related_entity_ids", json!(ids)),
        ];
        let said = members.into_iter().filter(|(_, value)| *value != json!([]));
        said.map(|(name, value)| (name.to_owned(), value)).collect()
    }
}
