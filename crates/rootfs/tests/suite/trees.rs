//! What layers make together: names and contents, as the kernel sees them.

use crate::look::{Mounted, SeenBody, listed, seen};
use crate::support::{Lab, Tar, gzip, zstd};

fn check(layers: &[Vec<u8>], expected: &[&str]) {
    let lab = Lab::new();
    let image = lab.build(layers);
    if let Some(seen) = seen(image.path()) {
        assert_eq!(listed(&seen), expected);
    }
}

#[test]
fn layers_of_every_packing_lie_over_each_other() {
    let plain = Tar::new()
        .dir("etc/")
        .file("etc/a", b"1")
        .file("etc/b", b"1");
    let gz = Tar::new().file("etc/b", b"2").file("usr/c", b"2");
    let zst = Tar::new().file("./usr/c", b"3").symlink("bin", "usr/bin");
    check(
        &[plain.end(), gzip(&gz.end()), zstd(&zst.end())],
        &[
            "bin -> usr/bin",
            "etc/",
            "etc/a = 1",
            "etc/b = 2",
            "usr/",
            "usr/c = 3",
        ],
    );
}

#[test]
fn members_of_gzip_and_frames_of_zstd_that_follow_each_other_are_one_archive() {
    let archive = Tar::new().file("a", &[b'a'; 3000]).end();
    let (head, tail) = archive.split_at(1000);
    let skipped = [0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, b'?', b'?'];
    for layer in [
        [gzip(head), gzip(tail)].concat(),
        [&skipped, &*zstd(head), &skipped, &*zstd(tail)].concat(),
    ] {
        let lab = Lab::new();
        let image = lab.build(&[layer]);
        if let Some(seen) = seen(image.path()) {
            assert_eq!(seen[b"a".as_slice()].body, SeenBody::File(vec![b'a'; 3000]));
        }
    }
}

#[test]
fn a_whiteout_hides_files_links_and_whole_directories() {
    let base = Tar::new()
        .dir("d/")
        .file("d/x", b"x")
        .dir("d/sub/")
        .file("d/sub/y", b"y")
        .file("f", b"f")
        .symlink("l", "d")
        .file("keep", b"k");
    let upper = Tar::new()
        .whiteout(".wh.d")
        .whiteout(".wh.f")
        .whiteout(".wh.l");
    check(&[base.end(), upper.end()], &["keep = k"]);
}

#[test]
fn a_whiteout_of_3000_names_leaves_a_clean_image() {
    let names = (0..3000).map(|number| format!("d/{number:0>240}"));
    let base = names.fold(Tar::new().dir("d/"), |tar, name| tar.file(name, b""));
    check(&[base.end(), Tar::new().whiteout(".wh.d").end()], &[]);
}

#[test]
fn a_whiteout_of_what_is_not_there_makes_nothing() {
    let upper = Tar::new()
        .whiteout(".wh.none")
        .whiteout("no/where/.wh.x")
        .whiteout("no/.wh..wh.opq")
        .whiteout(".wh..wh.plnk");
    check(&[Tar::new().file("a", b"a").end(), upper.end()], &["a = a"]);
}

#[test]
fn a_whiteout_hides_older_layers_alone_wherever_it_stands() {
    let base = || {
        Tar::new()
            .dir("d/")
            .file("d/old", b"1")
            .file("f", b"1")
            .end()
    };
    let expected = &["d/", "d/new = 2", "f = 2"];
    let before = Tar::new()
        .whiteout(".wh.d")
        .whiteout(".wh.f")
        .file("d/new", b"2")
        .file("f", b"2");
    let after = Tar::new()
        .file("d/new", b"2")
        .file("f", b"2")
        .whiteout(".wh.d")
        .whiteout(".wh.f");
    let stated = Tar::new()
        .dir("d/")
        .file("d/new", b"2")
        .file("f", b"2")
        .whiteout(".wh.f")
        .whiteout(".wh.d");
    for upper in [before, after, stated] {
        check(&[base(), upper.end()], expected);
    }
}

#[test]
fn a_directory_that_stays_for_what_a_layer_puts_into_it_is_a_new_one() {
    let mut old = crate::support::Head::new(b'5', "d/");
    old.mode = 0o700;
    let base = Tar::new().head(&old).file("d/old", b"1").end();
    for upper in [
        Tar::new().whiteout(".wh.d").file("d/new", b"2"),
        Tar::new().file("d/new", b"2").whiteout(".wh.d"),
    ] {
        let lab = Lab::new();
        let image = lab.build(&[base.clone(), upper.end()]);
        if let Some(seen) = seen(image.path()) {
            let d = &seen[b"d".as_slice()];
            assert_eq!((d.mode & 0o7777, d.mtime), (0o755, (0, 0)));
        }
    }
}

#[test]
fn an_opaque_directory_holds_what_its_layer_puts_there_before_and_after_the_mark() {
    let base = Tar::new()
        .dir("d/")
        .file("d/old", b"1")
        .dir("d/sub/")
        .file("d/sub/old", b"1")
        .file("beside", b"1");
    let upper = Tar::new()
        .dir("d/")
        .file("d/before", b"2")
        .dir("d/sub/")
        .file("d/sub/new", b"2")
        .whiteout("d/.wh..wh.opq")
        .file("d/after", b"2");
    check(
        &[base.end(), upper.end()],
        &[
            "beside = 1",
            "d/",
            "d/after = 2",
            "d/before = 2",
            "d/sub/",
            "d/sub/new = 2",
        ],
    );
}

#[test]
fn an_opaque_root_hides_all_older_layers() {
    let base = Tar::new().file("a", b"1").dir("d/").file("d/x", b"1");
    let upper = Tar::new().file("b", b"2").whiteout(".wh..wh.opq");
    check(&[base.end(), upper.end()], &["b = 2"]);
}

#[test]
fn a_mark_of_one_layer_says_nothing_of_the_next() {
    let base = Tar::new().dir("d/").file("d/a", b"1");
    let marked = Tar::new()
        .dir("d/")
        .whiteout("d/.wh..wh.opq")
        .file("d/b", b"2");
    let third = Tar::new().whiteout("d/.wh.b").file("d/c", b"3");
    check(&[base.end(), marked.end(), third.end()], &["d/", "d/c = 3"]);
}

#[test]
fn what_stands_in_the_place_of_something_else_replaces_it_whole() {
    let base = Tar::new()
        .file("file", b"1")
        .dir("dir/")
        .file("dir/x", b"1")
        .dir("real/")
        .file("real/x", b"1")
        .symlink("link", "real")
        .dir("gone/")
        .file("gone/x", b"1");
    let upper = Tar::new()
        .dir("file/")
        .file("file/x", b"2")
        .file("dir", b"2")
        .dir("link/")
        .file("link/y", b"2")
        .symlink("gone", "real");
    check(
        &[base.end(), upper.end()],
        &[
            "dir = 2",
            "file/",
            "file/x = 2",
            "gone -> real",
            "link/",
            "link/y = 2",
            "real/",
            "real/x = 1",
        ],
    );
}

#[test]
fn a_directory_over_a_directory_keeps_what_is_in_it() {
    let base = Tar::new().dir("d/").file("d/x", b"1").end();
    let mut head = crate::support::Head::new(b'5', "d");
    (head.mode, head.uid, head.mtime) = (0o1777, 7, 5);
    let lab = Lab::new();
    let image = lab.build(&[base, Tar::new().head(&head).end()]);
    if let Some(seen) = seen(image.path()) {
        assert_eq!(listed(&seen), ["d/", "d/x = 1"]);
        let d = &seen[b"d".as_slice()];
        assert_eq!((d.mode, d.uid, d.mtime), (0o41777, 7, (5, 0)));
    }
}

#[test]
fn an_entry_through_a_link_lands_where_the_link_leads_inside_of_the_tree() {
    let base = Tar::new()
        .dir("usr/")
        .dir("usr/lib/")
        .symlink("lib", "usr/lib")
        .symlink("abs", "/usr/lib")
        .symlink("up", "../../../usr")
        .symlink("usr/lib/back", "..")
        .symlink("to-be", "made/here");
    let upper = Tar::new()
        .file("lib/a", b"1")
        .file("abs/b", b"2")
        .file("up/c", b"3")
        .file("usr/lib/back/d", b"4")
        .file("to-be/e", b"5")
        .whiteout("lib/.wh.gone")
        .hard_link("up/hard", "abs/a");
    let tree = [
        "abs -> /usr/lib",
        "lib -> usr/lib",
        "made/",
        "made/here/",
        "made/here/e = 5",
        "to-be -> made/here",
        "up -> ../../../usr",
        "usr/",
        "usr/c = 3",
        "usr/d = 4",
        "usr/hard = 1",
        "usr/lib/",
        "usr/lib/a = 1",
        "usr/lib/b = 2",
        "usr/lib/back -> ..",
    ];
    check(&[base.end(), upper.end()], &tree);
}

#[test]
fn an_absolute_link_begins_at_the_root_of_the_tree_wherever_it_is() {
    let base = Tar::new()
        .dir("etc/")
        .dir("usr/")
        .symlink("usr/abs", "/etc");
    let upper = Tar::new().file("usr/abs/x", b"1");
    check(
        &[base.end(), upper.end()],
        &["etc/", "etc/x = 1", "usr/", "usr/abs -> /etc"],
    );
}

#[test]
fn a_whiteout_through_a_link_hides_what_is_there() {
    let base = Tar::new()
        .dir("usr/")
        .file("usr/x", b"1")
        .symlink("l", "/usr");
    check(
        &[base.end(), Tar::new().whiteout("l/.wh.x").end()],
        &["l -> /usr", "usr/"],
    );
}

#[test]
fn the_last_name_of_a_path_is_never_followed() {
    let base = Tar::new()
        .file("target", b"1")
        .symlink("l", "target")
        .symlink("m", "target");
    let upper = Tar::new().file("l", b"2").hard_link("n", "m");
    check(
        &[base.end(), upper.end()],
        &["l = 2", "m -> target", "n -> target", "target = 1"],
    );
}

#[test]
fn paths_with_dots_and_slashes_are_the_paths_that_they_mean() {
    let tar = Tar::new()
        .dir("./")
        .dir("./a/./b//")
        .file("/abs", b"1")
        .file(".//a/./b/c", b"2");
    check(&[tar.end()], &["a/", "a/b/", "a/b/c = 2", "abs = 1"]);
}

#[test]
fn hard_links_hold_across_layers_whiteouts_and_overwriting() {
    let base = Tar::new()
        .file("a", b"1")
        .hard_link("b", "a")
        .hard_link("b", "b");
    let second = Tar::new().hard_link("c", "a").whiteout(".wh.a");
    let third = Tar::new().file("b", b"3").hard_link("d", "c");
    let lab = Lab::new();
    let image = lab.build(&[base.end(), second.end(), third.end()]);
    let Some(seen) = seen(image.path()) else {
        return;
    };
    assert_eq!(listed(&seen), ["b = 3", "c = 1", "d = 1"]);
    let [b, c, d] = ["b", "c", "d"].map(|name| &seen[name.as_bytes()]);
    assert_eq!((b.links, c.links, d.links), (1, 2, 2));
    assert!(c.inode == d.inode && b.inode != c.inode);
}

#[test]
fn of_two_entries_for_one_path_the_last_holds() {
    let tar = Tar::new()
        .file("a", b"1")
        .dir("a/")
        .file("a/x", b"2")
        .file("a/x", b"3");
    check(&[tar.end()], &["a/", "a/x = 3"]);
}

#[test]
fn large_directories_and_long_names_are_all_found() {
    let lab = Lab::new();
    let names = (0..3000).map(|number| format!("d/{number:0>255}"));
    let tar = names.fold(Tar::new(), |tar, name| tar.file(name, b"x"));
    let image = lab.build(&[gzip(&tar.end())]);
    let Some(mounted) = Mounted::new(image.path()) else {
        return;
    };
    let found = std::fs::read_dir(mounted.path().join("d")).unwrap().count();
    assert_eq!(found, 3000);
    for number in 0..3000 {
        let name = format!("d/{number:0>255}");
        assert!(mounted.path().join(name).is_file());
    }
}

#[test]
fn an_empty_layer_changes_nothing_and_no_layer_is_an_empty_disk() {
    check(&[], &[]);
    let empty = vec![0; 1024];
    check(
        &[Tar::new().file("a", b"1").end(), gzip(&empty), empty],
        &["a = 1"],
    );
}
