//! The master key in AWS KMS, which derives from it and never gives it out.
//!
//! A key-encryption key is `GenerateMac(HMAC_SHA_256, context ‖ 0x01)`, which is the first block of HKDF-Expand
//! (RFC 5869, 2.3): a file with the same 32 bytes gives the same keys. Nothing that the service answers is taken on
//! trust: the key is pinned by its ARN, which has to be in every answer; the answer has to be a MAC of 32 bytes by the
//! algorithm that was asked for; and a key that is not the one the store was set up with fails the seal of its row.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_kms::Client;
use aws_sdk_kms::config::retry::RetryConfig;
use aws_sdk_kms::config::timeout::TimeoutConfig;
use aws_sdk_kms::config::{Builder, Region};
use aws_sdk_kms::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_kms::operation::generate_mac::{GenerateMacError, GenerateMacOutput};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::MacAlgorithmSpec;
use aws_types::SdkConfig;
use http::Uri;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;
use worldcompute_fault::{Category, Fault, Result};
use zeroize::Zeroizing;

use crate::backend::{Realm, check_aws};
use crate::crypto::Key;
use crate::failure::our_fault;
use crate::keys::{
    DekContext, DekHandle, EncryptedDek, KekContext, KekHandle, KeyError, KeyProvider, UmkHandle,
    mixed,
};
use crate::only_to_aws::OnlyToAws;

/// The longest ARN of a key.
pub const MAX_ARN_BYTES: usize = 256;
/// How often one question is asked at most.
const MAX_ATTEMPTS: u32 = 4;
/// How long one attempt may take, and all of them together with the pauses between them.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(15);
/// The number of the first block of HKDF-Expand.
const FIRST_BLOCK: u8 = 1;
const ALGORITHM: MacAlgorithmSpec = MacAlgorithmSpec::HmacSha256;

/// The name of one key in AWS KMS: `arn:{partition}:kms:{region}:{account}:key/{key id}`.
///
/// An alias is none: whoever may change it could have the store use another key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsKeyArn {
    text: String,
    region: String,
}

impl KmsKeyArn {
    /// # Errors
    /// `invalid_key_arn`.
    pub fn parse(text: &str) -> Result<Self> {
        let fields: Vec<&str> = text.split(':').collect();
        let plain = |field: &str| {
            let known = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
            !field.is_empty() && field.bytes().all(known)
        };
        match fields.as_slice() {
            ["arn", partition, "kms", region, account, key]
                if text.len() <= MAX_ARN_BYTES
                    && plain(partition)
                    && plain(region)
                    && account.len() == 12
                    && account.bytes().all(|b| b.is_ascii_digit())
                    && key.strip_prefix("key/").is_some_and(plain) =>
            {
                Ok(Self {
                    text: text.to_owned(),
                    region: (*region).to_owned(),
                })
            }
            _ => Err(invalid_arn(text)),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What comes last: the key id alone.
    fn id(&self) -> Option<&str> {
        self.text.rsplit_once('/').map(|(_, id)| id)
    }
}

impl fmt::Display for KmsKeyArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn invalid_arn(text: &str) -> Fault {
    let message = format!("{text:.300?} is no ARN of a key in AWS KMS");
    Fault::new(Category::InvalidInput, "invalid_key_arn", message)
        .hint("give it as arn:aws:kms:REGION:ACCOUNT:key/KEY-ID; an alias is not taken")
}

/// The master key as an HMAC key (`HMAC_256`) in AWS KMS. An administrator makes it; this provider only uses it
/// (`kms:GenerateMac`).
///
/// An attempt takes 3 seconds at most; throttling, outages and timeouts are tried again up to 4 times within 15 seconds.
#[derive(Clone)]
pub struct AwsKmsKeyProvider {
    client: Client,
    key: KmsKeyArn,
    realm: Realm,
}

impl AwsKmsKeyProvider {
    /// Uses `key`, in the region that its name tells, with the credentials and the HTTP client of `config`.
    ///
    /// With an endpoint there that is not AWS's the key is that of an imitation, for development
    /// ([`Realm::Local`]). Without one nobody but AWS is asked, whatever the environment says.
    pub fn new(config: &SdkConfig, key: KmsKeyArn) -> Self {
        let timeouts = TimeoutConfig::builder()
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(TOTAL_TIMEOUT);
        let realm = realm(config.endpoint_url());
        let mut config = Builder::from(config)
            .region(Region::new(key.region.clone()))
            .retry_config(RetryConfig::standard().with_max_attempts(MAX_ATTEMPTS))
            .timeout_config(timeouts.build());
        if realm == Realm::Aws {
            config = config.interceptor(OnlyToAws);
        }
        Self {
            client: Client::from_conf(config.build()),
            key,
            realm,
        }
    }

    async fn mac(&self, message: Vec<u8>) -> Result<GenerateMacOutput> {
        let request = self
            .client
            .generate_mac()
            .key_id(self.key.as_str())
            .mac_algorithm(ALGORITHM)
            .message(Blob::new(message))
            .send();
        // The SDK traces whole answers, and this one is a key.
        let answer = request.with_subscriber(NoSubscriber::new()).await;
        answer.map_err(|error| self.refused(&error))
    }

    /// The MAC of an answer that is one, by the key that was asked.
    fn checked(&self, answer: GenerateMacOutput) -> Result<Key> {
        if !self.is_ours(answer.key_id()) {
            let found = answer.key_id().unwrap_or("no key");
            let message = format!("{} was asked and {found:.300?} answered", self.key);
            return Err(distrusted("kms_wrong_key", message));
        }
        let by = answer.mac_algorithm().cloned();
        let mac = Zeroizing::new(answer.mac.map(Blob::into_inner).unwrap_or_default());
        let mut key = Key::default();
        if by != Some(ALGORITHM) || mac.len() != key.len() {
            let message = format!(
                "{} answered with {} bytes by {by:?} instead of a MAC",
                self.key,
                mac.len()
            );
            return Err(distrusted("kms_malformed_answer", message));
        }
        key.copy_from_slice(&mac);
        Ok(key)
    }

    /// AWS names the key by its ARN. Imitations leave it at the key id.
    fn is_ours(&self, key: Option<&str>) -> bool {
        let by_id = self.realm == Realm::Local && key == self.key.id();
        by_id || key == Some(self.key.as_str())
    }

    fn refused(&self, error: &SdkError<GenerateMacError>) -> Fault {
        if let Some(fault) = our_fault(error) {
            return fault;
        }
        match error {
            SdkError::ServiceError(service) => self.service_fault(service.err()),
            SdkError::TimeoutError(_) => self.unreachable(error),
            SdkError::DispatchFailure(failure) if failure.is_io() || failure.is_timeout() => {
                self.unreachable(error)
            }
            SdkError::ResponseError(_) => self.babble(),
            _ => {
                let message = format!("cannot ask {}: {}", self.key, DisplayErrorContext(error));
                Fault::new(Category::DependencyMissing, "kms_not_configured", message)
                    .hint("give this process credentials for AWS and a region's endpoint")
            }
        }
    }

    fn babble(&self) -> Fault {
        let message = format!("{} answered with something else", self.key);
        distrusted("kms_malformed_answer", message)
    }

    fn unreachable(&self, error: &SdkError<GenerateMacError>) -> Fault {
        let message = format!("{} did not answer", self.key);
        Fault::new(Category::NetworkTransient, "kms_unreachable", message)
            .caused_by(Plain(DisplayErrorContext(error).to_string()))
            .hint("look at the network and at the status of AWS KMS, then try again")
    }

    fn service_fault(&self, error: &GenerateMacError) -> Fault {
        let Some(code) = error.code() else {
            return self.babble();
        };
        let message = format!(
            "{}: {code}: {}",
            self.key,
            error.message().unwrap_or_default()
        );
        let (category, name, hint) = match code {
            "DisabledException" => (
                Category::PolicyBlocked,
                "kms_key_disabled",
                "have the key enabled by who is responsible for it",
            ),
            "KMSInvalidStateException" => (
                Category::DependencyMissing,
                "kms_key_unusable",
                "look at the state of the key: one that is scheduled for deletion can still be kept",
            ),
            "NotFoundException" => (
                Category::DependencyMissing,
                "kms_key_not_found",
                "check the ARN; without its key the store cannot be read",
            ),
            "AccessDeniedException" => (
                Category::PolicyBlocked,
                "kms_access_denied",
                "allow kms:GenerateMac on this key to the credentials of this process",
            ),
            "InvalidKeyUsageException" => (
                Category::InvalidInput,
                "kms_key_not_hmac",
                "use a key of usage GENERATE_VERIFY_MAC and spec HMAC_256",
            ),
            "ThrottlingException" => (
                Category::NetworkTransient,
                "kms_throttled",
                "try again later, or have the quota of AWS KMS raised",
            ),
            "KMSInternalException" | "KeyUnavailableException" | "DependencyTimeoutException" => (
                Category::NetworkTransient,
                "kms_unreachable",
                "look at the status of AWS KMS, then try again",
            ),
            _ => (
                Category::InternalFailure,
                "kms_request_refused",
                "look up the code in the reference of AWS KMS",
            ),
        };
        Fault::new(category, name, message).hint(hint)
    }
}

fn realm(endpoint: Option<&str>) -> Realm {
    let imitation = |url: &str| {
        let uri = url.parse::<Uri>();
        uri.is_ok_and(|uri| check_aws(&uri).is_err())
    };
    match endpoint {
        Some(url) if imitation(url) => Realm::Local,
        _ => Realm::Aws,
    }
}

/// An error's text.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Plain(String);

/// The service says something that cannot be.
fn distrusted(code: &'static str, message: String) -> Fault {
    Fault::new(Category::VerificationFailed, code, message)
        .hint("find out who answers in the place of AWS KMS before using the store")
}

#[async_trait]
impl KeyProvider for AwsKmsKeyProvider {
    fn realm(&self) -> Realm {
        self.realm
    }

    async fn get_umk(&self) -> Result<UmkHandle, KeyError> {
        Ok(UmkHandle::remote())
    }

    /// Makes none: the key is there, or the first derivation says that it is not.
    async fn create_umk(&self) -> Result<UmkHandle, KeyError> {
        self.get_umk().await
    }

    async fn derive_kek(
        &self,
        umk: &UmkHandle,
        context: &KekContext,
    ) -> Result<KekHandle, KeyError> {
        if !umk.is_remote() {
            return Err(mixed("a master key in memory was given to AWS KMS"));
        }
        let mut message = context.message();
        message.push(FIRST_BLOCK);
        Ok(KekHandle::new(self.checked(self.mac(message).await?)?))
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

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
