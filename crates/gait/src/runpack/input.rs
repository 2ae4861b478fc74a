//! The file that `run record` records: the run, its intents and results, and what it read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use worldcompute_durable::open_to_read;
use worldcompute_fault::Result;

use super::record::{Intent, Payload, ResultRecord, Run};
use super::recorder::Recorder;
use super::refs::Refs;
use super::split::{Splitter, malformed, parse};
use crate::in_file::InFile;
use crate::limits::{MAX_RECORD_BYTES, MAX_RUN_BYTES};

/// A recorded run: all of it but the intents and results, which are read one by one when they are recorded.
#[derive(Debug)]
pub struct RecordInput {
    /// The run.
    pub run: Run,
    /// What it read.
    pub refs: Refs,
    /// What to keep, as the file says.
    pub capture_mode: String,
    normalization: Normalization,
    path: PathBuf,
}

/// Payloads that stand apart from the records whose digests are of them, by intent.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Normalization {
    intent_args: BTreeMap<String, Payload>,
    result_payloads: BTreeMap<String, Payload>,
}

impl RecordInput {
    /// Reads the file at `path`, but for its intents and results.
    ///
    /// # Errors
    /// `invalid_input` for what is no such file; the refusals of the disk.
    pub fn open(path: &Path) -> Result<Self> {
        let mut input = Self {
            run: Run::default(),
            refs: Refs::default(),
            capture_mode: String::new(),
            normalization: Normalization::default(),
            path: path.to_owned(),
        };
        input.read().in_file(path)?;
        Ok(input)
    }

    fn read(&mut self) -> Result<()> {
        let mut seen = Vec::new();
        self.splitter()?.members(|splitter, name| {
            if seen.iter().any(|seen| seen == name) {
                return Err(malformed(&format!("key {name:?} appears twice")));
            }
            seen.push(name.to_owned());
            self.take_member(splitter, name)
        })
    }

    /// Gives the run another id, and with it all its records.
    pub fn rename(&mut self, run_id: &str) {
        run_id.clone_into(&mut self.run.run_id);
        run_id.clone_into(&mut self.refs.run_id);
    }

    /// Records all intents and results; those of a renamed run under its new id.
    ///
    /// # Errors
    /// Those of reading and recording them.
    pub fn record(&self, recorder: &mut Recorder, renamed: bool) -> Result<()> {
        let own_id = renamed.then_some(self.run.run_id.as_str());
        let known = &self.normalization;
        let mut splitter = self.splitter()?;
        splitter.members(|splitter, name| match name {
            "intents" => splitter.records::<Intent<'_>>(MAX_RECORD_BYTES, |intent| {
                let run_id = own_id.map_or(intent.run_id, Cow::Borrowed);
                let intent = Intent { run_id, ..intent };
                let args = known.intent_args.get(&*intent.intent_id);
                recorder.intent(intent, args)
            }),
            "results" => splitter.records::<ResultRecord<'_>>(MAX_RECORD_BYTES, |result| {
                let run_id = own_id.map_or(result.run_id, Cow::Borrowed);
                let result = ResultRecord { run_id, ..result };
                let payload = known.result_payloads.get(&*result.intent_id);
                recorder.result(result, payload)
            }),
            _ => splitter.skip(),
        })?;
        splitter.end()
    }

    fn splitter(&self) -> Result<Splitter<File>> {
        Ok(Splitter::new(open_to_read(&self.path)?))
    }

    fn take_member(&mut self, splitter: &mut Splitter<File>, name: &str) -> Result<()> {
        match name {
            "intents" | "results" => return splitter.skip(),
            "run" => self.run = parse(splitter.value(DOCUMENT)?)?,
            "refs" => self.refs = parse(splitter.value(DOCUMENT)?)?,
            "capture_mode" => self.capture_mode = parse(splitter.value(DOCUMENT)?)?,
            "normalization" => self.normalization = parse(splitter.value(DOCUMENT)?)?,
            _ => return Err(malformed(&format!("unknown key {name:?}"))),
        }
        Ok(())
    }
}

/// Bytes of anything but a record.
const DOCUMENT: usize = MAX_RUN_BYTES as usize;
