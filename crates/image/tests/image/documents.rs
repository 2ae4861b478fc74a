//! Manifests, indexes and configurations: which are read, which of several is meant, and what is refused.

use serde_json::{Value, json};
use worldcompute_fault::Fault;
use worldcompute_image::{
    Blob, Document, ImageConfig, MAX_CONFIG_BYTES, MAX_CREATED_BYTES, MAX_IMAGE_BYTES,
    MAX_INDEX_DEPTH, MAX_INDEX_ENTRIES, MAX_LAYERS, MAX_MANIFEST_BYTES, MAX_PATH_BYTES,
    MAX_WORD_BYTES, MAX_WORDS,
};

use crate::made::{
    INDEX, LAYER, MANIFEST, Made, Node, config, descriptor, layers, manifest, named, request, write,
};

fn some() -> Value {
    let blob = Blob::of(b"x");
    manifest(&blob, &[blob, blob])
}

fn code(document: &Value) -> String {
    let fault = Document::parse(document.to_string().as_bytes(), None).unwrap_err();
    assert!(!fault.retryable() && !fault.hint_text().is_empty());
    fault.code().to_owned()
}

fn changed(pointer: &str, value: Value) -> Value {
    let mut document = some();
    *document.pointer_mut(pointer).unwrap() = value;
    document
}

#[test]
fn both_families_of_media_types_are_read() {
    let mut docker = some();
    docker["mediaType"] = "application/vnd.docker.distribution.manifest.v2+json".into();
    docker["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json".into();
    docker["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip".into();
    docker["annotations"] = json!({ "any": "thing" });
    for media_type in ["", "+gzip", "+zstd"] {
        docker["layers"][1]["mediaType"] = format!("{LAYER}{media_type}").into();
        let Document::Manifest(read) =
            Document::parse(docker.to_string().as_bytes(), None).unwrap()
        else {
            panic!("an index");
        };
        assert_eq!(read.layers.len(), 2);
    }
    let list = json!({ "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json", "manifests": [] });
    assert!(matches!(
        Document::parse(list.to_string().as_bytes(), None).unwrap(),
        Document::Index(_)
    ));
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let mut both = some();
    both["manifests"] = json!([]);
    assert_eq!(code(&both), "invalid_manifest_document");
    assert_eq!(
        code(&changed("/mediaType", INDEX.into())),
        "invalid_manifest_document"
    );
    assert_eq!(
        code(&json!({ "schemaVersion": 2 })),
        "invalid_manifest_document"
    );
    assert_eq!(code(&json!([])), "invalid_manifest_document");
    let twice = some()
        .to_string()
        .replacen('{', r#"{"schemaVersion":2,"#, 1);
    assert_eq!(
        Document::parse(twice.as_bytes(), None).unwrap_err().code(),
        "invalid_json"
    );
    let declared = Document::parse(some().to_string().as_bytes(), Some(&INDEX.into()));
    assert_eq!(declared.unwrap_err().code(), "invalid_manifest_document");
}

#[test]
fn schema_1_foreign_layers_and_unknown_types_are_refused() {
    let first =
        json!({ "schemaVersion": 1, "name": "x", "fsLayers": [], "history": [], "signatures": [] });
    assert_eq!(code(&first), "schema1_refused");
    let signed = changed(
        "/mediaType",
        "application/vnd.docker.distribution.manifest.v1+prettyjws".into(),
    );
    assert_eq!(code(&signed), "schema1_refused");
    for version in [json!(3), json!("2"), json!(null), json!(2.5)] {
        assert_eq!(
            code(&changed("/schemaVersion", version)),
            "invalid_manifest_document"
        );
    }
    for foreign in [
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ] {
        assert_eq!(
            code(&changed("/layers/0/mediaType", foreign.into())),
            "foreign_layer"
        );
    }
    let mut elsewhere = some();
    elsewhere["layers"][0]["urls"] = json!(["https://example.org/layer"]);
    assert_eq!(code(&elsewhere), "foreign_layer");
    for (pointer, media_type) in [
        ("/layers/1/mediaType", format!("{LAYER}+encrypted")),
        ("/layers/1/mediaType", "text/plain".to_owned()),
        (
            "/config/mediaType",
            "application/vnd.oci.empty.v1+json".to_owned(),
        ),
        (
            "/mediaType",
            "application/vnd.oci.artifact.manifest.v1+json".to_owned(),
        ),
    ] {
        assert_eq!(
            code(&changed(pointer, media_type.into())),
            "unsupported_media_type",
            "{pointer}"
        );
    }
}

#[test]
fn sizes_and_counts_past_their_limits_are_refused() {
    assert_eq!(
        code(&changed("/config/size", (MAX_CONFIG_BYTES + 1).into())),
        "image_too_large"
    );
    assert_eq!(
        code(&changed("/layers/0/size", (MAX_IMAGE_BYTES + 1).into())),
        "image_too_large"
    );
    assert_eq!(
        code(&changed("/layers/0/size", MAX_IMAGE_BYTES.into())),
        "image_too_large"
    );
    assert!(
        Document::parse(
            changed("/layers/0/size", (MAX_IMAGE_BYTES - 1).into())
                .to_string()
                .as_bytes(),
            None
        )
        .is_ok()
    );
    for size in [json!(-1), json!(1.5), json!(1e300), json!("1"), json!(null)] {
        assert_eq!(
            code(&changed("/layers/0/size", size)),
            "invalid_manifest_document"
        );
    }
    let blob = Blob::of(b"x");
    let of = |count| manifest(&blob, &vec![blob; count]);
    assert!(Document::parse(of(MAX_LAYERS).to_string().as_bytes(), None).is_ok());
    assert_eq!(code(&of(MAX_LAYERS + 1)), "too_many_layers");
    let index = |count| json!({ "schemaVersion": 2, "manifests": vec![descriptor(MANIFEST, &blob); count] });
    assert!(Document::parse(index(MAX_INDEX_ENTRIES).to_string().as_bytes(), None).is_ok());
    assert_eq!(
        code(&index(MAX_INDEX_ENTRIES + 1)),
        "too_many_index_entries"
    );
    let mut padded = some().to_string();
    padded.push_str(&" ".repeat(MAX_MANIFEST_BYTES as usize + 1 - padded.len()));
    assert_eq!(
        Document::parse(padded.as_bytes(), None).unwrap_err().code(),
        "invalid_json"
    );
}

#[test]
fn a_giant_manifest_is_refused_before_it_is_read() {
    let mut made = Made::image();
    made.entries[0]["size"] = (MAX_MANIFEST_BYTES + 1).into();
    assert_eq!(
        Node::new().refuses(made.layout().path()).code(),
        "image_too_large"
    );
    let layout = Made::image().layout();
    write(
        layout.path(),
        "index.json",
        &vec![b' '; MAX_MANIFEST_BYTES as usize + 1],
    );
    assert_eq!(Node::new().refuses(layout.path()).code(), "image_too_large");
}

#[test]
fn of_an_index_the_image_for_the_platform_is_taken() {
    let mut made = Made::default();
    let arm = made.add_image("arm64", &layers()[..1]);
    let amd = made.add_image("amd64", &layers()[1..]);
    let layout = made.layout();
    let node = Node::new();
    assert_eq!(
        node.import_at(layout.path(), &request()).unwrap().cid,
        amd.cid()
    );
    let mut other = request();
    other.choice.platform = "linux/arm64".parse().unwrap();
    assert_eq!(
        node.import_at(layout.path(), &other).unwrap().cid,
        arm.cid()
    );
    other.choice.platform = "linux/riscv64".parse().unwrap();
    let fault = node.import_at_with_images(layout.path(), &other);
    assert_eq!(fault.code(), "platform_not_available");
    assert!(
        fault.message().contains("linux/arm64") && fault.message().contains(&amd.to_string()),
        "{fault}"
    );
}

#[test]
fn of_several_images_in_a_layout_one_has_to_be_named() {
    let mut made = Made::default();
    let first = made.add_image("amd64", &layers()[..1]);
    let second = made.add_image("amd64", &layers()[1..]);
    made.entries[0]["annotations"] = json!({ "org.opencontainers.image.ref.name": "one" });
    made.entries[1]["annotations"] =
        json!({ "io.containerd.image.name": "docker.io/library/two:latest" });
    let layout = made.layout();
    let fault = Node::new().refuses(layout.path());
    assert_eq!(fault.code(), "image_ambiguous");
    assert!(
        fault.message().contains("one") && fault.message().contains("docker.io/library/two:latest")
    );
    let node = Node::new();
    assert_eq!(
        node.import_at(layout.path(), &named("one")).unwrap().cid,
        first.cid()
    );
    let two = node
        .import_at(layout.path(), &named("docker.io/library/two:latest"))
        .unwrap();
    assert_eq!(
        (two.cid, two.names),
        (
            second.cid(),
            vec!["docker.io/library/two:latest".to_owned()]
        )
    );
    assert_eq!(
        node.import_at_with_images(layout.path(), &named("three"))
            .code(),
        "image_name_unknown"
    );
}

#[test]
fn indexes_lead_to_a_manifest_so_far_and_no_further() {
    let nested = |depth: usize| {
        let mut made = Made::default();
        made.add_image("amd64", &layers());
        for _ in 1..depth {
            let index = made.index();
            made.entries.clear();
            let blob = made.document(&index);
            made.add_entry(INDEX, &blob, None);
        }
        made.layout()
    };
    Node::new()
        .import_at(nested(MAX_INDEX_DEPTH).path(), &request())
        .unwrap();
    assert_eq!(
        Node::new()
            .refuses(nested(MAX_INDEX_DEPTH + 1).path())
            .code(),
        "index_too_deep"
    );
}

#[test]
fn an_index_that_lies_about_the_platform_is_found() {
    let mut made = Made::default();
    made.add_image("arm64", &layers());
    made.entries[0]["platform"] = json!({ "os": "linux", "architecture": "amd64" });
    assert_eq!(
        Node::new().refuses(made.layout().path()).code(),
        "platform_not_available"
    );
    made.entries[0].as_object_mut().unwrap().remove("platform");
    assert_eq!(
        Node::new().refuses(made.layout().path()).code(),
        "platform_not_available"
    );
}

fn refused(change: impl FnOnce(&mut Value)) -> Fault {
    let mut document = config("amd64", vec![]);
    change(&mut document);
    ImageConfig::parse(document.to_string().as_bytes()).unwrap_err()
}

#[test]
fn when_an_image_was_made_is_a_time_or_not_said() {
    let created = |text: &str| {
        let mut document = config("amd64", vec![]);
        document["created"] = json!(text);
        let read = ImageConfig::parse(document.to_string().as_bytes());
        read.unwrap().created
    };
    let spelled = |text: &str| Some(text.to_owned());
    assert_eq!(
        created("2026-01-02T03:04:05.5+02:00"),
        spelled("2026-01-02T01:04:05.5Z")
    );
    let long = format!("2026-01-02T03:04:05Z[{}]", "u-x=x][".repeat(10) + "u-x=x");
    assert!(long.len() > MAX_CREATED_BYTES);
    for none in [
        "",
        "yesterday",
        "2026-13-01T00:00:00Z",
        &long,
        &"x".repeat(1 << 20),
    ] {
        assert_eq!(created(none), None, "{none:.40}");
    }
}

#[test]
fn a_configuration_without_anything_to_run_is_read() {
    let bare = json!({ "architecture": "arm64", "os": "linux", "variant": "v8", "rootfs": { "type": "layers", "diff_ids": [] } });
    let read = ImageConfig::parse(bare.to_string().as_bytes()).unwrap();
    assert_eq!(
        (read.cwd.as_str(), read.user.to_string().as_str()),
        ("/", "0")
    );
    assert_eq!(read.platform.to_string(), "linux/arm64/v8");
    let nulls = json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] },
        "config": { "Cmd": null, "Entrypoint": null, "Env": null, "Volumes": null, "Labels": null, "ExposedPorts": null,
            "WorkingDir": "", "User": "", "OnBuild": null, "Healthcheck": { "Test": ["NONE"] } },
        "container_config": { "anything": 1 }, "docker_version": "20" });
    assert_eq!(
        ImageConfig::parse(nulls.to_string().as_bytes())
            .unwrap()
            .cmd,
        Vec::<String>::new()
    );
}

#[test]
fn configurations_that_cannot_be_honoured_are_refused_by_field() {
    let refuse = |field: &str, value: Value| {
        let fault = refused(|document| document["config"][field] = value);
        assert_eq!(fault.code(), "invalid_image_config");
        assert!(fault.message().contains(field), "{fault}");
    };
    refuse("Env", json!(["NAME"]));
    refuse("Env", json!(["=value"]));
    refuse("Env", json!(["A=\0"]));
    refuse("Cmd", json!(["a\0b"]));
    refuse("Entrypoint", json!(vec!["x"; MAX_WORDS + 1]));
    refuse("Cmd", json!(["x".repeat(MAX_WORD_BYTES + 1)]));
    refuse("WorkingDir", json!("relative/path"));
    refuse(
        "WorkingDir",
        json!(format!("/{}", "x".repeat(MAX_PATH_BYTES))),
    );
    assert_eq!(
        refused(|document| document["config"]["User"] = json!("a b")).code(),
        "invalid_user"
    );
    assert_eq!(
        refused(|document| document["config"]["Cmd"] = json!("sh -c x")).code(),
        "invalid_image_config"
    );
    assert_eq!(
        refused(|document| document["rootfs"]["type"] = json!("other")).code(),
        "invalid_image_config"
    );
    assert_eq!(
        refused(|document| document["rootfs"]["diff_ids"] = json!(["md5:1"])).code(),
        "unsupported_digest"
    );
    assert_eq!(
        refused(|document| drop(document["rootfs"].take())).code(),
        "invalid_image_config"
    );
    assert_eq!(
        refused(|document| document["architecture"] = json!("amd64/../x")).code(),
        "invalid_platform"
    );
}
