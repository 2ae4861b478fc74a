//! What a run did, in order: its tools and its verdicts.

use worldcompute_fault::Result;

use crate::runpack::{Payload, ResultRecord, Runpack};
use crate::text::trim_lower;

/// The tools of the intents, in order.
pub(super) fn tools(pack: &Runpack) -> Result<Vec<String>> {
    let mut tools = Vec::new();
    let mut intents = pack.intents()?;
    while let Some(intent) = intents.advance()? {
        let tool = intent.tool_name.trim().to_owned();
        if !tool.is_empty() {
            tools.push(tool);
        }
    }
    Ok(tools)
}

/// The verdicts of the results, in order.
pub(super) fn verdicts(pack: &Runpack) -> Result<Vec<String>> {
    let mut verdicts = Vec::new();
    let mut results = pack.results()?;
    while let Some(result) = results.advance()? {
        verdicts.push(of_result(&result)?.to_owned());
    }
    Ok(verdicts)
}

fn of_result(result: &ResultRecord<'_>) -> Result<&'static str> {
    let members = result.result.as_ref().map(Payload::members).transpose()?;
    let said = members
        .as_ref()
        .and_then(|members| members.get("verdict")?.as_str());
    let said = said.and_then(verdict);
    Ok(said.or_else(|| verdict(&result.status)).unwrap_or("error"))
}

/// The verdict that a word stands for.
pub(super) fn verdict(text: &str) -> Option<&'static str> {
    let word = trim_lower(text).replace(['-', ' '], "_");
    Some(match word.as_str() {
        "allow" | "ok" | "pass" | "passed" | "success" => "allow",
        "block" | "blocked" | "deny" | "denied" => "block",
        "require_approval" | "approval_required" | "needs_approval" | "needsapproval" => {
            "require_approval"
        }
        "dry_run" | "dryrun" | "simulate" | "simulated" => "dry_run",
        "error" | "failed" | "failure" => "error",
        _ => return None,
    })
}
