//! QEMU's own account of a VM's fate (QEMU Machine Protocol: one JSON object a line).

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use serde::Deserialize;

use crate::hearing::{Heard, is_hang_up, is_later};

/// Most bytes of one line; QEMU's greeting has a few hundred.
const MAX_LINE: usize = 64 << 10;
const CAPABILITIES: &[u8] = b"{\"execute\":\"qmp_capabilities\"}\n";

/// What became of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The guest switched itself off.
    PoweredOff,
    /// The guest started over, or its kernel panicked.
    Rebooted,
    /// It wrote more to its disk than QEMU may to a file.
    DiskLimit,
    /// QEMU stopped it and waits for somebody to look: it never goes on by itself.
    Stopped,
}

/// How the C library says `EFBIG` in a locale that is none.
const TOO_LARGE: &str = "File too large";

/// Listens to QEMU, which calls when it starts.
#[derive(Debug)]
pub struct Monitor {
    listener: UnixListener,
    stream: Option<UnixStream>,
    line: Vec<u8>,
    fate: Option<Fate>,
}

#[derive(Deserialize)]
struct Event {
    event: String,
    #[serde(default)]
    data: Data,
}

#[derive(Default, Deserialize)]
struct Data {
    #[serde(default)]
    reason: String,
}

impl Monitor {
    /// On a socket that does not block.
    pub const fn new(listener: UnixListener) -> Self {
        Self {
            listener,
            stream: None,
            line: Vec::new(),
            fate: None,
        }
    }

    /// Readable when there is something to hear.
    pub fn source(&self) -> BorrowedFd<'_> {
        self.stream
            .as_ref()
            .map_or_else(|| self.listener.as_fd(), AsFd::as_fd)
    }

    /// What is known by now.
    pub const fn fate(&self) -> Option<Fate> {
        self.fate
    }

    /// Hears a piece of what there is.
    ///
    /// # Errors
    /// What the system says; a line that is too long.
    pub fn hear(&mut self) -> io::Result<Heard> {
        match self.hear_piece() {
            Err(error) if is_later(&error) => Ok(Heard::Nothing),
            Err(error) if is_hang_up(&error) => Ok(Heard::TheEnd),
            heard => heard,
        }
    }

    fn hear_piece(&mut self) -> io::Result<Heard> {
        let Some(stream) = &mut self.stream else {
            let (stream, _) = self.listener.accept()?;
            stream.set_nonblocking(true)?;
            (&stream).write_all(CAPABILITIES)?;
            self.stream = Some(stream);
            return Ok(Heard::Something);
        };
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer)?;
        self.take(buffer.get(..read).unwrap_or_default())?;
        Ok(match read {
            0 => Heard::TheEnd,
            _ => Heard::Something,
        })
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        for byte in bytes {
            match byte {
                b'\n' => self.take_line(),
                _ if self.line.len() >= MAX_LINE => return Err(io::ErrorKind::InvalidData.into()),
                byte => self.line.push(*byte),
            }
        }
        Ok(())
    }

    /// The first fate counts: a VM that is switched off is stopped on the way.
    fn take_line(&mut self) {
        // Answers, and events that say nothing of the VM's fate, are of another shape or have another name.
        let event = serde_json::from_slice::<Event>(&self.line).ok();
        self.line.clear();
        let fate =
            event.and_then(
                |event| match (event.event.as_str(), event.data.reason.as_str()) {
                    ("SHUTDOWN", "guest-shutdown") => Some(Fate::PoweredOff),
                    ("SHUTDOWN", "guest-reset" | "guest-panic") => Some(Fate::Rebooted),
                    ("BLOCK_IO_ERROR", TOO_LARGE) => Some(Fate::DiskLimit),
                    ("STOP", _) => Some(Fate::Stopped),
                    _ => None,
                },
            );
        self.fate = self.fate.or(fate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(lines: &[&str]) -> Option<Fate> {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("monitor")).unwrap();
        let mut monitor = Monitor::new(listener);
        let mut qemu = UnixStream::connect(dir.path().join("monitor")).unwrap();
        monitor.hear().unwrap();
        for line in lines {
            qemu.write_all(line.as_bytes()).unwrap();
            qemu.write_all(b"\r\n").unwrap();
        }
        qemu.shutdown(std::net::Shutdown::Write).unwrap();
        while monitor.hear().unwrap() != Heard::TheEnd {}
        monitor.fate()
    }

    #[test]
    fn the_first_fate_that_is_told_counts() {
        const OFF: &str = r#"{"timestamp":{"seconds":1,"microseconds":2},"event":"SHUTDOWN","data":{"guest":true,"reason":"guest-shutdown"}}"#;
        const AGAIN: &str = r#"{"event":"SHUTDOWN","data":{"guest":true,"reason":"guest-reset"}}"#;
        const FULL: &str = r#"{"event":"BLOCK_IO_ERROR","data":{"operation":"write","action":"stop","nospace":false,"reason":"File too large"}}"#;
        const OTHER: &str =
            r#"{"event":"BLOCK_IO_ERROR","data":{"action":"stop","reason":"Input/output error"}}"#;
        const STOP: &str = r#"{"event":"STOP"}"#;
        assert_eq!(
            heard(&[r#"{"QMP":{"version":{}}}"#, r#"{"return":{}}"#]),
            None
        );
        assert_eq!(heard(&[OFF, STOP]), Some(Fate::PoweredOff));
        assert_eq!(heard(&[FULL, STOP]), Some(Fate::DiskLimit));
        assert_eq!(heard(&[OTHER, STOP]), Some(Fate::Stopped));
        assert_eq!(heard(&["nonsense", AGAIN]), Some(Fate::Rebooted));
        assert_eq!(
            heard(&[r#"{"event":"RESUME"}"#, STOP, OFF]),
            Some(Fate::Stopped)
        );
    }

    #[test]
    fn a_line_without_an_end_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut monitor = Monitor::new(UnixListener::bind(dir.path().join("monitor")).unwrap());
        monitor.take(&[b'x'; MAX_LINE]).unwrap();
        assert!(monitor.take(b"x").is_err());
    }
}
