//! `gait kill-switch`, `approve-script` and `list-scripts`, as a caller sees them: alone and sixty-four at a time.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

mod support;

use serde_json::{Value, json};
use support::Gait;

const PROCESSES: usize = 64;

#[test]
fn an_entry_is_added_listed_expired_and_disabled() {
    let gait = Gait::new();
    let run = |args: &[&str]| gait.json(args);
    let (code, listed) = run(&["kill-switch", "list"]);
    assert_eq!((code, listed.get("entries")), (0, None));
    let (code, added) = run(&[
        "kill-switch",
        "add",
        "--identity",
        "alice",
        "--reason",
        "incident",
    ]);
    assert_eq!((code, &added["action"]), (0, &json!("add")), "{added}");
    let id = added["entry"]["entry_id"].as_str().unwrap().to_owned();
    assert_eq!(id.len(), 24);
    let expire = [
        "kill-switch",
        "expire",
        "--entry-id",
        &id,
        "--expires-at",
        "2030-01-01T00:00:00Z",
    ];
    assert_eq!(
        run(&expire).1["entry"]["expires_at"],
        "2030-01-01T00:00:00Z"
    );
    assert_eq!(
        run(&["kill-switch", "disable", "--entry-id", &id]).1["entry"]["enabled"],
        false
    );
    let (_, listed) = run(&["kill-switch", "list"]);
    assert_eq!(listed["entries"].as_array().unwrap().len(), 1);
    let shown = gait.run(&["kill-switch", "list"]).stdout;
    assert!(
        shown.contains(&format!("{id} disabled")) && shown.contains("identity=\"alice\""),
        "{shown}"
    );
    let (code, missing) = run(&["kill-switch", "list", "--state", "typo.json"]);
    assert_eq!(
        (code, &missing["error_code"]),
        (1, &json!("kill_switch_state_unavailable")),
        "{missing}"
    );
    assert_eq!(listed["state"]["schema_id"], "gait.gate.kill_switch_state");
}

#[test]
fn a_list_of_scripts_that_is_not_there_is_not_an_empty_one() {
    let (code, json) = Gait::new().json(&["list-scripts", "--registry", "typo.json"]);
    assert_eq!((code, &json["error_code"]), (1, &json!("not_found")));
}

#[test]
fn wrong_flags_are_refused_and_leave_nothing_behind() {
    let gait = Gait::new();
    for args in [
        &["kill-switch", "add"][..],
        &["kill-switch", "add", "--target-kind", "planet"],
        &[
            "kill-switch",
            "add",
            "--identity",
            "a",
            "--expires-at",
            "2020-01-01T00:00:00Z",
        ],
        &[
            "kill-switch",
            "add",
            "--identity",
            "a",
            "--expires-at",
            "soon",
        ],
        &["kill-switch", "disable"],
        &["kill-switch", "list", "extra"],
        &["list-scripts"],
        &[
            "delegate",
            "mint",
            "--delegator",
            "a",
            "--delegate",
            " a ",
            "--scope",
            "s",
            "--ttl",
            "1h",
        ],
        &["job", "submit", "--id", "j", "--policy-digest", "zz"],
        &["approve-script", "--policy", "p"],
    ] {
        let (code, json) = gait.json(args);
        assert_eq!(
            (code, &json["error_code"]),
            (6, &json!("invalid_input")),
            "{args:?} {json}"
        );
    }
    let group = gait.run(&["kill-switch"]);
    assert_eq!(group.code, 6);
    assert_eq!(std::fs::read_dir(gait.path()).unwrap().count(), 0);
}

/// Runs them all at once; a run that is told to retry does so.
fn all_at_once(gait: &Gait, args: impl Fn(usize) -> Vec<String> + Sync) -> Vec<Value> {
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..PROCESSES)
            .map(|index| {
                let args = args(index);
                scope.spawn(move || {
                    let args: Vec<_> = args.iter().map(String::as_str).collect();
                    loop {
                        let (code, json) = gait.json(&args);
                        if json["retryable"] != true {
                            assert_eq!(code, 0, "{json}");
                            return json;
                        }
                    }
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    })
}

#[test]
fn of_sixty_four_that_add_at_once_every_entry_is_kept() {
    let gait = Gait::new();
    let words = |index: usize| format!("kill-switch add --identity user{index}");
    let args = |index| words(index).split(' ').map(str::to_owned).collect();
    all_at_once(&gait, args);
    let (_, listed) = gait.json(&["kill-switch", "list"]);
    let entries = listed["entries"].as_array().unwrap();
    let users: std::collections::BTreeSet<_> = entries
        .iter()
        .map(|entry| entry["identity"].as_str().unwrap())
        .collect();
    assert_eq!((entries.len(), users.len()), (PROCESSES, PROCESSES));
}

#[test]
fn of_sixty_four_that_approve_a_script_at_once_every_entry_is_kept() {
    let gait = Gait::new();
    gait.file("policy.yaml", "default_verdict: block");
    for index in 0..PROCESSES {
        let intent = json!({
            "tool_name": "script",
            "script": {"steps": [{"tool_name": format!("tool.{index}"), "args": {}}, {"tool_name": "a", "args": {}}]},
            "context": {"identity": "alice", "workspace": "w", "risk_class": "low"}
        });
        gait.file(&format!("intent{index}.json"), intent.to_string());
    }
    let args = |index: usize| {
        let words = format!(
            "approve-script --policy policy.yaml --intent intent{index}.json --registry r/scripts.json --approver boss"
        );
        words.split(' ').map(str::to_owned).collect()
    };
    for json in all_at_once(&gait, args) {
        assert_eq!(
            json["tool_sequence"][1], "a",
            "the order of the steps stays"
        );
    }
    let (_, listed) = gait.json(&["list-scripts", "--registry", "r/scripts.json"]);
    assert_eq!(listed["count"], PROCESSES);
    assert_eq!(listed["entries"][0]["expired"], false);
}

#[test]
fn a_writer_that_is_killed_at_any_moment_leaves_the_old_state_or_the_new() {
    let gait = Gait::new();
    let mut kept = 0;
    for round in 0..60_u64 {
        let identity = format!("user{round}");
        let args = ["kill-switch", "add", "--identity", &identity, "--json"];
        let mut child = gait
            .command(&args)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // A little later each time: from before the start to after the end.
        let until = std::time::Instant::now() + std::time::Duration::from_micros(150 * round);
        while std::time::Instant::now() < until {
            std::hint::spin_loop();
        }
        let _ = child.kill();
        child.wait().unwrap();
        let (code, listed) = gait.json(&["kill-switch", "list"]);
        assert_eq!(code, 0, "{listed}");
        let count = listed["entries"].as_array().map_or(0, Vec::len);
        assert!(
            count == kept || count == kept + 1,
            "round {round}: {kept} became {count}"
        );
        kept = count;
    }
    let (code, _) = gait.json(&["kill-switch", "add", "--identity", "last"]);
    assert_eq!(code, 0, "no dead owner's lock is in the way");
}
