//! What production asks of the project's settings.

use worldcompute_fault::Result;

use super::check::Check;
use crate::duration;
use crate::listen;
use crate::project_config::{
    DEFAULT_PATH, GateDefaults, McpServeDefaults, ProjectConfig, Retention,
};

/// The largest request body that production accepts, in bytes.
const MAX_REQUEST_BYTES: i64 = 4 << 20;

/// What opens the settings; after `#` it may say what for.
const EDIT: &str = "${EDITOR:-vi} .gait/config.yaml";

pub(super) fn checks(config: &Result<Option<ProjectConfig>>) -> Vec<Check> {
    let name = "production_readiness_config";
    let config = match config {
        Ok(Some(config)) => config,
        Ok(None) => {
            return vec![
                Check::fail(name, format!("missing {DEFAULT_PATH}"))
                    .fix(format!("mkdir -p .gait && {EDIT}")),
            ];
        }
        Err(fault) => {
            return vec![Check::fail(name, fault.message()).fix(EDIT)];
        }
    };
    vec![
        Check::pass(name, format!("{DEFAULT_PATH} present")),
        exactly(
            "production_profile",
            "gate.profile",
            &config.gate.profile,
            "oss-prod",
        ),
        exactly(
            "production_key_mode",
            "gate.key_mode",
            &config.gate.key_mode,
            "prod",
        ),
        retention(&config.retention),
        service_boundary(&config.mcp_serve),
        context_strictness(&config.gate),
    ]
}

fn exactly(name: &'static str, setting: &str, value: &str, wanted: &str) -> Check {
    match value.trim().eq_ignore_ascii_case(wanted) {
        true => Check::pass(name, format!("{setting} is {wanted}")),
        false => unset(
            name,
            format!("{setting} must be {wanted} for production readiness"),
            format!("{setting}={wanted}"),
        ),
    }
}

fn retention(retention: &Retention) -> Check {
    let name = "production_retention";
    let spans = [
        ("trace_ttl", &retention.trace_ttl),
        ("session_ttl", &retention.session_ttl),
        ("export_ttl", &retention.export_ttl),
    ];
    for (setting, text) in spans {
        if duration::parse(text.trim()).is_none_or(|span| !span.is_positive()) {
            let message =
                format!("retention.{setting} must be a positive span such as 168h, not {text:?}");
            return unset(name, message, format!("retention.{setting}=168h"));
        }
    }
    Check::pass(name, "retention spans are configured")
}

fn service_boundary(serve: &McpServeDefaults) -> Check {
    let name = "production_service_boundary";
    if !serve.enabled && serve.listen.trim().is_empty() {
        return Check::pass(name, "mcp_serve not configured");
    }
    let address = match serve.listen.trim() {
        "" => listen::DEFAULT,
        address => address,
    };
    let loopback = match listen::is_loopback(address) {
        Ok(loopback) => loopback,
        Err(fault) => {
            return unset(
                name,
                fault.message().to_owned(),
                format!("mcp_serve.listen={}", listen::DEFAULT),
            );
        }
    };
    let token = serve.auth_mode.trim().eq_ignore_ascii_case("token");
    let strict = serve
        .http_verdict_status
        .trim()
        .eq_ignore_ascii_case("strict");
    let sized = (1..=MAX_REQUEST_BYTES).contains(&serve.max_request_bytes);
    let rules = [
        (
            loopback || token,
            "a listener off loopback needs a token",
            "mcp_serve.auth_mode=token",
        ),
        (
            !token || !serve.auth_token_env.trim().is_empty(),
            "a token needs mcp_serve.auth_token_env",
            "mcp_serve.auth_token_env",
        ),
        (
            !serve.allow_client_artifact_paths,
            "clients must not choose paths",
            "mcp_serve.allow_client_artifact_paths=false",
        ),
        (
            sized,
            "mcp_serve.max_request_bytes must be 1 to 4194304",
            "mcp_serve.max_request_bytes=1048576",
        ),
        (
            strict,
            "mcp_serve.http_verdict_status must be strict",
            "mcp_serve.http_verdict_status=strict",
        ),
    ];
    match rules.into_iter().find(|(holds, ..)| !holds) {
        Some((_, message, setting)) => unset(name, message.to_owned(), setting.to_owned()),
        None => Check::pass(name, "service boundary is configured"),
    }
}

fn context_strictness(gate: &GateDefaults) -> Check {
    let name = "production_context_strictness";
    if !gate.profile.trim().eq_ignore_ascii_case("oss-prod") {
        return unset(
            name,
            "strict context needs gate.profile=oss-prod".to_owned(),
            "gate.profile=oss-prod".to_owned(),
        );
    }
    match gate.policy.trim() {
        "" => unset(
            name,
            "gate.policy must be set".to_owned(),
            "gate.policy".to_owned(),
        ),
        _ => Check::pass(name, "strict context profile is configured"),
    }
}

fn unset(name: &'static str, message: String, setting: String) -> Check {
    Check::fail(name, message).fix(format!("{EDIT} # set {setting}"))
}
