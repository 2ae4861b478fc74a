//! A serde serializer that writes RFC 8785, and refuses what other serializers round or replace.

use std::fmt;
use std::io::Write as _;

use serde::ser::{
    self, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};
use serde::{Serialize, Serializer as _};
use serde_json::Value;
use worldcompute_fault::Fault;

use super::wiped::Wiped;
use super::{MAX_JSON_DEPTH, MAX_SAFE_INTEGER};
use crate::refusal::{excerpt, malformed};

/// The RFC 8785 bytes of `value`.
pub(super) fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Fault> {
    let mut bytes = Wiped::with_room(128);
    value.serialize(Writer {
        bytes: &mut bytes,
        depth: 0,
    })?;
    Ok(bytes.into_bytes())
}

/// Why a value has no canonical form.
#[derive(Debug)]
enum Refusal {
    NoForm(String),
    Inexact(String),
}

type Result<T, E = Refusal> = std::result::Result<T, E>;

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoForm(why) => malformed(
                "not_canonical_json",
                format!("no canonical JSON form: {why}"),
            ),
            Refusal::Inexact(number) => malformed(
                "inexact_number",
                format!("the integer {number} is beyond 2^53 - 1 and would be rounded in JSON"),
            )
            .hint("keep it within ±9007199254740991 or write it as a string"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::NoForm(why) | Self::Inexact(why)) = self;
        f.write_str(why)
    }
}

impl std::error::Error for Refusal {}

impl ser::Error for Refusal {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::NoForm(message.to_string())
    }
}

/// Writes one value.
struct Writer<'a> {
    bytes: &'a mut Wiped,
    depth: usize,
}

impl<'a> Writer<'a> {
    fn literal(self, text: &str) -> Result<()> {
        self.bytes.extend(text.as_bytes());
        Ok(())
    }

    fn integer(self, integer: i128) -> Result<()> {
        if integer.unsigned_abs() > u128::from(MAX_SAFE_INTEGER) {
            return Err(Refusal::Inexact(integer.to_string()));
        }
        write!(self.bytes, "{integer}").map_err(ser::Error::custom)
    }

    fn deeper(&self) -> Result<usize> {
        if self.depth < MAX_JSON_DEPTH {
            return Ok(self.depth + 1);
        }
        Err(Refusal::NoForm(format!(
            "nested deeper than {MAX_JSON_DEPTH}"
        )))
    }

    /// `{"variant":`, which the end of the inner value closes.
    fn variant(self, variant: &str) -> Result<Self> {
        let depth = self.deeper()?;
        let Self { bytes, .. } = self;
        bytes.push(b'{');
        Writer { bytes, depth }.serialize_str(variant)?;
        bytes.push(b':');
        Ok(Writer { bytes, depth })
    }

    fn array(self, end: &'static str) -> Result<Array<'a>> {
        let depth = self.deeper()?;
        self.bytes.push(b'[');
        Ok(Array {
            bytes: self.bytes,
            depth,
            is_first: true,
            end,
        })
    }

    fn object(self, end: &'static str) -> Result<Object<'a>> {
        let depth = self.deeper()?;
        Ok(Object {
            bytes: self.bytes,
            depth,
            members: Vec::new(),
            key: None,
            end,
        })
    }
}

impl<'a> ser::Serializer for Writer<'a> {
    type Ok = ();
    type Error = Refusal;
    type SerializeSeq = Array<'a>;
    type SerializeTuple = Array<'a>;
    type SerializeTupleStruct = Array<'a>;
    type SerializeTupleVariant = Array<'a>;
    type SerializeMap = Object<'a>;
    type SerializeStruct = Object<'a>;
    type SerializeStructVariant = Object<'a>;

    fn serialize_bool(self, value: bool) -> Result<()> {
        self.literal(if value { "true" } else { "false" })
    }

    fn serialize_i8(self, value: i8) -> Result<()> {
        self.integer(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<()> {
        self.integer(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<()> {
        self.integer(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<()> {
        self.integer(value.into())
    }

    fn serialize_i128(self, value: i128) -> Result<()> {
        self.integer(value)
    }

    fn serialize_u8(self, value: u8) -> Result<()> {
        self.integer(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<()> {
        self.integer(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<()> {
        self.integer(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<()> {
        self.integer(value.into())
    }

    fn serialize_u128(self, value: u128) -> Result<()> {
        self.integer(
            value
                .try_into()
                .map_err(|_| Refusal::Inexact(value.to_string()))?,
        )
    }

    fn serialize_f32(self, value: f32) -> Result<()> {
        self.serialize_f64(value.into())
    }

    /// As ECMAScript spells it (RFC 8785, 3.2.2.3).
    fn serialize_f64(self, value: f64) -> Result<()> {
        if !value.is_finite() {
            return Err(Refusal::NoForm("a float is not finite".to_owned()));
        }
        self.literal(ryu_js::Buffer::new().format_finite(value))
    }

    fn serialize_char(self, value: char) -> Result<()> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    /// `serde_json` escapes exactly what RFC 8785, 3.2.2.2 does, a byte at a time; most texts have nothing to escape.
    fn serialize_str(self, value: &str) -> Result<()> {
        if is_escaped(value) {
            self.bytes.reserve(value.len() + 2);
            return serde_json::to_writer(self.bytes, value).map_err(ser::Error::custom);
        }
        self.bytes.reserve(value.len() + 2);
        self.bytes.push(b'"');
        self.bytes.extend(value.as_bytes());
        self.bytes.push(b'"');
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<()> {
        self.collect_seq(value)
    }

    fn serialize_none(self) -> Result<()> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<()> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<()> {
        self.literal("null")
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<()> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<()> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<()> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<()> {
        let Writer { bytes, depth } = self.variant(variant)?;
        value.serialize(Writer { bytes, depth })?;
        bytes.push(b'}');
        Ok(())
    }

    fn serialize_seq(self, _length: Option<usize>) -> Result<Array<'a>> {
        self.array("]")
    }

    fn serialize_tuple(self, _length: usize) -> Result<Array<'a>> {
        self.array("]")
    }

    fn serialize_tuple_struct(self, _name: &'static str, _length: usize) -> Result<Array<'a>> {
        self.array("]")
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Array<'a>> {
        self.variant(variant)?.array("]}")
    }

    fn serialize_map(self, _length: Option<usize>) -> Result<Object<'a>> {
        self.object("}")
    }

    fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<Object<'a>> {
        self.object("}")
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Object<'a>> {
        self.variant(variant)?.object("}}")
    }
}

/// Whether any byte of it is escaped in JSON. It looks at all of them, so that the compiler can take many at a time.
fn is_escaped(text: &str) -> bool {
    let escaped = |byte| matches!(byte, 0..0x20 | b'"' | b'\\');
    text.bytes()
        .fold(false, |found, byte| found | escaped(byte))
}

/// An array that is being written.
struct Array<'a> {
    bytes: &'a mut Wiped,
    depth: usize,
    is_first: bool,
    end: &'static str,
}

impl Array<'_> {
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        if !std::mem::replace(&mut self.is_first, false) {
            self.bytes.push(b',');
        }
        value.serialize(Writer {
            bytes: self.bytes,
            depth: self.depth,
        })
    }

    fn close(self) -> Result<()> {
        self.bytes.extend(self.end.as_bytes());
        Ok(())
    }
}

/// An object whose members are written once all are known, because they are sorted.
struct Object<'a> {
    bytes: &'a mut Wiped,
    depth: usize,
    members: Vec<(String, Wiped)>,
    key: Option<String>,
    end: &'static str,
}

impl Object<'_> {
    fn member<T: Serialize + ?Sized>(&mut self, key: String, value: &T) -> Result<()> {
        let mut bytes = Wiped::default();
        value.serialize(Writer {
            bytes: &mut bytes,
            depth: self.depth,
        })?;
        self.members.push((key, bytes));
        Ok(())
    }

    /// In the order of the keys' UTF-16 code units (RFC 8785, 3.2.3).
    fn close(mut self) -> Result<()> {
        self.members
            .sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
        if let Some([(key, _), _]) = self
            .members
            .windows(2)
            .find(|pair| matches!(pair, [(a, _), (b, _)] if a == b))
        {
            return Err(Refusal::NoForm(format!(
                "the key {} appears twice",
                excerpt(key)
            )));
        }
        self.bytes.push(b'{');
        for (position, (key, value)) in self.members.iter().enumerate() {
            if position > 0 {
                self.bytes.push(b',');
            }
            Writer {
                bytes: self.bytes,
                depth: self.depth,
            }
            .serialize_str(key)?;
            self.bytes.push(b':');
            self.bytes.extend(value.bytes());
        }
        self.bytes.extend(self.end.as_bytes());
        Ok(())
    }
}

/// A map's key as text; integers are spelled in decimal, as `serde_json` does.
fn key_text<T: Serialize + ?Sized>(key: &T) -> Result<String> {
    match serde_json::to_value(key) {
        Ok(Value::String(text)) => Ok(text),
        Ok(Value::Number(number)) if !number.is_f64() => Ok(number.to_string()),
        _ => Err(Refusal::NoForm("a key is not text".to_owned())),
    }
}

impl SerializeMap for Object<'_> {
    type Ok = ();
    type Error = Refusal;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<()> {
        self.key = Some(key_text(key)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let key = self
            .key
            .take()
            .ok_or_else(|| Refusal::NoForm("a value without a key".to_owned()))?;
        self.member(key, value)
    }

    fn end(self) -> Result<()> {
        self.close()
    }
}

/// Arrays under each of the names that serde has for them.
macro_rules! array {
    ($($kind:ident :: $method:ident),*) => {$(
        impl $kind for Array<'_> {
            type Ok = ();
            type Error = Refusal;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
                self.item(value)
            }

            fn end(self) -> Result<()> {
                self.close()
            }
        }
    )*};
}

array!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

/// Objects whose keys are known when the program is compiled.
macro_rules! object {
    ($($kind:ident),*) => {$(
        impl $kind for Object<'_> {
            type Ok = ();
            type Error = Refusal;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<()> {
                self.member(key.to_owned(), value)
            }

            fn end(self) -> Result<()> {
                self.close()
            }
        }
    )*};
}

object!(SerializeStruct, SerializeStructVariant);

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use proptest::prelude::*;

    use super::*;

    /// One of each shape that serde knows.
    #[derive(Debug, Serialize)]
    enum Shape {
        Unit,
        Newtype(Option<u8>),
        Tuple(i64, f32),
        Struct { zeta: char, alpha: (), inner: Inner },
    }

    #[derive(Debug, Serialize)]
    struct Inner {
        map: HashMap<u16, String>,
        list: Vec<(bool, Pair)>,
        bytes: Bytes,
        #[serde(flatten)]
        more: BTreeMap<String, f64>,
    }

    #[derive(Debug, Serialize)]
    struct Pair(i8, u64);

    #[derive(Debug)]
    struct Bytes(Vec<u8>);

    impl Serialize for Bytes {
        fn serialize<S: ser::Serializer>(
            &self,
            serializer: S,
        ) -> std::result::Result<S::Ok, S::Error> {
            serializer.serialize_bytes(&self.0)
        }
    }

    fn text(value: &impl Serialize) -> String {
        String::from_utf8(to_vec(value).unwrap()).unwrap()
    }

    fn shapes() -> impl Strategy<Value = Vec<Shape>> {
        let inner = (
            any::<HashMap<u16, String>>(),
            prop::collection::vec((any::<bool>(), any::<i8>(), 0..=MAX_SAFE_INTEGER), 0..4),
            any::<Vec<u8>>(),
            prop::collection::btree_map("[a-k\u{e000}-\u{10ffff}]{1,6}", any::<f64>(), 0..6),
        );
        let inner = inner.prop_map(|(map, list, bytes, mut more)| {
            more.retain(|key, _| key != "list" && key != "map" && key != "bytes");
            let list = list
                .into_iter()
                .map(|(flag, one, two)| (flag, Pair(one, two)))
                .collect();
            Inner {
                map,
                list,
                bytes: Bytes(bytes),
                more,
            }
        });
        let shape = prop_oneof![
            Just(()).prop_map(|()| Shape::Unit),
            any::<Option<u8>>().prop_map(Shape::Newtype),
            (any::<i32>(), any::<f32>()).prop_map(|(one, two)| Shape::Tuple(one.into(), two)),
            (any::<char>(), inner).prop_map(|(zeta, inner)| Shape::Struct {
                zeta,
                alpha: (),
                inner
            }),
        ];
        prop::collection::vec(shape, 0..6)
    }

    #[test]
    fn every_shape_is_spelled_as_serde_json_shapes_it() {
        assert_eq!(text(&Shape::Unit), r#""Unit""#);
        assert_eq!(text(&Shape::Newtype(Some(1))), r#"{"Newtype":1}"#);
        assert_eq!(text(&Shape::Tuple(-1, 0.5)), r#"{"Tuple":[-1,0.5]}"#);
        let inner = Inner {
            map: HashMap::from([(10, "a".into()), (9, "b".into())]),
            list: vec![(true, Pair(1, 2))],
            bytes: Bytes(vec![0, 255]),
            more: BTreeMap::from([("k".into(), -0.0)]),
        };
        assert_eq!(
            text(&Shape::Struct {
                zeta: '\n',
                alpha: (),
                inner
            }),
            r#"{"Struct":{"alpha":null,"inner":{"bytes":[0,255],"k":0,"list":[[true,[1,2]]],"map":{"10":"a","9":"b"}},"zeta":"\n"}}"#
        );
    }

    #[test]
    fn a_key_that_two_fields_share_is_refused() {
        #[derive(Serialize)]
        struct Twice {
            a: u8,
            #[serde(flatten)]
            more: BTreeMap<String, u8>,
        }
        let twice = Twice {
            a: 1,
            more: BTreeMap::from([("a".into(), 2)]),
        };
        assert_eq!(to_vec(&twice).unwrap_err().code(), "not_canonical_json");
    }

    #[test]
    fn nesting_is_written_to_the_limit_and_refused_past_it() {
        let nested = |depth| (0..depth).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
        assert!(to_vec(&nested(MAX_JSON_DEPTH)).is_ok());
        assert_eq!(
            to_vec(&nested(MAX_JSON_DEPTH + 1)).unwrap_err().code(),
            "not_canonical_json"
        );
    }

    proptest! {
        /// `serde_json_canonicalizer` replaces and rounds where this refuses; elsewhere the two have to agree.
        #[test]
        fn an_independent_implementation_writes_the_same(shapes in shapes()) {
            let expected = serde_json_canonicalizer::to_vec(&shapes);
            match to_vec(&shapes) {
                Ok(bytes) => prop_assert_eq!(bytes, expected.unwrap()),
                Err(fault) => prop_assert!(expected.is_err(), "{}", fault),
            }
        }
    }
}
