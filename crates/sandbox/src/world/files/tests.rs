use proptest::prelude::*;

use super::tree::{Body, MAX_NODES};
use super::*;
use crate::stop::{Errno, Refusal, Result, Stop};
use crate::world::Account;

const ROOT: NodeId = NodeId::ROOT;
const LIMIT: u64 = 1000;
const MAKE: OpenHow = OpenHow {
    create: true,
    exclusive: false,
    truncate: false,
    directory: false,
    write: true,
};
const READ: OpenHow = OpenHow {
    create: false,
    exclusive: false,
    truncate: false,
    directory: false,
    write: false,
};

struct Disk {
    files: Filesystem,
    account: Account,
}

impl Disk {
    fn new() -> Self {
        let mut files = Filesystem::new();
        files
            .lay_input("/in/data", b"input".as_slice().into())
            .unwrap();
        Self {
            files,
            account: Account::new(u64::MAX, LIMIT),
        }
    }

    fn open(&mut self, path: &str, how: OpenHow) -> Result<NodeId> {
        self.files.open(ROOT, path, how, &mut self.account, 7)
    }

    fn make(&mut self, path: &str, bytes: &[u8]) -> NodeId {
        let node = self.open(path, MAKE).unwrap();
        self.write(node, 0, bytes).unwrap();
        node
    }

    fn write(&mut self, node: NodeId, offset: u64, bytes: &[u8]) -> Result<()> {
        self.files
            .write_at(node, offset, bytes, &mut self.account, 8)
    }

    fn mkdir(&mut self, path: &str) -> Result<()> {
        self.files.create_dir(ROOT, path, 9)
    }

    fn rmdir(&mut self, path: &str) -> Result<()> {
        self.files.remove_dir(ROOT, path, &mut self.account, 9)
    }

    fn unlink(&mut self, path: &str) -> Result<()> {
        self.files.unlink(ROOT, path, &mut self.account, 9)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        self.files
            .rename((ROOT, from), (ROOT, to), &mut self.account, 9)
    }

    fn read(&self, path: &str) -> Result<Vec<u8>> {
        Ok(self.files.bytes(self.files.lookup(ROOT, path)?)?.to_vec())
    }

    fn kept(&self) -> u64 {
        let sizes = self.files.nodes.values().map(|node| match &node.body {
            Body::File(bytes) => bytes.len() as u64,
            Body::Input(_) | Body::Directory(_) => 0,
        });
        sizes.sum()
    }
}

fn errno<T: std::fmt::Debug>(result: Result<T>) -> Errno {
    match result.unwrap_err() {
        Refusal::Errno(errno) => errno,
        Refusal::Stop(stop) => panic!("{stop}"),
    }
}

#[test]
fn what_is_written_is_read() {
    let mut disk = Disk::new();
    let node = disk.make("out/file", b"hello");
    disk.write(node, 7, b"world").unwrap();
    assert_eq!(disk.read("out/file").unwrap(), b"hello\0\0world");
    assert_eq!(disk.files.read_at(node, 7, 3).unwrap(), b"wor");
    assert_eq!(disk.files.read_at(node, 12, 3).unwrap(), b"");
    assert_eq!(disk.files.read_at(node, u64::MAX, 3).unwrap(), b"");
}

#[test]
fn every_byte_kept_takes_room_and_gives_it_back() {
    let mut disk = Disk::new();
    let node = disk.make("out/file", &[1; 600]);
    assert_eq!(disk.account.left(), 400);
    disk.files
        .set_size(node, 100, &mut disk.account, 0)
        .unwrap();
    assert_eq!(disk.account.left(), 900);
    disk.files
        .set_size(node, 1000, &mut disk.account, 0)
        .unwrap();
    assert_eq!(
        disk.write(node, 1000, b"x").unwrap_err(),
        Refusal::Stop(Stop::OutputLimit)
    );
    disk.unlink("out/file").unwrap();
    assert_eq!(disk.account.left(), 1000);
}

#[test]
fn a_size_past_the_limit_is_refused_before_it_is_allocated() {
    let mut disk = Disk::new();
    let node = disk.make("out/file", b"");
    for size in [1001, 1 << 40, u64::MAX] {
        let refused = disk.files.set_size(node, size, &mut disk.account, 0);
        assert_eq!(refused.unwrap_err(), Refusal::Stop(Stop::OutputLimit));
    }
    assert_eq!(
        disk.write(node, 1 << 40, b"x").unwrap_err(),
        Refusal::Stop(Stop::OutputLimit)
    );
    assert_eq!(errno(disk.write(node, u64::MAX, b"x")), Errno::Overflow);
}

#[test]
fn a_removed_file_lives_until_it_is_released() {
    let mut disk = Disk::new();
    let node = disk.make("out/file", b"hello");
    disk.files.retain(node).unwrap();
    disk.unlink("out/file").unwrap();
    assert_eq!(disk.files.bytes(node).unwrap(), b"hello");
    assert_eq!(disk.account.left(), LIMIT - 5);
    disk.files.release(node, &mut disk.account);
    assert_eq!(errno(disk.files.bytes(node)), Errno::Noent);
    assert_eq!(disk.account.left(), LIMIT);
}

#[test]
fn nothing_outside_out_can_be_changed_in_any_way() {
    let mut disk = Disk::new();
    disk.make("out/file", b"mine");
    let input = disk.files.lookup(ROOT, "in/data").unwrap();
    assert_eq!(errno(disk.open("new", MAKE)), Errno::Rofs);
    assert_eq!(errno(disk.open("in/new", MAKE)), Errno::Rofs);
    assert_eq!(errno(disk.open("in/data", MAKE)), Errno::Rofs);
    assert_eq!(
        errno(disk.open(
            "in/data",
            OpenHow {
                truncate: true,
                ..READ
            }
        )),
        Errno::Rofs
    );
    assert_eq!(errno(disk.write(input, 0, b"x")), Errno::Rofs);
    assert_eq!(
        errno(disk.files.set_size(input, 0, &mut disk.account, 0)),
        Errno::Rofs
    );
    assert_eq!(
        errno(disk.files.set_times(input, SetTimes::default())),
        Errno::Rofs
    );
    assert_eq!(errno(disk.mkdir("dir")), Errno::Rofs);
    assert_eq!(errno(disk.unlink("in/data")), Errno::Rofs);
    assert_eq!(errno(disk.rmdir("in")), Errno::Rofs);
    assert_eq!(errno(disk.rmdir("out")), Errno::Rofs);
    assert_eq!(errno(disk.rename("in/data", "out/data")), Errno::Rofs);
    assert_eq!(errno(disk.rename("out/file", "in/data")), Errno::Rofs);
    assert_eq!(errno(disk.rename("out/file", "file")), Errno::Rofs);
    assert_eq!(errno(disk.rename("out", "in/out")), Errno::Rofs);
    assert_eq!(disk.read("in/data").unwrap(), b"input");
}

#[test]
fn dots_do_not_lead_out_of_the_directory_a_path_starts_from() {
    let mut disk = Disk::new();
    disk.mkdir("out/dir").unwrap();
    let dir = disk.files.lookup(ROOT, "out/dir").unwrap();
    for path in ["..", "../dir", "./..", "../../in/data"] {
        assert_eq!(errno(disk.files.lookup(dir, path)), Errno::Perm, "{path}");
    }
    assert_eq!(errno(disk.files.lookup(dir, "x/../..")), Errno::Noent);
    assert_eq!(errno(disk.files.lookup(dir, "/in/data")), Errno::Perm);
    assert_eq!(disk.files.lookup(dir, ".").unwrap(), dir);
}

#[test]
fn a_path_goes_through_directories_only() {
    let mut disk = Disk::new();
    disk.make("out/file", b"");
    for path in [
        "out/file/x",
        "out/file/..",
        "out/file/.",
        "out/file/",
        "in/data/../data",
    ] {
        assert_eq!(
            errno(disk.files.lookup(ROOT, path)),
            Errno::Notdir,
            "{path}"
        );
    }
    assert_eq!(errno(disk.files.lookup(ROOT, "")), Errno::Noent);
    assert_eq!(errno(disk.files.lookup(ROOT, "out/a\0b")), Errno::Ilseq);
}

#[test]
fn names_and_paths_end_at_their_limits() {
    let mut disk = Disk::new();
    let name = "n".repeat(255);
    disk.make(&format!("out/{name}"), b"");
    assert_eq!(
        errno(disk.open(&format!("out/{name}n"), MAKE)),
        Errno::NameTooLong
    );
    let path = |length: usize| {
        format!("{}out", "./".repeat((length - 3) / 2)) + "/".repeat((length - 3) % 2).as_str()
    };
    assert_eq!(path(4096).len(), 4096);
    disk.files.lookup(ROOT, &path(4096)).unwrap();
    assert_eq!(
        errno(disk.files.lookup(ROOT, &path(4097))),
        Errno::NameTooLong
    );
}

#[test]
fn there_are_only_so_many_files() {
    let mut disk = Disk::new();
    // Root, out, in and its input are there already.
    for index in 4..MAX_NODES {
        disk.make(&format!("out/{index}"), b"");
    }
    assert_eq!(errno(disk.open("out/one-more", MAKE)), Errno::Nospc);
    assert_eq!(errno(disk.mkdir("out/one-more")), Errno::Nospc);
    disk.unlink("out/4").unwrap();
    disk.mkdir("out/one-more").unwrap();
}

#[test]
fn opening_does_what_its_flags_say() {
    let mut disk = Disk::new();
    let exclusive = OpenHow {
        exclusive: true,
        ..MAKE
    };
    assert_eq!(errno(disk.open("out/file", READ)), Errno::Noent);
    let node = disk.open("out/file", exclusive).unwrap();
    assert_eq!(errno(disk.open("out/file", exclusive)), Errno::Exist);
    assert_eq!(disk.open("out/file", MAKE).unwrap(), node);
    disk.write(node, 0, b"hello").unwrap();
    disk.open(
        "out/file",
        OpenHow {
            truncate: true,
            ..MAKE
        },
    )
    .unwrap();
    assert_eq!(disk.read("out/file").unwrap(), b"");
    assert_eq!(
        errno(disk.open(
            "out/file",
            OpenHow {
                directory: true,
                ..READ
            }
        )),
        Errno::Notdir
    );
    assert_eq!(
        errno(disk.open(
            "out",
            OpenHow {
                write: true,
                ..READ
            }
        )),
        Errno::Isdir
    );
    assert_eq!(errno(disk.open("out/new/", MAKE)), Errno::Noent);
    assert_eq!(
        errno(disk.open(
            "out/new",
            OpenHow {
                directory: true,
                ..MAKE
            }
        )),
        Errno::Noent
    );
}

#[test]
fn only_empty_directories_are_removed_and_only_files_unlinked() {
    let mut disk = Disk::new();
    disk.mkdir("out/dir").unwrap();
    assert_eq!(errno(disk.mkdir("out/dir")), Errno::Exist);
    disk.make("out/dir/file", b"");
    assert_eq!(errno(disk.rmdir("out/dir")), Errno::Notempty);
    assert_eq!(errno(disk.unlink("out/dir")), Errno::Isdir);
    assert_eq!(errno(disk.rmdir("out/dir/file")), Errno::Notdir);
    disk.unlink("out/dir/file").unwrap();
    disk.rmdir("out/dir/").unwrap();
    assert_eq!(errno(disk.files.lookup(ROOT, "out/dir")), Errno::Noent);
}

#[test]
fn nothing_is_made_in_a_directory_that_was_removed() {
    let mut disk = Disk::new();
    disk.mkdir("out/dir").unwrap();
    let dir = disk.files.lookup(ROOT, "out/dir").unwrap();
    disk.files.retain(dir).unwrap();
    disk.rmdir("out/dir").unwrap();
    assert_eq!(errno(disk.files.create_dir(dir, "below", 0)), Errno::Noent);
    assert_eq!(
        errno(disk.files.open(dir, "file", MAKE, &mut disk.account, 0)),
        Errno::Noent
    );
    disk.make("out/file", b"kept");
    let moved = disk
        .files
        .rename((ROOT, "out/file"), (dir, "file"), &mut disk.account, 0);
    assert_eq!(errno(moved), Errno::Noent);
    assert_eq!(disk.read("out/file").unwrap(), b"kept");
}

#[test]
fn renaming_replaces_like_by_like() {
    let mut disk = Disk::new();
    disk.make("out/a", b"a");
    disk.make("out/b", b"bb");
    disk.rename("out/a", "out/b").unwrap();
    assert_eq!(disk.read("out/b").unwrap(), b"a");
    assert_eq!(disk.account.left(), LIMIT - 1);
    disk.mkdir("out/dir").unwrap();
    assert_eq!(errno(disk.rename("out/b", "out/dir")), Errno::Isdir);
    assert_eq!(errno(disk.rename("out/dir", "out/b")), Errno::Notdir);
    disk.mkdir("out/full").unwrap();
    disk.rename("out/b", "out/full/b").unwrap();
    assert_eq!(errno(disk.rename("out/dir", "out/full")), Errno::Notempty);
    disk.rename("out/full", "out/dir").unwrap();
    assert_eq!(disk.read("out/dir/b").unwrap(), b"a");
    disk.rename("out/dir/b", "out/dir/b").unwrap();
    assert_eq!(errno(disk.rename("out/dir/b", "out/c/")), Errno::Notdir);
}

#[test]
fn a_directory_cannot_be_moved_into_itself() {
    let mut disk = Disk::new();
    disk.mkdir("out/a").unwrap();
    disk.mkdir("out/a/b").unwrap();
    assert_eq!(errno(disk.rename("out/a", "out/a/b/c")), Errno::Inval);
    assert_eq!(errno(disk.rename("out/a", "out/a/x")), Errno::Inval);
    disk.rename("out/a/b", "out/b").unwrap();
    disk.rename("out/a", "out/b/a").unwrap();
}

#[test]
fn a_directory_is_listed_by_age() {
    let mut disk = Disk::new();
    for name in ["zebra", "ape", "mouse"] {
        disk.make(&format!("out/{name}"), b"");
    }
    disk.unlink("out/ape").unwrap();
    disk.make("out/ape", b"");
    let out = disk.files.lookup(ROOT, "out").unwrap();
    let list = |after| -> Vec<_> {
        let listed = disk.files.list(out, after).unwrap();
        listed
            .map(|listed| (listed.name, listed.node.number()))
            .collect()
    };
    let all = list(0);
    assert_eq!(
        all.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ["zebra", "mouse", "ape"]
    );
    assert_eq!(list(all[0].1), all[1..]);
    assert_eq!(list(u64::MAX), []);
}

#[test]
fn inputs_do_not_lie_over_each_other_or_over_out() {
    let mut files = Filesystem::new();
    let bytes = || b"x".as_slice().into();
    files.lay_input("/a/b", bytes()).unwrap();
    files.lay_input("/a/c", bytes()).unwrap();
    assert_eq!(errno(files.lay_input("/a/b", bytes())), Errno::Exist);
    assert_eq!(errno(files.lay_input("/a", bytes())), Errno::Exist);
    assert_eq!(errno(files.lay_input("/a/b/c", bytes())), Errno::Notdir);
    assert_eq!(errno(files.lay_input("/out", bytes())), Errno::Exist);
    assert_eq!(errno(files.lay_input("/", bytes())), Errno::Inval);
}

/// Something a guest does to its files, with small numbers for names so that they meet.
#[derive(Clone, Debug)]
enum Deed {
    Open(u8, bool),
    Release(u8),
    Write(u8, u16, u16),
    Resize(u8, u16),
    MakeDir(u8),
    RemoveDir(u8),
    Unlink(u8),
    Rename(u8, u8),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        (any::<u8>(), any::<bool>()).prop_map(|(path, truncate)| Deed::Open(path, truncate)),
        any::<u8>().prop_map(Deed::Release),
        (any::<u8>(), 0..1200_u16, 0..400_u16)
            .prop_map(|(file, at, length)| Deed::Write(file, at, length)),
        (any::<u8>(), 0..1200_u16).prop_map(|(file, size)| Deed::Resize(file, size)),
        any::<u8>().prop_map(Deed::MakeDir),
        any::<u8>().prop_map(Deed::RemoveDir),
        any::<u8>().prop_map(Deed::Unlink),
        (any::<u8>(), any::<u8>()).prop_map(|(from, to)| Deed::Rename(from, to)),
    ];
    proptest::collection::vec(deed, 0..120)
}

fn path_of(number: u8) -> String {
    let parts = ["a", "b", "..", "c"];
    let part = |shift: u8| parts[usize::from(number >> shift & 3)];
    match number % 5 {
        0 => format!("in/{}", part(2)),
        1 => format!("out/{}", part(2)),
        2 => format!("out/{}/{}", part(2), part(4)),
        _ => format!("out/{}/{}/{}", part(2), part(4), part(6)),
    }
}

proptest! {
    #[test]
    fn whatever_a_guest_does_the_accounts_are_right_and_the_inputs_unchanged(deeds in deeds()) {
        let mut disk = Disk::new();
        let mut open = Vec::new();
        for deed in deeds {
            let pick = |open: &[NodeId], number: u8| open.get(usize::from(number) % open.len().max(1)).copied();
            match deed {
                Deed::Open(path, truncate) => {
                    if let Ok(node) = disk.open(&path_of(path), OpenHow { truncate, ..MAKE }) {
                        disk.files.retain(node).unwrap();
                        open.push(node);
                    }
                }
                Deed::Release(number) => {
                    if let Some(node) = pick(&open, number) {
                        disk.files.release(node, &mut disk.account);
                        open.swap_remove(usize::from(number) % open.len());
                    }
                }
                Deed::Write(number, at, length) => {
                    if let Some(node) = pick(&open, number) {
                        let _ = disk.write(node, at.into(), &vec![1; length.into()]);
                    }
                }
                Deed::Resize(number, size) => {
                    if let Some(node) = pick(&open, number) {
                        let _ = disk.files.set_size(node, size.into(), &mut disk.account, 0);
                    }
                }
                Deed::MakeDir(path) => drop(disk.mkdir(&path_of(path))),
                Deed::RemoveDir(path) => drop(disk.rmdir(&path_of(path))),
                Deed::Unlink(path) => drop(disk.unlink(&path_of(path))),
                Deed::Rename(from, to) => drop(disk.rename(&path_of(from), &path_of(to))),
            }
            prop_assert_eq!(disk.kept() + disk.account.left(), LIMIT);
        }
        prop_assert_eq!(disk.read("in/data").unwrap(), b"input");
        for (id, node) in &disk.files.nodes {
            prop_assert!(node.linked || node.open > 0, "{:?} is a ghost", id);
            prop_assert!(!node.linked || disk.files.nodes.contains_key(&node.parent), "{:?} has no parent", id);
        }
        let opens: u32 = disk.files.nodes.values().map(|node| node.open).sum();
        prop_assert_eq!(opens as usize, open.len());
    }
}
