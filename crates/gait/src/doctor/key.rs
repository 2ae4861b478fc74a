//! Keys as they were given.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use worldcompute_fault::Result;

use super::Keys;
use super::check::{Check, quoted};
use crate::environment::Environment;
use crate::keys::{KeyMode, KeySource, SigningRequest};

pub(super) fn ambiguity(keys: &Keys) -> Check {
    let name = "key_source_ambiguity";
    match (keys.private(), keys.public()) {
        (Err(fault), _) => Check::fail(name, fault.message()).fix(asked_anew(
            "set only one of --private-key or --private-key-env",
        )),
        (_, Err(fault)) => Check::fail(name, fault.message()).fix(asked_anew(
            "set only one of --public-key or --public-key-env",
        )),
        _ => Check::pass(name, "key source configuration is unambiguous"),
    }
}

pub(super) fn permissions(keys: &Keys) -> Check {
    let name = "key_permissions";
    let files = [
        ("private-key", &keys.private_key, 0o077),
        ("public-key", &keys.public_key, 0o022),
    ];
    let mut given = files
        .iter()
        .filter(|(_, path, _)| !path.trim().is_empty())
        .peekable();
    if given.peek().is_none() {
        return Check::pass(name, "no key file paths configured");
    }
    given
        .find_map(|(flag, path, forbidden)| too_open(flag, Path::new(path.trim()), *forbidden))
        .unwrap_or_else(|| Check::pass(name, "key file permissions are strict"))
}

fn too_open(flag: &str, path: &Path, forbidden: u32) -> Option<Check> {
    let name = "key_permissions";
    let shown = path.display();
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) => {
            let message = format!("the key file that --{flag} names is not accessible: {error}");
            return Some(Check::fail(name, message).fix("gait keys init"));
        }
    };
    if !found.is_file() {
        return Some(
            Check::fail(name, format!("key path is not a regular file: {shown}"))
                .fix(format!("ls -l {}", quoted(path))),
        );
    }
    let mode = found.mode() & 0o7777;
    (mode & forbidden != 0).then(|| {
        Check::fail(
            name,
            format!("key file is open to others: {shown} (mode {mode:04o})"),
        )
        .fix(format!("chmod 600 {}", quoted(path)))
    })
}

pub(super) fn config(keys: &Keys, environment: &dyn Environment) -> Check {
    let name = "key_config";
    let resolved = keys.request().and_then(|request| {
        let mode = request.mode;
        request.resolve(environment).map(|_| mode)
    });
    match resolved {
        Ok(KeyMode::Dev) => Check::pass(name, "dev key mode is configured"),
        Ok(KeyMode::Prod) => Check::pass(name, "prod key configuration is valid"),
        Err(fault) => {
            let fix = match fault.remedy() {
                "" => fault.hint_text().to_owned(),
                remedy => remedy.to_owned(),
            };
            Check::fail(name, fault.message()).fix(asked_anew(&fix))
        }
    }
}

/// What repairs flags that were given wrong: to give them otherwise.
fn asked_anew(how: &str) -> String {
    format!("gait doctor --help # {how}")
}

impl Keys {
    fn private(&self) -> Result<KeySource> {
        KeySource::new("private-key", &self.private_key, &self.private_key_env)
    }

    fn public(&self) -> Result<KeySource> {
        KeySource::new("public-key", &self.public_key, &self.public_key_env)
    }

    fn request(&self) -> Result<SigningRequest> {
        Ok(SigningRequest {
            mode: KeyMode::parse(&self.mode)?,
            private: self.private()?,
            public: self.public()?,
        })
    }
}
