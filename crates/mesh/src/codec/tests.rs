//! Frames from peers that do what they like.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::io::Cursor;
use libp2p::request_response::Codec as _;

use super::*;
use crate::wire::{Dispatch, Lease, LeaseMessage, LeaseReply, Offer};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/test");

fn codec<E>(budget: usize) -> Codec<E> {
    Codec {
        silence: Duration::from_millis(20),
        ..Codec::new(Budget::new(budget))
    }
}

/// Gives its bytes and then nothing, not even an end.
struct Silent(Vec<u8>);

impl AsyncRead for Silent {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.0.is_empty() {
            return Poll::Pending;
        }
        let count = self.0.len().min(into.len());
        into[..count].copy_from_slice(&self.0[..count]);
        self.0.drain(..count);
        Poll::Ready(Ok(count))
    }
}

/// Takes so many bytes and then none.
struct Full(usize);

impl AsyncWrite for Full {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = self.0.min(bytes.len());
        self.0 -= count;
        if count == 0 {
            Poll::Pending
        } else {
            Poll::Ready(Ok(count))
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

async fn read<E: Exchange>(codec: &mut Codec<E>, bytes: &[u8]) -> Frame<E::Request> {
    codec
        .read_request(&PROTOCOL, &mut Cursor::new(bytes))
        .await
        .unwrap()
}

fn a_task() -> crate::wire::DispatchRequest {
    crate::wire::DispatchRequest {
        lease_id: "l".to_owned(),
        job_id: "j".to_owned(),
        task_id: "t".to_owned(),
        task_index: 0,
        attempt: 1,
        manifest: Vec::new(),
        inline_inputs: Vec::new(),
        trace: Vec::new(),
        correlation_id: "c".to_owned(),
        inspected: false,
    }
}

fn a_lease() -> Vec<u8> {
    encode(
        &LeaseMessage::Cancel {
            lease_id: "l".to_owned(),
        },
        1000,
    )
    .unwrap()
}

#[tokio::test]
async fn a_request_is_read_and_holds_its_memory_until_it_is_dropped() {
    let mut codec = codec::<Lease>(STEP);
    let first = read(&mut codec, &a_lease()).await;
    assert!(matches!(first, Frame::Valid(..)));
    assert!(matches!(
        read(&mut codec, &a_lease()).await,
        Frame::Overload
    ));
    drop(first);
    assert!(matches!(
        read(&mut codec, &a_lease()).await,
        Frame::Valid(..)
    ));
}

#[tokio::test]
async fn one_connection_takes_its_share_of_the_memory_and_leaves_the_rest_to_others() {
    let behaviour: Codec<Dispatch> = Codec::new(Budget::with_share(6 * STEP, 2 * STEP));
    let connection = behaviour.clone();
    let (mut first, mut second) = (connection.clone(), connection.clone());
    let mut other = behaviour.clone();
    let task = encode(&a_task(), Dispatch::MAX_REQUEST).unwrap();
    let held = [
        read(&mut first, &task).await,
        read(&mut second, &task).await,
    ];
    assert!(held.iter().all(|frame| matches!(frame, Frame::Valid(..))));
    assert!(matches!(read(&mut first, &task).await, Frame::Overload));
    assert!(matches!(read(&mut other, &task).await, Frame::Valid(..)));
    drop(held);
    assert!(matches!(read(&mut first, &task).await, Frame::Valid(..)));
}

// The connections of one peer leave memory to others. Of other requests than tasks the number of streams keeps a
// connection below its share.
const _: () = {
    let streams = 2 * (Offer::STREAMS + Lease::STREAMS + crate::wire::Content::STREAMS);
    assert!(2 * 4 * CONNECTION_MEMORY <= DISPATCH_MEMORY);
    assert!(2 * 4 * streams * STEP <= MESSAGE_MEMORY);
    assert!(CONNECTION_MEMORY > Dispatch::MAX_REQUEST + STEP);
};

#[tokio::test]
async fn garbage_an_empty_stream_and_a_tail_are_offences() {
    let mut codec = codec::<Lease>(10 * STEP);
    let tail = [a_lease(), vec![0]].concat();
    for bytes in [&b"garbage"[..], &[], &tail] {
        let frame = read(&mut codec, bytes).await;
        assert!(
            matches!(frame, Frame::Offending(Offence::Malformed(_))),
            "{frame:?}"
        );
    }
    assert!(
        matches!(read(&mut codec, &a_lease()).await, Frame::Valid(..)),
        "offences give their memory back"
    );
}

#[tokio::test]
async fn a_request_is_read_up_to_its_limit_and_no_further() {
    let mut codec = codec::<Offer>(10 * STEP);
    let frame = read(&mut codec, &vec![0xf6; Offer::MAX_REQUEST + 1]).await;
    assert!(
        matches!(
            frame,
            Frame::Offending(Offence::Malformed(Malformed::TooLong(_)))
        ),
        "{frame:?}"
    );
    let frame = read(&mut codec, &vec![0xf6; Offer::MAX_REQUEST]).await;
    assert!(
        matches!(
            frame,
            Frame::Offending(Offence::Malformed(Malformed::Cbor(_)))
        ),
        "{frame:?}"
    );
}

#[tokio::test]
async fn a_stream_without_end_is_left_soon_after_its_limit() {
    let mut codec = codec::<Dispatch>(2 * Dispatch::MAX_REQUEST);
    let mut endless = futures::io::repeat(0);
    let frame = codec.read_request(&PROTOCOL, &mut endless).await.unwrap();
    assert!(
        matches!(
            frame,
            Frame::Offending(Offence::Malformed(Malformed::TooLong(_)))
        ),
        "{frame:?}"
    );
}

#[tokio::test]
async fn silence_in_the_middle_of_a_request_is_an_offence() {
    let mut codec = codec::<Lease>(STEP);
    let mut half = Silent(a_lease()[..3].to_vec());
    let frame = codec.read_request(&PROTOCOL, &mut half).await.unwrap();
    assert!(
        matches!(frame, Frame::Offending(Offence::Silence)),
        "{frame:?}"
    );
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_left() {
    let mut codec = codec::<Lease>(STEP);
    let answer = || Answer::Ok(LeaseReply { known: true });
    codec
        .write_response(&PROTOCOL, &mut Full(100), answer())
        .await
        .unwrap();
    let error = codec
        .write_response(&PROTOCOL, &mut Full(4), answer())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_request_that_is_too_long_is_not_sent() {
    let mut codec = codec::<Lease>(STEP);
    let request = LeaseMessage::Cancel {
        lease_id: "l".repeat(Lease::MAX_REQUEST),
    };
    let mut sent = Cursor::new(Vec::new());
    let frame = Frame::Valid(request, Permit::default());
    let error = codec
        .write_request(&PROTOCOL, &mut sent, frame)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), sent.into_inner().len()),
        (io::ErrorKind::InvalidInput, 0)
    );
}

#[tokio::test]
async fn an_answer_that_is_too_long_becomes_a_refusal() {
    let mut codec = codec::<crate::wire::Content>(STEP);
    let reply = crate::wire::ContentReply {
        total: 0,
        bytes: vec![0; crate::wire::Content::MAX_ANSWER],
    };
    let mut sent = Cursor::new(Vec::new());
    codec
        .write_response(&PROTOCOL, &mut sent, Answer::Ok(reply))
        .await
        .unwrap();
    let answer = codec
        .read_response(&PROTOCOL, &mut Cursor::new(sent.into_inner()))
        .await
        .unwrap();
    assert_eq!(
        answer.into_result().unwrap_err().code(),
        "unsendable_answer"
    );
}

#[tokio::test]
async fn an_answer_past_its_limit_or_none_at_all_is_an_error() {
    let mut codec = codec::<Lease>(STEP);
    let mut endless = futures::io::repeat(0);
    let error = codec
        .read_response(&PROTOCOL, &mut endless)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let error = codec
        .read_response(&PROTOCOL, &mut Cursor::new([]))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}
