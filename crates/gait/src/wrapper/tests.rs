use jiff::{SignedDuration, Timestamp};
use worldcompute_proof::SigningKey;

use super::*;
use crate::gate::{Gate, Request};
use crate::intent::Intent;
use crate::policy::Policy;

/// When everything here happens.
const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

struct Frozen(Timestamp);

impl Clock for Frozen {
    fn now(&self) -> Timestamp {
        self.0
    }
}

fn at(time: Timestamp) -> Arc<dyn Clock> {
    Arc::new(Frozen(time))
}

fn trace(dir: &Path, name: &str, effect: &str, key: &SigningKey) {
    trace_at(NOW, dir, name, effect, key);
}

fn trace_at(time: Timestamp, dir: &Path, name: &str, effect: &str, key: &SigningKey) {
    let policy = Policy::parse(format!("default_verdict: {effect}\n").as_bytes()).unwrap();
    let intent =
        br#"{"tool_name":"t","context":{"identity":"a","workspace":"w","risk_class":"low"}}"#;
    let gate = Gate::new(policy, key.clone(), at(time));
    let decision = gate.decide(&Intent::parse(intent).unwrap()).unwrap();
    crate::artefact::write(&dir.join(name), decision.trace().bytes()).unwrap();
}

fn run(dir: &Path, mode: Mode, script: &str, key: Option<VerifyingKey>) -> (Report, Conclusion) {
    let command = ["/bin/sh", "-c", script].map(str::to_owned);
    let wrapped = Wrapped {
        mode,
        command: &command,
        cwd: dir,
        timeout: Duration::from_secs(60),
        key,
        clock: at(NOW),
    };
    let report = wrapped.run().unwrap();
    let conclusion = wrapped.conclude(&report);
    (report, conclusion)
}

fn exit(conclusion: &Conclusion) -> i32 {
    match conclusion {
        Conclusion::Exit(code) => *code,
        Conclusion::Failed(_, fault) => i32::from(fault.gait_exit_code()),
    }
}

#[test]
fn enforcement_turns_the_strictest_verdict_into_the_exit() {
    let dir = tempfile::tempdir().unwrap();
    let key = SigningKey::generate().unwrap();
    for effect in ["allow", "block", "dry_run", "require_approval"] {
        trace(dir.path(), effect, effect, &key);
    }
    for (named, enforced) in [
        ("allow", 0),
        ("allow require_approval", 4),
        ("require_approval dry_run", 3),
        ("require_approval block allow", 3),
    ] {
        let script = format!("for t in {named}; do echo \"  trace_path=$t \"; done");
        assert_eq!(
            exit(&run(dir.path(), Mode::Enforce, &script, None).1),
            enforced,
            "{named}"
        );
        assert_eq!(
            exit(&run(dir.path(), Mode::Trace, &script, None).1),
            0,
            "{named}"
        );
    }
}

#[test]
fn a_simulated_allow_enforces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let key = SigningKey::generate().unwrap();
    let policy = Policy::parse(b"default_verdict: allow\n").unwrap();
    let gate = Gate::new(policy, key.clone(), at(NOW));
    let intent =
        br#"{"tool_name":"t","context":{"identity":"a","workspace":"w","risk_class":"low"}}"#;
    let simulation = Request {
        simulate: true,
        ..Request::default()
    };
    let intent = Intent::parse(intent).unwrap();
    let decision = gate.decide_on(&intent, &simulation).unwrap();
    crate::artefact::write(&dir.path().join("t"), decision.trace().bytes()).unwrap();
    for key in [None, Some(key.verifying_key())] {
        let (report, conclusion) = run(dir.path(), Mode::Enforce, "echo trace_path=t", key);
        assert_eq!((exit(&conclusion), report.verdicts.len()), (3, 0));
        assert!(report.warnings[0].contains("a simulation of allow decides nothing"));
    }
}

#[test]
fn the_programs_own_exit_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    trace(dir.path(), "t", "block", &SigningKey::generate().unwrap());
    for mode in [Mode::Trace, Mode::Test, Mode::Enforce] {
        let (report, conclusion) = run(
            dir.path(),
            mode,
            "echo trace_path=t >&2; echo $GAIT_WRAPPER_MODE; exit 42",
            None,
        );
        assert_eq!(
            (exit(&conclusion), report.stdout.trim()),
            (42, mode.as_str())
        );
        assert_eq!(report.trace_paths, ["t"]);
    }
}

#[test]
fn a_program_that_names_no_trace_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for script in ["true", "echo trace_path=", "echo my trace_path=t", "exit 1"] {
        let conclusion = run(dir.path(), Mode::Test, script, None).1;
        assert!(
            matches!(conclusion, Conclusion::Failed("missing_trace_reference", _)),
            "{script}"
        );
        assert_eq!(exit(&conclusion), 6);
    }
}

#[test]
fn enforcement_fails_closed_on_what_is_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let key = SigningKey::generate().unwrap();
    trace(dir.path(), "sound", "allow", &key);
    trace(dir.path(), "blocked", "block", &key);
    let blocked = std::fs::read_to_string(dir.path().join("blocked")).unwrap();
    crate::artefact::write(
        &dir.path().join("relabelled"),
        blocked
            .replace("\"verdict\": \"block\"", "\"verdict\": \"allow\"")
            .as_bytes(),
    )
    .unwrap();
    crate::artefact::write(&dir.path().join("garbage"), b"[]").unwrap();
    let sound = std::fs::read_to_string(dir.path().join("sound")).unwrap();
    let mut unsigned: serde_json::Value = serde_json::from_str(&sound).unwrap();
    unsigned["signature"]["alg"] = "none".into();
    crate::artefact::write(
        &dir.path().join("alg_none"),
        unsigned.to_string().as_bytes(),
    )
    .unwrap();
    unsigned.as_object_mut().unwrap().remove("signature");
    crate::artefact::write(
        &dir.path().join("unsigned"),
        unsigned.to_string().as_bytes(),
    )
    .unwrap();
    let retooled = sound.replace("\"tool_name\": \"t\"", "\"tool_name\": \"u\"");
    assert_ne!(sound, retooled);
    crate::artefact::write(&dir.path().join("retooled"), retooled.as_bytes()).unwrap();
    for (name, seconds) in [("earlier", -1), ("later", 1)] {
        let time = NOW + SignedDuration::from_secs(seconds);
        trace_at(time, dir.path(), name, "allow", &key);
    }
    for name in [
        "missing",
        "garbage",
        "relabelled",
        ".",
        "alg_none",
        "unsigned",
        "retooled",
        "earlier",
        "later",
    ] {
        let script = format!("echo trace_path=sound; echo trace_path={name}");
        let (report, conclusion) = run(dir.path(), Mode::Enforce, &script, None);
        assert_eq!((exit(&conclusion), report.warnings.len()), (3, 2), "{name}");
        assert_eq!(exit(&run(dir.path(), Mode::Test, &script, None).1), 0);
    }
    let own = Some(key.verifying_key());
    assert_eq!(
        exit(&run(dir.path(), Mode::Enforce, "echo trace_path=sound", own).1),
        0
    );
    let other = Some(SigningKey::generate().unwrap().verifying_key());
    assert_eq!(
        exit(&run(dir.path(), Mode::Enforce, "echo trace_path=sound", other).1),
        3
    );
}

#[test]
fn a_program_that_takes_too_long_is_ended_with_all_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let command = [
        "/bin/sh",
        "-c",
        "trap '' TERM; echo trace_path=t; sleep 1000 & sleep 1000",
    ]
    .map(str::to_owned);
    let wrapped = Wrapped {
        mode: Mode::Test,
        command: &command,
        cwd: dir.path(),
        timeout: Duration::from_millis(50),
        key: None,
        clock: at(NOW),
    };
    let report = wrapped.run().unwrap();
    assert!(report.timed_out);
    let conclusion = wrapped.conclude(&report);
    assert!(matches!(
        conclusion,
        Conclusion::Failed("child_timed_out", _)
    ));
    assert_eq!(exit(&conclusion), 1);
}

#[test]
fn references_are_found_behind_any_amount_of_output_of_which_little_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    trace(dir.path(), "t", "allow", &SigningKey::generate().unwrap());
    let script = "i=0; while [ $i -lt 400 ]; do printf '%08192d\\n' $i; i=$((i+1)); done; printf trace_path=t";
    let (report, conclusion) = run(dir.path(), Mode::Enforce, script, None);
    assert_eq!((exit(&conclusion), report.stdout.len()), (0, MAX_KEPT));
    assert!(report.warnings[0].starts_with("output past"));
}

#[test]
fn more_references_than_can_be_kept_fail_closed() {
    let mut references = evidence::References::default();
    for number in 0..MAX_REFERENCES {
        references.take(format!("trace_path={number}").as_bytes());
    }
    assert!(!references.overflowed);
    references.take(b"trace_path=0");
    assert!(!references.overflowed);
    references.take(b"trace_path=one more");
    assert!(references.overflowed);
}

#[test]
fn a_program_that_cannot_be_started_is_a_matter_of_the_system() {
    let command = ["/nonexistent/program".to_owned()];
    let wrapped = Wrapped {
        mode: Mode::Test,
        command: &command,
        cwd: Path::new("."),
        timeout: Duration::from_secs(1),
        key: None,
        clock: at(NOW),
    };
    let fault = wrapped.run().unwrap_err();
    assert_eq!((fault.code(), fault.gait_exit_code()), ("not_found", 1));
}
