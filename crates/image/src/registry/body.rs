//! The bytes of a blob as they come in. A transfer that breaks off goes on where it stopped.

use std::io::{self, Read};
use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use hyper::body::{Bytes, Incoming};
use tokio::time::Instant;
use worldcompute_fault::Result;

use super::http::Failure;
use super::{MAX_ATTEMPTS, Registry};
use crate::carried::carry;

/// The slowest transfer that is waited for, in bytes a second, over the whole of it.
const MIN_RATE: u64 = 16 << 10;
/// How long a transfer may take however little it carries.
const GRACE: Duration = Duration::from_secs(60);

pub struct Body<'a> {
    registry: &'a mut Registry,
    path: String,
    accept: String,
    body: Option<Incoming>,
    piece: Bytes,
    /// How many bytes have come, and how many of those that come are still to be passed over.
    offset: u64,
    skip: u64,
    attempt: u32,
    deadline: Instant,
}

impl<'a> Body<'a> {
    pub fn open(
        registry: &'a mut Registry,
        path: String,
        accept: String,
        size: u64,
    ) -> Result<Self> {
        let body = registry.get(&path, &accept, 0)?.into_body();
        Ok(Self {
            registry,
            path,
            accept,
            body: Some(body),
            piece: Bytes::new(),
            offset: 0,
            skip: 0,
            attempt: 1,
            deadline: Instant::now() + GRACE + Duration::from_secs(size / MIN_RATE),
        })
    }

    /// Waits for the next bytes; whether there are any.
    fn more(&mut self) -> Result<bool> {
        loop {
            match self.next_piece() {
                Ok(Some(piece)) => {
                    self.piece = self.unskipped(piece);
                    return Ok(true);
                }
                Ok(None) => return Ok(false),
                Err(failure) if failure.passes() && self.attempt < MAX_ATTEMPTS => self.go_on()?,
                Err(failure) => return Err(failure.fault(&self.registry.reference, self.attempt)),
            }
        }
    }

    fn next_piece(&mut self) -> Result<Option<Bytes>, Failure> {
        let Some(body) = &mut self.body else {
            return Ok(None);
        };
        if Instant::now() >= self.deadline {
            return Err(Failure::TooSlow);
        }
        self.registry
            .runtime
            .block_on(self.registry.http.piece(body))
    }

    /// Asks for the rest.
    fn go_on(&mut self) -> Result<()> {
        self.registry.pause(self.attempt);
        self.attempt += 1;
        self.body = None;
        let answer = self.registry.get(&self.path, &self.accept, self.offset)?;
        self.skip = match answer.status() {
            StatusCode::PARTIAL_CONTENT if starts_at(answer.headers(), self.offset) => 0,
            StatusCode::PARTIAL_CONTENT => {
                return Err(Failure::BadRange.fault(&self.registry.reference, self.attempt));
            }
            // Whoever knows no ranges begins anew.
            _ => self.offset,
        };
        self.body = Some(answer.into_body());
        Ok(())
    }

    fn unskipped(&mut self, mut piece: Bytes) -> Bytes {
        let skipped = self.skip.min(piece.len() as u64);
        self.skip -= skipped;
        piece.split_off(skipped as usize)
    }
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            if !self.more().map_err(carry)? {
                return Ok(0);
            }
        }
        let taken = self.piece.split_to(buffer.len().min(self.piece.len()));
        if let Some(room) = buffer.get_mut(..taken.len()) {
            room.copy_from_slice(&taken);
        }
        self.offset += taken.len() as u64;
        Ok(taken.len())
    }
}

/// Whether a part starts at `offset` (RFC 9110, 14.4).
fn starts_at(headers: &HeaderMap, offset: u64) -> bool {
    let range = headers
        .get(header::CONTENT_RANGE)
        .and_then(|value| value.to_str().ok());
    let start = range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-'));
    start.is_some_and(|(start, _)| start.parse() == Ok(offset))
}
