//! Records as most runs spell them: objects of texts, without escapes and white space.
//!
//! A parser of JSON is ready for anything at every byte. A run has hundreds of thousands of records that could not be
//! plainer, and reading those is most of what recording it takes. What is spelled in any other way is left to the parser.

use std::fmt;

use serde::de::value::BorrowedBytesDeserializer;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

/// Reads the record that `text` starts with: it, and its length in bytes. None when it is not plain or no `T`, or
/// when it ends past the text.
pub(super) fn plain<'a, T: Deserialize<'a>>(text: &'a str) -> Option<(T, usize)> {
    let mut members = Members { text, at: 0 };
    let record = T::deserialize(Record(&mut members)).ok()?;
    Some((record, members.at))
}

/// Says only that it is not plain: why something is refused is for the parser to say.
#[derive(Debug)]
struct NotPlain;

impl fmt::Display for NotPlain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("not a plain record")
    }
}

impl std::error::Error for NotPlain {}

impl serde::de::Error for NotPlain {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

/// The members of a record, read up to a byte.
struct Members<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Members<'a> {
    fn byte(&mut self) -> Result<u8, NotPlain> {
        let byte = self.text.as_bytes().get(self.at).ok_or(NotPlain)?;
        self.at += 1;
        Ok(*byte)
    }

    fn expect(&mut self, byte: u8) -> Result<(), NotPlain> {
        match self.byte()? == byte {
            true => Ok(()),
            false => Err(NotPlain),
        }
    }

    /// A text whose first quote was read.
    fn quoted(&mut self) -> Result<&'a str, NotPlain> {
        let rest = self.text.as_bytes().get(self.at..).ok_or(NotPlain)?;
        let len = special(rest).ok_or(NotPlain)?;
        let text = self.text.get(self.at..self.at + len).ok_or(NotPlain)?;
        self.at += len;
        self.expect(b'"')?;
        Ok(text)
    }
}

/// Where the first byte stands that ends a text or is not spelled as it is. Looks at eight bytes at once.
#[inline]
pub(super) fn special(bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    let is_special = |byte: &u8| *byte < b' ' || *byte == b'"' || *byte == b'\\';
    for (number, word) in words.iter().enumerate() {
        let marks = marks(u64::from_le_bytes(*word));
        if marks != 0 {
            return Some(number * 8 + marks.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(is_special)?;
    Some(words.len() * 8 + at)
}

/// The high bit of every special byte of `word` up to the first one; what stands behind that may be marked as well.
const fn marks(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const fn below(word: u64, byte: u8) -> u64 {
        word.wrapping_sub(ONES * byte as u64) & !word
    }
    let (quotes, escapes) = (ONES * b'"' as u64, ONES * b'\\' as u64);
    (below(word, b' ') | below(word ^ quotes, 1) | below(word ^ escapes, 1)) & (ONES << 7)
}

struct Record<'m, 'a>(&'m mut Members<'a>);

impl<'de> Deserializer<'de> for Record<'_, 'de> {
    type Error = NotPlain;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotPlain> {
        self.0.expect(b'{')?;
        visitor.visit_map(self.0)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> MapAccess<'de> for &mut Members<'de> {
    type Error = NotPlain;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, NotPlain> {
        let first = self.text.as_bytes().get(self.at.wrapping_sub(1)) == Some(&b'{');
        match self.byte()? {
            b'}' => return Ok(None),
            b',' if !first => self.expect(b'"')?,
            b'"' if first => {}
            _ => return Err(NotPlain),
        }
        let name = self.quoted()?;
        self.expect(b':')?;
        seed.deserialize(BorrowedBytesDeserializer::new(name.as_bytes()))
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, NotPlain> {
        self.expect(b'"')?;
        seed.deserialize(Text(self.quoted()?))
    }
}

struct Text<'a>(&'a str);

impl<'de> Deserializer<'de> for Text<'de> {
    type Error = NotPlain;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotPlain> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, NotPlain> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::runpack::{Intent, ResultRecord};

    /// What the parser of JSON reads there.
    fn parsed<'a, T: Deserialize<'a>>(text: &'a str) -> Option<(T, usize)> {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<T>();
        let record = values.next()?.ok()?;
        Some((record, values.byte_offset()))
    }

    #[test]
    fn a_plain_record_is_read_without_the_parser() {
        let text =
            r#"{"intent_id":"é","args_digest":"","created_at":"2026-02-05T01:30:00+01:30"}, {}"#;
        let (intent, len) = plain::<Intent<'_>>(text).unwrap();
        assert_eq!(
            format!("{intent:?}"),
            format!("{:?}", parsed::<Intent<'_>>(text).unwrap().0)
        );
        assert_eq!(&text[len..], ", {}");
        assert_eq!(plain::<ResultRecord<'_>>("{}").unwrap().1, 2);
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_parser() {
        for text in [
            "",
            "[]",
            "null",
            "{",
            r#"{"intent_id":"a""#,
            r#"{"intent_id":"a"#,
            r#"{"intent_id":"a",}"#,
            r#"{,"intent_id":"a"}"#,
            r#"{"intent_id":"a""run_id":"b"}"#,
            r#"{"intent_id":"a","intent_id":"b"}"#,
            r#"{"intent_id": "a"}"#,
            r#"{ "intent_id":"a"}"#,
            r#"{"intent_id":"\u0061"}"#,
            "{\"intent_id\":\"\n\"}",
            r#"{"intent_id":null}"#,
            r#"{"created_at":"yesterday"}"#,
            r#"{"args":{}}"#,
            r#"{"args":"a"}"#,
            r#"{"other":"a"}"#,
        ] {
            assert!(plain::<Intent<'_>>(text).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_first_special_byte_is_found_wherever_it_stands(bytes: Vec<u8>, at: prop::sample::Index) {
            let from = bytes.get(at.index(bytes.len() + 1)..).unwrap_or_default();
            let first = from.iter().position(|byte| *byte < 0x20 || b"\"\\".contains(byte));
            prop_assert_eq!(special(from), first);
        }

        #[test]
        fn what_is_plain_is_what_the_parser_reads(
            members in prop::collection::vec((0_usize..10, "[a-z\\\\\"é ]{0,20}"), 0..5),
            at: prop::sample::Index,
            byte in prop::sample::select(&b"{}[]\",:\\ \n\0ux1"[..]),
            change in 0..4,
        ) {
            const NAMES: [&str; 10] = [
                "args_digest", "intent_id", "producer_version", "run_id", "schema_id", "schema_version", "tool_name",
                "args", "created_at", "other",
            ];
            let quoted = |(name, text): &(usize, String)| format!("\"{}\":\"{text}\"", NAMES[*name]);
            let mut text = format!("{{{}}}", members.iter().map(quoted).collect::<Vec<_>>().join(","));
            let at = at.index(text.len());
            if change == 0 && text.is_char_boundary(at) {
                text.insert(at, byte.into());
            }
            if let Some((intent, len)) = plain::<Intent<'_>>(&text) {
                let (expected, end) = parsed::<Intent<'_>>(&text).unwrap();
                prop_assert_eq!(format!("{intent:?}"), format!("{expected:?}"));
                prop_assert_eq!(len, end);
            }
        }
    }
}
