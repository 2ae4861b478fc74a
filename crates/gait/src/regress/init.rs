//! Keeping a run as a fixture.

use std::fs;
use std::io::{self, Seek};
use std::path::{Path, PathBuf};

use worldcompute_durable::{AtomicFile, LockOptions, Mode, NewDirs, OwnedLock, write_atomic};
use worldcompute_fault::{Fault, Result};

use super::CONFIG;
use super::config::{Config, Listed, SCHEMA_ID, VERSION};
use super::fixture::{META, Meta, RUNPACK};
use super::source::{Source, another_run};
use super::trajectory;
use crate::archive::{Archive, fault_of};
use crate::limits::{MAX_FIXTURE_NAME, invalid};
use crate::record::json_file;
use crate::runpack::Runpack;
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
    let pack = sound(&source.runpack)?;
    let run_id = pack.manifest().run_id.clone();
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
    let meta = expectations(&pack, &name, &run_id, source.checkpoint.as_ref())?;
    let fixtures = NewDirs::make(Path::new(FIXTURES))?;
    // Who keeps another fixture at the same time must find this one when it lists them all.
    let lock = OwnedLock::acquire(&Path::new(FIXTURES).join(LOCK), LockOptions::default())?;
    let kept = lock.during(|| keep(pack, &meta))?;
    fixtures.keep();
    Ok(kept)
}

/// Writes the fixture, and then the list of all; what is wrong with another fixture is found before anything is written.
fn keep(pack: Runpack, meta: &Meta) -> Result<Initialised> {
    let known = Config::load_or_new(Path::new(CONFIG))?;
    let others = others(&meta.name)?;
    let dir = Path::new(FIXTURES).join(&meta.name);
    let dirs = NewDirs::make(&dir)?;
    let runpack = dir.join(RUNPACK);
    copy(pack, &runpack)?;
    write_atomic(&dir.join(META), &json_file(meta)?, Mode::Private)?;
    dirs.keep();
    list_all(known, others, listed(meta, &dir)?)?;
    Ok(Initialised {
        run_id: meta.run_id.clone(),
        fixture_name: meta.name.clone(),
        fixture_dir: dir,
        runpack_path: runpack,
    })
}

/// The runpack at `source`, or that in the pack there, if it is what its manifest says: what is copied is the file that
/// was verified.
fn sound(source: &Path) -> Result<Runpack> {
    let archive = Archive::open(source)?;
    match archive.entry(NESTED) {
        Some(_) => Runpack::of(archive.nested(NESTED)?),
        None => Runpack::of(archive),
    }
}

fn copy(pack: Runpack, to: &Path) -> Result<()> {
    let mut file = AtomicFile::create(to, Mode::Private)?;
    let mut source = pack.into_file();
    source
        .rewind()
        .and_then(|()| io::copy(&mut source, &mut file))
        .map_err(|error| fault_of(&format!("copy to {}", to.display()), error))?;
    file.commit()
}

/// What the run did is what is expected from now on.
fn expectations(
    pack: &Runpack,
    name: &str,
    run_id: &str,
    checkpoint: Option<&(PathBuf, u64)>,
) -> Result<Meta> {
    let digest = pack.refs()?.context_set_digest.trim().to_owned();
    let conformance = if digest.is_empty() { "" } else { "required" };
    Ok(Meta {
        schema_id: "gait.regress.fixture".to_owned(),
        schema_version: VERSION.to_owned(),
        name: name.to_owned(),
        run_id: run_id.to_owned(),
        runpack: RUNPACK.to_owned(),
        expected_tool_sequence: trajectory::tools(pack)?,
        expected_verdict_sequence: trajectory::verdicts(pack)?,
        context_conformance: conformance.to_owned(),
        expected_context_set_digest: digest,
        session_chain: checkpoint
            .map(|(chain, _)| chain.display().to_string())
            .unwrap_or_default(),
        checkpoint_index: checkpoint.map_or(0, |(_, index)| *index),
        ..Meta::default()
    })
}

/// Every fixture of the working directory but that of this name.
fn others(name: &str) -> Result<Vec<Listed>> {
    let cannot_list = |error: io::Error| Fault::io(format_args!("list {FIXTURES}"), &error);
    let mut others = Vec::new();
    for entry in fs::read_dir(FIXTURES).map_err(cannot_list)? {
        let entry = entry.map_err(cannot_list)?.file_name();
        let is_other = |other: &&str| is_valid(other) && *other != name;
        let Some(other) = entry.to_str().filter(is_other) else {
            continue;
        };
        let dir = Path::new(FIXTURES).join(other);
        if dir.join(META).exists() {
            let meta = Meta::load(&dir.join(META))?;
            if meta.name != other {
                return Err(invalid(format!(
                    "fixture metadata name mismatch for {other}"
                )));
            }
            others.push(listed(&meta, &dir)?);
        }
    }
    Ok(others)
}

/// Lists the fixtures of the working directory. What else the configuration said before stays as it is.
fn list_all(known: Config, others: Vec<Listed>, new: Listed) -> Result<()> {
    let mut fixtures = others;
    fixtures.push(new);
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

fn listed(meta: &Meta, dir: &Path) -> Result<Listed> {
    let name = &meta.name;
    if Path::new(&meta.runpack)
        .file_name()
        .is_none_or(|file| *file != *meta.runpack)
    {
        return Err(invalid(format!(
            "fixture runpack path must be a filename for {name}"
        )));
    }
    Ok(Listed {
        name: name.clone(),
        run_id: meta.run_id.clone(),
        runpack: dir.join(&meta.runpack).display().to_string(),
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
