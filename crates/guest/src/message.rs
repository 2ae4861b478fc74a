//! Messages: what frames mean.

use crate::frame::{Frame, Kind, Refusal, encode};
use crate::{MAX_REASON, RunRequest};

/// One of the streams that are sent within credit: the two that a program writes to, and the files that it leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    Stdout,
    Stderr,
    /// The files that the request names, one after another.
    Files,
}

impl Stream {
    /// Every stream, as many as there are.
    pub const ALL: [Self; 3] = [Self::Stdout, Self::Stderr, Self::Files];

    const fn kind(self) -> Kind {
        match self {
            Self::Stdout => Kind::Stdout,
            Self::Stderr => Kind::Stderr,
            Self::Files => Kind::File,
        }
    }
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// With this code.
    Exited(u8),
    /// By this signal, 1 to 64.
    Killed(u8),
}

/// How often the guest's kernel had to refuse or end something of the program's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tally {
    /// Processes that were killed because memory ran out.
    pub out_of_memory: u32,
    /// Processes and threads that were not made because there were too many.
    pub refused_processes: u32,
}

/// One message, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Agent: it is there, and speaks this version.
    Hello { version: u16 },
    /// Host: what to run, once.
    Run(Box<RunRequest>),
    /// Host: so many more bytes of this stream's frames may be sent, headers included.
    Credit { stream: Stream, bytes: u32 },
    /// Agent: it cannot be run, and why. Nothing follows.
    NotStarted { reason: String },
    /// Agent: what the program wrote. Of files, no bytes are the end of one.
    Output { stream: Stream, bytes: Vec<u8> },
    /// Agent: it is still there.
    Heartbeat,
    /// Agent: it is over. Files follow where it exited with 0 and the request names any; else nothing does.
    Ended { end: End, tally: Tally },
    /// Agent: the file that is due cannot be given out, and why. Nothing follows.
    NoFile { reason: String },
}

impl TryFrom<Frame> for Message {
    type Error = Refusal;

    fn try_from(frame: Frame) -> Result<Self, Refusal> {
        let Frame { kind, payload } = frame;
        let read = match kind {
            Kind::Hello => hello(&payload),
            Kind::Run => RunRequest::decode(&payload).map(|run| Self::Run(Box::new(run))),
            Kind::Credit => credit(&payload),
            Kind::NotStarted => text(payload).map(|reason| Self::NotStarted { reason }),
            Kind::NoFile => text(payload).map(|reason| Self::NoFile { reason }),
            Kind::Stdout => output(Stream::Stdout, payload),
            Kind::Stderr => output(Stream::Stderr, payload),
            Kind::File => output(Stream::Files, payload),
            Kind::Heartbeat => payload.is_empty().then_some(Self::Heartbeat),
            Kind::Exited | Kind::Killed => ended(kind, &payload),
        };
        read.ok_or(Refusal::Malformed(kind))
    }
}

fn hello(payload: &[u8]) -> Option<Message> {
    let version = u16::from_le_bytes(payload.try_into().ok()?);
    Some(Message::Hello { version })
}

fn credit(payload: &[u8]) -> Option<Message> {
    let &[stream, b0, b1, b2, b3] = payload else {
        return None;
    };
    let stream = Stream::ALL
        .into_iter()
        .find(|one| one.kind() as u8 == stream)?;
    let bytes = u32::from_le_bytes([b0, b1, b2, b3]);
    Some(Message::Credit { stream, bytes })
}

fn text(payload: Vec<u8>) -> Option<String> {
    String::from_utf8(payload).ok()
}

/// A frame without bytes says nothing of what is printed: there are as many ends as files, and no other ones.
fn output(stream: Stream, bytes: Vec<u8>) -> Option<Message> {
    let says_something = stream == Stream::Files || !bytes.is_empty();
    says_something.then_some(Message::Output { stream, bytes })
}

fn ended(kind: Kind, payload: &[u8]) -> Option<Message> {
    let &[number, m0, m1, m2, m3, p0, p1, p2, p3] = payload else {
        return None;
    };
    let end = match (kind, number) {
        (Kind::Exited, code) => End::Exited(code),
        (_, signal @ 1..=64) => End::Killed(signal),
        _ => return None,
    };
    let tally = Tally {
        out_of_memory: u32::from_le_bytes([m0, m1, m2, m3]),
        refused_processes: u32::from_le_bytes([p0, p1, p2, p3]),
    };
    Some(Message::Ended { end, tally })
}

/// Bytes out of messages, each with the next number.
#[derive(Debug, Default)]
pub struct Writer {
    sequence: u32,
}

impl Writer {
    /// A writer that has written nothing.
    pub const fn new() -> Self {
        Self { sequence: 0 }
    }

    /// The bytes of `message`. A reason is cut at [`MAX_REASON`]; what is in a run request is checked by
    /// [`RunRequest::check`].
    pub fn write(&mut self, message: &Message) -> Vec<u8> {
        let bytes = match message {
            Message::Hello { version } => self.frame(Kind::Hello, &version.to_le_bytes()),
            Message::Run(run) => self.frame(Kind::Run, &run.encode()),
            Message::Credit { stream, bytes } => {
                let [b0, b1, b2, b3] = bytes.to_le_bytes();
                self.frame(Kind::Credit, &[stream.kind() as u8, b0, b1, b2, b3])
            }
            Message::NotStarted { reason } => self.reason(Kind::NotStarted, reason),
            Message::NoFile { reason } => self.reason(Kind::NoFile, reason),
            Message::Output { stream, bytes } => self.frame(stream.kind(), bytes),
            Message::Heartbeat => self.frame(Kind::Heartbeat, &[]),
            Message::Ended { end, tally } => self.ended(*end, *tally),
        };
        self.sequence = self.sequence.wrapping_add(1);
        bytes
    }

    fn frame(&self, kind: Kind, payload: &[u8]) -> Vec<u8> {
        encode(kind, self.sequence, payload)
    }

    fn reason(&self, kind: Kind, reason: &str) -> Vec<u8> {
        self.frame(kind, cut(reason, MAX_REASON).as_bytes())
    }

    fn ended(&self, end: End, tally: Tally) -> Vec<u8> {
        let (kind, number) = match end {
            End::Exited(code) => (Kind::Exited, code),
            End::Killed(signal) => (Kind::Killed, signal),
        };
        let mut payload = vec![number];
        payload.extend(tally.out_of_memory.to_le_bytes());
        payload.extend(tally.refused_processes.to_le_bytes());
        self.frame(kind, &payload)
    }
}

fn cut(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests;
