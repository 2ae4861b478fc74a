//! `gait job checkpoint`.

use gait::job::{CheckpointKind, NewCheckpoint};
use worldcompute_fault::{Category, Fault, Result};

use super::{ACTED, Answer, JOB, id, jobs};
use crate::cli::args::Args;
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::flag::Flag;

/// `gait job checkpoint add`
pub static ADD: Command = Command {
    words: &["job", "checkpoint", "add"],
    help: "Report how a job is doing, or ask for a decision.",
    flags: &[
        Flag::group(ACTED),
        Flag::text("type", "progress"),
        Flag::text("summary", ""),
        Flag::text("required-action", ""),
    ],
    positionals: Positionals::None,
    run: add,
};

/// `gait job checkpoint list`
pub static LIST: Command = Command {
    words: &["job", "checkpoint", "list"],
    help: "List the checkpoints of a job.",
    flags: JOB,
    positionals: Positionals::None,
    run: |context, args| {
        let job = jobs(context, args).status(&id(args)?)?;
        let answer = Answer {
            checkpoints: job.checkpoints,
            ..Answer::to("checkpoint list", &job.job_id)
        };
        answer.outcome()
    },
};

/// `gait job checkpoint show`
pub static SHOW: Command = Command {
    words: &["job", "checkpoint", "show"],
    help: "Show one checkpoint of a job.",
    flags: &[Flag::group(JOB), Flag::text("checkpoint", "")],
    positionals: Positionals::None,
    run: |context, args| {
        let id = id(args)?;
        let checkpoint = jobs(context, args).checkpoint(&id, args.text("checkpoint"))?;
        let answer = Answer {
            checkpoint: Some(checkpoint),
            ..Answer::to("checkpoint show", id.as_str())
        };
        answer.outcome()
    },
};

fn add(context: &Context, args: &Args) -> Result<Outcome> {
    let kind = CheckpointKind::parse(args.text("type")).ok_or_else(|| {
        let message = "invalid checkpoint: type must be one of \
                       plan|progress|decision-needed|blocked|completed";
        Fault::new(Category::InvalidInput, "invalid_checkpoint", message).hint("see --type")
    })?;
    let checkpoint = NewCheckpoint {
        kind,
        summary: args.text("summary").to_owned(),
        required_action: args.text("required-action").to_owned(),
        actor: args.text("actor").to_owned(),
    };
    let (job, checkpoint) = jobs(context, args).add_checkpoint(&id(args)?, &checkpoint)?;
    let answer = Answer {
        checkpoint: Some(checkpoint),
        ..Answer::of("checkpoint add", job)
    };
    answer.outcome()
}
