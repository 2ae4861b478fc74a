//! Layers that were made to do harm: each is refused with its own code, names its layer, and leaves nothing.

use std::os::unix::ffi::OsStrExt;

use worldcompute_rootfs::{DiffId, MAX_DEPTH};

use crate::look::{SeenBody, listed, seen};
use crate::support::{Head, Lab, Tar, gzip, sealed, zstd};

fn refused(tar: Tar) -> String {
    Lab::new().refused(&[tar.end()])
}

/// An entry whose header was changed.
fn changed(change: impl FnOnce(&mut [u8; 512])) -> Tar {
    let mut block = Head::new(b'0', "name").block();
    change(&mut block);
    let mut tar = Tar::new();
    tar.0.extend_from_slice(&sealed(block));
    tar
}

#[test]
fn a_layer_that_is_cut_anywhere_is_refused() {
    let archive = Tar::new()
        .dir("d/")
        .file("d/f", &[7; 5000])
        .symlink("s", "d")
        .end();
    for len in (0..archive.len() - 1024).step_by(97) {
        assert_eq!(
            Lab::new().refused(&[archive[..len].to_vec()]),
            "layer_truncated",
            "{len}"
        );
    }
    for packed in [gzip(&archive), zstd(&archive)] {
        for len in (6..packed.len()).step_by(7) {
            let code = Lab::new().refused(&[packed[..len].to_vec()]);
            assert_eq!(code, "layer_truncated", "{len} of {}", packed.len());
        }
    }
}

#[test]
fn a_layer_whose_packed_bytes_were_changed_is_refused() {
    let archive = Tar::new()
        .file("f", &(0..=255).cycle().take(9000).collect::<Vec<u8>>())
        .end();
    for packed in [gzip(&archive), zstd(&archive)] {
        let expected = DiffId::of(&archive);
        for at in 0..packed.len() {
            let mut other = packed.clone();
            other[at] ^= 0x10;
            let lab = Lab::new();
            let assembly = lab.assemble(&[]).unwrap();
            // Some bytes say nothing of the content, such as the time in a header of gzip.
            match assembly.layer("changed", Some(expected), other.as_slice()) {
                Err(fault) => assert!(fault.message().starts_with("layer changed: "), "{fault}"),
                Ok(assembly) => assert_eq!(assembly.diff_ids(), [expected]),
            }
        }
    }
}

#[test]
fn a_frame_of_zstd_whose_checksum_does_not_match_is_refused() {
    let archive = Tar::new().file("f", b"1").end();
    // One block as it is (RFC 8878, 3.1.1): single segment, two bytes of length, with or without a checksum.
    let frame = |flags: u8, checksum: &[u8]| {
        let length = u16::try_from(archive.len() - 256).unwrap().to_le_bytes();
        let block = u32::try_from(archive.len() << 3 | 1).unwrap().to_le_bytes();
        let head = [0x28, 0xb5, 0x2f, 0xfd, 0x60 | flags];
        [head.as_slice(), &length, &block[..3], &archive, checksum].concat()
    };
    Lab::new().build(&[frame(0, b"")]);
    assert_eq!(Lab::new().refused(&[frame(4, b"none")]), "layer_corrupt");
}

#[test]
fn a_layer_of_another_digest_is_refused_whatever_comes_after_its_end() {
    let archive = Tar::new().file("f", b"1").end();
    let lab = Lab::new();
    let other = [archive.clone(), vec![0]].concat();
    let refused =
        lab.assemble(&[])
            .unwrap()
            .layer("x", Some(DiffId::of(&archive)), other.as_slice());
    assert_eq!(refused.err().unwrap().code(), "layer_digest_mismatch");
    let taken =
        lab.assemble(&[])
            .unwrap()
            .layer("x", Some(DiffId::of(&other)), gzip(&other).as_slice());
    assert_eq!(taken.unwrap().diff_ids(), [DiffId::of(&other)]);
}

#[test]
fn other_packings_and_other_files_are_told_apart_from_archives() {
    for (head, code) in [
        (b"\xfd7zXZ\0".as_slice(), "unsupported_compression"),
        (b"BZh9", "unsupported_compression"),
        (b"PK\x03\x04", "unsupported_compression"),
        (b"\x7fELF", "invalid_archive"),
    ] {
        let layer = [head, &[1; 2048]].concat();
        assert_eq!(Lab::new().refused(&[layer]), code);
    }
}

#[test]
fn paths_that_lead_upwards_are_refused_wherever_they_stand() {
    for path in ["../x", "a/../../x", "a/..", "..", "/../x", "a/../b"] {
        assert_eq!(
            refused(Tar::new().file(path, b"")),
            "path_not_confined",
            "{path}"
        );
        let linked = Tar::new().file("a", b"").hard_link("l", path);
        assert_eq!(refused(linked), "path_not_confined", "{path}");
    }
    assert_eq!(
        refused(Tar::new().file("../.wh.x", b"")),
        "path_not_confined"
    );
}

#[test]
fn links_cannot_lead_out_of_the_tree() {
    let lab = Lab::new();
    let outside = lab.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let up = format!("{}{}", "../".repeat(40), outside.display());
    let tar = Tar::new()
        .symlink("up", &up)
        .symlink("abs", outside.to_str().unwrap())
        .file("up/x", b"1")
        .file("abs/y", b"2")
        .whiteout("abs/.wh.z");
    let image = lab.build(&[tar.end()]);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    if let Some(seen) = seen(image.path()) {
        let below = outside.strip_prefix("/").unwrap();
        for (name, content) in [("x", b"1"), ("y", b"2")] {
            let file = &seen[below.join(name).as_os_str().as_bytes()];
            assert_eq!(file.body, SeenBody::File(content.to_vec()));
        }
    }
}

#[test]
fn links_that_lead_in_circles_or_through_too_much_end() {
    let own = Tar::new().symlink("l", "l").file("l/x", b"");
    assert_eq!(refused(own), "symlink_loop");
    let pair = Tar::new()
        .symlink("a", "b")
        .symlink("b", "a")
        .file("a/x", b"");
    assert_eq!(refused(pair), "symlink_loop");
    let wide = Tar::new()
        .dir("d/")
        .symlink("w", "d/../".repeat(600))
        .file("w/x", b"");
    assert_eq!(refused(wide), "symlink_loop");
    let growing = Tar::new().symlink("g", "g/g/g/g").file("g/x", b"");
    assert_eq!(refused(growing), "symlink_loop");
}

#[test]
fn links_whose_targets_have_too_many_parts_together_end_before_they_are_walked() {
    let through = |parts: usize, links: usize| {
        let chain = (0..links).fold(Tar::new(), |tar, link| {
            let rest = "a/".repeat(parts - 2);
            tar.symlink(link.to_string(), format!("{}/{rest}", link + 1))
        });
        chain.whiteout("0/.wh.x")
    };
    Lab::new().build(&[through(1024, 1).end()]);
    Lab::new().build(&[through(512, 2).end()]);
    assert_eq!(refused(through(1025, 1)), "symlink_loop");
    assert_eq!(refused(through(513, 2)), "symlink_loop");
    // Parts that are empty have to be read, too.
    let slashes = Tar::new()
        .symlink("l", format!("m{}", "/".repeat(1100)))
        .whiteout("l/.wh.x");
    assert_eq!(refused(slashes), "symlink_loop");
}

#[test]
fn a_name_changed_from_directory_to_link_between_two_entries_confines_the_second() {
    let tar = Tar::new()
        .dir("d/")
        .file("d/first", b"1")
        .symlink("d", "/etc")
        .file("d/second", b"2");
    let lab = Lab::new();
    let image = lab.build(&[tar.end()]);
    if let Some(seen) = seen(image.path()) {
        assert_eq!(listed(&seen), ["d -> /etc", "etc/", "etc/second = 2"]);
    }
}

#[test]
fn a_parent_that_is_no_directory_is_refused() {
    let tar = Tar::new().file("f", b"").file("f/x", b"");
    assert_eq!(refused(tar), "parent_not_directory");
    let tar = Tar::new().file("f", b"").symlink("l", "f").file("l/x", b"");
    assert_eq!(refused(tar), "parent_not_directory");
}

#[test]
fn hard_links_to_nothing_and_to_directories_are_refused() {
    assert_eq!(
        refused(Tar::new().hard_link("l", "none")),
        "hard_link_missing"
    );
    assert_eq!(
        refused(Tar::new().hard_link("l", "no/where")),
        "hard_link_missing"
    );
    assert_eq!(refused(Tar::new().hard_link("l", "l")), "hard_link_missing");
    assert_eq!(
        refused(Tar::new().dir("d/").hard_link("l", "d")),
        "hard_link_to_directory"
    );
    assert_eq!(
        refused(Tar::new().hard_link("l", "/")),
        "hard_link_to_directory"
    );
    let outside = Tar::new().hard_link("l", "/etc/passwd");
    assert_eq!(refused(outside), "hard_link_missing");
}

#[test]
fn names_longer_than_a_disk_takes_are_refused() {
    assert_eq!(
        refused(Tar::new().file("n".repeat(256), b"")),
        "path_too_long"
    );
    assert_eq!(
        refused(Tar::new().file("d/".repeat(2050), b"")),
        "path_too_long"
    );
    let deep = |depth| Tar::new().file("d/".repeat(depth) + "f", b"");
    assert_eq!(refused(deep(MAX_DEPTH + 1)), "path_too_deep");
    Lab::new().build(&[deep(MAX_DEPTH).end()]);
    assert_eq!(
        refused(Tar::new().pax(&[(b"path", b"a\0b")]).file("x", b"")),
        "invalid_archive"
    );
}

#[test]
fn whiteouts_that_hide_no_name_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "d/.wh."] {
        assert_eq!(
            refused(Tar::new().whiteout(name)),
            "invalid_whiteout",
            "{name}"
        );
    }
    assert_eq!(refused(Tar::new().file(".wh.d/f", b"")), "invalid_whiteout");
}

#[test]
fn numbers_that_are_none_or_absurd_are_refused() {
    let cases: [(&str, std::ops::Range<usize>, &[u8]); 9] = [
        ("negative size", 124..136, &[0xff; 12]),
        (
            "size past 2^63",
            124..136,
            b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
        ),
        (
            "size past all",
            124..136,
            b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ),
        ("letters", 124..136, b"0000000000z\0"),
        ("sign", 124..136, b"-0000000001\0"),
        ("text after the number", 124..136, b"0001 000001\0"),
        ("negative owner", 108..116, &[0xff; 8]),
        ("owner past 32 bits", 108..116, b"\x80\0\0\x01\0\0\0\0"),
        ("mode", 100..108, b"9999999\0"),
    ];
    for (what, field, bytes) in cases {
        let code = refused(changed(|block| block[field].copy_from_slice(bytes)));
        assert_eq!(code, "invalid_archive", "{what}");
    }
    let huge = changed(|block| block[124..136].copy_from_slice(b"\x80\0\0\0\0\0\x10\0\0\0\0\0"));
    assert_eq!(refused(huge), "entry_too_large");
}

#[test]
fn a_header_with_a_wrong_checksum_is_refused() {
    let mut archive = Tar::new().file("f", b"").end();
    archive[0] ^= 1;
    assert_eq!(Lab::new().refused(&[archive]), "invalid_archive");
}

#[test]
fn entries_that_have_no_place_in_a_layer_are_refused() {
    for kind in [b'M', b'D', b'N', b'A', b'Z', b's'] {
        assert_eq!(
            refused(Tar::new().head(&Head::new(kind, "x"))),
            "unsupported_entry"
        );
    }
    assert_eq!(refused(Tar::new().file("/", b"1")), "invalid_path");
    let nodes = Head {
        device: (4096, 0),
        ..Head::new(b'3', "n")
    };
    assert_eq!(refused(Tar::new().head(&nodes)), "invalid_device");
    assert_eq!(refused(Tar::new().symlink("l", "")), "invalid_symlink");
}

#[test]
fn a_global_header_that_would_change_entries_is_refused_and_a_comment_is_not() {
    let global = |records: &[(&[u8], &[u8])]| {
        let mut tar = Tar::new().pax(records);
        tar.0[156] = b'g';
        let head: [u8; 512] = tar.0[..512].try_into().unwrap();
        tar.0[..512].copy_from_slice(&sealed(head));
        tar.file("f", b"1")
    };
    let changes: [(&[u8], &[u8]); 5] = [
        (b"path", b"other"),
        (b"size", b"0"),
        (b"uid", b"5"),
        (b"SCHILY.xattr.user.x", b"1"),
        (b"GNU.sparse.name", b"x"),
    ];
    for change in changes {
        assert_eq!(refused(global(&[change])), "unsupported_entry");
    }
    Lab::new().build(&[global(&[(b"comment", b"0123abcd")]).end()]);
}

#[test]
fn extended_headers_that_are_broken_or_huge_are_refused() {
    let pax = |text: &[u8]| {
        let head = Head {
            size: text.len() as u64,
            ..Head::new(b'x', "pax")
        };
        Tar::new().head(&head).data(text).file("f", b"")
    };
    for text in [
        b"8 path=a\n".as_slice(),
        b"99 path=a\n",
        b"x path=a\n",
        b"10 path=ab",
        b"0 path=a\n",
        b"-9 path=a\n",
        b"18446744073709551616 a=b\n",
        b"7 =abc\n",
        b"11 uid=+10\n",
        b"11 size=-1\n",
        b"12 size= 10\n",
        b"13 mtime=1e9\n",
    ] {
        let code = refused(pax(text));
        assert_eq!(code, "invalid_archive", "{}", String::from_utf8_lossy(text));
    }
    let huge = Head {
        size: 1 << 32,
        ..Head::new(b'x', "pax")
    };
    assert_eq!(refused(Tar::new().head(&huge)), "extended_header_too_large");
    let name = Head {
        size: (1 << 20) + 1,
        ..Head::new(b'L', "name")
    };
    assert_eq!(refused(Tar::new().head(&name)), "extended_header_too_large");
    let alone = Tar::new().pax(&[(b"path", b"x")]);
    assert_eq!(refused(alone), "layer_truncated");
}

#[test]
fn the_size_of_an_extended_header_is_the_one_that_holds() {
    let head = Head::new(b'0', "outer");
    let inner = Tar::new().file("inner", b"smuggled").0;
    let len = inner.len().to_string();
    let tar = Tar::new()
        .pax(&[(b"size", len.as_bytes())])
        .head(&head)
        .data(&inner);
    let lab = Lab::new();
    let image = lab.build(&[tar.end()]);
    if let Some(seen) = seen(image.path()) {
        assert_eq!(seen[b"outer".as_slice()].body, SeenBody::File(inner));
        assert!(!seen.contains_key(b"inner".as_slice()));
    }
}

#[test]
fn what_is_stored_behind_a_name_with_a_slash_is_no_entry() {
    let inner = Tar::new().file("inner", b"smuggled").0;
    let len = inner.len().to_string();
    let head = Head::new(b'0', "outer/");
    let tar = Tar::new()
        .pax(&[(b"size", len.as_bytes())])
        .head(&head)
        .data(&inner);
    let lab = Lab::new();
    let image = lab.build(&[tar.end()]);
    if let Some(seen) = seen(image.path()) {
        assert_eq!(seen[b"outer".as_slice()].body, SeenBody::File(inner));
    }
}

#[test]
fn sparse_maps_that_overlap_or_lie_are_refused() {
    let sparse = |map: &[u8], size: &[u8], stored: &[u8]| {
        let records = [
            (b"GNU.sparse.map".as_slice(), map),
            (b"GNU.sparse.size", size),
        ];
        Tar::new().pax(&records).file("f", stored)
    };
    Lab::new().build(&[sparse(b"0,2,4096,2", b"9999", b"abcd").end()]);
    let lies: [(&[u8], &[u8]); 9] = [
        (b"0,2,1,2", b"99"),
        (b"4,2,0,2", b"99"),
        (b"0,4", b"3"),
        (b"0,5", b"99"),
        (b"0,3", b"99"),
        (b"18446744073709551615,4", b"99"),
        (b"0,2,2,18446744073709551615", b"99"),
        (b"0,2,2", b"99"),
        (b"0,4", b""),
    ];
    for (map, size) in lies {
        assert_eq!(
            refused(sparse(map, size, b"abcd")),
            "invalid_sparse_map",
            "{map:?}"
        );
    }
    assert_eq!(
        refused(sparse(b"0,4", b"1099511627777", b"abcd")),
        "entry_too_large"
    );
    let many = "0,0,".repeat(65_537);
    let many = many.trim_end_matches(',').as_bytes();
    assert_eq!(refused(sparse(many, b"99", b"")), "invalid_sparse_map");
}

#[test]
fn sparse_maps_before_the_content_that_lie_are_refused() {
    let records: [(&[u8], &[u8]); 3] = [
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.realsize", b"4096"),
    ];
    for map in [
        b"99999999999999999999999\n".as_slice(),
        b"1\n0\n",
        b"18446744073709551615\n0\n1\n",
        b"x\n",
        b"\n",
        b"2\n0\n1\n0\n1\n",
    ] {
        let code = refused(Tar::new().pax(&records).file("f", map));
        assert_eq!(
            code,
            "invalid_sparse_map",
            "{}",
            String::from_utf8_lossy(map)
        );
    }
    let records = [
        (b"GNU.sparse.major".as_slice(), b"2".as_slice()),
        (b"GNU.sparse.minor", b"0"),
    ];
    assert_eq!(
        refused(Tar::new().pax(&records).file("f", b"")),
        "invalid_sparse_map"
    );
}

#[test]
fn attributes_that_no_disk_can_hold_are_refused() {
    let with = |name: &str, value: &[u8]| {
        let key = format!("SCHILY.xattr.{name}");
        refused(Tar::new().pax(&[(key.as_bytes(), value)]).file("f", b""))
    };
    assert_eq!(with("user.big", &[1; 5000]), "xattrs_too_large");
    assert_eq!(
        with(&format!("user.{}", "n".repeat(256)), b"1"),
        "invalid_xattr"
    );
    assert_eq!(with("user.", b"1"), "invalid_xattr");
    assert_eq!(with("system.posix_acl_access", b"junk"), "invalid_xattr");
}
