//! The broker that is a program: allowed by name, asked on standard input, heard to a limit and for a while.

use std::time::Duration;

use serde::Deserialize;
use worldcompute_fault::Result;
use worldcompute_proof::parse_json_within;
use zeroize::Zeroizing;

use super::{Credential, Request, unavailable};
use crate::environment::Environment;
use crate::limits::{MAX_BROKER_OUTPUT, MAX_CREDENTIAL_REF, invalid};
use crate::program::{Program, Silence};
use crate::text;
use crate::wire_time::WireTime;

/// The variable with the programs that may be asked: paths or names, separated by commas.
pub const ALLOWLIST: &str = "GAIT_CREDENTIAL_COMMAND_ALLOWLIST";
/// How long the program may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A program on the allowlist.
#[derive(Clone, Debug)]
pub struct CommandBroker {
    program: String,
    arguments: Vec<String>,
    timeout: Duration,
}

/// What the program says; whatever else it says is not looked at.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    issued_by: String,
    source: String,
    access_type: String,
    issuer: String,
    subject: String,
    owner: String,
    scope: Vec<String>,
    credential_ref: String,
    target_binding: String,
    run_binding: String,
    job_binding: String,
    request_digest: String,
    issued_at: WireTime,
    expires_at: WireTime,
    ttl_seconds: i64,
}

impl CommandBroker {
    /// The program, if it is on the allowlist. Without an allowlist no program is.
    pub fn allowed(
        program: &str,
        arguments: &[String],
        environment: &dyn Environment,
    ) -> Result<Self> {
        let program = program.trim();
        if program.is_empty() {
            return Err(
                invalid("command broker requires --credential-command").because(
                    "credential_command_required",
                    "give --credential-command <program>",
                ),
            );
        }
        if program.contains(char::is_whitespace) {
            return Err(
                invalid("command broker command must not contain whitespace").because(
                    "credential_command_malformed",
                    "pass arguments with --credential-command-args",
                ),
            );
        }
        let Some(list) = environment.setting(ALLOWLIST) else {
            return Err(
                invalid(format!("command broker requires {ALLOWLIST}")).because(
                    "credential_command_allowlist_required",
                    "set the variable to the programs that may be asked, separated by commas",
                ),
            );
        };
        if !is_on(&list, program) {
            let message = format!("command broker command is not in allowlist {ALLOWLIST}");
            return Err(invalid(message).because(
                "credential_command_not_allowed",
                "add the program to the allowlist, or ask another one",
            ));
        }
        let arguments = arguments.iter().map(|argument| argument.trim());
        Ok(Self {
            program: plain(program),
            arguments: arguments
                .filter(|argument| !argument.is_empty())
                .map(str::to_owned)
                .collect(),
            timeout: TIMEOUT,
        })
    }

    #[cfg(test)]
    pub(super) const fn within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Asks the program.
    pub(super) fn ask(&self, request: &Request<'_>) -> Result<Credential> {
        let output = self.run(&request.bytes()?)?;
        let value = parse_json_within(&output, MAX_BROKER_OUTPUT)
            .map_err(|_| unavailable("the command's answer is not JSON"))?;
        let answer: Answer = serde_json::from_value(value)
            .map_err(|_| unavailable("the command's answer is not of the format"))?;
        answer.credential()
    }

    fn run(&self, question: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let program = Program {
            name: &self.program,
            arguments: &self.arguments,
            timeout: self.timeout,
            limit: MAX_BROKER_OUTPUT,
        };
        program.ask(question).map_err(|silence| {
            unavailable(match silence {
                Silence::NotStarted => "the command does not start",
                Silence::Insecure => "everybody may write or replace the command: chmod o-w",
                Silence::TooMuch => "the command says too much",
                Silence::Failed => "the command fails",
                Silence::TooLong => "the command takes too long",
            })
        })
    }
}

impl Answer {
    fn credential(self) -> Result<Credential> {
        let credential_ref = self.credential_ref.trim();
        if credential_ref.is_empty() {
            return Err(unavailable("the command names no credential"));
        }
        if credential_ref.len() > MAX_CREDENTIAL_REF || credential_ref.contains(char::is_control) {
            return Err(unavailable("the command's credential_ref is malformed"));
        }
        let request_digest = match self.request_digest.trim() {
            "" => None,
            digest => Some(
                digest
                    .to_ascii_lowercase()
                    .parse()
                    .map_err(|_| unavailable("the command's request_digest is malformed"))?,
            ),
        };
        let plain = |text: &str| text.trim().to_owned();
        Ok(Credential {
            issued_by: plain(&self.issued_by),
            source: text::trim_lower(&self.source),
            access_type: text::trim_lower(&self.access_type),
            issuer: plain(&self.issuer),
            subject: plain(&self.subject),
            owner: plain(&self.owner),
            scope: text::sorted_set_lower(&self.scope),
            credential_ref: credential_ref.to_owned(),
            target_binding: plain(&self.target_binding),
            run_binding: plain(&self.run_binding),
            job_binding: plain(&self.job_binding),
            request_digest,
            issued_at: self.issued_at,
            expires_at: self.expires_at,
            ttl_seconds: self.ttl_seconds.max(0),
        })
    }
}

/// Whether the program is on the list. A name on the list stands for what the search path finds under it, not for
/// every program anywhere that is called so.
fn is_on(list: &str, program: &str) -> bool {
    let entries = list.split(',').map(str::trim);
    entries
        .filter(|entry| !entry.is_empty())
        .any(|entry| plain(entry) == plain(program))
}

/// A path without detours, which is what runs: through a symbolic link a detour leads elsewhere than it reads. A name
/// stays a name, and a path a path.
fn plain(program: &str) -> String {
    let clean = text::clean_path(program);
    match program.contains('/') && !clean.contains('/') {
        true => format!("./{clean}"),
        false => clean,
    }
}
