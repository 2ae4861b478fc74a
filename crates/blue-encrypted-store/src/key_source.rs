//! Which master key a store is opened with, as the environment says it.
//!
//! One place reads the settings, so that every program of a machine means the same key. A provider that this program was
//! built without is refused here, before any file, table or service is touched.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use worldcompute_fault::{Category, Fault, Result};

#[cfg(any(feature = "aws", test))]
use crate::backend::LocalEndpoint;
use crate::config::variable;
#[cfg(any(feature = "aws", test))]
use crate::kms::{AwsKmsKeyProvider, KmsKeyArn};
use crate::{KeyProvider, LocalFileKeyProvider, UmkHandle};
#[cfg(feature = "tpm2")]
use crate::{PcrValues, Tpm, Tpm2KeyProvider};

const KEYS: &str = "BLUE_KEYS";
#[cfg(any(feature = "aws", test))]
const KMS_ENDPOINT: &str = "KMS_ENDPOINT";
#[cfg(feature = "tpm2")]
const TPM: &str = "BLUE_TPM";

/// What a TPM's registers PCR 0 and PCR 7 hold, SHA-256 bank.
pub type Registers = [[u8; 32]; 2];

/// Where the master key is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeySource {
    /// `file`: as 32 bytes in this file ([`LocalFileKeyProvider`]).
    File(PathBuf),
    /// `kms:<arn>`: in AWS KMS, which never gives it out (`AwsKmsKeyProvider`; feature `aws`).
    #[cfg(any(feature = "aws", test))]
    Kms {
        /// Which key.
        key: KmsKeyArn,
        /// An imitation of AWS KMS that is asked instead (`KMS_ENDPOINT`): for development.
        imitation: Option<LocalEndpoint>,
    },
    /// `tpm2` or `tpm2:<file>`: sealed into a file by a TPM 2.0 (`Tpm2KeyProvider`; feature `tpm2`).
    #[cfg(feature = "tpm2")]
    Tpm2 {
        /// Which TPM (`BLUE_TPM`).
        tpm: Tpm,
        /// The sealed key.
        file: PathBuf,
    },
}

impl KeySource {
    /// What `BLUE_KEYS` says: `file`, which is also meant where it says nothing, and means the file given here;
    /// `kms:<arn>`; `tpm2`, which means that file with the extension `tpm2`; or `tpm2:<absolute path>`.
    ///
    /// `KMS_ENDPOINT` names an imitation of AWS KMS, `BLUE_TPM` another TPM than `/dev/tpmrm0`: a device, or `swtpm:<port>`.
    ///
    /// # Errors
    /// `invalid_keys`, `invalid_key_arn`, `invalid_tpm`, `invalid_endpoint`, `endpoint_is_aws`, `invalid_environment`;
    /// `keys_not_built` for a provider that this program was built without.
    pub fn from_env(file: PathBuf) -> Result<Self> {
        match variable(KEYS)? {
            Some(text) => Self::parse(&text, &file, &variable),
            None => Ok(Self::File(file)),
        }
    }

    /// The same, where `text` is what `BLUE_KEYS` says.
    ///
    /// # Errors
    /// As [`KeySource::from_env`].
    pub fn named(text: &str, file: &Path) -> Result<Self> {
        Self::parse(text, file, &variable)
    }

    fn parse(
        text: &str,
        file: &Path,
        var: &dyn Fn(&'static str) -> Result<Option<String>>,
    ) -> Result<Self> {
        match text.split_once(':') {
            None if text == "file" => Ok(Self::File(file.to_owned())),
            None if text == "tpm2" => sealed(file.with_extension("tpm2"), var),
            Some(("tpm2", path)) if Path::new(path).is_absolute() => sealed(path.into(), var),
            Some(("kms", arn)) => in_kms(arn, var),
            _ => Err(invalid()),
        }
    }

    /// The file that it is kept in; `None` for a key that is in no file.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(file) => Some(file),
            #[cfg(any(feature = "aws", test))]
            Self::Kms { .. } => None,
            #[cfg(feature = "tpm2")]
            Self::Tpm2 { file, .. } => Some(file),
        }
    }

    /// What the provider is called: `file`, `kms` or `tpm2`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            #[cfg(any(feature = "aws", test))]
            Self::Kms { .. } => "kms",
            #[cfg(feature = "tpm2")]
            Self::Tpm2 { .. } => "tpm2",
        }
    }

    /// The provider. Looks for the credentials of AWS, and asks nobody for a key.
    ///
    /// # Errors
    /// `endpoint_not_aws` where the AWS SDK was told to ask somebody else (`KMS_ENDPOINT` names an imitation).
    pub async fn provider(&self) -> Result<Arc<dyn KeyProvider>> {
        Ok(match self {
            Self::File(file) => Arc::new(LocalFileKeyProvider::new(file)),
            #[cfg(any(feature = "aws", test))]
            Self::Kms { key, imitation } => Arc::new(kms::provider(key, imitation.as_ref()).await?),
            #[cfg(feature = "tpm2")]
            Self::Tpm2 { tpm, file } => Arc::new(Tpm2KeyProvider::new(tpm.clone(), file)),
        })
    }

    /// Seals the key in the file `copy`, as [`LocalFileKeyProvider`] keeps one, in the TPM; says to which values.
    ///
    /// # Errors
    /// `keys_not_sealed` for keys that are in no TPM; `encryption_key_missing` and the others of `copy`; those of
    /// `Tpm2KeyProvider::seal`.
    pub async fn seal(&self, copy: &Path) -> Result<Registers> {
        let keys = LocalFileKeyProvider::new(copy);
        match self.kind() {
            "tpm2" => self.run(Errand::Seal(got(keys.get_umk().await)?)).await,
            _ => Err(not_sealed()),
        }
    }

    /// Makes a key in the file `copy`, which must not be there, and seals it; says to which values.
    ///
    /// # Errors
    /// `already_exists`, and those of [`KeySource::seal`]. A copy that was made and could not be sealed stays.
    pub async fn seal_fresh(&self, copy: &Path) -> Result<Registers> {
        let sealed = self.file().filter(|_| self.kind() == "tpm2");
        let sealed = sealed.ok_or_else(not_sealed)?;
        for file in [sealed, copy] {
            if file.symlink_metadata().is_ok() {
                return Err(is_there(file));
            }
        }
        got(LocalFileKeyProvider::new(copy).create_umk().await)?;
        self.seal(copy).await
    }

    /// Seals the key anew to what the TPM's registers hold, and to `next`; says to which values it is sealed now.
    ///
    /// # Errors
    /// `keys_not_sealed`; those of `Tpm2KeyProvider::reseal`.
    pub async fn reseal(&self, next: Option<Registers>) -> Result<Registers> {
        self.run(Errand::Reseal(next)).await
    }

    #[cfg(feature = "tpm2")]
    async fn run(&self, errand: Errand) -> Result<Registers> {
        let Self::Tpm2 { tpm, file } = self else {
            return Err(not_sealed());
        };
        let keys = Tpm2KeyProvider::new(tpm.clone(), file);
        got(match errand {
            Errand::Seal(key) => keys.seal(&key).await,
            Errand::Reseal(next) => {
                let next = next.map(|[pcr0, pcr7]| PcrValues { pcr0, pcr7 });
                keys.reseal(next).await
            }
        })?;
        let PcrValues { pcr0, pcr7 } = got(keys.pcr_values().await)?;
        Ok([pcr0, pcr7])
    }

    #[cfg(not(feature = "tpm2"))]
    #[expect(clippy::unused_async, reason = "with the feature it waits for the TPM")]
    async fn run(&self, _errand: Errand) -> Result<Registers> {
        Err(not_sealed())
    }
}

/// As `BLUE_KEYS` says it; of a file its provider alone.
impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(_) => f.write_str("file"),
            #[cfg(any(feature = "aws", test))]
            Self::Kms { key, .. } => write!(f, "kms:{key}"),
            #[cfg(feature = "tpm2")]
            Self::Tpm2 { file, .. } => write!(f, "tpm2:{}", file.display()),
        }
    }
}

/// What a TPM is asked to do.
#[cfg_attr(
    not(feature = "tpm2"),
    expect(dead_code, reason = "without the feature there is no TPM to ask")
)]
enum Errand {
    Seal(UmkHandle),
    Reseal(Option<Registers>),
}

type Variable<'a> = &'a dyn Fn(&'static str) -> Result<Option<String>>;

#[cfg(any(feature = "aws", test))]
fn in_kms(arn: &str, var: Variable<'_>) -> Result<KeySource> {
    let parse = |url: String| {
        let hint = "name an imitation of AWS KMS in KMS_ENDPOINT as http://127.0.0.1:5000; without it AWS is asked";
        LocalEndpoint::parse(&url).map_err(|fault| fault.hint(hint))
    };
    Ok(KeySource::Kms {
        key: KmsKeyArn::parse(arn)?,
        imitation: var(KMS_ENDPOINT)?.map(parse).transpose()?,
    })
}

#[cfg(not(any(feature = "aws", test)))]
fn in_kms(_arn: &str, _var: Variable<'_>) -> Result<KeySource> {
    Err(not_built("keys in AWS KMS", "aws"))
}

#[cfg(feature = "tpm2")]
fn sealed(file: PathBuf, var: Variable<'_>) -> Result<KeySource> {
    let tpm = match var(TPM)? {
        None => Tpm::default(),
        Some(text) => tpm(&text).ok_or_else(invalid_tpm)?,
    };
    Ok(KeySource::Tpm2 { tpm, file })
}

#[cfg(not(feature = "tpm2"))]
fn sealed(_file: PathBuf, _var: Variable<'_>) -> Result<KeySource> {
    Err(not_built("keys in a TPM", "tpm2"))
}

/// The emulator's control channel is at the port after its own.
#[cfg(feature = "tpm2")]
fn tpm(text: &str) -> Option<Tpm> {
    match text.strip_prefix("swtpm:") {
        Some(port) => {
            let port: u16 = port.parse().ok()?;
            (1..u16::MAX).contains(&port).then_some(Tpm::Swtpm(port))
        }
        None => Path::new(text)
            .is_absolute()
            .then(|| Tpm::Device(text.into())),
    }
}

/// Keys in AWS KMS, and in what imitates it.
#[cfg(any(feature = "aws", test))]
mod kms {
    use aws_config::BehaviorVersion;
    use aws_sdk_kms::config::{Credentials, SharedCredentialsProvider};
    use aws_types::SdkConfig;
    use http::Uri;

    use super::{AwsKmsKeyProvider, KmsKeyArn, LocalEndpoint, Result};
    use crate::backend::check_aws;

    pub(super) async fn provider(
        key: &KmsKeyArn,
        imitation: Option<&LocalEndpoint>,
    ) -> Result<AwsKmsKeyProvider> {
        let config = match imitation {
            Some(endpoint) => as_nobody(endpoint),
            None => aws_config::load_defaults(BehaviorVersion::latest()).await,
        };
        if imitation.is_none() {
            check_endpoint(&config)?;
        }
        Ok(AwsKmsKeyProvider::new(&config, key.clone()))
    }

    /// The credentials of this machine are never sent to an imitation.
    fn as_nobody(endpoint: &LocalEndpoint) -> SdkConfig {
        let nobody = Credentials::new("local", "local", None, None, "nobody");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .credentials_provider(SharedCredentialsProvider::new(nobody))
            .endpoint_url(endpoint.as_str())
            .build()
    }

    /// An imitation that the SDK's own settings name would be taken for one that is meant.
    pub(super) fn check_endpoint(config: &SdkConfig) -> Result<()> {
        match config.endpoint_url() {
            Some(url) => check_aws(&url.parse::<Uri>().unwrap_or_default()),
            None => Ok(()),
        }
    }
}

fn got<T>(key: Result<T, crate::KeyError>) -> Result<T> {
    key.map_err(|error| error.at("the master key"))
}

/// What was set is not repeated: somebody may have put a key there.
fn invalid() -> Fault {
    let message = "BLUE_KEYS names no way to keep a master key";
    Fault::new(Category::InvalidInput, "invalid_keys", message)
        .hint("set it to file, kms:ARN, tpm2, or tpm2: and the absolute path of the sealed key")
}

#[cfg(feature = "tpm2")]
fn invalid_tpm() -> Fault {
    let message = "BLUE_TPM names no TPM";
    Fault::new(Category::InvalidInput, "invalid_tpm", message).hint(
        "set it to a device such as /dev/tpmrm0, or to swtpm:PORT for the emulator at that port",
    )
}

#[cfg(not(all(feature = "tpm2", any(feature = "aws", test))))]
fn not_built(what: &str, feature: &str) -> Fault {
    let message = format!("this program was built without {what}");
    Fault::new(Category::DependencyMissing, "keys_not_built", message)
        .hint(format!("build it with the feature {feature}"))
}

fn not_sealed() -> Fault {
    let message = "the master key is in no TPM";
    Fault::new(Category::InvalidInput, "keys_not_sealed", message)
        .hint("set BLUE_KEYS to tpm2, or to tpm2: and the absolute path of the sealed key")
}

fn is_there(file: &Path) -> Fault {
    let message = format!("{} is there already", file.display());
    Fault::new(Category::InvalidInput, "already_exists", message)
        .hint("keep it: it may be the only copy of a key; name another file")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:kms:eu-central-1:123456789012:key/abc";

    fn of(text: &str, vars: &[(&str, &str)]) -> Result<KeySource> {
        KeySource::parse(text, Path::new("/home/keys/umk.key"), &|name| {
            let found = vars.iter().find(|(known, _)| *known == name);
            Ok(found.map(|(_, value)| (*value).to_owned()))
        })
    }

    fn code(text: &str, vars: &[(&str, &str)]) -> String {
        of(text, vars).unwrap_err().code().to_owned()
    }

    #[test]
    fn a_setting_names_a_file_or_a_key_of_kms() {
        let file = of("file", &[]).unwrap();
        assert_eq!(file, KeySource::File("/home/keys/umk.key".into()));
        assert_eq!((file.kind(), file.to_string()), ("file", "file".to_owned()));
        let key = KmsKeyArn::parse(ARN).unwrap();
        let text = format!("kms:{ARN}");
        for (vars, imitation) in [
            (&[][..], None),
            (
                &[("KMS_ENDPOINT", "http://127.0.0.1:5000")],
                Some("http://127.0.0.1:5000"),
            ),
        ] {
            let kms = of(&text, vars).unwrap();
            assert_eq!((kms.kind(), kms.to_string()), ("kms", text.clone()));
            let imitation = imitation.map(|url| LocalEndpoint::parse(url).unwrap());
            let key = key.clone();
            assert_eq!(kms, KeySource::Kms { key, imitation });
        }
    }

    #[test]
    fn what_names_no_key_is_refused_and_not_repeated() {
        let key = "00112233445566778899aabbccddeeff";
        for bad in [
            "",
            "File",
            "file:",
            "file:/keys/umk.key",
            "kms",
            "tpm2:",
            "tpm2:relative/umk.tpm2",
            "tpm",
            "tpm2 ",
            "aws",
            key,
            &format!("{key}:{key}"),
        ] {
            let fault = of(bad, &[]).unwrap_err();
            assert_eq!(fault.code(), "invalid_keys", "{bad}");
            assert!(!fault.human().contains(key), "{}", fault.human());
        }
        for alias in [
            "kms:",
            "kms:alias/mine",
            "kms:arn:aws:kms:eu-central-1:1:key/a",
        ] {
            assert_eq!(code(alias, &[]), "invalid_key_arn", "{alias}");
        }
        let kms = format!("kms:{ARN}");
        let aws = "https://kms.eu-central-1.amazonaws.com";
        assert_eq!(code(&kms, &[("KMS_ENDPOINT", aws)]), "endpoint_is_aws");
        assert_eq!(
            code(&kms, &[("KMS_ENDPOINT", "localhost")]),
            "invalid_endpoint"
        );
    }

    #[test]
    fn no_setting_of_the_sdk_has_an_imitation_taken_for_aws() {
        let at = |url: &str| {
            let config = aws_types::SdkConfig::builder().endpoint_url(url).build();
            kms::check_endpoint(&config).map_err(|fault| fault.code().to_owned())
        };
        at("https://kms.eu-central-1.amazonaws.com").unwrap();
        for other in [
            "http://127.0.0.1:5000",
            "http://kms.eu-central-1.amazonaws.com",
            "https://kms.example.org",
            "nonsense here",
        ] {
            assert_eq!(at(other), Err("endpoint_not_aws".to_owned()), "{other}");
        }
    }

    #[tokio::test]
    async fn an_imitation_is_of_the_realm_of_development() {
        let vars = [("KMS_ENDPOINT", "http://127.0.0.1:9")];
        let kms = of(&format!("kms:{ARN}"), &vars).unwrap();
        let provider = kms.provider().await.unwrap();
        assert_eq!(provider.realm(), crate::Realm::Local);
    }

    #[tokio::test]
    async fn only_a_key_that_a_tpm_keeps_is_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeySource::File(dir.path().join("umk.key"));
        let copy = dir.path().join("copy");
        for refused in [
            file.seal(&copy).await,
            file.seal_fresh(&copy).await,
            file.reseal(None).await,
        ] {
            assert_eq!(refused.unwrap_err().code(), "keys_not_sealed");
        }
        assert!(!copy.exists());
    }

    #[cfg(feature = "tpm2")]
    #[test]
    fn a_setting_names_a_sealed_file_and_a_tpm() {
        let file = |source: &KeySource| source.file().unwrap().display().to_string();
        let own = of("tpm2", &[]).unwrap();
        assert_eq!(file(&own), "/home/keys/umk.tpm2");
        let named = of("tpm2:/mnt/a:b.tpm2", &[("BLUE_TPM", "swtpm:2321")]).unwrap();
        assert_eq!(
            (file(&named), named.kind()),
            ("/mnt/a:b.tpm2".into(), "tpm2")
        );
        let KeySource::Tpm2 { tpm, .. } = named else {
            panic!("{named:?}");
        };
        assert_eq!(tpm, Tpm::Swtpm(2321));
        for bad in [
            "tpm0",
            "swtpm",
            "swtpm:",
            "swtpm:0",
            "swtpm:65535",
            "swtpm:-1",
            "swtpm:2321x",
            "device:/dev/tpm0",
        ] {
            assert_eq!(code("tpm2", &[("BLUE_TPM", bad)]), "invalid_tpm", "{bad}");
        }
    }
}
