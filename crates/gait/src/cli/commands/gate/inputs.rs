//! Everything that `gait gate eval` reads before it decides. What is wrong with any of it shows here, with nothing done.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gait::approval::{self, Redemptions};
use gait::broker::{Broker, Choice};
use gait::gate::{Brokering, Outputs, Presented, Profile, Request};
use gait::keys::{self, KeyMode, KeySource, SigningIdentity, SigningRequest};
use gait::kill_switch::KillSwitch;
use gait::limits::{
    MAX_ENVELOPE_BYTES, MAX_INTENT_BYTES, MAX_INVENTORY_BYTES, MAX_POLICY_BYTES, MAX_TOKENS,
};
use gait::rate_limit::Counters;
use gait::scripts::Registry;
use gait::session::SessionLog;
use gait::{ContextEnvelope, Gate, Intent, Inventory, Policy, WireTime, delegation};
use jiff::Timestamp;
use worldcompute_durable::read_bounded;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::VerifyingKey;

use super::settings::Settings;
use crate::cli::args::invalid;
use crate::cli::command::Context;

/// The inputs, read and checked.
pub struct Inputs<'a> {
    settings: &'a Settings<'a>,
    context: &'a Context,
    pub profile: Profile,
    pub gate: Gate,
    pub intent: Intent,
    pub warnings: Vec<String>,
    at: Option<Timestamp>,
    envelope: Option<ContextEnvelope>,
    inventory: Option<Inventory>,
    scripts: Option<Registry>,
    approvals: Vec<approval::Token>,
    approval_key: Option<VerifyingKey>,
    delegations: Vec<delegation::Token>,
    delegation_key: Option<VerifyingKey>,
    broker: Option<Broker>,
    scopes: Vec<String>,
    outputs: Outputs,
    kill_switch: Option<PathBuf>,
    counters: PathBuf,
    redemptions: PathBuf,
    session: Option<PathBuf>,
}

impl<'a> Inputs<'a> {
    /// Reads and checks.
    pub fn load(context: &'a Context, settings: &'a Settings<'a>) -> Result<Self> {
        if settings.text("policy").is_empty() || settings.text("intent").is_empty() {
            return Err(invalid("both --policy and --intent are required"));
        }
        let profile = profile(settings)?;
        let loader = Loader { context, settings };
        let signer = loader.signer()?;
        let broker = loader.broker()?;
        let approval_key = loader.key("approval-public-key", "approval-private-key")?;
        let delegation_key = loader.key("delegation-public-key", "delegation-private-key")?;
        let policy = Policy::parse(&loader.file("policy", MAX_POLICY_BYTES)?)?;
        let intent = Intent::parse(&loader.file("intent", MAX_INTENT_BYTES)?)?;
        profile.check(&policy, broker.is_some())?;
        explicit_keys(profile, &loader, &policy)?;
        let mut inputs = Self {
            at: loader.evaluation_time()?,
            envelope: loader.envelope()?,
            inventory: None,
            scripts: None,
            approvals: loader.approvals()?,
            delegations: loader.delegations()?,
            scopes: settings.csv("credential-scopes"),
            outputs: loader.outputs(),
            kill_switch: settings.path("kill-switch-state"),
            counters: PathBuf::from(settings.text("rate-limit-state")),
            redemptions: PathBuf::from(settings.text("approval-redemption-state")),
            session: settings.path("session"),
            warnings: signer.warnings,
            delegation_key: delegation_key.or(approval_key),
            gate: Gate::new(policy, signer.key, Arc::clone(&context.clock)),
            settings,
            context,
            profile,
            intent,
            approval_key,
            broker,
        };
        inputs.load_inventory(&loader)?;
        inputs.load_scripts(&loader)?;
        Ok(inputs)
    }

    /// What the gate is asked with.
    pub fn request(&self) -> Request<'_> {
        Request {
            correlation_id: &self.context.correlation_id,
            at: self.at,
            envelope: self.envelope.as_ref(),
            inventory: self.inventory.as_ref(),
            kill_switch: self.kill_switch.as_deref().map(KillSwitch::at),
            scripts: self.scripts.as_ref(),
            approvals: Presented {
                tokens: &self.approvals,
                key: self.approval_key,
            },
            approval_ref: self.settings.text("approval-token-ref"),
            redemptions: Some(Redemptions::at(&self.redemptions)),
            single_use: self.settings.switch("approval-single-use"),
            delegations: Presented {
                tokens: &self.delegations,
                key: self.delegation_key,
            },
            counters: Some(Counters::at(&self.counters)),
            boundary: None,
            broker: self.broker.as_ref().map(|broker| Brokering {
                broker,
                reference: self.settings.text("credential-ref"),
                scopes: &self.scopes,
                environment: &*self.context.environment,
            }),
            simulate: self.settings.switch("simulate"),
            session: self.session.as_deref().map(SessionLog::at),
            outputs: Some(&self.outputs),
        }
    }

    fn load_inventory(&mut self, loader: &Loader<'_>) -> Result<()> {
        if self.settings.text("wrkr-inventory").is_empty() {
            return Ok(());
        }
        let read = loader.file("wrkr-inventory", MAX_INVENTORY_BYTES);
        match read.and_then(|bytes| Inventory::parse(&bytes)) {
            Ok(inventory) => self.inventory = Some(inventory),
            Err(fault) if self.profile.fails_closed_on(&self.intent) => {
                let what = "wrkr inventory unavailable in fail-closed mode";
                return Err(blocked(what, "wrkr_inventory_unavailable", &fault));
            }
            Err(_) => {
                self.warn("wrkr inventory unavailable; continuing without context enrichment")
            }
        }
        Ok(())
    }

    /// The registry stands for approvals, so one that cannot be trusted stands for none; where the risk is high, it
    /// blocks.
    fn load_scripts(&mut self, loader: &Loader<'_>) -> Result<()> {
        let Some(path) = self.settings.path("approved-script-registry") else {
            return Ok(());
        };
        let key = loader
            .key("approved-script-public-key", "")?
            .or(self.approval_key);
        let strict = self.profile.fails_closed_on(&self.intent);
        match verified(&path, key.as_ref(), self.context.clock.now()) {
            Ok(registry) => self.scripts = Some(registry),
            Err(fault) if strict => return Err(fault),
            Err(fault) => {
                let (why, repair) = (fault.message(), fault.hint_text());
                let message = format!("approved script fast-path disabled: {why}; {repair}");
                self.warn(&message);
            }
        }
        Ok(())
    }

    fn warn(&mut self, warning: &str) {
        self.warnings.push(warning.to_owned());
    }
}

fn profile(settings: &Settings<'_>) -> Result<Profile> {
    let profile = Profile::parse(settings.text("profile"))?;
    if profile == Profile::Standard {
        return Ok(profile);
    }
    if settings.switch("simulate") {
        return Err(invalid("oss-prod profile does not allow --simulate"));
    }
    if KeyMode::parse(settings.text("key-mode"))? != KeyMode::Prod {
        return Err(invalid("oss-prod profile requires --key-mode prod"));
    }
    let private = ["private-key", "private-key-env"].map(|flag| settings.text(flag));
    if private.iter().all(|text| text.is_empty()) {
        return Err(invalid(
            "oss-prod profile requires --private-key or --private-key-env",
        ));
    }
    Ok(profile)
}

/// In production nobody verifies tokens with the key that signs traces because a flag was forgotten.
fn explicit_keys(profile: Profile, loader: &Loader<'_>, policy: &Policy) -> Result<()> {
    if profile == Profile::Standard {
        return Ok(());
    }
    let given = |flags: &[&str]| flags.iter().any(|flag| loader.is_given(flag));
    let approval = given(&["approval-public-key", "approval-private-key"]);
    let delegation = given(&["delegation-public-key", "delegation-private-key"]);
    if policy.may_require_approval() && !approval {
        return Err(invalid(
            "oss-prod profile requires explicit approval verify key (--approval-public-key/--approval-public-key-env or approval private key source)",
        ));
    }
    if policy.may_require_delegation() && !delegation && !approval {
        return Err(invalid(
            "oss-prod profile requires explicit delegation verify key (--delegation-public-key/--delegation-public-key-env or private key source)",
        ));
    }
    Ok(())
}

fn verified(path: &Path, key: Option<&VerifyingKey>, now: Timestamp) -> Result<Registry> {
    let registry = Registry::load(path).map_err(|fault| {
        let what = "approved script registry unavailable in fail-closed mode";
        let code = fault.code().to_owned();
        blocked(what, code, &fault)
    })?;
    let key = key.ok_or_else(|| {
        let message =
            "approved script registry verification unavailable in fail-closed mode: verify key required";
        Fault::new(
            Category::PolicyBlocked,
            "approved_script_key_required",
            message,
        )
        .hint("give --approved-script-public-key or --approved-script-public-key-env")
    })?;
    registry.verify(key, now)?;
    Ok(registry)
}

fn blocked(what: &str, code: impl Into<std::borrow::Cow<'static, str>>, cause: &Fault) -> Fault {
    let message = format!("{what}: {}", cause.message());
    Fault::new(Category::PolicyBlocked, code, message).hint(cause.hint_text().to_owned())
}

/// Reads single inputs.
struct Loader<'a> {
    context: &'a Context,
    settings: &'a Settings<'a>,
}

impl Loader<'_> {
    fn file(&self, flag: &str, limit: usize) -> Result<Vec<u8>> {
        read_bounded(Path::new(self.settings.text(flag)), limit as u64)
    }

    fn source(&self, flag: &str) -> Result<KeySource> {
        let variable = format!("{flag}-env");
        KeySource::new(
            flag,
            self.settings.text(flag),
            self.settings.text(&variable),
        )
    }

    fn is_given(&self, flag: &str) -> bool {
        self.source(flag).is_ok_and(|source| source.is_given())
    }

    fn signer(&self) -> Result<SigningIdentity> {
        let request = SigningRequest {
            mode: KeyMode::parse(self.settings.text("key-mode"))?,
            private: self.source("private-key")?,
            public: KeySource::None,
        };
        request.resolve(&*self.context.environment)
    }

    fn key(&self, public: &str, private: &str) -> Result<Option<VerifyingKey>> {
        let private = match private {
            "" => KeySource::None,
            flag => self.source(flag)?,
        };
        keys::verifying_key(&self.source(public)?, &private, &*self.context.environment)
    }

    fn broker(&self) -> Result<Option<Broker>> {
        let choice = Choice {
            name: self.settings.text("credential-broker"),
            prefix: self.settings.text("credential-env-prefix"),
            command: self.settings.text("credential-command"),
            arguments: &self.settings.csv("credential-command-args"),
        };
        Broker::choose(choice, &*self.context.environment)
    }

    fn evaluation_time(&self) -> Result<Option<Timestamp>> {
        let text = self.settings.text("evaluation-time");
        if text.is_empty() {
            return Ok(None);
        }
        let time = WireTime::parse(text).and_then(WireTime::get);
        let wrong = || {
            invalid(format!(
                "invalid --evaluation-time: {text:?} is not RFC 3339"
            ))
        };
        time.map(Some).ok_or_else(wrong)
    }

    fn envelope(&self) -> Result<Option<ContextEnvelope>> {
        if self.settings.text("context-envelope").is_empty() {
            return Ok(None);
        }
        let bytes = self.file("context-envelope", MAX_ENVELOPE_BYTES)?;
        ContextEnvelope::parse(&bytes).map(Some)
    }

    fn approvals(&self) -> Result<Vec<approval::Token>> {
        let paths = self.tokens("approval-token", "approval-token-chain")?;
        paths
            .iter()
            .map(|path| approval::Token::load(Path::new(path)))
            .collect()
    }

    fn delegations(&self) -> Result<Vec<delegation::Token>> {
        let paths = self.tokens("delegation-token", "delegation-token-chain")?;
        paths
            .iter()
            .map(|path| delegation::Token::load(Path::new(path)))
            .collect()
    }

    /// The paths, each once.
    fn tokens(&self, one: &str, more: &str) -> Result<Vec<String>> {
        let mut paths = self.settings.csv(more);
        paths.push(self.settings.text(one).to_owned());
        paths.retain(|path| !path.is_empty());
        paths.sort_unstable();
        paths.dedup();
        if paths.len() > MAX_TOKENS {
            return Err(invalid(format!(
                "more than {MAX_TOKENS} tokens for --{more}"
            )));
        }
        Ok(paths)
    }

    fn outputs(&self) -> Outputs {
        Outputs {
            trace: self.settings.path("trace-out"),
            approval_audit: self.settings.path("approval-audit-out"),
            delegation_audit: self.settings.path("delegation-audit-out"),
            credential_evidence: self.settings.path("credential-evidence-out"),
        }
    }
}
