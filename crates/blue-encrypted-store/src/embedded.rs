//! The embedded engine behind the SDK's HTTP connector: requests are answered in this process, without a port.
//!
//! The SDK serialises, signs and retries as it does against a server; what differs is who reads the request.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use dynoxide::{Database, DynoxideError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use worldcompute_durable::{LockOptions, Mode, OwnedLock, create_new, private_dir, read_private};
use worldcompute_fault::{Category, Fault, Result};

const CONTENT_TYPE: &str = "application/x-amz-json-1.0";
const TARGET_PREFIX: &str = "DynamoDB_20120810.";

/// A DynamoDB table in a SQLite file or in memory, owned by this process.
#[derive(Clone)]
pub(crate) struct Engine(Arc<Inner>);

struct Inner {
    database: Database,
    /// Released after the database is closed.
    _lock: Option<OwnedLock>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Engine")
    }
}

impl Engine {
    /// An engine that forgets everything when its last handle is dropped.
    pub(crate) fn memory() -> Result<Self> {
        let database = Database::memory().map_err(|error| engine_fault(&error))?;
        Ok(Self(Arc::new(Inner {
            database,
            _lock: None,
        })))
    }

    /// The engine on the file at `path`, created with mode 0600 in a directory of mode 0700 when missing.
    ///
    /// # Errors
    /// `state_contention` when another process has it, `insecure_permissions`, `store_corrupt`.
    pub(crate) fn file(path: &Path) -> Result<Self> {
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent.filter(|parent| !parent.exists()) {
            private_dir(parent)?;
        }
        let lock = OwnedLock::acquire(&beside(path, "lock"), LockOptions::default())?;
        match create_new(path, &[], Mode::Private) {
            Err(fault) if fault.code() == "already_exists" => check_private(path)?,
            created => created?,
        }
        let database = Database::new(name_of(path)?.as_str())
            .map_err(|error| engine_fault(&error).hint(corrupt_hint(path)))?;
        Ok(Self(Arc::new(Inner {
            database,
            _lock: Some(lock),
        })))
    }

    #[cfg(test)]
    pub(crate) fn database(&self) -> &Database {
        &self.0.database
    }

    fn answer(&self, request: &Request) -> Result<HttpResponse, ConnectorError> {
        match dispatch(&self.0.database, request) {
            Ok(body) => response(200, body),
            Err(error) => match fatal(&error) {
                Some(fault) => Err(ConnectorError::user(fault.into())),
                None => response(error.status_code(), error.to_json().into_bytes()),
            },
        }
    }
}

/// The path as SQLite takes it: absolute, because it has another meaning for names such as `:memory:` and `file:..`.
fn name_of(path: &Path) -> Result<String> {
    let name = std::path::absolute(path)
        .map_err(|error| Fault::io(format_args!("find {}", path.display()), &error))?;
    name.into_os_string().into_string().map_err(|_| {
        let message = format!("the path {} is not UTF-8", path.display());
        Fault::new(Category::InvalidInput, "invalid_path", message)
            .hint("choose a path of UTF-8 characters")
    })
}

/// The path of a file that belongs to the store at `path`.
pub(crate) fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

/// The file must be this user's alone: who can write it can destroy it. Reading none of it checks just that.
fn check_private(path: &Path) -> Result<()> {
    match read_private(path, 0) {
        Err(fault) if fault.code() == "file_too_large" => Ok(()),
        checked => checked.map(drop),
    }
}

impl HttpClient for Engine {
    fn http_connector(
        &self,
        _settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Engine {
    /// SQLite blocks, so it runs where blocking is allowed.
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let engine = self.clone();
        HttpConnectorFuture::new(async move {
            let request = Request::read(&request)?;
            tokio::task::spawn_blocking(move || engine.answer(&request))
                .await
                .map_err(|error| ConnectorError::user(panicked(&error).into()))?
        })
    }
}

struct Request {
    operation: String,
    body: Vec<u8>,
}

impl Request {
    fn read(request: &HttpRequest) -> Result<Self, ConnectorError> {
        let refuse = |what: &str| ConnectorError::user(what.to_owned().into());
        let target = request.headers().get("x-amz-target");
        let operation = target
            .and_then(|target| target.strip_prefix(TARGET_PREFIX))
            .ok_or_else(|| refuse("the request names no operation"))?;
        let body = request
            .body()
            .bytes()
            .ok_or_else(|| refuse("the request's body is a stream"))?;
        Ok(Self {
            operation: operation.to_owned(),
            body: body.to_vec(),
        })
    }
}

fn response(status: u16, body: Vec<u8>) -> Result<HttpResponse, ConnectorError> {
    let status =
        StatusCode::try_from(status).map_err(|error| ConnectorError::user(error.into()))?;
    let mut response = HttpResponse::new(status, SdkBody::from(body));
    response.headers_mut().insert("content-type", CONTENT_TYPE);
    Ok(response)
}

/// The operations that this crate sends.
fn dispatch(database: &Database, request: &Request) -> dynoxide::Result<Vec<u8>> {
    let body = request.body.as_slice();
    match request.operation.as_str() {
        "CreateTable" => run(body, |request| database.create_table(request)),
        "DescribeTable" => run(body, |request| database.describe_table(request)),
        "PutItem" => run(body, |request| database.put_item(request)),
        "GetItem" => run(body, |request| database.get_item(request)),
        "Query" => run(body, |request| database.query(request)),
        "Scan" => run(body, |request| database.scan(request)),
        "TransactWriteItems" => run(body, |request| transact(database, request)),
        other => {
            let message = format!("the embedded engine is not asked for {other}");
            Err(DynoxideError::ValidationException(message))
        }
    }
}

/// In this process an answer is never lost on its way, so a request is never repeated after it took effect, and the
/// engine need not remember its idempotency token for ten minutes.
fn transact(
    database: &Database,
    mut request: dynoxide::actions::transact_write_items::TransactWriteItemsRequest,
) -> dynoxide::Result<dynoxide::actions::transact_write_items::TransactWriteItemsResponse> {
    request.client_request_token = None;
    database.transact_write_items(request)
}

fn run<Q: DeserializeOwned, A: Serialize>(
    body: &[u8],
    operation: impl FnOnce(Q) -> dynoxide::Result<A>,
) -> dynoxide::Result<Vec<u8>> {
    let refuse =
        |error: serde_json::Error| DynoxideError::SerializationException(error.to_string());
    let answer = operation(serde_json::from_slice(body).map_err(refuse)?)?;
    serde_json::to_vec(&answer).map_err(refuse)
}

/// Failures of the file itself, which no retry of the SDK mends. SQLite's own words are all that the engine passes on.
fn fatal(error: &DynoxideError) -> Option<Fault> {
    if error.status_code() < 500 {
        return None;
    }
    let words = error.to_string();
    let has = |needle: &str| words.contains(needle);
    let (category, code) = if has("malformed") || has("not a database") || has("not a valid SQLite")
    {
        (Category::VerificationFailed, "store_corrupt")
    } else if has("database or disk is full") {
        (Category::IoFailure, "disk_full")
    } else if has("disk I/O error") || has("unable to open database file") {
        (Category::IoFailure, "io_failure")
    } else if has("database is locked") {
        (Category::StateContention, "state_contention")
    } else {
        return None;
    };
    Some(Fault::new(
        category,
        code,
        format!("the store's file: {words}"),
    ))
}

fn engine_fault(error: &DynoxideError) -> Fault {
    fatal(error).unwrap_or_else(|| {
        Fault::new(
            Category::IoFailure,
            "store_engine_failed",
            format!("the embedded engine: {error}"),
        )
    })
}

fn corrupt_hint(path: &Path) -> String {
    format!(
        "restore {} from a backup, or move it away to start with an empty store",
        path.display()
    )
}

fn panicked(error: &tokio::task::JoinError) -> Fault {
    Fault::new(
        Category::InternalFailure,
        "store_engine_failed",
        "the embedded engine stopped in the middle of a request",
    )
    .caused_by(error)
}
