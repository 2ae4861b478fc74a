//! The gate as a local service: policy and key stay in memory, an intent comes in, the answer of `gate eval` goes out.
//!
//! A policy file that changes is read again before the next decision; one that cannot be read any more denies.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{SigningKey, VerifyingKey, parse_json_within};

use crate::approval::{self, Redemptions};
use crate::clock::Clock;
use crate::context_envelope::ContextEnvelope;
use crate::decision::Decision;
use crate::delegation;
use crate::gate::{Gate, Outputs, Presented, Profile, Request};
use crate::intent::Intent;
use crate::kill_switch::KillSwitch;
use crate::limits::{MAX_TOKENS, invalid};
use crate::mcp::http::exit_code;
use crate::policy::Policy;
use crate::rate_limit::Counters;

/// The largest request, in bytes.
pub const MAX_REQUEST: usize = 4 << 20;

/// What a decision looks like to a client.
pub type Render = fn(Profile, &Intent, &Decision, &[String]) -> Map<String, Value>;

/// Where the service finds everything.
pub struct Settings {
    /// The policy's file.
    pub policy: PathBuf,
    /// What policies it runs.
    pub profile: Profile,
    /// Signs the traces.
    pub key: SigningKey,
    /// Signed the approvals.
    pub approval_key: Option<VerifyingKey>,
    /// Signed the delegations.
    pub delegation_key: Option<VerifyingKey>,
    /// The kill switch.
    pub kill_switch: Option<PathBuf>,
    /// The counters behind the limits.
    pub counters: PathBuf,
    /// Where single-use approvals are remembered.
    pub redemptions: PathBuf,
    /// Where the evidence goes; without it, every answer carries its trace.
    pub trace_dir: Option<PathBuf>,
    /// What every answer warns of.
    pub warnings: Vec<String>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How a decision is shown.
    pub render: Render,
    /// Makes the name of one request.
    pub correlation_id: fn() -> String,
}

/// The service.
pub struct Daemon {
    settings: Settings,
    warm: RwLock<(Stamp, Arc<Gate>)>,
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    intent: Map<String, Value>,
    #[serde(default)]
    approval_tokens: Vec<Value>,
    #[serde(default)]
    delegation_tokens: Vec<Value>,
    #[serde(default)]
    context_envelope: Option<Map<String, Value>>,
    #[serde(default)]
    simulate: bool,
}

impl Daemon {
    /// A service that is ready to decide; refused for a policy that it would not run.
    pub fn new(settings: Settings) -> Result<Self> {
        let stamp = Stamp::of(&settings.policy)?;
        let gate = settings.gate()?;
        Ok(Self {
            warm: RwLock::new((stamp, Arc::new(gate))),
            settings,
        })
    }

    /// Decides on what a client asks.
    ///
    /// Errors let nothing pass: `invalid_input` for anything but a request, those of reading a changed policy, and
    /// those of [`Gate::decide_on`].
    pub fn eval(&self, body: &[u8], correlation_id: &str) -> Result<Map<String, Value>> {
        let asked = self.read(body)?;
        let gate = self.gate()?;
        let intent = Intent::parse(Value::Object(asked.intent).to_string().as_bytes())?;
        let envelope = asked
            .context_envelope
            .map(|envelope| ContextEnvelope::parse(Value::Object(envelope).to_string().as_bytes()));
        let envelope = envelope.transpose()?;
        let approvals = tokens(&asked.approval_tokens, approval::Token::parse)?;
        let delegations = tokens(&asked.delegation_tokens, delegation::Token::parse)?;
        let outputs = self.settings.outputs(correlation_id);
        let request = Request {
            correlation_id,
            envelope: envelope.as_ref(),
            kill_switch: self.settings.kill_switch.as_deref().map(KillSwitch::at),
            approvals: Presented {
                tokens: &approvals,
                key: self.settings.approval_key,
            },
            redemptions: Some(Redemptions::at(&self.settings.redemptions)),
            delegations: Presented {
                tokens: &delegations,
                key: self.settings.delegation_key,
            },
            counters: Some(Counters::at(&self.settings.counters)),
            simulate: asked.simulate,
            outputs: outputs.as_ref(),
            ..Request::default()
        };
        let decision = gate.decide_on(&intent, &request)?;
        Ok(self.answer(&intent, &decision, correlation_id))
    }

    /// The routes: `POST /v1/eval` and `GET /healthz`.
    pub fn router(self) -> Router {
        Router::new()
            .route("/healthz", get(health))
            .route("/v1/eval", post(respond))
            .with_state(Arc::new(self))
    }

    fn read(&self, body: &[u8]) -> Result<Asked> {
        let value = parse_json_within(body, MAX_REQUEST)
            .map_err(|fault| invalid(format!("decode request: {}", fault.message())))?;
        let asked: Asked = serde_json::from_value(value)
            .map_err(|error| invalid(format!("decode request: {error}")))?;
        let presented = asked
            .approval_tokens
            .len()
            .max(asked.delegation_tokens.len());
        if presented > MAX_TOKENS {
            return Err(invalid(format!("more than {MAX_TOKENS} tokens of a kind")));
        }
        if presented > 0 && self.settings.trace_dir.is_none() {
            return Err(invalid(
                "tokens need a service with --trace-dir, which keeps their audit",
            ));
        }
        if asked.simulate && self.settings.profile == Profile::OssProd {
            return Err(invalid("oss-prod profile does not allow simulate"));
        }
        Ok(asked)
    }

    /// The gate by the policy as it is now.
    fn gate(&self) -> Result<Arc<Gate>> {
        let stamp = Stamp::of(&self.settings.policy)?;
        let warm = self.warm.read().unwrap_or_else(PoisonError::into_inner);
        if warm.0 == stamp {
            return Ok(Arc::clone(&warm.1));
        }
        drop(warm);
        let gate = Arc::new(self.settings.gate()?);
        *self.warm.write().unwrap_or_else(PoisonError::into_inner) = (stamp, Arc::clone(&gate));
        Ok(gate)
    }

    fn answer(
        &self,
        intent: &Intent,
        decision: &Decision,
        correlation_id: &str,
    ) -> Map<String, Value> {
        let settings = &self.settings;
        let mut answer = (settings.render)(settings.profile, intent, decision, &settings.warnings);
        answer.insert("correlation_id".to_owned(), correlation_id.into());
        answer.insert("exit_code".to_owned(), exit_code(decision.verdict()).into());
        if settings.trace_dir.is_none() {
            let trace = serde_json::from_slice(decision.trace().bytes()).unwrap_or(Value::Null);
            answer.insert("trace".to_owned(), trace);
        }
        answer
    }
}

impl Settings {
    fn gate(&self) -> Result<Gate> {
        let policy = Policy::load(&self.policy)?;
        self.profile.check(&policy, false)?;
        Ok(Gate::new(policy, self.key.clone(), Arc::clone(&self.clock)))
    }

    fn outputs(&self, correlation_id: &str) -> Option<Outputs> {
        let dir = self.trace_dir.as_deref()?;
        let place = |kind: &str| Some(dir.join(format!("{kind}_{correlation_id}.json")));
        Some(Outputs {
            trace: place("trace"),
            approval_audit: place("approval_audit"),
            delegation_audit: place("delegation_audit"),
            credential_evidence: place("credential_evidence"),
        })
    }
}

impl Stamp {
    fn of(path: &Path) -> Result<Self> {
        std::fs::metadata(path)
            .map(|found| Self::from(&found))
            .map_err(|error| Fault::io(format_args!("read {}", path.display()), &error))
    }
}

impl From<&Metadata> for Stamp {
    fn from(found: &Metadata) -> Self {
        Self {
            file: (found.dev(), found.ino()),
            len: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

fn tokens<T>(values: &[Value], parse: fn(&[u8]) -> Result<T>) -> Result<Vec<T>> {
    values
        .iter()
        .map(|value| parse(value.to_string().as_bytes()))
        .collect()
}

async fn respond(State(daemon): State<Arc<Daemon>>, body: Bytes) -> Response {
    let correlation_id = (daemon.settings.correlation_id)();
    let id = correlation_id.clone();
    // A decision may write to stable storage: not on the threads that serve the sockets.
    let decided = tokio::task::spawn_blocking(move || daemon.eval(&body, &correlation_id)).await;
    let fault = match decided {
        Ok(Ok(answer)) => return json_answer(StatusCode::OK, &Value::Object(answer)),
        Ok(Err(fault)) => fault,
        Err(error) => Fault::new(
            Category::InternalFailure,
            "internal_failure",
            "the decision was cut short",
        )
        .caused_by(error),
    };
    let status = StatusCode::from_u16(fault.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut envelope = serde_json::to_value(fault.envelope(id)).unwrap_or_default();
    if let Some(envelope) = envelope.as_object_mut() {
        envelope.insert("exit_code".to_owned(), fault.gait_exit_code().into());
    }
    json_answer(status, &envelope)
}

async fn health() -> Response {
    json_answer(
        StatusCode::OK,
        &json!({ "ok": true, "service": "gait.gate.serve" }),
    )
}

fn json_answer(status: StatusCode, answer: &Value) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, format!("{answer}\n")).into_response()
}
