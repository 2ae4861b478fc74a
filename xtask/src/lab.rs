//! Networks between nodes, made of namespaces on this machine alone: NATs, firewalls, and what comes of them.
//!
//! Everything is made by the run that uses it, carries its id, and is removed when it ends, whatever ends it.

mod check;
mod claim;
mod internet;
mod measure;
mod namespace;
mod nat;
mod profile;
mod reach;
mod stop;
mod tools;

use std::time::Duration;

use crate::shell::{Failure, Result};
use claim::Claim;
use internet::Internet;
use nat::Nat;
use profile::Profile;
use stop::Stop;

const USAGE: &str = "\
Usage: cargo xtask lab <what>

What:
  check     measure every NAT and every firewall of the lab, and whether it leaves nothing behind
  hold      make one network, say what is in it, and keep it until Ctrl-C
  sweep     remove what killed runs left

Options of hold:
  --nat <A,B>        the NATs of the two sites: none, full-cone, address-restricted, port-restricted,
                     address-dependent, symmetric
  --profile <P>      the firewall of both sites: open, no-udp, only-443, deny-drop, deny-reject

All of it needs root, and the packages iproute2 and nftables.
";

/// Runs one command of the lab.
pub fn run(words: &[&str]) -> Result<()> {
    match words {
        ["check"] => check::run(),
        ["hold", options @ ..] => hold(&Cell::parse(options)?),
        ["sweep"] => sweep(),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        _ => Err(usage("")),
    }
}

/// Two sites, and what is between them and the world.
struct Cell {
    nats: [Nat; 2],
    profile: Profile,
}

impl Cell {
    fn parse(options: &[&str]) -> Result<Self> {
        let mut cell = Self {
            nats: [Nat::None; 2],
            profile: Profile::Open,
        };
        let mut options = options.iter();
        while let Some(option) = options.next() {
            let value = options.next().copied().ok_or_else(|| usage(option))?;
            match *option {
                "--nat" => cell.nats = nats(value).ok_or_else(|| usage(value))?,
                "--profile" => cell.profile = profile(value).ok_or_else(|| usage(value))?,
                _ => return Err(usage(option)),
            }
        }
        Ok(cell)
    }
}

fn nats(text: &str) -> Option<[Nat; 2]> {
    let nat = |name: &str| Nat::ALL.into_iter().find(|nat| nat.name() == name);
    let (a, b) = text.split_once(',')?;
    Some([nat(a)?, nat(b)?])
}

fn profile(name: &str) -> Option<Profile> {
    Profile::ALL
        .into_iter()
        .find(|profile| profile.name() == name)
}

/// Keeps a network until it is told to stop.
fn hold(cell: &Cell) -> Result<()> {
    if let Some(why) = tools::missing() {
        return Err(Failure::new(format!("no lab here: {why}")));
    }
    let stop = Stop::listen()?;
    let claim = Claim::take()?;
    let internet = Internet::make(&claim, "held")?;
    let relay = internet.host("relay", 1)?;
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
        return Err(Failure::new(format!("no lab here: {why}")));
    }
    claim::sweep()?.iter().for_each(|name| println!("{name}"));
    Ok(())
}

fn usage(what: &str) -> Failure {
    let message = match what {
        "" => USAGE.to_owned(),
        what => format!("{what:?} is not understood\n\n{USAGE}"),
    };
    Failure { code: 2, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_two_nats_and_a_profile() {
        let cell =
            Cell::parse(&["--nat", "full-cone,symmetric", "--profile", "deny-drop"]).unwrap();
        assert_eq!(cell.nats, [Nat::FullCone, Nat::Symmetric]);
        assert_eq!(cell.profile, Profile::DenyDrop);
        let none = Cell::parse(&[]).unwrap();
        assert_eq!((none.nats, none.profile), ([Nat::None; 2], Profile::Open));
        for wrong in [
            &["--nat"][..],
            &["--nat", "none"],
            &["--nat", "none,none,none"],
            &["--nat", "none,moon"],
            &["--profile", ""],
            &["--speed", "9"],
        ] {
            assert_eq!(
                Cell::parse(wrong).map(drop).unwrap_err().code,
                2,
                "{wrong:?}"
            );
        }
    }
}
