//! The JSON of a failure of every command, and what `--help` says of it, byte for byte but for the correlation id.
//!
//! `GAIT_UPDATE_GOLDEN=1` writes the files anew, for a change that is meant.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fmt::Write;
use std::path::Path;

use support::Gait;

const FAILURES: &[(&str, &[&str])] = &[
    ("no such command", &["frob"]),
    ("no such command, but one like it", &["verfiy"]),
    ("no such command of a group", &["gate", "evl"]),
    (
        "no such command of a group in a group",
        &["run", "session", "begin"],
    ),
    ("version with a stray argument", &["version", "stray"]),
    ("version with an unknown flag", &["version", "--frobnicate"]),
    (
        "keys init where a pair is",
        &["keys", "init", "--out-dir", "taken", "--prefix", "p"],
    ),
    (
        "keys init with a name that climbs",
        &["keys", "init", "--prefix", "../p"],
    ),
    (
        "keys init below a file",
        &["keys", "init", "--out-dir", "file/keys"],
    ),
    (
        "keys rotate with a name that climbs",
        &["keys", "rotate", "--prefix", "a/b"],
    ),
    ("keys verify without a key", &["keys", "verify"]),
    (
        "keys verify with two sources",
        &[
            "keys",
            "verify",
            "--private-key",
            "k",
            "--private-key-env",
            "K",
        ],
    ),
    (
        "keys verify with an unset variable",
        &["keys", "verify", "--private-key-env", "UNSET"],
    ),
    (
        "keys verify with a missing file",
        &["keys", "verify", "--private-key", "none.key"],
    ),
    (
        "keys verify with an open file",
        &["keys", "verify", "--private-key", "open.key"],
    ),
    (
        "keys verify with text",
        &["keys", "verify", "--private-key", "file"],
    ),
    ("doctor adoption without a log", &["doctor", "adoption"]),
    (
        "doctor adoption with a missing log",
        &["doctor", "adoption", "--from", "none.jsonl"],
    ),
    (
        "doctor adoption with another file",
        &["doctor", "adoption", "--from", "file"],
    ),
    (
        "registry install without a source",
        &["registry", "install"],
    ),
    (
        "registry install without a key",
        &["registry", "install", "--source", "file"],
    ),
    (
        "registry install over http",
        &[
            "registry",
            "install",
            "--source",
            "http://r.example/p",
            "--public-key-env",
            "PUBLIC",
        ],
    ),
    (
        "registry install without hosts",
        &[
            "registry",
            "install",
            "--source",
            "https://r.example/p",
            "--public-key-env",
            "PUBLIC",
        ],
    ),
    (
        "registry install from another host",
        &[
            "registry",
            "install",
            "--source",
            "https://r.example/p",
            "--allow-host",
            "s.example",
            "--public-key-env",
            "PUBLIC",
        ],
    ),
    (
        "registry install with a wrong pin",
        &[
            "registry",
            "install",
            "--source",
            "file",
            "--pin",
            "x",
            "--public-key-env",
            "PUBLIC",
        ],
    ),
    (
        "registry install with a fallback without a pin",
        &[
            "registry",
            "install",
            "--source",
            "file",
            "--allow-cached-fallback",
            "--public-key-env",
            "PUBLIC",
        ],
    ),
    (
        "registry install with too many attempts",
        &[
            "registry",
            "install",
            "--source",
            "file",
            "--retry-max-attempts",
            "11",
            "--public-key-env",
            "PUBLIC",
        ],
    ),
    (
        "registry install from a missing file",
        &[
            "registry",
            "install",
            "--source",
            "none.json",
            "--public-key-env",
            "PUBLIC",
        ],
    ),
    (
        "registry install of another file",
        &[
            "registry",
            "install",
            "--source",
            "file",
            "--public-key-env",
            "PUBLIC",
        ],
    ),
    (
        "registry list of a file",
        &["registry", "list", "--cache-dir", "file"],
    ),
    ("registry verify without a path", &["registry", "verify"]),
    (
        "registry verify of another file",
        &[
            "registry",
            "verify",
            "--path",
            "file",
            "--public-key-env",
            "PUBLIC",
        ],
    ),
    ("mcp proxy without a call", &["mcp", "proxy"]),
    (
        "mcp proxy with a missing policy",
        &[
            "mcp",
            "proxy",
            "--policy",
            "none.yaml",
            "--call",
            "call.json",
        ],
    ),
    (
        "mcp proxy with another adapter",
        &[
            "mcp",
            "proxy",
            "--policy",
            "policy.yaml",
            "--call",
            "call.json",
            "--adapter",
            "cobol",
        ],
    ),
    (
        "mcp proxy with a broken call",
        &["mcp", "proxy", "--policy", "policy.yaml", "--call", "file"],
    ),
    (
        "mcp bridge in production without a key",
        &[
            "mcp",
            "bridge",
            "--policy",
            "policy.yaml",
            "--call",
            "call.json",
            "--profile",
            "oss-prod",
        ],
    ),
    (
        "mcp verify without a clause",
        &[
            "mcp",
            "verify",
            "--policy",
            "policy.yaml",
            "--server",
            "call.json",
        ],
    ),
    (
        "mcp serve off loopback",
        &[
            "mcp",
            "serve",
            "--policy",
            "policy.yaml",
            "--listen",
            "0.0.0.0:0",
        ],
    ),
    (
        "mcp serve with an unset token",
        &[
            "mcp",
            "serve",
            "--policy",
            "policy.yaml",
            "--auth-mode",
            "token",
            "--auth-token-env",
            "UNSET",
        ],
    ),
    ("gate serve without a policy", &["gate", "serve"]),
    (
        "gate serve on a port without a token",
        &[
            "gate",
            "serve",
            "--policy",
            "policy.yaml",
            "--listen",
            "127.0.0.1:0",
        ],
    ),
    (
        "gate serve with a broken policy",
        &["gate", "serve", "--policy", "file"],
    ),
    ("trace without a program", &["trace"]),
    ("test with a program in the wrong place", &["test", "true"]),
    (
        "enforce without a program",
        &["enforce", "--cwd", ".", "--"],
    ),
    (
        "init with another template",
        &["init", "--template", "none"],
    ),
    ("init where a file is", &["init", "--out", "file"]),
    ("check without a policy", &["check", "--policy", ""]),
    ("check of another file", &["check", "--policy", "file"]),
];

/// The same, as lines of words.
const LINES: &[(&str, &str)] = &[
    (
        "approve without a digest",
        "approve --approver boss --reason-code ok --ttl 1h --scope *",
    ),
    (
        "approve without a span",
        "approve --intent-digest 1 --policy-digest 1 --approver boss --reason-code ok --scope *",
    ),
    (
        "approve-script of no script",
        "approve-script --policy policy.yaml --intent intent.json --registry scripts.json --approver boss",
    ),
    ("list-scripts without a registry", "list-scripts"),
    (
        "list-scripts of another file",
        "list-scripts --registry file",
    ),
    (
        "delegate mint without a delegate",
        "delegate mint --delegator boss",
    ),
    (
        "delegate verify of another file",
        "delegate verify --token file --delegator a --delegate b --public-key-env PUBLIC",
    ),
    ("demo in two ways", "demo --durable --policy"),
    ("doctor with a stray argument", "doctor stray"),
    (
        "gate eval without an intent",
        "gate eval --policy policy.yaml",
    ),
    (
        "gate eval with an intent of another time",
        "gate eval --policy policy.yaml --intent yesterday.json",
    ),
    (
        "gate eval with an intent of another type",
        "gate eval --policy policy.yaml --intent number.json",
    ),
    (
        "gate eval with a secret in the intent",
        "gate eval --policy policy.yaml --intent secret.json",
    ),
    (
        "gate eval with another file for a policy",
        "gate eval --policy file --intent intent.json",
    ),
    (
        "gate eval with another file for a token",
        "gate eval --policy policy.yaml --intent intent.json --approval-token file",
    ),
    (
        "gate eval with another file for an envelope",
        "gate eval --policy policy.yaml --intent intent.json --context-envelope file",
    ),
    (
        "gate eval with text for a key",
        "gate eval --policy policy.yaml --intent intent.json --approval-public-key file",
    ),
    (
        "gate eval with an inventory of another type",
        "gate eval --policy policy.yaml --intent high.json --wrkr-inventory inventory.json",
    ),
    (
        "gate eval with counters that are none",
        "gate eval --policy limited.yaml --intent intent.json --rate-limit-state file",
    ),
    (
        "gate eval in dev mode with a key",
        "gate eval --policy policy.yaml --intent intent.json --private-key file",
    ),
    (
        "gate eval in an unknown profile",
        "gate eval --policy policy.yaml --intent intent.json --profile fast",
    ),
    ("guard pack without a run", "guard pack"),
    ("guard pack of another file", "guard pack --run ./file"),
    ("guard verify of another file", "guard verify file"),
    (
        "guard retain with a negative span",
        "guard retain --trace-ttl -1h",
    ),
    (
        "guard encrypt without a key",
        "guard encrypt --in file --out sealed",
    ),
    (
        "guard decrypt of another file",
        "guard decrypt --in file --out opened --key-env SEAL",
    ),
    ("incident pack without a run", "incident pack"),
    ("hook without a policy", "hook"),
    ("job submit without an id", "job submit"),
    (
        "job submit of another policy",
        "job submit --id j1 --policy file",
    ),
    ("job status of no job", "job status --id none"),
    ("job inspect of no job", "job inspect --id none"),
    (
        "job checkpoint add to no job",
        "job checkpoint add --id none --summary s",
    ),
    (
        "job checkpoint list of no job",
        "job checkpoint list --id none",
    ),
    (
        "job checkpoint show of no job",
        "job checkpoint show --id none --checkpoint c",
    ),
    ("job pause of no job", "job pause --id none"),
    ("job stop of no job", "job stop --id none"),
    (
        "job approve of no job",
        "job approve --id none --actor boss",
    ),
    ("job resume of no job", "job resume --id none --actor boss"),
    ("job cancel of a name that climbs", "job cancel --id ../j"),
    ("kill-switch add without a selector", "kill-switch add"),
    (
        "kill-switch list of another file",
        "kill-switch list --state file",
    ),
    (
        "kill-switch disable of no entry",
        "kill-switch disable --entry-id none",
    ),
    ("kill-switch expire without an entry", "kill-switch expire"),
    ("pack build without a source", "pack build"),
    (
        "pack build of another file",
        "pack build --type call --from file",
    ),
    ("pack verify of another file", "pack verify file"),
    ("pack inspect of a missing file", "pack inspect none.zip"),
    ("pack diff of one pack", "pack diff file"),
    ("pack export without a place", "pack export --path file"),
    ("policy init with another template", "policy init none"),
    (
        "policy validate of an unknown key",
        "policy validate typo.yaml",
    ),
    ("policy fmt of another file", "policy fmt file"),
    (
        "policy simulate without a baseline",
        "policy simulate --policy policy.yaml",
    ),
    (
        "policy test with another file for an intent",
        "policy test policy.yaml file",
    ),
    ("regress init without a source", "regress init"),
    ("regress add of another file", "regress add --from ./file"),
    ("regress run with another file", "regress run --config file"),
    (
        "regress run with a list of another type",
        "regress run --config fixtures.json",
    ),
    (
        "regress bootstrap of no run",
        "regress bootstrap --from none",
    ),
    ("run record without an input", "run record"),
    ("run record of another file", "run record --input file"),
    ("run replay of no run", "run replay none"),
    ("run replay of another file", "run replay ./file"),
    (
        "run replay of tools without the interlocks",
        "run replay run_demo --real-tools",
    ),
    (
        "run reduce without a predicate",
        "run reduce --from run_demo",
    ),
    ("run diff of one run", "run diff run_demo"),
    ("run inspect without a run", "run inspect"),
    ("run receipt of no run", "run receipt --from none"),
    (
        "run session start without a journal",
        "run session start --session-id s",
    ),
    (
        "run session append to another file",
        "run session append --journal journal --tool t --verdict allow",
    ),
    (
        "run session status of another file",
        "run session status --journal journal",
    ),
    (
        "run session checkpoint without an output",
        "run session checkpoint --journal journal",
    ),
    (
        "run session compact of a missing journal",
        "run session compact --journal none.jsonl",
    ),
    (
        "session close of a missing session",
        "session close --session none",
    ),
    (
        "session verify without a key",
        "session verify --session file",
    ),
    ("trace verify without a key", "trace verify file"),
    (
        "trace verify of another file",
        "trace verify file --public-key-env PUBLIC",
    ),
    ("enforce in a missing folder", "enforce --cwd nope -- true"),
    ("verify without a path", "verify"),
    ("verify of another file", "verify ./file"),
    ("verify of no run", "verify none"),
    (
        "verify strictly without a key",
        "verify run_demo --profile strict",
    ),
    ("verify chain without a run", "verify chain"),
    (
        "verify session-chain of another file",
        "verify session-chain file",
    ),
];

/// A folder with a file of everything that the failures need.
fn place() -> Gait {
    let gait = Gait::new()
        .env("PUBLIC", "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
        .env("SEAL", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    let context = r#""context": {"identity": "a", "workspace": "/w", "risk_class": "low"}"#;
    let intent = |members: &str| format!(r#"{{"tool_name": "t", "args": {{}}, {members}}}"#);
    for (name, text) in [
        ("file", "something else\n".to_owned()),
        ("policy.yaml", "default_verdict: allow\n".to_owned()),
        ("typo.yaml", "default_verdct: allow\n".to_owned()),
        (
            "limited.yaml",
            "rules:\n  - {name: r, effect: allow, rate_limit: {requests: 1, window: hour, scope: tool}}\n".to_owned(),
        ),
        ("call.json", r#"{"name": "tool.read"}"#.to_owned()),
        ("intent.json", intent(context)),
        ("high.json", intent(&context.replace("low", "high"))),
        ("yesterday.json", intent(&format!(r#"{context}, "created_at": "yesterday""#))),
        ("number.json", intent(&context.replace("\"a\"", "7"))),
        ("secret.json", intent(context).replace("{}", r#"{"token": "ghp_planted"}"#)),
        ("inventory.json", r#"[{"tool_name": 7}]"#.to_owned()),
        ("fixtures.json", r#"{"fixtures": [{"name": 7}]}"#.to_owned()),
        ("journal", "{}\n".to_owned()),
        ("taken/p_private.key", String::new()),
        ("open.key", "secret".to_owned()),
    ] {
        gait.file(name, text);
    }
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(gait.path().join("open.key"), open).unwrap();
    assert_eq!(gait.run(&["demo"]).code, 0);
    gait
}

/// Every failure by its name, with its words.
fn failures() -> Vec<(&'static str, Vec<&'static str>)> {
    let listed = FAILURES.iter().map(|(name, args)| (*name, args.to_vec()));
    let lines = LINES
        .iter()
        .map(|(name, line)| (*name, line.split_whitespace().collect()));
    listed.chain(lines).collect()
}

#[test]
fn the_failures_are_those_of_the_golden_file() {
    let gait = place();
    let mut text = String::new();
    for (name, args) in failures() {
        let run = failure(&gait, &args);
        let json = run.json();
        if args != ["hook"] {
            assert_eq!(json["ok"], false, "{name}");
            assert!(json["error_code"].is_string() || run.code == 2, "{name}");
        }
        let id = json["correlation_id"].as_str().unwrap();
        let line = run.stdout.replace(id, "<id>");
        write!(text, "# {name}: exit {}\n{line}", run.code).unwrap();
    }
    compare(&text, "failures");
}

/// Every command by its words, as the program itself lists them.
fn commands(gait: &Gait) -> Vec<String> {
    let listed = gait.run(&["help"]).stdout;
    let lines = listed
        .lines()
        .filter_map(|line| line.strip_prefix("  gait "));
    lines
        .map(|line| line.split("  ").next().unwrap().trim().to_owned())
        .collect()
}

#[test]
fn no_command_is_without_a_failure() {
    let failures = failures();
    let fails = |command: &String| {
        let words: Vec<&str> = command.split(' ').collect();
        failures.iter().any(|(_, args)| args.starts_with(&words))
    };
    let commands = commands(&Gait::new());
    assert!(commands.len() > 70, "{commands:?}");
    let without: Vec<_> = commands.iter().filter(|command| !fails(command)).collect();
    assert!(without.is_empty(), "{without:?}");
}

#[test]
fn what_every_command_says_of_itself_is_that_of_the_golden_file() {
    let gait = Gait::new();
    let mut text = String::new();
    for command in commands(&gait) {
        let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let run = gait.run(&words);
        assert_eq!(run.code, 0, "{command}");
        write!(text, "# gait {command}\n{}", run.stdout).unwrap();
    }
    compare(&text, "help");
}

/// Which file and which member is wrong, without its value.
#[test]
fn a_message_names_the_file_and_the_member_that_is_wrong() {
    let gait = place();
    for (line, named) in [
        (
            "gate eval --policy policy.yaml --intent yesterday.json",
            ["yesterday.json", "created_at"],
        ),
        (
            "gate eval --policy policy.yaml --intent number.json",
            ["number.json", "context.identity"],
        ),
        (
            "policy test policy.yaml number.json",
            ["number.json", "context.identity"],
        ),
        ("policy validate typo.yaml", ["typo.yaml", "default_verdct"]),
        (
            "gate eval --policy typo.yaml --intent intent.json",
            ["typo.yaml", "default_verdct"],
        ),
        (
            "gate eval --policy policy.yaml --intent intent.json --approval-token file",
            ["file", "approval token"],
        ),
        (
            "gate eval --policy policy.yaml --intent intent.json --context-envelope file",
            ["file", "context envelope"],
        ),
        (
            "gate eval --policy policy.yaml --intent intent.json --approval-public-key file",
            ["file", "--approval-public-key"],
        ),
        (
            "gate eval --policy policy.yaml --intent intent.json --delegation-public-key file",
            ["file", "--delegation-public-key"],
        ),
        (
            "gate eval --policy policy.yaml --intent high.json --wrkr-inventory inventory.json",
            ["inventory.json", "[0].tool_name"],
        ),
        (
            "mcp proxy --policy policy.yaml --call file",
            ["file", "tool call"],
        ),
        (
            "mcp verify --policy policy.yaml --server file",
            ["file", "server"],
        ),
        (
            "run session status --journal journal",
            ["journal", "line 1"],
        ),
        ("run record --input file", ["file", "input"]),
        ("pack verify ./file", ["./file", "zip"]),
        ("policy fmt file", ["file", "policy yaml"]),
        (
            "guard decrypt --in file --out opened --key-env SEAL",
            ["file", "encrypted artifact"],
        ),
        (
            "regress run --config fixtures.json",
            ["fixtures.json", "fixtures[0].name"],
        ),
        (
            "registry verify --path file --public-key-env PUBLIC",
            ["file", "manifest"],
        ),
        ("doctor adoption --from file", ["file", "line 1"]),
        ("enforce --cwd nope -- true", ["nope", "--cwd"]),
    ] {
        let args: Vec<&str> = line.split_whitespace().collect();
        let told = failure(&gait, &args).json()["error"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(
            named.iter().all(|named| told.contains(named)),
            "{line}: {told}"
        );
    }
    let low = "gate eval --policy policy.yaml --intent intent.json --wrkr-inventory inventory.json --json";
    let args: Vec<&str> = low.split_whitespace().collect();
    let warnings = gait.run(&args).json()["warnings"].to_string();
    assert!(warnings.contains("inventory.json"), "{warnings}");
    assert_eq!(gait.json(&["policy", "test", "", "intent.json"]).0, 6);
}

#[test]
fn a_word_that_is_no_command_is_named_unless_it_could_be_a_secret() {
    let gait = Gait::new();
    for (args, shown) in [
        (
            &["gate", "evil"][..],
            "Error: unknown command: gait gate evil\n",
        ),
        (&["evil"], "Error: unknown command: gait evil\n"),
        (&["ghp_Planted7"], "Error: unknown command: gait ...\n"),
        (&["gate"], "usage:\n"),
        (&["gate", "--json"], "usage:\n"),
    ] {
        let run = gait.run(args);
        assert_eq!(run.code, 6, "{args:?}");
        assert!(run.stdout.starts_with(shown), "{args:?}: {}", run.stdout);
    }
}

/// A command with `--` takes `--json` before that.
fn failure(gait: &Gait, args: &[&str]) -> support::Run {
    let dashes = args.iter().position(|word| *word == "--");
    let (own, behind) = args.split_at(dashes.unwrap_or(args.len()));
    gait.run(&[own, &["--json"], behind].concat())
}

fn compare(text: &str, name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/{name}.golden"));
    if std::env::var_os("GAIT_UPDATE_GOLDEN").is_some() {
        worldcompute_durable::write_atomic(
            &path,
            text.as_bytes(),
            worldcompute_durable::Mode::Public,
        )
        .unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    for (is, was) in text.lines().zip(golden.lines()) {
        assert_eq!(is, was);
    }
    assert_eq!(text.lines().count(), golden.lines().count());
}
