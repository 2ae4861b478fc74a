//! A runpack that holds.

use std::fs::File;
use std::path::Path;

use serde::de::DeserializeOwned;
use worldcompute_fault::Result;

use super::jsonl::Records;
use super::manifest::Manifest;
use super::record::{Intent, ResultRecord, Run};
use super::refs::Refs;
use super::{INTENTS, REFS, RESULTS, RUN, verify};
use crate::archive::Archive;
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
        let mut archive = Archive::open(path)?;
        let manifest = verify::checked(&mut archive)?;
        Ok(Self { archive, manifest })
    }

    /// Its manifest.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The run.
    ///
    /// # Errors
    /// `verification_failed` for what is no run or larger than [`MAX_RUN_BYTES`]; the refusals of the disk.
    pub fn run(&mut self) -> Result<Run> {
        self.document(RUN)
    }

    /// What the run read.
    ///
    /// # Errors
    /// As [`Runpack::run`].
    pub fn refs(&mut self) -> Result<Refs> {
        self.document(REFS)
    }

    /// What the run intended, one by one.
    ///
    /// # Errors
    /// The refusals of the disk; each record its own.
    pub fn intents(&mut self) -> Result<Records<'_, File, Intent>> {
        Ok(Records::new(self.archive.read(INTENTS)?, INTENTS))
    }

    /// What came of it, one by one.
    ///
    /// # Errors
    /// As [`Runpack::intents`].
    pub fn results(&mut self) -> Result<Records<'_, File, ResultRecord>> {
        Ok(Records::new(self.archive.read(RESULTS)?, RESULTS))
    }

    fn document<T: DeserializeOwned>(&mut self, name: &str) -> Result<T> {
        let bytes = self.archive.bytes(name, MAX_RUN_BYTES)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| unverified(format!("parse {name}")).caused_by(error))
    }
}
