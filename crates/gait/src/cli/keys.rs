//! The flags that say where keys come from.

use gait::keys::{self, KeyMode, KeySource, SigningIdentity, SigningRequest};
use worldcompute_fault::Result;
use worldcompute_proof::VerifyingKey;

use super::args::Args;
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
