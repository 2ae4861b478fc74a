//! A registry of the tests' own: real HTTP over TCP, honest unless it is told otherwise.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::made::{INDEX, MANIFEST, Made};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    /// Lower-case names and values.
    pub headers: Vec<(String, String)>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// What takes a request for itself; what it returns is whether it did. What is written is the whole answer.
type Twist = dyn Fn(&Asked, usize, &mut TcpStream) -> bool + Send + Sync;

pub struct Registry {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Registry {
    /// One that has the images of `made` as `some/image:latest`.
    pub fn honest(made: &Made) -> Self {
        Self::twisted(made, |_, _, _| false)
    }

    /// The same, where `twist` sees every request first, with its number among those for the same path, from 0.
    pub fn twisted(
        made: &Made,
        twist: impl Fn(&Asked, usize, &mut TcpStream) -> bool + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, stop) = (
            Arc::new(Mutex::new(Vec::new())),
            Arc::new(AtomicBool::new(false)),
        );
        let serving = Arc::new(Serving {
            made: made.clone(),
            twist: Box::new(twist),
            asked: asked.clone(),
        });
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            for stream in listener
                .incoming()
                .take_while(|_| !stopped.load(Ordering::SeqCst))
            {
                let serving = serving.clone();
                // A client that goes away in mid-answer is what some tests are about.
                thread::spawn(move || drop(stream.and_then(|stream| serving.answer(stream))));
            }
        });
        Self {
            address,
            asked,
            stop,
            thread: Some(thread),
        }
    }

    pub fn reference(&self, suffix: &str) -> String {
        format!("{}/some/image{suffix}", self.address)
    }

    /// Every request so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub fn count(&self, part: &str) -> usize {
        self.asked()
            .iter()
            .filter(|asked| asked.path.contains(part))
            .count()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        self.thread.take().unwrap().join().unwrap();
    }
}

struct Serving {
    made: Made,
    twist: Box<Twist>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Serving {
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let asked = read(&stream)?;
        let number = {
            let mut all = self.asked.lock().unwrap();
            let number = all.iter().filter(|other| other.path == asked.path).count();
            all.push(asked.clone());
            number
        };
        if (self.twist)(&asked, number, &mut stream) {
            return Ok(());
        }
        match self.found(&asked.path) {
            None => stream.write_all(
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
            ),
            Some((kind, bytes)) => send(&mut stream, &asked, kind, &bytes),
        }
    }

    fn found(&self, path: &str) -> Option<(&'static str, Vec<u8>)> {
        let path = path.strip_prefix("/v2/some/image/")?;
        match path.split_once('/')? {
            ("manifests", "latest") => match self.made.entries.as_slice() {
                [one] => self
                    .blob(one["digest"].as_str()?)
                    .map(|bytes| (MANIFEST, bytes)),
                _ => Some((INDEX, self.made.index().to_string().into_bytes())),
            },
            ("manifests", digest) => self.blob(digest).map(|bytes| (MANIFEST, bytes)),
            ("blobs", digest) => self
                .blob(digest)
                .map(|bytes| ("application/octet-stream", bytes)),
            _ => None,
        }
    }

    fn blob(&self, digest: &str) -> Option<Vec<u8>> {
        let digest = digest.strip_prefix("sha256:")?.parse().ok()?;
        self.made.blobs.get(&digest).cloned()
    }
}

/// Sends bytes, or the part of them that was asked for.
pub fn send(
    stream: &mut TcpStream,
    asked: &Asked,
    kind: &str,
    bytes: &[u8],
) -> std::io::Result<()> {
    let from = asked.header("range").and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse::<usize>()
            .ok()
    });
    let (status, more) = match from {
        None => ("200 OK", String::new()),
        Some(from) => (
            "206 Partial Content",
            format!(
                "Content-Range: bytes {from}-{}/{}\r\n",
                bytes.len() - 1,
                bytes.len()
            ),
        ),
    };
    let body = &bytes[from.unwrap_or(0)..];
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{more}Connection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)
}

/// Waits until the client has had enough.
pub fn hang(stream: &mut TcpStream) {
    drop(stream.read(&mut [0; 1]));
}

fn read(stream: &TcpStream) -> std::io::Result<Asked> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or(Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    for line in lines {
        let line = line?;
        match line.split_once(':') {
            Some((name, value)) => {
                headers.push((name.to_ascii_lowercase(), value.trim().to_owned()))
            }
            None => break,
        }
    }
    Ok(Asked { path, headers })
}
