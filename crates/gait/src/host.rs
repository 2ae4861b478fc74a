//! The host inside an address, read the way Go's `net/url` reads it, so that digests agree.
//!
//! An address that it would refuse, or that browsers and Go read differently, has no host here; endpoint constraints
//! treat that as a host that nobody allowed.

use crate::text;

/// The host of a bare `host[:port][/path]`, with an optional `http://` or `https://`.
pub(crate) fn of_host(value: &str) -> String {
    let value = value.trim();
    let value = value.strip_prefix("http://").unwrap_or(value);
    let value = value.strip_prefix("https://").unwrap_or(value);
    let end = value.find('/').unwrap_or(value.len());
    let host = value.get(..end).unwrap_or(value);
    text::trim_lower(host.split(':').next().unwrap_or(host))
}

/// The host of exactly `host[:port]` or `[v6][:port]`; `None` for anything else, in which tools find different hosts.
pub(crate) fn of_exact(value: &str) -> Option<String> {
    let value = value.trim();
    let authority = hostname(value).filter(|_| !value.contains('@'))?;
    let bracketed = value.starts_with('[');
    let whole = !authority.is_empty() && (bracketed || !authority.contains(':'));
    whole.then(|| text::trim_lower(authority))
}

/// The host of a URL; empty when there is none or the URL is malformed.
pub(crate) fn of_url(value: &str) -> String {
    authority(value.trim())
        .and_then(hostname)
        .map(text::trim_lower)
        .unwrap_or_default()
}

fn authority(url: &str) -> Option<&str> {
    if url.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return None;
    }
    let (url, fragment) = url.split_once('#').unwrap_or((url, ""));
    let rest = after_scheme(url)?.split('?').next()?.strip_prefix("//")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    (escapes_are_valid(path) && escapes_are_valid(fragment)).then_some(authority)
}

fn after_scheme(url: &str) -> Option<&str> {
    if url.starts_with("//") {
        return Some(url);
    }
    let (scheme, rest) = url.split_once(':')?;
    let mut bytes = scheme.bytes();
    let valid = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    valid.then_some(rest)
}

fn escapes_are_valid(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        let mut digits = after.bytes();
        let is_hex = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit());
        is_hex(digits.next()) && is_hex(digits.next())
    })
}

fn hostname(authority: &str) -> Option<&str> {
    let (user, host_port) = authority.rsplit_once('@').unwrap_or(("", authority));
    if !user
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte))
        || !escapes_are_valid(user)
    {
        return None;
    }
    let (host, port) = match host_port.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => host_port.split_at(host_port.rfind(':').unwrap_or(host_port.len())),
    };
    (is_port(port) && host.chars().all(is_host_char)).then_some(host)
}

fn is_port(port: &str) -> bool {
    port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_host_char(character: char) -> bool {
    character.is_ascii_alphanumeric()
        || !character.is_ascii()
        || "-._~!$&'()*+,;=:".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_where_the_connection_would_go() {
        for (url, host) in [
            ("https://Example.COM/a?b#c", "example.com"),
            ("https://example.com:8443", "example.com"),
            ("http://good.example@evil.example/x", "evil.example"),
            ("http://a@b@evil.example", "evil.example"),
            ("//example.com/x", "example.com"),
            ("http://[::1]:80/", "::1"),
            ("http://example.com?x=//other.example", "example.com"),
            ("http://example.com#@other.example/", "example.com"),
            ("http://bücher.example/", "bücher.example"),
            ("ftp://h", "h"),
        ] {
            assert_eq!(of_url(url), host, "{url}");
        }
    }

    #[test]
    fn malformed_addresses_have_no_host() {
        for url in [
            "",
            "example.com/x",
            "mailto:a@example.com",
            "http://evil.example\\@good.example/",
            "http://good.example:port/",
            "http://ex%61mple.com/",
            "http://good .example/",
            "http://good.example/%zz",
            "http://good.example/#%g0",
            "http://good\u{0}.example/",
            "1http://good.example",
            "http://[::1",
            "http://[::1]x/",
            "://good.example",
        ] {
            assert_eq!(of_url(url), "", "{url:?}");
        }
    }

    #[test]
    fn an_exact_host_has_nothing_in_which_another_could_hide() {
        for (value, host) in [
            ("Example.com", "example.com"),
            (" example.com:443 ", "example.com"),
            ("example.com.", "example.com."),
            ("[::1]", "::1"),
            ("[::1]:443", "::1"),
        ] {
            assert_eq!(of_exact(value).as_deref(), Some(host), "{value:?}");
        }
        for value in [
            "", ":443", "[]:1", "::1", "[::1", "[::1]x", "a@b", "a:1@b:2", "a:1:2", "a:b", "a/b",
            "a?b", "a#b", "a\\b", "a b", "a%2eb", "http://a", "a\0b",
        ] {
            assert_eq!(of_exact(value), None, "{value:?}");
        }
    }

    #[test]
    fn bare_hosts_lose_port_and_path() {
        for (value, host) in [
            ("Example.com:443", "example.com"),
            ("https://example.com/x:y", "example.com"),
            (" h ", "h"),
            ("", ""),
        ] {
            assert_eq!(of_host(value), host, "{value:?}");
        }
    }
}
