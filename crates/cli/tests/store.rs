//! The operator's side of the encrypted store: what is made, what is told when something is wrong, and what is asked
//! before anything is destroyed.

#![expect(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail the test, and broken files are written on purpose"
)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use serde_json::{Value, json};
use support::{Daemon, example, run, text, worldcompute};

/// What the table of a home is called.
const TABLE: &str = "blue-encrypted-store";
const QUESTION: &str = "Local encryption key changed. Reset database? [y/N] ";

/// A home with a store in it.
struct World {
    root: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self::bare();
        assert!(world.run(&["store", "init"]).status.success());
        world
    }

    fn bare() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
        }
    }

    fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    fn database(&self) -> PathBuf {
        self.home().join("store/worldcompute.db")
    }

    fn key(&self) -> PathBuf {
        self.home().join("keys/umk.key")
    }

    fn bundle(&self, name: &str) -> String {
        let path = self.root.path().join(format!("{name}.bundle"));
        path.display().to_string()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        run(&self.home(), arguments)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        self.masked(support::json(&self.home(), arguments))
    }

    /// What the program says of a failure, with its exit status.
    fn fault(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        // What is logged of it comes first.
        let said = text(&output.stderr);
        serde_json::from_str(said.lines().next_back().unwrap()).unwrap()
    }

    /// Runs a job, so that there is something in the store.
    fn used(&self) {
        let ran = self.run(&["job", "run", &example("hello/hello.wat")]);
        assert_eq!(text(&ran.stdout), "hello\n", "{}", text(&ran.stderr));
    }

    /// With what differs from run to run taken out.
    fn masked(&self, mut value: Value) -> Value {
        let home = self.home().display().to_string();
        for member in value.as_object_mut().unwrap().values_mut() {
            if let Some(said) = member.as_str() {
                let is_id = said.len() == 32 && said.bytes().all(|b| b.is_ascii_hexdigit());
                *member = match is_id {
                    true => json!("[id]"),
                    false => json!(said.replace(&home, "[home]")),
                };
            }
        }
        value
    }

    /// Has a person at a terminal answer a question with `answer`: what was seen there, and the exit status. `None`
    /// without script(1).
    fn dialogue(&self, arguments: &[&str], answer: &str) -> Option<(String, Option<i32>)> {
        let mut terminal = self.terminal("", arguments)?;
        if terminal.shows("? [y/N] ") {
            terminal.types(answer);
        }
        Some(terminal.end())
    }

    /// A terminal in which a shell does `before`, then the program runs. `None` without script(1).
    fn terminal(&self, before: &str, arguments: &[&str]) -> Option<Terminal> {
        let command = worldcompute(&self.home());
        let program = command.get_program().to_str().unwrap();
        let line = format!("{before} exec {program} {}", arguments.join(" "));
        let mut terminal = Command::new("script");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => terminal.env(name, value),
                None => terminal.env_remove(name),
            };
        }
        let record = self.root.path().join("typescript");
        let started = terminal
            .args(["--quiet", "--return", "--command", &line])
            .arg(record)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(script) = started else {
            println!("skipped: there is no program script to make a terminal");
            return None;
        };
        Some(Terminal::of(script))
    }
}

/// A terminal with a program in it.
struct Terminal {
    script: Child,
    keyboard: ChildStdin,
    screen: Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl Terminal {
    fn of(mut script: Child) -> Self {
        let keyboard = script.stdin.take().unwrap();
        let mut output = script.stdout.take().unwrap();
        let (shown, screen) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                if shown.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        let seen = Vec::new();
        Self {
            script,
            keyboard,
            screen,
            seen,
        }
    }

    /// Whether `what` comes to be seen before the program ends.
    fn shows(&mut self, what: &str) -> bool {
        while !text(&self.seen).contains(what) {
            if !self.looks() {
                return false;
            }
        }
        true
    }

    /// Takes in more of the screen; false when the program has ended.
    fn looks(&mut self) -> bool {
        match self.screen.recv_timeout(support::PATIENCE) {
            Ok(more) => self.seen.extend(more),
            Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => {
                self.script.kill().unwrap();
                panic!("it hangs after: {}", text(&self.seen));
            }
        }
        true
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// All that was seen, and the exit status.
    fn end(mut self) -> (String, Option<i32>) {
        while self.looks() {}
        let status = self.script.wait().unwrap();
        (text(&self.seen).replace('\r', ""), status.code())
    }
}

fn put(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Which store there is, and how many sound partitions and records are in it: bytes of the file say less, for whoever opens
/// it next moves into it what the last one left beside it.
fn holds(world: &World) -> [Value; 4] {
    let verified = support::json(&world.home(), &["store", "verify"]);
    ["store_id", "ok", "partitions", "records"].map(|name| verified[name].clone())
}

/// Every file below a directory, with its content.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    found.sort();
    found
}

#[test]
fn a_store_is_made_once_and_told_as_it_is() {
    let world = World::bare();
    let absent = json!({
        "state": "absent", "backend": "embedded", "at": "[home]/store/worldcompute.db",
        "table": "blue-encrypted-store", "keys": "file", "key": "[home]/keys/umk.key",
    });
    assert_eq!(world.json(&["store", "status"]), absent);
    assert!(!world.home().exists(), "a question makes no home");
    let made = |created| {
        json!({
            "store_id": "[id]", "created": created, "backend": "embedded",
            "at": "[home]/store/worldcompute.db", "table": "blue-encrypted-store",
            "keys": "file", "key": "[home]/keys/umk.key",
        })
    };
    assert_eq!(world.json(&["store", "init"]), made(true));
    assert_eq!(world.json(&["store", "init"]), made(false));
    assert_eq!(world.json(&["store", "setup-tables"]), made(false));
    let mut ready = world.json(&["store", "status"]);
    for count in ["bytes", "audit_events"] {
        assert!(ready[count].take().as_u64() > Some(0), "{count}");
    }
    assert_eq!(
        ready,
        json!({
            "state": "ready", "store_id": "[id]", "backend": "embedded",
            "at": "[home]/store/worldcompute.db", "table": "blue-encrypted-store",
            "keys": "file", "key": "[home]/keys/umk.key", "bytes": null, "audit_events": null,
        })
    );
    for file in [world.database(), world.key()] {
        assert_eq!(
            fs::metadata(file).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}

#[test]
fn a_sound_store_is_called_sound_and_its_record_whole() {
    let world = World::new();
    world.used();
    let mut verified = world.json(&["store", "verify"]);
    assert!(verified["records"].take().as_u64() > Some(0));
    assert!(verified["partitions"].take().as_u64() > Some(0));
    assert_eq!(
        verified["audit"].take()["lanes"].as_array().unwrap().len(),
        8
    );
    assert_eq!(
        verified,
        json!({
            "ok": true, "anchored": true, "store_id": "[id]", "partitions": null, "records": null, "found": 0,
            "findings": [], "left": 0, "leftovers": [], "audit": null,
        })
    );
    let mut chains = world.json(&["store", "verify-chain"]);
    assert!(chains["events"].take().as_u64() > Some(0));
    let lanes = chains["lanes"].take();
    assert_eq!(
        chains,
        json!({ "ok": true, "anchored": true, "store_id": "[id]", "events": null, "lanes": null })
    );
    for (number, lane) in lanes.as_array().unwrap().iter().enumerate() {
        assert_eq!(lane["lane"], number);
        assert_eq!(lane["broken"], Value::Null);
    }
    let words = world.run(&["store", "verify"]);
    assert!(text(&words.stdout).starts_with("sound: "));
    assert_eq!(text(&words.stderr), "", "a pipe sees no progress");
}

#[test]
fn a_byte_that_is_changed_in_the_file_is_named_by_its_item() {
    let world = World::new();
    world.used();
    let mut bytes = fs::read(world.database()).unwrap();
    let needle = br#""aad_hash":{"S":""#;
    let at = bytes
        .windows(needle.len())
        .rposition(|window| window == needle)
        .unwrap();
    let digit = &mut bytes[at + needle.len()];
    *digit = if *digit == b'0' { b'1' } else { b'0' };
    put(&world.database(), &bytes);
    let output = world.run(&["store", "verify", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["ok"], &report["found"]),
        (&json!(false), &json!(1)),
        "{report}"
    );
    let finding = &report["findings"][0];
    assert_eq!(finding["problem"], "tampered");
    assert_eq!(finding["code"], "seal_mismatch");
    let fault: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(fault["error_code"], "store_unsound");
    let words = text(&world.run(&["store", "verify"]).stdout);
    for part in ["partition", "item"] {
        let name = finding[part].as_str().unwrap();
        assert!(words.contains(name), "{name} is not in {words}");
    }
}

#[test]
fn a_home_that_a_daemon_has_is_left_to_it_and_the_operator_told_so() {
    let world = World::new();
    let daemon = Daemon::start(
        &world.home(),
        &["donor", "join", "--no-mdns", "--port", "0"],
    );
    assert_eq!(world.json(&["store", "status"])["state"], "in_use");
    for command in ["init", "setup-tables", "verify", "verify-chain"] {
        let fault = world.fault(&["store", command]);
        assert_eq!(fault["error_code"], "state_contention", "{command}");
        assert!(
            fault["hint"].as_str().unwrap().contains("donor leave"),
            "{fault}"
        );
    }
    assert!(daemon.stop());
    assert_eq!(world.json(&["store", "verify"])["ok"], true);
}

#[test]
fn where_there_is_no_store_nothing_is_verified_and_nothing_made() {
    let world = World::bare();
    for command in ["verify", "verify-chain"] {
        assert_eq!(
            world.fault(&["store", command])["error_code"],
            "store_not_set_up"
        );
    }
    assert!(!world.home().exists());
    support::json(&world.home(), &["donor", "enroll"]);
    for command in ["verify", "verify-chain"] {
        assert_eq!(
            world.fault(&["store", command])["error_code"],
            "store_not_set_up"
        );
    }
    assert_eq!(world.json(&["store", "status"])["state"], "absent");
    assert!(!world.database().exists() && !world.key().exists());
}

#[test]
fn a_lost_or_changed_key_destroys_nothing_unless_a_person_says_yes() {
    let world = World::new();
    world.used();
    let key = fs::read(world.key()).unwrap();
    let before = holds(&world);
    for (wrong, code) in [
        (Some([7; 32]), "encryption_key_changed"),
        (None, "encryption_key_missing"),
    ] {
        match wrong {
            Some(wrong) => put(&world.key(), &wrong),
            None => fs::remove_file(world.key()).unwrap(),
        }
        for arguments in [
            &["store", "init"][..],
            &["store", "verify"],
            &["store", "status"],
            &["store", "setup-tables"],
            &["donor", "join", "--no-mdns", "--port", "0"],
            &["job", "run", &example("hello/hello.wat")],
        ] {
            assert_eq!(world.fault(arguments)["error_code"], code, "{arguments:?}");
        }
        for no in ["n\n", "\n", "maybe\n"] {
            let Some((screen, status)) = world.dialogue(&["store", "init"], no) else {
                return;
            };
            assert!(screen.contains(QUESTION), "{screen}");
            assert!(screen.contains("from a backup"), "{screen}");
            assert_eq!(status, Some(1), "{screen}");
        }
    }
    put(&world.key(), &key);
    assert_eq!(holds(&world), before);
}

#[test]
fn yes_gives_a_new_database_a_new_key_and_keeps_the_one_that_was_there() {
    let world = World::new();
    world.used();
    let old = support::json(&world.home(), &["store", "status"])["store_id"].clone();
    put(&world.key(), &[7; 32]);
    let Some((screen, status)) = world.dialogue(&["store", "init"], "y\n") else {
        return;
    };
    assert_eq!(status, Some(0), "{screen}");
    assert!(screen.contains(QUESTION), "{screen}");
    assert!(screen.contains(" made\n"), "{screen}");
    let new = support::json(&world.home(), &["store", "status"])["store_id"].clone();
    assert_ne!(old, new);
    let keys = files(&world.home().join("keys"));
    assert_eq!(keys.len(), 2, "{keys:?}");
    assert!(
        keys.iter()
            .any(|(path, bytes)| *path != world.key() && bytes == &[7; 32])
    );
    assert_ne!(fs::read(world.key()).unwrap(), [7; 32]);
    world.used();
    assert_eq!(world.json(&["store", "verify"])["ok"], true);
}

#[test]
fn what_was_typed_before_the_question_is_no_answer_to_it() {
    let world = World::new();
    let (key, before) = (fs::read(world.key()).unwrap(), holds(&world));
    put(&world.key(), &[7; 32]);
    let Some(mut terminal) = world.terminal("echo first; read first;", &["store", "init"]) else {
        return;
    };
    assert!(terminal.shows("first"));
    terminal.types("first\ny\n");
    assert!(terminal.shows(QUESTION));
    terminal.types("n\n");
    let (screen, status) = terminal.end();
    assert_eq!(status, Some(1), "{screen}");
    put(&world.key(), &key);
    assert_eq!(holds(&world), before);
}

#[test]
fn a_question_keeps_nobody_from_ending_the_program() {
    let world = World::new();
    put(&world.key(), &[7; 32]);
    let pid = world.root.path().join("pid");
    let note = format!("echo $$ > {};", pid.display());
    for arguments in [
        &["store", "init"][..],
        &["donor", "join", "--no-mdns", "--port", "0"],
    ] {
        let Some(mut terminal) = world.terminal(&note, arguments) else {
            return;
        };
        assert!(terminal.shows(QUESTION));
        let pid = fs::read_to_string(&pid).unwrap();
        let told = Command::new("kill").args(["-TERM", pid.trim()]).status();
        assert!(told.unwrap().success());
        let (screen, status) = terminal.end();
        assert_eq!(status, Some(1), "{screen}");
        assert!(screen.contains("interrupted"), "{screen}");
    }
}

#[test]
fn tampering_never_offers_a_reset() {
    let world = World::new();
    let mut bytes = fs::read(world.database()).unwrap();
    let needle = br#""tenant":{"S":"local""#;
    let at = bytes
        .windows(needle.len())
        .position(|window| window == needle)
        .unwrap();
    bytes[at + needle.len() - 2] = b'k';
    put(&world.database(), &bytes);
    let Some((screen, status)) = world.dialogue(&["store", "init"], "y\n") else {
        return;
    };
    assert_eq!(status, Some(1));
    assert!(!screen.contains(QUESTION), "{screen}");
    assert_eq!(
        world.fault(&["store", "init"])["error_code"],
        "seal_mismatch"
    );
    assert_eq!(fs::read(world.database()).unwrap(), bytes);
}

#[test]
fn without_the_anchor_nobody_is_offered_a_reset_for_a_key_that_does_not_fit() {
    let world = World::new();
    let key = fs::read(world.key()).unwrap();
    let before = holds(&world);
    put(&world.key(), &[7; 32]);
    let anchor = world.home().join("store/worldcompute.db.anchor");
    let remembered = fs::read(&anchor).unwrap();
    fs::remove_file(&anchor).unwrap();
    let fault = world.fault(&["store", "init"]);
    assert_eq!(fault["error_code"], "encryption_key_unconfirmed");
    if let Some((screen, status)) = world.dialogue(&["store", "init"], "y\n") {
        assert_eq!(status, Some(1));
        assert!(!screen.contains(QUESTION), "{screen}");
    }
    put(&world.key(), &key);
    put(&anchor, &remembered);
    assert_eq!(holds(&world), before);
}

#[test]
fn a_store_that_has_to_be_there_is_never_made_instead() {
    let world = World::bare();
    for command in ["init", "setup-tables"] {
        let output = worldcompute(&world.home())
            .args(["store", command, "--json"])
            .env("BLUE_STORE_ID", "deadbeef")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{command}");
        let said = text(&output.stderr);
        assert!(said.contains("another_store"), "{command}: {said}");
        assert!(!world.database().exists() && !world.key().exists());
    }
}

#[test]
fn a_store_that_was_put_back_as_it_was_is_walked_through_and_named() {
    let world = World::new();
    let store = world.home().join("store");
    let earlier: Vec<_> = files(&store).into_iter().filter(of_the_table).collect();
    world.used();
    for (path, _) in files(&store).into_iter().filter(of_the_table) {
        fs::remove_file(path).unwrap();
    }
    for (path, bytes) in &earlier {
        put(path, bytes);
    }
    let output = world.run(&["store", "verify", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], false);
    let lanes = report["audit"]["lanes"].as_array().unwrap();
    assert!(
        lanes.iter().any(|lane| !lane["broken"].is_null()),
        "{report}"
    );
    let said = text(&output.stderr);
    let fault: Value = serde_json::from_str(said.lines().next_back().unwrap()).unwrap();
    assert_eq!(fault["error_code"], "store_unsound");
    let words = world.run(&["store", "verify"]);
    assert!(text(&words.stdout).starts_with("NOT SOUND"));
    let status = world.run(&["store", "status", "--json"]);
    let told: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(told["store_id"], report["store_id"]);
    assert_eq!(status.status.code(), Some(1));
    assert!(text(&status.stderr).contains("audit_chain_broken"));
}

#[test]
fn what_nothing_outside_of_the_table_knows_is_said_and_no_verification_pins_it() {
    let world = World::new();
    let store = world.home().join("store");
    let anchor = store.join("worldcompute.db.anchor");
    let earlier: Vec<_> = files(&store).into_iter().filter(of_the_table).collect();
    world.used();
    let looks: [&[&str]; 3] = [
        &["store", "verify"],
        &["store", "verify-chain"],
        &["store", "status"],
    ];
    let known = fs::read(&anchor).unwrap();
    for look in looks {
        assert_ne!(world.json(look)["anchored"], false, "{look:?}");
    }
    assert_eq!(
        fs::read(&anchor).unwrap(),
        known,
        "who looks leaves it as it is"
    );
    for (path, _) in files(&store).into_iter().filter(of_the_table) {
        fs::remove_file(path).unwrap();
    }
    for (path, bytes) in &earlier {
        put(path, bytes);
    }
    fs::remove_file(&anchor).unwrap();
    for look in looks {
        let told = world.json(look);
        assert_ne!(told["anchored"], true, "{look:?}");
        assert!(!anchor.exists(), "{look:?} pins what it saw");
    }
    for look in &looks[..2] {
        assert_eq!(world.json(look)["anchored"], false);
        let words = text(&world.run(look).stdout);
        assert!(words.contains("\nnot anchored: "), "{words}");
    }
    put(&anchor, &known);
    let fault = world.fault(&["store", "verify"]);
    assert_eq!(fault["error_code"], "store_unsound");
}

/// Whether a file holds the table, and not what is remembered of it.
fn of_the_table((path, _): &(PathBuf, Vec<u8>)) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    [
        "worldcompute.db",
        "worldcompute.db-wal",
        "worldcompute.db-shm",
    ]
    .contains(&name)
}

#[test]
fn daemon_and_commands_mean_the_store_that_the_environment_names() {
    let world = World::new();
    let daemon = [
        "donor",
        "join",
        "--no-mdns",
        "--port",
        "0",
        "--end-with-stdin",
    ];
    let commands: [&[&str]; 3] = [&["store", "init"], &["store", "setup-tables"], &daemon];
    let aws = "https://dynamodb.eu-central-1.amazonaws.com";
    for (variables, code) in [
        (&[("BLUE_PROFILE", "prod")][..], "invalid_profile"),
        #[cfg(not(feature = "aws"))]
        (&[("BLUE_PROFILE", "aws")], "backend_not_built"),
        (&[("DYNAMODB_ENDPOINT", "localhost")], "invalid_endpoint"),
        (&[("DYNAMODB_ENDPOINT", aws)], "endpoint_is_aws"),
        (
            &[
                ("BLUE_PROFILE", "aws"),
                ("DYNAMODB_ENDPOINT", "http://127.0.0.1:9"),
            ],
            "endpoint_not_aws",
        ),
        (&[("BLUE_TABLE", "a b")], "invalid_table_name"),
        (&[("BLUE_STORE_ID", "f")], "another_store"),
        #[cfg(not(feature = "aws"))]
        (
            &[("DYNAMODB_ENDPOINT", "http://127.0.0.1:9")],
            "backend_not_built",
        ),
    ] {
        for arguments in commands {
            let output = worldcompute(&world.home())
                .args(arguments)
                .arg("--json")
                .envs(variables.iter().copied())
                .stdin(Stdio::null())
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(1), "{arguments:?} {variables:?}");
            let fault = text(&output.stderr);
            assert!(fault.contains(code), "{arguments:?} {variables:?}: {fault}");
        }
    }
    let fresh = World::bare();
    let named = |world: &World| {
        worldcompute(&world.home())
            .args(["store", "init", "--json"])
            .env("BLUE_TABLE", "another-table")
            .output()
            .unwrap()
    };
    let refused = text(&named(&world).stderr);
    assert!(
        refused.contains("store_elsewhere"),
        "it knows its store: {refused}"
    );
    assert_eq!(world.json(&["store", "verify"])["ok"], true);
    let made: Value = serde_json::from_slice(&named(&fresh).stdout).unwrap();
    assert_eq!(made["table"], "another-table");
}

/// A program of this home with these variables, to its end.
fn with(world: &World, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    worldcompute(&world.home())
        .args(arguments)
        .arg("--json")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn a_home_whose_store_is_elsewhere_gets_no_empty_one_beside_it() {
    let world = World::bare();
    support::json(&world.home(), &["donor", "enroll"]);
    let place = world.home().join("store/place.json");
    let known = r#"{"keys":"file","place":{"backend":"endpoint","table":"mine","url":"http://127.0.0.1:8000"}}"#;
    put(&place, known.as_bytes());
    let hello = example("hello/hello.wat");
    let commands: [&[&str]; 6] = [
        &["store", "init"],
        &["store", "setup-tables"],
        &["store", "status"],
        &["store", "verify"],
        &["donor", "join", "--no-mdns", "--port", "0"],
        &["job", "run", &hello],
    ];
    for arguments in commands {
        let fault = world.fault(arguments);
        assert_eq!(fault["error_code"], "store_elsewhere", "{arguments:?}");
        let hint = fault["hint"].as_str().unwrap();
        let road = "set DYNAMODB_ENDPOINT=http://127.0.0.1:8000, set BLUE_TABLE=mine;";
        assert!(hint.starts_with(road), "{hint}");
        if let Some((screen, status)) = world.dialogue(arguments, "y\n") {
            assert_eq!(status, Some(1));
            assert!(!screen.contains(QUESTION), "{screen}");
        }
    }
    for broken in ["", "{}", &known.replace("endpoint", "nowhere")] {
        put(&place, broken.as_bytes());
        for arguments in commands {
            let fault = world.fault(arguments);
            assert_eq!(fault["error_code"], "place_malformed", "{arguments:?}");
        }
    }
    put(&place, known.as_bytes());
    fs::set_permissions(&place, fs::Permissions::from_mode(0o666)).unwrap();
    let fault = world.fault(&["store", "init"]);
    assert_eq!(fault["error_code"], "insecure_permissions");
    assert!(!world.database().exists() && !world.key().exists());
}

#[test]
fn a_store_is_moved_by_exporting_and_importing_and_the_old_one_stays_with_its_key() {
    let world = World::new();
    world.used();
    let (first, partition) = (holds(&world), job_partition(&world));
    let bundle = world.bundle("moved");
    world.json(&["store", "export", &partition, "--output", &bundle]);
    let second = &[("BLUE_TABLE", "second")];
    let there = |arguments: &[&str]| -> Value {
        let output = with(&world, second, arguments);
        let said = text(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let refused = with(&world, second, &["store", "setup-tables"]);
    assert!(text(&refused.stderr).contains("store_elsewhere"));
    let made = there(&["store", "setup-tables", "--move"]);
    assert_eq!(
        (&made["created"], &made["table"]),
        (&json!(true), &json!("second"))
    );
    assert_ne!(
        made["key"],
        json!(world.key()),
        "a place has a key of its own"
    );
    assert_eq!(made["audit"], "continued");
    let boundaries = |events: &Value, old: &str| {
        let events = events["events"].as_array().unwrap().iter();
        let is = |event: &&Value| {
            let key = event["key_id"].as_str().unwrap();
            event["operation"] == "Boundary" && key.starts_with(&format!("chain#{old}#"))
        };
        events.filter(is).count()
    };
    let (old, new) = (
        first[0].as_str().unwrap(),
        made["store_id"].as_str().unwrap(),
    );
    assert_eq!(boundaries(&there(&["store", "events"]), old), 8);
    let key = world.key().display().to_string();
    there(&["store", "import", &bundle, "--source-key", &key]);
    assert_eq!(there(&["store", "verify"])["ok"], true);
    for arguments in [&["store", "init"][..], &["store", "verify"]] {
        let fault = world.fault(arguments);
        assert_eq!(fault["error_code"], "store_elsewhere", "{arguments:?}");
        assert!(
            fault["hint"]
                .as_str()
                .unwrap()
                .starts_with("set BLUE_TABLE=second;")
        );
    }
    let back = world.json(&["store", "setup-tables", "--move"]);
    assert_eq!(
        (&back["created"], &back["audit"]),
        (&json!(false), &json!("continued"))
    );
    // The beginning of the other store, and its end since.
    let events = support::json(&world.home(), &["store", "events"]);
    assert_eq!(boundaries(&events, new), 16);
    assert_eq!(holds(&world), first);
    let left = with(&world, second, &["store", "verify"]);
    assert!(text(&left.stderr).contains("store_elsewhere"));
}

#[test]
fn a_move_from_a_store_that_does_not_open_any_more_says_that_the_audit_does_not_go_on() {
    let world = World::new();
    let aside = world.key().with_extension("aside");
    fs::rename(world.key(), &aside).unwrap();
    let there = |arguments: &[&str]| -> Value {
        let output = with(&world, &[("BLUE_TABLE", "second")], arguments);
        let said = text(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let made = there(&["store", "setup-tables", "--move"]);
    assert_eq!(made["created"], true);
    assert_eq!(made["audit"], "encryption_key_missing");
    // Until it can be made up for; whatever happens in between.
    assert_eq!(there(&["store", "status"])["state"], "ready");
    let again = there(&["store", "setup-tables"]);
    assert_eq!(again["audit"], "encryption_key_missing");
    fs::rename(&aside, world.key()).unwrap();
    assert_eq!(there(&["store", "setup-tables"])["audit"], "continued");
    let events = there(&["store", "events"]);
    let events = events["events"].as_array().unwrap().iter();
    assert_eq!(
        events
            .filter(|event| event["operation"] == "Boundary")
            .count(),
        8
    );
    assert_eq!(there(&["store", "setup-tables"])["audit"], Value::Null);
}

#[test]
fn the_record_of_the_keys_tells_who_used_them_and_nothing_that_is_secret() {
    let world = World::bare();
    let variables = [("BLUE_TENANT", "acme"), ("BLUE_USER", "anna")];
    let own = |arguments: &[&str]| -> Value {
        let output = with(&world, &variables, arguments);
        let said = text(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    own(&["store", "init"]);
    let job = ["job", "run", &example("hello/hello.wat")];
    assert!(with(&world, &variables, &job).status.success());
    let told = own(&["store", "events"]);
    let events = told["events"].as_array().unwrap();
    let by = |who: &str, what: &str| {
        let is = |event: &&Value| {
            let principal = event["principal"].as_str().unwrap();
            principal.starts_with(&format!("acme/anna/{who}")) && event["operation"] == what
        };
        events.iter().filter(is).count()
    };
    assert!(
        by("daemon", "Encrypt") > 0 && by("cli-", "KcvCheck") > 0,
        "{told}"
    );
    assert!(!told.to_string().contains("hello"), "no content");
    let lane = events.iter().find(|event| event["seq"] == 2).unwrap()["lane"].clone();
    let behind = own(&[
        "store",
        "events",
        "--lane",
        &lane.to_string(),
        "--after",
        "1",
    ]);
    for event in behind["events"].as_array().unwrap() {
        assert!(event["lane"] == lane && event["seq"].as_u64() > Some(1));
    }
    assert_eq!(behind["events"][0]["seq"], 2);
    // Another user's store is none of this one's.
    assert_eq!(world.run(&["store", "status"]).status.code(), Some(1));
}

#[test]
fn of_a_broken_lane_the_events_before_the_break_are_told_and_of_the_others_all() {
    let world = World::new();
    world.used();
    let listed = world.run(&["store", "events", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let of_lane = |listed: &Value, lane: u64| {
        let events = listed["events"].as_array().unwrap().iter();
        let events = events.filter(|event| event["lane"] == lane);
        let numbers = events.map(|event| event["seq"].as_u64().unwrap());
        numbers.collect::<Vec<_>>()
    };
    let lanes: Vec<u64> = (0..8)
        .filter(|lane| of_lane(&listed, *lane).len() > 2)
        .collect();
    let (first, last) = (lanes[0], *lanes.last().unwrap());
    assert!(first < last, "{lanes:?}");
    edit_event(&world, first, 3);
    let output = world.run(&["store", "events", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(of_lane(&told, first), [1, 2]);
    assert!(of_lane(&told, last).starts_with(&of_lane(&listed, last)));
    assert_eq!(told["broken"][0]["lane"], first);
    let said = text(&output.stderr);
    let fault: Value = serde_json::from_str(said.lines().next_back().unwrap()).unwrap();
    assert_eq!(fault["error_code"], "audit_chain_broken");
    let words = text(&world.run(&["store", "events"]).stdout);
    assert!(
        words.contains(&format!("lane {first} is BROKEN")),
        "{words}"
    );
}

/// Gives an event of the audit another principal, in the table.
fn edit_event(world: &World, lane: u64, seq: u64) {
    let engine = dynoxide::Database::new(world.database().to_str().unwrap()).unwrap();
    let scan = dynoxide::actions::scan::ScanRequest {
        table_name: TABLE.to_owned(),
        ..Default::default()
    };
    let rows = engine.scan(scan).unwrap().items.unwrap();
    let string = |text: String| dynoxide::AttributeValue::S(text);
    let is = |row: &&std::collections::HashMap<_, _>| {
        row["pk"] == string(format!("audit#{lane:02}"))
            && matches!(&row["sk"], dynoxide::AttributeValue::S(sk) if sk.ends_with(&format!("{seq:04}")))
    };
    let mut item = rows.iter().find(is).unwrap().clone();
    item.insert("principal".to_owned(), string("nobody".to_owned()));
    let put = dynoxide::actions::put_item::PutItemRequest {
        table_name: TABLE.to_owned(),
        item,
        ..Default::default()
    };
    engine.put_item(put).unwrap();
}

#[test]
fn a_move_that_fails_leaves_the_store_where_it_was() {
    let world = World::new();
    let before = holds(&world);
    let variables = [("BLUE_TABLE", "second"), ("BLUE_STORE_ID", "deadbeef")];
    let failed = with(&world, &variables, &["store", "setup-tables", "--move"]);
    assert!(text(&failed.stderr).contains("another_store"));
    assert_eq!(holds(&world), before);
}

#[test]
fn daemon_and_commands_take_the_key_that_the_environment_names_or_say_why_not() {
    let world = World::bare();
    let daemon = ["donor", "join", "--no-mdns", "--port", "0"];
    let job = ["job", "run", &example("hello/hello.wat")];
    let commands: [&[&str]; 5] = [
        &["store", "init"],
        &["store", "setup-tables"],
        &["store", "status"],
        &daemon,
        &job,
    ];
    let secret = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    for (keys, code) in [
        ("File", "invalid_keys"),
        ("file:/tmp/umk.key", "invalid_keys"),
        ("kms", "invalid_keys"),
        ("tpm2:umk.tpm2", "invalid_keys"),
        (secret, "invalid_keys"),
        #[cfg(not(feature = "aws"))]
        (
            "kms:arn:aws:kms:eu-central-1:123456789012:key/a",
            "keys_not_built",
        ),
        #[cfg(not(feature = "tpm2"))]
        ("tpm2", "keys_not_built"),
        #[cfg(not(feature = "tpm2"))]
        ("tpm2:/keys/umk.tpm2", "keys_not_built"),
    ] {
        for arguments in commands {
            let output = worldcompute(&world.home())
                .args(arguments)
                .arg("--json")
                .env("BLUE_KEYS", keys)
                .stdin(Stdio::null())
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(1), "{arguments:?} {keys}");
            let fault = text(&output.stderr);
            assert!(fault.contains(code), "{arguments:?} {keys}: {fault}");
            assert!(!fault.contains(secret), "{fault}");
            let made = [
                world.home().join("identity.key"),
                world.key(),
                world.database(),
            ];
            assert!(
                !made.iter().any(|file| file.exists()),
                "{arguments:?} {keys}"
            );
        }
    }
    let named = worldcompute(&world.home())
        .args(["store", "init", "--json"])
        .env("BLUE_KEYS", "file")
        .output()
        .unwrap();
    assert!(named.status.success(), "{}", text(&named.stderr));
    assert!(world.key().exists());
}

#[test]
fn a_key_that_no_tpm_keeps_is_not_sealed_and_none_is_made() {
    let world = World::new();
    let copy = world.bundle("copy");
    for arguments in [
        &["store", "seal", "--fresh", &copy][..],
        &["store", "seal", &copy],
        &["store", "reseal"],
    ] {
        let fault = world.fault(arguments);
        assert_eq!(fault["error_code"], "keys_not_sealed", "{arguments:?}");
    }
    assert!(!Path::new(&copy).exists());
    let zeros = "0".repeat(64);
    for wrong in [
        &["--pcr0", &zeros][..],
        &["--pcr7", &zeros],
        &["--pcr0", "00", "--pcr7", &zeros],
        &["--pcr0", &zeros, "--pcr7", "x"],
    ] {
        let output = world.run(&[&["store", "reseal"], wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
    assert_eq!(world.json(&["store", "verify"])["ok"], true);
}

/// The job's partition, as `verify --list` names it.
fn job_partition(world: &World) -> String {
    let listed = support::json(&world.home(), &["store", "verify", "--list"])["listed"].clone();
    let listed = listed.as_array().unwrap().clone();
    let names = listed
        .iter()
        .map(|one| one["partition"].as_str().unwrap().to_owned());
    names
        .into_iter()
        .find(|name| name.starts_with("job#"))
        .unwrap()
}

/// Changes a byte of each record that the job's partition has, in the file.
fn damage(world: &World) {
    let mut bytes = fs::read(world.database()).unwrap();
    let needle = br#""aad_hash":{"S":""#;
    let places = bytes.windows(needle.len()).enumerate();
    let places: Vec<_> = places.filter(|(_, window)| window == needle).collect();
    let places: Vec<usize> = places
        .into_iter()
        .map(|(at, _)| at + needle.len())
        .collect();
    for at in places {
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
    }
    put(&world.database(), &bytes);
}

#[test]
fn a_damaged_partition_is_mended_from_its_bundle() {
    let world = World::new();
    world.used();
    let listed = support::json(&world.home(), &["store", "verify", "--list"])["listed"].clone();
    let partitions: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["partition"].as_str().unwrap().to_owned())
        .collect();
    for partition in &partitions {
        let mut exported = world.json(&[
            "store",
            "export",
            partition,
            "--output",
            &world.bundle(partition),
        ]);
        for counted in ["version", "rows", "bytes", "created_at", "mac"] {
            assert!(!exported[counted].take().is_null(), "{counted}");
        }
        assert_eq!(
            exported,
            json!({
                "store": "[id]", "tenant": "local", "user": "local", "partition": partition,
                "version": null, "created_at": null, "rows": null, "bytes": null, "mac": null,
                "file": world.bundle(partition),
            })
        );
    }
    damage(&world);
    assert_eq!(
        world.fault(&["store", "verify"])["error_code"],
        "store_unsound"
    );
    for written in [true, false] {
        for partition in &partitions {
            let imported = world.json(&["store", "import", &world.bundle(partition)]);
            assert_eq!(imported["written"], written, "{imported}");
            assert_eq!(imported["partition"], json!(partition));
        }
    }
    assert_eq!(world.json(&["store", "verify"])["ok"], true);
    world.used();
}

#[test]
fn another_node_takes_a_partition_with_the_key_of_the_first() {
    let (world, other) = (World::new(), World::new());
    world.used();
    let partition = job_partition(&world);
    let bundle = world.bundle(&partition);
    world.json(&["store", "export", &partition, "--output", &bundle]);
    let key = world.key().display().to_string();
    let wrong = other.key().display().to_string();
    let refused = |more: &[&str]| {
        let arguments = [&["store", "import", &bundle], more].concat();
        other.fault(&arguments)["error_code"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(refused(&[]), "bundle_of_another_store");
    assert_eq!(refused(&["--source-key", &wrong]), "bundle_of_another_key");
    assert_eq!(
        refused(&["--source-key", "/nonexistent/key"]),
        "encryption_key_missing"
    );
    let imported = other.json(&["store", "import", &bundle, "--source-key", &key]);
    assert_eq!(
        (&imported["written"], &imported["version_now"]),
        (&json!(true), &json!(1))
    );
    assert_eq!(refused(&["--source-key", &key]), "partition_exists");
    assert_eq!(other.json(&["store", "verify"])["ok"], true);
}

#[test]
fn what_is_erased_stays_so_and_is_erased_only_when_somebody_says_yes() {
    let world = World::new();
    world.used();
    let partition = job_partition(&world);
    let bundle = world.bundle(&partition);
    world.json(&["store", "export", &partition, "--output", &bundle]);
    let erase = ["store", "erase", &partition];
    assert_eq!(world.fault(&erase)["error_code"], "confirmation_missing");
    if let Some((screen, status)) =
        world.dialogue(&["store", "erase", &format!("'{partition}'")], "n\n")
    {
        assert!(
            screen.contains(&format!("Erase {partition} for good? [y/N] ")),
            "{screen}"
        );
        assert_eq!(status, Some(1));
    }
    assert_eq!(world.json(&["store", "verify"])["ok"], true);
    let certificate = world.json(&["store", "erase", &partition, "--yes"]);
    assert_eq!(certificate["erasure"]["partition"], json!(partition));
    assert_eq!(certificate["erasure"]["data_keys_destroyed"], 1);
    assert_eq!(certificate["mac"].as_str().unwrap().len(), 64);
    let copies = certificate["erasure"]["residual_copies"].to_string();
    assert!(copies.contains("bundles that were exported"), "{copies}");
    assert_eq!(world.json(&["store", "verify"])["ok"], true);
    let after = world.bundle("after");
    for refused in [
        &["store", "export", &partition, "--output", &after][..],
        &["store", "rotate", &partition],
    ] {
        assert_eq!(
            world.fault(refused)["error_code"],
            "partition_erased",
            "{refused:?}"
        );
    }
    let back = world.fault(&["store", "import", &bundle]);
    assert_eq!(back["error_code"], "partition_erased");
}

#[test]
fn a_certificate_holds_as_long_as_what_it_says_is_so_and_for_its_store_alone() {
    let (world, other) = (World::new(), World::new());
    world.used();
    let partition = job_partition(&world);
    let file = world.bundle("certificate");
    let table: Vec<_> = files(&world.home().join("store"))
        .into_iter()
        .filter(of_the_table)
        .collect();
    let erased = world.run(&["store", "erase", &partition, "--yes"]);
    put(Path::new(&file), &erased.stdout);
    let check = ["store", "check-certificate", &file];
    let checked = world.json(&check);
    assert_eq!(
        (
            &checked["ok"],
            &checked["partition"],
            &checked["remembered"]
        ),
        (&json!(true), &json!(partition), &json!(true))
    );
    let words = text(&world.run(&check).stdout);
    assert!(
        words.starts_with(&format!("erased   {partition} at ")),
        "{words}"
    );
    let code = |world: &World, bytes: &[u8]| {
        put(Path::new(&file), bytes);
        world.fault(&check)["error_code"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(code(&other, &erased.stdout), "certificate_of_another_store");
    let said = text(&erased.stdout);
    let later = said.replace("\"erased_at\": \"20", "\"erased_at\": \"21");
    let more = said.replacen('{', "{\"more\": 1,", 1);
    for (bytes, expected) in [
        (later.as_bytes(), "seal_mismatch"),
        (more.as_bytes(), "certificate_malformed"),
        (b"", "certificate_malformed"),
        (b"{}", "certificate_malformed"),
        (&erased.stdout[..200], "certificate_malformed"),
        (&[b' '; 70_000], "certificate_malformed"),
        (&[0xff; 64], "certificate_malformed"),
    ] {
        assert_eq!(
            code(&world, bytes),
            expected,
            "{}",
            text(&bytes[..bytes.len().min(80)])
        );
    }
    for (path, expected) in [("/nonexistent", "not_found"), ("/", "io_failure")] {
        let fault = world.fault(&["store", "check-certificate", path]);
        assert_eq!(fault["error_code"], expected, "{fault}");
    }
    for (path, bytes) in &table {
        put(path, bytes);
    }
    assert_eq!(code(&world, &erased.stdout), "partition_alive_again");
}

#[test]
fn keys_are_rotated_and_everything_still_opens() {
    let world = World::new();
    world.used();
    let partition = job_partition(&world);
    let rotated = world.json(&["store", "rotate", &partition]);
    assert_eq!(rotated["partition"], json!(partition));
    assert_eq!(world.json(&["store", "rotate"]), json!({ "epoch": 2 }));
    let retired = world.json(&["store", "rotate", "--retire"]);
    assert_eq!(retired["epoch"], 3);
    assert!(retired["wrapped_anew"].as_u64() > Some(1), "{retired}");
    assert_eq!(world.json(&["store", "verify"])["ok"], true);
    world.used();
}

#[test]
fn what_names_no_partition_and_no_bundle_is_refused_and_changes_nothing() {
    let world = World::new();
    world.used();
    let before = world.json(&["store", "verify"])["records"].clone();
    for (name, code) in [
        ("", "invalid_id"),
        ("job", "invalid_id"),
        ("job#", "invalid_id"),
        ("#x", "invalid_id"),
        ("Job#x", "invalid_id"),
        ("job#../x", "invalid_id"),
        ("job#x#y", "invalid_id"),
        ("audit#00", "invalid_id"),
        ("store", "invalid_id"),
        ("job#nobody", "partition_not_found"),
    ] {
        for command in ["export", "rotate", "erase"] {
            let output = world.bundle("none");
            let mut arguments = vec!["store", command, name];
            match command {
                "export" => arguments.extend(["--output", &output]),
                "erase" => arguments.push("--yes"),
                _ => {}
            }
            assert_eq!(
                world.fault(&arguments)["error_code"],
                code,
                "{command} {name:?}"
            );
            assert!(!Path::new(&output).exists());
        }
    }
    let partition = job_partition(&world);
    let bundle = world.bundle(&partition);
    world.json(&["store", "export", &partition, "--output", &bundle]);
    let bytes = fs::read(&bundle).unwrap();
    let files = [
        ("empty", Vec::new(), "bundle_malformed"),
        ("text", b"blue/v2/bundle\n".repeat(9), "bundle_malformed"),
        ("cut", bytes[..bytes.len() - 1].to_vec(), "bundle_malformed"),
        ("longer", [&bytes[..], b"\n"].concat(), "bundle_malformed"),
        (
            "half",
            bytes[..bytes.len() / 2].to_vec(),
            "bundle_malformed",
        ),
        ("key", fs::read(world.key()).unwrap(), "bundle_malformed"),
    ];
    for (name, content, code) in files {
        put(Path::new(&world.bundle(name)), &content);
        let fault = world.fault(&["store", "import", &world.bundle(name)]);
        assert_eq!(fault["error_code"], code, "{name}: {fault}");
    }
    let root = world.root.path().display().to_string();
    for (path, code) in [
        ("/nonexistent", "not_found"),
        (root.as_str(), "bundle_malformed"),
    ] {
        assert_eq!(world.fault(&["store", "import", path])["error_code"], code);
    }
    let key = fs::read(world.key()).unwrap();
    let over = world.fault(&[
        "store",
        "export",
        &partition,
        "--output",
        world.key().to_str().unwrap(),
    ]);
    assert_eq!(over["error_code"], "already_exists");
    assert_eq!(fs::read(world.key()).unwrap(), key);
    let nowhere = world.fault(&["store", "export", &partition, "--output", "/nonexistent/b"]);
    assert_eq!(nowhere["error_code"], "not_found");
    assert_eq!(world.json(&["store", "verify"])["records"], before);
}
