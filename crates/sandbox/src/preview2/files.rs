//! `wasi:filesystem`: one preopened directory, `/`.

use wasmtime::Result;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{
    self, Advice, Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry,
    DirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::bindings::sync::io::streams::{InputStream, OutputStream};
use wasmtime_wasi::p2::{FsError, FsResult, IoError};

use super::process::datetime;
use super::streams::{Sink, Source, errno};
use super::{MAX_MOVED, own};
use crate::stop::{Errno, Refusal};
use crate::world::{EntryKind, NodeId, OpenHow, SetTimes, Stat, World};

/// An open file or directory.
#[derive(Clone, Copy)]
struct Opened {
    node: NodeId,
    read: bool,
    write: bool,
}

/// A directory being listed, and the number of the last entry that was.
#[derive(Clone, Copy)]
struct Listing {
    dir: NodeId,
    last: u64,
}

impl World {
    fn opened(&self, descriptor: &Resource<Descriptor>) -> FsResult<Opened> {
        Ok(*self.table.get(&own::<_, Opened>(descriptor))?)
    }

    fn node(&self, descriptor: &Resource<Descriptor>) -> FsResult<NodeId> {
        Ok(self.opened(descriptor)?.node)
    }

    /// Where a path starts, with the work of walking it counted.
    fn base(&mut self, descriptor: &Resource<Descriptor>, path: &str) -> FsResult<NodeId> {
        self.account.walks(path).map_err(FsError::trap)?;
        self.node(descriptor)
    }

    fn readable(&self, descriptor: &Resource<Descriptor>) -> FsResult<NodeId> {
        let opened = self.opened(descriptor)?;
        if opened.read {
            Ok(opened.node)
        } else {
            Err(ErrorCode::BadDescriptor.into())
        }
    }

    fn writable(&self, descriptor: &Resource<Descriptor>) -> FsResult<NodeId> {
        let opened = self.opened(descriptor)?;
        if opened.write {
            Ok(opened.node)
        } else {
            Err(ErrorCode::BadDescriptor.into())
        }
    }

    fn push_opened(&mut self, opened: Opened) -> FsResult<Resource<Descriptor>> {
        self.files.retain(opened.node).map_err(fs_error)?;
        Ok(own(&self.table.push(opened)?))
    }

    fn push_sink(&mut self, node: NodeId, sink: Sink) -> FsResult<Resource<OutputStream>> {
        self.files.bytes(node).map_err(fs_error)?;
        self.files.retain(node).map_err(fs_error)?;
        Ok(own(&self.table.push(sink)?))
    }

    fn set_node_times(
        &mut self,
        node: NodeId,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let now = self.clock.stamp();
        let times = SetTimes {
            accessed: nanos(accessed, now),
            modified: nanos(modified, now),
        };
        self.files.set_times(node, times).map_err(fs_error)
    }
}

impl preopens::Host for World {
    fn get_directories(&mut self) -> Result<Vec<(Resource<Descriptor>, String)>> {
        let root = Opened {
            node: NodeId::ROOT,
            read: true,
            write: false,
        };
        let root = self
            .push_opened(root)
            .map_err(|_| wasmtime::Error::msg("too many resources"))?;
        Ok(vec![(root, "/".to_owned())])
    }
}

impl types::Host for World {
    fn convert_error_code(&mut self, error: FsError) -> Result<types::ErrorCode> {
        Ok(error.downcast()?.into())
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<IoError>,
    ) -> Result<Option<types::ErrorCode>> {
        Ok(errno(self.table.get(&error)?).map(|errno| code(errno).into()))
    }
}

impl types::HostDescriptor for World {
    fn read_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        offset: u64,
    ) -> FsResult<Resource<InputStream>> {
        let node = self.readable(&fd)?;
        self.files.bytes(node).map_err(fs_error)?;
        self.files.retain(node).map_err(fs_error)?;
        Ok(own(&self.table.push(Source::File { node, offset })?))
    }

    fn write_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        offset: u64,
    ) -> FsResult<Resource<OutputStream>> {
        let node = self.writable(&fd)?;
        self.push_sink(node, Sink::File { node, offset })
    }

    fn append_via_stream(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<OutputStream>> {
        let node = self.writable(&fd)?;
        self.push_sink(node, Sink::Append(node))
    }

    fn advise(
        &mut self,
        fd: Resource<Descriptor>,
        _offset: u64,
        _length: u64,
        _advice: Advice,
    ) -> FsResult<()> {
        let node = self.node(&fd)?;
        self.files.bytes(node).map(|_| ()).map_err(fs_error)
    }

    fn sync_data(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        self.node(&fd).map(|_| ())
    }

    fn sync(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        self.node(&fd).map(|_| ())
    }

    fn get_flags(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        let opened = self.opened(&fd)?;
        let directory =
            self.files.stat(opened.node).map_err(fs_error)?.kind == EntryKind::Directory;
        let flags = [
            (opened.read, DescriptorFlags::READ),
            (opened.write, DescriptorFlags::WRITE),
            (directory, DescriptorFlags::MUTATE_DIRECTORY),
        ];
        let set = flags.into_iter().filter(|(set, _)| *set);
        Ok(set.fold(DescriptorFlags::empty(), |all, (_, flag)| all | flag))
    }

    fn get_type(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorType> {
        let node = self.node(&fd)?;
        Ok(descriptor_type(
            self.files.stat(node).map_err(fs_error)?.kind,
        ))
    }

    fn set_size(&mut self, fd: Resource<Descriptor>, size: u64) -> FsResult<()> {
        let (node, now) = (self.writable(&fd)?, self.clock.stamp());
        self.files
            .set_size(node, size, &mut self.account, now)
            .map_err(fs_error)
    }

    fn set_times(
        &mut self,
        fd: Resource<Descriptor>,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let node = self.node(&fd)?;
        self.set_node_times(node, accessed, modified)
    }

    fn read(
        &mut self,
        fd: Resource<Descriptor>,
        most: u64,
        offset: u64,
    ) -> FsResult<(Vec<u8>, bool)> {
        let node = self.readable(&fd)?;
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(MAX_MOVED);
        let bytes = self
            .files
            .read_at(node, offset, most)
            .map_err(fs_error)?
            .to_vec();
        self.account
            .moves(bytes.len() as u64)
            .map_err(FsError::trap)?;
        let size = self.files.stat(node).map_err(fs_error)?.size;
        let end = offset.saturating_add(bytes.len() as u64) >= size;
        Ok((bytes, end))
    }

    fn write(&mut self, fd: Resource<Descriptor>, bytes: Vec<u8>, offset: u64) -> FsResult<u64> {
        let (node, now) = (self.writable(&fd)?, self.clock.stamp());
        self.account
            .moves(bytes.len() as u64)
            .map_err(FsError::trap)?;
        self.files
            .write_at(node, offset, &bytes, &mut self.account, now)
            .map_err(fs_error)?;
        Ok(bytes.len() as u64)
    }

    fn read_directory(
        &mut self,
        fd: Resource<Descriptor>,
    ) -> FsResult<Resource<DirectoryEntryStream>> {
        let dir = self.node(&fd)?;
        if self.files.stat(dir).map_err(fs_error)?.kind != EntryKind::Directory {
            return Err(ErrorCode::NotDirectory.into());
        }
        self.files.retain(dir).map_err(fs_error)?;
        Ok(own(&self.table.push(Listing { dir, last: 0 })?))
    }

    fn create_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let (base, now) = (self.base(&fd, &path)?, self.clock.stamp());
        self.files.create_dir(base, &path, now).map_err(fs_error)
    }

    fn stat(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        let node = self.node(&fd)?;
        Ok(descriptor_stat(&self.files.stat(node).map_err(fs_error)?))
    }

    fn stat_at(
        &mut self,
        fd: Resource<Descriptor>,
        _flags: PathFlags,
        path: String,
    ) -> FsResult<DescriptorStat> {
        let base = self.base(&fd, &path)?;
        let node = self.files.lookup(base, &path).map_err(fs_error)?;
        Ok(descriptor_stat(&self.files.stat(node).map_err(fs_error)?))
    }

    fn set_times_at(
        &mut self,
        fd: Resource<Descriptor>,
        _flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let base = self.base(&fd, &path)?;
        let node = self.files.lookup(base, &path).map_err(fs_error)?;
        self.set_node_times(node, accessed, modified)
    }

    fn link_at(
        &mut self,
        _fd: Resource<Descriptor>,
        _flags: PathFlags,
        _path: String,
        _to: Resource<Descriptor>,
        _to_path: String,
    ) -> FsResult<()> {
        Err(ErrorCode::Unsupported.into())
    }

    fn open_at(
        &mut self,
        fd: Resource<Descriptor>,
        _path_flags: PathFlags,
        path: String,
        open: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let (base, now) = (self.base(&fd, &path)?, self.clock.stamp());
        let how = OpenHow {
            create: open.contains(OpenFlags::CREATE),
            exclusive: open.contains(OpenFlags::EXCLUSIVE),
            truncate: open.contains(OpenFlags::TRUNCATE),
            directory: open.contains(OpenFlags::DIRECTORY),
            write: flags.contains(DescriptorFlags::WRITE),
        };
        let node = self
            .files
            .open(base, &path, how, &mut self.account, now)
            .map_err(fs_error)?;
        let read = flags.contains(DescriptorFlags::READ);
        self.push_opened(Opened {
            node,
            read,
            write: how.write,
        })
    }

    fn readlink_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<String> {
        let base = self.base(&fd, &path)?;
        self.files.lookup(base, &path).map_err(fs_error)?;
        Err(ErrorCode::Invalid.into())
    }

    fn remove_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let (base, now) = (self.base(&fd, &path)?, self.clock.stamp());
        self.files
            .remove_dir(base, &path, &mut self.account, now)
            .map_err(fs_error)
    }

    fn rename_at(
        &mut self,
        fd: Resource<Descriptor>,
        path: String,
        to: Resource<Descriptor>,
        to_path: String,
    ) -> FsResult<()> {
        let (base, to_base) = (self.base(&fd, &path)?, self.base(&to, &to_path)?);
        let now = self.clock.stamp();
        let renamed = self
            .files
            .rename((base, &path), (to_base, &to_path), &mut self.account, now);
        renamed.map_err(fs_error)
    }

    fn symlink_at(
        &mut self,
        _fd: Resource<Descriptor>,
        _target: String,
        _path: String,
    ) -> FsResult<()> {
        Err(ErrorCode::Unsupported.into())
    }

    fn unlink_file_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let (base, now) = (self.base(&fd, &path)?, self.clock.stamp());
        self.files
            .unlink(base, &path, &mut self.account, now)
            .map_err(fs_error)
    }

    fn is_same_object(
        &mut self,
        one: Resource<Descriptor>,
        other: Resource<Descriptor>,
    ) -> Result<bool> {
        let node = |world: &Self, fd| {
            Ok::<_, wasmtime::Error>(world.table.get(&own::<_, Opened>(fd))?.node)
        };
        Ok(node(self, &one)? == node(self, &other)?)
    }

    fn metadata_hash(&mut self, fd: Resource<Descriptor>) -> FsResult<MetadataHashValue> {
        let node = self.node(&fd)?;
        Ok(metadata_hash(&self.files.stat(node).map_err(fs_error)?))
    }

    fn metadata_hash_at(
        &mut self,
        fd: Resource<Descriptor>,
        _flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        let base = self.base(&fd, &path)?;
        let node = self.files.lookup(base, &path).map_err(fs_error)?;
        Ok(metadata_hash(&self.files.stat(node).map_err(fs_error)?))
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> Result<()> {
        let opened = self.table.delete(own::<_, Opened>(&fd))?;
        self.files.release(opened.node, &mut self.account);
        Ok(())
    }
}

impl types::HostDirectoryEntryStream for World {
    fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        let listing = self.table.get_mut(&own::<_, Listing>(&stream))?;
        let mut rest = self
            .files
            .list(listing.dir, listing.last)
            .map_err(fs_error)?;
        let Some(listed) = rest.next() else {
            return Ok(None);
        };
        listing.last = listed.node.number();
        let type_ = descriptor_type(listed.kind);
        Ok(Some(DirectoryEntry {
            type_,
            name: listed.name.to_owned(),
        }))
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> Result<()> {
        let listing = self.table.delete(own::<_, Listing>(&stream))?;
        self.files.release(listing.dir, &mut self.account);
        Ok(())
    }
}

fn fs_error(refusal: Refusal) -> FsError {
    match refusal {
        Refusal::Errno(errno) => code(errno).into(),
        Refusal::Stop(stop) => FsError::trap(stop),
    }
}

const fn code(errno: Errno) -> ErrorCode {
    match errno {
        Errno::Badf => ErrorCode::BadDescriptor,
        Errno::Exist => ErrorCode::Exist,
        Errno::Ilseq => ErrorCode::IllegalByteSequence,
        Errno::Fault | Errno::Inval | Errno::Notsock => ErrorCode::Invalid,
        Errno::Isdir => ErrorCode::IsDirectory,
        Errno::NameTooLong => ErrorCode::NameTooLong,
        Errno::Noent => ErrorCode::NoEntry,
        Errno::Mfile | Errno::Nospc => ErrorCode::InsufficientSpace,
        Errno::Notdir => ErrorCode::NotDirectory,
        Errno::Notempty => ErrorCode::NotEmpty,
        Errno::Notsup => ErrorCode::Unsupported,
        Errno::Overflow => ErrorCode::Overflow,
        Errno::Perm => ErrorCode::NotPermitted,
        Errno::Rofs => ErrorCode::ReadOnly,
        Errno::Spipe => ErrorCode::InvalidSeek,
    }
}

const fn descriptor_type(kind: EntryKind) -> DescriptorType {
    match kind {
        EntryKind::File => DescriptorType::RegularFile,
        EntryKind::Directory => DescriptorType::Directory,
    }
}

const fn descriptor_stat(stat: &Stat) -> DescriptorStat {
    DescriptorStat {
        type_: descriptor_type(stat.kind),
        link_count: 1,
        size: stat.size,
        data_access_timestamp: Some(datetime(stat.accessed)),
        data_modification_timestamp: Some(datetime(stat.modified)),
        status_change_timestamp: Some(datetime(stat.modified)),
    }
}

const fn metadata_hash(stat: &Stat) -> MetadataHashValue {
    MetadataHashValue {
        lower: stat.node.number(),
        upper: stat.modified.wrapping_add(stat.size),
    }
}

fn nanos(time: NewTimestamp, now: u64) -> Option<u64> {
    match time {
        NewTimestamp::NoChange => None,
        NewTimestamp::Now => Some(now),
        NewTimestamp::Timestamp(time) => Some(
            time.seconds
                .saturating_mul(1_000_000_000)
                .saturating_add(time.nanoseconds.into()),
        ),
    }
}
