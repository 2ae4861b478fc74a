//! The program under test, and the scratch copy of the cases that it works in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;
use worldcompute_durable::{Mode, write_atomic};

use crate::case::{Case, Failure};

/// The program, with a home and a working folder of its own.
pub struct Program {
    scratch: TempDir,
    private_key: String,
    runs: AtomicU32,
}

/// What a run came to.
pub struct Ran {
    /// The exit code.
    pub exit: i64,
    /// What it printed, if that is JSON.
    pub output: Value,
    /// The same as it was printed.
    pub line: String,
    /// The paths that stood in for the names in the command.
    pub places: Places,
}

/// Scratch paths of one run, by the names that commands use for them.
pub struct Places {
    folder: PathBuf,
}

impl Places {
    /// The path that stands for `name`.
    pub fn of(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Words of a command that stand for a scratch path.
const NAMES: [&str; 7] = ["OUT", "CACHE", "R", "J", "S", "K", "p.zip"];

impl Program {
    /// Copies the folder of cases, adds the files that cases bring along, and makes a pair of keys with the program
    /// itself.
    pub fn new(folder: &Path, cases: &[Case]) -> Result<Self, Failure> {
        let scratch = tempfile::tempdir()?;
        let root = scratch.path().join("cases");
        copy(folder, &root)?;
        for (path, content) in cases.iter().flat_map(|case| &case.files) {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap_or(&root))?;
            write_atomic(&path, content.as_bytes(), Mode::Private)?;
        }
        let mut made = Self {
            scratch,
            private_key: String::new(),
            runs: AtomicU32::new(0),
        };
        let keys = made.scratch.path().join("keys");
        let made_keys = made.run_words(
            &[
                "keys",
                "init",
                "--json",
                "--prefix",
                "case",
                "--out-dir",
                &text(&keys),
            ],
            &made.path("."),
        )?;
        if made_keys.exit != 0 {
            return Err(Failure::new(format!("keys init: {}", made_keys.output)));
        }
        let private = fs::read_to_string(keys.join("case_private.key"))?;
        made.private_key = private.trim().to_owned();
        Ok(made)
    }

    /// A path in the scratch copy of the cases.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.scratch.path().join("cases").join(relative)
    }

    /// The public half of the pair that was made for these cases.
    pub fn public_key(&self) -> PathBuf {
        self.scratch.path().join("keys/case_public.key")
    }

    /// Runs a case's own command.
    pub fn run(&self, case: &Case) -> Result<Ran, Failure> {
        self.run_line(&case.command, &case.comment)
    }

    /// Runs a command as the index writes it; `comment` may ask for a key in the environment.
    pub fn run_line(&self, line: &str, comment: &str) -> Result<Ran, Failure> {
        let (folder, line) = match line
            .strip_prefix("(cd ")
            .and_then(|rest| rest.split_once(')'))
        {
            Some((folder, line)) => (self.path(folder), line),
            None => (self.path("."), line),
        };
        let places = self.places()?;
        let mut words: Vec<String> = line
            .split_whitespace()
            .map(|word| self.word(word, comment, &places))
            .collect();
        if let [first, second, ..] = words.as_slice()
            && first == "gate"
            && second == "eval"
        {
            for (flag, name) in [
                ("--trace-out", "trace.json"),
                ("--approval-audit-out", "approval_audit.json"),
                ("--delegation-audit-out", "delegation_audit.json"),
                ("--credential-evidence-out", "credential_evidence.json"),
            ] {
                words.extend([flag.to_owned(), text(&places.of(name))]);
            }
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ran = self.run_words(&words, &folder)?;
        Ok(Ran { places, ..ran })
    }

    /// Runs the program with `words` in `folder`.
    pub fn run_words(&self, words: &[&str], folder: &Path) -> Result<Ran, Failure> {
        let output = self.command(words, folder).output()?;
        let exit = output.status.code();
        let exit =
            exit.ok_or_else(|| Failure::new(format!("the program died: {}", output.status)))?;
        Ok(Ran {
            exit: exit.into(),
            output: serde_json::from_slice(&output.stdout).unwrap_or(json!(null)),
            line: String::from_utf8_lossy(&output.stdout).into_owned(),
            places: self.places()?,
        })
    }

    /// The program with `words` in `folder`, not started yet.
    pub fn command(&self, words: &[&str], folder: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gait"));
        command
            .args(words)
            .current_dir(folder)
            .env_clear()
            .env("HOME", self.scratch.path().join("home"))
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("GK", &self.private_key)
            .stdin(Stdio::null());
        command
    }

    /// Scratch paths for one run.
    pub fn places(&self) -> Result<Places, Failure> {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let folder = self.scratch.path().join(format!("run{number}"));
        fs::create_dir_all(&folder)?;
        Ok(Places { folder })
    }

    /// The private half of the cases' own keys is not handed out: where it is asked for, the pair made here stands in.
    pub fn word(&self, word: &str, comment: &str, places: &Places) -> String {
        if word == "K" || (comment.contains("env GK") && word.ends_with("_public.key")) {
            return text(&self.public_key());
        }
        if NAMES.contains(&word) {
            return text(&places.of(word));
        }
        word.to_owned()
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
