//! `run record --store`: a finished runpack is handed to the program that holds the encrypted store.
//!
//! The store is no part of this program, which is started once for every tool call and has to be small.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use serde::Deserialize;
use serde_json::{Map, Value};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::parse_json_within;

use crate::cli::args::{Args, invalid};

/// The program, beside this one or else on the path.
const PROGRAM: &str = "worldcompute";
/// Bytes that it may say.
const MAX_ANSWER: usize = 64 << 10;

/// Where a runpack goes, and with what.
pub struct Handover {
    home: String,
    arguments: Vec<OsString>,
}

/// What the program says when it fails.
#[derive(Deserialize)]
struct Refusal {
    #[serde(rename = "error")]
    message: String,
    #[serde(rename = "error_code")]
    code: String,
    #[serde(rename = "error_category")]
    category: String,
    hint: String,
}

impl Handover {
    /// None when no store is asked for.
    pub fn asked(args: &Args) -> Result<Option<Self>> {
        let home = args.text("store").trim().to_owned();
        let mut arguments = Vec::new();
        for flag in ["trace", "approval-audit"] {
            for path in args.csv(flag) {
                arguments.extend([format!("--{flag}").into(), path.into()]);
            }
        }
        match (home.is_empty(), arguments.is_empty()) {
            (true, true) => Ok(None),
            (true, false) => Err(invalid(
                "--trace and --approval-audit go into the store: name it with --store",
            )),
            (false, _) => Ok(Some(Self { home, arguments })),
        }
    }

    /// Hands over the runpack at `path`: what the store made of it.
    ///
    /// # Errors
    /// `store_program_missing`; whatever the program refuses, as it says it; `store_program_failed` when it says nothing.
    pub fn hand_over(&self, path: &Path) -> Result<Map<String, Value>> {
        let program = beside(PROGRAM);
        let child = Command::new(&program)
            .args([
                "--json", "--home", &self.home, "store", "dialogue", "record",
            ])
            .args(&self.arguments)
            .arg("--")
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| missing(&program, &error))?;
        let said =
            Said::hear(child).map_err(|error| Fault::io("hear the store's program", &error))?;
        match said.succeeded {
            true => said.answer(),
            false => Err(said.refusal()),
        }
    }
}

/// The program of that name in this program's folder, where there is one.
fn beside(name: &str) -> PathBuf {
    let here = std::env::current_exe().map(|program| program.with_file_name(name));
    here.ok()
        .filter(|program| program.is_file())
        .unwrap_or_else(|| PathBuf::from(OsStr::new(name)))
}

/// What a program said before it ended.
struct Said {
    succeeded: bool,
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Said {
    /// Listens to both at once, so that neither fills up while the other is waited for.
    fn hear(mut child: Child) -> io::Result<Self> {
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let err = thread::spawn(move || limited(err));
        let out = limited(out)?;
        let err = err.join().unwrap_or_else(|_| Ok(Vec::new()))?;
        let succeeded = child.wait()?.success();
        Ok(Self {
            succeeded,
            out,
            err,
        })
    }

    fn answer(&self) -> Result<Map<String, Value>> {
        match parse_json_within(&self.out, MAX_ANSWER) {
            Ok(Value::Object(members)) => Ok(members),
            _ => Err(failed("its answer is no JSON object")),
        }
    }

    fn refusal(&self) -> Fault {
        let last = self
            .err
            .trim_ascii_end()
            .rsplit(|byte| *byte == b'\n')
            .next();
        let refusal = serde_json::from_slice::<Refusal>(last.unwrap_or_default());
        match refusal.ok().map(Refusal::fault) {
            Some(Some(fault)) => fault,
            _ => failed("it ended without a reason"),
        }
    }
}

impl Refusal {
    /// The same fault; none when it has no code of that form.
    fn fault(self) -> Option<Fault> {
        const MAX_CODE: usize = 64;
        let of_code = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let is_code = (1..=MAX_CODE).contains(&self.code.len()) && self.code.bytes().all(of_code);
        let category = Category::parse(&self.category).filter(|_| is_code)?;
        Some(Fault::new(category, self.code, self.message).hint(self.hint))
    }
}

/// All that is said, of which only so much is kept: whoever says more is not held up.
fn limited(source: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut source) = source {
        source
            .by_ref()
            .take(MAX_ANSWER as u64)
            .read_to_end(&mut kept)?;
        io::copy(&mut source, &mut io::sink())?;
    }
    Ok(kept)
}

fn missing(program: &Path, error: &io::Error) -> Fault {
    let message = format!("start {}: {error}", program.display());
    Fault::new(
        Category::DependencyMissing,
        "store_program_missing",
        message,
    )
    .hint("put 'worldcompute' beside 'gait' or on the path; the runpack is written")
}

fn failed(why: &str) -> Fault {
    let message = format!("{PROGRAM} did not put the runpack into the store: {why}");
    Fault::new(Category::InternalFailure, "store_program_failed", message)
        .hint("the runpack is written: try 'worldcompute store dialogue record' with it")
}
