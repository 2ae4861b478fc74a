//! Hostile users: files that are not what they should be, modules that misbehave, homes that are broken, disks that are full.
//! Each gets its documented code and exit status, and whatever the node had promised before still holds.

#![expect(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests fail the test, and broken files are written on purpose"
)]

mod support;

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use support::{Daemon, example, file, json, run, text, until, worldcompute};
use worldcompute_node::manifest::Manifest;
use worldcompute_proof::{Cid, SigningKey};

const TRAPS: &str = r#"(module (func (export "_start") unreachable))"#;
const SPINS: &str = r#"(module (func (export "_start") (loop $again (br $again))))"#;
const EXITS_3: &str = r#"(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (call $exit (i32.const 3))))"#;
/// Asks for 4 GiB at once, the most that a module can have, and traps when it does not get it.
const HOARDS: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "_start")
    (if (i32.eq (memory.grow (i32.const 65535)) (i32.const -1)) (then unreachable))))"#;
/// Prints 1 GiB.
const FLOODS: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 17)
  (func (export "_start")
    (local $left i32)
    (local.set $left (i32.const 1024))
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 1048576))
    (loop $again
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $again (local.get $left)))))"#;

/// A donor that is to be refused: one that starts all the same ends at once, and the test with it.
const JOIN: [&str; 6] = [
    "donor",
    "join",
    "--no-mdns",
    "--port",
    "0",
    "--end-with-stdin",
];

/// A directory for the files of a test, and a home in it.
struct World {
    root: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
        }
    }

    fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    fn file(&self, name: &str, content: &str) -> String {
        file(self.root.path(), name, content)
    }

    fn bytes(&self, name: &str, content: &[u8]) -> String {
        let path = self.root.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    fn manifest(&self, name: &str, module: &str, more: &str) -> String {
        let text = format!(
            "apiVersion: worldcompute/v1\nkind: Job\nmetadata: {{ name: {name} }}\nspec:\n  wasm: {module}\n{more}"
        );
        self.file(&format!("{name}.yaml"), &text)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        run(&self.home(), arguments)
    }

    fn daemon(&self) -> Daemon {
        Daemon::start(
            &self.home(),
            &["donor", "join", "--no-mdns", "--port", "0", "--slots", "2"],
        )
    }

    fn submit(&self, manifest: &str) -> String {
        json(&self.home(), &["job", "submit", manifest])["job_id"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    fn running(&self) -> u64 {
        json(&self.home(), &["donor", "status"])["running"]
            .as_u64()
            .unwrap()
    }

    fn status_of(&self, job: &str) -> String {
        json(&self.home(), &["job", "status", job])["status"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home().join("log/daemon.log")).unwrap_or_default()
    }
}

/// An error for people: exit status 1, nothing on standard output, a reason and no panic on standard error.
#[track_caller]
fn assert_refused(output: &Output, needles: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{needles:?}: {stderr}");
    assert!(
        output.stdout.is_empty(),
        "{needles:?}: {}",
        text(&output.stdout)
    );
    assert!(stderr.contains("Error: "), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    for needle in needles {
        assert!(stderr.contains(needle), "{needle:?} is not in: {stderr}");
    }
}

#[test]
fn what_is_no_manifest_is_refused_before_a_daemon_is_asked() {
    let world = World::new();
    let not_there = world.root.path().join("nofile.json").display().to_string();
    let binary: Vec<u8> = (0..=255).rev().cycle().take(4096).collect();
    let cases = [
        not_there,
        world.root.path().display().to_string(),
        world.bytes("empty.yaml", b""),
        world.bytes("malformed.json", b"{\"apiVersion\": "),
        world.bytes("malformed.yaml", b"apiVersion: [\n"),
        world.bytes(
            "unknown.yaml",
            b"apiVersion: worldcompute/v1\nkind: Job\nsurprise: 1\n",
        ),
        world.bytes("binary.yaml", &binary),
        world.bytes("cut.cbor", b"\xa2\x64body"),
        world.bytes("large.yaml", &vec![b' '; 1 << 20]),
        world.bytes("deep.json", "[".repeat(60_000).as_bytes()),
    ];
    for case in &cases {
        assert_refused(&world.run(&["job", "submit", case]), &["WC-001"]);
        assert_refused(
            &world.run(&["job", "submit", "--dry-run", case]),
            &["WC-001"],
        );
    }
    assert!(!world.home().exists(), "a refused command makes no home");
}

#[test]
fn a_refusal_names_the_flag_or_the_file_at_fault_and_names_it_once() {
    let world = World::new();
    for (flag, value) in [("--consent", "mining"), ("--slots", "99999")] {
        let output = world.run(&["donor", "join", "--no-mdns", flag, value]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(&format!("{flag}: ")), "{stderr}");
        assert!(stderr.contains(value), "{stderr}");
        assert!(!stderr.contains("config.toml"), "{stderr}");
    }
    let nowhere = world.root.path().join("nowhere.yaml").display().to_string();
    let refused = world.run(&["job", "submit", &nowhere]);
    assert_refused(&refused, &[&nowhere]);
    assert_eq!(text(&refused.stderr).matches(&nowhere).count(), 1);
    let cut = world.bytes("cut.cbor", b"\xa2\x64body");
    let refused = world.run(&["job", "submit", &cut]);
    assert_refused(&refused, &["it ends too early"]);
    assert!(!text(&refused.stderr).contains("Error {"));
    assert!(!world.home().exists());
}

#[test]
fn a_manifest_that_names_a_missing_file_is_refused_by_that_files_name() {
    let world = World::new();
    let module = world.manifest("moduleless", "gone.wasm", "");
    assert_refused(
        &world.run(&["job", "submit", &module]),
        &["WC-001", "gone.wasm"],
    );
    let input = world.manifest(
        "inputless",
        &example("hello/hello.wat"),
        "  inputs: [{ file: gone.bin, mount: /in/gone.bin }]\n",
    );
    assert_refused(
        &world.run(&["job", "submit", &input]),
        &["WC-001", "gone.bin"],
    );
}

#[test]
fn a_signed_manifest_with_another_signature_or_another_body_is_refused() {
    let world = World::new();
    let document = format!(
        "apiVersion: worldcompute/v1\nkind: Job\nmetadata: {{ name: signed }}\nspec: {{ wasm: \"cid:{}\" }}\n",
        Cid::raw(b"module")
    );
    let manifest = Manifest::parse(document.as_bytes()).unwrap();
    let manifest = manifest
        .resolve(|_| unreachable!("it names no file"))
        .unwrap();
    let honest = manifest
        .sign(&SigningKey::generate().unwrap())
        .unwrap()
        .bytes()
        .to_vec();
    let signature = honest.len() - 64;
    let zero = [&honest[..signature], &[0; 64]].concat();
    let mut flipped = honest.clone();
    flipped[signature + 3] ^= 1;
    let mut edited = honest.clone();
    let name = honest
        .windows(6)
        .position(|bytes| bytes == b"signed")
        .unwrap();
    edited[name] = b'S';
    for (what, bytes) in [("zero", zero), ("flipped", flipped), ("edited", edited)] {
        let path = world.bytes(what, &bytes);
        assert_refused(
            &world.run(&["job", "submit", "--dry-run", &path]),
            &["signature"],
        );
        assert_refused(&world.run(&["job", "submit", &path]), &["signature"]);
    }
    let path = world.bytes("honest", &honest);
    assert!(
        world
            .run(&["job", "submit", "--dry-run", &path])
            .status
            .success()
    );

    let _daemon = world.daemon();
    assert_refused(&world.run(&["job", "submit", &path]), &["WC-014"]);
}

#[test]
fn without_a_daemon_every_command_that_needs_one_says_so() {
    let world = World::new();
    let manifest = world.manifest("any", &example("hello/hello.wat"), "");
    let commands: [&[&str]; 9] = [
        &["donor", "status"],
        &["donor", "pause"],
        &["job", "list"],
        &["job", "status", "01M7Z4840XS2F837YY6YYVD71E"],
        &["job", "cancel", "01M7Z4840XS2F837YY6YYVD71E"],
        &["job", "submit", &manifest],
        &["cluster", "status"],
        &["cluster", "peers"],
        &["admin", "status"],
    ];
    for command in commands {
        assert_refused(
            &world.run(command),
            &["not connected to cluster. Run 'worldcompute donor join' first."],
        );
    }
    assert!(!world.home().exists());
}

#[test]
fn modules_that_misbehave_end_as_what_they_did_and_the_daemon_goes_on() {
    let world = World::new();
    let daemon = world.daemon();
    let job_run = |name: &str, text: &str| world.run(&["job", "run", &world.file(name, text)]);

    assert_refused(
        &job_run("no.wasm", "not a module"),
        &["WC-001", "WebAssembly"],
    );
    assert_eq!(json(&world.home(), &["donor", "status"])["last_exit"], 0);

    let exited = job_run("exits.wat", EXITS_3);
    assert_eq!(exited.status.code(), Some(3), "{}", text(&exited.stderr));
    assert_refused(&job_run("traps.wat", TRAPS), &["trapped"]);

    let before = resident_mib(daemon.pid());
    assert_refused(&job_run("hoards.wat", HOARDS), &["memory"]);
    let grown = resident_mib(daemon.pid()).saturating_sub(before);
    assert!(grown < 128, "the daemon grew by {grown} MiB");

    let flooded = job_run("floods.wat", FLOODS);
    assert_eq!(flooded.status.code(), Some(1));
    assert!(flooded.stdout.len() < 64 << 20, "{}", flooded.stdout.len());

    let finished = &json(&world.home(), &["donor", "status"])["finished"];
    for kind in ["failed", "trapped", "out_of_memory", "output_limit"] {
        assert_eq!(finished[kind], 1, "{kind}: {finished}");
    }
    assert_eq!(
        text(
            &world
                .run(&["job", "run", &example("hello/hello.wat")])
                .stdout
        ),
        "hello\n"
    );
    assert!(!world.log().contains("panicked"), "{}", world.log());
}

/// The most memory that a process has held, in MiB.
fn resident_mib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024
}

#[test]
fn a_module_that_spins_runs_out_of_time_while_the_daemon_answers() {
    let world = World::new();
    let _daemon = world.daemon();
    let module = world.file("spins.wat", SPINS);
    let id = world.submit(&world.manifest("spins", &module, "  max_wall_time: 2s\n"));
    until("it runs", || world.running() == 1);
    assert!(world.run(&["admin", "status"]).status.success());
    until("it has ended", || world.status_of(&id) == "failed");
    let job = json(&world.home(), &["job", "status", &id]);
    assert_eq!(job["error"]["code"], "WC-017", "{job}");
    until("the slot is free", || world.running() == 0);
}

#[test]
fn unknown_jobs_tasks_and_names_are_refused_and_leave_no_file() {
    let world = World::new();
    let _daemon = world.daemon();
    let id = world.submit(&world.manifest("hello", &example("hello/hello.wat"), ""));
    until("it has ended", || world.status_of(&id) == "completed");
    let target = world.root.path().join("out").display().to_string();
    let unknown = "01M7Z4840XS2F837YY6YYVD71E";
    let not_found: [&[&str]; 8] = [
        &["job", "status", unknown],
        &["job", "status", unknown, "--watch"],
        &["job", "status", "nonsense"],
        &["job", "cancel", unknown],
        &["job", "results", unknown, "--output", &target],
        &["job", "results", &id, "--task", "1", "--output", &target],
        &["job", "results", &id, "--task", "4294967295"],
        &[
            "job", "results", &id, "--name", "nothing", "--output", &target,
        ],
    ];
    for command in not_found {
        assert_refused(&world.run(command), &["WC-018"]);
    }
    assert_refused(
        &world.run(&["job", "cancel", &id]),
        &["has ended already: it is completed", &id],
    );
    assert_refused(
        &world.run(&["job", "status", "../admin/status"]),
        &["not an id"],
    );
    assert!(!Path::new(&target).exists());
    results_go_where_they_are_sent(&world, &id);
    let nowhere = format!("{target}/deeper/file");
    assert_refused(
        &world.run(&["job", "results", &id, "--output", &nowhere]),
        &[&nowhere],
    );
    assert_eq!(text(&world.run(&["job", "results", &id]).stdout), "hello\n");
}

/// To a directory that is meant and not there yet, and through a pipe, which stays one.
fn results_go_where_they_are_sent(world: &World, id: &str) {
    let directory = world.root.path().join("made");
    let meant = format!("{}/", directory.display());
    let made = world.run(&["job", "results", id, "--output", &meant]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert_eq!(
        fs::read(directory.join("00000-stdout")).unwrap(),
        b"hello\n"
    );

    let pipe = world.root.path().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let reader = Command::new("cat")
        .arg(&pipe)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let sent = world.run(&[
        "job",
        "results",
        id,
        "--output",
        &pipe.display().to_string(),
    ]);
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    assert!(!fs::symlink_metadata(&pipe).unwrap().is_file());
    assert_eq!(text(&reader.wait_with_output().unwrap().stdout), "hello\n");
}

#[test]
fn a_module_whose_name_is_no_text_runs_all_the_same() {
    use std::os::unix::ffi::OsStrExt;
    let world = World::new();
    let name = std::ffi::OsStr::from_bytes(b"h\xffllo.wat");
    let module = world.root.path().join(name);
    fs::copy(example("hello/hello.wat"), &module).unwrap();
    let output = support::worldcompute(&world.home())
        .args(["job", "run", "--local"])
        .arg(&module)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(text(&output.stdout), "hello\n", "{}", text(&output.stderr));
    fs::remove_file(&module).unwrap();
    let home = world.root.path().join("other");
    let gone = support::worldcompute(&home)
        .args(["job", "run"])
        .arg(&module)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_refused(&gone, &["WC-001"]);
    assert!(!home.exists(), "a refused command makes no home");
}

#[test]
fn a_cancelled_job_frees_its_donor_and_a_killed_daemon_takes_its_jobs_up_again() {
    let world = World::new();
    let mut daemon = world.daemon();
    let module = world.file("spins.wat", SPINS);
    let manifest = world.manifest("spins", &module, "  max_wall_time: 10m\n");
    let id = world.submit(&manifest);
    until("it runs", || world.running() == 1);
    assert_eq!(
        json(&world.home(), &["job", "cancel", &id])["status"],
        "cancelled"
    );
    until("its run has ended", || world.running() == 0);
    assert_eq!(
        json(&world.home(), &["donor", "status"])["finished"]["cancelled"],
        1
    );

    let kept = world.submit(&manifest);
    until("the next runs", || world.running() == 1);
    let exits = json(&world.home(), &["donor", "status"])["last_exit"]
        .as_u64()
        .unwrap();
    daemon.kill();
    let again = world.daemon();
    assert_eq!(again.peer_id, daemon.peer_id);
    assert_eq!(world.status_of(&id), "cancelled");
    until("the job that was accepted runs again", || {
        world.running() == 1
    });
    let later = json(&world.home(), &["donor", "status"])["last_exit"]
        .as_u64()
        .unwrap();
    assert!(
        later > exits,
        "exit numbers never come twice: {later} after {exits}"
    );
    assert_eq!(
        json(&world.home(), &["job", "cancel", &kept])["status"],
        "cancelled"
    );
}

#[test]
fn a_home_with_a_broken_part_does_not_start_and_says_which() {
    let world = World::new();
    let hello = example("hello/hello.wat");
    assert!(world.run(&["job", "run", &hello]).status.success());
    let other_key = [7_u8; 32];
    let garbage: Vec<u8> = (0..40_960_u32).map(|i| ((i * i) >> 3) as u8).collect();
    let no_keys =
        b"{schema_id: gait.gate.policy, schema_version: 1.0.0, default_verdict: block, rules: []}";
    let cases: [(&str, &[u8], &[&str]); 13] = [
        ("policy/donor.yaml", b"rules: [", &["policy/donor.yaml"]),
        (
            "policy/submitter.yaml",
            b"surprise: 1",
            &["policy/submitter.yaml"],
        ),
        ("policy/keys.yaml", b"rules: [", &["policy/keys.yaml"]),
        (
            "policy/keys.yaml",
            no_keys,
            &["key:store is not given out", "policy/keys.yaml"],
        ),
        ("evidence/keys.jsonl", b"{}\n", &["keys.jsonl"]),
        ("identity.key", &garbage[..64], &["identity.key"]),
        ("identity.key", b"", &["identity.key"]),
        ("config.toml", b"slotz = 4\n", &["config.toml", "slotz"]),
        ("config.toml", b"\xff\xfe", &["config.toml"]),
        ("store/worldcompute.db", &garbage, &["store"]),
        ("store/worldcompute.db", b"SQLite format 3\0", &["store"]),
        (
            "keys/umk.key",
            &other_key,
            &["not the key that the store was set up with"],
        ),
        ("keys/umk.key", b"short", &["umk.key"]),
    ];
    for (part, bytes, needles) in cases {
        let path = world.home().join(part);
        let honest = fs::read(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        assert_refused(&world.run(&JOIN), needles);
        assert_eq!(fs::read(&path).unwrap(), bytes, "{part} is left as it is");
        fs::write(&path, honest).unwrap();
    }
    assert_eq!(text(&world.run(&["job", "run", &hello]).stdout), "hello\n");
}

#[test]
fn a_key_or_a_home_that_others_can_read_is_refused_with_the_remedy() {
    let world = World::new();
    json(&world.home(), &["donor", "enroll"]);
    for (path, loose, tight) in [
        (world.home().join("identity.key"), 0o644, 0o600),
        (world.home(), 0o755, 0o700),
    ] {
        fs::set_permissions(&path, Permissions::from_mode(loose)).unwrap();
        let remedy = format!("chmod {tight:o} {}", path.display());
        assert_refused(&world.run(&JOIN), &[&remedy]);
        fs::set_permissions(&path, Permissions::from_mode(tight)).unwrap();
    }
}

#[test]
fn a_home_or_a_port_that_is_taken_is_named() {
    let world = World::new();
    let daemon = world.daemon();
    let join = ["donor", "join", "--no-mdns", "--port", "0"];
    assert_refused(&world.run(&join), &[&format!("pid {}", daemon.pid())]);
    let output = world.run(&[&join[..], &["--json"]].concat());
    let fault: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(fault["error_category"], "state_contention", "{fault}");
    assert_refused(
        &world.run(&[&join[..], &["--daemon"]].concat()),
        &["already runs"],
    );

    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let other = world.root.path().join("other");
    let output = run(&other, &["donor", "join", "--no-mdns", "--port", &port]);
    assert_refused(&output, &[&port, "in use"]);

    let occupied = world.file("occupied", "a file, not a home");
    for more in [&[][..], &["--daemon"]] {
        let arguments = [&join[..], more].concat();
        assert_refused(&run(Path::new(&occupied), &arguments), &[&occupied]);
    }
}

#[test]
fn a_daemon_in_the_background_says_why_it_did_not_start_and_lives_without_a_terminal() {
    let world = World::new();
    json(&world.home(), &["donor", "enroll"]);
    let policy = world.home().join("policy/donor.yaml");
    let honest = fs::read(&policy).unwrap();
    let background = ["donor", "join", "--no-mdns", "--port", "0", "--daemon"];
    fs::write(&policy, b"rules: [").unwrap();
    assert_refused(&world.run(&background), &["policy/donor.yaml"]);
    let foreground = world.run(&["donor", "join", "--no-mdns", "--port", "0", "--json"]);
    let fault: serde_json::Value = serde_json::from_slice(&foreground.stderr).unwrap();
    assert_eq!(fault["error_code"], "policy_invalid", "{fault}");
    fs::write(&policy, honest).unwrap();

    let status = json(&world.home(), &background);
    assert_eq!(status["state"], "idle");
    assert!(world.run(&["admin", "status"]).status.success());
    assert_eq!(json(&world.home(), &["donor", "leave"])["state"], "leaving");
    until("its home is free", || {
        fs::read(world.home().join("run/daemon.lock")).is_ok_and(|owner| owner.is_empty())
    });
    assert!(!world.home().join("run/control.sock").exists());
    assert!(!world.log().contains("panicked"), "{}", world.log());
}

#[test]
fn a_dial_that_fails_is_logged_with_its_target_and_cause_and_without_secrets() {
    let world = World::new();
    json(&world.home(), &["donor", "enroll"]);
    let nobody = format!(
        "/ip4/127.0.0.1/tcp/1/p2p/{}",
        SigningKey::generate().unwrap().peer_id()
    );
    let arguments = [
        "donor",
        "join",
        "--no-mdns",
        "--port",
        "0",
        "--bootstrap",
        &nobody,
    ];
    let daemon = Daemon::start(&world.home(), &arguments);
    until("the failed dial is on record", || {
        world.log().contains("root_cause")
    });
    assert!(daemon.stop());
    let log = world.log();
    let dial = log
        .lines()
        .find(|line| line.contains("root_cause"))
        .unwrap();
    for part in [&nobody, "\"transport\":\"tcp\"", "Connection refused"] {
        assert!(dial.contains(part), "{part:?} is not in {dial}");
    }
    let key = fs::read_to_string(world.home().join("identity.key")).unwrap();
    assert!(!log.contains(key.trim()));
    assert!(!log.contains(&world.home().display().to_string()), "{log}");
}

/// A file system of one mebibyte, which root can mount.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(directory.path())
            .stderr(Stdio::null())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then_some(Self(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(
            Command::new("umount")
                .arg("--lazy")
                .arg(self.0.path())
                .status(),
        );
    }
}

#[test]
fn a_full_disk_costs_the_new_job_only() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: only root can mount a small file system");
        return;
    };
    let world = World::new();
    let home = disk.0.path().join("home");
    let arguments = ["donor", "join", "--no-mdns", "--port", "0", "--slots", "1"];
    let daemon = Daemon::start(&home, &arguments);
    let hello = example("hello/hello.wat");
    assert_eq!(text(&run(&home, &["job", "run", &hello]).stdout), "hello\n");
    let before = json(&home, &["job", "list"]).as_array().unwrap().len();

    let filler = disk.0.path().join("filler");
    drop(fs::write(&filler, vec![0; 2 << 20]));
    let module = world.file("other.wat", &format!("{TRAPS} ;; {}", "x".repeat(8192)));
    assert_refused(&run(&home, &["job", "run", &module]), &["space"]);
    assert!(run(&home, &["admin", "status"]).status.success());

    fs::remove_file(&filler).unwrap();
    assert_eq!(text(&run(&home, &["job", "run", &hello]).stdout), "hello\n");
    let jobs = json(&home, &["job", "list"]);
    assert_eq!(jobs.as_array().unwrap().len(), before + 1, "{jobs}");
    assert!(daemon.stop());
}

#[test]
fn a_daemon_whose_standard_error_is_gone_still_ends_in_order() {
    let world = World::new();
    let mut child = worldcompute(&world.home())
        .args([
            "donor",
            "join",
            "--no-mdns",
            "--port",
            "0",
            "--end-with-stdin",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    until("it answers", || {
        world.run(&["admin", "status"]).status.success()
    });
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert!(!world.log().contains("panicked"), "{}", world.log());
}
