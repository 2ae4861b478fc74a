//! The master key sealed to this machine's TPM 2.0: it opens on this machine, started with this firmware and these keys of
//! Secure Boot, and on no other.
//!
//! The TPM gives the key out under one policy: its registers PCR 0 (the firmware's code) and PCR 7 (Secure Boot's state
//! and keys), SHA-256 bank, are what they were. What is sealed lies in a file, for a TPM keeps little itself
//! (`docs/store/format.md`). Between this process and the TPM the key is encrypted in a session that is salted with the
//! TPM's storage key, and that key is pinned by the file: who listens on the bus has nothing, and neither has who sits
//! on it, unless they sat there when the key was sealed.
//!
//! Once it is open the key is in this process's memory, as that of a file is, and derives the same bytes. The C library
//! underneath wipes none of its buffers.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::time::timeout;
use worldcompute_durable::{Mode, create_new, private_dir, read_private, write_atomic};
use worldcompute_fault::Fault;
use zeroize::Zeroizing;

use crate::backend::Realm;
use crate::crypto::{Digest, Key, random, same, sha256};
use crate::keys::{
    DekContext, DekHandle, EncryptedDek, KekHandle, KeyError, KeyProvider, UmkHandle,
};
use crate::task::blocking;
use blob::{Blob, MAX_BLOB_BYTES};
use chip::Chip;

mod blob;
mod chip;
mod failure;

/// How long a TPM may take, together with those who are before us.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// The kernel's door to the TPM that several programs may use at once.
const RESOURCE_MANAGER: &str = "/dev/tpmrm0";

/// Which TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tpm {
    /// A device of this machine.
    Device(PathBuf),
    /// The emulator swtpm at this port of this machine, with its control channel at the next: for development, since
    /// its keys lie in files.
    Swtpm(u16),
}

impl Default for Tpm {
    /// `/dev/tpmrm0`.
    fn default() -> Self {
        Self::Device(PathBuf::from(RESOURCE_MANAGER))
    }
}

impl Tpm {
    /// A device whose registers are empty measures nothing: what is sealed to them opens after any reset.
    fn check_measured(&self, values: &PcrValues) -> Result<(), Fault> {
        match self.realm() != Realm::Local && !values.are_measured() {
            true => Err(failure::not_measured()),
            false => Ok(()),
        }
    }

    const fn realm(&self) -> Realm {
        match self {
            Self::Device(_) => Realm::Any,
            Self::Swtpm(_) => Realm::Local,
        }
    }
}

/// What the registers hold that a key is sealed to, SHA-256 bank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrValues {
    /// PCR 0: the firmware's code.
    pub pcr0: [u8; 32],
    /// PCR 7: whether Secure Boot is on, and whose signatures it takes.
    pub pcr7: [u8; 32],
}

impl PcrValues {
    /// The digest of the policy that wants these values: `TPM2_PolicyPCR` (TPM 2.0 Library part 3, 23.7) on a fresh
    /// session.
    fn policy(&self) -> Digest {
        const POLICY_PCR: u32 = 0x17f;
        const SELECTIONS: u32 = 1;
        const SHA256: u16 = 0x0b;
        const PCRS_0_AND_7: [u8; 4] = [3, 0x81, 0, 0];
        let mut message = Digest::default().to_vec();
        message.extend_from_slice(&POLICY_PCR.to_be_bytes());
        message.extend_from_slice(&SELECTIONS.to_be_bytes());
        message.extend_from_slice(&SHA256.to_be_bytes());
        message.extend_from_slice(&PCRS_0_AND_7);
        message.extend_from_slice(&sha256(&[self.pcr0, self.pcr7].concat()));
        sha256(&message)
    }

    /// Firmware that measures leaves a trace in both.
    fn are_measured(&self) -> bool {
        self.pcr0 != Digest::default() && self.pcr7 != Digest::default()
    }

    /// The names of those that are not `other`'s.
    fn changed_from(&self, other: &Self) -> Vec<&'static str> {
        let registers = [
            ("PCR 0", self.pcr0 == other.pcr0),
            ("PCR 7", self.pcr7 == other.pcr7),
        ];
        let changed = registers.into_iter().filter(|(_, equal)| !equal);
        changed.map(|(name, _)| name).collect()
    }
}

/// The master key in a file that only one TPM opens, while its PCR 0 and 7 are what they were.
///
/// An operation takes 30 seconds at most, those of one provider take turns. The file has mode 0600 in a directory of
/// mode 0700.
///
/// Firmware updates and changes of Secure Boot's keys change the registers. Before one, [`Tpm2KeyProvider::reseal`] for
/// the values that it will bring; where nobody can tell them, keep the master key elsewhere too (make it with
/// [`crate::LocalFileKeyProvider`] on a machine that you trust) and [`Tpm2KeyProvider::seal`] it anew afterwards. A key
/// that [`KeyProvider::create_umk`] made here exists nowhere else: with the TPM, or a mainboard, it is gone.
#[derive(Clone)]
pub struct Tpm2KeyProvider {
    place: Place,
    turn: Arc<Mutex<()>>,
}

/// Where the key is.
#[derive(Clone)]
struct Place {
    tpm: Tpm,
    file: PathBuf,
}

impl Tpm2KeyProvider {
    /// The key that `tpm` sealed into `file`, made at the first set-up of a store.
    pub fn new(tpm: Tpm, file: impl Into<PathBuf>) -> Self {
        let file = file.into();
        Self {
            place: Place { tpm, file },
            turn: Arc::default(),
        }
    }

    /// `~/.blue/keys/umk.tpm2`, `None` without a home directory.
    pub fn default_path() -> Option<PathBuf> {
        env::home_dir().map(|home| home.join(".blue/keys/umk.tpm2"))
    }

    /// What the TPM's registers hold now.
    ///
    /// # Errors
    /// Those of every operation on a TPM: `tpm_missing`, `tpm_access_denied`, `tpm_busy`, `tpm_unresponsive`, `tpm_lockout`,
    /// `tpm_owner_password`, `tpm_pcr_bank_missing`, `tpm_answer_distrusted`, `tpm_refused`, `tpm_log_shows_keys`.
    pub async fn pcr_values(&self) -> Result<PcrValues, KeyError> {
        self.run(|place| Ok(Chip::open(&place.tpm)?.pcrs()?)).await
    }

    /// Seals a key that exists already, such as one from a backup, to what the registers hold now. There must be no
    /// sealed key yet.
    ///
    /// # Errors
    /// `already_exists`, `key_provider_mismatch` for a key that is kept elsewhere, `tpm_not_measured` on a machine whose
    /// firmware leaves the registers empty, and those of [`Tpm2KeyProvider::pcr_values`].
    pub async fn seal(&self, key: &UmkHandle) -> Result<(), KeyError> {
        let key = Zeroizing::new(*key.bytes()?);
        self.run(move |place| place.seal(&key)).await
    }

    /// Seals the key anew: to what the registers hold now, to `next` if that is given, and to nothing else.
    ///
    /// With `next`, the values that an update will bring, the key opens before the update and after it. Afterwards,
    /// without, it no longer opens when the update is taken back.
    ///
    /// # Errors
    /// Those of [`KeyProvider::get_umk`]; after one the file is as it was, or the new one is there whole.
    pub async fn reseal(&self, next: Option<PcrValues>) -> Result<(), KeyError> {
        self.run(move |place| place.reseal(next)).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Place) -> Result<T, KeyError> + Send + 'static,
    ) -> Result<T, KeyError> {
        let place = self.place.clone();
        let turn = self.turn.clone();
        let done = async {
            let turn = turn.lock_owned().await;
            blocking(move || {
                let _turn = turn;
                Ok(work(&place))
            })
            .await?
        };
        let in_time = timeout(TIME_LIMIT, done).await;
        in_time.unwrap_or_else(|_| Err(failure::unresponsive(TIME_LIMIT).into()))
    }
}

#[async_trait]
impl KeyProvider for Tpm2KeyProvider {
    fn realm(&self) -> Realm {
        self.place.tpm.realm()
    }

    async fn get_umk(&self) -> Result<UmkHandle, KeyError> {
        let key = self.run(Place::unseal).await?;
        Ok(UmkHandle::new(key))
    }

    async fn create_umk(&self) -> Result<UmkHandle, KeyError> {
        let key = self.run(Place::create).await?;
        Ok(UmkHandle::new(key))
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

impl Place {
    /// Whoever comes second finds the key of whoever came first.
    fn create(&self) -> Result<Key, KeyError> {
        let mut key = Key::default();
        random(&mut *key)?;
        match self.seal(&key) {
            Err(KeyError::Refused(fault)) if fault.code() == "already_exists" => {}
            done => done?,
        }
        self.unseal()
    }

    fn seal(&self, key: &Key) -> Result<(), KeyError> {
        if let Some(parent) = folder(&self.file) {
            private_dir(parent)?;
        }
        let mut chip = Chip::open(&self.tpm)?;
        let now = self.measured(&mut chip)?;
        let blob = sealed(&mut chip, key, [Some(now), None])?;
        Ok(create_new(&self.file, &blob.encode(), Mode::Private)?)
    }

    fn unseal(&self) -> Result<Key, KeyError> {
        let blob = self.read()?;
        self.open(&mut Chip::open(&self.tpm)?, &blob)
    }

    fn reseal(&self, next: Option<PcrValues>) -> Result<(), KeyError> {
        let blob = self.read()?;
        let mut chip = Chip::open(&self.tpm)?;
        let key = self.open(&mut chip, &blob)?;
        let now = self.measured(&mut chip)?;
        let next = next.filter(|next| *next != now);
        if let Some(next) = &next {
            self.tpm.check_measured(next)?;
        }
        let blob = sealed(&mut chip, &key, [Some(now), next])?;
        Ok(write_atomic(&self.file, &blob.encode(), Mode::Private)?)
    }

    fn read(&self) -> Result<Blob, KeyError> {
        if let Some(parent) = folder(&self.file).filter(|parent| parent.exists()) {
            private_dir(parent)?;
        }
        let bytes = match read_private(&self.file, MAX_BLOB_BYTES) {
            Ok(bytes) => bytes,
            Err(fault) if fault.code() == "not_found" => {
                return Err(KeyError::Missing(self.file.display().to_string()));
            }
            Err(fault) if fault.code() == "file_too_large" => {
                return Err(failure::corrupt(&self.file).into());
            }
            Err(fault) => return Err(fault.into()),
        };
        Blob::decode(&bytes).ok_or_else(|| failure::corrupt(&self.file).into())
    }

    /// The TPM rules, and we explain.
    fn open(&self, chip: &mut Chip, blob: &Blob) -> Result<Key, KeyError> {
        if blob.root != *chip.root_name() {
            return Err(failure::of_another_tpm(&self.file).into());
        }
        for seal in &blob.seals {
            let opened = chip.unseal(seal);
            if let Some(key) = opened.map_err(|error| failure::unsealing(error, &self.file))? {
                return Ok(key);
            }
        }
        let now = chip.pcrs()?;
        let sealed_to = blob.seals.iter().map(|seal| &seal.values);
        let changed = sealed_to.map(|values| now.changed_from(values)).collect();
        Err(failure::pcr_mismatch(&self.file, changed).into())
    }

    fn measured(&self, chip: &mut Chip) -> Result<PcrValues, KeyError> {
        let now = chip.pcrs()?;
        self.tpm.check_measured(&now)?;
        Ok(now)
    }
}

/// Seals a key to these values, and opens it again before anybody relies on it; the first are those of now.
fn sealed(chip: &mut Chip, key: &Key, values: [Option<PcrValues>; 2]) -> Result<Blob, KeyError> {
    let mut seals = Vec::with_capacity(values.len());
    for values in values.into_iter().flatten() {
        seals.push(chip.seal(key, values)?);
    }
    let root = *chip.root_name();
    for seal in seals.iter().take(1) {
        let opened = chip.unseal(seal).map_err(failure::refused)?;
        if !opened.is_some_and(|opened| same(&*opened, &**key)) {
            return Err(failure::changed_meanwhile().into());
        }
    }
    Ok(Blob { root, seals })
}

fn folder(file: &Path) -> Option<&Path> {
    file.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
}

#[cfg(test)]
mod emulator;
#[cfg(test)]
mod tests;
