//! The master key in a file of this user.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use worldcompute_durable::{Mode, create_new, private_dir, read_private};
use worldcompute_fault::{Category, Fault};
use zeroize::Zeroizing;

use crate::backend::Realm;
use crate::crypto::{KEY_BYTES, Key, random};
use crate::keys::{
    DekContext, DekHandle, EncryptedDek, KekHandle, KeyError, KeyProvider, UmkHandle,
};
use crate::task::blocking;

/// The master key as 32 raw bytes in a file of mode 0600 in a directory of mode 0700.
///
/// It is never rotated: local data is disposable.
#[derive(Clone, Debug)]
pub struct LocalFileKeyProvider {
    path: PathBuf,
}

impl LocalFileKeyProvider {
    /// The key at `path`, made at the first set-up of a store.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// `~/.blue/keys/umk.key`, `None` without a home directory.
    pub fn default_path() -> Option<PathBuf> {
        std::env::home_dir().map(|home| home.join(".blue/keys/umk.key"))
    }

    async fn run(
        &self,
        work: fn(&Path) -> Result<UmkHandle, KeyError>,
    ) -> Result<UmkHandle, KeyError> {
        let path = self.path.clone();
        blocking(move || Ok(work(&path))).await?
    }
}

#[async_trait]
impl KeyProvider for LocalFileKeyProvider {
    fn realm(&self) -> Realm {
        Realm::Local
    }

    async fn get_umk(&self) -> Result<UmkHandle, KeyError> {
        self.run(read).await
    }

    async fn create_umk(&self) -> Result<UmkHandle, KeyError> {
        self.run(create).await
    }

    async fn encrypt_dek(
        &self,
        kek: &KekHandle,
        dek: &DekHandle,
        context: &DekContext,
    ) -> Result<EncryptedDek, KeyError> {
        EncryptedDek::wrap(kek, dek, context)
    }
}

/// Whoever comes second finds the key of whoever came first.
fn create(path: &Path) -> Result<UmkHandle, KeyError> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        private_dir(parent)?;
    }
    let mut key = Key::default();
    random(&mut *key)?;
    match create_new(path, &*key, Mode::Private) {
        Err(fault) if fault.code() != "already_exists" => Err(fault.into()),
        _ => read(path),
    }
}

fn read(path: &Path) -> Result<UmkHandle, KeyError> {
    if let Some(parent) = path.parent().filter(|parent| parent.exists()) {
        private_dir(parent)?;
    }
    let bytes = match read_private(path, KEY_BYTES as u64) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(fault) if fault.code() == "not_found" => {
            return Err(KeyError::Missing(path.display().to_string()));
        }
        Err(fault) if fault.code() == "file_too_large" => return Err(wrong_length(path)),
        Err(fault) => return Err(fault.into()),
    };
    let mut key = Key::default();
    if bytes.len() != key.len() {
        return Err(wrong_length(path));
    }
    key.copy_from_slice(&bytes);
    Ok(UmkHandle::new(key))
}

fn wrong_length(path: &Path) -> KeyError {
    let message = format!("{} does not hold exactly {KEY_BYTES} bytes", path.display());
    Fault::new(
        Category::VerificationFailed,
        "encryption_key_malformed",
        message,
    )
    .hint("put the key file back from a backup")
    .into()
}
