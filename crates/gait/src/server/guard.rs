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
    /// Makes the name of one refusal.
    pub correlation_id: fn() -> String,
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
        let guard = Arc::new(self);
        let (nowhere, otherwise) = (Arc::clone(&guard), Arc::clone(&guard));
        router
            .fallback(move || async move { nowhere.refuse(&NO_SUCH_PATH) })
            .method_not_allowed_fallback(move || async move { otherwise.refuse(&OTHER_METHOD) })
            // The limit is this guard's own.
            .layer(DefaultBodyLimit::disable())
            .layer(middleware::from_fn_with_state(guard, check))
    }

    /// A page in a browser can reach a local service, but only under a name of its own, and it says that it is one.
    fn refuses(&self, request: &Request) -> Option<&'static Refusal> {
        let headers = request.headers();
        if self.loopback && !host(headers).is_none_or(is_local_name) {
            return Some(&OTHER_HOST);
        }
        if headers.contains_key(header::ORIGIN) {
            return Some(&WEB_PAGE);
        }
        if request.method() == Method::GET {
            return None;
        }
        if let Some(token) = &self.token {
            match bearer(headers) {
                None => return Some(&NO_TOKEN),
                Some(presented) if !token.is(presented) => return Some(&WRONG_TOKEN),
                Some(_) => {}
            }
        }
        (!may_be_json(headers)).then_some(&OTHER_MEDIA_TYPE)
    }

    fn refuse(&self, refusal: &Refusal) -> Response {
        let fault =
            Fault::new(Category::InvalidInput, refusal.code, refusal.why).hint(refusal.hint);
        let envelope = fault.envelope((self.correlation_id)());
        let headers = [
            (header::CONTENT_TYPE, "application/json"),
            (header::CACHE_CONTROL, "no-store"),
        ];
        let line = format!("{}\n", serde_json::json!(envelope));
        (refusal.status, headers, line).into_response()
    }
}

async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    if let Some(refusal) = guard.refuses(&request) {
        return guard.refuse(refusal);
    }
    let limits = guard.limits;
    let (head, body) = request.into_parts();
    // A client that says how much it sends is answered before it sends it.
    if body.size_hint().lower() > limits.body_bytes as u64 {
        return guard.refuse(&TOO_LARGE);
    }
    let read = to_bytes(body, limits.body_bytes);
    match tokio::time::timeout(limits.body_time, read).await {
        Err(_) => guard.refuse(&TOO_SLOW),
        Ok(Err(_)) => guard.refuse(&TOO_LARGE),
        Ok(Ok(bytes)) => next.run(Request::from_parts(head, Body::from(bytes))).await,
    }
}

/// Why a request is not answered.
struct Refusal {
    status: StatusCode,
    code: &'static str,
    why: &'static str,
    hint: &'static str,
}

const REFUSED: &str = "request_refused";
const UNAUTHORIZED: &str = "unauthorized";
const PRESENT_TOKEN: &str = "send Authorization: Bearer with the token of the service";

const OTHER_HOST: Refusal = Refusal {
    status: StatusCode::MISDIRECTED_REQUEST,
    code: REFUSED,
    why: "the host is not this service",
    hint: "ask for localhost or a loopback address",
};
const WEB_PAGE: Refusal = Refusal {
    status: StatusCode::FORBIDDEN,
    code: REFUSED,
    why: "requests of web pages are not answered",
    hint: "ask from a program, without an Origin header",
};
const NO_TOKEN: Refusal = Refusal {
    status: StatusCode::UNAUTHORIZED,
    code: UNAUTHORIZED,
    why: "missing bearer authorization",
    hint: PRESENT_TOKEN,
};
const WRONG_TOKEN: Refusal = Refusal {
    status: StatusCode::UNAUTHORIZED,
    code: UNAUTHORIZED,
    why: "invalid bearer authorization",
    hint: PRESENT_TOKEN,
};
const NO_SUCH_PATH: Refusal = Refusal {
    status: StatusCode::NOT_FOUND,
    code: "path_not_found",
    why: "the service has nothing at this path",
    hint: "ask for a path that the service's documentation names",
};
const OTHER_METHOD: Refusal = Refusal {
    status: StatusCode::METHOD_NOT_ALLOWED,
    code: "method_not_allowed",
    why: "the path does not take this method",
    hint: "use a method that the Allow header names",
};
const OTHER_MEDIA_TYPE: Refusal = Refusal {
    status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
    code: "unsupported_media_type",
    why: "content-type must be application/json",
    hint: "send JSON with Content-Type: application/json",
};
const TOO_LARGE: Refusal = Refusal {
    status: StatusCode::PAYLOAD_TOO_LARGE,
    code: "request_too_large",
    why: "request body exceeds max-request-bytes",
    hint: "send less, or have the service take more",
};
const TOO_SLOW: Refusal = Refusal {
    status: StatusCode::REQUEST_TIMEOUT,
    code: REFUSED,
    why: "the request took too long",
    hint: "send the whole request at once",
};

/// Whether nothing says that the body is something else than JSON. A parameter, such as a charset, may follow the type;
/// two types are not one.
fn may_be_json(headers: &HeaderMap) -> bool {
    let mut media = headers.get_all(header::CONTENT_TYPE).iter();
    match (media.next(), media.next()) {
        (None, _) => true,
        (Some(_), Some(_)) => false,
        (Some(media), None) => media.to_str().is_ok_and(|media| {
            let essence = media.split(';').next().unwrap_or_default();
            essence.trim().eq_ignore_ascii_case("application/json")
        }),
    }
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
