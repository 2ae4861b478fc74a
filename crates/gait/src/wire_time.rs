//! An instant as the formats write it.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How the formats spell "no instant" where a field cannot be left out.
const ZERO: &str = "0001-01-01T00:00:00Z";
/// The instant that [`ZERO`] would be.
const ZERO_INSTANT: Timestamp = Timestamp::constant(-62_135_596_800, 0);
/// 0000-01-01T00:00:00Z: before it, years have no four digits.
const EARLIEST: Timestamp = Timestamp::constant(-62_167_219_200, 0);

/// An RFC 3339 instant in UTC with nanoseconds, trailing zeros trimmed; unset is written `0001-01-01T00:00:00Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WireTime(Option<Timestamp>);

impl WireTime {
    /// 1980-01-01, the time of what does not say when it was made.
    pub const UNDATED: Timestamp = Timestamp::constant(315_532_800, 0);

    /// The instant `at`.
    pub const fn at(at: Timestamp) -> Self {
        Self(Some(at))
    }

    /// The instant, unless unset.
    pub const fn get(self) -> Option<Timestamp> {
        self.0
    }

    /// Whether no instant is given.
    pub const fn is_unset(&self) -> bool {
        self.0.is_none()
    }

    /// Reads RFC 3339 as Gait does: upper-case `T` and `Z`, seconds present, an offset present. Every spelling of the
    /// instant that stands for "unset" is unset, and an offset leads to no year before 0000.
    pub fn parse(text: &str) -> Option<Self> {
        let timestamp: Timestamp = text.parse().ok()?;
        let whole = is_rfc3339(text) && timestamp >= EARLIEST;
        whole.then_some(Self((timestamp != ZERO_INSTANT).then_some(timestamp)))
    }
}

/// Whether the spelling is a time without an offset: `YYYY-MM-DDTHH:MM:SS`.
pub(crate) fn is_local(text: &str) -> bool {
    text.len() == 19 && has_local_shape(text)
}

fn has_local_shape(text: &str) -> bool {
    text.bytes().zip(b"0000-00-00T00:00:00").all(same_shape) && !text.ends_with("60")
}

/// Whether the spelling is RFC 3339 `YYYY-MM-DDTHH:MM:SS[.frac](Z|±HH:MM)`; the digits' ranges are the parser's job.
fn is_rfc3339(text: &str) -> bool {
    let Some((stem, rest)) = text.split_at_checked(19) else {
        return false;
    };
    let (fraction, offset) = rest.split_at(rest.find(['Z', '+', '-']).unwrap_or(rest.len()));
    has_local_shape(stem) && is_fraction(fraction) && is_offset(offset)
}

fn same_shape((byte, model): (u8, &u8)) -> bool {
    match model {
        b'0' => byte.is_ascii_digit(),
        other => byte == *other,
    }
}

fn is_fraction(fraction: &str) -> bool {
    fraction.is_empty()
        || fraction
            .strip_prefix('.')
            .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn is_offset(offset: &str) -> bool {
    offset == "Z" || (offset.len() == 6 && offset.bytes().skip(1).zip(b"00:00").all(same_shape))
}

impl fmt::Display for WireTime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(timestamp) => write!(formatter, "{timestamp}"),
            None => formatter.write_str(ZERO),
        }
    }
}

impl Serialize for WireTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WireTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format_args!("not an RFC 3339 instant: {text:?}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_in_utc_with_trimmed_fractions() {
        for (given, written) in [
            ("2026-02-05T00:00:00Z", "2026-02-05T00:00:00Z"),
            ("2026-02-05T01:30:00+01:30", "2026-02-05T00:00:00Z"),
            (
                "2026-11-21T09:08:37.157455360Z",
                "2026-11-21T09:08:37.15745536Z",
            ),
            ("2026-11-21T09:08:37.500Z", "2026-11-21T09:08:37.5Z"),
            (ZERO, ZERO),
        ] {
            assert_eq!(WireTime::parse(given).unwrap().to_string(), written);
        }
        assert_eq!(WireTime::default().to_string(), ZERO);
    }

    #[test]
    fn every_spelling_of_no_instant_is_unset() {
        for text in [
            ZERO,
            "0001-01-01T00:00:00.000Z",
            "0001-01-01T00:00:00+00:00",
            "0001-01-01T01:00:00+01:00",
            "0000-12-31T23:00:00-01:00",
        ] {
            assert!(WireTime::parse(text).unwrap().is_unset(), "{text}");
        }
        let later = WireTime::parse("0001-01-01T00:00:00.000000001Z").unwrap();
        assert!(!later.is_unset());
    }

    #[test]
    fn an_offset_leads_to_no_year_before_0000() {
        assert_eq!(WireTime::parse("0000-01-01T00:00:00+00:01"), None);
        let first = WireTime::parse("0000-01-01T00:01:00+00:01").unwrap();
        assert_eq!(first.to_string(), "0000-01-01T00:00:00Z");
        assert_eq!(WireTime::parse(&first.to_string()), Some(first));
    }

    #[test]
    fn other_spellings_of_time_are_refused() {
        for text in [
            "",
            "2026-02-05",
            "2026-02-05 00:00:00Z",
            "2026-02-05t00:00:00Z",
            "2026-02-05T00:00:00",
            "2026-02-05T00:00Z",
            "2026-02-05T00:00:60Z",
            "2026-02-30T00:00:00Z",
            "2026-02-05T00:00:00.Z",
            "2026-02-05T00:00:00+0100",
            "2026-02-05T00:00:00Z[UTC]",
            "20260205T000000Z",
            "-002026-02-05T00:00:00Z",
            "2026-02-05T00:00:0éZ",
        ] {
            assert_eq!(WireTime::parse(text), None, "{text:?}");
        }
    }
}
