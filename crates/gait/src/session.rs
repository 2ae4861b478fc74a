//! Numbered decisions: a log in which every trace says its number and the record before it, and a signed end that says
//! how many there are. Whatever is missing shows offline.
//!
//! ```text
//! SessionLog::open ─► OpenSession::link ─► (the trace is signed with it) ─► OpenSession::append
//! SessionLog::close ─► one signed line with the count        verify (streams, constant memory)
//! ```

mod close;
mod log;
mod verify;

pub use close::Closing;
pub(crate) use close::SCHEMA_ID as CLOSE_SCHEMA_ID;
pub(crate) use log::is_record;
pub use log::{OpenSession, SessionLog};
pub use verify::{Report, verify};

#[cfg(test)]
mod tests;
