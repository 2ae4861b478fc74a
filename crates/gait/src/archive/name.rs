//! Which names an entry may have: those that name the same file on every system, below the folder it is unpacked to.

use crate::limits::MAX_ENTRY_NAME;

/// Why `name` is refused, if it is.
pub(super) fn objection(name: &str) -> Option<&'static str> {
    if name.len() > MAX_ENTRY_NAME {
        return Some("is too long");
    }
    if name.chars().any(|c| c.is_control() || "\\:".contains(c)) {
        return Some("has a character that is no part of a portable name");
    }
    let misleads =
        |segment: &str| matches!(segment, "" | "." | "..") || segment.ends_with(['.', ' ']);
    name.split('/')
        .any(misleads)
        .then_some("is absolute, a directory, or leads out of its folder")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_below_a_folder_are_taken() {
        for name in [
            "run.json",
            "source/runpack.zip",
            "a/b/c",
            ".hidden",
            "ä.json",
            "a..b",
        ] {
            assert_eq!(objection(name), None, "{name:?}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_or_differ_between_systems_are_refused() {
        for name in [
            "",
            "/etc/passwd",
            "..",
            "../x",
            "a/../b",
            "a/./b",
            "a//b",
            "a/",
            ".",
            "a\\b",
            "..\\x",
            "C:x",
            "x:stream",
            "a\0b",
            "a\nb",
            "a\u{7f}",
            "a.",
            "a /b",
        ] {
            assert!(objection(name).is_some(), "{name:?}");
        }
    }

    #[test]
    fn a_name_is_taken_at_the_limit_and_refused_past_it() {
        assert_eq!(objection(&"x".repeat(MAX_ENTRY_NAME)), None);
        assert!(objection(&"x".repeat(MAX_ENTRY_NAME + 1)).is_some());
    }
}
