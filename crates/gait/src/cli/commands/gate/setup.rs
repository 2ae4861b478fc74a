//! What `gait gate eval` and `gait gate serve` are set up with. What is wrong with any of it shows here, with nothing
//! done.

use std::path::PathBuf;
use std::sync::Arc;

use gait::broker::{Broker, Choice};
use gait::desk::Setup;
use gait::gate::Profile;
use gait::keys::{self, KeyMode, KeySource};
use gait::{ContextEnvelope, WireTime};
use jiff::Timestamp;
use worldcompute_fault::Result;
use worldcompute_proof::VerifyingKey;

use super::settings::Settings;
use crate::cli::args::invalid;
use crate::cli::command::Context;
use crate::cli::keys::signing_with;

/// Reads keys and settings; the files that may change are left to the desk.
pub fn setup(context: &Context, settings: &Settings<'_>) -> Result<Setup> {
    let profile = profile(settings)?;
    let signer = signing_with(context, |flag| settings.text(flag).to_owned())?;
    let loader = Loader { context, settings };
    Ok(Setup {
        policy: PathBuf::from(settings.text("policy")),
        profile,
        broker: loader.broker()?,
        approval_key: loader.key("approval-public-key", "approval-private-key")?,
        delegation_key: loader.key("delegation-public-key", "delegation-private-key")?,
        scripts_key: loader.key("approved-script-public-key", "")?,
        at: loader.evaluation_time()?,
        envelope: loader.envelope()?,
        single_use: settings.switch("approval-single-use"),
        redemptions: PathBuf::from(settings.text("approval-redemption-state")),
        inventory: settings.path("wrkr-inventory"),
        scripts: settings.path("approved-script-registry"),
        kill_switch: settings.path("kill-switch-state"),
        counters: PathBuf::from(settings.text("rate-limit-state")),
        credential_ref: settings.text("credential-ref").to_owned(),
        credential_scopes: settings.csv("credential-scopes"),
        session: settings.path("session"),
        key: signer.key,
        warnings: signer.warnings,
        clock: Arc::clone(&context.clock),
        environment: Arc::clone(&context.environment),
    })
}

fn profile(settings: &Settings<'_>) -> Result<Profile> {
    let profile = Profile::parse(settings.text("profile"))?;
    if profile == Profile::Standard {
        return Ok(profile);
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

/// Reads single inputs.
struct Loader<'a> {
    context: &'a Context,
    settings: &'a Settings<'a>,
}

impl Loader<'_> {
    fn source(&self, flag: &str) -> Result<KeySource> {
        let variable = format!("{flag}-env");
        KeySource::new(
            flag,
            self.settings.text(flag),
            self.settings.text(&variable),
        )
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
        let Some(path) = self.settings.path("context-envelope") else {
            return Ok(None);
        };
        ContextEnvelope::load(&path).map(Some)
    }
}
