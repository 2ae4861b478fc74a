//! The image as a whole: its size, and that it is always the same.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use worldcompute_rootfs::{MAX_IMAGE, Size};

use crate::look::{Mounted, NO_MOUNT, fsck, mount};
use crate::support::{Lab, Tar, gzip};

fn some_layers() -> [Vec<u8>; 2] {
    let base = Tar::new()
        .dir("etc/")
        .file("etc/a", &[1; 10_000])
        .pax(&[(b"mtime", b"1.5"), (b"SCHILY.xattr.user.x", b"1")])
        .file("etc/b", b"")
        .symlink("long", "x".repeat(200));
    let upper = Tar::new().hard_link("c", "etc/a").whiteout("etc/.wh.b");
    [base.end(), gzip(&upper.end())]
}

#[test]
fn the_same_layers_give_the_same_bytes_elsewhere_and_later() {
    let first = Lab::new();
    let image = first.build(&some_layers());
    let bytes = std::fs::read(image.path()).unwrap();
    // Nothing of the first is in reach of the second, neither its second nor its folder.
    let begun = SystemTime::now();
    let second = Lab::new();
    let mut waited = Vec::new();
    while begun.elapsed().unwrap() < Duration::from_millis(1100) {
        waited.push(second.assemble(&[]).is_ok());
    }
    let again = second.build(&some_layers());
    assert!(bytes == std::fs::read(again.path()).unwrap());
    assert_eq!(image.size(), again.size());
}

#[test]
fn packing_is_no_part_of_the_image_and_size_and_layers_are() {
    let [base, upper] = some_layers();
    let build = |layers: &[Vec<u8>], size| {
        let lab = Lab::new();
        lab.try_build(layers, size).unwrap();
        std::fs::read(lab.path()).unwrap()
    };
    let one = build(&[base.clone(), upper.clone()], Size::Fitting);
    assert!(one == build(&[gzip(&base), upper.clone()], Size::Fitting));
    assert!(one == build(&[base.clone(), upper.clone()], Size::Declared(64 << 20)));
    let uuid = |image: &[u8]| image[1024 + 0x68..1024 + 0x78].to_vec();
    assert_ne!(
        uuid(&one),
        uuid(&build(&[base.clone(), upper], Size::Declared(65 << 20)))
    );
    assert_ne!(uuid(&one), uuid(&build(&[base], Size::Fitting)));
}

#[test]
fn an_image_without_a_declared_size_is_the_larger_of_64_mib_and_a_tenth_more_than_its_layers() {
    let lab = Lab::new();
    assert_eq!(lab.build(&some_layers()).size(), 64 << 20);
    let large = Tar::new().file("f", &vec![1; 80 << 20]).end();
    let told = (large.len() as u64 * 11).div_ceil(10);
    assert_eq!(lab.build(&[large]).size(), told.next_multiple_of(4096));
}

#[test]
fn small_files_and_directories_that_need_more_than_a_tenth_get_it() {
    let lab = Lab::new();
    let dirs = (0..40_000).fold(Tar::new(), |tar, number| tar.dir(number.to_string()));
    let image = lab.build(&[dirs.end()]);
    assert!(image.size() > 160 << 20);
    if let Some(mounted) = Mounted::new(image.path()) {
        assert_eq!(std::fs::read_dir(mounted.path()).unwrap().count(), 40_000);
    }
}

#[test]
fn a_declared_size_is_taken_whole_or_refused_with_the_one_that_would_do() {
    let lab = Lab::new();
    let layers = [Tar::new().file("f", &vec![1; 20 << 20]).end()];
    let refused = lab
        .try_build(&layers, Size::Declared(20 << 20))
        .unwrap_err();
    assert_eq!(refused.code(), "rootfs_too_small");
    assert_eq!(std::fs::read_dir(lab.dir.path()).unwrap().count(), 0);
    let needed = refused.message().split(' ').rev().nth(2).unwrap();
    let needed: u64 = needed.parse().unwrap();
    let less = lab.try_build(&layers, Size::Declared(needed - 4096));
    assert_eq!(less.unwrap_err().code(), "rootfs_too_small");
    let image = lab.try_build(&layers, Size::Declared(needed)).unwrap();
    fsck(image.path());
    assert_eq!(image.size(), needed);
    let huge = lab.try_build(&layers, Size::Declared(MAX_IMAGE + 1));
    assert_eq!(huge.unwrap_err().code(), "rootfs_too_large");
    let none = lab.try_build(&[], Size::Declared(0));
    assert_eq!(none.unwrap_err().code(), "rootfs_too_small");
}

#[test]
fn an_image_of_any_size_is_clean_and_can_be_mounted() {
    let layers = some_layers();
    let sizes = [
        2 << 20,
        32 << 20,
        100_000_001,
        (128 << 20) - 4096,
        128 << 20,
        (128 << 20) + 4096,
        (128 << 20) + (3 << 20),
        257 << 20,
        1_000_000_000,
        3_333_333_333,
        70 << 30,
    ];
    for size in sizes {
        let lab = Lab::new();
        let image = lab.try_build(&layers, Size::Declared(size)).unwrap();
        fsck(image.path());
        let metadata = std::fs::metadata(image.path()).unwrap();
        assert_eq!(metadata.len(), size.next_multiple_of(4096));
        assert_eq!(metadata.mode() & 0o7777, 0o600);
        if let Some(mounted) = Mounted::new(image.path()) {
            assert_eq!(
                std::fs::read(mounted.path().join("c")).unwrap(),
                [1; 10_000],
                "{size}"
            );
        }
    }
}

#[test]
fn an_image_takes_no_more_of_the_disk_than_what_is_in_it() {
    let lab = Lab::new();
    let image = lab
        .try_build(&some_layers(), Size::Declared(10 << 30))
        .unwrap();
    let taken = std::fs::metadata(image.path()).unwrap().blocks() * 512;
    assert!(taken < 2 << 20, "{taken}");
}

#[test]
fn a_guest_can_write_to_an_image_and_leaves_it_clean() {
    let lab = Lab::new();
    let names = (0..3000).map(|number| format!("d/{number:0>100}"));
    let tar = names.fold(Tar::new(), |tar, name| tar.file(name, b"x"));
    let image = lab.build(&[tar.end()]);
    let Some(place) = mount(image.path(), "loop") else {
        println!("{NO_MOUNT}");
        return;
    };
    let write = || -> std::io::Result<()> {
        for number in 0..2000 {
            std::fs::create_dir(place.path().join(format!("d/new-{number}")))?;
            std::fs::remove_file(place.path().join(format!("d/{number:0>100}")))?;
        }
        std::io::copy(
            &mut std::io::repeat(7).take(20 << 20),
            &mut std::fs::File::create(place.path().join("large"))?,
        )?;
        Ok(())
    };
    use std::io::Read;
    let written = write();
    // Not lazily: fsck looks at what is written back. A program that another test starts may have a file for an instant.
    let unmounted = || {
        let done = std::process::Command::new("umount")
            .arg(place.path())
            .status();
        done.unwrap().success()
    };
    assert!((0..100).any(|_| unmounted()));
    written.unwrap();
    fsck(image.path());
}
