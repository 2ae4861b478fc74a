//! One source of one key.

use std::path::{Path, PathBuf};

use worldcompute_durable::{read_guarded, read_private};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use super::refused;
use crate::environment::Environment;

/// The largest key text, in bytes.
const MAX_KEY_TEXT: usize = 1024;

/// Where one key comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeySource {
    /// Nowhere: none is given.
    #[default]
    None,
    /// A file.
    File(PathBuf),
    /// An environment variable, by name.
    Variable(String),
}

impl KeySource {
    /// What the flags `--<flag>` and `--<flag>-env` say; reason `key_source_ambiguous` when both do.
    pub fn new(flag: &str, path: &str, variable: &str) -> Result<Self> {
        match (path.trim(), variable.trim()) {
            ("", "") => Ok(Self::None),
            (path, "") => Ok(Self::File(PathBuf::from(path))),
            ("", variable) => Ok(Self::Variable(variable.to_owned())),
            _ => Err(
                refused(format!("both --{flag} and --{flag}-env are set")).because(
                    "key_source_ambiguous",
                    "give the path or the environment variable, not both",
                ),
            ),
        }
    }

    /// Whether there is one.
    pub const fn is_given(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// The private key from here.
    ///
    /// Its file must be a regular file of this user that is closed to everybody else. Reasons: `key_variable_unset`,
    /// `key_file_insecure`, `key_malformed`; a file that cannot be read keeps its own code.
    pub fn signing_key(&self, environment: &dyn Environment) -> Result<Option<SigningKey>> {
        let text = match self {
            Self::None => return Ok(None),
            Self::Variable(name) => variable(name, environment)?,
            Self::File(path) => private_text(path)?,
        };
        let text = trimmed(&text, "private")?;
        match SigningKey::from_base64(text) {
            Ok(key) => Ok(Some(key)),
            Err(_) => Err(malformed("private", text, 64)),
        }
    }

    /// The public key from here. Its file must not be one that everybody may write. Reasons: `key_variable_unset`,
    /// `key_file_insecure`, `key_malformed`.
    pub fn verifying_key(&self, environment: &dyn Environment) -> Result<Option<VerifyingKey>> {
        let text = match self {
            Self::None => return Ok(None),
            Self::Variable(name) => variable(name, environment)?,
            Self::File(path) => Zeroizing::new(public_text(path)?),
        };
        let text = trimmed(&text, "public")?;
        match VerifyingKey::from_base64(text) {
            Ok(key) => Ok(Some(key)),
            Err(_) => Err(malformed("public", text, 32)),
        }
    }
}

fn variable(name: &str, environment: &dyn Environment) -> Result<Zeroizing<Vec<u8>>> {
    let value = environment
        .var(name)
        .map(|value| Zeroizing::new(value.into_bytes()));
    value.filter(|value| !value.is_empty()).ok_or_else(|| {
        refused(format!("environment variable {name} is not set")).because(
            "key_variable_unset",
            "set the variable to the base64 of the key, or give a path",
        )
    })
}

/// Whoever writes a public key decides whose signatures count.
fn public_text(path: &Path) -> Result<Vec<u8>> {
    read_guarded(path, MAX_KEY_TEXT as u64).map_err(|fault| match fault.code() {
        "insecure_permissions" => refused(fault.message()).because(
            "key_file_insecure",
            "take the right to write from everybody else: chmod o-w",
        ),
        _ => fault,
    })
}

/// What is too open to hold a key says so only if it holds one: of anything else the content is the trouble.
fn private_text(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    match read_private(path, MAX_KEY_TEXT as u64) {
        Ok(bytes) => Ok(Zeroizing::new(bytes)),
        Err(fault) if fault.code() == "insecure_permissions" => match open_public_key(path) {
            true => Err(malformed("private", "", 64)),
            false => Err(insecure(&fault)),
        },
        Err(fault) => Err(fault),
    }
}

/// Public keys are meant to be open: to give one by mistake is not a matter of its mode.
fn open_public_key(path: &Path) -> bool {
    VerifyingKey::load(path).is_ok()
}

fn insecure(fault: &Fault) -> Fault {
    Fault::new(Category::InvalidInput, "invalid_input", fault.message()).because(
        "key_file_insecure",
        "make it a regular file of your own with chmod 600",
    )
}

fn trimmed<'a>(bytes: &'a [u8], half: &str) -> Result<&'a str> {
    let text = std::str::from_utf8(bytes).map(str::trim);
    text.map_err(|_| malformed(half, "", 0))
}

/// The message tells the length, never the text.
fn malformed(half: &str, text: &str, expected: usize) -> Fault {
    use base64::Engine as _;
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(text)
        .map(Zeroizing::new);
    let message = match decoded {
        Ok(bytes) if bytes.len() != expected => {
            format!("invalid {half} key length: {}", bytes.len())
        }
        Ok(_) => format!("the {half} key is not an Ed25519 key"),
        Err(_) => format!("the {half} key is not base64"),
    };
    refused(message).because(
        "key_malformed",
        "a private key is base64 of seed and public key (64 bytes), a public key of 32 bytes",
    )
}
