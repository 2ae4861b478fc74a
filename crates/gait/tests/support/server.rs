//! A registry that answers from a script.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use gait::registry::MAX_PACK_BYTES;
use serde_json::json;
use worldcompute_proof::{Sha256, SigningKey, canonical_json};

/// What the server does with one connection.
#[derive(Clone, Copy)]
pub enum Answer {
    Status(u16),
    Pack,
    /// Closes without a word, with the rest of the request unread.
    Hangup,
    /// Breaks off in the middle of the body.
    Torn,
    Oversized,
    /// Speaks before it is spoken to, and no TLS.
    PlainText,
    /// Says nothing until the client goes away.
    Silent,
}

pub struct Server {
    pub address: String,
    thread: JoinHandle<()>,
}

impl Server {
    pub fn start(answers: &'static [Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let thread = std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                // The client may be gone by the time it is answered, which is what some of these are about.
                let _ = answer.give(stream);
            }
        });
        Self { address, thread }
    }

    pub fn url(&self) -> String {
        format!("http://{}/pack.json", self.address)
    }

    pub fn join(self) {
        self.thread.join().unwrap();
    }
}

impl Answer {
    fn give(self, mut stream: TcpStream) -> std::io::Result<()> {
        match self {
            Self::Hangup => return Ok(()),
            Self::PlainText => {
                write!(stream, "HTTP/1.1 400 X\r\n\r\n")?;
                return stream.read_to_end(&mut Vec::new()).map(drop);
            }
            _ => {}
        }
        read_request(&stream)?;
        match self {
            Self::Status(status) => {
                write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n")
            }
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

fn read_request(stream: &TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && line != "\r\n" {
        line.clear();
    }
    Ok(())
}

pub fn key() -> SigningKey {
    SigningKey::from_seed([7; 32])
}

pub fn pack() -> Vec<u8> {
    let mut pack = json!({
        "schema_id": "gait.registry.pack", "schema_version": "1.0.0",
        "created_at": "2026-02-05T00:00:00Z", "producer_version": "0.0.0-dev",
        "pack_name": "base-low", "pack_version": "1.0.0", "publisher": "acme",
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
