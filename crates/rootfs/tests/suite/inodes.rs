//! Everything that an inode says of itself, as the kernel reads it.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, MetadataExt};

use worldcompute_rootfs::{Devices, Size};

use crate::debugfs;
use crate::look::{self, Mounted, Seen, SeenBody, fsck, listed};
use crate::support::{Head, Lab, Tar};

fn seen(lab: &Lab, tar: Tar) -> Option<BTreeMap<Vec<u8>, Seen>> {
    let image = lab.build(&[tar.end()]);
    look::seen(image.path())
}

#[test]
fn modes_and_owners_are_kept() {
    let mut tar = Tar::new();
    let cases = [
        ("suid", 0o4755, 0, 0),
        ("sgid", 0o2755, 65_535, 65_536),
        ("none", 0o0, 4_000_000_000, 4_294_967_294),
    ];
    for (name, mode, uid, gid) in cases {
        let [uid, gid] = [uid, gid].map(|id: u64| id.to_string().into_bytes());
        let head = Head {
            mode,
            ..Head::new(b'0', name)
        };
        tar = tar.pax(&[(b"uid", &uid), (b"gid", &gid)]).head(&head);
    }
    let Some(seen) = seen(&Lab::new(), tar) else {
        return;
    };
    for (name, mode, uid, gid) in cases {
        let found = &seen[name.as_bytes()];
        assert_eq!(found.mode & 0o7777, mode);
        assert_eq!((u64::from(found.uid), u64::from(found.gid)), (uid, gid));
    }
}

#[test]
fn times_are_kept_to_the_nanosecond_from_1901_to_2446() {
    let cases: [(&str, (i64, i64)); 9] = [
        ("0", (0, 0)),
        ("1700000000.123456789", (1_700_000_000, 123_456_789)),
        ("-1.5", (-2, 500_000_000)),
        ("-2147483648", (-2_147_483_648, 0)),
        ("2147483648.000000001", (2_147_483_648, 1)),
        ("4481395200", (4_481_395_200, 0)),
        ("15032385535.999999999", (15_032_385_535, 999_999_999)),
        ("99999999999.5", (15_032_385_535, 0)),
        ("-99999999999", (-2_147_483_648, 0)),
    ];
    let tar = cases.iter().fold(Tar::new(), |tar, (time, _)| {
        tar.pax(&[(b"mtime", time.as_bytes())]).file(time, b"")
    });
    let Some(seen) = seen(&Lab::new(), tar) else {
        return;
    };
    for (time, expected) in cases {
        assert_eq!(seen[time.as_bytes()].mtime, expected, "{time}");
    }
}

#[test]
fn a_time_before_1970_is_read_from_base_256_too() {
    let mut block = Head::new(b'0', "old").block();
    block[136..148].fill(0xff);
    block[147] = 0x9c;
    let mut tar = Tar::new();
    tar.0.extend_from_slice(&crate::support::sealed(block));
    if let Some(seen) = seen(&Lab::new(), tar) {
        assert_eq!(seen[b"old".as_slice()].mtime, (-100, 0));
    }
}

/// Attributes as they are in a layer: `CAP_NET_RAW` for a file, and an access control list with a named user.
fn attributes() -> Vec<(&'static str, Vec<u8>)> {
    let capability =
        b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let acl = [
        2_u32.to_le_bytes().as_slice(),
        b"\x01\x00\x06\x00\xff\xff\xff\xff",
        b"\x02\x00\x04\x00\xe8\x03\x00\x00",
        b"\x04\x00\x04\x00\xff\xff\xff\xff",
        b"\x10\x00\x06\x00\xff\xff\xff\xff",
        b"\x20\x00\x04\x00\xff\xff\xff\xff",
    ]
    .concat();
    vec![
        ("security.capability", capability.to_vec()),
        ("system.posix_acl_access", acl),
        ("trusted.t", vec![0, 1, 2, 255]),
        ("user.empty", Vec::new()),
        ("user.long", vec![b'x'; 3000]),
        ("user.mime_type", b"text/plain".to_vec()),
    ]
}

fn with_attributes(tar: Tar, name: &str, attributes: &[&(&'static str, Vec<u8>)]) -> Tar {
    let mut text = Vec::new();
    for (key, value) in attributes {
        let body = [b" SCHILY.xattr.", key.as_bytes(), b"=", value, b"\n"].concat();
        let mut len = body.len() + 1;
        while len.to_string().len() + body.len() > len {
            len += 1;
        }
        text.extend_from_slice(&[len.to_string().as_bytes(), &body].concat());
    }
    let size = text.len() as u64;
    let head = Head {
        size,
        ..Head::new(b'x', "pax")
    };
    tar.head(&head).data(&text).file(name, name.as_bytes())
}

#[test]
fn extended_attributes_are_kept_in_the_inode_and_beside_it() {
    let all = attributes();
    let mut tar = Tar::new();
    for chosen in 0..64_usize {
        let some: Vec<_> = all
            .iter()
            .enumerate()
            .filter(|(at, _)| chosen >> at & 1 == 1)
            .map(|(_, one)| one)
            .collect();
        tar = with_attributes(tar, &chosen.to_string(), &some);
    }
    let Some(seen) = seen(&Lab::new(), tar) else {
        return;
    };
    for chosen in 0..64_usize {
        let some = all
            .iter()
            .enumerate()
            .filter(|(at, _)| chosen >> at & 1 == 1);
        let expected: BTreeMap<_, _> = some
            .map(|(_, (name, value))| ((*name).to_owned(), value.clone()))
            .collect();
        assert_eq!(
            seen[chosen.to_string().as_bytes()].xattrs,
            expected,
            "{chosen}"
        );
    }
}

#[test]
fn directories_and_links_have_attributes_too_and_those_of_other_systems_are_left_out() {
    let tar = Tar::new()
        .pax(&[(b"SCHILY.xattr.trusted.d", b"1")])
        .dir("d/")
        .pax(&[(b"SCHILY.xattr.trusted.l", b"2")])
        .symlink("l", "d")
        .pax(&[
            (b"SCHILY.xattr.com.apple.provenance", b"3"),
            (b"SCHILY.xattr.user.x", b"4"),
        ])
        .file("mac", b"");
    let Some(seen) = seen(&Lab::new(), tar) else {
        return;
    };
    let of = |name: &str| {
        seen[name.as_bytes()]
            .xattrs
            .clone()
            .into_iter()
            .collect::<Vec<_>>()
    };
    assert_eq!(of("d"), [("trusted.d".to_owned(), b"1".to_vec())]);
    assert_eq!(of("l"), [("trusted.l".to_owned(), b"2".to_vec())]);
    assert_eq!(of("mac"), [("user.x".to_owned(), b"4".to_vec())]);
}

const NODES: [(&str, u8, (u32, u32)); 4] = [
    ("null", b'3', (1, 3)),
    ("disk", b'4', (8, 16)),
    ("big", b'3', (4095, 1_048_575)),
    ("odd", b'4', (259, 300)),
];

fn nodes() -> Tar {
    NODES.iter().fold(Tar::new(), |tar, (name, kind, device)| {
        tar.head(&Head {
            device: *device,
            mode: 0o620,
            ..Head::new(*kind, name)
        })
    })
}

#[test]
fn nodes_and_pipes_are_kept_where_the_policy_keeps_them() {
    let tar = nodes().head(&Head::new(b'6', "pipe"));
    let Some(seen) = seen(&Lab::new(), tar) else {
        return;
    };
    for (name, kind, (major, minor)) in NODES {
        let found = &seen[name.as_bytes()];
        let type_bits = if kind == b'3' { 0o020_000 } else { 0o060_000 };
        assert_eq!(found.mode, type_bits | 0o620);
        assert_eq!(found.device, rustix::fs::makedev(major, minor), "{name}");
    }
    assert_eq!(seen[b"pipe".as_slice()].mode, 0o010_644);
}

#[test]
fn a_node_is_refused_or_an_empty_file_where_the_policy_says_so() {
    let mut lab = Lab::new();
    lab.devices = Devices::Refuse;
    assert_eq!(lab.refused(&[nodes().end()]), "device_refused");
    lab.devices = Devices::EmptyFile;
    if let Some(seen) = seen(&lab, nodes()) {
        for (name, ..) in NODES {
            let found = &seen[name.as_bytes()];
            assert_eq!(
                (found.mode, &found.body),
                (0o100_620, &SeenBody::File(Vec::new()))
            );
        }
    }
}

#[test]
fn links_of_every_length_lead_where_they_said() {
    let lengths = [1, 58, 59, 60, 61, 255, 1000, 4094, 4095];
    let target = |len: usize| "a/".repeat(len).into_bytes()[..len].to_vec();
    let tar = lengths.iter().fold(Tar::new(), |tar, len| {
        tar.symlink(len.to_string(), target(*len))
    });
    let Some(seen) = seen(&Lab::new(), tar) else {
        return;
    };
    for len in lengths {
        assert_eq!(
            seen[len.to_string().as_bytes()].body,
            SeenBody::Symlink(target(len))
        );
    }
}

#[test]
fn files_of_every_length_around_a_block_and_a_group_are_whole() {
    let lengths = [1, 511, 512, 4095, 4096, 4097, 300_000, 160 << 20];
    let content = |len: usize| -> Vec<u8> {
        let mut state = len as u64 | 1;
        let mut bytes = vec![0; len];
        for chunk in bytes.chunks_mut(8) {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let word = state.to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        bytes
    };
    let tar = lengths.iter().fold(Tar::new(), |tar, len| {
        tar.file(len.to_string(), &content(*len))
    });
    let lab = Lab::new();
    let image = lab.build(&[tar.end()]);
    let Some(mounted) = Mounted::new(image.path()) else {
        return;
    };
    for len in lengths {
        let found = std::fs::read(mounted.path().join(len.to_string())).unwrap();
        assert!(found == content(len), "{len}");
    }
}

/// An archive of GNU tar with sparse files in each of its formats; `None` without that program.
fn sparse_archive(format: &[&str]) -> Option<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let many = std::fs::File::create(dir.path().join("many")).unwrap();
    for hole in 0..3000_u64 {
        many.write_all_at(&hole.to_le_bytes(), hole * 8192 + hole % 4096)
            .unwrap();
    }
    let one = std::fs::File::create(dir.path().join("one")).unwrap();
    one.set_len(5 << 30).unwrap();
    one.write_all_at(b"middle", 3 << 30).unwrap();
    std::fs::File::create(dir.path().join("void"))
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    let run = std::process::Command::new("tar")
        .args(["--sparse", "-cf", "-"])
        .args(format)
        .args(["-C", dir.path().to_str().unwrap(), "many", "one", "void"])
        .output()
        .ok()
        .filter(|run| run.status.success());
    if run.is_none() {
        println!("skipped: no GNU tar to make sparse archives with");
    }
    Some(run?.stdout)
}

#[test]
fn sparse_files_of_all_four_formats_keep_content_length_and_holes() {
    let formats: [&[&str]; 4] = [
        &["--format=gnu"],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ];
    for format in formats {
        let Some(archive) = sparse_archive(format) else {
            return;
        };
        let lab = Lab::new();
        let image = lab.build(&[archive]);
        let Some(mounted) = Mounted::new(image.path()) else {
            return;
        };
        let many = std::fs::read(mounted.path().join("many")).unwrap();
        let mut expected = vec![0; many.len()];
        for hole in 0..3000_u64 {
            let at = (hole * 8192 + hole % 4096) as usize;
            expected[at..at + 8].copy_from_slice(&hole.to_le_bytes());
        }
        assert!(many == expected, "{format:?}");
        let one = std::fs::File::open(mounted.path().join("one")).unwrap();
        let mut middle = [0; 8];
        one.read_exact_at(&mut middle, (3 << 30) - 1).unwrap();
        assert_eq!(&middle, b"\0middle\0");
        let one = one.metadata().unwrap();
        assert_eq!(one.len(), 5 << 30);
        assert!(one.blocks() < 100, "{format:?}: {} blocks", one.blocks());
        let void = std::fs::metadata(mounted.path().join("void")).unwrap();
        assert_eq!((void.len(), void.blocks()), (1 << 20, 0));
    }
}

#[test]
fn pieces_of_a_sparse_file_lie_where_they_said_within_a_block_too() {
    let records: [(&[u8], &[u8]); 2] = [
        (b"GNU.sparse.map", b"5,3,100,2,4106,2,20000,1"),
        (b"GNU.sparse.size", b"30000"),
    ];
    let tar = Tar::new().pax(&records).file("f", b"abcdefgh");
    let Some(seen) = seen(&Lab::new(), tar) else {
        return;
    };
    let mut expected = vec![0; 30_000];
    for (at, piece) in [
        (5, b"abc".as_slice()),
        (100, b"de"),
        (4106, b"fg"),
        (20_000, b"h"),
    ] {
        expected[at..at + piece.len()].copy_from_slice(piece);
    }
    assert!(seen[b"f".as_slice()].body == SeenBody::File(expected));
}

#[test]
fn directories_count_their_links_up_to_65000_and_no_more() {
    let counts = [100, 64_998, 64_999];
    let lab = Lab::new();
    let tar = counts.iter().fold(Tar::new(), |tar, count| {
        (0..*count).fold(tar, |tar, number| tar.dir(format!("{count}/{number}")))
    });
    // To find the size that fits takes most of the time that this would take.
    let size = Size::Declared(1 << 30);
    let image = lab.try_build(&[tar.end()], size).unwrap();
    fsck(image.path());
    let Some(mounted) = Mounted::new(image.path()) else {
        return;
    };
    for (count, links) in counts.iter().zip([102, 65_000, 1]) {
        let metadata = std::fs::metadata(mounted.path().join(count.to_string())).unwrap();
        assert_eq!(metadata.nlink(), links);
    }
}

#[test]
fn what_debugfs_says_is_what_the_kernel_sees() {
    let all = attributes();
    let with_all = with_attributes(nodes(), "all", &all.iter().collect::<Vec<_>>());
    let tar = with_all
        .pax(&[(b"mtime", b"15032385535.999999999"), (b"uid", b"70000")])
        .dir("d/")
        .pax(&[(b"mtime", b"-1.5"), (b"gid", b"70000")])
        .file("d/file", &[b'7'; 5000])
        .hard_link("d/link", "d/file")
        .symlink("fast", "d")
        .symlink("slow", "x/".repeat(50))
        .head(&Head::new(b'6', "d/pipe"));
    let lab = Lab::new();
    let image = lab.build(&[tar.end()]);
    let Some(mounted) = Mounted::new(image.path()) else {
        return;
    };
    let Some(told) = debugfs::seen(image.path()) else {
        return;
    };
    let seen = mounted.seen();
    assert_eq!(listed(&told), listed(&seen));
    for (path, told) in told {
        assert_eq!(told, seen[&path]);
    }
}
