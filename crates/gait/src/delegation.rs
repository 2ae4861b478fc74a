//! Delegations: signed tokens in which one agent lends another some of its authority.
//!
//! ```text
//! Token::mint ─► file ─► Token::load ─► Chain::validate (per intent) ─► complete, or the codes why not
//! ```
//!
//! An intent names the chain from the origin of its authority to its requester; every link needs a token of its own.

mod audit;
mod chain;
mod token;

pub use audit::AuditRecord;
pub use chain::{Chain, Entry};
pub use token::{Expected, Flaw, Mint, Token};

/// The `schema_id` of a token.
pub const SCHEMA_ID: &str = "gait.gate.delegation_token";
/// The only `schema_version`.
pub const SCHEMA_VERSION: &str = "1.0.0";

#[cfg(test)]
mod tests;
