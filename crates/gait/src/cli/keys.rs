//! The flags that say where keys come from.

use gait::keys::{self, KeyMode, KeySource, SigningIdentity, SigningRequest};
use worldcompute_fault::Result;
use worldcompute_proof::VerifyingKey;

use super::args::{Args, invalid};
use super::command::Context;
use super::flag::Flag;

/// For commands that sign.
pub const SIGNING: &[Flag] = &[
    Flag::text("key-mode", "dev"),
    Flag::text("private-key", ""),
    Flag::text("private-key-env", ""),
];

/// For commands that verify.
pub const VERIFYING: &[Flag] = &[
    Flag::text("public-key", ""),
    Flag::text("public-key-env", ""),
    Flag::text("private-key", ""),
    Flag::text("private-key-env", ""),
];

/// The key that [`SIGNING`] asks for. Call it before anything is written.
pub fn signing(context: &Context, args: &Args) -> Result<SigningIdentity> {
    signing_with(context, |flag| args.text(flag).to_owned())
}

/// The key that [`SIGNING`] asks for where signing is a choice: none unless a key is given or the mode asks for one.
pub fn signing_if_asked(context: &Context, args: &Args) -> Result<Option<SigningIdentity>> {
    let private = source(args, "private-key")?;
    let mode = match &*args.text("key-mode").trim().to_ascii_lowercase() {
        "" | "none" if !private.is_given() => return Ok(None),
        "" | "none" => KeyMode::Prod,
        given @ ("dev" | "prod") => KeyMode::parse(given)?,
        _ => {
            return Err(invalid("--key-mode must be none, dev, or prod")
                .because("key_mode_unsupported", "use --key-mode none, dev or prod"));
        }
    };
    let request = SigningRequest {
        mode,
        private,
        public: KeySource::None,
    };
    request.resolve(&*context.environment).map(Some)
}

/// [`signing`], with flags that stand for something else when they are not given.
pub fn signing_with(context: &Context, text: impl Fn(&str) -> String) -> Result<SigningIdentity> {
    let request = SigningRequest {
        mode: KeyMode::parse(&text("key-mode"))?,
        private: KeySource::new(
            "private-key",
            &text("private-key"),
            &text("private-key-env"),
        )?,
        public: KeySource::None,
    };
    request.resolve(&*context.environment)
}

/// The key that [`VERIFYING`] asks for, if any.
pub fn verifying(context: &Context, args: &Args) -> Result<Option<VerifyingKey>> {
    let public = source(args, "public-key")?;
    let private = source(args, "private-key")?;
    keys::verifying_key(&public, &private, &*context.environment)
}

/// What `--<flag>` and `--<flag>-env` say.
pub fn source(args: &Args, flag: &str) -> Result<KeySource> {
    KeySource::new(flag, args.text(flag), args.text(&format!("{flag}-env")))
}
