//! Networks between nodes, made of namespaces on this machine alone: NATs, firewalls, and what comes of them.
//!
//! Everything is made by the run that uses it, carries its id, and is removed when it ends, whatever ends it.

mod board;
mod check;
mod claim;
mod delay;
mod internet;
mod measure;
mod namespace;
mod nat;
mod node;
mod options;
mod profile;
mod reach;
mod scenario;
mod stop;
mod tools;

use std::path::Path;
use std::time::Duration;

use crate::shell::{Failure, Result};
use claim::Claim;
use internet::Internet;
use options::{Options, USAGE};
use stop::Stop;

/// Runs one command of the lab on the checkout in `root`.
pub fn run(root: &Path, words: &[&str]) -> Result<()> {
    match words {
        ["check"] => check::run(),
        ["hold", options @ ..] => hold(&Options::parse(options)?),
        ["sweep"] => sweep(),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        options => play(root, Options::parse(options)?),
    }
}

/// Plays every cell that is asked for.
fn play(root: &Path, options: Options) -> Result<()> {
    if let Some(why) = tools::missing() {
        return Err(no_lab(&why));
    }
    board::run(&options.game(root)?)
}

/// Keeps a network until it is told to stop.
fn hold(options: &Options) -> Result<()> {
    if let Some(why) = tools::missing() {
        return Err(no_lab(&why));
    }
    let stop = Stop::listen()?;
    let claim = Claim::take()?;
    let internet = Internet::make(&claim, "held", options.rtt)?;
    let relay = internet.host("relay", 1)?;
    let cell = options.first_cell();
    let [nat_a, nat_b] = cell.nats;
    let a = internet.site("a", 2, nat_a, cell.profile)?;
    let b = internet.site("b", 3, nat_b, cell.profile)?;
    let sites = [("a", &a), ("b", &b)];
    let sites = sites.map(|(name, site)| {
        format!(
            "{name}      {} behind {} and {}, seen as {}: ip netns exec {} ...\n",
            site.inside,
            site.nat().name(),
            cell.profile.name(),
            site.outside(),
            site.host.name()
        )
    });
    print!(
        "run {}\nrelay  {}: ip netns exec {} ...\n{}Ctrl-C removes it.\n",
        claim.id(),
        relay.addresses[0],
        relay.namespace.name(),
        sites.concat()
    );
    while stop.wait(Duration::from_secs(3600)).is_ok() {}
    Ok(())
}

fn sweep() -> Result<()> {
    if let Some(why) = tools::missing() {
        return Err(no_lab(&why));
    }
    claim::sweep()?.iter().for_each(|name| println!("{name}"));
    Ok(())
}

fn no_lab(why: &str) -> Failure {
    Failure::new(format!("no lab here: {why}"))
}
