//! What is in a directory, by name and by age.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::tree::NodeId;

/// Both ways to look at it name the same nodes.
#[derive(Default)]
pub struct Entries {
    by_name: BTreeMap<String, NodeId>,
    by_age: BTreeMap<NodeId, String>,
}

impl Entries {
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub fn get(&self, name: &str) -> Option<NodeId> {
        self.by_name.get(name).copied()
    }

    pub fn insert(&mut self, name: &str, node: NodeId) {
        self.by_name.insert(name.to_owned(), node);
        self.by_age.insert(node, name.to_owned());
    }

    pub fn remove(&mut self, name: &str) -> Option<NodeId> {
        let node = self.by_name.remove(name)?;
        self.by_age.remove(&node);
        Some(node)
    }

    /// The entries younger than `node`, oldest first. What comes and goes meanwhile does not change the rest.
    pub fn after(&self, node: NodeId) -> impl Iterator<Item = (NodeId, &str)> {
        let younger = (Bound::Excluded(node), Bound::Unbounded);
        let entries = self.by_age.range(younger);
        entries.map(|(node, name)| (*node, name.as_str()))
    }
}
