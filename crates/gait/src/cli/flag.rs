//! What a command declares about its flags.

use jiff::SignedDuration;

/// One flag, or a group of flags that several commands share.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Without dashes; empty for a group.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
}

/// What a flag takes, with the value it has when it is not given.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Any text.
    Text(&'static str),
    /// Nothing, or `=true` and `=false`.
    Switch,
    /// A whole number.
    Int(i64),
    /// A span such as `1h30m`.
    Duration(SignedDuration),
    /// Texts separated by commas.
    Csv,
    /// The flags of a group.
    Group(&'static [Flag]),
}

impl Flag {
    /// A flag that takes text.
    pub const fn text(name: &'static str, default: &'static str) -> Self {
        Self::new(name, Kind::Text(default))
    }

    /// A flag that is on when given.
    pub const fn switch(name: &'static str) -> Self {
        Self::new(name, Kind::Switch)
    }

    /// A flag that takes a whole number.
    pub const fn int(name: &'static str, default: i64) -> Self {
        Self::new(name, Kind::Int(default))
    }

    /// A flag that takes a span of time.
    pub const fn duration(name: &'static str, default: SignedDuration) -> Self {
        Self::new(name, Kind::Duration(default))
    }

    /// A flag that takes texts separated by commas.
    pub const fn csv(name: &'static str) -> Self {
        Self::new(name, Kind::Csv)
    }

    /// Flags that several commands share.
    pub const fn group(flags: &'static [Self]) -> Self {
        Self::new("", Kind::Group(flags))
    }

    const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind }
    }

    /// The single flags, groups opened.
    pub fn flatten(flags: &'static [Self]) -> Vec<&'static Self> {
        flags
            .iter()
            .flat_map(|flag| match flag.kind {
                Kind::Group(members) => Self::flatten(members),
                _ => vec![flag],
            })
            .collect()
    }
}
