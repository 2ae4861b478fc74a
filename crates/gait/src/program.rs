//! Asking another program: a question on its standard input, an answer heard to a limit and for a while.

use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use worldcompute_durable::check_guarded;
use zeroize::Zeroizing;

/// A program and how long it is listened to.
pub(crate) struct Program<'a> {
    pub(crate) name: &'a str,
    pub(crate) arguments: &'a [String],
    /// How long it may take.
    pub(crate) timeout: Duration,
    /// Bytes it may say.
    pub(crate) limit: usize,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// It does not start.
    NotStarted,
    /// It is not started: everybody may write it, or put another in its place.
    Insecure,
    /// It says more than the limit.
    TooMuch,
    /// It ends with a failure.
    Failed,
    /// It takes longer than the timeout.
    TooLong,
}

impl Program<'_> {
    /// What it answers. What it says on standard error goes nowhere, and nothing that it started outlives the answer.
    pub(crate) fn ask(&self, question: &[u8]) -> Result<Zeroizing<Vec<u8>>, Silence> {
        let program = found(self.name).ok_or(Silence::NotStarted)?;
        check_guarded(&program).map_err(|_| Silence::Insecure)?;
        let child = Command::new(program)
            .args(self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|_| Silence::NotStarted)?;
        let group = Arc::new(Mutex::new(Pid::from_raw(child.id().cast_signed())));
        let heard = hear(child, question.to_vec(), self.limit, Arc::clone(&group));
        let heard = heard.recv_timeout(self.timeout);
        kill(&group);
        heard.unwrap_or(Err(Silence::TooLong))
    }
}

/// Where the program is: a path, or what the search path has first under a name.
fn found(name: &str) -> Option<PathBuf> {
    let exists = |path: &PathBuf| path.is_file();
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(exists);
    }
    let path = std::env::var_os("PATH")?;
    let runs = |path: &PathBuf| {
        let found = path.metadata();
        found.is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
    };
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(runs)
}

type Heard = Result<Zeroizing<Vec<u8>>, Silence>;

/// The process group of a program that has not been reaped, so that its number is still its own.
type Group = Arc<Mutex<Option<Pid>>>;

/// Asks and listens on a thread of its own, so that the caller can stop waiting.
fn hear(mut child: Child, question: Vec<u8>, limit: usize, group: Group) -> Receiver<Heard> {
    let (sender, receiver) = sync_channel(1);
    let _listener = std::thread::spawn(move || {
        let output = converse(&mut child, &question, limit);
        if output.len() > limit {
            let _ = sender.send(Err(Silence::TooMuch));
        }
        let status = reap(&mut child, &group);
        let heard = match status.is_some_and(|status| status.success()) {
            true => Ok(output),
            false => Err(Silence::Failed),
        };
        // Nobody listens any more after too much or too long.
        let _ = sender.try_send(heard);
    });
    receiver
}

fn converse(child: &mut Child, question: &[u8], limit: usize) -> Zeroizing<Vec<u8>> {
    if let Some(mut stdin) = child.stdin.take() {
        // A program may answer without reading the question.
        let _ = stdin.write_all(question);
    }
    // Never grown, which would leave a copy of a secret in freed memory.
    let mut output = Zeroizing::new(Vec::with_capacity(limit.saturating_add(33)));
    if let Some(stdout) = child.stdout.take() {
        // What was read so far is judged as it is: an answer cut short is no answer.
        let _ = stdout.take(limit as u64 + 1).read_to_end(&mut output);
    }
    output
}

/// Waits for the end, ends what was left running, and takes the group's number out of use before the system may give it
/// to others.
fn reap(child: &mut Child, group: &Group) -> Option<ExitStatus> {
    let pid = Pid::from_raw(child.id().cast_signed())?;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(pid), options).ok()?;
    kill(group);
    let mut group = group.lock().unwrap_or_else(PoisonError::into_inner);
    *group = None;
    child.wait().ok()
}

/// Ends whatever the program left running.
fn kill(group: &Group) {
    let group = group.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pid) = *group {
        // It may have ended by itself.
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(script: &str, timeout: Duration) -> Result<Vec<u8>, Silence> {
        let arguments = ["-c".to_owned(), script.to_owned()];
        let program = Program {
            name: "sh",
            arguments: &arguments,
            timeout,
            limit: 16,
        };
        program.ask(b"question").map(|answer| answer.to_vec())
    }

    #[test]
    fn an_answer_up_to_the_limit_is_heard_and_a_longer_one_refused() {
        let long = Duration::from_secs(30);
        assert_eq!(ask("cat", long).unwrap(), b"question");
        assert_eq!(ask("printf 1234567890123456", long).unwrap().len(), 16);
        assert_eq!(ask("printf 12345678901234567", long), Err(Silence::TooMuch));
        assert_eq!(ask("yes", long), Err(Silence::TooMuch));
    }

    #[test]
    fn what_a_program_leaves_running_ends_with_its_answer() {
        let dir = tempfile::tempdir().unwrap();
        let (held, late) = (dir.path().join("held"), dir.path().join("late"));
        let made = Command::new("mkfifo").arg(&held).status().unwrap();
        assert!(made.success());
        // The pipe ends with whoever holds it last.
        let ended = std::thread::spawn({
            let held = held.clone();
            move || std::fs::read(held).unwrap()
        });
        let (held, late) = (held.display(), late.display());
        let script =
            format!("exec 9>{held}; (sleep 30; echo > {late}) >/dev/null 2>&1 & printf answer");
        let answer = ask(&script, Duration::from_secs(60)).unwrap();
        assert_eq!(answer, b"answer");
        ended.join().unwrap();
        assert!(!dir.path().join("late").exists());
    }

    #[test]
    fn what_everybody_may_write_or_replace_is_not_run() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("b.sh");
        worldcompute_durable::write_atomic(
            &program,
            b"#!/bin/sh\necho answer\n",
            worldcompute_durable::Mode::Private,
        )
        .unwrap();
        let set = |path: &std::path::Path, mode| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let run = || {
            let program = Program {
                name: program.to_str().unwrap(),
                arguments: &[],
                timeout: Duration::from_secs(30),
                limit: 16,
            };
            program.ask(b"").map(|answer| answer.to_vec())
        };
        for (file, folder, expected) in [
            (0o755, 0o755, Ok(b"answer\n".to_vec())),
            (0o777, 0o755, Err(Silence::Insecure)),
            (0o755, 0o777, Err(Silence::Insecure)),
            (0o755, 0o1777, Ok(b"answer\n".to_vec())),
        ] {
            set(&program, file);
            set(dir.path(), folder);
            assert_eq!(run(), expected, "{file:o} {folder:o}");
        }
    }

    #[test]
    fn failure_absence_and_slowness_are_told_apart() {
        let long = Duration::from_secs(30);
        assert_eq!(ask("echo half; exit 3", long), Err(Silence::Failed));
        assert_eq!(ask("kill -9 $$", long), Err(Silence::Failed));
        assert_eq!(
            ask("sleep 1000", Duration::from_millis(50)),
            Err(Silence::TooLong)
        );
        let absent = Program {
            name: "/no/such/program",
            arguments: &[],
            timeout: long,
            limit: 1,
        };
        assert_eq!(absent.ask(b"").map(drop), Err(Silence::NotStarted));
    }
}
