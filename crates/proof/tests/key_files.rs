//! A secret key lives in one file that only its owner can read, and shows up nowhere else.

#![expect(clippy::unwrap_used, reason = "test helpers may fail loudly")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use worldcompute_proof::{SigningKey, VerifyingKey};

fn write_private(path: &Path, text: &str) {
    worldcompute_durable::write_atomic(path, text.as_bytes(), worldcompute_durable::Mode::Private)
        .unwrap();
}

#[test]
fn a_created_key_is_private_and_loads_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.key");
    let key = SigningKey::create(&path).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o600
    );
    assert_eq!(SigningKey::load(&path).unwrap().peer_id(), key.peer_id());
    assert_eq!(
        SigningKey::load_or_create(&path).unwrap().peer_id(),
        key.peer_id()
    );
}

#[test]
fn the_file_is_one_line_of_seed_and_public_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.key");
    let key = SigningKey::create(&path).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let pair = STANDARD.decode(text.strip_suffix('\n').unwrap()).unwrap();
    assert_eq!(
        pair,
        [key.seed().as_slice(), &key.verifying_key().to_bytes()].concat()
    );
}

#[test]
fn a_key_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.key");
    let key = SigningKey::create(&path).unwrap();
    assert_eq!(
        SigningKey::create(&path).unwrap_err().code(),
        "already_exists"
    );
    assert_eq!(SigningKey::load(&path).unwrap().peer_id(), key.peer_id());
}

#[test]
fn racing_starters_agree_on_one_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.key");
    let ids: Vec<_> = std::thread::scope(|scope| {
        let starters: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| SigningKey::load_or_create(&path).unwrap().peer_id()))
            .collect();
        starters
            .into_iter()
            .map(|starter| starter.join().unwrap())
            .collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn a_file_that_others_can_read_or_redirect_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.key");
    SigningKey::create(&path).unwrap();
    let link = folder.path().join("link.key");
    symlink(&path, &link).unwrap();
    assert!(SigningKey::load(&link).is_err());
    for mode in [0o640, 0o604, 0o660] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(
            SigningKey::load(&path).unwrap_err().code(),
            "insecure_permissions",
            "{mode:o}"
        );
    }
}

#[test]
fn a_file_that_holds_no_key_is_refused_without_showing_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.key");
    let key = SigningKey::from_seed([9; 32]);
    let other = SigningKey::from_seed([8; 32]);
    let mismatched =
        STANDARD.encode([key.seed().as_slice(), &other.verifying_key().to_bytes()].concat());
    let right = STANDARD.encode([key.seed().as_slice(), &key.verifying_key().to_bytes()].concat());
    let texts = [
        "",
        "AAAA",
        &mismatched,
        &right[4..],
        &format!("{right}\n\n"),
        &format!(" {right}"),
        &format!("{right}\r\n"),
    ];
    for text in texts {
        write_private(&path, text);
        let fault = SigningKey::load(&path).unwrap_err();
        assert_eq!(fault.code(), "invalid_key", "{text:?}");
        assert!(
            text.is_empty() || !format!("{fault:?} {fault}").contains(text),
            "the fault shows the file"
        );
    }
    write_private(&path, &right);
    assert_eq!(SigningKey::load(&path).unwrap().peer_id(), key.peer_id());
}

#[test]
fn a_missing_or_oversized_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.key");
    assert!(SigningKey::load(&path).is_err());
    write_private(&path, &"A".repeat(100_000));
    assert_eq!(
        SigningKey::load(&path).unwrap_err().code(),
        "file_too_large"
    );
}

#[test]
fn debug_output_never_holds_the_secret() {
    let key = SigningKey::generate().unwrap();
    let seed = key.seed();
    let shown = format!("{key:?} {key:#?} {:?}", Some(&key));
    let spellings = [
        hex::encode(*seed),
        hex::encode_upper(*seed),
        STANDARD.encode(*seed),
        format!("{:?}", *seed),
    ];
    for secret in spellings {
        assert!(!shown.contains(&secret[1..secret.len() - 2]), "{shown}");
    }
    assert!(shown.contains(&key.verifying_key().to_base64()));
}

#[test]
fn generated_keys_differ() {
    assert_ne!(
        SigningKey::generate().unwrap().peer_id(),
        SigningKey::generate().unwrap().peer_id()
    );
}

#[test]
fn a_public_key_file_loads_with_and_without_line_break() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("public.key");
    let public = SigningKey::from_seed([1; 32]).verifying_key();
    for text in [format!("{public}"), format!("{public}\n")] {
        write_private(&path, &text);
        assert_eq!(VerifyingKey::load(&path).unwrap(), public);
    }
    write_private(&path, &format!("{public}\n\n"));
    assert!(VerifyingKey::load(&path).is_err());
}
