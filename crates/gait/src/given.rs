//! Values of a command line that name where something secret is, and by mistake may be the secret itself.

use std::path::Path;

use worldcompute_fault::Fault;

/// Why what `--<flag>` names cannot be read: `fault` itself where there is something at `path`, else one that names the
/// flag and not its value.
pub fn unreadable(flag: &str, path: &Path, fault: Fault) -> Fault {
    match path.symlink_metadata() {
        Ok(_) => fault,
        Err(error) => Fault::io(format_args!("read the file that --{flag} names"), &error),
    }
}
