//! How long it takes from a key to twenty processes that stand still, and to their memory given back: the longest of 99 in
//! 100, and of all. Busy ones mostly wait for the processor on which they are to stop, and idle ones show what the
//! supervisor takes. As a test it makes a few rounds.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench ends where it cannot measure"
)]

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::park_timeout;
use std::time::Duration;

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use worldcompute_preempt::{Freezable, Registered, Roots, Settings, Supervisor, Trigger, Yield};

const SANDBOXES: usize = 20;

const IDLE: &[&str] = &["sleep", "3600"];

/// Copies nothing to nowhere, through 8 MiB.
const BUSY: &[&str] = &["dd", "if=/dev/zero", "of=/dev/null", "bs=8M"];

fn main() {
    let whole = std::env::args().any(|argument| argument == "--bench");
    let [idle, busy, releases] = if whole {
        [10_000, 200, 200]
    } else {
        [20, 5, 2]
    };
    tell("idle, frozen, us", &frozen(IDLE, idle));
    tell("busy, frozen, us", &frozen(BUSY, busy));
    tell("busy, released, ms", &released(releases));
}

/// Microseconds from the noticed key to the last process in state T, by the supervisor's account. Processes that get no
/// processor to stop on for too long are ended by it, and told.
fn frozen(program: &[&str], rounds: usize) -> Vec<u64> {
    let machine = tempfile::tempdir().unwrap();
    let mut desk = Desk::new(machine.path(), &[]);
    let (mut held, mut ended) = (Vec::new(), 0);
    let mut times = Vec::new();
    for _ in 0..rounds {
        held.resize_with(SANDBOXES, || desk.start(program));
        let one = desk.press(|one| one.frozen_after_us.is_some());
        held.retain(|(process, _)| process.state() == 'T');
        assert_eq!(SANDBOXES - held.len(), one.would_not_stop);
        ended += one.would_not_stop;
        times.push(one.frozen_after_us.unwrap());
        desk.supervisor.go_on();
        assert!(!desk.changes.recv().unwrap());
    }
    let all = rounds * SANDBOXES;
    println!("{ended} of {all} did not stop in time");
    times.sort_unstable();
    times
}

/// Milliseconds from the noticed key to the last process being gone, by the supervisor's account.
fn released(rounds: usize) -> Vec<u64> {
    let machine = tempfile::tempdir().unwrap();
    let mut desk = Desk::new(machine.path(), &[Trigger::Input]);
    let times = (0..rounds).map(|_| {
        let held: Vec<_> = (0..SANDBOXES).map(|_| desk.start(BUSY)).collect();
        let buried = std::thread::spawn(move || held.into_iter().for_each(bury));
        let one = desk.press(|one| one.released_after_ms.is_some());
        assert_eq!(one.released, SANDBOXES);
        buried.join().unwrap();
        desk.supervisor.go_on();
        assert!(!desk.changes.recv().unwrap());
        one.released_after_ms.unwrap()
    });
    let mut times: Vec<u64> = times.collect();
    times.sort_unstable();
    times
}

fn bury((process, registered): (Arc<Process>, Registered)) {
    waitid(WaitId::PidFd(process.handle.as_fd()), WaitIdOptions::EXITED).unwrap();
    drop(registered);
}

/// Of times in order.
fn tell(what: &str, times: &[u64]) {
    let rounds = times.len();
    let at = |percent: usize| times[(rounds * percent / 100).min(rounds - 1)];
    let [middle, most, all] = [at(50), at(99), at(100)];
    println!("{what}: p50 {middle}, p99 {most}, max {all} ({rounds} rounds of {SANDBOXES})");
}

/// Somebody at a keyboard, and what stands still for them.
struct Desk {
    supervisor: Supervisor,
    changes: Receiver<bool>,
    keyboard: File,
}

impl Desk {
    fn new(machine: &Path, release_on: &[Trigger]) -> Self {
        let path = machine.join("input/event0");
        std::fs::create_dir(machine.join("input")).unwrap();
        mkfifoat(CWD, &path, Mode::RWXU).unwrap();
        let keyboard = File::options().read(true).write(true).open(&path).unwrap();
        let roots = Roots {
            dev: machine.to_owned(),
            ..Roots::default()
        };
        let settings = Settings {
            on: [Trigger::Input].into(),
            release_on: release_on.iter().copied().collect(),
            ..Settings::default()
        };
        let (tell, changes) = channel();
        let on_change = move |yields| tell.send(yields).unwrap_or_default();
        Self {
            supervisor: Supervisor::start_in(roots, settings, on_change).unwrap(),
            changes,
            keyboard,
        }
    }

    /// The yield that a key comes to.
    fn press(&mut self, done: impl Fn(&Yield) -> bool) -> Yield {
        let mut event = [0; 2 * size_of::<usize>() + 8];
        event[2 * size_of::<usize>()] = 1;
        self.keyboard.write_all(&event).unwrap();
        assert!(self.changes.recv().unwrap());
        loop {
            let one = self.supervisor.report().last.pop().unwrap();
            if done(&one) {
                return one;
            }
            park_timeout(Duration::from_micros(100));
        }
    }

    fn start(&self, program: &[&str]) -> (Arc<Process>, Registered) {
        let process = Arc::new(Process::start(program));
        let registered = self.supervisor.register(process.clone());
        (process, registered)
    }
}

/// A program that never ends by itself.
struct Process {
    child: Child,
    handle: OwnedFd,
}

impl Process {
    fn start(program: &[&str]) -> Self {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]);
        let child = command.stderr(Stdio::null()).spawn().unwrap();
        let handle = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        Self { child, handle }
    }

    fn state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
    }

    fn signal(&self, signal: Signal) {
        // A process that is gone needs none.
        let _gone = pidfd_send_signal(&self.handle, signal);
    }
}

impl Freezable for Process {
    fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    fn stands_still(&self) -> bool {
        let what = WaitIdOptions::STOPPED | WaitIdOptions::EXITED;
        let how = WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let found = waitid(WaitId::PidFd(self.handle.as_fd()), what | how);
        found.map_or(true, |found| found.is_some())
    }

    fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn release(&self) {
        self.signal(Signal::KILL);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let _reaped_before = self.child.wait();
    }
}
