//! WASI preview 1: the system calls of core modules, as translations onto the guest's [`World`].
//!
//! Layouts and numbers are those of `wasi_snapshot_preview1.witx`. A pointer outside the guest's memory is answered
//! with `EFAULT`.

mod abi;
mod descriptors;
mod files;
mod paths;
mod process;
mod waiting;

pub use descriptors::Descriptors;

use wasmtime::{Caller, Extern, Linker};

use crate::stop::{Errno, Refusal, Result, Stop};
use crate::world::World;

/// The name that modules import their system calls from.
const MODULE: &str = "wasi_snapshot_preview1";

/// A guest in the middle of a call: its memory and its world.
struct Guest<'a> {
    memory: &'a mut [u8],
    world: &'a mut World,
}

/// Links each call to the method of [`Guest`] of the same name.
macro_rules! link {
    ($linker:ident: $($name:ident($($arg:ident: $type:ty),*);)*) => {
        $($linker.func_wrap(MODULE, stringify!($name), |mut caller: Caller<'_, World>, $($arg: $type),*| {
            answer(&mut caller, |guest| guest.$name($($arg),*))
        })?;)*
    };
}

/// Links all of preview 1.
pub fn add_to_linker(linker: &mut Linker<World>) -> wasmtime::Result<()> {
    link! { linker:
        args_get(argv: u32, buffer: u32);
        args_sizes_get(count: u32, size: u32);
        environ_get(environ: u32, buffer: u32);
        environ_sizes_get(count: u32, size: u32);
        clock_res_get(clock: u32, resolution: u32);
        clock_time_get(clock: u32, precision: u64, time: u32);
        fd_advise(fd: u32, offset: u64, length: u64, advice: u32);
        fd_allocate(fd: u32, offset: u64, length: u64);
        fd_close(fd: u32);
        fd_datasync(fd: u32);
        fd_fdstat_get(fd: u32, stat: u32);
        fd_fdstat_set_flags(fd: u32, flags: u32);
        fd_fdstat_set_rights(fd: u32, base: u64, inheriting: u64);
        fd_filestat_get(fd: u32, stat: u32);
        fd_filestat_set_size(fd: u32, size: u64);
        fd_filestat_set_times(fd: u32, accessed: u64, modified: u64, flags: u32);
        fd_pread(fd: u32, iovecs: u32, count: u32, offset: u64, read: u32);
        fd_prestat_get(fd: u32, prestat: u32);
        fd_prestat_dir_name(fd: u32, name: u32, length: u32);
        fd_pwrite(fd: u32, iovecs: u32, count: u32, offset: u64, written: u32);
        fd_read(fd: u32, iovecs: u32, count: u32, read: u32);
        fd_readdir(fd: u32, buffer: u32, length: u32, cookie: u64, used: u32);
        fd_renumber(from: u32, to: u32);
        fd_seek(fd: u32, delta: i64, whence: u32, offset: u32);
        fd_sync(fd: u32);
        fd_tell(fd: u32, offset: u32);
        fd_write(fd: u32, iovecs: u32, count: u32, written: u32);
        path_create_directory(fd: u32, path: u32, length: u32);
        path_filestat_get(fd: u32, follow: u32, path: u32, length: u32, stat: u32);
        path_filestat_set_times(fd: u32, follow: u32, path: u32, length: u32, accessed: u64, modified: u64, flags: u32);
        path_link(fd: u32, follow: u32, path: u32, length: u32, to: u32, to_path: u32, to_length: u32);
        path_open(fd: u32, follow: u32, path: u32, length: u32, how: u32, base: u64, inheriting: u64, flags: u32, opened: u32);
        path_readlink(fd: u32, path: u32, length: u32, buffer: u32, size: u32, used: u32);
        path_remove_directory(fd: u32, path: u32, length: u32);
        path_rename(fd: u32, path: u32, length: u32, to: u32, to_path: u32, to_length: u32);
        path_symlink(target: u32, target_length: u32, fd: u32, path: u32, length: u32);
        path_unlink_file(fd: u32, path: u32, length: u32);
        poll_oneoff(subscriptions: u32, events: u32, count: u32, ready: u32);
        proc_raise(signal: u32);
        random_get(buffer: u32, length: u32);
        sched_yield();
        sock_accept(fd: u32, flags: u32, accepted: u32);
        sock_recv(fd: u32, iovecs: u32, count: u32, flags: u32, received: u32, out_flags: u32);
        sock_send(fd: u32, iovecs: u32, count: u32, flags: u32, sent: u32);
        sock_shutdown(fd: u32, how: u32);
    }
    linker.func_wrap(MODULE, "proc_exit", |code: u32| -> wasmtime::Result<()> {
        Err(Stop::Exit(code.cast_signed()).into())
    })?;
    Ok(())
}

/// Makes a call, and tells the guest its errno or ends it.
fn answer(
    caller: &mut Caller<'_, World>,
    call: impl FnOnce(&mut Guest<'_>) -> Result<()>,
) -> wasmtime::Result<u32> {
    let memory = caller.get_export("memory").and_then(Extern::into_memory);
    let (memory, world) = match memory {
        Some(memory) => memory.data_and_store_mut(caller),
        None => (Default::default(), caller.data_mut()),
    };
    world.account.called();
    match call(&mut Guest { memory, world }) {
        Ok(()) => Ok(0),
        Err(Refusal::Errno(errno)) => Ok(number(errno)),
        Err(Refusal::Stop(stop)) => Err(stop.into()),
    }
}

const fn number(errno: Errno) -> u32 {
    match errno {
        Errno::Badf => 8,
        Errno::Exist => 20,
        Errno::Fault => 21,
        Errno::Ilseq => 25,
        Errno::Inval => 28,
        Errno::Isdir => 31,
        Errno::Mfile => 33,
        Errno::NameTooLong => 37,
        Errno::Noent => 44,
        Errno::Nospc => 51,
        Errno::Notdir => 54,
        Errno::Notempty => 55,
        Errno::Notsock => 57,
        Errno::Notsup => 58,
        Errno::Overflow => 61,
        Errno::Perm => 63,
        Errno::Rofs => 69,
        Errno::Spipe => 70,
    }
}

#[cfg(test)]
mod tests;
