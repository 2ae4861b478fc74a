//! What the process wants to have logged, and where to.

use std::path::PathBuf;

use crate::Redactor;

/// Shows our own records from `info` up, those of libraries from `warn` up.
///
/// Two libraries warn of what is in order: libp2p's Kademlia that a node without peers cannot look for peers, which it tries
/// at every start, and yamux that the other side of a connection was quicker to close it. Neither warns of anything else. What
/// libp2p's relay warns of, whoever asks it for too much can bring about as often as they like, and it does not say who.
pub const DEFAULT_FILTER: &str = "warn,worldcompute=info,gait=info,blue_encrypted_store=info,libp2p_kad::behaviour=error,libp2p_relay::behaviour::handler=error,yamux::connection=error";

/// A log file is moved to `<name>.1` before it would grow past this many bytes.
pub const MAX_LOG_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// How records look on standard error. A log file always holds JSON lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One line for a reader, with colours on a terminal.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

/// Where records go. The default writes for a reader to standard error.
#[derive(Clone, Debug)]
pub struct Config {
    /// How records look on standard error.
    pub format: Format,
    /// Which records: the directives of `tracing-subscriber`'s `EnvFilter`, such as `info,libp2p=warn`.
    pub filter: String,
    /// Whether records go to standard error.
    pub stderr: bool,
    /// Appends JSON lines to this file (mode 0600); one previous file is kept beside it as `<name>.1`.
    pub log_file: Option<PathBuf>,
    /// The size at which the log file is changed for a new one, in bytes.
    pub log_file_bytes: u64,
    /// Base URL of an OTLP/HTTP collector, such as `http://127.0.0.1:4318`; without it, that of the environment
    /// variable `OTEL_EXPORTER_OTLP_ENDPOINT`; without either nothing is exported.
    pub otlp_endpoint: Option<String>,
    /// The name of this program in records and spans (`service.name`).
    pub service: String,
    /// Which of the many this one is (`service.instance.id`), usually the PeerId.
    pub instance: Option<String>,
    /// What is taken out of every record.
    pub redact: Redactor,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            format: Format::Human,
            filter: DEFAULT_FILTER.to_owned(),
            stderr: true,
            log_file: None,
            log_file_bytes: MAX_LOG_FILE_BYTES,
            otlp_endpoint: None,
            service: "worldcompute".to_owned(),
            instance: None,
            redact: Redactor::default(),
        }
    }
}
