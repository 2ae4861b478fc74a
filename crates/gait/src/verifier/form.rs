//! What a file is, by its first bytes.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use serde::Deserialize;
use worldcompute_fault::{Category, Fault, Result};

use crate::limits::{MAX_CHAIN_BYTES, MAX_TRACE_BYTES};
use crate::{run_session, session, trace};

/// How every zip archive begins.
const ARCHIVE: &[u8] = b"PK";
/// Records that the gate writes beside a decision, without a signature of their own.
const UNSIGNED: [&str; 3] = [
    "gait.gate.approval_audit_record",
    "gait.gate.broker_credential_record",
    "gait.gate.delegation_audit_record",
];

/// The forms that are told apart before anything is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Archive,
    Trace,
    Session,
    SessionChain,
    UnsignedRecord,
}

/// What the beginning of a file says.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) form: Form,
    /// What it calls itself; empty for an archive.
    pub(super) schema_id: String,
    pub(super) claimed_key: Option<String>,
}

/// The fields that tell what a document is; the verifier of its kind reads the rest.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    schema_id: String,
    signature: Option<Claim>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Claim {
    key_id: String,
}

impl Form {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Archive => "archive",
            Self::Trace => "trace",
            Self::Session => "session",
            Self::SessionChain => "session chain",
            Self::UnsignedRecord => "record",
        }
    }

    fn of_document(schema_id: &str) -> Option<Self> {
        match schema_id {
            trace::SCHEMA_ID => Some(Self::Trace),
            run_session::CHAIN_SCHEMA_ID => Some(Self::SessionChain),
            _ if UNSIGNED.contains(&schema_id) => Some(Self::UnsignedRecord),
            _ => None,
        }
    }
}

impl Head {
    /// `None` for a file that is nothing that the gate makes.
    pub(super) fn of(path: &Path) -> Result<Option<Self>> {
        let cannot = |error| Fault::io(format_args!("read {}", path.display()), &error);
        let mut file = BufReader::new(open(path)?);
        let mut line = Vec::new();
        (&mut file)
            .take(MAX_TRACE_BYTES as u64 + 1)
            .read_until(b'\n', &mut line)
            .map_err(cannot)?;
        if line.starts_with(ARCHIVE) {
            return Ok(Some(Self::with(Form::Archive, Document::default())));
        }
        if let Ok(document) = serde_json::from_slice::<Document>(&line) {
            let more = !file.fill_buf().map_err(cannot)?.is_empty();
            return Ok(Self::of_line(&line, document, more));
        }
        let mut bytes = line;
        let rest = (MAX_CHAIN_BYTES + 1).saturating_sub(bytes.len());
        file.take(rest as u64)
            .read_to_end(&mut bytes)
            .map_err(cannot)?;
        let document = serde_json::from_slice::<Document>(&bytes).ok();
        Ok(document.and_then(Self::of_document))
    }

    /// A file whose first line is a document of its own: a log if there are more, or if it is a record as logs have it.
    fn of_line(line: &[u8], document: Document, more: bool) -> Option<Self> {
        let ended = line.strip_suffix(b"\n").unwrap_or(line);
        let is_log = match document.schema_id.as_str() {
            session::CLOSE_SCHEMA_ID => true,
            trace::SCHEMA_ID => more || session::is_record(ended),
            _ => false,
        };
        match is_log {
            true => Some(Self::with(Form::Session, document)),
            false => Self::of_document(document),
        }
    }

    fn of_document(document: Document) -> Option<Self> {
        let form = Form::of_document(&document.schema_id)?;
        Some(Self::with(form, document))
    }

    fn with(form: Form, document: Document) -> Self {
        Self {
            form,
            schema_id: document.schema_id,
            claimed_key: document.signature.map(|claim| claim.key_id),
        }
    }
}

/// Opens a regular file; what waits for a writer (a pipe) is not waited for.
fn open(path: &Path) -> Result<File> {
    let cannot = |error| Fault::io(format_args!("read {}", path.display()), &error);
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(cannot)?;
    if file.metadata().map_err(cannot)?.is_file() {
        return Ok(file);
    }
    let message = format!("{} is not a regular file", path.display());
    Err(Fault::new(Category::InvalidInput, "not_a_file", message).hint("give the file itself"))
}
