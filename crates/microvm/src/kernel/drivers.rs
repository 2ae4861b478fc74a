//! The drivers that the agent needs, with everything that they build on, in an order in which they can be loaded.

use std::path::Path;

use worldcompute_durable::read_bounded;
use worldcompute_fault::{Fault, Result, WcCode};

use crate::initramfs::Driver;

/// For the disk, and for either channel. One that is built into the kernel is not in `modules.dep`.
const NEEDED: [&str; 4] = [
    "virtio_mmio",
    "virtio_blk",
    "virtio_console",
    "vmw_vsock_virtio_transport",
];
/// Most bytes of `modules.dep`, and of one driver.
const MAX_FILE: u64 = 16 << 20;
/// Most drivers together.
const MAX_DRIVERS: usize = 64;

/// Reads them out of `folder`, which has been made by depmod.
pub fn load(folder: &Path) -> Result<Vec<Driver>> {
    let text = |name| read(folder, name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let (dep, builtin) = (text("modules.dep")?, text("modules.builtin")?);
    let mut paths = Vec::new();
    for name in NEEDED {
        match dependencies(&dep, name) {
            Some(needed) => paths.extend(needed),
            None if builtin.lines().any(|line| name_of(line) == name) => {}
            None => return Err(unusable(folder, format!("it has no driver {name}"))),
        }
    }
    let mut drivers: Vec<Driver> = Vec::new();
    for path in paths {
        let name = name_of(path);
        if drivers.len() >= MAX_DRIVERS {
            return Err(unusable(
                folder,
                format!("more than {MAX_DRIVERS} drivers are needed"),
            ));
        }
        if !path.ends_with(".ko") {
            return Err(unusable(folder, format!("its driver {path} is packed")));
        }
        if !drivers.iter().any(|(there, _)| *there == name) {
            drivers.push((name, read(folder, path)?));
        }
    }
    Ok(drivers)
}

/// A driver's file after those that it needs: depmod lists them with the first to load last (modules.dep(5)).
fn dependencies<'a>(dep: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let lines = dep.lines().filter_map(|line| line.split_once(':'));
    let (path, needs) = { lines }.find(|(path, _)| name_of(path) == name)?;
    Some(needs.split_whitespace().rev().chain([path]).collect())
}

/// `virtio-rng` in a path is `virtio_rng` in a kernel.
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    let name = file.split('.').next().unwrap_or(file);
    name.replace('-', "_")
}

fn read(folder: &Path, name: &str) -> Result<Vec<u8>> {
    read_bounded(&folder.join(name), MAX_FILE)
        .map_err(|fault| unusable(folder, format!("{name} cannot be read")).caused_by(fault))
}

fn unusable(folder: &Path, why: String) -> Fault {
    let message = format!("the modules in {} are of no use: {why}", folder.display());
    Fault::wc(WcCode::SandboxUnavailable, message)
        .hint("install linux-image-cloud-amd64, or name the modules that belong to the kernel in the configuration")
}
