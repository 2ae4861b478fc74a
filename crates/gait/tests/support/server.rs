//! A registry that answers from a script.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "every test binary uses a part of it"
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;

use gait::registry::MAX_PACK_BYTES;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;
use worldcompute_proof::{Sha256, SigningKey, canonical_json};

/// What the server does with one connection.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    Status(u16),
    /// Sends the client to another address.
    Redirect(&'static str),
    Pack,
    /// Closes without a word, with the rest of the request unread.
    Hangup,
    /// Breaks off in the middle of the body.
    Torn,
    /// Breaks off in a body of no stated length, and says no good-bye: over TLS, what somebody else cut.
    Cut,
    Oversized,
    /// Speaks before it is spoken to, and no TLS.
    PlainText,
    /// Says nothing until the client goes away.
    Silent,
}

pub struct Server {
    pub address: String,
    scheme: &'static str,
    thread: JoinHandle<()>,
}

impl Server {
    pub fn start(answers: &'static [Answer]) -> Self {
        Self::serve(answers, None)
    }

    /// One that speaks TLS as `config` says.
    pub fn start_tls(answers: &'static [Answer], config: Arc<ServerConfig>) -> Self {
        Self::serve(answers, Some(config))
    }

    fn serve(answers: &'static [Answer], config: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let scheme = if config.is_some() { "https" } else { "http" };
        let thread = std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                // The client may be gone by the time it is answered, which is what some of these are about.
                let _ = answer.give(stream, config.as_ref());
            }
        });
        Self {
            address,
            scheme,
            thread,
        }
    }

    pub fn url(&self) -> String {
        format!("{}://{}/pack.json", self.scheme, self.address)
    }

    pub fn join(self) {
        self.thread.join().unwrap();
    }
}

impl Answer {
    fn give(
        self,
        mut stream: TcpStream,
        config: Option<&Arc<ServerConfig>>,
    ) -> std::io::Result<()> {
        match (self, config) {
            (Self::Hangup, _) => Ok(()),
            (Self::PlainText, _) => {
                write!(stream, "HTTP/1.1 400 X\r\n\r\n")?;
                stream.read_to_end(&mut Vec::new()).map(drop)
            }
            (_, None) => self.say(&mut stream),
            (_, Some(config)) => {
                let connection =
                    ServerConnection::new(Arc::clone(config)).map_err(std::io::Error::other)?;
                let mut stream = StreamOwned::new(connection, stream);
                self.say(&mut stream)?;
                if !matches!(self, Self::Cut) {
                    stream.conn.send_close_notify();
                }
                stream.flush()
            }
        }
    }

    fn say(self, stream: &mut (impl Read + Write)) -> std::io::Result<()> {
        read_request(stream)?;
        match self {
            Self::Status(status) => {
                write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n")
            }
            Self::Redirect(to) => write!(
                stream,
                "HTTP/1.1 302 X\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n"
            ),
            Self::Pack => {
                let pack = pack();
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
                    pack.len()
                )?;
                stream.write_all(&pack)
            }
            Self::Torn => write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"),
            Self::Cut => {
                write!(stream, "HTTP/1.1 200 OK\r\n\r\n")?;
                stream.write_all(&pack())
            }
            Self::Oversized => {
                write!(stream, "HTTP/1.1 200 OK\r\n\r\n")?;
                let chunk = vec![b' '; 1 << 16];
                for _ in 0..=MAX_PACK_BYTES >> 16 {
                    stream.write_all(&chunk)?;
                }
                Ok(())
            }
            Self::Silent => stream.read_to_end(&mut Vec::new()).map(drop),
            Self::Hangup | Self::PlainText => Ok(()),
        }
    }
}

/// Reads up to the empty line after the headers; none of the requests here has a body.
fn read_request(stream: &mut impl Read) -> std::io::Result<()> {
    let (mut read, mut byte) = (Vec::new(), [0]);
    while !read.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        read.extend(byte);
    }
    Ok(())
}

pub fn key() -> SigningKey {
    SigningKey::from_seed([7; 32])
}

pub fn pack() -> Vec<u8> {
    pack_of("1.0.0")
}

/// The same pack in another version.
pub fn pack_of(version: &str) -> Vec<u8> {
    let mut pack = json!({
        "schema_id": "gait.registry.pack", "schema_version": "1.0.0",
        "created_at": "2026-02-05T00:00:00Z", "producer_version": "0.0.0-dev",
        "pack_name": "base-low", "pack_version": version, "publisher": "acme",
        "artifacts": [{"path": "policy.yaml", "sha256": "aa".repeat(32)}],
    });
    let digest = Sha256::of(canonical_json(&pack).unwrap());
    let key = key();
    pack["signatures"] = json!([{
        "alg": "ed25519", "key_id": key.verifying_key().key_id(),
        "sig": key.sign(digest.as_bytes()).to_string(), "signed_digest": digest,
    }]);
    serde_json::to_vec(&pack).unwrap()
}
