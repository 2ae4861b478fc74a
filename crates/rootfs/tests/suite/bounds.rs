//! Layers that want too much of memory, disk or time: each is refused with its own code, or costs little.

use std::os::unix::fs::MetadataExt;

use worldcompute_rootfs::{MAX_LAYERS, Size};

use crate::look::Mounted;
use crate::support::{Head, Lab, Tar, gzip_well, zstd};

fn refused(tar: Tar) -> String {
    Lab::new().refused(&[tar.end()])
}

/// Half a mebibyte and more of attributes that no other header has.
fn many_attributes(tar: Tar, number: usize) -> Tar {
    let key = |attribute| format!("SCHILY.xattr.com.example.{number}.{attribute}").into_bytes();
    let keys: Vec<_> = (0..15_000).map(key).collect();
    let records = keys.iter().map(|key| (key.as_slice(), b"1".as_slice()));
    tar.pax(&records.collect::<Vec<_>>())
}

#[test]
fn extended_headers_that_pile_up_before_one_entry_are_refused() {
    let headers = (0..2).fold(Tar::new(), many_attributes);
    assert_eq!(refused(headers.file("f", b"")), "extended_header_too_large");
    let name = Head {
        size: 600 << 10,
        ..Head::new(b'L', "name")
    };
    let named = many_attributes(Tar::new(), 0)
        .head(&name)
        .data(&[0; 600 << 10]);
    assert_eq!(refused(named.file("f", b"")), "extended_header_too_large");
    let apart = (0..4).fold(Tar::new(), |tar, number| {
        many_attributes(tar, number).file(number.to_string(), b"")
    });
    Lab::new().build(&[apart.end()]);
}

#[test]
fn attributes_of_other_systems_are_not_held_and_each_of_the_rest_has_a_price() {
    let mut lab = Lab::new();
    lab.limits.max_metadata = 2000;
    let foreign = many_attributes(Tar::new(), 0).file("f", b"");
    lab.build(&[foreign.end()]);
    std::fs::remove_file(lab.path()).unwrap();
    let own: Vec<_> = (0..10)
        .map(|at| format!("SCHILY.xattr.user.{at}"))
        .collect();
    let records: Vec<_> = own
        .iter()
        .map(|key| (key.as_bytes(), b"1".as_slice()))
        .collect();
    lab.build(&[Tar::new().pax(&records).file("f", b"").end()]);
    std::fs::remove_file(lab.path()).unwrap();
    let twice = (0..2).fold(Tar::new(), |tar, _| tar.pax(&records).file("f", b""));
    assert_eq!(lab.refused(&[twice.end()]), "too_much_metadata");
}

/// A file of so many bytes, each in a block of its own.
fn scattered(pieces: u64) -> Tar {
    let map: Vec<_> = (0..pieces).map(|at| format!("{},1", at * 8192)).collect();
    let records = [
        (b"GNU.sparse.map".as_slice(), map.join(",").into_bytes()),
        (b"GNU.sparse.size", (pieces * 8192).to_string().into_bytes()),
    ];
    let records = records.each_ref().map(|(key, value)| (*key, &**value));
    Tar::new()
        .pax(&records)
        .file("f", &vec![1; pieces as usize])
}

#[test]
fn each_piece_of_a_sparse_file_has_a_price() {
    let mut lab = Lab::new();
    lab.limits.max_metadata = 64 * 100;
    lab.build(&[scattered(99).end()]);
    std::fs::remove_file(lab.path()).unwrap();
    assert_eq!(lab.refused(&[scattered(100).end()]), "too_much_metadata");
}

#[test]
fn few_bytes_that_take_many_blocks_are_refused() {
    let mut lab = Lab::new();
    let blocks = 1000 * 4096;
    lab.limits.max_image = blocks;
    let layer = [scattered(1000).end()];
    for size in [Size::Fitting, Size::Declared(64 << 20)] {
        let refused = lab.try_build(&layer, size).unwrap_err();
        assert_eq!(refused.code(), "rootfs_content_too_large", "{refused}");
        assert_eq!(std::fs::read_dir(lab.dir.path()).unwrap().count(), 0);
    }
    // The extents take blocks, too, and the root and the inodes.
    lab.limits.max_image = blocks + 6 * 4096;
    let image = lab.build(&layer);
    let taken = std::fs::metadata(image.path()).unwrap().blocks() * 512;
    assert!((blocks..2 * blocks).contains(&taken), "{taken}");
}

#[test]
fn bombs_of_both_packings_are_stopped_by_their_ratio() {
    let zeros = vec![0; 80 << 20];
    let head = Head {
        size: 80 << 20,
        ..Head::new(b'0', "bomb")
    };
    let bomb = Tar::new().head(&head).data(&zeros).end();
    for packed in [gzip_well(&bomb), zstd(&bomb)] {
        assert_eq!(Lab::new().refused(&[packed]), "compression_ratio_exceeded");
    }
}

#[test]
fn layers_that_unpack_to_too_much_together_are_refused() {
    let mut lab = Lab::new();
    lab.limits.max_unpacked = 10_000;
    let layer = Tar::new().file("f", &[1; 4000]).end();
    lab.try_build(std::slice::from_ref(&layer), Size::Fitting)
        .unwrap();
    std::fs::remove_file(lab.path()).unwrap();
    assert_eq!(lab.refused(&[layer.clone(), layer]), "unpacked_too_large");
    let padding = [Tar::new().end(), vec![0; 20_000]].concat();
    assert_eq!(lab.refused(&[padding]), "unpacked_too_large");
}

#[test]
fn more_entries_metadata_and_layers_than_allowed_are_refused() {
    let mut lab = Lab::new();
    lab.limits.max_entries = 100;
    let same = (0..101).fold(Tar::new(), |tar, _| tar.file("f", b""));
    assert_eq!(lab.refused(&[same.end()]), "too_many_entries");
    let implied = Tar::new().file("a/".repeat(101) + "f", b"");
    assert_eq!(lab.refused(&[implied.end()]), "too_many_entries");
    lab.limits.max_metadata = 1000;
    let named = (0..20).fold(Tar::new(), |tar, _| tar.file("n".repeat(60), b""));
    assert_eq!(lab.refused(&[named.end()]), "too_much_metadata");
    let layers = vec![Tar::new().end(); MAX_LAYERS + 1];
    assert_eq!(Lab::new().refused(&layers), "too_many_layers");
}

#[test]
fn a_directory_of_more_names_than_allowed_is_refused_however_they_came() {
    let mut lab = Lab::new();
    lab.limits.max_names = 10;
    let ten = (0..10).fold(Tar::new(), |tar, number| {
        tar.file(format!("d/{number}"), b"")
    });
    let again = Tar::new().dir("d/3").whiteout("d/.wh.4").end();
    let room = Tar::new().file("d/new", b"").end();
    lab.build(&[ten.clone().end(), again, room]);
    std::fs::remove_file(lab.path()).unwrap();
    for more in [
        Tar::new().file("d/x", b""),
        Tar::new().dir("d/x"),
        Tar::new().symlink("d/x", "y"),
        Tar::new().hard_link("d/x", "d/1"),
        Tar::new().file("d/x/y", b""),
    ] {
        let layers = [ten.clone().end(), more.end()];
        assert_eq!(lab.refused(&layers), "directory_too_large");
    }
    let fault = lab.assemble(&[ten.file("d/x", b"").end()]).err().unwrap();
    assert!(fault.message().starts_with("layer 0: d/x: "), "{fault}");
}

#[test]
fn more_names_than_a_file_can_have_are_refused() {
    let names = |count: u32| {
        (1..count).fold(Tar::new().file("f", b"1"), |tar, number| {
            tar.hard_link(number.to_string(), "f")
        })
    };
    assert_eq!(refused(names(65_001)), "too_many_links");
    let lab = Lab::new();
    lab.build(&[names(65_000).end()]);
}

#[test]
fn a_hundred_thousand_files_are_a_clean_image() {
    let tar = (0..100_000).fold(Tar::new(), |tar, number| {
        tar.file(format!("{}/{number}", number % 100), b"x")
    });
    let lab = Lab::new();
    let image = lab.build(&[tar.end()]);
    if let Some(mounted) = Mounted::new(image.path()) {
        let files = (0..100).map(|dir| {
            std::fs::read_dir(mounted.path().join(dir.to_string()))
                .unwrap()
                .count()
        });
        assert_eq!(files.sum::<usize>(), 100_000);
    }
}

#[test]
fn whiteouts_of_one_directory_again_and_again_cost_one_look() {
    let files = (0..20_000).fold(Tar::new().dir("d/"), |tar, number| {
        tar.file(format!("d/{number}"), b"")
    });
    let hiding = (0..20_000).fold(files, |tar, _| {
        tar.whiteout(".wh.d").whiteout("d/.wh..wh.opq")
    });
    let lab = Lab::new();
    let image = lab.build(&[hiding.end()]);
    if let Some(mounted) = Mounted::new(image.path()) {
        assert_eq!(
            std::fs::read_dir(mounted.path().join("d")).unwrap().count(),
            20_000
        );
    }
}
