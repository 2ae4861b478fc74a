//! Layers, one over the other, as the OCI image specification has it (layer.md, "Applying Changesets").

use std::path::Path;

use worldcompute_fault::Result;

use crate::ext4::check_xattrs;
use crate::layer::DiffId;
use crate::limits::{Devices, Limits, MAX_DEPTH, MAX_HARD_LINKS, MAX_PATH};
use crate::meta::Meta;
use crate::paths::{LayerPath, Missing, directory};
use crate::refusal::{refuse, shown};
use crate::spool::Spool;
use crate::tar::{Archive, Body, Entry, Leaf, Piece};
use crate::tree::{Content, Directory, Kind, Name, NodeId, Segment, Tree};
use crate::unpack::Unpacked;

/// Before a name that is to go.
const WHITEOUT: &[u8] = b".wh.";
/// Marks of the union file system that began it; only this one has a meaning in a layer.
const OPAQUE: &[u8] = b".wh..wh.opq";
const RESERVED: &[u8] = b".wh..wh.";
/// Major numbers have 12 bits and minor numbers 20.
const MAX_DEVICE: (u32, u32) = (0xfff, 0xf_ffff);

/// Bytes that a piece of a file has in memory until the image is written: its segment, run and extent.
const PIECE: u64 = 64;

/// The tree that the layers make so far.
pub(crate) struct Merge {
    pub tree: Tree,
    pub spool: Spool,
    /// Bytes of the unpacked layers.
    pub unpacked: u64,
    pub limits: Limits,
    devices: Devices,
    layer: u16,
    entries: u32,
    metadata: u64,
}

impl Merge {
    pub(crate) fn new(limits: Limits, devices: Devices, scratch: &Path) -> Result<Self> {
        Ok(Self {
            tree: Tree::new(limits.max_names),
            spool: Spool::create(scratch)?,
            unpacked: 0,
            limits,
            devices,
            layer: 0,
            entries: 0,
            metadata: 0,
        })
    }

    /// Puts one more layer over the others and tells the digest of its archive.
    pub(crate) fn apply(&mut self, source: impl std::io::Read) -> Result<DiffId> {
        let left = self.limits.max_unpacked.saturating_sub(self.unpacked);
        let mut archive = Archive::new(Unpacked::new(source, left)?);
        while let Some(entry) = archive.next()? {
            self.entry(entry, &mut archive)?;
        }
        let (id, unpacked) = archive.into_input().finish()?;
        self.unpacked += unpacked;
        self.layer += 1;
        Ok(id)
    }

    fn entry(&mut self, entry: Entry, archive: &mut Archive<'_>) -> Result<()> {
        self.count(&entry)?;
        let path = LayerPath::parse(&entry.path)?;
        let Some((above, name)) = path.split() else {
            return self.root(entry.meta, &entry.body);
        };
        if name.starts_with(WHITEOUT) {
            return self.whiteout(above, name, &path);
        }
        if above.iter().any(|part| part.starts_with(WHITEOUT)) {
            let message = format!("{}: is below a whiteout", path.shown());
            return Err(refuse("invalid_whiteout", message, "rename the directory"));
        }
        check_xattrs(&entry.meta.xattrs).map_err(|fault| fault.within(path.shown()))?;
        let parent = directory(&mut self.tree, above, &path, Missing::Make(self.layer))?;
        let parent = parent.unwrap_or(NodeId::ROOT);
        self.count_made()?;
        let linked = match entry.body {
            Body::Directory => self.directory(parent, name, entry.meta),
            Body::HardLink(target) => {
                let node = self.hard_link(&target, &path)?;
                self.link(parent, name, node)
            }
            Body::Leaf(leaf) => {
                let kind = self.kind(leaf, &path, archive)?;
                self.put(parent, name, entry.meta, kind)
            }
        };
        linked.map_err(|fault| fault.within(path.shown()))
    }

    fn count(&mut self, entry: &Entry) -> Result<()> {
        self.entries = self.entries.saturating_add(1);
        self.metadata += entry.path.len() as u64 + entry.meta.xattrs.size();
        self.metadata += match &entry.body {
            Body::HardLink(target) | Body::Leaf(Leaf::Symlink(target)) => target.len() as u64,
            Body::Leaf(Leaf::File { pieces, .. }) => pieces.len() as u64 * PIECE,
            _ => 0,
        };
        if self.entries > self.limits.max_entries {
            return Err(self.too_many());
        }
        if self.metadata > self.limits.max_metadata {
            let max = self.limits.max_metadata;
            let message = format!("names, links and attributes of more than {max} bytes");
            return Err(refuse("too_much_metadata", message, "use a smaller image"));
        }
        Ok(())
    }

    /// Directories that paths imply count like entries.
    fn count_made(&self) -> Result<()> {
        match self.tree.len() > self.limits.max_entries as usize {
            true => Err(self.too_many()),
            false => Ok(()),
        }
    }

    fn too_many(&self) -> worldcompute_fault::Fault {
        let message = format!("more than {} entries", self.limits.max_entries);
        refuse("too_many_entries", message, "use an image of fewer files")
    }

    fn root(&mut self, meta: Meta, body: &Body) -> Result<()> {
        if !matches!(body, Body::Directory) {
            let hint = "only a directory can be the root";
            return Err(refuse("invalid_path", "an entry without a name", hint));
        }
        check_xattrs(&meta.xattrs)?;
        self.tree.node_mut(NodeId::ROOT).meta = meta;
        Ok(())
    }

    /// A directory that is there keeps what is in it.
    fn directory(&mut self, parent: NodeId, name: &[u8], meta: Meta) -> Result<()> {
        let there = self.tree.lookup(parent, name).map(|there| there.node);
        match there.filter(|node| self.tree.directory(*node).is_some()) {
            Some(node) => {
                self.tree.node_mut(node).meta = meta;
                self.link(parent, name, node)
            }
            None => {
                let empty = Directory {
                    cleared_by: Some(self.layer),
                    ..Directory::default()
                };
                self.put(parent, name, meta, Kind::Directory(empty))
            }
        }
    }

    /// Whatever had the name is gone, with everything below it.
    fn put(&mut self, parent: NodeId, name: &[u8], meta: Meta, kind: Kind) -> Result<()> {
        let node = self.tree.add(meta, kind);
        self.link(parent, name, node)
    }

    fn link(&mut self, parent: NodeId, name: &[u8], node: NodeId) -> Result<()> {
        let layer = self.layer;
        self.tree.link(parent, name, Name { node, layer })
    }

    fn kind(
        &mut self,
        leaf: Leaf,
        path: &LayerPath<'_>,
        archive: &mut Archive<'_>,
    ) -> Result<Kind> {
        match leaf {
            Leaf::File { size, pieces } => self.content(size, &pieces, archive).map(Kind::File),
            Leaf::Symlink(target) => symlink(target, path),
            Leaf::Char(major, minor) => self.device(path, (major, minor), Kind::Char),
            Leaf::Block(major, minor) => self.device(path, (major, minor), Kind::Block),
            Leaf::Fifo => Ok(Kind::Fifo),
        }
    }

    fn content(
        &mut self,
        size: u64,
        pieces: &[Piece],
        archive: &mut Archive<'_>,
    ) -> Result<Content> {
        let mut spool = self.spool.len();
        let segments = pieces.iter().map(|piece| {
            let segment = Segment {
                at: piece.at,
                len: piece.len,
                spool,
            };
            spool += piece.len;
            segment
        });
        let segments = segments.collect();
        archive.content(|bytes| self.spool.append(bytes))?;
        Ok(Content { size, segments })
    }

    fn device(
        &self,
        path: &LayerPath<'_>,
        (major, minor): (u32, u32),
        kind: fn(u32, u32) -> Kind,
    ) -> Result<Kind> {
        if major > MAX_DEVICE.0 || minor > MAX_DEVICE.1 {
            let message = format!("{}: there is no device {major}:{minor}", path.shown());
            return Err(refuse("invalid_device", message, "pack the layer again"));
        }
        match self.devices {
            Devices::Keep => Ok(kind(major, minor)),
            Devices::EmptyFile => Ok(Kind::File(Content {
                size: 0,
                segments: Box::default(),
            })),
            Devices::Refuse => {
                let message = format!("{}: is a device node", path.shown());
                let hint = "remove it from the image, or allow device nodes";
                Err(refuse("device_refused", message, hint))
            }
        }
    }

    /// What gets one more name.
    fn hard_link(&mut self, target: &[u8], path: &LayerPath<'_>) -> Result<NodeId> {
        let node = self.link_target(target, path)?;
        let named = &mut self.tree.node_mut(node).named;
        *named += 1;
        if *named > MAX_HARD_LINKS {
            let message = format!(
                "{}: a file of more than {MAX_HARD_LINKS} names",
                path.shown()
            );
            return Err(refuse("too_many_links", message, "copy the file"));
        }
        Ok(node)
    }

    fn link_target(&mut self, target: &[u8], path: &LayerPath<'_>) -> Result<NodeId> {
        let to = LayerPath::parse(target).map_err(|fault| fault.within(path.shown()))?;
        let missing = || {
            let message = format!(
                "{}: links to {}, which is not there",
                path.shown(),
                shown(target)
            );
            refuse(
                "hard_link_missing",
                message,
                "a link comes after its target",
            )
        };
        let (above, name) = to.split().ok_or_else(|| is_directory(path, target))?;
        let parent = directory(&mut self.tree, above, path, Missing::Stop)?.ok_or_else(missing)?;
        let there = self.tree.lookup(parent, name).ok_or_else(missing)?;
        match self.tree.directory(there.node) {
            Some(_) => Err(is_directory(path, target)),
            None => Ok(there.node),
        }
    }

    /// Hides what older layers have; a layer's own entries stay, whether they come before or after.
    fn whiteout(&mut self, above: &[&[u8]], name: &[u8], path: &LayerPath<'_>) -> Result<()> {
        let hidden = name.strip_prefix(WHITEOUT).unwrap_or_default();
        if matches!(hidden, b"" | b"." | b"..") {
            let message = format!("{}: hides nothing that has a name", path.shown());
            return Err(refuse("invalid_whiteout", message, "pack the layer again"));
        }
        let Some(parent) = directory(&mut self.tree, above, path, Missing::Stop)? else {
            return Ok(());
        };
        if name == OPAQUE {
            self.clear(parent);
        } else if !name.starts_with(RESERVED)
            && let Some(there) = self.tree.lookup(parent, hidden)
            && !self.stays(there)
        {
            self.tree.unlink(parent, hidden);
        }
        Ok(())
    }

    /// Removes from a directory what older layers gave. Once a layer is enough: nothing old comes back in it.
    ///
    /// Recursion ends at [`MAX_DEPTH`].
    fn clear(&mut self, directory: NodeId) {
        const { assert!(MAX_DEPTH <= 512, "a thread's stack is enough") };
        let layer = self.layer;
        let Some(here) = self.tree.directory_mut(directory) else {
            return;
        };
        if here.cleared_by == Some(layer) {
            return;
        }
        here.cleared_by = Some(layer);
        let mut names = std::mem::take(&mut here.names);
        names.retain(|_, name| {
            let stays = self.stays(*name);
            name.layer = layer;
            stays
        });
        if let Some(here) = self.tree.directory_mut(directory) {
            here.names = names;
        }
    }

    /// Whether something of this layer is at or below a name. A directory that stays for what is below it alone is
    /// a new one, which nobody described.
    fn stays(&mut self, name: Name) -> bool {
        self.clear(name.node);
        if name.layer == self.layer {
            return true;
        }
        let holds = self.tree.directory(name.node);
        let stays = holds.is_some_and(|directory| !directory.names.is_empty());
        if stays {
            self.tree.node_mut(name.node).meta = Meta::implied();
        }
        stays
    }
}

fn symlink(target: Vec<u8>, path: &LayerPath<'_>) -> Result<Kind> {
    // With its NUL it must fit into a block, as Linux has it.
    if target.is_empty() || target.len() >= MAX_PATH || target.contains(&0) {
        let message = format!("{}: a link to nothing that can be a path", path.shown());
        return Err(refuse("invalid_symlink", message, "pack the layer again"));
    }
    Ok(Kind::Symlink(target.into()))
}

fn is_directory(path: &LayerPath<'_>, target: &[u8]) -> worldcompute_fault::Fault {
    let message = format!(
        "{}: a hard link to the directory {}",
        path.shown(),
        shown(target)
    );
    refuse("hard_link_to_directory", message, "use a symbolic link")
}
