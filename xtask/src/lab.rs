//! Networks between nodes, made of namespaces on this machine alone: NATs, firewalls, and what comes of them.
//!
//! Everything is made by the run that uses it, carries its id, and is removed when it ends, whatever ends it.

mod authority;
mod board;
mod bundle;
mod caller;
mod check;
mod claim;
mod clock;
mod crowd;
mod cut;
mod delay;
mod diagnose;
mod doh;
mod first;
mod flap;
mod flood;
mod garbage;
mod ground;
mod hold;
mod idle;
mod inspection;
mod internet;
mod island;
mod loss;
mod means;
mod measure;
mod names;
mod namespace;
mod nat;
mod node;
mod opening;
mod options;
mod probe;
mod profile;
mod reach;
mod resolver;
mod scenario;
mod service;
mod sizes;
mod stop;
mod teller;
mod tools;
mod wishes;
mod world;

use std::path::Path;
use std::time::Duration;

use crate::shell::{Failure, Result};
pub use check::run as check;
use claim::Claim;
use means::{Means, Report};
use options::{Options, USAGE};
use stop::Stop;
pub use tools::missing;
use wishes::Wishes;
use world::{DOH, World};

/// Runs one command of the lab on the checkout in `root`.
pub fn run(root: &Path, words: &[&str]) -> Result<()> {
    match words {
        ["check", options @ ..] => check::run(root, Wishes::parse(options, &[])?.program).map(drop),
        ["keep", options @ ..] => keep(&Options::parse(options)?),
        ["hold", options @ ..] => {
            let wishes = Wishes::parse(options, &["--for", "--reservation-s"])?;
            endure(&wishes, |claim, means, stop| {
                hold::play(claim, &wishes.hold(), means, stop)
            })
        }
        ["diagnose", options @ ..] => endure(&Wishes::parse(options, &[])?, diagnose::play),
        ["doh", options @ ..] => endure(&Wishes::parse(options, &[])?, doh::play),
        ["clock", options @ ..] => endure(&Wishes::parse(options, &[])?, clock::play),
        ["crowd", options @ ..] => {
            let wishes = Wishes::parse(options, &["--for"])?;
            endure(&wishes, |claim, means, stop| {
                crowd::play(claim, wishes.minute(), means, stop)
            })
        }
        ["cut", options @ ..] => endure(&Wishes::parse(options, &[])?, cut::play),
        ["first", options @ ..] => endure(&Wishes::parse(options, &[])?, first::play),
        ["flap", options @ ..] => endure(&Wishes::parse(options, &[])?, flap::play),
        ["flood", options @ ..] => {
            let wishes = Wishes::parse(options, &["--for"])?;
            endure(&wishes, |claim, means, stop| {
                flood::play(claim, wishes.minute(), means, stop)
            })
        }
        ["idle", options @ ..] => endure(&Wishes::parse(options, &[])?, idle::play),
        ["island", options @ ..] => endure(&Wishes::parse(options, &[])?, island::play),
        ["loss", options @ ..] => {
            let wishes = Wishes::parse(options, &["--loss"])?;
            endure(&wishes, |claim, means, stop| {
                loss::play(claim, &wishes.losses(), false, means, stop)
            })
        }
        ["opening", options @ ..] => endure(&Wishes::parse(options, &[])?, opening::play),
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
    if let Some(why) = missing() {
        return Err(no_lab(&why));
    }
    board::run(&options.game(root)?)
}

/// Plays a scenario and says what it came to.
fn endure(
    wishes: &Wishes,
    play: impl FnOnce(&Claim, &Means, &Stop) -> Result<Report>,
) -> Result<()> {
    if let Some(why) = missing() {
        return Err(no_lab(&why));
    }
    let means = Means::find(wishes.program.clone())?;
    let stop = Stop::listen()?;
    let claim = Claim::take()?;
    play(&claim, &means, &stop)?.tell(wishes.json)
}

/// Keeps a network until it is told to stop.
fn keep(options: &Options) -> Result<()> {
    if let Some(why) = missing() {
        return Err(no_lab(&why));
    }
    let stop = Stop::listen()?;
    let claim = Claim::take()?;
    let cell = options.first_cell();
    let world = World::make(&claim, "held", cell, options.rtt)?;
    let [donor, submitter] = &world.sites;
    let sites = [("donor", donor), ("submitter", submitter)];
    let sites = sites.map(|(name, site)| {
        format!(
            "{name}: {} behind {} and {}, seen as {}: ip netns exec {} ...\n",
            site.inside,
            site.nat().name(),
            cell.profile.name(),
            site.outside(),
            site.host.name()
        )
    });
    print!(
        "run {}\nrelay: {}: ip netns exec {} ...\n{}resolver over HTTPS: {DOH}@{}, vouched for by {}\nCtrl-C removes it.\n",
        claim.id(),
        world.relay.addresses[0],
        world.relay.namespace.name(),
        sites.concat(),
        world.doh.addresses[0],
        world.authorities.display()
    );
    while stop.wait(Duration::from_secs(3600)).is_ok() {}
    Ok(())
}

fn sweep() -> Result<()> {
    if let Some(why) = missing() {
        return Err(no_lab(&why));
    }
    claim::sweep()?.iter().for_each(|name| println!("{name}"));
    Ok(())
}

fn no_lab(why: &str) -> Failure {
    Failure::new(format!("no lab here: {why}"))
}
