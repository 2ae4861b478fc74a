mod cache;
mod fetch;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use hyper::Uri;
use serde_json::{Value, json};
use worldcompute_fault::Category;
use worldcompute_proof::{SigningKey, canonical_json};

use super::*;
use crate::clock::SystemClock;
use crate::signature::SignatureObject;

/// Answers from a script, and panics when it is asked more often than that.
struct Scripted(Mutex<VecDeque<std::result::Result<Vec<u8>, Failure>>>);

/// Notes the waits instead of waiting.
#[derive(Default)]
struct Noted(Mutex<Vec<Duration>>);

impl Scripted {
    fn new(answers: impl IntoIterator<Item = std::result::Result<Vec<u8>, Failure>>) -> Self {
        Self(Mutex::new(answers.into_iter().collect()))
    }

    fn left(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Transport for Scripted {
    fn get(&self, _uri: &Uri) -> std::result::Result<Vec<u8>, Failure> {
        self.0.lock().unwrap().pop_front().unwrap()
    }
}

impl Pause for Noted {
    fn pause(&self, delay: Duration) {
        self.0.lock().unwrap().push(delay);
    }
}

fn key() -> SigningKey {
    SigningKey::from_seed([7; 32])
}

fn unsigned() -> Value {
    json!({
        "schema_id": "gait.registry.pack", "schema_version": "1.0.0",
        "created_at": "2026-02-05T00:00:00Z", "producer_version": "0.0.0-dev",
        "pack_name": "base-low", "pack_version": "1.0.0", "pack_type": "policy",
        "publisher": "acme", "source": "registry",
        "artifacts": [{"path": "policy.yaml", "sha256": "aa".repeat(32)}],
    })
}

fn signed(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut pack = unsigned();
    change(&mut pack);
    let signature = SignatureObject::sign(&canonical_json(&pack).unwrap(), &key());
    pack["signatures"] = json!([signature]);
    serde_json::to_vec(&pack).unwrap()
}

fn digest(bytes: &[u8]) -> Sha256 {
    Manifest::parse(bytes).unwrap().digest().unwrap()
}

fn remote() -> Source {
    let rules = SourceRules {
        allow_hosts: vec!["r.example".to_owned()],
        allow_insecure_http: false,
    };
    Source::parse("https://r.example/p.json", &rules).unwrap()
}

fn request(source: Source) -> Request {
    Request {
        source,
        publishers: Vec::new(),
        pin: None,
        key: key().verifying_key(),
        retry: Retry::default(),
        cached_fallback: false,
    }
}

struct Bench {
    dir: tempfile::TempDir,
    pause: Noted,
}

impl Bench {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            pause: Noted::default(),
        }
    }

    fn cache(&self) -> Cache {
        Cache::at(self.dir.path().join("cache"))
    }

    fn install(&self, request: &Request, transport: &Scripted) -> Result<Installed> {
        let means = Means {
            transport,
            pause: &self.pause,
            clock: &SystemClock,
        };
        install(request, &self.cache(), &means)
    }

    fn is_untouched(&self) -> bool {
        !self.cache().root().exists()
    }
}

fn reason(fault: &Fault) -> (Category, &'static str) {
    (fault.category(), fault.reason())
}

/// Installing `bytes` is refused for the reason `why`, and leaves nothing.
fn is_refused(bytes: Vec<u8>, request: &Request, why: &str) {
    let bench = Bench::new();
    let fault = bench
        .install(request, &Scripted::new([Ok(bytes)]))
        .unwrap_err();
    assert_eq!(
        (reason(&fault), fault.code(), fault.gait_exit_code()),
        (
            (Category::VerificationFailed, why),
            "verification_failed",
            2
        ),
        "{fault}"
    );
    assert!(bench.is_untouched(), "{why}");
}

#[test]
fn what_is_no_manifest_is_refused_before_anything_is_written() {
    let with = |name: &str, value: &str| signed(|pack| pack[name] = value.into());
    let inserted = |member: &str| {
        let text = String::from_utf8(signed(|_| {})).unwrap();
        text.replacen('{', &format!("{{{member},"), 1).into_bytes()
    };
    for bytes in [
        Vec::new(),
        b"[]".to_vec(),
        with("schema_id", "x"),
        with("schema_version", "2.0.0"),
        with("pack_name", ""),
        with("pack_name", "../../up"),
        with("pack_name", "pins"),
        with("pack_name", &"x".repeat(129)),
        with("pack_version", "a/b"),
        with("pack_version", ".."),
        signed(|pack| (pack["pack_type"], pack["publisher"]) = ("skill".into(), "".into())),
        inserted("\"extra\":1"),
        inserted("\"publisher\":\"x\""),
    ] {
        is_refused(bytes, &request(remote()), "manifest_invalid");
    }
}

#[test]
fn what_a_manifest_does_not_prove_is_refused_before_anything_is_written() {
    let plain = request(remote());
    let unsigned = serde_json::to_vec(&unsigned()).unwrap();
    is_refused(unsigned, &plain, "signature_missing");
    let flipped = String::from_utf8(signed(|_| {})).unwrap();
    let flipped = flipped.replace("\"acme\"", "\"evil\"").into_bytes();
    is_refused(flipped, &plain, "signature_invalid");
    let other = Request {
        key: SigningKey::from_seed([8; 32]).verifying_key(),
        ..request(remote())
    };
    is_refused(signed(|_| {}), &other, "signature_invalid");
    let pinned = Request {
        pin: Some(Pin::parse(&"ab".repeat(32)).unwrap()),
        ..request(remote())
    };
    is_refused(signed(|_| {}), &pinned, "pin_mismatch");
    let picky = Request {
        publishers: vec!["others".to_owned()],
        ..request(remote())
    };
    is_refused(signed(|_| {}), &picky, "publisher_not_allowed");
}

#[test]
fn one_valid_signature_among_others_is_enough() {
    let bench = Bench::new();
    let mut pack: Value = serde_json::from_slice(&signed(|_| {})).unwrap();
    let valid = pack["signatures"][0].clone();
    pack["signatures"] = json!([{"alg": "ed25519", "key_id": "x", "sig": "not base64"}, 7, valid]);
    let bytes = serde_json::to_vec(&pack).unwrap();
    bench
        .install(&request(remote()), &Scripted::new([Ok(bytes)]))
        .unwrap();
}

#[test]
fn a_cached_copy_stands_in_only_when_asked_for_pinned_and_verified() {
    let bench = Bench::new();
    let pack = signed(|_| {});
    let plain = request(remote());
    bench
        .install(&plain, &Scripted::new([Ok(pack.clone())]))
        .unwrap();
    let down = || Scripted::new([Err(Failure::Status(404))]);
    assert_eq!(
        bench.install(&plain, &down()).unwrap_err().code(),
        "source_refused"
    );
    let unpinned = Request {
        cached_fallback: true,
        ..plain.clone()
    };
    let fault = bench.install(&unpinned, &down()).unwrap_err();
    assert_eq!(fault.code(), "source_refused");
    assert!(
        fault.message().contains("a cached fallback needs a pin"),
        "{fault}"
    );
    let reached = Scripted::new([Ok(pack.clone())]);
    assert_eq!(bench.install(&unpinned, &reached).unwrap().fallback, None);
    let pinned = Request {
        pin: Some(Pin::parse(&digest(&pack).to_string()).unwrap()),
        ..unpinned
    };
    let installed = bench.install(&pinned, &down()).unwrap();
    assert!(
        installed
            .fallback
            .is_some_and(|path| path.ends_with("registry_pack.json"))
    );
    let record = std::fs::read_to_string(bench.cache().root().join("fallbacks.jsonl")).unwrap();
    assert!(record.contains("\"source\":\"https://r.example/p.json\""));
    let elsewhere = Request {
        pin: Some(Pin::parse(&"ab".repeat(32)).unwrap()),
        ..pinned.clone()
    };
    let fault = bench.install(&elsewhere, &down()).unwrap_err();
    assert_eq!(
        (fault.code(), fault.category()),
        ("source_refused", Category::NetworkPermanent)
    );
}

#[test]
fn a_cached_copy_that_was_tampered_with_never_passes_for_the_source() {
    let bench = Bench::new();
    let pack = signed(|_| {});
    let pinned = Request {
        pin: Some(Pin::parse(&digest(&pack).to_string()).unwrap()),
        cached_fallback: true,
        ..request(remote())
    };
    let installed = bench
        .install(&pinned, &Scripted::new([Ok(pack.clone())]))
        .unwrap();
    for (change, why) in [
        (
            String::from_utf8(pack.clone())
                .unwrap()
                .replace("acme", "evil"),
            "pin_mismatch",
        ),
        (
            serde_json::to_string(&unsigned()).unwrap(),
            "signature_missing",
        ),
    ] {
        keep(&installed.metadata_path, change.as_bytes());
        let fault = bench
            .install(
                &pinned,
                &Scripted::new([
                    Err(Failure::Timeout),
                    Err(Failure::Timeout),
                    Err(Failure::Timeout),
                ]),
            )
            .unwrap_err();
        assert_eq!(reason(&fault), (Category::VerificationFailed, why));
    }
}

fn keep(path: &std::path::Path, bytes: &[u8]) {
    worldcompute_durable::write_atomic(path, bytes, worldcompute_durable::Mode::Private).unwrap();
}
