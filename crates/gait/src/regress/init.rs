//! Keeping a run as a fixture.

use std::fs::{self, File};
use std::io::{self, Seek};
use std::path::{Path, PathBuf};

use worldcompute_durable::{AtomicFile, LockOptions, Mode, OwnedLock, output_dir, write_atomic};
use worldcompute_fault::{Category, Fault, Result};

use super::CONFIG;
use super::config::{Config, Listed, SCHEMA_ID, VERSION};
use super::fixture::{META, Meta, RUNPACK};
use super::source::{Source, another_run};
use super::trajectory;
use crate::archive::{Archive, fault_of};
use crate::limits::{MAX_FIXTURE_NAME, invalid};
use crate::record::json_file;
use crate::runpack::{self, Requirements, Runpack};
use crate::text::lower;

/// The folder of all fixtures.
const FIXTURES: &str = "fixtures";
/// The runpack inside of a pack.
const NESTED: &str = "source/runpack.zip";
/// In the folder of all fixtures; no fixture has such a name.
const LOCK: &str = ".lock";

/// A fixture that was just made.
#[derive(Clone, Debug)]
pub struct Initialised {
    pub run_id: String,
    pub fixture_name: String,
    pub fixture_dir: PathBuf,
    pub runpack_path: PathBuf,
}

/// Keeps the runpack of `source`, or that in the pack there, as the fixture `name` of the working directory, and lists it
/// in `gait.yaml`. A fixture that comes from a session names the chain and the number of its checkpoint.
///
/// # Errors
/// `verification_failed` for a runpack that does not hold; `invalid_input` for a name that names no folder, for a
/// runpack of another run than a capture receipt says, and for a `gait.yaml` that is none; those of writing.
pub fn init(source: &Source, name: &str) -> Result<Initialised> {
    Config::load_or_new(Path::new(CONFIG))?;
    let sound = Sound::open(&source.runpack)?;
    let run_id = sound.run_id.clone();
    if let Some(expected) = source.run_id.as_ref().filter(|id| **id != run_id) {
        return Err(another_run(expected, &run_id));
    }
    let name = match name.trim() {
        "" => sanitised(&run_id),
        name => name.to_owned(),
    };
    if !is_valid(&name) {
        return Err(invalid(format!("invalid fixture name: {name}")));
    }
    let dir = Path::new(FIXTURES).join(&name);
    output_dir(&dir)?;
    // Who keeps another fixture at the same time must find this one when it lists them all.
    let lock = Path::new(FIXTURES).join(LOCK);
    let _lock = OwnedLock::acquire(&lock, LockOptions::default())?;
    let known = Config::load_or_new(Path::new(CONFIG))?;
    let runpack = dir.join(RUNPACK);
    sound.copy(&runpack)?;
    let meta = expectations(&runpack, &name, &run_id, source.checkpoint.as_ref())?;
    write_atomic(&dir.join(META), &json_file(&meta)?, Mode::Private)?;
    list_all(known)?;
    Ok(Initialised {
        run_id,
        fixture_name: name,
        fixture_dir: dir,
        runpack_path: runpack,
    })
}

/// A runpack, or a pack with one, that is what its manifest says: what is copied is the file that was verified.
struct Sound {
    archive: Archive<File>,
    run_id: String,
}

impl Sound {
    fn open(source: &Path) -> Result<Self> {
        let archive = Archive::open(source)?;
        let anybody = Requirements::default();
        let report = match archive.entry(NESTED) {
            Some(_) => runpack::verify_archive(&archive.nested(NESTED)?, &anybody)?,
            None => runpack::verify_archive(&archive, &anybody)?,
        };
        match report.holds() {
            true => Ok(Self {
                archive,
                run_id: report.run_id,
            }),
            false => Err(Fault::new(
                Category::VerificationFailed,
                "verification_failed",
                "source runpack failed integrity checks",
            )),
        }
    }

    fn copy(self, to: &Path) -> Result<()> {
        let mut file = AtomicFile::create(to, Mode::Private)?;
        let copied = match self.archive.entry(NESTED) {
            Some(_) => io::copy(&mut self.archive.read(NESTED)?, &mut file),
            None => {
                let mut source = self.archive.into_inner();
                source
                    .rewind()
                    .and_then(|()| io::copy(&mut source, &mut file))
            }
        };
        copied.map_err(|error| fault_of(&format!("copy to {}", to.display()), error))?;
        file.commit()
    }
}

/// What the run did is what is expected from now on.
fn expectations(
    runpack: &Path,
    name: &str,
    run_id: &str,
    checkpoint: Option<&(PathBuf, u64)>,
) -> Result<Meta> {
    let pack = Runpack::open(runpack)?;
    let digest = pack.refs()?.context_set_digest.trim().to_owned();
    let conformance = if digest.is_empty() { "" } else { "required" };
    Ok(Meta {
        schema_id: "gait.regress.fixture".to_owned(),
        schema_version: VERSION.to_owned(),
        name: name.to_owned(),
        run_id: run_id.to_owned(),
        runpack: RUNPACK.to_owned(),
        expected_tool_sequence: trajectory::tools(&pack)?,
        expected_verdict_sequence: trajectory::verdicts(&pack)?,
        context_conformance: conformance.to_owned(),
        expected_context_set_digest: digest,
        session_chain: checkpoint
            .map(|(chain, _)| chain.display().to_string())
            .unwrap_or_default(),
        checkpoint_index: checkpoint.map_or(0, |(_, index)| *index),
        ..Meta::default()
    })
}

/// Lists every fixture of the working directory. What else the configuration said before stays as it is.
fn list_all(known: Config) -> Result<()> {
    let cannot_list = |error: io::Error| Fault::io(format_args!("list {FIXTURES}"), &error);
    let mut fixtures = Vec::new();
    for entry in fs::read_dir(FIXTURES).map_err(cannot_list)? {
        let name = entry.map_err(cannot_list)?.file_name();
        let Some(name) = name.to_str().filter(|name| is_valid(name)) else {
            continue;
        };
        let dir = Path::new(FIXTURES).join(name);
        if dir.join(META).exists() {
            fixtures.push(listed(name, &dir)?);
        }
    }
    let elsewhere = known.fixtures.into_iter().filter(|listed| {
        !Path::new(&listed.runpack).starts_with(FIXTURES)
            && fixtures.iter().all(|found| found.name != listed.name)
    });
    let elsewhere: Vec<Listed> = elsewhere.collect();
    fixtures.extend(elsewhere);
    fixtures.sort_by(|a, b| a.name.cmp(&b.name));
    let config = Config {
        schema_id: SCHEMA_ID.to_owned(),
        schema_version: VERSION.to_owned(),
        fixtures,
        ..known
    };
    write_atomic(Path::new(CONFIG), &json_file(&config)?, Mode::Private)
}

fn listed(name: &str, dir: &Path) -> Result<Listed> {
    let meta = Meta::load(&dir.join(META))?;
    if meta.name != name {
        return Err(invalid(format!(
            "fixture metadata name mismatch for {name}"
        )));
    }
    if Path::new(&meta.runpack)
        .file_name()
        .is_none_or(|file| *file != *meta.runpack)
    {
        return Err(invalid(format!(
            "fixture runpack path must be a filename for {name}"
        )));
    }
    Ok(Listed {
        name: meta.name,
        run_id: meta.run_id,
        runpack: dir.join(meta.runpack).display().to_string(),
    })
}

/// `^[a-z0-9][a-z0-9._-]*$`, of a length that names a folder.
fn is_valid(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= MAX_FIXTURE_NAME
        && name.bytes().next().is_some_and(plain)
        && name
            .bytes()
            .all(|byte| plain(byte) || b"._-".contains(&byte))
}

fn sanitised(run_id: &str) -> String {
    let mut name = String::new();
    for character in lower(run_id).chars() {
        match character {
            'a'..='z' | '0'..='9' | '.' | '_' | '-' => name.push(character),
            _ if name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    match name.trim_matches(['-', '.', '_']) {
        "" => "fixture".to_owned(),
        name => name.to_owned(),
    }
}
