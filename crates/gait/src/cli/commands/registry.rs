//! `gait registry`.

use std::path::{Path, PathBuf};

use gait::keys::require_verifying_key;
use gait::registry::{
    self, Cache, HttpTransport, Means, Pin, Request, Retry, Source, SourceRules, SystemPause,
    Verification,
};
use serde_json::{Map, Value, json};
use worldcompute_fault::Result;
use worldcompute_proof::VerifyingKey;

use crate::cli::args::Args;
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::exit::Exit;
use crate::cli::flag::Flag;
use crate::cli::keys;
use crate::cli::output::without_empty;

/// `gait registry install`
pub static INSTALL: Command = Command {
    words: &["registry", "install"],
    help: "Fetch a signed pack, verify it, and keep it in the cache with its digest pinned.",
    flags: &[
        Flag::text("source", ""),
        Flag::text("cache-dir", ""),
        Flag::csv("allow-host"),
        Flag::csv("publisher-allowlist"),
        Flag::text("pin", ""),
        Flag::group(keys::VERIFYING),
        Flag::int("retry-max-attempts", 3),
        Flag::duration("retry-base-delay", jiff::SignedDuration::from_millis(200)),
        Flag::switch("allow-cached-fallback"),
        Flag::switch("allow-insecure-http"),
    ],
    positionals: Positionals::Interleaved {
        min: 0,
        max: 1,
        expected: "",
    },
    run: install,
};

/// `gait registry list`
pub static LIST: Command = Command {
    words: &["registry", "list"],
    help: "List the packs of the cache and their pins.",
    flags: &[Flag::text("cache-dir", "")],
    positionals: Positionals::None,
    run: list,
};

/// `gait registry verify`
pub static VERIFY: Command = Command {
    words: &["registry", "verify"],
    help: "Verify signature, pin and publisher of a cached pack, offline.",
    flags: &[
        Flag::text("path", ""),
        Flag::text("cache-dir", ""),
        Flag::csv("publisher-allowlist"),
        Flag::text("report-out", ""),
        Flag::group(keys::VERIFYING),
    ],
    positionals: Positionals::Interleaved {
        min: 0,
        max: 1,
        expected: "",
    },
    run: verify,
};

fn install(context: &Context, args: &Args) -> Result<Outcome> {
    let source = args.one_of("source", "expected --source <path|url>")?;
    let rules = SourceRules {
        allow_hosts: args.csv("allow-host"),
        allow_insecure_http: args.switch("allow-insecure-http"),
    };
    let pin = Some(args.text("pin")).filter(|pin| !pin.trim().is_empty());
    let request = Request {
        key: verifying_key(context, args)?,
        source: Source::parse(source, &rules)?,
        publishers: args.csv("publisher-allowlist"),
        pin: pin.map(Pin::parse).transpose()?,
        retry: Retry::new(
            args.int("retry-max-attempts"),
            args.duration("retry-base-delay"),
        )?,
        cached_fallback: args.switch("allow-cached-fallback"),
    };
    let cache = Cache::resolve(args.text("cache-dir"), &*context.environment)?;
    let means = Means {
        transport: &HttpTransport::default(),
        pause: &SystemPause,
        clock: &*context.clock,
    };
    let installed = registry::install(&request, &cache, &means)?;
    let manifest = &installed.manifest;
    let human = format!(
        "registry install ok: {}@{} {}",
        manifest.name(),
        manifest.version(),
        installed.digest
    );
    let fields = json!({
        "digest": installed.digest,
        "fallback_path": installed.fallback,
        "fallback_used": installed.fallback.is_some(),
        "metadata_path": installed.metadata_path,
        "pack_name": manifest.name(),
        "pack_source": manifest.source(),
        "pack_version": manifest.version(),
        "pin_path": installed.pin_path,
        "publisher": manifest.publisher(),
        "source": request.source.shown(),
        "warnings": warnings(&request),
    });
    Outcome::ok(&without_empty(fields), human)
}

/// What was asked for and cannot help.
fn warnings(request: &Request) -> Vec<&'static str> {
    match (request.cached_fallback, &request.pin) {
        (true, None) => vec!["--allow-cached-fallback has no effect without --pin"],
        _ => Vec::new(),
    }
}

fn list(context: &Context, args: &Args) -> Result<Outcome> {
    let cache = Cache::resolve(args.text("cache-dir"), &*context.environment)?;
    let listing = cache.list()?;
    let mut human = format!(
        "registry list: {} packs in {}",
        listing.packs.len(),
        cache.root().display()
    );
    for pack in &listing.packs {
        let pinned = if pack.pin_verified { " (pinned)" } else { "" };
        human.push_str(&format!(
            "\n  {}@{} {}{pinned}",
            pack.pack_name, pack.pack_version, pack.digest
        ));
    }
    for warning in &listing.warnings {
        human.push_str(&format!("\nwarning: {warning}"));
    }
    let fields = json!({ "packs": listing.packs, "warnings": listing.warnings });
    Outcome::ok(&without_empty(fields), human)
}

fn verify(context: &Context, args: &Args) -> Result<Outcome> {
    let path = args.one_of("path", "expected --path <registry_pack.json>")?;
    let key = verifying_key(context, args)?;
    let cache = Some(args.text("cache-dir").trim()).filter(|dir| !dir.is_empty());
    let cache = cache.map(Cache::at);
    let publishers = args.csv("publisher-allowlist");
    let found = registry::verify(Path::new(path), cache.as_ref(), &key, &publishers)?;
    let report = Some(args.text("report-out").trim())
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    if let Some(report) = &report {
        registry::report(report, &found)?;
    }
    let exit = if found.holds() {
        Exit::Ok
    } else {
        Exit::VerificationFailed
    };
    let verdict = if found.holds() { "ok" } else { "failed" };
    let reasons = found.failure_reasons().join(", ");
    let human = format!(
        "registry verify {verdict}: {}@{} {reasons}",
        found.pack_name, found.pack_version
    );
    Outcome::with(exit, &findings(&found, report), human.trim_end())
}

fn findings(found: &Verification, report: Option<PathBuf>) -> Map<String, Value> {
    let mut fields = without_empty(json!({
        "digest": found.digest,
        "metadata_path": found.metadata_path,
        "pack_name": found.pack_name,
        "pack_source": found.source,
        "pack_version": found.pack_version,
        "pin_digest": found.pin_digest,
        "pin_path": found.pin_path,
        "pin_present": found.pin_present,
        "pin_verified": found.pin_verified,
        "publisher": found.publisher,
        "publisher_allowed": found.publisher_allowed,
        "report_path": report,
        "signature_error": found.signature_error,
        "signature_verified": found.signature_verified,
    }));
    fields.insert("ok".to_owned(), found.holds().into());
    fields
}

fn verifying_key(context: &Context, args: &Args) -> Result<VerifyingKey> {
    require_verifying_key(keys::verifying(context, args)?)
}
