//! Spans of time as Go writes and reads them, such as `1h30m0s`, which policies, flags and scripts around Gait use.

use std::fmt::Write as _;

use jiff::SignedDuration;

/// Reads decimal numbers with units, such as `300ms`, `-1.5h` or `2h45m`; `None` for anything else.
pub fn parse(text: &str) -> Option<SignedDuration> {
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

/// Writes a span: from the largest unit that it fills, with all smaller ones down to the second, as in `24h0m0s`.
pub fn format(span: SignedDuration) -> String {
    let nanos = span.as_nanos().unsigned_abs();
    let sign = if span.is_negative() { "-" } else { "" };
    let unit = match nanos {
        0 => return "0s".to_owned(),
        1..=999 => return format!("{sign}{nanos}ns"),
        1_000..=999_999 => (1_000, "µs"),
        1_000_000..=999_999_999 => (1_000_000, "ms"),
        _ => return sign.to_owned() + &clock(nanos),
    };
    format!("{sign}{}{}", decimal(nanos, unit.0), unit.1)
}

const SECOND: u128 = 1_000_000_000;

fn clock(nanos: u128) -> String {
    let minutes = nanos / (60 * SECOND);
    let mut text = String::new();
    if minutes >= 60 {
        let _ = write!(text, "{}h", minutes / 60);
    }
    if minutes > 0 {
        let _ = write!(text, "{}m", minutes % 60);
    }
    let seconds = decimal(nanos % (60 * SECOND), SECOND);
    text + &seconds + "s"
}

/// `nanos` in `unit`, without trailing zeros.
fn decimal(nanos: u128, unit: u128) -> String {
    let width = unit.ilog10() as usize;
    let text = format!("{}.{:0width$}", nanos / unit, nanos % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn unsigned(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
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
    fn spans_are_written_as_go_writes_them() {
        for (text, written) in [
            ("0", "0s"),
            ("24h", "24h0m0s"),
            ("90m", "1h30m0s"),
            ("61s", "1m1s"),
            ("1.5s", "1.5s"),
            ("1500us", "1.5ms"),
            ("1.001µs", "1.001µs"),
            ("999ns", "999ns"),
            ("-2h45m", "-2h45m0s"),
            ("1h0.000000001s", "1h0m0.000000001s"),
        ] {
            assert_eq!(format(parse(text).unwrap()), written, "{text}");
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
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }
}
