//! What is asked of a scenario on the command line.

use std::path::PathBuf;
use std::time::Duration;

use super::hold::Hold;
use super::loss::Loss;
use super::options::usage;
use crate::shell::Result;

/// The longest time that a scenario goes on for.
const MAX_TIME_S: u64 = 24 * 3600;

/// What was asked for.
#[derive(Default)]
pub struct Wishes {
    pub program: Option<PathBuf>,
    pub json: bool,
    time_s: Option<u64>,
    reservation_s: Option<u32>,
    losses: Vec<Loss>,
}

impl Wishes {
    /// Reads options, of which a scenario understands these.
    pub fn parse(words: &[&str], understood: &[&str]) -> Result<Self> {
        let mut wishes = Self::default();
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            if word == "--json" {
                wishes.json = true;
                continue;
            }
            let known = word == "--program" || understood.contains(&word);
            let value = words.next().filter(|_| known).ok_or_else(|| usage(word))?;
            wishes
                .set(word, value)
                .ok_or_else(|| usage(&format!("{word} {value}")))?;
        }
        Ok(wishes)
    }

    fn set(&mut self, name: &str, value: &str) -> Option<()> {
        match name {
            "--program" => self.program = Some(value.into()),
            "--for" => {
                self.time_s = Some(
                    value
                        .parse()
                        .ok()
                        .filter(|s| (1..=MAX_TIME_S).contains(s))?,
                )
            }
            // The relay itself knows what it takes.
            "--reservation-s" => self.reservation_s = Some(value.parse().ok().filter(|s| *s > 0)?),
            "--loss" => self
                .losses
                .push(Loss::ALL.into_iter().find(|loss| loss.name() == value)?),
            _ => return None,
        }
        Some(())
    }

    /// Ten minutes with reservations of 30 s, unless something else was asked for.
    pub fn hold(&self) -> Hold {
        Hold {
            reservation_s: self.reservation_s.unwrap_or(30),
            time: Duration::from_secs(self.time_s.unwrap_or(600)),
        }
    }

    /// A minute, unless something else was asked for.
    pub fn minute(&self) -> Duration {
        Duration::from_secs(self.time_s.unwrap_or(60))
    }

    /// Those that are named, else every one.
    pub fn losses(&self) -> Vec<Loss> {
        match self.losses.as_slice() {
            [] => Loss::ALL.to_vec(),
            losses => losses.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_played_as_promised_unless_something_else_is_asked_for() {
        let asked =
            |words: &[&str]| Wishes::parse(words, &["--for", "--reservation-s", "--loss"]).unwrap();
        let hold = asked(&[]).hold();
        assert_eq!(
            (hold.reservation_s, hold.time),
            (30, Duration::from_secs(600))
        );
        let hold = asked(&["--for", "24", "--reservation-s", "6"]).hold();
        assert_eq!(
            (hold.reservation_s, hold.time),
            (6, Duration::from_secs(24))
        );
        assert_eq!(asked(&[]).minute(), Duration::from_secs(60));
        assert_eq!(asked(&["--for", "7"]).minute(), Duration::from_secs(7));
        assert_eq!(asked(&[]).losses(), Loss::ALL);
        assert_eq!(asked(&["--loss", "both", "--json"]).losses(), [Loss::Both]);
    }

    #[test]
    fn what_a_scenario_does_not_understand_is_refused() {
        for wrong in [
            &["--for"][..],
            &["--for", "0"],
            &["--for", "86401"],
            &["--reservation-s", "-1"],
            &["--loss", "everything"],
            &["24"],
        ] {
            let refused = Wishes::parse(wrong, &["--for", "--reservation-s"]).map(drop);
            assert_eq!(refused.unwrap_err().code, 2, "{wrong:?}");
        }
        assert!(Wishes::parse(&["--loss", "both"], &["--for"]).is_err());
    }
}
