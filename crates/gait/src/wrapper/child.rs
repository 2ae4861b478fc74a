//! The program, in a process group of its own, bounded in time and in what is kept of its output.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use worldcompute_fault::{Fault, Result};

use super::Wrapped;
use super::evidence::{MAX_LINE, References};

/// Bytes that are kept of each stream.
pub const MAX_KEPT: usize = 1 << 20;
/// How long a program that was asked to end may take before it is made to.
const GRACE: Duration = Duration::from_secs(2);

/// How the program ended.
pub(super) struct Ended {
    pub(super) exit_code: Option<i32>,
    pub(super) timed_out: bool,
    pub(super) duration_ms: u64,
    pub(super) stdout: Kept,
    pub(super) stderr: Kept,
}

/// What is kept of a stream.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) text: String,
    pub(super) truncated: bool,
    pub(super) references: References,
}

enum Event {
    Exited,
    Stdout(Kept),
    Stderr(Kept),
}

/// What has been heard so far.
#[derive(Default)]
struct Heard {
    exited: bool,
    stdout: Option<Kept>,
    stderr: Option<Kept>,
}

pub(super) fn run(wrapped: &Wrapped<'_>) -> Result<Ended> {
    let started = Instant::now();
    let mut child = start(wrapped)?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let (tell, told) = channel();
    follow(child.stdout.take(), tell.clone(), Event::Stdout);
    follow(child.stderr.take(), tell.clone(), Event::Stderr);
    std::thread::spawn(move || {
        // Only seen, not collected: until it is, the number of its group is nobody else's. Nobody may be left to hear it.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let _ = group.map(|pid| waitid(WaitId::Pid(pid), options));
        let _ = tell.send(Event::Exited);
    });
    let mut heard = Heard::default();
    let in_time = heard.listen(&told, wrapped.timeout);
    for signal in [Signal::TERM, Signal::KILL] {
        if !heard.is_complete() {
            // The group may have ended in this moment.
            let _ = group.map(|group| kill_process_group(group, signal));
            heard.listen(&told, GRACE);
        }
    }
    let status = match heard.exited {
        true => child.wait().ok(),
        false => None,
    };
    Ok(Ended {
        exit_code: status.and_then(|status| status.code()),
        timed_out: !in_time,
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        stdout: heard.stdout.unwrap_or_default(),
        stderr: heard.stderr.unwrap_or_default(),
    })
}

fn start(wrapped: &Wrapped<'_>) -> Result<Child> {
    let Some((program, arguments)) = wrapped.command.split_first() else {
        return Err(crate::limits::invalid("expected child command after --"));
    };
    let folder = wrapped.cwd;
    if !folder.is_dir() {
        let message = format!("--cwd {} is no folder", folder.display());
        return Err(crate::limits::invalid(message));
    }
    Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env("GAIT_WRAPPER_MODE", wrapped.mode.as_str())
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| Fault::io(format_args!("start {program}"), &error))
}

fn follow(
    stream: Option<impl Read + Send + 'static>,
    tell: Sender<Event>,
    event: fn(Kept) -> Event,
) {
    std::thread::spawn(move || {
        let kept = stream.map(keep).unwrap_or_default();
        // Nobody may be left to hear it.
        let _ = tell.send(event(kept));
    });
}

impl Heard {
    /// Listens until everything was heard, but no longer than `limit`; says whether everything was.
    fn listen(&mut self, told: &Receiver<Event>, limit: Duration) -> bool {
        let end = Instant::now().checked_add(limit);
        while !self.is_complete() {
            let left = end.map_or(limit, |end| end.saturating_duration_since(Instant::now()));
            match told.recv_timeout(left) {
                Ok(Event::Exited) => self.exited = true,
                Ok(Event::Stdout(kept)) => self.stdout = Some(kept),
                Ok(Event::Stderr(kept)) => self.stderr = Some(kept),
                Err(_) => return false,
            }
        }
        true
    }

    const fn is_complete(&self) -> bool {
        self.exited && self.stdout.is_some() && self.stderr.is_some()
    }
}

/// Reads to the end: keeps the start, and finds the references in all of it.
fn keep(mut stream: impl Read) -> Kept {
    let mut kept = Kept::default();
    let mut bytes = Vec::new();
    let mut line = Vec::new();
    let mut buffer = [0; 8192];
    // A stream that breaks off has ended.
    while let Ok(read) = stream.read(&mut buffer) {
        let chunk = buffer.get(..read).unwrap_or_default();
        if chunk.is_empty() {
            break;
        }
        let room = MAX_KEPT.saturating_sub(bytes.len());
        kept.truncated |= chunk.len() > room;
        bytes.extend(chunk.iter().take(room));
        scan(chunk, &mut line, &mut kept.references);
    }
    kept.references.take(&line);
    kept.text = String::from_utf8_lossy(&bytes).into_owned();
    kept
}

fn scan(chunk: &[u8], line: &mut Vec<u8>, references: &mut References) {
    for byte in chunk {
        match byte {
            b'\n' => {
                references.take(line);
                line.clear();
            }
            _ if line.len() < MAX_LINE => line.push(*byte),
            _ => {}
        }
    }
}
