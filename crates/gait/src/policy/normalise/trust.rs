//! The normal form of the trust in servers.

use worldcompute_fault::Result;

use super::misplaced::{Checked, Under};
use super::value::{lower_set, plain, raise};
use crate::duration;
use crate::limits::invalid;
use crate::mcp_trust::McpTrust;
use crate::policy::file::TrustFile;
use crate::verdict::Verdict;

/// A clause that says anything is on, and then has to name its snapshot.
pub(super) fn trust(file: TrustFile) -> Checked<Option<McpTrust>> {
    let snapshot = plain(file.snapshot.as_deref())?;
    let action = raise("mcp_trust.action", file.action.as_deref()).under("action")?;
    let mut required_risk_classes = lower_set(file.required_risk_classes.as_deref())?;
    let min_score = file.min_score.unwrap_or_default();
    let max_age = max_age(&plain(file.max_age.as_deref())?).under("max_age")?;
    let publisher_allowlist = lower_set(file.publisher_allowlist.as_deref())?;
    let require_registry = file.require_registry.unwrap_or_default();
    let flags = file.enabled.unwrap_or_default() || require_registry || action.is_some();
    let lists = !required_risk_classes.is_empty() || !publisher_allowlist.is_empty();
    // The range is checked even where the format would not look, because no comparison holds for a NaN.
    if !(0.0..=1.0).contains(&min_score) {
        return Err(invalid("mcp_trust.min_score must be between 0 and 1")).under("min_score");
    }
    if !flags && !lists && snapshot.is_empty() && min_score == 0.0 && max_age.is_none() {
        return Ok(None);
    }
    if snapshot.is_empty() {
        return Err(invalid("mcp_trust.snapshot is required when mcp_trust is configured").into());
    }
    if required_risk_classes.is_empty() {
        required_risk_classes = ["critical", "high"].map(str::to_owned).to_vec();
    }
    Ok(Some(McpTrust {
        enabled: true,
        snapshot,
        action: action.unwrap_or(Verdict::Block),
        required_risk_classes,
        min_score,
        max_age,
        publisher_allowlist,
        require_registry,
    }))
}

fn max_age(text: &str) -> Result<Option<jiff::SignedDuration>> {
    if text.is_empty() {
        return Ok(None);
    }
    match duration::parse(text) {
        Some(span) if span.is_positive() => Ok(Some(span)),
        Some(_) => Err(invalid("mcp_trust.max_age must be > 0")),
        None => Err(
            invalid(format!("parse mcp_trust.max_age: {text:?} is no duration"))
                .hint("write a duration such as 24h or 90m"),
        ),
    }
}
