//! Who said so: one spelling per value, one name per content, and signatures that cannot be bent.
//!
//! - [`canonical_json`] (RFC 8785) and [`canonical_cbor`] (RFC 8949, 4.2.1) give a value exactly one
//!   encoding; [`parse_json_strict`], [`from_canonical_json`] and [`from_canonical_cbor`] refuse every other.
//! - [`Sha256`] and [`Cid`] name content.
//! - [`SigningKey`], [`VerifyingKey`], [`Signature`] and [`PeerId`] are strict Ed25519 (RFC 8032).
//! - [`dsse`] wraps a payload in signatures, [`Statement`] is what such a payload says (in-toto v1).
//! - [`merkle`] proves membership and append-only growth (RFC 6962).
//!
//! Nothing here panics on any input. Malformed bytes are a fault of category `invalid_input`, and bytes
//! that are well-formed but do not prove what they claim are one of category `verification_failed`.

mod base64;
mod cbor;
mod cid;
mod digest;
pub mod dsse;
mod json;
pub mod merkle;
mod peer_id;
mod refusal;
mod signing;
mod statement;
mod verifying;

pub use cbor::{MAX_CBOR_BYTES, MAX_CBOR_DEPTH, canonical_cbor, from_canonical_cbor};
pub use cid::{Cid, Codec};
pub use digest::{Hasher, Sha256};
pub use json::{
    MAX_JSON_BYTES, MAX_JSON_DEPTH, MAX_SAFE_INTEGER, StrictJson, canonical_json,
    canonicalize_json, from_canonical_json, parse_json_strict, parse_json_within, wipe,
};
pub use peer_id::PeerId;
pub use signing::SigningKey;
pub use statement::{STATEMENT_PAYLOAD_TYPE, Statement, StatementType, Subject, SubjectDigest};
pub use verifying::{Signature, VerifyingKey};
