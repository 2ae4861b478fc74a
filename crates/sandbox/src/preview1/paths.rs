//! Calls by path. There are no links: following them or not makes no difference, and making one is not supported.

use super::Guest;
use super::abi::{self, put, put_u32};
use super::descriptors::{Descriptor, OpenFile};
use super::files::{FLAG_APPEND, RIGHT_READ, RIGHTS_WRITING, filestat};
use crate::stop::{Errno, Result};
use crate::world::{EntryKind, NodeId, OpenHow};

const CREATE: u32 = 1;
const DIRECTORY: u32 = 2;
const EXCLUSIVE: u32 = 4;
const TRUNCATE: u32 = 8;

impl Guest<'_> {
    pub fn path_create_directory(&mut self, fd: u32, path: u32, length: u32) -> Result<()> {
        let (base, path) = self.path(fd, path, length)?;
        let now = self.world.clock.stamp();
        self.world.files.create_dir(base, &path, now)
    }

    pub fn path_filestat_get(
        &mut self,
        fd: u32,
        _follow: u32,
        path: u32,
        length: u32,
        stat: u32,
    ) -> Result<()> {
        let (base, path) = self.path(fd, path, length)?;
        let node = self.world.files.lookup(base, &path)?;
        put(
            self.memory,
            stat,
            &filestat(&self.world.files.stat(node)?).0,
        )
    }

    #[expect(clippy::too_many_arguments, reason = "the interface is given")]
    pub fn path_filestat_set_times(
        &mut self,
        fd: u32,
        _follow: u32,
        path: u32,
        length: u32,
        accessed: u64,
        modified: u64,
        flags: u32,
    ) -> Result<()> {
        let (base, path) = self.path(fd, path, length)?;
        let node = self.world.files.lookup(base, &path)?;
        let times = self.times(accessed, modified, flags)?;
        self.world.files.set_times(node, times)
    }

    #[expect(clippy::too_many_arguments, reason = "the interface is given")]
    pub fn path_link(
        &mut self,
        fd: u32,
        _: u32,
        path: u32,
        length: u32,
        to: u32,
        to_path: u32,
        to_length: u32,
    ) -> Result<()> {
        self.path(fd, path, length)?;
        self.path(to, to_path, to_length)?;
        Err(Errno::Notsup.into())
    }

    #[expect(clippy::too_many_arguments, reason = "the interface is given")]
    pub fn path_open(
        &mut self,
        fd: u32,
        _follow: u32,
        path: u32,
        length: u32,
        how: u32,
        base: u64,
        _inheriting: u64,
        flags: u32,
        opened: u32,
    ) -> Result<()> {
        let (dir, path) = self.path(fd, path, length)?;
        self.world.descriptors.check_room()?;
        let how = OpenHow {
            create: how & CREATE != 0,
            exclusive: how & EXCLUSIVE != 0,
            truncate: how & TRUNCATE != 0,
            directory: how & DIRECTORY != 0,
            write: base & RIGHTS_WRITING != 0,
        };
        let (now, world) = (self.world.clock.stamp(), &mut *self.world);
        let node = world.files.open(dir, &path, how, &mut world.account, now)?;
        world.files.retain(node)?;
        let descriptor = match world.files.stat(node)?.kind {
            EntryKind::Directory => Descriptor::Directory(node),
            EntryKind::File => Descriptor::File(OpenFile {
                node,
                offset: 0,
                append: flags & FLAG_APPEND != 0,
                read: base & RIGHT_READ != 0,
                write: how.write,
            }),
        };
        let number = world.descriptors.insert(descriptor);
        put_u32(self.memory, opened, number)
    }

    pub fn path_readlink(
        &mut self,
        fd: u32,
        path: u32,
        length: u32,
        _: u32,
        _: u32,
        _: u32,
    ) -> Result<()> {
        let (base, path) = self.path(fd, path, length)?;
        self.world.files.lookup(base, &path)?;
        Err(Errno::Inval.into())
    }

    pub fn path_remove_directory(&mut self, fd: u32, path: u32, length: u32) -> Result<()> {
        let (base, path) = self.path(fd, path, length)?;
        let (now, world) = (self.world.clock.stamp(), &mut *self.world);
        world.files.remove_dir(base, &path, &mut world.account, now)
    }

    pub fn path_rename(
        &mut self,
        fd: u32,
        path: u32,
        length: u32,
        to: u32,
        to_path: u32,
        to_length: u32,
    ) -> Result<()> {
        let (base, path) = self.path(fd, path, length)?;
        let (to_base, to_path) = self.path(to, to_path, to_length)?;
        let (now, world) = (self.world.clock.stamp(), &mut *self.world);
        world
            .files
            .rename((base, &path), (to_base, &to_path), &mut world.account, now)
    }

    pub fn path_symlink(
        &mut self,
        target: u32,
        target_length: u32,
        fd: u32,
        path: u32,
        length: u32,
    ) -> Result<()> {
        abi::path(self.memory, target, target_length)?;
        self.path(fd, path, length)?;
        Err(Errno::Notsup.into())
    }

    pub fn path_unlink_file(&mut self, fd: u32, path: u32, length: u32) -> Result<()> {
        let (base, path) = self.path(fd, path, length)?;
        let (now, world) = (self.world.clock.stamp(), &mut *self.world);
        world.files.unlink(base, &path, &mut world.account, now)
    }

    fn path(&mut self, fd: u32, path: u32, length: u32) -> Result<(NodeId, String)> {
        let base = self.world.descriptors.directory(fd)?;
        let path = abi::path(self.memory, path, length)?;
        self.world.account.walks(path)?;
        Ok((base, path.to_owned()))
    }
}
