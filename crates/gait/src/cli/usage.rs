//! The text that `--help` and a bare group print.

use std::fmt::Write;

use super::command::{Command, Positionals};
use super::commands::COMMANDS;
use super::flag::{Flag, Kind};
use super::meaning;

/// The commands whose names start with `words`.
pub fn group(words: &[&str]) -> String {
    let mut text = "usage:\n".to_owned();
    let members = COMMANDS
        .iter()
        .filter(|command| command.words.starts_with(words));
    for command in members {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  gait {:<24} {}", command.name(), command.help);
    }
    text.push_str("\nevery command takes --json, --help and --explain\n");
    text
}

/// The longest start of `words` that some command's name starts with.
pub fn longest_group<'a>(words: &'a [&'a str]) -> &'a [&'a str] {
    (0..=words.len())
        .rev()
        .filter_map(|length| words.get(..length))
        .find(|start| {
            COMMANDS
                .iter()
                .any(|command| command.words.starts_with(start))
        })
        .unwrap_or_default()
}

/// The usage of one command.
pub fn command(command: &Command) -> String {
    let mut text = format!(
        "{}\n\nusage:\n  gait {} [flags]{}\n",
        command.help,
        command.name(),
        behind(command)
    );
    let flags = Flag::flatten(command.flags);
    if !flags.is_empty() {
        text.push_str("\nflags:\n");
    }
    for flag in flags {
        let given = format!("--{} {}", flag.name, value(flag.kind));
        let meaning = meaning::of(&command.name(), flag.name);
        let _ = writeln!(text, "  {given:<39} {meaning}{}", default(flag.kind));
    }
    text
}

fn behind(command: &Command) -> &'static str {
    match command.positionals {
        Positionals::None => "",
        Positionals::Interleaved { .. } => " <arguments>",
        Positionals::AfterDashes { .. } => " -- <command> [arguments]",
    }
}

const fn value(kind: Kind) -> &'static str {
    match kind {
        Kind::Switch | Kind::Group(_) => "",
        Kind::Csv => "<a,b,..>",
        Kind::Text(_) => "<text>",
        Kind::Int(_) => "<number>",
        Kind::Duration(_) => "<span>",
    }
}

fn default(kind: Kind) -> String {
    match kind {
        Kind::Switch | Kind::Group(_) | Kind::Csv | Kind::Text("") => String::new(),
        Kind::Text(default) => format!(" (default {default})"),
        Kind::Int(default) => format!(" (default {default})"),
        Kind::Duration(default) => format!(" (default {default:#})"),
    }
}
