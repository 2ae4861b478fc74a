//! `admin firewall-diagnose` as a person and a program call it, and what `admin status` tells of relays.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use serde_json::Value;
use support::{Daemon, json, run, text};
use worldcompute_evidence::{Commits, validate};

/// Nobody is asked for names, and nothing leaves this machine.
const ALONE: [&str; 5] = [
    "admin",
    "firewall-diagnose",
    "--doh-only",
    "--doh",
    "nobody.example@127.0.0.1:1",
];
const RELAY: [&str; 6] = ["relay", "--port", "0", "--no-mdns", "--wss-listen", "0"];

fn diagnose(root: &Path, bootstrap: &str, more: &[&str]) -> Output {
    let out = root.join("evidence").display().to_string();
    let asked = ["--out", &out, "--bootstrap", bootstrap];
    run(&root.join("home"), &[&ALONE[..], &asked, more].concat())
}

fn reached_at(relay: &Daemon) -> String {
    let own = relay.addresses.iter();
    let own: Vec<&str> = own
        .map(String::as_str)
        .filter(|address| address.starts_with("/ip4/127.0.0.1/"))
        .collect();
    assert!(own.len() >= 3, "{own:?}");
    own.join(",")
}

/// An address at which nobody listens.
fn nobody() -> String {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let peer = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    format!("/ip4/127.0.0.1/tcp/{port}/p2p/{peer}")
}

#[test]
fn a_network_is_diagnosed_with_evidence_beside_a_daemon_that_runs() {
    let root = tempfile::tempdir().unwrap();
    let relay = Daemon::start(&root.path().join("relay"), &RELAY);
    let said = diagnose(
        root.path(),
        &reached_at(&relay),
        &["--json", "--duration-s", "60"],
    );
    assert!(said.status.success(), "{}", text(&said.stderr));
    assert!(said.stderr.is_empty(), "{}", text(&said.stderr));
    let report: Value = serde_json::from_slice(&said.stdout).unwrap();
    let works = |kind: &str| {
        let probes = report["probes"].as_array().unwrap().iter();
        probes
            .clone()
            .any(|probe| probe["kind"] == kind && probe["state"] == "works")
    };
    for kind in ["quic", "udp", "tcp", "web_tcp", "web_tls", "wss"] {
        assert!(works(kind), "{kind}: {report:#}");
    }
    assert_eq!(report["path"]["relay"], relay.peer_id.as_str());
    assert_eq!(report["nat"]["kind"], "none");
    // The resolver over HTTPS that was named is none.
    assert_eq!(report["verdict"]["blocker"], "doh_blocked");
    assert!(
        !root.path().join("home").exists(),
        "nothing is made but the evidence"
    );
    match report["evidence"].as_str() {
        Some(place) => {
            let valid = validate(Path::new(place), Commits::Unchecked).unwrap();
            assert_eq!(valid.metadata.area.as_str(), "firewall-traversal");
        }
        None => println!("skipped: evidence: {}", report["no_evidence"]),
    }
    let own = relay.home().join("relay");
    assert!(run(&own, &["admin", "status"]).status.success());
}

#[test]
fn where_no_relay_answers_the_report_is_there_and_the_exit_says_so() {
    let root = tempfile::tempdir().unwrap();
    let said = diagnose(root.path(), &nobody(), &["--json"]);
    assert_eq!(said.status.code(), Some(65), "{}", text(&said.stderr));
    let report: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(report["verdict"]["blocker"], "no_way_out");
    assert_eq!(report["path"], Value::Null);
    let fault: Value = serde_json::from_slice(&said.stderr).unwrap();
    assert_eq!(
        fault["error_code"], "reservation_acquisition_failed",
        "{fault}"
    );
    assert!(fault["hint"].as_str().unwrap().contains("another network"));

    let words = diagnose(root.path(), &nobody(), &[]);
    assert_eq!(words.status.code(), Some(65));
    let told = text(&words.stdout);
    assert!(told.starts_with("no_way_out: "), "{told}");
    assert!(
        told.contains("refused") && !told.contains('\u{1b}'),
        "{told}"
    );
    assert!(text(&words.stderr).starts_with("Error: WC-023: "));
}

#[test]
fn who_names_nobody_or_no_time_is_told() {
    let root = tempfile::tempdir().unwrap();
    let nobody_named = run(
        &root.path().join("home"),
        &[&ALONE[..], &["--json"]].concat(),
    );
    assert_eq!(nobody_named.status.code(), Some(1));
    let fault: Value = serde_json::from_slice(&nobody_named.stderr).unwrap();
    assert_eq!(fault["error_code"], "no_relays");
    for seconds in ["0", "3601", "soon"] {
        let said = diagnose(root.path(), &nobody(), &["--duration-s", seconds]);
        assert_eq!(said.status.code(), Some(2), "{seconds}");
    }
    assert!(!root.path().join("evidence").exists());
}

#[test]
fn the_status_tells_of_each_relay_since_when_and_over_what() {
    let root = tempfile::tempdir().unwrap();
    let relay = Daemon::relay(root.path());
    let donor = Daemon::donor(root.path(), "donor", &relay, &[]);
    let relays = json(donor.home(), &["admin", "status", "--focus", "relays"]);
    let held = &relays.as_array().unwrap()[0];
    assert_eq!(held["relay"], relay.peer_id.as_str());
    assert!(["active", "renewing"].contains(&held["state"].as_str().unwrap()));
    assert_eq!(
        (&held["transport"], &held["tier"]),
        (&"tcp".into(), &"Standard".into())
    );
    for time in ["since", "expires_at"] {
        assert!(held[time].is_string(), "{held:#}");
    }
    assert_eq!(
        (&held["lost_at"], &held["lost_because"]),
        (&Value::Null, &Value::Null)
    );
    let status = json(donor.home(), &["admin", "status"]);
    assert!(
        status["tiers"]["Standard"].as_u64().unwrap() >= 1,
        "{status:#}"
    );
    let words = run(donor.home(), &["admin", "status", "--focus", "relays"]);
    let words = text(&words.stdout);
    assert!(
        words.contains("tier Standard") && words.contains("since "),
        "{words}"
    );
}
