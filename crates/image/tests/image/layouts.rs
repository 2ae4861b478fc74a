//! OCI layouts in folders.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use worldcompute_content::Limits;
use worldcompute_image::{Image, Overrides};
use worldcompute_proof::Sha256;

use crate::made::{Made, Node, config, layers, manifest, request, tar, write};

#[test]
fn an_image_is_kept_by_the_names_of_its_parts_and_pinned() {
    let (node, made) = (Node::new(), Made::image());
    let listed = node.import_at(made.layout().path(), &request()).unwrap();
    assert_eq!(listed.layer_count, 3);
    assert_eq!(listed.platform.to_string(), "linux/amd64");
    assert_eq!(listed.created.as_deref(), Some("2026-01-02T03:04:05Z"));
    assert_eq!(
        listed.size,
        made.blobs
            .values()
            .map(|bytes| bytes.len() as u64)
            .sum::<u64>()
    );
    let pins = node.content.pins();
    assert_eq!(
        pins.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [format!("image:{}", listed.cid)]
    );
    assert_eq!(
        node.content.pinned(&pins[0]).unwrap().len(),
        made.blobs.len()
    );
    for (digest, bytes) in &made.blobs {
        assert_eq!(
            node.content
                .get(&worldcompute_image::Blob::new(*digest, 0).cid())
                .unwrap(),
            *bytes
        );
    }
    let image = Image::read(&node.content, &listed.cid).unwrap();
    let process = image.config().process(&Overrides::default()).unwrap();
    assert_eq!(process.argv, ["/bin/sh", "-c", "echo hello"]);
    assert_eq!(process.cwd, "/srv");
}

#[test]
fn the_same_image_comes_in_twice_as_one() {
    let (node, layout) = (Node::new(), Made::image().layout());
    let first = node.import_at(layout.path(), &request()).unwrap();
    let used = node.content.used();
    let again = node.import_at(layout.path(), &request()).unwrap();
    assert_eq!((first, used), (again, node.content.used()));
    assert_eq!(node.images.images().len(), 1);
}

#[test]
fn progress_ends_with_all_bytes_of_all_layers() {
    let (node, layout) = (Node::new(), Made::image().layout());
    let mut steps = Vec::new();
    let mut source = worldcompute_image::source::at(layout.path()).unwrap();
    let mut keep = |step| {
        steps.push(step);
        Ok(())
    };
    node.images
        .import(&mut *source, &request(), &mut keep)
        .unwrap();
    let last = steps.last().unwrap();
    assert_eq!((last.layer, last.layers, last.bytes), (3, 3, last.total));
    assert!(steps.is_sorted_by_key(|step| step.bytes) && last.total > 0);
}

#[test]
fn whoever_is_told_of_progress_can_end_the_import_at_once() {
    let (node, layout) = (Node::new(), Made::image().layout());
    for last in 1..=3 {
        let mut source = worldcompute_image::source::at(layout.path()).unwrap();
        let mut ended = false;
        let mut stop = |step: worldcompute_image::Progress| {
            assert!(!ended, "told again: {step:?}");
            ended = step.layer == last;
            match ended {
                true => Err(worldcompute_fault::Fault::usage("enough")),
                false => Ok(()),
            }
        };
        let fault = node
            .images
            .import(&mut *source, &request(), &mut stop)
            .unwrap_err();
        assert_eq!(fault.code(), "usage");
        node.assert_empty();
    }
}

#[test]
fn a_changed_byte_of_any_part_is_found() {
    let made = Made::image();
    for digest in made.blobs.keys() {
        let layout = made.layout();
        change(layout.path(), digest, |bytes| {
            *bytes.last_mut().unwrap() ^= 1
        });
        assert_eq!(
            Node::new().refuses(layout.path()).code(),
            "digest_mismatch",
            "{digest}"
        );
    }
}

#[test]
fn a_part_of_another_length_is_found() {
    let made = Made::image();
    for digest in made.blobs.keys() {
        let layout = made.layout();
        change(layout.path(), digest, |bytes| bytes.push(0));
        assert_eq!(
            Node::new().refuses(layout.path()).code(),
            "size_mismatch",
            "{digest}"
        );
        change(layout.path(), digest, |bytes| {
            bytes.truncate(bytes.len() - 2)
        });
        assert_eq!(
            Node::new().refuses(layout.path()).code(),
            "size_mismatch",
            "{digest}"
        );
    }
}

#[test]
fn a_missing_part_is_found() {
    let made = Made::image();
    for digest in made.blobs.keys() {
        let layout = made.layout();
        fs::remove_file(layout.path().join(format!("blobs/sha256/{digest}"))).unwrap();
        assert_eq!(
            Node::new().refuses(layout.path()).code(),
            "layout_file_unusable",
            "{digest}"
        );
    }
}

#[test]
fn a_layer_that_unpacks_to_something_else_is_found() {
    for wrong in 0..3 {
        let mut layers = layers();
        layers[wrong].1 = tar(&[("etc/shadow", b"other")]);
        let mut made = Made::default();
        made.add_image("amd64", &layers);
        let fault = Node::new().refuses(made.layout().path());
        assert_eq!(fault.code(), "diff_id_mismatch");
        assert!(
            fault
                .message()
                .contains(&format!("layer {} of 3", wrong + 1)),
            "{fault}"
        );
    }
}

#[test]
fn a_bomb_is_stopped_where_it_passes_the_limit() {
    let node = Node::new();
    let zeros = vec![0; 4 << 20];
    let mut made = Made::default();
    made.add_image(
        "amd64",
        &[
            (crate::made::gzip(&zeros), zeros.clone()),
            (crate::made::zstd(&zeros), zeros),
        ],
    );
    let layout = made.layout();
    let mut small = request();
    small.max_unpacked = (8 << 20) - 1;
    let fault = node.import_at(layout.path(), &small).unwrap_err();
    assert_eq!(fault.code(), "unpacked_too_large");
    assert!(fault.message().contains("layer 2 of 2"), "{fault}");
    small.max_unpacked += 1;
    node.import_at(layout.path(), &small).unwrap();
}

#[test]
fn an_image_that_does_not_fit_leaves_nothing() {
    let node = Node::with(Limits {
        max_total: 3_000,
        ..Limits::default()
    });
    assert_eq!(
        node.refuses(Made::image().layout().path()).code(),
        "content_store_full"
    );
    let node = Node::with(Limits {
        max_object: 1_500,
        ..Limits::default()
    });
    assert_eq!(
        node.refuses(Made::image().layout().path()).code(),
        "object_too_large"
    );
}

#[test]
fn layers_and_diff_ids_are_as_many() {
    for count in [2, 4] {
        let mut made = Made::default();
        let parts: Vec<_> = layers()
            .into_iter()
            .map(|(packed, _)| made.keep(packed))
            .collect();
        let mut diff_ids: Vec<_> = layers()
            .iter()
            .map(|(_, unpacked)| format!("sha256:{}", Sha256::of(unpacked)))
            .collect();
        diff_ids.resize(count, format!("sha256:{}", Sha256::of("")));
        let config = made.document(&config("amd64", diff_ids));
        made.add_manifest(&manifest(&config, &parts), Some("amd64"));
        assert_eq!(
            Node::new().refuses(made.layout().path()).code(),
            "layer_count_mismatch",
            "{count}"
        );
    }
}

#[test]
fn an_image_of_the_same_layer_twice_counts_and_keeps_it_once() {
    let node = Node::new();
    let layer = layers().remove(1);
    let mut made = Made::default();
    made.add_image("amd64", &[layer.clone(), layer]);
    let listed = node.import_at(made.layout().path(), &request()).unwrap();
    assert_eq!(listed.layer_count, 2);
    assert_eq!(listed.size, node.content.used());
}

#[test]
fn no_symbolic_link_in_a_layout_is_followed() {
    let made = Made::image();
    let elsewhere = made.layout();
    for name in made
        .files()
        .into_iter()
        .map(|(name, _)| name)
        .chain(["blobs".to_owned(), "blobs/sha256".to_owned()])
    {
        let layout = made.layout();
        let path = layout.path().join(&name);
        match path.is_dir() {
            true => fs::remove_dir_all(&path).unwrap(),
            false => fs::remove_file(&path).unwrap(),
        }
        symlink(elsewhere.path().join(&name), &path).unwrap();
        let expected = if name == "oci-layout" {
            "not_an_image"
        } else {
            "layout_file_unusable"
        };
        assert_eq!(
            Node::new().refuses(layout.path()).code(),
            expected,
            "{name}"
        );
    }
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let layout = Made::image().layout();
    let index = layout.path().join("index.json");
    fs::remove_file(&index).unwrap();
    mknodat(CWD, &index, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert_eq!(
        Node::new().refuses(layout.path()).code(),
        "layout_file_unusable"
    );
    fs::remove_file(&index).unwrap();
    fs::create_dir(&index).unwrap();
    assert_eq!(
        Node::new().refuses(layout.path()).code(),
        "layout_file_unusable"
    );
}

#[test]
fn a_digest_that_is_a_path_is_no_digest() {
    for digest in [
        "sha256:../../../etc/passwd",
        "../../etc/passwd",
        "sha256:/etc/passwd",
        "sha512:00",
        "sha256:",
        "SHA256:00",
    ] {
        let mut made = Made::image();
        made.entries[0]["digest"] = digest.into();
        let code = Node::new().refuses(made.layout().path()).code().to_owned();
        assert!(
            ["unsupported_digest", "invalid_manifest_document"].contains(&code.as_str()),
            "{digest}: {code}"
        );
    }
}

#[test]
fn a_folder_that_is_no_layout_is_refused() {
    let node = Node::new();
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(node.refuses(empty.path()).code(), "not_an_image");
    for (marker, code) in [
        ("{}", "unsupported_layout"),
        (r#"{"imageLayoutVersion":"2.0.0"}"#, "unsupported_layout"),
        ("x", "invalid_json"),
    ] {
        let layout = Made::image().layout();
        write(layout.path(), "oci-layout", marker.as_bytes());
        assert_eq!(node.refuses(layout.path()).code(), code, "{marker}");
    }
    let layout = Made::image().layout();
    write(layout.path(), "oci-layout", &vec![b' '; (4 << 10) + 1]);
    assert_eq!(node.refuses(layout.path()).code(), "image_too_large");
    assert_eq!(
        node.refuses(Path::new("/nonexistent/image")).code(),
        "not_found"
    );
}

fn change(layout: &Path, digest: &Sha256, change: impl FnOnce(&mut Vec<u8>)) {
    let name = format!("blobs/sha256/{digest}");
    let mut bytes = fs::read(layout.join(&name)).unwrap();
    change(&mut bytes);
    write(layout, &name, &bytes);
}
