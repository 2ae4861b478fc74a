//! What went wrong, in one type that every crate returns and every surface renders.
//!
//! A [`Fault`] has a [`Category`] (what kind of thing went wrong, and so whether a retry can help), a stable
//! snake_case code, a message, and a hint that names the next action. Faults of the public API also carry one of
//! the 26 numbers of [`WcCode`]. From these alone follow the process exit code, the HTTP and gRPC status, the JSON
//! [`Envelope`] of the command line, the RFC 7807 [`Problem`] of the gateway, and the text for a human.
//!
//! ```
//! use worldcompute_fault::{Fault, WcCode};
//!
//! let fault = Fault::wc(WcCode::InvalidManifest, "spec.image is missing").hint("name a module: wasm+cid:..");
//! assert_eq!(fault.human(), "Error: WC-001: spec.image is missing\n  hint: name a module: wasm+cid:..");
//! assert_eq!(fault.exit_code(), 1);
//! ```

mod category;
mod envelope;
mod fault;
mod migration;
mod problem;
mod wc;

pub use category::Category;
pub use envelope::Envelope;
pub use fault::Fault;
pub use migration::{FieldReplacement, Migration};
pub use problem::Problem;
pub use wc::WcCode;

/// The result of anything that can go wrong.
pub type Result<T, E = Fault> = std::result::Result<T, E>;
