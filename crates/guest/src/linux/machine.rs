//! Mounts and devices: what a program expects to find.

use std::ffi::CString;
use std::fs;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat, symlinkat};
use rustix::mount::MountFlags;

use super::init::retry;
use super::{ROOT, Result, cannot_at};

/// Character devices that every program may use, by major and minor number (`Documentation/admin-guide/devices.txt` of Linux).
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Links that shells rely on.
const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Puts the file system of `disk` at [`ROOT`], with devices, processes and the like in it. The devices are few: neither
/// the disk nor the port to the host is among them.
pub fn prepare(disk: &str) -> Result<()> {
    let device = format!("/dev/{disk}");
    let none = MountFlags::empty();
    retry(|| mount(&device, ROOT, "ext4", none, ""))?;
    let still = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount_in("proc", "proc", still, "")?;
    mount_in("sysfs", "sys", still | MountFlags::RDONLY, "")?;
    mount_in(
        "tmpfs",
        "dev",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        "mode=755,size=64k",
    )?;
    mount_in("tmpfs", "dev/shm", still, "mode=1777")?;
    for (name, major, minor) in DEVICES {
        let path = format!("{ROOT}/dev/{name}");
        let mode = Mode::from_raw_mode(0o666);
        mknodat(
            CWD,
            &path,
            FileType::CharacterDevice,
            mode,
            makedev(major, minor),
        )
        .map_err(cannot_at("make", &path))?;
    }
    for (name, target) in LINKS {
        let path = format!("{ROOT}/dev/{name}");
        symlinkat(target, CWD, &path).map_err(cannot_at("link", &path))?;
    }
    Ok(())
}

/// Mounts `source`; the folder has to be there.
pub fn mount(
    source: &str,
    place: impl AsRef<Path>,
    kind: &str,
    flags: MountFlags,
    data: &str,
) -> Result<()> {
    let place = place.as_ref();
    let data = CString::new(data).map_err(cannot_at("mount", place))?;
    rustix::mount::mount(source, place, kind, flags, data.as_c_str())
        .map_err(cannot_at("mount", place))
}

fn mount_in(kind: &str, name: &str, flags: MountFlags, data: &str) -> Result<()> {
    let place = Path::new(ROOT).join(name);
    fs::create_dir_all(&place).map_err(cannot_at("make", &place))?;
    mount(kind, place, kind, flags, data)
}
