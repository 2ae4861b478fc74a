//! What the user sees: data on standard output, in plain words or JSON; everything else on standard error.

use std::io::{IsTerminal, Write};

use serde::Serialize;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_telemetry::CorrelationId;

/// How results are printed.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
    correlation: CorrelationId,
}

impl Output {
    /// For machines when `json`, else for people; `correlation` ties what is reported to the logs of this invocation.
    pub fn new(json: bool, correlation: CorrelationId) -> Self {
        Self { json, correlation }
    }

    /// Whether machines read this.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Whether a person watches: progress is shown to nobody else.
    pub fn is_watched(self) -> bool {
        !self.json && std::io::stderr().is_terminal()
    }

    /// Prints a result: one line of JSON, or what `words` makes of it.
    pub fn data<T: Serialize>(self, value: &T, words: impl FnOnce(&T) -> String) -> Result<()> {
        if !self.json {
            return self.text(&words(value));
        }
        let line = serde_json::to_string(value).map_err(|error| {
            Fault::new(
                Category::InternalFailure,
                "unprintable_result",
                error.to_string(),
            )
        })?;
        self.text(&line)
    }

    /// Prints lines of text, in one piece: whoever waits for the first has them all.
    pub fn text(self, text: &str) -> Result<()> {
        if text.is_empty() || text.ends_with('\n') {
            self.bytes(text.as_bytes())
        } else {
            self.bytes(format!("{text}\n").as_bytes())
        }
    }

    /// Prints bytes as they are.
    pub fn bytes(self, bytes: &[u8]) -> Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes)
            .and_then(|()| out.flush())
            .map_err(|error| Fault::io("write to standard output", &error))
    }

    /// Passes on what a guest wrote to its standard error.
    pub fn error_bytes(self, bytes: &[u8]) -> Result<()> {
        std::io::stderr()
            .lock()
            .write_all(bytes)
            .map_err(|error| Fault::io("write to standard error", &error))
    }

    /// Tells a person something that is not a result.
    pub fn note(self, text: &str) {
        if !self.json {
            tell(text);
        }
    }

    /// Reports what went wrong.
    pub fn fault(self, fault: &Fault) {
        if !self.json {
            tell(&fault.human());
            return;
        }
        let envelope = fault.envelope(self.correlation.to_string());
        tell(&serde_json::to_string(&envelope).unwrap_or_else(|_| fault.human()));
    }
}

/// A line on standard error. Nobody may be left to read it, and a daemon must outlive its terminal: `eprintln!` would panic.
fn tell(line: &str) {
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}
