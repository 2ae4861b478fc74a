//! Where a path of a layer leads: into the tree, wherever its links point.
//!
//! Links above the last name are followed as a process would that has the tree for its root, as containerd and umoci
//! do: an absolute target begins at the root, and `..` at the root stays there. The last name is never followed.

use std::collections::VecDeque;

use worldcompute_fault::Result;

use crate::limits::{MAX_DEPTH, MAX_LINK_STEPS, MAX_NAME, MAX_PATH};
use crate::meta::Meta;
use crate::refusal::{refuse, shown};
use crate::tree::{Directory, Kind, Name, NodeId, Tree};

/// Links that one path may lead through, as Linux has it.
const MAX_LINKS: usize = 40;

/// A path as a layer names it, without `.` and empty parts: below the root, even where it begins with `/`.
pub(crate) struct LayerPath<'a> {
    whole: &'a [u8],
    parts: Vec<&'a [u8]>,
}

impl<'a> LayerPath<'a> {
    pub(crate) fn parse(whole: &'a [u8]) -> Result<Self> {
        if whole.len() > MAX_PATH {
            let message = format!("{}: longer than {MAX_PATH} bytes", shown(whole));
            return Err(refuse("path_too_long", message, "shorten the path"));
        }
        let parts = whole.split(|byte| *byte == b'/');
        let parts: Vec<_> = parts.filter(|part| !matches!(*part, b"" | b".")).collect();
        let path = Self { whole, parts };
        for part in &path.parts {
            path.check(part)?;
        }
        Ok(path)
    }

    /// The directories above the last name, and that name; `None` for the root.
    pub(crate) fn split(&self) -> Option<(&[&'a [u8]], &'a [u8])> {
        let (name, above) = self.parts.split_last()?;
        Some((above, name))
    }

    pub(crate) fn shown(&self) -> String {
        shown(self.whole)
    }

    fn check(&self, part: &[u8]) -> Result<()> {
        if part == b".." {
            let message = format!("{}: leads upwards", self.shown());
            let hint = "a layer's paths name what is below its root; nothing else is written";
            return Err(refuse("path_not_confined", message, hint));
        }
        if part.contains(&0) {
            let message = format!("{}: has a NUL in it", self.shown());
            return Err(refuse("invalid_path", message, "rename the entry"));
        }
        if part.len() > MAX_NAME {
            let message = format!("{}: a name of more than {MAX_NAME} bytes", self.shown());
            return Err(refuse("path_too_long", message, "shorten the name"));
        }
        Ok(())
    }
}

/// What to do about directories that are not there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Make them, for this layer.
    Make(u16),
    /// There is nothing at the path, then.
    Stop,
}

/// The directory that `above` leads to; `None` where there is none and none is to be made.
pub(crate) fn directory(
    tree: &mut Tree,
    above: &[&[u8]],
    path: &LayerPath<'_>,
    missing: Missing,
) -> Result<Option<NodeId>> {
    let mut walk = Walk::new(above, path);
    while let Some(part) = walk.ahead.pop_front() {
        if &*part == b".." {
            walk.up();
            continue;
        }
        match tree.lookup(walk.here(), &part) {
            Some(name) => walk.enter(tree, name.node)?,
            None => match missing {
                Missing::Stop => return Ok(None),
                Missing::Make(layer) => {
                    let made = make(tree, walk.here(), &part, layer);
                    walk.down(made.map_err(|fault| fault.within(path.shown()))?)?;
                }
            },
        }
    }
    Ok(Some(walk.here()))
}

fn make(tree: &mut Tree, parent: NodeId, name: &[u8], layer: u16) -> Result<NodeId> {
    let empty = Directory {
        cleared_by: Some(layer),
        ..Directory::default()
    };
    let node = tree.add(Meta::implied(), Kind::Directory(empty));
    tree.link(parent, name, Name { node, layer })?;
    Ok(node)
}

/// On the way along a path.
struct Walk<'a> {
    path: &'a LayerPath<'a>,
    /// From the root to here.
    stack: Vec<NodeId>,
    ahead: VecDeque<Box<[u8]>>,
    links: usize,
    /// Parts of the targets of these links.
    steps: usize,
}

impl<'a> Walk<'a> {
    fn new(above: &[&[u8]], path: &'a LayerPath<'a>) -> Self {
        Self {
            path,
            stack: vec![NodeId::ROOT],
            ahead: above.iter().map(|part| (*part).into()).collect(),
            links: 0,
            steps: 0,
        }
    }

    fn here(&self) -> NodeId {
        self.stack.last().copied().unwrap_or(NodeId::ROOT)
    }

    fn up(&mut self) {
        if self.stack.len() > 1 {
            self.stack.pop();
        }
    }

    fn down(&mut self, into: NodeId) -> Result<()> {
        if self.stack.len() > MAX_DEPTH {
            let message = format!("{}: deeper than {MAX_DEPTH}", self.path.shown());
            return Err(refuse("path_too_deep", message, "use fewer directories"));
        }
        self.stack.push(into);
        Ok(())
    }

    fn enter(&mut self, tree: &Tree, node: NodeId) -> Result<()> {
        match &tree.node(node).kind {
            Kind::Directory(_) => self.down(node),
            Kind::Symlink(target) => self.follow(target),
            _ => {
                let message = format!("{}: a name above it is no directory", self.path.shown());
                let hint = "a layer that puts a directory in place of a file has an entry for it";
                Err(refuse("parent_not_directory", message, hint))
            }
        }
    }

    fn follow(&mut self, target: &[u8]) -> Result<()> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(self.loops());
        }
        if target.starts_with(b"/") {
            self.stack.truncate(1);
        }
        for part in target.rsplit(|byte| *byte == b'/') {
            // Counted before anything is done about it: what is never walked costs, too.
            self.steps += 1;
            if self.steps > MAX_LINK_STEPS {
                return Err(self.loops());
            }
            if matches!(part, b"" | b".") {
                continue;
            }
            if part.len() > MAX_NAME {
                let message = format!("{}: leads through a name too long", self.path.shown());
                return Err(refuse("path_too_long", message, "shorten the link"));
            }
            self.ahead.push_front(part.into());
        }
        Ok(())
    }

    fn loops(&self) -> worldcompute_fault::Fault {
        let message = format!("{}: leads through too many links", self.path.shown());
        refuse(
            "symlink_loop",
            message,
            "look for a link that leads to itself",
        )
    }
}
