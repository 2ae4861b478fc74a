//! The table of all commands, sorted by name.

mod approve;
mod delegate;
mod demo;
pub mod doctor;
mod gate;
mod guard;
mod incident;
mod job;
mod keys;
mod kill_switch;
mod mcp;
mod pack;
mod policy;
mod project;
mod registry;
mod regress;
mod run;
mod scripts;
mod session;
mod trace_verify;
mod verify;
mod version;
mod wrap;

pub mod hook;

use super::command::Command;

/// Every command.
pub static COMMANDS: &[&Command] = &[
    &approve::APPROVE,
    &scripts::APPROVE,
    &project::CHECK,
    &delegate::MINT,
    &delegate::VERIFY,
    &demo::DEMO,
    &doctor::EXAMINE,
    &doctor::ADOPTION,
    &wrap::ENFORCE,
    &gate::EVAL,
    &gate::SERVE,
    &guard::DECRYPT,
    &guard::ENCRYPT,
    &guard::PACK,
    &guard::RETAIN,
    &guard::VERIFY,
    &hook::HOOK,
    &incident::PACK,
    &project::INIT,
    &job::APPROVE,
    &job::CANCEL,
    &job::ADD,
    &job::LIST,
    &job::SHOW,
    &job::INSPECT,
    &job::PAUSE,
    &job::RESUME,
    &job::STATUS,
    &job::STOP,
    &job::SUBMIT,
    &keys::INIT,
    &keys::ROTATE,
    &keys::VERIFY,
    &kill_switch::ADD,
    &kill_switch::DISABLE,
    &kill_switch::EXPIRE,
    &kill_switch::LIST,
    &scripts::LIST,
    &mcp::BRIDGE,
    &mcp::PROXY,
    &mcp::SERVE,
    &mcp::VERIFY,
    &pack::BUILD,
    &pack::DIFF,
    &pack::EXPORT,
    &pack::INSPECT,
    &pack::VERIFY,
    &policy::FMT,
    &policy::INIT,
    &policy::SIMULATE,
    &policy::TEST,
    &policy::VALIDATE,
    &registry::INSTALL,
    &registry::LIST,
    &registry::VERIFY,
    &regress::ADD,
    &regress::BOOTSTRAP,
    &regress::INIT,
    &regress::RUN,
    &run::DIFF,
    &run::INSPECT,
    &run::RECEIPT,
    &run::RECORD,
    &run::REDUCE,
    &run::REPLAY,
    &run::session::APPEND,
    &run::session::CHECKPOINT,
    &run::session::COMPACT,
    &run::session::START,
    &run::session::STATUS,
    &session::CLOSE,
    &session::VERIFY,
    &wrap::TEST,
    &wrap::TRACE,
    &trace_verify::VERIFY,
    &verify::VERIFY,
    &verify::CHAIN,
    &verify::SESSION_CHAIN,
    &version::VERSION,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::flag::Flag;
    use super::*;

    #[test]
    fn the_table_is_sorted_and_names_every_command_once() {
        let names: Vec<_> = COMMANDS.iter().map(|command| command.words).collect();
        assert!(names.is_sorted());
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }

    #[test]
    fn no_command_declares_a_flag_twice_or_without_a_name() {
        for command in COMMANDS {
            let flags = Flag::flatten(command.flags);
            let names: BTreeSet<_> = flags.iter().map(|flag| flag.name).collect();
            assert_eq!(names.len(), flags.len(), "{}", command.name());
            let common = ["json", "help", "h", ""];
            assert!(
                common.iter().all(|name| !names.contains(name)),
                "{}",
                command.name()
            );
        }
    }
}
