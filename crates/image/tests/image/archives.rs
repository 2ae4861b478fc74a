//! Archives of layouts and of `docker save`, old and new.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;
use worldcompute_fault::Fault;
use worldcompute_image::source::{MAX_ENTRIES, MAX_ENTRY_NAME_BYTES, MAX_HEADER_BYTES};
use worldcompute_image::{Blob, MAX_INDEX_ENTRIES, MAX_LAYERS};

use crate::made::{Made, Node, append, config, gzip, layers, named, request, tar, write, zstd};

/// What `docker save` made before version 25: folders by id, layers as they were, no digests anywhere.
struct Saved {
    files: Vec<(String, Vec<u8>)>,
    manifest: Vec<Value>,
}

impl Saved {
    fn one() -> Self {
        let mut saved = Self {
            files: vec![],
            manifest: vec![],
        };
        saved.add(
            "hello:1",
            &layers()
                .into_iter()
                .map(|(_, unpacked)| unpacked)
                .collect::<Vec<_>>(),
        );
        saved
    }

    fn add(&mut self, tag: &str, layers: &[Vec<u8>]) {
        let diff_ids = layers
            .iter()
            .map(|layer| Blob::of(layer).to_string())
            .collect();
        let config = config("amd64", diff_ids).to_string().into_bytes();
        let name = format!("{}.json", Blob::of(&config).digest());
        let mut names = Vec::new();
        for (number, layer) in layers.iter().enumerate() {
            let folder = format!("{tag}-{number}").replace(':', "-");
            self.files
                .push((format!("{folder}/VERSION"), b"1.0".to_vec()));
            self.files
                .push((format!("{folder}/layer.tar"), layer.clone()));
            names.push(format!("{folder}/layer.tar"));
        }
        self.manifest
            .push(json!({ "Config": name, "RepoTags": [tag], "Layers": names }));
        self.files.push((name, config));
    }

    fn bytes(&self) -> Vec<u8> {
        let manifest = json!(self.manifest).to_string().into_bytes();
        let mut files: Vec<_> = self
            .files
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
            .collect();
        files.push(("manifest.json", &manifest));
        tar(&files)
    }
}

fn file(bytes: &[u8]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "image.tar", bytes);
    (dir, path)
}

fn refused(bytes: &[u8]) -> Fault {
    let (_dir, path) = file(bytes);
    Node::new().refuses(&path)
}

fn entry(builder: &mut Builder<Vec<u8>>, kind: EntryType, name: &[u8], link: &str, bytes: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    if !link.is_empty() {
        header.set_link_name_literal(link).unwrap();
    }
    header.set_cksum();
    builder.append(&header, bytes).unwrap();
}

#[test]
fn an_archive_of_a_layout_is_the_image_that_the_layout_is() {
    let made = Made::image();
    let (_dir, path) = file(&made.archive());
    let of_folder = Node::new()
        .import_at(made.layout().path(), &request())
        .unwrap();
    let of_archive = Node::new().import_at(&path, &request()).unwrap();
    assert_eq!(of_folder.cid, of_archive.cid);
    let dotted: Vec<_> = made
        .files()
        .into_iter()
        .map(|(name, bytes)| (format!("./{name}"), bytes))
        .collect();
    let dotted: Vec<_> = dotted
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    let (_dir, path) = file(&tar(&dotted));
    assert_eq!(
        Node::new().import_at(&path, &request()).unwrap().cid,
        of_folder.cid
    );
}

#[test]
fn what_docker_saved_is_the_same_image_each_time() {
    let (_dir, path) = file(&Saved::one().bytes());
    let (node, other) = (Node::new(), Node::new());
    let listed = node.import_at(&path, &request()).unwrap();
    assert_eq!(
        (listed.layer_count, listed.names.clone()),
        (3, vec!["hello:1".to_owned()])
    );
    assert_eq!(other.import_at(&path, &request()).unwrap().cid, listed.cid);
    assert_eq!(node.images.inspect("hello:1").unwrap().layers.len(), 3);
}

#[test]
fn what_newer_dockers_save_is_read_as_the_layout_that_it_is() {
    let made = Made::image();
    let mut files = made.files();
    files.push(("manifest.json".to_owned(), b"[]".to_vec()));
    let files: Vec<_> = files
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    let (_dir, path) = file(&tar(&files));
    let of_folder = Node::new()
        .import_at(made.layout().path(), &request())
        .unwrap();
    assert_eq!(
        Node::new().import_at(&path, &request()).unwrap().cid,
        of_folder.cid
    );
}

#[test]
fn layers_in_an_archive_may_be_packed() {
    let mut saved = Saved::one();
    let mut of = |name: &str, pack: fn(&[u8]) -> Vec<u8>| {
        let file = saved.files.iter_mut().find(|(own, _)| own == name).unwrap();
        file.1 = pack(&file.1);
    };
    of("hello-1-1/layer.tar", gzip);
    of("hello-1-2/layer.tar", zstd);
    let (_dir, path) = file(&saved.bytes());
    Node::new().import_at(&path, &request()).unwrap();
}

#[test]
fn layers_that_are_links_within_the_archive_are_found() {
    let layer = layers().remove(0).1;
    let config = config("amd64", vec![Blob::of(&layer).to_string(); 3]).to_string();
    let manifest = json!([{ "Config": "c.json", "RepoTags": null, "Layers": ["a/layer.tar", "b/layer.tar", "c/layer.tar"] }]);
    let mut builder = Builder::new(Vec::new());
    append(&mut builder, "c.json", config.as_bytes());
    append(&mut builder, "a/layer.tar", &layer);
    entry(
        &mut builder,
        EntryType::Symlink,
        b"b/layer.tar",
        "../a/layer.tar",
        b"",
    );
    entry(
        &mut builder,
        EntryType::Link,
        b"c/layer.tar",
        "b/layer.tar",
        b"",
    );
    append(
        &mut builder,
        "manifest.json",
        manifest.to_string().as_bytes(),
    );
    let (_dir, path) = file(&builder.into_inner().unwrap());
    assert_eq!(
        Node::new()
            .import_at(&path, &request())
            .unwrap()
            .layer_count,
        3
    );
}

#[test]
fn links_that_lead_out_or_in_a_circle_are_refused() {
    let of = |target: &str| {
        let mut builder = Builder::new(Vec::new());
        entry(
            &mut builder,
            EntryType::Symlink,
            b"manifest.json",
            target,
            b"",
        );
        refused(&builder.into_inner().unwrap()).code().to_owned()
    };
    assert_eq!(of("../../etc/passwd"), "archive_name_unsafe");
    assert_eq!(of("/etc/passwd"), "archive_name_unsafe");
    assert_eq!(of("manifest.json"), "archive_incomplete");
    assert_eq!(of("nothing"), "archive_incomplete");
}

#[test]
fn names_that_lead_out_of_the_archive_are_refused() {
    for name in [
        b"../manifest.json".as_slice(),
        b"/manifest.json",
        b"a/../../b",
        b"\xff\xfe",
    ] {
        let mut builder = Builder::new(Vec::new());
        entry(&mut builder, EntryType::Regular, name, "", b"[]");
        assert_eq!(
            refused(&builder.into_inner().unwrap()).code(),
            "archive_name_unsafe",
            "{name:?}"
        );
    }
}

#[test]
fn a_name_that_is_there_twice_is_refused() {
    for twice in ["manifest.json", "./manifest.json", "x/../manifest.json"] {
        let mut builder = Builder::new(Vec::new());
        append(&mut builder, "manifest.json", b"[]");
        entry(
            &mut builder,
            EntryType::Regular,
            twice.as_bytes(),
            "",
            b"[{}]",
        );
        assert_eq!(
            refused(&builder.into_inner().unwrap()).code(),
            "archive_duplicate_entry",
            "{twice}"
        );
    }
}

#[test]
fn long_names_are_read_up_to_their_limit() {
    let long = |length: usize| {
        let mut builder = Builder::new(Vec::new());
        entry(
            &mut builder,
            EntryType::GNULongName,
            b"././@LongLink",
            "",
            "n".repeat(length).as_bytes(),
        );
        entry(&mut builder, EntryType::Regular, b"short", "", b"");
        builder.into_inner().unwrap()
    };
    assert_eq!(refused(&long(MAX_ENTRY_NAME_BYTES)).code(), "not_an_image");
    for length in [MAX_ENTRY_NAME_BYTES + 1, MAX_HEADER_BYTES as usize] {
        assert_eq!(refused(&long(length)).code(), "archive_name_too_long");
    }
    assert_eq!(
        refused(&long(MAX_HEADER_BYTES as usize + 1)).code(),
        "archive_header_too_long"
    );
    let mut builder = Builder::new(Vec::new());
    entry(
        &mut builder,
        EntryType::XHeader,
        b"pax",
        "",
        b"22 path=manifest.json\n",
    );
    entry(&mut builder, EntryType::Regular, b"short", "", b"[]");
    assert_eq!(
        refused(&builder.into_inner().unwrap()).code(),
        "platform_not_available"
    );
}

#[test]
fn entries_that_readers_disagree_on_are_refused() {
    for header in ["12 size=999\n", "22 GNU.sparse.major=1\n"] {
        let mut builder = Builder::new(Vec::new());
        entry(
            &mut builder,
            EntryType::XHeader,
            b"pax",
            "",
            header.as_bytes(),
        );
        entry(
            &mut builder,
            EntryType::Regular,
            b"manifest.json",
            "",
            b"[]",
        );
        assert_eq!(
            refused(&builder.into_inner().unwrap()).code(),
            "archive_unsupported",
            "{header}"
        );
    }
    for kind in [EntryType::GNUSparse, EntryType::Char, EntryType::Fifo] {
        let mut builder = Builder::new(Vec::new());
        entry(&mut builder, kind, b"manifest.json", "", b"");
        assert_eq!(
            refused(&builder.into_inner().unwrap()).code(),
            "archive_unsupported",
            "{kind:?}"
        );
    }
}

#[test]
fn an_archive_that_is_cut_anywhere_is_refused() {
    for bytes in [Saved::one().bytes(), Made::image().archive()] {
        // At the end are two blocks of zeros, and before them those that fill the last block of the last file.
        let whole = bytes.len() - 1024 - 511;
        let cuts = (0..whole).step_by(509).chain([1, 511, 512, 513, whole - 1]);
        for cut in cuts {
            let fault = refused(&bytes[..cut]);
            let expected = [
                "archive_unreadable",
                "not_an_image",
                "archive_incomplete",
                "image_ambiguous",
            ];
            assert!(expected.contains(&fault.code()), "{cut}: {fault:?}");
        }
    }
}

#[test]
fn an_archive_of_too_many_entries_is_refused() {
    let mut header = Header::new_gnu();
    header.set_size(0);
    header.set_entry_type(EntryType::Directory);
    header.set_path("d").unwrap();
    header.set_cksum();
    let bytes = header.as_bytes().repeat(MAX_ENTRIES);
    assert_eq!(refused(&bytes).code(), "not_an_image");
    assert_eq!(
        refused(&[bytes.as_slice(), header.as_bytes()].concat()).code(),
        "archive_too_many_entries"
    );
}

#[test]
fn a_packed_archive_says_how_to_unpack_it() {
    let archive = Made::image().archive();
    for packed in [
        gzip(&archive),
        zstd(&archive),
        b"BZh9x".to_vec(),
        b"\xfd7zXZ\0".to_vec(),
    ] {
        assert_eq!(refused(&packed).code(), "archive_compressed");
    }
}

#[test]
fn lists_of_images_that_are_none_are_refused() {
    let of = |manifest: &str| {
        refused(&tar(&[("manifest.json", manifest.as_bytes())]))
            .code()
            .to_owned()
    };
    assert_eq!(of("{}"), "invalid_docker_archive");
    assert_eq!(of(r#"[{"Config":"c"}]"#), "invalid_docker_archive");
    assert_eq!(of("["), "invalid_json");
    assert_eq!(
        of(r#"[{"Config":"../c","Layers":[]}]"#),
        "archive_incomplete"
    );
    assert_eq!(
        of(r#"[{"Config":"c","Layers":[],"Layers":[]}]"#),
        "invalid_json"
    );
    assert_eq!(of("[]"), "platform_not_available");
    let many = json!([{ "Config": "c", "Layers": vec!["l"; MAX_LAYERS + 1] }]).to_string();
    assert_eq!(of(&many), "invalid_docker_archive");
    let tagged = |images: usize, tags: usize| {
        let image = json!({ "Config": "c", "RepoTags": vec!["t"; tags], "Layers": [] });
        of(&json!(vec![image; images]).to_string())
    };
    for (images, tags) in [(MAX_INDEX_ENTRIES, 0), (1, MAX_INDEX_ENTRIES)] {
        assert_eq!(tagged(images, tags), "archive_incomplete");
    }
    for (images, tags) in [
        (MAX_INDEX_ENTRIES + 1, 0),
        (1, MAX_INDEX_ENTRIES + 1),
        (501, 2),
    ] {
        assert_eq!(tagged(images, tags), "invalid_docker_archive");
    }
}

#[test]
fn of_several_saved_images_one_has_to_be_named() {
    let mut saved = Saved::one();
    saved.add("other:2", &[layers().remove(0).1]);
    let (_dir, path) = file(&saved.bytes());
    assert_eq!(Node::new().refuses(&path).code(), "image_ambiguous");
    let listed = Node::new().import_at(&path, &named("other:2")).unwrap();
    assert_eq!(
        (listed.layer_count, listed.names),
        (1, vec!["other:2".to_owned()])
    );
}

#[test]
fn a_saved_layer_that_is_not_what_the_configuration_says_is_found() {
    let mut saved = Saved::one();
    let layer = saved
        .files
        .iter_mut()
        .find(|(name, _)| name == "hello-1-2/layer.tar")
        .unwrap();
    *layer.1.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&saved.bytes()).code(), "diff_id_mismatch");
}

#[test]
fn a_file_that_is_no_archive_is_refused() {
    assert_eq!(refused(b"").code(), "not_an_image");
    assert_eq!(refused(&[7; 2000]).code(), "archive_unreadable");
    assert_eq!(refused(b"FROM scratch\n").code(), "archive_unreadable");
    let told = refused(&[b"\x1b[2Jevil\n".as_slice(), &[b'x'; 2000]].concat());
    assert_eq!(told.code(), "archive_unreadable");
    let told = told.to_string();
    assert!(!told.contains(['\x1b', '\n']) && told.len() < 300, "{told}");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.tar");
    fs::File::create(&path).unwrap();
    assert_eq!(Node::new().refuses(&path).code(), "not_an_image");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_is_changed_in_an_archive_what_comes_in_is_whole(
        is_saved: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = if is_saved { Saved::one().bytes() } else { Made::image().archive() };
        for (place, byte) in changes {
            *place.get_mut(&mut bytes) = byte;
        }
        let (_dir, path) = file(&bytes);
        let node = Node::new();
        if let Ok(listed) = node.import_at(&path, &request()) {
            node.images.inspect(&listed.cid.to_string()).unwrap();
        }
    }
}
