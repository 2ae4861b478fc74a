//! Writing a runpack, record by record.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};
use worldcompute_fault::Result;
use worldcompute_proof::{Sha256, SigningKey, canonical_json};

use super::line::{Line, Spelled, Written};
use super::manifest::{CaptureMode, Manifest, ManifestFile};
use super::record::{Intent, Payload, Receipt, ResultRecord, Run, TimelineEvent, VERSION};
use super::refs::{Refs, or};
use super::stamp::Stamp;
use super::{INTENTS, MANIFEST, REFS, RESULTS, RUN};
use crate::archive::{self, Deflated, Packing};
use crate::limits::{MAX_RECORD_BYTES, MAX_RUN_BYTES, MAX_RUN_ID, at_most, invalid};
use crate::signature::unverified;
use crate::text::trim_lower;

/// The receipts that prove a traced call are tied to its intent by this type and the prefix of their id.
const TRACE_SOURCE: &str = "gait.trace";
const TRACE_PREFIX: &str = "trace_";

/// A runpack in the making.
pub struct Recorder {
    /// Without its timeline, which is on its way into its entry.
    run: Run,
    timeline: Timeline,
    refs: Refs,
    mode: CaptureMode,
    intents: Lines,
    results: Lines,
    /// What the receipts of traced calls are checked against, by intent.
    traced: BTreeMap<String, Traced>,
}

/// A runpack that was just written.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub run_id: String,
    pub manifest_digest: String,
    /// The key that signed it.
    pub key_id: Option<String>,
    /// Whether nothing was called, as far as it says: it has no intents and no results.
    pub is_empty: bool,
}

#[derive(Default)]
struct Traced {
    query: Option<String>,
    content: Option<String>,
}

impl Recorder {
    /// Starts the runpack of `run`; what the run does not say of itself is filled in, the time with `now`.
    ///
    /// # Errors
    /// `invalid_input` for a run id that cannot be part of a file name; those of making scratch files.
    pub fn new(mut run: Run, mut refs: Refs, mode: CaptureMode, now: Stamp) -> Result<Self> {
        check_run_id(&run.run_id)?;
        run.complete(now);
        let events = std::mem::take(&mut run.timeline);
        let mut timeline = Timeline::of(&run)?;
        events.iter().try_for_each(|event| timeline.push(event))?;
        refs.complete(&run);
        let ids = refs.receipts.iter().filter_map(Receipt::traced_intent);
        let traced = ids.map(|id| (id.to_owned(), Traced::default())).collect();
        Ok(Self {
            run,
            timeline,
            refs,
            mode,
            intents: Lines::new(INTENTS),
            results: Lines::new(RESULTS),
            traced,
        })
    }

    /// Adds something that happened in the run.
    ///
    /// # Errors
    /// `archive_limit` past the size of an entry; those of the disk.
    pub fn happened(&mut self, event: &TimelineEvent) -> Result<()> {
        self.timeline.push(event)
    }

    /// Adds an intent; `args` are those its digest must be of, when they are known apart from the record.
    ///
    /// # Errors
    /// `invalid_input` for an intent without digest and arguments, or with a digest of others than `args`.
    pub fn intent<'a>(&'a mut self, mut intent: Intent<'a>, args: Option<&Payload>) -> Result<()> {
        let digest = digest_of(&intent.args_digest, intent.args.as_ref(), args);
        if let Some(digest) = digest.map_err(|why| intent.refused(&why))? {
            intent.args_digest = digest.into();
        }
        given(&mut intent.schema_id, "gait.runpack.intent");
        given(&mut intent.schema_version, VERSION);
        intent.created_at = intent.created_at.or(self.run.created_at);
        given(&mut intent.producer_version, &self.run.producer_version);
        given(&mut intent.run_id, &self.run.run_id);
        intent.args = self.mode.kept(intent.args)?;
        if let Some(traced) = self.traced.get_mut(&*intent.intent_id) {
            traced.query = Some(query_digest(&intent)?);
        }
        self.intents.push(&intent)
    }

    /// Adds a result; `payload` is that its digest must be of, when it is known apart from the record.
    ///
    /// # Errors
    /// As [`Recorder::intent`].
    pub fn result<'a>(
        &'a mut self,
        mut result: ResultRecord<'a>,
        payload: Option<&Payload>,
    ) -> Result<()> {
        let digest = digest_of(&result.result_digest, result.result.as_ref(), payload);
        if let Some(digest) = digest.map_err(|why| result.refused(&why))? {
            result.result_digest = digest.into();
        }
        given(&mut result.schema_id, "gait.runpack.result");
        given(&mut result.schema_version, VERSION);
        result.created_at = result.created_at.or(self.run.created_at);
        given(&mut result.producer_version, &self.run.producer_version);
        given(&mut result.run_id, &self.run.run_id);
        result.result = self.mode.kept(result.result)?;
        if let Some(traced) = self.traced.get_mut(&*result.intent_id) {
            traced.content = Some(result.result_digest.clone().into_owned());
        }
        self.results.push(&result)
    }

    /// Writes the runpack to `path`, signed if there is a key, all or nothing.
    ///
    /// # Errors
    /// `invalid_input` for receipts that prove nothing or something else; `archive_limit`; those of writing.
    pub fn finish(self, path: &Path, key: Option<&SigningKey>) -> Result<Recorded> {
        let (mut manifest, entries) = self.close()?;
        let key_id = key.map(|key| manifest.sign(key)).transpose()?;
        let is_empty = entries.intents.is_empty() && entries.results.is_empty();
        entries.write(&manifest, path)?;
        Ok(Recorded {
            run_id: manifest.run_id,
            manifest_digest: manifest.manifest_digest,
            key_id,
            is_empty,
        })
    }

    /// Writes the runpack that `stated` is the manifest of to `path`, with the signatures that it had, all or nothing;
    /// without a path it only finds out whether it could.
    ///
    /// # Errors
    /// `verification_failed` when what was recorded is not what the manifest says; those of [`Recorder::finish`].
    pub fn restore(self, stated: &Manifest, path: Option<&Path>) -> Result<()> {
        let (manifest, entries) = self.close()?;
        let signatures = stated.signatures.clone();
        let restored = Manifest {
            signatures,
            ..manifest
        };
        if canonical_json(&restored)? != canonical_json(stated)? {
            let message = format!("run {} is not what its manifest says", stated.run_id);
            return Err(unverified(message));
        }
        path.map_or(Ok(()), |path| entries.write(stated, path))
    }

    fn close(mut self) -> Result<(Manifest, Entries)> {
        for receipt in &mut self.refs.receipts {
            receipt.check(&self.traced)?;
        }
        self.refs.normalise()?;
        let refs = document(REFS, &self.refs)?;
        let (run, run_digest) = self.timeline.finish()?;
        let (intents, intents_digest) = self.intents.finish()?;
        let (results, results_digest) = self.results.finish()?;
        let files = [
            (RUN, run_digest),
            (REFS, Sha256::of(&refs)),
            (INTENTS, intents_digest),
            (RESULTS, results_digest),
        ];
        let files = files.into_iter().map(ManifestFile::new).collect();
        let manifest = Manifest::new(&self.run, self.mode, files)?;
        let entries = Entries {
            intents,
            refs,
            results,
            run,
        };
        Ok((manifest, entries))
    }
}

/// What stands in a runpack beside its manifest.
struct Entries {
    intents: Deflated,
    refs: Vec<u8>,
    results: Deflated,
    run: Deflated,
}

impl Entries {
    fn write(self, manifest: &Manifest, path: &Path) -> Result<()> {
        archive::write(path, |writer| {
            writer.add_deflated(INTENTS, self.intents)?;
            writer.add(MANIFEST, canonical_json(manifest)?.as_slice())?;
            writer.add(REFS, self.refs.as_slice())?;
            writer.add_deflated(RESULTS, self.results)?;
            writer.add_deflated(RUN, self.run)
        })
    }
}

impl CaptureMode {
    /// A payload as this mode keeps it.
    fn kept(self, payload: Option<Payload>) -> Result<Option<Payload>> {
        match self {
            Self::Reference => Ok(None),
            Self::Raw => payload.map(|payload| payload.canonical()).transpose(),
        }
    }
}

/// `text`, or `other` when it is empty.
fn given<'a>(text: &mut Cow<'a, str>, other: &'a str) {
    if text.is_empty() {
        *text = Cow::Borrowed(other);
    }
}

/// A run id names a file: it is a plain part of a name.
pub(crate) fn check_run_id(run_id: &str) -> Result<()> {
    at_most("run id bytes", run_id.len(), MAX_RUN_ID, "invalid_input")?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if run_id.is_empty() {
        return Err(invalid("run_id is required"));
    }
    match run_id.bytes().all(plain) && !run_id.starts_with('.') {
        true => Ok(()),
        false => Err(invalid(format!("run id {run_id:?} is no plain name"))
            .because("run_id_invalid", "use letters, digits, `_`, `-` and `.`")),
    }
}

impl Run {
    fn complete(&mut self, now: Stamp) {
        or(&mut self.schema_id, "gait.runpack.run");
        or(&mut self.schema_version, VERSION);
        self.created_at = self.created_at.or(now);
        or(&mut self.producer_version, "0.0.0-dev");
        or(&mut self.env.os, go_os());
        or(&mut self.env.arch, go_arch());
        or(&mut self.env.runtime, "go");
    }
}

/// The operating system by the name that the format uses for it.
const fn go_os() -> &'static str {
    if cfg!(target_os = "macos") {
        "darwin"
    } else {
        std::env::consts::OS
    }
}

/// The processor by the name that the format uses for it.
const fn go_arch() -> &'static str {
    if cfg!(target_arch = "x86_64") {
        "amd64"
    } else if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        std::env::consts::ARCH
    }
}

/// The digest of a payload, unless it is the one that is claimed, which was checked against what is known apart.
fn digest_of(
    claimed: &str,
    own: Option<&Payload>,
    apart: Option<&Payload>,
) -> Result<Option<String>, String> {
    let computed = |payload: &Payload| payload.digest().map(|digest| digest.to_string());
    match (claimed, own, apart) {
        (claimed, _, Some(apart)) => {
            let expected =
                computed(apart).map_err(|fault| format!(" digest: {}", fault.message()))?;
            match claimed.is_empty() || claimed.eq_ignore_ascii_case(&expected) {
                true => Ok(claimed.is_empty().then_some(expected)),
                false => Err(" digest mismatch".to_owned()),
            }
        }
        ("", Some(own), None) => {
            let digest = computed(own);
            digest
                .map(Some)
                .map_err(|fault| format!(" digest: {}", fault.message()))
        }
        ("", None, None) => Err(String::new()),
        (_, _, None) => Ok(None),
    }
}

impl Intent<'_> {
    fn refused(&self, why: &str) -> worldcompute_fault::Fault {
        let why = match why {
            "" => " requires args_digest or normalization.intent_args".to_owned(),
            why => format!(" args{why}"),
        };
        refused(format!("intent {}{why}", self.intent_id))
    }
}

impl ResultRecord<'_> {
    fn refused(&self, why: &str) -> worldcompute_fault::Fault {
        let why = match why {
            "" => " requires result_digest or normalization.result_payloads",
            why => why,
        };
        refused(format!("result {}{why}", self.intent_id))
    }
}

fn refused(why: String) -> worldcompute_fault::Fault {
    invalid(format!("normalize digest-bearing fields: {why}"))
}

fn query_digest(intent: &Intent<'_>) -> Result<String> {
    let query = json!({"tool_name": intent.tool_name, "args_digest": intent.args_digest});
    Ok(Sha256::of(canonical_json::<Value>(&query)?).to_string())
}

impl Receipt {
    /// The intent whose trace this is the receipt of.
    fn traced_intent(&self) -> Option<&str> {
        let is_trace = trim_lower(&self.source_type) == TRACE_SOURCE;
        let id = self.ref_id.trim().strip_prefix(TRACE_PREFIX)?;
        is_trace.then_some(id)
    }

    /// Checks the digests, or fills them in where a traced call says what they are.
    fn check(&mut self, traced: &BTreeMap<String, Traced>) -> Result<()> {
        let Some(id) = self.traced_intent().map(str::to_owned) else {
            return self.check_present();
        };
        let unknown = |what: &str| {
            refused(format!(
                "receipt {} references unknown {what} {id}",
                self.ref_id
            ))
        };
        let known = traced.get(&id);
        let query = known.and_then(|known| known.query.as_deref());
        let query = query.ok_or_else(|| unknown("intent"))?;
        let content = known.and_then(|known| known.content.as_deref());
        let content = content.ok_or_else(|| unknown("result for intent"))?;
        let ref_id = self.ref_id.clone();
        settle(&mut self.query_digest, query)
            .map_err(|()| refused(format!("receipt {ref_id} query digest mismatch")))?;
        settle(&mut self.content_digest, content)
            .map_err(|()| refused(format!("receipt {ref_id} content digest mismatch")))
    }

    fn check_present(&self) -> Result<()> {
        for (name, digest) in [
            ("query_digest", &self.query_digest),
            ("content_digest", &self.content_digest),
        ] {
            if digest.is_empty() {
                return Err(refused(format!("receipt {} requires {name}", self.ref_id)));
            }
        }
        Ok(())
    }
}

fn settle(claimed: &mut String, expected: &str) -> Result<(), ()> {
    or(claimed, expected);
    match claimed.eq_ignore_ascii_case(expected) {
        true => Ok(()),
        false => Err(()),
    }
}

impl ManifestFile {
    fn new((path, sha256): (&str, Sha256)) -> Self {
        Self {
            path: path.to_owned(),
            sha256: sha256.to_string(),
        }
    }
}

/// A whole document, no larger than a reader takes.
fn document<T: Serialize>(name: &str, document: &T) -> Result<Vec<u8>> {
    let bytes = canonical_json(document)?;
    let limit = usize::try_from(MAX_RUN_BYTES).unwrap_or(usize::MAX);
    at_most(name, bytes.len(), limit, "archive_limit")?;
    Ok(bytes)
}

/// The run on its way into its entry, event by event: the timeline is the last member of its canonical form.
struct Timeline {
    entry: Packing,
    empty: bool,
}

/// What stands after the last event.
const TIMELINE_END: &[u8] = b"]}";

impl Timeline {
    fn of(run: &Run) -> Result<Self> {
        let whole = canonical_json(run)?;
        let head = whole
            .strip_suffix(TIMELINE_END)
            .ok_or_else(|| invalid("a run ends with its timeline"))?;
        let mut entry = Packing::new(RUN);
        entry.push(head)?;
        Ok(Self { entry, empty: true })
    }

    fn push(&mut self, event: &TimelineEvent) -> Result<()> {
        if !std::mem::take(&mut self.empty) {
            self.entry.push(b",")?;
        }
        self.entry.push(&canonical_json(event)?)
    }

    fn finish(mut self) -> Result<(Deflated, Sha256)> {
        self.entry.push(TIMELINE_END)?;
        self.entry.finish()
    }
}

/// Records on their way into an entry, one a line.
struct Lines {
    entry: Packing,
    spelled: Spelled,
}

impl Lines {
    fn new(name: &'static str) -> Self {
        Self {
            entry: Packing::new(name),
            spelled: Spelled::default(),
        }
    }

    fn push(&mut self, record: &impl Written) -> Result<()> {
        let spelled = &mut self.spelled;
        self.entry.append(|bytes| {
            let before = bytes.len();
            record.write(&mut Line { bytes, spelled });
            let size = bytes.len().saturating_sub(before);
            bytes.push(b'\n');
            at_most("record bytes", size, MAX_RECORD_BYTES, "archive_limit")
        })
    }

    fn finish(self) -> Result<(Deflated, Sha256)> {
        self.entry.finish()
    }
}
