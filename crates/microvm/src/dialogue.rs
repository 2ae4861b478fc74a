//! The host's half of the conversation with the agent, without a channel: bytes in, bytes out, and a verdict.
//!
//! The guest is hostile. What is kept of it is one unfinished frame; what it may send is bounded by its credit, and by
//! the limits of the output and of each file; whatever is out of turn ends the conversation with a code of its own.

mod files;

use std::fmt;
use std::time::Duration;

use worldcompute_fault::Fault;
use worldcompute_guest::{
    End, HEADER, HEARTBEAT, Message, Reader, Refusal, RunRequest, Stream, Tally, VERSION, Writer,
};

use self::files::Files;
use crate::{Sink, Source};

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
    /// A file of a program that had not ended.
    FileBeforeEnd,
    /// Something after the last word, or anything but files of a program that had ended.
    AfterEnd,
    /// The channel was closed before the last word.
    HungUp,
}

impl Misconduct {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::UnknownFrame,
        Self::FrameTooLong,
        Self::OutOfSequence,
        Self::Malformed,
        Self::WrongVersion,
        Self::SecondHello,
        Self::BeforeHello,
        Self::Flood,
        Self::FileBeforeEnd,
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
            Self::FileBeforeEnd => "guest_file_before_end",
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
    /// More output than allowed: past which limit, in words.
    OutputLimit(String),
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
    /// The program ended, and every file that was due then has come.
    Ended {
        end: End,
        tally: Tally,
    },
    /// The program succeeded, and a file is not there: which, and why.
    OutputMissing(String),
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
    ended: Option<(End, Tally)>,
    files: Files,
    last_word: Option<LastWord>,
    credit: [Credit; Stream::ALL.len()],
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
            ended: None,
            files: Files::of(Vec::new()),
            last_word: None,
            credit: [Credit {
                left: 0,
                taken: 0,
                promised: 0,
            }; Stream::ALL.len()],
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

    /// How the program ended, once that is said. Files may be due still.
    pub const fn ended(&self) -> Option<(End, Tally)> {
        self.ended
    }

    /// The agent's last word, once it is said.
    pub const fn last_word(&self) -> Option<&LastWord> {
        self.last_word.as_ref()
    }

    /// Bytes of output so far, what went past a limit included.
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
            (Message::Heartbeat, Some(greeted)) => {
                self.count_heartbeat(now.saturating_sub(greeted))?
            }
            (Message::Output { stream, bytes }, _) => self.take_output(stream, &bytes, sink)?,
            (Message::NoFile { reason }, _) => self.miss_file(&reason)?,
            (_, Some(_)) if self.ended.is_some() => return Err(Misconduct::AfterEnd.into()),
            (Message::NotStarted { reason }, _) => {
                self.last_word = Some(LastWord::NotStarted(reason));
            }
            (Message::Ended { end, tally }, _) => {
                self.ended = Some((end, tally));
                self.conclude();
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
                self.files = Files::of(request.outputs.clone());
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
        let source = self.source(stream)?;
        let owed = self.charge(stream, bytes.len())?;
        let within = bytes.get(..self.room(source)).unwrap_or(bytes);
        self.count(source, bytes.len() as u64);
        // Without bytes it is the end of a file.
        if bytes.is_empty() || !within.is_empty() {
            sink.take(source, within).map_err(Broken::Sink)?;
        }
        if within.len() < bytes.len() {
            return Err(Broken::OutputLimit(self.limit()));
        }
        if owed >= WINDOW / 2 {
            self.credit_of(stream).taken = 0;
            self.grant(stream, owed);
        }
        if bytes.is_empty() {
            self.files.end_current();
            self.conclude();
        }
        Ok(())
    }

    /// Where a frame of this stream is from, if its turn has come.
    const fn source(&self, stream: Stream) -> Result<Source, Misconduct> {
        match (stream, self.ended) {
            (Stream::Stdout, None) => Ok(Source::Stdout),
            (Stream::Stderr, None) => Ok(Source::Stderr),
            (Stream::Files, Some(_)) => Ok(Source::File(self.files.place())),
            (Stream::Files, None) => Err(Misconduct::FileBeforeEnd),
            (Stream::Stdout | Stream::Stderr, Some(_)) => Err(Misconduct::AfterEnd),
        }
    }

    /// With its header, so that many small frames are not cheaper than few large ones. What was taken since credit was
    /// granted.
    fn charge(&mut self, stream: Stream, bytes: usize) -> Result<u32, Misconduct> {
        let cost = u32::try_from(HEADER + bytes).unwrap_or(u32::MAX);
        let credit = self.credit_of(stream);
        credit.left = credit.left.checked_sub(cost).ok_or(Misconduct::Flood)?;
        credit.taken += cost;
        Ok(credit.taken)
    }

    /// How many more bytes may come from there.
    fn room(&self, source: Source) -> usize {
        let all = self.max_output.saturating_sub(self.output_bytes);
        let room = match source {
            Source::Stdout | Source::Stderr => all,
            Source::File(_) => all.min(self.files.room()),
        };
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    fn count(&mut self, source: Source, bytes: u64) {
        self.output_bytes += bytes;
        if let Source::File(_) = source {
            self.files.count(bytes);
        }
    }

    /// The limit that was gone past.
    fn limit(&self) -> String {
        let of_a_file = self.files.limit();
        of_a_file.unwrap_or_else(|| format!("more than {} bytes in all", self.max_output))
    }

    /// Files are due of a program that has succeeded, and of no other.
    fn conclude(&mut self) {
        let Some((end, tally)) = self.ended else {
            return;
        };
        if end != End::Exited(0) || self.files.current().is_none() {
            self.last_word = Some(LastWord::Ended { end, tally });
        }
    }

    fn miss_file(&mut self, reason: &str) -> Result<(), Misconduct> {
        let file = self.files.current().filter(|_| self.ended.is_some());
        let path = &file.ok_or(Misconduct::FileBeforeEnd)?.path;
        self.last_word = Some(LastWord::OutputMissing(format!("{path}: {reason}")));
        Ok(())
    }

    fn grant(&mut self, stream: Stream, bytes: u32) {
        self.credit_of(stream).promised += bytes;
        self.say(&Message::Credit { stream, bytes });
    }

    fn credit_of(&mut self, stream: Stream) -> &mut Credit {
        let [stdout, stderr, files] = &mut self.credit;
        match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
            Stream::Files => files,
        }
    }

    fn say(&mut self, message: &Message) {
        self.outgoing.extend(self.writer.write(message));
    }
}

#[cfg(test)]
mod tests;
