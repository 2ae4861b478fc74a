//! `gait policy test`.

use std::path::Path;

use gait::policy::why_not::{causes, why_not};
use gait::policy::{TEST_SCHEMA_ID, TEST_SCHEMA_VERSION, summary};
use gait::{Evaluation, Evidence, Intent, Policy, Verdict, WireTime};
use serde_json::{Value, json};
use worldcompute_fault::Result;

use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::exit::Exit;
use crate::cli::flag::Flag;

/// `gait policy test`
pub static TEST: Command = Command {
    words: &["policy", "test"],
    help: "Ask a policy about an intent, without a gate: the verdict and why.",
    flags: &[Flag::switch("why-not")],
    positionals: Positionals::Interleaved {
        min: 2,
        max: 2,
        expected: EXPECTED,
    },
    run,
};

const EXPECTED: &str = "expected <policy.yaml> <intent_fixture.json>";

fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let [policy, intent] = args.positionals() else {
        return Err(invalid(EXPECTED));
    };
    if policy.trim().is_empty() || intent.trim().is_empty() {
        return Err(invalid(EXPECTED));
    }
    let policy = Policy::load(Path::new(policy))?;
    let intent = Intent::load(Path::new(intent))?;
    let prepared = intent.prepare(&Evidence::at(context.clock.now()))?;
    let evaluation = policy.evaluate(&prepared);
    let mut fields = fields(&policy, &intent, &evaluation);
    let causes = causes(&policy, &prepared);
    let mut human = summary(&evaluation);
    for cause in &causes {
        human += &format!("\n  because {cause}");
    }
    if !causes.is_empty() {
        super::set(&mut fields, "denied_by", json!(causes));
    }
    let asked = args.switch("why-not");
    let why = asked.then(|| why_not(&policy, &prepared)).flatten();
    if let Some(why) = why {
        human += &why.to_string();
        super::set(&mut fields, "why_not", json!(why));
    }
    Outcome::with(exit(evaluation.verdict), &fields, human)
}

/// The verdict as an exit code; what was asked was answered, so none of them is a failure.
const fn exit(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Allow | Verdict::DryRun => Exit::Ok,
        Verdict::RequireApproval => Exit::ApprovalRequired,
        Verdict::Block => Exit::PolicyBlocked,
    }
}

fn fields(policy: &Policy, intent: &Intent, evaluation: &Evaluation) -> Value {
    let created_at = intent.created_at().get().unwrap_or(WireTime::UNDATED);
    let mut fields = json!({
        "ok": true,
        "schema_id": TEST_SCHEMA_ID,
        "schema_version": TEST_SCHEMA_VERSION,
        "created_at": WireTime::at(created_at),
        "policy_digest": policy.digest(),
        "intent_digest": intent.digest(),
        "verdict": evaluation.verdict,
        "reason_codes": evaluation.reason_codes,
        "violations": evaluation.violations,
        "matched_rule": evaluation.matched_rule(),
        "summary": summary(evaluation),
    });
    if let Value::Object(fields) = &mut fields {
        fields.retain(|_, value| *value != json!([]) && *value != json!(""));
    }
    fields
}
