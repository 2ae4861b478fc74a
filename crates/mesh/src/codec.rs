//! Frames of the request-response protocols: read within limits of size, time and shared memory.

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{StreamProtocol, request_response as rr};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use worldcompute_fault::{Category, Fault};

use crate::wire::{Answer, Exchange, Malformed, decode, encode};

/// Bytes that the tasks of all peers may occupy together, read or half read.
pub(crate) const DISPATCH_MEMORY: usize = 192 * 1024 * 1024;
/// The same for all other requests.
pub(crate) const MESSAGE_MEMORY: usize = 64 * 1024 * 1024;
/// What one connection may take of either. The four of a peer leave half of it to others.
const CONNECTION_MEMORY: usize = 24 * 1024 * 1024;
/// A peer that sends or takes nothing for so long has gone silent.
const SILENCE: Duration = Duration::from_secs(15);
/// A whole request has to arrive within this, however slowly its bytes trickle.
const REQUEST_DEADLINE: Duration = Duration::from_secs(120);
/// Bytes read and accounted for at a time.
const STEP: usize = 16 * 1024;
/// Bytes written at a time.
const WRITE_STEP: usize = 64 * 1024;

/// The memory that inbound requests share, in steps.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    all: Arc<Semaphore>,
    share_steps: usize,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self::with_share(bytes, CONNECTION_MEMORY)
    }

    fn with_share(bytes: usize, share: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(bytes / STEP)),
            share_steps: share / STEP,
        }
    }

    /// What one connection may take of it.
    fn share(&self) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(self.share_steps))
    }
}

/// Steps of a [`Budget`] and of the share of a connection, given back on drop.
#[derive(Debug, Default)]
pub(crate) struct Permit {
    of_all: Option<OwnedSemaphorePermit>,
    of_share: Option<OwnedSemaphorePermit>,
}

impl Permit {
    /// Takes one more step. False when there is none left, for this connection or for anybody.
    fn grow(&mut self, budget: &Budget, share: &Arc<Semaphore>) -> bool {
        add(&mut self.of_share, share) && add(&mut self.of_all, &budget.all)
    }
}

fn add(held: &mut Option<OwnedSemaphorePermit>, from: &Arc<Semaphore>) -> bool {
    let Ok(step) = Arc::clone(from).try_acquire_owned() else {
        return false;
    };
    match held {
        Some(held) => held.merge(step),
        None => *held = Some(step),
    }
    true
}

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

/// The codec of one protocol.
///
/// libp2p clones the behaviour's codec for every connection, and that one for every stream: so the first clone gets a
/// share of the budget, and what is cloned from it has the same.
#[derive(Debug)]
pub(crate) struct Codec<E> {
    budget: Budget,
    share: Option<Arc<Semaphore>>,
    silence: Duration,
    protocol: PhantomData<fn() -> E>,
}

impl<E> Codec<E> {
    pub(crate) fn new(budget: Budget) -> Self {
        Self {
            budget,
            share: None,
            silence: SILENCE,
            protocol: PhantomData,
        }
    }
}

impl<E> Clone for Codec<E> {
    fn clone(&self) -> Self {
        Self {
            share: Some(self.share()),
            silence: self.silence,
            ..Self::new(self.budget.clone())
        }
    }
}

impl<E: Exchange> rr::Codec for Codec<E> {
    type Protocol = StreamProtocol;
    type Request = Frame<E::Request>;
    type Response = Answer<E::Reply>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Self::Request> {
        let deadline = Instant::now() + REQUEST_DEADLINE.min(E::TIMEOUT);
        let mut permit = Permit::default();
        let read = self.read_accounted(io, &mut permit);
        Ok(match timeout_at(deadline, read).await {
            Ok(Ok(Some(bytes))) => match decode(&bytes, E::MAX_REQUEST) {
                Ok(request) => Frame::Valid(request, permit),
                Err(malformed) => Frame::Offending(malformed.into()),
            },
            Ok(Ok(None)) => Frame::Overload,
            Ok(Err(offence)) => Frame::Offending(offence),
            Err(_) => Frame::Offending(Offence::Silence),
        })
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Self::Response> {
        // No limit on silence before the first byte: the other side is at work. The protocol's own timeout holds.
        let mut bytes = Vec::new();
        io.take(E::MAX_ANSWER as u64 + 1)
            .read_to_end(&mut bytes)
            .await?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        decode(&bytes, E::MAX_ANSWER)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Self::Request,
    ) -> io::Result<()> {
        let Frame::Valid(request, _) = request else {
            return Err(io::Error::other("only requests are sent"));
        };
        let bytes = encode(&request, E::MAX_REQUEST)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.write_all(io, &bytes).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        answer: Self::Response,
    ) -> io::Result<()> {
        let bytes = match encode(&answer, E::MAX_ANSWER) {
            Ok(bytes) => bytes,
            Err(error) => encode(
                &Answer::<E::Reply>::refused(&unsendable(&error)),
                E::MAX_ANSWER,
            )
            .map_err(io::Error::other)?,
        };
        self.write_all(io, &bytes).await
    }
}

impl<E> Codec<E> {
    fn share(&self) -> Arc<Semaphore> {
        let made = || self.budget.share();
        self.share.clone().unwrap_or_else(made)
    }
}

impl<E: Exchange> Codec<E> {
    /// Reads to the end of the stream, taking memory from the budget as the bytes come. `None` when it is used up.
    async fn read_accounted<T: AsyncRead + Unpin + Send>(
        &self,
        io: &mut T,
        permit: &mut Permit,
    ) -> Result<Option<Vec<u8>>, Offence> {
        let (mut bytes, share) = (Vec::new(), self.share());
        loop {
            if !permit.grow(&self.budget, &share) {
                return Ok(None);
            }
            let before = bytes.len();
            self.read_step(io, &mut bytes).await?;
            if bytes.len() > E::MAX_REQUEST {
                return Err(Malformed::TooLong(E::MAX_REQUEST).into());
            }
            if bytes.len() - before < STEP {
                return Ok(Some(bytes));
            }
        }
    }

    /// Appends up to [`STEP`] bytes; fewer at the end of the stream only.
    async fn read_step<T: AsyncRead + Unpin + Send>(
        &self,
        io: &mut T,
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

    async fn write_all<T: AsyncWrite + Unpin + Send>(
        &self,
        io: &mut T,
        bytes: &[u8],
    ) -> io::Result<()> {
        for step in bytes.chunks(WRITE_STEP) {
            timeout(self.silence, io.write_all(step))
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        }
        Ok(())
    }
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
