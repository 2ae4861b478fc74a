//! The gate as a local service: policy and key stay in memory, an intent comes in, the answer of `gate eval` goes out.
//!
//! It decides at the same [`Desk`] as the command. A file that changes is read again before the next decision; a policy
//! that cannot be read any more denies.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::parse_json_within;

use crate::approval;
use crate::context_envelope::ContextEnvelope;
use crate::delegation;
use crate::desk::{Answer, Asked, Desk};
use crate::gate::{Outputs, Profile};
use crate::intent::Intent;
use crate::limits::{MAX_TOKENS, from_value, invalid};
use crate::mcp::http::exit_code;
use crate::server::Turns;

/// The largest request, in bytes.
pub const MAX_REQUEST: usize = 4 << 20;

/// How the command shows what it has to say; the service says it in the same bytes.
#[derive(Clone, Copy)]
pub struct Face {
    /// The fields of an answer.
    pub fields: fn(Profile, &Intent, &Answer) -> Map<String, Value>,
    /// The line that has these fields, the correlation id, and why it failed if it did.
    pub line: fn(&str, Map<String, Value>, Option<&Fault>) -> String,
    /// Makes the name of one request.
    pub correlation_id: fn() -> String,
}

/// The service.
pub struct Daemon {
    desk: Desk,
    trace_dir: Option<PathBuf>,
    face: Face,
    turns: Turns,
    simulates: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    intent: Map<String, Value>,
    #[serde(default)]
    approval_tokens: Vec<Value>,
    #[serde(default)]
    approval_ref: String,
    #[serde(default)]
    delegation_tokens: Vec<Value>,
    #[serde(default)]
    context_envelope: Option<Map<String, Value>>,
    #[serde(default)]
    simulate: bool,
    #[serde(default)]
    why_not: bool,
}

impl Daemon {
    /// A service that decides at `desk` and puts the evidence into `trace_dir`; without one, every answer carries its
    /// trace.
    ///
    /// `invalid_input` for a broker whose evidence would have no place.
    pub fn new(desk: Desk, trace_dir: Option<PathBuf>, face: Face) -> Result<Self> {
        if trace_dir.is_none() && desk.setup().broker.is_some() {
            return Err(invalid(
                "--credential-broker needs --trace-dir, which keeps the evidence of credentials",
            ));
        }
        Ok(Self {
            desk,
            trace_dir,
            face,
            turns: Turns::default(),
            simulates: false,
        })
    }

    /// Lets clients ask what would be decided, which only the operator may: the answer to that is always allow.
    pub const fn simulating(mut self, allowed: bool) -> Self {
        self.simulates = allowed;
        self
    }

    /// Decides on what a client asks.
    ///
    /// Errors let nothing pass: `invalid_input` for anything but a request, and those of [`Desk::decide`].
    pub fn eval(&self, body: &[u8], correlation_id: &str) -> Result<Map<String, Value>> {
        let asked = self.read(body)?;
        let outputs = self.outputs(correlation_id);
        let answer = self.desk.decide(&asked, correlation_id, outputs.as_ref())?;
        Ok(self.fields(&asked.intent, &answer))
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
        let body: Body = from_value("decode request", value)?;
        self.check(&body)?;
        let intent = Intent::parse(Value::Object(body.intent).to_string().as_bytes())?;
        let envelope = body
            .context_envelope
            .map(|envelope| ContextEnvelope::parse(Value::Object(envelope).to_string().as_bytes()));
        Ok(Asked {
            intent,
            envelope: envelope.transpose()?,
            approvals: tokens(&body.approval_tokens, approval::Token::parse)?,
            delegations: tokens(&body.delegation_tokens, delegation::Token::parse)?,
            approval_ref: body.approval_ref,
            simulate: body.simulate,
            why_not: body.why_not,
        })
    }

    fn check(&self, body: &Body) -> Result<()> {
        let setup = self.desk.setup();
        let presented = body.approval_tokens.len().max(body.delegation_tokens.len());
        if presented > MAX_TOKENS {
            return Err(invalid(format!("more than {MAX_TOKENS} tokens of a kind")));
        }
        if presented > 0 && self.trace_dir.is_none() {
            return Err(invalid(
                "tokens need a service with --trace-dir, which keeps their audit",
            ));
        }
        if body.context_envelope.is_some() && setup.envelope.is_some() {
            return Err(invalid("the service has a context envelope of its own"));
        }
        if body.simulate && !self.simulates {
            return Err(invalid("the service does not simulate").because(
                "simulation_not_allowed",
                "ask its operator for a service with --allow-simulate",
            ));
        }
        Ok(())
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

    fn fields(&self, intent: &Intent, answer: &Answer) -> Map<String, Value> {
        let decision = &answer.decision;
        let mut fields = (self.face.fields)(self.desk.setup().profile, intent, answer);
        fields.insert("exit_code".to_owned(), exit_code(decision.verdict()).into());
        if self.trace_dir.is_none() {
            let trace = serde_json::from_slice(decision.trace().bytes()).unwrap_or(Value::Null);
            fields.insert("trace".to_owned(), trace);
        }
        fields
    }

    fn refusal(&self, fault: &Fault, correlation_id: &str) -> String {
        let fields = Map::from_iter([("exit_code".to_owned(), fault.gait_exit_code().into())]);
        (self.face.line)(correlation_id, fields, Some(fault))
    }
}

fn tokens<T>(values: &[Value], parse: fn(&[u8]) -> Result<T>) -> Result<Vec<T>> {
    values
        .iter()
        .map(|value| parse(value.to_string().as_bytes()))
        .collect()
}

async fn respond(State(daemon): State<Arc<Daemon>>, body: Bytes) -> Response {
    let id = (daemon.face.correlation_id)();
    // A decision may write to stable storage: not on the threads that serve the sockets.
    let answering = Arc::clone(&daemon);
    let named = id.clone();
    let turn = daemon.turns.turn().await;
    let decided = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        answering.answer(&body, &named)
    })
    .await;
    let (status, line) = decided.unwrap_or_else(|error| {
        let fault = Fault::new(
            Category::InternalFailure,
            "internal_failure",
            "the decision was cut short",
        );
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            daemon.refusal(&fault.caused_by(error), &id),
        )
    });
    json_line(status, line)
}

impl Daemon {
    fn answer(&self, body: &[u8], id: &str) -> (StatusCode, String) {
        match self.eval(body, id) {
            Ok(fields) => (StatusCode::OK, (self.face.line)(id, fields, None)),
            Err(fault) => {
                let status = StatusCode::from_u16(fault.http());
                let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                (status, self.refusal(&fault, id))
            }
        }
    }
}

async fn health() -> Response {
    let health = json!({ "ok": true, "service": "gait.gate.serve" });
    json_line(StatusCode::OK, health.to_string())
}

fn json_line(status: StatusCode, mut line: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    line.push('\n');
    (status, headers, line).into_response()
}
