//! What the lab is asked for on the command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::board::{self, Game};
use super::bundle::Witness;
use super::means::{beside_this_program, there};
use super::nat::Nat;
use super::profile::Profile;
use super::scenario::{Cell, Trial};
use crate::shell::{Failure, Result};

pub const USAGE: &str = "\
Usage: cargo xtask lab [what] [options]

Without a word, it plays: in every cell of donor's NAT, submitter's NAT and firewall it runs a relay, a donor and a
submitter and a whole job, and prints what came of it. Exit code 1 when a cell failed.

What:
  check     measure every NAT and every firewall of the lab, and whether it leaves nothing behind; play short forms
            of the scenarios
  keep      make one network, say what is in it, and keep it until Ctrl-C
  sweep     remove what killed runs left

Scenarios, all of which know --program and --json:
  hold      reservations on two relays, held: [--for <S>, default 600] [--reservation-s <S>, default 30]
  loss      relays fail while others call a donor through them: [--loss killed|frozen|parted|restarted|both, may be
            given again; default: every one]
  diagnose  the program says of every network of the lab what it blocks, and which way is left
  doh       nothing goes to port 53 where --doh-only says so
  clock     clocks jump by minutes and hours while a job is under way; needs the package faketime
  crowd     a thousand peers of one network take all that they get: [--for <S>, default 60]
  cut       circuits are cut in the middle of 50 MB of a job's input, and of its result
  first     how long a donor is without an address that starts where TCP to port 443 alone gets out
  flap      a donor's address changes again and again while it works
  flood     garbage on every port of a relay and of a donor: [--for <S>, default 60]
  idle      a donor takes a task, says that it works on it, and never runs it
  island    two local networks without internet run jobs, and get a way to a relay
  opening   two firewalls let nothing but the web out, and then everything

Options:
  --nat <A,B>        the NATs of donor and submitter: none, full-cone, address-restricted, port-restricted,
                     address-dependent, symmetric; may be given again [default: every pair]
  --profile <P>      what is between both and the world: open, no-udp, only-443, deny-drop, deny-reject, inspected,
                     inspected-trusted, dns, dns-nxdomain, dns-garbage, dns-silent; may be given again
                     [default: every one]
  --rtt <MS>         how far everything is from everything, in milliseconds there and back [default: 0]
  --program <FILE>   the worldcompute to try [default: the one built beside this program]
  --at-once <N>      cells at a time [default: six to a core, as memory allows]
  --out <FILE>       write the scoreboard, as JSON when it ends in .json, as Markdown otherwise
  --evidence <DIR>   write it as a bundle of evidence below this folder
  --json             print it as JSON

All of it needs root, and the packages iproute2 and nftables.
";

/// What was asked for.
pub struct Options {
    pairs: Vec<[Nat; 2]>,
    profiles: Vec<Profile>,
    pub rtt: Duration,
    program: Option<PathBuf>,
    at_once: Option<usize>,
    out: Option<PathBuf>,
    evidence: Option<PathBuf>,
    json: bool,
}

impl Options {
    /// Reads options.
    pub fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self {
            pairs: Vec::new(),
            profiles: Vec::new(),
            rtt: Duration::ZERO,
            program: None,
            at_once: None,
            out: None,
            evidence: None,
            json: false,
        };
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            match word {
                "--json" => options.json = true,
                word => {
                    let value = words.next().ok_or_else(|| usage(word))?;
                    options
                        .set(word, value)
                        .ok_or_else(|| usage(&format!("{word} {value}")))?;
                }
            }
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Option<()> {
        let positive = |value: &str| value.parse().ok().filter(|number| *number > 0);
        match name {
            "--nat" => self.pairs.push(pair(value)?),
            "--profile" => self.profiles.push(profile(value)?),
            "--rtt" => self.rtt = rtt(value)?,
            "--program" => self.program = Some(value.into()),
            "--at-once" => self.at_once = Some(positive(value)?),
            "--out" => self.out = Some(value.into()),
            "--evidence" => self.evidence = Some(value.into()),
            _ => return None,
        }
        Some(())
    }

    /// The first cell that is named, without NAT and firewall where none is.
    pub fn first_cell(&self) -> Cell {
        Cell {
            nats: self.pairs.first().copied().unwrap_or([Nat::None; 2]),
            profile: self.profiles.first().copied().unwrap_or(Profile::Open),
        }
    }

    /// What is to be played on the checkout in `root`.
    pub fn game(self, root: &Path) -> Result<Game> {
        let beside = || beside_this_program("worldcompute");
        let program = self.program.map_or_else(beside, Ok)?;
        Ok(Game {
            cells: board::cells(&self.pairs, &self.profiles),
            trial: Trial::of(
                root,
                there(&program, "cargo build -p worldcompute")?,
                self.rtt,
            )?,
            at_once: self.at_once.unwrap_or_else(board::at_once),
            json: self.json,
            out: self.out,
            witness: self
                .evidence
                .map(|dir| Witness::begin(root, dir))
                .transpose()?,
        })
    }
}

fn pair(text: &str) -> Option<[Nat; 2]> {
    let nat = |name: &str| Nat::ALL.into_iter().find(|nat| nat.name() == name);
    let (donor, submitter) = text.split_once(',')?;
    Some([nat(donor)?, nat(submitter)?])
}

fn profile(name: &str) -> Option<Profile> {
    Profile::ALL
        .into_iter()
        .find(|profile| profile.name() == name)
}

/// At most once around the moon.
fn rtt(text: &str) -> Option<Duration> {
    let milliseconds = text.parse().ok().filter(|ms| *ms <= 5000)?;
    Some(Duration::from_millis(milliseconds))
}

/// The failure of whoever wrote what is not understood.
pub fn usage(what: &str) -> Failure {
    Failure {
        code: 2,
        message: format!("{what:?} is not understood\n\n{USAGE}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_picked_by_pairs_and_profiles() {
        let words = [
            "--nat",
            "full-cone,symmetric",
            "--nat",
            "none,none",
            "--profile",
            "deny-drop",
        ];
        let options = Options::parse(&words).unwrap();
        assert_eq!(
            options.pairs,
            [[Nat::FullCone, Nat::Symmetric], [Nat::None; 2]]
        );
        assert_eq!(options.first_cell().profile, Profile::DenyDrop);
        let none = Options::parse(&[]).unwrap().first_cell();
        assert_eq!((none.nats, none.profile), ([Nat::None; 2], Profile::Open));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for wrong in [
            &["--nat"][..],
            &["--nat", "none"],
            &["--nat", "none,none,none"],
            &["--nat", "none,moon"],
            &["--profile", ""],
            &["--rtt", "5001"],
            &["--at-once", "0"],
            &["--speed", "9"],
            &["chekc"],
        ] {
            assert_eq!(
                Options::parse(wrong).map(drop).unwrap_err().code,
                2,
                "{wrong:?}"
            );
        }
    }
}
