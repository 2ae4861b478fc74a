//! A run to try everything else on, the same on every machine: no network, no clock, no configuration.

mod durable;
mod policy;

pub use durable::{JOB_ID, durable};
pub use policy::{INTENT_FILE, POLICY_FILE, policy};

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use worldcompute_durable::output_dir;
use worldcompute_fault::Result;
use worldcompute_proof::Sha256;

use crate::VERSION;
use crate::runpack::{
    CaptureMode, Env, Intent, Payload, Receipt, Recorded, Recorder, Refs, ResultRecord, Run, Stamp,
    TimelineEvent,
};

/// The id of the run.
pub const RUN_ID: &str = "run_demo";
/// When it took place: 2026-02-05T00:00:00Z.
const STARTED: Timestamp = Timestamp::constant(1_770_249_600, 0);
/// When it was over.
const FINISHED: Timestamp = Timestamp::constant(1_770_249_602, 0);
/// What it called, each with one argument.
const CALLS: [(&str, &str, &str); 3] = [
    ("tool.search", "query", "gait demo: offline verification"),
    ("tool.fetch", "url", "https://example.local/demo"),
    ("tool.summarize", "input_ref", "ref_1"),
];

/// Writes the runpack of the demo run into `dir`.
///
/// # Errors
/// Those of making the directory and of writing.
pub fn record(dir: &Path) -> Result<(PathBuf, Recorded)> {
    output_dir(dir)?;
    let path = dir.join(format!("runpack_{RUN_ID}.zip"));
    let recorded = record_as(VERSION, &path)?;
    Ok((path, recorded))
}

fn record_as(producer: &str, path: &Path) -> Result<Recorded> {
    let refs = Refs {
        receipts: (1..).zip(CALLS).map(receipt).collect(),
        ..Refs::default()
    };
    let started = Stamp::at(STARTED);
    let mut recorder = Recorder::new(run(producer), refs, CaptureMode::Reference, started)?;
    for (number, (tool, name, value)) in (1..).zip(CALLS) {
        let args = Map::from_iter([(name.to_owned(), Value::from(value))]);
        recorder.intent(intent(number, tool, &args)?, None)?;
        recorder.result(result(number)?, None)?;
    }
    recorder.finish(path, None)
}

fn run(producer: &str) -> Run {
    let event = |event: &str, at| TimelineEvent {
        event: event.to_owned(),
        ts: Stamp::at(at),
        ..TimelineEvent::default()
    };
    Run {
        env: Env {
            arch: "demo".to_owned(),
            os: "demo".to_owned(),
            runtime: "go".to_owned(),
        },
        producer_version: producer.to_owned(),
        run_id: RUN_ID.to_owned(),
        timeline: vec![event("start", STARTED), event("finish", FINISHED)],
        ..Run::default()
    }
}

fn intent<'a>(number: u8, tool: &'a str, args: &Map<String, Value>) -> Result<Intent<'a>> {
    Ok(Intent {
        args: Some(Payload::new(args)?),
        intent_id: format!("intent_{number}").into(),
        tool_name: tool.into(),
        ..Intent::default()
    })
}

fn result(number: u8) -> Result<ResultRecord<'static>> {
    let message = format!("demo result {number}");
    let result = Map::from_iter([
        ("ok".to_owned(), json!(true)),
        ("message".to_owned(), json!(message)),
    ]);
    Ok(ResultRecord {
        intent_id: format!("intent_{number}").into(),
        result: Some(Payload::new(&result)?),
        status: "ok".into(),
        ..ResultRecord::default()
    })
}

fn receipt((number, (tool, _, _)): (u8, (&str, &str, &str))) -> Receipt {
    Receipt {
        content_digest: Sha256::of(format!("content-{number}")).to_string(),
        query_digest: Sha256::of(format!("query-{number}")).to_string(),
        redaction_mode: "reference".to_owned(),
        ref_id: format!("ref_{number}"),
        retrieved_at: Stamp::at(STARTED),
        source_locator: tool.to_owned(),
        source_type: "demo".to_owned(),
        ..Receipt::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_has_the_digest_of_the_format() {
        let dir = tempfile::tempdir().unwrap();
        let recorded = record_as("1.4.0", &dir.path().join("demo.zip")).unwrap();
        assert_eq!(
            recorded.manifest_digest,
            "6124af948c9ebec4cd5461e236576e7c8c42c00f99c69b1310ec2e4663fd8634"
        );
    }

    #[test]
    fn the_demo_is_the_same_every_time_and_verifies() {
        let dir = tempfile::tempdir().unwrap();
        let (path, recorded) = record(dir.path()).unwrap();
        let first = std::fs::read(&path).unwrap();
        record(dir.path()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first);
        let report = crate::runpack::verify(&path, &Default::default()).unwrap();
        assert!(report.holds());
        assert_eq!(report.manifest_digest, recorded.manifest_digest);
    }
}
