//! The wire form: deterministic CBOR with the submitter's identity and signature.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use worldcompute_fault::{Fault, Result, WcCode};
use worldcompute_proof::{
    Cid, PeerId, Sha256, Signature, SigningKey, canonical_cbor, from_canonical_cbor,
};
use worldcompute_sandbox::{Limits, Mount, OutputSpec, Profile, RunRequest};

use gait::intent::{Context, Target};
use gait::{Intent, IntentDraft};

use super::structure::{MAX_EXACT, TASK_COUNT_VARIABLE, TASK_INDEX_VARIABLE, refuse};
use super::{Manifest, WorkloadType};
use crate::JobId;

/// Most bytes of the wire form.
pub const MAX_WIRE_BYTES: usize = 128 << 10;
/// Says inside the signed bytes what they are, so that a signature over them can mean nothing else.
const FORMAT: &str = "worldcompute/job/v1";
/// Separates task seeds from every other use of SHA-256.
const SEED_DOMAIN: &[u8] = b"worldcompute/task-seed/v1";

/// Everything that is signed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    format: String,
    job_id: JobId,
    submitter: PeerId,
    manifest: Manifest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    body: Body,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    submitter_signature: Option<ByteBuf>,
}

/// A manifest whose submitter signed every field of it. Only [`Manifest::sign`] and [`VerifiedManifest::open`] make one.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifiedManifest {
    body: Body,
    bytes: Vec<u8>,
    cid: Cid,
}

impl Manifest {
    /// Signs the manifest as a new job of the owner of `key`.
    ///
    /// # Errors
    /// Those of [`Manifest::parse`]: what could not be parsed cannot be signed either.
    pub fn sign(self, key: &SigningKey) -> Result<VerifiedManifest> {
        self.sign_as(JobId::generate(), key)
    }

    /// As [`Manifest::sign`], with the job's id given.
    pub fn sign_as(self, job_id: JobId, key: &SigningKey) -> Result<VerifiedManifest> {
        self.check_structure()?;
        self.check_admission()?;
        let format = FORMAT.to_owned();
        let body = Body {
            format,
            job_id,
            submitter: key.peer_id(),
            manifest: self,
        };
        let signature = key.sign(&canonical_cbor(&body)?);
        let submitter_signature = Some(ByteBuf::from(signature.to_bytes()));
        let bytes = canonical_cbor(&Wire {
            body: body.clone(),
            submitter_signature,
        })?;
        check_size(&bytes)?;
        Ok(VerifiedManifest::of(body, bytes))
    }
}

impl VerifiedManifest {
    /// Verifies the wire form, in this order: structure (which includes that the submitter's id carries a sound key),
    /// signature, admission.
    ///
    /// # Errors
    /// WC-001 for bytes that are no manifest, are not canonical or out of bounds; WC-014 for a signature that is
    /// missing, of a wrong length, zero or not the submitter's over every field; then what [`Manifest::parse`]
    /// refuses.
    pub fn open(bytes: &[u8]) -> Result<Self> {
        check_size(bytes)?;
        let wire: Wire =
            from_canonical_cbor(bytes).map_err(|fault| refuse("structure", fault.message()))?;
        if wire.body.format != FORMAT {
            return Err(refuse("structure", format!("the format is not {FORMAT}")));
        }
        wire.body.manifest.check_structure()?;
        wire.check_signature()?;
        wire.body.manifest.check_admission()?;
        Ok(Self::of(wire.body, bytes.to_vec()))
    }

    /// CIDv1 (dag-cbor) of the wire form.
    pub fn cid(&self) -> &Cid {
        &self.cid
    }

    /// The wire form.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Who signed.
    pub fn submitter(&self) -> &PeerId {
        &self.body.submitter
    }

    /// The job this manifest describes; no other job can be made of it.
    pub fn job_id(&self) -> JobId {
        self.body.job_id
    }

    /// What was signed.
    pub fn manifest(&self) -> &Manifest {
        &self.body.manifest
    }

    /// What the donor of task `index` has to run.
    ///
    /// # Errors
    /// WC-001 for an index outside the job.
    pub fn task(&self, index: u32) -> Result<RunRequest> {
        let manifest = self.manifest();
        let count = manifest.array_count;
        if index >= count {
            return Err(refuse(
                "task",
                format!("{index} is not one of the {count} tasks of the job"),
            ));
        }
        let fill = |text: &String| substitute(text, index, count);
        let mut env: std::collections::BTreeMap<_, _> = manifest
            .env
            .iter()
            .map(|(name, value)| (name.clone(), fill(value)))
            .collect();
        env.insert(TASK_INDEX_VARIABLE.to_owned(), index.to_string());
        env.insert(TASK_COUNT_VARIABLE.to_owned(), count.to_string());
        let resources = &manifest.resources;
        Ok(RunRequest {
            job_id: self.job_id().to_string(),
            task_index: index,
            task_count: count,
            submitter: *self.submitter(),
            classes: manifest.acceptable_use_classes.clone(),
            workload: manifest.workload_cid,
            args: manifest.command.iter().map(fill).collect(),
            env,
            stdin: manifest.stdin,
            inputs: manifest.inputs.iter().map(mount).collect(),
            outputs: manifest.outputs.iter().map(output_spec).collect(),
            limits: Limits {
                fuel: resources.fuel,
                memory_bytes: resources.ram_bytes,
                wall_ms: manifest.max_wallclock_ms,
                output_bytes: resources.scratch_bytes,
            },
            profile: match manifest.workload_type {
                WorkloadType::WasmModule => Profile::Deterministic {
                    seed: task_seed(manifest.seed, index),
                },
                WorkloadType::OciContainer => Profile::MicroVm {
                    vcpus: resources.cpu_millicores.div_ceil(1000),
                },
            },
        })
    }

    /// What the submitter's own gate decides on: tool `worldcompute.job.submit` with the manifest's id, one target per
    /// acceptable-use class.
    ///
    /// # Errors
    /// What the gate finds wrong with the intent.
    pub fn submit_intent(&self) -> Result<Intent> {
        let classes = &self.manifest().acceptable_use_classes;
        let target = |class: &String| Target::label(format!("class:{class}"), "public");
        let draft = IntentDraft {
            tool_name: "worldcompute.job.submit".to_owned(),
            args: [("manifest_cid".to_owned(), self.cid.to_string().into())]
                .into_iter()
                .collect(),
            targets: classes.iter().map(target).collect(),
            context: Context {
                identity: self.submitter().to_string(),
                workspace: "worldcompute".to_owned(),
                risk_class: "low".to_owned(),
                ..Context::default()
            },
            ..IntentDraft::default()
        };
        draft.normalise()
    }

    fn of(body: Body, bytes: Vec<u8>) -> Self {
        let cid = Cid::dag_cbor(&bytes);
        Self { body, bytes, cid }
    }
}

impl fmt::Debug for VerifiedManifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifiedManifest({}, {})", self.job_id(), self.cid)
    }
}

impl Wire {
    fn check_signature(&self) -> Result<()> {
        let signature = match self.submitter_signature.as_deref() {
            None => return Err(unsigned("the manifest carries none")),
            Some(bytes) => <[u8; 64]>::try_from(bytes.as_slice())
                .map_err(|_| unsigned("it has not 64 bytes"))?,
        };
        if signature == [0; 64] {
            return Err(unsigned("it is all zeros"));
        }
        let signed = canonical_cbor(&self.body)?;
        let key = self.body.submitter.verifying_key();
        key.verify(&signed, &Signature::from_bytes(signature))
            .map_err(|_| unsigned("it is not the submitter's over this manifest"))
    }
}

fn unsigned(why: &str) -> Fault {
    Fault::wc(WcCode::Unauthorized, format!("signature: {why}"))
        .hint("have the submitter sign the manifest as it is")
}

fn check_size(bytes: &[u8]) -> Result<()> {
    if bytes.len() > MAX_WIRE_BYTES {
        return Err(refuse(
            "structure",
            format!("{} bytes; it takes {MAX_WIRE_BYTES}", bytes.len()),
        ));
    }
    Ok(())
}

fn mount(input: &super::Input) -> Mount {
    Mount {
        cid: input.cid,
        path: input.mount.clone(),
    }
}

fn output_spec(output: &super::Output) -> OutputSpec {
    OutputSpec {
        name: output.name.clone(),
        path: output.path.clone(),
        max_bytes: output.max_bytes,
    }
}

/// Replaces the two variables of the array; any other text, braces included, stays as it is.
fn substitute(text: &str, index: u32, count: u32) -> String {
    text.replace("${WC_TASK_INDEX}", &index.to_string())
        .replace("${WC_TASK_COUNT}", &count.to_string())
}

/// An independent stream for every task of a job, the same on every donor: 53 bits, so that JSON keeps it exact.
fn task_seed(seed: u64, index: u32) -> u64 {
    let message = [SEED_DOMAIN, &seed.to_be_bytes(), &index.to_be_bytes()].concat();
    let digest = Sha256::of(&message);
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(digest.as_bytes()) {
        *to = *from;
    }
    u64::from_be_bytes(word) & MAX_EXACT
}
