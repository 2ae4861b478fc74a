//! How a registry asks for a token (RFC 9110, 11.6.1; RFC 6750, 3), and what it gives.

use http::{HeaderMap, header};
use serde::Deserialize;

use super::MAX_TOKEN_BYTES;
use super::http::Failure;

/// The longest challenge that is read, in bytes.
const MAX_CHALLENGE_BYTES: usize = 4 << 10;

/// Where a token is given out, and for what.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    pub realm: String,
    pub service: Option<String>,
    pub scope: Option<String>,
}

impl Challenge {
    /// The first challenge for a bearer's token.
    pub fn find(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(header::WWW_AUTHENTICATE).iter();
        values
            .filter_map(|value| value.to_str().ok())
            .find_map(Self::parse)
    }

    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") || text.len() > MAX_CHALLENGE_BYTES {
            return None;
        }
        let mut challenge = Self::default();
        let mut rest = rest;
        while let Some((name, value, after)) = parameter(rest) {
            match name.to_ascii_lowercase().as_str() {
                "realm" => challenge.realm = value,
                "service" => challenge.service = Some(value),
                "scope" => challenge.scope = Some(value),
                _ => {}
            }
            rest = after;
        }
        (!challenge.realm.is_empty()).then_some(challenge)
    }
}

/// The next `name=value` or `name="value"`, and what is behind it.
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let (name, rest) = text.split_once('=')?;
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find(',').unwrap_or(rest.len());
        let (value, after) = rest.split_at_checked(end)?;
        return Some((name.trim(), value.trim().to_owned(), after));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((name.trim(), value, quoted.get(at + 1..)?)),
            '\\' => value.push(characters.next()?.1),
            character => value.push(character),
        }
    }
    None
}

/// What a registry gives out: one of the two names it has.
#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

/// The token in an answer, which goes into a header as it is.
pub fn token(answer: &[u8]) -> Result<String, Failure> {
    let value =
        worldcompute_proof::parse_json_strict(answer).map_err(|_| Failure::BadToken("no JSON"))?;
    let answer: Answer =
        serde_json::from_value(value).map_err(|_| Failure::BadToken("no token in it"))?;
    let token = answer
        .token
        .or(answer.access_token)
        .ok_or(Failure::BadToken("no token in it"))?;
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Failure::BadToken("longer than 16 KiB"));
    }
    match !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(token),
        false => Err(Failure::BadToken("no word of plain characters")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn challenge(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        })
    }

    #[test]
    fn a_challenge_says_where_a_token_is_and_for_what() {
        let docker = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull""#;
        let whole = challenge(
            "https://auth.example/token",
            Some("registry.example"),
            Some("repository:a/b:pull"),
        );
        assert_eq!(Challenge::parse(docker), whole);
        assert_eq!(
            Challenge::parse(r#"bearer realm=plain , x="a,b=\"c\"", service=s"#),
            challenge("plain", Some("s"), None)
        );
        for none in [
            "Basic realm=\"x\"",
            "Bearer",
            "Bearer service=\"x\"",
            "Bearer realm=\"open",
            "",
            "Bearer realm=\"\"",
        ] {
            assert_eq!(Challenge::parse(none), None, "{none}");
        }
        assert_eq!(
            Challenge::parse(&format!(
                "Bearer realm=\"{}\"",
                "x".repeat(MAX_CHALLENGE_BYTES)
            )),
            None
        );
    }

    #[test]
    fn a_token_is_one_word_of_bounded_length() {
        assert_eq!(
            token(br#"{"token":"abc.def","expires_in":300}"#).unwrap(),
            "abc.def"
        );
        assert_eq!(token(br#"{"access_token":"abc"}"#).unwrap(), "abc");
        let of = |text: &str| token(serde_json::json!({ "token": text }).to_string().as_bytes());
        assert!(of(&"t".repeat(MAX_TOKEN_BYTES)).is_ok());
        for bad in [
            "",
            "a b",
            "a\r\nHost: x",
            "ü",
            &"t".repeat(MAX_TOKEN_BYTES + 1),
        ] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
        for bad in [
            b"{}".as_slice(),
            b"[]",
            b"",
            br#"{"token":5}"#,
            br#"{"token":"a","token":"b"}"#,
        ] {
            assert!(token(bad).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_challenge_is_read_or_not(text in "(Bearer )?\\PC{0,60}") {
            if let Some(challenge) = Challenge::parse(&text) {
                prop_assert!(!challenge.realm.is_empty());
            }
        }
    }
}
