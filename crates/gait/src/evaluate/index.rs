//! Which rules can be about a tool at all, so that a long policy costs no more than its part for the tool asked about.

use std::collections::HashMap;
use std::iter::Peekable;
use std::slice::Iter;

use super::rule::Rule;

/// The rules by the tools that they name; every list is in the order of the rules.
#[derive(Debug, Default)]
pub(crate) struct Index {
    by_tool: HashMap<String, Vec<usize>>,
    of_any_tool: Vec<usize>,
}

impl Index {
    pub(crate) fn new(rules: &[Rule]) -> Self {
        let mut index = Self::default();
        for (place, rule) in rules.iter().enumerate() {
            let names = &rule.matches.tool_names;
            if names.is_empty() {
                index.of_any_tool.push(place);
            }
            for name in names {
                index.by_tool.entry(name.clone()).or_default().push(place);
            }
        }
        index
    }

    /// The places of the rules that name `tool` or no tool, in order.
    pub(super) fn candidates(&self, tool: &str) -> Candidates<'_> {
        let named = self.by_tool.get(tool).map_or(&[][..], Vec::as_slice);
        Candidates {
            named: named.iter().peekable(),
            of_any: self.of_any_tool.iter().peekable(),
        }
    }
}

/// Two ordered lists without a common entry, as one.
pub(super) struct Candidates<'a> {
    named: Peekable<Iter<'a, usize>>,
    of_any: Peekable<Iter<'a, usize>>,
}

impl Iterator for Candidates<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let named_first = match (self.named.peek(), self.of_any.peek()) {
            (Some(named), Some(any)) => named < any,
            (named, _) => named.is_some(),
        };
        let list = if named_first {
            &mut self.named
        } else {
            &mut self.of_any
        };
        list.next().copied()
    }
}
