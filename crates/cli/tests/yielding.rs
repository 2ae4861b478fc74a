//! A donor whose owner wants the machine: a real daemon, and the owner's own rule, a file that is there.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests fail the test"
)]

mod support;

use std::fs::Permissions;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{Daemon, file, json, run, text, until};

/// Counts to ten thousand million.
const COUNTS: &str = r#"(module (func (export "_start") (local $n i64)
    (loop $again
        (local.set $n (i64.add (local.get $n) (i64.const 1)))
        (br_if $again (i64.lt_u (local.get $n) (i64.const 10000000000))))))"#;

/// Never ends.
const SPINS: &str = r#"(module (func (export "_start") (loop $again (br $again))))"#;

struct World {
    root: tempfile::TempDir,
    relay: Daemon,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let relay = Daemon::relay(root.path());
        Self { root, relay }
    }

    /// A donor of one slot, frozen while the file is there, and let go on a second after.
    fn donor(&self, more: &str) -> Daemon {
        let home = self.root.path().join("donor");
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&home)
            .unwrap();
        let wanted = self.wanted().display().to_string();
        let choices = format!(
            "slots = 1\n[yield]\non = [\"user\"]\nwhile_exists = {wanted:?}\nresume_after_s = 1\n{more}\n"
        );
        choose(&home, &choices);
        Daemon::donor(self.root.path(), "donor", &self.relay, &[])
    }

    fn wanted(&self) -> PathBuf {
        self.root.path().join("wanted")
    }

    fn submit(&self, donor: &Daemon, module: &str) -> String {
        file(self.root.path(), "module.wat", module);
        let manifest = "{apiVersion: worldcompute/v1, kind: Job, metadata: {name: long}, \
             spec: {wasm: ./module.wat, max_wall_time: 10m, acceptable_use_classes: [general]}}";
        let manifest = file(self.root.path(), "job.yaml", manifest);
        let job = json(donor.home(), &["job", "submit", &manifest]);
        until("the task runs", || status(donor)["last_exit"] == 1);
        job["job_id"].as_str().unwrap().to_owned()
    }

    fn slots_that_the_relay_sees(&self) -> u64 {
        let cluster = json(self.relay.home(), &["cluster", "status"]);
        cluster["slots"].as_u64().unwrap()
    }
}

/// The choices of a node's owner, in its home.
fn choose(home: &Path, choices: &str) {
    let path = file(home, "config.toml", choices);
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

fn status(donor: &Daemon) -> Value {
    json(donor.home(), &["donor", "status"])
}

/// The newest yield, once `done` holds of it.
fn latest(donor: &Daemon, what: &str, done: impl Fn(&Value) -> bool) -> Value {
    let mut latest = Value::Null;
    until(what, || {
        let last = status(donor)["yielding"]["last"].take();
        latest = last
            .as_array()
            .and_then(|last| last.last().cloned())
            .unwrap_or_default();
        done(&latest)
    });
    latest
}

#[test]
fn a_machine_that_is_wanted_holds_its_task_tells_the_others_and_goes_on_with_the_same_run() {
    let world = World::new();
    let donor = world.donor("");
    until("the relay sees the donor", || {
        world.slots_that_the_relay_sees() == 1
    });
    let job = world.submit(&donor, COUNTS);
    file(world.root.path(), "wanted", "");
    let frozen = latest(&donor, "the task is frozen", |one| {
        one["frozen_after_us"].is_u64()
    });
    assert_eq!(
        (&frozen["trigger"], &frozen["sandboxes"]),
        (&"user".into(), &1.into())
    );
    assert_eq!(status(&donor)["state"], "paused");
    until("the relay sees that it is paused", || {
        world.slots_that_the_relay_sees() == 0
    });
    assert_eq!(status(&donor)["running"], 1, "the task stands where it was");
    let words = text(&run(donor.home(), &["donor", "status"]).stdout);
    assert!(words.contains("watches    user (fires)\n"), "{words}");
    assert!(words.contains(" to user, 1 frozen after "), "{words}");

    std::fs::remove_file(world.wanted()).unwrap();
    let resumed = latest(&donor, "the task goes on", |one| {
        one["resumed_at"].is_string()
    });
    assert_eq!(
        (&resumed["resumed"], &resumed["released"]),
        (&1.into(), &0.into())
    );
    until("the relay sees that it takes tasks", || {
        world.slots_that_the_relay_sees() == 1
    });
    until("the job is done", || {
        json(donor.home(), &["job", "status", &job])["status"] == "completed"
    });
    assert_eq!(
        status(&donor)["last_exit"],
        1,
        "it was one run from the beginning to the end"
    );
    assert!(donor.stop() && world.relay.stop());
}

#[test]
fn an_owner_who_wants_the_memory_gets_it_and_the_task_goes_back() {
    let world = World::new();
    let donor = world.donor("release_on = [\"user\"]");
    let job = world.submit(&donor, SPINS);
    file(world.root.path(), "wanted", "");
    let ended = latest(&donor, "the task is ended", |one| {
        one["released_after_ms"].is_u64()
    });
    assert_eq!(ended["released"], 1);
    until("the run is written up", || {
        status(&donor)["finished"]["cancelled"] == 1
    });
    let told = json(donor.home(), &["job", "status", &job]);
    assert!(
        !["completed", "failed"].contains(&told["status"].as_str().unwrap()),
        "{told}"
    );
    assert_eq!(status(&donor)["state"], "paused");

    std::fs::remove_file(world.wanted()).unwrap();
    until("the task runs anew", || status(&donor)["last_exit"] == 2);
    json(donor.home(), &["job", "cancel", &job]);
    assert!(donor.stop() && world.relay.stop());
}

#[test]
fn a_rule_that_cannot_work_is_refused_by_its_name_before_anything_runs() {
    let root = tempfile::tempdir().unwrap();
    choose(root.path(), "[yield]\nresume_after_s = 0\n");
    let refused = run(root.path(), &["donor", "join", "--no-mdns", "--port", "0"]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stderr));
    let words = text(&refused.stderr);
    assert!(
        words.contains("config.toml: yield.resume_after_s: 0 is out of range"),
        "{words}"
    );
}
