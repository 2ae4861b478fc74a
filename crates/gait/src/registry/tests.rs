use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use hyper::Uri;
use serde_json::{Value, json};
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

#[test]
fn a_passing_failure_is_tried_again_with_growing_deterministic_delays() {
    let bench = Bench::new();
    let pack = signed(|_| {});
    let transport = Scripted::new([Err(Failure::Status(503)), Err(Failure::Timeout), Ok(pack)]);
    let installed = bench.install(&request(remote()), &transport).unwrap();
    assert_eq!(installed.manifest.name(), "base-low");
    let delays = bench.pause.0.lock().unwrap().clone();
    assert_eq!(
        delays,
        [Duration::from_millis(225), Duration::from_millis(450)]
    );
}

#[test]
fn each_failure_of_the_network_has_its_own_code_and_only_passing_ones_are_retried() {
    let broken = || Failure::Broken("connection reset".to_owned());
    let unknown = || Failure::Unreachable("unknown host".to_owned());
    for (failure, attempts, code, category) in [
        (
            Failure::Status(429),
            3,
            "source_unavailable",
            Category::NetworkTransient,
        ),
        (
            Failure::Status(502),
            3,
            "source_unavailable",
            Category::NetworkTransient,
        ),
        (
            Failure::Status(503),
            3,
            "source_unavailable",
            Category::NetworkTransient,
        ),
        (
            Failure::Status(504),
            3,
            "source_unavailable",
            Category::NetworkTransient,
        ),
        (
            Failure::Timeout,
            3,
            "source_timeout",
            Category::NetworkTransient,
        ),
        (
            broken(),
            3,
            "source_disconnected",
            Category::NetworkTransient,
        ),
        (
            Failure::Status(302),
            1,
            "source_redirected",
            Category::NetworkPermanent,
        ),
        (
            Failure::Status(404),
            1,
            "source_refused",
            Category::NetworkPermanent,
        ),
        (
            Failure::Status(500),
            1,
            "source_refused",
            Category::NetworkPermanent,
        ),
        (
            Failure::TooLarge,
            1,
            "source_too_large",
            Category::NetworkPermanent,
        ),
        (
            unknown(),
            1,
            "source_unreachable",
            Category::NetworkPermanent,
        ),
        (
            Failure::Untrusted("unknown issuer".to_owned()),
            1,
            "source_untrusted",
            Category::NetworkPermanent,
        ),
        (
            Failure::NoTrustRoots("none".to_owned()),
            1,
            "trust_roots_missing",
            Category::DependencyMissing,
        ),
    ] {
        let bench = Bench::new();
        let transport = Scripted::new(vec![Err(failure.clone()); 3]);
        let fault = bench.install(&request(remote()), &transport).unwrap_err();
        assert_eq!(
            (fault.code(), fault.category()),
            (code, category),
            "{failure:?}"
        );
        assert_eq!(fault.retryable(), attempts > 1);
        assert_eq!(transport.left(), 3 - attempts, "{failure:?}");
        assert!(bench.is_untouched());
    }
}

#[test]
fn attempts_and_delays_are_bounded() {
    let ms = jiff::SignedDuration::from_millis;
    for (attempts, delay) in [
        (0, ms(1)),
        (-1, ms(1)),
        (11, ms(1)),
        (3, ms(-1)),
        (3, ms(60_001)),
    ] {
        assert_eq!(
            Retry::new(attempts, delay).unwrap_err().code(),
            "retry_out_of_bounds"
        );
    }
    let retry = Retry::new(10, ms(60_000)).unwrap();
    let pause = Noted::default();
    let transport = Scripted::new(vec![Err(Failure::Timeout); 10]);
    retry
        .fetch(&"https://r.example/".parse().unwrap(), &transport, &pause)
        .unwrap_err();
    let delays = pause.0.lock().unwrap().clone();
    assert_eq!(delays.len(), 9);
    assert!(delays.iter().all(|delay| *delay <= Duration::from_mins(1)));
}

#[test]
fn each_refusal_of_a_source_has_its_own_code() {
    let hosts = |hosts: &[&str]| SourceRules {
        allow_hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        allow_insecure_http: false,
    };
    let allowed = hosts(&["r.example", "[::1]", "127.0.0.1"]);
    for (source, rules, code) in [
        ("http://r.example/p", &allowed, "insecure_source"),
        ("HTTP://r.example/p", &allowed, "insecure_source"),
        (
            "https://r.example/p",
            &hosts(&[]),
            "host_allowlist_required",
        ),
        ("https://evil.example/p", &allowed, "host_not_allowed"),
        (
            "https://r.example.evil.example/p",
            &allowed,
            "host_not_allowed",
        ),
        (
            "https://r.example@evil.example/p",
            &allowed,
            "source_malformed",
        ),
        (
            "https://user:secret@r.example/p",
            &allowed,
            "source_malformed",
        ),
        ("https://", &allowed, "source_malformed"),
        (
            "https://r.example\\@evil.example/",
            &allowed,
            "source_malformed",
        ),
        ("ftp://r.example/p", &allowed, "source_malformed"),
        ("file:///etc/passwd", &allowed, "source_malformed"),
        ("", &allowed, "source_malformed"),
    ] {
        let fault = Source::parse(source, rules).unwrap_err();
        assert_eq!(
            (fault.code(), fault.gait_exit_code()),
            (code, 6),
            "{source}"
        );
        assert!(!fault.human().contains("secret"));
    }
    for source in [
        "https://R.EXAMPLE:8443/p",
        "https://[::1]/p",
        "https://127.0.0.1/p",
    ] {
        Source::parse(source, &allowed).unwrap();
    }
    assert_eq!(
        Source::parse("./p.json", &allowed).unwrap(),
        Source::File("./p.json".into())
    );
}

#[test]
fn a_token_in_the_query_of_an_address_is_not_shown() {
    let rules = SourceRules {
        allow_hosts: vec!["r.example".to_owned()],
        allow_insecure_http: false,
    };
    let source = Source::parse("https://r.example/p?token=secret", &rules).unwrap();
    assert_eq!(source.shown(), "https://r.example/p");
}

#[test]
fn what_a_manifest_does_not_prove_is_refused_before_anything_is_written() {
    let flipped = String::from_utf8(signed(|_| {}))
        .unwrap()
        .replace("\"acme\"", "\"evil\"");
    let extra = String::from_utf8(signed(|_| {}))
        .unwrap()
        .replacen('{', "{\"extra\":1,", 1);
    let twice =
        String::from_utf8(signed(|_| {}))
            .unwrap()
            .replacen('{', "{\"publisher\":\"x\",", 1);
    let other = {
        let mut request = request(remote());
        request.key = SigningKey::from_seed([8; 32]).verifying_key();
        request
    };
    let pinned = Request {
        pin: Some(Pin::parse(&"ab".repeat(32)).unwrap()),
        ..request(remote())
    };
    let picky = Request {
        publishers: vec!["others".to_owned()],
        ..request(remote())
    };
    let plain = request(remote());
    for (bytes, request, why) in [
        (Vec::new(), &plain, "manifest_invalid"),
        (b"[]".to_vec(), &plain, "manifest_invalid"),
        (
            signed(|pack| pack["schema_id"] = "x".into()),
            &plain,
            "manifest_invalid",
        ),
        (
            signed(|pack| pack["schema_version"] = "2.0.0".into()),
            &plain,
            "manifest_invalid",
        ),
        (
            signed(|pack| pack["pack_name"] = "".into()),
            &plain,
            "manifest_invalid",
        ),
        (
            signed(|pack| pack["pack_name"] = "../../up".into()),
            &plain,
            "manifest_invalid",
        ),
        (
            signed(|pack| pack["pack_name"] = "pins".into()),
            &plain,
            "manifest_invalid",
        ),
        (
            signed(|pack| pack["pack_name"] = "x".repeat(129).into()),
            &plain,
            "manifest_invalid",
        ),
        (
            signed(|pack| pack["pack_version"] = "a/b".into()),
            &plain,
            "manifest_invalid",
        ),
        (
            signed(|pack| pack["pack_version"] = "..".into()),
            &plain,
            "manifest_invalid",
        ),
        (
            signed(|pack| (pack["pack_type"], pack["publisher"]) = ("skill".into(), "".into())),
            &plain,
            "manifest_invalid",
        ),
        (extra.into_bytes(), &plain, "manifest_invalid"),
        (twice.into_bytes(), &plain, "manifest_invalid"),
        (
            serde_json::to_vec(&unsigned()).unwrap(),
            &plain,
            "signature_missing",
        ),
        (flipped.into_bytes(), &plain, "signature_invalid"),
        (signed(|_| {}), &other, "signature_invalid"),
        (signed(|_| {}), &pinned, "pin_mismatch"),
        (signed(|_| {}), &picky, "publisher_not_allowed"),
    ] {
        let bench = Bench::new();
        let fault = bench
            .install(request, &Scripted::new([Ok(bytes)]))
            .unwrap_err();
        assert_eq!(
            reason(&fault),
            (Category::VerificationFailed, why),
            "{fault}"
        );
        assert_eq!(
            (fault.code(), fault.gait_exit_code()),
            ("verification_failed", 2)
        );
        assert!(bench.is_untouched(), "{why}");
    }
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
    assert_eq!(
        bench
            .install(&unpinned, &Scripted::new([]))
            .unwrap_err()
            .code(),
        "fallback_pin_required"
    );
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

#[test]
fn a_file_is_installed_in_the_layout_of_the_cache() {
    let bench = Bench::new();
    let pack = signed(|_| {});
    let file = bench.dir.path().join("p.json");
    keep(&file, &pack);
    let installed = bench
        .install(&request(Source::File(file)), &Scripted::new([]))
        .unwrap();
    let digest = digest(&pack);
    let root = bench.cache().root().to_owned();
    assert_eq!(
        installed.metadata_path,
        root.join(format!("base-low/1.0.0/{digest}/registry_pack.json"))
    );
    assert_eq!(installed.pin_path, root.join("pins/base-low.pin"));
    assert_eq!(
        std::fs::read_to_string(&installed.pin_path).unwrap(),
        format!("sha256:{digest}\n")
    );
    let missing = request(Source::File(bench.dir.path().join("none")));
    let fault = bench.install(&missing, &Scripted::new([])).unwrap_err();
    assert_eq!(
        (fault.code(), fault.category()),
        ("not_found", Category::IoFailure)
    );
}

#[test]
fn many_installations_at_once_leave_a_consistent_cache() {
    const WRITERS: usize = 16;
    let bench = Bench::new();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let cache = bench.cache();
            scope.spawn(move || {
                let pack =
                    signed(|pack| pack["pack_version"] = format!("1.0.{}", writer % 4).into());
                let means = Means {
                    transport: &Scripted::new([Ok(pack)]),
                    pause: &SystemPause,
                    clock: &SystemClock,
                };
                install(&request(remote()), &cache, &means).unwrap();
            });
        }
    });
    let listing = bench.cache().list().unwrap();
    assert_eq!(listing.warnings, [""; 0]);
    assert_eq!(listing.packs.len(), 4);
    assert_eq!(
        listing
            .packs
            .iter()
            .filter(|pack| pack.pin_verified)
            .count(),
        1
    );
}

#[test]
fn a_listing_says_what_is_no_pack() {
    let bench = Bench::new();
    bench
        .install(&request(remote()), &Scripted::new([Ok(signed(|_| {}))]))
        .unwrap();
    let stray = bench.cache().root().join("stray/1/00/registry_pack.json");
    std::fs::create_dir_all(stray.parent().unwrap()).unwrap();
    keep(&stray, b"{}");
    let listing = bench.cache().list().unwrap();
    assert_eq!((listing.packs.len(), listing.warnings.len()), (1, 1));
    let empty = Cache::at(bench.dir.path().join("nowhere")).list().unwrap();
    assert!(empty.packs.is_empty() && empty.warnings.is_empty());
}

#[test]
fn verification_finds_a_moved_pin_another_key_and_a_stranger() {
    let bench = Bench::new();
    let installed = bench
        .install(&request(remote()), &Scripted::new([Ok(signed(|_| {}))]))
        .unwrap();
    let path = &installed.metadata_path;
    let key = key().verifying_key();
    let sound = verify(path, None, &key, &["ACME".to_owned()]).unwrap();
    assert!(sound.holds() && sound.pin_present && sound.pin_verified);
    let other = SigningKey::from_seed([8; 32]).verifying_key();
    let unsigned = verify(path, None, &other, &[]).unwrap();
    assert_eq!(unsigned.failure_reasons(), ["signature_not_verified"]);
    let stranger = verify(path, None, &key, &["others".to_owned()]).unwrap();
    assert_eq!(stranger.failure_reasons(), ["publisher_not_allowed"]);
    for pin in [
        "sha256:00\n".to_owned(),
        "00".repeat(32),
        String::new(),
        "\u{0}".to_owned(),
    ] {
        keep(&installed.pin_path, pin.as_bytes());
        let moved = verify(path, None, &key, &[]).unwrap();
        assert_eq!(moved.failure_reasons(), ["pin_mismatch"], "{pin:?}");
    }
    let out = bench.dir.path().join("deep/report.json");
    report(&out, &stranger).unwrap();
    let written: Value = serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap();
    assert_eq!(
        (&written["status"], &written["created_at"]),
        (&"fail".into(), &"1980-01-01T00:00:00Z".into())
    );
}
