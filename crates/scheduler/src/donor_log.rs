//! What a donor remembers of the leases it served: every exit from its sandbox has a number, and every result can be
//! asked for again.
//!
//! Numbers are reserved in durable blocks, so that none is ever given out twice. Whoever stops without
//! [`DonorLog::close`] - a crash, a power cut - loses the rest of the block: the numbers that were given out or could
//! have been, and have no result, are written down as a gap ([`DonorLog::gaps`]). *A missing number is a missing record.*

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use blue_encrypted_store::{Batch, Entity, Id, Kind, Partition, PartitionVersion, Store};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use worldcompute_fault::{Category, Fault, Result, WcCode};
use worldcompute_proof::PeerId;

use crate::base64_bytes::Base64;

/// How many numbers are reserved at a time.
pub const BLOCK: u64 = 64;
/// Most results that are kept; the oldest give way.
pub const MAX_RESULTS: usize = 1_024;
/// Most bytes of one result.
pub const MAX_RESULT_BYTES: usize = 256 << 10;
/// Most bytes of all results together; the oldest give way.
pub const MAX_TOTAL_BYTES: usize = 64 << 20;
/// Most gaps that are kept; the oldest give way.
pub const MAX_GAPS: usize = 1_024;
/// The partition of the log.
const PARTITION: &str = "donor-log";

/// A donor's log in its store. There is one per store.
pub struct DonorLog {
    /// Held while something is written: commits follow each other.
    writer: tokio::sync::Mutex<Writer>,
    kept: Mutex<Kept>,
    last: AtomicU64,
}

/// A lease that was served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The number of the exit.
    pub exit: u64,
    /// Whose lease it was.
    pub submitter: PeerId,
    /// Its name.
    pub lease: String,
    /// When the result was written.
    pub at: Timestamp,
    /// The result, as it was given to [`DonorLog::finished`].
    pub result: Vec<u8>,
}

/// Consecutive numbers, first and last included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The first number.
    pub first: u64,
    /// The last number.
    pub last: u64,
}

impl DonorLog {
    /// Opens the log, and writes down what the last one left open.
    ///
    /// # Errors
    /// Those of the store, also when it gives out no key to write the log with; WC-015 for records that are no log.
    pub async fn open(store: &Store) -> Result<Self> {
        store.check_keys(Kind::RECEIPT).await?;
        let partition = store.partition(Kind::RECEIPT, PARTITION)?;
        let (mut writer, kept) = Writer::load(partition).await?;
        writer.settle_past(&kept).await?;
        let last = AtomicU64::new(writer.issued);
        Ok(Self {
            writer: tokio::sync::Mutex::new(writer),
            kept: Mutex::new(kept),
            last,
        })
    }

    /// The number of the next exit. It is durable that nobody else has it or will have it.
    ///
    /// # Errors
    /// Those of the store; then no number is given out.
    pub async fn next_exit(&self) -> Result<u64> {
        let mut writer = self.writer.lock().await;
        let exit = writer.issued + 1;
        if exit > writer.head.reserved {
            writer.reserve(exit + BLOCK - 1).await?;
        }
        writer.issued = exit;
        self.last.store(exit, Ordering::Relaxed);
        Ok(exit)
    }

    /// The number given out last; 0 before the first.
    pub fn last_exit(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// Keeps the result of an exit, to be given out again under the same lease.
    ///
    /// # Errors
    /// `result_too_large` past [`MAX_RESULT_BYTES`]; WC-015 for a number that was not given out, or whose result is
    /// kept already under another lease; those of the store.
    pub async fn finished(
        &self,
        submitter: &PeerId,
        lease: &str,
        exit: u64,
        result: &[u8],
    ) -> Result<()> {
        check_size(result)?;
        let mut writer = self.writer.lock().await;
        if exit == 0 || exit > writer.issued {
            return Err(broken(format!("exit {exit} was not given out")));
        }
        let at = Timestamp::now();
        let served = Served {
            exit,
            submitter: *submitter,
            lease: lease.to_owned(),
            at,
            result: result.to_vec(),
        };
        let superseded = self.kept().room_for(&served)?;
        writer.write(&served, &superseded).await?;
        self.kept().keep(served, &superseded);
        Ok(())
    }

    /// The result of a lease of that submitter, if it is kept.
    ///
    /// # Errors
    /// None at present: results are in memory.
    pub fn reply_of(&self, submitter: &PeerId, lease: &str) -> Result<Option<Vec<u8>>> {
        Ok(self
            .kept()
            .of(submitter, lease)
            .map(|served| served.result.clone()))
    }

    /// Forgets all results, and says how many there were. Their numbers stay used.
    ///
    /// # Errors
    /// Those of the store; then all are still there.
    pub async fn forget(&self) -> Result<usize> {
        let mut writer = self.writer.lock().await;
        let all: Vec<u64> = self.kept().by_exit.keys().copied().collect();
        if all.is_empty() {
            return Ok(0);
        }
        writer.change(Batch::new(), &all).await?;
        let mut kept = self.kept();
        all.iter().for_each(|exit| kept.forget(*exit));
        Ok(all.len())
    }

    /// The lowest number whose result is kept: those below have given way.
    pub fn oldest(&self) -> Option<u64> {
        self.kept().by_exit.keys().next().copied()
    }

    /// The kept results, by number.
    pub fn served(&self) -> Vec<Served> {
        self.kept().by_exit.values().cloned().collect()
    }

    /// The numbers that earlier logs gave out, or could have given out, without a result.
    pub async fn gaps(&self) -> Vec<Range> {
        self.writer.lock().await.head.gaps.clone()
    }

    /// Gives the numbers back that were not given out. Exits that are still open become a gap.
    ///
    /// # Errors
    /// Those of the store; then the next log finds a larger gap.
    pub async fn close(&self) -> Result<()> {
        let mut writer = self.writer.lock().await;
        let issued = writer.issued;
        writer.reserve(issued).await
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is durable, and how to change it.
struct Writer {
    partition: Partition,
    /// `None` when it has to be read: after a commit that failed.
    version: Option<PartitionVersion>,
    issued: u64,
    head: Head,
}

/// The head of the log.
#[derive(Clone, Default, Entity)]
#[entity(name = "meta")]
struct Head {
    /// Up to here, every number had its result or lies in a gap.
    settled: u64,
    /// Numbers past that whose results have given way to newer ones, in order.
    dropped: Vec<Range>,
    /// Up to here, numbers may have been given out.
    reserved: u64,
    gaps: Vec<Range>,
}

impl Writer {
    async fn load(partition: Partition) -> Result<(Self, Kept)> {
        let mut kept = Kept::default();
        let (version, head) = match partition.load().await? {
            None => (PartitionVersion::NONE, Head::default()),
            Some(snapshot) => {
                let head = snapshot
                    .get::<Head>("")?
                    .ok_or_else(|| broken("it has no head".to_owned()))?;
                for exit in snapshot.entities::<Exit>()? {
                    kept.keep(exit.into_value().into(), &[]);
                }
                (snapshot.version(), head.into_value())
            }
        };
        let issued = head.reserved;
        Ok((
            Self {
                partition,
                version: Some(version),
                issued,
                head,
            },
            kept,
        ))
    }

    /// The numbers of the last log are used up: those without a result become gaps.
    async fn settle_past(&mut self, kept: &Kept) -> Result<()> {
        let last = self.head.reserved;
        let here = kept.by_exit.keys().map(|exit| Range {
            first: *exit,
            last: *exit,
        });
        let mut done: Vec<_> = self.head.dropped.drain(..).chain(here).collect();
        done.sort_unstable();
        for range in done {
            self.head.settle(range);
        }
        self.head.settle(Range {
            first: last + 1,
            last,
        });
        self.reserve(last).await
    }

    async fn reserve(&mut self, reserved: u64) -> Result<()> {
        let head = Head {
            reserved,
            ..self.head.clone()
        };
        let mut batch = Batch::new();
        batch.put(head.clone())?;
        self.commit(batch).await?;
        self.head = head;
        Ok(())
    }

    async fn write(&mut self, served: &Served, superseded: &[u64]) -> Result<()> {
        let mut batch = Batch::new();
        batch.put(Exit::from(served.clone()))?;
        self.change(batch, superseded).await
    }

    /// Commits a batch, and takes out results that give way.
    async fn change(&mut self, mut batch: Batch, superseded: &[u64]) -> Result<()> {
        let mut head = self.head.clone();
        for exit in superseded {
            batch.remove::<Exit>(&exit.to_string())?;
            head.drop_result(*exit);
        }
        if !superseded.is_empty() {
            batch.put(head.clone())?;
        }
        self.commit(batch).await?;
        self.head = head;
        Ok(())
    }

    async fn commit(&mut self, batch: Batch) -> Result<()> {
        let version = match self.version.take() {
            Some(version) => version,
            None => self
                .partition
                .load()
                .await?
                .map_or(PartitionVersion::NONE, |snapshot| snapshot.version()),
        };
        self.version = Some(self.partition.commit(batch, version).await?);
        Ok(())
    }
}

impl Head {
    /// Numbers up to the end of `done` are accounted for: what lies before it is a gap.
    fn settle(&mut self, done: Range) {
        if done.last <= self.settled && done.first <= self.settled {
            return;
        }
        if done.first > self.settled + 1 {
            self.gaps.push(Range {
                first: self.settled + 1,
                last: done.first - 1,
            });
            let surplus = self.gaps.len().saturating_sub(MAX_GAPS);
            self.gaps.drain(..surplus);
        }
        self.settled = self.settled.max(done.last);
    }

    /// A result gives way; its number stays accounted for. Numbers below it may still be at work.
    fn drop_result(&mut self, exit: u64) {
        let at = self.dropped.partition_point(|range| range.last < exit);
        self.dropped.insert(
            at,
            Range {
                first: exit,
                last: exit,
            },
        );
        self.dropped.dedup_by(|next, range| {
            let adjacent = range.last + 1 == next.first;
            range.last = if adjacent { next.last } else { range.last };
            adjacent
        });
        if self.dropped.len() > MAX_GAPS
            || self
                .dropped
                .first()
                .is_some_and(|first| first.first == self.settled + 1)
        {
            let first = self.dropped.remove(0);
            self.settle(first);
        }
    }
}

/// The results in memory.
#[derive(Default)]
struct Kept {
    by_exit: BTreeMap<u64, Served>,
    by_lease: HashMap<(PeerId, String), u64>,
    bytes: usize,
}

impl Kept {
    fn of(&self, submitter: &PeerId, lease: &str) -> Option<&Served> {
        let exit = self.by_lease.get(&(*submitter, lease.to_owned()))?;
        self.by_exit.get(exit)
    }

    /// Which results have to go so that this one fits.
    fn room_for(&self, served: &Served) -> Result<Vec<u64>> {
        if self.by_exit.contains_key(&served.exit) {
            return Err(broken(format!("exit {} has a result already", served.exit)));
        }
        let (mut count, mut bytes) = (self.by_exit.len() + 1, self.bytes + served.result.len());
        let over = |old: &&Served| {
            let over = count > MAX_RESULTS || bytes > MAX_TOTAL_BYTES;
            count -= usize::from(over);
            bytes -= if over { old.result.len() } else { 0 };
            over
        };
        Ok(self
            .by_exit
            .values()
            .take_while(over)
            .map(|old| old.exit)
            .collect())
    }

    fn keep(&mut self, served: Served, superseded: &[u64]) {
        for exit in superseded {
            self.forget(*exit);
        }
        self.bytes += served.result.len();
        self.by_lease
            .insert((served.submitter, served.lease.clone()), served.exit);
        self.by_exit.insert(served.exit, served);
    }

    fn forget(&mut self, exit: u64) {
        if let Some(old) = self.by_exit.remove(&exit) {
            self.bytes -= old.result.len();
            let lease = (old.submitter, old.lease);
            if self.by_lease.get(&lease) == Some(&exit) {
                self.by_lease.remove(&lease);
            }
        }
    }
}

/// [`Served`] as it is stored.
#[derive(Entity)]
#[entity(name = "exit")]
struct Exit {
    #[id]
    number: Id,
    exit: u64,
    submitter: PeerId,
    lease: String,
    at: Timestamp,
    result: Base64,
}

impl From<Served> for Exit {
    fn from(served: Served) -> Self {
        let Served {
            exit,
            submitter,
            lease,
            at,
            result,
        } = served;
        Self {
            number: Id::of_number(exit, 0),
            exit,
            submitter,
            lease,
            at,
            result: Base64(result),
        }
    }
}

impl From<Exit> for Served {
    fn from(stored: Exit) -> Self {
        let Exit {
            exit,
            submitter,
            lease,
            at,
            result,
            ..
        } = stored;
        Self {
            exit,
            submitter,
            lease,
            at,
            result: result.0,
        }
    }
}

fn check_size(result: &[u8]) -> Result<()> {
    if result.len() <= MAX_RESULT_BYTES {
        return Ok(());
    }
    let message = format!(
        "a result of {} bytes is too large to be kept: {MAX_RESULT_BYTES} is the most",
        result.len()
    );
    Err(
        Fault::new(Category::InvalidInput, "result_too_large", message)
            .hint("keep large blobs in the content store"),
    )
}

fn broken(why: String) -> Fault {
    Fault::wc(WcCode::Internal, format!("donor log: {why}")).hint("restore the store from a backup")
}

#[cfg(test)]
mod tests {
    use super::*;
    use worldcompute_proof::SigningKey;

    #[test]
    fn results_give_way_when_all_of_them_are_too_large_together() {
        let submitter = SigningKey::from_seed([1; 32]).peer_id();
        let served = |exit: u64, bytes: usize| Served {
            exit,
            submitter,
            lease: format!("lease-{exit}"),
            at: Timestamp::UNIX_EPOCH,
            result: vec![0; bytes],
        };
        let mut kept = Kept::default();
        let full = (MAX_TOTAL_BYTES / MAX_RESULT_BYTES) as u64;
        for exit in 1..=full {
            let served = served(exit, MAX_RESULT_BYTES);
            assert!(kept.room_for(&served).unwrap().is_empty());
            kept.keep(served, &[]);
        }
        assert_eq!(kept.bytes, MAX_TOTAL_BYTES);
        assert!(kept.room_for(&served(full + 1, 0)).unwrap().is_empty());
        let one_more = served(full + 1, MAX_RESULT_BYTES + 1);
        let superseded = kept.room_for(&one_more).unwrap();
        assert_eq!(superseded, [1, 2]);
        kept.keep(one_more, &superseded);
        assert_eq!(kept.bytes, MAX_TOTAL_BYTES - MAX_RESULT_BYTES + 1);
        assert!(kept.of(&submitter, "lease-2").is_none());
        assert!(kept.of(&submitter, "lease-3").is_some());
    }
}
