//! One tool call, whatever shape it came in.

use serde::Deserialize;
use serde_json::{Map, Value};
use worldcompute_fault::Result;

use crate::intent::{
    ArgProvenance, Context, Delegation, Intent, IntentDraft, Script, ScriptStep, Target,
};
use crate::limits::invalid;
use crate::mcp_trust::Server;
use crate::wire_time::WireTime;

use super::adapter::named_targets;
use super::oauth::OauthEvidence;

/// Who calls when the call does not say.
const IDENTITY: &str = "mcp-proxy";
/// From where.
const WORKSPACE: &str = ".";
/// At what risk: of a call that says nothing, nothing is known.
pub(super) const RISK_CLASS: &str = "high";
/// 1980-01-01, the time of a call that does not say when it was made.
const UNDATED: jiff::Timestamp = jiff::Timestamp::constant(315_532_800, 0);

/// A tool call.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ToolCall {
    /// The tool.
    pub name: String,
    /// Its arguments.
    pub args: Option<Map<String, Value>>,
    /// Several calls to be judged as one.
    pub script: Option<ScriptCall>,
    /// What the call touches, in one word.
    pub target: String,
    /// What the call touches.
    pub targets: Vec<Target>,
    /// Where the arguments come from.
    pub arg_provenance: Vec<ArgProvenance>,
    /// Who calls.
    pub context: CallContext,
    /// On whose authority.
    pub delegation: Option<Delegation>,
    /// The server that offers the tool.
    pub server: Option<Server>,
    /// When the call was made.
    pub created_at: WireTime,
    /// Why the call is stopped whatever the policy says, as stable codes; never part of what a caller writes.
    #[serde(skip)]
    pub stops: Vec<String>,
    /// Whether its targets were found in its arguments, and nobody declared them.
    #[serde(skip)]
    pub(super) is_spelt_out: bool,
}

/// Several calls to be judged as one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ScriptCall {
    steps: Vec<StepCall>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct StepCall {
    name: String,
    args: Option<Map<String, Value>>,
    targets: Vec<Target>,
    arg_provenance: Vec<ArgProvenance>,
}

/// Who calls, from where, at what risk, and how they proved who they are.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct CallContext {
    /// What the policy asks about.
    #[serde(flatten)]
    pub intent: Context,
    /// `off`, `none`, `token`, `oauth` or `oauth_dcr`.
    pub auth_mode: String,
    /// What an OAuth server said.
    pub oauth_evidence: Option<OauthEvidence>,
}

impl ToolCall {
    /// A call of the tool `name`.
    pub fn new(name: impl Into<String>, args: Map<String, Value>) -> Self {
        Self {
            name: name.into(),
            args: Some(args),
            ..Self::default()
        }
    }

    /// The intent behind the call. With `strict`, whatever the call leaves out about its context is refused instead of
    /// assumed.
    pub fn intent(&self, strict: bool) -> Result<Intent> {
        let name = self.name.trim();
        let script = self
            .script
            .as_ref()
            .filter(|script| !script.steps.is_empty());
        if name.is_empty() && script.is_none() {
            return Err(invalid("tool call name is required"));
        }
        let created_at = self.created_at.get().unwrap_or(UNDATED);
        IntentDraft {
            created_at: WireTime::at(created_at),
            tool_name: script.map_or(name, |_| "script").to_owned(),
            args: script.map_or_else(|| self.args.clone().unwrap_or_default(), |_| Map::new()),
            script: script.map(ScriptCall::script).transpose()?,
            targets: self.all_targets(),
            arg_provenance: self.arg_provenance.clone(),
            delegation: self.delegation.clone(),
            context: self.context(strict)?,
            ..IntentDraft::default()
        }
        .normalise()
    }

    /// The same call with all that its arguments name among what it touches; `None` where that is so already.
    pub(super) fn spelt_out(&self) -> Option<Self> {
        let mut fuller = self.clone();
        fuller.targets = self.all_targets();
        let mut found = !self.is_spelt_out && name_all(self.args.as_ref(), &mut fuller.targets);
        for step in fuller
            .script
            .iter_mut()
            .flat_map(|script| &mut script.steps)
        {
            found |= name_all(step.args.as_ref(), &mut step.targets);
        }
        found.then_some(fuller)
    }

    /// Whether the context has to be made up for.
    pub fn lacks_context(&self) -> bool {
        let context = &self.context.intent;
        [&context.identity, &context.workspace, &context.session_id]
            .into_iter()
            .any(|field| field.trim().is_empty())
    }

    fn all_targets(&self) -> Vec<Target> {
        let single = self.target.trim();
        match self.targets.is_empty() && !single.is_empty() {
            true => vec![guessed(single)],
            false => self.targets.clone(),
        }
    }

    fn context(&self, strict: bool) -> Result<Context> {
        let mut context = self.context.intent.clone();
        if strict {
            required("identity", &context.identity)?;
            required("workspace", &context.workspace)?;
            required("session_id", &context.session_id)?;
        }
        fall_back(&mut context.identity, IDENTITY);
        fall_back(&mut context.workspace, WORKSPACE);
        fall_back(&mut context.risk_class, RISK_CLASS);
        let auth_mode = self.context.auth_mode.trim();
        if !auth_mode.is_empty() {
            context
                .auth_context
                .insert("auth_mode".to_owned(), auth_mode.into());
        }
        if let Some(evidence) = &self.context.oauth_evidence {
            context
                .auth_context
                .insert("oauth_evidence".to_owned(), evidence.to_value());
        }
        Ok(context)
    }
}

impl ScriptCall {
    fn script(&self) -> Result<Script> {
        let steps: Result<Vec<ScriptStep>> =
            self.steps.iter().enumerate().map(StepCall::step).collect();
        Ok(Script { steps: steps? })
    }
}

impl StepCall {
    fn step((index, call): (usize, &Self)) -> Result<ScriptStep> {
        let name = call.name.trim();
        if name.is_empty() {
            return Err(invalid(format!("script.steps[{index}].name is required")));
        }
        Ok(ScriptStep {
            tool_name: name.to_owned(),
            args: call.args.clone().unwrap_or_default(),
            targets: call.targets.clone(),
            arg_provenance: call.arg_provenance.clone(),
        })
    }
}

/// Adds what `args` name to `targets`; whether anything was missing.
fn name_all(args: Option<&Map<String, Value>>, targets: &mut Vec<Target>) -> bool {
    let mut named = args.map(named_targets).unwrap_or_default();
    named.retain(|name| !targets.iter().any(|known| is_said_by(name, known)));
    let found = !named.is_empty();
    targets.append(&mut named);
    found
}

/// Whether `known` is what an argument names, also where a caller says from where on a path is relative.
fn is_said_by(named: &Target, known: &Target) -> bool {
    let (named_value, known_value) = (named.value.as_str(), known.value.trim());
    let is_relative = named.kind == "path" && !named_value.starts_with(['/', '~']);
    let front = known_value.strip_suffix(named_value);
    known_value == named_value || (is_relative && front.is_some_and(|front| front.ends_with('/')))
}

/// A target of which only the name is given.
fn guessed(value: &str) -> Target {
    let kind = match value {
        value if value.contains("://") => "url",
        value if value.contains('/') => "path",
        _ => "host",
    };
    Target {
        kind: kind.to_owned(),
        value: value.to_owned(),
        ..Target::default()
    }
}

fn required(field: &str, value: &str) -> Result<()> {
    match value.trim().is_empty() {
        true => Err(invalid(format!(
            "context.{field} is required in strict profile"
        ))),
        false => Ok(()),
    }
}

fn fall_back(field: &mut String, default: &str) {
    if field.trim().is_empty() {
        default.clone_into(field);
    }
}
