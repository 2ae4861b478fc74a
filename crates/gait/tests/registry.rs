//! `gait registry` against a server of this process.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

#[path = "support/server.rs"]
mod server;
mod support;

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use gait::registry::{Failure, HttpTransport, Transport};
use serde_json::Value;
use server::{Answer, Server, key, pack, pack_of};
use support::Gait;

fn gait() -> Gait {
    Gait::new().env("KEY", &key().verifying_key().to_base64())
}

fn install(gait: &Gait, url: &str, more: &[&str]) -> (i32, Value) {
    let args = [
        "registry",
        "install",
        "--allow-insecure-http",
        "--source",
        url,
        "--allow-host",
        "127.0.0.1",
        "--public-key-env",
        "KEY",
        "--cache-dir",
        "cache",
        "--retry-base-delay",
        "1ms",
    ];
    gait.json(&[&args, more].concat())
}

#[test]
fn a_server_that_recovers_is_fetched_from() {
    let server = Server::start(&[Answer::Status(503), Answer::Hangup, Answer::Pack]);
    let (code, json) = install(&gait(), &server.url(), &[]);
    assert_eq!(
        (code, &json["pack_name"]),
        (0, &"base-low".into()),
        "{json}"
    );
    assert_eq!(json.get("fallback_used"), None);
    server.join();
}

#[test]
fn each_failure_of_a_server_has_its_code_category_and_exit() {
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
            &[Answer::Status(302)],
            "source_redirected",
            "network_permanent",
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
            &[Answer::Oversized],
            "source_too_large",
            "network_permanent",
        ),
    ] {
        let server = Server::start(answers);
        let gait = gait();
        let (exit, json) = install(&gait, &server.url(), &[]);
        assert_eq!((exit, &json["error_code"]), (1, &code.into()), "{json}");
        assert_eq!(json["error_category"], category);
        assert_eq!(json["retryable"], category == "network_transient");
        assert!(!gait.path().join("cache").exists());
        server.join();
    }
}

#[test]
fn a_refused_port_is_a_passing_failure() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (exit, json) = install(
        &gait(),
        &format!("http://{closed}/p"),
        &["--retry-max-attempts", "2"],
    );
    assert_eq!(
        (exit, &json["error_code"]),
        (1, &"source_disconnected".into()),
        "{json}"
    );
    assert!(json["error"].as_str().unwrap().contains("2 attempts"));
}

#[test]
fn a_silent_server_is_given_up_on() {
    let server = Server::start(&[Answer::Silent]);
    let transport = HttpTransport::with_timeout(Duration::from_millis(50));
    assert_eq!(
        transport.get(&server.url().parse().unwrap()),
        Err(Failure::Timeout)
    );
    server.join();
}

#[test]
fn a_peer_that_speaks_no_tls_is_not_trusted() {
    let server = Server::start(&[Answer::PlainText]);
    let url = server.url().replace("http:", "https:");
    let failure = HttpTransport::default()
        .get(&url.parse().unwrap())
        .unwrap_err();
    let no_roots = matches!(failure, Failure::NoTrustRoots(_));
    if no_roots {
        println!("skipped: this machine has no root certificates");
        drop(TcpStream::connect(&server.address));
    } else {
        assert!(matches!(failure, Failure::Untrusted(_)), "{failure:?}");
    }
    server.join();
}

#[test]
fn a_pinned_cached_copy_stands_in_visibly() {
    let server = Server::start(&[Answer::Pack, Answer::Status(404)]);
    let (gait, url) = (gait(), server.url());
    let (_, first) = install(&gait, &url, &[]);
    let digest = first["digest"].as_str().unwrap();
    let (code, json) = install(&gait, &url, &["--allow-cached-fallback", "--pin", digest]);
    assert_eq!((code, &json["fallback_used"]), (0, &true.into()), "{json}");
    assert_eq!(json["fallback_path"], first["metadata_path"]);
    server.join();
}

#[test]
fn switches_are_read_the_same_wherever_they_stand() {
    for args in [
        [
            "--allow-insecure-http",
            "--allow-cached-fallback",
            "--source",
            "http://127.0.0.1:9/x",
        ],
        [
            "--source",
            "http://127.0.0.1:9/x",
            "--allow-insecure-http",
            "--allow-cached-fallback",
        ],
        [
            "--allow-cached-fallback=true",
            "--source=http://127.0.0.1:9/x",
            "--json=true",
            "--allow-insecure-http=true",
        ],
    ] {
        let head = [
            "registry",
            "install",
            "--allow-host",
            "127.0.0.1",
            "--public-key-env",
            "KEY",
        ];
        let (code, json) = gait().json(&[&head[..], &args].concat());
        assert_eq!(
            (code, &json["error_code"]),
            (1, &"source_disconnected".into()),
            "{json}"
        );
        assert!(json["error"].as_str().unwrap().contains("needs a pin"));
    }
}

#[test]
fn each_refusal_of_a_command_line_has_its_own_code_and_reaches_no_disk() {
    let url = "https://127.0.0.1:9/x.json";
    for (args, code) in [
        (
            &[
                "--source",
                "http://127.0.0.1:9/x",
                "--allow-host",
                "127.0.0.1",
            ][..],
            "insecure_source",
        ),
        (&["--source", url], "host_allowlist_required"),
        (
            &["--source", url, "--allow-host", "example.com"],
            "host_not_allowed",
        ),
        (
            &["--source", url, "--allow-host", "127.0.0.1", "--pin", "zz"],
            "pin_malformed",
        ),
        (
            &[
                "--source",
                url,
                "--allow-host",
                "127.0.0.1",
                "--retry-max-attempts",
                "0",
            ],
            "retry_out_of_bounds",
        ),
        (&[], "invalid_input"),
    ] {
        let gait = gait();
        let head = [
            "registry",
            "install",
            "--public-key-env",
            "KEY",
            "--cache-dir",
            "cache",
        ];
        let (exit, json) = gait.json(&[&head[..], args].concat());
        assert_eq!((exit, &json["error_code"]), (6, &code.into()), "{json}");
        assert!(!gait.path().join("cache").exists());
    }
    let (exit, json) = gait().json(&["registry", "install", "--source", "x.json"]);
    assert_eq!(
        (exit, &json["error_reason"]),
        (6, &"key_source_required".into())
    );
}

#[test]
fn an_installed_pack_is_listed_and_verified_and_a_changed_one_is_found() {
    let gait = gait();
    let source = gait.file("p.json", pack());
    let args = [
        "registry",
        "install",
        "--source",
        &source,
        "--public-key-env",
        "KEY",
    ];
    let (_, installed) = gait.json(&args);
    let path = installed["metadata_path"].as_str().unwrap().to_owned();
    let (code, listed) = gait.json(&["registry", "list"]);
    assert_eq!(
        (code, &listed["packs"][0]["pin_verified"]),
        (0, &true.into())
    );
    let verify = [
        "registry",
        "verify",
        &path,
        "--public-key-env",
        "KEY",
        "--report-out",
        "r.json",
    ];
    let (code, verified) = gait.json(&verify);
    assert_eq!(
        (code, &verified["ok"], &verified["report_path"]),
        (0, &true.into(), &"r.json".into())
    );
    let bytes = String::from_utf8(std::fs::read(&path).unwrap()).unwrap();
    worldcompute_durable::write_atomic(
        path.as_ref(),
        bytes.replace("acme", "evil").as_bytes(),
        worldcompute_durable::Mode::Private,
    )
    .unwrap();
    let (code, verified) = gait.json(&verify);
    assert_eq!((code, &verified["ok"]), (2, &false.into()));
    assert_eq!(
        verified["signature_error"],
        "no valid signature for manifest digest"
    );
    assert_eq!(verified.get("error"), None);
}

const PROCESSES: usize = 64;
const VERSIONS: usize = 4;

fn install_file(source: &str) -> [&str; 8] {
    [
        "registry",
        "install",
        "--source",
        source,
        "--public-key-env",
        "KEY",
        "--cache-dir",
        "cache",
    ]
}

/// Every pack that is there is whole, and every pin names one.
fn sound_packs(gait: &Gait) -> usize {
    let (code, listed) = gait.json(&["registry", "list", "--cache-dir", "cache"]);
    assert_eq!((code, listed.get("warnings")), (0, None), "{listed}");
    let packs = listed["packs"].as_array().cloned().unwrap_or_default();
    let pin = gait.path().join("cache/pins/base-low.pin");
    let pinned = packs.iter().filter(|pack| pack["pin_verified"] == true);
    assert_eq!(pinned.count(), usize::from(pin.exists()), "{listed}");
    packs.len()
}

#[test]
fn sixty_four_installations_at_once_keep_every_pack_and_one_pin() {
    let gait = gait();
    let sources: Vec<String> = (0..VERSIONS)
        .map(|n| gait.file(&format!("p{n}.json"), pack_of(&format!("1.0.{n}"))))
        .collect();
    let one = |n: usize| {
        loop {
            let (code, json) = gait.json(&install_file(&sources[n % VERSIONS]));
            if json["retryable"] != true {
                return (code, json);
            }
        }
    };
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..PROCESSES)
            .map(|n| scope.spawn(move || one(n)))
            .collect();
        for run in runs {
            let (code, json) = run.join().unwrap();
            assert_eq!(code, 0, "{json}");
        }
    });
    assert_eq!(sound_packs(&gait), VERSIONS);
}

#[test]
fn an_installation_that_is_killed_at_any_moment_leaves_whole_packs_and_no_lock_in_the_way() {
    let gait = gait();
    let sources: Vec<String> = (0..VERSIONS)
        .map(|n| gait.file(&format!("p{n}.json"), pack_of(&format!("1.0.{n}"))))
        .collect();
    for round in 0..60_u32 {
        let source = &sources[round as usize % VERSIONS];
        let mut child = gait
            .command(&install_file(source))
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // A little later each time: from before the start to after the end.
        let until = std::time::Instant::now() + Duration::from_micros(200) * round;
        while std::time::Instant::now() < until {
            std::hint::spin_loop();
        }
        let _ = child.kill();
        child.wait().unwrap();
        sound_packs(&gait);
    }
    let (code, json) = gait.json(&install_file(&sources[0]));
    assert_eq!(code, 0, "{json}");
}
