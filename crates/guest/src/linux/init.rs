//! From the kernel's hand to a conversation with the host, and off.

use std::ffi::OsString;
use std::fs::{self, DirEntry, File, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::poll;
use rustix::fs::Mode;
use rustix::mount::MountFlags;
use rustix::system::{RebootCommand, finit_module, reboot};
use vsock::{VMADDR_CID_HOST, VsockStream};
use worldcompute_guest::{PORT, PORT_NAME};

use super::{Result, agent, cannot, cannot_at, machine};

/// How long a device may take to appear.
const PATIENCE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(5);

/// Does everything, and switches the machine off.
pub fn run() -> ExitCode {
    if let Err(why) = serve() {
        // The console is all that is left to say it on.
        eprintln!("agent: {why}");
    }
    rustix::fs::sync();
    match reboot(RebootCommand::PowerOff) {
        Ok(()) => ExitCode::SUCCESS,
        // The kernel panics when this process ends, and that ends the machine too.
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve() -> Result<()> {
    // Modes are those that are written down here.
    rustix::process::umask(Mode::empty());
    for (kind, place) in [
        ("devtmpfs", "/dev"),
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("cgroup2", "/cgroup"),
    ] {
        machine::mount(kind, place, kind, MountFlags::empty(), "")?;
    }
    load_drivers()?;
    agent::run(call_host()?)
}

/// In the order of their names, in which the host numbered them.
fn load_drivers() -> Result<()> {
    let entries = fs::read_dir("/modules").map_err(cannot("list /modules"))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let file = File::open(&path).map_err(cannot_at("open", &path))?;
        finit_module(file, c"", 0).map_err(cannot_at("load", &path))?;
    }
    Ok(())
}

/// By whichever device the hypervisor has given this machine.
fn call_host() -> Result<File> {
    retry(|| {
        call_by_port().or_else(|port| call_by_vsock().map_err(|vsock| format!("{port}; {vsock}")))
    })
}

fn call_by_port() -> Result<File> {
    let path = Path::new("/dev").join(port()?);
    let port = OpenOptions::new().read(true).write(true).open(path);
    port.map_err(cannot("open the port to the host"))
}

fn call_by_vsock() -> Result<File> {
    let call = VsockStream::connect_with_cid_port(VMADDR_CID_HOST, PORT);
    call.map(|call| File::from(OwnedFd::from(call)))
        .map_err(cannot("call the host"))
}

/// The device of the port with the host's name for it.
fn port() -> Result<OsString> {
    let ports = fs::read_dir("/sys/class/virtio-ports").map_err(cannot("list ports"))?;
    let is_host = |port: &DirEntry| {
        fs::read_to_string(port.path().join("name")).is_ok_and(|name| name.trim_end() == PORT_NAME)
    };
    let found = ports.flatten().find(is_host);
    found
        .map(|port| port.file_name())
        .ok_or_else(|| format!("no port is called {PORT_NAME}"))
}

/// Tries until it succeeds or [`PATIENCE`] is over.
pub fn retry<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match attempt() {
            Err(_) if start.elapsed() < PATIENCE => pause(RETRY)?,
            result => return result,
        }
    }
}

fn pause(time: Duration) -> Result<()> {
    let time = time.try_into().map_err(cannot("wait"))?;
    poll(&mut [], Some(&time)).map(drop).map_err(cannot("wait"))
}
