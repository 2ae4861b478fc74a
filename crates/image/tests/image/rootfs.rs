//! Images as disks.

use std::fs;
use std::path::Path;
use std::process::Command;

use tar::{Builder, EntryType, Header};
use worldcompute_content::Collect;
use worldcompute_fault::{Category, Fault};
use worldcompute_image::{Furnishing, Image, Making, STDIN_PATH, rootfs};
use worldcompute_rootfs::{Cache, Devices, Limits, Size};

use crate::made::{Made, Node, append, gzip, request, tar, zstd};

/// Debian's package busybox-static.
const BUSYBOX: &str = "/bin/busybox";

/// What a program of e2fsprogs says, if it is here.
fn tool(name: &str, arguments: &[&str], disk: &Path) -> Option<String> {
    let output = Command::new(name)
        .env("PATH", "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
        .args(arguments)
        .arg(disk)
        .output();
    let Ok(output) = output else {
        println!("skipped: {name} is not installed (package e2fsprogs)");
        return None;
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{name}: {said}");
    Some(said)
}

/// Without anything that would end it.
fn making(size: Size) -> Making<'static> {
    Making {
        devices: Devices::Refuse,
        size,
        limits: Limits::default(),
        go_on: &|| Ok(()),
    }
}

fn busybox(program: &[u8]) -> Made {
    let mut base = Builder::new(Vec::new());
    append(&mut base, "bin/busybox", program);
    let mut link = Header::new_gnu();
    link.set_entry_type(EntryType::Symlink);
    link.set_size(0);
    base.append_link(&mut link, "bin/sh", "busybox").unwrap();
    append(&mut base, "etc/one", b"1");
    let base = base.into_inner().unwrap();
    let second = tar(&[("etc/.wh.one", b""), ("etc/two", b"22")]);
    let third = tar(&[("srv/data", &[3; 100_000])]);
    let mut made = Made::default();
    made.add_image(
        "amd64",
        &[
            (gzip(&base), base),
            (zstd(&second), second),
            (third.clone(), third),
        ],
    );
    made
}

#[test]
fn an_image_of_busybox_is_a_disk_that_fsck_has_nothing_to_say_of() {
    let Ok(program) = fs::read(BUSYBOX) else {
        println!("skipped: {BUSYBOX} is not installed (package busybox-static)");
        return;
    };
    let node = Node::new();
    let made = busybox(&program);
    let listed = node.import_at(made.layout().path(), &request()).unwrap();
    let image = Image::read(&node.content, &listed.cid).unwrap();
    let cache = Cache::open(&node.dir.path().join("rootfs"), 1 << 30).unwrap();
    let make = || {
        rootfs(
            &node.content,
            &image,
            &Furnishing::default(),
            &cache,
            making(Size::Fitting),
        )
    };
    let disk = node.dir.path().join("disk");
    make().unwrap().copy_to(&disk).unwrap();
    if tool("e2fsck", &["-fn"], &disk).is_none() {
        return;
    }
    let listing = tool("debugfs", &["-R", "ls /etc"], &disk).unwrap();
    assert!(
        listing.contains("two") && !listing.contains("one"),
        "{listing}"
    );
    // From the cache, also when the layers are gone.
    node.images.remove(&listed.cid.to_string()).unwrap();
    node.content.collect(Collect::All).unwrap();
    make().unwrap();
}

#[test]
fn a_disk_is_not_made_of_layers_that_are_gone_or_changed() {
    let node = Node::new();
    let listed = node
        .import_at(busybox(b"no program").layout().path(), &request())
        .unwrap();
    let image = Image::read(&node.content, &listed.cid).unwrap();
    let folder = node.dir.path().join("rootfs");
    let cache = Cache::open(&folder, 1 << 30).unwrap();
    node.images.remove(&listed.cid.to_string()).unwrap();
    node.content.collect(Collect::All).unwrap();
    let fault = rootfs(
        &node.content,
        &image,
        &Furnishing::default(),
        &cache,
        making(Size::Fitting),
    )
    .unwrap_err();
    assert_eq!(fault.code(), "object_missing");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

#[test]
fn what_a_job_brings_lies_over_its_image_and_is_part_of_the_recipe() {
    let Ok(program) = fs::read(BUSYBOX) else {
        println!("skipped: {BUSYBOX} is not installed (package busybox-static)");
        return;
    };
    let node = Node::new();
    let listed = node
        .import_at(busybox(&program).layout().path(), &request())
        .unwrap();
    let image = Image::read(&node.content, &listed.cid).unwrap();
    let folder = node.dir.path().join("rootfs");
    let cache = Cache::open(&folder, 1 << 30).unwrap();
    let long = format!("/srv/{}/data", "n".repeat(200));
    let furnishing = Furnishing {
        inputs: vec![
            ("/etc/two".to_owned(), node.content.put(b"other").unwrap()),
            (long.clone(), node.content.put(&[7; 3000]).unwrap()),
        ],
        stdin: Some(node.content.put(b"").unwrap()),
        outputs: true,
    };
    let disk = node.dir.path().join("disk");
    let make = |furnishing: &Furnishing| {
        let room = making(Size::WithRoom(1 << 20));
        rootfs(&node.content, &image, furnishing, &cache, room).unwrap()
    };
    let made = make(&furnishing);
    assert_eq!(made.size(), 65 << 20);
    made.copy_to(&disk).unwrap();
    for furnishing in [
        furnishing.clone(),
        furnishing.clone(),
        Furnishing::default(),
    ] {
        make(&furnishing);
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
    if tool("e2fsck", &["-fn"], &disk).is_none() {
        return;
    }
    let cat = |path: &str| tool("debugfs", &["-R", &format!("cat {path}")], &disk).unwrap();
    assert_eq!(cat("/etc/two"), "other");
    assert_eq!(cat(&long), String::from_utf8(vec![7; 3000]).unwrap());
    assert_eq!(cat(STDIN_PATH), "");
    let out = tool("debugfs", &["-R", "stat /out"], &disk).unwrap();
    assert!(out.contains("Mode:  01777"), "{out}");
}

#[test]
fn a_disk_that_nobody_wants_any_more_is_not_made_and_leaves_nothing() {
    let node = Node::new();
    let listed = node
        .import_at(busybox(&[5; 100_000]).layout().path(), &request())
        .unwrap();
    let image = Image::read(&node.content, &listed.cid).unwrap();
    let folder = node.dir.path().join("rootfs");
    let cache = Cache::open(&folder, 1 << 30).unwrap();
    let furnishing = Furnishing {
        stdin: Some(node.content.put(&[6; 100_000]).unwrap()),
        ..Furnishing::default()
    };
    let asked = std::cell::Cell::new(0);
    let made = |after: u32| {
        asked.set(0);
        let go_on = || {
            asked.set(asked.get() + 1);
            match asked.get() > after {
                true => Err(Fault::new(Category::StateContention, "enough", "enough")),
                false => Ok(()),
            }
        };
        let making = Making {
            go_on: &go_on,
            ..making(Size::Fitting)
        };
        rootfs(&node.content, &image, &furnishing, &cache, making).map(drop)
    };
    for after in 0..4 {
        assert_eq!(made(after).unwrap_err().code(), "enough", "{after}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }
    made(u32::MAX).unwrap();
    assert!(asked.get() > 4);
}
