//! Where a table is, and which endpoints and keys go with it.
//!
//! Development and production do not mix: what talks to AWS goes to AWS's own names over TLS and takes no key from a
//! file, and what does not talk to AWS takes no key from it. A mistake is refused when the store is opened.

use std::fmt;

use http::Uri;
use worldcompute_fault::{Category, Fault, Result};

use crate::StorePath;

/// The longest URL of an endpoint, in bytes.
pub const MAX_ENDPOINT_BYTES: usize = 2048;

/// What the hosts of AWS's services end in, in every partition of AWS.
const AWS_SUFFIXES: [&str; 7] = [
    "amazonaws.com",
    "amazonaws.com.cn",
    "amazonaws.eu",
    "api.amazonwebservices.com.cn",
    "api.aws",
    "c2s.ic.gov",
    "sc2s.sgov.gov",
];

/// What a process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Development, and programs that keep their table themselves.
    Local,
    /// Production in AWS.
    Aws,
}

impl Profile {
    /// The profile of that name, `local` or `aws`.
    ///
    /// # Errors
    /// `invalid_profile`.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "local" => Ok(Self::Local),
            "aws" => Ok(Self::Aws),
            _ => Err(refused(
                "invalid_profile",
                format!("there is no profile {name:.40?}"),
                "choose local or aws",
            )),
        }
    }
}

/// The world that a master key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Realm {
    /// Development: the key lies in a file, or in an imitation of a key service.
    Local,
    /// Production: the key is in an AWS account.
    Aws,
    /// Either: the key is as safe with a table in AWS as with one here, as the one in this machine's TPM.
    Any,
}

/// Where a table is.
#[derive(Clone, Debug)]
pub enum Backend {
    /// In this process, answered by the embedded engine without any port.
    Embedded(StorePath),
    /// On a server that speaks DynamoDB and is not AWS: Amazon's DynamoDB Local, or one that is compatible. Needs the
    /// feature `aws`, as all of the network does.
    Endpoint(LocalEndpoint),
    /// In AWS. Needs the feature `aws`.
    Aws(Aws),
}

impl Backend {
    /// The backend of a profile: with an endpoint that one, without it AWS for [`Profile::Aws`] and the embedded engine
    /// at `embedded` for [`Profile::Local`].
    ///
    /// # Errors
    /// `invalid_endpoint`; `endpoint_not_aws` for the profile `aws`, `endpoint_is_aws` for `local`.
    pub fn choose(profile: Profile, endpoint: Option<&str>, embedded: StorePath) -> Result<Self> {
        Ok(match (profile, endpoint) {
            (Profile::Local, None) => Self::Embedded(embedded),
            (Profile::Local, Some(url)) => Self::Endpoint(LocalEndpoint::parse(url)?),
            (Profile::Aws, None) => Self::Aws(Aws::default()),
            (Profile::Aws, Some(url)) => {
                Self::Aws(Aws::default().endpoint(AwsEndpoint::parse(url)?))
            }
        })
    }

    /// Refuses keys of another realm than the table's.
    pub(crate) fn check_keys(&self, keys: Realm) -> Result<()> {
        let (message, hint) = match (self, keys) {
            (Self::Aws(_), Realm::Local) => (
                "a table in AWS is not opened with a development key",
                "use a key of AWS KMS or of a TPM with the profile aws",
            ),
            (Self::Embedded(_) | Self::Endpoint(_), Realm::Aws) => (
                "a table outside of AWS is not opened with a production key",
                "use the profile aws with keys of AWS KMS, or a key file with a local table",
            ),
            _ => return Ok(()),
        };
        Err(refused("keys_of_another_realm", message, hint))
    }
}

/// The URL of a DynamoDB that is not AWS's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalEndpoint(String);

impl LocalEndpoint {
    /// Takes `http://` or `https://`, a host that is not AWS's, and perhaps a port; nothing else.
    ///
    /// # Errors
    /// `invalid_endpoint`, `endpoint_is_aws`.
    pub fn parse(url: &str) -> Result<Self> {
        let uri = base_url(url)?;
        if !uri.host().is_some_and(is_aws) {
            return Ok(Self(url.to_owned()));
        }
        Err(refused(
            "endpoint_is_aws",
            format!("the profile local does not talk to AWS, where {url} is"),
            "choose the profile aws",
        ))
    }

    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LocalEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The URL of one of AWS's own endpoints of DynamoDB: private link, FIPS, dual stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsEndpoint(String);

impl AwsEndpoint {
    /// Takes `https://`, a host of AWS, and perhaps a port; nothing else.
    ///
    /// # Errors
    /// `invalid_endpoint`, `endpoint_not_aws`.
    pub fn parse(url: &str) -> Result<Self> {
        let uri = base_url(url)?;
        check_aws(&uri)?;
        Ok(Self(url.to_owned()))
    }

    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AwsEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How AWS is reached. Whatever is not said here is found as every program of the AWS SDK finds it: environment, profile
/// files, web identity, container, instance.
#[derive(Clone, Debug, Default)]
pub struct Aws {
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<AwsEndpoint>,
    #[cfg(feature = "aws")]
    pub(crate) sdk: Option<Box<aws_config::SdkConfig>>,
}

impl Aws {
    /// In this region.
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Through this endpoint.
    #[must_use]
    pub fn endpoint(mut self, endpoint: AwsEndpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    /// The endpoint, if one was named.
    pub const fn named_endpoint(&self) -> Option<&AwsEndpoint> {
        self.endpoint.as_ref()
    }

    /// The region, if one was named, or found ([`crate::StoreConfig::resolved`]).
    pub fn named_region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// With what the caller has loaded or put together: other sources of credentials, proxies, an HTTP client.
    #[cfg(feature = "aws")]
    #[must_use]
    pub fn sdk_config(mut self, config: aws_config::SdkConfig) -> Self {
        self.sdk = Some(Box::new(config));
        self
    }
}

/// Refuses a request that would leave AWS, or go there in the clear.
pub(crate) fn check_aws(uri: &Uri) -> Result<()> {
    if uri.scheme_str() == Some("https") && uri.host().is_some_and(is_aws) {
        return Ok(());
    }
    let host = uri.host().unwrap_or("nowhere");
    Err(refused(
        "endpoint_not_aws",
        format!("the profile aws talks to AWS over https, not to {host:.100}"),
        "take the endpoint out of DYNAMODB_ENDPOINT, AWS_ENDPOINT_URL and the profile files, or choose the profile local",
    ))
}

/// Whether a host is under one of AWS's names. A dot at the end means the same host.
fn is_aws(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    AWS_SUFFIXES.iter().any(|suffix| {
        host.strip_suffix(suffix)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

/// Scheme, host and perhaps port: what the SDK adds paths to.
fn base_url(url: &str) -> Result<Uri> {
    let parsed = (url.len() <= MAX_ENDPOINT_BYTES)
        .then(|| url.parse::<Uri>().ok())
        .flatten();
    let is_base = |uri: &Uri| {
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        scheme && names_a_host(uri) && uri.path() == "/" && uri.query().is_none()
    };
    parsed.filter(is_base).ok_or_else(|| {
        refused(
            "invalid_endpoint",
            "the endpoint is no URL of scheme, host and port alone",
            "write it as http://127.0.0.1:8000",
        )
    })
}

/// A host and perhaps a port, without any user.
fn names_a_host(uri: &Uri) -> bool {
    let (Some(authority), Some(host)) = (uri.authority(), uri.host()) else {
        return false;
    };
    let authority = authority.as_str();
    let ported = authority == host || uri.port_u16().is_some();
    !host.is_empty() && ported && !authority.contains('@')
}

fn refused(code: &'static str, message: impl Into<String>, hint: &'static str) -> Fault {
    Fault::new(Category::InvalidInput, code, message).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code<T>(result: Result<T>) -> String {
        result
            .err()
            .map_or_else(String::new, |fault| fault.code().to_owned())
    }

    #[test]
    fn a_profile_and_an_endpoint_name_the_backend() {
        let choose = |profile, endpoint| {
            Backend::choose(profile, endpoint, StorePath::Memory).map(|backend| match backend {
                Backend::Embedded(path) => format!("{path:?}"),
                Backend::Endpoint(endpoint) => endpoint.to_string(),
                Backend::Aws(Aws { endpoint, .. }) => {
                    endpoint.map_or_else(|| "aws".to_owned(), |endpoint| endpoint.to_string())
                }
            })
        };
        let local = "http://127.0.0.1:8000";
        let aws = "https://dynamodb.eu-central-1.amazonaws.com";
        assert_eq!(choose(Profile::Local, None).unwrap(), "Memory");
        assert_eq!(choose(Profile::Local, Some(local)).unwrap(), local);
        assert_eq!(choose(Profile::Aws, None).unwrap(), "aws");
        assert_eq!(choose(Profile::Aws, Some(aws)).unwrap(), aws);
        assert_eq!(code(choose(Profile::Aws, Some(local))), "endpoint_not_aws");
        assert_eq!(code(choose(Profile::Local, Some(aws))), "endpoint_is_aws");
        assert_eq!(code(Profile::parse("prod")), "invalid_profile");
    }

    #[test]
    fn no_spelling_of_a_host_gets_development_to_aws_or_production_out_of_it() {
        for aws in [
            "https://dynamodb.us-east-1.amazonaws.com",
            "https://DYNAMODB.us-east-1.AmazonAWS.com:443/",
            "https://dynamodb.us-east-1.amazonaws.com.",
            "https://vpce-1-2.dynamodb.us-east-1.vpce.amazonaws.com",
            "https://dynamodb.cn-north-1.amazonaws.com.cn",
            "https://dynamodb.eusc-de-east-1.amazonaws.eu",
            "https://dynamodb.us-east-1.api.aws",
            "https://123456789012.ddb.us-east-1.amazonaws.com",
        ] {
            AwsEndpoint::parse(aws).unwrap();
            assert_eq!(code(LocalEndpoint::parse(aws)), "endpoint_is_aws", "{aws}");
            let clear = aws.replace("https", "http");
            assert_eq!(
                code(AwsEndpoint::parse(&clear)),
                "endpoint_not_aws",
                "{clear}"
            );
        }
        for other in [
            "http://localhost:8000",
            "https://localhost:8000",
            "http://127.0.0.1:8000/",
            "http://[::1]:8000",
            "http://0.0.0.0:8000",
            "http://dynamodb:8000",
            "https://notamazonaws.com",
            "https://amazonaws.com.example.org",
            "https://dynamodb.us-east-1.amazonaws.com.localhost",
        ] {
            LocalEndpoint::parse(other).unwrap();
            assert_eq!(
                code(AwsEndpoint::parse(other)),
                "endpoint_not_aws",
                "{other}"
            );
        }
    }

    #[test]
    fn an_endpoint_is_scheme_host_and_port_and_nothing_else() {
        let longest = format!("http://{}", "h".repeat(MAX_ENDPOINT_BYTES - 7));
        LocalEndpoint::parse(&longest).unwrap();
        for bad in [
            "",
            "localhost:8000",
            "127.0.0.1",
            "//localhost",
            "ftp://localhost",
            "http://",
            "http://localhost:99999",
            "http://localhost/path",
            "http://localhost?query",
            "http://user:secret@localhost",
            "http://user@localhost:8000",
            "http://localhost:",
            "http://amazonaws.com@localhost",
            "http://local host",
            "unix:/run/dynamodb",
            &format!("{longest}h"),
        ] {
            assert_eq!(code(LocalEndpoint::parse(bad)), "invalid_endpoint", "{bad}");
            assert_eq!(code(AwsEndpoint::parse(bad)), "invalid_endpoint", "{bad}");
        }
    }

    #[test]
    fn keys_and_tables_of_different_realms_do_not_go_together() {
        let embedded = Backend::Embedded(StorePath::Memory);
        let endpoint = Backend::Endpoint(LocalEndpoint::parse("http://localhost:8000").unwrap());
        let aws = Backend::Aws(Aws::default());
        for (backend, good, bad) in [
            (&embedded, Realm::Local, Realm::Aws),
            (&endpoint, Realm::Local, Realm::Aws),
            (&aws, Realm::Aws, Realm::Local),
        ] {
            backend.check_keys(good).unwrap();
            backend.check_keys(Realm::Any).unwrap();
            let fault = backend.check_keys(bad).unwrap_err();
            assert_eq!(fault.code(), "keys_of_another_realm", "{backend:?}");
        }
    }
}
