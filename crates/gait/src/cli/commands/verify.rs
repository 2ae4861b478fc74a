//! `gait verify`.

mod chain;
mod session_chain;

pub use chain::CHAIN;
pub use session_chain::SESSION_CHAIN;

use std::path::{Path, PathBuf};

use gait::runpack::{self, Report, Requirements, SignatureStatus};
use gait::verifier::{self, Finding, Verified};
use serde::Serialize;
use serde_json::json;
use worldcompute_fault::Result;
use worldcompute_proof::VerifyingKey;

use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals, object};
use crate::cli::exit::Exit;
use crate::cli::flag::Flag;
use crate::cli::keys;

/// How strictly an artefact is verified, and with which key.
pub const REQUIREMENTS: &[Flag] = &[
    Flag::text("profile", "standard"),
    Flag::switch("require-signature"),
    Flag::group(keys::VERIFYING),
];

/// `gait verify`
pub static VERIFY: Command = Command {
    words: &["verify"],
    help: "Verify offline whatever the gate made: a runpack, pack, guard pack, trace, session or session chain, told apart by content.",
    flags: REQUIREMENTS,
    positionals: Positionals::Interleaved {
        min: 1,
        max: 1,
        expected: "expected run_id or path",
    },
    run,
};

/// What a command line asks of a verifier.
pub struct Asked {
    key: Option<VerifyingKey>,
    signature: bool,
}

impl Asked {
    /// Reads [`REQUIREMENTS`].
    pub fn of(context: &Context, args: &Args) -> Result<Self> {
        let profile = args.text("profile").trim().to_ascii_lowercase();
        let strict = match profile.as_str() {
            "" | "standard" => false,
            "strict" => true,
            _ => return Err(unsupported(args.text("profile"))),
        };
        let key = keys::verifying(context, args)?;
        if strict && key.is_none() {
            let message = "strict verify profile requires --public-key/--public-key-env or private key source";
            return Err(invalid(message).because(
                "verify_key_required",
                "give --public-key <path> or --public-key-env <variable>",
            ));
        }
        Ok(Self {
            key,
            signature: strict || args.switch("require-signature"),
        })
    }

    /// For the library.
    pub fn requirements(&self) -> Requirements<'_> {
        Requirements {
            key: self.key.as_ref(),
            signature: self.signature,
        }
    }
}

fn unsupported(profile: &str) -> worldcompute_fault::Fault {
    let message = format!("unsupported --profile value {profile:?} (expected standard or strict)");
    invalid(message)
}

/// A verified runpack as the output shows it.
#[derive(Serialize)]
pub struct VerifiedRun {
    pub ok: bool,
    path: PathBuf,
    #[serde(flatten)]
    report: Report,
    signature_note: &'static str,
    next_commands: Vec<String>,
}

impl VerifiedRun {
    /// Which run it is.
    pub fn run_id(&self) -> &str {
        &self.report.run_id
    }

    /// Verifies the runpack that `reference` names.
    pub fn of(reference: &str, context: &Context, asked: &Asked) -> Result<Self> {
        let path = runpack::locate(reference, &*context.environment)?;
        let report = runpack::verify(&path, &asked.requirements())?;
        Ok(Self::reported(path, report, asked))
    }

    fn reported(path: PathBuf, report: Report, asked: &Asked) -> Self {
        Self {
            ok: report.holds(),
            path,
            signature_note: note(report.signature_status, asked.signature),
            next_commands: next_commands(&report.run_id),
            report,
        }
    }

    fn human(&self) -> String {
        let path = self.path.display();
        let status = format!("signature note: {}", self.signature_note);
        if self.ok {
            return format!("verify ok: {path}\n{status}");
        }
        let mut lines = vec![format!("verify failed: {path}")];
        let mismatches = self.report.hash_mismatches.iter();
        let mismatches: Vec<String> = mismatches.map(|mismatch| mismatch.path.clone()).collect();
        for (what, names) in [
            ("missing files", &self.report.missing_files),
            ("undeclared files", &self.report.undeclared_files),
            ("hash mismatches", &mismatches),
            ("signature errors", &self.report.signature_errors),
        ] {
            if !names.is_empty() {
                lines.push(format!("{what}: {}", names.join(", ")));
            }
        }
        lines.push(status);
        lines.join("\n")
    }
}

fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let asked = Asked::of(context, args)?;
    let reference = args.positionals().first().map_or("", String::as_str);
    let path = locate(reference, context)?;
    let verified = verifier::verify(&path, &asked.requirements())?;
    let (holds, findings) = (verified.holds(), verified.findings());
    let mut fields = object(&verified)?;
    let human = match verified {
        Verified::Runpack(report) => {
            let run = VerifiedRun::reported(path, report, &asked);
            fields.append(&mut object(&run)?);
            run.human()
        }
        other => {
            fields.insert("path".to_owned(), json!(path));
            human(&path, &other, &findings)
        }
    };
    fields.insert("ok".to_owned(), holds.into());
    if !holds {
        fields.insert("findings".to_owned(), json!(findings));
    }
    Outcome::with(exit(holds), &fields, human)
}

/// The file that is meant: a runpack by path or by the id of its run, or else any file of that name.
fn locate(reference: &str, context: &Context) -> Result<PathBuf> {
    match runpack::locate(reference, &*context.environment) {
        Err(_) if Path::new(reference).is_file() => Ok(PathBuf::from(reference)),
        located => located,
    }
}

fn human(path: &Path, verified: &Verified, findings: &[Finding]) -> String {
    let (path, name) = (path.display(), verified.name());
    let told = match verified {
        Verified::Trace(trace) => format!(": {} to {}", trace.verdict, trace.tool_name),
        Verified::Session(session) if session.closed => {
            format!(": {} decisions, closed", session.decisions)
        }
        Verified::Session(session) => format!(": {} decisions, open", session.decisions),
        _ => String::new(),
    };
    if findings.is_empty() {
        return format!("verify ok: {path} ({name}{told})");
    }
    let lines = findings.iter().map(|finding| format!("\n{finding}"));
    format!(
        "verify failed: {path} ({name}){}",
        lines.collect::<String>()
    )
}

/// The exit of a comparison.
pub const fn exit(holds: bool) -> Exit {
    match holds {
        true => Exit::Ok,
        false => Exit::VerificationFailed,
    }
}

const fn note(status: SignatureStatus, required: bool) -> &'static str {
    match (status, required) {
        (SignatureStatus::Missing, true) => {
            "signatures are required in this mode; provide signing keys and re-run verify"
        }
        (SignatureStatus::Missing, false) => {
            "unsigned local/dev artifacts are expected by default; use --require-signature for strict verification"
        }
        (SignatureStatus::Skipped, true) => {
            "signature checks were expected but skipped; provide a public key or private key source"
        }
        (SignatureStatus::Skipped, false) => {
            "signature checks were skipped because no verify key was provided"
        }
        (SignatureStatus::Verified, _) => "signatures verified",
        (SignatureStatus::Failed, _) => {
            "signature verification failed; inspect signature_errors and re-run with the correct key"
        }
    }
}

fn next_commands(run_id: &str) -> Vec<String> {
    vec![
        format!("gait regress bootstrap --from {run_id} --json --junit ./gait-out/junit.xml"),
        "gait demo --durable".to_owned(),
        "gait demo --policy".to_owned(),
    ]
}

/// A path for the output.
pub fn shown(path: &Path) -> String {
    match path.is_absolute() || path.starts_with(".") {
        true => path.display().to_string(),
        false => format!("./{}", path.display()),
    }
}
