//! How strict a gate is about its own settings.

use worldcompute_fault::Result;

use crate::intent::Intent;
use crate::limits::invalid;
use crate::policy::Policy;
use crate::verdict::Verdict;

/// A set of demands on the settings of a gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// What the flags say.
    #[default]
    Standard,
    /// What production needs: real keys, no default allow, brokered credentials for high risk.
    OssProd,
}

impl Profile {
    /// Reads `standard` or `oss-prod`; empty is standard.
    pub fn parse(text: &str) -> Result<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "" | "standard" => Ok(Self::Standard),
            "oss-prod" => Ok(Self::OssProd),
            _ => Err(invalid(format!("unsupported profile: {text:?}")).because(
                "profile_unsupported",
                "use --profile standard or --profile oss-prod",
            )),
        }
    }

    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::OssProd => "oss-prod",
        }
    }

    /// Refuses a policy that this profile does not run: `invalid_input`.
    pub fn check(self, policy: &Policy, has_broker: bool) -> Result<()> {
        if self == Self::Standard {
            return Ok(());
        }
        if policy.default_verdict() == Verdict::Allow {
            let message = "oss-prod profile rejects policy default_verdict=allow; \
                           use default_verdict: block or require_approval";
            return Err(invalid(message).because(
                "profile_default_allow",
                "set default_verdict to block or require_approval",
            ));
        }
        let unbrokered = policy.unbrokered_high_risk_rules();
        if !unbrokered.is_empty() {
            let message = format!(
                "oss-prod profile requires high-risk allow/approval rules to set \
                 require_broker_credential: true: {}",
                unbrokered.join(", ")
            );
            return Err(invalid(message).because(
                "profile_unbrokered_high_risk",
                "set require_broker_credential: true on the rules named in the error",
            ));
        }
        if policy.has_brokered_high_risk_rule() && !has_broker {
            let message = "oss-prod profile requires --credential-broker for high-risk policies";
            return Err(invalid(message).because(
                "profile_broker_required",
                "choose a broker with --credential-broker",
            ));
        }
        Ok(())
    }

    /// Whether an input that cannot be read blocks the intent rather than being left out.
    pub fn fails_closed_on(self, intent: &Intent) -> bool {
        let risk = intent.context().risk_class.as_str();
        self == Self::OssProd || matches!(risk, "high" | "critical")
    }
}
