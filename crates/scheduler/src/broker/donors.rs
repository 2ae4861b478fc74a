//! The donors the broker knows, and whether a task fits one.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use worldcompute_proof::PeerId;

use super::standing::Standings;
use crate::LeaseId;
use crate::manifest::{CLASSES, Manifest, WorkloadType};

/// Most donors the broker keeps in mind.
pub const MAX_DONORS: usize = 10_000;
/// Most tasks one donor is given at a time, whatever it claims.
pub const MAX_SLOTS: u32 = 256;
/// A donor that was not heard of for so long gets no more tasks.
pub const DONOR_SILENCE: Duration = Duration::from_secs(120);
/// How long a donor is left alone after it had no room or broke down; doubles each time in a row.
const FIRST_HOLD: Duration = Duration::from_secs(1);
/// Most doublings: 32 s.
const MAX_DOUBLINGS: u32 = 5;

/// What a donor has and allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// How many tasks it runs at a time.
    pub slots: u32,
    /// Thousandths of a core.
    pub cpu_millicores: u32,
    /// Memory for tasks, in bytes.
    pub memory_bytes: u64,
    /// How busy it is, 0 to 1000.
    pub load_permille: u16,
    /// The uses it consented to.
    pub classes: Classes,
    /// Whether it takes no tasks at the moment.
    pub paused: bool,
    /// Whether it runs images.
    pub images: bool,
}

/// A set of acceptable-use classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes(u8);

impl Classes {
    /// The known ones among `names`; consent to an unknown use means nothing.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let bit = |name| {
            CLASSES
                .iter()
                .position(|class| *class == name)
                .map_or(0, |at| 1 << at)
        };
        Self(names.into_iter().fold(0, |set, name| set | bit(name)))
    }

    /// The names, in the order of [`CLASSES`].
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        CLASSES
            .iter()
            .enumerate()
            .filter(move |(at, _)| self.0 & (1 << at) != 0)
            .map(|(_, name)| *name)
    }

    const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// What the tasks of a job need of a donor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    millicores: u32,
    memory: u64,
    classes: Classes,
    images: bool,
}

impl Need {
    pub(super) fn of(manifest: &Manifest) -> Self {
        Self {
            millicores: manifest.resources.cpu_millicores,
            memory: manifest.resources.ram_bytes,
            classes: Classes::of(manifest.acceptable_use_classes.iter().map(String::as_str)),
            images: manifest.workload_type == WorkloadType::OciContainer,
        }
    }
}

/// Why a donor cannot take a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mismatch {
    /// It could, but not now.
    Busy,
    Silent,
    /// It took a task and did nothing.
    Barred,
    Paused,
    Consent(&'static str),
    Images,
    Cores,
    Memory,
    Declined,
    NotChosen,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("is busy"),
            Self::Silent => f.write_str("has not been heard of lately"),
            Self::Barred => {
                f.write_str("took a task and did nothing, and is left alone for a while")
            }
            Self::Paused => f.write_str("is paused"),
            Self::Consent(class) => write!(f, "has not consented to {class}"),
            Self::Images => f.write_str("runs no images"),
            Self::Cores => f.write_str("has too few cores"),
            Self::Memory => f.write_str("has too little memory"),
            Self::Declined => f.write_str("declined the job"),
            Self::NotChosen => f.write_str("is not the donor that was asked for"),
        }
    }
}

struct Donor {
    capacity: Capacity,
    seen: Duration,
    held_until: Duration,
    /// How often in a row it had no room or broke down.
    setbacks: u32,
    /// The leases it works on, with the memory of each.
    leases: BTreeMap<LeaseId, u64>,
}

impl Donor {
    fn mismatch(&self, now: Duration, need: &Need) -> Option<Mismatch> {
        let capacity = &self.capacity;
        let unconsented = need.classes.without(capacity.classes).names().next();
        let used: u64 = self.leases.values().sum();
        let free = capacity.memory_bytes.saturating_sub(used);
        if let Some(class) = unconsented {
            Some(Mismatch::Consent(class))
        } else if need.images && !capacity.images {
            Some(Mismatch::Images)
        } else if capacity.cpu_millicores < need.millicores {
            Some(Mismatch::Cores)
        } else if capacity.memory_bytes < need.memory {
            Some(Mismatch::Memory)
        } else if capacity.paused {
            Some(Mismatch::Paused)
        } else if now.saturating_sub(self.seen) > DONOR_SILENCE {
            Some(Mismatch::Silent)
        } else if self.held_until > now || self.slots() <= self.leases.len() || free < need.memory {
            Some(Mismatch::Busy)
        } else {
            None
        }
    }

    fn slots(&self) -> usize {
        self.capacity.slots.min(MAX_SLOTS) as usize
    }

    /// How full it is in thousandths, by its slots or by its own word.
    fn fullness(&self) -> u64 {
        let used = (self.leases.len() * 1_000)
            .checked_div(self.slots())
            .unwrap_or(1_000);
        (used as u64).max(self.capacity.load_permille.into())
    }
}

/// Every donor that is connected, and what is known of those that were.
#[derive(Default)]
pub(super) struct Donors {
    present: BTreeMap<PeerId, Donor>,
    pub(super) standings: Standings,
}

impl Donors {
    /// Notes what a donor said. When there are too many, a newcomer takes the place of the longest silent idle one.
    pub(super) fn seen(&mut self, now: Duration, peer: PeerId, capacity: Capacity) {
        if let Some(donor) = self.present.get_mut(&peer) {
            donor.capacity = capacity;
            donor.seen = now;
            return;
        }
        if self.present.len() >= MAX_DONORS && !self.forget_one() {
            return;
        }
        let donor = Donor {
            capacity,
            seen: now,
            held_until: Duration::ZERO,
            setbacks: 0,
            leases: BTreeMap::new(),
        };
        self.present.insert(peer, donor);
    }

    /// A donor answered, whatever it said.
    pub(super) fn heard(&mut self, now: Duration, peer: PeerId) {
        if let Some(donor) = self.present.get_mut(&peer) {
            donor.seen = now;
        }
    }

    pub(super) fn remove(&mut self, peer: PeerId) {
        self.present.remove(&peer);
    }

    pub(super) fn is_up(&self, peer: PeerId) -> bool {
        self.present.contains_key(&peer)
    }

    pub(super) fn occupy(&mut self, peer: PeerId, lease: LeaseId, memory: u64) {
        if let Some(donor) = self.present.get_mut(&peer) {
            donor.leases.insert(lease, memory);
        }
    }

    pub(super) fn release(&mut self, peer: PeerId, lease: LeaseId) {
        if let Some(donor) = self.present.get_mut(&peer) {
            donor.leases.remove(&lease);
        }
    }

    /// The donor did what it was asked to.
    pub(super) fn succeeded(&mut self, now: Duration, peer: PeerId) {
        self.standings.delivered(now, peer);
        if let Some(donor) = self.present.get_mut(&peer) {
            donor.setbacks = 0;
        }
    }

    /// Leaves the donor alone for a while.
    pub(super) fn hold(&mut self, now: Duration, peer: PeerId) {
        if let Some(donor) = self.present.get_mut(&peer) {
            donor.held_until = now + FIRST_HOLD * (1 << donor.setbacks.min(MAX_DOUBLINGS));
            donor.setbacks = donor.setbacks.saturating_add(1);
        }
    }

    /// When the next donor is left alone no more.
    pub(super) fn next_release(&self, now: Duration) -> Option<Duration> {
        self.present
            .values()
            .map(|donor| donor.held_until)
            .filter(|until| *until > now)
            .chain(self.standings.next_release(now))
            .min()
    }

    /// The donor that can take a task and has the lowest rank; how full it is decides between equal ranks.
    pub(super) fn best<R: Ord>(
        &self,
        now: Duration,
        need: &Need,
        rank: impl Fn(&PeerId) -> Option<R>,
        tie: impl Fn(&PeerId) -> u64,
    ) -> Option<PeerId> {
        let fitting = self
            .present
            .iter()
            .filter(|(peer, donor)| self.mismatch(now, peer, donor, need).is_none());
        let ranked = fitting
            .filter_map(|(peer, donor)| Some((rank(peer)?, donor.fullness(), tie(peer), peer)));
        ranked.min().map(|(.., peer)| *peer)
    }

    /// Whether one of these donors can take a task, now or once it has room.
    pub(super) fn any_in_time(
        &self,
        now: Duration,
        need: &Need,
        of: impl Fn(&PeerId) -> bool,
    ) -> bool {
        let in_time = |peer: &PeerId, donor: &Donor| {
            let mismatch = self.mismatch(now, peer, donor, need);
            matches!(mismatch, None | Some(Mismatch::Busy))
        };
        self.present
            .iter()
            .any(|(peer, donor)| in_time(peer, donor) && of(peer))
    }

    /// How many donors cannot take a task for which reason; `own` knows reasons of the job's own.
    pub(super) fn mismatches(
        &self,
        now: Duration,
        need: &Need,
        own: impl Fn(&PeerId) -> Option<Mismatch>,
    ) -> BTreeMap<Mismatch, usize> {
        let reason = |(peer, donor): (&PeerId, &Donor)| {
            own(peer).or_else(|| self.mismatch(now, peer, donor, need))
        };
        self.present
            .iter()
            .filter_map(reason)
            .fold(BTreeMap::new(), |mut counts, mismatch| {
                *counts.entry(mismatch).or_default() += 1;
                counts
            })
    }

    fn mismatch(
        &self,
        now: Duration,
        peer: &PeerId,
        donor: &Donor,
        need: &Need,
    ) -> Option<Mismatch> {
        let barred = self.standings.barred_until(peer) > now;
        barred
            .then_some(Mismatch::Barred)
            .or_else(|| donor.mismatch(now, need))
    }

    fn forget_one(&mut self) -> bool {
        let idle = self
            .present
            .iter()
            .filter(|(_, donor)| donor.leases.is_empty());
        let oldest = idle
            .min_by_key(|(_, donor)| donor.seen)
            .map(|(peer, _)| *peer);
        oldest.is_some_and(|peer| self.present.remove(&peer).is_some())
    }

    /// The leases each donor works on.
    #[cfg(test)]
    pub(super) fn occupation(&self) -> BTreeMap<PeerId, Vec<LeaseId>> {
        self.present
            .iter()
            .map(|(peer, donor)| (*peer, donor.leases.keys().copied().collect()))
            .collect()
    }
}
