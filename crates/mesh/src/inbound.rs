//! Requests of other peers, and the means to answer them.

use tokio::sync::oneshot;
use worldcompute_fault::{Category, Fault};
use worldcompute_proof::PeerId;

use crate::codec::Permit;
use crate::status::Path;
use crate::wire::{
    Answer, ContentReply, ContentRequest, DispatchReply, DispatchRequest, LeaseMessage, LeaseReply,
    OfferReply, OfferRequest,
};

/// A request of another peer.
///
/// It counts against the memory that all inbound requests share until it is dropped or taken apart.
#[derive(Debug)]
pub struct Inbound {
    /// Who asks; the connection proves it.
    pub from: PeerId,
    /// How the request came.
    pub path: Path,
    /// Whether a box opens the TLS on this node's way to who asks.
    pub inspected: bool,
    /// What is asked, and the means to answer.
    pub request: Request,
    pub(crate) _memory: Permit,
}

/// What is asked, each with its responder.
#[derive(Debug)]
pub enum Request {
    /// Would you take this task?
    Offer(OfferRequest, Responder<OfferReply>),
    /// Run this task.
    Dispatch(Box<DispatchRequest>, Responder<DispatchReply>),
    /// Keep or end this lease.
    Lease(LeaseMessage, Responder<LeaseReply>),
    /// Give me a part of this object.
    Content(ContentRequest, Responder<ContentReply>),
}

/// Answers one request, once. Dropped without an answer, it tells the other side that there is none.
#[derive(Debug)]
pub struct Responder<T> {
    answer: oneshot::Sender<Answer<T>>,
}

impl<T> Responder<T> {
    pub(crate) fn new() -> (Self, oneshot::Receiver<Answer<T>>) {
        let (answer, waiting) = oneshot::channel();
        (Self { answer }, waiting)
    }

    /// Sends the reply. False when nobody waits any more.
    pub fn send(self, reply: T) -> bool {
        self.answer.send(Answer::Ok(reply)).is_ok()
    }

    /// Refuses; the other side gets the same fault. False when nobody waits any more.
    pub fn refuse(self, fault: &Fault) -> bool {
        self.answer.send(Answer::refused(fault)).is_ok()
    }

    /// Whether the other side has given up: its time ran out or its connection is gone.
    pub fn is_closed(&self) -> bool {
        self.answer.is_closed()
    }

    /// Waits until the other side gives up.
    pub async fn closed(&mut self) {
        self.answer.closed().await;
    }
}

/// What a requester is told when the application dropped its request.
pub(crate) fn unanswered() -> Fault {
    Fault::new(
        Category::InternalFailure,
        "unanswered",
        "the peer took the request and gave no answer",
    )
}

/// What a requester is told whose request ended too soon.
pub(crate) fn cut_off() -> Fault {
    Fault::new(
        Category::InvalidInput,
        "request_cut_off",
        "the request ended before it was whole",
    )
}

/// What a requester is told when there is no room for its request.
pub(crate) fn busy() -> Fault {
    Fault::new(
        Category::StateContention,
        "peer_busy",
        "the peer has too many requests waiting",
    )
    .hint("ask again in a moment, or ask another peer")
}

impl Request {
    /// Refuses, whatever was asked.
    pub fn refuse(self, fault: &Fault) -> bool {
        match self {
            Self::Offer(_, responder) => responder.refuse(fault),
            Self::Dispatch(_, responder) => responder.refuse(fault),
            Self::Lease(_, responder) => responder.refuse(fault),
            Self::Content(_, responder) => responder.refuse(fault),
        }
    }
}
