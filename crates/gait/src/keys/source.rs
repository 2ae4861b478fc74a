//! One source of one key.

use std::path::{Path, PathBuf};

use worldcompute_durable::{read_guarded, read_private};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use super::refused;
use crate::environment::Environment;
use crate::given;

/// The largest key text, in bytes.
const MAX_KEY_TEXT: usize = 1024;

/// Where one key comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeySource {
    /// Nowhere: none is given.
    #[default]
    None,
    /// A file.
    File {
        /// The flag that names it.
        flag: String,
        /// Where it is.
        path: PathBuf,
    },
    /// An environment variable.
    Variable {
        /// The flag that names it.
        flag: String,
        /// Its name.
        name: String,
    },
}

impl KeySource {
    /// What the flags `--<flag>` and `--<flag>-env` say; reason `key_source_ambiguous` when both do.
    pub fn new(flag: &str, path: &str, variable: &str) -> Result<Self> {
        match (path.trim(), variable.trim()) {
            ("", "") => Ok(Self::None),
            (path, "") => Ok(Self::File {
                flag: flag.to_owned(),
                path: PathBuf::from(path),
            }),
            ("", variable) => Ok(Self::Variable {
                flag: format!("{flag}-env"),
                name: variable.to_owned(),
            }),
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
        self.read(environment, private_text, |bytes| {
            let key = text_of(bytes).and_then(|text| SigningKey::from_base64(text).ok());
            key.ok_or_else(|| malformed("private", bytes, 64))
        })
    }

    /// The public key from here. Its file must not be one that everybody may write. Reasons: `key_variable_unset`,
    /// `key_file_insecure`, `key_malformed`.
    pub fn verifying_key(&self, environment: &dyn Environment) -> Result<Option<VerifyingKey>> {
        self.read(environment, public_text, |bytes| {
            let key = text_of(bytes).and_then(|text| VerifyingKey::from_base64(text).ok());
            key.ok_or_else(|| malformed("public", bytes, 32))
        })
    }

    /// Whatever is wrong is said of the flag. What the flag was given is repeated only where it names something that is
    /// there: else it may be the key itself.
    fn read<K>(
        &self,
        environment: &dyn Environment,
        file: fn(&Path) -> Result<Zeroizing<Vec<u8>>>,
        parse: impl Fn(&[u8]) -> Result<K>,
    ) -> Result<Option<K>> {
        let (flag, shown, read) = match self {
            Self::None => return Ok(None),
            Self::Variable { flag, name } => {
                (flag, name.clone(), variable(flag, name, environment))
            }
            Self::File { flag, path } => {
                let read = file(path).map_err(|fault| given::unreadable(flag, path, fault));
                (flag, path.display().to_string(), read)
            }
        };
        let key = read.and_then(|bytes| parse(bytes.trim_ascii()));
        key.map(Some).map_err(|fault| match fault.reason() {
            MALFORMED => {
                let message = format!("--{flag} {shown}: {}", fault.message());
                refused(message).because(MALFORMED, fault.remedy())
            }
            _ => fault,
        })
    }
}

fn variable(flag: &str, name: &str, environment: &dyn Environment) -> Result<Zeroizing<Vec<u8>>> {
    let value = environment
        .var(name)
        .map(|value| Zeroizing::new(value.into_bytes()));
    value.filter(|value| !value.is_empty()).ok_or_else(|| {
        let message = format!("the environment variable that --{flag} names is not set");
        refused(message).because(
            "key_variable_unset",
            "set the variable to the base64 of the key, or give a path",
        )
    })
}

/// Whoever writes a public key decides whose signatures count.
fn public_text(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let text = read_guarded(path, MAX_KEY_TEXT as u64).map_err(|fault| match fault.code() {
        "insecure_permissions" => refused(fault.message()).because(
            "key_file_insecure",
            "take the right to write from everybody else: chmod o-w",
        ),
        _ => fault,
    });
    text.map(Zeroizing::new)
}

/// What is too open to hold a key says so only if it holds one: of anything else the content is the trouble.
fn private_text(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    match read_private(path, MAX_KEY_TEXT as u64) {
        Ok(bytes) => Ok(Zeroizing::new(bytes)),
        Err(fault) if fault.code() == "insecure_permissions" => match open_public_key(path) {
            true => Err(malformed("private", b"", 64)),
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

fn text_of(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

const MALFORMED: &str = "key_malformed";

/// The message tells the length, never the text.
fn malformed(half: &str, text: &[u8], expected: usize) -> Fault {
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
        MALFORMED,
        "a private key is base64 of seed and public key (64 bytes), a public key of 32 bytes",
    )
}
