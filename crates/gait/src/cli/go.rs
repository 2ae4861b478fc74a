//! Values as the `flag` package of Go reads them, which scripts around Gait rely on.

pub use gait::duration::parse as duration;

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
}
