//! Redaction: what must not leave the process in a log line, a span or a metric.
//!
//! | taken out | becomes |
//! |---|---|
//! | values labelled as a secret (`password=`, `"token":`, `--api-key`, `Authorization:`), PEM blocks, bearer tokens, credentials in URLs, tokens of well-known issuers, long random base64, long hex, byte arrays | `[redacted]` |
//! | home directories | `~` |
//! | this machine's names, and names in zones that are never public (`.local`, `.lan`, `.internal`, ..) | `[host]` |
//! | user names of this machine | `[user]` |
//! | MAC addresses | `[mac]` |
//! | private, shared, link-local and unique-local addresses; loopback stays | `[private-ip]` |
//!
//! Some long tokens are public names, and a log without them is of no use. These stay readable unless a label says
//! that they are secret: PeerIds (`12D3KooW..`, `16Uiu2HA..`, `Qm..`), CIDs (lower-case base32), ULIDs and UUIDs, and
//! hex of at most 64 digits or of exactly 96 (SHA-1, SHA-256 and SHA-384 digests, key ids, trace ids). The price of
//! the rule: public keys and signatures in base64 are hidden too, because nobody can tell them from a private key.

mod address;
mod names;
mod secret;

use std::borrow::Cow;
use std::sync::Arc;

pub use names::Names;

/// What is taken out may bare something beside it, so text that changed is looked at again, this often at most.
const MAX_PASSES: usize = 8;

/// A pattern takes this much memory at most. Unicode classes in a counted repetition take megabytes: `(?-u)` avoids that.
const MAX_PATTERN_BYTES: usize = 256 << 10;

/// What a search may keep in memory for the next one, per pattern and thread.
const MAX_SEARCH_BYTES: usize = 128 << 10;

/// Takes secrets and what identifies a person or a machine out of text. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Redactor {
    names: Arc<names::Patterns>,
}

impl Default for Redactor {
    /// Knows the names of this machine.
    fn default() -> Self {
        Self::new(&Names::of_this_host())
    }
}

impl Redactor {
    /// Knows the given names, besides everything that needs no name to be recognised.
    pub fn new(names: &Names) -> Self {
        Self {
            names: Arc::new(names::Patterns::new(names)),
        }
    }

    /// The text without what must not be seen. Never fails; redacting twice changes nothing more.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut clean = match self.once(text) {
            Cow::Owned(changed) => changed,
            unchanged => return unchanged,
        };
        for _ in 1..MAX_PASSES {
            match self.once(&clean) {
                Cow::Owned(changed) if changed != clean => clean = changed,
                _ => break,
            }
        }
        Cow::Owned(clean)
    }

    fn once<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let text = secret::redact(Cow::Borrowed(text));
        let text = address::redact(text);
        self.names.redact(text)
    }

    /// The same for the value of a named field: a value whose name says that it is secret goes whole.
    pub fn redact_field<'a>(&self, name: &str, value: &'a str) -> Cow<'a, str> {
        if secret::is_secret_name(name) && !secret::is_plain_seed(name, value) {
            return Cow::Borrowed(secret::REDACTED);
        }
        self.redact(value)
    }
}

/// Runs one pass over the text, keeping the borrow where nothing changed.
fn pass<'a>(text: Cow<'a, str>, step: impl FnOnce(&str) -> Cow<'_, str>) -> Cow<'a, str> {
    let changed = match step(&text) {
        Cow::Owned(changed) => Some(changed),
        Cow::Borrowed(_) => None,
    };
    changed.map_or(text, Cow::Owned)
}

/// All that a pattern found.
fn whole<'h>(found: &regex::Captures<'h>) -> &'h str {
    found.get(0).map_or("", |all| all.as_str())
}

/// A pattern that is part of the program, compiled on first use.
fn pattern(source: &str) -> regex::Regex {
    #[expect(
        clippy::expect_used,
        reason = "the patterns are constants, and a test compiles each"
    )]
    regex::RegexBuilder::new(source)
        .size_limit(MAX_PATTERN_BYTES)
        .dfa_size_limit(MAX_SEARCH_BYTES)
        .build()
        .expect("a constant pattern")
}
