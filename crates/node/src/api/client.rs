//! A client of the control socket: the command line's only way to a daemon.

use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::task::AbortOnDropHandle;
use worldcompute_fault::{Category, Fault, Problem, Result};
use worldcompute_image::{Inspection, Listed, Progress, Removed};
use worldcompute_proof::{Cid, PeerId};
use worldcompute_telemetry::CorrelationId;

use super::server::CORRELATION_HEADER;
use super::socket;
use super::types::{
    AdminStatus, Ban, BanRequest, ClusterStatus, ContentAdded, DonorStatus, Health, ImageEvent,
    JobEvent, JobPage, JobView, Peer, SubmitRequest, Submitted,
};
use crate::images::ImageRequest;

/// The largest reply that is read, in bytes: above the largest single result.
const MAX_REPLY_BYTES: usize = 300 << 20;

/// The longest line of an event stream, in bytes.
const MAX_EVENT_BYTES: usize = 1 << 20;

/// Speaks to the daemon of one home. Each request opens its own connection.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon behind `socket`; nothing is connected yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// The socket's path.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `GET /v1/health`.
    pub async fn health(&self) -> Result<Health> {
        self.get("/v1/health").await
    }

    /// `GET /v1/admin/status`.
    pub async fn admin_status(&self) -> Result<AdminStatus> {
        self.get("/v1/admin/status").await
    }

    /// `POST /v1/admin/bans`.
    pub async fn ban(&self, request: &BanRequest) -> Result<Ban> {
        self.call(Method::POST, "/v1/admin/bans", encode(request)?)
            .await
    }

    /// `DELETE /v1/admin/bans/{subject_id}`.
    pub async fn unban(&self, peer: &PeerId) -> Result<Ban> {
        let path = format!("/v1/admin/bans/{}", segment(&peer.to_string())?);
        self.call(Method::DELETE, &path, Bytes::new()).await
    }

    /// `GET /v1/donor/status`.
    pub async fn donor_status(&self) -> Result<DonorStatus> {
        self.get("/v1/donor/status").await
    }

    /// `POST /v1/donor/{pause,resume,leave}`.
    pub async fn donor_action(&self, action: &str) -> Result<DonorStatus> {
        self.call(Method::POST, &format!("/v1/donor/{action}"), Bytes::new())
            .await
    }

    /// `GET /v1/cluster/status`.
    pub async fn cluster_status(&self) -> Result<ClusterStatus> {
        self.get("/v1/cluster/status").await
    }

    /// `GET /v1/cluster/peers`.
    pub async fn cluster_peers(&self) -> Result<Vec<Peer>> {
        self.get("/v1/cluster/peers").await
    }

    /// `POST /v1/content`: hands bytes to the daemon's content store.
    pub async fn add_content(&self, bytes: Vec<u8>) -> Result<Cid> {
        let added: ContentAdded = self
            .call(Method::POST, "/v1/content", Bytes::from(bytes))
            .await?;
        Ok(added.cid)
    }

    /// `POST /v1/jobs`. With patience, the job fails with WC-004 once no donor could take it for so long.
    pub async fn submit(
        &self,
        request: &SubmitRequest,
        patience: Option<Duration>,
    ) -> Result<Submitted> {
        let query = patience.map(|patience| format!("?patience_ms={}", patience.as_millis()));
        let path = format!("/v1/jobs{}", query.unwrap_or_default());
        self.call(Method::POST, &path, encode(request)?).await
    }

    /// `GET /v1/jobs`: a page of the jobs, oldest first.
    pub async fn jobs(&self, page: &JobPage) -> Result<Vec<JobView>> {
        let limit = page.limit.map(|limit| format!("limit={limit}"));
        let before = page.before.as_deref().map(segment).transpose()?;
        let before = before.map(|id| format!("before={id}"));
        let query: Vec<_> = limit.into_iter().chain(before).collect();
        self.get(&format!("/v1/jobs?{}", query.join("&"))).await
    }

    /// `GET /v1/jobs/{id}`.
    pub async fn job(&self, id: &str) -> Result<JobView> {
        self.get(&format!("/v1/jobs/{}", segment(id)?)).await
    }

    /// `DELETE /v1/jobs/{id}`.
    pub async fn cancel(&self, id: &str) -> Result<JobView> {
        self.call(
            Method::DELETE,
            &format!("/v1/jobs/{}", segment(id)?),
            Bytes::new(),
        )
        .await
    }

    /// `GET /v1/jobs/{id}/result/{task}/{name}`: the bytes of one output of one task.
    pub async fn result(&self, id: &str, task: u32, name: &str) -> Result<Bytes> {
        let path = format!("/v1/jobs/{}/result/{task}/{}", segment(id)?, segment(name)?);
        read(self.send(Method::GET, &path, Bytes::new()).await?).await
    }

    /// `GET /v1/jobs/{id}/events`: what happens to the job, until it ends.
    pub async fn events(&self, id: &str) -> Result<Events<JobEvent>> {
        let path = format!("/v1/jobs/{}/events", segment(id)?);
        self.stream(Method::GET, &path, Bytes::new()).await
    }

    /// `GET /v1/images`.
    pub async fn images(&self) -> Result<Vec<Listed>> {
        self.get("/v1/images").await
    }

    /// `POST /v1/images`: imports an image; `progress` is told how far it is. It ends when this is dropped.
    pub async fn import_image(
        &self,
        request: &ImageRequest,
        progress: impl Fn(Progress),
    ) -> Result<Listed> {
        let mut events = self
            .stream(Method::POST, "/v1/images", encode(request)?)
            .await?;
        while let Some(event) = events.next().await? {
            match event {
                ImageEvent::Progress(step) => progress(step),
                ImageEvent::Imported(listed) => return Ok(listed),
                ImageEvent::Failed(problem) => return Err(Fault::from_problem(problem)),
            }
        }
        Err(broken(&"the daemon did not say what came of it"))
    }

    /// `GET /v1/images/{name}`.
    pub async fn inspect_image(&self, name: &str) -> Result<Inspection> {
        self.get(&format!("/v1/images/{}", escaped(name))).await
    }

    /// `DELETE /v1/images/{name}`.
    pub async fn remove_image(&self, name: &str) -> Result<Removed> {
        let path = format!("/v1/images/{}", escaped(name));
        self.call(Method::DELETE, &path, Bytes::new()).await
    }

    /// `POST /v1/shutdown`: asks the daemon to end gracefully.
    pub async fn shutdown(&self) -> Result<Health> {
        self.call(Method::POST, "/v1/shutdown", Bytes::new()).await
    }

    async fn stream<T>(&self, method: Method, path: &str, body: Bytes) -> Result<Events<T>> {
        Ok(Events {
            reply: self.send(method, path, body).await?,
            buffer: Vec::new(),
            event: PhantomData,
        })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T> {
        let bytes = read(self.send(method, path, body).await?).await?;
        serde_json::from_slice(&bytes).map_err(|error| broken(&error))
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Reply> {
        let stream = socket::connect(&self.socket).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(&error))?;
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "control connection ended");
            }
        }));
        let correlation = worldcompute_telemetry::current().unwrap_or_else(CorrelationId::random);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, "localhost")
            .header(CORRELATION_HEADER, correlation.to_string())
            .body(Full::new(body))
            .map_err(|error| broken(&error))?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| broken(&error))?;
        Reply {
            response,
            _connection: connection,
        }
        .checked()
        .await
    }
}

/// The events of one job, or of another thing that takes its time, in order.
pub struct Events<T> {
    reply: Reply,
    buffer: Vec<u8>,
    event: PhantomData<T>,
}

impl<T: DeserializeOwned> Events<T> {
    /// The next event; `None` when there will be no more.
    ///
    /// # Errors
    /// `control_connection_lost` when the daemon went away.
    pub async fn next(&mut self) -> Result<Option<T>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|error| broken(&error));
            }
            match self.reply.response.body_mut().frame().await {
                Some(frame) => {
                    if let Ok(data) = frame.map_err(|error| broken(&error))?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(broken(&"the daemon closed the stream in mid-line")),
            }
            if self.buffer.len() > MAX_EVENT_BYTES {
                return Err(broken(&"an event is too long"));
            }
        }
    }
}

/// A response, and the connection that feeds it.
struct Reply {
    response: Response<Incoming>,
    _connection: AbortOnDropHandle<()>,
}

impl Reply {
    async fn checked(self) -> Result<Self> {
        let status = self.response.status();
        if status.is_success() {
            return Ok(self);
        }
        let body = read(self).await?;
        Err(serde_json::from_slice::<Problem>(&body)
            .map_or_else(|_| unexplained(status), Fault::from_problem))
    }
}

async fn read(reply: Reply) -> Result<Bytes> {
    let body = Limited::new(reply.response.into_body(), MAX_REPLY_BYTES);
    let collected = body.collect().await.map_err(|error| broken(&error))?;
    Ok(collected.to_bytes())
}

fn encode(value: &impl Serialize) -> Result<Bytes> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| broken(&error))
}

/// A name as one segment of a path, whatever it holds (RFC 3986, 2.1).
fn escaped(name: &str) -> String {
    let escape = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    name.bytes().map(escape).collect()
}

/// Refuses what would change the meaning of a path.
fn segment(text: &str) -> Result<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !text.is_empty() && text.len() <= 255 && !text.starts_with('.') && text.chars().all(plain) {
        return Ok(text);
    }
    Err(Fault::new(
        Category::InvalidInput,
        "invalid_name",
        format!("{text:?} is not an id or a name"),
    )
    .hint("take the id as 'worldcompute job list' prints it"))
}

fn unexplained(status: StatusCode) -> Fault {
    Fault::new(
        Category::InternalFailure,
        "control_reply_invalid",
        format!("the daemon answered {status} without a reason"),
    )
}

fn broken(error: &impl std::fmt::Display) -> Fault {
    Fault::new(
        Category::NetworkTransient,
        "control_connection_lost",
        format!("the daemon's reply broke off: {error}"),
    )
    .hint("check that the daemon still runs with 'worldcompute admin status', then retry")
}
