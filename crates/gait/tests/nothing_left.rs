//! What a command that failed leaves behind: nothing that was not there before.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use support::Gait;

const POLICY: &str = "default_verdict: allow\n";
const INTENT: &str = r#"{"tool_name": "tool.read", "context": {"identity": "a", "workspace": "/", "risk_class": "low"}}"#;

/// Every path below `dir`, with the content of files.
fn tree(dir: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(next) = left.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let content = path.is_file().then(|| std::fs::read(&path).unwrap());
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                left.push(path);
            }
            found.insert(name, content);
        }
    }
    found
}

/// A folder in which a lot can go wrong.
fn prepared() -> Gait {
    let gait = Gait::new();
    assert_eq!(gait.run(&["demo"]).code, 0);
    assert_eq!(gait.run(&["keys", "init", "--out-dir", "keys"]).code, 0);
    gait.file("policy.yaml", POLICY);
    gait.file("intent.json", INTENT);
    gait.file("no.json", "no");
    gait.file("empty.json", "{}");
    gait.file("fixtures/broken/fixture.json", "{}");
    gait.file("jobs/torn/state.json", "no");
    gait.file("jobs/lost/notes", "of somebody");
    gait.file("state/kill.json", "no");
    gait.file("state/counters.json", "no");
    gait.file(
        "limited.yaml",
        "rules:\n- {name: r, effect: allow, rate_limit: {requests: 1, window: hour}}\n",
    );
    gait.file("socket", "no socket");
    gait
}

const FAILING: &[&str] = &[
    "approve --intent-digest x --policy-digest y --ttl 1h --scope a --approver b --reason-code c --out new/approval.json",
    "approve-script --policy policy.yaml --intent no.json --registry new/scripts.json --approver a",
    "delegate mint --out new/delegation.json",
    "demo --durable --policy",
    "gate eval --policy limited.yaml --intent intent.json --rate-limit-state state/counters.json",
    "gate eval --policy policy.yaml --intent intent.json --kill-switch-state state/kill.json --profile oss-prod",
    "gate eval --policy policy.yaml --intent intent.json --session new/session.jsonl --trace-out jobs",
    "gate eval --policy policy.yaml --intent no.json --session new/session.jsonl",
    "gate eval --policy policy.yaml --intent intent.json --session new/s.jsonl --key-mode prod --private-key none",
    "gate serve --policy no.json --socket new/gate.sock",
    "guard encrypt --in none --out new/sealed --key-env NONE",
    "guard pack --run none --out new/pack.zip",
    "guard retain --root none --report-out new/report.json",
    "incident pack --from none --out new/pack.zip",
    "init --template none",
    "job approve --id lost --root jobs --actor a --reason b",
    "job cancel --id none --root jobs",
    "job cancel --id lost --root jobs",
    "job checkpoint add --id lost --root jobs --type progress --summary s",
    "job inspect --id torn --root jobs",
    "job pause --id torn --root jobs",
    "job resume --id lost --root jobs --actor a --reason b",
    "job status --id lost --root jobs",
    "job stop --id lost --root jobs",
    "job submit --id ../new --root jobs",
    "job submit --id new --root new --policy-digest no",
    "job submit --id torn --root jobs",
    "keys init --out-dir new --prefix ../new",
    "kill-switch add --state new/kill.json",
    "kill-switch add --state state/kill.json --tool-name t --reason r",
    "kill-switch disable --state new/kill.json --entry-id none",
    "kill-switch expire --state new/kill.json --entry-id none",
    "kill-switch list --state new/kill.json",
    "list-scripts --registry new/scripts.json",
    "mcp proxy --policy policy.yaml --call no.json --job-root new --runpack-out new/runpack.zip --trace-out new/trace",
    "mcp serve --policy no.json",
    "pack build --type job --from lost --job-root jobs --out new/pack.zip",
    "pack build --type run --from none --out new/pack.zip",
    "policy init none --out new/policy.yaml",
    "registry install --source no.json --cache-dir new --publisher-allowlist a --public-key keys/gait_public.key",
    "registry install --source empty.json --cache-dir new --publisher-allowlist a --public-key keys/gait_public.key",
    "registry verify --path no.json --cache-dir new --report-out new/report.json --public-key keys/gait_public.key",
    "regress add --from none",
    "regress bootstrap --from run_demo",
    "regress init --from none",
    "regress init --from run_demo",
    "regress init --from run_demo --name Not/Good",
    "regress run --config empty.json --output new/result.json",
    "run record --input no.json --out-dir new",
    "run record --input empty.json --out-dir new",
    "run reduce --from run_demo --predicate missing_result --out new/reduced.zip",
    "run session append --journal new/journal.jsonl --tool t --verdict allow",
    "run session checkpoint --journal new/journal.jsonl --out new/runpack.zip",
    "run session compact --journal new/journal.jsonl",
    "run session start --journal no.json --session-id s --run-id r",
    "run session status --journal new/journal.jsonl",
    "session close --session new/session.jsonl --key-mode prod --private-key keys/gait_private.key",
    "session close --session no.json --key-mode prod --private-key keys/gait_private.key",
];

#[test]
fn a_command_that_fails_leaves_nothing_that_was_not_there() {
    let gait = prepared();
    let before = tree(gait.path());
    let mut known = before.clone();
    let mut leaving = Vec::new();
    for line in FAILING {
        let args: Vec<&str> = line.split_whitespace().collect();
        let run = gait.run(&args);
        assert!(!matches!(run.code, 0 | -1), "{line}: {}", run.stdout);
        let left = tree(gait.path());
        if left != known {
            let names = left.keys().filter(|name| !known.contains_key(*name));
            leaving.push(format!("{line}: {:?}", names.collect::<Vec<_>>()));
        }
        known = left;
    }
    assert!(leaving.is_empty(), "{leaving:#?}");
    assert!(known == before, "something was changed");
}

/// A path that is too long for the socket, below a directory that has to be made for it.
#[test]
fn a_service_that_cannot_listen_leaves_no_lock() {
    let gait = prepared();
    let socket = format!("state/{}.sock", "x".repeat(120));
    std::fs::set_permissions(
        gait.path().join("state"),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    let before = tree(gait.path());
    for socket in [socket.as_str(), "state/kill.json"] {
        let run = gait.run(&[
            "gate",
            "serve",
            "--policy",
            "policy.yaml",
            "--socket",
            socket,
        ]);
        assert_eq!(run.code, 1, "{}", run.stdout);
        assert!(tree(gait.path()) == before, "{socket}");
    }
}
