//! The gate with all that its operator sets up, for one decision or for many.
//!
//! ```text
//! Setup (flags, files, keys) ─► Desk::open ─┐
//! Asked (an intent, its tokens) ────────────┴► Desk::decide ─► Answer
//! ```
//!
//! The command that decides once and the service that decides often ask here, and so decide alike. Files count as they
//! are when a decision is made; one that did not change is not read again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{SigningKey, VerifyingKey};

use crate::approval::{self, Redemptions};
use crate::broker::Broker;
use crate::clock::Clock;
use crate::context_envelope::ContextEnvelope;
use crate::decision::Decision;
use crate::delegation;
use crate::environment::Environment;
use crate::gate::{Brokering, Gate, Outputs, Presented, Profile, Request};
use crate::intent::Intent;
use crate::inventory::Inventory;
use crate::kill_switch::KillSwitch;
use crate::limits::invalid;
use crate::policy::Policy;
use crate::policy::why_not::WhyNot;
use crate::rate_limit::Counters;
use crate::scripts::Registry;
use crate::session::SessionLog;
use crate::warm::Warm;

/// What an operator sets up.
pub struct Setup {
    /// The policy's file.
    pub policy: PathBuf,
    /// What policies are run, and how strictly.
    pub profile: Profile,
    /// Signs the traces.
    pub key: SigningKey,
    /// Signed the approvals.
    pub approval_key: Option<VerifyingKey>,
    /// Signed the delegations; the approvals' key where none is given.
    pub delegation_key: Option<VerifyingKey>,
    /// Whether every approval is good for one decision only.
    pub single_use: bool,
    /// Where single-use approvals are remembered.
    pub redemptions: PathBuf,
    /// The time by which the policy is asked, if not the present.
    pub at: Option<Timestamp>,
    /// What the agent consulted.
    pub envelope: Option<ContextEnvelope>,
    /// What is known of the tools.
    pub inventory: Option<PathBuf>,
    /// The approved scripts.
    pub scripts: Option<PathBuf>,
    /// Signed the approved scripts; the approvals' key where none is given.
    pub scripts_key: Option<VerifyingKey>,
    /// The kill switch; see [`KillSwitch::obeyed`].
    pub kill_switch: Option<PathBuf>,
    /// The counters behind the limits.
    pub counters: PathBuf,
    /// The broker of credentials.
    pub broker: Option<Broker>,
    /// The name of the credential, instead of the policy's; empty for that.
    pub credential_ref: String,
    /// Further scopes of the credential.
    pub credential_scopes: Vec<String>,
    /// The session that decisions are numbered in.
    pub session: Option<PathBuf>,
    /// What every answer warns of.
    pub warnings: Vec<String>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where a broker may look.
    pub environment: Arc<dyn Environment>,
}

/// What a caller brings.
pub struct Asked {
    /// What is to be decided.
    pub intent: Intent,
    /// What the agent consulted, where the operator does not say.
    pub envelope: Option<ContextEnvelope>,
    /// The approvals.
    pub approvals: Vec<approval::Token>,
    /// The delegations.
    pub delegations: Vec<delegation::Token>,
    /// A reference for the trace while no approval is valid.
    pub approval_ref: String,
    /// Only say what would be decided.
    pub simulate: bool,
    /// Also say what would allow it.
    pub why_not: bool,
}

/// What was decided, and what to know about it.
pub struct Answer {
    /// The decision.
    pub decision: Decision,
    /// What to warn of, beside the decision's own warnings.
    pub warnings: Vec<String>,
    /// What would allow it, where that was asked and the policy alone does not.
    pub why_not: Option<WhyNot>,
}

/// The gate, ready.
pub struct Desk {
    setup: Setup,
    gate: Warm<Gate>,
    inventory: Option<Warm<Inventory>>,
    scripts: Option<Warm<Registry>>,
}

/// What stands beside the policy for one intent.
#[derive(Default)]
struct Known {
    inventory: Option<Arc<Inventory>>,
    scripts: Option<Arc<Registry>>,
    warnings: Vec<String>,
}

impl Desk {
    /// A desk that is ready to decide; refused for a policy that it would not run.
    pub fn open(setup: Setup) -> Result<Self> {
        let desk = Self {
            gate: Warm::at(setup.policy.clone()),
            inventory: setup.inventory.clone().map(Warm::at),
            scripts: setup.scripts.clone().map(Warm::at),
            setup,
        };
        desk.gate()?;
        Ok(desk)
    }

    /// What was set up.
    pub const fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The gate by the policy as it is now. Errors: those of reading it, and `invalid_input` for one that the profile
    /// does not run.
    pub fn gate(&self) -> Result<Arc<Gate>> {
        let setup = &self.setup;
        self.gate.get(setup.clock.now(), |path| {
            let policy = Policy::load_trusted(path)?;
            setup.profile.check(&policy, setup.broker.is_some())?;
            setup.check_keys(&policy)?;
            let clock = Arc::clone(&setup.clock);
            Ok(Gate::new(policy, setup.key.clone(), clock))
        })
    }

    /// Decides, and writes the evidence to `outputs`.
    ///
    /// Errors let nothing pass: those of [`Desk::gate`] and [`Gate::decide_on`], and `policy_blocked` where the risk
    /// is high and what should be known cannot be read or trusted.
    pub fn decide(
        &self,
        asked: &Asked,
        correlation_id: &str,
        outputs: Option<&Outputs>,
    ) -> Result<Answer> {
        let gate = self.gate()?;
        self.setup.check_presented(asked)?;
        let known = self.known(&asked.intent)?;
        let request = Request {
            correlation_id,
            outputs,
            ..self.request(asked, &known)
        };
        let decision = gate.decide_on(&asked.intent, &request)?;
        let why_not = match asked.why_not {
            true => gate.why_not(&asked.intent, &request)?,
            false => None,
        };
        Ok(Answer {
            decision,
            warnings: [&self.setup.warnings[..], &known.warnings].concat(),
            why_not,
        })
    }

    fn request<'a>(&'a self, asked: &'a Asked, known: &'a Known) -> Request<'a> {
        let setup = &self.setup;
        let delegation_key = setup.delegation_key.or(setup.approval_key);
        Request {
            correlation_id: "",
            at: setup.at,
            envelope: setup.envelope.as_ref().or(asked.envelope.as_ref()),
            inventory: known.inventory.as_deref(),
            kill_switch: KillSwitch::obeyed(setup.kill_switch.as_deref()),
            scripts: known.scripts.as_deref(),
            approvals: Presented {
                tokens: &asked.approvals,
                key: setup.approval_key,
            },
            approval_ref: &asked.approval_ref,
            redemptions: Some(Redemptions::at(&setup.redemptions)),
            single_use: setup.single_use,
            delegations: Presented {
                tokens: &asked.delegations,
                key: delegation_key,
            },
            counters: Some(Counters::at(&setup.counters)),
            broker: setup.brokering(),
            boundary: None,
            simulate: asked.simulate,
            session: setup.session.as_deref().map(SessionLog::at),
            outputs: None,
        }
    }

    fn known(&self, intent: &Intent) -> Result<Known> {
        let mut known = Known::default();
        let strict = self.setup.profile.fails_closed_on(intent);
        self.read_inventory(strict, &mut known)?;
        self.read_scripts(strict, &mut known)?;
        Ok(known)
    }

    fn read_inventory(&self, strict: bool, known: &mut Known) -> Result<()> {
        let Some(inventory) = &self.inventory else {
            return Ok(());
        };
        match inventory.get(self.setup.clock.now(), Inventory::load) {
            Ok(inventory) => known.inventory = Some(inventory),
            Err(fault) if strict => {
                let what = "wrkr inventory unavailable in fail-closed mode";
                return Err(blocked(what, "wrkr_inventory_unavailable", &fault));
            }
            Err(fault) => known.warn(&format!(
                "wrkr inventory unavailable; continuing without context enrichment: {}",
                fault.message()
            )),
        }
        Ok(())
    }

    /// The registry stands for approvals, so one that cannot be trusted stands for none; where the risk is high, it
    /// blocks.
    fn read_scripts(&self, strict: bool, known: &mut Known) -> Result<()> {
        let Some(scripts) = &self.scripts else {
            return Ok(());
        };
        let (now, key) = (self.setup.clock.now(), self.setup.scripts_key);
        let key = key.or(self.setup.approval_key);
        let read = |path: &Path| verified(path, key.as_ref(), now);
        let registry = scripts.get(now, read).and_then(|registry| {
            // Its signatures stay what they were; its time runs out.
            registry.check_expiry(now)?;
            Ok(registry)
        });
        match registry {
            Ok(registry) => known.scripts = Some(registry),
            Err(fault) if strict => return Err(fault),
            Err(fault) => {
                let (why, repair) = (fault.message(), fault.hint_text());
                known.warn(&format!(
                    "approved script fast-path disabled: {why}; {repair}"
                ));
            }
        }
        Ok(())
    }
}

impl Known {
    fn warn(&mut self, warning: &str) {
        self.warnings.push(warning.to_owned());
    }
}

impl Setup {
    fn brokering(&self) -> Option<Brokering<'_>> {
        self.broker.as_ref().map(|broker| Brokering {
            broker,
            reference: &self.credential_ref,
            scopes: &self.credential_scopes,
            environment: &*self.environment,
        })
    }

    /// In production nobody verifies tokens with the key that signs traces because a flag was forgotten.
    fn check_keys(&self, policy: &Policy) -> Result<()> {
        if self.profile == Profile::Standard {
            return Ok(());
        }
        self.check_verify_keys(
            policy.may_require_approval(),
            policy.may_require_delegation(),
        )
    }

    /// The same for tokens that are there although the policy's rules do not say that they wait for any: a call may be
    /// raised to wait by what it does.
    fn check_presented(&self, asked: &Asked) -> Result<()> {
        match self.profile {
            Profile::Standard => Ok(()),
            Profile::OssProd => {
                self.check_verify_keys(!asked.approvals.is_empty(), !asked.delegations.is_empty())
            }
        }
    }

    fn check_verify_keys(&self, approvals: bool, delegations: bool) -> Result<()> {
        let approval = self.approval_key.is_some();
        if approvals && !approval {
            return Err(invalid(
                "oss-prod profile requires explicit approval verify key (--approval-public-key/--approval-public-key-env or approval private key source)",
            ));
        }
        if delegations && self.delegation_key.is_none() && !approval {
            return Err(invalid(
                "oss-prod profile requires explicit delegation verify key (--delegation-public-key/--delegation-public-key-env or private key source)",
            ));
        }
        Ok(())
    }
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
