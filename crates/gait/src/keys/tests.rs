use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;

fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn nothing() -> BTreeMap<String, String> {
    BTreeMap::new()
}

fn variable(name: &str) -> KeySource {
    KeySource::new("private-key", "", name).unwrap()
}

fn request(mode: KeyMode, private: KeySource, public: KeySource) -> SigningRequest {
    SigningRequest {
        mode,
        private,
        public,
    }
}

fn reason<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
    let fault = result.unwrap_err();
    assert_eq!(
        (fault.code(), fault.gait_exit_code()),
        ("invalid_input", 6),
        "{fault}"
    );
    assert!(!fault.remedy().is_empty());
    fault.reason()
}

fn keep(path: &Path, text: &str, mode: u32) -> KeySource {
    worldcompute_durable::write_atomic(path, text.as_bytes(), worldcompute_durable::Mode::Private)
        .unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    at(path)
}

fn at(path: &Path) -> KeySource {
    KeySource::new("private-key", path.to_str().unwrap(), "").unwrap()
}

#[test]
fn every_ambiguity_has_a_reason_and_a_remedy_of_its_own() {
    let key = SigningKey::generate().unwrap();
    let other = SigningKey::generate().unwrap();
    let set = environment(&[
        ("PRIVATE", &key.file_text()),
        ("PUBLIC", &key.verifying_key().to_base64()),
        ("OTHER", &other.verifying_key().to_base64()),
        ("EMPTY", ""),
        ("TEXT", "not base64"),
    ]);
    let prod = |private, public| request(KeyMode::Prod, private, public).resolve(&set);
    let dev = |private, public| request(KeyMode::Dev, private, public).resolve(&set);
    let none = || KeySource::None;
    assert_eq!(
        reason(KeySource::new("private-key", "a", "B")),
        "key_source_ambiguous"
    );
    assert_eq!(reason(KeyMode::parse("zzz")), "key_mode_unsupported");
    assert_eq!(
        reason(dev(variable("PRIVATE"), none())),
        "key_source_not_allowed"
    );
    assert_eq!(
        reason(dev(none(), variable("PUBLIC"))),
        "key_source_not_allowed"
    );
    assert_eq!(reason(prod(none(), none())), "key_source_required");
    assert_eq!(
        reason(prod(none(), variable("PUBLIC"))),
        "key_source_required"
    );
    assert_eq!(
        reason(prod(variable("PRIVATE"), variable("OTHER"))),
        "key_pair_mismatch"
    );
    assert_eq!(
        reason(prod(variable("UNSET"), none())),
        "key_variable_unset"
    );
    assert_eq!(
        reason(prod(variable("EMPTY"), none())),
        "key_variable_unset"
    );
    assert_eq!(reason(prod(variable("A=B"), none())), "key_variable_unset");
    assert_eq!(reason(prod(variable("TEXT"), none())), "key_malformed");
    assert_eq!(reason(prod(variable("PUBLIC"), none())), "key_malformed");
}

#[test]
fn each_mode_takes_what_it_should() {
    let key = SigningKey::generate().unwrap();
    let text = format!("  {}\r\n", key.file_text().trim());
    let set = environment(&[
        ("PRIVATE", &text),
        ("PUBLIC", &key.verifying_key().to_base64()),
    ]);
    let prod = request(KeyMode::Prod, variable("PRIVATE"), variable("PUBLIC"));
    let signing = prod.resolve(&set).unwrap();
    assert_eq!(signing.key.verifying_key(), key.verifying_key());
    assert!(signing.warnings.is_empty());
    let dev = request(KeyMode::Dev, KeySource::None, KeySource::None);
    let (first, second) = (
        dev.resolve(&nothing()).unwrap(),
        dev.resolve(&nothing()).unwrap(),
    );
    assert_ne!(first.key.verifying_key(), second.key.verifying_key());
    assert_eq!(first.warnings.len(), 1);
}

#[test]
fn a_verifier_takes_either_half_and_refuses_two_that_are_no_pair() {
    let key = SigningKey::generate().unwrap();
    let other = SigningKey::generate().unwrap().verifying_key().to_base64();
    let set = environment(&[
        ("PRIVATE", &key.file_text()),
        ("PUBLIC", &key.verifying_key().to_base64()),
        ("OTHER", &other),
    ]);
    let verifying = |public, private| verifying_key(&public, &private, &set);
    let expected = Some(key.verifying_key());
    assert_eq!(
        verifying(variable("PUBLIC"), KeySource::None).unwrap(),
        expected
    );
    assert_eq!(
        verifying(KeySource::None, variable("PRIVATE")).unwrap(),
        expected
    );
    assert_eq!(
        verifying(variable("PUBLIC"), variable("PRIVATE")).unwrap(),
        expected
    );
    assert_eq!(verifying(KeySource::None, KeySource::None).unwrap(), None);
    assert_eq!(
        reason(verifying(variable("OTHER"), variable("PRIVATE"))),
        "key_pair_mismatch"
    );
}

#[test]
fn a_public_key_that_everybody_may_write_verifies_nothing_and_an_open_one_does() {
    let dir = tempfile::tempdir().unwrap();
    let public = SigningKey::generate().unwrap().verifying_key();
    let with = |mode| {
        let source = keep(&dir.path().join("public.key"), &public.to_base64(), mode);
        verifying_key(&source, &KeySource::None, &nothing())
    };
    assert_eq!(with(0o644).unwrap(), Some(public));
    for open in [0o666, 0o622, 0o602] {
        assert_eq!(reason(with(open)), "key_file_insecure");
    }
}

#[test]
fn a_private_key_file_that_others_can_open_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let key = SigningKey::generate().unwrap();
    for mode in [0o644, 0o660, 0o666, 0o602, 0o777] {
        let file = keep(&dir.path().join("key"), &key.file_text(), mode);
        assert_eq!(
            reason(file.signing_key(&nothing())),
            "key_file_insecure",
            "{mode:o}"
        );
    }
    let file = keep(&dir.path().join("key"), &key.file_text(), 0o600);
    assert!(file.signing_key(&nothing()).unwrap().is_some());
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path().join("key"), &link).unwrap();
    let link = at(&link);
    assert_eq!(reason(link.signing_key(&nothing())), "key_file_insecure");
}

#[test]
fn a_public_key_in_place_of_the_private_one_is_malformed_whatever_its_mode() {
    let dir = tempfile::tempdir().unwrap();
    let public = SigningKey::generate().unwrap().verifying_key().to_base64();
    for mode in [0o600, 0o644] {
        let file = keep(&dir.path().join("key"), &public, mode);
        assert_eq!(reason(file.signing_key(&nothing())), "key_malformed");
    }
}

#[test]
fn a_missing_key_file_is_a_matter_of_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let file = at(&dir.path().join("none"));
    for fault in [
        file.signing_key(&nothing()).map(drop).unwrap_err(),
        file.verifying_key(&nothing()).map(drop).unwrap_err(),
    ] {
        assert_eq!(
            (fault.code(), fault.category()),
            ("not_found", Category::IoFailure)
        );
    }
}

#[test]
fn no_refusal_repeats_what_a_key_source_held() {
    let secret = "c2VjcmV0LXRoYXQtbXVzdC1ub3QtYXBwZWFy";
    let dir = tempfile::tempdir().unwrap();
    let set = environment(&[("KEY", secret)]);
    let file = keep(&dir.path().join("key"), secret, 0o600);
    for source in [variable("KEY"), file] {
        for fault in [
            source.signing_key(&set).map(drop).unwrap_err(),
            source.verifying_key(&set).map(drop).unwrap_err(),
        ] {
            assert!(!format!("{fault:?} {}", fault.human()).contains("c2VjcmV0"));
        }
    }
}

#[test]
fn a_pair_is_written_privately_once_and_replaced_only_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("deep/keys");
    let made = create(&keys, "gait", false).unwrap();
    for path in [&made.private_path, &made.public_path] {
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{}", path.display());
    }
    let private = at(&made.private_path);
    let public = at(&made.public_path);
    assert_eq!(
        verifying_key(&public, &private, &nothing()).unwrap(),
        Some(made.public)
    );
    assert_eq!(reason(create(&keys, "gait", false)), "key_exists");
    assert_eq!(
        verifying_key(&public, &private, &nothing()).unwrap(),
        Some(made.public)
    );
    let replaced = create(&keys, "gait", true).unwrap();
    assert_ne!(replaced.public, made.public);
    assert_eq!(
        verifying_key(&public, &private, &nothing()).unwrap(),
        Some(replaced.public)
    );
}

#[test]
fn a_rotation_is_named_by_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let now = "2026-02-05T01:02:03Z".parse().unwrap();
    let made = rotate(dir.path(), "gait", now).unwrap();
    assert_eq!(made.prefix, "gait_20260205T010203Z");
    assert!(
        made.private_path
            .ends_with("gait_20260205T010203Z_private.key")
    );
    let again = rotate(dir.path(), "gait", now).unwrap_err();
    assert_eq!(again.reason(), "key_exists");
    // There is no --force that it could be given.
    assert!(again.remedy().starts_with("retry in a second"));
}

#[test]
fn a_name_that_leaves_the_directory_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys");
    for prefix in [
        "",
        "../x",
        "a/b",
        ".hidden",
        "a\0b",
        "a b",
        &"x".repeat(129),
    ] {
        assert_eq!(
            reason(create(&keys, prefix, false)),
            "key_prefix_invalid",
            "{prefix:?}"
        );
    }
    assert!(!keys.exists());
    create(&keys, &"x".repeat(128), false).unwrap();
}
