//! The channel to the agent: a socket on which it calls once, and the conversation over it.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use rustix::event::PollFlags;
use worldcompute_fault::{Fault, Result};

use crate::Sink;
use crate::dialogue::{Broken, Dialogue};
use crate::hearing::{Heard, is_hang_up, is_later};

/// Most bytes read at once.
const PIECE: usize = 64 << 10;

/// Takes one call. Whoever calls after that finds nobody: where the guest can call at all, so can its program.
pub struct Channel {
    line: Line,
    dialogue: Dialogue,
    piece: Vec<u8>,
}

enum Line {
    Waiting(UnixListener),
    Open(UnixStream),
}

impl Channel {
    /// On a socket that does not block.
    pub fn new(listener: UnixListener, dialogue: Dialogue) -> Self {
        Self {
            line: Line::Waiting(listener),
            dialogue,
            piece: vec![0; PIECE],
        }
    }

    /// What has been said.
    pub const fn dialogue(&self) -> &Dialogue {
        &self.dialogue
    }

    /// What to wait for, and why.
    pub fn source(&self) -> (BorrowedFd<'_>, PollFlags) {
        let fd = match &self.line {
            Line::Waiting(listener) => listener.as_fd(),
            Line::Open(stream) => stream.as_fd(),
        };
        let interest = match self.dialogue.outgoing() {
            [] => PollFlags::IN,
            _ => PollFlags::IN | PollFlags::OUT,
        };
        (fd, interest)
    }

    /// Takes the call, or a piece of what the agent says, and answers. `now` is the dialogue's.
    ///
    /// # Errors
    /// Outside, what the system says; inside, what the guest did wrong.
    pub fn hear(
        &mut self,
        now: Duration,
        sink: &mut dyn Sink,
    ) -> Result<std::result::Result<Heard, Broken>> {
        let read = match self.read() {
            Ok(None) => return Ok(Ok(Heard::Something)),
            Ok(Some(0)) => return Ok(Ok(Heard::TheEnd)),
            Ok(Some(read)) => read,
            Err(error) if is_later(&error) => 0,
            Err(error) if is_hang_up(&error) => return Ok(Ok(Heard::TheEnd)),
            Err(error) => return Err(Fault::io("hear the agent", &error)),
        };
        let bytes = self.piece.get(..read).unwrap_or_default();
        if let Err(broken) = self.dialogue.receive(bytes, now, sink) {
            return Ok(Err(broken));
        }
        self.answer()
            .map_err(|error| Fault::io("answer the agent", &error))?;
        Ok(Ok(match read {
            0 => Heard::Nothing,
            _ => Heard::Something,
        }))
    }

    /// `None` for a call that was taken.
    fn read(&mut self) -> io::Result<Option<usize>> {
        match &mut self.line {
            Line::Open(stream) => stream.read(&mut self.piece).map(Some),
            Line::Waiting(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                self.line = Line::Open(stream);
                Ok(None)
            }
        }
    }

    /// As much as the channel takes: the rest goes when it takes more.
    fn answer(&mut self) -> io::Result<()> {
        let outgoing = self.dialogue.outgoing();
        let Line::Open(stream) = &mut self.line else {
            return Ok(());
        };
        if outgoing.is_empty() {
            return Ok(());
        }
        match stream.write(outgoing) {
            Ok(written) => self.dialogue.sent(written),
            // What there is to know of a channel that was closed is in what is read from it.
            Err(error) if is_later(&error) || is_hang_up(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Collected;
    use crate::run_dir::RunDir;

    #[test]
    fn who_calls_a_second_time_finds_nobody() {
        let home = tempfile::tempdir().unwrap();
        let dir = RunDir::create(home.path()).unwrap();
        let path = dir.path().join("channel");
        let mut channel = Channel::new(dir.listen("channel").unwrap(), Dialogue::new(None, 0));
        let mut hear = || {
            channel
                .hear(Duration::ZERO, &mut Collected::default())
                .unwrap()
                .unwrap()
        };
        assert_eq!(hear(), Heard::Nothing);
        let first = UnixStream::connect(&path).unwrap();
        assert_eq!(hear(), Heard::Something);
        let second = UnixStream::connect(&path).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(hear(), Heard::Nothing);
        drop(first);
        assert_eq!(hear(), Heard::TheEnd);
    }
}
