//! Calls on open files.

use super::Guest;
use super::abi::{IOVEC, Iovec, Record, at, iovecs, put, put_u32, put_u64, slice, slice_mut};
use super::descriptors::{Descriptor, OpenFile, PREOPEN};
use crate::stop::{Errno, Result};
use crate::world::{EntryKind, Listed, NodeId, Printer, SetTimes, Stat};

/// The name of the one preopened directory.
const ROOT: &[u8] = b"/";

const TYPE_UNKNOWN: u8 = 0;
const TYPE_DIRECTORY: u8 = 3;
const TYPE_FILE: u8 = 4;

pub const FLAG_APPEND: u32 = 1;
/// Append and non-blocking: the flags of a file that may change. Nothing here blocks, so the latter changes nothing.
const CHANGEABLE_FLAGS: u32 = FLAG_APPEND | 4;

pub const RIGHT_READ: u64 = 1 << 1;
pub const RIGHT_WRITE: u64 = 1 << 6;
/// Sync, seek, flags, tell, advise, stat, times, poll.
const RIGHTS_FILE: u64 = 1 | 0b1_1100 | 1 << 5 | 1 << 7 | 1 << 21 | 1 << 23 | 1 << 27;
/// Write, allocate, set size.
pub const RIGHTS_WRITING: u64 = RIGHT_WRITE | 1 << 8 | 1 << 22;
/// Make, open, list, rename, stat, set times, remove.
const RIGHTS_DIRECTORY: u64 = 1 << 9
    | 1 << 10
    | 1 << 13
    | 1 << 14
    | 0b11 << 16
    | 1 << 18
    | 1 << 20
    | 1 << 21
    | 1 << 23
    | 0b11 << 25;

const DIRENT: usize = 24;
const SEEK_SET: u32 = 0;
const SEEK_CURRENT: u32 = 1;
const SEEK_END: u32 = 2;

impl Guest<'_> {
    pub fn fd_advise(&mut self, fd: u32, _offset: u64, _length: u64, _advice: u32) -> Result<()> {
        self.world.descriptors.file(fd).map(|_| ())
    }

    pub fn fd_allocate(&mut self, fd: u32, _offset: u64, _length: u64) -> Result<()> {
        self.world.descriptors.file(fd)?;
        Err(Errno::Notsup.into())
    }

    pub fn fd_close(&mut self, fd: u32) -> Result<()> {
        let closed = self.world.descriptors.remove(fd)?;
        self.release(Some(closed));
        Ok(())
    }

    pub fn fd_datasync(&mut self, fd: u32) -> Result<()> {
        self.world.descriptors.get(fd).map(|_| ())
    }

    pub fn fd_sync(&mut self, fd: u32) -> Result<()> {
        self.world.descriptors.get(fd).map(|_| ())
    }

    pub fn fd_fdstat_get(&mut self, fd: u32, stat: u32) -> Result<()> {
        let (kind, flags, base, inheriting) = match self.world.descriptors.get(fd)? {
            Descriptor::Stdin => (TYPE_UNKNOWN, 0, RIGHT_READ, 0),
            Descriptor::Print(_) => (TYPE_UNKNOWN, 0, RIGHT_WRITE, 0),
            Descriptor::Directory(_) => {
                let below = RIGHTS_DIRECTORY | RIGHTS_FILE | RIGHT_READ | RIGHTS_WRITING;
                (TYPE_DIRECTORY, 0, RIGHTS_DIRECTORY, below)
            }
            Descriptor::File(file) => (
                TYPE_FILE,
                if file.append { FLAG_APPEND } else { 0 },
                rights(&file),
                0,
            ),
        };
        let record = Record::<24>::zeroed()
            .with(0, &[kind])
            .with(2, &(flags as u16).to_le_bytes());
        let record = record
            .with(8, &base.to_le_bytes())
            .with(16, &inheriting.to_le_bytes());
        put(self.memory, stat, &record.0)
    }

    pub fn fd_fdstat_set_flags(&mut self, fd: u32, flags: u32) -> Result<()> {
        let file = self.world.descriptors.file_mut(fd)?;
        if flags & !CHANGEABLE_FLAGS != 0 {
            return Err(Errno::Inval.into());
        }
        file.append = flags & FLAG_APPEND != 0;
        Ok(())
    }

    pub fn fd_fdstat_set_rights(&mut self, fd: u32, _base: u64, _inheriting: u64) -> Result<()> {
        self.world.descriptors.get(fd)?;
        Err(Errno::Notsup.into())
    }

    pub fn fd_filestat_get(&mut self, fd: u32, stat: u32) -> Result<()> {
        let record = match self.world.descriptors.get(fd)?.node() {
            Some(node) => filestat(&self.world.files.stat(node)?),
            None => Record::zeroed(),
        };
        put(self.memory, stat, &record.0)
    }

    pub fn fd_filestat_set_size(&mut self, fd: u32, size: u64) -> Result<()> {
        let file = self.writing(fd)?;
        let (now, world) = (self.world.clock.stamp(), &mut *self.world);
        world
            .files
            .set_size(file.node, size, &mut world.account, now)
    }

    pub fn fd_filestat_set_times(
        &mut self,
        fd: u32,
        accessed: u64,
        modified: u64,
        flags: u32,
    ) -> Result<()> {
        let node = self.world.descriptors.node(fd)?;
        let times = self.times(accessed, modified, flags)?;
        self.world.files.set_times(node, times)
    }

    pub fn fd_prestat_get(&mut self, fd: u32, prestat: u32) -> Result<()> {
        self.preopen(fd)?;
        let record = Record::<8>::zeroed().with(4, &(ROOT.len() as u32).to_le_bytes());
        put(self.memory, prestat, &record.0)
    }

    pub fn fd_prestat_dir_name(&mut self, fd: u32, name: u32, length: u32) -> Result<()> {
        self.preopen(fd)?;
        if (length as usize) < ROOT.len() {
            return Err(Errno::NameTooLong.into());
        }
        put(self.memory, name, ROOT)
    }

    pub fn fd_read(&mut self, fd: u32, buffers: u32, count: u32, read: u32) -> Result<()> {
        let total = match self.world.descriptors.get(fd)? {
            Descriptor::Stdin => self.read_stdin(buffers, count)?,
            Descriptor::Print(_) => return Err(Errno::Badf.into()),
            Descriptor::Directory(_) => return Err(Errno::Isdir.into()),
            Descriptor::File(file) => {
                let total = self.read_file(&file, file.offset, buffers, count)?;
                self.world.descriptors.file_mut(fd)?.offset += u64::from(total);
                total
            }
        };
        put_u32(self.memory, read, total)
    }

    pub fn fd_pread(
        &mut self,
        fd: u32,
        buffers: u32,
        count: u32,
        offset: u64,
        read: u32,
    ) -> Result<()> {
        let file = self.world.descriptors.file(fd)?;
        let total = self.read_file(&file, offset, buffers, count)?;
        put_u32(self.memory, read, total)
    }

    pub fn fd_write(&mut self, fd: u32, buffers: u32, count: u32, written: u32) -> Result<()> {
        let total = match self.world.descriptors.get(fd)? {
            Descriptor::Stdin => return Err(Errno::Badf.into()),
            Descriptor::Directory(_) => return Err(Errno::Isdir.into()),
            Descriptor::Print(printer) => self.print(printer, buffers, count)?,
            Descriptor::File(_) => {
                let file = self.writing(fd)?;
                let start = if file.append {
                    self.world.files.stat(file.node)?.size
                } else {
                    file.offset
                };
                let total = self.write_file(&file, start, buffers, count)?;
                self.world.descriptors.file_mut(fd)?.offset = start + u64::from(total);
                total
            }
        };
        put_u32(self.memory, written, total)
    }

    pub fn fd_pwrite(
        &mut self,
        fd: u32,
        buffers: u32,
        count: u32,
        offset: u64,
        written: u32,
    ) -> Result<()> {
        let file = self.writing(fd)?;
        let total = self.write_file(&file, offset, buffers, count)?;
        put_u32(self.memory, written, total)
    }

    /// Fills the buffer with entries younger than the cookie; the last one may be cut off.
    pub fn fd_readdir(
        &mut self,
        fd: u32,
        buffer: u32,
        length: u32,
        cookie: u64,
        used: u32,
    ) -> Result<()> {
        let node = self.world.descriptors.directory(fd)?;
        let mut entries = Vec::new();
        for listed in self.world.files.list(node, cookie)? {
            entries.extend(dirent(&listed));
            if entries.len() >= length as usize {
                break;
            }
        }
        entries.truncate(length as usize);
        self.world.account.moves(entries.len() as u64)?;
        put(self.memory, buffer, &entries)?;
        put_u32(self.memory, used, entries.len() as u32)
    }

    pub fn fd_renumber(&mut self, from: u32, to: u32) -> Result<()> {
        let closed = self.world.descriptors.renumber(from, to)?;
        self.release(closed);
        Ok(())
    }

    pub fn fd_seek(&mut self, fd: u32, delta: i64, whence: u32, offset: u32) -> Result<()> {
        let file = self.world.descriptors.file(fd)?;
        let base = match whence {
            SEEK_SET => 0,
            SEEK_CURRENT => file.offset,
            SEEK_END => self.world.files.stat(file.node)?.size,
            _ => return Err(Errno::Inval.into()),
        };
        let target = base.checked_add_signed(delta).ok_or(Errno::Inval)?;
        self.world.descriptors.file_mut(fd)?.offset = target;
        put_u64(self.memory, offset, target)
    }

    pub fn fd_tell(&mut self, fd: u32, offset: u32) -> Result<()> {
        let file = self.world.descriptors.file(fd)?;
        put_u64(self.memory, offset, file.offset)
    }

    /// Times to set: given, now, or left alone.
    pub fn times(&self, accessed: u64, modified: u64, flags: u32) -> Result<SetTimes> {
        let now = self.world.clock.stamp();
        let time = |given: u64, flags: u32| match flags & 0b11 {
            0b00 => Ok(None),
            0b01 => Ok(Some(given)),
            0b10 => Ok(Some(now)),
            _ => Err(Errno::Inval),
        };
        Ok(SetTimes {
            accessed: time(accessed, flags)?,
            modified: time(modified, flags >> 2)?,
        })
    }

    fn release(&mut self, closed: Option<Descriptor>) {
        if let Some(node) = closed.and_then(|closed| closed.node()) {
            self.world.files.release(node, &mut self.world.account);
        }
    }

    fn preopen(&self, fd: u32) -> Result<()> {
        match self.world.descriptors.get(fd)? {
            Descriptor::Directory(NodeId::ROOT) if fd == PREOPEN => Ok(()),
            _ => Err(Errno::Badf.into()),
        }
    }

    fn writing(&self, fd: u32) -> Result<OpenFile> {
        let file = self.world.descriptors.file(fd)?;
        if file.write {
            Ok(file)
        } else {
            Err(Errno::Badf.into())
        }
    }

    fn buffers(&mut self, list: u32, count: u32) -> Result<Vec<Iovec>> {
        let buffers = iovecs(self.memory, list, count)?;
        self.world.account.moves(buffers.len() as u64 * IOVEC)?;
        Ok(buffers)
    }

    fn read_stdin(&mut self, buffers: u32, count: u32) -> Result<u32> {
        let mut total = 0;
        for iovec in self.buffers(buffers, count)? {
            let place = slice_mut(self.memory, iovec.buffer, iovec.length)?;
            let bytes = self.world.stdin.take(place.len());
            self.world.account.moves(bytes.len() as u64)?;
            total += fill(place, bytes)?;
        }
        Ok(total)
    }

    fn read_file(
        &mut self,
        file: &OpenFile,
        mut offset: u64,
        buffers: u32,
        count: u32,
    ) -> Result<u32> {
        if !file.read {
            return Err(Errno::Badf.into());
        }
        let mut total = 0;
        for iovec in self.buffers(buffers, count)? {
            let place = slice_mut(self.memory, iovec.buffer, iovec.length)?;
            let bytes = self.world.files.read_at(file.node, offset, place.len())?;
            self.world.account.moves(bytes.len() as u64)?;
            total += fill(place, bytes)?;
            offset = offset.saturating_add(bytes.len() as u64);
        }
        Ok(total)
    }

    fn print(&mut self, printer: Printer, buffers: u32, count: u32) -> Result<u32> {
        let mut total = 0_u32;
        for iovec in self.buffers(buffers, count)? {
            let bytes = slice(self.memory, iovec.buffer, iovec.length)?;
            self.world.account.moves(bytes.len() as u64)?;
            self.world.print(printer, bytes)?;
            total = at(total, iovec.length)?;
        }
        Ok(total)
    }

    fn write_file(
        &mut self,
        file: &OpenFile,
        mut offset: u64,
        buffers: u32,
        count: u32,
    ) -> Result<u32> {
        let (mut total, list) = (0_u32, self.buffers(buffers, count)?);
        let (now, world) = (self.world.clock.stamp(), &mut *self.world);
        for iovec in list {
            let bytes = slice(self.memory, iovec.buffer, iovec.length)?;
            world.account.moves(bytes.len() as u64)?;
            world
                .files
                .write_at(file.node, offset, bytes, &mut world.account, now)?;
            offset = offset
                .checked_add(bytes.len() as u64)
                .ok_or(Errno::Overflow)?;
            total = at(total, iovec.length)?;
        }
        Ok(total)
    }
}

/// The `filestat` of a node. No node has another name than its own, so that the link count is one.
pub fn filestat(stat: &Stat) -> Record<64> {
    let record = Record::zeroed().with(0, &1_u64.to_le_bytes());
    let record = record
        .with(8, &stat.node.number().to_le_bytes())
        .with(16, &[file_type(stat.kind)]);
    let record = record
        .with(24, &1_u64.to_le_bytes())
        .with(32, &stat.size.to_le_bytes());
    let record = record.with(40, &stat.accessed.to_le_bytes());
    let record = record.with(48, &stat.modified.to_le_bytes());
    record.with(56, &stat.modified.to_le_bytes())
}

/// The cookie of an entry is its node: those that follow stay the same, whatever is removed in between.
fn dirent(listed: &Listed<'_>) -> Vec<u8> {
    let (node, name) = (listed.node.number().to_le_bytes(), listed.name.as_bytes());
    let record = Record::<DIRENT>::zeroed().with(0, &node).with(8, &node);
    let record = record.with(16, &(name.len() as u32).to_le_bytes());
    [
        record.with(20, &[file_type(listed.kind)]).0.as_slice(),
        name,
    ]
    .concat()
}

const fn file_type(kind: EntryKind) -> u8 {
    match kind {
        EntryKind::Directory => TYPE_DIRECTORY,
        EntryKind::File => TYPE_FILE,
    }
}

const fn rights(file: &OpenFile) -> u64 {
    let reading = if file.read { RIGHT_READ } else { 0 };
    let writing = if file.write { RIGHTS_WRITING } else { 0 };
    RIGHTS_FILE | reading | writing
}

fn fill(place: &mut [u8], bytes: &[u8]) -> Result<u32> {
    let place = place.get_mut(..bytes.len()).ok_or(Errno::Fault)?;
    place.copy_from_slice(bytes);
    Ok(bytes.len() as u32)
}
