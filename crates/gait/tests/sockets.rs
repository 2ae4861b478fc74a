//! Verifying needs no network: under a filter that kills whoever makes a socket, it works all the same.

#![expect(clippy::unwrap_used, reason = "tests")]
#![cfg(target_os = "linux")]

mod support;

use std::collections::BTreeMap;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

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
        let ended = filtered(&gait, env!("CARGO_BIN_EXE_gait"), args);
        let told = String::from_utf8_lossy(&ended.stdout);
        assert!(ended.status.success(), "{args:?}: {} {told}", ended.status);
    }
}
