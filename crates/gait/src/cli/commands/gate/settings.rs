//! The flags of `gait gate eval` and `gait gate serve`, with the project's settings behind them.

use std::path::{Path, PathBuf};

use gait::gate::Profile;
use gait::project_config::{self, GateDefaults, ProjectConfig};
use gait::{approval, broker, rate_limit};
use worldcompute_fault::{Fault, Result};

use crate::cli::args::{Args, invalid};
use crate::cli::flag::Flag;

/// What an operator sets up, for one decision or for a service.
pub static OPERATOR: &[Flag] = &[
    Flag::text("policy", ""),
    Flag::text("profile", ""),
    Flag::text("context-envelope", ""),
    Flag::text("evaluation-time", ""),
    Flag::text("approval-redemption-state", approval::DEFAULT_REDEMPTIONS),
    Flag::switch("approval-single-use"),
    Flag::text("approval-public-key", ""),
    Flag::text("approval-public-key-env", ""),
    Flag::text("approval-private-key", ""),
    Flag::text("approval-private-key-env", ""),
    Flag::text("delegation-public-key", ""),
    Flag::text("delegation-public-key-env", ""),
    Flag::text("delegation-private-key", ""),
    Flag::text("delegation-private-key-env", ""),
    Flag::text("key-mode", ""),
    Flag::text("private-key", ""),
    Flag::text("private-key-env", ""),
    Flag::text("kill-switch-state", ""),
    Flag::text("rate-limit-state", ""),
    Flag::text("credential-broker", ""),
    Flag::text("credential-env-prefix", ""),
    Flag::text("credential-ref", ""),
    Flag::csv("credential-scopes"),
    Flag::text("credential-command", ""),
    Flag::csv("credential-command-args"),
    Flag::text("wrkr-inventory", ""),
    Flag::text("approved-script-registry", ""),
    Flag::text("approved-script-public-key", ""),
    Flag::text("approved-script-public-key-env", ""),
    Flag::text("session", ""),
    Flag::text("config", project_config::DEFAULT_PATH),
    Flag::switch("no-config"),
];

/// Every flag of `gait gate eval`.
pub static FLAGS: &[Flag] = &[
    Flag::group(OPERATOR),
    Flag::text("intent", ""),
    Flag::text("trace-out", ""),
    Flag::text("approval-token", ""),
    Flag::csv("approval-token-chain"),
    Flag::text("approval-token-ref", ""),
    Flag::text("approval-audit-out", ""),
    Flag::text("delegation-token", ""),
    Flag::csv("delegation-token-chain"),
    Flag::text("delegation-audit-out", ""),
    Flag::text("credential-evidence-out", ""),
    Flag::switch("simulate"),
    Flag::switch("explain"),
    Flag::switch("why-not"),
];

/// What the flags and the project say together.
pub struct Settings<'a> {
    args: &'a Args,
    defaults: GateDefaults,
}

impl<'a> Settings<'a> {
    /// Reads the project's settings, unless told not to.
    pub fn load(args: &'a Args) -> Result<Self> {
        let defaults = match args.switch("no-config") {
            true => GateDefaults::default(),
            false => defaults(Path::new(args.text("config").trim()))?,
        };
        Ok(Self { args, defaults })
    }

    /// The flag, else the project's setting, else what the format says.
    pub fn text(&self, flag: &str) -> &str {
        let given = self.args.text(flag).trim();
        let set = self.default(flag).trim();
        match (given, set) {
            ("", "") => preset(flag),
            ("", set) => set,
            (given, _) => given,
        }
    }

    /// The path, if there is one.
    pub fn path(&self, flag: &str) -> Option<PathBuf> {
        let text = self.text(flag);
        (!text.is_empty()).then(|| PathBuf::from(text))
    }

    /// The texts between commas.
    pub fn csv(&self, flag: &str) -> Vec<String> {
        if self.args.given(flag) {
            return self.args.csv(flag);
        }
        let parts = self.default(flag).split(',').map(str::trim);
        let parts = parts.filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    }

    /// Whether the switch is on.
    pub fn switch(&self, flag: &str) -> bool {
        self.args.switch(flag)
    }

    /// Refuses the switch `flag` of a simulation where the profile has none.
    pub fn refuse_simulation(&self, flag: &str, given: bool) -> Result<()> {
        if given && Profile::parse(self.text("profile"))? == Profile::OssProd {
            let message = format!("oss-prod profile does not allow --{flag}");
            return Err(invalid(message));
        }
        Ok(())
    }

    fn default(&self, flag: &str) -> &str {
        let defaults = &self.defaults;
        match flag {
            "policy" => &defaults.policy,
            "profile" => &defaults.profile,
            "key-mode" => &defaults.key_mode,
            "private-key" => &defaults.private_key,
            "private-key-env" => &defaults.private_key_env,
            "approval-public-key" => &defaults.approval_public_key,
            "approval-public-key-env" => &defaults.approval_public_key_env,
            "approval-private-key" => &defaults.approval_private_key,
            "approval-private-key-env" => &defaults.approval_private_key_env,
            "delegation-public-key" => &defaults.delegation_public_key,
            "delegation-public-key-env" => &defaults.delegation_public_key_env,
            "delegation-private-key" => &defaults.delegation_private_key,
            "delegation-private-key-env" => &defaults.delegation_private_key_env,
            "approved-script-registry" => &defaults.approved_script_registry,
            "approved-script-public-key" => &defaults.approved_script_public_key,
            "approved-script-public-key-env" => &defaults.approved_script_public_key_env,
            "kill-switch-state" => &defaults.kill_switch_state,
            "rate-limit-state" => &defaults.rate_limit_state,
            "credential-broker" => &defaults.credential_broker,
            "credential-env-prefix" => &defaults.credential_env_prefix,
            "credential-ref" => &defaults.credential_ref,
            "credential-scopes" => &defaults.credential_scopes,
            "credential-command" => &defaults.credential_command,
            "credential-command-args" => &defaults.credential_command_args,
            "credential-evidence-out" => &defaults.credential_evidence_path,
            "trace-out" => &defaults.trace_path,
            "wrkr-inventory" => &defaults.wrkr_inventory_path,
            _ => "",
        }
    }
}

/// The project's settings at `path`, which may be missing only where nobody asked for it.
fn defaults(path: &Path) -> Result<GateDefaults> {
    match ProjectConfig::load(path)? {
        Some(config) => Ok(config.gate),
        None if path == Path::new(project_config::DEFAULT_PATH) => Ok(GateDefaults::default()),
        None => Err(Fault::io(
            format_args!("read {}", path.display()),
            &std::io::ErrorKind::NotFound.into(),
        )),
    }
}

fn preset(flag: &str) -> &'static str {
    match flag {
        "key-mode" => "dev",
        "rate-limit-state" => rate_limit::DEFAULT_STATE,
        "credential-broker" => "off",
        "credential-env-prefix" => broker::DEFAULT_PREFIX,
        _ => "",
    }
}
