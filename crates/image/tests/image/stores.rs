//! The list of images: names, removal, and what crashes and damage leave.

use std::fs;
use std::path::Path;

use worldcompute_content::{Collect, ContentStore, Limits};
use worldcompute_image::{ImageStore, MAX_NAME_BYTES, Request};
use worldcompute_proof::Cid;

use crate::made::{Made, Node, layers, request, write};

fn called(name: &str) -> Request {
    Request {
        name: Some(name.to_owned()),
        ..request()
    }
}

fn other() -> Made {
    let mut made = Made::default();
    made.add_image("amd64", &layers()[..1]);
    made
}

fn reopened(node: Node) -> (tempfile::TempDir, ContentStore, ImageStore) {
    let Node {
        dir,
        content,
        images,
    } = node;
    drop((content, images));
    let content = ContentStore::open(dir.path().join("content"), Limits::default()).unwrap();
    let images = ImageStore::open(dir.path().join("images.json"), content.clone()).unwrap();
    (dir, content, images)
}

#[test]
fn a_list_is_as_it_was_after_a_restart() {
    let node = Node::new();
    node.import_at(Made::image().layout().path(), &called("a:1"))
        .unwrap();
    let before = node.images.images();
    let (_dir, content, images) = reopened(node);
    assert_eq!(images.images(), before);
    assert_eq!(content.pins().len(), 1);
}

#[test]
fn a_name_is_that_of_the_image_that_got_it_last() {
    let node = Node::new();
    let (first, second) = (Made::image().layout(), other().layout());
    let one = node.import_at(first.path(), &called("a:1")).unwrap();
    let two = node.import_at(second.path(), &called("a:1")).unwrap();
    assert_ne!(one.cid, two.cid);
    assert_eq!(node.images.find("a:1").unwrap().cid, two.cid);
    assert_eq!(
        node.images.find(&one.cid.to_string()).unwrap().names,
        Vec::<String>::new()
    );
    node.import_at(second.path(), &called("a:0")).unwrap();
    assert_eq!(node.images.find("a:0").unwrap().names, ["a:0", "a:1"]);
}

#[test]
fn an_image_goes_with_its_last_name_or_by_its_cid() {
    let node = Node::new();
    let (first, second) = (Made::image().layout(), other().layout());
    let one = node.import_at(first.path(), &called("a:1")).unwrap();
    node.import_at(first.path(), &called("a:2")).unwrap();
    node.import_at(second.path(), &called("b:1")).unwrap();
    let removed = node.images.remove("a:1").unwrap();
    assert_eq!(
        (removed.image, removed.names),
        (false, vec!["a:1".to_owned()])
    );
    assert_eq!(node.content.pins().len(), 2);
    assert!(node.images.remove("a:2").unwrap().image);
    assert_eq!(
        node.images.find(&one.cid.to_string()).unwrap_err().code(),
        "image_unknown"
    );
    node.content.collect(Collect::All).unwrap();
    // The first layer is in the other image as well.
    node.images.inspect("b:1").unwrap();
    let cid = node.images.find("b:1").unwrap().cid.to_string();
    assert_eq!(node.images.remove(&cid).unwrap().names, ["b:1"]);
    node.assert_empty();
    assert_eq!(
        node.images.remove("a:1").unwrap_err().code(),
        "image_unknown"
    );
}

#[test]
fn names_that_are_none_are_refused_before_anything_is_read() {
    let node = Node::new();
    let cid = Cid::raw("x").to_string();
    for name in [
        "",
        " ",
        "a b",
        "ü",
        "a\n",
        &cid,
        &"n".repeat(MAX_NAME_BYTES + 1),
    ] {
        let fault = node
            .import_at(Made::image().layout().path(), &called(name))
            .unwrap_err();
        assert_eq!(fault.code(), "invalid_image_name", "{name:?}");
    }
}

#[test]
fn what_an_archive_calls_its_image_is_taken_only_where_it_is_a_name() {
    let mut made = Made::image();
    made.entries[0]["annotations"] =
        serde_json::json!({ "org.opencontainers.image.ref.name": "evil\u{1b}[2J name" });
    let listed = Node::new()
        .import_at(made.layout().path(), &request())
        .unwrap();
    assert_eq!(listed.names, Vec::<String>::new());
}

#[test]
fn pins_that_a_crash_left_are_removed() {
    let node = Node::new();
    node.import_at(Made::image().layout().path(), &request())
        .unwrap();
    let lost = Cid::raw("crashed");
    node.content
        .pin(&format!("image:{lost}").parse().unwrap(), [lost])
        .unwrap();
    node.content.pin(&"job:1".parse().unwrap(), [lost]).unwrap();
    let (_dir, content, _images) = reopened(node);
    let pins: Vec<_> = content.pins().iter().map(ToString::to_string).collect();
    assert_eq!(pins.len(), 2, "{pins:?}");
    assert!(pins.contains(&"job:1".to_owned()));
}

#[test]
fn inspecting_finds_what_the_disk_has_changed() {
    let made = Made::image();
    for (digest, bytes) in &made.blobs {
        let node = Node::new();
        let listed = node.import_at(made.layout().path(), &request()).unwrap();
        let name = listed.cid.to_string();
        assert_eq!(node.images.inspect(&name).unwrap().layers.len(), 3);
        let cid = worldcompute_image::Blob::new(*digest, 0).cid().to_string();
        let object = object(node.dir.path(), &cid);
        let mut changed = bytes.clone();
        changed[0] ^= 1;
        fs::remove_file(&object).unwrap();
        write(object.parent().unwrap(), &cid, &changed);
        assert_eq!(
            node.images.inspect(&name).unwrap_err().code(),
            "verification_failed",
            "{digest}"
        );
    }
}

#[test]
fn an_inspection_says_what_the_image_says() {
    let node = Node::new();
    let listed = node
        .import_at(Made::image().layout().path(), &called("a:1"))
        .unwrap();
    let seen = node.images.inspect("a:1").unwrap();
    assert_eq!(seen.digest, format!("sha256:{}", listed.cid.digest()));
    assert_eq!(
        (seen.entrypoint, seen.cmd),
        (
            vec!["/bin/sh".to_owned(), "-c".to_owned()],
            vec!["echo hello".to_owned()]
        )
    );
    assert_eq!(
        (seen.env, seen.user, seen.cwd),
        (vec!["A=1".to_owned()], "root".to_owned(), "/srv".to_owned())
    );
    assert_eq!(
        seen.unpacked,
        layers()
            .iter()
            .map(|(_, unpacked)| unpacked.len() as u64)
            .sum::<u64>()
    );
}

#[test]
fn a_list_that_was_damaged_is_not_taken_for_an_empty_one() {
    let node = Node::new();
    node.import_at(Made::image().layout().path(), &request())
        .unwrap();
    let Node {
        dir,
        content,
        images,
    } = node;
    drop(images);
    let list = dir.path().join("images.json");
    let whole = fs::read(&list).unwrap();
    for damaged in [
        &whole[..whole.len() - 1],
        b"",
        b"{}",
        br#"{"images":[],"version":2}"#,
    ] {
        write(dir.path(), "images.json", damaged);
        let fault = ImageStore::open(&list, content.clone()).err().unwrap();
        assert_eq!(fault.code(), "image_list_unreadable");
        assert_eq!(content.pins().len(), 1);
    }
}

fn object(root: &Path, cid: &str) -> std::path::PathBuf {
    let shard = &cid[cid.len() - 3..cid.len() - 1];
    root.join("content/objects").join(shard).join(cid)
}
