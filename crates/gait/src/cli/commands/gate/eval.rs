//! `gait gate eval`.

use gait::Verdict;
use serde_json::json;
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
    let inputs = Inputs::load(context, &settings)?;
    let decision = inputs.gate.decide_on(&inputs.intent, &inputs.request())?;
    let exit = match decision.verdict() {
        Verdict::Allow | Verdict::DryRun => Exit::Ok,
        Verdict::Block => Exit::PolicyBlocked,
        Verdict::RequireApproval => Exit::ApprovalRequired,
    };
    let mut fields = match explains {
        true => explain::fields(&inputs.gate, &inputs.intent, &decision, context),
        false => output::fields(&inputs, &decision),
    };
    let mut human = output::human(&decision);
    if args.switch("why-not")
        && let Some(why) = inputs.gate.why_not(&inputs.intent, &inputs.request())?
    {
        human += &why.to_string();
        fields.insert("why_not".to_owned(), json!(why));
    }
    Outcome::with(exit, &fields, human)
}
