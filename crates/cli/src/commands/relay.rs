//! `worldcompute relay`: a relay in the foreground.

use std::process::ExitCode;

use worldcompute_fault::Result;
use worldcompute_node::{Config, Home, Roles};

use super::{Context, daemon};
use crate::args::RelayArgs;

/// Runs a relay until it is told to stop.
pub async fn run(context: &Context, args: RelayArgs) -> Result<ExitCode> {
    let home = home(context)?;
    let mut config = Config::load(&home.config())?;
    config.reservation_s = args.reservation_s.unwrap_or(config.reservation_s);
    let config = daemon::configure(config, &args.listen)?;
    daemon::run(
        context,
        home,
        config,
        Roles::RELAY,
        args.listen.port.is_some(),
        args.process.end_with_stdin,
    )
    .await
}

/// A relay on a donor's machine must not share its home.
fn home(context: &Context) -> Result<Home> {
    let home = context.home()?;
    Ok(if context.has_own_home() {
        home
    } else {
        Home::at(home.root().join("relay"))
    })
}
