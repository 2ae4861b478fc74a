//! A runpack that holds.

use std::fs::File;
use std::path::Path;

use serde_json::Value;
use worldcompute_fault::Result;

use super::jsonl::Records;
use super::manifest::Manifest;
use super::record::{Intent, ResultRecord, Run, TimelineEvent};
use super::refs::Refs;
use super::{INTENTS, REFS, RESULTS, RUN, verify};
use crate::archive::Archive;
use crate::json_stream::object_with_list;
use crate::limits::MAX_RUN_BYTES;
use crate::signature::unverified;

/// A runpack whose content was found to be what its manifest says; only [`Runpack::open`] makes one.
#[derive(Debug)]
pub struct Runpack {
    archive: Archive<File>,
    manifest: Manifest,
}

impl Runpack {
    /// Opens the runpack at `path` and checks every entry. Signatures are the business of [`super::verify`].
    ///
    /// # Errors
    /// `verification_failed` when it does not hold; the refusals of the disk.
    pub fn open(path: &Path) -> Result<Self> {
        Self::of(Archive::open(path)?)
    }

    /// [`Runpack::open`] for an archive that is open already.
    ///
    /// # Errors
    /// As [`Runpack::open`].
    pub(crate) fn of(archive: Archive<File>) -> Result<Self> {
        let manifest = verify::checked(&archive)?;
        Ok(Self { archive, manifest })
    }

    /// The file that it was read from.
    pub(crate) fn into_file(self) -> File {
        self.archive.into_inner()
    }

    /// Its manifest.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The run, without its timeline, which may be long.
    ///
    /// # Errors
    /// `verification_failed` for what is no run; the refusals of the disk.
    pub fn run(&self) -> Result<Run> {
        self.walk(|_| Ok(()))
    }

    /// Hands what happened in the run to `each`, in order.
    ///
    /// # Errors
    /// As [`Runpack::run`]; those of `each`.
    pub fn timeline(&self, each: impl FnMut(TimelineEvent) -> Result<()>) -> Result<()> {
        self.walk(each).map(drop)
    }

    fn walk(&self, each: impl FnMut(TimelineEvent) -> Result<()>) -> Result<Run> {
        let members = object_with_list(RUN, self.archive.read(RUN)?, "timeline", each)?;
        serde_json::from_value(Value::Object(members))
            .map_err(|error| unverified(format!("parse {RUN}")).caused_by(error))
    }

    /// What the run read.
    ///
    /// # Errors
    /// `verification_failed` for what is no list of receipts or larger than [`MAX_RUN_BYTES`]; the refusals of the disk.
    pub fn refs(&self) -> Result<Refs> {
        let bytes = self.archive.bytes(REFS, MAX_RUN_BYTES)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| unverified(format!("parse {REFS}")).caused_by(error))
    }

    /// What the run intended, one by one.
    ///
    /// # Errors
    /// The refusals of the disk; each record its own.
    pub fn intents(&self) -> Result<Records<'_, Intent<'static>>> {
        Ok(Records::new(self.archive.read(INTENTS)?))
    }

    /// What came of it, one by one.
    ///
    /// # Errors
    /// As [`Runpack::intents`].
    pub fn results(&self) -> Result<Records<'_, ResultRecord<'static>>> {
        Ok(Records::new(self.archive.read(RESULTS)?))
    }
}
