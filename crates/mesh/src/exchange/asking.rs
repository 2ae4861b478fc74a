//! A request of this node on its way: framed and its answer read where it is asked, carried by the connection's task.

use std::io;
use std::time::Duration;

use futures::AsyncReadExt as _;
use futures::AsyncWriteExt as _;
use futures::future::try_join;
use libp2p::Stream;
use libp2p::swarm::StreamUpgradeError;
use tokio::sync::oneshot;
use tokio::time::timeout;
use worldcompute_fault::{Category, Fault};

use super::lines::{Line, Ticket};
use crate::codec::{Codec, Offence, read_answer};
use crate::wire::{Answer, Exchange, Kind, Malformed, encode};

/// The code of a request whose connection broke before the answer.
pub(crate) const CONNECTION_LOST: &str = "connection_lost";

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("no answer in time")]
    Timeout,
    #[error("the connection was lost: {0}")]
    Lost(String),
    #[error("the peer does not speak this protocol")]
    Unsupported,
    #[error("too many requests to this peer are under way")]
    Busy,
    #[error("the request cannot be sent: {0}")]
    Unsendable(Malformed),
    #[error("the answer is none: {0}")]
    Garbage(String),
}

/// A framed request for the task of a connection, and the one who waits for the frame that answers it.
#[derive(Debug)]
pub(crate) struct Order {
    pub(super) kind: Kind,
    frame: Vec<u8>,
    max_answer: usize,
    limit: Duration,
    patience: Duration,
    ticket: Ticket,
    done: oneshot::Sender<Result<Vec<u8>, CallError>>,
}

/// A request whose stream broke. Whoever waits for it may ask again at once, and is told when the connection is known to
/// stand or is gone: not to get the same one again.
#[derive(Debug)]
pub(super) struct Broken {
    order: Order,
    error: CallError,
}

impl Broken {
    pub(super) fn settle(self) {
        self.order.settle(Err(self.error));
    }
}

impl CallError {
    /// What the peer did wrong, if it did.
    pub(crate) fn offence(&self) -> Option<Offence> {
        match self {
            Self::Garbage(why) => Some(Offence::Malformed(Malformed::Cbor(why.clone()))),
            _ => None,
        }
    }
}

impl Line {
    /// Sends the request and waits for its answer.
    pub(crate) async fn ask<E: Exchange>(
        self,
        request: E::Request,
    ) -> Result<Answer<E::Reply>, CallError> {
        let frame = encode(&request, E::MAX_REQUEST).map_err(CallError::Unsendable)?;
        drop(request);
        let (done, answer) = oneshot::channel();
        let order = Order {
            kind: E::KIND,
            frame,
            max_answer: E::MAX_ANSWER,
            limit: E::TIMEOUT,
            patience: E::PATIENCE,
            ticket: self.ticket,
            done,
        };
        if self.orders.send(order).is_err() {
            return Err(lost("it closed before the request was sent"));
        }
        let frame = answer
            .await
            .unwrap_or_else(|_| Err(lost("it closed before the answer")))?;
        E::answer(frame).map_err(|malformed| match malformed {
            // Some connections end as if all had been said.
            Malformed::CutOff => lost("it closed in the middle of the answer"),
            malformed => CallError::Garbage(malformed.to_string()),
        })
    }
}

impl Order {
    /// Sends it over a stream of its own, and hands on the answer. What broke is left to be settled.
    pub(super) async fn carry_out(mut self, mut stream: Stream, codec: &Codec) -> Option<Broken> {
        let frame = std::mem::take(&mut self.frame);
        let (max_answer, patience) = (self.max_answer, self.patience);
        let exchange = async {
            codec.write_frame(&mut stream, &frame).await?;
            drop(frame);
            // Over QUIC an end is only known to have arrived a round trip later, and the answer may be here by then.
            let (mut answers, mut requests) = stream.split();
            let (answer, ()) = try_join(
                read_answer(&mut answers, max_answer, patience),
                requests.close(),
            )
            .await?;
            Ok::<_, io::Error>(answer)
        };
        let outcome = match timeout(self.limit, exchange).await {
            Ok(outcome) => outcome.map_err(CallError::from),
            Err(_) => Err(CallError::Timeout),
        };
        self.end(outcome)
    }

    /// No stream could be had for it.
    pub(super) fn fail(
        self,
        error: StreamUpgradeError<std::convert::Infallible>,
    ) -> Option<Broken> {
        self.end(Err(match error {
            StreamUpgradeError::Timeout => CallError::Timeout,
            StreamUpgradeError::NegotiationFailed => CallError::Unsupported,
            StreamUpgradeError::Io(error) => error.into(),
            StreamUpgradeError::Apply(never) => match never {},
        }))
    }

    fn end(self, outcome: Result<Vec<u8>, CallError>) -> Option<Broken> {
        match outcome {
            Err(error @ CallError::Lost(_)) => Some(Broken { order: self, error }),
            outcome => {
                self.settle(outcome);
                None
            }
        }
    }

    fn settle(self, outcome: Result<Vec<u8>, CallError>) {
        drop(self.ticket);
        // A requester that no longer waits needs no answer.
        let _ = self.done.send(outcome);
    }
}

fn lost(why: &str) -> CallError {
    CallError::Lost(why.to_owned())
}

impl From<io::Error> for CallError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => Self::Garbage(error.to_string()),
            io::ErrorKind::TimedOut => Self::Timeout,
            _ => Self::Lost(error.to_string()),
        }
    }
}

impl From<CallError> for Fault {
    fn from(error: CallError) -> Self {
        let (category, code) = match &error {
            CallError::Timeout => (Category::NetworkTransient, "network_timeout"),
            CallError::Lost(_) => (Category::NetworkTransient, CONNECTION_LOST),
            CallError::Busy => (Category::StateContention, "peer_busy"),
            CallError::Unsupported => (Category::NetworkPermanent, "protocol_unsupported"),
            CallError::Unsendable(_) => (Category::InvalidInput, "unsendable_request"),
            CallError::Garbage(_) => (Category::VerificationFailed, "malformed_answer"),
        };
        Self::new(category, code, error.to_string())
    }
}
