//! Requests of this node on their way: which behaviour sends them, what is told when they fail.

use tokio::sync::oneshot;
use worldcompute_fault::{Category, Fault, Result};

use crate::behaviour::Behaviour;
use crate::exchange::{CallError, Exchanger};
use crate::inbound::{Request, Responder};
use crate::wire::{Content, Dispatch, Exchange, Lease, Offer};

/// The code of a request whose connection broke before the answer.
pub(crate) const CONNECTION_LOST: &str = "connection_lost";

/// A request and the one who waits for its answer.
#[derive(Debug)]
pub(crate) struct Call<E: Exchange> {
    pub request: E::Request,
    pub done: oneshot::Sender<Result<E::Reply>>,
}

/// A request of any protocol.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Offer(Call<Offer>),
    Dispatch(Box<Call<Dispatch>>),
    Lease(Call<Lease>),
    Content(Call<Content>),
}

/// What the driver has to know of a protocol to send it and to hand it on.
pub(crate) trait Sends: Exchange {
    fn outgoing(call: Call<Self>) -> Outgoing;
    fn exchanger(behaviour: &mut Behaviour) -> &mut Exchanger<Self>;
    fn inbound(request: Self::Request, responder: Responder<Self::Reply>) -> Request;
}

impl Outgoing {
    /// Sends the request on a connection that stands. A task tells that somebody opens the TLS on its way.
    pub(crate) fn send(self, peer: libp2p::PeerId, inspected: bool, behaviour: &mut Behaviour) {
        match self {
            Self::Offer(call) => call.send(peer, behaviour),
            Self::Dispatch(mut call) => {
                call.request.inspected |= inspected;
                call.send(peer, behaviour)
            }
            Self::Lease(call) => call.send(peer, behaviour),
            Self::Content(call) => call.send(peer, behaviour),
        }
    }

    /// Fails the request before it was sent.
    pub(crate) fn fail(self, fault: Fault) {
        // Whoever no longer waits need not be told.
        match self {
            Self::Offer(call) => drop(call.done.send(Err(fault))),
            Self::Dispatch(call) => drop(call.done.send(Err(fault))),
            Self::Lease(call) => drop(call.done.send(Err(fault))),
            Self::Content(call) => drop(call.done.send(Err(fault))),
        }
    }
}

impl<E: Sends> Call<E> {
    fn send(self, peer: libp2p::PeerId, behaviour: &mut Behaviour) {
        E::exchanger(behaviour).call(peer, self.request, self.done);
    }
}

macro_rules! sends {
    ($exchange:ident, $field:ident, $outgoing:expr, $request:expr) => {
        impl Sends for $exchange {
            fn outgoing(call: Call<Self>) -> Outgoing {
                $outgoing(call.into())
            }

            fn exchanger(behaviour: &mut Behaviour) -> &mut Exchanger<Self> {
                &mut behaviour.$field
            }

            fn inbound(request: Self::Request, responder: Responder<Self::Reply>) -> Request {
                $request(request.into(), responder)
            }
        }
    };
}

sends!(Offer, offer, Outgoing::Offer, Request::Offer);
sends!(Dispatch, dispatch, Outgoing::Dispatch, Request::Dispatch);
sends!(Lease, lease, Outgoing::Lease, Request::Lease);
sends!(Content, content, Outgoing::Content, Request::Content);

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
