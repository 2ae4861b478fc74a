//! `gait guard encrypt` and `gait guard decrypt`.

use std::path::Path;

use gait::VERSION;
use gait::guard::seal::{SealingKey, seal, unseal};
use gait::in_file::InFile;
use serde_json::json;
use worldcompute_fault::Result;

use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::flag::Flag;

const FLAGS: &[Flag] = &[
    Flag::text("in", ""),
    Flag::text("out", ""),
    Flag::text("key-env", ""),
    Flag::text("key-command", ""),
    Flag::csv("key-command-args"),
];

/// `gait guard encrypt`
pub static ENCRYPT: Command = Command {
    words: &["guard", "encrypt"],
    help: "Encrypt a file with AES-256-GCM and a key from the environment or from a command.",
    flags: FLAGS,
    positionals: Positionals::Interleaved {
        min: 0,
        max: 1,
        expected: "expected --in <artifact>",
    },
    run: |context, args| {
        let input = args.one_of("in", "expected --in <artifact>")?;
        let key = key(context, args)?;
        let now = context.clock.now();
        let sealed = seal(Path::new(input), output(args), &key, VERSION, now)?;
        let origin = key.origin();
        let mut fields = json!({
            "algorithm": "aes-256-gcm",
            "key_mode": origin.mode,
            "path": sealed.path,
            "plain_sha256": sealed.plain_sha256,
            "plain_size": sealed.plain_size,
        });
        if let Some(fields) = fields
            .as_object_mut()
            .filter(|_| !origin.reference.is_empty())
        {
            fields.insert("key_ref".to_owned(), origin.reference.clone().into());
        }
        Outcome::ok(
            &fields,
            format!("guard encrypt ok: {}", sealed.path.display()),
        )
    },
};

/// `gait guard decrypt`
pub static DECRYPT: Command = Command {
    words: &["guard", "decrypt"],
    help: "Decrypt an encrypted file, once all of it was checked.",
    flags: FLAGS,
    positionals: Positionals::Interleaved {
        min: 0,
        max: 1,
        expected: "expected --in <artifact.gaitenc>",
    },
    run: |context, args| {
        let input = args.one_of("in", "expected --in <artifact.gaitenc>")?;
        let input = Path::new(input);
        let opened = unseal(input, output(args), &key(context, args)?).in_file(input)?;
        let fields = json!({
            "path": opened.path,
            "plain_sha256": opened.plain_sha256,
            "plain_size": opened.plain_size,
        });
        Outcome::ok(
            &fields,
            format!("guard decrypt ok: {}", opened.path.display()),
        )
    },
};

fn output(args: &Args) -> Option<&Path> {
    let output = args.text("out").trim();
    (!output.is_empty()).then_some(Path::new(output))
}

fn key(context: &Context, args: &Args) -> Result<SealingKey> {
    let (variable, program) = (args.text("key-env").trim(), args.text("key-command").trim());
    match (variable, program) {
        ("", "") => Err(
            invalid("missing key source: provide --key-env or --key-command").because(
                "sealing_key_required",
                "give the environment variable or the command that holds the key",
            ),
        ),
        (variable, "") => SealingKey::from_variable(variable, &*context.environment),
        ("", program) => SealingKey::from_command(program, &args.csv("key-command-args")),
        _ => Err(invalid("both --key-env and --key-command are set").because(
            "sealing_key_ambiguous",
            "give the environment variable or the command, not both",
        )),
    }
}
