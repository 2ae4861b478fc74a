//! `wasi:io`: streams that never block, and pollables that wait for the virtual clock at most.

use wasmtime::Result;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sync::io::{error, poll, streams};
use wasmtime_wasi::p2::{IoError, StreamError, StreamResult};

use super::{MAX_MOVED, own};
use crate::stop::{Errno, Refusal};
use crate::world::{NodeId, Printer, World};

/// What a pollable waits for.
pub enum Awaited {
    Nothing,
    /// The monotonic clock to show this.
    Instant(u64),
}

/// What an input stream reads from.
pub enum Source {
    Stdin,
    File { node: NodeId, offset: u64 },
}

/// What an output stream writes to.
#[derive(Clone, Copy)]
pub enum Sink {
    Print(Printer),
    File {
        node: NodeId,
        offset: u64,
    },
    /// Always to the end.
    Append(NodeId),
}

impl World {
    pub fn push_pollable(&mut self, awaited: Awaited) -> Result<Resource<poll::Pollable>> {
        Ok(own(&self.table.push(awaited)?))
    }

    /// The next bytes of a stream; none at its end.
    fn next_bytes(
        &mut self,
        stream: &Resource<streams::InputStream>,
        most: u64,
    ) -> StreamResult<Vec<u8>> {
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(MAX_MOVED);
        let bytes = match self.table.get_mut(&own::<_, Source>(stream))? {
            Source::Stdin => self.stdin.take(most).to_vec(),
            Source::File { node, offset } => {
                let bytes = self
                    .files
                    .read_at(*node, *offset, most)
                    .map_err(stream_error)?;
                *offset = offset.saturating_add(bytes.len() as u64);
                bytes.to_vec()
            }
        };
        self.account.moves(bytes.len() as u64).map_err(trap)?;
        if bytes.is_empty() && most > 0 {
            Err(StreamError::Closed)
        } else {
            Ok(bytes)
        }
    }

    fn write_bytes(
        &mut self,
        stream: &Resource<streams::OutputStream>,
        bytes: &[u8],
    ) -> StreamResult<()> {
        self.account.moves(bytes.len() as u64).map_err(trap)?;
        let (sink, now) = (
            self.table.get_mut(&own::<_, Sink>(stream))?,
            self.clock.stamp(),
        );
        match sink {
            Sink::Print(printer) => {
                let printer = *printer;
                self.print(printer, bytes)
            }
            Sink::File { node, offset } => {
                let start = *offset;
                *offset = offset.saturating_add(bytes.len() as u64);
                self.files
                    .write_at(*node, start, bytes, &mut self.account, now)
            }
            Sink::Append(node) => self.files.stat(*node).and_then(|stat| {
                self.files
                    .write_at(stat.node, stat.size, bytes, &mut self.account, now)
            }),
        }
        .map_err(stream_error)
    }

    fn is_ready(&self, pollable: &Resource<poll::Pollable>) -> Result<bool> {
        Ok(self.instant(pollable)? <= self.clock.now())
    }

    fn instant(&self, pollable: &Resource<poll::Pollable>) -> Result<u64> {
        match self.table.get(&own::<_, Awaited>(pollable))? {
            Awaited::Nothing => Ok(0),
            Awaited::Instant(instant) => Ok(*instant),
        }
    }
}

impl poll::Host for World {
    /// Which are ready. Time passes only if none is, and then just until the first one is.
    fn poll(&mut self, pollables: Vec<Resource<poll::Pollable>>) -> Result<Vec<u32>> {
        self.account.looks_up(pollables.len() as u64)?;
        let instants: Vec<u64> = pollables
            .iter()
            .map(|one| self.instant(one))
            .collect::<Result<_>>()?;
        let first = instants
            .iter()
            .min()
            .ok_or_else(|| wasmtime::Error::msg("polled an empty list"))?;
        self.clock.wait_until(*first);
        let now = self.clock.now();
        let ready = (0..).zip(&instants).filter(|(_, instant)| **instant <= now);
        Ok(ready.map(|(index, _)| index).collect())
    }
}

impl poll::HostPollable for World {
    fn ready(&mut self, pollable: Resource<poll::Pollable>) -> Result<bool> {
        // A look at the clock moves it, so that asking again and again gets there.
        self.clock.read();
        self.is_ready(&pollable)
    }

    fn block(&mut self, pollable: Resource<poll::Pollable>) -> Result<()> {
        let instant = self.instant(&pollable)?;
        self.clock.wait_until(instant);
        Ok(())
    }

    fn drop(&mut self, pollable: Resource<poll::Pollable>) -> Result<()> {
        self.table.delete(own::<_, Awaited>(&pollable))?;
        Ok(())
    }
}

impl error::Host for World {}

impl error::HostError for World {
    fn to_debug_string(&mut self, error: Resource<IoError>) -> Result<String> {
        Ok(self.table.get(&error)?.to_string())
    }

    fn drop(&mut self, error: Resource<IoError>) -> Result<()> {
        self.table.delete(error)?;
        Ok(())
    }
}

impl streams::Host for World {
    fn convert_stream_error(&mut self, error: StreamError) -> Result<streams::StreamError> {
        match error {
            StreamError::Closed => Ok(streams::StreamError::Closed),
            StreamError::LastOperationFailed(error) => Ok(
                streams::StreamError::LastOperationFailed(self.table.push(error)?),
            ),
            StreamError::Trap(error) => Err(error),
        }
    }
}

impl streams::HostInputStream for World {
    fn read(&mut self, stream: Resource<streams::InputStream>, most: u64) -> StreamResult<Vec<u8>> {
        self.next_bytes(&stream, most)
    }

    fn blocking_read(
        &mut self,
        stream: Resource<streams::InputStream>,
        most: u64,
    ) -> StreamResult<Vec<u8>> {
        self.next_bytes(&stream, most)
    }

    fn skip(&mut self, stream: Resource<streams::InputStream>, most: u64) -> StreamResult<u64> {
        Ok(self.next_bytes(&stream, most)?.len() as u64)
    }

    fn blocking_skip(
        &mut self,
        stream: Resource<streams::InputStream>,
        most: u64,
    ) -> StreamResult<u64> {
        Ok(self.next_bytes(&stream, most)?.len() as u64)
    }

    fn subscribe(
        &mut self,
        _stream: Resource<streams::InputStream>,
    ) -> Result<Resource<poll::Pollable>> {
        self.push_pollable(Awaited::Nothing)
    }

    fn drop(&mut self, stream: Resource<streams::InputStream>) -> Result<()> {
        if let Source::File { node, .. } = self.table.delete(own::<_, Source>(&stream))? {
            self.files.release(node, &mut self.account);
        }
        Ok(())
    }
}

impl streams::HostOutputStream for World {
    fn check_write(&mut self, stream: Resource<streams::OutputStream>) -> StreamResult<u64> {
        self.table.get(&own::<_, Sink>(&stream))?;
        Ok(MAX_MOVED as u64)
    }

    fn write(
        &mut self,
        stream: Resource<streams::OutputStream>,
        bytes: Vec<u8>,
    ) -> StreamResult<()> {
        self.write_bytes(&stream, &bytes)
    }

    fn blocking_write_and_flush(
        &mut self,
        stream: Resource<streams::OutputStream>,
        bytes: Vec<u8>,
    ) -> StreamResult<()> {
        self.write_bytes(&stream, &bytes)
    }

    fn flush(&mut self, _stream: Resource<streams::OutputStream>) -> StreamResult<()> {
        Ok(())
    }

    fn blocking_flush(&mut self, _stream: Resource<streams::OutputStream>) -> StreamResult<()> {
        Ok(())
    }

    fn subscribe(
        &mut self,
        _stream: Resource<streams::OutputStream>,
    ) -> Result<Resource<poll::Pollable>> {
        self.push_pollable(Awaited::Nothing)
    }

    fn write_zeroes(
        &mut self,
        stream: Resource<streams::OutputStream>,
        count: u64,
    ) -> StreamResult<()> {
        match usize::try_from(count) {
            Ok(count) if count <= MAX_MOVED => self.write_bytes(&stream, &vec![0; count]),
            _ => Err(StreamError::trap("more zeros than check-write permits")),
        }
    }

    fn blocking_write_zeroes_and_flush(
        &mut self,
        stream: Resource<streams::OutputStream>,
        count: u64,
    ) -> StreamResult<()> {
        self.write_zeroes(stream, count)
    }

    fn splice(
        &mut self,
        to: Resource<streams::OutputStream>,
        from: Resource<streams::InputStream>,
        most: u64,
    ) -> StreamResult<u64> {
        let bytes = self.next_bytes(&from, most)?;
        self.write_bytes(&to, &bytes)?;
        Ok(bytes.len() as u64)
    }

    fn blocking_splice(
        &mut self,
        to: Resource<streams::OutputStream>,
        from: Resource<streams::InputStream>,
        most: u64,
    ) -> StreamResult<u64> {
        self.splice(to, from, most)
    }

    fn drop(&mut self, stream: Resource<streams::OutputStream>) -> Result<()> {
        if let Sink::File { node, .. } | Sink::Append(node) =
            self.table.delete(own::<_, Sink>(&stream))?
        {
            self.files.release(node, &mut self.account);
        }
        Ok(())
    }
}

fn stream_error(refusal: Refusal) -> StreamError {
    match refusal {
        Refusal::Errno(errno) => StreamError::LastOperationFailed(errno.into()),
        Refusal::Stop(stop) => trap(stop),
    }
}

fn trap(stop: impl Into<wasmtime::Error>) -> StreamError {
    StreamError::Trap(stop.into())
}

/// The errno behind an error of a stream, if it was a file's.
pub fn errno(error: &IoError) -> Option<Errno> {
    error.downcast_ref::<Errno>().copied()
}
