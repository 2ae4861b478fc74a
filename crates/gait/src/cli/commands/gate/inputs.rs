//! What `gait gate eval` reads before it decides. What is wrong with any of it shows here, with nothing done.

use std::path::Path;

use gait::desk::{Asked, Desk};
use gait::gate::Outputs;
use gait::limits::MAX_TOKENS;
use gait::{Intent, approval, delegation, given};
use worldcompute_fault::Result;

use super::settings::Settings;
use super::setup::setup;
use crate::cli::args::invalid;
use crate::cli::command::Context;

/// The inputs, read and checked.
pub struct Inputs {
    pub desk: Desk,
    pub asked: Asked,
    pub outputs: Outputs,
}

impl Inputs {
    /// Reads and checks.
    pub fn load(context: &Context, settings: &Settings<'_>) -> Result<Self> {
        if settings.text("policy").is_empty() || settings.text("intent").is_empty() {
            return Err(invalid("both --policy and --intent are required"));
        }
        let simulate = settings.switch("simulate");
        settings.refuse_simulation("simulate", simulate)?;
        let desk = Desk::open(setup(context, settings)?)?;
        let intent = Path::new(settings.text("intent"));
        let asked = Asked {
            intent: Intent::load(intent)?,
            envelope: None,
            approvals: tokens(settings, "approval-token", approval::Token::load)?,
            delegations: tokens(settings, "delegation-token", delegation::Token::load)?,
            approval_ref: settings.text("approval-token-ref").to_owned(),
            simulate,
            why_not: settings.switch("why-not"),
        };
        Ok(Self {
            desk,
            asked,
            outputs: outputs(settings),
        })
    }
}

/// The tokens of `flag` and its chain, each file once.
fn tokens<T>(settings: &Settings<'_>, flag: &str, load: fn(&Path) -> Result<T>) -> Result<Vec<T>> {
    let chain = format!("{flag}-chain");
    let mut paths = settings.csv(&chain);
    paths.push(settings.text(flag).to_owned());
    paths.retain(|path| !path.is_empty());
    paths.sort_unstable();
    paths.dedup();
    if paths.len() > MAX_TOKENS {
        return Err(invalid(format!(
            "more than {MAX_TOKENS} tokens for --{chain}"
        )));
    }
    let load = |path: &Path| load(path).map_err(|fault| given::unreadable(flag, path, fault));
    paths.iter().map(|path| load(Path::new(path))).collect()
}

fn outputs(settings: &Settings<'_>) -> Outputs {
    Outputs {
        trace: settings.path("trace-out"),
        approval_audit: settings.path("approval-audit-out"),
        delegation_audit: settings.path("delegation-audit-out"),
        credential_evidence: settings.path("credential-evidence-out"),
    }
}
