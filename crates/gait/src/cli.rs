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
mod output;
mod streamed;
mod usage;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use gait::oplog::{self, Ended};
use gait::{SystemClock, SystemEnvironment, VERSION};
use worldcompute_fault::{Fault, Migration, Result};

use args::{Args, Parsed};
use command::{Command, Context};
use commands::COMMANDS;
use exit::Exit;
use output::Output;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match texts(&arguments) {
        Ok(arguments) => dispatch(&arguments),
        Err(fault) => unreadable(&arguments, &fault),
    }
    .into()
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
    match command.is_some_and(is_hook) {
        true => closed(output.text(&commands::hook::deny(fault))),
        false => output.fault(fault),
    }
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

/// No command has these words: the usage of the longest group that does.
fn unknown(arguments: &[String]) -> Exit {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let group = usage::longest_group(&words);
    let rest = words.get(group.len()..).unwrap_or_default();
    let shown = Output::human().text(&usage::group(group));
    match rest.first() {
        Some(word) if args::is_help(word) => shown,
        _ => shown.or(Exit::InvalidInput),
    }
}

fn invoke(command: &'static Command, rest: &[String]) -> Exit {
    let Parsed { args, json } = Args::parse(command, rest);
    let output = Output::new(json, correlation::new_id());
    let args = match args {
        Ok(args) => args,
        // To an agent a hook that fails is a hook that is not there.
        Err(fault) if is_hook(command) => {
            return closed(output.text(&commands::hook::deny(&fault)));
        }
        Err(fault) => return output.fault(&fault),
    };
    if args.wants_help() {
        return output.text(&usage::command(command));
    }
    if args.wants_explanation() {
        return output.text(command.help);
    }
    if let Err(fault) = clash::check(command, &args) {
        return output.fault(&fault);
    }
    let context = Context {
        correlation_id: output.correlation_id().to_owned(),
        clock: SystemClock::shared(),
        environment: Arc::new(SystemEnvironment),
        json,
    };
    let exit = logged(command, &context, || {
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
    });
    match is_hook(command) {
        true => closed(exit),
        false => exit,
    }
}

fn is_hook(command: &Command) -> bool {
    command.words == commands::hook::HOOK.words
}

/// The exit of a hook: to an agent, any other code than 2 is a hook that is out of order, which it does without.
fn closed(exit: Exit) -> Exit {
    match exit {
        Exit::Ok => Exit::Ok,
        _ => Exit::Child(2),
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
