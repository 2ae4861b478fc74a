//! What goes into a dialogue, how much, and what is refused when it comes back.

use gait::runpack::{CaptureMode, Intent, Recorder, Refs, Run, Stamp};

use super::super::MAX_BATCH_RECORDS;
use super::*;

/// A session of so many intents.
struct Recording {
    dir: tempfile::TempDir,
}

impl Recording {
    fn of(intents: usize) -> Self {
        let recording = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let run = Run {
            run_id: "run_1".to_owned(),
            ..Run::default()
        };
        let now = Stamp::at(Timestamp::UNIX_EPOCH);
        let mut recorder =
            Recorder::new(run, Refs::default(), CaptureMode::Reference, now).unwrap();
        for number in 0..intents {
            let intent = Intent {
                intent_id: format!("i{number}").into(),
                args_digest: "a".repeat(64).into(),
                ..Intent::default()
            };
            recorder.intent(intent, None).unwrap();
        }
        recorder.finish(&recording.session().runpack, None).unwrap();
        recording
    }

    fn session(&self) -> Session {
        Session {
            runpack: self.dir.path().join("run.zip"),
            traces: Vec::new(),
            approvals: Vec::new(),
        }
    }

    fn gathered(&self) -> Result<Parts> {
        Parts::gather(&self.session(), Timestamp::UNIX_EPOCH)
    }
}

#[test]
fn as_many_records_as_one_commit_takes_are_a_dialogue_and_one_more_is_none() {
    let batch = Recording::of(MAX_DIALOGUE_RECORDS).gathered().unwrap();
    assert_eq!(batch.batch().unwrap().len(), MAX_BATCH_RECORDS);
    let refused = Recording::of(MAX_DIALOGUE_RECORDS + 1).gathered();
    assert_eq!(refused.err().unwrap().code(), "dialogue_too_long");
}

#[test]
fn what_is_not_all_that_was_recorded_is_not_read_back() {
    let recording = Recording::of(3);
    let path = recording.dir.path().join("out.zip");
    type Change = fn(&mut Parts);
    let changes: [(&str, Change); 6] = [
        ("an intent less", |parts| drop(parts.intents.pop())),
        ("another order", |parts| parts.intents.swap(0, 1)),
        ("another digest", |parts| {
            parts.intents[1].line = parts.intents[1].line.replace("aaaa", "aaab");
        }),
        ("another time", |parts| {
            parts.dialogue.run.created_at = Stamp::default();
        }),
        ("other evidence", |parts| {
            parts.dialogue.evidence = "a".repeat(64);
        }),
        ("another manifest", |parts| {
            parts.dialogue.manifest.manifest_digest = "a".repeat(64);
        }),
    ];
    for (what, change) in changes {
        let mut parts = recording.gathered().unwrap();
        change(&mut parts);
        let refused = parts.restore(Some(&path)).unwrap_err();
        assert_eq!(refused.category(), Category::VerificationFailed, "{what}");
        assert!(!path.exists(), "{what}");
    }
    let parts = recording.gathered().unwrap();
    parts.restore(Some(&path)).unwrap();
    let written = std::fs::read(&path).unwrap();
    assert_eq!(written, std::fs::read(recording.session().runpack).unwrap());
}
