//! Correlation ids: one id on every record that belongs to one request, across tasks and machines.

use std::ffi::OsStr;
use std::fmt;
use std::future::Future;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::Instrument;
use worldcompute_fault::{Category, Fault, Result};

const BYTES: usize = 12;

tokio::task_local! {
    static CURRENT: CorrelationId;
}

/// Ties together everything that one request caused: 12 bytes, written as 24 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CorrelationId([u8; BYTES]);

impl CorrelationId {
    /// A fresh id.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// The id of a command line: the same words give the same id. The first 12 bytes of SHA-256 over the trimmed
    /// words, joined by the unit separator 0x1f.
    pub fn of_argv<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> Self {
        let words: Vec<String> = words
            .into_iter()
            .map(|word| word.as_ref().to_string_lossy().trim().to_owned())
            .collect();
        let digest = Sha256::digest(words.join("\u{1f}"));
        let mut id = [0; BYTES];
        id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Self(id)
    }

    /// The id as a W3C trace id, for what has no trace: four zero bytes before it.
    pub fn trace_id(self) -> [u8; 16] {
        let mut trace = [0; 16];
        let bytes = trace.iter_mut().skip(16 - BYTES);
        bytes.zip(self.0).for_each(|(to, from)| *to = from);
        trace
    }

    /// Reads 24 lower-case hex digits.
    ///
    /// # Errors
    /// `correlation_id_invalid` for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let mut id = [0; BYTES];
        match hex::decode_to_slice(text, &mut id) {
            Ok(()) if !text.bytes().any(|byte| byte.is_ascii_uppercase()) => Ok(Self(id)),
            _ => Err(Fault::new(
                Category::InvalidInput,
                "correlation_id_invalid",
                "a correlation id is 24 lower-case hex digits",
            )),
        }
    }
}

/// The id of the request that the calling task works for.
pub fn current() -> Option<CorrelationId> {
    CURRENT.try_with(|id| *id).ok()
}

/// Runs a future so that every record and span inside it carries `id`.
pub async fn with_correlation<F: Future>(id: CorrelationId, future: F) -> F::Output {
    CURRENT
        .scope(id, async {
            future.instrument(tracing::info_span!("request")).await
        })
        .await
}

/// The same for code that does not wait, such as the body of a blocking task.
pub fn in_correlation<T>(id: CorrelationId, work: impl FnOnce() -> T) -> T {
    CURRENT.sync_scope(id, || tracing::info_span!("request").in_scope(work))
}

/// Spawns a task that inherits the caller's correlation id and span, which `tokio::spawn` would drop.
pub fn spawn<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let future = future.in_current_span();
    match current() {
        Some(id) => tokio::spawn(CURRENT.scope(id, future)),
        None => tokio::spawn(future),
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for CorrelationId {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl TryFrom<String> for CorrelationId {
    type Error = Fault;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<CorrelationId> for String {
    fn from(id: CorrelationId) -> Self {
        id.to_string()
    }
}
