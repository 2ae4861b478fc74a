//! The control API: REST over the home's Unix-domain socket. File permissions are its authentication: whoever may open the
//! socket owns the home.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use futures::{Stream, StreamExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use worldcompute_fault::{Category, Fault, Result, WcCode};
use worldcompute_image::{Inspection, Listed, Removed};
use worldcompute_proof::PeerId;
use worldcompute_telemetry::{CorrelationId, with_correlation};

use super::socket;
use super::types::{
    Ban, BanRequest, ContentAdded, ImageEvent, JobPage, JobView, SubmitRequest, Submitted,
};
use crate::daemon::Node;
use crate::donor::LEAVE_PATIENCE;
use crate::images::ImageRequest;

/// The largest JSON body that is taken, in bytes: above the largest signed manifest in base64.
pub const MAX_JSON_BYTES: usize = 4 << 20;

/// The largest object that is taken into the content store, in bytes.
pub const MAX_CONTENT_BYTES: usize = 256 << 20;

/// The content type of every refusal (RFC 7807).
const PROBLEM: &str = "application/problem+json";

/// The longest refusal in plain text that is put into a problem, in bytes.
const MAX_REFUSAL_BYTES: usize = 16 << 10;

/// Header that carries the caller's correlation id.
pub const CORRELATION_HEADER: &str = "x-correlation-id";

/// How many lines about an import wait for their reader.
const IMAGE_EVENTS: usize = 16;

/// How long a node that ends waits for clients that are still being answered.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

/// A control socket that is open, so that whoever knows of the node can reach it.
pub struct Control {
    listener: UnixListener,
    file: SocketFile,
}

/// The socket's file, which goes with the socket, however that ends. Only a node that holds its home's lock has one.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // One that cannot be removed leads nowhere, and the next daemon replaces it.
        drop(std::fs::remove_file(&self.0));
    }
}

impl Control {
    /// Listens at `path`.
    ///
    /// # Errors
    /// `control_socket_unusable`.
    pub fn bind(path: PathBuf) -> Result<Self> {
        Ok(Self {
            listener: socket::bind(&path)?,
            file: SocketFile(path),
        })
    }

    /// Serves `node` until `stop`; the socket's file is removed afterwards. A client that neither finishes its request nor
    /// reads its answer does not hold up the end.
    pub async fn serve(self, node: Node, stop: CancellationToken) -> Result<()> {
        let Self { listener, file } = self;
        let over = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_ANSWERS).await;
        };
        let served = axum::serve(listener, router(node))
            .with_graceful_shutdown(stop.clone().cancelled_owned())
            .into_future();
        let served = tokio::select! {
            served = served => served,
            () = over => Ok(()),
        };
        drop(file);
        served.map_err(|error| Fault::io("serve the control socket", &error))
    }
}

fn router(node: Node) -> Router {
    Router::new()
        .route("/v1/health", get(health))
        .route("/v1/admin/status", get(admin_status))
        .route("/v1/admin/bans", post(ban))
        .route("/v1/admin/bans/{id}", delete(unban))
        .route("/v1/donor/status", get(donor_status))
        .route("/v1/donor/pause", post(donor_pause))
        .route("/v1/donor/resume", post(donor_resume))
        .route("/v1/donor/leave", post(donor_leave))
        .route("/v1/cluster/status", get(cluster_status))
        .route("/v1/cluster/peers", get(cluster_peers))
        .route("/v1/jobs", get(jobs).post(submit))
        .route("/v1/jobs/{id}", get(job).delete(cancel))
        .route("/v1/jobs/{id}/events", get(events))
        .route("/v1/jobs/{id}/result/{task}/{name}", get(result))
        .route("/v1/images", get(images).post(import_image))
        .route("/v1/images/{name}", get(inspect_image).delete(remove_image))
        .route("/v1/shutdown", post(shutdown))
        .layer(DefaultBodyLimit::max(MAX_JSON_BYTES))
        .route(
            "/v1/content",
            post(add_content).layer(DefaultBodyLimit::max(MAX_CONTENT_BYTES)),
        )
        .fallback(no_such_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(explained))
        .layer(middleware::from_fn(correlated))
        .with_state(node)
}

type Answer<T> = std::result::Result<Json<T>, Refusal>;

async fn health(State(node): State<Node>) -> Answer<impl Serialize> {
    Ok(Json(node.health()))
}

async fn admin_status(State(node): State<Node>) -> Answer<impl Serialize> {
    Ok(Json(node.admin_status().await?))
}

async fn ban(State(node): State<Node>, body: Bytes) -> Answer<Ban> {
    let BanRequest { subject_id, reason } = parse(&body)?;
    Ok(Json(node.bans().add(subject_id, reason).await?))
}

async fn unban(State(node): State<Node>, Path(id): Path<PeerId>) -> Answer<Ban> {
    Ok(Json(node.bans().remove(&id).await?))
}

async fn donor_status(State(node): State<Node>) -> Answer<impl Serialize> {
    Ok(Json(node.donor()?.status()))
}

async fn donor_pause(State(node): State<Node>) -> Answer<impl Serialize> {
    node.donor()?.set_paused(true).await;
    Ok(Json(node.donor()?.status()))
}

async fn donor_resume(State(node): State<Node>) -> Answer<impl Serialize> {
    node.donor()?.set_paused(false).await;
    Ok(Json(node.donor()?.status()))
}

async fn donor_leave(State(node): State<Node>) -> Answer<impl Serialize> {
    node.donor()?.leave(LEAVE_PATIENCE).await;
    let last = node.donor()?.status();
    node.request_stop();
    Ok(Json(last))
}

async fn cluster_status(State(node): State<Node>) -> Answer<impl Serialize> {
    Ok(Json(node.cluster_status().await?))
}

async fn cluster_peers(State(node): State<Node>) -> Answer<impl Serialize> {
    Ok(Json(node.cluster_peers().await?))
}

async fn add_content(State(node): State<Node>, body: Bytes) -> Answer<ContentAdded> {
    Ok(Json(ContentAdded {
        cid: node.add_content(body).await?,
    }))
}

#[derive(Deserialize)]
struct SubmitQuery {
    patience_ms: Option<u64>,
}

async fn submit(
    State(node): State<Node>,
    Query(query): Query<SubmitQuery>,
    body: Bytes,
) -> std::result::Result<(StatusCode, Json<Submitted>), Refusal> {
    let request: SubmitRequest = parse(&body)?;
    let patience = query.patience_ms.map(Duration::from_millis);
    let submitted = node.submitter().submit(request, patience).await?;
    Ok((StatusCode::ACCEPTED, Json(submitted)))
}

async fn jobs(State(node): State<Node>, Query(page): Query<JobPage>) -> Answer<Vec<JobView>> {
    Ok(Json(node.submitter().list(&page).await?))
}

async fn job(State(node): State<Node>, Path(id): Path<String>) -> Answer<JobView> {
    Ok(Json(node.submitter().view(&id).await?))
}

#[derive(Deserialize)]
struct CancelQuery {
    reason: Option<String>,
}

async fn cancel(
    State(node): State<Node>,
    Path(id): Path<String>,
    Query(query): Query<CancelQuery>,
) -> Answer<JobView> {
    let reason = query
        .reason
        .unwrap_or_else(|| "cancelled by the submitter".to_owned());
    Ok(Json(node.submitter().cancel(&id, reason).await?))
}

async fn events(
    State(node): State<Node>,
    Path(id): Path<String>,
) -> std::result::Result<Response, Refusal> {
    Ok(lines(node.submitter().watch(&id).await?))
}

/// Events as they come, a line each.
fn lines<T: Serialize>(events: impl Stream<Item = T> + Send + 'static) -> Response {
    let lines = events.map(|event| {
        let mut line = serde_json::to_vec(&event).unwrap_or_default();
        line.push(b'\n');
        Ok::<_, Infallible>(line)
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (kind, Body::from_stream(lines)).into_response()
}

async fn result(
    State(node): State<Node>,
    Path((id, task, name)): Path<(String, u32, String)>,
) -> std::result::Result<Response, Refusal> {
    let bytes = node.submitter().result(&id, task, &name).await?;
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((kind, bytes).into_response())
}

async fn images(State(node): State<Node>) -> Answer<Vec<Listed>> {
    Ok(Json(node.images().list()))
}

/// Goes on for as long as somebody reads how far it is.
async fn import_image(
    State(node): State<Node>,
    body: Bytes,
) -> std::result::Result<Response, Refusal> {
    let request: ImageRequest = parse(&body)?;
    let (sender, receiver) = mpsc::channel(IMAGE_EVENTS);
    tokio::spawn(async move {
        let told = sender.clone();
        let tell = move |progress| match told.try_send(ImageEvent::Progress(progress)) {
            Err(mpsc::error::TrySendError::Closed(_)) => Err(left()),
            // Who reads slowly is told of the next step.
            _ => Ok(()),
        };
        let last = match node.images().import(request, tell).await {
            Ok(listed) => ImageEvent::Imported(listed),
            Err(fault) => ImageEvent::Failed(fault.problem("")),
        };
        // Nobody may be left to tell.
        drop(sender.send(last).await);
    });
    Ok(lines(ReceiverStream::new(receiver)))
}

async fn inspect_image(State(node): State<Node>, Path(name): Path<String>) -> Answer<Inspection> {
    Ok(Json(node.images().inspect(name).await?))
}

async fn remove_image(State(node): State<Node>, Path(name): Path<String>) -> Answer<Removed> {
    Ok(Json(node.images().remove(name).await?))
}

fn left() -> Fault {
    Fault::new(
        Category::InternalFailure,
        "interrupted",
        "nobody waits for the image any more",
    )
    .hint("run it again")
}

async fn shutdown(State(node): State<Node>) -> Answer<impl Serialize> {
    node.request_stop();
    Ok(Json(node.health()))
}

async fn no_such_route(uri: Uri) -> Refusal {
    Fault::wc(
        WcCode::NotFound,
        format!("no such resource: {}", uri.path()),
    )
    .into()
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let fault = Fault::new(
        Category::InvalidInput,
        "method_not_allowed",
        format!("{method} is not for {}", uri.path()),
    );
    problem(StatusCode::METHOD_NOT_ALLOWED, &fault)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        Fault::new(
            Category::InvalidInput,
            "invalid_request",
            format!("request body: {error}"),
        )
    })
}

/// Every record made while a request is served carries its correlation id, and so does the answer.
async fn correlated(request: Request, next: Next) -> Response {
    let id = correlation_of(request.headers());
    let mut response = with_correlation(id, next.run(request)).await;
    if let Ok(value) = id.to_string().parse() {
        response.headers_mut().insert(CORRELATION_HEADER, value);
    }
    response
}

/// A query, a path or a body that cannot be read is refused before any handler sees it, in plain text. Clients get a problem,
/// as for every other refusal.
async fn explained(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    if !status.is_client_error() || kind.is_some_and(|kind| kind == PROBLEM) {
        return response;
    }
    let words = axum::body::to_bytes(response.into_body(), MAX_REFUSAL_BYTES).await;
    let words = words.map_or_else(
        |_| status.to_string(),
        |words| String::from_utf8_lossy(&words).into_owned(),
    );
    problem(
        status,
        &Fault::new(Category::InvalidInput, "invalid_request", words),
    )
}

fn correlation_of(headers: &HeaderMap) -> CorrelationId {
    let given = headers
        .get(CORRELATION_HEADER)
        .and_then(|value| value.to_str().ok());
    given
        .and_then(|text| CorrelationId::parse(text).ok())
        .unwrap_or_else(CorrelationId::random)
}

/// A fault on its way out as problem+json.
struct Refusal(Fault);

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        problem(status, &self.0)
    }
}

fn problem(status: StatusCode, fault: &Fault) -> Response {
    let kind = [(header::CONTENT_TYPE, PROBLEM)];
    let mut problem = fault.problem("");
    problem.status = status.as_u16();
    (status, kind, Json(problem)).into_response()
}
