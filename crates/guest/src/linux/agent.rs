//! One program: started, attended to while it runs, and told of to the host.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitOptions, WaitStatus, pidfd_open, wait};
use worldcompute_guest::{End, MAX_DATA, Message, RunRequest, Stream, Tally, VERSION, Writer};

use super::host::Host;
use super::{FAILURE, Result, cannot, control_group, machine, outputs};

/// Speaks with the host until the host closes.
pub fn run(channel: File) -> Result<()> {
    let mut host = Host::new(channel);
    host.send(&Message::Hello { version: VERSION })?;
    let run = host.wait_for_run()?;
    let end = match start(&run) {
        Ok(program) => program.attend(&mut host)?,
        Err(reason) => Message::NotStarted { reason },
    };
    host.send(&end)?;
    if let Message::Ended {
        end: End::Exited(0),
        ..
    } = end
    {
        outputs::send(&run.outputs, &mut host)?;
    }
    host.wait_for_close()
}

fn start(run: &RunRequest) -> Result<Program> {
    machine::prepare(&run.root)?;
    control_group::create(run)?;
    // Its name in memory: nothing in the image is needed to start it.
    let mut launcher = Command::new("/proc/self/exe");
    launcher
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = launcher.spawn().map_err(cannot("start a process"))?;
    let request = Writer::default().write(&Message::Run(Box::new(run.clone())));
    let mut stdin = child.stdin.take().ok_or("no way to the process")?;
    stdin
        .write_all(&request)
        .map_err(cannot("hand over the request"))?;
    Program::new(child)
}

/// The streams that a program has itself.
const PRINTED: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

/// What runs, or has run and has output left.
struct Program {
    pid: Pid,
    ended: OwnedFd,
    end: Option<End>,
    /// What it prints, in the order of [`PRINTED`].
    pipes: [Option<File>; 2],
}

impl Program {
    fn new(mut child: Child) -> Result<Self> {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or("a process without a number")?;
        let ended = pidfd_open(pid, PidfdFlags::empty()).map_err(cannot("watch a process"))?;
        let stdout = child
            .stdout
            .take()
            .map(|pipe| File::from(OwnedFd::from(pipe)));
        let stderr = child
            .stderr
            .take()
            .map(|pipe| File::from(OwnedFd::from(pipe)));
        Ok(Self {
            pid,
            ended,
            end: None,
            pipes: [stdout, stderr],
        })
    }

    /// Until the program has ended and all that it wrote is sent. What it left running is ended with it.
    fn attend(mut self, host: &mut Host) -> Result<Message> {
        loop {
            if let Some(end) = self.end
                && self.pipes.iter().all(Option::is_none)
            {
                return report(end);
            }
            let ready = self.wait(host)?;
            if ready.host {
                host.take_credit()?;
            }
            for stream in ready.streams.into_iter().flatten() {
                self.forward(stream, host)?;
            }
            self.reap()?;
            host.keep_alive()?;
        }
    }

    /// A stream without credit is not looked at: the program waits in its own write.
    fn wait(&self, host: &Host) -> Result<Ready> {
        let readable: Vec<_> = PRINTED
            .into_iter()
            .filter(|stream| host.credit(*stream) > 0)
            .filter_map(|stream| Some((stream, self.pipes.get(stream as usize)?.as_ref()?)))
            .collect();
        let mut fds = vec![host.word()];
        fds.extend(
            readable
                .iter()
                .map(|(_, pipe)| PollFd::new(*pipe, PollFlags::IN)),
        );
        if self.end.is_none() {
            fds.push(PollFd::new(&self.ended, PollFlags::IN));
        }
        host.poll(&mut fds)?;
        let mut is_ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let host = is_ready.next() == Some(true);
        let mut streams = [None; 2];
        for ((place, (stream, _)), ready) in streams.iter_mut().zip(&readable).zip(is_ready) {
            *place = ready.then_some(*stream);
        }
        Ok(Ready { host, streams })
    }

    fn forward(&mut self, stream: Stream, host: &mut Host) -> Result<()> {
        let Some(place) = self.pipes.get_mut(stream as usize) else {
            return Ok(());
        };
        let Some(pipe) = place else { return Ok(()) };
        let mut bytes = vec![0; host.credit(stream).min(MAX_DATA)];
        let read = pipe
            .read(&mut bytes)
            .map_err(cannot("read what the program wrote"))?;
        bytes.truncate(read);
        if bytes.is_empty() {
            *place = None;
            return Ok(());
        }
        host.send_output(stream, bytes)
    }

    /// Every process without a parent is this one's to bury.
    fn reap(&mut self) -> Result<()> {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.pid => {
                    self.end = end_of(status);
                    control_group::kill()?;
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) | Err(Errno::CHILD) => return Ok(()),
                Err(error) => return Err(cannot("wait for processes")(error)),
            }
        }
    }
}

/// What there is to read.
struct Ready {
    host: bool,
    streams: [Option<Stream>; 2],
}

fn end_of(status: WaitStatus) -> Option<End> {
    let code = status
        .exit_status()
        .and_then(|code| u8::try_from(code).ok());
    let signal = status
        .terminating_signal()
        .and_then(|signal| u8::try_from(signal).ok());
    code.map(End::Exited).or(signal.map(End::Killed))
}

fn report(end: End) -> Result<Message> {
    let reason = fs::read_to_string(FAILURE).map_err(cannot("read how it went"))?;
    let tally: Tally = control_group::tally()?;
    Ok(match reason.is_empty() {
        true => Message::Ended { end, tally },
        false => Message::NotStarted { reason },
    })
}
