//! `gait run`.

mod diff;
mod inspect;
mod receipt;
mod record;
mod reduce;
mod replay;
pub mod session;
mod stored;

pub use diff::DIFF;
pub use inspect::INSPECT;
pub use receipt::RECEIPT;
pub use record::RECORD;
pub use reduce::REDUCE;
pub use replay::REPLAY;

use std::path::PathBuf;

use gait::runpack;
use worldcompute_fault::Result;

use crate::cli::args::Args;
use crate::cli::command::{Context, Positionals};

/// A run named by `--from` or as the only argument.
pub const FROM: Positionals = Positionals::Interleaved {
    min: 0,
    max: 1,
    expected: MISSING_FROM,
};

const MISSING_FROM: &str = "missing required --from <run_id|path>";

/// The runpack that `--from` or the only argument names.
pub fn located(context: &Context, args: &Args) -> Result<PathBuf> {
    runpack::locate(args.one_of("from", MISSING_FROM)?, &*context.environment)
}
