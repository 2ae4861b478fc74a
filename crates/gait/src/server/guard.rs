//! Who may ask.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use worldcompute_fault::{Category, Fault, Result};
use zeroize::Zeroizing;

use super::Limits;
use crate::environment::Environment;

/// The shortest token: short ones can be tried out.
const MIN_TOKEN: usize = 16;

/// The secret that a client has to present as `Authorization: Bearer <token>`. Never shown.
#[derive(Clone)]
pub struct Token(Arc<Zeroizing<String>>);

/// The rules for requests.
#[derive(Clone)]
pub struct Guard {
    /// What a client has to present; nothing where only its owner can connect.
    pub token: Option<Token>,
    /// Whether the service is reached by a name that only this machine gives it.
    pub loopback: bool,
    /// What a client may take.
    pub limits: Limits,
}

impl Token {
    /// The token in the environment variable `name`.
    ///
    /// Reasons: `token_unset`, and `token_too_short` for one of fewer than 16 bytes.
    pub fn from_variable(name: &str, environment: &dyn Environment) -> Result<Self> {
        let value = environment.setting(name).map(Zeroizing::new);
        let Some(value) = value else {
            return Err(refused(
                "--auth-token-env did not resolve to a non-empty value",
                "token_unset",
            ));
        };
        if value.len() < MIN_TOKEN {
            return Err(refused(
                "the token has fewer than 16 bytes",
                "token_too_short",
            ));
        }
        Ok(Self(Arc::new(value)))
    }

    /// A token that was just made.
    pub fn new(text: Zeroizing<String>) -> Self {
        Self(Arc::new(text))
    }

    /// The text, for the file that its owner reads it from.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn is(&self, presented: &str) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(presented.as_bytes(), self.0.as_bytes())
            .is_ok()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

fn refused(message: &str, reason: &'static str) -> Fault {
    Fault::new(Category::InvalidInput, "invalid_input", message).because(
        reason,
        "put a random token of at least 16 bytes into that variable",
    )
}

impl Guard {
    pub(super) fn around(self, router: Router) -> Router {
        router
            // The limit is this guard's own.
            .layer(DefaultBodyLimit::disable())
            .layer(middleware::from_fn_with_state(Arc::new(self), check))
    }

    /// A page in a browser can reach a local service, but only under a name of its own and without this content type.
    fn refuses(&self, request: &Request) -> Option<(StatusCode, &'static str)> {
        let headers = request.headers();
        if self.loopback && !host(headers).is_none_or(is_local_name) {
            return Some((
                StatusCode::MISDIRECTED_REQUEST,
                "the host is not this service",
            ));
        }
        if headers.contains_key(header::ORIGIN) {
            return Some((
                StatusCode::FORBIDDEN,
                "requests of web pages are not answered",
            ));
        }
        if request.method() == Method::GET {
            return None;
        }
        if let Some(token) = &self.token {
            match bearer(headers) {
                None => return Some((StatusCode::UNAUTHORIZED, "missing bearer authorization")),
                Some(presented) if !token.is(presented) => {
                    return Some((StatusCode::UNAUTHORIZED, "invalid bearer authorization"));
                }
                Some(_) => {}
            }
        }
        let media = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let media = media.map(|media| media.split(';').next().unwrap_or_default().trim());
        match media {
            Some(media) if media.eq_ignore_ascii_case("application/json") => None,
            _ => Some((
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "content-type must be application/json",
            )),
        }
    }
}

async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    if let Some((status, why)) = guard.refuses(&request) {
        return refusal(status, why);
    }
    let limits = guard.limits;
    let (head, body) = request.into_parts();
    // A client that says how much it sends is answered before it sends it.
    if body.size_hint().lower() > limits.body_bytes as u64 {
        return too_large();
    }
    let read = to_bytes(body, limits.body_bytes);
    match tokio::time::timeout(limits.body_time, read).await {
        Err(_) => refusal(StatusCode::REQUEST_TIMEOUT, "the request took too long"),
        Ok(Err(_)) => too_large(),
        Ok(Ok(bytes)) => next.run(Request::from_parts(head, Body::from(bytes))).await,
    }
}

fn too_large() -> Response {
    refusal(
        StatusCode::PAYLOAD_TOO_LARGE,
        "request body exceeds max-request-bytes",
    )
}

fn refusal(status: StatusCode, why: &str) -> Response {
    let code = match status {
        StatusCode::UNAUTHORIZED => "unauthorized",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        _ => "request_refused",
    };
    let body = serde_json::json!({ "ok": false, "error": why, "error_code": code, "error_category": "invalid_input", "retryable": false });
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        format!("{body}\n"),
    )
        .into_response()
}

fn host(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(header::HOST)
        .map(|host| host.to_str().unwrap_or("?"))
}

/// `localhost` or a loopback address, with any port: names that no foreign name server can give away.
fn is_local_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    Some(value.trim().strip_prefix("Bearer ")?.trim())
}
