//! Names: ids, kinds, keys of partitions and rows, and the canonical address.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use worldcompute_fault::{Category, Fault, Result};

use crate::META;
use crate::crypto::{Digest, sha256};

/// The longest id, in bytes.
pub const MAX_ID_BYTES: usize = 128;
/// The sort key of a manifest's root.
pub(crate) const ROOT: &str = "manifest";
/// The type of a wrapped data key.
pub(crate) const DEK: &str = "dek";
/// The kind of the partitions in which the audit lies.
const AUDIT: &str = "audit";

/// A lowercase slug or a ULID: `[a-z0-9][a-z0-9._-]*`, or 26 characters of Crockford's base 32 in upper case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(String);

impl Id {
    /// # Errors
    /// `invalid_id` when `text` is neither a lowercase slug of at most [`MAX_ID_BYTES`] nor a ULID.
    pub fn parse(text: &str) -> Result<Self> {
        if is_slug(text) || is_ulid(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(invalid(format!(
            "{text:.200?} is neither a lowercase slug of at most {MAX_ID_BYTES} bytes nor a ULID"
        )))
    }

    /// A number, with zeros before it up to so many digits, 20 at most: then ids are in the order of their numbers.
    pub fn of_number(number: u64, digits: usize) -> Self {
        let digits = digits.min(20);
        Self(format!("{number:0digits$}"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Id {
    type Error = Fault;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Also asked by the compiler, of derived types.
pub(crate) const fn is_slug(text: &str) -> bool {
    const fn edge(b: u8) -> bool {
        b.is_ascii_lowercase() || b.is_ascii_digit()
    }
    let Some((first, mut rest)) = text.as_bytes().split_first() else {
        return false;
    };
    while let Some((b, after)) = rest.split_first() {
        if !edge(*b) && !matches!(b, b'.' | b'_' | b'-') {
            return false;
        }
        rest = after;
    }
    edge(*first) && text.len() <= MAX_ID_BYTES
}

/// Whether records may be of this type: the [`META`] record is.
pub const fn is_type_name(text: &str) -> bool {
    is_slug(text) && !matches!(text.as_bytes(), b"dek" | b"manifest")
}

fn is_ulid(text: &str) -> bool {
    text.len() == 26
        && text.starts_with(|c: char| ('0'..='7').contains(&c))
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b.is_ascii_uppercase() && !b"ILOU".contains(&b)))
}

fn invalid(message: String) -> Fault {
    Fault::new(Category::InvalidInput, "invalid_id", message)
        .hint("use lowercase letters, digits, '.', '_' and '-', or a ULID")
}

/// What a partition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(&'static str);

impl Kind {
    /// A submitted job with its tasks, leases and receipts.
    pub const JOB: Self = Self("job");
    /// Receipts kept apart from a job.
    pub const RECEIPT: Self = Self("receipt");
    /// A shard of the credit ledger.
    pub const LEDGER: Self = Self("ledger");
    /// Proposals, votes, bans.
    pub const GOVERNANCE: Self = Self("governance");
    /// Approvals of the gate.
    pub const APPROVAL: Self = Self("approval");
    /// What is known of a peer.
    pub const PEER: Self = Self("peer");
    /// A recorded session of an agent.
    pub const DIALOGUE: Self = Self("dialogue");
    /// The audit of the store itself.
    pub(crate) const AUDIT: Self = Self(AUDIT);

    /// Those that every program knows.
    pub(crate) const ALL: [Self; 8] = [
        Self::JOB,
        Self::RECEIPT,
        Self::LEDGER,
        Self::GOVERNANCE,
        Self::APPROVAL,
        Self::PEER,
        Self::DIALOGUE,
        Self::AUDIT,
    ];

    /// A kind of the caller's own.
    ///
    /// # Errors
    /// `invalid_id` when `name` is not a lowercase slug, or is that of the store's own audit.
    pub fn custom(name: &'static str) -> Result<Self> {
        if is_slug(name) && name != AUDIT {
            return Ok(Self(name));
        }
        Err(invalid(format!(
            "{name:.200?} is not a lowercase slug other than {AUDIT:?}"
        )))
    }

    /// The text.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

fn too_many_kinds() -> Fault {
    let message = format!("the table has partitions of more than {MAX_KINDS} kinds");
    Fault::new(Category::VerificationFailed, "too_many_kinds", message)
        .hint("look for rows that this program has not written")
}

/// The most kinds of partitions that are looked for in a table.
pub(crate) const MAX_KINDS: usize = 1_000;
/// The most names of kinds that a process keeps: those of a hundred tables that somebody filled with them.
const MAX_NAMES: usize = 100 * MAX_KINDS;
/// The names of kinds that tables were found to have. They stay in memory, each once.
static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// The kinds that one table was found to have: what somebody put into another is none of it.
#[derive(Default)]
pub(crate) struct Kinds(Mutex<BTreeSet<&'static str>>);

impl Kinds {
    /// The kind of that name, which a table has and this program may never have heard of.
    ///
    /// # Errors
    /// `invalid_id`; `too_many_kinds` after [`MAX_KINDS`] such names.
    pub(crate) fn kind(&self, name: &str) -> Result<Kind> {
        if let Some(kind) = Kind::ALL.iter().find(|kind| kind.0 == name) {
            return Ok(*kind);
        }
        if !is_slug(name) {
            return Err(invalid(format!("{name:.200?} is not a lowercase slug")));
        }
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kind) = kinds.get(name) {
            return Ok(Kind(kind));
        }
        if kinds.len() >= MAX_KINDS {
            return Err(too_many_kinds());
        }
        let name = kept(name).ok_or_else(too_many_kinds)?;
        kinds.insert(name);
        Ok(Kind(name))
    }

    /// The partition that a partition key names, which prints as that key again.
    ///
    /// # Errors
    /// `invalid_id`, `too_many_kinds`.
    pub(crate) fn partition(&self, pk: &str) -> Result<PartitionKey> {
        let (kind, id) = pk
            .split_once('#')
            .ok_or_else(|| invalid(format!("{pk:.200?} is no partition")))?;
        // First: a name that is none adds no kind.
        let id = Id::parse(id)?;
        let kind = self.kind(kind)?;
        Ok(PartitionKey { kind, id })
    }

    /// The same for a partition that holds records.
    ///
    /// # Errors
    /// `invalid_id`, also for those of the audit; `too_many_kinds`.
    pub(crate) fn partition_of_records(&self, pk: &str) -> Result<PartitionKey> {
        let key = self.partition(pk)?;
        match key.kind {
            Kind::AUDIT => Err(invalid(format!("{pk:.200?} is of the store's own audit"))),
            _ => Ok(key),
        }
    }
}

/// The name for as long as the process lives; `None` when there are too many.
fn kept(name: &str) -> Option<&'static str> {
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return Some(known);
    }
    if names.len() >= MAX_NAMES {
        return None;
    }
    let name: &'static str = String::leak(name.to_owned());
    names.insert(name);
    Some(name)
}

/// One partition of the table. Prints as its partition key, `{kind}#{id}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    /// What it is about.
    pub kind: Kind,
    /// Which one.
    pub id: Id,
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.kind.as_str(), self.id)
    }
}

impl PartitionKey {
    /// SHA-256 of the canonical address `{kind}:{id}/entity:{type}/{subkey}` of a record here.
    pub(crate) fn aad(&self, place: &Place) -> Digest {
        let Self { kind, id } = self;
        let (kind, entity, subkey) = (kind.as_str(), &place.record.entity_type, place.subkey());
        sha256(format!("{kind}:{id}/entity:{entity}/{subkey}").as_bytes())
    }
}

/// A record within a partition: its type and id. The id of the [`META`] record is empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RecordId {
    pub(crate) entity_type: String,
    pub(crate) id: String,
}

impl RecordId {
    pub(crate) fn new(entity_type: &str, id: &str) -> Result<Self> {
        match (entity_type, id) {
            (META, "") => {}
            (META, _) => {
                return Err(invalid(format!("the id of the {META} record is empty")));
            }
            _ => {
                Id::parse(id)?;
                check_type(entity_type)?;
            }
        }
        Ok(Self {
            entity_type: entity_type.to_owned(),
            id: id.to_owned(),
        })
    }

    pub(crate) fn is_meta(&self) -> bool {
        self.entity_type == META
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.entity_type, self.id)
    }
}

fn check_type(entity_type: &str) -> Result<()> {
    if is_type_name(entity_type) {
        return Ok(());
    }
    Err(invalid(format!(
        "{entity_type:.200?} is no type of records: a lowercase slug other than {DEK:?} and {ROOT:?}"
    )))
}

/// Where a record lies within its partition: its sort key, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) record: RecordId,
    /// When it was put there; the epoch for the [`META`] record, whose key has no time.
    pub(crate) at: Timestamp,
}

impl Place {
    pub(crate) fn new(record: RecordId, at: Timestamp) -> Self {
        let at = if record.is_meta() {
            Timestamp::UNIX_EPOCH
        } else {
            at
        };
        Self { record, at }
    }

    fn subkey(&self) -> String {
        if self.record.is_meta() {
            return String::new();
        }
        format!("{}#{}", time(self.at), self.record.id)
    }

    /// `meta`, or `{type}#{time}#{id}`.
    pub(crate) fn sort_key(&self) -> String {
        if self.record.is_meta() {
            return META.to_owned();
        }
        format!("{}#{}", self.record.entity_type, self.subkey())
    }
}

/// A time as sort keys and attributes have it: UTC, nanoseconds, always the same length.
pub(crate) fn time(at: Timestamp) -> String {
    format!("{at:.9}")
}

/// The reverse of [`time`]; every other spelling is refused.
pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    let at: Timestamp = text.parse().ok()?;
    (time(at) == text).then_some(at)
}

/// What a row is, by its sort key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SortKey {
    Record(Place),
    Dek(u32),
    Root,
    Chunk(u64),
}

impl SortKey {
    /// `None` for a key that this store does not write.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let key = match text.split_once('#') {
            None if text == META => Self::Record(Place::new(
                RecordId::new(META, "").ok()?,
                Timestamp::UNIX_EPOCH,
            )),
            None if text == ROOT => Self::Root,
            Some((DEK, version)) => Self::Dek(version.parse().ok()?),
            Some((ROOT, number)) => Self::Chunk(number.parse().ok()?),
            Some((entity_type, subkey)) => {
                let (at, id) = subkey.split_once('#')?;
                let record = RecordId::new(entity_type, id).ok()?;
                (!record.is_meta()).then_some(())?;
                Self::Record(Place::new(record, parse_time(at)?))
            }
            None => return None,
        };
        (key.to_string() == text).then_some(key)
    }

    /// The version of the data key in the row of that sort key, if it is one's.
    pub(crate) fn data_key(text: &str) -> Option<u32> {
        match Self::parse(text)? {
            Self::Dek(version) => Some(version),
            _ => None,
        }
    }
}

impl fmt::Display for SortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(place) => f.write_str(&place.sort_key()),
            Self::Dek(version) => write!(f, "{DEK}#{version:04}"),
            Self::Root => f.write_str(ROOT),
            Self::Chunk(number) => write!(f, "{ROOT}#{number:02}"),
        }
    }
}

/// The `key_id` of content that a partition's DEK of that version encrypts.
pub(crate) fn key_id(partition: &Id, version: u32) -> String {
    format!("{DEK}#{partition}#{version}")
}

/// The version in a `key_id` of `partition`.
pub(crate) fn parse_key_id(partition: &Id, text: &str) -> Option<u32> {
    let version = text.rsplit_once('#')?.1.parse().ok()?;
    (key_id(partition, version) == text).then_some(version)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_are_lowercase_slugs_or_ulids() {
        let longest = "a".repeat(MAX_ID_BYTES);
        for good in [
            "a",
            "0",
            "nvidia-analysis",
            "task.7_b",
            "01J9ZC3F5V7K8M0N1P2Q3R4S5T",
            &longest,
        ] {
            assert!(Id::parse(good).is_ok(), "{good}");
        }
        let too_long = "a".repeat(MAX_ID_BYTES + 1);
        for bad in [
            "",
            "-a",
            "A",
            "a#b",
            "a/b",
            "a:b",
            "a b",
            "é",
            "91J9ZC3F5V7K8M0N1P2Q3R4S5T",
            "01J9ZC3F5V7K8M0N1P2Q3R4S5U",
            &too_long,
        ] {
            assert_eq!(Id::parse(bad).unwrap_err().code(), "invalid_id", "{bad}");
        }
    }

    #[test]
    fn an_id_of_a_number_is_one_and_in_the_order_of_numbers() {
        for (number, digits) in [(0, 0), (7, 6), (u64::MAX, 3), (1, usize::MAX)] {
            let id = Id::of_number(number, digits);
            assert_eq!(Id::parse(id.as_str()).unwrap(), id);
            assert_eq!(id.as_str().parse::<u64>().unwrap(), number);
        }
        assert_eq!(Id::of_number(7, 6).as_str(), "000007");
        assert!(Id::of_number(9, 6) < Id::of_number(10, 6));
    }

    #[test]
    fn no_type_of_records_has_a_name_of_the_stores_own_rows() {
        for own in [DEK, ROOT, "", "Task", "a#b", &"t".repeat(MAX_ID_BYTES + 1)] {
            assert!(!is_type_name(own), "{own}");
        }
        assert!(is_type_name(META) && is_type_name("task"));
    }

    #[test]
    fn kinds_of_the_callers_own_are_slugs_and_never_the_audit() {
        assert_eq!(Kind::custom("patient").unwrap().as_str(), "patient");
        for bad in ["audit", "Patient", "", "a#b"] {
            assert_eq!(Kind::custom(bad).unwrap_err().code(), "invalid_id", "{bad}");
        }
    }

    #[test]
    fn a_key_id_has_one_spelling_and_names_a_key_of_this_partition() {
        let partition = Id::parse("j1").unwrap();
        for version in [1, 2, u32::MAX] {
            let text = key_id(&partition, version);
            assert_eq!(parse_key_id(&partition, &text), Some(version));
        }
        for other in ["dek#j2#1", "dek#j1#01", "dek#j1#+1", "dek#j1#", "j1#1", "1"] {
            assert_eq!(parse_key_id(&partition, other), None, "{other}");
        }
    }

    #[test]
    fn no_record_has_a_type_of_the_stores_own_rows() {
        for reserved in ["dek", "manifest"] {
            assert!(RecordId::new(reserved, "x").is_err());
        }
        assert!(RecordId::new(META, "x").is_err());
        assert!(RecordId::new("task", "").is_err());
        assert_eq!(RecordId::new("task", "t1").unwrap().to_string(), "task t1");
    }

    #[test]
    fn a_partition_key_that_is_found_prints_as_it_was_and_kinds_do_not_fill_the_memory() {
        let kinds = Kinds::default();
        for good in ["job#j1", "kind-0#01J9ZC3F5V7K8M0N1P2Q3R4S5T"] {
            assert_eq!(kinds.partition(good).unwrap().to_string(), good);
        }
        assert_eq!(kinds.partition("job#j1").unwrap().kind, Kind::JOB);
        for bad in ["", "job", "#j1", "job#", "Job#j1", "job#j1#j2", "a b#c"] {
            assert!(kinds.partition(bad).is_err(), "{bad}");
        }
        assert!(kinds.partition_of_records("audit#00").is_err());
        let taken = (0..=MAX_KINDS).filter(|number| kinds.kind(&format!("kind-{number}")).is_ok());
        assert_eq!(taken.count(), MAX_KINDS);
        let fault = kinds.kind("one-too-many").unwrap_err();
        assert_eq!(fault.code(), "too_many_kinds");
        assert!(kinds.kind("kind-0").is_ok());
        assert_eq!(kinds.kind("ledger").unwrap(), Kind::LEDGER);
    }

    #[test]
    fn kinds_of_one_table_and_names_that_are_none_take_no_room_from_another() {
        let (full, other) = (Kinds::default(), Kinds::default());
        for number in 0..MAX_KINDS {
            full.kind(&format!("of-one-{number}")).unwrap();
        }
        for number in 0..=MAX_KINDS {
            assert!(other.partition(&format!("of-none-{number}#No Id")).is_err());
        }
        assert!(full.kind("of-the-other").is_err());
        assert_eq!(other.kind("of-the-other").unwrap().as_str(), "of-the-other");
    }

    #[test]
    fn sort_keys_have_one_spelling() {
        for good in [
            "meta",
            "manifest",
            "manifest#07",
            "manifest#123",
            "dek#0001",
            "task#2026-01-02T03:04:05.000000006Z#t1",
        ] {
            assert_eq!(SortKey::parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "",
            "Manifest",
            "manifest#7",
            "manifest#007",
            "manifest#+7",
            "dek#1",
            "dek#00001",
            "meta#",
            "meta#2026-01-02T03:04:05.000000006Z#t1",
            "task#2026-01-02T03:04:05Z#t1",
            "task#2026-01-02T03:04:05.000000006+00:00#t1",
            "task#2026-01-02T03:04:05.000000006Z",
            "task##t1",
        ] {
            assert_eq!(SortKey::parse(bad), None, "{bad}");
        }
    }

    fn part() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z0-9][a-z0-9._-]{0,3}", Just("a".to_owned())]
    }

    fn address() -> impl Strategy<Value = (&'static str, String, String, i8, String)> {
        (
            prop::sample::select(vec!["job", "peer", "a"]),
            part(),
            part(),
            any::<i8>(),
            part(),
        )
    }

    fn aad_of(a: &(&'static str, String, String, i8, String)) -> Option<Digest> {
        let key = PartitionKey {
            kind: Kind::custom(a.0).ok()?,
            id: Id::parse(&a.1).ok()?,
        };
        let at = Timestamp::from_nanosecond(i128::from(a.3)).ok()?;
        let record = RecordId::new(&a.2, &a.4).ok()?;
        Some(key.aad(&Place::new(record, at)))
    }

    proptest! {
        #[test]
        fn different_addresses_have_different_aads(a in address(), b in address()) {
            if let (Some(x), Some(y)) = (aad_of(&a), aad_of(&b)) {
                prop_assert_eq!(a == b, x == y);
            }
        }

        #[test]
        fn parsing_any_text_gives_nothing_or_the_same_text(text in ".{0,60}") {
            if let Some(key) = SortKey::parse(&text) {
                prop_assert_eq!(key.to_string(), text);
            }
        }
    }
}
