//! The paths that a target may name, in every way in which a tool could read its spelling.
//!
//! A list of paths lets a target through only if it lets all readings through, and denies it if it denies one: the gate
//! does not know which reading the tool prefers.

use super::matching::contains;
use crate::intent::Target;
use crate::text::clean_path;

/// The cleaned paths, sorted, each once; none for a target that names no path.
///
/// A path is named by a target of that kind, by one whose class works on files, and by a `file:` address of any kind,
/// whose query and fragment some tools cut off and others take for a part of the path.
pub(crate) fn of(target: &Target) -> Vec<String> {
    let mut readings = vec![target.value.clone()];
    for read in [unescaped, unified, terminated] {
        let again: Vec<String> = readings.iter().map(|text| read(text)).collect();
        readings.extend(again);
        readings.sort_unstable();
        readings.dedup();
    }
    let itself = names_a_path(target);
    let mut paths: Vec<String> = readings
        .iter()
        .flat_map(|text| of_address(text).chain(itself.then_some(text.as_str())))
        .map(clean_path)
        .collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// Whether a reading of the path of `target` is on the sorted list.
pub(super) fn listed(sorted: &[String], target: &Target) -> bool {
    of(target).iter().any(|path| contains(sorted, path))
}

/// Whether the value is a path as it stands.
fn names_a_path(target: &Target) -> bool {
    let is_address = target.kind == "url" && path_of_address(&target.value).is_some();
    !is_address && (target.kind == "path" || target.endpoint_class.starts_with("fs."))
}

/// The path of a `file:` address, with and without its query and fragment.
fn of_address(value: &str) -> impl Iterator<Item = &str> {
    let path = path_of_address(value);
    let cut = path.and_then(|path| path.split(['?', '#']).next());
    path.into_iter().chain(cut)
}

/// All that follows scheme and host of a `file:` address.
fn path_of_address(value: &str) -> Option<&str> {
    let (scheme, rest) = value.split_once(':')?;
    if !scheme.eq_ignore_ascii_case("file") {
        return None;
    }
    let Some(authority) = rest.strip_prefix("//") else {
        return Some(rest);
    };
    let start = authority.find('/').unwrap_or(authority.len());
    authority.get(start..)
}

/// As a tool reads it that takes `%2e` for a dot.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| escaped_byte(after)).flatten();
        bytes.push(escaped.unwrap_or(*first));
        let taken = if escaped.is_some() { 2 } else { 0 };
        rest = after.get(taken..).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn escaped_byte(after: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(after.get(..2)?).ok()?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// As a tool reads it that takes `\` for `/`.
fn unified(text: &str) -> String {
    text.replace('\\', "/")
}

/// As a tool reads it whose strings end at the first NUL.
fn terminated(text: &str) -> String {
    text.split('\0').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, class: &str, value: &str) -> Vec<String> {
        of(&Target {
            kind: kind.to_owned(),
            endpoint_class: class.to_owned(),
            value: value.to_owned(),
            ..Target::default()
        })
    }

    #[test]
    fn a_plain_path_has_one_reading() {
        assert_eq!(read("path", "fs.read", "/srv//a/./b"), ["/srv/a/b"]);
        assert_eq!(read("path", "other", "100%"), ["100%"]);
        assert_eq!(read("path", "other", "/é%zz%+1"), ["/é%zz%+1"]);
    }

    #[test]
    fn escapes_backslashes_and_early_ends_are_readings_of_their_own_and_together() {
        assert_eq!(
            read("path", "fs.read", "/srv/%2e%2E/etc"),
            ["/etc", "/srv/%2e%2E/etc"]
        );
        assert_eq!(
            read("path", "fs.read", "/srv\\..\\etc"),
            ["/etc", "/srv\\..\\etc"]
        );
        let ends = read("path", "fs.read", "/etc/passwd\0/../../srv/x");
        assert_eq!(ends, ["/etc/passwd", "/srv/x"]);
        assert!(read("path", "fs.read", "/srv/%5c..%5cetc%00x").contains(&"/etc".to_owned()));
    }

    #[test]
    fn what_works_on_files_names_a_path_whatever_it_calls_itself() {
        assert_eq!(read("other", "fs.write", "/etc/x"), ["/etc/x"]);
        for address in ["file:///etc/x", "FILE:/etc/x", "file://localhost/etc/x"] {
            assert_eq!(read("url", "net.http", address), ["/etc/x"], "{address}");
        }
        for kind in ["path", "url", "host", "other"] {
            for address in [
                "file:///etc/x",
                "file:///etc/x?y",
                "file:///etc/x#y",
                "%66ile:%2f%2f/etc/x",
                "file:\\\\h\\etc\\x",
            ] {
                let readings = read(kind, "other", address);
                assert!(readings.contains(&"/etc/x".to_owned()), "{kind} {address}");
            }
        }
        assert_eq!(
            read("url", "net.http", "file:///srv/x?y"),
            ["/srv/x", "/srv/x?y"]
        );
        assert_eq!(read("url", "net.http", "https://h/etc"), [""; 0]);
        assert_eq!(read("other", "other", "class:scientific"), [""; 0]);
    }
}
