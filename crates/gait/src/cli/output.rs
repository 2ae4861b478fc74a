//! What the caller sees: one line of JSON or text for a person, on standard output, failures too.

use std::io::Write;

use serde_json::{Map, Value};
use worldcompute_fault::Fault;

use super::command::Outcome;
use super::exit::Exit;

/// How this invocation answers.
pub struct Output {
    json: bool,
    correlation_id: String,
}

impl Output {
    /// JSON or text, under this correlation id.
    pub fn new(json: bool, correlation_id: String) -> Self {
        Self {
            json,
            correlation_id,
        }
    }

    /// Text, before there is a command.
    pub fn human() -> Self {
        Self::new(false, String::new())
    }

    /// The correlation id.
    pub fn correlation_id(&self) -> &str {
        &self.correlation_id
    }

    /// Prints text as it is.
    pub fn text(&self, text: &str) -> Exit {
        print(text)
    }

    /// Prints what a command achieved.
    pub fn outcome(&self, outcome: Outcome) -> Exit {
        if outcome.is_silent() {
            return outcome.exit;
        }
        let fault = outcome.fault.as_ref();
        let printed = match (self.json, outcome.streamed) {
            (false, _) => print(&outcome.human),
            (true, None) => print(&self.line(outcome.fields, fault)),
            (true, Some(streamed)) => {
                let fields = self.completed(outcome.fields, fault);
                exit_of(|out| streamed.write(fields, out))
            }
        };
        outcome.exit.or(printed)
    }

    /// Prints why a command failed.
    pub fn fault(&self, fault: &Fault) -> Exit {
        let text = if self.json {
            self.line(Map::new(), Some(fault))
        } else {
            fault.human()
        };
        print(&text);
        Exit::of(fault)
    }

    fn line(&self, fields: Map<String, Value>, fault: Option<&Fault>) -> String {
        compact(Value::Object(self.completed(fields, fault)))
    }

    fn completed(
        &self,
        mut fields: Map<String, Value>,
        fault: Option<&Fault>,
    ) -> Map<String, Value> {
        fields.insert(
            "correlation_id".to_owned(),
            self.correlation_id.clone().into(),
        );
        match fault {
            Some(fault) => envelope(&mut fields, fault),
            None => drop(fields.entry("ok").or_insert(Value::Bool(true))),
        }
        fields
    }
}

/// The line that a command prints with `--json`.
pub fn answer_line(
    correlation_id: &str,
    fields: Map<String, Value>,
    fault: Option<&Fault>,
) -> String {
    Output::new(true, correlation_id.to_owned()).line(fields, fault)
}

fn envelope(fields: &mut Map<String, Value>, fault: &Fault) {
    let members: [(&str, Value); 8] = [
        ("error", fault.to_string().into()),
        ("error_category", fault.category().as_str().into()),
        ("error_code", fault.code().into()),
        ("error_reason", fault.reason().into()),
        ("hint", fault.hint_text().into()),
        ("ok", false.into()),
        ("remedy", fault.remedy().into()),
        ("retryable", fault.retryable().into()),
    ];
    let said = members.into_iter().filter(|(_, value)| *value != "");
    fields.extend(said.map(|(name, value)| (name.to_owned(), value)));
    if let Some(migration) = fault.migration() {
        fields.insert("migration".to_owned(), serde_json::json!(migration));
    }
}

/// One line, keys sorted, and escaped so that it can stand inside HTML.
pub(super) fn compact(mut value: Value) -> String {
    value.sort_all_objects();
    let mut line = String::new();
    for character in value.to_string().chars() {
        match character {
            '<' => line.push_str("\\u003c"),
            '>' => line.push_str("\\u003e"),
            '&' => line.push_str("\\u0026"),
            '\u{2028}' => line.push_str("\\u2028"),
            '\u{2029}' => line.push_str("\\u2029"),
            other => line.push(other),
        }
    }
    line
}

/// A line on standard output.
fn print(text: &str) -> Exit {
    let ended = match text.is_empty() || text.ends_with('\n') {
        true => "",
        false => "\n",
    };
    exit_of(|out| write!(out, "{text}{ended}"))
}

/// Writes to standard output. Without a reader there is nobody to tell, but the exit code says that nothing was heard.
fn exit_of(write: impl FnOnce(&mut std::io::StdoutLock<'_>) -> std::io::Result<()>) -> Exit {
    let mut out = std::io::stdout().lock();
    match write(&mut out).and_then(|()| out.flush()) {
        Ok(()) => Exit::Ok,
        Err(_) => Exit::Failure,
    }
}

/// The members of a result that say something: the contract leaves out empty text, `false`, 0 and empty lists.
///
/// Anything but an object has none.
pub fn without_empty(fields: Value) -> Map<String, Value> {
    let Value::Object(map) = fields else {
        return Map::new();
    };
    map.into_iter()
        .filter(|(_, value)| !is_empty(value))
        .collect()
}

/// Whether the value says nothing: empty text, `false`, 0 and empty lists and objects.
pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(truth) => !truth,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// A line on standard error. Nobody may be left to read it, and that changes nothing.
pub fn warn(line: &str) {
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use worldcompute_fault::Category;

    use super::*;

    #[test]
    fn the_line_is_compact_sorted_and_safe_inside_html() {
        let value = json!({"z": {"b": "<a href=\"x\">&\u{2028}\u{2029}", "a": [1, 2]}, "a": "é"});
        assert_eq!(
            compact(value),
            r#"{"a":"é","z":{"a":[1,2],"b":"\u003ca href=\"x\"\u003e\u0026\u2028\u2029"}}"#
        );
    }

    #[test]
    fn a_failure_has_the_envelope_of_the_contract() {
        let output = Output::new(true, "cid-golden-invalid".to_owned());
        let fault = super::super::args::invalid("missing required --policy");
        assert_eq!(
            output.line(Map::new(), Some(&fault)),
            r#"{"correlation_id":"cid-golden-invalid","error":"missing required --policy","error_category":"invalid_input","error_code":"invalid_input","hint":"check command usage and input schema","ok":false,"retryable":false}"#
        );
    }

    #[test]
    fn a_failure_keeps_its_own_code_category_and_results() {
        let output = Output::new(true, "c".to_owned());
        let fault = Fault::new(Category::StateContention, "rate_limit_lock_timeout", "held");
        let fields = Map::from_iter([
            ("ok".to_owned(), true.into()),
            ("path".to_owned(), "p".into()),
        ]);
        assert_eq!(
            output.line(fields, Some(&fault)),
            r#"{"correlation_id":"c","error":"held","error_category":"state_contention","error_code":"rate_limit_lock_timeout","hint":"retry after contention subsides","ok":false,"path":"p","retryable":true}"#
        );
    }

    #[test]
    fn a_failure_says_which_cause_it_had_where_several_share_the_code() {
        let output = Output::new(true, "c".to_owned());
        let fault = super::super::args::invalid("two sources").because("ambiguous", "give one");
        let line = output.line(Map::new(), Some(&fault));
        assert!(line.contains(r#""error_code":"invalid_input","error_reason":"ambiguous""#));
        assert!(line.contains(r#""ok":false,"remedy":"give one""#));
        assert!(fault.human().ends_with("hint: give one"));
    }

    #[test]
    fn success_says_ok_unless_the_command_says_otherwise() {
        let output = Output::new(true, "c".to_owned());
        assert_eq!(
            output.line(Map::new(), None),
            r#"{"correlation_id":"c","ok":true}"#
        );
        let fields = Map::from_iter([("ok".to_owned(), false.into())]);
        assert_eq!(
            output.line(fields, None),
            r#"{"correlation_id":"c","ok":false}"#
        );
    }
}
