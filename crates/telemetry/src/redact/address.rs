//! Addresses that identify a machine in its own network: MAC addresses, private IPv4 and IPv6.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::{pass, pattern, whole};

const MAC: &str = "[mac]";
const ADDRESS: &str = "[private-ip]";

/// As many pairs of hex digits or more are a fingerprint (MD5 and longer), not a MAC address or EUI-64.
const FINGERPRINT_PAIRS: usize = 16;

static MAC_COLONS: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)[0-9a-f]{2}(?::[0-9a-f]{2}){5,}"));
static MAC_DASHES: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)\b[0-9a-f]{2}(?:-[0-9a-f]{2}){5,}\b"));
static MAC_DOTS: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)\b[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}\b"));
static V4: LazyLock<Regex> = LazyLock::new(|| pattern(r"[0-9]+(?:\.[0-9]+){3,}"));
/// A run of groups in which one starts a private address (fc00::/7, fe80::/10, fec0::/10), with its zone; or a private
/// IPv4 address that is mapped and written in hex.
static V6: LazyLock<Regex> = LazyLock::new(|| {
    let private = r"(?:f[cd][0-9a-f]{2}|fe[89a-f][0-9a-f])(?::[0-9a-f]{0,4}){2,7}(?:\.[0-9]{1,3}){0,3}(?:%[\w.-]+)?";
    let mapped = r"::ffff:(?:0?a[0-9a-f]{2}|ac1[0-9a-f]|c0a8|a9fe|64[4-7][0-9a-f]):[0-9a-f]{1,4}";
    pattern(&format!(
        r"(?i)(?:(?:[0-9a-f]{{1,4}}:{{1,2}}){{0,7}}{private}|{mapped})"
    ))
});

/// The text without private addresses.
pub(super) fn redact(text: Cow<'_, str>) -> Cow<'_, str> {
    let text = pass(text, |text| {
        MAC_COLONS.replace_all(text, |found: &Captures<'_>| mac(found, ':'))
    });
    let text = pass(text, |text| {
        MAC_DASHES.replace_all(text, |found: &Captures<'_>| mac(found, '-'))
    });
    let text = pass(text, |text| MAC_DOTS.replace_all(text, MAC));
    let text = pass(text, |text| V4.replace_all(text, v4));
    pass(text, |text| V6.replace_all(text, v6))
}

fn mac(found: &Captures<'_>, separator: char) -> String {
    let pairs = whole(found).split(separator).count();
    if pairs >= FINGERPRINT_PAIRS {
        whole(found)
    } else {
        MAC
    }
    .to_owned()
}

/// Any four neighbours in a dotted run may be an address: `1.10.0.0.1` holds one.
fn v4(found: &Captures<'_>) -> String {
    let numbers: Vec<Option<u8>> = whole(found)
        .split('.')
        .map(|part| part.parse().ok())
        .collect();
    let is_private = numbers.windows(4).any(|four| match four {
        [Some(a), Some(b), Some(c), Some(d)] => is_private_v4(Ipv4Addr::new(*a, *b, *c, *d)),
        _ => false,
    });
    if is_private { ADDRESS } else { whole(found) }.to_owned()
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let shared = matches!(address.octets(), [100, 64..=127, ..]); // RFC 6598, carrier-grade NAT
    address.is_private() || address.is_link_local() || shared
}

/// Keeps what reads as a global unicast address (2000::/3): there the private-looking group is just its middle.
fn v6(found: &Captures<'_>) -> String {
    let text = whole(found);
    let address = text
        .split('%')
        .next()
        .unwrap_or_default()
        .parse::<Ipv6Addr>();
    let is_global = address.is_ok_and(|address| {
        address
            .octets()
            .first()
            .is_some_and(|first| first >> 5 == 1)
    });
    if is_global { text } else { ADDRESS }.to_owned()
}
