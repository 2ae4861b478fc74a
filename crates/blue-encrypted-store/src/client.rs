//! The SDK's client: the same retries for every backend; what differs is who answers.

use std::time::Duration;

#[cfg(any(feature = "embedded", feature = "aws", test))]
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Builder, Credentials, Region};
#[cfg(any(feature = "embedded", test))]
use aws_smithy_runtime_api::client::http::{
    HttpConnector, SharedHttpClient, SharedHttpConnector, http_client_fn,
};

use crate::failure::CancelledInPassing;

/// How often a request is sent before its failure is told.
pub(crate) const MAX_ATTEMPTS: u32 = 6;
/// The longest first wait of a client that is throttled, doubled by each further one.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// A client that is answered in this process.
#[cfg(any(feature = "embedded", test))]
pub(crate) fn answered_by(engine: impl HttpConnector + 'static) -> Client {
    let builder = nobodys(Builder::new()).endpoint_url("http://embedded.invalid");
    Client::from_conf(builder.http_client(through(engine)).build())
}

/// What sends an SDK's requests to one connector.
#[cfg(any(feature = "embedded", test))]
pub(crate) fn through(connector: impl HttpConnector + 'static) -> SharedHttpClient {
    let connector = SharedHttpConnector::new(connector);
    http_client_fn(move |_, _| connector.clone())
}

/// What is told to a server that checks no credentials. Those of this machine are never sent to it.
fn nobodys(builder: Builder) -> Builder {
    with_retries(builder)
        .region(Region::from_static("local"))
        .credentials_provider(Credentials::new("local", "local", None, None, "nobody"))
}

fn with_retries(builder: Builder) -> Builder {
    let retries = RetryConfig::standard()
        .with_max_attempts(MAX_ATTEMPTS)
        .with_initial_backoff(FIRST_BACKOFF)
        .with_max_backoff(MAX_BACKOFF);
    builder
        .behavior_version(BehaviorVersion::latest())
        .retry_config(retries)
        .retry_classifier(CancelledInPassing)
}

#[cfg(all(feature = "aws", test))]
pub(crate) use remote::to_endpoint;
#[cfg(feature = "aws")]
pub(crate) use remote::{at_endpoint, found, in_aws};

/// Over a network, which an answer may not come back on.
#[cfg(feature = "aws")]
mod remote {
    use aws_config::SdkConfig;
    use aws_sdk_dynamodb::config::ProvideCredentials;
    use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
    use worldcompute_fault::{Category, Fault, Result};

    use super::{Builder, Client, Duration, Region, nobodys, with_retries};
    use crate::backend::{Aws, LocalEndpoint};
    use crate::only_to_aws::OnlyToAws;

    const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
    /// For one try, and for all of them together.
    const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
    const OPERATION_TIMEOUT: Duration = Duration::from_secs(45);

    /// The client of a server that is not AWS.
    pub(crate) fn at_endpoint(endpoint: &LocalEndpoint) -> Client {
        Client::from_conf(to_endpoint(endpoint).build())
    }

    pub(crate) fn to_endpoint(endpoint: &LocalEndpoint) -> Builder {
        with_timeouts(nobodys(Builder::new())).endpoint_url(endpoint.as_str())
    }

    /// The same AWS with the region named, and with all that every program of the AWS SDK finds.
    ///
    /// # Errors
    /// `region_missing`.
    pub(crate) async fn found(aws: Aws) -> Result<Aws> {
        let sdk = match aws.sdk {
            Some(found) => *found,
            None => aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await,
        };
        let region = aws.region.or_else(|| sdk.region().map(ToString::to_string));
        Ok(Aws {
            region: Some(region.ok_or_else(no_region)?),
            endpoint: aws.endpoint,
            sdk: Some(Box::new(sdk)),
        })
    }

    /// The client of AWS. Finds region and credentials now, so that what is missing is told before anything is done.
    ///
    /// # Errors
    /// `region_missing`, `credentials_missing`.
    pub(crate) async fn in_aws(aws: &Aws) -> Result<Client> {
        let Aws {
            region: Some(region),
            endpoint,
            sdk: Some(found),
        } = found(aws.clone()).await?
        else {
            return Err(no_region());
        };
        check_credentials(&found).await?;
        let mut builder = with_timeouts(with_retries(Builder::from(&*found)))
            .region(Region::new(region))
            .interceptor(OnlyToAws);
        if let Some(endpoint) = &endpoint {
            builder = builder.endpoint_url(endpoint.as_str());
        }
        Ok(Client::from_conf(builder.build()))
    }

    fn with_timeouts(builder: Builder) -> Builder {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(OPERATION_TIMEOUT);
        builder.timeout_config(timeouts.build())
    }

    async fn check_credentials(found: &SdkConfig) -> Result<()> {
        let none = || {
            missing(
                "credentials_missing",
                "no credentials for AWS were found",
                "sign in to AWS, or give this machine a role; the AWS CLI shows what it finds with `aws sts get-caller-identity`",
            )
        };
        let provider = found.credentials_provider().ok_or_else(none)?;
        let credentials = provider.provide_credentials().await;
        credentials
            .map(drop)
            .map_err(|error| none().caused_by(&error))
    }

    fn no_region() -> Fault {
        missing(
            "region_missing",
            "no region of AWS is configured",
            "set AWS_REGION, or region in the profile file",
        )
    }

    fn missing(code: &'static str, message: &'static str, hint: &'static str) -> Fault {
        Fault::new(Category::DependencyMissing, code, message).hint(hint)
    }
}
