//! What the owner of a machine may choose.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use worldcompute_fault::{Category, Fault, Result};

use crate::{QuietHours, Trigger};

/// The longest time without a trigger that can be asked for, in seconds.
pub const MAX_RESUME_AFTER_S: u32 = 86_400;

/// The most stretches of quiet hours.
pub const MAX_QUIET_HOURS: usize = 32;

/// The table `[yield]` of `config.toml`.
///
/// By default nothing fires but what only a machine shows that somebody sits at or carries about: a machine in a rack
/// is hot, busy and full because it works, and is nobody's to give back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What makes sandboxes stand still.
    pub on: BTreeSet<Trigger>,
    /// What has them give their memory back as well, which ends them. The rest only stops them.
    pub release_on: BTreeSet<Trigger>,
    /// Seconds in which nothing has to fire before they go on.
    pub resume_after_s: u32,
    /// `load`: percent of the processor time that the sandboxes leave, from which on others take too much of it.
    pub load_percent: u32,
    /// `temperature`: degrees Celsius above which it is too hot.
    pub temperature_c: u32,
    /// `memory`: percent of memory in use above which it is too full.
    pub memory_percent: u32,
    /// `user`: a file; as long as it is there, sandboxes stand still.
    pub while_exists: Option<PathBuf>,
    /// `schedule`: when nothing runs, by the machine's time zone.
    pub quiet_hours: Vec<QuietHours>,
}

impl Default for Settings {
    fn default() -> Self {
        use Trigger::{Foreground, Input, Memory, Power, Schedule, User};
        Self {
            on: [Input, Power, Schedule, User].into(),
            release_on: [Input, Foreground, Memory].into(),
            resume_after_s: 30,
            load_percent: 90,
            temperature_c: 80,
            memory_percent: 80,
            while_exists: None,
            quiet_hours: Vec::new(),
        }
    }
}

impl Settings {
    /// Nothing fires.
    pub fn never() -> Self {
        Self {
            on: BTreeSet::new(),
            ..Self::default()
        }
    }

    /// Refuses values that could not work.
    ///
    /// # Errors
    /// `config_invalid`; its message begins with the name of the setting.
    pub fn check(&self) -> Result<()> {
        within("resume_after_s", self.resume_after_s, 1, MAX_RESUME_AFTER_S)?;
        within("load_percent", self.load_percent, 1, 100)?;
        within("temperature_c", self.temperature_c, 30, 120)?;
        within("memory_percent", self.memory_percent, 1, 99)?;
        let count = u32::try_from(self.quiet_hours.len()).unwrap_or(u32::MAX);
        within("quiet_hours", count, 0, MAX_QUIET_HOURS as u32)?;
        match &self.while_exists {
            Some(path) if !path.is_absolute() => {
                Err(invalid("while_exists: not an absolute path".to_owned())
                    .hint("name the file from the root on"))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn resume_after(&self) -> Duration {
        Duration::from_secs(self.resume_after_s.into())
    }
}

fn within(setting: &str, value: u32, least: u32, most: u32) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(invalid(format!("{setting}: {value} is out of range"))
        .hint(format!("give {least} to {most}")))
}

fn invalid(what: String) -> Fault {
    Fault::new(
        Category::InvalidInput,
        "config_invalid",
        format!("yield.{what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_machine_in_a_rack_shows_stops_a_donor_by_default() {
        let on = Settings::default().on;
        for trigger in [
            Trigger::Load,
            Trigger::Temperature,
            Trigger::Memory,
            Trigger::Foreground,
        ] {
            assert!(!on.contains(&trigger), "{trigger}");
        }
    }

    #[test]
    fn the_written_defaults_read_back_as_the_defaults() {
        let text = toml::to_string(&Settings::default()).unwrap();
        assert_eq!(
            toml::from_str::<Settings>(&text).unwrap(),
            Settings::default()
        );
    }

    #[test]
    fn what_nobody_can_mean_is_refused_by_name() {
        for (text, named) in [
            ("on = [\"boredom\"]", "boredom"),
            ("onn = []", "onn"),
            ("quiet_hours = [\"25:00-26:00\"]", "quiet_hours"),
        ] {
            let error = toml::from_str::<Settings>(text).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn values_at_their_limits_are_taken_and_one_past_them_refused() {
        let night: QuietHours = "22:00-06:00".parse().unwrap();
        for (taken, refused, setting) in [
            ("resume_after_s = 1", "resume_after_s = 0", "resume_after_s"),
            (
                "resume_after_s = 86400",
                "resume_after_s = 86401",
                "resume_after_s",
            ),
            ("load_percent = 1", "load_percent = 0", "load_percent"),
            ("load_percent = 100", "load_percent = 101", "load_percent"),
            ("temperature_c = 30", "temperature_c = 29", "temperature_c"),
            (
                "temperature_c = 120",
                "temperature_c = 121",
                "temperature_c",
            ),
            (
                "memory_percent = 99",
                "memory_percent = 100",
                "memory_percent",
            ),
            (
                "while_exists = \"/run/busy\"",
                "while_exists = \"busy\"",
                "while_exists",
            ),
        ] {
            let read = |text| toml::from_str::<Settings>(text).unwrap().check();
            assert!(read(taken).is_ok(), "{taken}");
            let fault = read(refused).unwrap_err();
            assert_eq!(fault.code(), "config_invalid");
            assert!(
                fault.message().starts_with(&format!("yield.{setting}: ")),
                "{fault}"
            );
        }
        let hours = |count| Settings {
            quiet_hours: vec![night; count],
            ..Settings::default()
        };
        assert!(hours(MAX_QUIET_HOURS).check().is_ok());
        assert!(hours(MAX_QUIET_HOURS + 1).check().is_err());
    }
}
