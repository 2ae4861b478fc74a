//! Bytes over WebSocket: each write is one binary message, and messages have no meaning of their own.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::protocol::WebSocketConfig;
use async_tungstenite::tungstenite::{Bytes, Error, Message};
use futures::{AsyncRead, AsyncWrite, Sink, Stream};

/// A message of more bytes is refused. Noise makes frames of 64 KiB and a few bytes.
const MAX_MESSAGE: usize = 66 * 1024;
/// Messages without a byte for us, one after the other. Proxies send some; more are a way to make us work.
const MAX_EMPTY: u32 = 32;
/// Kept for each connection and direction.
const BUFFER: usize = 16 * 1024;

pub(super) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_write_buffer_size(BUFFER + 2 * MAX_MESSAGE)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}

/// A WebSocket as a stream of bytes.
pub(crate) struct ByteStream<S> {
    socket: WebSocketStream<S>,
    /// What came in and was not read yet.
    left: Bytes,
    /// Messages since the last that had something in it.
    empty: u32,
}

impl<S> ByteStream<S> {
    pub(super) fn new(socket: WebSocketStream<S>) -> Self {
        Self {
            socket,
            left: Bytes::new(),
            empty: 0,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ByteStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        while self.left.is_empty() {
            if self.empty > MAX_EMPTY {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "message after message with nothing in it",
                )));
            }
            let message = ready!(Pin::new(&mut self.socket).poll_next(cx));
            // Only what came counts: being asked while nothing comes is no message.
            self.empty += 1;
            match message {
                Some(Ok(Message::Binary(bytes))) => self.left = bytes,
                // Answered below; some proxies send them.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_))) => {}
                Some(Ok(Message::Text(_) | Message::Frame(_))) => {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "a message that is not binary",
                    )));
                }
                Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) | None => {
                    return Poll::Ready(Ok(0));
                }
                Some(Err(error)) => return Poll::Ready(Err(of_websocket(error))),
            }
        }
        self.empty = 0;
        let count = buffer.len().min(self.left.len());
        let bytes = self.left.split_to(count);
        buffer
            .iter_mut()
            .zip(&bytes)
            .for_each(|(to, from)| *to = *from);
        Poll::Ready(Ok(count))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ByteStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let part = bytes.get(..MAX_MESSAGE).unwrap_or(bytes);
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(of_websocket)?;
        let message = Message::Binary(Bytes::copy_from_slice(part));
        Pin::new(&mut self.socket)
            .start_send(message)
            .map_err(of_websocket)?;
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket)
            .poll_flush(cx)
            .map_err(of_websocket)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket)
            .poll_close(cx)
            .map_err(of_websocket)
    }
}

pub(super) fn of_websocket(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use async_tungstenite::tungstenite::protocol::Role;
    use futures::{AsyncReadExt, AsyncWriteExt};
    use tokio_util::compat::TokioAsyncReadCompatExt;

    use super::*;

    type Socket = tokio_util::compat::Compat<tokio::io::DuplexStream>;

    async fn pair() -> (ByteStream<Socket>, WebSocketStream<Socket>) {
        let (here, there) = tokio::io::duplex(64 * 1024);
        let ours = WebSocketStream::from_raw_socket(here.compat(), Role::Server, Some(config()));
        let theirs = WebSocketStream::from_raw_socket(there.compat(), Role::Client, None);
        (ByteStream::new(ours.await), theirs.await)
    }

    #[tokio::test]
    async fn messages_are_read_as_one_stream_whatever_their_sizes() {
        let (mut ours, mut theirs) = pair().await;
        for part in ["one ", "", "two"] {
            theirs.send(Message::binary(part)).await.unwrap();
            theirs.send(Message::Ping("!".into())).await.unwrap();
        }
        let mut read = vec![0; 7];
        ours.read_exact(&mut read).await.unwrap();
        assert_eq!(read, b"one two");
        theirs.close(None).await.unwrap();
        assert_eq!(ours.read(&mut read).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn messages_with_nothing_in_them_end_the_connection_when_they_are_too_many() {
        for empty in [Message::binary(""), Message::Ping("!".into())] {
            for (count, fails) in [(MAX_EMPTY, false), (MAX_EMPTY + 1, true)] {
                let (mut ours, mut theirs) = pair().await;
                for _ in 0..count {
                    theirs.send(empty.clone()).await.unwrap();
                }
                theirs.send(Message::binary("x")).await.unwrap();
                assert_eq!(ours.read(&mut [0; 8]).await.is_err(), fails, "{count}");
            }
        }
    }

    #[tokio::test]
    async fn waiting_is_no_message_however_often_the_stream_is_asked() {
        let (mut ours, mut theirs) = pair().await;
        for _ in 0..=2 * MAX_EMPTY {
            let mut buffer = [0; 8];
            assert!(futures::poll!(ours.read(&mut buffer)).is_pending());
        }
        theirs.send(Message::binary("x")).await.unwrap();
        assert_eq!(ours.read(&mut [0; 8]).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn text_is_no_part_of_the_stream() {
        let (mut ours, mut theirs) = pair().await;
        theirs.send(Message::text("hello")).await.unwrap();
        let error = ours.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn a_message_past_the_limit_ends_the_connection() {
        let (mut ours, mut theirs) = pair().await;
        let sent =
            tokio::spawn(
                async move { theirs.send(Message::binary(vec![7; MAX_MESSAGE + 1])).await },
            );
        assert!(ours.read(&mut [0; 8]).await.is_err());
        drop(ours);
        // Whether the whole of it was taken before the connection went is chance.
        let _ = sent.await.unwrap();
    }

    #[tokio::test]
    async fn a_long_write_is_taken_in_parts_that_are_within_the_limit() {
        let (mut ours, mut theirs) = pair().await;
        let written = vec![7; 3 * MAX_MESSAGE];
        let sent = written.clone();
        let writer = tokio::spawn(async move {
            ours.write_all(&sent).await.unwrap();
            ours.close().await.unwrap();
        });
        let mut read = Vec::new();
        while let Some(Ok(message)) = futures::StreamExt::next(&mut theirs).await {
            assert!(message.len() <= MAX_MESSAGE);
            read.extend_from_slice(&message.into_data());
        }
        writer.await.unwrap();
        assert_eq!(read, written);
    }
}
