//! The network: one GET over http or https, bounded in time and size, redirects not followed.

use std::error::Error;
use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::fetch::{Failure, MAX_PACK_BYTES, Transport};

/// How long one attempt may take.
const TIMEOUT: Duration = Duration::from_secs(20);

type HttpClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// The transport of this machine: trusts its root certificates.
#[derive(Clone, Copy, Debug)]
pub struct HttpTransport {
    timeout: Duration,
}

impl HttpTransport {
    /// One that gives up on an attempt after `timeout`.
    pub const fn with_timeout(timeout: Duration) -> Self {
        Self { timeout }
    }
}

impl Default for HttpTransport {
    /// Gives up on an attempt after 20 s.
    fn default() -> Self {
        Self::with_timeout(TIMEOUT)
    }
}

impl Transport for HttpTransport {
    fn get(&self, uri: &Uri) -> Result<Vec<u8>, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Unreachable(error.to_string()))?;
        runtime.block_on(async {
            match tokio::time::timeout(self.timeout, get(uri)).await {
                Ok(done) => done,
                Err(_) => Err(Failure::Timeout),
            }
        })
    }
}

async fn get(uri: &Uri) -> Result<Vec<u8>, Failure> {
    let request = Request::get(uri)
        .header("accept", "application/json")
        .header("user-agent", concat!("gait/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
        .map_err(|error| Failure::Unreachable(error.to_string()))?;
    let response = client()?
        .request(request)
        .await
        .map_err(|error| failure(&error))?;
    match response.status() {
        StatusCode::OK => body(response).await,
        status => Err(Failure::Status(status.as_u16())),
    }
}

fn client() -> Result<HttpClient, Failure> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(provider)
        .map_err(|error| Failure::NoTrustRoots(error.to_string()))?
        .https_or_http()
        .enable_http1()
        .build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

async fn body(response: Response<Incoming>) -> Result<Vec<u8>, Failure> {
    let limit = usize::try_from(MAX_PACK_BYTES).unwrap_or(usize::MAX);
    match Limited::new(response.into_body(), limit).collect().await {
        Ok(body) => Ok(body.to_bytes().to_vec()),
        Err(error) if error.is::<LengthLimitError>() => Err(Failure::TooLarge),
        Err(error) => Err(failure(&*error)),
    }
}

/// Tells by the types in the chain of causes, never by their texts.
fn failure(error: &(dyn Error + 'static)) -> Failure {
    let why = causes(error)
        .last()
        .map_or_else(String::new, ToString::to_string);
    let mut verdict = Failure::Unreachable(why.clone());
    for cause in causes(error) {
        if is_tls(cause) {
            return Failure::Untrusted(why);
        }
        if is_broken(cause) {
            verdict = Failure::Broken(why.clone());
        }
    }
    verdict
}

/// The error and everything that caused it. An `io::Error` hides what it wraps from `source`.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |cause| {
        let cause: &'a (dyn Error + 'static) = *cause;
        let wrapped = cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .map(|inner| inner as &(dyn Error + 'static));
        wrapped.or_else(|| cause.source())
    })
}

fn is_tls(cause: &(dyn Error + 'static)) -> bool {
    cause.is::<rustls::Error>()
}

fn is_broken(cause: &(dyn Error + 'static)) -> bool {
    let broken_io = cause.downcast_ref::<io::Error>().is_some_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
                | io::ErrorKind::TimedOut
        )
    });
    let cut_off = cause
        .downcast_ref::<hyper::Error>()
        .is_some_and(hyper::Error::is_incomplete_message);
    broken_io || cut_off
}
