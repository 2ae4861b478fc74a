//! Where keys come from, and in which order that is decided.
//!
//! A key has one source: a file or an environment variable, never both. In `dev` mode nothing may be given and a fresh
//! key signs; in `prod` mode the private key must be given, and a public key that is given as well must be its other
//! half. Everything here is refused before anything is written.
//!
//! The contract gives all these refusals the code `invalid_input`; their [`reason`](Fault::reason) tells them apart.

mod files;
mod source;

pub use files::{KeyFiles, create, rotate};
pub use source::KeySource;

use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{SigningKey, VerifyingKey};

use crate::environment::Environment;

/// Whether evidence is signed with a throw-away key or with one that verifiers know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyMode {
    /// A fresh key for this run.
    Dev,
    /// A key that was given.
    Prod,
}

/// What a command says about the key it signs with.
#[derive(Clone, Debug)]
pub struct SigningRequest {
    /// The mode.
    pub mode: KeyMode,
    /// The key that signs.
    pub private: KeySource,
    /// Its other half, to be sure.
    pub public: KeySource,
}

/// A key to sign with, and what its user should know about it.
#[derive(Debug)]
pub struct SigningIdentity {
    /// The key.
    pub key: SigningKey,
    /// The warnings for the output.
    pub warnings: Vec<String>,
    /// Whether the key was made for this run.
    pub is_ephemeral: bool,
}

/// What `dev` mode tells its user.
const EPHEMERAL: &str =
    "dev key mode signs with a key of this run only: nobody can tell later who signed";

impl KeyMode {
    /// Reads `dev` or `prod`; reason `key_mode_unsupported` for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "dev" => Ok(Self::Dev),
            "prod" => Ok(Self::Prod),
            _ => Err(refused("unsupported key mode").because(
                "key_mode_unsupported",
                "use --key-mode dev or --key-mode prod",
            )),
        }
    }
}

impl SigningRequest {
    /// The key to sign with.
    ///
    /// Reasons: `key_source_not_allowed` for any source in `dev` mode, `key_source_required` for none in `prod` mode,
    /// `key_pair_mismatch`, and those of reading a source.
    pub fn resolve(&self, environment: &dyn Environment) -> Result<SigningIdentity> {
        match self.mode {
            KeyMode::Dev => self.ephemeral(),
            KeyMode::Prod => self.given(environment),
        }
    }

    fn ephemeral(&self) -> Result<SigningIdentity> {
        if self.private.is_given() || self.public.is_given() {
            return Err(
                refused("dev mode does not accept explicit key sources").because(
                    "key_source_not_allowed",
                    "drop the key flags, or sign with that key in --key-mode prod",
                ),
            );
        }
        Ok(SigningIdentity {
            key: SigningKey::generate()?,
            warnings: vec![EPHEMERAL.to_owned()],
            is_ephemeral: true,
        })
    }

    fn given(&self, environment: &dyn Environment) -> Result<SigningIdentity> {
        let Some(key) = self.private.signing_key(environment)? else {
            return Err(refused("prod mode requires a private key source").because(
                "key_source_required",
                "give --private-key <path> or --private-key-env <variable>",
            ));
        };
        if let Some(public) = self.public.verifying_key(environment)? {
            paired(&key, &public)?;
        }
        Ok(SigningIdentity {
            key,
            warnings: Vec::new(),
            is_ephemeral: false,
        })
    }
}

/// The key to verify with: the public one, or the other half of the private one; `None` when neither is given.
///
/// Reasons: `key_pair_mismatch` when both are given and are no pair, and those of reading a source.
pub fn verifying_key(
    public: &KeySource,
    private: &KeySource,
    environment: &dyn Environment,
) -> Result<Option<VerifyingKey>> {
    let public = public.verifying_key(environment)?;
    let private = private.signing_key(environment)?;
    if let (Some(private), Some(public)) = (&private, &public) {
        paired(private, public)?;
    }
    Ok(public.or_else(|| private.map(|key| key.verifying_key())))
}

/// The key of a command that cannot do without; reason `key_source_required`.
pub fn require_verifying_key(key: Option<VerifyingKey>) -> Result<VerifyingKey> {
    key.ok_or_else(|| {
        refused("a verify key is required (--public-key or --public-key-env)").because(
            "key_source_required",
            "give --public-key <path> or --public-key-env <variable>",
        )
    })
}

fn paired(private: &SigningKey, public: &VerifyingKey) -> Result<()> {
    if private.verifying_key() == *public {
        return Ok(());
    }
    let message = format!(
        "the public key {} is not the other half of the private key {}",
        public.key_id(),
        private.verifying_key().key_id()
    );
    Err(refused(message).because(
        "key_pair_mismatch",
        "give the two halves of one pair, or leave the public key out",
    ))
}

fn refused(message: impl Into<String>) -> Fault {
    Fault::new(Category::InvalidInput, "invalid_input", message)
}

#[cfg(test)]
mod tests;
