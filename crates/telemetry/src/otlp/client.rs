//! The HTTP client of the exporters. They run on threads of their own, without a runtime; this brings one.

use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use hyper_rustls::HttpsConnectorBuilder;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::runtime::{Builder, Handle, Runtime};
use tracing::subscriber::NoSubscriber;
use worldcompute_fault::{Category, Fault, Result};

/// A runtime that may be dropped anywhere, also inside another one: it never waits for its tasks.
#[derive(Debug)]
pub(super) struct Background(Option<Runtime>);

impl Background {
    /// One thread, which itself is never observed, so that export causes no export.
    pub(super) fn start() -> Result<Self> {
        let unobserved = || {
            let _for_good =
                ManuallyDrop::new(tracing::subscriber::set_default(NoSubscriber::new()));
        };
        let builder = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("otlp")
            .on_thread_start(unobserved)
            .enable_all()
            .build();
        let runtime = builder
            .map_err(|error| Fault::io("start a thread for the export of telemetry", &error))?;
        Ok(Self(Some(runtime)))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Sends the exporters' requests to one collector. Says once when it stops taking them, and once when it takes them again.
#[derive(Clone)]
pub(super) struct Client(Arc<Inner>);

struct Inner {
    runtime: Handle,
    http: Arc<dyn HttpClient>,
    failing: AtomicBool,
}

impl Client {
    /// A client for an `http` or `https` base URL. Only TLS needs trusted roots, which are those of the system.
    pub(super) fn new(base: &str, timeout: Duration, background: &Background) -> Result<Self> {
        let runtime = background
            .0
            .as_ref()
            .map(|runtime| runtime.handle().clone());
        let runtime = runtime.ok_or_else(|| {
            Fault::new(
                Category::InternalFailure,
                "telemetry_stopped",
                "the export has been stopped",
            )
        })?;
        let http: Arc<dyn HttpClient> = match base.starts_with("https:") {
            true => Arc::new(HyperClient::new(tls()?, timeout, None)),
            false => Arc::new(HyperClient::with_default_connector(timeout, None)),
        };
        Ok(Self(Arc::new(Inner {
            runtime,
            http,
            failing: AtomicBool::new(false),
        })))
    }

    fn tell(&self, failure: Option<String>) {
        let was_failing = self.0.failing.swap(failure.is_some(), Ordering::Relaxed);
        match failure {
            Some(error) if !was_failing => {
                tracing::warn!(error, "the OTLP collector takes no telemetry")
            }
            None if was_failing => tracing::info!("the OTLP collector takes telemetry again"),
            _ => {}
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = Arc::clone(&self.0.http);
        let sent = self
            .0
            .runtime
            .spawn(async move { http.send_bytes(request).await })
            .await;
        let answer = sent.map_err(HttpError::from).and_then(|answer| answer);
        self.tell(match &answer {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("it answers {}", response.status())),
            Err(error) => Some(chain(error.as_ref())),
        });
        answer
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

type TlsConnector =
    hyper_rustls::HttpsConnector<hyper_util::client::legacy::connect::HttpConnector>;

fn tls() -> Result<TlsConnector> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let with_roots = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider).map_err(|error| {
        Fault::new(Category::DependencyMissing, "trusted_roots_missing", "no trusted certificates for an https collector")
            .caused_by(error)
            .hint("install the system's CA certificates, or export to a collector on this machine over http")
    })?;
    Ok(with_roots.https_only().enable_http1().build())
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
