//! Rulings over HTTP: `POST /v1/evaluate` as JSON, `/v1/evaluate/sse` as a server-sent event, `/v1/evaluate/stream` as a
//! line of JSON; `GET /healthz`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::parse_json_within;

use super::adapter::Adapter;
use super::boundary::{Boundary, Ruling};
use super::call::ToolCall;
use super::keep::{Asked, Keeping, Places, Wish};
use super::retention::Retention;
use crate::limits::{from_value, invalid};
use crate::server::Turns;
use crate::verdict::Verdict;

/// The service.
pub struct Service {
    /// Rules on the calls.
    pub boundary: Boundary,
    /// The shape of a call that names none.
    pub adapter: Adapter,
    /// Where the traces go.
    pub trace_dir: PathBuf,
    /// What else is kept.
    pub keeping: Keeping,
    /// What of it is deleted again.
    pub retention: Vec<Retention>,
    /// One request at a time deletes.
    pub sweeping: Mutex<()>,
    /// Whether a client may say where its evidence goes.
    pub client_paths: bool,
    /// Whether the status says what the verdict is.
    pub strict_status: bool,
    /// The largest request, in bytes.
    pub max_request_bytes: usize,
    /// Makes the name of one request.
    pub correlation_id: fn() -> String,
    /// Who is ruled on.
    pub turns: Turns,
}

#[derive(Clone, Copy)]
enum Form {
    Json,
    Event,
    Line,
}

/// What a client may ask for. Paths are the server's business, unless its operator gives them away.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    #[serde(default)]
    adapter: String,
    call: Map<String, Value>,
    #[serde(default)]
    run_id: String,
    #[serde(default)]
    session_id: String,
    #[serde(default)]
    checkpoint_interval: u32,
    #[serde(default)]
    emit_runpack: bool,
    #[serde(default)]
    emit_pack: bool,
    #[serde(default)]
    trace_path: String,
    #[serde(default)]
    runpack_out: String,
    #[serde(default)]
    pack_out: String,
    #[serde(default)]
    session_journal: String,
}

impl Request {
    const fn wish(&self) -> Wish {
        Wish {
            runpack: self.emit_runpack,
            pack: self.emit_pack,
            checkpoint_interval: self.checkpoint_interval,
        }
    }

    /// The paths of a client that may name some.
    ///
    /// `invalid_input` for one that may not, and for a path that is taken: what a client names never takes the place of
    /// a file. Only a journal goes on.
    fn places(&self, allowed: bool) -> Result<Places> {
        let place = |member: &str, path: &str| match path.trim() {
            "" => Ok(None),
            path if allowed => Ok(Some(PathBuf::from(path))),
            _ => Err(paths_not_allowed(member)),
        };
        let places = Places {
            trace: place("trace_path", &self.trace_path)?,
            runpack: place("runpack_out", &self.runpack_out)?,
            pack: place("pack_out", &self.pack_out)?,
            journal: place("session_journal", &self.session_journal)?,
        };
        let new = [&places.trace, &places.runpack, &places.pack];
        for path in new.into_iter().flatten() {
            check_free(path)?;
        }
        Ok(places)
    }
}

impl Service {
    /// Rules on what a client asks, and answers as the routes do.
    ///
    /// Errors let nothing pass: `invalid_input` for anything but a request, those of [`Boundary::decide`], and those of
    /// keeping what the client wants kept.
    pub fn rule(&self, body: &[u8], correlation_id: &str) -> Result<(Verdict, Value)> {
        let started = Instant::now();
        let request = self.read(body)?;
        let wish = request.wish();
        self.keeping.check(wish)?;
        let places = request.places(self.client_paths)?;
        let (adapter, call) = self.call(&request)?;
        let own = |run: &str| {
            self.trace_dir
                .join(format!("trace_{run}_{correlation_id}.json"))
        };
        let place = |run: &str| places.trace.clone().unwrap_or_else(|| own(run));
        let run = self.run(&request, &call);
        let mut ruling = self.boundary.decide(&call, run, correlation_id, place)?;
        let latency = elapsed_ms(started);
        let asked = Asked {
            wish,
            places: &places,
            correlation_id,
            latency_ms: latency,
        };
        let kept = self.keeping.keep(&self.boundary, &ruling, &asked)?;
        ruling.warnings.extend(self.sweep());
        let verdict = ruling.decision.verdict();
        let mut answer = ruling.to_value(adapter, latency);
        answer.extend(kept);
        answer.insert("correlation_id".to_owned(), correlation_id.into());
        answer.insert("exit_code".to_owned(), exit_code(verdict).into());
        Ok((verdict, Value::Object(answer)))
    }

    /// The routes.
    pub fn router(self) -> Router {
        let service = Arc::new(self);
        let evaluate = |form| {
            post(
                move |State(service): State<Arc<Self>>, body: Bytes| async move {
                    service.evaluate(body, form).await
                },
            )
        };
        Router::new()
            .route("/healthz", get(health))
            .route("/v1/evaluate", evaluate(Form::Json))
            .route("/v1/evaluate/sse", evaluate(Form::Event))
            .route("/v1/evaluate/stream", evaluate(Form::Line))
            .with_state(service)
    }

    async fn evaluate(self: Arc<Self>, body: Bytes, form: Form) -> Response {
        let correlation_id = (self.correlation_id)();
        let id = correlation_id.clone();
        // A ruling signs and writes to stable storage: not on the threads that serve the sockets.
        let turn = self.turns.turn().await;
        let ruled = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let answer = self.rule(&body, &correlation_id);
            answer.map(|(verdict, answer)| (self.status(verdict), answer))
        });
        match ruled.await {
            Ok(Ok((status, answer))) => form.answer(status, &answer),
            Ok(Err(fault)) => refusal(&fault, &id),
            Err(error) => {
                let fault = Fault::new(
                    Category::InternalFailure,
                    "internal_failure",
                    "the ruling was cut short",
                );
                refusal(&fault.caused_by(error), &id)
            }
        }
    }

    /// Deletes what is kept no longer. The ruling stands whatever comes of it.
    fn sweep(&self) -> Vec<String> {
        let _one = self.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
        let clock = self.boundary.clock();
        let swept = self.retention.iter().map(|kept| kept.sweep(clock));
        swept.flatten().collect()
    }

    fn call(&self, request: &Request) -> Result<(Adapter, ToolCall)> {
        let adapter = match request.adapter.trim() {
            "" => self.adapter,
            name => Adapter::parse(name)?,
        };
        let mut call = adapter.read(Value::Object(request.call.clone()))?;
        if !request.session_id.trim().is_empty() {
            call.context
                .intent
                .session_id
                .clone_from(&request.session_id);
        }
        Ok((adapter, call))
    }

    /// The run that the call belongs to. All calls of a session that is kept are one, unless they say otherwise.
    fn run<'a>(&self, request: &'a Request, call: &'a ToolCall) -> &'a str {
        let context = &call.context.intent;
        let told = [&request.run_id, &context.run_id];
        match told.iter().all(|run| run.trim().is_empty()) && self.keeping.sessions.is_some() {
            true => &context.session_id,
            false => &request.run_id,
        }
    }

    fn read(&self, body: &[u8]) -> Result<Request> {
        let value = parse_json_within(body, self.max_request_bytes)
            .map_err(|fault| invalid(format!("decode request: {}", fault.message())))?;
        from_value("decode request", value)
    }

    fn status(&self, verdict: Verdict) -> StatusCode {
        match verdict {
            _ if !self.strict_status => StatusCode::OK,
            Verdict::Allow => StatusCode::OK,
            Verdict::Block => StatusCode::FORBIDDEN,
            Verdict::RequireApproval | Verdict::DryRun => StatusCode::CONFLICT,
        }
    }
}

fn paths_not_allowed(member: &str) -> Fault {
    invalid(format!(
        "request.{member} is not allowed by server configuration"
    ))
    .because(
        "client_paths_off",
        "leave the path out, or start the service with --allow-client-artifact-paths",
    )
}

/// Also a link that leads nowhere is in the way.
fn check_free(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Fault::io(
            format_args!("look at {}", path.display()),
            &error,
        )),
        Ok(_) => Err(invalid(format!("{} is taken", path.display()))
            .because("output_exists", "name a path at which nothing is")),
    }
}

impl Ruling {
    /// The ruling as `mcp proxy` prints it; what is empty is left out.
    pub fn to_value(&self, adapter: Adapter, latency_ms: u64) -> Map<String, Value> {
        let decision = &self.decision;
        let members = json!({
            "adapter": adapter.as_str(),
            "decision_latency_ms": latency_ms,
            "denied_by": decision.denied_by(),
            "executed": false,
            "intent_digest": decision.intent_digest(),
            "mcp_trust": self.trust,
            "ok": true,
            "policy_digest": decision.policy_digest(),
            "reason_codes": decision.reason_codes(),
            "run_id": self.run_id,
            "session_id": self.intent.context().session_id,
            "tool_name": self.intent.tool_name(),
            "trace_id": decision.trace().trace_id(),
            "trace_path": self.trace_path,
            "verdict": decision.verdict(),
            "violations": decision.violations(),
            "warnings": self.warnings,
        });
        let Value::Object(members) = members else {
            return Map::new();
        };
        members
            .into_iter()
            .filter(|(_, value)| says_something(value))
            .collect()
    }
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Number(number) => number.as_u64() != Some(0),
        _ => true,
    }
}

/// The exit code that the command line has for a verdict.
pub fn exit_code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Allow | Verdict::DryRun => 0,
        Verdict::Block => Category::PolicyBlocked.gait_exit(),
        Verdict::RequireApproval => Category::ApprovalRequired.gait_exit(),
    }
}

/// Whole milliseconds since `started`.
pub fn elapsed_ms(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Form {
    fn answer(self, status: StatusCode, answer: &Value) -> Response {
        let (kind, body) = match self {
            Self::Json => ("application/json", format!("{answer}\n")),
            Self::Event => (
                "text/event-stream",
                format!("event: evaluate\ndata: {answer}\n\n"),
            ),
            Self::Line => ("application/x-ndjson", format!("{answer}\n")),
        };
        (
            status,
            [
                (header::CONTENT_TYPE, kind),
                (header::CACHE_CONTROL, "no-store"),
            ],
            Body::from(body),
        )
            .into_response()
    }
}

fn refusal(fault: &Fault, correlation_id: &str) -> Response {
    let status = StatusCode::from_u16(fault.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let envelope = serde_json::to_value(fault.envelope(correlation_id)).unwrap_or_default();
    Form::Json.answer(status, &envelope)
}

async fn health() -> Response {
    let health = json!({ "ok": true, "service": "gait.mcp.serve" });
    Form::Json.answer(StatusCode::OK, &health)
}
