//! Distance: every packet that crosses a router is held for half of a round trip, then goes on.
//!
//! The kernel's own element for this (netem) is not in every kernel. Here the router routes whatever it is to forward
//! into a TUN device; a thread reads it there, holds it, and writes it back, and what comes from the device is routed to
//! where it belongs. The kernel cuts packets to size and computes their checksums before a TUN device hands them out.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tappers::{Interface, Tun};

use super::namespace::Namespace;
use crate::shell::{Failure, Result};

/// The name of the device.
const DEVICE: &str = "distance";
/// The largest packet that there is.
const MAX_PACKET: usize = 65_536;
/// Packets that are held at once; more are lost, as on a link that is full.
const MAX_HELD: usize = 100_000;

/// The distance at one router, until it is dropped.
pub struct Delay {
    end: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Delay {
    /// Puts those around a router so far apart that a packet and its answer take `rtt`.
    pub fn at(router: &Namespace, rtt: Duration) -> Result<Self> {
        let failed = |error: io::Error| Failure::new(format!("cannot make a distance: {error}"));
        let tun = router.inside(open)?.map_err(failed)?;
        for line in [
            &format!("link set {DEVICE} txqueuelen 10000 up"),
            &format!("route add default dev {DEVICE} table 100"),
            // What was held, and what the router itself says, goes to where it belongs; all else is held first.
            &format!("rule add pref 10 iif {DEVICE} lookup main"),
            "rule add pref 11 iif lo lookup main",
            "rule add pref 20 lookup 100",
        ] {
            router.ip(line)?;
        }
        let (end, ended) = UnixStream::pair().map_err(failed)?;
        let hold = move || {
            if let Err(error) = hold(&tun, &ended, rtt / 2) {
                eprintln!("the distance is gone: {error}");
            }
        };
        Ok(Self {
            end: Some(end),
            thread: Some(std::thread::spawn(hold)),
        })
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        drop(self.end.take());
        // A thread that panicked has said so.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn open() -> io::Result<Tun> {
    let mut tun = Tun::new_named(Interface::new(DEVICE)?)?;
    tun.set_nonblocking(true)?;
    Ok(tun)
}

/// Holds every packet for a time, in order, until the other end of `ended` is closed.
fn hold(tun: &Tun, ended: &UnixStream, time: Duration) -> io::Result<()> {
    let mut held: VecDeque<(Instant, Box<[u8]>)> = VecDeque::new();
    let mut buffer = vec![0; MAX_PACKET];
    loop {
        let now = Instant::now();
        while let Some((_, packet)) = held.pop_front_if(|(due, _)| *due <= now) {
            // What the kernel does not take is lost, as packets are.
            let _ = tun.send(&packet);
        }
        let due = held
            .front()
            .map(|(due, _)| due.saturating_duration_since(Instant::now()));
        let timeout = due.and_then(|due| Timespec::try_from(due).ok());
        let mut ready = [
            PollFd::new(tun, PollFlags::IN),
            PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::IN),
        ];
        poll(&mut ready, timeout.as_ref())?;
        let [packets, end] = ready.map(|ready| ready.revents());
        if !end.is_empty() {
            return Ok(());
        }
        if !packets.is_empty() {
            take(tun, &mut buffer, Instant::now() + time, &mut held)?;
        }
    }
}

/// Takes every packet that is there.
fn take(
    tun: &Tun,
    buffer: &mut [u8],
    due: Instant,
    held: &mut VecDeque<(Instant, Box<[u8]>)>,
) -> io::Result<()> {
    loop {
        match tun.recv(buffer) {
            Ok(length) if held.len() < MAX_HELD => {
                held.push_back((due, buffer.iter().take(length).copied().collect()));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
