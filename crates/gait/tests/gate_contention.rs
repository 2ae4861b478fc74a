//! Many gates on one state, gates that are killed, and disks that refuse: the count is exact and nothing is half written.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Gait, Run};
use worldcompute_proof::SigningKey;

const PROCESSES: usize = 64;
const EVAL: &str = "gate eval --policy policy.yaml --intent intent.json --key-mode prod --private-key-env GK --json";

fn place(policy: &str) -> Gait {
    let key = SigningKey::from_seed([7; 32]);
    let gait = Gait::new().env("GK", &key.file_text());
    gait.file("policy.yaml", policy);
    gait.file(
        "intent.json",
        json!({
            "tool_name": "tool.write",
            "context": {"identity": "alice", "workspace": "/w", "risk_class": "low"}
        })
        .to_string(),
    );
    gait
}

fn words(more: &str) -> Vec<String> {
    format!("{EVAL} {more}")
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

fn answer(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).unwrap()
}

/// Starts them all, then waits for all; a run that is told to retry does so.
fn all_at_once(gait: &Gait, more: &str) -> Vec<(i32, Value)> {
    std::thread::scope(|scope| {
        let one = || {
            let words = words(more);
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            loop {
                let run = gait.run(&words);
                let answer = answer(&run);
                if answer["retryable"] != true {
                    return (run.code, answer);
                }
            }
        };
        let runs: Vec<_> = (0..PROCESSES).map(|_| scope.spawn(one)).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    })
}

fn count(answers: &[(i32, Value)], code: i32) -> usize {
    answers.iter().filter(|(exit, _)| *exit == code).count()
}

#[test]
fn sixty_four_gates_on_one_limit_let_exactly_as_many_pass_as_it_says() {
    let gait = place("rules: [{name: r, effect: allow, rate_limit: {requests: 40, window: hour}}]");
    let answers = all_at_once(&gait, "");
    assert_eq!(
        (count(&answers, 0), count(&answers, 3)),
        (40, 24),
        "{:?}",
        answers[0]
    );
    let mut used: Vec<_> = answers
        .iter()
        .filter(|(code, _)| *code == 0)
        .map(|(_, answer)| answer["rate_limit_used"].as_u64().unwrap())
        .collect();
    used.sort_unstable();
    assert_eq!(used, (1..=40).collect::<Vec<_>>(), "each number once");
}

#[test]
fn of_sixty_four_gates_with_one_approval_for_one_use_one_passes() {
    let gait = place("default_verdict: require_approval");
    let words = words("");
    let waiting = answer(&gait.run(&words.iter().map(String::as_str).collect::<Vec<_>>()));
    let approve = format!(
        "approve --intent-digest {} --policy-digest {} --ttl 1h --scope tool:tool.write --approver boss \
         --reason-code T --single-use --out token.json --key-mode prod --private-key-env GK --json",
        waiting["intent_digest"].as_str().unwrap(),
        waiting["policy_digest"].as_str().unwrap()
    );
    assert_eq!(
        gait.run(&approve.split_whitespace().collect::<Vec<_>>())
            .code,
        0
    );
    let answers = all_at_once(&gait, "--approval-token token.json");
    assert_eq!((count(&answers, 0), count(&answers, 4)), (1, PROCESSES - 1));
}

#[test]
fn sixty_four_gates_in_one_session_get_a_number_each() {
    let gait = place("default_verdict: allow");
    let answers = all_at_once(&gait, "--session s.jsonl");
    let mut numbers: Vec<_> = answers
        .iter()
        .map(|(_, answer)| answer["session_sequence"].as_u64().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=PROCESSES as u64).collect::<Vec<_>>());
    let verify = "session verify --session s.jsonl --private-key-env GK --json";
    let verified = answer(&gait.run(&verify.split(' ').collect::<Vec<_>>()));
    assert_eq!(verified["decisions"], PROCESSES);
}

#[test]
fn a_kill_switch_stops_all_sixty_four_and_journals_each() {
    let gait = place("default_verdict: allow");
    gait.run(&["kill-switch", "add", "--identity", "alice"]);
    let answers = all_at_once(
        &gait,
        "--kill-switch-state .gait-out/kill_switch_state.json",
    );
    assert_eq!(count(&answers, 3), PROCESSES);
    let journal = gait.path().join(".gait-out/kill_switch_journal.jsonl");
    let journal = std::fs::read_to_string(journal).unwrap();
    let lines: Vec<Value> = journal
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), PROCESSES);
}

/// Runs the gate and kills it a little later each round, from before its start to after its end.
fn kill_in_rounds(gait: &Gait, more: &str, after_each: impl Fn(u64)) {
    for round in 0..80_u64 {
        let words = words(more);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let mut child = gait.command(&words).stdout(Stdio::null()).spawn().unwrap();
        let until = Instant::now() + Duration::from_micros(200 * round);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        let _ = child.kill();
        child.wait().unwrap();
        after_each(round);
    }
}

fn whole(path: &Path) -> Option<Value> {
    let bytes = std::fs::read(path).ok()?;
    Some(serde_json::from_slice(&bytes).unwrap())
}

#[test]
fn a_gate_killed_at_any_moment_leaves_whole_files_and_no_lock_in_the_way() {
    let gait =
        place("rules: [{name: r, effect: allow, rate_limit: {requests: 100000, window: hour}}]");
    let counters = gait.path().join(".gait-out/gate_rate_limits.json");
    let counted = || {
        let counters = whole(&counters)?;
        counters["counters"]
            .as_array()?
            .iter()
            .map(|one| one["count"].as_u64())
            .sum::<Option<u64>>()
    };
    kill_in_rounds(&gait, "--session s.jsonl", |round| {
        assert!(counted().unwrap_or_default() <= round + 1);
        for entry in std::fs::read_dir(gait.path()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if name.starts_with("trace_") {
                whole(&path);
            }
        }
    });
    let words = words("--session s.jsonl");
    let last = gait.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(last.code, 0, "{}", last.stdout);
    let verify = "session verify --session s.jsonl --private-key-env GK --json";
    let verified = gait.run(&verify.split(' ').collect::<Vec<_>>());
    assert_eq!(verified.code, 0, "{}", verified.stdout);
}

#[test]
fn an_approval_of_a_gate_that_is_killed_is_used_or_not_and_never_twice() {
    let gait = place("default_verdict: require_approval");
    let plain = words("");
    let waiting = answer(&gait.run(&plain.iter().map(String::as_str).collect::<Vec<_>>()));
    let approve = format!(
        "approve --intent-digest {} --policy-digest {} --ttl 1h --scope tool:tool.write --approver boss \
         --reason-code T --single-use --out token.json --key-mode prod --private-key-env GK",
        waiting["intent_digest"].as_str().unwrap(),
        waiting["policy_digest"].as_str().unwrap()
    );
    gait.run(&approve.split_whitespace().collect::<Vec<_>>());
    let state = gait.path().join(".gait-out/approval_redemptions.json");
    kill_in_rounds(&gait, "--approval-token token.json", |_| {
        let used = whole(&state).map_or(0, |state| state["redeemed"].as_array().unwrap().len());
        assert!(used <= 1);
    });
    let answers = all_at_once(&gait, "--approval-token token.json");
    assert!(count(&answers, 0) <= 1);
}

fn as_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}

fn skip(why: &str) {
    use std::io::Write;
    std::io::stderr()
        .write_all(format!("skipped: {why}\n").as_bytes())
        .unwrap();
}

/// A small disk of its own, as long as this lives.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: &Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(at)
            .output();
        mount
            .is_ok_and(|done| done.status.success())
            .then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_counts_nothing_and_says_why() {
    let gait = place("rules: [{name: r, effect: allow, rate_limit: {requests: 9, window: hour}}]");
    let disk = gait.path().join("disk");
    let Some(_disk) = as_root()
        .then(|| SmallDisk::mount(&disk, "size=16k"))
        .flatten()
    else {
        return skip("a small disk can only be mounted by root");
    };
    let ballast = gait.path().join("disk/ballast");
    let _ = Command::new("dd")
        .args(["if=/dev/zero", "bs=4k", "count=8"])
        .arg(format!("of={}", ballast.display()))
        .output();
    let words = words("--rate-limit-state disk/limits.json --trace-out t.json");
    let run = gait.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let answer = answer(&run);
    assert_eq!(
        (run.code, &answer["error_category"]),
        (1, &json!("io_failure")),
        "{answer}"
    );
    assert!(
        answer["error"].as_str().unwrap().contains("limits.json"),
        "{answer}"
    );
    assert!(
        !gait.path().join("t.json").exists(),
        "no trace of what was not decided"
    );
    assert!(whole(&gait.path().join("disk/limits.json")).is_none());
}

#[test]
fn a_read_only_place_for_the_trace_counts_nothing() {
    let gait = place("rules: [{name: r, effect: allow, rate_limit: {requests: 9, window: hour}}]");
    let disk = gait.path().join("disk");
    let Some(_disk) = as_root().then(|| SmallDisk::mount(&disk, "ro")).flatten() else {
        return skip("a read-only disk can only be mounted by root");
    };
    let words = words("--trace-out disk/t.json");
    let run = gait.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let answer = answer(&run);
    assert_eq!(
        (run.code, &answer["error_code"]),
        (1, &json!("read_only_filesystem")),
        "{answer}"
    );
    assert!(!gait.path().join(".gait-out/gate_rate_limits.json").exists());
}

#[test]
fn a_key_that_everybody_may_write_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let gait = place("default_verdict: allow");
    let key = gait.file(
        "open.key",
        SigningKey::from_seed([7; 32]).file_text().as_bytes(),
    );
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o666)).unwrap();
    let words = format!(
        "gate eval --policy policy.yaml --intent intent.json --key-mode prod --private-key {key} --json"
    );
    let run = gait.run(&words.split_whitespace().collect::<Vec<_>>());
    assert_eq!(
        (run.code, &answer(&run)["error_reason"]),
        (6, &json!("key_file_insecure"))
    );
}

#[test]
fn sixty_four_who_keep_fixtures_at_a_time_leave_none_out_of_the_list() {
    let gait = Gait::new();
    assert_eq!(gait.json(&["demo"]).0, 0);
    let demo = "gait-out/runpack_run_demo.zip";
    let keep = |number: usize| {
        let name = format!("fx{number}");
        loop {
            let (code, answer) = gait.json(&["regress", "init", "--from", demo, "--name", &name]);
            if answer["retryable"] != true {
                return code;
            }
        }
    };
    let codes: Vec<i32> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..PROCESSES)
            .map(|number| scope.spawn(move || keep(number)))
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert_eq!(codes, [0; PROCESSES]);
    let config = std::fs::read(gait.path().join("gait.yaml")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["fixtures"].as_array().unwrap().len(), PROCESSES);
}
