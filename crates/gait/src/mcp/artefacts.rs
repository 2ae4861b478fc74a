//! A ruling as a runpack and as a pack: one intent, and what came of it.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use worldcompute_fault::{Fault, Result};

use super::boundary::{Boundary, Ruling};
use crate::artefact;
use crate::pack::{Build, Built, build_run};
use crate::runpack::{
    CaptureMode, Intent, Payload, Recorder, Refs, ResultRecord, Run, Stamp, TimelineEvent,
};
use crate::verdict::Verdict;

/// The only intent of such a run.
const INTENT_ID: &str = "intent_1";

impl Boundary {
    /// Writes the runpack of a ruling to `path`; arguments and results are in it by digest only.
    pub fn write_runpack(&self, ruling: &Ruling, path: &Path) -> Result<()> {
        artefact::prepare(path)?;
        let now = ruling
            .intent
            .created_at()
            .get()
            .map(Stamp::at)
            .unwrap_or_default();
        let run = Run {
            created_at: now,
            run_id: ruling.run_id.clone(),
            producer_version: crate::VERSION.to_owned(),
            timeline: ["proxy_eval_start", "proxy_eval_finish"]
                .map(|event| happened(event, now))
                .into(),
            ..Run::default()
        };
        let mut recorder = Recorder::new(run, Refs::default(), CaptureMode::Reference, now)?;
        let intent = Intent {
            args_digest: ruling.intent.args_digest().to_string().into(),
            intent_id: INTENT_ID.into(),
            tool_name: ruling.intent.tool_name().into(),
            ..Intent::default()
        };
        recorder.intent(intent, None)?;
        recorder.result(outcome(ruling)?, None)?;
        recorder
            .finish(path, Some(self.gate().signing_key()))
            .map(drop)
    }

    /// Writes the pack of a ruling to `path`, from its runpack if there is one already.
    pub fn write_pack(
        &self,
        ruling: &Ruling,
        runpack: Option<&Path>,
        path: &Path,
    ) -> Result<Built> {
        let build = Build {
            output: Some(path),
            producer_version: crate::VERSION,
            key: Some(self.gate().signing_key()),
        };
        if let Some(runpack) = runpack {
            return build_run(runpack, &build);
        }
        let mut own = path.as_os_str().to_owned();
        own.push(".runpack");
        let own = PathBuf::from(own);
        self.write_runpack(ruling, &own)?;
        let built = build_run(&own, &build);
        std::fs::remove_file(&own)
            .map_err(|error| Fault::io(format_args!("remove {}", own.display()), &error))?;
        built
    }
}

fn happened(event: &str, ts: Stamp) -> TimelineEvent {
    TimelineEvent {
        event: event.to_owned(),
        ts,
        ..TimelineEvent::default()
    }
}

fn outcome(ruling: &Ruling) -> Result<ResultRecord<'static>> {
    let decision = &ruling.decision;
    let members: Map<String, Value> = [
        ("reason_codes", json!(decision.reason_codes())),
        ("trace_id", json!(decision.trace().trace_id())),
        ("verdict", json!(decision.verdict())),
        ("violations", json!(decision.violations())),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into_iter()
    .collect();
    let stopped = matches!(
        decision.verdict(),
        Verdict::Block | Verdict::RequireApproval
    );
    Ok(ResultRecord {
        intent_id: INTENT_ID.into(),
        result: Some(Payload::new(&members)?),
        status: if stopped { "error" } else { "ok" }.into(),
        ..ResultRecord::default()
    })
}
