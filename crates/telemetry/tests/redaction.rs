//! What redaction takes out, and what it leaves readable.

#![expect(clippy::indexing_slicing, reason = "tests")]

use std::sync::LazyLock;

use proptest::prelude::*;
use sha2::{Digest, Sha256};
use worldcompute_telemetry::{Names, Redactor};

const PEER: &str = "12D3KooWSahP5pFRCEfaziPEba7urXGeif6T1y8jmodzdFUvzBHj";
const CID: &str = "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
const DIGEST: &str = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";

fn redactor() -> &'static Redactor {
    static REDACTOR: LazyLock<Redactor> = LazyLock::new(|| {
        Redactor::new(&Names {
            hosts: vec!["donor-box.example.net".into()],
            users: vec!["alice".into()],
            homes: vec!["/srv/people/alice".into()],
        })
    });
    &REDACTOR
}

#[track_caller]
fn becomes(text: &str, expected: &str) {
    assert_eq!(redactor().redact(text), expected, "from {text:?}");
}

#[track_caller]
fn stays(text: &str) {
    becomes(text, text);
}

#[test]
fn labelled_secrets_are_taken_out_in_every_notation() {
    becomes("password=hunter2", "password=[redacted]");
    becomes(
        "password = hunter2, user 7",
        "password = [redacted], user 7",
    );
    becomes(
        r#"{"api_key":"k-1","n":1}"#,
        r#"{"api_key":[redacted],"n":1}"#,
    );
    becomes(
        r#"{\"apiKey\":\"k-1\",\"n\":1}"#,
        r#"{\"apiKey\":[redacted],\"n\":1}"#,
    );
    becomes(
        "login --token abc --verbose",
        "login --token [redacted] --verbose",
    );
    becomes(
        "clientSecret: 's p a c e s' end",
        "clientSecret: [redacted] end",
    );
    becomes(
        "https://x.org/?access_token=abc&page=2",
        "https://x.org/?access_token=[redacted]&page=2",
    );
    becomes(
        "passphrase: correct horse battery\nnext",
        "passphrase: [redacted]\nnext",
    );
    becomes(
        "unexpected token: password: hunter2",
        "unexpected token: [redacted]",
    );
    becomes("Authorization: Bearer abc.def", "Authorization: [redacted]");
    becomes(
        "authorization=Basic dXNlcjpwdw==",
        "authorization=[redacted]",
    );
    becomes("sent bearer abc", "sent bearer [redacted]");
}

#[test]
fn secrets_in_nested_debug_output_are_taken_out() {
    becomes(
        r#"Login { user: 7, password: Some("a\"b") }"#,
        "Login { user: 7, password: [redacted] }",
    );
    becomes(
        "Keys { signing_key: Key { bytes: [1, 2] }, n: 3 }",
        "Keys { signing_key: [redacted], n: 3 }",
    );
    becomes(r#"Some(Secret("abc"))"#, "Some(Secret[redacted])");
    becomes(
        "Session { token: None, n: 3 }",
        "Session { token: None, n: 3 }",
    );
    let bytes = format!("raw {:?}", [7_u8; 32]);
    becomes(&bytes, "raw [redacted]");
    becomes(&format!("raw {:#?}", [7_u8; 32]), "raw [redacted]");
    stays("octets [192, 168, 1]");
}

#[test]
fn secrets_are_recognised_by_their_format() {
    becomes(
        "a -----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY----- b",
        "a [redacted] b",
    );
    becomes(
        "a -----BEGIN OPENSSH PRIVATE KEY-----\\nMC4C cut",
        "a [redacted]",
    );
    becomes("to https://me:pw@x.org/a", "to https://[redacted]@x.org/a");
    becomes(
        "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiI3In0.c2lnbmF0dXJl is a token",
        "[redacted] is a token",
    );
    becomes("AKIAIOSFODNN7EXAMPLE", "[redacted]");
    becomes(&format!("ghp_{}", "a1B2".repeat(9)), "[redacted]");
    becomes(&"ab".repeat(64), "[redacted]");
}

/// 32 and 64 bytes, as they stand in key files, in both alphabets of base64.
#[test]
fn keys_in_base64_are_taken_out() {
    for n in 0_u32..2000 {
        let seed = Sha256::digest(n.to_be_bytes());
        let pair = [seed.as_slice(), Sha256::digest(seed).as_slice()].concat();
        for key in [base64(seed.as_slice()), base64(&pair)] {
            let url_safe = key.replace('+', "-").replace('/', "_");
            for key in [key.trim_end_matches('=').to_owned(), key, url_safe] {
                becomes(
                    &format!("loaded {key} from disk"),
                    "loaded [redacted] from disk",
                );
            }
        }
    }
}

#[test]
fn public_names_stay_readable() {
    stays(PEER);
    stays(CID);
    stays(DIGEST);
    stays("16Uiu2HAmPLe7Mzm8TsYUubgCAW1aJoeFScxrLj8ppHFivPo97bUZ");
    stays("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N");
    stays(&"ab".repeat(48)); // SHA-384
    stays("commit 3836d62f0c7a3c1b2d4e5f60718293a4b5c6d7e8");
    stays("trace 4bf92f3577b34da6a3ce929d0e0e4736 of 01JD4XHYV8ZK3N5Q7R9T2W4Y6B");
    stays("0198c0de-7aaa-7bbb-8ccc-0123456789ab");
    stays(&format!(
        "/dns4/relay.worldcompute.org/tcp/443/tls/ws/p2p/{PEER}/p2p-circuit/p2p/{PEER}"
    ));
    stays(&format!(
        "/ip4/203.0.113.7/tcp/443/tls/certhash/uEiAKNbkZbtLKKneWDO72tSMs9G5CiKMaQX8Wg2XXZNZF1g/ws/p2p/{PEER}/p2p-circuit"
    ));
    stays(&format!(
        "evidence/01JD4XHYV8ZK3N5Q7R9T2W4Y6B/01JD4XHYV8ZK3N5Q7R9T2W4Y6C/{CID}"
    ));
    stays("AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01");
}

#[test]
fn ordinary_text_stays_as_it_is() {
    stays("max_tokens=64 tokens: 3 token_count=5");
    stays("seed: 42");
    stays("Deterministic { seed: 18446744073709551615 }");
    stays("serde::de::Error in worldcompute_mesh::dead::beef");
    stays("2026-11-21T11:46:11.123Z took 12:30:05");
    stays("crates/worldcompute-telemetry/tests/some_really_long_test_name_of_a_test.rs");
    stays("ThisIsAnExtraordinarilyLongTypeNameInCamelCaseWithoutDigits");
    stays("listening on 127.0.0.1:8080, [::1]:8080 and 0.0.0.0:0");
    stays("relay 203.0.113.7 and 2001:db8:fd00::1 at 8.8.8.8");
    stays("rootfs of /usr/local/lib at version 1.2.3.4");
    stays("alicee and donor-boxes");
}

#[test]
fn a_seed_of_bytes_is_a_secret_and_a_seed_that_counts_is_not() {
    becomes(&format!("seed: {DIGEST}"), "seed: [redacted]");
    assert_eq!(redactor().redact_field("seed", "7"), "7");
    assert_eq!(redactor().redact_field("seed", DIGEST), "[redacted]");
}

#[test]
fn a_field_with_a_secret_name_goes_whole() {
    for name in [
        "password",
        "api_key",
        "http.request.header.authorization",
        "sessionToken",
        "client_secret",
    ] {
        assert_eq!(redactor().redact_field(name, "x"), "[redacted]", "{name}");
    }
    for name in ["max_tokens", "key_id", "cid", "correlation_id", "tokenizer"] {
        assert_eq!(redactor().redact_field(name, "x"), "x", "{name}");
    }
}

#[test]
fn home_directories_become_a_tilde() {
    becomes("/home/bob/.local/share", "~/.local/share");
    becomes("file:///Users/bob/x", "file://~/x");
    becomes(r"C:\Users\Bob Smith\x", r"~\x");
    becomes(r#""C:\\Users\\bob\\x""#, r#""~\\x""#);
    becomes("/root/.ssh", "~/.ssh");
    becomes("/srv/people/alice/wc", "~/wc");
    becomes("//home//bob", "/~");
    becomes("/var/home/bob and /export/home/eve", "~ and ~");
}

#[test]
fn names_of_this_machine_and_of_private_zones_are_taken_out() {
    becomes("donor-box.example.net and Donor-Box", "[host] and [host]");
    becomes("user Alice (alice_dev)", "user [user] ([user]_dev)");
    becomes(
        "printer.local, ip-10-0-0-1.eu.internal. nas.lan",
        "[host], [host]. [host]",
    );
    stays("relay.worldcompute.org local internal lan");
}

#[test]
fn private_addresses_are_taken_out_and_global_ones_stay() {
    for address in [
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.5",
        "169.254.169.254",
        "100.64.0.1",
    ] {
        becomes(&format!("/ip4/{address}/tcp/1"), "/ip4/[private-ip]/tcp/1");
        becomes(&format!("::ffff:{address}"), "::ffff:[private-ip]");
    }
    for address in [
        "fd12:3456:789a::1",
        "fc00::",
        "fe80::1ff:fe23:4567:890a%eth0",
        "febf::1",
        "fd00:1:2:3:4:5:6:7",
    ] {
        becomes(&format!("/ip6/{address}/tcp/1"), "/ip6/[private-ip]/tcp/1");
        becomes(&format!("[{address}]:80"), "[[private-ip]]:80");
    }
    becomes("::ffff:c0a8:105", "[private-ip]");
    for address in [
        "172.15.0.1",
        "172.32.0.1",
        "100.128.0.1",
        "11.0.0.1",
        "2a00:1450:4001:fd00::1",
        "::1",
        "::",
    ] {
        stays(address);
    }
}

#[test]
fn mac_addresses_are_taken_out_in_every_notation() {
    for mac in [
        "00:1a:2B:3c:4d:5e",
        "00-1A-2B-3C-4D-5E",
        "001a.2b3c.4d5e",
        "00:1a:2b:ff:fe:3c:4d:5e",
    ] {
        becomes(&format!("nic {mac} up"), "nic [mac] up");
    }
}

/// What must never be seen, each as it would be written.
fn sensitive() -> impl Strategy<Value = String> {
    let octets = || any::<[u8; 6]>();
    prop_oneof![
        any::<[u8; 3]>().prop_map(|[a, b, c]| format!("10.{a}.{b}.{c}")),
        any::<[u8; 2]>().prop_map(|[a, b]| format!("192.168.{a}.{b}")),
        (16_u8..32, any::<[u8; 2]>()).prop_map(|(a, [b, c])| format!("172.{a}.{b}.{c}")),
        any::<[u8; 2]>().prop_map(|[a, b]| format!("169.254.{a}.{b}")),
        (0xfc00_u16..0xfe00, any::<[u16; 7]>()).prop_map(|(a, rest)| v6(a, rest)),
        (0xfe80_u16..0xfec0, any::<[u16; 7]>()).prop_map(|(a, rest)| v6(a, rest)),
        octets().prop_map(|o| o.map(|octet| format!("{octet:02x}")).join(":")),
        octets().prop_map(|o| o.map(|octet| format!("{octet:02X}")).join("-")),
        "[a-z][a-z0-9_-]{2,12}".prop_map(|name| format!("/home/{name}")),
        "[A-Z][a-z0-9]{2,12}".prop_map(|name| format!("/Users/{name}")),
        Just("donor-box.example.net".to_owned()),
        Just("alice".to_owned()),
    ]
}

fn v6(first: u16, [a, b, c, d, e, f, g]: [u16; 7]) -> String {
    std::net::Ipv6Addr::new(first, a, b, c, d, e, f, g).to_string()
}

/// Text that stands between: nothing that could be part of an address or a name itself.
fn between() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        " ",
        "\n",
        ", ",
        "; ",
        "\"",
        "'",
        " (",
        ")",
        "[",
        "]",
        "{",
        "}",
        "<",
        ">",
        "|",
        " = ",
        " -> ",
        "\\n ",
        "\t",
        " error: ",
        " token: ",
        " password=",
        " https://",
        " peer at ",
        " é ",
        " /p2p/",
        " -- ",
        "!",
        "?",
        "*",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_sensitive_is_left_in_any_composed_text(parts in prop::collection::vec((sensitive(), between()), 1..8)) {
        let text: String = parts.iter().map(|(secret, gap)| format!("{gap}{secret}{gap}")).collect();
        let redacted = redactor().redact(&text).into_owned();
        for (secret, _) in &parts {
            prop_assert!(!redacted.contains(secret.as_str()), "{secret:?} is left of {text:?} in {redacted:?}");
        }
    }

    #[test]
    fn public_names_are_left_in_any_composed_text(
        parts in prop::collection::vec((sensitive(), proptest::sample::select(vec![PEER, CID, DIGEST])), 1..6),
        gap in proptest::sample::select(vec![" ", "\n", ", ", " (", "/p2p/", "\" \"", " = "]),
    ) {
        let text: String = parts.iter().map(|(secret, name)| format!("{secret} {gap}{name}{gap} ")).collect();
        let redacted = redactor().redact(&text).into_owned();
        for (_, name) in &parts {
            prop_assert!(redacted.contains(name), "{name} is gone from {text:?}: {redacted:?}");
        }
    }

    #[test]
    fn redacting_twice_changes_nothing_more(parts in prop::collection::vec(fragment(), 0..12)) {
        let once = redactor().redact(&parts.concat()).into_owned();
        let twice = redactor().redact(&once).into_owned();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn any_text_is_redacted_without_panic(text in any::<String>(), name in any::<String>()) {
        let redacted = redactor().redact_field(&name, &text).into_owned();
        prop_assert_eq!(redactor().redact(&redacted).into_owned(), redacted);
    }
}

/// Whole things, their halves, and what the patterns look for, in any order.
fn fragment() -> impl Strategy<Value = String> {
    let tricky = vec![
        "password",
        "token",
        "secret=",
        "seed:",
        "--api-key ",
        "Bearer ",
        "://",
        "@",
        "=",
        ":",
        "=>",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "\\",
        "'",
        " ",
        "\n",
        "/",
        "~",
        "/home/",
        "/Users/",
        "/root",
        "C:\\Users\\",
        "fd00",
        "::",
        "fe80:",
        "10.",
        "0.0.1",
        ".",
        "aa:bb:cc:",
        "dd:ee:ff",
        "-",
        "alice",
        "donor-box",
        ".local",
        "[redacted]",
        "[host]",
        "[user]",
        "[mac]",
        "[private-ip]",
        "-----BEGIN X-----",
        "-----END X-----",
        "eyJabcde.abcdef.g",
        "None",
        "passphrase: ",
        "7",
        PEER,
        CID,
        DIGEST,
        "1, ",
        "ffff:",
        "c0a8:1",
    ];
    prop_oneof![
        6 => proptest::sample::select(tricky).prop_map(str::to_owned),
        2 => sensitive(),
        1 => "\\PC{0,6}",
        1 => "[A-Za-z0-9+/]{40,60}",
    ]
}

/// RFC 4648 with padding: enough of it to write down keys.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |chunk: &[u8]| {
        let bits = chunk
            .iter()
            .chain([0; 2].iter())
            .take(3)
            .fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        let text: String = (0..4)
            .map(|n| char::from(ALPHABET[bits >> (18 - 6 * n) & 63]))
            .collect();
        format!("{}{}", &text[..=chunk.len()], &"=="[..3 - chunk.len()])
    };
    bytes.chunks(3).map(digits).collect()
}
