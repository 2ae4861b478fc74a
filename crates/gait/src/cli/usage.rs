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

/// The command whose next word behind `group`, or whose last one, is the most like `word`, if any is.
pub fn nearest(group: &[&str], word: &str) -> Option<String> {
    let members = COMMANDS
        .iter()
        .filter(|command| command.words.starts_with(group));
    let typed = members.flat_map(|command| {
        let next = command.words.get(..=group.len()).unwrap_or(command.words);
        [next, command.words].map(|words| {
            let like = words.last().map_or(usize::MAX, |last| edits(last, word));
            (like, words)
        })
    });
    let (like, words) = typed.min_by_key(|(like, words)| (*like, words.len()))?;
    (like <= word.len() / 3).then(|| format!("gait {}", words.join(" ")))
}

/// How many letters have to be put in, taken out, changed or swapped with the next to make one word of the other.
fn edits(one: &str, other: &str) -> usize {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX - 1);
            let changed = at(&row, j) + usize::from(a != b);
            let mut least = changed.min(at(&row, j + 1) + 1).min(at(&next, j) + 1);
            let swapped =
                i > 0 && j > 0 && one.get(i - 1) == Some(b) && other.get(j - 1) == Some(a);
            if swapped {
                least = least.min(at(&before, j - 1) + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted_whichever_way_they_go() {
        for (one, other, expected) in [
            ("", "", 0),
            ("", "eval", 4),
            ("eval", "eval", 0),
            ("eval", "evil", 1),
            ("eval", "val", 1),
            ("eval", "evall", 1),
            ("eval", "eavl", 1),
            ("verify", "vreify", 1),
            ("verify", "inspect", 7),
        ] {
            assert_eq!(edits(one, other), expected, "{one} {other}");
            assert_eq!(edits(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn the_nearest_command_is_one_that_is_near() {
        for (group, word, expected) in [
            (&[][..], "verfy", Some("gait verify")),
            (&[], "rnu", Some("gait run")),
            (&[], "replay", Some("gait run replay")),
            (&["gate"], "evil", Some("gait gate eval")),
            (&["run", "session"], "strat", Some("gait run session start")),
            (&[], "frob", None),
            (&[], "", None),
            (&["gate"], "frobnicate", None),
        ] {
            assert_eq!(
                nearest(group, word).as_deref(),
                expected,
                "{group:?} {word}"
            );
        }
    }
}
