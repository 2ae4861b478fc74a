//! `gait demo`.

use std::path::Path;

use gait::{Verdict, demo, runpack};
use serde::Serialize;
use worldcompute_fault::{Category, Fault, Result};

use super::verify::shown;
use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::flag::Flag;

/// `gait demo`
pub static DEMO: Command = Command {
    words: &["demo"],
    help: "Run a fully offline deterministic demo and emit a shareable runpack receipt for verification.",
    flags: &[Flag::switch("durable"), Flag::switch("policy")],
    positionals: Positionals::Interleaved {
        min: 0,
        max: 0,
        expected: "",
    },
    run,
};

const OUT: &str = "gait-out";
const METRICS: &str = "export GAIT_ADOPTION_LOG=./gait-out/adoption.jsonl";

#[derive(Default, Serialize)]
struct Fields {
    bundle: String,
    duration_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_id: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    matched_rule: Option<String>,
    metrics_opt_in: &'static str,
    mode: &'static str,
    next_commands: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pack_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_verdict: Option<Verdict>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reason_codes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    simulated_failure: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ticket_footer: Option<String>,
    verify: &'static str,
}

fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let started = context.clock.now();
    let fields = match (args.switch("durable"), args.switch("policy")) {
        (true, true) => return Err(invalid("choose only one mode: --durable or --policy")),
        (true, false) => durable()?,
        (false, true) => policy()?,
        (false, false) => standard()?,
    };
    let took = context.clock.now().duration_since(started).as_millis();
    let fields = Fields {
        duration_ms: i64::try_from(took).unwrap_or(i64::MAX),
        metrics_opt_in: METRICS,
        verify: "ok",
        ..fields
    };
    Outcome::ok(&fields, human(&fields))
}

fn standard() -> Result<Fields> {
    let (path, recorded) = demo::record(Path::new(OUT))?;
    if !runpack::verify(&path, &runpack::Requirements::default())?.holds() {
        return Err(Fault::new(
            Category::VerificationFailed,
            "verification_failed",
            "verification failed",
        ));
    }
    let footer = runpack::ticket_footer(&recorded.run_id, &recorded.manifest_digest);
    Ok(Fields {
        bundle: shown(&path),
        mode: "standard",
        next_commands: vec![
            format!("gait verify {} --json", demo::RUN_ID),
            format!(
                "gait regress bootstrap --from {} --json --junit ./{OUT}/junit.xml",
                demo::RUN_ID
            ),
            "gait demo --durable".to_owned(),
            "gait demo --policy".to_owned(),
        ],
        run_id: Some(demo::RUN_ID),
        ticket_footer: Some(footer),
        ..Fields::default()
    })
}

fn durable() -> Result<Fields> {
    let root = Path::new(OUT).join("jobs");
    let pack = Path::new(OUT).join(format!("pack_{}.zip", demo::JOB_ID));
    let job = demo::durable(&root, &pack)?;
    Ok(Fields {
        bundle: shown(&root.join(demo::JOB_ID).join("state.json")),
        job_id: Some(demo::JOB_ID),
        job_status: Some(job.status.as_str()),
        mode: "durable",
        next_commands: vec![
            format!("gait job inspect --id {} --json", demo::JOB_ID),
            format!("gait pack inspect {} --json", shown(&pack)),
            "gait demo --policy".to_owned(),
        ],
        pack_path: Some(shown(&pack)),
        run_id: Some(demo::RUN_ID),
        simulated_failure: Some("resume blocked until approval"),
        ..Fields::default()
    })
}

fn policy() -> Result<Fields> {
    let dir = Path::new(OUT);
    let evaluation = demo::policy(dir)?;
    let (policy, intent) = (dir.join(demo::POLICY_FILE), dir.join(demo::INTENT_FILE));
    let eval = format!(
        "gait gate eval --policy {} --intent {}",
        shown(&policy),
        shown(&intent)
    );
    Ok(Fields {
        bundle: shown(&intent),
        matched_rule: Some(evaluation.matched_rules.join(",")),
        mode: "policy",
        next_commands: vec![
            format!("{eval} --simulate --json"),
            format!("{eval} --json"),
        ],
        pack_path: Some(shown(&policy)),
        policy_verdict: Some(evaluation.verdict),
        reason_codes: evaluation.reason_codes,
        ..Fields::default()
    })
}

fn human(fields: &Fields) -> String {
    let verdict = fields.policy_verdict.map(|verdict| verdict.to_string());
    let lines = [
        ("mode", Some(fields.mode)),
        ("run_id", fields.run_id),
        ("job_id", fields.job_id),
        ("job_status", fields.job_status),
        ("bundle", Some(fields.bundle.as_str())),
        ("pack_path", fields.pack_path.as_deref()),
        ("ticket_footer", fields.ticket_footer.as_deref()),
        ("policy_verdict", verdict.as_deref()),
        ("verify", Some(fields.verify)),
    ];
    let lines = lines
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", value?)));
    let next = format!("next={}", fields.next_commands.join(" | "));
    lines.chain([next]).collect::<Vec<_>>().join("\n")
}
