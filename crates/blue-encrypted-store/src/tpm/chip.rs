//! A conversation with a TPM: its storage key, its registers, what it seals and opens.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::str::FromStr;

use tss_esapi::attributes::{ObjectAttributesBuilder, SessionAttributesBuilder};
use tss_esapi::constants::SessionType;
use tss_esapi::constants::response_code::Tss2ResponseCodeKind;
use tss_esapi::handles::{KeyHandle, SessionHandle};
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{
    Digest, EccPoint, KeyedHashScheme, PcrSelectionList, PcrSelectionListBuilder, PcrSlot, Private,
    Public, PublicBuilder, PublicEccParametersBuilder, PublicKeyedHashParameters, SensitiveData,
    SymmetricDefinition, SymmetricDefinitionObject,
};
use tss_esapi::tcti_ldr::TctiNameConf;
use tss_esapi::traits::Marshall;
use tss_esapi::{Context, Error, WrapperErrorKind};
use worldcompute_fault::Result;

use crate::crypto::{Key, sha256};
use crate::tpm::blob::{RootName, Seal};
use crate::tpm::{PcrValues, Tpm, failure};

/// The number of SHA-256 among the TPM's algorithms.
const SHA256: u16 = 0x0b;

/// A TPM that is ready to seal and to open. What it holds for us it forgets when this is dropped.
pub(super) struct Chip {
    context: Context,
    root: KeyHandle,
    root_name: RootName,
}

impl Chip {
    /// Reaches the TPM and has it derive its storage key, which is the same each time until the TPM is cleared.
    pub(super) fn open(tpm: &Tpm) -> Result<Self> {
        failure::check_log(std::env::var_os("TSS2_LOG"))?;
        let mut context = Context::new(interface(tpm)?).map_err(failure::unreachable)?;
        let template = root_template().map_err(failure::refused)?;
        let root = context.execute_with_session(Some(AuthSession::Password), |context| {
            context.create_primary(Hierarchy::Owner, template, None, None, None, None)
        });
        let root = root.map_err(failure::of_the_owner)?;
        let root_name = name(&root.out_public).map_err(failure::refused)?;
        Ok(Self {
            context,
            root: root.key_handle,
            root_name,
        })
    }

    /// The name of the storage key.
    pub(super) const fn root_name(&self) -> &RootName {
        &self.root_name
    }

    /// What the registers hold.
    pub(super) fn pcrs(&mut self) -> Result<PcrValues> {
        let read = self.read_pcrs().map_err(failure::refused)?;
        let values = read
            .iter()
            .map(|value| <[u8; 32]>::try_from(value.as_slice()));
        match values.collect::<Result<Vec<_>, _>>().as_deref() {
            Ok([pcr0, pcr7]) => Ok(PcrValues {
                pcr0: *pcr0,
                pcr7: *pcr7,
            }),
            _ => Err(failure::bank_missing()),
        }
    }

    fn read_pcrs(&mut self) -> Result<Vec<Digest>, Error> {
        let (_, _, values) = self.context.pcr_read(pcrs_0_and_7()?)?;
        Ok(values.value().to_vec())
    }

    /// Seals `key` to `values`.
    pub(super) fn seal(&mut self, key: &Key, values: PcrValues) -> Result<Seal> {
        let sealed = self.create(key, &values).map_err(failure::refused)?;
        let (private, public) = sealed;
        let Public::KeyedHash { unique, .. } = &public else {
            return Err(failure::distrusted());
        };
        let bytes = <[u8; 32]>::try_from(unique.as_slice()).map_err(|_| failure::distrusted())?;
        let seal = Seal {
            values,
            unique: bytes,
            private: private.to_vec(),
        };
        if sealed_public(&seal).map_err(failure::refused)? != public {
            return Err(failure::distrusted());
        }
        Ok(seal)
    }

    fn create(&mut self, key: &Key, values: &PcrValues) -> Result<(Private, Public), Error> {
        let template = sealed_template(values, Digest::default())?;
        let secret = SensitiveData::try_from(key.to_vec())?;
        let root = self.root;
        let made = self.in_session(SessionType::Hmac, |context, session| {
            context.execute_with_session(Some(session), |context| {
                context.create(root, template, None, Some(secret), None, None)
            })
        })?;
        Ok((made.out_private, made.out_public))
    }

    /// The key, or `None` when the registers hold something else.
    pub(super) fn unseal(&mut self, seal: &Seal) -> Result<Option<Key>, Error> {
        let private = Private::try_from(seal.private.clone())?;
        let public = sealed_public(seal)?;
        let root = self.root;
        let password = Some(AuthSession::Password);
        let sealed = self
            .context
            .execute_with_session(password, |context| context.load(root, private, public))?;
        let opened = self.in_session(SessionType::Policy, |context, session| {
            context.policy_pcr(
                PolicySession::try_from(session)?,
                Digest::default(),
                pcrs_0_and_7()?,
            )?;
            context.execute_with_session(Some(session), |context| context.unseal(sealed.into()))
        });
        // After an answer that cannot be trusted the library flushes nothing; what it said of that answer comes first.
        let flushed = self.context.flush_context(sealed.into());
        match opened.and_then(|secret| flushed.map(|()| secret)) {
            Ok(secret) => key_of(&secret).map(Some),
            Err(Error::Tss2Error(code))
                if code.kind() == Some(Tss2ResponseCodeKind::PolicyFail) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Works in a session whose first parameters are encrypted, in both directions, under a secret that only the storage
    /// key's owner can know.
    fn in_session<T>(
        &mut self,
        kind: SessionType,
        work: impl FnOnce(&mut Context, AuthSession) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let session = self.context.start_auth_session(
            Some(self.root),
            None,
            None,
            kind,
            SymmetricDefinition::AES_128_CFB,
            HashingAlgorithm::Sha256,
        )?;
        let session = session.ok_or(Error::WrapperError(WrapperErrorKind::WrongValueFromTpm))?;
        let (attributes, mask) = SessionAttributesBuilder::new()
            .with_decrypt(true)
            .with_encrypt(true)
            .build();
        self.context
            .tr_sess_set_attributes(session, attributes, mask)?;
        let done = work(&mut self.context, session);
        let flushed = self
            .context
            .flush_context(SessionHandle::from(session).into());
        done.and_then(|done| flushed.map(|()| done))
    }

    #[cfg(test)]
    pub(super) const fn context(&mut self) -> &mut Context {
        &mut self.context
    }
}

/// The way to the TPM. The library cannot tell why it did not get there, so a device is tried first.
fn interface(tpm: &Tpm) -> Result<TctiNameConf> {
    let name = match tpm {
        Tpm::Device(path) => {
            check_device(path)?;
            format!("device:{}", path.display())
        }
        Tpm::Swtpm(port) => format!("swtpm:host={},port={port}", Ipv4Addr::LOCALHOST),
    };
    TctiNameConf::from_str(&name).map_err(failure::refused)
}

fn check_device(path: &Path) -> Result<()> {
    let opened = path.metadata().and_then(|metadata| {
        if !metadata.file_type().is_char_device() {
            return Err(std::io::ErrorKind::NotFound.into());
        }
        File::options().read(true).write(true).open(path)
    });
    opened
        .map(drop)
        .map_err(|error| failure::device(path, &error))
}

/// A storage key of ECC P-256, as in the TCG's templates: whoever owns the machine need not have made one.
fn root_template() -> Result<Public, Error> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_restricted(true)
        .with_decrypt(true)
        .build()?;
    let parameters = PublicEccParametersBuilder::new_restricted_decryption_key(
        SymmetricDefinitionObject::AES_128_CFB,
        EccCurve::NistP256,
    );
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_ecc_parameters(parameters.build()?)
        .with_ecc_unique_identifier(EccPoint::default())
        .build()
}

/// The public area of a sealed key, as it has to be.
fn sealed_public(seal: &Seal) -> Result<Public, Error> {
    sealed_template(&seal.values, Digest::try_from(seal.unique.to_vec())?)
}

/// Data that this TPM alone opens, for the policy alone: nobody has a password for it, so nobody can be locked out.
fn sealed_template(values: &PcrValues, unique: Digest) -> Result<Public, Error> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_admin_with_policy(true)
        .with_no_da(true);
    Ok(Public::KeyedHash {
        object_attributes: attributes.build()?,
        name_hashing_algorithm: HashingAlgorithm::Sha256,
        auth_policy: Digest::try_from(values.policy().to_vec())?,
        parameters: PublicKeyedHashParameters::new(KeyedHashScheme::Null),
        unique,
    })
}

fn pcrs_0_and_7() -> Result<PcrSelectionList, Error> {
    PcrSelectionListBuilder::new()
        .with_selection(HashingAlgorithm::Sha256, &[PcrSlot::Slot0, PcrSlot::Slot7])
        .build()
}

/// Computed here: what the TPM says of its key is checked against the key.
fn name(public: &Public) -> Result<RootName, Error> {
    let mut name: RootName = [0; 34];
    let digest = sha256(&public.marshall()?);
    let parts = SHA256.to_be_bytes().into_iter().chain(digest);
    for (to, from) in name.iter_mut().zip(parts) {
        *to = from;
    }
    Ok(name)
}

fn key_of(secret: &SensitiveData) -> Result<Key, Error> {
    let mut key = Key::default();
    if secret.len() != key.len() {
        return Err(Error::WrapperError(WrapperErrorKind::WrongValueFromTpm));
    }
    key.copy_from_slice(secret);
    Ok(key)
}
