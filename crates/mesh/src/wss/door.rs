//! The moment between TLS and WebSocket: one request of HTTP, in which a member of the mesh asks for the upgrade, and
//! anybody else is answered as by any other website.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_tungstenite::tungstenite::ClientRequestBuilder;
use async_tungstenite::{accept_async_with_config, client_async_with_config};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::address::{ROOT, Target};
use super::stream::{ByteStream, config, of_websocket};

/// Bytes of a request before its body.
const MAX_HEAD: usize = 8 * 1024;
/// What ends it.
const END: &[u8] = b"\r\n\r\n";
/// Lines of it.
const MAX_HEADERS: usize = 64;

const PAGE: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>World Compute</title>\n\
    <h1>World Compute</h1>\n<p>This is a relay: it passes on what volunteers' machines say to each other. \
    It cannot read it.</p>\n</html>\n";

/// Asks for the upgrade.
pub(super) async fn knock<S>(tls: S, target: &Target) -> io::Result<ByteStream<Prefixed<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let url = format!("wss://{}{ROOT}", target.host);
    let url = url
        .parse()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let request = ClientRequestBuilder::new(url);
    let (socket, _) =
        client_async_with_config(request, Prefixed::new(Vec::new(), tls), Some(config()))
            .await
            .map_err(of_websocket)?;
    Ok(ByteStream::new(socket))
}

/// Grants the upgrade, or answers the visitor and ends with an error that says who it was.
pub(super) async fn open<S>(mut tls: S) -> io::Result<ByteStream<Prefixed<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let head = read_head(&mut tls).await?;
    match answer(&head) {
        None => accept_async_with_config(Prefixed::new(head, tls), Some(config()))
            .await
            .map(ByteStream::new)
            .map_err(of_websocket),
        Some(answer) => {
            tls.write_all(&answer).await?;
            tls.close().await?;
            Err(io::Error::other("a visitor who is no member of the mesh"))
        }
    }
}

/// Reads until the empty line, and no more than [`MAX_HEAD`]. What came after it is there too.
async fn read_head<S: AsyncRead + Unpin>(tls: &mut S) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut part = [0; 1024];
    loop {
        let count = tls.read(&mut part).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // The end may have begun in what came before.
        let seen = head.len().saturating_sub(END.len() - 1);
        head.extend(part.iter().take(count));
        if head.len() >= MAX_HEAD || ends(head.get(seen..).unwrap_or_default()) {
            return Ok(head);
        }
    }
}

fn ends(head: &[u8]) -> bool {
    head.windows(END.len()).any(|window| window == END)
}

/// What a visitor is answered. None for who asks for WebSocket.
pub(crate) fn answer(head: &[u8]) -> Option<Vec<u8>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let whole = request.parse(head).is_ok_and(|status| status.is_complete());
    if !whole {
        return Some(response("400 Bad Request", "", true));
    }
    let upgrades = request.headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case("upgrade")
            && header.value.eq_ignore_ascii_case(b"websocket")
    });
    let path = request
        .path
        .map(|path| path.split_once('?').map_or(path, |(path, _)| path));
    match (request.method, path) {
        (Some("GET"), _) if upgrades => None,
        (Some("GET"), Some("/")) => Some(response("200 OK", PAGE, true)),
        (Some("HEAD"), Some("/")) => Some(response("200 OK", PAGE, false)),
        (Some("GET" | "HEAD"), _) => Some(response("404 Not Found", "", true)),
        _ => Some(response("405 Method Not Allowed", "", true)),
    }
}

fn response(status: &str, page: &str, with_body: bool) -> Vec<u8> {
    let allow = if status.starts_with("405") {
        "Allow: GET, HEAD\r\n"
    } else {
        ""
    };
    let body = if with_body { page } else { "" };
    format!(
        "HTTP/1.1 {status}\r\n{allow}Content-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        page.len()
    )
    .into_bytes()
}

/// A stream of which the beginning was read already.
pub(crate) struct Prefixed<S> {
    head: Vec<u8>,
    read: usize,
    rest: S,
}

impl<S> Prefixed<S> {
    fn new(head: Vec<u8>, rest: S) -> Self {
        Self {
            head,
            read: 0,
            rest,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let left = this.head.get(this.read..).unwrap_or_default();
        if left.is_empty() {
            return Pin::new(&mut this.rest).poll_read(cx, buffer);
        }
        let count = left.len().min(buffer.len());
        buffer
            .iter_mut()
            .zip(left)
            .for_each(|(to, from)| *to = *from);
        this.read += count;
        if this.read == this.head.len() {
            // It is not needed again for as long as the connection lasts.
            this.head = Vec::new();
            this.read = 0;
        }
        Poll::Ready(Ok(count))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.rest).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::compat::TokioAsyncReadCompatExt;

    use super::*;

    /// What a visitor who sends these bytes gets.
    async fn visit(bytes: &[u8]) -> String {
        let (here, there) = tokio::io::duplex(64 * 1024);
        let opened = tokio::spawn(async move { open(here.compat()).await.err().map(|e| e.kind()) });
        let mut visitor = there.compat();
        visitor.write_all(bytes).await.unwrap();
        let mut answer = String::new();
        visitor.read_to_string(&mut answer).await.unwrap();
        assert!(opened.await.unwrap().is_some(), "no connection of the mesh");
        answer
    }

    #[tokio::test]
    async fn a_browser_gets_a_page() {
        let answer = visit(b"GET / HTTP/1.1\r\nHost: relay.example\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", PAGE.len())));
        assert_eq!(body, PAGE);
        let head = visit(b"HEAD / HTTP/1.1\r\nHost: relay.example\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"));
    }

    #[tokio::test]
    async fn other_visitors_are_answered_as_by_any_website() {
        let long = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'a'; MAX_HEAD]].concat();
        let many = [
            b"GET / HTTP/1.1\r\n".as_slice(),
            &b"X: y\r\n".repeat(MAX_HEADERS + 1),
            b"\r\n",
        ]
        .concat();
        for (bytes, status) in [
            (b"GET /admin HTTP/1.1\r\n\r\n".as_slice(), "404"),
            (b"GET /?utm=1 HTTP/1.1\r\n\r\n", "200"),
            (b"POST / HTTP/1.1\r\n\r\n", "405"),
            (b"POST / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", "405"),
            (b"\x16\x03\x01\r\n\r\n", "400"),
            (b"\r\n\r\n", "400"),
            (&long, "400"),
            (&many, "400"),
        ] {
            let answer = visit(bytes).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
        }
    }

    #[tokio::test]
    async fn a_member_gets_through_also_when_its_first_bytes_come_with_the_request() {
        let (here, there) = tokio::io::duplex(64 * 1024);
        let opened = tokio::spawn(async move {
            let mut stream = open(here.compat()).await.unwrap();
            let mut read = [0; 5];
            stream.read_exact(&mut read).await.unwrap();
            read
        });
        let target = Target::of(&"/ip4/192.0.2.1/tcp/443/tls/ws".parse().unwrap()).unwrap();
        let mut member = knock(there.compat(), &target).await.unwrap();
        member.write_all(b"hello").await.unwrap();
        member.flush().await.unwrap();
        assert_eq!(&opened.await.unwrap(), b"hello");
    }
}
