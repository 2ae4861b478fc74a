//! Secrets: by label, by format, and by looking random.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::{pass, pattern, whole};

pub(super) const REDACTED: &str = "[redacted]";

/// The last words of a label that says that what follows is secret.
const LABEL: &str = r"(?:passwords?|passwd|passphrase|pwd|secrets?|token|(?:api|access|private|secret|signing|encryption|master|data|session|shared)[_-]?key|keypair|key[_-]?material|credentials?|authorization|cookie|mnemonic|psk|seed)";

/// A key of 32 bytes takes 43 characters of base64.
const MIN_RANDOM: usize = 40;

/// What must be left of a long token without its separators and public parts for it to be judged at all.
const MIN_JUDGED: usize = 32;

/// The longest hex that is taken for an id or a digest, besides SHA-384.
const MAX_DIGEST_DIGITS: usize = 64;
const SHA384_DIGITS: usize = 96;

/// Hex at least this long inside a path is taken for an id.
const MIN_ID_DIGITS: usize = 16;

static NAME: LazyLock<Regex> = LazyLock::new(|| pattern(&format!(r"(?i)^[\w.-]*{LABEL}$")));
static LABELLED: LazyLock<Regex> = LazyLock::new(|| {
    let (flag, named, wrapped) = (
        format!(r"--[\w-]*{LABEL}\s+"),
        format!(r#"[\w-]*{LABEL}(?:\\*["'`])?\s*(?:=>|[:=])\s*"#),
        format!(r"\w*{LABEL}(?:\(|\s?\{{)"),
    );
    pattern(&format!("(?i)(?:{flag}|{named}|{wrapped})"))
});
static PEM: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?s)-----BEGIN [^-]*-----.*?(?:-----END [^-]*-----|\z)"));
static BEARER: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)\b(bearer\s+)[^\s,;]+"));
static USER_INFO: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/"'<>]+@"#));
static ISSUED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?-u)\beyJ[\w-]{5,}\.[\w-]{5,}(?:\.[\w-]*)*", // JSON web tokens
        r"|\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[a-z]-[\w-]{10,})",
        r"|\b(?:sk-[\w-]{16,}|hf_[A-Za-z0-9]{20,}|AIza[\w-]{30,}|(?:AKIA|ASIA)[A-Z0-9]{16})",
    ))
});
static LONG: LazyLock<Regex> =
    LazyLock::new(|| pattern(&format!(r"[A-Za-z0-9+/_-]{{{MIN_RANDOM},}}={{0,2}}")));
static LONG_HEX: LazyLock<Regex> =
    LazyLock::new(|| pattern(&format!("[0-9a-fA-F]{{{},}}", MAX_DIGEST_DIGITS + 1)));
static BYTE_ARRAY: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?-u)\[\s*(?:\d{1,3}\s*,\s*){31,}(?:\d{1,3}\s*)?\]"));
/// What the address of a relay names its certificate by: a SHA-256 multihash in base64.
static CERTIFICATE_HASH: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"/certhash/uEiA[A-Za-z0-9_-]{43}(?:/|$)"));
static PUBLIC: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"^(?:12D3KooW[1-9A-HJ-NP-Za-km-z]{44}|16Uiu2HA[1-9A-HJ-NP-Za-km-z]{45}|Qm[1-9A-HJ-NP-Za-km-z]{44}",
        r"|b[a-z2-7]{58,}|[0-7][0-9A-HJKMNP-TV-Z]{25})$", // CIDv1 and ULID
    ))
});

/// The text without secrets.
pub(super) fn redact(text: Cow<'_, str>) -> Cow<'_, str> {
    let text = pass(text, |text| PEM.replace_all(text, REDACTED));
    let text = pass(text, labelled);
    let text = pass(text, |text| {
        BEARER.replace_all(text, format!("${{1}}{REDACTED}"))
    });
    let text = pass(text, |text| {
        USER_INFO.replace_all(text, format!("${{1}}{REDACTED}@"))
    });
    let text = pass(text, |text| ISSUED.replace_all(text, REDACTED));
    let text = pass(text, |text| BYTE_ARRAY.replace_all(text, REDACTED));
    let text = pass(text, |text| {
        LONG.replace_all(text, |found: &Captures<'_>| {
            unless(is_readable(whole(found)), found)
        })
    });
    pass(text, |text| {
        LONG_HEX.replace_all(text, |found: &Captures<'_>| {
            unless(whole(found).len() == SHA384_DIGITS, found)
        })
    })
}

/// Whether a field of this name holds a secret.
pub(super) fn is_secret_name(name: &str) -> bool {
    NAME.is_match(name)
}

/// A seed that is a plain number belongs to a reproducible computation, and is public; a key's seed is bytes.
pub(super) fn is_plain_seed(label: &str, value: &str) -> bool {
    let is_seed = label
        .trim_end_matches(|c: char| !c.is_ascii_alphanumeric())
        .to_ascii_lowercase()
        .ends_with("seed");
    is_seed
        && value.len() <= 20
        && !value.is_empty()
        && value.bytes().all(|byte| byte.is_ascii_digit())
}

fn unless(keep: bool, found: &Captures<'_>) -> String {
    if keep { whole(found) } else { REDACTED }.to_owned()
}

/// Replaces the value behind every secret label.
fn labelled(text: &str) -> Cow<'_, str> {
    let (mut out, mut copied, mut at) = (String::new(), 0, 0);
    while let Some(label) = LABELLED.find_at(text, at) {
        let start = label.end() - usize::from(label.as_str().ends_with(['(', '{']));
        let rest = text.get(start..).unwrap_or_default();
        let end = start
            + if is_phrase(label.as_str()) {
                line_len(rest)
            } else {
                value_len(rest)
            };
        let value = text.get(start..end).unwrap_or_default();
        if is_harmless(label.as_str(), value) {
            at = label.end();
            continue;
        }
        out.push_str(text.get(copied..start).unwrap_or_default());
        out.push_str(REDACTED);
        (copied, at) = (end, end);
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

fn is_harmless(label: &str, value: &str) -> bool {
    matches!(value, "" | "None" | "null") || is_plain_seed(label, value)
}

/// The value of such a label is several words.
fn is_phrase(label: &str) -> bool {
    let label = label.to_ascii_lowercase();
    label.contains("passphrase") || label.contains("mnemonic")
}

fn line_len(text: &str) -> usize {
    text.find('\n').unwrap_or(text.len())
}

/// The length of the value at the start of `text`: a quoted string, a bracketed group (with the type name before
/// it), or a bare word. A bare word that is itself a label takes its value along. When in doubt, longer.
fn value_len(text: &str) -> usize {
    let mut len = one_value_len(text);
    while let Some(gap) = continuation(
        text.get(..len).unwrap_or_default(),
        text.get(len..).unwrap_or_default(),
    ) {
        let next = one_value_len(text.get(len + gap..).unwrap_or_default());
        if next == 0 {
            break;
        }
        len += gap + next;
    }
    len
}

fn one_value_len(text: &str) -> usize {
    let name = text
        .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        .unwrap_or(text.len());
    let (_, after) = text.split_at(name);
    let opener = after
        .strip_prefix(' ')
        .filter(|rest| rest.starts_with('{'))
        .unwrap_or(after);
    if opener.starts_with(['(', '{', '[']) {
        return text.len() - opener.len() + group_len(opener);
    }
    quoted_len(text).unwrap_or_else(|| bare_len(text))
}

/// The bytes between a value and the one that belongs to it: after `password:`, `token =>` or `Bearer`.
fn continuation(value: &str, rest: &str) -> Option<usize> {
    let gap = rest.len() - rest.trim_start().len();
    let next = rest.trim_start();
    let separator = ["=>", ":", "="]
        .iter()
        .find(|separator| next.starts_with(**separator))
        .map_or(0, |s| s.len());
    let open = value.ends_with([':', '=']) && separator == 0;
    let scheme = ["bearer", "basic", "digest", "negotiate"]
        .iter()
        .any(|scheme| value.eq_ignore_ascii_case(scheme));
    if next.is_empty() || value.is_empty() || !(separator > 0 || open || scheme) {
        return None;
    }
    let after = next.get(separator..).unwrap_or_default();
    Some(gap + separator + after.len() - after.trim_start().len())
}

/// The length of a group that starts with a bracket, to the bracket that closes it; brackets in strings do not count.
fn group_len(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
        let step = if c == '"' {
            quoted_len(text.get(at..).unwrap_or_default()).unwrap_or(1)
        } else {
            c.len_utf8()
        };
        at += step;
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The length of a string that starts with a quote, which may itself be escaped: the closing quote is escaped no
/// deeper than the opening one. `None` where there is no quote.
fn quoted_len(text: &str) -> Option<usize> {
    let depth = text.bytes().take_while(|byte| *byte == b'\\').count();
    let quote = text
        .get(depth..)?
        .chars()
        .next()
        .filter(|c| matches!(c, '"' | '\'' | '`'))?;
    let mut escapes = 0;
    for (at, c) in text.char_indices().skip(depth + 1) {
        if c == quote && escapes <= depth {
            return Some(at + 1);
        }
        escapes = if c == '\\' { escapes + 1 } else { 0 };
    }
    Some(text.len())
}

fn bare_len(text: &str) -> usize {
    let ends = |c: char| {
        c.is_whitespace()
            || matches!(
                c,
                ',' | ';' | '&' | ')' | '}' | ']' | '>' | '<' | '"' | '\'' | '`' | '\\'
            )
    };
    text.find(ends).unwrap_or(text.len())
}

/// Whether a long token is something to read (a path, a name, public ids) rather than random characters.
fn is_readable(token: &str) -> bool {
    let token = CERTIFICATE_HASH.replace_all(token, "");
    let parts = token.split(|c: char| !c.is_ascii_alphanumeric());
    let rest: Vec<u8> = parts
        .filter(|part| !is_public(part))
        .flat_map(str::bytes)
        .collect();
    rest.len() < MIN_JUDGED || !looks_random(&rest)
}

fn is_public(part: &str) -> bool {
    let is_id = part.len() >= MIN_ID_DIGITS
        && part
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_id || PUBLIC.is_match(part)
}

/// Random base64 changes between upper case, lower case and digits at 64 % of its places, written words at far fewer.
/// Names in camel case change often too, but have no digits and hardly ever two capitals in a row.
fn looks_random(characters: &[u8]) -> bool {
    let class = |byte: u8| (byte.is_ascii_uppercase(), byte.is_ascii_lowercase());
    let pairs = || characters.iter().zip(characters.iter().skip(1));
    let changes = pairs().filter(|(a, b)| class(**a) != class(**b)).count();
    let capitals = pairs()
        .filter(|(a, b)| a.is_ascii_uppercase() && b.is_ascii_uppercase())
        .count();
    let has = |test: fn(&u8) -> bool| characters.iter().any(test);
    has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
        && (has(u8::is_ascii_digit) || capitals >= 3)
        && changes * 4 >= characters.len()
}
