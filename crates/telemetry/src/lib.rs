//! What is happening: logs, traces, metrics and the load of this machine.
//!
//! [`init`] installs the one subscriber of the process. Every record is redacted before it leaves the process by any
//! door (terminal, log file, OTLP), and carries the [`CorrelationId`] of the request it belongs to.
//!
//! ```no_run
//! # async fn run() -> worldcompute_fault::Result<()> {
//! use worldcompute_telemetry::{Config, CorrelationId, init, with_correlation};
//!
//! let guard = init(Config::default())?;
//! with_correlation(CorrelationId::random(), async { tracing::info!(peer = "12D3KooW..", "dialled") }).await;
//! guard.shutdown();
//! # Ok(())
//! # }
//! ```

mod config;
mod correlation;
mod load;
mod log_file;
pub mod metrics;
mod otlp;
mod record;
mod redact;
mod subscriber;

pub use config::{Config, DEFAULT_FILTER, Format, MAX_LOG_FILE_BYTES};
pub use correlation::{CorrelationId, current, in_correlation, spawn, with_correlation};
pub use load::{GpuLoad, HostDetail, HostLoad, LoadSampler};
pub use redact::{Names, Redactor};
pub use subscriber::{Guard, build, init};
