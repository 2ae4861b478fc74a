//! Encrypting what is kept: AES-256-GCM, the key from the environment or from a command
//! (`gait.guard.encrypted_artifact`).
//!
//! The format holds the whole ciphertext under one tag, so that nothing of it may be used before all of it was
//! checked. It is therefore held in memory, and bounded: see [`MAX_SEALED_BYTES`].

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::json;
use worldcompute_durable::{AtomicFile, Mode, read_bounded};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{Sha256, canonical_json};
use zeroize::Zeroizing;

use crate::archive::fault_of;
use crate::artefact;
use crate::environment::Environment;
use crate::limits::{MAX_SEALED_BYTES, invalid};
use crate::program::{Program, Silence};
use crate::signature::unverified;
use crate::wire_time::WireTime;

const SCHEMA_ID: &str = "gait.guard.encrypted_artifact";
const SCHEMA_VERSION: &str = "1.0.0";
const ALGORITHM: &str = "aes-256-gcm";
const KEY_LEN: usize = 32;
/// Bytes that a key command may print.
const MAX_KEY_OUTPUT: usize = 1024;
/// How long it may take.
const KEY_COMMAND_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that are base64-encoded in one step; a multiple of three.
const STEP: usize = 48 << 10;
/// What the file holds besides the ciphertext.
const HEAD: u64 = 64 << 10;

/// Where the key comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyOrigin {
    /// `env` or `command`.
    pub mode: String,
    /// The name of the environment variable.
    #[serde(default, rename = "ref", skip_serializing_if = "String::is_empty")]
    pub reference: String,
    /// The program.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub command: String,
}

/// A key for sealing, wiped when it is dropped.
pub struct SealingKey {
    key: LessSafeKey,
    origin: KeyOrigin,
}

/// What was sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The file that was written.
    pub path: PathBuf,
    /// The digest of the content.
    pub plain_sha256: Sha256,
    /// Bytes of the content.
    pub plain_size: usize,
}

impl SealingKey {
    /// The key in the environment variable `name`: base64 of 32 bytes.
    ///
    /// Errors, all of code `invalid_input`: reasons `sealing_key_unset` and `sealing_key_malformed`.
    pub fn from_variable(name: &str, environment: &dyn Environment) -> Result<Self> {
        let text = environment.setting(name).map(Zeroizing::new);
        let text = text.ok_or_else(|| {
            invalid("the environment variable that --key-env names is empty or not set").because(
                "sealing_key_unset",
                "set the variable to the base64 of 32 random bytes",
            )
        })?;
        let origin = KeyOrigin {
            mode: "env".to_owned(),
            reference: name.to_owned(),
            command: String::new(),
        };
        Self::decode(&text, origin)
    }

    /// The key that `program` prints: base64 of 32 bytes. It has five seconds, and what it says is never shown.
    ///
    /// Errors: reasons `sealing_key_malformed` and `sealing_key_command_malformed` of code `invalid_input`;
    /// `sealing_key_unavailable`.
    pub fn from_command(program: &str, arguments: &[String]) -> Result<Self> {
        if program.contains(char::is_whitespace) {
            return Err(
                invalid("the key command must not contain whitespace").because(
                    "sealing_key_command_malformed",
                    "pass arguments with --key-command-args",
                ),
            );
        }
        let asked = Program {
            name: program,
            arguments,
            timeout: KEY_COMMAND_TIMEOUT,
            limit: MAX_KEY_OUTPUT,
        };
        let printed = asked.ask(b"").map_err(unavailable)?;
        let text = std::str::from_utf8(&printed).unwrap_or_default();
        let origin = KeyOrigin {
            mode: "command".to_owned(),
            reference: String::new(),
            command: program.to_owned(),
        };
        Self::decode(text.trim(), origin)
    }

    /// Where it came from.
    pub const fn origin(&self) -> &KeyOrigin {
        &self.origin
    }

    fn decode(text: &str, origin: KeyOrigin) -> Result<Self> {
        let mut bytes = Zeroizing::new([0; KEY_LEN + 2]);
        let len = STANDARD.decode_slice(text, &mut *bytes).unwrap_or_default();
        let exact = bytes.get(..KEY_LEN).filter(|_| len == KEY_LEN);
        let key = exact.and_then(|key| UnboundKey::new(&AES_256_GCM, key).ok());
        let key = key.ok_or_else(|| {
            invalid("the encryption key is not base64 of 32 bytes").because(
                "sealing_key_malformed",
                "make one with: head -c 32 /dev/urandom | base64",
            )
        })?;
        Ok(Self {
            key: LessSafeKey::new(key),
            origin,
        })
    }
}

/// Encrypts the file `input` into `output`, by default `<input>.gaitenc`.
///
/// Errors: `file_too_large` past [`MAX_SEALED_BYTES`]; those of reading and writing.
pub fn seal(
    input: &Path,
    output: Option<&Path>,
    key: &SealingKey,
    producer_version: &str,
    now: jiff::Timestamp,
) -> Result<Sealed> {
    let output = output.map_or_else(|| sealed_name(input), Path::to_owned);
    let mut content = Zeroizing::new(read_bounded(input, MAX_SEALED_BYTES)?);
    let (plain_sha256, plain_size) = (Sha256::of(&*content), content.len());
    let mut nonce = [0; NONCE_LEN];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| no_randomness())?;
    let tag = key
        .key
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::empty(),
            &mut content,
        )
        .map_err(|_| broken("encrypt"))?;
    content.extend_from_slice(tag.as_ref());
    let tail = json!({
        "created_at": WireTime::at(now),
        "key_source": key.origin,
        "nonce": STANDARD.encode(nonce),
        "plain_sha256": plain_sha256,
        "plain_size": plain_size,
        "producer_version": producer_version,
        "schema_id": SCHEMA_ID,
        "schema_version": SCHEMA_VERSION,
    });
    write_sealed(&output, &content, &canonical_json(&tail)?)?;
    Ok(Sealed {
        path: output,
        plain_sha256,
        plain_size,
    })
}

/// Decrypts the file `input` into `output`, by default its name without `.gaitenc`. Nothing is written unless all of
/// it was checked.
///
/// Errors: `verification_failed` for another key, anything that was changed and what is cut off; `invalid_input` for what
/// is no sealed file; those of reading and writing.
pub fn unseal(input: &Path, output: Option<&Path>, key: &SealingKey) -> Result<Sealed> {
    let output = output.map_or_else(|| opened_name(input), Path::to_owned);
    let bytes = read_bounded(input, MAX_SEALED_BYTES / 3 * 4 + HEAD)?;
    let artefact = Artefact::parse(input, &bytes)?;
    let mut content = artefact.content()?;
    let nonce = Nonce::assume_unique_for_key(artefact.nonce()?);
    let refused = |_| unverified("the sealed file was changed, or another key sealed it");
    let plain = key
        .key
        .open_in_place(nonce, Aad::empty(), &mut content)
        .map_err(refused)?;
    let plain_sha256 = Sha256::of(&*plain);
    if plain_sha256 != artefact.plain_sha256 || plain.len() != artefact.plain_size {
        return Err(unverified("decrypted payload digest mismatch"));
    }
    artefact::write(&output, plain)?;
    Ok(Sealed {
        plain_size: plain.len(),
        path: output,
        plain_sha256,
    })
}

/// A sealed file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Artefact<'a> {
    schema_id: &'a str,
    schema_version: &'a str,
    #[serde(rename = "created_at")]
    _created_at: WireTime,
    #[serde(rename = "producer_version")]
    _producer_version: &'a str,
    algorithm: &'a str,
    #[serde(rename = "key_source")]
    _key_source: KeyOrigin,
    nonce: &'a str,
    ciphertext: &'a str,
    plain_sha256: Sha256,
    plain_size: usize,
}

impl<'a> Artefact<'a> {
    fn parse(path: &Path, bytes: &'a [u8]) -> Result<Self> {
        let refused = |why: &str| invalid(format!("parse encrypted artifact: {why}"));
        let artefact: Self =
            serde_json::from_slice(bytes).map_err(|error| match error.is_data() {
                true => refused(&error.to_string()),
                false => unverified(format!(
                    "{}: parse encrypted artifact: {error}",
                    path.display()
                )),
            })?;
        let known = artefact.schema_id == SCHEMA_ID && artefact.schema_version == SCHEMA_VERSION;
        match known && artefact.algorithm == ALGORITHM {
            true => Ok(artefact),
            false => Err(refused(
                "not gait.guard.encrypted_artifact 1.0.0 with aes-256-gcm",
            )),
        }
    }

    fn content(&self) -> Result<Zeroizing<Vec<u8>>> {
        let bytes = STANDARD.decode(self.ciphertext);
        bytes
            .map(Zeroizing::new)
            .map_err(|_| invalid("the ciphertext is not base64"))
    }

    fn nonce(&self) -> Result<[u8; NONCE_LEN]> {
        let bytes = STANDARD.decode(self.nonce).unwrap_or_default();
        bytes
            .try_into()
            .map_err(|_| invalid("the nonce is not base64 of 12 bytes"))
    }
}

/// Canonical JSON, of which `ciphertext` comes second: `tail` is an object of everything after it.
fn write_sealed(path: &Path, ciphertext: &[u8], tail: &[u8]) -> Result<()> {
    artefact::prepare(path)?;
    let mut file = AtomicFile::create(path, Mode::Private)?;
    let mut put = |bytes: &[u8]| {
        file.write_all(bytes)
            .map_err(|error| fault_of(&format!("write {}", path.display()), error))
    };
    put(format!("{{\"algorithm\":\"{ALGORITHM}\",\"ciphertext\":\"").as_bytes())?;
    for chunk in ciphertext.chunks(STEP) {
        put(STANDARD.encode(chunk).as_bytes())?;
    }
    put(b"\",")?;
    put(tail.strip_prefix(b"{").unwrap_or_default())?;
    file.commit()
}

fn sealed_name(input: &Path) -> PathBuf {
    let mut name = input.as_os_str().to_owned();
    name.push(".gaitenc");
    name.into()
}

fn opened_name(input: &Path) -> PathBuf {
    match input
        .extension()
        .is_some_and(|extension| extension == "gaitenc")
    {
        true => input.with_extension(""),
        false => {
            let mut name = input.as_os_str().to_owned();
            name.push(".plain");
            name.into()
        }
    }
}

fn unavailable(silence: Silence) -> Fault {
    let why = match silence {
        Silence::NotStarted => "does not start",
        Silence::Insecure => "can be written or replaced by everybody",
        Silence::TooMuch => "says too much",
        Silence::Failed => "fails",
        Silence::TooLong => "takes too long",
    };
    let message = format!("the key command {why}");
    Fault::new(
        Category::DependencyMissing,
        "sealing_key_unavailable",
        message,
    )
    .hint("run the command by hand: it has to print the base64 of 32 bytes")
}

fn no_randomness() -> Fault {
    let message = "the operating system gave no randomness";
    Fault::new(Category::InternalFailure, "entropy_unavailable", message)
}

fn broken(action: &str) -> Fault {
    let message = format!("the cipher failed to {action}");
    Fault::new(Category::InternalFailure, "internal_failure", message)
}
