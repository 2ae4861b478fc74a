//! What is said between a microVM and its host: one stream of bytes, frames in both directions.
//!
//! The program of this package is the other half: it is the first process inside the VM. Both sides read and write with
//! the code here. The host takes every byte for a stranger's: no length is believed past the limit of its kind, no frame
//! is taken out of turn, and none is larger than [`MAX_DATA`].
//!
//! A conversation: the agent says [`Hello`](Message::Hello), the host answers with one [`Run`](Message::Run) and
//! [`Credit`](Message::Credit) for each stream, and the agent sends [`Output`](Message::Output) within that credit, which
//! headers use up too, a [`Heartbeat`](Message::Heartbeat) where it would else be silent for longer than [`HEARTBEAT`],
//! and [`Ended`](Message::Ended) or [`NotStarted`](Message::NotStarted). That is its last word, unless the program exited
//! with 0 and the request names files: these follow as one more stream, one after another in the order of the request,
//! each with a frame without bytes for its end. The last end is then the last word, or [`NoFile`](Message::NoFile) is.

mod frame;
mod message;
mod request;

use std::time::Duration;

pub use frame::{Frame, HEADER, Kind, Reader, Refusal};
pub use message::{End, Message, Stream, Tally, Writer};
pub use request::{MAX_ENTRIES, MAX_OUTPUTS, MAX_PATH, MAX_TEXT, OutputFile, RunRequest};

/// The version of this protocol. There is no talking between versions: host and agent are built together.
pub const VERSION: u16 = 2;
/// Most bytes of one frame of output.
pub const MAX_DATA: usize = 32 << 10;
/// Most bytes of a message in words.
pub const MAX_REASON: usize = 1 << 10;
/// Most bytes of a run request.
pub const MAX_RUN: usize = 1 << 20;
/// The agent is never silent for longer than this while it runs something.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// The vsock port of the host on which the agent calls.
pub const PORT: u32 = 1024;
/// The name of the virtio-serial port over which the agent calls where there is no vsock.
pub const PORT_NAME: &str = "worldcompute.agent";
