//! Building a guard pack.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;
use worldcompute_fault::Result;
use worldcompute_proof::{SigningKey, VerifyingKey, canonical_json};

use super::evidence::{self, APPROVAL, CREDENTIAL, INVENTORY};
use super::manifest::{Manifest, Rendered, SCHEMA_ID, SCHEMA_VERSION, Window, pack_id};
use super::pdf;
use super::template::{Template, entry_type, pointers};
use crate::archive::{Archive, fault_of};
use crate::pack::{Entry, MANIFEST_NAME, Part, RunFacts, sound_runpack, write_parts};
use crate::signature::SignatureObject;

/// What goes into a guard pack.
pub struct Request<'a> {
    /// The run it is about.
    pub runpack: &'a Path,
    /// The file to write; `None` for `evidence_pack_<id>.zip` beside the runpack.
    pub output: Option<&'a Path>,
    /// The auditor's own number for it.
    pub case_id: &'a str,
    /// The controls it is sorted by.
    pub template: Template,
    /// Snapshots of an inventory.
    pub inventory: Vec<PathBuf>,
    /// Decisions.
    pub traces: Vec<PathBuf>,
    /// The key that must have signed them; without one, they only have to agree with themselves.
    pub trace_key: Option<VerifyingKey>,
    /// Results of regressions.
    pub regress: Vec<PathBuf>,
    /// Audits of approvals; those beside the runpack when there are none and `discover` is set.
    pub approval_audits: Vec<PathBuf>,
    /// Evidence of credentials; those beside the runpack when there are none and `discover` is set.
    pub credential_evidence: Vec<PathBuf>,
    /// Look for audits and evidence beside the runpack.
    pub discover: bool,
    /// Add a page for people.
    pub render_pdf: bool,
    /// The program's version.
    pub producer_version: &'a str,
    /// The key that signs.
    pub key: &'a SigningKey,
}

/// A guard pack that was just written.
#[derive(Clone, Debug)]
pub struct Built {
    /// Where it is.
    pub path: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
}

/// Builds a guard pack.
///
/// Errors: `verification_failed` when the runpack is not what its manifest says; `invalid_evidence`; those of reading
/// and writing.
pub fn build(request: &Request<'_>) -> Result<Built> {
    build_with(request, None, Vec::new())
}

/// Builds a guard pack of a time window, with these parts besides.
pub(super) fn build_with(
    request: &Request<'_>,
    window: Option<Window>,
    more: Vec<Part>,
) -> Result<Built> {
    let runpack = sound_runpack(request.runpack)?;
    let facts = RunFacts::read(&runpack)?;
    let mut parts = gather(request, &runpack, &facts)?;
    parts.extend(more);
    let contents = entries(&parts);
    let controls = request.template.controls(&contents);
    let evidence_pointers = pointers(&contents);
    parts.push(Part::json("control_index.json", &controls)?);
    parts.push(Part::json("evidence_pointers.json", &evidence_pointers)?);
    let contents = entries(&parts);
    let mut manifest = Manifest {
        schema_id: SCHEMA_ID.to_owned(),
        schema_version: SCHEMA_VERSION.to_owned(),
        created_at: facts.created_at,
        producer_version: request.producer_version.to_owned(),
        pack_id: pack_id(&facts.run_id, &contents)?,
        run_id: facts.run_id,
        case_id: request.case_id.trim().to_owned(),
        template_id: request.template.as_str().to_owned(),
        generated_at: facts.created_at,
        control_index: controls,
        evidence_pointers,
        incident_window: window,
        rendered_artifacts: rendered(&contents),
        contents,
        signatures: Vec::new(),
    };
    let signature = SignatureObject::sign(&canonical_json(&manifest)?, request.key);
    manifest.signatures = vec![signature.to_value()?];
    parts.push(Part::json(MANIFEST_NAME, &manifest)?);
    let path = output(request, &manifest.pack_id);
    write_parts(&path, parts)?;
    Ok(Built { path, manifest })
}

fn gather(request: &Request<'_>, runpack: &Archive<File>, facts: &RunFacts) -> Result<Vec<Part>> {
    let references = Part::streamed("referenced_runpacks.json", |out| {
        write_references(runpack, facts, out)
    })?;
    let mut parts = vec![
        Part::json("runpack_summary.json", &facts.summary())?,
        references.1,
    ];
    parts.extend(evidence::records(&INVENTORY, &request.inventory)?);
    parts.extend(evidence::trace_summary(
        &request.traces,
        request.trace_key.as_ref(),
    )?);
    parts.extend(evidence::regress_summary(&request.regress)?);
    let beside = |given: &[PathBuf], prefix: &str| match request.discover && given.is_empty() {
        true => evidence::discover(folder(request.runpack), prefix, ".json"),
        false => Ok(given.to_vec()),
    };
    let audits = beside(&request.approval_audits, "approval_audit_")?;
    let credentials = beside(&request.credential_evidence, "credential_evidence_")?;
    parts.extend(evidence::records(&APPROVAL, &audits)?);
    parts.extend(evidence::records(&CREDENTIAL, &credentials)?);
    if request.render_pdf {
        let lines = summary_lines(request, facts, &parts);
        parts.push(Part::bytes("summary.pdf", pdf::render(&lines)));
    }
    Ok(parts)
}

/// `referenced_runpacks.json`: every receipt in short, in constant memory.
fn write_references(runpack: &Archive<File>, facts: &RunFacts, out: &mut dyn Write) -> Result<()> {
    let mut put = |bytes: &[u8]| {
        out.write_all(bytes)
            .map_err(|error| fault_of("write references", error))
    };
    put(b"{\"receipts\":[")?;
    let mut first = true;
    facts.refs.for_each(runpack, |receipt| {
        if !std::mem::take(&mut first) {
            put(b",")?;
        }
        put(&canonical_json(&json!({
            "content_digest": receipt.content_digest,
            "ref_id": receipt.ref_id,
            "retrieved_at": receipt.retrieved_at,
            "source_locator": receipt.source_locator,
            "source_type": receipt.source_type,
        }))?)
    })?;
    let tail = canonical_json(&json!({"references": facts.refs.receipts, "run_id": facts.run_id}))?;
    put(b"],")?;
    put(tail.strip_prefix(b"{").unwrap_or_default())
}

fn summary_lines(request: &Request<'_>, facts: &RunFacts, parts: &[Part]) -> Vec<String> {
    let mut lines = vec![
        "Gait Evidence Pack Summary".to_owned(),
        format!("Run ID: {}", facts.run_id),
        format!("Case ID: {}", request.case_id.trim()),
        format!("Template: {}", request.template.as_str()),
        format!("Generated: {}", facts.created_at),
        format!("Intents: {}  Results: {}", facts.intents, facts.results),
        format!("Evidence files: {}", parts.len()),
    ];
    let listed: BTreeMap<&str, String> = parts
        .iter()
        .map(|part| (&*part.path, part.sha256.to_string()))
        .collect();
    lines.extend(
        listed
            .iter()
            .map(|(path, sha256)| format!("- {path}  sha256 {sha256}")),
    );
    lines
}

fn entries(parts: &[Part]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = parts
        .iter()
        .map(|part| Entry {
            path: part.path.clone(),
            sha256: part.sha256.to_string(),
            kind: entry_type(&part.path).to_owned(),
        })
        .collect();
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    entries
}

fn rendered(contents: &[Entry]) -> Vec<Rendered> {
    let pdf = contents.iter().filter(|entry| entry.path == "summary.pdf");
    pdf.map(|entry| Rendered {
        format: "pdf".to_owned(),
        path: entry.path.clone(),
        sha256: entry.sha256.clone(),
    })
    .collect()
}

fn output(request: &Request<'_>, pack_id: &str) -> PathBuf {
    let beside = || folder(request.runpack).join(format!("evidence_pack_{pack_id}.zip"));
    request.output.map_or_else(beside, Path::to_owned)
}

pub(super) fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}
