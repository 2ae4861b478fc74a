//! A connection that is closed is gone soon, also where its last words cannot be sent: libp2p waits for them, and over a way
//! that is gone with bytes under way, that takes as long as the kernel tries, a quarter of an hour. Meanwhile the peer counts as
//! connected, and is not dialled anew.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent};
use tokio::time::{Sleep, sleep};

/// How long a connection that is closed waits for its last words to be sent.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A connection whose end is bounded.
pub(crate) struct Parting {
    connection: StreamMuxerBox,
    /// Until when it waits, once it is closed.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Parting {
    pub(crate) const fn new(connection: StreamMuxerBox) -> Self {
        Self {
            connection,
            patience: None,
        }
    }
}

impl StreamMuxer for Parting {
    type Substream = <StreamMuxerBox as StreamMuxer>::Substream;
    type Error = <StreamMuxerBox as StreamMuxer>::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        Pin::new(&mut self.connection).poll_inbound(cx)
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        Pin::new(&mut self.connection).poll_outbound(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if let Poll::Ready(closed) = Pin::new(&mut self.connection).poll_close(cx) {
            return Poll::Ready(closed);
        }
        let patience = self
            .patience
            .get_or_insert_with(|| Box::pin(sleep(LAST_WORDS)));
        patience.as_mut().poll(cx).map(Ok)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        Pin::new(&mut self.connection).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures::AsyncWriteExt;
    use futures::io::Cursor;
    use libp2p::core::muxing::StreamMuxerExt;
    use tokio::time::Instant;

    use super::*;

    /// A connection that never gets rid of its last words, or does so at once.
    struct Last(bool);

    impl StreamMuxer for Last {
        type Substream = Cursor<Vec<u8>>;
        type Error = io::Error;

        fn poll_inbound(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<io::Result<Self::Substream>> {
            Poll::Pending
        }

        fn poll_outbound(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<io::Result<Self::Substream>> {
            Poll::Ready(Ok(Cursor::new(Vec::new())))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            match self.0 {
                true => Poll::Ready(Ok(())),
                false => Poll::Pending,
            }
        }

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
            Poll::Pending
        }
    }

    async fn closes_after(sends: bool) -> Duration {
        let mut connection = Parting::new(StreamMuxerBox::new(Last(sends)));
        let stream = std::future::poll_fn(|cx| connection.poll_outbound_unpin(cx)).await;
        stream.unwrap().write_all(b"words").await.unwrap();
        let began = Instant::now();
        connection.close().await.unwrap();
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_last_words_cannot_be_sent_is_gone_after_a_while() {
        let took = closes_after(false).await;
        assert!((LAST_WORDS..2 * LAST_WORDS).contains(&took), "{took:?}");
        assert_eq!(closes_after(true).await, Duration::ZERO);
    }
}
