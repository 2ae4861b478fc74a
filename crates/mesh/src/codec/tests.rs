//! Frames from peers that do what they like.

use std::pin::Pin;
use std::task::{Context, Poll};

use super::*;
use crate::wire::{Content, Dispatch, Lease, LeaseMessage, LeaseReply, Offer};
use futures::io::Cursor;
use libp2p::PeerId;
use memory::PEER_MEMORY;

fn codec(budget: usize) -> Codec {
    Codec {
        silence: Duration::from_millis(20),
        ..Codec::new(Budget::with_share(2 * budget, budget).pools(PeerId::random(), None))
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

/// Gives a byte after each of these pauses, in seconds, and ends.
struct Slow(Vec<Pin<Box<tokio::time::Sleep>>>);

impl Slow {
    fn new(pauses: &[u64]) -> Self {
        let mut at = Instant::now();
        let mut sleeps = Vec::new();
        for pause in pauses {
            at += Duration::from_secs(*pause);
            sleeps.insert(0, Box::pin(tokio::time::sleep_until(at)));
        }
        Self(sleeps)
    }
}

impl AsyncRead for Slow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Some(sleep) = self.0.last_mut() else {
            return Poll::Ready(Ok(0));
        };
        std::task::ready!(sleep.as_mut().poll(context));
        self.0.pop();
        into[0] = 0;
        Poll::Ready(Ok(1))
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

async fn read<E: Exchange>(codec: &Codec, bytes: &[u8]) -> Frame<E::Request> {
    codec.read_request::<E>(&mut Cursor::new(bytes)).await
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
    let codec = codec(STEP);
    let first = read::<Lease>(&codec, &a_lease()).await;
    assert!(matches!(first, Frame::Valid(..)));
    assert!(matches!(
        read::<Lease>(&codec, &a_lease()).await,
        Frame::Overload
    ));
    drop(first);
    assert!(matches!(
        read::<Lease>(&codec, &a_lease()).await,
        Frame::Valid(..)
    ));
}

// A peer may send the largest task, and leaves memory to others, whatever it has open on its connections.
const _: () = {
    let streams = 4 * 2 * (Offer::STREAMS + Lease::STREAMS + Content::STREAMS);
    assert!(PEER_MEMORY > Dispatch::MAX_REQUEST + STEP);
    assert!(8 * PEER_MEMORY <= DISPATCH_MEMORY);
    assert!(2 * streams * STEP <= MESSAGE_MEMORY);
};

#[tokio::test]
async fn garbage_an_empty_stream_and_a_tail_are_offences() {
    let codec = codec(10 * STEP);
    let tail = [a_lease(), vec![0]].concat();
    for bytes in [&b"garbage"[..], &[], &tail] {
        let frame = read::<Lease>(&codec, bytes).await;
        assert!(
            matches!(frame, Frame::Offending(Offence::Malformed(_))),
            "{frame:?}"
        );
    }
    assert!(
        matches!(read::<Lease>(&codec, &a_lease()).await, Frame::Valid(..)),
        "offences give their memory back"
    );
}

#[tokio::test]
async fn a_request_is_read_up_to_its_limit_and_no_further() {
    let codec = codec(10 * STEP);
    let frame = read::<Offer>(&codec, &vec![0xf6; Offer::MAX_REQUEST + 1]).await;
    assert!(
        matches!(
            frame,
            Frame::Offending(Offence::Malformed(Malformed::TooLong(_)))
        ),
        "{frame:?}"
    );
    let frame = read::<Offer>(&codec, &vec![0xf6; Offer::MAX_REQUEST]).await;
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
    let codec = codec(2 * Dispatch::MAX_REQUEST);
    let mut endless = futures::io::repeat(0);
    let frame = codec.read_request::<Dispatch>(&mut endless).await;
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
    let codec = codec(STEP);
    let mut half = Silent(a_lease()[..3].to_vec());
    let frame = codec.read_request::<Lease>(&mut half).await;
    assert!(
        matches!(frame, Frame::Offending(Offence::Silence)),
        "{frame:?}"
    );
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_left() {
    let codec = codec(STEP);
    let answer = || Answer::Ok(LeaseReply { known: true });
    codec
        .write_answer::<Lease>(&mut Full(100), &answer())
        .await
        .unwrap();
    let error = codec
        .write_answer::<Lease>(&mut Full(4), &answer())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn an_answer_that_is_too_long_becomes_a_refusal() {
    let codec = codec(STEP);
    let reply = crate::wire::ContentReply {
        total: 0,
        bytes: vec![0; Content::MAX_ANSWER],
    };
    let mut sent = Cursor::new(Vec::new());
    codec
        .write_answer::<Content>(&mut sent, &Answer::Ok(reply))
        .await
        .unwrap();
    let mut sent = Cursor::new(sent.into_inner());
    let bytes = read_answer(&mut sent, Content::MAX_ANSWER, SILENCE)
        .await
        .unwrap();
    let answer: Answer<crate::wire::ContentReply> = decode(&bytes, Content::MAX_ANSWER).unwrap();
    assert_eq!(
        answer.into_result().unwrap_err().code(),
        "unsendable_answer"
    );
}

#[tokio::test]
async fn an_answer_past_its_limit_or_none_at_all_is_an_error() {
    let mut endless = futures::io::repeat(0);
    let error = read_answer(&mut endless, Lease::MAX_ANSWER, SILENCE)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let error = read_answer(&mut Cursor::new([]), Lease::MAX_ANSWER, SILENCE)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_be_late_or_slow_but_not_go_silent() {
    let patience = Duration::from_secs(40);
    for (pauses, whole) in [
        (&[39, 14, 14, 14, 14][..], true),
        (&[41, 0], false),
        (&[0, 16, 0], false),
    ] {
        let mut slow = Slow::new(pauses);
        let answer = read_answer(&mut slow, Lease::MAX_ANSWER, patience).await;
        match whole {
            true => assert_eq!(answer.unwrap().len(), pauses.len()),
            false => assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::TimedOut),
        }
    }
}

#[tokio::test]
async fn a_request_that_ends_too_soon_is_told_from_one_that_is_none() {
    let codec = codec(10 * STEP);
    let whole = a_lease();
    for end in 0..whole.len() {
        let Frame::Offending(offence) = read::<Lease>(&codec, &whole[..end]).await else {
            panic!("{end} bytes are a request");
        };
        assert!(offence.is_cut_off(), "{end}: {offence}");
    }
    let Frame::Offending(offence) = read::<Lease>(&codec, b"\xffgarbage").await else {
        panic!("garbage is a request");
    };
    assert!(!offence.is_cut_off());
}
