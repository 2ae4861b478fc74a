//! An instant as a record states it.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use jiff::tz::Offset;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::wire_time::WireTime;

/// An RFC 3339 instant that keeps the offset it was given in, as the format does; trailing zeros of the fraction are
/// trimmed. Unset is written `0001-01-01T00:00:00Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    at: WireTime,
    /// None is UTC.
    offset: Option<Offset>,
}

impl Stamp {
    /// The instant `at`, in UTC.
    pub const fn at(at: Timestamp) -> Self {
        Self {
            at: WireTime::at(at),
            offset: None,
        }
    }

    /// The instant, unless unset.
    pub const fn get(&self) -> Option<Timestamp> {
        self.at.get()
    }

    /// Whether no instant is given.
    pub const fn is_unset(&self) -> bool {
        self.at.is_unset()
    }

    /// The same instant in UTC.
    pub fn utc(self) -> Self {
        Self {
            offset: None,
            ..self
        }
    }

    /// This one, or `other` when unset.
    pub fn or(self, other: Self) -> Self {
        match self.is_unset() {
            true => other,
            false => self,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let at = WireTime::parse(text)?;
        let offset = match text.strip_suffix('Z') {
            Some(_) => None,
            None => Some(offset(text.get(text.len().checked_sub(6)?..)?)?),
        };
        Some(Self { at, offset })
    }
}

/// Reads `+hh:mm` or `-hh:mm`.
fn offset(text: &str) -> Option<Offset> {
    let (sign, rest) = text.split_at_checked(1)?;
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let seconds = (hours * 60 + minutes) * 60;
    Offset::from_seconds(if sign == "-" { -seconds } else { seconds }).ok()
}

impl From<WireTime> for Stamp {
    fn from(at: WireTime) -> Self {
        Self { at, offset: None }
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.get(), self.offset) {
            (Some(at), Some(offset)) if offset != Offset::UTC => {
                at.display_with_offset(offset).fmt(formatter)
            }
            _ => self.at.fmt(formatter),
        }
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A text that is copied only if it was spelled with escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Stamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?.0;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format_args!("not an RFC 3339 instant: {text:?}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_is_kept_and_the_fraction_trimmed() {
        for (given, written) in [
            ("2026-02-05T01:30:00+01:30", "2026-02-05T01:30:00+01:30"),
            (
                "2026-02-05T01:30:00.250-08:00",
                "2026-02-05T01:30:00.25-08:00",
            ),
            ("2026-02-05T00:00:00+00:00", "2026-02-05T00:00:00Z"),
            ("2026-02-05T00:00:00.000Z", "2026-02-05T00:00:00Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ] {
            assert_eq!(Stamp::parse(given).unwrap().to_string(), written);
        }
        assert!(Stamp::parse("2026-02-05T01:30:00+99:99").is_none());
        assert!(Stamp::default().is_unset());
    }

    #[test]
    fn in_utc_it_is_the_same_instant() {
        let stamp = Stamp::parse("2026-02-05T01:30:00+01:30").unwrap();
        assert_eq!(stamp.utc().to_string(), "2026-02-05T00:00:00Z");
        assert_eq!(stamp.utc().get(), stamp.get());
    }
}
