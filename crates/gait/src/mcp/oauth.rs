//! What an OAuth server said about a caller, and what of it production asks for.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use worldcompute_fault::Result;

use super::call::CallContext;
use crate::limits::invalid;
use crate::text;
use crate::wire_time::WireTime;

/// The evidence, without any token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OauthEvidence {
    #[serde(skip_serializing_if = "String::is_empty")]
    issuer: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    audience: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    subject: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    client_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    token_type: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    dcr_client_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    redirect_uri: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    token_binding: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    auth_time: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    evidence_ref: String,
}

impl OauthEvidence {
    pub(super) fn to_value(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn missing(&self, registered: bool) -> Vec<&'static str> {
        let blank = |text: &str| text.trim().is_empty();
        let none = |list: &[String]| list.iter().all(|text| blank(text));
        let fields = [
            ("issuer", blank(&self.issuer)),
            ("audience", none(&self.audience)),
            ("subject", blank(&self.subject)),
            ("client_id", blank(&self.client_id)),
            ("token_type", blank(&self.token_type)),
            ("scopes", none(&self.scopes)),
            ("redirect_uri", blank(&self.redirect_uri)),
            ("evidence_ref", blank(&self.evidence_ref)),
            ("dcr_client_id", registered && blank(&self.dcr_client_id)),
            ("token_binding", registered && blank(&self.token_binding)),
            ("auth_time", blank(&self.auth_time)),
        ];
        fields
            .into_iter()
            .filter_map(|(name, missing)| missing.then_some(name))
            .collect()
    }
}

/// Checks how the caller says they proved who they are; with `strict`, that they did.
pub(super) fn check(context: &CallContext, strict: bool) -> Result<()> {
    let mode = mode(context)?;
    let registered = match mode.as_str() {
        "" | "off" | "none" | "token" => return Ok(()),
        "oauth" => false,
        "oauth_dcr" => true,
        _ => {
            return Err(invalid(
                "context.auth_mode must be one of off|none|token|oauth|oauth_dcr",
            ));
        }
    };
    if !strict {
        return Ok(());
    }
    let evidence = evidence(context)
        .ok_or_else(|| invalid("oss-prod with OAuth auth mode requires context.oauth_evidence"))?;
    let missing = evidence.missing(registered);
    if !missing.is_empty() {
        return Err(invalid(format!(
            "missing OAuth evidence fields: {}",
            missing.join(", ")
        )));
    }
    match WireTime::parse(evidence.auth_time.trim()) {
        Some(_) => Ok(()),
        None => Err(invalid("context.oauth_evidence.auth_time must be RFC3339")),
    }
}

/// The mode that the caller names, in whichever place; where they name none, evidence of OAuth tells it.
fn mode(context: &CallContext) -> Result<String> {
    let embedded = |name| match context.intent.auth_context.get(name) {
        Some(Value::String(mode)) => text::trim_lower(mode),
        _ => String::new(),
    };
    let declared = text::trim_lower(&context.auth_mode);
    let mut named = [declared, embedded("auth_mode"), embedded("oauth_mode")]
        .into_iter()
        .filter(|mode| !mode.is_empty());
    match named.next() {
        Some(mode) if named.all(|other| other == mode) => Ok(mode),
        Some(_) => Err(invalid("context names two auth modes")),
        None if evidence(context).is_some() => Ok("oauth".to_owned()),
        None => Ok(String::new()),
    }
}

fn evidence(context: &CallContext) -> Option<OauthEvidence> {
    let embedded = || {
        let value = context.intent.auth_context.get("oauth_evidence")?;
        OauthEvidence::deserialize(value).ok()
    };
    context.oauth_evidence.clone().or_else(embedded)
}
