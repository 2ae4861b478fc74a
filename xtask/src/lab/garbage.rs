//! Somebody who sends what nobody asked for: datagrams, connections full of nonsense, and connections that are never done.
//! Everything is bounded in rate and time.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::cut::noise;

/// Bytes of a frame.
const FRAME: usize = 512;
/// Frames over one connection, unless the other side closes it before.
const FRAMES_OF_CONNECTION: u64 = 64;
/// Connections that are held open with a byte now and then.
const SLOW: usize = 100;
/// From one of these bytes to the next.
const SLOW_BYTE: Duration = Duration::from_secs(1);
/// What is due is sent so often.
const TURN: Duration = Duration::from_millis(20);
/// A connection that does not stand by then, or takes nothing for so long, is none.
const PATIENCE: Duration = Duration::from_secs(1);
/// What a frame begins with, so that each part of a node gets something to chew on: nothing, a QUIC packet of version 1,
/// the first words of libp2p, a TLS handshake, a request over HTTP.
const BEGINNINGS: [&[u8]; 5] = [
    b"",
    b"\xc3\x00\x00\x00\x01\x08",
    b"\x13/multistream/1.0.0\n",
    b"\x16\x03\x01\x01\xfb\x01\x00\x01\xf7\x03\x03",
    b"POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n",
];

/// Where it goes.
#[derive(Clone, Debug)]
pub enum Target {
    Udp(SocketAddr),
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// How much of it was sent.
#[derive(Default)]
pub struct Sent {
    /// Datagrams, and pieces of connections.
    pub frames: AtomicU64,
    /// Connections that were made.
    pub connections: AtomicU64,
    /// Connections on which every byte came a second after the last, and which the other side closed.
    pub slow_closed: AtomicU64,
}

/// Sends so many frames a second until then, at most.
pub fn send(target: &Target, rate: u64, sent: &Sent, until: Instant) {
    let begun = Instant::now();
    let mut frames = Frames::new();
    let mut done = 0;
    while Instant::now() < until {
        let due = rate * u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX) / 1000;
        while done < due && Instant::now() < until {
            let count = frames.send(target, due - done, sent);
            sent.frames.fetch_add(count, Ordering::Relaxed);
            // What could not be sent is not made up for.
            done += count.max(1);
        }
        std::thread::park_timeout(TURN);
    }
}

/// Keeps connections open that are never done saying what they want.
pub fn linger(target: SocketAddr, sent: &Sent, until: Instant) {
    let mut slow: Vec<TcpStream> = Vec::new();
    while Instant::now() < until {
        while slow.len() < SLOW
            && let Ok(stream) = connect(target)
        {
            slow.push(stream);
        }
        let before = slow.len();
        slow.retain_mut(|stream| stream.write_all(b"\x13").is_ok() && is_open(stream));
        let closed = u64::try_from(before - slow.len()).unwrap_or(0);
        sent.slow_closed.fetch_add(closed, Ordering::Relaxed);
        std::thread::park_timeout(SLOW_BYTE);
    }
}

fn connect(target: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Whether the other side has not closed it.
fn is_open(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 64];
    let read = stream
        .set_nonblocking(true)
        .and_then(|()| stream.read(&mut bytes));
    let open = match read {
        Ok(count) => count > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    };
    open && stream.set_nonblocking(false).is_ok()
}

/// Nonsense, another at each turn.
struct Frames {
    noise: Vec<u8>,
    turn: usize,
    socket: Option<UdpSocket>,
}

impl Frames {
    fn new() -> Self {
        Self {
            noise: noise(1 << 16),
            turn: 0,
            socket: UdpSocket::bind("0.0.0.0:0").ok(),
        }
    }

    fn next(&mut self) -> Vec<u8> {
        self.turn += 1;
        let beginning = BEGINNINGS.get(self.turn % BEGINNINGS.len()).copied();
        let at = (self.turn * 7) % (self.noise.len() - FRAME);
        let rest = self.noise.get(at..at + FRAME).unwrap_or_default();
        [beginning.unwrap_or_default(), rest].concat()
    }

    /// How many of at most so many were sent.
    fn send(&mut self, target: &Target, most: u64, sent: &Sent) -> u64 {
        match target {
            Target::Udp(to) => {
                let frame = self.next();
                let told = self
                    .socket
                    .as_ref()
                    .and_then(|socket| socket.send_to(&frame, to).ok());
                u64::from(told.is_some())
            }
            Target::Tcp(to) => self.fill(connect(*to), most, sent),
            Target::Unix(path) => self.fill(UnixStream::connect(path), most, sent),
        }
    }

    fn fill(&mut self, stream: std::io::Result<impl Write>, most: u64, sent: &Sent) -> u64 {
        let Ok(mut stream) = stream else { return 0 };
        sent.connections.fetch_add(1, Ordering::Relaxed);
        let frames = 0..most.min(FRAMES_OF_CONNECTION);
        let written = frames.take_while(|_| stream.write_all(&self.next()).is_ok());
        u64::try_from(written.count()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn no_more_is_sent_than_the_rate_and_the_time_allow() {
        let to = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (sent, begun) = (Sent::default(), Instant::now());
        let target = Target::Udp(to.local_addr().unwrap());
        send(&target, 500, &sent, begun + Duration::from_millis(200));
        let most = 500 * u64::try_from(begun.elapsed().as_millis()).unwrap() / 1000;
        let frames = sent.frames.load(Ordering::Relaxed);
        assert!(0 < frames && frames <= most, "{frames} of {most}");
    }

    #[test]
    fn whom_nobody_listens_to_sends_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::Tcp(listener.local_addr().unwrap());
        drop(listener);
        let sent = Sent::default();
        send(
            &target,
            500,
            &sent,
            Instant::now() + Duration::from_millis(50),
        );
        assert_eq!(sent.frames.load(Ordering::Relaxed), 0);
    }
}
