//! One log record: collected from tracing, redacted on the way in, written as a line for a reader or as JSON.

use std::error::Error;
use std::fmt;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::Level;
use tracing::field::{Field, Visit};

use crate::{CorrelationId, Redactor};

/// Longer values are cut, in bytes.
pub(crate) const MAX_VALUE_BYTES: usize = 16 * 1024;

/// The most causes of an error that are followed.
const MAX_CAUSES: usize = 16;

/// What happened, free of secrets and names.
#[derive(Debug, Serialize)]
pub(crate) struct Record<'a> {
    #[serde(serialize_with = "milliseconds")]
    pub(crate) time: Timestamp,
    #[serde(serialize_with = "lower_case")]
    pub(crate) level: Level,
    pub(crate) target: &'a str,
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) correlation_id: Option<CorrelationId>,
    pub(crate) service: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) instance: Option<&'a str>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(crate) fields: Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) spans: Vec<SpanRecord>,
}

/// A span around the record, outermost first.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SpanRecord {
    pub(crate) name: &'static str,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(crate) fields: Map<String, Value>,
}

impl Record<'_> {
    /// One JSON object and a newline.
    pub(crate) fn json_line(&self) -> serde_json::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }

    /// One line for a reader. What others wrote cannot move the cursor, start a line or turn the text around.
    pub(crate) fn human_line(&self, colour: bool) -> String {
        let (dim, level, plain) = if colour {
            ("\x1b[2m", level_colour(self.level), "\x1b[0m")
        } else {
            ("", "", "")
        };
        let mut line = format!(
            "{dim}{:.3}{plain} {level}{:>5}{plain} {dim}{}{plain} ",
            self.time, self.level, self.target
        );
        push_visible(&mut line, &self.message);
        let spans = self.spans.iter().flat_map(|span| &span.fields);
        for (name, value) in self.fields.iter().chain(spans) {
            push_field(&mut line, dim, name, value, plain);
        }
        if let Some(id) = self.correlation_id {
            push_field(
                &mut line,
                dim,
                "correlation_id",
                &Value::String(id.to_string()),
                plain,
            );
        }
        line.push('\n');
        line
    }
}

/// Collects the fields of an event or a span; each value is redacted as it comes in.
pub(crate) struct Collector<'r> {
    redactor: &'r Redactor,
    pub(crate) message: String,
    pub(crate) fields: Map<String, Value>,
}

impl<'r> Collector<'r> {
    pub(crate) fn new(redactor: &'r Redactor) -> Self {
        Self {
            redactor,
            message: String::new(),
            fields: Map::new(),
        }
    }

    fn text(&mut self, field: &Field, value: &str) {
        let value = cut(self.redactor.redact_field(field.name(), value).into_owned());
        match field.name() {
            "message" => self.message = value,
            name if name.starts_with("log.") => {} // the source of a `log` record, which is its target already
            name => self.put(name, Value::String(value)),
        }
    }

    fn number(&mut self, field: &Field, value: impl Into<Value> + fmt::Display) {
        let shown = value.to_string();
        let clean = self.redactor.redact_field(field.name(), &shown);
        let value = if clean == shown {
            value.into()
        } else {
            Value::from(clean)
        };
        self.put(field.name(), value);
    }

    fn put(&mut self, name: &str, value: Value) {
        self.fields
            .insert(name.strip_prefix("r#").unwrap_or(name).to_owned(), value);
    }
}

impl Visit for Collector<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    /// An error tells what caused it.
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let causes =
            std::iter::successors(value.source(), |&cause| cause.source()).take(MAX_CAUSES);
        let text = causes.fold(value.to_string(), |text, cause| format!("{text}: {cause}"));
        self.text(field, &text);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.number(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.number(field, value);
    }
}

/// Cuts after redaction, never before: half a secret is not recognised.
fn cut(mut text: String) -> String {
    if text.len() > MAX_VALUE_BYTES {
        text.truncate(text.floor_char_boundary(MAX_VALUE_BYTES));
        text.push('…');
    }
    text
}

fn push_field(line: &mut String, dim: &str, name: &str, value: &Value, plain: &str) {
    line.push_str(&format!(" {dim}{name}={plain}"));
    match value {
        Value::String(text) if is_one_word(text) => push_visible(line, text),
        Value::String(text) => push_visible(line, &Value::from(text.as_str()).to_string()),
        other => line.push_str(&other.to_string()),
    }
}

fn is_one_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '='))
}

/// Escapes control characters and those that change the direction of writing.
fn push_visible(line: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\u{061c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => line.extend(c.escape_unicode()),
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
}

fn level_colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

fn milliseconds<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

fn lower_case<S: serde::Serializer>(level: &Level, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&level.as_str().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(message: &str, fields: &[(&str, Value)]) -> Record<'static> {
        Record {
            time: Timestamp::UNIX_EPOCH,
            level: Level::WARN,
            target: "mesh",
            message: message.to_owned(),
            correlation_id: Some(CorrelationId::parse("0123456789abcdef01234567").unwrap()),
            service: "worldcompute",
            instance: None,
            fields: fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            spans: vec![SpanRecord {
                name: "task",
                fields: Map::from_iter([("index".to_owned(), 3.into())]),
            }],
        }
    }

    #[test]
    fn a_line_for_a_reader_has_time_level_target_message_fields_and_id() {
        let record = record(
            "dial failed",
            &[("peer", "12D3".into()), ("why", "timed out".into())],
        );
        assert_eq!(
            record.human_line(false),
            "1970-01-01T00:00:00.000Z  WARN mesh dial failed peer=12D3 why=\"timed out\" index=3 correlation_id=0123456789abcdef01234567\n"
        );
        assert!(record.human_line(true).contains("\x1b[33m WARN\x1b[0m"));
    }

    #[test]
    fn what_others_wrote_cannot_steer_a_terminal() {
        let hostile = "a\nb\r\x1b[2Jc\u{9b}d\u{202e}e\u{0}\u{61c}";
        let line = record(
            hostile,
            &[("field", hostile.into()), ("word", "\x1b[31m".into())],
        )
        .human_line(false);
        let body = line.strip_suffix('\n').unwrap();
        assert!(
            !body.contains(|c: char| c.is_control() || matches!(c, '\u{202e}' | '\u{61c}')),
            "{body:?}"
        );
        assert!(
            body.contains(r"a\nb\r\u{1b}[2Jc\u{9b}d\u{202e}e"),
            "{body:?}"
        );
    }
}
