//! What `policy test` reports of one evaluation.

use crate::evaluate::Evaluation;

/// The `schema_id` of the report.
pub const TEST_SCHEMA_ID: &str = "gait.policytest.result";
/// The only `schema_version` of the report.
pub const TEST_SCHEMA_VERSION: &str = "1.0.0";

/// Characters of the summary.
pub const MAX_SUMMARY: usize = 240;

/// An evaluation in one line of at most [`MAX_SUMMARY`] characters.
pub fn summary(evaluation: &Evaluation) -> String {
    bounded(format!(
        "policy test verdict={} reasons={} violations={}",
        evaluation.verdict,
        listed(&evaluation.reason_codes),
        listed(&evaluation.violations)
    ))
}

fn listed(codes: &[String]) -> String {
    if codes.is_empty() {
        return "none".to_owned();
    }
    codes.join(",")
}

fn bounded(text: String) -> String {
    let length = text.chars().count();
    if length <= MAX_SUMMARY {
        return text;
    }
    let suffix = format!("...(+{})", length - MAX_SUMMARY);
    let kept = MAX_SUMMARY.saturating_sub(suffix.len());
    text.chars().take(kept).collect::<String>() + &suffix
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Verdict;

    #[test]
    fn a_long_summary_says_how_much_is_missing() {
        let mut evaluation = Evaluation::of(Verdict::Block);
        assert_eq!(
            summary(&evaluation),
            "policy test verdict=block reasons=none violations=none"
        );
        evaluation.add(&"é".repeat(300), "v");
        let text = summary(&evaluation);
        assert_eq!(text.chars().count(), MAX_SUMMARY);
        assert!(text.ends_with("é...(+107)"), "{text}");
    }
}
