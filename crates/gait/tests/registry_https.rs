//! `gait registry install` over TLS, from a server whose certificate is of an authority of these tests.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

#[path = "support/server.rs"]
mod server;
mod support;

use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use gait::registry::{Failure, HttpTransport, Transport};
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use server::{Answer, Server, key};
use support::Gait;

/// A certificate authority that nobody but these tests knows.
struct Authority {
    certificate: Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, key }
    }

    /// A server that proves to be `name`, with a change of its certificate.
    fn server(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params
            .signed_by(&key, &self.certificate, &self.key)
            .unwrap();
        let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private);
        Arc::new(config.unwrap())
    }

    /// A server on the loopback address.
    fn local(&self) -> Arc<ServerConfig> {
        self.server("127.0.0.1", |_| ())
    }

    /// A folder to install into, where this authority is the one that is trusted.
    fn trusted(&self) -> Gait {
        let gait = Gait::new().env("KEY", &key().verifying_key().to_base64());
        let roots = gait.file("roots.pem", self.certificate.pem());
        gait.env("SSL_CERT_FILE", &roots)
    }
}

fn install(gait: &Gait, url: &str, more: &[&str]) -> (i32, Value) {
    let words = "registry install --allow-host 127.0.0.1 --public-key-env KEY --cache-dir cache --retry-base-delay 1ms";
    let words: Vec<&str> = words.split(' ').chain(["--source", url]).collect();
    gait.json(&[&words, more].concat())
}

#[test]
fn a_pack_is_installed_from_a_server_that_recovers_and_whose_authority_is_trusted() {
    let authority = Authority::new();
    let answers = &[Answer::Status(503), Answer::Hangup, Answer::Pack];
    let server = Server::start_tls(answers, authority.local());
    let gait = authority.trusted();
    let (code, json) = install(&gait, &server.url(), &[]);
    assert_eq!(
        (code, &json["pack_name"]),
        (0, &json!("base-low")),
        "{json}"
    );
    assert_eq!(json["source"], server.url());
    assert_eq!(json.get("fallback_used"), None);
    let (_, listed) = gait.json(&["registry", "list", "--cache-dir", "cache"]);
    assert_eq!(listed["packs"][0]["pin_verified"], true);
    server.join();
}

#[test]
fn each_failure_of_a_server_has_its_code_and_leaves_nothing_behind() {
    let authority = Authority::new();
    for (answers, code, category) in [
        (
            &[Answer::Status(404)][..],
            "source_refused",
            "network_permanent",
        ),
        (
            &[Answer::Status(500)],
            "source_refused",
            "network_permanent",
        ),
        (
            &[Answer::Status(429); 3],
            "source_unavailable",
            "network_transient",
        ),
        (
            &[Answer::Status(503); 3],
            "source_unavailable",
            "network_transient",
        ),
        (
            &[Answer::Hangup; 3],
            "source_disconnected",
            "network_transient",
        ),
        (
            &[Answer::Torn; 3],
            "source_disconnected",
            "network_transient",
        ),
        (
            &[Answer::Cut; 3],
            "source_disconnected",
            "network_transient",
        ),
        (
            &[Answer::Oversized],
            "source_too_large",
            "network_permanent",
        ),
        (
            &[Answer::PlainText],
            "source_untrusted",
            "network_permanent",
        ),
    ] {
        let server = Server::start_tls(answers, authority.local());
        let gait = authority.trusted();
        let (exit, json) = install(&gait, &server.url(), &[]);
        assert_eq!(
            (exit, &json["error_code"]),
            (1, &json!(code)),
            "{answers:?}: {json}"
        );
        assert_eq!(json["error_category"], category, "{answers:?}");
        assert_eq!(json["retryable"], category == "network_transient");
        assert!(!gait.path().join("cache").exists(), "{answers:?}");
        server.join();
    }
}

#[test]
fn a_redirect_is_not_followed_to_another_host_nor_to_plain_http() {
    let authority = Authority::new();
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let port = elsewhere.local_addr().unwrap().port();
    for target in [
        format!("https://localhost:{port}/p"),
        format!("http://127.0.0.1:{port}/p"),
    ] {
        // The server outlives the borrow of its answers only if they live as long as the test program.
        let answers = vec![Answer::Redirect(target.leak())].leak();
        let server = Server::start_tls(answers, authority.local());
        let (exit, json) = install(
            &authority.trusted(),
            &server.url(),
            &["--allow-insecure-http"],
        );
        assert_eq!(
            (exit, &json["error_code"]),
            (1, &json!("source_redirected")),
            "{json}"
        );
        server.join();
    }
    let nobody = elsewhere.accept().unwrap_err();
    assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_certificate_that_does_not_prove_the_host_is_refused_at_the_first_attempt() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let expired = authority.server("127.0.0.1", |params| {
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let early = authority.server("127.0.0.1", |params| {
        params.not_before = date_time_ymd(4000, 1, 1);
    });
    for (what, config) in [
        ("another host", authority.server("other.example", |_| ())),
        ("another address", authority.server("127.0.0.2", |_| ())),
        ("expired", expired),
        ("not yet valid", early),
        ("another authority", stranger.local()),
    ] {
        let server = Server::start_tls(&[Answer::Pack], config);
        let gait = authority.trusted();
        let (exit, json) = install(&gait, &server.url(), &[]);
        assert_eq!(
            (exit, &json["error_code"]),
            (1, &json!("source_untrusted")),
            "{what}: {json}"
        );
        assert_eq!(json["retryable"], false, "{what}");
        assert!(
            json["error"].as_str().unwrap().contains("1 attempt"),
            "{what}: {json}"
        );
        assert!(!gait.path().join("cache").exists(), "{what}");
        server.join();
    }
}

#[test]
fn without_roots_nothing_is_trusted() {
    let gait = Gait::new().env("KEY", &key().verifying_key().to_base64());
    let none = gait.file("none.pem", "");
    let gait = gait.env("SSL_CERT_FILE", &none);
    let (exit, json) = install(&gait, "https://127.0.0.1:9/p", &[]);
    assert_eq!(
        (exit, &json["error_code"]),
        (7, &json!("trust_roots_missing")),
        "{json}"
    );
}

/// Where the server that says nothing listens, in the environment of the test below that is run as a program.
const SILENT: &str = "GAIT_TEST_SILENT_SERVER";

#[test]
fn a_server_that_says_nothing_after_the_handshake_is_given_up_on() {
    let authority = Authority::new();
    let server = Server::start_tls(&[Answer::Silent], authority.local());
    let gait = authority.trusted();
    let inner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "gives_up_on_the_silent_server", "--ignored"])
        .env("SSL_CERT_FILE", gait.path().join("roots.pem"))
        .env(SILENT, server.url())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&inner.stdout);
    assert!(
        inner.status.success() && told.contains("1 passed"),
        "{told}"
    );
    server.join();
}

#[test]
#[ignore = "run by the test above, which starts the server and chooses the authority"]
fn gives_up_on_the_silent_server() {
    let url = std::env::var(SILENT).unwrap();
    let transport = HttpTransport::with_timeout(Duration::from_millis(300));
    assert_eq!(transport.get(&url.parse().unwrap()), Err(Failure::Timeout));
}
