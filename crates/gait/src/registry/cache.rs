//! The cache: `<name>/<version>/<digest>/registry_pack.json`, and `pins/<name>.pin`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;
use worldcompute_durable::{
    LockOptions, Mode, OwnedLock, append_line, output_dir, read_bounded, write_atomic,
};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::Sha256;

use super::fetch::MAX_PACK_BYTES;
use super::manifest::Manifest;
use super::verify::{Pin, pins};
use crate::environment::Environment;
use crate::wire_time::WireTime;

pub(super) const METADATA: &str = "registry_pack.json";
pub(super) const PINS: &str = "pins";
const LOCK: &str = ".install.lock";
/// The record of cached copies that stood in for their source.
const FALLBACKS: &str = "fallbacks.jsonl";
/// The largest pin file, in bytes.
const MAX_PIN_BYTES: u64 = 256;
/// The most directory entries looked at in one listing.
const MAX_ENTRIES: usize = 100_000;

/// The cache of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    root: PathBuf,
}

/// Where a pack was put.
pub(super) struct Kept {
    pub(super) metadata_path: PathBuf,
    pub(super) pin_path: PathBuf,
}

/// A pack of the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InstalledPack {
    /// Its name.
    pub pack_name: String,
    /// Its version.
    pub pack_version: String,
    /// Its digest.
    pub digest: Sha256,
    /// Its manifest.
    pub metadata_path: PathBuf,
    /// The file of its pin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin_path: Option<PathBuf>,
    /// What the pin says.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pin_digest: String,
    /// Whether the pin says this digest.
    pub pin_verified: bool,
}

/// The packs of a cache, and the entries that are none.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// By name, version and digest.
    pub packs: Vec<InstalledPack>,
    /// One line for each entry that could not be taken for a pack.
    pub warnings: Vec<String>,
}

#[derive(Serialize)]
struct FallbackRecord<'a> {
    created_at: WireTime,
    digest: Sha256,
    fallback_path: &'a Path,
    source: &'a str,
}

impl Cache {
    /// The cache at `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The cache at `dir`, or at `~/.gait/registry` when it is empty; `home_unknown` when `HOME` is not set either.
    pub fn resolve(dir: &str, environment: &dyn Environment) -> Result<Self> {
        if !dir.trim().is_empty() {
            return Ok(Self::at(dir.trim()));
        }
        let home = environment.setting("HOME").ok_or_else(|| {
            Fault::new(Category::InvalidInput, "home_unknown", "HOME is not set")
                .hint("give --cache-dir")
        })?;
        Ok(Self::at(Path::new(&home).join(".gait/registry")))
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file that pins the digest of the pack `name`.
    pub fn pin_path(&self, name: &str) -> PathBuf {
        self.root.join(PINS).join(format!("{name}.pin"))
    }

    /// What the pin of the pack `name` says; `None` when there is none.
    pub fn pin(&self, name: &str) -> Result<Option<String>> {
        let Some(bytes) = absent_as_none(read_bounded(&self.pin_path(name), MAX_PIN_BYTES))? else {
            return Ok(None);
        };
        Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned()))
    }

    /// Every pack.
    pub fn list(&self) -> Result<Listing> {
        let mut listing = Listing::default();
        let mut budget = MAX_ENTRIES;
        for pack in directories(&self.root, &mut budget)? {
            if pack.file_name().is_some_and(|name| name == PINS) {
                continue;
            }
            for version in directories(&pack, &mut budget)? {
                for digest in directories(&version, &mut budget)? {
                    self.look(&digest.join(METADATA), &mut listing);
                }
            }
        }
        let key = |pack: &InstalledPack| {
            (
                pack.pack_name.clone(),
                pack.pack_version.clone(),
                pack.digest.to_string(),
            )
        };
        listing.packs.sort_by_key(key);
        Ok(listing)
    }

    /// The pins that name no manifest of this cache.
    pub fn dangling_pins(&self) -> Result<Vec<PathBuf>> {
        let dir = self.root.join(PINS);
        let mut dangling = Vec::new();
        let mut budget = MAX_ENTRIES;
        for path in entries(&dir, &mut budget)? {
            let text = String::from_utf8_lossy(&read_bounded(&path, MAX_PIN_BYTES)?).into_owned();
            let found = Pin::parse(&text)
                .ok()
                .map(|pin| self.find(&pin))
                .transpose()?
                .flatten();
            if found.is_none() {
                dangling.push(path);
            }
        }
        Ok(dangling)
    }

    /// The manifest of that digest, and its file.
    pub(super) fn find(&self, pin: &Pin) -> Result<Option<(PathBuf, Vec<u8>)>> {
        let digest = pin.digest().to_string();
        let mut budget = MAX_ENTRIES;
        for pack in directories(&self.root, &mut budget)? {
            for version in directories(&pack, &mut budget)? {
                let path = version.join(&digest).join(METADATA);
                if let Some(bytes) = absent_as_none(read_bounded(&path, MAX_PACK_BYTES))? {
                    return Ok(Some((path, bytes)));
                }
            }
        }
        Ok(None)
    }

    /// Puts a verified manifest in its place and pins it; the pin comes last, so it never names what is not there.
    pub(super) fn keep(&self, manifest: &Manifest, digest: Sha256) -> Result<Kept> {
        let bytes = manifest.to_bytes()?;
        let dir = self
            .root
            .join(manifest.name())
            .join(manifest.version())
            .join(digest.to_string());
        let _lock = self.lock()?;
        output_dir(&dir)?;
        output_dir(&self.root.join(PINS))?;
        let kept = Kept {
            metadata_path: dir.join(METADATA),
            pin_path: self.pin_path(manifest.name()),
        };
        write_atomic(&kept.metadata_path, &bytes, Mode::Private)?;
        write_atomic(
            &kept.pin_path,
            format!("sha256:{digest}\n").as_bytes(),
            Mode::Private,
        )?;
        Ok(kept)
    }

    /// Records that a cached copy stood in for its source.
    pub(super) fn note_fallback(
        &self,
        source: &str,
        digest: Sha256,
        path: &Path,
        now: Timestamp,
    ) -> Result<()> {
        let record = FallbackRecord {
            created_at: WireTime::at(now),
            digest,
            fallback_path: path,
            source,
        };
        let line = worldcompute_proof::canonical_json(&record)?;
        let _lock = self.lock()?;
        append_line(&self.root.join(FALLBACKS), &line, Mode::Private)
    }

    fn lock(&self) -> Result<OwnedLock> {
        output_dir(&self.root)?;
        OwnedLock::acquire(&self.root.join(LOCK), LockOptions::default())
    }

    /// A directory without a manifest is of an installation that is under way or was ended: it holds no pack.
    fn look(&self, path: &Path, listing: &mut Listing) {
        match self.entry(path) {
            Ok(pack) => listing.packs.extend(pack),
            Err(fault) => listing
                .warnings
                .push(format!("{}: {}", path.display(), fault.message())),
        }
    }

    fn entry(&self, path: &Path) -> Result<Option<InstalledPack>> {
        let Some(bytes) = absent_as_none(read_bounded(path, MAX_PACK_BYTES))? else {
            return Ok(None);
        };
        let manifest = Manifest::parse(&bytes)?;
        let digest = manifest.digest()?;
        let pin = self.pin(manifest.name())?;
        Ok(Some(InstalledPack {
            pack_name: manifest.name().to_owned(),
            pack_version: manifest.version().to_owned(),
            digest,
            metadata_path: path.to_owned(),
            pin_path: pin.as_ref().map(|_| self.pin_path(manifest.name())),
            pin_verified: pin.as_deref().is_some_and(|pin| pins(pin, digest)),
            pin_digest: pin.unwrap_or_default(),
        }))
    }
}

/// The directories in `dir`, sorted; none when it is not there.
fn directories(dir: &Path, budget: &mut usize) -> Result<Vec<PathBuf>> {
    let mut found = entries(dir, budget)?;
    found.retain(|path| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()));
    Ok(found)
}

/// What is in `dir`, sorted; nothing when it is not there.
fn entries(dir: &Path, budget: &mut usize) -> Result<Vec<PathBuf>> {
    let refused =
        |error: io::Error| Fault::io(format_args!("read directory {}", dir.display()), &error);
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(refused)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        *budget = budget.checked_sub(1).ok_or_else(|| crowded(dir))?;
        found.push(entry.map_err(refused)?.path());
    }
    found.sort_unstable();
    Ok(found)
}

fn crowded(dir: &Path) -> Fault {
    let message = format!(
        "the cache around {} has more than {MAX_ENTRIES} entries",
        dir.display()
    );
    Fault::new(Category::InvalidInput, "registry_cache_too_large", message)
        .hint("start a new cache")
}

fn absent_as_none<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(fault) if fault.code() == "not_found" => Ok(None),
        Err(fault) => Err(fault),
    }
}
