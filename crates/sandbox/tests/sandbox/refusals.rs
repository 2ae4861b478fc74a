//! What is refused before anything runs: faults, not outcomes.

use worldcompute_fault::{Category, WcCode};
use worldcompute_proof::Cid;
use worldcompute_sandbox::{CancelToken, MAX_WORKLOAD, MAX_WORKLOAD_TEXT, Sandbox, SandboxConfig};

use crate::lab::{Lab, guest, mount};

async fn assert_refused(guest: impl AsRef<[u8]>, why: &str) {
    let lab = Lab::new();
    let fault = lab.try_run(&lab.request(guest)).await.unwrap_err();
    assert_eq!(fault.number(), Some(WcCode::InvalidManifest), "{fault}");
    assert!(fault.message().contains(why), "{fault}");
}

#[tokio::test]
async fn what_is_not_webassembly_is_refused() {
    for guest in [
        b"".as_slice(),
        b"\0",
        b"\x7fELF\x02\x01\x01",
        b"#!/bin/sh\nrm -rf /\n",
        b"\0asm",
        b"\0asm\x02\0\0\0",
        b"\0asm\x01\0\0\0\x01",
        b"\0asm\x01\0\0\0\x01\xff\xff\xff\xff\x0f",
        b"(module (func (export \"_start\") (i32.add)))",
        b"(module (func (export \"_start\")) ",
        b"(module (memory 1 1 shared))",
    ] {
        assert_refused(guest, "cannot be run").await;
    }
}

#[tokio::test]
async fn a_program_without_a_beginning_is_refused() {
    assert_refused(guest!("no_start"), "_start").await;
    assert_refused(guest!("start_with_result"), "_start").await;
    assert_refused(
        "(module (global (export \"_start\") i32 (i32.const 0)))",
        "_start",
    )
    .await;
    assert_refused("(component)", "run").await;
}

#[tokio::test]
async fn imports_from_outside_wasi_are_refused_by_name() {
    assert_refused(guest!("foreign_import"), "launch_missiles").await;
    assert_refused(guest!("unknown_wasi"), "fd_teleport").await;
    assert_refused(
        "(component (import \"evil:host/door\" (instance (export \"open\" (func)))))",
        "evil:host/door",
    )
    .await;
}

#[tokio::test]
async fn a_workload_past_the_limit_is_refused() {
    assert_refused(vec![b' '; MAX_WORKLOAD_TEXT + 1], "1048576 is the most").await;
    // A module with one custom section.
    let mut binary = b"\0asm\x01\0\0\0\0\xff\xff\xff\x0f\x01x".to_vec();
    binary.resize(MAX_WORKLOAD, 0);
    assert_refused(&binary, "cannot be run").await;
    binary.push(0);
    assert_refused(&binary, "33554432 is the most").await;
}

#[tokio::test]
async fn no_depth_of_nesting_takes_the_host_down() {
    let lab = Lab::new();
    let nest = |open: &str, close: &str, depth: usize| open.repeat(depth) + &close.repeat(depth);
    for depth in [50, 1_000, 40_000] {
        let blocks = format!(
            "(module (func (export \"_start\") {}))",
            nest("(block ", ")", depth)
        );
        lab.run_guest(blocks).await;
        for refused in [
            nest("(component ", ")", depth),
            nest("(", ")", depth),
            format!(
                "(module (func (export \"_start\") {}))",
                nest("(if (i32.const 1) (then ", "", depth)
            ),
            format!(
                "(module (global i32 {}))",
                nest("(i32.add (i32.const 1) ", ")", depth)
            ),
            format!("(component (type {}))", nest("(list ", ")", depth)),
        ] {
            lab.try_run(&lab.request(refused)).await.unwrap_err();
        }
    }
}

#[tokio::test]
async fn what_a_refusal_quotes_is_short_and_printable() {
    let lab = Lab::new();
    let name = "\\1b[31m\\07".repeat(10_000);
    let import = format!("(module (import \"env\" \"{name}\" (func)) (func (export \"_start\")))");
    for guest in [import, format!("(module \"{}\")", "x".repeat(100_000))] {
        let fault = lab.try_run(&lab.request(guest)).await.unwrap_err();
        assert!(
            fault.message().chars().count() < 400,
            "{}",
            fault.message().len()
        );
        assert!(!fault.message().contains(char::is_control));
    }
}

#[tokio::test]
async fn a_missing_workload_is_refused() {
    let lab = Lab::new();
    let mut request = lab.request(guest!("empty"));
    request.workload = Cid::raw(b"nobody has this");
    let fault = lab.try_run(&request).await.unwrap_err();
    assert_eq!(fault.number(), Some(WcCode::InvalidManifest));
    assert!(fault.message().contains(&request.workload.to_string()));
}

#[tokio::test]
async fn a_workload_whose_bytes_were_changed_is_refused() {
    let lab = Lab::new();
    let request = lab.request(guest!("empty"));
    lab.damage(&request.workload);
    let fault = lab.try_run(&request).await.unwrap_err();
    assert_eq!(fault.number(), Some(WcCode::InvalidManifest));
    assert!(fault.message().contains(&request.workload.to_string()));
}

#[tokio::test]
async fn missing_and_changed_inputs_are_refused_by_name() {
    let lab = Lab::new();
    let changed = lab.put("input");
    lab.damage(&changed);
    for cid in [Cid::raw(b"nobody has this"), changed] {
        let mut request = lab.request(guest!("empty"));
        request.inputs = vec![mount(cid, "/in/data")];
        let fault = lab.try_run(&request).await.unwrap_err();
        assert_eq!(fault.number(), Some(WcCode::InvalidManifest));
        assert!(fault.message().contains("/in/data"), "{fault}");
        let mut request = lab.request(guest!("empty"));
        request.stdin = Some(cid);
        assert!(
            lab.try_run(&request)
                .await
                .unwrap_err()
                .message()
                .contains("stdin")
        );
    }
}

#[tokio::test]
async fn inputs_too_large_together_are_refused() {
    let lab = Lab::with(SandboxConfig {
        max_input_bytes: 10,
        ..SandboxConfig::default()
    });
    let mut request = lab.request(guest!("empty"));
    request.stdin = Some(lab.put("12345"));
    request.inputs = vec![mount(lab.put("67890"), "/in")];
    lab.run(&request).await;
    request.inputs = vec![mount(lab.put("678901"), "/in")];
    let fault = lab.try_run(&request).await.unwrap_err();
    assert_eq!(fault.number(), Some(WcCode::InvalidManifest));
}

#[tokio::test]
async fn inputs_in_each_others_way_are_refused() {
    let lab = Lab::new();
    let mut request = lab.request(guest!("empty"));
    let cid = lab.put("input");
    for paths in [["/a", "/a/b"], ["/a/b", "/a"]] {
        request.inputs = paths.map(|path| mount(cid, path)).into();
        assert_eq!(
            lab.try_run(&request).await.unwrap_err().number(),
            Some(WcCode::InvalidManifest)
        );
    }
}

#[tokio::test]
async fn a_permit_for_another_request_is_refused() {
    let lab = Lab::new();
    let allowed = lab.request(guest!("hello"));
    let mut other = allowed.clone();
    other.args.push(" ".to_owned());
    let run = lab.sandbox.run(
        lab.permit(&allowed),
        &other,
        &lab.content,
        CancelToken::new(),
    );
    let fault = run.await.unwrap_err();
    assert_eq!(
        (fault.category(), fault.code()),
        (Category::PolicyBlocked, "permit_mismatch")
    );
}

#[tokio::test]
async fn a_refused_permit_comes_before_everything_else() {
    let lab = Lab::new();
    let allowed = lab.request(guest!("hello"));
    let mut other = allowed.clone();
    other.workload = Cid::raw(b"nobody has this");
    let run = lab.sandbox.run(
        lab.permit(&allowed),
        &other,
        &lab.content,
        CancelToken::new(),
    );
    assert_eq!(run.await.unwrap_err().code(), "permit_mismatch");
}

#[test]
fn a_sandbox_without_workers_is_unavailable() {
    let fault = Sandbox::new(SandboxConfig {
        workers: 0,
        ..SandboxConfig::default()
    })
    .err()
    .unwrap();
    assert_eq!(fault.number(), Some(WcCode::SandboxUnavailable));
}
