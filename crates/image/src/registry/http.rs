//! One GET over http or https, bounded in time and in the size of its headers; redirects are not followed here.

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use tower_service::Service;
use url::Url;
use worldcompute_fault::{Category, Fault, Result};

use super::address::is_public;
use super::{MAX_REDIRECTS, Options, Reference};
use crate::carried::causes;

/// The longest header section of an answer, in bytes.
pub const MAX_HEADER_BYTES: usize = 64 << 10;

type Connected<R> = Client<HttpsConnector<HttpConnector<R>>, Empty<Bytes>>;

/// Connections of one import.
pub struct Http {
    patience: Duration,
    deadline: Duration,
    /// To the place that the user named.
    own: Connected<AnyAddress>,
    /// To wherever that sends: public addresses alone.
    foreign: Connected<PublicAddress>,
}

/// Why an attempt failed.
#[derive(Clone, Debug)]
pub enum Failure {
    /// An answer that is none.
    Status(u16),
    /// Silence.
    Timeout,
    /// All in all too slow.
    TooSlow,
    /// The connection was refused, or broke off.
    Broken(String),
    /// The peer could not prove who it is.
    Untrusted(String),
    /// More bytes than there may be.
    TooLarge(u64),
    /// Sent to where it may not send.
    Redirected(String),
    /// Sent into a network that is not public.
    Private(String),
    /// Not what a token is.
    BadToken(&'static str),
    /// A continuation that does not continue.
    BadRange,
    /// Anything else, for instance an unknown host name.
    Unreachable(String),
}

impl Http {
    pub fn new(options: Options) -> Result<Self> {
        Ok(Self {
            patience: options.patience,
            deadline: options.deadline,
            own: client(AnyAddress)?,
            foreign: client(PublicAddress)?,
        })
    }

    /// The head of the answer.
    pub async fn get(
        &self,
        url: &Url,
        is_own: bool,
        token: Option<&str>,
        accept: &str,
        from: u64,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::get(url.as_str())
            .header(header::ACCEPT, accept)
            .header(
                header::USER_AGENT,
                concat!("worldcompute/", env!("CARGO_PKG_VERSION")),
            );
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        let request = request
            .body(Empty::new())
            .map_err(|error| Failure::Unreachable(error.to_string()))?;
        let answer = match is_own {
            true => self.own.request(request),
            false => self.foreign.request(request),
        };
        self.in_time(answer).await?.map_err(|error| failure(&error))
    }

    /// A whole body of at most `limit` bytes. A little now and then does not keep it open.
    pub async fn bytes(&self, body: Incoming, limit: u64) -> Result<Vec<u8>, Failure> {
        tokio::time::timeout(self.deadline, self.gather(body, limit))
            .await
            .map_err(|_| Failure::TooSlow)?
    }

    async fn gather(&self, mut body: Incoming, limit: u64) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece(&mut body).await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > limit {
                return Err(Failure::TooLarge(limit));
            }
        }
        Ok(bytes)
    }

    /// The next bytes of a body; `None` at its end.
    pub async fn piece(&self, body: &mut Incoming) -> Result<Option<Bytes>, Failure> {
        while let Some(frame) = self.in_time(body.frame()).await? {
            if let Ok(data) = frame.map_err(|error| failure(&error))?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::time::timeout(self.patience, work)
            .await
            .map_err(|_| Failure::Timeout)
    }
}

fn client<R>(resolver: R) -> Result<Connected<R>>
where
    R: Service<Name, Response = std::vec::IntoIter<SocketAddr>, Error = io::Error>
        + Clone
        + Send
        + Sync
        + 'static,
    R::Future: Send,
{
    let mut connector = HttpConnector::new_with_resolver(resolver);
    connector.enforce_http(false);
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(provider)
        .map_err(|error| no_roots().caused_by(error))?
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    let mut builder = Client::builder(TokioExecutor::new());
    Ok(builder
        .http1_max_buf_size(MAX_HEADER_BYTES)
        .build(connector))
}

/// Resolves names as the system does.
#[derive(Clone)]
struct AnyAddress;

/// The same, without addresses that are not public: what is checked is what is connected to.
#[derive(Clone)]
struct PublicAddress;

/// An address that a stranger must not send this machine to.
#[derive(Debug)]
struct NotPublic(String);

impl std::fmt::Display for NotPublic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} has no public address", self.0)
    }
}

impl Error for NotPublic {}

type Resolving = Pin<Box<dyn Future<Output = io::Result<std::vec::IntoIter<SocketAddr>>> + Send>>;

async fn resolve(name: Name) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((name.as_str(), 0)).await?.collect())
}

impl Service<Name> for AnyAddress {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Resolving;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Resolving {
        Box::pin(async { Ok(resolve(name).await?.into_iter()) })
    }
}

impl Service<Name> for PublicAddress {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Resolving;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Resolving {
        Box::pin(async {
            let refused = io::Error::other(NotPublic(name.to_string()));
            let mut found = resolve(name).await?;
            found.retain(|address| is_public(address.ip()));
            match found.is_empty() {
                true => Err(refused),
                false => Ok(found.into_iter()),
            }
        })
    }
}

/// Tells by the types in the chain of causes, never by their texts.
fn failure(error: &(dyn Error + 'static)) -> Failure {
    let why = causes(error)
        .last()
        .map_or_else(String::new, ToString::to_string);
    let mut verdict = Failure::Unreachable(why.clone());
    for cause in causes(error) {
        if cause.is::<NotPublic>() {
            return Failure::Private(why);
        }
        if cause.is::<rustls::Error>() {
            return Failure::Untrusted(why);
        }
        if is_broken(cause) {
            verdict = Failure::Broken(why.clone());
        }
    }
    verdict
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
    broken_io
        || cause
            .downcast_ref::<hyper::Error>()
            .is_some_and(hyper::Error::is_incomplete_message)
}

impl Failure {
    /// Whether another attempt may succeed.
    pub const fn passes(&self) -> bool {
        match self {
            Self::Status(status) => matches!(status, 429 | 502 | 503 | 504),
            Self::Timeout | Self::Broken(_) => true,
            _ => false,
        }
    }

    pub fn fault(&self, reference: &Reference, attempts: u32) -> Fault {
        let category = match self {
            failure if failure.passes() => Category::NetworkTransient,
            _ => Category::NetworkPermanent,
        };
        let (code, what, hint) = self.words();
        let times = if attempts == 1 { "attempt" } else { "attempts" };
        Fault::new(
            category,
            code,
            format!("{reference}: {what} ({attempts} {times})"),
        )
        .hint(hint)
    }

    fn words(&self) -> (&'static str, String, &'static str) {
        const LATER: &str = "retry later";
        const ELSEWHERE: &str = "copy the image into a layout with a program that you trust to go there, and import that";
        match self {
            Self::Status(401 | 403) => (
                "registry_denied",
                "the registry does not give it to everybody".to_owned(),
                "check the name; an image that needs a login is copied into a layout with skopeo and imported from there",
            ),
            Self::Status(404) => (
                "image_not_found",
                "the registry has no such image".to_owned(),
                "check the name, the tag and the digest",
            ),
            Self::Status(status) if self.passes() => {
                ("registry_unavailable", format!("status {status}"), LATER)
            }
            Self::Status(status) => (
                "registry_refused",
                format!("status {status}"),
                "check the name, and that the host is a registry",
            ),
            Self::Timeout => ("registry_timeout", "no answer in time".to_owned(), LATER),
            Self::TooSlow => (
                "registry_too_slow",
                "the bytes come too slowly".to_owned(),
                "use another network or registry",
            ),
            Self::Broken(why) => ("registry_disconnected", why.clone(), LATER),
            Self::Untrusted(why) => (
                "registry_untrusted",
                why.clone(),
                "check the registry's certificate and this machine's root certificates",
            ),
            Self::TooLarge(limit) => (
                "image_too_large",
                format!("more than {limit} bytes"),
                "check that the name is that of an image",
            ),
            Self::Redirected(to) => (
                "registry_redirect_refused",
                format!("the registry redirects {to}; {MAX_REDIRECTS} redirects at most, to https"),
                ELSEWHERE,
            ),
            Self::Private(to) => (
                "registry_redirect_private",
                format!("the registry sends into a private network: {to}"),
                ELSEWHERE,
            ),
            Self::BadToken(why) => (
                "registry_token_invalid",
                format!("the registry's token is none: {why}"),
                "tell whoever runs the registry",
            ),
            Self::BadRange => (
                "registry_range_invalid",
                "the registry goes on elsewhere than asked".to_owned(),
                "tell whoever runs the registry",
            ),
            Self::Unreachable(why) => (
                "registry_unreachable",
                why.clone(),
                "check the host name and this machine's network",
            ),
        }
    }
}

fn no_roots() -> Fault {
    Fault::new(
        Category::DependencyMissing,
        "trust_roots_missing",
        "this machine has no root certificates",
    )
    .hint("install the root certificates of the system, or set SSL_CERT_FILE")
}
