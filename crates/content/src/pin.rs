//! Pins: names under which objects are kept, also over restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Write as _;
use std::str::FromStr;

use worldcompute_durable as durable;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::Cid;

use crate::disk::Layout;
use crate::needed::Needed;
use crate::room::lock;
use crate::store::ContentStore;

/// Longest name of a pin, in characters.
pub const MAX_PIN_NAME: usize = 128;
/// Most objects of one pin.
pub const MAX_PIN_OBJECTS: usize = 16_384;
/// Most pins and objects of pins of a store together; one that several pins name counts for each.
pub const MAX_PINNED: usize = 1 << 18;

/// A line of a pin's file: a CID and its end.
const LINE: usize = 60;

/// Who needs objects, as `job:<id>` or `image:<digest>`: a letter or digit, then letters, digits, `.`, `_`, `:` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PinName(String);

impl PinName {
    /// The name as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PinName {
    type Err = Fault;

    /// `invalid_pin_name` for anything that is not such a name.
    fn from_str(text: &str) -> Result<Self> {
        let begins = text.starts_with(|first: char| first.is_ascii_alphanumeric());
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
        if begins && text.len() <= MAX_PIN_NAME && text.chars().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        let message = format!(
            "not the name of a pin, which has at most {MAX_PIN_NAME} letters, digits, dots, colons, dashes and underscores"
        );
        Err(Fault::new(
            Category::InvalidInput,
            "invalid_pin_name",
            message,
        ))
    }
}

impl fmt::Display for PinName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The pins of a store: the same as is on the disk.
#[derive(Default)]
pub struct Pins(BTreeMap<PinName, BTreeSet<Cid>>);

impl Pins {
    /// Reads what is on the disk.
    pub fn load(layout: &Layout) -> Result<Self> {
        let mut pins = Self::default();
        for path in layout.pins()? {
            let bytes = durable::read_bounded(&path, (LINE * MAX_PIN_OBJECTS) as u64)?;
            let name = path.file_name().and_then(|name| name.to_str());
            let pin = name
                .ok_or_else(|| unreadable("its name is none of a pin"))
                .and_then(|name| Ok((name.parse()?, parse(&bytes)?)));
            let (name, cids) = pin.map_err(|why: Fault| corrupt(&path.display(), why))?;
            pins.0.insert(name, cids);
        }
        Ok(pins)
    }

    /// What all of them need.
    pub fn needed(&self) -> Needed {
        let mut needed = Needed::default();
        self.0.values().flatten().for_each(|cid| needed.add(cid));
        needed
    }

    /// The objects of a pin once it has these too, within the caps.
    fn with(&self, name: &PinName, more: impl IntoIterator<Item = Cid>) -> Result<BTreeSet<Cid>> {
        let mut cids = self.0.get(name).cloned().unwrap_or_default();
        for cid in more {
            cids.insert(cid);
            if cids.len() > MAX_PIN_OBJECTS {
                return Err(too_many("pin_too_large", MAX_PIN_OBJECTS, "of one pin"));
            }
        }
        let others = self.0.iter().filter(|(other, _)| *other != name);
        let others: usize = others.map(|(_, cids)| cids.len() + 1).sum();
        if others + cids.len() + 1 > MAX_PINNED {
            return Err(too_many("too_many_pins", MAX_PINNED, "of all pins"));
        }
        Ok(cids)
    }
}

impl ContentStore {
    /// Adds objects to a pin, which is made where it is missing: none of them is collected before the pin is removed, also
    /// after a crash. They may be put later.
    ///
    /// # Errors
    /// `pin_too_large` past [`MAX_PIN_OBJECTS`], `too_many_pins` past [`MAX_PINNED`]; what the disk says. The pin is then
    /// as it was.
    pub fn pin(&self, name: &PinName, objects: impl IntoIterator<Item = Cid>) -> Result<()> {
        let mut pins = lock(&self.inner.pins);
        let cids = pins.with(name, objects)?;
        let before = pins.0.get(name).cloned().unwrap_or_default();
        let new: Vec<Cid> = cids.difference(&before).copied().collect();
        // From now on, not from when the disk has it: a collection goes on meanwhile.
        self.need(&new);
        let written = self.write_pin(name, &cids);
        match written {
            Ok(()) => drop(pins.0.insert(name.clone(), cids)),
            Err(_) => self.need_no_more(&new),
        }
        written
    }

    /// Removes a pin; true when there was one. What nobody else needs is collected from now on.
    ///
    /// # Errors
    /// What the disk says; the pin is then still there.
    pub fn unpin(&self, name: &PinName) -> Result<bool> {
        let mut pins = lock(&self.inner.pins);
        if !pins.0.contains_key(name) {
            return Ok(false);
        }
        self.inner.layout.remove_pin(name)?;
        self.need_no_more(&pins.0.remove(name).unwrap_or_default());
        Ok(true)
    }

    /// The names of all pins, in order.
    pub fn pins(&self) -> Vec<PinName> {
        lock(&self.inner.pins).0.keys().cloned().collect()
    }

    /// The objects of a pin, in order; `None` where there is no such pin.
    pub fn pinned(&self, name: &PinName) -> Option<Vec<Cid>> {
        let pins = lock(&self.inner.pins);
        Some(pins.0.get(name)?.iter().copied().collect())
    }

    fn write_pin(&self, name: &PinName, cids: &BTreeSet<Cid>) -> Result<()> {
        let path = self.inner.layout.pin(name);
        let mut file = self.inner.layout.draft()?;
        let lines: String = cids.iter().map(|cid| format!("{cid}\n")).collect();
        let written = file.write_all(lines.as_bytes());
        written.map_err(|error| Fault::io(format_args!("write {}", path.display()), &error))?;
        file.commit_as(&path)
    }

    fn need<'a>(&self, cids: impl IntoIterator<Item = &'a Cid>) {
        let mut needed = lock(&self.inner.needed);
        cids.into_iter().for_each(|cid| needed.add(cid));
    }

    fn need_no_more<'a>(&self, cids: impl IntoIterator<Item = &'a Cid>) {
        let mut needed = lock(&self.inner.needed);
        cids.into_iter().for_each(|cid| needed.remove(cid));
    }
}

fn parse(bytes: &[u8]) -> Result<BTreeSet<Cid>> {
    let text = std::str::from_utf8(bytes).map_err(|_| unreadable("it is no text"))?;
    text.lines().map(str::parse).collect()
}

fn unreadable(why: &str) -> Fault {
    Fault::new(Category::VerificationFailed, "pin_corrupt", why)
}

/// Nothing is forgotten in silence: without the pin its objects would be collected.
fn corrupt(path: &dyn fmt::Display, why: Fault) -> Fault {
    let message = format!("{path} is no pin of this store");
    Fault::new(Category::VerificationFailed, "pin_corrupt", message)
        .caused_by(why)
        .hint("restore the file, or remove it and with it what it keeps")
}

fn too_many(code: &'static str, most: usize, what: &str) -> Fault {
    let message = format!("{most} objects {what} are the most");
    Fault::new(Category::InvalidInput, code, message)
        .hint("remove pins of what is no longer needed, or spread objects over more of them")
}
