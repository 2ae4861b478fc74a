//! The control socket: the REST API through which the command line, and later the gateway, speak to a daemon.

mod client;
mod server;
mod socket;
mod types;

pub use client::{Client, Events};
pub use server::{CORRELATION_HEADER, Control, MAX_CONTENT_BYTES, MAX_JSON_BYTES};
pub use socket::not_connected;
pub use types::*;
