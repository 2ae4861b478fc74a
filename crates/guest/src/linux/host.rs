//! The conversation with the host: frames over the channel, within its credit, and never silent for long.

use std::fs::File;
use std::io::{Read, Write};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use worldcompute_guest::{HEADER, HEARTBEAT, Message, Reader, RunRequest, Stream, Writer};

use super::{Result, cannot};

/// The host's end of the channel.
pub struct Host {
    channel: File,
    reader: Reader,
    writer: Writer,
    credit: [u32; Stream::ALL.len()],
    spoke: Instant,
}

impl Host {
    /// Over `channel`, on which nothing was said.
    pub fn new(channel: File) -> Self {
        Self {
            channel,
            reader: Reader::of_host(),
            writer: Writer::default(),
            credit: [0; Stream::ALL.len()],
            spoke: Instant::now(),
        }
    }

    /// Blocks while the host reads nothing.
    pub fn send(&mut self, message: &Message) -> Result<()> {
        let bytes = self.writer.write(message);
        self.spoke = Instant::now();
        self.channel
            .write_all(&bytes)
            .map_err(cannot("write to the host"))
    }

    /// `None` when the host has closed.
    fn receive(&mut self) -> Result<Option<Vec<Message>>> {
        let mut buffer = [0; 4096];
        let read = self
            .channel
            .read(&mut buffer)
            .map_err(cannot("read from the host"))?;
        let mut bytes = buffer.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(None);
        }
        let mut messages = Vec::new();
        while let Some(frame) = self
            .reader
            .read(&mut bytes)
            .map_err(cannot("read a frame"))?
        {
            messages.push(frame.try_into().map_err(cannot("read a frame"))?);
        }
        Ok(Some(messages))
    }

    /// Credit may come with the request, in the same read.
    pub fn wait_for_run(&mut self) -> Result<RunRequest> {
        let mut run = None;
        loop {
            let messages = self.receive()?.ok_or("the host has closed")?;
            for message in messages {
                match message {
                    Message::Run(request) => run = Some(*request),
                    other => self.add_credit(&other),
                }
            }
            if let Some(run) = run {
                return Ok(run);
            }
        }
    }

    /// What there is to wait for when the host is to say something.
    pub fn word(&self) -> PollFd<'_> {
        PollFd::new(&self.channel, PollFlags::IN)
    }

    /// Waits for any of these, no longer than until a heartbeat is due.
    pub fn poll(&self, fds: &mut [PollFd<'_>]) -> Result<()> {
        let left = HEARTBEAT.saturating_sub(self.spoke.elapsed());
        let left = Timespec::try_from(left).map_err(cannot("wait"))?;
        match poll(fds, Some(&left)) {
            Err(Errno::INTR) | Ok(_) => Ok(()),
            Err(error) => Err(cannot("wait")(error)),
        }
    }

    /// Attends to the host alone, until `other` is ready or a heartbeat was due.
    pub fn attend(&mut self, other: Option<PollFd<'_>>) -> Result<()> {
        let mut fds: Vec<_> = [self.word()].into_iter().chain(other).collect();
        self.poll(&mut fds)?;
        let spoke = fds.first().is_some_and(|fd| !fd.revents().is_empty());
        if spoke {
            self.take_credit()?;
        }
        self.keep_alive()
    }

    /// What the host has to say once the request was made.
    pub fn take_credit(&mut self) -> Result<()> {
        let messages = self.receive()?.ok_or("the host has closed")?;
        messages.iter().for_each(|message| self.add_credit(message));
        Ok(())
    }

    fn add_credit(&mut self, message: &Message) {
        if let Message::Credit { stream, bytes } = message
            && let Some(credit) = self.credit.get_mut(*stream as usize)
        {
            *credit = credit.saturating_add(*bytes);
        }
    }

    /// Bytes of output that may be sent in one frame, whose header costs credit too.
    pub fn credit(&self, stream: Stream) -> usize {
        let credit = self
            .credit
            .get(stream as usize)
            .copied()
            .unwrap_or_default();
        let credit = usize::try_from(credit).unwrap_or(usize::MAX);
        credit.saturating_sub(HEADER)
    }

    /// The same, once there are any.
    pub fn wait_for_credit(&mut self, stream: Stream) -> Result<usize> {
        while self.credit(stream) == 0 {
            self.attend(None)?;
        }
        Ok(self.credit(stream))
    }

    /// At most as many bytes as there is credit for.
    pub fn send_output(&mut self, stream: Stream, bytes: Vec<u8>) -> Result<()> {
        if let Some(credit) = self.credit.get_mut(stream as usize) {
            let cost = u32::try_from(HEADER + bytes.len()).unwrap_or(u32::MAX);
            *credit = credit.saturating_sub(cost);
        }
        self.send(&Message::Output { stream, bytes })
    }

    /// Says that it is there, where nothing else has said so for a while.
    pub fn keep_alive(&mut self) -> Result<()> {
        match self.spoke.elapsed() >= HEARTBEAT {
            true => self.send(&Message::Heartbeat),
            false => Ok(()),
        }
    }

    /// Everything is said.
    pub fn wait_for_close(mut self) -> Result<()> {
        while self.receive()?.is_some() {}
        Ok(())
    }
}
