//! A chore that takes long, while others run.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::shell::{Failure, Result, forget_cargo};

/// One that has begun. It is told to stop when this is dropped, and when this process ends, however it does.
pub struct Beside {
    name: String,
    child: Child,
    printed: File,
}

impl Beside {
    /// Starts `cargo xtask` with these words, ahead of everything else that wants the processors.
    pub fn start(root: &Path, words: &[&str]) -> Result<Self> {
        let mut command = told_to_stop("-10");
        // The file of this program may have been replaced since it began, by a build of what it tests.
        command.arg(format!("/proc/{}/exe", std::process::id()));
        command
            .arg("--root")
            .arg(root)
            .args(words)
            .current_dir(root);
        forget_cargo(&mut command);
        Self::spawn(words.join(" "), command)
    }

    /// Starts a command line, whose words are separated by blanks, behind everything else that wants the processors.
    pub fn patiently(root: &Path, line: &str) -> Result<Self> {
        let mut command = told_to_stop("19");
        command
            .args(line.split_ascii_whitespace())
            .current_dir(root);
        forget_cargo(&mut command);
        Self::spawn(line.to_owned(), command)
    }

    fn spawn(name: String, mut command: Command) -> Result<Self> {
        let mut begin = || {
            let printed = tempfile::tempfile()?;
            let command = command.stdin(Stdio::null()).stdout(printed.try_clone()?);
            let child = command.stderr(printed.try_clone()?).spawn()?;
            Ok((child, printed))
        };
        let failed = |error: std::io::Error| Failure::new(format!("cannot run `{name}`: {error}"));
        let (child, printed) = begin().map_err(failed)?;
        Ok(Self {
            name,
            child,
            printed,
        })
    }

    /// Waits for its end, and prints what it printed.
    pub fn finish(mut self) -> Result<()> {
        let failed = |why: &dyn std::fmt::Display| Failure::new(format!("`{}`: {why}", self.name));
        let status = self.child.wait().map_err(|error| failed(&error))?;
        let mut printed = String::new();
        let read = self.printed.rewind();
        let read = read.and_then(|()| self.printed.read_to_string(&mut printed));
        read.map_err(|error| failed(&error))?;
        print!("{printed}");
        match status.success() {
            true => Ok(()),
            false => Err(failed(&status)),
        }
    }
}

/// What follows is told to stop when this process ends, however it does.
fn told_to_stop(niceness: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "nice", "-n", niceness]);
    command
}

impl Drop for Beside {
    fn drop(&mut self) {
        // It is gone already where it was waited for.
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let (Ok(None), Some(pid)) = (self.child.try_wait(), pid) {
            let _ = kill_process(pid, Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Beside {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Beside::spawn("a chore".to_owned(), command).unwrap()
    }

    #[test]
    fn what_fails_beside_is_told_when_it_is_waited_for() {
        shell("echo fine").finish().unwrap();
        let failure = shell("echo half; exit 3").finish().unwrap_err();
        assert_eq!(failure.message, "`a chore`: exit status: 3");
    }

    #[test]
    fn what_nobody_waits_for_is_told_to_stop() {
        let dir = tempfile::tempdir().unwrap();
        let told = dir.path().join("told");
        let script = format!(
            "trap 'touch {told}; exit' TERM; touch {told}.ready; while :; do sleep 0.01; done",
            told = told.display()
        );
        let beside = shell(&script);
        while !told.with_extension("ready").exists() {
            std::thread::yield_now();
        }
        drop(beside);
        assert!(told.exists());
    }
}
