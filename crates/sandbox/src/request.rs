//! What to run: the request, its limits, and the intent the gate decides on.

use std::collections::{BTreeMap, BTreeSet};

use gait::starter::{PUBLIC, TASK_RUN, label_of};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use worldcompute_fault::{Fault, Result, WcCode};
use worldcompute_proof::{Cid, PeerId, Sha256, canonical_json};

/// Most entries of each list of a request: arguments, variables, inputs, outputs, classes.
pub const MAX_ENTRIES: usize = 1024;
/// Most bytes of all texts of a request together.
pub const MAX_TEXT: usize = 256 << 10;
/// Most bytes of a path in the guest.
pub const MAX_PATH: usize = 4096;
/// Most bytes of one name in a path.
pub const MAX_NAME: usize = 255;
/// Most linear memory a request can ask for, in bytes: all that a 32-bit guest can address.
pub const MAX_MEMORY: u64 = 4 << 30;
/// Most memory that a request can ask for in a microVM, in bytes.
pub const MAX_MACHINE_MEMORY: u64 = 256 << 30;
/// Most processors of a microVM.
pub const MAX_VCPUS: u32 = 64;
/// Longest wall-clock limit, in milliseconds: seven days.
pub const MAX_WALL_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// Most bytes a guest may print and keep, all together.
pub const MAX_OUTPUT: u64 = 1 << 30;
/// Largest number of a request: what every reader of canonical JSON holds exactly (RFC 8785, section 3.2.2.3).
pub const MAX_NUMBER: u64 = (1 << 53) - 1;

/// One run of one program: everything that its result depends on and that a submitter can choose.
///
/// Equal requests of the profile [`Profile::Deterministic`] have equal results on every machine, unless a wall-clock limit
/// or a cancellation ends them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    pub job_id: String,
    pub task_index: u32,
    pub task_count: u32,
    pub submitter: PeerId,
    /// Acceptable-use classes of the job.
    pub classes: Vec<String>,
    /// A WebAssembly module with WASI preview 1, a component with WASI preview 2, or the text form of either; in a
    /// microVM the manifest of an OCI image.
    pub workload: Cid,
    /// All arguments, the program's name first; in a microVM what takes the place of the image's own command, if anything.
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
    /// What the result is known by: fit for the name of a file, and one of a kind.
    pub name: String,
    /// Absolute path in the guest, under `/out`.
    pub path: String,
    pub max_bytes: u64,
}

/// What a run may use. Past any of these it ends with a status of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Work: about one unit per WebAssembly instruction, and more for a call to the host. 0 in a microVM, where nobody
    /// counts.
    pub fuel: u64,
    /// All linear memories and tables together; the whole memory of a microVM.
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
    /// An image in a virtual machine with so many processors, and with the clocks and the randomness of a Linux.
    #[serde(rename = "microvm")]
    MicroVm { vcpus: u32 },
}

impl RunRequest {
    /// Checks every field against its limit.
    ///
    /// # Errors
    /// WC-001, naming the field.
    pub fn check(&self) -> Result<()> {
        self.check_sizes()?;
        self.check_limits()?;
        self.check_rest()?;
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
            tool_name: TASK_RUN.to_owned(),
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

    /// The seed of a module's randomness.
    ///
    /// # Errors
    /// WC-001 for a request of another profile: that is no module.
    pub fn seed(&self) -> Result<u64> {
        match self.profile {
            Profile::Deterministic { seed } => Ok(seed),
            Profile::MicroVm { .. } => Err(Fault::wc(
                WcCode::InvalidManifest,
                "an image runs in a microVM, and is no module",
            )),
        }
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
        let class = |class: &String| gait::intent::Target::label(label_of(class), PUBLIC);
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
        let text = self.texts().map(str::len).sum::<usize>();
        check(text <= MAX_TEXT, || {
            format!("{text} bytes of text, {MAX_TEXT} is the most")
        })
    }

    /// Every text of the request.
    fn texts(&self) -> impl Iterator<Item = &str> {
        let env = self.env.iter().flat_map(|(name, value)| [name, value]);
        let inputs = self.inputs.iter().map(|mount| &mount.path);
        let outputs = self
            .outputs
            .iter()
            .flat_map(|output| [&output.name, &output.path]);
        let lists = self
            .args
            .iter()
            .chain(&self.classes)
            .chain(env)
            .chain(inputs)
            .chain(outputs);
        lists.chain([&self.job_id]).map(String::as_str)
    }

    fn check_limits(&self) -> Result<()> {
        let Limits {
            fuel,
            memory_bytes,
            wall_ms,
            output_bytes,
        } = self.limits;
        let (max_fuel, max_memory, own) = match self.profile {
            Profile::Deterministic { seed } => {
                (MAX_NUMBER, MAX_MEMORY, ("profile.seed", seed, MAX_NUMBER))
            }
            Profile::MicroVm { vcpus } => {
                let vcpus = ("profile.vcpus", vcpus.into(), MAX_VCPUS.into());
                (0, MAX_MACHINE_MEMORY, vcpus)
            }
        };
        let numbers = [
            ("limits.fuel", fuel, max_fuel),
            ("limits.memory_bytes", memory_bytes, max_memory),
            ("limits.wall_ms", wall_ms, MAX_WALL_MS),
            ("limits.output_bytes", output_bytes, MAX_OUTPUT),
            own,
        ];
        for (field, value, max) in numbers {
            check(value <= max, || {
                format!("{field}: {value}, {max} is the most")
            })?;
        }
        Ok(())
    }

    fn check_rest(&self) -> Result<()> {
        check(self.task_index < self.task_count, || {
            format!("task {} of {}", self.task_index, self.task_count)
        })?;
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
            check(is_plain_name(&output.name), || {
                format!("outputs: {:?} is not a plain name", output.name)
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

/// Absolute, made of plain names, not over-long.
fn is_guest_path(path: &str) -> bool {
    let below = path.strip_prefix('/');
    path.len() <= MAX_PATH && below.is_some_and(|below| below.split('/').all(is_plain_name))
}

/// A name that can stand for one file in a directory, wherever that is.
fn is_plain_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= MAX_NAME && !name.contains(['/', '\0'])
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

#[cfg(test)]
pub mod tests {
    use worldcompute_proof::SigningKey;

    use super::*;

    /// A request that is in order.
    pub fn sample() -> RunRequest {
        RunRequest {
            job_id: "job".to_owned(),
            task_index: 3,
            task_count: 8,
            submitter: PeerId::from(&SigningKey::from_seed([1; 32]).verifying_key()),
            classes: vec!["scientific".to_owned(), "rendering".to_owned()],
            workload: Cid::raw(b"module"),
            args: vec!["guest".to_owned(), " two  words ".to_owned()],
            env: [("NAME".to_owned(), "value".to_owned())].into(),
            stdin: Some(Cid::raw(b"stdin")),
            inputs: vec![Mount {
                cid: Cid::raw(b"input"),
                path: "/in/data".to_owned(),
            }],
            outputs: vec![OutputSpec {
                name: "result".to_owned(),
                path: "/out/result".to_owned(),
                max_bytes: 10,
            }],
            limits: Limits {
                fuel: 1_000_000,
                memory_bytes: 1 << 20,
                wall_ms: 1000,
                output_bytes: 1000,
            },
            profile: Profile::Deterministic { seed: 42 },
        }
    }

    fn refused(change: impl FnOnce(&mut RunRequest)) -> Fault {
        let mut request = sample();
        change(&mut request);
        let fault = request.check().unwrap_err();
        assert_eq!(fault.number(), Some(WcCode::InvalidManifest));
        assert!(request.intent().is_err());
        fault
    }

    fn accepted(change: impl FnOnce(&mut RunRequest)) {
        let mut request = sample();
        change(&mut request);
        request.check().unwrap();
    }

    #[test]
    fn a_request_survives_its_json() {
        let json = serde_json::to_string(&sample()).unwrap();
        assert_eq!(serde_json::from_str::<RunRequest>(&json).unwrap(), sample());
        assert!(json.contains(r#""profile":{"kind":"deterministic","seed":42}"#));
    }

    #[test]
    fn a_request_with_an_unknown_field_is_not_read() {
        let json =
            serde_json::to_string(&sample())
                .unwrap()
                .replacen('{', r#"{"privileged":true,"#, 1);
        assert!(serde_json::from_str::<RunRequest>(&json).is_err());
    }

    #[test]
    fn numbers_end_at_their_limits() {
        accepted(|request| request.limits.fuel = MAX_NUMBER);
        accepted(|request| request.limits.memory_bytes = MAX_MEMORY);
        accepted(|request| request.limits.wall_ms = MAX_WALL_MS);
        accepted(|request| request.limits.output_bytes = MAX_OUTPUT);
        accepted(|request| request.outputs[0].max_bytes = MAX_OUTPUT);
        refused(|request| request.limits.fuel = MAX_NUMBER + 1);
        refused(|request| request.limits.memory_bytes = MAX_MEMORY + 1);
        refused(|request| request.limits.wall_ms = MAX_WALL_MS + 1);
        refused(|request| request.limits.output_bytes = MAX_OUTPUT + 1);
        refused(|request| request.outputs[0].max_bytes = MAX_OUTPUT + 1);
        refused(|request| {
            request.profile = Profile::Deterministic {
                seed: MAX_NUMBER + 1,
            }
        });
    }

    #[test]
    fn lists_and_texts_end_at_their_limits() {
        accepted(|request| request.args = vec![String::new(); MAX_ENTRIES]);
        refused(|request| request.args = vec![String::new(); MAX_ENTRIES + 1]);
        refused(|request| request.classes = vec!["general".to_owned(); MAX_ENTRIES + 1]);
        let rest = {
            let request = RunRequest {
                args: Vec::new(),
                ..sample()
            };
            MAX_TEXT - request.texts().map(str::len).sum::<usize>()
        };
        accepted(|request| request.args = vec!["x".repeat(rest)]);
        refused(|request| request.args = vec!["x".repeat(rest + 1)]);
    }

    #[test]
    fn texts_that_c_cannot_hold_are_refused() {
        refused(|request| request.args.push("a\0b".to_owned()));
        for (name, value) in [("", "x"), ("a=b", "x"), ("a\0", "x"), ("a", "\0")] {
            refused(|request| drop(request.env.insert(name.to_owned(), value.to_owned())));
        }
    }

    #[test]
    fn a_path_is_absolute_plain_and_where_it_belongs() {
        for path in [
            "", "/", "in", "/in/", "//in", "/in/../x", "/./in", "/in\0", "/out", "/out/x",
            "in/data",
        ] {
            refused(|request| request.inputs[0].path = path.to_owned());
        }
        for path in [
            "",
            "/out",
            "/out/",
            "/output",
            "/in/x",
            "out/x",
            "/out/../in",
            "/out/./x",
            "/out//x",
        ] {
            refused(|request| request.outputs[0].path = path.to_owned());
        }
        accepted(|request| request.inputs[0].path = format!("/{}", "n".repeat(MAX_NAME)));
        refused(|request| request.inputs[0].path = format!("/{}", "n".repeat(MAX_NAME + 1)));
        accepted(|request| request.inputs[0].path = "/n".repeat(MAX_PATH / 2));
        refused(|request| request.inputs[0].path = "/n".repeat(MAX_PATH / 2 + 1));
    }

    #[test]
    fn the_name_of_an_output_is_no_path() {
        for name in ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\0b"] {
            refused(|request| request.outputs[0].name = name.to_owned());
        }
        accepted(|request| request.outputs[0].name = "n".repeat(MAX_NAME));
        refused(|request| request.outputs[0].name = "n".repeat(MAX_NAME + 1));
    }

    #[test]
    fn a_task_is_one_of_its_job() {
        refused(|request| request.task_index = request.task_count);
        refused(|request| (request.task_index, request.task_count) = (0, 0));
    }

    #[test]
    fn no_path_and_no_name_is_there_twice() {
        refused(|request| request.inputs.push(request.inputs[0].clone()));
        refused(|request| request.outputs.push(request.outputs[0].clone()));
        refused(|request| {
            let path = "/out/other".to_owned();
            request.outputs.push(OutputSpec {
                path,
                ..request.outputs[0].clone()
            });
        });
    }

    #[test]
    fn the_intent_names_tool_classes_and_submitter() {
        let intent = sample().intent().unwrap();
        assert_eq!(intent.tool_name(), "worldcompute.task.run");
        let targets: Vec<_> = intent
            .targets()
            .iter()
            .map(|target| target.value.as_str())
            .collect();
        assert_eq!(targets, ["class:rendering", "class:scientific"]);
        assert!(
            intent
                .targets()
                .iter()
                .all(|target| target.sensitivity == "public")
        );
        assert_eq!(intent.context().identity, sample().submitter.to_string());
        assert_eq!(intent.args()["workload_cid"], sample().workload.to_string());
    }

    #[test]
    fn no_change_of_a_request_leaves_its_intent_the_same() {
        let changes: [fn(&mut RunRequest); 19] = [
            |request| request.job_id.push(' '),
            |request| request.task_index += 1,
            |request| request.task_count += 1,
            |request| {
                request.submitter = PeerId::from(&SigningKey::from_seed([2; 32]).verifying_key())
            },
            |request| request.classes.reverse(),
            |request| request.workload = Cid::raw(b"other"),
            |request| request.args[1] = "two words".to_owned(),
            |request| request.args.push(String::new()),
            |request| drop(request.env.insert("NAME".to_owned(), "value ".to_owned())),
            |request| drop(request.env.insert("name".to_owned(), "value".to_owned())),
            |request| request.stdin = None,
            |request| request.inputs[0].path.push(' '),
            |request| request.outputs[0].max_bytes += 1,
            |request| request.limits.fuel += 1,
            |request| request.limits.memory_bytes += 1,
            |request| request.limits.wall_ms += 1,
            |request| request.limits.output_bytes += 1,
            |request| request.profile = Profile::Deterministic { seed: 43 },
            |request| {
                request.profile = Profile::MicroVm { vcpus: 42 };
                request.limits.fuel = 0;
            },
        ];
        let mut digests = BTreeSet::from([sample().intent().unwrap().digest().to_string()]);
        for change in changes {
            let mut request = sample();
            change(&mut request);
            digests.insert(request.intent().unwrap().digest().to_string());
        }
        assert_eq!(digests.len(), changes.len() + 1);
    }
}
