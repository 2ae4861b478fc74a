//! Tool calls at the boundary between an agent and its tools, in the shapes that agents write them.
//!
//! ```text
//! payload ─► Adapter::decode ─► ToolCall ─► Boundary::decide ─► Ruling: a signed decision
//! ```
//!
//! A [`Boundary`] rules; it executes nothing. [`stdio`] is the proxy that stands between a client and a server and
//! passes on only what was allowed, and [`http`] answers rulings over a socket.

mod adapter;
mod artefacts;
mod boundary;
mod call;
mod export;
pub mod http;
mod keep;
mod oauth;
mod retention;
pub mod stdio;

pub use adapter::Adapter;
pub use boundary::{Boundary, Ruling, judge_server, run_id};
pub use call::ToolCall;
pub use export::Exports;
pub use keep::Keeping;
pub use retention::{Kind, Retention};

/// The largest payload of one call, in bytes.
pub const MAX_PAYLOAD: usize = 1 << 20;

#[cfg(test)]
mod tests;
