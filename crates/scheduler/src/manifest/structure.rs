//! Shape and bounds: what makes a manifest readable at all, whoever wrote it.

use std::collections::BTreeSet;

use worldcompute_fault::{Fault, Result, WcCode};

use super::{Manifest, WorkloadType};
use crate::evidence::MAX_FILES;

/// Most bytes of a job's name.
pub const MAX_NAME_BYTES: usize = 64;
/// Most entries of the argument vector.
pub const MAX_COMMAND: usize = 64;
/// Most environment variables, without the two of the array.
pub const MAX_ENV: usize = 64;
/// Most input files.
pub const MAX_INPUTS: usize = 64;
/// Most output files.
pub const MAX_OUTPUTS: usize = 64;
/// Most acceptable-use classes or network endpoints of one manifest.
const MAX_LABELS: usize = 16;
/// Most bytes of one argument, environment value or endpoint.
pub const MAX_TEXT_BYTES: usize = 4096;
/// Most bytes of a path inside the sandbox.
pub const MAX_PATH_BYTES: usize = 255;
/// Most tasks of one job.
pub const MAX_TASKS: u32 = 10_000;
/// Most donors that execute the same task.
pub const MAX_REPLICAS: u8 = 20;
/// Shortest wall-clock limit: 1 s.
pub const MIN_WALL_MS: u64 = 1_000;
/// Longest wall-clock limit: 7 d.
pub const MAX_WALL_MS: u64 = 7 * 24 * 3_600_000;
/// Largest trust tier.
const MAX_TIER: u8 = 4;
/// Smallest memory limit: one WebAssembly page.
const MIN_RAM: u64 = 64 << 10;
/// Largest memory limit of a manifest.
const MAX_RAM: u64 = 16 << 40;
/// Most bytes of a message about a document.
const MAX_MESSAGE_BYTES: usize = 600;
/// Most bytes a task may write.
const MAX_SCRATCH: u64 = 1 << 30;
/// Largest number that JSON readers everywhere keep exact (RFC 8785, 3.2.2.3); receipts carry seeds and fuel.
pub(super) const MAX_EXACT: u64 = (1 << 53) - 1;
/// Most of a core count, in thousandths.
const MAX_CPU: u32 = 4_096_000;

/// The variable that holds the index of a task, from 0.
pub const TASK_INDEX_VARIABLE: &str = "WC_TASK_INDEX";
/// The variable that holds the number of tasks of the job.
pub const TASK_COUNT_VARIABLE: &str = "WC_TASK_COUNT";

impl<R> Manifest<R> {
    /// WC-001 with the field at fault.
    pub(super) fn check_structure(&self) -> Result<()> {
        self.check_numbers()?;
        check_name("metadata.name", &self.name)?;
        self.check_command()?;
        self.check_env()?;
        self.check_files()?;
        check_count(
            "acceptable_use_classes",
            self.acceptable_use_classes.len(),
            1..=MAX_LABELS,
        )?;
        check_count(
            "allowed_endpoints",
            self.allowed_endpoints.len(),
            0..=MAX_LABELS,
        )?;
        check_texts("acceptable_use_classes", &self.acceptable_use_classes)?;
        check_texts("allowed_endpoints", &self.allowed_endpoints)?;
        check_distinct("acceptable_use_classes", &self.acceptable_use_classes)
    }

    fn check_numbers(&self) -> Result<()> {
        let resources = &self.resources;
        check_range("array.count", self.array_count, 1..=MAX_TASKS)?;
        check_range("replica_count", self.replica_count, 1..=MAX_REPLICAS)?;
        check_range("min_trust_tier", self.min_trust_tier, 0..=MAX_TIER)?;
        check_range(
            "max_wall_time (ms)",
            self.max_wallclock_ms,
            MIN_WALL_MS..=MAX_WALL_MS,
        )?;
        check_range("seed", self.seed, 0..=MAX_EXACT)?;
        check_range(
            "resources.cpu (thousandths)",
            resources.cpu_millicores,
            1..=MAX_CPU,
        )?;
        check_range(
            "resources.memory (bytes)",
            resources.ram_bytes,
            MIN_RAM..=MAX_RAM,
        )?;
        self.check_fuel()?;
        check_range(
            "resources.scratch (bytes)",
            resources.scratch_bytes,
            0..=MAX_SCRATCH,
        )?;
        check_range(
            "resources.network_egress (bytes)",
            resources.network_egress_bytes,
            0..=MAX_EXACT,
        )
    }

    /// The work of a machine is not counted.
    fn check_fuel(&self) -> Result<()> {
        match (self.workload_type, self.resources.fuel) {
            (WorkloadType::WasmModule, fuel) => check_range("resources.fuel", fuel, 1..=MAX_EXACT),
            (WorkloadType::OciContainer, 0) => Ok(()),
            (WorkloadType::OciContainer, _) => Err(refuse(
                "resources.fuel",
                "it bounds WASM tasks; images have max_wall_time alone",
            )),
        }
    }

    fn check_command(&self) -> Result<()> {
        // An image knows by itself what to run.
        let least = usize::from(self.workload_type == WorkloadType::WasmModule);
        check_count("command", self.command.len(), least..=MAX_COMMAND)?;
        check_texts("command", &self.command)?;
        match self.command.first() {
            Some(program) if program.is_empty() => Err(refuse(
                "command",
                "its first entry names the program and cannot be empty",
            )),
            _ => Ok(()),
        }
    }

    fn check_env(&self) -> Result<()> {
        check_count("env", self.env.len(), 0..=MAX_ENV)?;
        check_texts("env", self.env.values())?;
        self.env.keys().try_for_each(|name| check_variable(name))
    }

    fn check_files(&self) -> Result<()> {
        check_count("inputs", self.inputs.len(), 0..=MAX_INPUTS)?;
        check_count("outputs", self.outputs.len(), 0..=MAX_OUTPUTS)?;
        for output in &self.outputs {
            check_name("outputs.name", &output.name)?;
            check_range("outputs.max_bytes", output.max_bytes, 1..=MAX_SCRATCH)?;
        }
        self.check_evidence()?;
        check_distinct(
            "outputs.name",
            self.outputs.iter().map(|output| &output.name),
        )?;
        self.check_regions()?;
        let mounts = self
            .inputs
            .iter()
            .map(|input| ("inputs.mount", &input.mount));
        let paths = self
            .outputs
            .iter()
            .map(|output| ("outputs.path", &output.path));
        let files: Vec<_> = mounts.chain(paths).collect();
        files
            .iter()
            .try_for_each(|(field, path)| check_path(field, path))?;
        check_disjoint(&files)
    }

    /// A job that has ended leaves a bundle of files behind, and there must be room for all of them.
    fn check_evidence(&self) -> Result<()> {
        // The manifest, its decision, the module and standard input; of each task, receipt, decision, and both streams.
        let once = 4 + self.inputs.len();
        let files = once + self.array_count as usize * (4 + self.outputs.len());
        if files <= MAX_FILES {
            return Ok(());
        }
        let why = format!("its evidence could have {files} files; it takes {MAX_FILES}");
        Err(refuse("array.count, outputs", why))
    }

    fn check_regions(&self) -> Result<()> {
        let below = |path: &str| {
            path.strip_prefix(OUTPUT_DIRECTORY)
                .map(|rest| rest.starts_with('/'))
        };
        if self
            .inputs
            .iter()
            .any(|input| input.mount == OUTPUT_DIRECTORY || below(&input.mount) == Some(true))
        {
            return Err(refuse("inputs.mount", "/out is where outputs are written"));
        }
        if self
            .outputs
            .iter()
            .any(|output| below(&output.path) != Some(true))
        {
            return Err(refuse("outputs.path", "a task can write below /out only"));
        }
        Ok(())
    }
}

/// The directory of the sandbox that a task can write to.
const OUTPUT_DIRECTORY: &str = "/out";

/// A fault about one field.
pub(super) fn refuse(field: &str, why: impl std::fmt::Display) -> Fault {
    let why = brief(why.to_string());
    Fault::wc(WcCode::InvalidManifest, format!("{field}: {why}"))
        .hint("correct the field and submit again")
}

/// A message that may quote the document, cut to what a message should have.
pub(super) fn brief(mut text: String) -> String {
    if text.len() > MAX_MESSAGE_BYTES {
        text.truncate(text.floor_char_boundary(MAX_MESSAGE_BYTES));
        text.push('…');
    }
    text
}

fn check_range<N: PartialOrd + std::fmt::Display>(
    field: &str,
    value: N,
    range: std::ops::RangeInclusive<N>,
) -> Result<()> {
    let (least, most) = (range.start(), range.end());
    if range.contains(&value) {
        return Ok(());
    }
    Err(refuse(
        field,
        format!("{value} is not within {least} and {most}"),
    ))
}

fn check_count(field: &str, count: usize, range: std::ops::RangeInclusive<usize>) -> Result<()> {
    let (least, most) = (range.start(), range.end());
    if range.contains(&count) {
        return Ok(());
    }
    Err(refuse(
        field,
        format!("{count} entries; it takes {least} to {most}"),
    ))
}

fn check_texts<'a>(field: &str, texts: impl IntoIterator<Item = &'a String>) -> Result<()> {
    texts
        .into_iter()
        .try_for_each(|text| check_text(field, text, MAX_TEXT_BYTES))
}

fn check_text(field: &str, text: &str, most: usize) -> Result<()> {
    if text.len() > most {
        return Err(refuse(
            field,
            format!("an entry of {} bytes; it takes {most}", text.len()),
        ));
    }
    if text.contains('\0') {
        return Err(refuse(field, "a NUL character"));
    }
    Ok(())
}

/// Letters, digits, `.`, `_` and `-`, starting with a letter or a digit: safe in a path, a URL and a terminal.
fn check_name(field: &str, name: &str) -> Result<()> {
    let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let safe = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if starts && safe && name.len() <= MAX_NAME_BYTES {
        return Ok(());
    }
    let rule = format!(
        "it takes 1 to {MAX_NAME_BYTES} letters, digits, `.`, `_`, `-`, starting with a letter or digit"
    );
    Err(refuse(field, rule))
}

fn check_variable(name: &str) -> Result<()> {
    if name == TASK_INDEX_VARIABLE || name == TASK_COUNT_VARIABLE {
        return Err(refuse("env", format!("{name} is set by the scheduler")));
    }
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let safe = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if starts && safe && name.len() <= MAX_NAME_BYTES {
        return Ok(());
    }
    Err(refuse(
        "env",
        format!("`{}` is not a variable name", name.escape_default()),
    ))
}

/// Absolute, and spelled the one way that has no `.`, `..`, empty or trailing component.
fn check_path(field: &str, path: &str) -> Result<()> {
    check_text(field, path, MAX_PATH_BYTES)?;
    let mut parts = path.strip_prefix('/').unwrap_or_default().split('/');
    if parts.any(|part| matches!(part, "" | "." | "..")) {
        let shown = path.escape_default();
        return Err(refuse(
            field,
            format!("`{shown}` is not an absolute path without `.`, `..` or `//`"),
        ));
    }
    Ok(())
}

fn check_distinct<'a>(field: &str, texts: impl IntoIterator<Item = &'a String>) -> Result<()> {
    let mut seen = BTreeSet::new();
    match texts.into_iter().find(|text| !seen.insert(*text)) {
        Some(twice) => Err(refuse(
            field,
            format!("`{}` appears twice", twice.escape_default()),
        )),
        None => Ok(()),
    }
}

/// No file may be another file or a directory above it.
fn check_disjoint(files: &[(&str, &String)]) -> Result<()> {
    let mut ordered: Vec<_> = files
        .iter()
        .map(|(field, path)| (format!("{path}/"), *field))
        .collect();
    ordered.sort();
    let clash = ordered.windows(2).find_map(|pair| match pair {
        [(above, _), (below, field)] if below.starts_with(above) => Some((below, field)),
        _ => None,
    });
    match clash {
        Some((path, field)) => Err(refuse(
            field,
            format!("`{}` lies on another file", path.trim_end_matches('/')),
        )),
        None => Ok(()),
    }
}
