//! Runs the built binary in a directory and an environment of its own.

#![allow(
    dead_code,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "every test binary uses a part of it"
)]

pub mod serving;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A directory to run `gait` in.
pub struct Gait {
    dir: TempDir,
    env: Vec<(String, String)>,
}

/// How one run ended; a signal counts as code -1.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Gait {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            env: Vec::new(),
        }
    }

    /// A variable for all runs that follow; nothing else of the test's environment is passed on.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file of mode 0600 and returns its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        worldcompute_durable::write_atomic(
            &path,
            content.as_ref(),
            worldcompute_durable::Mode::Private,
        )
        .unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The command, to be changed before it is started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gait"));
        command
            .args(args)
            .current_dir(self.path())
            .env_clear()
            .env("HOME", self.path())
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Run {
        Run::of(self.command(args).output().unwrap())
    }

    /// Runs with so many KiB for what grows with the input: heap, stacks and everything else that is written to. The
    /// program's text comes on top.
    pub fn within(&self, kib: u32, args: &[&str]) -> Run {
        let program = self.command(args);
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("ulimit -d {kib} && exec \"$0\" \"$@\"")])
            .arg(program.get_program())
            .args(program.get_args())
            .current_dir(self.path())
            .env_clear()
            .env("HOME", self.path())
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null());
        Run::of(shell.output().unwrap())
    }

    /// Runs with `--json` and returns the exit code and the one line it prints.
    pub fn json(&self, args: &[&str]) -> (i32, Value) {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        let run = self.run(&args);
        (run.code, run.json())
    }
    /// [`Gait::json`] for a command that is followed by another program's command line.
    pub fn json_before(&self, args: &[&str], program: &[&str]) -> (i32, Value) {
        let run = self.run(&[args, &["--json", "--"], program].concat());
        (run.code, run.json())
    }
}

impl Run {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The one line of JSON on standard output.
    pub fn json(&self) -> Value {
        let line = self.stdout.strip_suffix('\n').unwrap();
        assert!(!line.contains('\n'), "more than a line: {}", self.stdout);
        serde_json::from_str(line).unwrap()
    }
}
