//! The list of images: names, removal, and what crashes and damage leave.

use std::fs;
use std::path::Path;

use worldcompute_content::{ContentStore, Limits};
use worldcompute_image::{Blob, ImageStore, MAX_LIST_BYTES, MAX_NAME_BYTES, Request, source};
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

/// The layers of [`Made::image`], as they are kept.
fn carried() -> [Cid; 3] {
    let cids: Vec<_> = layers()
        .iter()
        .map(|(packed, _)| Cid::raw(packed))
        .collect();
    cids.try_into().unwrap()
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
fn what_a_source_calls_its_image_takes_no_name_from_another() {
    let node = Node::new();
    let mut made = other();
    made.entries[0]["annotations"] =
        serde_json::json!({ "org.opencontainers.image.ref.name": "busybox:1" });
    let (first, second) = (Made::image().layout(), made.layout());
    let one = node.import_at(first.path(), &called("busybox:1")).unwrap();
    let fault = node.import_at_with_images(second.path(), &request());
    assert_eq!(fault.code(), "image_name_taken");
    assert!(fault.hint_text().contains("--name"), "{fault:?}");
    assert_eq!(node.images.find("busybox:1").unwrap().cid, one.cid);
    let two = node.import_at(second.path(), &called("busybox:1")).unwrap();
    let again = node.import_at(second.path(), &request()).unwrap();
    assert_eq!((again.cid, again.names), (two.cid, two.names));
}

#[test]
fn a_list_that_could_not_be_read_again_is_not_written() {
    let node = Node::new();
    node.import_at(Made::image().layout().path(), &called("a:1"))
        .unwrap();
    let list = node.dir.path().join("images.json");
    let text = fs::read_to_string(&list).unwrap();
    let name = "n".repeat(MAX_LIST_BYTES - text.len() + "a:1".len());
    let full = text.replace("a:1", &name);
    write(node.dir.path(), "images.json", full.as_bytes());
    let (_dir, content, images) = reopened(node);
    let used = content.used();
    let layout = other().layout();
    let mut source = source::at(layout.path()).unwrap();
    let imported = images.import(&mut *source, &request(), &mut |_| Ok(()));
    assert_eq!(imported.unwrap_err().code(), "image_list_full");
    assert_eq!(fs::read_to_string(&list).unwrap(), full);
    assert_eq!((content.pins().len(), content.used()), (1, used));
}

#[test]
fn an_import_that_fails_takes_back_what_it_put_and_nothing_else() {
    let node = Node::new();
    let mut made = Made::image();
    let [(first, _), _, (last, _)] = layers().try_into().unwrap();
    made.blobs
        .insert(Blob::of(&last).digest(), vec![0; last.len()]);
    let of_a_job = node.content.put(&first).unwrap();
    let layout = made.layout();
    let fault = node.import_at_with_images(layout.path(), &request());
    assert_eq!(fault.code(), "digest_mismatch");
    assert!(node.content.has(&of_a_job).unwrap());
}

#[test]
fn an_image_goes_but_for_what_others_need() {
    let node = Node::new();
    let listed = node
        .import_at(Made::image().layout().path(), &request())
        .unwrap();
    let [first, second, third] = carried();
    node.content
        .pin(&"job:1".parse().unwrap(), [first])
        .unwrap();
    let held = node.content.hold(&second);
    node.images.remove(&listed.cid.to_string()).unwrap();
    let there = [first, second, third].map(|cid| node.content.has(&cid).unwrap());
    assert_eq!(there, [true, true, false]);
    drop(held);
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
