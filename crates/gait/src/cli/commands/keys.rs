//! `gait keys`.

use std::path::Path;

use gait::keys::{self as pairs, KeyFiles, KeySource};
use serde_json::json;
use worldcompute_fault::Result;

use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::flag::Flag;
use crate::cli::keys;

const PAIR: &[Flag] = &[
    Flag::text("out-dir", "gait-out/keys"),
    Flag::text("prefix", "gait"),
];

/// `gait keys init`
pub static INIT: Command = Command {
    words: &["keys", "init"],
    help: "Make a key pair that signs evidence.",
    flags: &[Flag::group(PAIR), Flag::switch("force")],
    positionals: Positionals::None,
    run: init,
};

/// `gait keys rotate`
pub static ROTATE: Command = Command {
    words: &["keys", "rotate"],
    help: "Make a further key pair, named by the time; older pairs stay for verifying.",
    flags: &[Flag::group(PAIR)],
    positionals: Positionals::None,
    run: rotate,
};

/// `gait keys verify`
pub static VERIFY: Command = Command {
    words: &["keys", "verify"],
    help: "Check that a private key is usable and is the other half of the public key.",
    flags: &[Flag::group(keys::VERIFYING)],
    positionals: Positionals::None,
    run: verify,
};

fn init(_context: &Context, args: &Args) -> Result<Outcome> {
    written(
        "init",
        &pairs::create(dir(args)?, args.text("prefix"), args.switch("force"))?,
    )
}

fn rotate(context: &Context, args: &Args) -> Result<Outcome> {
    written(
        "rotate",
        &pairs::rotate(dir(args)?, args.text("prefix"), context.clock.now())?,
    )
}

/// A variable of a script that is not set must not put private keys into the working directory.
fn dir(args: &Args) -> Result<&Path> {
    match args.text("out-dir").trim() {
        "" => Err(invalid("--out-dir must not be empty")),
        dir => Ok(Path::new(dir)),
    }
}

fn written(operation: &str, files: &KeyFiles) -> Result<Outcome> {
    let (private, public) = (files.private_path.display(), files.public_path.display());
    let key_id = files.public.key_id();
    let human = format!("keys {operation} ok: key_id={key_id} public={public} private={private}");
    let fields = json!({
        "key_id": key_id,
        "prefix": files.prefix,
        "private_key_path": files.private_path,
        "public_key_path": files.public_path,
    });
    Outcome::ok(&fields, human)
}

fn verify(context: &Context, args: &Args) -> Result<Outcome> {
    if !keys::source(args, "private-key")?.is_given() {
        return Err(
            invalid("private key source is required (--private-key or --private-key-env)").because(
                "key_source_required",
                "give --private-key <path> or --private-key-env <variable>",
            ),
        );
    }
    let key_id = keys::verifying(context, args)?
        .map(|key| key.key_id())
        .unwrap_or_default();
    let human = format!("keys verify ok: key_id={key_id}");
    let fields = json!({
        "key_id": key_id,
        "private_key_source": label(&keys::source(args, "private-key")?),
        "public_key_source": label(&keys::source(args, "public-key")?),
    });
    Outcome::ok(&fields, human)
}

fn label(source: &KeySource) -> String {
    match source {
        KeySource::None => "derived".to_owned(),
        KeySource::File { path, .. } => format!("path:{}", path.display()),
        KeySource::Variable { name, .. } => format!("env:{name}"),
    }
}
