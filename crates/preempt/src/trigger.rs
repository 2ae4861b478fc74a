//! What makes a donor yield.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Why a machine is wanted by its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A key, a button or a pointer.
    Input,
    /// Somebody types in a terminal of this machine, also from afar.
    Foreground,
    /// Other programs take nearly all of the processors that the sandboxes leave them.
    Load,
    /// A part of the machine is hot.
    Temperature,
    /// It runs on its battery.
    Power,
    /// Little memory is left.
    Memory,
    /// An hour in which its owner wants no work here.
    Schedule,
    /// A rule of the owner's own: a file is there.
    User,
}

impl Trigger {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 8] = [
        Self::Input,
        Self::Foreground,
        Self::Load,
        Self::Temperature,
        Self::Power,
        Self::Memory,
        Self::Schedule,
        Self::User,
    ];

    /// The stable snake_case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Foreground => "foreground",
            Self::Load => "load",
            Self::Temperature => "temperature",
            Self::Power => "power",
            Self::Memory => "memory",
            Self::Schedule => "schedule",
            Self::User => "user",
        }
    }

    /// How often it is looked at. Input is waited for as well, and noticed at once while nothing is frozen. Load is that of
    /// the time between two looks: one that begins in the middle is noticed after the second.
    pub const fn period(self) -> Duration {
        Duration::from_millis(match self {
            Self::Input => 100,
            Self::Foreground | Self::Memory => 200,
            Self::Load | Self::Temperature | Self::Power => 500,
            Self::Schedule | Self::User => 1000,
        })
    }

    /// Whether what it tells of is over as soon as it is not seen any more. Whoever pressed a key is still there after it.
    pub const fn passes(self) -> bool {
        !matches!(self, Self::Input | Self::Foreground)
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_place_of_its_own_and_the_name_that_it_is_written_with() {
        for (index, trigger) in Trigger::ALL.into_iter().enumerate() {
            assert_eq!(trigger.index(), index);
            let text = format!("on = [\"{trigger}\"]");
            let settings: crate::Settings = toml::from_str(&text).unwrap();
            assert_eq!(settings.on, [trigger].into());
        }
    }
}
