//! What a command is, what it is given, and what it hands back.

use std::sync::Arc;

use gait::{Clock, Environment};
use serde::Serialize;
use serde_json::{Map, Value};
use worldcompute_fault::{Category, Fault, Result};

use super::args::Args;
use super::exit::Exit;
use super::flag::Flag;
use super::output::Output;
use super::streamed::Streamed;

/// One command of the table.
pub struct Command {
    /// Its name, word by word: `["gate", "eval"]`.
    pub words: &'static [&'static str],
    /// What it does, in one line: the answer to `--explain`.
    pub help: &'static str,
    /// Its flags. Every command also has `--json`, `--help` and `--explain`; one that lists `explain` itself handles it.
    pub flags: &'static [Flag],
    /// What else it takes.
    pub positionals: Positionals,
    /// Does it. An `Err` becomes the error envelope, with the exit of its category.
    pub run: fn(&Context, &Args) -> Result<Outcome>,
}

/// What a command takes besides flags. `expected` is the whole error message when there are too few.
#[derive(Clone, Copy, Debug)]
pub enum Positionals {
    /// Nothing.
    None,
    /// So many, with flags before, between and behind them.
    Interleaved {
        /// The fewest.
        min: usize,
        /// The most.
        max: usize,
        /// The message when there are fewer.
        expected: &'static str,
    },
    /// A command line of another program, behind `--`.
    AfterDashes {
        /// The message when there is none.
        expected: &'static str,
    },
}

/// What a command gets from its surroundings.
pub struct Context {
    /// The name of this invocation, for outputs and traces.
    pub correlation_id: String,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The environment variables.
    pub environment: Arc<dyn Environment>,
    /// Whether a program reads the output.
    pub json: bool,
}

/// How a command ended.
pub struct Outcome {
    /// The exit code.
    pub exit: Exit,
    /// The JSON fields; the frame adds `correlation_id`, and `ok` unless it is there.
    pub fields: Map<String, Value>,
    /// The text for a person.
    pub human: String,
    /// What went wrong, for a failure that has results to show: adds the fields of the error envelope.
    pub fault: Option<Fault>,
    /// A further JSON field that is too long for `fields`.
    pub streamed: Option<Streamed>,
}

impl Context {
    /// Says that a service has started, in the one line that it prints.
    pub fn announce(&self, fields: &impl Serialize, human: &str) -> Result<()> {
        let outcome = Outcome::ok(fields, human)?;
        match Output::new(self.json, self.correlation_id.clone()).outcome(outcome) {
            Exit::Ok => Ok(()),
            _ => Err(Fault::new(
                Category::IoFailure,
                "io_failure",
                "standard output is closed",
            )),
        }
    }
}

impl Command {
    /// The command with the longest run of words at the start of `arguments`, and the arguments behind them.
    pub fn find<'a>(
        table: &[&'static Self],
        arguments: &'a [String],
    ) -> Option<(&'static Self, &'a [String])> {
        table
            .iter()
            .filter(|command| starts_with(arguments, command.words))
            .max_by_key(|command| command.words.len())
            .map(|command| {
                (
                    *command,
                    arguments.get(command.words.len()..).unwrap_or_default(),
                )
            })
    }

    /// The words as typed.
    pub fn name(&self) -> String {
        self.words.join(" ")
    }
}

fn starts_with(arguments: &[String], words: &[&str]) -> bool {
    arguments.len() >= words.len()
        && arguments
            .iter()
            .zip(words)
            .all(|(argument, word)| argument == word)
}

impl Outcome {
    /// Success; `fields` is anything that serialises to a JSON object.
    pub fn ok(fields: &impl Serialize, human: impl Into<String>) -> Result<Self> {
        Self::with(Exit::Ok, fields, human)
    }

    /// A result with its exit: a verdict, a difference, a failed comparison.
    pub fn with(exit: Exit, fields: &impl Serialize, human: impl Into<String>) -> Result<Self> {
        Ok(Self {
            exit,
            fields: object(fields)?,
            human: human.into(),
            fault: None,
            streamed: None,
        })
    }

    /// The end of a service that was announced: there is nothing left to say.
    pub fn announced() -> Self {
        Self {
            exit: Exit::Ok,
            fields: Map::new(),
            human: String::new(),
            fault: None,
            streamed: None,
        }
    }

    /// Whether there is nothing to print.
    pub fn is_silent(&self) -> bool {
        self.fields.is_empty() && self.human.is_empty() && self.fault.is_none()
    }

    /// A failure that has results to show; the exit is the fault's.
    pub fn failed(fault: Fault, fields: &impl Serialize) -> Result<Self> {
        Ok(Self {
            exit: Exit::of(&fault),
            fields: object(fields)?,
            human: fault.human(),
            fault: Some(fault),
            streamed: None,
        })
    }
}

/// The members of anything that serialises to a JSON object.
pub fn object(fields: &impl Serialize) -> Result<Map<String, Value>> {
    match serde_json::to_value(fields) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(unprintable("not an object")),
        Err(error) => Err(unprintable(&error.to_string())),
    }
}

fn unprintable(why: &str) -> Fault {
    Fault::new(
        Category::InternalFailure,
        "unprintable_result",
        format!("the result cannot be printed: {why}"),
    )
}
