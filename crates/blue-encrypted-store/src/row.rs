//! One row of the table: typed attributes, their canonical encoding, their size, their seal.

use std::collections::{BTreeMap, HashMap};

use aws_lc_rs::hmac;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

use crate::check::Check;
use crate::crypto::{Digest, length, lp, same, tag};

/// The largest item that DynamoDB stores, in bytes of names and values.
pub const MAX_ITEM_BYTES: usize = 400 << 10;
/// The attribute that authenticates all others.
pub(crate) const SEAL: &str = "seal";
/// DynamoDB's numbers lie between 1e-130 and 1e126 and have 38 digits.
const MAX_EXPONENT: i64 = 126;
const MIN_EXPONENT: i64 = -129;
const MAX_DIGITS: usize = 38;

/// A value of the types that this store writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attribute {
    Text(String),
    /// In the form of [`canonical_number`].
    Number(String),
    Bytes(Vec<u8>),
    Bool(bool),
    Null,
}

impl Attribute {
    pub(crate) fn integer(value: u64) -> Self {
        Self::Number(value.to_string())
    }

    /// The byte for its type, and the bytes for its value.
    fn encoding(&self) -> (u8, &[u8]) {
        match self {
            Self::Text(text) => (b'S', text.as_bytes()),
            Self::Number(text) => (b'N', text.as_bytes()),
            Self::Bytes(bytes) => (b'B', bytes),
            Self::Bool(false) => (b'T', &[0]),
            Self::Bool(true) => (b'T', &[1]),
            Self::Null => (b'0', &[]),
        }
    }

    /// The reverse of its encoding, of the one encoding that it has.
    pub(crate) fn decode(tag: u8, value: &[u8]) -> Option<Self> {
        let text = || String::from_utf8(value.to_vec()).ok();
        match (tag, value) {
            (b'S', _) => text().map(Self::Text),
            (b'N', _) => {
                let number = text()?;
                let is_canonical = canonical_number(&number).as_ref() == Some(&number);
                is_canonical.then_some(Self::Number(number))
            }
            (b'B', _) => Some(Self::Bytes(value.to_vec())),
            (b'T', [bit @ (0 | 1)]) => Some(Self::Bool(*bit == 1)),
            (b'0', []) => Some(Self::Null),
            _ => None,
        }
    }

    /// Bytes as DynamoDB counts them; for numbers an upper bound.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Number(text) => text.len().saturating_add(1),
            Self::Bytes(bytes) => bytes.len(),
            Self::Bool(_) | Self::Null => 1,
        }
    }
}

impl From<Attribute> for AttributeValue {
    fn from(attribute: Attribute) -> Self {
        match attribute {
            Attribute::Text(text) => Self::S(text),
            Attribute::Number(text) => Self::N(text),
            Attribute::Bytes(bytes) => Self::B(Blob::new(bytes)),
            Attribute::Bool(value) => Self::Bool(value),
            Attribute::Null => Self::Null(true),
        }
    }
}

impl TryFrom<AttributeValue> for Attribute {
    type Error = Check;

    fn try_from(value: AttributeValue) -> Result<Self, Check> {
        match value {
            AttributeValue::S(text) => Ok(Self::Text(text)),
            AttributeValue::N(text) => canonical_number(&text)
                .map(Self::Number)
                .ok_or(Check::Attributes),
            AttributeValue::B(bytes) => Ok(Self::Bytes(bytes.into_inner())),
            AttributeValue::Bool(value) => Ok(Self::Bool(value)),
            AttributeValue::Null(true) => Ok(Self::Null),
            _ => Err(Check::Attributes),
        }
    }
}

/// The one spelling of a decimal number: no exponent, no leading zeros, no zeros at the end of a fraction, no `-0`.
///
/// The table may give a number back in another spelling than it was written in; seals are over this one.
/// `None` when it is no number or none that DynamoDB can hold.
pub(crate) fn canonical_number(text: &str) -> Option<String> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    if whole.is_empty() || !all.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = all.trim_start_matches('0');
    // The value is 0.{digits} times ten to the power of `point`.
    let point = exponent
        .parse::<i32>()
        .map(i64::from)
        .ok()?
        .checked_add(i64::try_from(whole.len()).ok()?)?
        .checked_sub(i64::try_from(all.len().checked_sub(digits.len())?).ok()?)?;
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() {
        return Some("0".to_owned());
    }
    if digits.len() > MAX_DIGITS || !(MIN_EXPONENT..=MAX_EXPONENT).contains(&point) {
        return None;
    }
    let sign = if negative { "-" } else { "" };
    Some(format!("{sign}{}", plain(digits, point)))
}

/// `0.{digits}` times ten to the power of `point`, written out.
fn plain(digits: &str, point: i64) -> String {
    let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or(0));
    let count = i64::try_from(digits.len()).unwrap_or(i64::MAX);
    if point <= 0 {
        return format!("0.{}{digits}", zeros(point.saturating_neg()));
    }
    match usize::try_from(point)
        .ok()
        .and_then(|at| digits.split_at_checked(at))
    {
        Some((whole, "")) => whole.to_owned(),
        Some((whole, fraction)) => format!("{whole}.{fraction}"),
        None => format!("{digits}{}", zeros(point.saturating_sub(count))),
    }
}

/// A row, its attributes sorted by name.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Row(pub(crate) BTreeMap<String, Attribute>);

impl Row {
    /// Its key and what it is.
    pub(crate) fn new(pk: &str, sk: &str, entity_type: &str) -> Self {
        let mut row = Self::default();
        row.set("pk", Attribute::Text(pk.to_owned()));
        row.set("sk", Attribute::Text(sk.to_owned()));
        row.set("entity_type", Attribute::Text(entity_type.to_owned()));
        row
    }

    pub(crate) fn set(&mut self, name: &str, value: Attribute) {
        self.0.insert(name.to_owned(), value);
    }

    pub(crate) fn set_text(&mut self, name: &str, value: impl Into<String>) {
        self.set(name, Attribute::Text(value.into()));
    }

    pub(crate) fn set_bytes(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.set(name, Attribute::Bytes(value.into()));
    }

    pub(crate) fn set_integer(&mut self, name: &str, value: u64) {
        self.set(name, Attribute::integer(value));
    }

    pub(crate) fn text(&self, name: &str) -> Result<&str, Check> {
        match self.0.get(name) {
            Some(Attribute::Text(text)) => Ok(text),
            _ => Err(Check::Attributes),
        }
    }

    pub(crate) fn integer(&self, name: &str) -> Result<u64, Check> {
        match self.0.get(name) {
            Some(Attribute::Number(text)) => text.parse().map_err(|_| Check::Attributes),
            _ => Err(Check::Attributes),
        }
    }

    pub(crate) fn bytes(&self, name: &str) -> Result<&[u8], Check> {
        match self.0.get(name) {
            Some(Attribute::Bytes(bytes)) => Ok(bytes),
            _ => Err(Check::Attributes),
        }
    }

    /// Bytes of exactly that length.
    pub(crate) fn array<const N: usize>(&self, name: &str) -> Result<[u8; N], Check> {
        self.bytes(name)?.try_into().map_err(|_| Check::Attributes)
    }

    /// Refuses attributes other than these.
    pub(crate) fn only(&self, names: &[&str]) -> Result<(), Check> {
        if self.0.keys().all(|name| names.contains(&name.as_str())) {
            return Ok(());
        }
        Err(Check::Attributes)
    }

    /// Bytes as DynamoDB counts them (an upper bound).
    pub(crate) fn size(&self) -> usize {
        let sizes = self
            .0
            .iter()
            .map(|(name, value)| name.len().saturating_add(value.size()));
        sizes.fold(0, usize::saturating_add)
    }

    /// Authenticates everything that is set so far.
    pub(crate) fn seal(&mut self, key: &hmac::Key) -> Digest {
        let seal = self.mac(key);
        self.set_bytes(SEAL, seal);
        seal
    }

    /// The seal, if it holds.
    pub(crate) fn check_seal(&self, key: &hmac::Key) -> Result<Digest, Check> {
        let seal = self.array::<32>(SEAL)?;
        if same(&self.mac(key), &seal) {
            return Ok(seal);
        }
        Err(Check::Seal)
    }

    /// All attributes but the seal, sorted by name: `lp(name) ‖ type ‖ lp(value)` each.
    pub(crate) fn canonical(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size().saturating_add(self.0.len() * 9));
        self.encode(&mut |piece| out.extend_from_slice(piece));
        out
    }

    /// The HMAC of [`Row::canonical`], without a copy of the values.
    fn mac(&self, key: &hmac::Key) -> Digest {
        let mut context = hmac::Context::with_key(key);
        self.encode(&mut |piece| context.update(piece));
        tag(context)
    }

    fn encode(&self, to: &mut impl FnMut(&[u8])) {
        let mut head = Vec::with_capacity(64);
        for (name, value) in self.0.iter().filter(|(name, _)| *name != SEAL) {
            let (kind, bytes) = value.encoding();
            head.clear();
            lp(&mut head, name.as_bytes());
            head.push(kind);
            head.extend_from_slice(&length(bytes));
            to(&head);
            to(bytes);
        }
    }

    /// As the SDK takes it.
    pub(crate) fn into_item(self) -> HashMap<String, AttributeValue> {
        self.0
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect()
    }

    /// As the SDK gives it.
    pub(crate) fn from_item(item: HashMap<String, AttributeValue>) -> Result<Self, Check> {
        item.into_iter()
            .map(|(name, value)| Ok((name, value.try_into()?)))
            .collect::<Result<_, Check>>()
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_have_one_spelling() {
        for (given, want) in [
            ("0", "0"),
            ("-0", "0"),
            ("0.00e9", "0"),
            ("007", "7"),
            ("1.50", "1.5"),
            ("15e-1", "1.5"),
            ("1E+2", "100"),
            ("-12.0", "-12"),
            ("0.00085", "0.00085"),
            ("85e-5", "0.00085"),
            ("1e21", "1000000000000000000000"),
            ("18446744073709551615", "18446744073709551615"),
            (
                "12345678901234567890123456789012345678",
                "12345678901234567890123456789012345678",
            ),
        ] {
            assert_eq!(canonical_number(given).as_deref(), Some(want), "{given}");
        }
        for bad in [
            "",
            "-",
            ".5",
            "+1",
            "1e",
            "e5",
            "0x1",
            "NaN",
            "1.2.3",
            "1e126",
            "1e-131",
            "1e99999999999",
            "123456789012345678901234567890123456789",
        ] {
            assert_eq!(canonical_number(bad), None, "{bad}");
        }
        assert!(canonical_number("1e125").is_some() && canonical_number("1e-130").is_some());
    }

    #[test]
    fn a_row_is_as_large_as_its_names_and_values() {
        let row = |name: &str, value| Row([(name.to_owned(), value)].into()).size();
        assert_eq!(row("ab", Attribute::Text("xyz".to_owned())), 5);
        assert_eq!(row("ab", Attribute::integer(12)), 5);
        assert_eq!(row("ab", Attribute::Bytes(vec![0; 7])), 9);
        assert_eq!(row("ab", Attribute::Bool(true)), 3);
        assert_eq!(row("ab", Attribute::Null), 3);
        assert_eq!(Row::new("job#j1", "meta", "meta").size(), 29);
    }

    #[test]
    fn an_attribute_that_is_not_known_is_refused() {
        let row = Row::new("job#j1", "manifest", "manifest");
        assert_eq!(row.only(&["entity_type", "pk", "seal", "sk"]), Ok(()));
        for missing in ["entity_type", "pk", "sk"] {
            let mut known = vec!["entity_type", "pk", "sk"];
            known.retain(|name| *name != missing);
            assert_eq!(row.only(&known), Err(Check::Attributes));
        }
    }

    #[test]
    fn the_canonical_encoding_tells_where_a_field_ends_and_of_which_type_it_is() {
        let row = |name: &str, value| Row([(name.to_owned(), value)].into()).canonical();
        let text = |text: &str| Attribute::Text(text.to_owned());
        assert_ne!(row("ab", text("c")), row("a", text("bc")));
        assert_ne!(
            row("a", text("1")),
            row("a", Attribute::Number("1".to_owned()))
        );
        assert_ne!(
            row("a", text("1")),
            row("a", Attribute::Bytes(b"1".to_vec()))
        );
        assert_ne!(
            row("a", Attribute::Null),
            row("a", Attribute::Bytes(Vec::new()))
        );
    }

    proptest! {
        #[test]
        fn every_finite_double_in_range_keeps_its_value(value in any::<f64>()) {
            match canonical_number(&format!("{value:e}")) {
                Some(text) => prop_assert_eq!(text.parse::<f64>().unwrap(), value),
                None => prop_assert!(!value.is_finite() || value.abs() >= 1e126 || value.abs() < 1e-130),
            }
        }

        #[test]
        fn a_canonical_number_is_its_own_canonical_form(text in "-?[0-9]{1,12}(\\.[0-9]{0,12})?(e-?[0-9]{1,3})?") {
            if let Some(once) = canonical_number(&text) {
                prop_assert_eq!(canonical_number(&once), Some(once));
            }
        }
    }
}
