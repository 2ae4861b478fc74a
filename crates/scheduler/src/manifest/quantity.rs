//! The units humans write: `500m` of a core, `64Mi` of memory, `7d` of time.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A number or a text, as the document has it; which of the two is known only once the field is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Quantity {
    Number(u64),
    Text(String),
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(QuantityVisitor)
    }
}

/// A whole number that is written as a number: a quoted one is a text.
#[derive(Clone, Copy)]
pub(super) struct Whole<N>(pub(super) N);

impl<'de, N: TryFrom<u64>> Deserialize<'de> for Whole<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let quantity = Quantity::deserialize(deserializer)?;
        let number = match quantity {
            Quantity::Number(number) => N::try_from(number).ok(),
            Quantity::Text(_) => None,
        };
        number
            .map(Self)
            .ok_or_else(|| Error::custom(format!("`{quantity}` is not a whole number in range")))
    }
}

struct QuantityVisitor;

impl Visitor<'_> for QuantityVisitor {
    type Value = Quantity;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number or a quantity with a unit")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Quantity, E> {
        Ok(Quantity::Number(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Quantity, E> {
        u64::try_from(number)
            .map(Quantity::Number)
            .map_err(|_| E::custom("a quantity cannot be negative"))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Quantity, E> {
        Ok(Quantity::Text(text.to_owned()))
    }
}

/// A family of units: suffix and factor. The empty suffix stands for a bare number.
type Units = &'static [(&'static str, u64)];

/// Cores in thousandths: `2`, `500m`.
const CORES: Units = &[("m", 1), ("", 1000)];
/// Bytes: `1048576`, `64Mi`, `1G`.
const BYTES: Units = &[
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("", 1),
];
/// Time in milliseconds; a bare number would leave the unit to a guess.
const TIME: Units = &[
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];
/// A plain count.
const COUNT: Units = &[("", 1)];

impl Quantity {
    /// Thousandths of a core.
    pub(super) fn millicores(&self) -> Result<u64, String> {
        self.read(CORES, "cores, for example 2 or 500m")
    }

    /// Bytes.
    pub(super) fn bytes(&self) -> Result<u64, String> {
        self.read(BYTES, "bytes, for example 64Mi or 1Gi")
    }

    /// Milliseconds.
    pub(super) fn millis(&self) -> Result<u64, String> {
        self.read(TIME, "a time with its unit, for example 2s, 5m or 7d")
    }

    /// A count.
    pub(super) fn count(&self) -> Result<u64, String> {
        self.read(COUNT, "a whole number")
    }

    fn read(&self, units: Units, expected: &str) -> Result<u64, String> {
        let value = match self {
            Self::Number(number) => unit("", units).and_then(|factor| number.checked_mul(factor)),
            Self::Text(text) => measure(text, units),
        };
        value.ok_or_else(|| format!("expected {expected}, found `{self}`"))
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.escape_default().fmt(f),
        }
    }
}

/// Digits without a sign or a leading zero, then a unit, with nothing between or around.
fn measure(text: &str, units: Units) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at_checked(digits)?;
    let canonical = number == "0" || !number.starts_with('0');
    let number: u64 = number.parse().ok().filter(|_| canonical)?;
    number.checked_mul(unit(suffix, units)?)
}

fn unit(suffix: &str, units: Units) -> Option<u64> {
    let known = units.iter().find(|(name, _)| *name == suffix);
    known.map(|(_, factor)| *factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Quantity {
        Quantity::Text(text.to_owned())
    }

    #[test]
    fn units_multiply() {
        assert_eq!(text("500m").millicores(), Ok(500));
        assert_eq!(text("2").millicores(), Ok(2_000));
        assert_eq!(Quantity::Number(2).millicores(), Ok(2_000));
        assert_eq!(text("64Mi").bytes(), Ok(64 << 20));
        assert_eq!(text("1Gi").bytes(), Ok(1 << 30));
        assert_eq!(text("1G").bytes(), Ok(1_000_000_000));
        assert_eq!(Quantity::Number(4096).bytes(), Ok(4096));
        assert_eq!(text("250ms").millis(), Ok(250));
        assert_eq!(text("2s").millis(), Ok(2_000));
        assert_eq!(text("5m").millis(), Ok(300_000));
        assert_eq!(text("7d").millis(), Ok(604_800_000));
    }

    #[test]
    fn what_is_not_exactly_digits_and_a_unit_of_the_family_is_refused() {
        let odd = [
            "", "Mi", "-1", "+1", " 1", "1 ", "1 Mi", "01Mi", "1.5Gi", "1e3", "64mi", "64MI",
            "64MB", "0x10", "1_000", "1d", "１",
        ];
        for odd in odd {
            assert!(text(odd).bytes().is_err(), "{odd:?}");
        }
        assert!(text("500mm").millicores().is_err());
        assert!(text("2k").millicores().is_err());
        assert!(text("1w").millis().is_err());
    }

    #[test]
    fn a_time_without_a_unit_is_refused() {
        assert!(text("60").millis().is_err());
        assert!(Quantity::Number(60).millis().is_err());
    }

    #[test]
    fn a_product_past_64_bits_is_refused_instead_of_wrapped() {
        assert_eq!(text("16777215Ti").bytes(), Ok(16_777_215 << 40));
        assert!(text("16777216Ti").bytes().is_err());
        assert!(Quantity::Number(u64::MAX).millicores().is_err());
        assert!(text("99999999999999999999").bytes().is_err());
    }
}
