//! What strangers can feed, fed: one module a target, each of which asserts more than the absence of a panic.
//!
//! `cargo test` runs every target on its seeds and on the shared cases; libFuzzer goes on from there (see README.md).

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a target that panics has found something"
)]

pub mod bundle;
pub mod cbor;
pub mod cid;
pub mod decision;
pub mod dsse;
pub mod erasure;
pub mod evidence;
mod files;
pub mod guest;
pub mod image;
pub mod intent;
pub mod job;
pub mod layers;
pub mod mcp;
pub mod mcp_request;
pub mod mesh;
pub mod pack;
pub mod policy;
pub mod receipt;
pub mod record;
pub mod registry;
pub mod run;
pub mod runpack;
pub mod sealed;
pub mod session;
pub mod settings;
pub mod state;
pub mod store_bundle;
pub mod strict_json;
pub mod text;
pub mod token;
pub mod tool_call;
pub mod trace;
pub mod verifier;

/// A target: what it is called, and what it does with some bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target, in the order of the README.
pub const TARGETS: [Target; 33] = [
    ("strict_json", strict_json::fuzz),
    ("cbor", cbor::fuzz),
    ("cid", cid::fuzz),
    ("dsse", dsse::fuzz),
    ("receipt", receipt::fuzz),
    ("policy", policy::fuzz),
    ("intent", intent::fuzz),
    ("decision", decision::fuzz),
    ("evidence", evidence::fuzz),
    ("token", token::fuzz),
    ("tool_call", tool_call::fuzz),
    ("registry", registry::fuzz),
    ("session", session::fuzz),
    ("record", record::fuzz),
    ("run", run::fuzz),
    ("runpack", runpack::fuzz),
    ("pack", pack::fuzz),
    ("mcp", mcp::fuzz),
    ("mcp_request", mcp_request::fuzz),
    ("verifier", verifier::fuzz),
    ("trace", trace::fuzz),
    ("state", state::fuzz),
    ("job", job::fuzz),
    ("settings", settings::fuzz),
    ("text", text::fuzz),
    ("sealed", sealed::fuzz),
    ("bundle", bundle::fuzz),
    ("store_bundle", store_bundle::fuzz),
    ("mesh", mesh::fuzz),
    ("erasure", erasure::fuzz),
    ("image", image::fuzz),
    ("layers", layers::fuzz),
    ("guest", guest::fuzz),
];
