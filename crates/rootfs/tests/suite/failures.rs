//! Whatever stops a build, nothing is left of it.

use std::io::{self, Read};
use std::path::Path;
use std::process::Command;

use worldcompute_rootfs::{Assembly, Devices, Limits, Size};

use crate::look::{fsck, unmount};
use crate::support::{Lab, Tar};

/// Set for the process that is to be killed: where it builds.
const VICTIM: &str = "ROOTFS_TEST_VICTIM";

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn large() -> Vec<u8> {
    Tar::new().file("f", &vec![1; 8 << 20]).end()
}

#[test]
fn a_reader_that_fails_is_told_apart_from_a_layer_that_does() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }
    let lab = Lab::new();
    for half in [&large()[..5000], &crate::support::gzip(&large())[..5000]] {
        let refused = lab
            .assemble(&[])
            .unwrap()
            .layer("sha256:5f70", None, half.chain(Broken));
        let fault = refused.err().unwrap();
        assert_eq!(fault.code(), "permission_denied");
        assert!(
            fault
                .message()
                .starts_with("layer sha256:5f70: cannot read"),
            "{fault}"
        );
    }
}

#[test]
fn a_destination_that_cannot_be_written_keeps_what_it_is() {
    let lab = Lab::new();
    std::fs::create_dir(lab.path()).unwrap();
    assert!(lab.try_build(&[large()], Size::Fitting).is_err());
    assert_eq!(names(lab.dir.path()), ["rootfs.ext4"]);
    let nowhere = lab
        .assemble(&[large()])
        .unwrap()
        .build(&lab.dir.path().join("no/where"), Size::Fitting);
    assert_eq!(nowhere.unwrap_err().code(), "not_found");
    assert_eq!(names(lab.dir.path()), ["rootfs.ext4"]);
}

/// A file system in memory of so many bytes; `None`, saying so, where none may be mounted.
struct Small(tempfile::TempDir);

impl Small {
    fn new(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(dir.path())
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            println!("skipped: mounting a small file system takes root");
            return None;
        }
        Some(Self(dir))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        unmount(self.0.path());
    }
}

#[test]
fn a_disk_that_fills_up_while_layers_are_read_or_the_image_is_written_leaves_nothing() {
    let Some(small) = Small::new(4 << 20) else {
        return;
    };
    let dir = small.0.path();
    let begun = Assembly::new(Limits::default(), Devices::Refuse, dir).unwrap();
    let full = begun.layer("base", None, large().as_slice()).err().unwrap();
    assert_eq!(full.code(), "disk_full");
    assert!(full.message().starts_with("layer base: "), "{full}");
    assert!(names(dir).is_empty());
    let lab = Lab::new();
    let full = lab
        .assemble(&[large()])
        .unwrap()
        .build(&dir.join("image"), Size::Fitting);
    assert_eq!(full.unwrap_err().code(), "disk_full");
    assert!(names(dir).is_empty());
    let used = rustix::fs::statvfs(dir).unwrap();
    assert!(used.f_bfree + 2 >= used.f_blocks);
}

#[test]
fn a_build_that_is_killed_leaves_no_image_and_the_next_one_leaves_nothing_else() {
    if let Some(dir) = std::env::var_os(VICTIM) {
        loop {
            let begun = Assembly::new(Limits::default(), Devices::Refuse, Path::new(&dir)).unwrap();
            let whole = begun.layer("base", None, large().as_slice()).unwrap();
            // A name that is never finished: the process ends in the middle of it.
            let _ = whole.build(
                &Path::new(&dir).join("other.ext4"),
                Size::Declared(16 << 20),
            );
        }
    }
    let lab = Lab::new();
    for _ in 0..5 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "failures::a_build_that_is_killed_leaves_no_image_and_the_next_one_leaves_nothing_else"])
            .env(VICTIM, lab.dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while !names(lab.dir.path())
            .iter()
            .any(|name| name.contains(".tmp-"))
        {
            assert!(victim.try_wait().unwrap().is_none());
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
        let other = lab.dir.path().join("other.ext4");
        if other.exists() {
            fsck(&other);
            std::fs::remove_file(&other).unwrap();
        }
        let next = lab
            .assemble(&[large()])
            .unwrap()
            .build(&other, Size::Fitting)
            .unwrap();
        fsck(next.path());
        assert_eq!(names(lab.dir.path()), ["other.ext4"]);
        std::fs::remove_file(&other).unwrap();
    }
}

#[test]
fn a_test_whose_image_nobody_can_look_at_fails_where_all_has_to_run() {
    let passes = |ci: &str| {
        let test = "trees::a_whiteout_of_what_is_not_there_makes_nothing";
        let mut child = Command::new(std::env::current_exe().unwrap());
        let child = child.args(["--exact", test]).env("PATH", "").env("CI", ci);
        child.output().unwrap().status.success()
    };
    assert!(passes(""));
    assert!(!passes("true"));
}
