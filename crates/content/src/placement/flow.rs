//! The most that can be sent through a network (Ford and Fulkerson), one unit at a time.

use std::collections::{BTreeMap, VecDeque};

use super::{Continent, Country};

/// A place that units pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    Source,
    System(u32),
    Country(Country),
    Continent(Continent),
    Sink,
}

/// A network with what is sent through it. It is always a whole flow; sending more never takes away what reaches the
/// sink over one of its edges, as no path leads on from there.
#[derive(Default)]
pub struct Flow {
    /// What more an edge takes: of one that is there, its rest; of its reverse, what could be taken back.
    left: BTreeMap<(Node, Node), usize>,
    /// Neighbours, in the order in which they were added, which decides between paths of the same length.
    next: BTreeMap<Node, Vec<Node>>,
    sent: usize,
}

impl Flow {
    /// Makes the edge take that many units more.
    pub fn widen(&mut self, from: Node, to: Node, units: usize) {
        if !self.has(from, to) {
            self.next.entry(from).or_default().push(to);
            self.next.entry(to).or_default().push(from);
            self.left.insert((to, from), 0);
        }
        *self.left.entry((from, to)).or_default() += units;
    }

    /// Whether the edge was added.
    pub fn has(&self, from: Node, to: Node) -> bool {
        self.left.contains_key(&(from, to))
    }

    /// Sends units from source to sink until there are so many in all or no more can be, and says how many there are.
    pub fn send(&mut self, units: usize) -> usize {
        while self.sent < units && self.send_one() {
            self.sent += 1;
        }
        self.sent
    }

    /// Whether a unit goes over an edge that was added in this direction.
    pub fn goes(&self, from: Node, to: Node) -> bool {
        self.left.get(&(to, from)).is_some_and(|back| *back > 0)
    }

    fn send_one(&mut self) -> bool {
        let came = self.shortest();
        let mut at = Node::Sink;
        while let Some(from) = came.get(&at) {
            if let Some(left) = self.left.get_mut(&(*from, at)) {
                *left -= 1;
            }
            *self.left.entry((at, *from)).or_default() += 1;
            at = *from;
        }
        at == Node::Source
    }

    /// Where a shortest path to each node comes from, as far as the sink.
    fn shortest(&self) -> BTreeMap<Node, Node> {
        let mut came = BTreeMap::new();
        let mut queue = VecDeque::from([Node::Source]);
        while let Some(at) = queue.pop_front()
            && !came.contains_key(&Node::Sink)
        {
            for to in self.next.get(&at).into_iter().flatten() {
                let open = self.left.get(&(at, *to)).is_some_and(|left| *left > 0);
                if open && *to != Node::Source && !came.contains_key(to) {
                    came.insert(*to, at);
                    queue.push_back(*to);
                }
            }
        }
        came
    }
}
