//! `gait job`, as a caller sees it.

mod support;

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::Gait;

const POLICY_A: &str = "default_verdict: block\nrules:\n  - name: a\n    effect: allow\n    match: {tool_names: [tool.read]}\n";
const POLICY_B: &str = "default_verdict: block\nrules:\n  - name: b\n    effect: allow\n    match: {tool_names: [tool.write]}\n";

fn job(gait: &Gait, args: &[&str]) -> (i32, Value) {
    let words = ["job"].into_iter().chain(args.iter().copied());
    let args: Vec<&str> = words.chain(["--id", "j1", "--root", "jobs"]).collect();
    gait.json(&args)
}

#[test]
fn a_job_goes_through_its_life() {
    let gait = Gait::new();
    let (code, submitted) = job(&gait, &["submit", "--actor", "alice"]);
    assert_eq!((code, &submitted["job"]["status"]), (0, &"running".into()));
    assert_eq!(submitted["schema_id"], "gait.job.output");
    assert_eq!(submitted["job"]["identity"], "alice");
    let (_, added) = job(
        &gait,
        &[
            "checkpoint",
            "add",
            "--type",
            "decision-needed",
            "--summary",
            "s",
            "--required-action",
            "approve",
        ],
    );
    assert_eq!(added["checkpoint"]["checkpoint_id"], "cp_0001");
    let (code, refused) = job(&gait, &["resume"]);
    assert_eq!(
        (code, &refused["error_code"], &refused["error_category"]),
        (
            4,
            &"job_approval_required".into(),
            &"approval_required".into()
        )
    );
    assert_eq!(job(&gait, &["approve", "--actor", "bob"]).0, 0);
    assert_eq!(
        job(&gait, &["resume"]).1["job"]["status_reason_code"],
        "resumed"
    );
    let (_, listed) = job(&gait, &["checkpoint", "list"]);
    assert_eq!(listed["checkpoints"][0]["type"], "decision-needed");
    let (_, shown) = job(&gait, &["checkpoint", "show", "--checkpoint", "cp_0001"]);
    assert_eq!(shown["checkpoint"]["required_action"], "approve");
    assert_eq!(job(&gait, &["pause"]).1["job"]["status"], "paused");
    assert_eq!(
        job(&gait, &["stop"]).1["job"]["status"],
        "emergency_stopped"
    );
    assert_eq!(
        job(&gait, &["resume"]).1["error_code"],
        "invalid_transition"
    );
    assert_eq!(
        job(&gait, &["cancel"]).1["job"]["stop_reason"],
        "cancelled_by_user"
    );
    let (_, inspected) = job(&gait, &["inspect"]);
    assert_eq!(inspected["events"].as_array().unwrap().len(), 7);
    let human = gait.run(&["job", "status", "--id", "j1", "--root", "jobs"]);
    assert_eq!(
        human.stdout,
        "job status: id=j1 status=cancelled stop_reason=cancelled_by_user reason_code=cancelled\n"
    );
}

#[test]
fn a_job_under_a_policy_is_resumed_under_one_and_never_by_a_revoked_identity() {
    let gait = Gait::new();
    let (a, b) = (gait.file("a.yaml", POLICY_A), gait.file("b.yaml", POLICY_B));
    let (code, mismatch) = job(
        &gait,
        &["submit", "--policy", &a, "--policy-digest", "sha256:dead"],
    );
    assert_eq!(
        (code, &mismatch["error_code"]),
        (6, &"policy_digest_mismatch".into())
    );
    let (_, submitted) = job(
        &gait,
        &["submit", "--identity", "agent.alice", "--policy", &a],
    );
    assert_eq!(submitted["job"]["policy_ref"], a.as_str());
    job(&gait, &["pause"]);
    assert_eq!(
        job(&gait, &["resume"]).1["error_code"],
        "policy_evaluation_required"
    );
    let (_, resumed) = job(&gait, &["resume", "--policy", &b]);
    assert_eq!(
        resumed["job"]["status_reason_code"],
        "resumed_with_policy_transition"
    );
    assert_ne!(
        resumed["job"]["policy_digest"],
        submitted["job"]["policy_digest"]
    );
    job(&gait, &["pause"]);
    let revoked = gait.file("revoked.txt", "agent.alice\n");
    for flags in [
        &["--identity-revocations", &revoked][..],
        &["--identity-revoked"],
    ] {
        let args: Vec<&str> = ["resume", "--policy", &b]
            .into_iter()
            .chain(flags.iter().copied())
            .collect();
        let (code, refused) = job(&gait, &args);
        assert_eq!(
            (code, &refused["error_code"]),
            (6, &"identity_revoked".into())
        );
    }
}

#[test]
fn what_is_missing_wrong_or_too_much_is_refused_without_a_trace_on_disk() {
    let gait = Gait::new();
    for args in [
        &["status"][..],
        &["pause"],
        &["inspect"],
        &["checkpoint", "list"],
    ] {
        let (code, refused) = job(&gait, args);
        assert_eq!(
            (code, &refused["error_code"]),
            (6, &"job_not_found".into()),
            "{args:?}"
        );
    }
    let (code, refused) = gait.json(&["job", "submit", "--id", "../x"]);
    assert_eq!(
        (code, &refused["error_code"]),
        (6, &"invalid_job_id".into())
    );
    assert_eq!(gait.json(&["job", "submit", "--id", "x", "stray"]).0, 6);
    assert_eq!(std::fs::read_dir(gait.path()).unwrap().count(), 0);
}

/// Each round kills a process somewhere in the middle of its changes; none that was acknowledged may be lost, and
/// state and log must agree.
#[test]
fn a_job_whose_log_was_damaged_is_neither_shown_nor_changed() {
    let gait = Gait::new();
    assert_eq!(job(&gait, &["submit"]).0, 0);
    assert_eq!(job(&gait, &["pause"]).0, 0);
    assert_eq!(job(&gait, &["resume"]).0, 0);
    let whole = std::fs::read_to_string(gait.path().join("jobs/j1/events.jsonl")).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let doctor = |damaged: &str| {
        let args = ["doctor", "--output-dir", "."];
        let checks = gait.json(&args).1["checks"].clone();
        let of_jobs = |check: &&Value| check["name"] == "job_runtime_durability";
        let found = checks.as_array().unwrap().iter().find(of_jobs).cloned();
        assert_eq!(found.unwrap()["status"], "fail", "{damaged}");
    };
    for damaged in [
        format!("{whole}garbage\n"),
        format!("{}\n{}\n", lines[0], lines[1]),
        String::new(),
        format!(
            "{whole}{}\n",
            lines[2].replace("\"revision\":3", "\"revision\":9")
        ),
    ] {
        gait.file("jobs/j1/events.jsonl", &damaged);
        for command in [&["status"][..], &["pause"], &["inspect"], &["stop"]] {
            let (code, json) = job(&gait, command);
            assert_eq!(
                (code, &json["error_code"]),
                (2, &"job_state_corrupt".into()),
                "{command:?} after {damaged:?}: {json}"
            );
        }
        let kept = std::fs::read_to_string(gait.path().join("jobs/j1/events.jsonl")).unwrap();
        assert_eq!(kept, damaged, "nothing is appended");
        doctor(&damaged);
    }
    // What is wrong further up shows where the log is read.
    let first = lines[0].replace("\"revision\":1", "\"revision\":2");
    gait.file(
        "jobs/j1/events.jsonl",
        format!("{first}\n{}\n{}\n", lines[1], lines[2]),
    );
    assert_eq!(job(&gait, &["inspect"]).0, 2);
    doctor("out of order");
    gait.file("jobs/j1/events.jsonl", &whole);
    assert_eq!(job(&gait, &["pause"]).0, 0);
}

#[test]
fn a_job_is_shown_from_a_disk_that_nobody_can_write() {
    let gait = Gait::new();
    assert_eq!(job(&gait, &["submit"]).0, 0);
    let (jobs, binary) = (gait.path().join("jobs"), env!("CARGO_BIN_EXE_gait"));
    let mount = format!("mount -o bind,ro '{0}' '{0}' && ", jobs.display());
    let inside = |script: &str| {
        std::process::Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
            .current_dir(gait.path())
            .output()
    };
    match inside(&format!("{mount} true")) {
        Ok(output) if output.status.success() => {}
        refused => {
            println!("skipped: this machine lets no user mount for reading only: {refused:?}");
            return;
        }
    }
    let ask = |command: &str| {
        let script = format!("{mount} '{binary}' job {command} --id j1 --root jobs --json");
        let output = inside(&script).unwrap();
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), json)
    };
    for command in ["status", "inspect"] {
        let (code, json) = ask(command);
        assert_eq!(
            (code, &json["job"]["status"]),
            (Some(0), &"running".into()),
            "{json}"
        );
    }
    let (code, json) = ask("pause");
    assert_eq!(
        (code, &json["error_code"]),
        (Some(1), &"read_only_filesystem".into()),
        "{json}"
    );
}

#[test]
fn killed_at_any_moment_a_job_keeps_every_acknowledged_change() {
    let gait = Gait::new();
    assert_eq!(job(&gait, &["submit"]).0, 0);
    let (mut acknowledged, mut unacknowledged) = (1, 0);
    for round in 0..60u64 {
        let args = [
            "job",
            "checkpoint",
            "add",
            "--id",
            "j1",
            "--root",
            "jobs",
            "--summary",
            "s",
        ];
        let mut child = gait.command(&args).stdout(Stdio::null()).spawn().unwrap();
        // Each round lets it come a bit further into the few milliseconds that the command takes.
        let moment = Instant::now() + Duration::from_micros(round * 300);
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        let done = child.wait().unwrap().success();
        acknowledged += u64::from(done);
        let (code, inspected) = job(&gait, &["inspect"]);
        assert_eq!(code, 0, "round {round}: {inspected}");
        let revision = inspected["job"]["revision"].as_u64().unwrap();
        let events = inspected["events"].as_array().unwrap();
        assert_eq!(events.len() as u64, revision, "round {round}");
        assert_eq!(
            inspected["job"]["checkpoints"]
                .as_array()
                .map_or(0, Vec::len) as u64,
            revision - 1,
            "round {round}"
        );
        assert!(
            revision >= acknowledged,
            "round {round}: {revision} of {acknowledged}"
        );
        unacknowledged += revision - acknowledged;
        acknowledged = revision;
    }
    println!(
        "60 rounds: {} changes acknowledged, {unacknowledged} found that were not",
        acknowledged - 1
    );
}

#[test]
fn sixteen_processes_at_once_lose_no_change() {
    let gait = Gait::new();
    assert_eq!(job(&gait, &["submit"]).0, 0);
    let args = [
        "job",
        "checkpoint",
        "add",
        "--id",
        "j1",
        "--root",
        "jobs",
        "--summary",
        "s",
        "--json",
    ];
    let children: Vec<_> = (0..16)
        .map(|_| gait.command(&args).stdout(Stdio::piped()).spawn().unwrap())
        .collect();
    let mut done = 0;
    for child in children {
        let run = support::Run::of(child.wait_with_output().unwrap());
        match run.code {
            0 => done += 1,
            code => assert_eq!(
                (
                    code,
                    &run.json()["error_category"],
                    &run.json()["retryable"]
                ),
                (1, &"state_contention".into(), &true.into())
            ),
        }
    }
    let (_, inspected) = job(&gait, &["inspect"]);
    assert_eq!(
        inspected["job"]["checkpoints"].as_array().unwrap().len(),
        done
    );
    assert_eq!(inspected["job"]["revision"], done + 1);
}
