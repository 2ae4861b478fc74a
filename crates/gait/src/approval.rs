//! Approvals: signed tokens in which a person allows one intent under one policy, for a while.
//!
//! ```text
//! Token::mint ─► file ─► Token::load ─► Approvals::weigh (per intent and policy) ─► granted, or the codes why not
//! ```
//!
//! A token names the intent and the policy by digest, so it approves exactly one action and dies with either.

mod audit;
mod redemption;
mod token;
mod weigh;

pub use audit::AuditRecord;
pub use redemption::{DEFAULT_REDEMPTIONS, Redemptions, Reserved};
pub use token::{Flaw, Mint, SINGLE_USE, Token};
pub use weigh::{Approvals, Demand, Entry, Expected};

/// The `schema_id` of a token.
pub const SCHEMA_ID: &str = "gait.gate.approval_token";
/// The only `schema_version`.
pub const SCHEMA_VERSION: &str = "1.0.0";

#[cfg(test)]
mod tests;
