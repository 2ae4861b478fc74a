//! One run, from a started VM to its outcome: a single loop that waits for whatever comes first.
//!
//! It ends within the limits whatever the guest does: each wait has a deadline, and each step reads a bounded piece.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionbio};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_guest::{End, Tally};

use crate::channel::Channel;
use crate::dialogue::{Broken, Dialogue, LastWord, Misconduct};
use crate::hearing::Heard;
use crate::hypervisor::{Process, Vm};
use crate::qemu::{Fate, Monitor};
use crate::run_dir::RunDir;
use crate::{Control, Limits, Outcome, Sink, Status};

/// Most bytes of what guest and hypervisor say on the side that are kept: the last ones.
pub const MAX_CONSOLE: usize = 8 << 10;
/// How long a hypervisor has to end once its end of the channel is closed: QEMU closes it on its way out. And how long
/// is listened to what is left once it has ended: somebody else may hold its end, and go on.
const PARTING: Duration = Duration::from_secs(1);

/// Attends to a VM until it is over. The VM is gone when this returns.
///
/// # Errors
/// What the sink says, and what the system says; the run has no outcome then.
pub fn attend(
    vm: Vm,
    dialogue: Dialogue,
    limits: &Limits,
    sink: &mut dyn Sink,
    control: &Control,
) -> Result<Outcome> {
    let mut run = Run::new(vm, dialogue, limits, control)?;
    let verdict = run.until_over(sink);
    control.detach();
    if !matches!(&verdict, Ok(verdict) if verdict.status == Status::Succeeded) {
        sink.discard_files();
    }
    Ok(run.outcome(verdict?))
}

/// What there is to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Control,
    Process,
    Agent,
    Monitor,
    Console(usize),
}

/// How it ended, and the words for it.
struct Verdict {
    status: Status,
    reason: String,
}

impl From<Status> for Verdict {
    fn from(status: Status) -> Self {
        let reason = String::new();
        Self { status, reason }
    }
}

struct Run<'a> {
    limits: &'a Limits,
    control: &'a Control,
    process: Process,
    channel: Channel,
    monitor: Option<Monitor>,
    monitored: bool,
    consoles: [Option<OwnedFd>; 2],
    console: Vec<u8>,
    /// These by the control's clock, which stands while the VM is frozen.
    started: Duration,
    greeted: Option<Duration>,
    heard: Duration,
    hung_up: Option<Duration>,
    /// Goes last.
    _dir: RunDir,
}

impl<'a> Run<'a> {
    fn new(vm: Vm, dialogue: Dialogue, limits: &'a Limits, control: &'a Control) -> Result<Self> {
        let Vm {
            mut process,
            channel,
            monitor,
            dir,
        } = vm;
        let handle = process.handle().try_clone();
        control.attach(handle.map_err(|error| Fault::io("watch a hypervisor", &error))?)?;
        let (stdout, stderr) = process.output();
        let started = control.elapsed();
        Ok(Self {
            limits,
            control,
            process,
            channel: Channel::new(channel, dialogue),
            monitored: monitor.is_some(),
            monitor,
            consoles: [
                unblocked(stdout.map(Into::into))?,
                unblocked(stderr.map(Into::into))?,
            ],
            console: Vec::new(),
            started,
            greeted: None,
            heard: started,
            hung_up: None,
            _dir: dir,
        })
    }

    fn until_over(&mut self, sink: &mut dyn Sink) -> Result<Verdict> {
        loop {
            for source in self.wait()? {
                if let Some(verdict) = self.attend_to(source, sink)? {
                    return Ok(verdict);
                }
            }
            if let Some(status) = self.overdue() {
                return Ok(status.into());
            }
        }
    }

    fn wait(&self) -> Result<Vec<Source>> {
        let mut sources = Vec::new();
        let mut add =
            |source, fd, flags| sources.push((source, PollFd::from_borrowed_fd(fd, flags)));
        add(Source::Control, self.control.changed(), PollFlags::IN);
        if self.hung_up.is_none() {
            let (fd, interest) = self.channel.source();
            add(Source::Agent, fd, interest);
        }
        if let Some(monitor) = self.monitor.as_ref().filter(|_| self.monitored) {
            add(Source::Monitor, monitor.source(), PollFlags::IN);
        }
        for (index, console) in self.consoles.iter().enumerate() {
            if let Some(console) = console {
                add(Source::Console(index), console.as_fd(), PollFlags::IN);
            }
        }
        // Last: what it said before it ended is heard first.
        add(
            Source::Process,
            self.process.handle().as_fd(),
            PollFlags::IN,
        );
        let (sources, mut fds): (Vec<_>, Vec<_>) = sources.into_iter().unzip();
        let patience = self.patience().map(TryInto::try_into).transpose();
        let patience =
            patience.map_err(|error| defect("a deadline that is none").caused_by(error))?;
        match poll(&mut fds, patience.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Fault::io("wait for a VM", &error.into())),
        }
        let ready = sources
            .into_iter()
            .zip(&fds)
            .filter(|(_, fd)| !fd.revents().is_empty());
        Ok(ready.map(|(source, _)| source).collect())
    }

    fn attend_to(&mut self, source: Source, sink: &mut dyn Sink) -> Result<Option<Verdict>> {
        match source {
            Source::Control => {
                self.control.noticed();
                Ok(self
                    .control
                    .is_cancelled()
                    .then(|| Status::Cancelled.into()))
            }
            Source::Agent => self.hear_agent(sink).map(|(_, verdict)| verdict),
            Source::Monitor => self.hear_monitor().map(|_| self.stopped()),
            Source::Console(index) => self.read_console(index).map(|_| None),
            Source::Process => self.bury(sink).map(Some),
        }
    }

    fn hear_agent(&mut self, sink: &mut dyn Sink) -> Result<(Heard, Option<Verdict>)> {
        let now = self.control.elapsed();
        let heard = match self.channel.hear(now, sink)? {
            Ok(heard) => heard,
            Err(broken) => return Ok((Heard::Nothing, Some(verdict_of(broken)?))),
        };
        // The sink may have taken its time.
        let now = self.control.elapsed();
        match heard {
            Heard::Something => self.heard = now,
            Heard::Nothing => {}
            Heard::TheEnd => self.hung_up = Some(now),
        }
        if self.channel.dialogue().greeted() {
            self.greeted.get_or_insert(now);
        }
        Ok((heard, self.last_word()))
    }

    fn hear_monitor(&mut self) -> Result<Heard> {
        let Some(monitor) = &mut self.monitor else {
            return Ok(Heard::TheEnd);
        };
        let heard = monitor
            .hear()
            .map_err(|error| Fault::io("hear the hypervisor", &error))?;
        self.monitored = heard != Heard::TheEnd;
        Ok(heard)
    }

    /// What the hypervisor has said of a VM that does not go on, and does not end either.
    fn stopped(&self) -> Option<Verdict> {
        match self.fate()? {
            Fate::DiskLimit => Some(Status::DiskLimit.into()),
            Fate::Stopped => Some(Status::HypervisorStopped.into()),
            Fate::PoweredOff | Fate::Rebooted => None,
        }
    }

    fn fate(&self) -> Option<Fate> {
        self.monitor.as_ref()?.fate()
    }

    fn read_console(&mut self, index: usize) -> Result<Heard> {
        let Some(place) = self.consoles.get_mut(index) else {
            return Ok(Heard::TheEnd);
        };
        let Some(console) = place else {
            return Ok(Heard::TheEnd);
        };
        let mut piece = [0; MAX_CONSOLE];
        let read = match rustix::io::read(console, piece.as_mut_slice()) {
            Err(Errno::INTR | Errno::AGAIN) => return Ok(Heard::Nothing),
            read => read.map_err(|error| Fault::io("read a console", &error.into()))?,
        };
        if read == 0 {
            *place = None;
            return Ok(Heard::TheEnd);
        }
        self.console
            .extend_from_slice(piece.get(..read).unwrap_or_default());
        let past = self.console.len().saturating_sub(MAX_CONSOLE);
        self.console.drain(..past);
        Ok(Heard::Something)
    }

    /// The hypervisor has ended: what came before that is heard to its end, and decides.
    fn bury(&mut self, sink: &mut dyn Sink) -> Result<Verdict> {
        let ended = Instant::now();
        let in_time = || ended.elapsed() < PARTING;
        while self.hung_up.is_none() && in_time() {
            match self.hear_agent(sink)? {
                (_, Some(verdict)) => return Ok(verdict),
                (Heard::Something, None) => {}
                (Heard::Nothing | Heard::TheEnd, None) => break,
            }
        }
        while self.monitored && in_time() && self.hear_monitor()? == Heard::Something {}
        for index in 0..self.consoles.len() {
            while in_time() && self.read_console(index)? == Heard::Something {}
        }
        let ended = self
            .process
            .ended()
            .map_err(|error| Fault::io("wait for a hypervisor", &error))?;
        Ok(match self.fate() {
            Some(Fate::PoweredOff) => Status::PoweredOff.into(),
            Some(Fate::Rebooted) => Status::Rebooted.into(),
            Some(Fate::DiskLimit) => Status::DiskLimit.into(),
            Some(Fate::Stopped) => Status::HypervisorStopped.into(),
            // Without a monitor: what ended well was ended by its guest.
            None if self.monitor.is_none() && ended.is_some_and(|status| status.success()) => {
                Status::Rebooted.into()
            }
            None => Verdict {
                status: Status::HypervisorDied,
                reason: ended.map_or_else(String::new, |status| status.to_string()),
            },
        })
    }

    fn last_word(&self) -> Option<Verdict> {
        Some(match self.channel.dialogue().last_word()? {
            LastWord::Booted => Status::Succeeded.into(),
            LastWord::NotStarted(reason) => Verdict {
                status: Status::NotStarted,
                reason: reason.clone(),
            },
            LastWord::Ended { end, tally } => status_of(*end, *tally).into(),
            LastWord::OutputMissing(reason) => Verdict {
                status: Status::OutputMissing,
                reason: reason.clone(),
            },
        })
    }

    /// Past which deadline this is.
    fn overdue(&self) -> Option<Status> {
        let now = self.control.elapsed();
        self.deadlines()
            .find_map(|(deadline, status)| (now >= deadline).then_some(status))
    }

    /// How long nothing is overdue; `None` while the VM is frozen, when no clock runs.
    fn patience(&self) -> Option<Duration> {
        if self.control.is_frozen() {
            return None;
        }
        let now = self.control.elapsed();
        self.deadlines()
            .map(|(deadline, _)| deadline.saturating_sub(now))
            .min()
    }

    fn deadlines(&self) -> impl Iterator<Item = (Duration, Status)> {
        let hung_up = self
            .hung_up
            .map(|at| (at + PARTING, Status::Misconduct(Misconduct::HungUp)));
        let (first, second) = match self.greeted {
            None => ((self.started + self.limits.boot, Status::NeverBooted), None),
            Some(greeted) => (
                (greeted + self.limits.wall, Status::TimedOut),
                Some((self.heard + self.limits.silence, Status::Silent)),
            ),
        };
        [hung_up, Some(first), second].into_iter().flatten()
    }

    fn outcome(self, verdict: Verdict) -> Outcome {
        let now = self.control.elapsed();
        let (end, tally) = self.channel.dialogue().ended().unzip();
        Outcome {
            status: verdict.status,
            end,
            tally: tally.unwrap_or_default(),
            reason: verdict.reason,
            boot: self
                .greeted
                .map(|greeted| greeted.saturating_sub(self.started)),
            wall: now.saturating_sub(self.greeted.unwrap_or(now)),
            output_bytes: self.channel.dialogue().output_bytes(),
            console: String::from_utf8_lossy(&self.console).into_owned(),
        }
    }
}

/// Somebody else may hold its other end, and say nothing.
fn unblocked(console: Option<OwnedFd>) -> Result<Option<OwnedFd>> {
    if let Some(console) = &console {
        ioctl_fionbio(console, true).map_err(|error| Fault::io("open a console", &error.into()))?;
    }
    Ok(console)
}

/// A program that succeeded has not suffered from its limits.
const fn status_of(end: End, tally: Tally) -> Status {
    match end {
        End::Exited(0) => Status::Succeeded,
        _ if tally.out_of_memory > 0 => Status::OutOfMemory,
        _ if tally.refused_processes > 0 => Status::ProcessLimit,
        End::Exited(_) => Status::Failed,
        End::Killed(_) => Status::Killed,
    }
}

fn verdict_of(broken: Broken) -> Result<Verdict> {
    match broken {
        Broken::Misconduct(misconduct) => Ok(Status::Misconduct(misconduct).into()),
        Broken::OutputLimit(reason) => Ok(Verdict {
            status: Status::OutputLimit,
            reason,
        }),
        Broken::Sink(fault) => Err(fault),
    }
}

fn defect(what: &str) -> Fault {
    Fault::new(Category::InternalFailure, "internal", what)
}

#[cfg(test)]
mod tests;
