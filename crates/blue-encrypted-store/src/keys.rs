//! Where keys come from: the user's master key (UMK), the store's key-encryption key (KEK), a partition's data keys (DEK).

use async_trait::async_trait;
use worldcompute_fault::{Category, Fault};
use zeroize::Zeroizing;

use crate::backend::Realm;
use crate::check::Check;
use crate::crypto::{
    CommittedKey, Digest, GcmNonce, KEY_BYTES, Key, TAG_BYTES, expand, hmac, hmac_key, lp, random,
    same, sha256,
};
use crate::envelope::Suite;
use crate::name::{Kind, PartitionKey};

/// Bytes of a key check value.
pub const KCV_BYTES: usize = 8;
/// Bytes of a wrapped data key: 32 of ciphertext, 16 of tag.
pub const WRAPPED_BYTES: usize = KEY_BYTES + TAG_BYTES;

/// The user's master key, or the proof that its provider keeps it where it cannot be copied from.
///
/// Wiped on drop. It cannot be printed:
///
/// ```compile_fail,E0277
/// fn show(key: blue_encrypted_store::UmkHandle) { println!("{key:?}"); }
/// ```
pub struct UmkHandle(Master);

enum Master {
    Here(Key),
    Elsewhere,
}

impl UmkHandle {
    /// Takes the key over from a provider.
    pub const fn new(key: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        Self(Master::Here(key))
    }

    /// A key that stays with its provider, which derives from it itself ([`KeyProvider::derive_kek`]).
    pub const fn remote() -> Self {
        Self(Master::Elsewhere)
    }

    /// Whether the key stays with its provider.
    pub const fn is_remote(&self) -> bool {
        matches!(self.0, Master::Elsewhere)
    }

    pub(crate) fn bytes(&self) -> Result<&[u8; KEY_BYTES], KeyError> {
        match &self.0 {
            Master::Here(key) => Ok(key),
            Master::Elsewhere => Err(mixed(
                "a master key that is kept elsewhere was given to a provider that has its own",
            )),
        }
    }
}

/// Two providers were mixed up: the one made the handle, the other was given it.
pub(crate) fn mixed(message: &'static str) -> KeyError {
    Fault::new(Category::InvalidInput, "key_provider_mismatch", message)
        .hint("derive keys with the provider that gave the master key")
        .into()
}

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Wiped on drop. It cannot be printed:
        ///
        /// ```compile_fail,E0277
        #[doc = concat!("fn show(key: blue_encrypted_store::", stringify!($name), ") { println!(\"{key:?}\"); }")]
        /// ```
        pub struct $name(Key);

        impl $name {
            /// Takes the key over from a provider.
            pub const fn new(key: Zeroizing<[u8; KEY_BYTES]>) -> Self {
                Self(key)
            }

            pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
                &self.0
            }
        }
    };
}

handle!(
    /// The key that wraps the data keys of one store, tenant, user and epoch.
    KekHandle
);
handle!(
    /// The key of one partition's content.
    DekHandle
);

/// What a KEK is for. Two contexts that differ anywhere have unrelated keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KekContext {
    /// The store's id, made at its set-up.
    pub store: String,
    /// Whose store.
    pub tenant: String,
    /// Whose key.
    pub user: String,
    /// Counts the KEKs of this user from 1. That of epoch 0 wraps nothing: it authenticates what outlives the others.
    pub epoch: u64,
}

impl KekContext {
    /// That of epoch 0.
    pub(crate) fn of(store: &str, tenant: &str, user: &str) -> Self {
        Self {
            store: store.to_owned(),
            tenant: tenant.to_owned(),
            user: user.to_owned(),
            epoch: 0,
        }
    }

    /// The message of the key derivation: what local providers expand (RFC 5869, 2.3), and what a key management
    /// service is asked to MAC once 0x01 is appended, which gives the same bytes.
    pub fn message(&self) -> Vec<u8> {
        let mut message = b"blue/v1/kek".to_vec();
        for field in [&self.store, &self.tenant, &self.user] {
            lp(&mut message, field.as_bytes());
        }
        message.extend_from_slice(&self.epoch.to_be_bytes());
        message
    }
}

/// What a DEK is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DekContext {
    /// The store's id.
    pub store: String,
    /// Whose data.
    pub partition: PartitionKey,
    /// Counts the DEKs of this partition from 1.
    pub version: u32,
    /// The epoch of the KEK that wraps it.
    pub epoch: u64,
}

impl DekContext {
    fn info(&self, suite: Suite, nonce: GcmNonce) -> Vec<u8> {
        let mut info = b"blue/v1/wrap".to_vec();
        info.push(suite.byte());
        lp(&mut info, self.store.as_bytes());
        lp(&mut info, self.partition.kind.as_str().as_bytes());
        lp(&mut info, self.partition.id.as_str().as_bytes());
        info.extend_from_slice(&self.version.to_be_bytes());
        info.extend_from_slice(&nonce);
        info
    }

    fn aad(&self) -> Digest {
        let PartitionKey { kind, id } = &self.partition;
        sha256(format!("{}:{id}/dek:{}", kind.as_str(), self.version).as_bytes())
    }
}

/// A DEK as it is stored: encrypted under the KEK, with its commitment and its key check value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptedDek {
    pub(crate) suite: Suite,
    pub(crate) nonce: GcmNonce,
    pub(crate) wrapped: [u8; WRAPPED_BYTES],
    pub(crate) commitment: Digest,
    pub(crate) kcv: [u8; KCV_BYTES],
    pub(crate) epoch: u64,
}

impl EncryptedDek {
    /// The DEK encrypted for its place, as this crate does it.
    ///
    /// # Errors
    /// `crypto_failed` when the operating system gives no random bytes.
    pub fn wrap(kek: &KekHandle, dek: &DekHandle, context: &DekContext) -> Result<Self, KeyError> {
        let mut nonce = GcmNonce::default();
        random(&mut nonce)?;
        wrap(kek, context, &dek.0, nonce)
    }
}

/// Why a key is not to be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeyError {
    /// There is no master key yet.
    #[error("there is no master key at {0}")]
    Missing(String),
    /// There is one, and it is not to be used as it is.
    #[error("{0}")]
    Refused(Fault),
    /// A wrapped key fails its commitment: it was wrapped by another key, or for another place.
    #[error("the data key was not wrapped by this key for this place")]
    Commitment,
    /// A wrapped key fails its authentication tag.
    #[error("the wrapped data key was changed")]
    Tag,
    /// A wrapped key fails its key check value.
    #[error("the data key is not the one that was wrapped")]
    KeyCheck,
}

impl From<Fault> for KeyError {
    fn from(fault: Fault) -> Self {
        Self::Refused(fault)
    }
}

impl KeyError {
    /// The fault of `place` not getting its key.
    pub(crate) fn at(self, place: impl std::fmt::Display) -> Fault {
        let why = self.to_string();
        match self {
            Self::Missing(_) => Fault::new(
                Category::DependencyMissing,
                "encryption_key_missing",
                format!("{place}: {why}"),
            )
            .hint("put the key file back from a backup; without it the store cannot be read"),
            Self::Refused(fault) => fault,
            Self::Commitment => Check::Commitment.failed(place, why),
            Self::Tag => Check::Tag.failed(place, why),
            Self::KeyCheck => Check::Kcv.failed(place, why),
        }
    }
}

/// Holds the master key and derives from it.
///
/// A provider that keeps the master key elsewhere gives [`UmkHandle::remote`] and overrides [`KeyProvider::derive_kek`];
/// wrapping is the same for all.
///
/// ```
/// use blue_encrypted_store::{
///     Category, DekContext, DekHandle, EncryptedDek, Fault, KekContext, KekHandle, KeyError, KeyProvider, PartitionKey,
///     Realm, UmkHandle,
/// };
///
/// /// Asks somebody before a key of a partition is given out.
/// struct Gate<P> {
///     keys: P,
///     allows: fn(&PartitionKey) -> bool,
/// }
///
/// #[blue_encrypted_store::async_trait]
/// impl<P: KeyProvider> KeyProvider for Gate<P> {
///     fn realm(&self) -> Realm {
///         self.keys.realm()
///     }
///
///     async fn get_umk(&self) -> Result<UmkHandle, KeyError> {
///         self.keys.get_umk().await
///     }
///
///     async fn create_umk(&self) -> Result<UmkHandle, KeyError> {
///         self.keys.create_umk().await
///     }
///
///     async fn derive_kek(&self, umk: &UmkHandle, context: &KekContext) -> Result<KekHandle, KeyError> {
///         self.keys.derive_kek(umk, context).await
///     }
///
///     async fn encrypt_dek(
///         &self,
///         kek: &KekHandle,
///         dek: &DekHandle,
///         context: &DekContext,
///     ) -> Result<EncryptedDek, KeyError> {
///         self.keys.encrypt_dek(kek, dek, context).await
///     }
///
///     async fn decrypt_dek(
///         &self,
///         kek: &KekHandle,
///         encrypted: &EncryptedDek,
///         context: &DekContext,
///     ) -> Result<DekHandle, KeyError> {
///         if !(self.allows)(&context.partition) {
///             let message = format!("nobody may read {}", context.partition);
///             let fault = Fault::new(Category::PolicyBlocked, "partition_closed", message);
///             return Err(KeyError::Refused(fault.hint("ask for it")));
///         }
///         self.keys.decrypt_dek(kek, encrypted, context).await
///     }
/// }
/// ```
#[async_trait]
pub trait KeyProvider: Send + Sync {
    /// Where the master key belongs: a store refuses keys of another realm than its table's. A provider that wraps
    /// another one says what that one says.
    fn realm(&self) -> Realm;

    /// The master key that is there.
    async fn get_umk(&self) -> Result<UmkHandle, KeyError>;

    /// The master key, made now when there is none. Only asked for a store that holds no wrapped key yet.
    async fn create_umk(&self) -> Result<UmkHandle, KeyError>;

    /// `HKDF-Expand(UMK, context, 32)`.
    async fn derive_kek(
        &self,
        umk: &UmkHandle,
        context: &KekContext,
    ) -> Result<KekHandle, KeyError> {
        Ok(KekHandle::new(expand(umk.bytes()?, &context.message())?))
    }

    /// Whether DEKs of partitions of `kind` are to be had in the store with the id `store`; an error is the one that
    /// [`KeyProvider::generate_dek`] would give. Providers that never refuse need not say so.
    async fn check_kind(&self, _store: &str, _kind: Kind) -> Result<(), KeyError> {
        Ok(())
    }

    /// A fresh DEK, and the same wrapped.
    async fn generate_dek(
        &self,
        kek: &KekHandle,
        context: &DekContext,
    ) -> Result<(DekHandle, EncryptedDek), KeyError> {
        let mut dek = Key::default();
        random(&mut *dek)?;
        let dek = DekHandle::new(dek);
        let wrapped = self.encrypt_dek(kek, &dek, context).await?;
        Ok((dek, wrapped))
    }

    /// A DEK that there is, wrapped: for its place, or anew under another key. It has no body here, lest a provider with a
    /// wrapping of its own forgets it: what this one wraps, [`KeyProvider::decrypt_dek`] opens. Who has none of its own
    /// calls [`EncryptedDek::wrap`].
    async fn encrypt_dek(
        &self,
        kek: &KekHandle,
        dek: &DekHandle,
        context: &DekContext,
    ) -> Result<EncryptedDek, KeyError>;

    /// The DEK out of its wrapping.
    async fn decrypt_dek(
        &self,
        kek: &KekHandle,
        encrypted: &EncryptedDek,
        context: &DekContext,
    ) -> Result<DekHandle, KeyError> {
        unwrap(kek, context, encrypted)
    }
}

/// Encrypts a DEK for its place.
pub(crate) fn wrap(
    kek: &KekHandle,
    context: &DekContext,
    dek: &Key,
    nonce: GcmNonce,
) -> Result<EncryptedDek, KeyError> {
    let suite = Suite::CURRENT;
    let key = CommittedKey::derive(kek.bytes(), &context.info(suite, nonce))?;
    let bytes = key.seal(nonce, &context.aad(), &**dek)?;
    let mut wrapped = [0; WRAPPED_BYTES];
    wrapped.copy_from_slice(&bytes);
    Ok(EncryptedDek {
        suite,
        nonce,
        wrapped,
        commitment: key.commitment,
        kcv: kcv(dek),
        epoch: context.epoch,
    })
}

/// Decrypts a DEK: commitment, tag, key check value, in this order.
pub(crate) fn unwrap(
    kek: &KekHandle,
    context: &DekContext,
    encrypted: &EncryptedDek,
) -> Result<DekHandle, KeyError> {
    let info = context.info(encrypted.suite, encrypted.nonce);
    let key = CommittedKey::derive(kek.bytes(), &info)?;
    let EncryptedDek {
        commitment,
        nonce,
        wrapped,
        ..
    } = encrypted;
    let bytes = key
        .open(commitment, *nonce, &context.aad(), wrapped)
        .map_err(|check| match check {
            Check::Commitment => KeyError::Commitment,
            _ => KeyError::Tag,
        })?;
    let mut dek = Key::default();
    if bytes.len() != dek.len() {
        return Err(KeyError::Tag);
    }
    dek.copy_from_slice(&bytes);
    if !same(&kcv(&dek), &encrypted.kcv) {
        return Err(KeyError::KeyCheck);
    }
    Ok(DekHandle::new(dek))
}

/// The key check value: tells one key from another and says nothing else about it.
pub(crate) fn kcv(key: &[u8; KEY_BYTES]) -> [u8; KCV_BYTES] {
    let mac = hmac(&hmac_key(key), b"blue/v1/kcv");
    mac.first_chunk().copied().unwrap_or_default()
}
