//! Random layers: the tree that the kernel sees is the one that a simple model says.
//!
//! The model keeps a map of paths. For each layer it removes what the whiteouts hide, wherever they stand, and then puts
//! the entries in, one after the other: the order of the specification, and not that of the program.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::look::{Seen, SeenBody, seen};
use crate::support::{Head, Lab, Tar};

#[derive(Clone, Debug)]
enum Op {
    File(String, u8, u32),
    Dir(String, u32),
    Symlink(String),
    Fifo(String),
    HardLink(String, prop::sample::Index),
    Whiteout(String),
    Opaque(String),
}

impl Op {
    fn path(&self) -> &str {
        match self {
            Self::File(path, ..)
            | Self::Dir(path, _)
            | Self::Symlink(path)
            | Self::Fifo(path)
            | Self::HardLink(path, _)
            | Self::Whiteout(path)
            | Self::Opaque(path) => path,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Body {
    Dir,
    File(Vec<u8>),
    Symlink,
    Fifo,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    body: Body,
    mode: u32,
    inode: usize,
}

type Model = BTreeMap<String, Node>;

/// Few names, so that they meet.
fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4)
        .prop_map(|parts| parts.join("/"))
}

fn op() -> impl Strategy<Value = Op> {
    let mode = || 0..0o7777_u32;
    prop_oneof![
        4 => (path(), any::<u8>(), mode()).prop_map(|(path, len, mode)| Op::File(path, len, mode)),
        3 => (path(), mode()).prop_map(|(path, mode)| Op::Dir(path, mode)),
        1 => path().prop_map(Op::Symlink),
        1 => path().prop_map(Op::Fifo),
        1 => (path(), any::<prop::sample::Index>()).prop_map(|(path, to)| Op::HardLink(path, to)),
        2 => path().prop_map(Op::Whiteout),
        1 => path().prop_map(Op::Opaque),
    ]
}

fn content(len: u8) -> Vec<u8> {
    vec![len; usize::from(len) * 40]
}

fn remove(model: &mut Model, path: &str) {
    let below = format!("{path}/");
    model.retain(|name, _| name != path && !name.starts_with(&below));
}

fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

/// What the model makes of an entry; false for one that the program must refuse, which the layer then goes without.
fn put(model: &mut Model, next: &mut usize, path: &str, node: Node) -> bool {
    let blocked = |model: &Model| {
        parents(path).any(|above| model.get(above).is_some_and(|node| node.body != Body::Dir))
    };
    if blocked(model) {
        return false;
    }
    for above in parents(path) {
        *next += 1;
        let implied = Node {
            body: Body::Dir,
            mode: 0o755,
            inode: *next,
        };
        model.entry(above.to_owned()).or_insert(implied);
    }
    let both =
        node.body == Body::Dir && model.get(path).is_some_and(|there| there.body == Body::Dir);
    if !both {
        remove(model, path);
    }
    model.insert(path.to_owned(), node);
    true
}

struct World {
    model: Model,
    next: usize,
    layers: Vec<Vec<u8>>,
}

impl World {
    fn layer(&mut self, ops: &[Op]) {
        let hides = |op: &&Op| matches!(op, Op::Whiteout(_) | Op::Opaque(_));
        // A whiteout below what is no directory is refused, so it is left out.
        let below = self.model.clone();
        let standing = |path: &str| {
            parents(path).all(|above| below.get(above).is_none_or(|node| node.body == Body::Dir))
        };
        for op in ops.iter().filter(hides) {
            match op {
                Op::Whiteout(path) if standing(path) => remove(&mut self.model, path),
                Op::Opaque(path) if standing(&format!("{path}/x")) => {
                    let below = format!("{path}/");
                    self.model.retain(|name, _| !name.starts_with(&below));
                }
                _ => {}
            }
        }
        let mut tar = Tar::new();
        for (at, op) in ops.iter().enumerate() {
            // A file of an older layer that a later entry hides is still in the way of what comes before.
            let hidden_later = |above: &str| {
                let later = ops.iter().skip(at).filter_map(|op| match op {
                    Op::Whiteout(path) | Op::Opaque(path) => Some(path),
                    _ => None,
                });
                later
                    .into_iter()
                    .any(|hidden| above == hidden || above.starts_with(&format!("{hidden}/")))
            };
            let in_the_way =
                |above: &str| below.get(above).is_some_and(|node| node.body != Body::Dir);
            if !parents(op.path()).any(|above| in_the_way(above) && hidden_later(above)) {
                tar = self.entry(tar, op, &standing);
            }
        }
        self.layers.push(tar.end());
    }

    fn entry(&mut self, tar: Tar, op: &Op, standing: &dyn Fn(&str) -> bool) -> Tar {
        self.next += 1;
        let node = |body, mode| Node {
            body,
            mode,
            inode: self.next,
        };
        let (path, node, head, data) = match op {
            Op::File(path, len, mode) => {
                let size = content(*len).len() as u64;
                let head = Head {
                    mode: *mode,
                    size,
                    ..Head::new(b'0', path)
                };
                (
                    path,
                    node(Body::File(content(*len)), *mode),
                    head,
                    content(*len),
                )
            }
            Op::Dir(path, mode) => {
                let head = Head {
                    mode: *mode,
                    ..Head::new(b'5', path)
                };
                (path, node(Body::Dir, *mode), head, Vec::new())
            }
            Op::Symlink(path) => {
                let link = b"nowhere".to_vec();
                let head = Head {
                    mode: 0o777,
                    link,
                    ..Head::new(b'2', path)
                };
                (path, node(Body::Symlink, 0o777), head, Vec::new())
            }
            Op::Fifo(path) => (
                path,
                node(Body::Fifo, 0o644),
                Head::new(b'6', path),
                Vec::new(),
            ),
            Op::HardLink(path, to) => {
                let files: Vec<_> = self
                    .model
                    .iter()
                    .filter(|(_, node)| node.body != Body::Dir)
                    .collect();
                if files.is_empty() {
                    return tar;
                }
                let (target, node) = to.get(&files);
                // The name that it replaces would take the target with it.
                if target.starts_with(&format!("{path}/")) {
                    return tar;
                }
                let head = Head {
                    link: target.as_bytes().to_vec(),
                    ..Head::new(b'1', path)
                };
                (path, (*node).clone(), head, Vec::new())
            }
            Op::Whiteout(path) | Op::Opaque(path) => return self.mark(tar, op, path, standing),
        };
        match put(&mut self.model, &mut self.next, path, node) {
            true => tar.head(&head).data(&data),
            false => tar,
        }
    }

    /// A mark is left out, too, where an entry before it has put something in its way.
    fn mark(&self, tar: Tar, op: &Op, path: &str, standing: &dyn Fn(&str) -> bool) -> Tar {
        let name = match op {
            Op::Opaque(_) => format!("{path}/.wh..wh.opq"),
            _ => path
                .rsplit_once('/')
                .map_or(format!(".wh.{path}"), |(above, name)| {
                    format!("{above}/.wh.{name}")
                }),
        };
        let open = |above: &str| {
            self.model
                .get(above)
                .is_none_or(|node| node.body == Body::Dir)
        };
        let reachable = parents(&name).all(open);
        match standing(&name) && reachable {
            true => tar.whiteout(&name),
            false => tar,
        }
    }
}

fn world(layers: &[Vec<Op>]) -> World {
    let mut world = World {
        model: Model::new(),
        next: 0,
        layers: Vec::new(),
    };
    layers.iter().for_each(|ops| world.layer(ops));
    world
}

fn check(model: &Model, seen: &BTreeMap<Vec<u8>, Seen>) {
    let paths: Vec<_> = model.keys().map(|path| path.as_bytes().to_vec()).collect();
    let found: Vec<_> = seen
        .keys()
        .filter(|path| !path.is_empty())
        .cloned()
        .collect();
    assert_eq!(found, paths);
    for (path, node) in model {
        let seen = &seen[path.as_bytes()];
        assert_eq!(seen.mode & 0o7777, node.mode, "{path}");
        let body = match &node.body {
            Body::Dir => SeenBody::Directory,
            Body::File(content) => SeenBody::File(content.clone()),
            Body::Symlink => SeenBody::Symlink(b"nowhere".to_vec()),
            Body::Fifo => SeenBody::Other,
        };
        assert_eq!(seen.body, body, "{path}");
        if node.body != Body::Dir {
            let names = model
                .values()
                .filter(|other| other.inode == node.inode)
                .count();
            assert_eq!(seen.links, names as u64, "{path}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn random_layers_make_the_tree_of_the_model(layers in prop::collection::vec(prop::collection::vec(op(), 1..25), 1..5)) {
        let world = world(&layers);
        let lab = Lab::new();
        let image = lab.build(&world.layers);
        if let Some(seen) = seen(image.path()) {
            check(&world.model, &seen);
        }
    }
}
