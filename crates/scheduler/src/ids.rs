//! The names of jobs, tasks and leases.
//!
//! A lease is named by what it is for, so the name needs no randomness: the broker never grants the same attempt of
//! the same replica of the same task twice, and writes the grant down before it sends it.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;
use worldcompute_fault::{Category, Fault, Result};

/// A job: a ULID in its canonical spelling (26 upper-case Crockford characters). Ids sort by time of submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(Ulid);

impl JobId {
    /// A fresh id from the clock and the system's randomness.
    pub fn generate() -> Self {
        Self(Ulid::generate())
    }

    /// An id with the given parts: milliseconds since 1970 (48 bits) and randomness (80 bits).
    pub const fn from_parts(millis: u64, random: u128) -> Self {
        Self(Ulid::from_parts(millis, random))
    }

    /// When it was made, which is when its manifest was signed.
    pub fn made_at(self) -> Timestamp {
        let millis = i64::try_from(self.0.timestamp_ms()).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self> {
        Ulid::from_string(text)
            .ok()
            .filter(|ulid| ulid.to_string() == text)
            .map(Self)
            .ok_or_else(|| malformed("job", text))
    }
}

/// A task of a job: `JOB.INDEX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// The job it belongs to.
    pub job: JobId,
    /// Its place in the job, from 0.
    pub index: u32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.job, self.index)
    }
}

impl FromStr for TaskId {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split('.');
        let task = Self::from_parts(&mut parts).filter(|_| parts.next().is_none());
        task.ok_or_else(|| malformed("task", text))
    }
}

impl TaskId {
    fn from_parts<'a>(parts: &mut impl Iterator<Item = &'a str>) -> Option<Self> {
        let job = parts.next()?.parse().ok()?;
        let index = number(parts.next()?)?;
        Some(Self { job, index })
    }
}

/// One grant of a task to one donor: `JOB.INDEX.REPLICA.ATTEMPT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId {
    /// The task that was leased.
    pub task: TaskId,
    /// Which of the redundant executions of the task this is, from 0.
    pub replica: u8,
    /// Which try of that replica this is, from 0.
    pub attempt: u32,
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.task, self.replica, self.attempt)
    }
}

impl FromStr for LeaseId {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self> {
        Self::from_parts(&mut text.split('.')).ok_or_else(|| malformed("lease", text))
    }
}

impl LeaseId {
    fn from_parts<'a>(parts: &mut impl Iterator<Item = &'a str>) -> Option<Self> {
        let task = TaskId::from_parts(parts)?;
        let replica = number(parts.next()?)?;
        let attempt = number(parts.next()?)?;
        parts.next().is_none().then_some(Self {
            task,
            replica,
            attempt,
        })
    }
}

/// The only spelling of a number that [`fmt::Display`] writes: decimal, no sign, no leading zero.
fn number<N: FromStr + ToString>(text: &str) -> Option<N> {
    text.parse().ok().filter(|n: &N| n.to_string() == text)
}

fn malformed(what: &str, text: &str) -> Fault {
    let shown: String = text.chars().take(80).collect();
    Fault::new(
        Category::InvalidInput,
        "malformed_id",
        format!("`{}` is not a {what} id", shown.escape_default()),
    )
    .hint("copy the id from `worldcompute job list`")
}

macro_rules! serde_as_text {
    ($($id:ty),*) => {$(
        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

serde_as_text!(JobId, TaskId, LeaseId);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_reads_back_from_its_own_text(
            millis in 0..1_u64 << 48, random: u128, index: u32, replica: u8, attempt: u32
        ) {
            let task = TaskId { job: JobId::from_parts(millis, random), index };
            let lease = LeaseId { task, replica, attempt };
            prop_assert_eq!(task.job.to_string().parse::<JobId>().unwrap(), task.job);
            prop_assert_eq!(task.to_string().parse::<TaskId>().unwrap(), task);
            prop_assert_eq!(lease.to_string().parse::<LeaseId>().unwrap(), lease);
        }

        #[test]
        fn any_text_that_parses_is_the_canonical_spelling(text in "[0-9A-Za-z.+-]{0,40}") {
            if let Ok(lease) = text.parse::<LeaseId>() {
                prop_assert_eq!(lease.to_string(), text);
            }
        }
    }

    #[test]
    fn other_spellings_of_an_id_are_refused() {
        let id = JobId::from_parts(1_700_000_000_000, 7).to_string();
        let aliases = [
            id.to_lowercase(),
            format!("{id}.01.0.1"),
            format!("{id}.1.0.+1"),
            format!("{id}.1.0.1.1"),
            format!("{id}.1.0"),
            format!("{id}.1.256.1"),
        ];
        for alias in aliases {
            assert!(alias.parse::<LeaseId>().is_err(), "{alias}");
        }
        assert!(id.to_lowercase().parse::<JobId>().is_err());
    }
}
