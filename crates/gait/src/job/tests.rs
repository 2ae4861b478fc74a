use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use worldcompute_durable::Mode;
use worldcompute_fault::Category;

use super::*;

/// A clock that goes on by one second each time it is asked.
struct Ticking(Mutex<Timestamp>);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        let mut now = self.0.lock().unwrap();
        *now += SignedDuration::from_secs(1);
        *now
    }
}

fn clock() -> Arc<dyn Clock> {
    let start = "2026-02-14T00:00:00Z".parse().unwrap();
    Arc::new(Ticking(Mutex::new(start)))
}

struct Place {
    dir: tempfile::TempDir,
    jobs: Jobs,
    id: JobId,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let jobs = Jobs::at(dir.path().join("gait-out/jobs"), clock());
    Place {
        dir,
        jobs,
        id: "job_1".parse().unwrap(),
    }
}

impl Place {
    fn submitted() -> Self {
        let place = place();
        place.jobs.submit(&place.id, &submission()).unwrap();
        place
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.jobs.root().join(self.id.as_str()).join(name)
    }

    fn put(&self, name: &str, content: &str) {
        let mut file = fs::File::create(self.path(name)).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o600))
            .unwrap();
    }

    fn edit(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap();
        change(&mut value);
        self.put(name, &value.to_string());
    }
}

fn submission() -> Submission {
    Submission {
        identity: "agent.tck".to_owned(),
        environment_fingerprint: "envfp:tck".to_owned(),
        producer_version: "1.4.0".to_owned(),
        ..Submission::default()
    }
}

fn decision() -> NewCheckpoint {
    NewCheckpoint {
        kind: CheckpointKind::DecisionNeeded,
        summary: "approval required".to_owned(),
        required_action: "approve".to_owned(),
        actor: String::new(),
    }
}

fn here() -> Resume {
    Resume {
        environment_fingerprint: "envfp:tck".to_owned(),
        ..Resume::default()
    }
}

fn kinds(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| &*event.kind).collect()
}

#[test]
fn a_job_lives_as_in_the_reference_pack() {
    let place = Place::submitted();
    place.jobs.add_checkpoint(&place.id, &decision()).unwrap();
    place.jobs.approve(&place.id, "alice", "").unwrap();
    place
        .jobs
        .resume(
            &place.id,
            &Resume {
                identity_validation_source: "tck".to_owned(),
                ..here()
            },
        )
        .unwrap();
    let (state, events) = place.jobs.inspect(&place.id).unwrap();
    assert_eq!(
        kinds(&events),
        ["submitted", "checkpoint_added", "approved", "resumed"]
    );
    assert_eq!((state.revision, state.status), (4, Status::Running));
    assert_eq!(
        (&*state.stop_reason, &*state.status_reason_code),
        ("none", "resumed")
    );
    assert_eq!(
        state.safety_invariant_hash,
        "7211f8855b852e60dd3de7bd2e388686220fabca5a7978be22995c56c6e3d97b"
    );
    let payload = |at: usize| Value::Object(events[at].payload.clone());
    assert_eq!(
        payload(1),
        json!({"checkpoint_id": "cp_0001", "checkpoint_type": "decision-needed", "required_action": "approve"})
    );
    assert_eq!(
        payload(3),
        json!({
            "actual_fingerprint": "envfp:tck", "expected_fingerprint": "envfp:tck", "identity": "agent.tck",
            "identity_validation_required": true, "identity_validation_source": "tck", "reason": "resume",
        })
    );
}

#[test]
fn files_are_private_and_no_marker_stays() {
    let place = Place::submitted();
    for name in ["state.json", "events.jsonl"] {
        let mode = fs::metadata(place.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert!(!place.path("pending_mutation.json").exists());
    let mode = fs::metadata(place.path("")).unwrap().permissions().mode();
    assert_eq!(mode & 0o027, 0, "{mode:o}");
}

#[test]
fn every_way_between_statuses_is_as_documented() {
    type Change = fn(&Place) -> Result<JobState>;
    let pause: Change = |place| place.jobs.pause(&place.id, "bob");
    let stop: Change = |place| place.jobs.stop(&place.id, "bob");
    let cancel: Change = |place| place.jobs.cancel(&place.id, "bob");
    let resume: Change = |place| place.jobs.resume(&place.id, &here());
    let allowed = |way: &[Change], next: Change| {
        let place = Place::submitted();
        way.iter().for_each(|step| drop(step(&place).unwrap()));
        next(&place)
            .map(|state| state.status)
            .map_err(|fault| fault.code().to_owned())
    };
    let refused = Err("invalid_transition".to_owned());
    assert_eq!(allowed(&[], pause), Ok(Status::Paused));
    assert_eq!(allowed(&[pause], pause), refused);
    assert_eq!(allowed(&[pause], resume), Ok(Status::Running));
    assert_eq!(allowed(&[], resume), refused);
    assert_eq!(allowed(&[pause], stop), Ok(Status::EmergencyStopped));
    assert_eq!(allowed(&[stop], stop), refused);
    assert_eq!(allowed(&[stop], resume), refused);
    assert_eq!(allowed(&[stop], pause), refused);
    assert_eq!(allowed(&[stop], cancel), Ok(Status::Cancelled));
    assert_eq!(allowed(&[cancel], cancel), refused);
    assert_eq!(allowed(&[cancel], stop), refused);
    assert_eq!(allowed(&[cancel], resume), refused);
}

#[test]
fn a_decision_is_answered_by_one_approval_each() {
    let place = Place::submitted();
    place.jobs.add_checkpoint(&place.id, &decision()).unwrap();
    let refused = place.jobs.resume(&place.id, &here()).unwrap_err();
    assert_eq!(
        (refused.category(), refused.code()),
        (Category::ApprovalRequired, "job_approval_required")
    );
    assert_eq!(
        place.jobs.approve(&place.id, " ", "").unwrap_err().code(),
        "approval_actor_required"
    );
    place.jobs.approve(&place.id, "alice", "seen").unwrap();
    let banked = place.jobs.approve(&place.id, "alice", "for the next");
    assert_eq!(banked.unwrap_err().code(), "job_decision_not_asked");
    place.jobs.resume(&place.id, &here()).unwrap();
    let banked = place.jobs.approve(&place.id, "alice", "for the next");
    assert_eq!(banked.unwrap_err().code(), "job_decision_not_asked");
    place.jobs.add_checkpoint(&place.id, &decision()).unwrap();
    assert_eq!(
        place.jobs.resume(&place.id, &here()).unwrap_err().code(),
        "job_approval_required"
    );
}

#[test]
fn a_resume_asks_for_environment_policy_and_identity() {
    let place = place();
    let bound = Submission {
        policy_digest: "a".repeat(64),
        ..submission()
    };
    place.jobs.submit(&place.id, &bound).unwrap();
    place.jobs.pause(&place.id, "").unwrap();
    let code = |resume: Resume| {
        place
            .jobs
            .resume(&place.id, &resume)
            .unwrap_err()
            .code()
            .to_owned()
    };
    let under_policy = || Resume {
        policy_digest: "b".repeat(64),
        ..here()
    };
    assert_eq!(code(here()), "policy_evaluation_required");
    assert_eq!(
        code(Resume {
            identity: "mallory".to_owned(),
            ..under_policy()
        }),
        "identity_binding_mismatch"
    );
    assert_eq!(
        code(Resume {
            revoked: Revocations::everybody(),
            ..under_policy()
        }),
        "identity_revoked"
    );
    assert_eq!(
        code(Resume {
            environment_fingerprint: "elsewhere".to_owned(),
            ..under_policy()
        }),
        "environment_fingerprint_mismatch"
    );
    assert_eq!(
        place.jobs.status(&place.id).unwrap().revision,
        2,
        "refusals change nothing"
    );
    let elsewhere = Resume {
        environment_fingerprint: "x".to_owned(),
        allow_environment_mismatch: true,
        ..under_policy()
    };
    let state = place.jobs.resume(&place.id, &elsewhere).unwrap();
    assert_eq!(
        state.status_reason_code,
        "resumed_with_env_override_policy_transition"
    );
    assert_eq!(state.policy_digest, "b".repeat(64));
    let (_, events) = place.jobs.inspect(&place.id).unwrap();
    assert_eq!(events[2].payload["policy_changed"], true);
}

#[test]
fn revocation_lists_are_read_in_three_spellings_and_never_half() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("revoked");
    let listed = |text: &str| {
        worldcompute_durable::write_atomic(&path, text.as_bytes(), Mode::Private).unwrap();
        Revocations::load(&path)
    };
    for text in [
        r#"["agent.a"]"#,
        r#"{"identities": ["agent.a"]}"#,
        r#"{"revoked_identities": [" agent.a "]}"#,
        "# c\nagent.a\n\n",
    ] {
        let revoked = listed(text).unwrap();
        assert!(revoked.has("agent.a") && !revoked.has("agent.b"), "{text}");
    }
    for broken in [
        "[\"agent.a\"",
        "{\"revoked\": [\"agent.a\"]}",
        "[1]",
        "\u{feff}[\"agent.a\"]",
        "\u{feff}agent.a",
    ] {
        assert_eq!(
            listed(broken).unwrap_err().code(),
            "invalid_revocations",
            "{broken}"
        );
    }
    let missing = Revocations::load(&dir.path().join("nowhere")).unwrap_err();
    assert_eq!(missing.category(), Category::IoFailure);
    let place = place();
    place
        .jobs
        .submit(
            &place.id,
            &Submission {
                environment_fingerprint: "envfp:tck".to_owned(),
                ..Submission::default()
            },
        )
        .unwrap();
    place.jobs.pause(&place.id, "").unwrap();
    let consulted = Resume {
        revoked: listed("").unwrap(),
        ..here()
    };
    assert_eq!(
        place.jobs.resume(&place.id, &consulted).unwrap_err().code(),
        "identity_validation_required"
    );
}

#[test]
fn ids_that_leave_the_root_are_refused() {
    for id in [
        "",
        "..",
        ".",
        "a/b",
        "../a",
        "/etc",
        "a b",
        "-x",
        "a\0",
        &"a".repeat(129),
        "é",
    ] {
        assert_eq!(
            id.parse::<JobId>().unwrap_err().code(),
            "invalid_job_id",
            "{id:?}"
        );
    }
    for id in ["a", "A.b_c:d-1", &"a".repeat(128)] {
        assert_eq!(id.parse::<JobId>().unwrap().as_str(), id);
    }
}

#[test]
fn missing_and_twice_submitted_jobs_have_codes_of_their_own() {
    let place = place();
    let refused = place.jobs.status(&place.id).unwrap_err();
    assert_eq!(
        (refused.category(), refused.code()),
        (Category::InvalidInput, "job_not_found")
    );
    assert!(!place.jobs.root().exists(), "a question makes no directory");
    place.jobs.submit(&place.id, &submission()).unwrap();
    assert_eq!(
        place
            .jobs
            .submit(&place.id, &submission())
            .unwrap_err()
            .code(),
        "job_exists"
    );
    assert_eq!(
        place
            .jobs
            .checkpoint(&place.id, "cp_0001")
            .unwrap_err()
            .code(),
        "checkpoint_not_found"
    );
}

#[test]
fn what_is_too_long_or_incomplete_is_refused_before_anything_is_written() {
    let place = Place::submitted();
    let with = |summary: String, action: &str| NewCheckpoint {
        summary,
        required_action: action.to_owned(),
        ..decision()
    };
    let code = |checkpoint: NewCheckpoint| {
        place
            .jobs
            .add_checkpoint(&place.id, &checkpoint)
            .unwrap_err()
            .code()
            .to_owned()
    };
    assert_eq!(code(with(String::new(), "a")), "invalid_checkpoint");
    assert_eq!(code(with("s".repeat(513), "a")), "invalid_checkpoint");
    assert_eq!(code(with("s".to_owned(), " ")), "invalid_checkpoint");
    assert_eq!(
        code(with("s".to_owned(), &"a".repeat(4097))),
        "field_too_long"
    );
    assert_eq!(place.jobs.status(&place.id).unwrap().revision, 1);
    place
        .jobs
        .add_checkpoint(&place.id, &with("s".repeat(512), &"a".repeat(4096)))
        .unwrap();
}

#[test]
fn damaged_foreign_and_open_state_is_refused_by_name_with_a_way_out() {
    type Damage = fn(&Place);
    let damage: [(&str, Damage); 8] = [
        ("job_state_corrupt", |place| {
            place.put("state.json", "{\"schema_id\":")
        }),
        ("job_state_corrupt", |place| {
            place.put("state.json", &"[".repeat(10_000))
        }),
        ("job_state_corrupt", |place| {
            place.edit("state.json", |state| state["extra"] = json!(1))
        }),
        ("job_state_corrupt", |place| {
            place.edit("state.json", |state| state["job_id"] = json!("job_2"))
        }),
        ("job_state_corrupt", |place| {
            place.edit("state.json", |state| {
                state["safety_invariants"] = json!(["fail_closed=false"])
            })
        }),
        ("job_state_corrupt", |place| {
            place.put("pending_mutation.json", "{}")
        }),
        ("insecure_permissions", |place| {
            fs::set_permissions(place.path("state.json"), fs::Permissions::from_mode(0o666))
                .unwrap()
        }),
        ("insecure_permissions", |place| {
            fs::rename(place.path("state.json"), place.path("elsewhere")).unwrap();
            std::os::unix::fs::symlink(place.path("elsewhere"), place.path("state.json")).unwrap();
        }),
    ];
    for (code, damage) in damage {
        let place = Place::submitted();
        damage(&place);
        let refused = place.jobs.pause(&place.id, "").unwrap_err();
        assert_eq!(refused.code(), code, "{}", refused.message());
        assert!(refused.message().contains("job_1"), "{}", refused.message());
    }
}

#[test]
fn a_torn_last_event_was_never_acknowledged_and_is_not_shown() {
    let place = Place::submitted();
    let mut events = fs::OpenOptions::new()
        .append(true)
        .open(place.path("events.jsonl"))
        .unwrap();
    events.write_all(b"{\"half").unwrap();
    assert_eq!(place.jobs.inspect(&place.id).unwrap().1.len(), 1);
    place.jobs.pause(&place.id, "").unwrap();
    assert_eq!(
        kinds(&place.jobs.inspect(&place.id).unwrap().1),
        ["submitted", "paused"]
    );
}

/// A disk that stops working at a given step.
struct Dying {
    left: AtomicUsize,
}

impl Dying {
    fn step<T>(&self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let alive = |left: usize| left.checked_sub(1);
        match self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, alive)
        {
            Ok(_) => act(),
            Err(_) => Err(io::Error::other("dead")),
        }
    }
}

impl Disk for Dying {
    fn create(&self, path: &Path) -> io::Result<fs::File> {
        self.step(|| OsDisk.create(path))
    }
    fn write(&self, file: &fs::File, bytes: &[u8]) -> io::Result<()> {
        self.step(|| OsDisk.write(file, bytes)).inspect_err(|_| {
            let _ = OsDisk.write(file, bytes.split_at(bytes.len() / 2).0);
        })
    }
    fn sync(&self, file: &fs::File) -> io::Result<()> {
        self.step(|| OsDisk.sync(file))
    }
    fn truncate(&self, file: &fs::File, len: u64) -> io::Result<()> {
        self.step(|| OsDisk.truncate(file, len))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|| OsDisk.rename(from, to))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(|| OsDisk.remove(path))
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.step(|| OsDisk.sync_dir(dir))
    }
}

#[test]
fn a_change_cut_off_at_any_step_is_found_whole_or_not_at_all() {
    let mut outcomes = [0, 0];
    for steps in 0..60 {
        let place = Place::submitted();
        let before = place.jobs.status(&place.id).unwrap();
        let disk = Arc::new(Dying {
            left: AtomicUsize::new(steps),
        });
        let done = Jobs::on(disk, place.jobs.root(), clock()).pause(&place.id, "bob");
        let (state, events) = place.jobs.inspect(&place.id).unwrap();
        assert_eq!(
            events.last().unwrap().revision,
            state.revision,
            "after {steps} steps"
        );
        assert!(
            done.as_ref()
                .map_or(state == before || state.revision == 2, |done| *done
                    == state),
            "after {steps} steps"
        );
        assert!(
            place.jobs.diagnose().unwrap().is_empty(),
            "after {steps} steps"
        );
        outcomes[usize::from(done.is_ok())] += 1;
        place.jobs.cancel(&place.id, "").unwrap();
    }
    assert!(outcomes.iter().all(|count| *count > 5), "{outcomes:?}");
}

#[test]
fn a_submission_cut_off_at_any_step_is_found_whole_or_not_at_all() {
    for steps in 0..60 {
        let place = place();
        let disk = Arc::new(Dying {
            left: AtomicUsize::new(steps),
        });
        let done = Jobs::on(disk, place.jobs.root(), clock()).submit(&place.id, &submission());
        match place.jobs.inspect(&place.id) {
            Ok((state, events)) => assert_eq!(
                (state.revision, events.len()),
                (1, 1),
                "after {steps} steps"
            ),
            Err(fault) => {
                assert_eq!(
                    fault.code(),
                    "job_not_found",
                    "after {steps} steps: {}",
                    fault.message()
                );
                assert!(done.is_err(), "acknowledged and lost after {steps} steps");
                place.jobs.submit(&place.id, &submission()).unwrap();
            }
        }
    }
}

#[test]
fn an_unfinished_change_is_diagnosed_and_not_repaired_by_looking() {
    let place = Place::submitted();
    let marker = json!({"schema_id": "x"}).to_string();
    place.put("pending_mutation.json", &marker);
    place.edit("state.json", |state| state["revision"] = json!(9));
    let issues = place.jobs.diagnose().unwrap();
    let kinds: Vec<_> = issues.iter().map(|issue| issue.kind).collect();
    assert_eq!(kinds, [IssueKind::PendingMutation, IssueKind::StateAhead]);
    assert_eq!(
        fs::read_to_string(place.path("pending_mutation.json")).unwrap(),
        marker
    );
    fs::remove_file(place.path("state.json")).unwrap();
    assert_eq!(
        place.jobs.diagnose().unwrap()[1].kind,
        IssueKind::MissingState
    );
}

#[test]
fn the_environment_has_one_name_unless_one_is_chosen() {
    assert_eq!(environment_fingerprint(" mine ", "/bin/sh"), "mine");
    let here = environment_fingerprint("", "/bin/sh");
    assert!(here.starts_with("envfp:") && here.len() == 70, "{here}");
    assert_ne!(here, environment_fingerprint("", "/bin/zsh"));
}

#[test]
fn many_at_once_lose_no_change() {
    let place = Place::submitted();
    let progress = NewCheckpoint {
        kind: CheckpointKind::Progress,
        ..decision()
    };
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..4 {
                    while let Err(fault) = place.jobs.add_checkpoint(&place.id, &progress) {
                        assert_eq!(fault.code(), "state_contention");
                    }
                }
            });
        }
    });
    let (state, events) = place.jobs.inspect(&place.id).unwrap();
    assert_eq!(
        (state.checkpoints.len(), events.len(), state.revision),
        (32, 33, 33)
    );
    assert_eq!(state.checkpoints.last().unwrap().checkpoint_id, "cp_0032");
    drop(place.dir);
}
