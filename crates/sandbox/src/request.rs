//! What to run: the request, its limits, and the intent the gate decides on.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use worldcompute_fault::{Fault, Result, WcCode};
use worldcompute_proof::{Cid, PeerId, Sha256, canonical_json};

/// The tool of the intent: running a task on this machine.
pub const TOOL: &str = "worldcompute.task.run";

/// Most entries of each list of a request: arguments, variables, inputs, outputs, classes.
pub const MAX_ENTRIES: usize = 1024;
/// Most bytes of all arguments and variables together.
pub const MAX_TEXT: usize = 256 << 10;
/// Most bytes of a path in the guest.
pub const MAX_PATH: usize = 4096;
/// Most bytes of one name in a path.
pub const MAX_NAME: usize = 255;
/// Most linear memory a request can ask for, in bytes: all that a 32-bit guest can address.
pub const MAX_MEMORY: u64 = 4 << 30;
/// Longest wall-clock limit, in milliseconds: seven days.
pub const MAX_WALL_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// Most bytes a guest may print and keep, all together.
pub const MAX_OUTPUT: u64 = 1 << 30;
/// Largest number of a request: what every reader of canonical JSON holds exactly (RFC 8785, section 3.2.2.3).
pub const MAX_NUMBER: u64 = (1 << 53) - 1;

/// One run of one module: everything its result depends on.
///
/// Equal requests have equal results on every machine, unless a wall-clock limit or a cancellation ends them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    pub job_id: String,
    pub task_index: u32,
    pub task_count: u32,
    pub submitter: PeerId,
    /// Acceptable-use classes of the job.
    pub classes: Vec<String>,
    /// A WebAssembly module with WASI preview 1, a component with WASI preview 2, or the text form of either.
    pub workload: Cid,
    /// All arguments, the program's name first.
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// What the guest reads from standard input; nothing if absent.
    pub stdin: Option<Cid>,
    pub inputs: Vec<Mount>,
    pub outputs: Vec<OutputSpec>,
    pub limits: Limits,
    pub profile: Profile,
}

/// An input, seen by the guest as a read-only file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    pub cid: Cid,
    /// Absolute path in the guest, outside `/out`.
    pub path: String,
}

/// A file the guest has to leave behind for the run to succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    pub name: String,
    /// Absolute path in the guest, under `/out`.
    pub path: String,
    pub max_bytes: u64,
}

/// What a run may use. Past any of these it ends with a status of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Work: about one unit per WebAssembly instruction, and more for a call to the host.
    pub fuel: u64,
    /// All linear memories and tables together.
    pub memory_bytes: u64,
    /// Wall-clock time from the first instruction.
    pub wall_ms: u64,
    /// Standard output, standard error and all files under `/out` together.
    pub output_bytes: u64,
}

/// How a run sees the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Profile {
    /// Nothing of the machine shows: virtual clock, randomness from the seed, one bit pattern for NaN, no threads.
    Deterministic { seed: u64 },
}

impl RunRequest {
    /// Checks every field against its limit.
    ///
    /// # Errors
    /// WC-001, naming the field.
    pub fn check(&self) -> Result<()> {
        self.check_sizes()?;
        self.check_limits()?;
        self.check_texts()?;
        self.check_paths()
    }

    /// What the gate decides on: tool `worldcompute.task.run` with this request as its arguments, one target per
    /// acceptable-use class.
    ///
    /// # Errors
    /// WC-001 as [`Self::check`]; what the gate finds wrong with the intent.
    pub fn intent(&self) -> Result<gait::Intent> {
        self.check()?;
        let draft = gait::IntentDraft {
            tool_name: TOOL.to_owned(),
            args: self.intent_args()?,
            targets: self.intent_targets(),
            context: gait::intent::Context {
                identity: self.submitter.to_string(),
                workspace: "worldcompute".to_owned(),
                risk_class: "low".to_owned(),
                ..Default::default()
            },
            ..Default::default()
        };
        draft.normalise()
    }

    /// The SHA-256 of the request's canonical JSON.
    ///
    /// # Errors
    /// WC-001 as [`Self::check`].
    pub fn digest(&self) -> Result<Sha256> {
        self.check()?;
        Ok(Sha256::of(canonical_json(self)?))
    }

    /// The fields a policy can speak about, and the digest of all of them: the gate tidies up what it is given, and
    /// two requests must never look the same to it.
    fn intent_args(&self) -> Result<Map<String, Value>> {
        let args = json!({
            "job_id": self.job_id,
            "task_index": self.task_index,
            "task_count": self.task_count,
            "workload_cid": self.workload,
            "args": self.args,
            "env": self.env,
            "stdin": self.stdin,
            "inputs": self.inputs,
            "outputs": self.outputs,
            "limits": self.limits,
            "profile": self.profile,
            "request_digest": self.digest()?,
        });
        match args {
            Value::Object(args) => Ok(args),
            _ => Err(Fault::wc(
                WcCode::Internal,
                "the arguments of an intent are an object",
            )),
        }
    }

    fn intent_targets(&self) -> Vec<gait::intent::Target> {
        let class = |class| gait::intent::Target::label(&format!("class:{class}"), "public");
        self.classes.iter().map(class).collect()
    }

    fn check_sizes(&self) -> Result<()> {
        let lists = [
            ("args", self.args.len()),
            ("env", self.env.len()),
            ("inputs", self.inputs.len()),
            ("outputs", self.outputs.len()),
            ("classes", self.classes.len()),
        ];
        for (field, entries) in lists {
            check(entries <= MAX_ENTRIES, || {
                format!("{field}: {entries} entries, {MAX_ENTRIES} is the most")
            })?;
        }
        let env = self
            .env
            .iter()
            .map(|(name, value)| name.len() + value.len());
        let text = self.args.iter().map(String::len).chain(env).sum::<usize>();
        check(text <= MAX_TEXT, || {
            format!("args and env: {text} bytes, {MAX_TEXT} is the most")
        })
    }

    fn check_limits(&self) -> Result<()> {
        let Limits {
            fuel,
            memory_bytes,
            wall_ms,
            output_bytes,
        } = self.limits;
        let Profile::Deterministic { seed } = self.profile;
        let numbers = [
            ("limits.fuel", fuel, MAX_NUMBER),
            ("limits.memory_bytes", memory_bytes, MAX_MEMORY),
            ("limits.wall_ms", wall_ms, MAX_WALL_MS),
            ("limits.output_bytes", output_bytes, MAX_OUTPUT),
            ("profile.seed", seed, MAX_NUMBER),
        ];
        for (field, value, max) in numbers {
            check(value <= max, || {
                format!("{field}: {value}, {max} is the most")
            })?;
        }
        Ok(())
    }

    fn check_texts(&self) -> Result<()> {
        let printable = |text: &str| !text.contains('\0');
        check(self.args.iter().all(|arg| printable(arg)), || {
            "args: a NUL character".into()
        })?;
        for (name, value) in &self.env {
            let sound =
                !name.is_empty() && !name.contains('=') && printable(name) && printable(value);
            check(sound, || format!("env: {name:?} cannot be a variable"))?;
        }
        Ok(())
    }

    fn check_paths(&self) -> Result<()> {
        let mut seen = BTreeSet::new();
        for mount in &self.inputs {
            check(is_guest_path(&mount.path), || {
                format!("inputs: {:?} is not an absolute plain path", mount.path)
            })?;
            check(!is_output_path(&mount.path), || {
                format!("inputs: {} lies where outputs go", mount.path)
            })?;
            check(seen.insert(&mount.path), || {
                format!("inputs: {} twice", mount.path)
            })?;
        }
        let mut names = BTreeSet::new();
        for output in &self.outputs {
            let sound = is_guest_path(&output.path) && output.path.starts_with("/out/");
            check(sound, || {
                format!("outputs: {:?} is not a plain path under /out", output.path)
            })?;
            check(seen.insert(&output.path), || {
                format!("outputs: {} twice", output.path)
            })?;
            check(names.insert(&output.name), || {
                format!("outputs: two are named {:?}", output.name)
            })?;
            check(output.max_bytes <= MAX_OUTPUT, || {
                format!("outputs: {} over {MAX_OUTPUT} bytes", output.name)
            })?;
        }
        Ok(())
    }
}

/// Absolute, no empty, `.` or `..` part, nothing over-long.
fn is_guest_path(path: &str) -> bool {
    let plain = |part: &str| {
        !matches!(part, "" | "." | "..") && part.len() <= MAX_NAME && !part.contains('\0')
    };
    path.len() <= MAX_PATH
        && path
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(plain))
}

fn is_output_path(path: &str) -> bool {
    path == "/out" || path.starts_with("/out/")
}

fn check(holds: bool, message: impl FnOnce() -> String) -> Result<()> {
    if holds {
        Ok(())
    } else {
        Err(Fault::wc(WcCode::InvalidManifest, message()))
    }
}
