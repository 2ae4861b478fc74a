//! The string rules that digests depend on: trimming, lower-casing, sorting and path cleaning as Gait does them.

/// Lower-cases each character on its own, with the simple mapping of Unicode.
///
/// `str::to_lowercase` knows words (final sigma) and expansions (dotted capital I); the format does not.
pub fn lower(text: &str) -> String {
    text.chars().map(lower_char).collect()
}

fn lower_char(character: char) -> char {
    if character == '\u{130}' {
        return 'i';
    }
    let mut mapped = character.to_lowercase();
    match (mapped.next(), mapped.next()) {
        (Some(single), None) => single,
        _ => character,
    }
}

/// Trims and lower-cases.
pub fn trim_lower(text: &str) -> String {
    lower(text.trim())
}

/// Trimmed, without the empty ones, sorted by bytes, each once.
pub fn sorted_set<S: AsRef<str>>(values: &[S]) -> Vec<String> {
    sorted(values.iter().map(|value| value.as_ref().trim().to_owned()))
}

/// [`sorted_set`] in lower case.
pub fn sorted_set_lower<S: AsRef<str>>(values: &[S]) -> Vec<String> {
    sorted(values.iter().map(|value| trim_lower(value.as_ref())))
}

fn sorted(values: impl Iterator<Item = String>) -> Vec<String> {
    let mut set: Vec<String> = values.filter(|value| !value.is_empty()).collect();
    set.sort_unstable();
    set.dedup();
    set
}

/// The shortest path that names the same place, by spelling alone: no `.`, no inner `..`, no doubled `/`.
///
/// Leading `..` of a relative path stay, so that no relative pattern can mistake an escape for something inside.
pub fn clean_path(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." if kept.last().is_some_and(|last| *last != "..") => {
                kept.pop();
            }
            ".." if rooted => {}
            _ => kept.push(segment),
        }
    }
    let joined = kept.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// Whether the value is the lower-case hex of a SHA-256.
pub fn is_sha256_hex(value: &str) -> bool {
    value.len() == 64
        && value
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_casing_maps_each_character_alone() {
        assert_eq!(lower("TOOL.Write"), "tool.write");
        assert_eq!(lower("ΟΔΟΣ"), "οδοσ");
        assert_eq!(lower("İ"), "i");
        assert_eq!(lower("\u{212a}"), "k");
    }

    #[test]
    fn sets_are_trimmed_sorted_and_unique() {
        assert_eq!(sorted_set(&[" b ", "a", "", "b", "  "]), ["a", "b"]);
        assert_eq!(sorted_set_lower(&["B", "b", "A "]), ["a", "b"]);
    }

    #[test]
    fn cleaning_resolves_every_way_to_climb() {
        for (given, cleaned) in [
            ("/tmp/../etc/passwd", "/etc/passwd"),
            ("/../../etc", "/etc"),
            ("/tmp//a/./b/", "/tmp/a/b"),
            ("a/../../b", "../b"),
            ("../../x", "../../x"),
            ("a/..", "."),
            ("", "."),
            ("/", "/"),
            ("/..", "/"),
        ] {
            assert_eq!(clean_path(given), cleaned, "{given:?}");
        }
    }
}
