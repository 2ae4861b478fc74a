//! The files of one job: locked, read, changed, and set right after a crash.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use worldcompute_durable::{
    Disk, LockOptions, Mode, NewDirs, OwnedLock, append_line_on, last_line, read_private,
    write_atomic_on,
};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{canonical_json, parse_json_within};

use super::state::{Event, JobId, JobState, SCHEMA_ID, SCHEMA_VERSION};
use crate::limits::{MAX_JOB_EVENT_BYTES, MAX_JOB_EVENTS_BYTES, MAX_JOB_STATE_BYTES, at_most};
use crate::wire_time::WireTime;

/// The `schema_id` of the marker of a change under way.
const PENDING_SCHEMA_ID: &str = "gait.job.pending_mutation";
/// The marker holds two states and an event.
const MAX_PENDING_BYTES: usize = 3 * MAX_JOB_STATE_BYTES;

/// How long a change waits for another.
const WAIT: LockOptions = LockOptions {
    wait: Duration::from_secs(2),
    poll: Duration::from_millis(10),
};

/// How the disk refuses a lock for reading.
const UNWRITABLE: [&str; 2] = ["read_only_filesystem", "disk_full"];

/// A change under way.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pending {
    schema_id: String,
    schema_version: String,
    created_at: WireTime,
    job_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous_state: Option<JobState>,
    updated_state: JobState,
    event: Event,
}

/// The files of one job.
pub(super) struct Store<'a> {
    disk: &'a dyn Disk,
    id: JobId,
    dir: PathBuf,
}

impl<'a> Store<'a> {
    pub(super) fn new(disk: &'a dyn Disk, root: &Path, id: &JobId) -> Self {
        Self {
            disk,
            id: id.clone(),
            dir: root.join(id.as_str()),
        }
    }

    pub(super) fn create(&self, state: JobState, event: Event) -> Result<JobState> {
        let (dirs, lock) = self.place().or_else(|fault| match fault.code() {
            // Who failed to create this job at the same time took the directory away again.
            "job_not_found" => self.place(),
            _ => Err(fault),
        })?;
        let created = lock.during(|| self.begin(state, event))?;
        dirs.keep();
        Ok(created)
    }

    fn place(&self) -> Result<(NewDirs, OwnedLock)> {
        let dirs = NewDirs::make(&self.dir)?;
        Ok((dirs, self.lock()?))
    }

    fn begin(&self, state: JobState, event: Event) -> Result<JobState> {
        self.recover()?;
        if self.state_path().symlink_metadata().is_ok() {
            let message = format!("job already exists: {}", self.id);
            return Err(Fault::new(Category::InvalidInput, "job_exists", message)
                .hint("choose another --id, or look at it with job status"));
        }
        let now = state.created_at;
        self.commit(None, state, event, now)
    }

    /// The state, and what `more` reads under the same lock.
    pub(super) fn read<T>(&self, more: impl FnOnce(&Self) -> Result<T>) -> Result<(JobState, T)> {
        let read = || Ok((self.agreed()?, more(self)?));
        match self.lock() {
            // What nobody can write is read as it is, unless a change is under way that somebody has to complete.
            Err(fault) if UNWRITABLE.contains(&fault.code()) && !self.has_pending() => read(),
            locked => locked?.during(|| self.recover().and_then(|()| read())),
        }
    }

    /// The state, which the last event has to bear out. Whatever comes before that is read by [`Store::events`].
    fn agreed(&self) -> Result<JobState> {
        let state = self.state()?;
        let last = self.last_revision()?;
        match last == state.revision {
            true => Ok(state),
            false => {
                let why = format!(
                    "it ends at revision {last}, the state at {}",
                    state.revision
                );
                Err(self.corrupt(&self.events_path(), &why))
            }
        }
    }

    pub(super) fn change(
        &self,
        now: Timestamp,
        change: impl FnOnce(&mut JobState) -> Result<Event>,
    ) -> Result<JobState> {
        self.lock()?.during(|| {
            self.recover()?;
            let previous = self.agreed()?;
            let mut updated = previous.clone();
            let event = change(&mut updated)?;
            self.commit(Some(previous), updated, event, WireTime::at(now))
        })
    }

    /// Every event. A last line without its break was never acknowledged.
    pub(super) fn events(&self) -> Result<Vec<Event>> {
        let path = self.events_path();
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let file = match OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(&path)
        {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened.map_err(|error| unreadable(&path, &error))?,
        };
        let len = file
            .metadata()
            .map_err(|error| unreadable(&path, &error))?
            .len();
        if len > MAX_JOB_EVENTS_BYTES {
            return Err(self.full());
        }
        let (mut reader, mut line, mut events) = (BufReader::new(file), Vec::new(), Vec::new());
        loop {
            line.clear();
            reader
                .read_until(b'\n', &mut line)
                .map_err(|error| unreadable(&path, &error))?;
            let Some(whole) = line.strip_suffix(b"\n") else {
                return Ok(events);
            };
            let event = self.event(whole)?;
            let before = events.last().map_or(0, |event: &Event| event.revision);
            if event.revision <= before {
                return Err(self.corrupt(&path, "its events are out of order"));
            }
            events.push(event);
        }
    }

    /// The revision of the last event; 0 when there is none.
    pub(super) fn last_revision(&self) -> Result<u64> {
        let line = last_line(&self.events_path(), MAX_JOB_EVENT_BYTES as u64)?;
        line.map_or(Ok(0), |line| self.event(&line).map(|event| event.revision))
    }

    pub(super) fn state(&self) -> Result<JobState> {
        let path = self.state_path();
        let bytes = read_private(&path, MAX_JOB_STATE_BYTES as u64)
            .map_err(|fault| self.or_missing(fault))?;
        let mut state: JobState = self.parse(&path, &bytes, MAX_JOB_STATE_BYTES)?;
        if state.schema_id != SCHEMA_ID || state.schema_version != SCHEMA_VERSION {
            return Err(self.corrupt(&path, "another schema"));
        }
        if state.job_id != self.id.as_str() {
            return Err(self.corrupt(&path, "the state of another job"));
        }
        state
            .check_invariants()
            .map_err(|why| self.corrupt(&path, why))?;
        Ok(state)
    }

    pub(super) fn has_pending(&self) -> bool {
        self.pending_path().symlink_metadata().is_ok()
    }

    fn lock(&self) -> Result<OwnedLock> {
        let path = self.dir.join("state.json.lock");
        OwnedLock::acquire(&path, WAIT).map_err(|fault| self.or_missing(fault))
    }

    fn commit(
        &self,
        previous: Option<JobState>,
        mut updated: JobState,
        mut event: Event,
        now: WireTime,
    ) -> Result<JobState> {
        updated.updated_at = now;
        updated.revision = previous
            .as_ref()
            .map_or(0, |state| state.revision)
            .saturating_add(1);
        event.created_at = now;
        event.job_id = self.id.as_str().to_owned();
        event.revision = updated.revision;
        let pending = Pending {
            schema_id: PENDING_SCHEMA_ID.to_owned(),
            schema_version: SCHEMA_VERSION.to_owned(),
            created_at: now,
            job_id: self.id.as_str().to_owned(),
            previous_state: previous,
            updated_state: updated,
            event,
        };
        self.check_room(&pending)?;
        self.write(&self.pending_path(), &pending)?;
        if let Err(fault) = self.apply(&pending) {
            // Undone now if the disk lets us, else by whoever comes next: the marker says how.
            let _ = self.recover();
            return Err(fault);
        }
        // A marker that stays is found complete, and removed, by whoever comes next.
        let _ = self.remove(&self.pending_path());
        Ok(pending.updated_state)
    }

    fn apply(&self, pending: &Pending) -> Result<()> {
        self.write(&self.state_path(), &pending.updated_state)?;
        let line = canonical_json(&pending.event)?;
        append_line_on(self.disk, &self.events_path(), &line, Mode::Private)
    }

    /// Completes or undoes what a crash cut off.
    fn recover(&self) -> Result<()> {
        let path = self.pending_path();
        let bytes = match read_private(&path, MAX_PENDING_BYTES as u64) {
            Err(fault) if fault.code() == "not_found" => return Ok(()),
            read => read?,
        };
        let pending: Pending = self.parse(&path, &bytes, MAX_PENDING_BYTES)?;
        self.check_pending(&path, &pending)?;
        let happened = self.last_revision()? == pending.event.revision;
        match pending.previous_state {
            _ if happened => self.write(&self.state_path(), &pending.updated_state)?,
            Some(previous) => self.write(&self.state_path(), &previous)?,
            None => self.remove(&self.state_path())?,
        }
        self.remove(&path)
    }

    fn check_pending(&self, path: &Path, pending: &Pending) -> Result<()> {
        let previous = pending.previous_state.as_ref();
        let ours = [
            Some(&pending.job_id),
            Some(&pending.updated_state.job_id),
            Some(&pending.event.job_id),
            previous.map(|state| &state.job_id),
        ];
        if pending.schema_id != PENDING_SCHEMA_ID || pending.schema_version != SCHEMA_VERSION {
            return Err(self.corrupt(path, "another schema"));
        }
        if ours.into_iter().flatten().any(|id| id != self.id.as_str()) {
            return Err(self.corrupt(path, "the change of another job"));
        }
        Ok(())
    }

    /// Nothing is written that could not be read back.
    fn check_room(&self, pending: &Pending) -> Result<()> {
        let size = pretty(&pending.updated_state)?.len();
        at_most(
            "bytes of the job's state",
            size,
            MAX_JOB_STATE_BYTES,
            "job_too_large",
        )?;
        let line = canonical_json(&pending.event)?.len();
        at_most(
            "bytes of the job's event",
            line,
            MAX_JOB_EVENT_BYTES,
            "job_too_large",
        )?;
        let events = self
            .events_path()
            .metadata()
            .map_or(0, |metadata| metadata.len());
        match events.saturating_add(line as u64) < MAX_JOB_EVENTS_BYTES {
            true => Ok(()),
            false => Err(self.full()),
        }
    }

    fn write<T: Serialize>(&self, path: &Path, value: &T) -> Result<()> {
        write_atomic_on(self.disk, path, &pretty(value)?, Mode::Private)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let removed = match self.disk.remove(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| self.disk.sync_dir(&self.dir)),
        };
        removed.map_err(|error| Fault::io(format_args!("remove {}", path.display()), &error))
    }

    fn event(&self, line: &[u8]) -> Result<Event> {
        let path = self.events_path();
        let event: Event = self.parse(&path, line, MAX_JOB_EVENT_BYTES)?;
        match event.job_id == self.id.as_str() {
            true => Ok(event),
            false => Err(self.corrupt(&path, "the event of another job")),
        }
    }

    fn parse<T: for<'de> Deserialize<'de>>(
        &self,
        path: &Path,
        bytes: &[u8],
        limit: usize,
    ) -> Result<T> {
        let value =
            parse_json_within(bytes, limit).map_err(|fault| self.corrupt(path, fault.message()))?;
        if !value.is_object() {
            return Err(self.corrupt(path, "not a JSON object"));
        }
        serde_json::from_value(value).map_err(|error| self.corrupt(path, &error.to_string()))
    }

    fn corrupt(&self, path: &Path, why: &str) -> Fault {
        let message = format!("{} is damaged: {why}", path.display());
        Fault::new(Category::VerificationFailed, "job_state_corrupt", message).hint(format!(
            "restore {} from a backup, or move it away and submit the job again",
            self.dir.display()
        ))
    }

    fn full(&self) -> Fault {
        let message = format!("job {} has too many events", self.id);
        Fault::new(Category::InvalidInput, "job_too_large", message)
            .hint("complete or cancel it, and submit a new job")
    }

    /// Without its directory or its state, there is no such job.
    fn or_missing(&self, fault: Fault) -> Fault {
        if fault.code() != "not_found" {
            return fault;
        }
        let message = format!("job not found: {}", self.id);
        Fault::new(Category::InvalidInput, "job_not_found", message).hint("check --id and --root")
    }

    fn state_path(&self) -> PathBuf {
        self.dir.join("state.json")
    }

    fn events_path(&self) -> PathBuf {
        self.dir.join("events.jsonl")
    }

    fn pending_path(&self) -> PathBuf {
        self.dir.join("pending_mutation.json")
    }
}

fn pretty<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| {
        Fault::new(Category::InternalFailure, "internal_failure", "write job").caused_by(error)
    })?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Fault {
    Fault::io(format_args!("read {}", path.display()), error)
}
