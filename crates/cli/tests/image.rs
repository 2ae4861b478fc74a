//! `worldcompute image`, with a daemon and without one.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests fail the test"
)]

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::{Daemon, file, json, run, text, worldcompute};
use worldcompute_proof::Sha256;

/// An archive without entries: two blocks of zeros.
const LAYER: &[u8] = &[0; 1024];

/// Writes an OCI layout of one image of one layer, for every machine that the tests may run on.
fn layout(dir: &Path, layer: &[u8]) {
    fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    let platform = worldcompute_node::image::Platform::host().to_string();
    let architecture = platform.split('/').nth(1).unwrap();
    let config = json!({
        "architecture": architecture, "os": "linux", "created": "2026-01-02T03:04:05Z",
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", Sha256::of(layer))] },
        "config": { "Entrypoint": ["/bin/hello"], "Cmd": ["world"], "Env": ["A=1"], "User": "app", "WorkingDir": "/srv" },
    });
    let config = blob(
        dir,
        "application/vnd.oci.image.config.v1+json",
        config.to_string().as_bytes(),
    );
    let layer = blob(dir, "application/vnd.oci.image.layer.v1.tar", layer);
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
    let manifest = blob(
        dir,
        "application/vnd.oci.image.manifest.v1+json",
        manifest.to_string().as_bytes(),
    );
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    file(dir, "index.json", &index.to_string());
    file(dir, "oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
}

fn blob(dir: &Path, media_type: &str, bytes: &[u8]) -> Value {
    let digest = Sha256::of(bytes);
    file(
        &dir.join("blobs/sha256"),
        &digest.to_string(),
        std::str::from_utf8(bytes).unwrap(),
    );
    json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() })
}

/// Everything that a user does with an image, in a home whose daemon runs or does not.
fn comes_and_goes(home: &Path, root: &Path) {
    layout(&root.join("hello"), LAYER);
    let imported = worldcompute(home)
        .current_dir(root)
        .args([
            "image",
            "import",
            "hello",
            "--name",
            "team/hello:1",
            "--json",
        ])
        .output()
        .unwrap();
    assert!(imported.status.success(), "{}", text(&imported.stderr));
    let imported: Value = serde_json::from_slice(&imported.stdout).unwrap();
    let cid = imported["cid"].as_str().unwrap();
    assert_eq!(json(home, &["image", "list"]), json!([imported]));
    for name in ["team/hello:1", cid] {
        let seen = json(home, &["image", "inspect", name]);
        assert_eq!(seen["entrypoint"], json!(["/bin/hello"]));
        assert_eq!(seen["user"], "app");
        assert_eq!(seen["unpacked"], 1024);
    }
    let words = run(home, &["image", "inspect", cid]);
    assert!(text(&words.stdout).contains(&format!("oci+cid:{cid}")));
    let again = run(
        home,
        &[
            "image",
            "import",
            root.join("hello").to_str().unwrap(),
            "--name",
            "b",
        ],
    );
    assert!(
        text(&again.stdout).contains("imported b, team/hello:1"),
        "{}",
        text(&again.stdout)
    );
    assert_eq!(json(home, &["image", "rm", "b"])["image"], false);
    assert_eq!(json(home, &["image", "rm", "team/hello:1"])["image"], true);
    assert_eq!(json(home, &["image", "list"]), json!([]));
    refuses(home, &["image", "inspect", cid], "image_unknown");
    refuses(home, &["image", "rm", "../../x y%2F"], "image_unknown");
}

/// A broken image, and sources that are none.
fn is_strict(home: &Path, root: &Path) {
    let broken = root.join("broken");
    // One that is not there already: what is there, whole, is not read again.
    let layer = [0; 2048];
    layout(&broken, &layer);
    file(
        &broken.join("blobs/sha256"),
        &Sha256::of(layer).to_string(),
        &"x".repeat(layer.len()),
    );
    let path = broken.to_str().unwrap();
    refuses(home, &["image", "import", path], "digest_mismatch");
    refuses(
        home,
        &["image", "import", path, "--platform", "linux/s390x"],
        "platform_not_available",
    );
    refuses(
        home,
        &["image", "import", path, "--select", "other"],
        "image_name_unknown",
    );
    refuses(
        home,
        &["image", "import", "No Such File"],
        "invalid_reference",
    );
    refuses(
        home,
        &["image", "import", "127.0.0.1:1/nobody/there"],
        "registry_disconnected",
    );
    assert_eq!(json(home, &["image", "list"]), json!([]));
}

fn refuses(home: &Path, arguments: &[&str], code: &str) {
    let output = run(home, &[arguments, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    assert!(output.stdout.is_empty());
    let envelope: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(envelope["error_code"], code, "{arguments:?}: {envelope}");
    assert!(!envelope["hint"].as_str().unwrap().is_empty());
}

#[test]
fn images_come_and_go_in_a_home_without_a_daemon() {
    let root = tempfile::tempdir().unwrap();
    let home = root.path().join("home");
    assert_eq!(json(&home, &["image", "list"]), json!([]));
    assert!(!home.exists(), "looking makes no home");
    comes_and_goes(&home, root.path());
    is_strict(&home, root.path());
}

#[test]
fn images_come_and_go_through_a_daemon_and_stay_when_it_ends() {
    let root = tempfile::tempdir().unwrap();
    let home = root.path().join("home");
    let daemon = Daemon::start(&home, &["donor", "join", "--no-mdns", "--port", "0"]);
    comes_and_goes(&home, root.path());
    is_strict(&home, root.path());
    let imported = json(
        &home,
        &[
            "image",
            "import",
            root.path().join("hello").to_str().unwrap(),
            "--name",
            "kept",
        ],
    );
    assert!(daemon.stop());
    assert_eq!(json(&home, &["image", "list"]), json!([imported]));
    json(&home, &["image", "inspect", "kept"]);
}
