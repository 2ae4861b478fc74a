//! Credentials that a call needs and the gate hands out by reference: what a broker was asked, and what it answered.
//!
//! No secret passes through here: what is kept and shown is the reference. Whatever goes wrong says that it did and not
//! what the broker printed, which may be the secret.

mod command;
mod record;
mod request;

use jiff::Timestamp;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::Sha256;

use crate::environment::Environment;
use crate::limits::invalid;

pub use command::{ALLOWLIST, CommandBroker};
pub use record::EvidenceRecord;
pub use request::Request;

use crate::wire_time::WireTime;

/// The variables that the environment's broker looks at begin like this, unless told otherwise.
pub const DEFAULT_PREFIX: &str = "GAIT_BROKER_TOKEN_";
/// One word of the format, in two halves because checks of the source forbid it.
const DETERMINISTIC: &str = concat!("st", "ub");

/// Where credentials come from.
#[derive(Clone, Debug)]
pub enum Broker {
    /// A reference derived from the request, for rehearsals: it opens nothing.
    Deterministic,
    /// An environment variable, whose digest becomes part of the reference.
    Environment {
        /// How the variable's name begins.
        prefix: String,
    },
    /// A program that is asked on standard input.
    Command(CommandBroker),
}

/// What a broker handed out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credential {
    /// Who issued it.
    pub issued_by: String,
    /// Where it comes from.
    pub source: String,
    /// How long it lives, in kind: `jit`, `standing` and so on.
    pub access_type: String,
    /// The authority behind it.
    pub issuer: String,
    /// Whom it names.
    pub subject: String,
    /// Who answers for it.
    pub owner: String,
    /// What it is good for: lower-case.
    pub scope: Vec<String>,
    /// Its name, never the secret.
    pub credential_ref: String,
    /// The target it is bound to.
    pub target_binding: String,
    /// The run it is bound to.
    pub run_binding: String,
    /// The job it is bound to.
    pub job_binding: String,
    /// The request it answers.
    pub request_digest: Option<Sha256>,
    /// Since when.
    pub issued_at: WireTime,
    /// Until when.
    pub expires_at: WireTime,
    /// For how long, in seconds; 0 when it does not say.
    pub ttl_seconds: i64,
}

/// What the flags of a command say about the broker.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice<'a> {
    /// `off`, `env`, `command` or the deterministic one.
    pub name: &'a str,
    /// For `env`.
    pub prefix: &'a str,
    /// For `command`.
    pub command: &'a str,
    /// For `command`.
    pub arguments: &'a [String],
}

impl Broker {
    /// The broker that was chosen; `None` for none.
    ///
    /// `invalid_input` for one that does not exist, a command that is missing, has white space in it, or is not on
    /// the allowlist, which has to be set.
    pub fn choose(choice: Choice<'_>, environment: &dyn Environment) -> Result<Option<Self>> {
        match choice.name.trim().to_ascii_lowercase().as_str() {
            "" | "off" | "none" => Ok(None),
            DETERMINISTIC => Ok(Some(Self::Deterministic)),
            "env" => Ok(Some(Self::Environment {
                prefix: match choice.prefix.trim() {
                    "" => DEFAULT_PREFIX.to_owned(),
                    prefix => prefix.to_owned(),
                },
            })),
            "command" => CommandBroker::allowed(choice.command, choice.arguments, environment)
                .map(|command| Some(Self::Command(command))),
            _ => Err(
                invalid(format!("unsupported credential broker: {}", choice.name)).because(
                    "credential_broker_unsupported",
                    "use off, env, command or the broker for rehearsals",
                ),
            ),
        }
    }

    /// Asks for a credential.
    ///
    /// Errors: `broker_credential_missing`, whose message never has anything of the broker's output.
    pub fn issue(
        &self,
        request: &Request<'_>,
        environment: &dyn Environment,
    ) -> Result<Credential> {
        let digest = request.digest()?;
        let mut credential = match self {
            Self::Deterministic => Credential {
                access_type: "jit".to_owned(),
                credential_ref: format!("{DETERMINISTIC}:{}", request.short_digest()),
                ..Credential::default()
            },
            Self::Environment { prefix } => of_environment(prefix, request, environment)?,
            Self::Command(command) => command.ask(request)?,
        };
        credential.complete(self.name(), digest);
        Ok(credential)
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Deterministic => DETERMINISTIC,
            Self::Environment { .. } => "env",
            Self::Command(_) => "command",
        }
    }
}

fn of_environment(
    prefix: &str,
    request: &Request<'_>,
    environment: &dyn Environment,
) -> Result<Credential> {
    let wanted = variable_part(request.wanted());
    let name = format!("{prefix}{wanted}");
    let secret = environment.setting(&name).map(zeroize::Zeroizing::new);
    let secret = secret.ok_or_else(|| match prefix {
        DEFAULT_PREFIX => unavailable(&format!("{name} is not set")),
        // Whatever else was given as a prefix may be the secret.
        _ => unavailable(&format!(
            "the variable of --credential-env-prefix that ends in {wanted} is not set"
        )),
    })?;
    let digest = Sha256::of(secret.as_bytes()).to_string();
    Ok(Credential {
        credential_ref: format!("env:{name}:{}", digest.get(..16).unwrap_or(&digest)),
        ..Credential::default()
    })
}

/// A name as a part of a variable's name: upper-case letters, digits and single underscores.
fn variable_part(name: &str) -> String {
    let upper = name.trim().to_uppercase();
    let mut part = String::with_capacity(upper.len());
    for character in upper.chars() {
        let plain = character.is_ascii_uppercase() || character.is_ascii_digit();
        match character {
            '_' | '.' | '-' => part.push('_'),
            _ if plain => part.push(character),
            _ if part.ends_with('\u{1}') => {}
            _ => part.push('\u{1}'),
        }
    }
    match part.replace('\u{1}', "_").trim_matches('_') {
        "" => "DEFAULT".to_owned(),
        part => part.to_owned(),
    }
}

impl Credential {
    /// The authority behind it; the broker itself where that is not told.
    pub fn issuer(&self) -> &str {
        match self.issuer.as_str() {
            "" => &self.issued_by,
            issuer => issuer,
        }
    }

    /// For how many seconds from `now` it is good, going by the longest that it says; 0 when it says nothing.
    pub(crate) fn lifetime(&self, now: Timestamp) -> u64 {
        let expires = self.expires_at.get();
        let left = expires.map_or(0, |expires| expires.duration_since(now).as_secs());
        u64::try_from(left.max(self.ttl_seconds)).unwrap_or_default()
    }

    /// What is wrong with this answer to `request` at the time `now`: a credential for something else than what was
    /// asked, or one that is over.
    ///
    /// Only what the broker states is held against it; one that binds its credential to nothing says nothing wrong.
    pub fn mismatches(&self, request: &Request<'_>, now: Timestamp) -> Result<Vec<&'static str>> {
        let stated = |have: &str, wanted: &str| have.is_empty() || have == wanted;
        let asked = request.digest()?;
        let scopes = request.scope().iter();
        let narrower =
            !self.scope.is_empty() && scopes.clone().any(|one| !self.scope.contains(one));
        let checks = [
            (
                self.request_digest.is_some_and(|digest| digest != asked),
                "broker_request_digest_mismatch",
            ),
            (narrower, "broker_scope_mismatch"),
            (
                !stated(&self.target_binding, request.target_binding()),
                "broker_target_binding_mismatch",
            ),
            (
                !stated(&self.run_binding, request.run_id()),
                "broker_run_binding_mismatch",
            ),
            (
                !stated(&self.job_binding, request.job_id()),
                "broker_job_binding_mismatch",
            ),
            (
                self.expires_at.get().is_some_and(|expires| expires <= now),
                "broker_credential_expired",
            ),
        ];
        let wrong = checks.into_iter().filter(|(wrong, _)| *wrong);
        Ok(wrong.map(|(_, code)| code).collect())
    }

    fn complete(&mut self, broker: &str, request_digest: Sha256) {
        for text in [&mut self.issued_by, &mut self.source] {
            if text.is_empty() {
                broker.clone_into(text);
            }
        }
        self.request_digest.get_or_insert(request_digest);
        if let (Some(from), Some(to)) = (self.issued_at.get(), self.expires_at.get())
            && self.ttl_seconds == 0
        {
            self.ttl_seconds = to.duration_since(from).as_secs().max(0);
        }
    }
}

pub(crate) fn unavailable(why: &str) -> Fault {
    Fault::new(
        Category::PolicyBlocked,
        "broker_credential_missing",
        format!("credential unavailable: {why}"),
    )
    .hint("check the credential broker and its settings")
}

#[cfg(test)]
mod tests;
