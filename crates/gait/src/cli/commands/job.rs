//! `gait job`.

mod checkpoint;
mod resume;

use std::path::Path;

use gait::job::{Checkpoint, Event, JobId, JobState, Jobs, Submission, environment_fingerprint};
use gait::{Policy, VERSION};
use serde::Serialize;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::Sha256;

use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::flag::Flag;

pub use checkpoint::{ADD, LIST, SHOW};
pub use resume::RESUME;

/// Which job.
const JOB: &[Flag] = &[Flag::text("id", ""), Flag::text("root", "./gait-out/jobs")];
/// Which job, and who acts on it.
const ACTED: &[Flag] = &[Flag::group(JOB), Flag::text("actor", "")];
/// Under which policy.
const POLICY: &[Flag] = &[
    Flag::text("policy", ""),
    Flag::text("policy-digest", ""),
    Flag::text("policy-ref", ""),
];

/// `gait job approve`
pub static APPROVE: Command = Command {
    words: &["job", "approve"],
    help: "Record that somebody approved what a job asked.",
    flags: &[Flag::group(ACTED), Flag::text("reason", "")],
    positionals: Positionals::None,
    run: |context, args| {
        let (actor, reason) = (args.text("actor"), args.text("reason"));
        let job = jobs(context, args).approve(&id(args)?, actor, reason)?;
        Answer::of("approve", job).outcome()
    },
};

/// `gait job cancel`
pub static CANCEL: Command = Command {
    words: &["job", "cancel"],
    help: "Give up a job.",
    flags: ACTED,
    positionals: Positionals::None,
    run: |context, args| {
        let job = jobs(context, args).cancel(&id(args)?, args.text("actor"))?;
        Answer::of("cancel", job).outcome()
    },
};

/// `gait job inspect`
pub static INSPECT: Command = Command {
    words: &["job", "inspect"],
    help: "Show a job and everything that happened to it.",
    flags: JOB,
    positionals: Positionals::None,
    run: |context, args| {
        let (job, events) = jobs(context, args).inspect(&id(args)?)?;
        let answer = Answer {
            events,
            ..Answer::of("inspect", job)
        };
        answer.outcome()
    },
};

/// `gait job pause`
pub static PAUSE: Command = Command {
    words: &["job", "pause"],
    help: "Pause a job until it is resumed.",
    flags: ACTED,
    positionals: Positionals::None,
    run: |context, args| {
        let job = jobs(context, args).pause(&id(args)?, args.text("actor"))?;
        Answer::of("pause", job).outcome()
    },
};

/// `gait job status`
pub static STATUS: Command = Command {
    words: &["job", "status"],
    help: "Show where a job stands.",
    flags: JOB,
    positionals: Positionals::None,
    run: |context, args| {
        let job = jobs(context, args).status(&id(args)?)?;
        Answer::of("status", job).outcome()
    },
};

/// `gait job stop`
pub static STOP: Command = Command {
    words: &["job", "stop"],
    help: "Stop a job in an emergency: it never runs again.",
    flags: ACTED,
    positionals: Positionals::None,
    run: |context, args| {
        let job = jobs(context, args).stop(&id(args)?, args.text("actor"))?;
        Answer::of("stop", job).outcome()
    },
};

/// `gait job submit`
pub static SUBMIT: Command = Command {
    words: &["job", "submit"],
    help: "Create a durable job, bound to an identity, an environment and a policy.",
    flags: &[
        Flag::group(ACTED),
        Flag::group(POLICY),
        Flag::text("identity", ""),
        Flag::text("env-fingerprint", ""),
    ],
    positionals: Positionals::None,
    run: submit,
};

fn submit(context: &Context, args: &Args) -> Result<Outcome> {
    let (policy_digest, policy_ref) = policy(args)?;
    let submission = Submission {
        actor: args.text("actor").to_owned(),
        identity: args.text("identity").to_owned(),
        producer_version: VERSION.to_owned(),
        environment_fingerprint: fingerprint(context, args),
        policy_digest,
        policy_ref,
    };
    let job = jobs(context, args).submit(&id(args)?, &submission)?;
    Answer::of("submit", job).outcome()
}

fn jobs(context: &Context, args: &Args) -> Jobs {
    Jobs::at(args.text("root").trim(), context.clock.clone())
}

fn id(args: &Args) -> Result<JobId> {
    args.text("id").parse()
}

fn fingerprint(context: &Context, args: &Args) -> String {
    let shell = context.environment.setting("SHELL").unwrap_or_default();
    environment_fingerprint(args.text("env-fingerprint"), &shell)
}

/// Digest and name of the policy that the flags give.
fn policy(args: &Args) -> Result<(String, String)> {
    let given = |flag: &str| args.text(flag).trim().to_owned();
    let (path, digest, name) = (given("policy"), given("policy-digest"), given("policy-ref"));
    if path.is_empty() {
        if !digest.is_empty() && digest.parse::<Sha256>().is_err() {
            return Err(invalid("--policy-digest must be a sha256 hex digest"));
        }
        return Ok((digest, name));
    }
    let computed = Policy::load(Path::new(&path))?.digest().to_string();
    if !digest.is_empty() && digest != computed {
        let message = format!("policy digest mismatch: provided={digest} computed={computed}");
        return Err(
            Fault::new(Category::InvalidInput, "policy_digest_mismatch", message)
                .hint("give the policy or its digest, or the two that belong together"),
        );
    }
    let name = if name.is_empty() { path } else { name };
    Ok((computed, name))
}

/// What every command of the group answers.
#[derive(Serialize)]
struct Answer {
    schema_id: &'static str,
    schema_version: &'static str,
    operation: &'static str,
    job_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint: Option<Checkpoint>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checkpoints: Vec<Checkpoint>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<Event>,
}

impl Answer {
    fn to(operation: &'static str, job_id: &str) -> Self {
        Self {
            schema_id: "gait.job.output",
            schema_version: "1.0.0",
            operation,
            job_id: job_id.to_owned(),
            job: None,
            checkpoint: None,
            checkpoints: Vec::new(),
            events: Vec::new(),
        }
    }

    fn of(operation: &'static str, job: JobState) -> Self {
        Self {
            job: Some(job.clone()),
            ..Self::to(operation, &job.job_id)
        }
    }

    fn outcome(&self) -> Result<Outcome> {
        Outcome::ok(self, self.human())
    }

    fn human(&self) -> String {
        let mut lines = Vec::new();
        lines.extend(self.job.as_ref().map(|job| {
            format!(
                "job {}: id={} status={} stop_reason={} reason_code={}",
                self.operation,
                job.job_id,
                job.status.as_str(),
                job.stop_reason,
                job.status_reason_code
            )
        }));
        lines.extend(self.checkpoint.as_ref().map(|checkpoint| {
            let kind = checkpoint.kind.as_str();
            format!("checkpoint: {} ({kind})", checkpoint.checkpoint_id)
        }));
        for (name, count) in [
            ("checkpoints", self.checkpoints.len()),
            ("events", self.events.len()),
        ] {
            lines.extend((count > 0).then(|| format!("{name}={count}")));
        }
        lines.join("\n")
    }
}
