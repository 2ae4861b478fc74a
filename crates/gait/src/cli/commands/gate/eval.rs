//! `gait gate eval`.

use gait::Verdict;
use worldcompute_fault::Result;

use super::inputs::Inputs;
use super::settings::{FLAGS, Settings};
use super::{explain, output};
use crate::cli::args::Args;
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::exit::Exit;

/// `gait gate eval`
pub static EVAL: Command = Command {
    words: &["gate", "eval"],
    help: "Run policy evaluation for a single intent request, optionally simulate non-enforcing rollout, and write signed gate artifacts.",
    flags: FLAGS,
    positionals: Positionals::None,
    run,
};

fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let explains = args.switch("explain");
    if explains && !context.json {
        return Outcome::ok(&serde_json::Map::new(), EVAL.help);
    }
    let settings = Settings::load(args)?;
    let Inputs {
        desk,
        asked,
        outputs,
    } = Inputs::load(context, &settings)?;
    let answer = desk.decide(&asked, &context.correlation_id, Some(&outputs))?;
    let decision = &answer.decision;
    let exit = match decision.verdict() {
        Verdict::Allow | Verdict::DryRun => Exit::Ok,
        Verdict::Block => Exit::PolicyBlocked,
        Verdict::RequireApproval => Exit::ApprovalRequired,
    };
    let fields = match explains {
        true => explain::fields(&*desk.gate()?, &asked.intent, decision, context),
        false => output::fields(desk.setup().profile, &asked.intent, &answer),
    };
    Outcome::with(exit, &fields, output::human(&answer))
}
