//! `gait keys`, as a caller sees it.

mod support;

use support::Gait;
use worldcompute_proof::SigningKey;

#[test]
fn without_a_directory_no_keys_are_made() {
    let gait = Gait::new();
    for command in ["init", "rotate"] {
        for dir in ["", " "] {
            let (code, json) = gait.json(&["keys", command, "--out-dir", dir]);
            assert_eq!(
                (code, &json["error"]),
                (6, &"--out-dir must not be empty".into())
            );
        }
    }
    assert_eq!(std::fs::read_dir(gait.path()).unwrap().count(), 0);
}

#[test]
fn a_fresh_pair_verifies() {
    let gait = Gait::new();
    let (code, made) = gait.json(&["keys", "init", "--out-dir", "k"]);
    assert_eq!((code, &made["ok"]), (0, &true.into()));
    assert_eq!(made["private_key_path"], "k/gait_private.key");
    let private = made["private_key_path"].as_str().unwrap();
    let public = made["public_key_path"].as_str().unwrap();
    let (code, verified) = gait.json(&[
        "keys",
        "verify",
        "--private-key",
        private,
        "--public-key",
        public,
    ]);
    assert_eq!(code, 0);
    assert_eq!(verified["key_id"], made["key_id"]);
    let (code, again) = gait.json(&["keys", "init", "--out-dir", "k"]);
    assert_eq!(
        (code, again["error_reason"].as_str()),
        (6, Some("key_exists"))
    );
    let (code, rotated) = gait.json(&["keys", "rotate", "--out-dir", "k"]);
    assert_eq!(code, 0);
    assert_ne!(rotated["key_id"], made["key_id"]);
}

#[test]
fn halves_of_two_pairs_are_refused() {
    let key = SigningKey::generate().unwrap();
    let other = SigningKey::generate().unwrap().verifying_key().to_base64();
    let gait = Gait::new().env("GK", &key.file_text()).env("OTHER", &other);
    let (code, json) = gait.json(&[
        "keys",
        "verify",
        "--private-key-env",
        "GK",
        "--public-key-env",
        "OTHER",
    ]);
    assert_eq!(code, 6);
    assert_eq!(json["error_code"], "invalid_input");
    assert_eq!(json["error_reason"], "key_pair_mismatch");
}

#[test]
fn a_missing_private_source_is_refused_in_the_words_of_the_contract() {
    let (code, json) = Gait::new().json(&["keys", "verify"]);
    assert_eq!(code, 6);
    assert_eq!(
        json["error"],
        "private key source is required (--private-key or --private-key-env)"
    );
    assert_eq!(json["hint"], "check command usage and input schema");
}

#[test]
fn no_output_repeats_a_secret_from_environment_file_or_argument() {
    let key = SigningKey::generate().unwrap();
    let text = key.file_text().trim().to_owned();
    let broken = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo=";
    let gait = Gait::new().env("GK", &text).env("BROKEN", broken);
    let file = gait.file("broken.key", broken);
    for args in [
        &["keys", "verify", "--private-key-env", "GK"][..],
        &[
            "keys",
            "verify",
            "--private-key-env",
            "GK",
            "--public-key-env",
            "BROKEN",
        ],
        &["keys", "verify", "--private-key-env", "BROKEN"],
        &["keys", "verify", "--private-key", &file],
        &[
            "keys",
            "verify",
            "--private-key",
            &file,
            "--private-key-env",
            "GK",
        ],
    ] {
        for mode in [&[][..], &["--json"]] {
            let run = gait.run(&[args, mode].concat());
            let said = format!("{}{}", run.stdout, run.stderr);
            assert!(
                !said.contains(&text) && !said.contains(broken),
                "{args:?}: {said}"
            );
        }
    }
}

#[test]
fn a_bare_group_prints_its_usage_and_fails() {
    let gait = Gait::new();
    for args in [&["keys"][..], &["keys", "--json"]] {
        let run = gait.run(args);
        assert_eq!(run.code, 6);
        assert!(
            run.stdout.contains("usage:\n  gait keys init"),
            "{}",
            run.stdout
        );
    }
    assert_eq!(gait.run(&["keys", "--help"]).code, 0);
}
