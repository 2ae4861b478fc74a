//! The frame of the command line: which command, which flags, which output, which exit code.

mod args;
mod clash;
mod command;
mod commands;
mod correlation;
mod exit;
mod flag;
mod go;
mod keys;
mod meaning;
mod output;
mod streamed;
mod usage;

use std::ffi::{OsStr, OsString};
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;

use gait::oplog::{self, Ended};
use gait::{SystemClock, SystemEnvironment, VERSION, clock};
use worldcompute_fault::{Category, Fault, Migration, Result};

use args::{Args, Parsed};
use command::{Command, Context};
use commands::COMMANDS;
use exit::Exit;
use output::Output;

/// Bytes of a word that could be the name of a command.
const MAX_WORD: usize = 24;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let given: Vec<OsString> = std::env::args_os().skip(1).collect();
    // Known before anything can go wrong: to an agent a hook that fails is a hook that is not there.
    let exit = match asks(&given, &commands::hook::HOOK) {
        true => closed(|| run(&given)),
        false => run(&given),
    };
    exit.into()
}

fn run(given: &[OsString]) -> Exit {
    match texts(given) {
        Ok(arguments) => dispatch(&arguments),
        Err(fault) => unreadable(given, &fault),
    }
}

/// Whether the command line begins with the words of `command`.
fn asks(given: &[OsString], command: &Command) -> bool {
    let words = command.words.iter().map(OsStr::new);
    given
        .iter()
        .map(OsString::as_os_str)
        .take(command.words.len())
        .eq(words)
}

fn texts(arguments: &[OsString]) -> Result<Vec<String>> {
    let text = |(index, argument): (usize, &OsString)| {
        let text = argument.to_str().map(str::to_owned);
        text.ok_or_else(|| args::invalid(format!("argument {} is not UTF-8", index + 1)))
    };
    arguments.iter().enumerate().map(text).collect()
}

/// Tells whoever asked in the form that they asked for, by the arguments that are text.
fn unreadable(arguments: &[OsString], fault: &Fault) -> Exit {
    let arguments: Vec<String> = arguments
        .iter()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let command = Command::find(COMMANDS, &arguments).map(|(command, _)| command);
    let output = Output::new(args::asks_for_json(&arguments), correlation::new_id());
    refuse(&output, command.is_some_and(is_hook), fault)
}

fn dispatch(arguments: &[String]) -> Exit {
    let first = arguments.first().map(String::as_str);
    match first {
        None | Some("--version" | "-version" | "-v") => Output::human().text(&version()),
        Some("help" | "--help" | "-help" | "-h") => Output::human().text(&usage::group(&[])),
        Some("mcp-verify") => renamed(arguments),
        Some(_) => match Command::find(COMMANDS, arguments) {
            Some((command, rest)) => invoke(command, rest),
            None => unknown(arguments),
        },
    }
}

/// A command that has another name since the first release.
fn renamed(arguments: &[String]) -> Exit {
    let fault = args::invalid("deprecated command spelling: gait mcp-verify -> gait mcp verify")
        .hint("use `gait mcp verify` instead")
        .migrated(Migration::Command {
            deprecated_command: "gait mcp-verify",
            replacement_command: "gait mcp verify",
        });
    Output::new(args::asks_for_json(arguments), correlation::new_id()).fault(&fault)
}

fn version() -> String {
    format!("gait {VERSION}")
}

/// No command has these words. A group that is named without one of its commands, as one that is asked about, is answered
/// with its usage.
fn unknown(arguments: &[String]) -> Exit {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let group = usage::longest_group(&words);
    let rest = words.get(group.len()..).unwrap_or_default();
    let usage = usage::group(group);
    match rest.first() {
        Some(word) if args::is_help(word) => Output::human().text(&usage),
        Some(word) if !word.starts_with('-') => {
            Output::new(args::asks_for_json(arguments), correlation::new_id())
                .fault(&no_command(group, word))
        }
        _ => Output::human().text(&usage).or(Exit::InvalidInput),
    }
}

/// The refusal of a word that no command has behind those of `group`. It is repeated only if it could be one: who leaves
/// out a command may give anything in its place.
fn no_command(group: &[&str], word: &str) -> Fault {
    let could_be = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
    let word = Some(word).filter(|word| word.len() <= MAX_WORD && word.bytes().all(could_be));
    let words = [&["gait"], group, &[word.unwrap_or("...")]].concat();
    let usage = [&["gait"], group, &["--help"]].concat().join(" ");
    let hint = match word.and_then(|word| usage::nearest(group, word)) {
        Some(nearest) => format!("did you mean {nearest}? {usage} lists the commands"),
        None => format!("{usage} lists the commands"),
    };
    let message = format!("unknown command: {}", words.join(" "));
    Fault::new(Category::InvalidInput, "unknown_command", message).hint(hint)
}

fn invoke(command: &'static Command, rest: &[String]) -> Exit {
    let Parsed { args, json } = Args::parse(command, rest);
    let output = Output::new(json, correlation::new_id());
    let args = match args {
        Ok(args) => args,
        Err(fault) => return refuse(&output, is_hook(command), &fault),
    };
    if args.wants_help() {
        return output.text(&usage::command(command));
    }
    if args.wants_explanation() {
        return output.text(command.help);
    }
    if let Err(fault) = clash::check(command, &args) {
        return refuse(&output, is_hook(command), &fault);
    }
    let context = Context {
        correlation_id: output.correlation_id().to_owned(),
        clock: SystemClock::shared(),
        environment: Arc::new(SystemEnvironment),
        json,
    };
    // Nothing that is dated or ends means anything by such a clock. The doctor tells of it among the rest.
    if !is(command, &commands::doctor::EXAMINE)
        && let Err(fault) = clock::check_set(context.clock.now())
    {
        return refuse(&output, is_hook(command), &fault);
    }
    logged(command, &context, || {
        let ended = (command.run)(&context, &args);
        let fault = match &ended {
            Ok(outcome) => outcome.fault.clone(),
            Err(fault) => Some(fault.clone()),
        };
        let exit = match ended {
            Ok(outcome) => output.outcome(outcome),
            Err(fault) => output.fault(&fault),
        };
        (exit, fault)
    })
}

/// Says why there is nothing to run; to an agent, in the shape of an answer.
fn refuse(output: &Output, is_hook: bool, fault: &Fault) -> Exit {
    match is_hook {
        true => output.text(&commands::hook::deny(fault)),
        false => output.fault(fault),
    }
}

fn is_hook(command: &Command) -> bool {
    is(command, &commands::hook::HOOK)
}

fn is(command: &Command, other: &Command) -> bool {
    command.words == other.words
}

/// The exit of a hook, whatever becomes of it: to an agent, any other failure than 2 is a hook that is out of order,
/// which it does without.
fn closed(run: impl FnOnce() -> Exit) -> Exit {
    match std::panic::catch_unwind(AssertUnwindSafe(run)) {
        Ok(Exit::Ok) => Exit::Ok,
        Ok(_) | Err(_) => Exit::Child(2),
    }
}

/// Notes start and end of the command where the user keeps a log of them.
fn logged(
    command: &Command,
    context: &Context,
    run: impl FnOnce() -> (Exit, Option<Fault>),
) -> Exit {
    let (environment, clock) = (&*context.environment, &*context.clock);
    let log = oplog::Run::start(environment, clock, &command.name(), &context.correlation_id);
    let (exit, fault) = run();
    for warning in log.end(Ended::of(exit.code(), fault.as_ref())) {
        output::warn(&warning);
    }
    exit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_ends_well_or_with_the_only_failure_that_stops_an_agent() {
        let code = |run: fn() -> Exit| closed(run).code();
        assert_eq!(code(|| Exit::Ok), 0);
        assert_eq!(code(|| Exit::Failure), 2);
        assert_eq!(code(|| Exit::InvalidInput), 2);
        assert_eq!(code(|| std::panic::resume_unwind(Box::new("broken"))), 2);
    }

    #[test]
    fn a_hook_is_known_by_its_raw_words() {
        let asks = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            super::asks(&words, &commands::hook::HOOK)
        };
        assert!(asks(&["hook"]) && asks(&["hook", "--policy"]));
        assert!(!asks(&[]) && !asks(&["hooks"]) && !asks(&["run", "hook"]));
    }
}
