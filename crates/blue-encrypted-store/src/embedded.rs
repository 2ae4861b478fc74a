//! The embedded engine behind the SDK's HTTP connector: requests are answered in this process, without a port.
//!
//! The SDK serialises, signs and retries as it does against a server; what differs is who reads the request.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use dynoxide::{Database, DynoxideError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use worldcompute_durable::{
    Disk, LockOptions, Mode, OsDisk, OwnedLock, create_new, private_dir, read_private,
};
use worldcompute_fault::{Category, Fault, Result};

const CONTENT_TYPE: &str = "application/x-amz-json-1.0";
const TARGET_PREFIX: &str = "DynamoDB_20120810.";

/// What SQLite extends its shared memory by, in bytes.
const MOST_AT_ONCE: u64 = 32 << 10;

/// A DynamoDB table in a SQLite file or in memory, owned by this process.
#[derive(Clone)]
pub(crate) struct Engine(Arc<Inner>);

struct Inner {
    database: Database,
    /// `None` in memory.
    path: Option<PathBuf>,
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
        let database = Database::memory().map_err(|error| engine_fault(&error, None))?;
        Ok(Self(Arc::new(Inner {
            database,
            path: None,
            _lock: None,
        })))
    }

    /// The engine on the file at `path`, created with mode 0600 when missing, in a directory of mode 0700: whoever can
    /// put files beside the table has SQLite read and write what they like.
    ///
    /// # Errors
    /// `state_contention` when another process has it, `insecure_permissions`, `store_corrupt`.
    pub(crate) fn file(path: &Path) -> Result<Self> {
        let name = name_of(path)?;
        if let Some(parent) = Path::new(&name).parent() {
            private_dir(parent)?;
        }
        let lock = OwnedLock::acquire(&path.with_added_extension("lock"), LockOptions::default())?;
        match create_new(path, &[], Mode::Private) {
            Err(fault) if fault.code() == "already_exists" => check_private(path)?,
            created => created?,
        }
        let database = Database::new(&name).map_err(|error| engine_fault(&error, Some(path)))?;
        Ok(Self(Arc::new(Inner {
            database,
            path: Some(path.to_owned()),
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
            Err(error) => match Trouble::of(&error) {
                Some(trouble) => {
                    let fault = trouble.fault(&error, self.0.path.as_deref());
                    Err(ConnectorError::user(fault.into()))
                }
                None => response(error.status_code(), error.to_json().into_bytes()),
            },
        }
    }
}

/// Deletes the table at `path` and the anchor beside it. What SQLite would put back from its log goes first, the table
/// itself last: until then there is one, if only an older one, and afterwards nothing that belonged to it.
pub(crate) fn discard(path: &Path) -> Result<()> {
    let _lock = OwnedLock::acquire(&path.with_added_extension("lock"), LockOptions::default())?;
    let anchor = [
        path.with_added_extension("anchor"),
        path.with_added_extension("anchor.new"),
    ];
    for file in logs_of(path).iter().chain(&anchor).map(PathBuf::as_path) {
        remove(file)?;
    }
    remove(path)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    OsDisk
        .sync_dir(dir)
        .map_err(|error| Fault::io(format_args!("delete {}", path.display()), &error))
}

/// What SQLite keeps beside a database.
fn logs_of(path: &Path) -> [PathBuf; 2] {
    ["-wal", "-shm"].map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        name.into()
    })
}

fn remove(path: &Path) -> Result<()> {
    match OsDisk.remove(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => {
            removed.map_err(|error| Fault::io(format_args!("delete {}", path.display()), &error))
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

/// The file must be this user's alone: who can write it can destroy it. Reading none of it checks just that.
fn check_private(path: &Path) -> Result<()> {
    match read_private(path, 0) {
        Err(fault) if fault.code() == "file_too_large" => Ok(()),
        checked => checked.map(drop),
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

/// What is wrong with the file itself, which no retry of the SDK mends.
#[derive(Clone, Copy)]
enum Trouble {
    Corrupt,
    Full,
    Unusable,
    Locked,
}

impl Trouble {
    /// The engine passes no type on, only SQLite's fixed messages and its own, each of which stands here.
    const MESSAGES: [(&'static str, Self); 8] = [
        ("malformed", Self::Corrupt),
        ("not a database", Self::Corrupt),
        ("not a valid database", Self::Corrupt),
        ("not a valid SQLite database", Self::Corrupt),
        ("database or disk is full", Self::Full),
        ("I/O error", Self::Unusable),
        ("unable to open database file", Self::Unusable),
        ("database is locked", Self::Locked),
    ];

    fn of(error: &DynoxideError) -> Option<Self> {
        if error.status_code() < 500 {
            return None;
        }
        let words = error.to_string();
        let known = Self::MESSAGES
            .iter()
            .find(|(message, _)| words.contains(message));
        known.map(|(_, trouble)| *trouble)
    }

    /// The engine's own words go to the log: they speak of its build and of its calls.
    fn fault(self, error: &DynoxideError, path: Option<&Path>) -> Fault {
        tracing::debug!(%error, "the embedded engine failed");
        let file = path.map_or_else(
            || "the store".to_owned(),
            |path| format!("the store {}", path.display()),
        );
        match self {
            // What SQLite maps into memory cannot be extended on a full disk, which it only calls an I/O error.
            Self::Unusable if path.is_some_and(is_full) => Self::Full.of_file(&file),
            trouble => trouble.of_file(&file),
        }
    }

    fn of_file(self, file: &str) -> Fault {
        match self {
            Self::Corrupt => Fault::new(
                Category::VerificationFailed,
                "store_corrupt",
                format!("{file} is damaged, or is no store"),
            )
            .hint("restore it from a backup, or move it away to start with an empty store"),
            Self::Full => Fault::new(
                Category::IoFailure,
                "disk_full",
                format!("no space is left on the disk of {file}"),
            )
            .hint("free disk space and retry; what the store holds is whole"),
            Self::Unusable => Fault::new(
                Category::IoFailure,
                "io_failure",
                format!("the disk refuses to read or write {file}"),
            )
            .hint("look at the disk and at the owner of the file, then try again"),
            Self::Locked => Fault::new(
                Category::StateContention,
                "state_contention",
                format!("another program has {file} open"),
            )
            .hint("end the other program, then try again"),
        }
    }
}

fn engine_fault(error: &DynoxideError, path: Option<&Path>) -> Fault {
    match Trouble::of(error) {
        Some(trouble) => trouble.fault(error, path),
        None => Fault::new(
            Category::IoFailure,
            "store_engine_failed",
            format!("the embedded engine: {error}"),
        ),
    }
}

/// Whether the disk of a file has no room for one more piece of its shared memory.
fn is_full(path: &Path) -> bool {
    rustix::fs::statvfs(path)
        .is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < MOST_AT_ONCE)
}

fn panicked(error: &tokio::task::JoinError) -> Fault {
    Fault::new(
        Category::InternalFailure,
        "store_engine_failed",
        "the embedded engine stopped in the middle of a request",
    )
    .caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_says_of_its_file_is_told_in_our_words_with_the_next_action() {
        let path = Path::new("/");
        let cases = [
            (
                "Database file is encrypted or not a valid SQLite database. If encrypted, enable the `encryption` feature",
                "store_corrupt",
                "backup",
            ),
            ("backend: not a valid database", "store_corrupt", "backup"),
            (
                "backend: database or disk is full",
                "disk_full",
                "free disk space",
            ),
            (
                "backend: I/O error: disk I/O error",
                "io_failure",
                "look at the disk",
            ),
            (
                "backend: database is locked or busy",
                "state_contention",
                "other program",
            ),
        ];
        for (words, code, next) in cases {
            let error = DynoxideError::InternalServerError(words.to_owned());
            let fault = engine_fault(&error, Some(path));
            assert_eq!(fault.code(), code, "{words}");
            assert!(fault.hint_text().contains(next), "{}", fault.hint_text());
            assert!(!fault.message().contains(words), "{}", fault.message());
        }
        let refused = DynoxideError::ValidationException("database is locked".to_owned());
        assert_eq!(engine_fault(&refused, None).code(), "store_engine_failed");
    }
}
