//! The arguments of one command, parsed with the grammar of Go's `flag` package.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use worldcompute_fault::{Category, Fault, Result};

use super::command::{Command, Positionals};
use super::flag::{Flag, Kind};
use super::go;

/// The flags that every command has.
static COMMON: &[Flag] = &[
    Flag::switch("json"),
    Flag::switch("help"),
    Flag::switch("h"),
    Flag::switch("explain"),
];

/// What a command was given.
pub struct Args {
    declared: Vec<&'static Flag>,
    given: BTreeMap<&'static str, Value>,
    positionals: Vec<String>,
    explains_itself: bool,
}

/// The arguments or the reason to refuse them, and whether the answer is to be JSON either way.
pub struct Parsed {
    pub args: Result<Args>,
    pub json: bool,
}

enum Value {
    Text(String),
    Switch(bool),
    Int(i64),
    Duration(SignedDuration),
}

impl Args {
    /// Parses what follows the words of `command`.
    pub fn parse(command: &'static Command, arguments: &[String]) -> Parsed {
        let mut args = Self::nothing(command);
        let read = args.read(command.positionals, arguments);
        let json = args.switch("json") || read.is_err() && asks_for_json(arguments);
        let checked = read.and_then(|()| args.check(command.positionals));
        Parsed {
            args: checked.map(|()| args),
            json,
        }
    }

    /// The text of `name`, or its default.
    pub fn text(&self, name: &str) -> &str {
        match (self.given.get(name), self.default(name)) {
            (Some(Value::Text(text)), _) => text,
            (_, Some(Kind::Text(default))) => default,
            _ => "",
        }
    }

    /// What `--<flag>` or the only positional says, without the spaces around it: `missing` where neither says
    /// anything, and a refusal where both do.
    pub fn one_of(&self, flag: &str, missing: &str) -> Result<&str> {
        match (self.text(flag).trim(), self.positionals()) {
            ("", [only]) if !only.trim().is_empty() => Ok(only.trim()),
            ("", _) => Err(invalid(missing)),
            (given, []) => Ok(given),
            _ => Err(invalid("unexpected positional arguments")),
        }
    }

    /// Whether the switch `name` is on.
    pub fn switch(&self, name: &str) -> bool {
        debug_assert!(matches!(self.default(name), Some(Kind::Switch)), "{name}");
        matches!(self.given.get(name), Some(Value::Switch(true)))
    }

    /// The whole number of `name`, or its default.
    pub fn int(&self, name: &str) -> i64 {
        match (self.given.get(name), self.default(name)) {
            (Some(Value::Int(number)), _) => *number,
            (_, Some(Kind::Int(default))) => default,
            _ => 0,
        }
    }

    /// The span of `name`, or its default. It may be negative.
    pub fn duration(&self, name: &str) -> SignedDuration {
        match (self.given.get(name), self.default(name)) {
            (Some(Value::Duration(span)), _) => *span,
            (_, Some(Kind::Duration(default))) => default,
            _ => SignedDuration::ZERO,
        }
    }

    /// The texts of `name`: trimmed, without empty ones.
    pub fn csv(&self, name: &str) -> Vec<String> {
        debug_assert!(matches!(self.default(name), Some(Kind::Csv)), "{name}");
        let Some(Value::Text(text)) = self.given.get(name) else {
            return Vec::new();
        };
        let parts = text.split(',').map(str::trim);
        parts
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// Whether the command has a flag of that name.
    pub fn declares(&self, name: &str) -> bool {
        self.declared.iter().any(|flag| flag.name == name)
    }

    /// Whether `name` was on the command line.
    pub fn given(&self, name: &str) -> bool {
        debug_assert!(self.default(name).is_some(), "{name}");
        self.given.contains_key(name)
    }

    /// What is not a flag; the other program's command line for [`Positionals::AfterDashes`].
    pub fn positionals(&self) -> &[String] {
        &self.positionals
    }

    /// Whether the usage was asked for.
    pub fn wants_help(&self) -> bool {
        self.switch("help") || self.switch("h")
    }

    /// Whether the one-line help was asked for, of a command that does not answer this itself.
    pub fn wants_explanation(&self) -> bool {
        !self.explains_itself && self.switch("explain")
    }

    fn nothing(command: &'static Command) -> Self {
        let mut declared = Flag::flatten(command.flags);
        let explains_itself = declared.iter().any(|flag| flag.name == "explain");
        declared.extend(COMMON);
        Self {
            declared,
            given: BTreeMap::new(),
            positionals: Vec::new(),
            explains_itself,
        }
    }

    /// The kind of a declared flag. To ask for any other is a defect of the command, found by its first test.
    fn default(&self, name: &str) -> Option<Kind> {
        let flag = self.declared.iter().find(|flag| flag.name == name);
        debug_assert!(flag.is_some(), "the command declares no flag {name}");
        flag.map(|flag| flag.kind)
    }

    fn read(&mut self, positionals: Positionals, arguments: &[String]) -> Result<()> {
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if argument == "--" {
                self.positionals.extend(rest.cloned());
                return Ok(());
            }
            match flag_text(argument) {
                Some(text) => self.read_flag(argument, text, &mut rest)?,
                None if matches!(positionals, Positionals::AfterDashes { .. }) => {
                    return Err(invalid(format!("expected -- before {argument:?}")));
                }
                None => self.positionals.push(argument.clone()),
            }
        }
        Ok(())
    }

    fn read_flag(
        &mut self,
        argument: &str,
        text: &str,
        rest: &mut std::slice::Iter<'_, String>,
    ) -> Result<()> {
        let (name, attached) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        if name.is_empty() || name.starts_with('-') {
            return Err(invalid(format!("bad flag syntax: {argument}")));
        }
        let Some(flag) = self.declared.iter().copied().find(|flag| flag.name == name) else {
            return Err(invalid(format!("flag provided but not defined: -{name}")));
        };
        let value = match (flag.kind, attached) {
            (Kind::Switch, None) => "true",
            (_, Some(value)) => value,
            (_, None) => rest
                .next()
                .ok_or_else(|| invalid(format!("flag needs an argument: -{name}")))?,
        };
        let value = Value::read(flag, value)?;
        self.given.insert(flag.name, value);
        Ok(())
    }

    fn check(&self, positionals: Positionals) -> Result<()> {
        if self.wants_help() || self.wants_explanation() {
            return Ok(());
        }
        let (min, max, expected) = match positionals {
            Positionals::None => (0, 0, ""),
            Positionals::Interleaved { min, max, expected } => (min, max, expected),
            Positionals::AfterDashes { expected } => (1, usize::MAX, expected),
        };
        match self.positionals.len() {
            count if count < min => Err(invalid(expected)),
            count if count > max => Err(invalid("unexpected positional arguments")),
            _ => Ok(()),
        }
    }
}

impl Value {
    fn read(flag: &Flag, text: &str) -> Result<Self> {
        let read = match flag.kind {
            Kind::Text(_) | Kind::Csv | Kind::Group(_) => Some(Self::Text(text.to_owned())),
            Kind::Switch => go::bool(text).map(Self::Switch),
            Kind::Int(_) => go::int(text).map(Self::Int),
            Kind::Duration(_) => go::duration(text).map(Self::Duration),
        };
        let what = match flag.kind {
            Kind::Switch => "invalid boolean value",
            _ => "invalid value",
        };
        read.ok_or_else(|| {
            invalid(format!(
                "{what} {text:?} for flag -{}: parse error",
                flag.name
            ))
        })
    }
}

/// A refusal of the command line.
pub fn invalid(message: impl Into<String>) -> Fault {
    Fault::new(Category::InvalidInput, "invalid_input", message)
}

/// Whether `argument` asks what there is.
pub fn is_help(argument: &str) -> bool {
    matches!(
        argument,
        "--help" | "-help" | "--h" | "-h" | "help" | "--explain" | "-explain"
    )
}

/// What follows the dashes; `None` for a positional, among them the lone dash.
fn flag_text(argument: &str) -> Option<&str> {
    let text = argument.strip_prefix('-').filter(|text| !text.is_empty())?;
    Some(text.strip_prefix('-').unwrap_or(text))
}

/// For arguments that do not parse: whoever reads the answer is told in the form asked for anywhere.
pub fn asks_for_json(arguments: &[String]) -> bool {
    arguments
        .iter()
        .take_while(|argument| *argument != "--")
        .any(|argument| {
            matches!(
                argument.as_str(),
                "--json" | "-json" | "--json=true" | "-json=true"
            )
        })
}

#[cfg(test)]
mod tests;
