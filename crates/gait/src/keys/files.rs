//! Key pairs in files.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use worldcompute_durable::{Mode, create_new, output_dir, write_atomic};
use worldcompute_fault::{Fault, Result};
use worldcompute_proof::{SigningKey, VerifyingKey};

use super::refused;

/// The longest name of a pair, in bytes.
const MAX_PREFIX: usize = 128;

/// A pair that was just written.
#[derive(Clone, Debug)]
pub struct KeyFiles {
    /// The name of the pair.
    pub prefix: String,
    /// Where the private half is.
    pub private_path: PathBuf,
    /// Where the public half is.
    pub public_path: PathBuf,
    /// The public half.
    pub public: VerifyingKey,
}

/// Makes a pair `<prefix>_private.key` and `<prefix>_public.key` in `dir`, both of mode 0600.
///
/// Reasons: `key_exists` when there is one, unless `replace`; `key_prefix_invalid` for a name that is not a plain
/// part of a file name.
pub fn create(dir: &Path, prefix: &str, replace: bool) -> Result<KeyFiles> {
    check_prefix(prefix)?;
    let key = SigningKey::generate()?;
    output_dir(dir)?;
    let files = KeyFiles {
        prefix: prefix.to_owned(),
        private_path: dir.join(format!("{prefix}_private.key")),
        public_path: dir.join(format!("{prefix}_public.key")),
        public: key.verifying_key(),
    };
    let private = key.file_text();
    let public = format!("{}\n", files.public.to_base64());
    match replace {
        true => files.replace(private.as_bytes(), public.as_bytes())?,
        false => files.add(private.as_bytes(), public.as_bytes())?,
    }
    Ok(files)
}

impl KeyFiles {
    /// The old private half goes last: it is the one that cannot be had again.
    fn replace(&self, private: &[u8], public: &[u8]) -> Result<()> {
        write_atomic(&self.public_path, public, Mode::Private)?;
        write_atomic(&self.private_path, private, Mode::Private)
    }

    /// Both halves or none.
    fn add(&self, private: &[u8], public: &[u8]) -> Result<()> {
        create_new(&self.private_path, private, Mode::Private).map_err(taken)?;
        let added = create_new(&self.public_path, public, Mode::Private).map_err(taken);
        if added.is_err() {
            // Should this fail as well, the name is taken by half a pair, which `keys verify` tells.
            let _ = std::fs::remove_file(&self.private_path);
        }
        added
    }
}

/// Makes a further pair whose name ends in the time, `<prefix>_YYYYMMDDTHHMMSSZ`; older pairs stay for verifying.
pub fn rotate(dir: &Path, prefix: &str, now: Timestamp) -> Result<KeyFiles> {
    check_prefix(prefix)?;
    let name = format!("{prefix}_{}", now.strftime("%Y%m%dT%H%M%SZ"));
    create(dir, &name, false).map_err(|fault| match fault.reason() {
        EXISTS => {
            refused(fault.message()).because(EXISTS, "retry in a second, which has another name")
        }
        _ => fault,
    })
}

const EXISTS: &str = "key_exists";

fn taken(fault: Fault) -> Fault {
    match fault.code() {
        "already_exists" => {
            refused(fault.message()).because(EXISTS, "choose another --prefix, or give --force")
        }
        _ => fault,
    }
}

fn check_prefix(prefix: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let ordinary = !prefix.is_empty() && prefix.len() <= MAX_PREFIX && !prefix.starts_with('.');
    if ordinary && prefix.bytes().all(plain) {
        return Ok(());
    }
    Err(
        refused(format!("{prefix:?} cannot name a key pair")).because(
            "key_prefix_invalid",
            "use up to 128 letters, digits, dashes, underscores and inner dots",
        ),
    )
}
