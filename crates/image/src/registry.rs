//! Images of a registry (OCI distribution spec 1.1, "Pull"), anonymously.
//!
//! The host that the user names may be anywhere. Where that host sends to (a redirect, whoever gives out tokens) has to be
//! the same place, or one that is reached by https at a public address: a registry does not choose what this machine asks
//! of its own network.

mod address;
mod body;
mod challenge;
mod http;

use std::io::Read;
use std::time::Duration;

use ::http::{HeaderMap, StatusCode, header};
use hyper::Response;
use hyper::body::Incoming;
use oci_spec::distribution;
use oci_spec::image::MediaType;
use tokio::runtime::Runtime;
use url::{Position, Url};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::Sha256;

use self::body::Body;
use self::challenge::Challenge;
use self::http::{Failure, Http};
use crate::blob::{Blob, DOCUMENT_TYPES, parse_digest};
use crate::document::MAX_MANIFEST_BYTES;
use crate::refusal::{excerpt, invalid};
use crate::source::{Root, Source};

/// The longest reference, in bytes.
pub const MAX_REFERENCE_BYTES: usize = 512;
/// The most redirects of one request.
pub const MAX_REDIRECTS: usize = 5;
/// The most attempts of one request.
pub const MAX_ATTEMPTS: u32 = 3;
/// The longest token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 16 << 10;
/// The longest answer that holds a token, in bytes.
const MAX_TOKEN_ANSWER_BYTES: u64 = 64 << 10;
/// The first of the delays between attempts, each twice the one before.
const FIRST_DELAY: Duration = Duration::from_millis(200);
/// How long a registry may be silent.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a manifest or a token may take, all of it.
const DEADLINE: Duration = Duration::from_secs(60);

/// The name of an image in a registry: `name`, `host:port/name:tag`, `host/name@sha256:...`. Without a host it is in Docker's
/// registry, without a tag and a digest its tag is `latest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    read: distribution::Reference,
    digest: Option<Sha256>,
}

impl std::str::FromStr for Reference {
    type Err = Fault;

    /// Errors: `invalid_reference`, `unsupported_digest`.
    fn from_str(text: &str) -> Result<Self> {
        let refused = || {
            invalid("invalid_reference", format!("{} names no image", excerpt(text)))
                .hint("write it as name:tag, host:port/name:tag or host/name@sha256:...; a file or a folder has to exist")
        };
        if text.len() > MAX_REFERENCE_BYTES {
            return Err(refused());
        }
        let read: distribution::Reference =
            text.parse().map_err(|error| refused().caused_by(error))?;
        // The library takes it for a host first, and for a repository then, which has none.
        if read
            .repository()
            .bytes()
            .any(|byte| byte.is_ascii_uppercase())
        {
            return Err(refused());
        }
        let digest = read.digest().map(parse_digest).transpose()?;
        Ok(Self { read, digest })
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.read.fmt(f)
    }
}

/// How a registry is spoken to.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether plain http will do. Without this it does on this machine itself alone.
    pub allow_insecure_http: bool,
    /// How long the registry may be silent.
    pub patience: Duration,
    /// How long a manifest or a token may take, all of it.
    pub deadline: Duration,
}

impl Default for Options {
    /// https; 20 s of silence, 60 s for a manifest or a token.
    fn default() -> Self {
        Self {
            allow_insecure_http: false,
            patience: PATIENCE,
            deadline: DEADLINE,
        }
    }
}

/// One image of a registry. Blocks: call it where blocking is allowed.
pub struct Registry {
    reference: Reference,
    /// The address of the repository, which ends in a slash.
    repository: Url,
    runtime: Runtime,
    http: Http,
    token: Option<String>,
}

/// What is asked for.
struct Ask<'a> {
    url: Url,
    accept: &'a str,
    /// From which byte on.
    from: u64,
}

impl Registry {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// `trust_roots_missing`.
    pub fn new(reference: Reference, options: Options) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        Ok(Self {
            repository: repository(&reference, options.allow_insecure_http)?,
            reference,
            runtime: runtime.map_err(|error| {
                Fault::new(Category::InternalFailure, "no_runtime", error.to_string())
            })?,
            http: Http::new(options)?,
            token: None,
        })
    }

    /// The head of an answer.
    fn get(&mut self, path: &str, accept: &str, from: u64) -> Result<Response<Incoming>> {
        let ask = self.ask(path, accept, from)?;
        self.retried(|it| it.attempt(&ask))
    }

    fn ask<'a>(&self, path: &str, accept: &'a str, from: u64) -> Result<Ask<'a>> {
        let url = self.repository.join(path);
        let url = url.map_err(|error| malformed("its address").caused_by(error))?;
        Ok(Ask { url, accept, from })
    }

    /// Works until it works, or fails in a way that does not pass.
    fn retried<T>(&mut self, work: impl Fn(&mut Self) -> Result<T, Failure>) -> Result<T> {
        let mut attempt = 1;
        loop {
            match work(self) {
                Ok(done) => return Ok(done),
                Err(failure) if failure.passes() && attempt < MAX_ATTEMPTS => self.pause(attempt),
                Err(failure) => return Err(failure.fault(&self.reference, attempt)),
            }
            attempt += 1;
        }
    }

    fn attempt(&mut self, ask: &Ask<'_>) -> Result<Response<Incoming>, Failure> {
        let mut url = ask.url.clone();
        let (mut hops, mut asked_for_token) = (0, false);
        loop {
            let response = self.send(&url, ask)?;
            match response.status() {
                StatusCode::OK => return Ok(response),
                StatusCode::PARTIAL_CONTENT if ask.from > 0 => return Ok(response),
                StatusCode::UNAUTHORIZED if self.is_own(&url) && !asked_for_token => {
                    asked_for_token = true;
                    self.token = Some(self.fetch_token(response.headers())?);
                }
                status if status.is_redirection() && hops < MAX_REDIRECTS => {
                    hops += 1;
                    url = self.follow(&url, response.headers())?;
                }
                status if status.is_redirection() => {
                    return Err(Failure::Redirected("too often".to_owned()));
                }
                status => return Err(Failure::Status(status.as_u16())),
            }
        }
    }

    fn send(&self, url: &Url, ask: &Ask<'_>) -> Result<Response<Incoming>, Failure> {
        let (own, token) = (self.is_own(url), self.token_for(url));
        self.runtime
            .block_on(self.http.get(url, own, token, ask.accept, ask.from))
    }

    /// The token is shown to the place that it is for, and not to where that sends.
    fn token_for(&self, url: &Url) -> Option<&str> {
        self.token.as_deref().filter(|_| self.is_own(url))
    }

    /// Whether this is the place that the user named.
    fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.repository.origin()
    }

    /// Where a redirect leads, if that may be asked.
    fn follow(&self, from: &Url, headers: &HeaderMap) -> Result<Url, Failure> {
        let location = headers
            .get(header::LOCATION)
            .and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(|| Failure::Redirected("to nowhere".to_owned()))?;
        let url = from
            .join(location)
            .map_err(|error| Failure::Redirected(error.to_string()))?;
        self.check_foreign(url)
    }

    fn check_foreign(&self, url: Url) -> Result<Url, Failure> {
        let shown = shown(&url);
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Failure::Redirected(format!(
                "to {shown}, which holds a name or a password"
            )));
        }
        if self.is_own(&url) {
            return Ok(url);
        }
        if url.scheme() != "https" {
            return Err(Failure::Redirected(format!(
                "to {shown}, which is not https"
            )));
        }
        match address::is_literal_private(&url) {
            true => Err(Failure::Private(shown)),
            false => Ok(url),
        }
    }

    /// Asks for a token for pulling, as nobody in particular (distribution spec, "Token Authentication").
    fn fetch_token(&self, headers: &HeaderMap) -> Result<String, Failure> {
        let challenge =
            Challenge::find(headers).ok_or(Failure::Status(StatusCode::UNAUTHORIZED.as_u16()))?;
        let scope = format!("repository:{}:pull", self.reference.read.repository());
        let mut url =
            Url::parse(&challenge.realm).map_err(|_| Failure::BadToken("its address is none"))?;
        let mut query = url.query_pairs_mut();
        query.append_pair("scope", challenge.scope.as_deref().unwrap_or(&scope));
        if let Some(service) = &challenge.service {
            query.append_pair("service", service);
        }
        drop(query);
        let url = self.check_foreign(url)?;
        let answer = self.runtime.block_on(async {
            let response = self
                .http
                .get(&url, self.is_own(&url), None, "application/json", 0)
                .await?;
            match response.status() {
                StatusCode::OK => {
                    self.http
                        .bytes(response.into_body(), MAX_TOKEN_ANSWER_BYTES)
                        .await
                }
                status => Err(Failure::Status(status.as_u16())),
            }
        })?;
        challenge::token(&answer)
    }

    /// The wait after the `attempt`th try: it grows, and is the same each time.
    fn pause(&self, attempt: u32) {
        let delay = FIRST_DELAY.saturating_mul(1 << attempt.saturating_sub(1).min(MAX_ATTEMPTS));
        self.runtime
            .block_on(async { tokio::time::sleep(delay).await });
    }
}

impl Source for Registry {
    fn root(&mut self) -> Result<Root> {
        let digest = self.reference.digest;
        let tag = self.reference.read.tag().map(str::to_owned);
        let name = digest.map(|digest| format!("sha256:{digest}")).or(tag);
        let name = name.ok_or_else(|| malformed("neither a tag nor a digest"))?;
        let accept = DOCUMENT_TYPES.join(", ");
        let ask = self.ask(&format!("manifests/{name}"), &accept, 0)?;
        let (media_type, bytes) = self.retried(|it| {
            let response = it.attempt(&ask)?;
            let media_type = media_type(response.headers());
            let bytes = it.http.bytes(response.into_body(), MAX_MANIFEST_BYTES);
            Ok((media_type, it.runtime.block_on(bytes)?))
        })?;
        Ok(Root {
            bytes,
            media_type,
            is_list: false,
            digest,
        })
    }

    fn document(&mut self, blob: &Blob) -> Result<Box<dyn Read + '_>> {
        let path = format!("manifests/{blob}");
        Ok(Box::new(Body::open(
            self,
            path,
            DOCUMENT_TYPES.join(", "),
            blob.size(),
        )?))
    }

    fn blob(&mut self, blob: &Blob) -> Result<Box<dyn Read + '_>> {
        let path = format!("blobs/{blob}");
        Ok(Box::new(Body::open(
            self,
            path,
            "*/*".to_owned(),
            blob.size(),
        )?))
    }
}

/// What the registry says of a manifest. Some say that everything is text.
fn media_type(headers: &HeaderMap) -> Option<MediaType> {
    let told = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let told = told.split(';').next().unwrap_or_default().trim();
    let is_telling = told.starts_with("application/vnd.");
    is_telling.then(|| MediaType::from(told))
}

fn repository(reference: &Reference, allow_insecure_http: bool) -> Result<Url> {
    let host = match reference.read.registry() {
        "docker.io" => "registry-1.docker.io",
        host => host,
    };
    let scheme = match allow_insecure_http || address::is_this_machine(host) {
        true => "http",
        false => "https",
    };
    let url = format!("{scheme}://{host}/v2/{}/", reference.read.repository());
    url.parse()
        .map_err(|error: url::ParseError| malformed("its host").caused_by(error))
}

/// An address without what is not for everybody: the name and password in it, and the query, which may be signed.
fn shown(url: &Url) -> String {
    let place = &url[Position::BeforeHost..Position::AfterPath];
    excerpt(&format!("{}://{place}", url.scheme()))
}

fn malformed(what: &str) -> Fault {
    invalid(
        "invalid_reference",
        format!("the reference names no image: {what}"),
    )
    .hint("write it as host:port/name:tag")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_to_the_place_that_it_is_for_alone() {
        let reference = "registry.example:5000/a/b".parse().unwrap();
        let mut registry = Registry::new(reference, Options::default()).unwrap();
        registry.token = Some("secret".to_owned());
        let shown = |url: &str| registry.token_for(&url.parse().unwrap()).is_some();
        assert!(shown("https://registry.example:5000/v2/a/b/blobs/x"));
        for other in [
            "http://registry.example:5000/v2/a/b/blobs/x",
            "https://registry.example/v2/a/b/blobs/x",
            "https://registry.example:5001/v2/a/b/blobs/x",
            "https://registry.example.evil:5000/v2/a/b/blobs/x",
            "https://storage.example/x",
        ] {
            assert!(!shown(other), "{other}");
        }
    }
}
