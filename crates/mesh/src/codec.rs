//! Frames of the request-response protocols: read within limits of size, time and shared memory.

mod memory;

use std::io;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use worldcompute_fault::{Category, Fault};

use crate::wire::{Answer, Exchange, Malformed, decode, encode};
use memory::{Pools, STEP};

pub(crate) use memory::{Budget, Permit};

/// Bytes that the tasks of all peers may occupy together, read or half read.
pub(crate) const DISPATCH_MEMORY: usize = 192 * 1024 * 1024;
/// The same for all other requests.
pub(crate) const MESSAGE_MEMORY: usize = 64 * 1024 * 1024;
/// A peer that sends or takes nothing for so long has gone silent.
const SILENCE: Duration = Duration::from_secs(15);
/// A whole request has to arrive within this, however slowly its bytes trickle.
const REQUEST_DEADLINE: Duration = Duration::from_secs(120);
/// Room for an answer at first, and how much more there is each time that it is full.
const FIRST_ANSWER: usize = 4 * 1024;
const ANSWER_GROWTH: usize = 8;
/// Bytes written at a time.
const WRITE_STEP: usize = 64 * 1024;

/// A request as it came in. What is no request is a value too, so that whoever knows the peer can count it.
#[derive(Debug)]
pub(crate) enum Frame<T> {
    Valid(T, Permit),
    Offending(Offence),
    /// There was no memory left to read it.
    Overload,
}

/// What a peer did wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Offence {
    #[error("a malformed message: {0}")]
    Malformed(#[from] Malformed),
    #[error("silence in the middle of a message")]
    Silence,
    #[error("a stream that broke off: {0}")]
    Broken(io::Error),
}

/// Reads and writes the frames of one connection.
#[derive(Debug)]
pub(crate) struct Codec {
    pools: Pools,
    silence: Duration,
}

impl Offence {
    /// Whether it is what a connection that broke leaves as well.
    pub(crate) const fn is_cut_off(&self) -> bool {
        matches!(self, Self::Malformed(Malformed::CutOff) | Self::Broken(_))
    }
}

impl Codec {
    pub(crate) fn new(pools: Pools) -> Self {
        Self {
            pools,
            silence: SILENCE,
        }
    }

    /// Reads a request to the end of its stream.
    pub(crate) async fn read_request<E: Exchange>(
        &self,
        io: &mut (impl AsyncRead + Unpin),
    ) -> Frame<E::Request> {
        let deadline = Instant::now() + REQUEST_DEADLINE.min(E::TIMEOUT);
        let mut permit = Permit::default();
        let read = self.read_accounted(io, E::MAX_REQUEST, &mut permit);
        match timeout_at(deadline, read).await {
            Ok(Ok(Some(bytes))) => match decode(&bytes, E::MAX_REQUEST) {
                Ok(request) => Frame::Valid(request, permit),
                Err(malformed) => Frame::Offending(malformed.into()),
            },
            Ok(Ok(None)) => Frame::Overload,
            Ok(Err(offence)) => Frame::Offending(offence),
            Err(_) => Frame::Offending(Offence::Silence),
        }
    }

    /// Writes an answer, and ends the stream.
    pub(crate) async fn write_answer<E: Exchange>(
        &self,
        io: &mut (impl AsyncWrite + Unpin),
        answer: &Answer<E::Reply>,
    ) -> io::Result<()> {
        let bytes = match encode(answer, E::MAX_ANSWER) {
            Ok(bytes) => bytes,
            Err(error) => encode(
                &Answer::<E::Reply>::refused(&unsendable(&error)),
                E::MAX_ANSWER,
            )
            .map_err(io::Error::other)?,
        };
        self.write_frame(io, &bytes).await?;
        io.close().await
    }

    /// Writes the only frame in this direction, and leaves the stream open.
    pub(crate) async fn write_frame(
        &self,
        io: &mut (impl AsyncWrite + Unpin),
        bytes: &[u8],
    ) -> io::Result<()> {
        for step in bytes.chunks(WRITE_STEP) {
            timeout(self.silence, io.write_all(step))
                .await
                .map_err(|_| silent())??;
        }
        Ok(())
    }

    /// Reads to the end of the stream, taking memory as the bytes come. `None` when it is used up.
    async fn read_accounted(
        &self,
        io: &mut (impl AsyncRead + Unpin),
        limit: usize,
        permit: &mut Permit,
    ) -> Result<Option<Vec<u8>>, Offence> {
        let mut bytes = Vec::new();
        loop {
            if !permit.grow(&self.pools) {
                return Ok(None);
            }
            let before = bytes.len();
            self.read_step(io, &mut bytes).await?;
            if bytes.len() > limit {
                return Err(Malformed::TooLong(limit).into());
            }
            if bytes.len() - before < STEP {
                return Ok(Some(bytes));
            }
        }
    }

    /// Appends up to [`STEP`] bytes; fewer at the end of the stream only.
    async fn read_step(
        &self,
        io: &mut (impl AsyncRead + Unpin),
        bytes: &mut Vec<u8>,
    ) -> Result<(), Offence> {
        let end = bytes.len() + STEP;
        let mut buffer = [0; 8 * 1024];
        while bytes.len() < end {
            let room = buffer.len().min(end - bytes.len());
            let buffer = buffer.get_mut(..room).unwrap_or_default();
            let count = timeout(self.silence, io.read(buffer))
                .await
                .map_err(|_| Offence::Silence)?
                .map_err(Offence::Broken)?;
            if count == 0 {
                return Ok(());
            }
            bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
        }
        Ok(())
    }
}

/// Reads an answer of at most `limit` bytes to the end of its stream.
///
/// The other side may be at work before the first byte, for as long as the `patience` of the protocol lasts. Then it has
/// what it says, and may not go silent.
pub(crate) async fn read_answer(
    io: &mut (impl AsyncRead + Unpin),
    limit: usize,
    patience: Duration,
) -> io::Result<Vec<u8>> {
    let (mut bytes, mut filled, mut silence) = (Vec::new(), 0, patience);
    loop {
        if filled == bytes.len() {
            // Few steps to a large answer, and little room for a small one. The last byte is one too many.
            bytes.resize((filled * ANSWER_GROWTH).clamp(FIRST_ANSWER, limit + 1), 0);
        }
        let read = io.read(bytes.get_mut(filled..).unwrap_or_default());
        match timeout(silence, read).await.map_err(|_| silent())?? {
            0 => break,
            count => filled += count,
        }
        silence = SILENCE;
        if filled > limit {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                Malformed::TooLong(limit),
            ));
        }
    }
    if filled == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn silent() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

fn unsendable(error: &Malformed) -> Fault {
    Fault::new(
        Category::InternalFailure,
        "unsendable_answer",
        format!("the peer has an answer but cannot send it: {error}"),
    )
}

#[cfg(test)]
mod tests;
