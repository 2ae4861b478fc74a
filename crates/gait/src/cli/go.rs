//! Values as the `flag` package of Go reads them, which scripts around Gait rely on.

use jiff::SignedDuration;

/// The spellings of a truth value.
pub fn bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// A whole number: decimal, or with the prefix `0x`, `0o`, `0` or `0b`.
pub fn int(text: &str) -> Option<i64> {
    let (negative, digits) = unsigned(text);
    let (radix, digits) = radix(digits);
    // `from_str_radix` would take a second sign.
    if !digits.starts_with(|first: char| first.is_digit(radix)) {
        return None;
    }
    let magnitude = i128::from(u64::from_str_radix(digits, radix).ok()?);
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

/// A finite number in decimal notation.
pub fn float(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// A span: decimal numbers with units, such as `300ms`, `-1.5h` or `2h45m`.
pub fn duration(text: &str) -> Option<SignedDuration> {
    let (negative, mut rest) = unsigned(text);
    match rest {
        "" => return None,
        "0" => return Some(SignedDuration::ZERO),
        _ => {}
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let (part, behind) = component(rest)?;
        nanos = nanos.checked_add(part)?;
        rest = behind;
    }
    let nanos = i64::try_from(if negative { -nanos } else { nanos }).ok()?;
    Some(SignedDuration::from_nanos(nanos))
}

fn unsigned(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn radix(digits: &str) -> (u32, &str) {
    let lower = digits.get(..2).map(str::to_ascii_lowercase);
    match lower.as_deref() {
        Some("0x") => (16, digits.get(2..).unwrap_or_default()),
        Some("0o") => (8, digits.get(2..).unwrap_or_default()),
        Some("0b") => (2, digits.get(2..).unwrap_or_default()),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, digits),
        _ => (10, digits),
    }
}

/// The nanoseconds of the first number with its unit, and what follows.
fn component(text: &str) -> Option<(i128, &str)> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let end = rest
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    let unit = unit_nanos(unit)?;
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let nanos = whole
        .checked_mul(unit)?
        .checked_add(fraction_nanos(fraction, unit))?;
    Some((nanos, rest))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

/// The part of `unit` behind the decimal point; digits below a nanosecond count for nothing.
fn fraction_nanos(fraction: &str, unit: i128) -> i128 {
    let mut scale = unit;
    fraction
        .bytes()
        .map(|digit| {
            scale /= 10;
            i128::from(digit.saturating_sub(b'0')) * scale
        })
        .sum()
}

fn unit_nanos(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3_600 * 1_000_000_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_every_base() {
        for (text, number) in [
            ("0", Some(0)),
            ("-7", Some(-7)),
            ("+7", Some(7)),
            ("0x1F", Some(31)),
            ("0b101", Some(5)),
            ("0o17", Some(15)),
            ("017", Some(15)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            ("--7", None),
            ("+-7", None),
            ("0x-7", None),
            ("08", None),
            ("1.5", None),
            ("7 ", None),
        ] {
            assert_eq!(int(text), number, "{text:?}");
        }
    }

    #[test]
    fn spans_are_read_with_units_only() {
        for (text, nanos) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("200ms", Some(200_000_000)),
            ("1h30m", Some(5_400_000_000_000)),
            ("-1.5s", Some(-1_500_000_000)),
            (".5s", Some(500_000_000)),
            ("1.s", Some(1_000_000_000)),
            ("1us2ns", Some(1_002)),
            ("168h", Some(604_800_000_000_000)),
            ("", None),
            ("-", None),
            ("3", None),
            ("s", None),
            (".s", None),
            ("1d", None),
            ("1h 30m", None),
            ("9999999999h", None),
            ("99999999999999999999999999999999999999999h", None),
        ] {
            let expected = nanos.map(SignedDuration::from_nanos);
            assert_eq!(duration(text), expected, "{text:?}");
        }
    }

    #[test]
    fn numbers_that_are_not_finite_are_refused() {
        for text in ["NaN", "inf", "-inf", "1e999", "", "x"] {
            assert_eq!(float(text), None, "{text:?}");
        }
        assert_eq!(float("0.7"), Some(0.7));
    }
}
