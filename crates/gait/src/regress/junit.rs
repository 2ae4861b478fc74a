//! The result as CI systems read it.

use std::fmt::Write;

use super::{GraderResult, RegressResult, Status};

/// The report, the same for the same result: it says nothing about time.
pub(super) fn report(result: &RegressResult) -> String {
    let counts = format!(
        "tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"0\" time=\"0\"",
        result.graders.len(),
        result.failed()
    );
    let suite = match result.fixture_set.as_str() {
        "" => "gait.regress".to_owned(),
        set => format!("gait.regress.{set}"),
    };
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n  <testsuite name=\"{}\" {counts}>\n",
        escaped(&suite)
    );
    for grader in &result.graders {
        push_case(&mut xml, grader);
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

fn push_case(xml: &mut String, grader: &GraderResult) {
    let (fixture, name) = grader
        .name
        .split_once('/')
        .unwrap_or(("regress", &grader.name));
    let (fixture, name) = (escaped(fixture), escaped(name));
    // Writing to a string cannot fail.
    let _ = write!(
        xml,
        "    <testcase name=\"{name}\" classname=\"{fixture}\" time=\"0\">"
    );
    if grader.status == Status::Fail {
        let reasons = match grader.reason_codes.join(",") {
            none if none.is_empty() => "failed".to_owned(),
            reasons => escaped(&reasons),
        };
        let _ = write!(
            xml,
            "\n      <failure message=\"{reasons}\" type=\"regress_failure\">{reasons}</failure>\n    "
        );
    }
    xml.push_str("</testcase>\n");
}

/// Text for XML 1.0, which has no place for control characters.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            control if control.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_can_end_an_attribute_or_an_element() {
        assert_eq!(
            escaped("<a b=\"c\">&'\u{0}"),
            "&lt;a b=&quot;c&quot;&gt;&amp;&apos;\u{fffd}"
        );
    }
}
