//! `gait policy ...`: policies as files, before a gate decides by them.

mod fmt;
mod init;
mod simulate;
mod test;
mod validate;

pub use fmt::FMT;
pub use init::{INIT, taken};
pub use simulate::SIMULATE;
pub use test::TEST;
pub use validate::VALIDATE;

use serde_json::Value;
use worldcompute_fault::Result;

use crate::cli::args::{Args, invalid};

const EXPECTED: &str = "expected <policy.yaml>";

/// The only positional.
fn path(args: &Args) -> Result<&str> {
    match args.positionals() {
        [path] if !path.trim().is_empty() => Ok(path),
        _ => Err(invalid(EXPECTED)),
    }
}

/// Optional fields are left out when they are zero.
fn set_count(fields: &mut Value, name: &str, count: usize) {
    if count > 0 {
        set(fields, name, count.into());
    }
}

fn set(fields: &mut Value, name: &str, value: Value) {
    if let Value::Object(fields) = fields {
        fields.insert(name.to_owned(), value);
    }
}
