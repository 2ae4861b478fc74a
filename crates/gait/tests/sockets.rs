//! Verifying needs no network: under a filter that kills whoever makes a socket, it works all the same.

#![expect(clippy::unwrap_used, reason = "tests")]
#![cfg(target_os = "linux")]

#[path = "support/artefacts.rs"]
mod artefacts;
#[path = "support/packs.rs"]
mod packs;
mod support;

use std::collections::BTreeMap;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

use artefacts::{Artefacts, Sample, damaged};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use support::Gait;

/// The variable with the program to run under the filter.
const PROGRAM: &str = "SOCKETS_TEST_PROGRAM";
/// And with its arguments, one a line.
const ARGUMENTS: &str = "SOCKETS_TEST_ARGUMENTS";
/// The signal of who breaks the filter: SIGSYS.
const BROKE_THE_FILTER: i32 = 31;

/// The system calls that make a socket.
#[cfg(target_arch = "x86_64")]
const SOCKET_CALLS: [i64; 2] = [41, 53];
#[cfg(target_arch = "aarch64")]
const SOCKET_CALLS: [i64; 2] = [198, 199];

fn filter() -> BpfProgram {
    let rules: BTreeMap<i64, _> = SOCKET_CALLS
        .into_iter()
        .map(|call| (call, Vec::new()))
        .collect();
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::KillProcess,
        architecture,
    )
    .and_then(TryInto::try_into)
    .unwrap()
}

#[test]
#[ignore = "this is the entry of child processes"]
fn run_under_the_filter() {
    let program = std::env::var(PROGRAM).unwrap();
    let arguments = std::env::var(ARGUMENTS).unwrap();
    seccompiler::apply_filter(&filter()).unwrap();
    if program == "socket" {
        let _ = std::net::UdpSocket::bind("127.0.0.1:0");
        return;
    }
    panic!("{}", Command::new(program).args(arguments.lines()).exec());
}

fn filtered(gait: &Gait, program: &str, arguments: &[&str]) -> std::process::Output {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "run_under_the_filter",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env(PROGRAM, program)
        .env(ARGUMENTS, arguments.join("\n"))
        .current_dir(gait.path())
        .output()
        .unwrap()
}

#[test]
fn the_filter_kills_who_makes_a_socket() {
    let ended = filtered(&Gait::new(), "socket", &[]);
    assert_eq!(ended.status.signal(), Some(BROKE_THE_FILTER));
}

#[test]
fn verify_opens_no_socket() {
    let gait = Gait::new();
    gait.json(&["demo"]);
    let journal = ["--journal", "s.jsonl"];
    let session = |args: &[&str]| gait.json(&[&["run", "session"], args, &journal].concat());
    session(&["start", "--session-id", "s1", "--run-id", "run_s"]);
    session(&["append", "--tool", "tool.x", "--verdict", "allow"]);
    session(&["checkpoint", "--out", "cp1.zip"]);
    for args in [
        &["verify", "run_demo"][..],
        &["verify", "chain", "--run", "run_demo"],
        &["verify", "session-chain", "s_chain.json"],
        &["run", "replay", "run_demo"],
        &["run", "inspect", "run_demo"],
        &["regress", "bootstrap", "--from", "run_demo"],
    ] {
        assert_eq!(exit_of(&gait, args), 0, "{args:?}");
    }
}

/// The exit code of `gait` under the filter; a signal fails the test.
fn exit_of(gait: &Gait, args: &[&str]) -> i32 {
    let ended = filtered(gait, env!("CARGO_BIN_EXE_gait"), args);
    let told = String::from_utf8_lossy(&ended.stdout);
    assert!(
        ended.status.code().is_some(),
        "{args:?}: {} {told}",
        ended.status
    );
    ended.status.code().unwrap()
}

/// The command for one kind alone, where there is one.
fn own_command(kind: &str) -> Option<&'static [&'static str]> {
    match kind {
        "pack" => Some(&["pack", "verify"]),
        "guard_pack" => Some(&["guard", "verify"]),
        "trace" => Some(&["trace", "verify"]),
        "session" => Some(&["session", "verify", "--session"]),
        _ => None,
    }
}

#[test]
fn no_kind_of_evidence_opens_a_socket_whether_it_is_good_or_damaged() {
    let (gait, artefacts) = (Gait::new(), Artefacts::new());
    let [key, _] = artefacts.keys();
    let key = ["--public-key", &key];
    for sample in artefacts.all() {
        let with_key = |sample: &Sample| if sample.signed { &key[..] } else { &[] };
        let path = sample.path.to_str().unwrap();
        let plain = [&["verify", path], with_key(&sample)].concat();
        assert_eq!(exit_of(&gait, &plain), 0, "{plain:?}");
        if let Some(command) = own_command(sample.kind) {
            let own = [command, &[path], &key].concat();
            assert_eq!(exit_of(&gait, &own), 0, "{own:?}");
        }
        let flawed = damaged(&sample).swap_remove(0);
        let path = artefacts.put("damaged", &flawed.bytes);
        let refused = [&["verify", path.to_str().unwrap()], with_key(&sample)].concat();
        assert_eq!(exit_of(&gait, &refused), 2, "{refused:?} {}", flawed.what);
    }
}
