//! The program on Linux. The first process is the agent; the process that it starts becomes the image's program.

mod agent;
mod control_group;
mod host;
mod image_file;
mod init;
mod launch;
mod machine;
mod outputs;
mod privileges;
mod user;

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

/// Where the image's files are, before they become everything that the program sees.
const ROOT: &str = "/root";
/// Where the launcher leaves why it could not become the program.
const FAILURE: &str = "/failure";

/// What went wrong, in words for the host.
type Result<T> = std::result::Result<T, String>;

/// The agent where this is the first process of a machine, the launcher where it is not.
pub fn main() -> ExitCode {
    match std::process::id() {
        1 => init::run(),
        _ => launch::run(),
    }
}

/// For `map_err`: what could not be done, with the system's reason.
fn cannot<E: Display>(action: impl Display) -> impl FnOnce(E) -> String {
    move |error| format!("cannot {action}: {error}")
}

/// As [`cannot`], for something at `path`.
fn cannot_at<E: Display>(action: &str, path: impl AsRef<Path>) -> impl FnOnce(E) -> String {
    cannot(format!("{action} {}", path.as_ref().display()))
}
