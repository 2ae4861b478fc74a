//! What peers say to each other: five request-response protocols and four gossip topics, all in CBOR (RFC 8949).
//!
//! Every list, text and blob has a named limit that holds while decoding, so that a short frame cannot unfold into
//! much memory. A frame is one CBOR item that ends with the stream; unknown fields are ignored, so that a later
//! version can add some.

mod bounded;
mod chunk;
mod messages;

use std::time::Duration;

pub use messages::{
    Capacity, ContentReply, ContentRequest, DispatchReply, DispatchRequest, DispatchStatus,
    LeaseMessage, LeaseReply, NamedBytes, OfferReply, OfferRequest, OutputBlob,
};
pub(crate) use messages::{RelayAnnouncement, RelayRecord, RelaysReply, RelaysRequest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use worldcompute_fault::{Fault, Problem};

/// Bytes of a task, job, lease or correlation id.
pub const MAX_ID: usize = 128;
/// Bytes of a class, a file name or an output name.
pub const MAX_NAME: usize = 256;
/// Bytes of a reason or an error in words.
pub const MAX_TEXT: usize = 8 * 1024;
/// Acceptable-use classes in one message.
pub const MAX_CLASSES: usize = 32;
/// Inline inputs of one dispatch.
pub const MAX_INPUTS: usize = 256;
/// Outputs of one reply.
pub const MAX_OUTPUTS: usize = 256;
/// Addresses that one announcement may carry.
pub const MAX_ADDRESSES: usize = 16;
/// Addresses of one relay that others are told of.
pub const MAX_RELAY_ADDRESSES: usize = 8;
/// Relays that one answer may name.
pub const MAX_RELAYS: usize = 8;
/// Bytes of one message on the topic of relays.
pub const MAX_RELAY_ANNOUNCEMENT: usize = 8 * 1024;
/// Bytes of one content chunk.
pub const MAX_CHUNK: usize = 1024 * 1024;
/// Bytes of one message on the capacity topic.
pub const MAX_ANNOUNCEMENT: usize = 16 * 1024;
/// Bytes of one message on any other topic.
pub const MAX_PUBLISH: usize = 64 * 1024;
/// Bytes of one gossip transmission, envelope included.
pub const MAX_GOSSIP: usize = 1024 * 1024;
/// Room for a refusal in words beside any reply.
const REFUSAL: usize = 64 * 1024;

/// The request-response protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Offer,
    Dispatch,
    Lease,
    Content,
    PeerExchange,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [
        Self::Offer,
        Self::Dispatch,
        Self::Lease,
        Self::Content,
        Self::PeerExchange,
    ];

    pub(crate) const fn id(self) -> &'static str {
        match self {
            Self::Offer => Offer::ID,
            Self::Dispatch => Dispatch::ID,
            Self::Lease => Lease::ID,
            Self::Content => Content::ID,
            Self::PeerExchange => PeerExchange::ID,
        }
    }
}

/// One request-response protocol: its id, its two messages, its limits.
pub(crate) trait Exchange: Send + Sync + Sized + 'static {
    /// What the requester sends.
    type Request: Serialize + DeserializeOwned + Clone + Send + std::fmt::Debug + 'static;
    /// What it gets back.
    type Reply: Serialize + DeserializeOwned + Send + std::fmt::Debug + 'static;
    const KIND: Kind;
    const ID: &'static str;
    /// Encoded bytes of a request.
    const MAX_REQUEST: usize;
    /// Encoded bytes of an answer.
    const MAX_ANSWER: usize;
    /// From opening the stream to the last byte of the answer.
    const TIMEOUT: Duration;
    /// From opening the stream to the first byte of the answer.
    const PATIENCE: Duration = Self::TIMEOUT;
    /// Requests of one peer in flight, in each direction.
    const STREAMS: usize;
    /// Whether asking twice does no more than asking once.
    const IDEMPOTENT: bool;

    /// Notes in a request that somebody opens the TLS on its way.
    fn mark_inspected(_: &mut Self::Request) {}

    /// The answer in a frame.
    fn answer(frame: Vec<u8>) -> Result<Answer<Self::Reply>, Malformed> {
        decode(&frame, Self::MAX_ANSWER)
    }
}

/// `/worldcompute/offer/1.0.0`: would you take this task?
#[derive(Debug)]
pub(crate) enum Offer {}

impl Exchange for Offer {
    type Request = OfferRequest;
    type Reply = OfferReply;
    const KIND: Kind = Kind::Offer;
    const ID: &'static str = "/worldcompute/offer/1.0.0";
    const MAX_REQUEST: usize = 16 * 1024;
    const MAX_ANSWER: usize = REFUSAL;
    const TIMEOUT: Duration = Duration::from_secs(10);
    const STREAMS: usize = 100;
    const IDEMPOTENT: bool = true;
}

/// `/worldcompute/dispatch/1.0.0`: run this task.
#[derive(Debug)]
pub(crate) enum Dispatch {}

impl Exchange for Dispatch {
    type Request = DispatchRequest;
    type Reply = DispatchReply;
    const KIND: Kind = Kind::Dispatch;
    const ID: &'static str = "/worldcompute/dispatch/1.0.0";
    const MAX_REQUEST: usize = 16 * 1024 * 1024;
    const MAX_ANSWER: usize = 16 * 1024 * 1024 + REFUSAL;
    const TIMEOUT: Duration = Duration::from_secs(600);
    const STREAMS: usize = 20;
    const IDEMPOTENT: bool = false;

    fn mark_inspected(request: &mut DispatchRequest) {
        request.inspected = true;
    }
}

/// `/worldcompute/lease/1.0.0`: I still want it; stop it.
#[derive(Debug)]
pub(crate) enum Lease {}

impl Exchange for Lease {
    type Request = LeaseMessage;
    type Reply = LeaseReply;
    const KIND: Kind = Kind::Lease;
    const ID: &'static str = "/worldcompute/lease/1.0.0";
    const MAX_REQUEST: usize = 4 * 1024;
    const MAX_ANSWER: usize = REFUSAL;
    const TIMEOUT: Duration = Duration::from_secs(10);
    const STREAMS: usize = 100;
    const IDEMPOTENT: bool = true;
}

/// `/worldcompute/content/1.0.0`: give me these bytes of that object.
#[derive(Debug)]
pub(crate) enum Content {}

impl Exchange for Content {
    type Request = ContentRequest;
    type Reply = ContentReply;
    const KIND: Kind = Kind::Content;
    const ID: &'static str = "/worldcompute/content/1.0.0";
    const MAX_REQUEST: usize = 4 * 1024;
    const MAX_ANSWER: usize = MAX_CHUNK + REFUSAL;
    /// Several chunks share a path, and some paths are slow. Who says nothing is left sooner.
    const TIMEOUT: Duration = Duration::from_secs(300);
    const PATIENCE: Duration = Duration::from_secs(30);
    const STREAMS: usize = 16;
    const IDEMPOTENT: bool = true;

    fn answer(frame: Vec<u8>) -> Result<Answer<ContentReply>, Malformed> {
        match chunk::cut_out(frame) {
            Ok(reply) => Ok(Answer::Ok(reply)),
            Err(frame) => decode(&frame, Self::MAX_ANSWER),
        }
    }
}

/// `/worldcompute/relays/1.0.0`: which relays did you reach?
#[derive(Debug)]
pub(crate) enum PeerExchange {}

impl Exchange for PeerExchange {
    type Request = RelaysRequest;
    type Reply = RelaysReply;
    const KIND: Kind = Kind::PeerExchange;
    const ID: &'static str = "/worldcompute/relays/1.0.0";
    const MAX_REQUEST: usize = 1024;
    const MAX_ANSWER: usize = 32 * 1024 + REFUSAL;
    const TIMEOUT: Duration = Duration::from_secs(10);
    const STREAMS: usize = 4;
    const IDEMPOTENT: bool = true;
}

/// A gossip topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// Tasks that look for a donor.
    TaskAnnouncements,
    /// What donors can take. Published by [`Mesh::announce`](crate::Mesh::announce) only.
    CapacityUpdates,
    /// Who runs what.
    LeaseGrants,
    /// Where relays are. Published by relays only.
    RelayAnnouncements,
    /// Orders to stop, of whoever may give them. Passed on unread.
    KillSwitch,
    /// Who is shut out, by whoever may say so. Passed on unread.
    Bans,
    /// What else is decided together. Passed on unread.
    Governance,
}

impl Topic {
    /// Every topic.
    pub const ALL: [Self; 7] = [
        Self::TaskAnnouncements,
        Self::CapacityUpdates,
        Self::LeaseGrants,
        Self::RelayAnnouncements,
        Self::KillSwitch,
        Self::Bans,
        Self::Governance,
    ];

    /// The topic's name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TaskAnnouncements => "wc/task-announcements/1.0.0",
            Self::CapacityUpdates => "wc/capacity-updates/1.0.0",
            Self::LeaseGrants => "wc/lease-grants/1.0.0",
            Self::RelayAnnouncements => "wc/relay-announcements/1.0.0",
            Self::KillSwitch => "wc/kill-switch/1.0.0",
            Self::Bans => "wc/bans/1.0.0",
            Self::Governance => "wc/governance/1.0.0",
        }
    }
}

/// What comes back on a stream: the reply, or the fault with which the other side refused.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer<T> {
    #[serde(rename = "ok")]
    Ok(T),
    #[serde(rename = "refused")]
    Refused(Box<Problem>),
}

impl<T> Answer<T> {
    pub(crate) fn refused(fault: &Fault) -> Self {
        Self::Refused(Box::new(fault.problem("")))
    }

    pub(crate) fn into_result(self) -> Result<T, Fault> {
        match self {
            Self::Ok(reply) => Ok(reply),
            Self::Refused(problem) => Err(Fault::from_problem(*problem)),
        }
    }
}

/// What travels on the capacity topic. Without a capacity it says "I am new here, who are you?".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Announcement {
    /// Grows with every announcement of one peer, across its restarts: milliseconds since the epoch, or one more
    /// than the last if the clock stood still.
    pub sequence: u64,
    pub capacity: Option<Capacity>,
}

impl Announcement {
    /// What its types alone do not say.
    pub(crate) fn check(&self) -> Result<(), Malformed> {
        match &self.capacity {
            Some(capacity) if !(0.0..=1.0).contains(&capacity.load) => {
                Err(Malformed::Value("a load outside of 0 to 1"))
            }
            // Whoever lists donors shows their classes on a terminal, which unprintable ones could steer.
            Some(capacity) if !capacity.classes.iter().all(|class| is_plain(class)) => {
                Err(Malformed::Value("a class of other than printable ASCII"))
            }
            _ => Ok(()),
        }
    }
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("not the expected CBOR: {0}")]
    Cbor(String),
    #[error("it was cut off")]
    CutOff,
    #[error("{0} bytes follow the message")]
    Trailing(usize),
    #[error("longer than {0} bytes")]
    TooLong(usize),
    #[error("{0}")]
    Value(&'static str),
}

/// Exactly one CBOR item of `T`, no longer than `limit` bytes.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, Malformed> {
    if bytes.len() > limit {
        return Err(Malformed::TooLong(limit));
    }
    let mut rest = bytes;
    let value = ciborium::from_reader(&mut rest).map_err(|error| cause(&error))?;
    match rest.len() {
        0 => Ok(value),
        trailing => Err(Malformed::Trailing(trailing)),
    }
}

/// The bytes of `value`, refused past `limit` so that the peer need not.
pub(crate) fn encode<T: Serialize>(value: &T, limit: usize) -> Result<Vec<u8>, Malformed> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).map_err(|error| Malformed::Cbor(error.to_string()))?;
    if bytes.len() > limit {
        return Err(Malformed::TooLong(limit));
    }
    Ok(bytes)
}

fn cause(error: &ciborium::de::Error<std::io::Error>) -> Malformed {
    // All of it is in memory: reading fails only where it ends too soon.
    if matches!(error, ciborium::de::Error::Io(_)) {
        return Malformed::CutOff;
    }
    let mut text = error.to_string();
    text.truncate(text.floor_char_boundary(MAX_NAME));
    Malformed::Cbor(text)
}

#[cfg(test)]
mod tests;
