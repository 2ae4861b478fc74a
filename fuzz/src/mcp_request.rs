//! Requests to the service that rules on tool calls: what is answered follows from the verdict, what the policy denies
//! is never allowed, and whatever a client wants kept stays below the service's own folders and verifies.

use std::fs;
use std::path::Path;
use std::sync::{LazyLock, Mutex};

use crate::files::path;
use crate::mcp::boundary;
use gait::mcp::http::{Service, exit_code};
use gait::mcp::{Adapter, Keeping};
use gait::run_session::{LockSettings, verify_chain};
use gait::runpack::{self, Requirements};
use gait::server::Turns;
use gait::{Verdict, pack};
use serde_json::Value;
use worldcompute_proof::{SigningKey, VerifyingKey};

static KEY: LazyLock<VerifyingKey> =
    LazyLock::new(|| SigningKey::from_seed([7; 32]).verifying_key());

thread_local! {
    static SERVICE: Service = Service {
        boundary: boundary(),
        adapter: Adapter::Mcp,
        trace_dir: path("served/traces"),
        keeping: Keeping {
            sessions: Some(path("served/sessions")),
            session_lock: LockSettings::default(),
            runpacks: Some(path("served/runpacks")),
            packs: Some(path("served/packs")),
            ..Keeping::default()
        },
        retention: Vec::new(),
        sweeping: Mutex::default(),
        client_paths: false,
        strict_status: true,
        max_request_bytes: 1 << 20,
        correlation_id: || "fuzz".to_owned(),
        turns: Turns::default(),
    };
}

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    // It is not there before the first ruling.
    let _ = fs::remove_dir_all(path("served"));
    if let Ok((verdict, answer)) = SERVICE.with(|service| service.rule(bytes, "fuzz")) {
        assert_eq!(answer["verdict"], verdict.to_string());
        assert_eq!(answer["exit_code"], exit_code(verdict));
        assert!(verdict != Verdict::Allow || answer["tool_name"] != "wipe");
        kept(&answer);
    }
}

fn kept(answer: &Value) {
    let requirements = Requirements {
        key: Some(&KEY),
        signature: true,
    };
    if let Some(runpack) = below(answer, "runpack_path") {
        let report = runpack::verify(runpack, &requirements).expect("what is kept is a runpack");
        assert!(report.holds());
    }
    if let Some(pack) = below(answer, "pack_path") {
        let options = pack::VerifyOptions {
            key: Some(&KEY),
            require_signature: true,
        };
        let report = pack::verify(pack, &options).expect("what is kept is a pack");
        assert!(report.ok());
    }
    if let Some(chain) = below(answer, "session_chain") {
        let report = verify_chain(chain, &requirements).expect("what is kept is a chain");
        assert!(report.holds());
    }
    below(answer, "trace_path").expect("every ruling has its trace");
    below(answer, "session_journal");
}

fn below<'a>(answer: &'a Value, member: &str) -> Option<&'a Path> {
    let found = Path::new(answer.get(member)?.as_str().expect("a path"));
    let folder = found.parent().and_then(Path::parent);
    assert_eq!(folder, Some(path("served").as_path()), "{member}");
    assert!(found.is_file(), "{member}");
    Some(found)
}
