//! `gait delegate`.

use std::path::{Path, PathBuf};

use gait::artefact;
use gait::delegation::{Expected, Mint, Token};
use gait::given;
use jiff::SignedDuration;
use serde::Serialize;
use serde_json::json;
use worldcompute_fault::{Category, Fault, Result};

use super::approve::{digest, seconds};
use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::flag::Flag;
use crate::cli::keys;

const WHAT: &[Flag] = &[
    Flag::text("delegator", ""),
    Flag::text("delegate", ""),
    Flag::csv("scope"),
    Flag::text("intent-digest", ""),
    Flag::text("policy-digest", ""),
];

/// `gait delegate mint`
pub static MINT: Command = Command {
    words: &["delegate", "mint"],
    help: "Mint a signed delegation token that lends authority by identity, scope, and optional digests.",
    flags: &[
        Flag::group(WHAT),
        Flag::text("scope-class", ""),
        Flag::duration("ttl", SignedDuration::ZERO),
        Flag::text("out", ""),
        Flag::group(keys::SIGNING),
    ],
    positionals: Positionals::None,
    run: mint,
};

/// `gait delegate verify`
pub static VERIFY: Command = Command {
    words: &["delegate", "verify"],
    help: "Verify a delegation token against a key and against what it should lend.",
    flags: &[
        Flag::group(WHAT),
        Flag::text("token", ""),
        Flag::group(keys::VERIFYING),
    ],
    positionals: Positionals::None,
    run: verify,
};

fn mint(context: &Context, args: &Args) -> Result<Outcome> {
    let ttl = args.duration("ttl");
    if !ttl.is_positive() {
        return Err(invalid("invalid --ttl, expected positive duration"));
    }
    let scope = args.csv("scope");
    if scope.is_empty() {
        return Err(invalid("scope is required"));
    }
    let mint = Mint {
        delegator_identity: args.text("delegator").to_owned(),
        delegate_identity: args.text("delegate").to_owned(),
        scope,
        scope_class: args.text("scope-class").to_owned(),
        intent_digest: digest(args, "intent-digest")?,
        policy_digest: digest(args, "policy-digest")?,
        ttl,
    };
    let signer = keys::signing(context, args)?;
    let (token, bytes) = Token::mint(&mint, &signer.key, context.clock.now())?;
    let path = match args.text("out").trim() {
        "" => PathBuf::from(format!("delegation_{}.json", token.token_id())),
        given => PathBuf::from(given),
    };
    artefact::write(&path, &bytes)?;
    let fields = Fields {
        warnings: &signer.warnings,
        ..Fields::of(&token, &path, "signed delegation token created")
    };
    Outcome::ok(&fields, format!("delegation token ok: {}", path.display()))
}

fn verify(context: &Context, args: &Args) -> Result<Outcome> {
    let path = args.text("token").trim();
    if path.is_empty() {
        return Err(invalid("--token is required"));
    }
    let scope: Vec<_> = args
        .csv("scope")
        .iter()
        .map(|scope| scope.to_lowercase())
        .collect();
    let expected = Expected {
        delegator: args.text("delegator"),
        delegate: args.text("delegate"),
        scope: &scope,
        intent_digest: digest(args, "intent-digest")?,
        policy_digest: digest(args, "policy-digest")?,
        now: context.clock.now(),
    };
    let key = keys::verifying(context, args)?.ok_or_else(|| {
        invalid("a verify key is required").because(
            "key_source_required",
            "give --public-key, --public-key-env, --private-key or --private-key-env",
        )
    })?;
    let path = Path::new(path);
    let token = Token::load(path).map_err(|fault| given::unreadable("token", path, fault))?;
    if let Err(flaw) = token.check(&key, &expected) {
        let message = format!("{} does not delegate: {}", path.display(), flaw.code());
        let fault = Fault::new(Category::VerificationFailed, flaw.code(), message);
        return Outcome::failed(
            fault,
            &json!({ "token_id": token.token_id(), "token_path": path }),
        );
    }
    let fields = Fields::of(&token, path, "delegation token verified");
    Outcome::ok(&fields, format!("delegation token ok: {}", path.display()))
}

#[derive(Serialize)]
struct Fields<'a> {
    delegate_identity: &'a str,
    delegator_identity: &'a str,
    description: &'static str,
    expires_at: String,
    key_id: &'a str,
    scope: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    scope_class: String,
    token_id: &'a str,
    token_path: &'a Path,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [String],
}

impl<'a> Fields<'a> {
    fn of(token: &'a Token, path: &'a Path, description: &'static str) -> Self {
        Self {
            delegate_identity: token.delegate_identity(),
            delegator_identity: token.delegator_identity(),
            description,
            expires_at: seconds(&token.expires_at().to_string()),
            key_id: token.key_id(),
            scope: token.scope(),
            scope_class: token.scope_class(),
            token_id: token.token_id(),
            token_path: path,
            warnings: &[],
        }
    }
}
