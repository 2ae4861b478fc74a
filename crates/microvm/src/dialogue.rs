//! The host's half of the conversation with the agent, without a channel: bytes in, bytes out, and a verdict.
//!
//! The guest is hostile. What is kept of it is one unfinished frame; what it may send is bounded by its credit, and by
//! the limit of the output; whatever is out of turn ends the conversation with a code of its own.

use std::fmt;
use std::time::Duration;

use worldcompute_fault::Fault;
use worldcompute_guest::{
    End, HEADER, HEARTBEAT, Message, Reader, Refusal, RunRequest, Stream, Tally, VERSION, Writer,
};

use crate::Sink;

/// How much of each stream may be under way, in bytes of its frames, headers included.
pub const WINDOW: u32 = 256 << 10;
/// Heartbeats above those that are due: the guest's clock is not the host's, and several may come at once.
const MORE_HEARTBEATS: u32 = 64;
/// How much faster than the host's the guest's clock may go.
const FASTER: u32 = 2;

/// In which way a guest broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misconduct {
    /// Something other than a frame of the agent's.
    UnknownFrame,
    /// A frame longer than its kind can be.
    FrameTooLong,
    /// A frame was left out or repeated.
    OutOfSequence,
    /// A frame that says nothing.
    Malformed,
    /// Another version of the protocol.
    WrongVersion,
    /// A second greeting.
    SecondHello,
    /// Something before the greeting.
    BeforeHello,
    /// More output than there was credit for, or more heartbeats than time for them.
    Flood,
    /// Something after the last word.
    AfterEnd,
    /// The channel was closed before the last word.
    HungUp,
}

impl Misconduct {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::UnknownFrame,
        Self::FrameTooLong,
        Self::OutOfSequence,
        Self::Malformed,
        Self::WrongVersion,
        Self::SecondHello,
        Self::BeforeHello,
        Self::Flood,
        Self::AfterEnd,
        Self::HungUp,
    ];

    /// The stable snake_case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownFrame => "guest_unknown_frame",
            Self::FrameTooLong => "guest_frame_too_long",
            Self::OutOfSequence => "guest_frame_out_of_sequence",
            Self::Malformed => "guest_frame_malformed",
            Self::WrongVersion => "guest_protocol_version",
            Self::SecondHello => "guest_second_hello",
            Self::BeforeHello => "guest_spoke_before_hello",
            Self::Flood => "guest_flood",
            Self::AfterEnd => "guest_spoke_after_end",
            Self::HungUp => "guest_hung_up",
        }
    }
}

impl fmt::Display for Misconduct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Refusal> for Misconduct {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownKind(_) => Self::UnknownFrame,
            Refusal::TooLong { .. } => Self::FrameTooLong,
            Refusal::OutOfSequence { .. } => Self::OutOfSequence,
            Refusal::Malformed(_) => Self::Malformed,
        }
    }
}

/// Why a conversation cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    Misconduct(Misconduct),
    OutputLimit,
    /// What takes the output cannot.
    Sink(Fault),
}

impl From<Misconduct> for Broken {
    fn from(misconduct: Misconduct) -> Self {
        Self::Misconduct(misconduct)
    }
}

impl From<Refusal> for Broken {
    fn from(refusal: Refusal) -> Self {
        Misconduct::from(refusal).into()
    }
}

/// The agent's last word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LastWord {
    /// It booted, and nothing was asked of it.
    Booted,
    NotStarted(String),
    Ended {
        end: End,
        tally: Tally,
    },
}

/// A conversation.
#[derive(Debug)]
pub struct Dialogue {
    request: Option<RunRequest>,
    reader: Reader,
    writer: Writer,
    /// When it was greeted, by the clock of the run.
    greeted: Option<Duration>,
    heartbeats: u32,
    last_word: Option<LastWord>,
    credit: [Credit; 2],
    output_bytes: u64,
    max_output: u64,
    outgoing: Vec<u8>,
}

/// What one stream may still send.
#[derive(Clone, Copy, Debug, Default)]
struct Credit {
    left: u32,
    /// What was taken and not granted again.
    taken: u32,
    /// What was granted, and is not known to have been sent: nobody can make use of it.
    promised: u32,
}

impl Dialogue {
    /// Asks for `request` as soon as the agent is there; without one its greeting is all that is waited for.
    pub const fn new(request: Option<RunRequest>, max_output: u64) -> Self {
        Self {
            request,
            reader: Reader::of_agent(),
            writer: Writer::new(),
            greeted: None,
            heartbeats: 0,
            last_word: None,
            credit: [Credit {
                left: 0,
                taken: 0,
                promised: 0,
            }; 2],
            output_bytes: 0,
            max_output,
            outgoing: Vec::new(),
        }
    }

    /// Takes in what came from the guest. `now` is of a clock that stands while the guest does.
    ///
    /// # Errors
    /// The first thing that is wrong. Nothing more is to be taken in then.
    pub fn receive(
        &mut self,
        mut bytes: &[u8],
        now: Duration,
        sink: &mut dyn Sink,
    ) -> Result<(), Broken> {
        while !bytes.is_empty() {
            if self.last_word.is_some() {
                return Err(Misconduct::AfterEnd.into());
            }
            if let Some(frame) = self.reader.read(&mut bytes)? {
                self.take(frame.try_into()?, now, sink)?;
            }
        }
        Ok(())
    }

    /// What is to be sent, as far as it has not been: at most a request and some credit.
    pub fn outgoing(&self) -> &[u8] {
        &self.outgoing
    }

    /// So much of [`Self::outgoing`] has been sent.
    pub fn sent(&mut self, bytes: usize) {
        self.outgoing.drain(..bytes.min(self.outgoing.len()));
        if self.outgoing.is_empty() {
            for credit in &mut self.credit {
                credit.left += std::mem::take(&mut credit.promised);
            }
        }
    }

    /// Whether the agent has said that it is there.
    pub const fn greeted(&self) -> bool {
        self.greeted.is_some()
    }

    /// The agent's last word, once it is said.
    pub const fn last_word(&self) -> Option<&LastWord> {
        self.last_word.as_ref()
    }

    /// Bytes of output so far, what went past the limit included.
    pub const fn output_bytes(&self) -> u64 {
        self.output_bytes
    }

    /// Bytes of the guest's that are kept at the moment.
    pub fn pending(&self) -> usize {
        self.reader.pending()
    }

    fn take(&mut self, message: Message, now: Duration, sink: &mut dyn Sink) -> Result<(), Broken> {
        match (message, self.greeted) {
            (Message::Hello { version }, None) => self.greet(version, now)?,
            (Message::Hello { .. }, Some(_)) => return Err(Misconduct::SecondHello.into()),
            (_, None) => return Err(Misconduct::BeforeHello.into()),
            (Message::Output { stream, bytes }, _) => self.take_output(stream, &bytes, sink)?,
            (Message::NotStarted { reason }, _) => {
                self.last_word = Some(LastWord::NotStarted(reason));
            }
            (Message::Ended { end, tally }, _) => {
                self.last_word = Some(LastWord::Ended { end, tally });
            }
            (Message::Heartbeat, Some(greeted)) => {
                self.count_heartbeat(now.saturating_sub(greeted))?
            }
            // The reader lets no frame of the host's through.
            (Message::Run(_) | Message::Credit { .. }, _) => {
                return Err(Misconduct::UnknownFrame.into());
            }
        }
        Ok(())
    }

    /// Each costs the host work and the guest nothing.
    fn count_heartbeat(&mut self, since_greeting: Duration) -> Result<(), Misconduct> {
        self.heartbeats = self.heartbeats.saturating_add(1);
        let counted = self.heartbeats.saturating_sub(MORE_HEARTBEATS);
        match HEARTBEAT.saturating_mul(counted) <= since_greeting.saturating_mul(FASTER) {
            true => Ok(()),
            false => Err(Misconduct::Flood),
        }
    }

    fn greet(&mut self, version: u16, now: Duration) -> Result<(), Misconduct> {
        if version != VERSION {
            return Err(Misconduct::WrongVersion);
        }
        self.greeted = Some(now);
        match self.request.take() {
            None => self.last_word = Some(LastWord::Booted),
            Some(request) => {
                self.say(&Message::Run(Box::new(request)));
                Stream::ALL
                    .into_iter()
                    .for_each(|stream| self.grant(stream, WINDOW));
            }
        }
        Ok(())
    }

    fn take_output(
        &mut self,
        stream: Stream,
        bytes: &[u8],
        sink: &mut dyn Sink,
    ) -> Result<(), Broken> {
        // With its header, so that many small frames are not cheaper than few large ones.
        let cost = u32::try_from(HEADER + bytes.len()).unwrap_or(u32::MAX);
        let credit = self.credit_of(stream);
        credit.left = credit.left.checked_sub(cost).ok_or(Misconduct::Flood)?;
        credit.taken += cost;
        let owed = credit.taken;
        let before = self.output_bytes;
        self.output_bytes += bytes.len() as u64;
        let room = usize::try_from(self.max_output.saturating_sub(before)).unwrap_or(usize::MAX);
        let within = bytes.get(..room).unwrap_or(bytes);
        if !within.is_empty() {
            sink.take(stream, within).map_err(Broken::Sink)?;
        }
        if within.len() < bytes.len() {
            return Err(Broken::OutputLimit);
        }
        if owed >= WINDOW / 2 {
            self.credit_of(stream).taken = 0;
            self.grant(stream, owed);
        }
        Ok(())
    }

    fn grant(&mut self, stream: Stream, bytes: u32) {
        self.credit_of(stream).promised += bytes;
        self.say(&Message::Credit { stream, bytes });
    }

    fn credit_of(&mut self, stream: Stream) -> &mut Credit {
        let [stdout, stderr] = &mut self.credit;
        match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        }
    }

    fn say(&mut self, message: &Message) {
        self.outgoing.extend(self.writer.write(message));
    }
}

#[cfg(test)]
mod tests;
