//! What came of each intent of a run, in constant memory, however long the run is.
//!
//! A run is usually recorded in order: every intent has an id that comes after the last one's, and results come as
//! intents do. Then the two are walked side by side, and the results are read by a thread of their own. Where a run
//! leaves that order, which shows only on the way, all of it is sorted instead.

use std::cmp::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use worldcompute_fault::{Fault, Result};

use super::read::Runpack;
use super::record::{Intent, ResultRecord};
use crate::signature::unverified;
use crate::sorter::Sorter;

/// What is done with a run whose results were joined to their intents.
pub(super) trait Join {
    /// Whether all of the run has to be known before its first intent is given.
    fn needs_all(&self) -> bool;

    /// Writes to `note` what is to be kept of a result.
    fn note(result: &ResultRecord<'_>, note: &mut String) -> Result<()>;

    /// The next intent, in the order of the run, with the note on its first result, if it has one.
    fn intent(&mut self, intent: &Intent<'_>, note: Option<&str>) -> Result<()>;

    /// The note on a result that belongs to no intent.
    fn unmatched(&mut self, id: &str, note: &str) -> Result<()>;

    /// A result beyond the first one with its id.
    fn result_again(&mut self, id: &str) -> Result<()>;

    /// An intent beyond the first one with its id.
    fn intent_again(&mut self, id: &str) -> Result<()>;
}

/// How many there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) intents: usize,
    pub(super) results: usize,
}

/// Joins the results of the run to its intents.
///
/// Errors: `verification_failed` for what is no record; those of the disk and of `to`.
pub(super) fn join<J: Join>(pack: &Runpack, to: &mut J) -> Result<Counts> {
    if to.needs_all() {
        return sorted(pack, 0, to);
    }
    match side_by_side(pack, to)? {
        Walked::All(counts) => Ok(counts),
        Walked::InOrder(given) => sorted(pack, given, to),
    }
}

/// How far a run could be walked.
enum Walked {
    /// To its end.
    All(Counts),
    /// So many intents; what comes then is out of order, or has no counterpart in the place where it would be.
    InOrder(usize),
}

/// Gives the intents as long as it is certain, whatever follows, which result is theirs.
fn side_by_side<J: Join>(pack: &Runpack, to: &mut J) -> Result<Walked> {
    thread::scope(|scope| {
        let (send, receive) = sync_channel(BATCHES);
        thread::Builder::new()
            .spawn_scoped(scope, move || send_notes::<J>(pack, &send))
            .map_err(|error| Fault::io("start a thread", &error))?;
        walk(pack, Notes::new(receive), to)
    })
}

fn walk<J: Join>(pack: &Runpack, mut notes: Notes, to: &mut J) -> Result<Walked> {
    let (mut intents, mut counts) = (pack.intents()?, Counts::default());
    let mut last: Option<String> = None;
    loop {
        let note = notes.peek()?;
        let Some(intent) = intents.advance()? else {
            return Ok(match note {
                None => Walked::All(counts),
                Some(_) => Walked::InOrder(counts.intents),
            });
        };
        let follows = last
            .as_deref()
            .is_none_or(|last| is_after(&intent.intent_id, last));
        let note = match note {
            Some((id, note)) if follows && id == intent.intent_id => Some(note),
            None if follows => None,
            _ => return Ok(Walked::InOrder(counts.intents)),
        };
        to.intent(&intent, note)?;
        counts.intents += 1;
        counts.results += usize::from(note.is_some());
        let last = last.get_or_insert_default();
        last.clear();
        last.push_str(&intent.intent_id);
        notes.advance();
    }
}

/// Whether one id comes after another: numbers that are counted up do, padded or not.
fn is_after(one: &str, other: &str) -> bool {
    let order = one.len().cmp(&other.len()).then_with(|| one.cmp(other));
    order == Ordering::Greater
}

/// Notes that are handed over at once, and bytes of them.
const BATCH: usize = 128 << 10;
/// Batches that wait to be taken.
const BATCHES: usize = 2;

/// Notes on results, one after the other, each with the id of its intent.
#[derive(Default)]
struct Batch {
    texts: String,
    /// Where each id and each note ends.
    ends: Vec<(usize, usize)>,
}

impl Batch {
    fn get(&self, number: usize) -> Option<(&str, &str)> {
        let (id_end, end) = *self.ends.get(number)?;
        let start = match number.checked_sub(1) {
            Some(before) => self.ends.get(before)?.1,
            None => 0,
        };
        Some((self.texts.get(start..id_end)?, self.texts.get(id_end..end)?))
    }
}

fn send_notes<J: Join>(pack: &Runpack, to: &SyncSender<Result<Batch>>) {
    // Whoever has hung up knows enough.
    let _ = match each_batch::<J>(pack, |batch| to.send(Ok(batch)).is_ok()) {
        Ok(()) => Ok(()),
        Err(fault) => to.send(Err(fault)),
    };
}

/// Hands over batches until one is not wanted.
fn each_batch<J: Join>(pack: &Runpack, mut hand_over: impl FnMut(Batch) -> bool) -> Result<()> {
    let (mut results, mut batch) = (pack.results()?, Batch::default());
    while let Some(result) = results.advance()? {
        batch.texts.push_str(&result.intent_id);
        let id_end = batch.texts.len();
        J::note(&result, &mut batch.texts)?;
        batch.ends.push((id_end, batch.texts.len()));
        if batch.texts.len() >= BATCH && !hand_over(std::mem::take(&mut batch)) {
            return Ok(());
        }
    }
    hand_over(batch);
    Ok(())
}

/// The notes as they come from the thread that makes them.
struct Notes {
    batches: Receiver<Result<Batch>>,
    batch: Batch,
    at: usize,
}

impl Notes {
    fn new(batches: Receiver<Result<Batch>>) -> Self {
        Self {
            batches,
            batch: Batch::default(),
            at: 0,
        }
    }

    fn peek(&mut self) -> Result<Option<(&str, &str)>> {
        while self.at >= self.batch.ends.len() {
            match self.batches.recv() {
                Ok(batch) => (self.batch, self.at) = (batch?, 0),
                Err(_) => return Ok(None),
            }
        }
        Ok(self.batch.get(self.at))
    }

    fn advance(&mut self) {
        self.at += 1;
    }
}

/// What a note in the sorter is about.
const INTENT: &str = "i";
const RESULT: &str = "r";

/// Joins by sorting. The first `given` intents were given before.
fn sorted<J: Join>(pack: &Runpack, given: usize, to: &mut J) -> Result<Counts> {
    let mut by_id = Sorter::new()?;
    let mut counts = Counts::default();
    let mut intents = pack.intents()?;
    while let Some(intent) = intents.advance()? {
        by_id.push(&intent.intent_id, &format!("{INTENT}{}", counts.intents))?;
        counts.intents += 1;
    }
    let (mut results, mut note) = (pack.results()?, String::new());
    while let Some(result) = results.advance()? {
        note.clear();
        note.push_str(RESULT);
        J::note(&result, &mut note)?;
        by_id.push(&result.intent_id, &note)?;
        counts.results += 1;
    }
    give(pack, given, matched(by_id, to)?, to)?;
    Ok(counts)
}

/// The notes on the first results by the number of their intent.
fn matched<J: Join>(by_id: Sorter, to: &mut J) -> Result<Sorter> {
    let mut by_number = Sorter::new()?;
    let mut group = Group::default();
    by_id.finish(|id, note| {
        group.enter(id);
        match note.split_at_checked(1) {
            Some((INTENT, number)) => group.intent(number, to),
            Some((_, note)) => group.result(note, &mut by_number, to),
            None => Ok(()),
        }
    })?;
    Ok(by_number)
}

/// The intents with one id, which come before its results.
#[derive(Default)]
struct Group {
    id: Option<String>,
    intents: Vec<u64>,
    results: usize,
}

impl Group {
    fn enter(&mut self, id: &str) {
        if self.id.as_deref() != Some(id) {
            self.id = Some(id.to_owned());
            self.intents.clear();
            self.results = 0;
        }
    }

    fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }

    fn intent<J: Join>(&mut self, number: &str, to: &mut J) -> Result<()> {
        if !self.intents.is_empty() {
            to.intent_again(self.id())?;
        }
        self.intents.push(number.parse().map_err(|_| changed())?);
        Ok(())
    }

    fn result<J: Join>(&mut self, note: &str, by_number: &mut Sorter, to: &mut J) -> Result<()> {
        self.results += 1;
        if self.results > 1 {
            to.result_again(self.id())?;
        }
        if self.intents.is_empty() {
            return to.unmatched(self.id(), note);
        }
        let first = self.intents.iter().filter(|_| self.results == 1);
        first
            .into_iter()
            .try_for_each(|number| by_number.push(&format!("{number:016x}"), note))
    }
}

/// Gives all intents but the first `given`, those with a note with it.
fn give<J: Join>(pack: &Runpack, given: usize, notes: Sorter, to: &mut J) -> Result<()> {
    let (mut intents, mut number) = (pack.intents()?, 0_usize);
    let mut next = |note: Option<&str>| {
        let Some(intent) = intents.advance()? else {
            return Ok(false);
        };
        if number >= given {
            to.intent(&intent, note)?;
        }
        number += 1;
        Ok(true)
    };
    let mut at = 0;
    notes.finish(|key, note| {
        let of = usize::from_str_radix(key, 16).map_err(|_| changed())?;
        while at < of {
            at += 1;
            next(None)?;
        }
        at += 1;
        next(Some(note)).map(drop)
    })?;
    while next(None)? {}
    Ok(())
}

fn changed() -> Fault {
    unverified("the runpack changed while it was read")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::runpack::{CaptureMode, Recorder, Refs, Run, Stamp};

    /// What was said, and the order in which intents were given.
    #[derive(Debug, Default, PartialEq)]
    struct Heard {
        intents: Vec<(String, Option<String>)>,
        unmatched: Vec<(String, String)>,
        again: Vec<(&'static str, String)>,
    }

    impl Join for Heard {
        fn needs_all(&self) -> bool {
            false
        }

        fn note(result: &ResultRecord<'_>, note: &mut String) -> Result<()> {
            note.push_str(&result.status);
            Ok(())
        }

        fn intent(&mut self, intent: &Intent<'_>, note: Option<&str>) -> Result<()> {
            let id = intent.intent_id.clone().into_owned();
            self.intents.push((id, note.map(str::to_owned)));
            Ok(())
        }

        fn unmatched(&mut self, id: &str, note: &str) -> Result<()> {
            self.unmatched.push((id.to_owned(), note.to_owned()));
            Ok(())
        }

        fn result_again(&mut self, id: &str) -> Result<()> {
            self.again.push(("result", id.to_owned()));
            Ok(())
        }

        fn intent_again(&mut self, id: &str) -> Result<()> {
            self.again.push(("intent", id.to_owned()));
            Ok(())
        }
    }

    /// A runpack of these intents and results; results are told apart by their status, which is their place.
    fn pack(intents: &[String], results: &[String]) -> (tempfile::TempDir, Runpack) {
        let dir = tempfile::tempdir().unwrap();
        let run = Run {
            run_id: "run_x".to_owned(),
            ..Run::default()
        };
        let now = Stamp::default();
        let mode = CaptureMode::Reference;
        let mut recorder = Recorder::new(run, Refs::default(), mode, now).unwrap();
        for id in intents {
            let intent = Intent {
                intent_id: id.into(),
                args_digest: "d".into(),
                ..Intent::default()
            };
            recorder.intent(intent, None).unwrap();
        }
        for (place, id) in results.iter().enumerate() {
            let result = ResultRecord {
                intent_id: id.into(),
                result_digest: "d".into(),
                status: place.to_string().into(),
                ..ResultRecord::default()
            };
            recorder.result(result, None).unwrap();
        }
        let path = dir.path().join("run.zip");
        recorder.finish(&path, None).unwrap();
        let pack = Runpack::open(&path).unwrap();
        (dir, pack)
    }

    /// What one gets by holding everything.
    fn expected(intents: &[String], results: &[String]) -> Heard {
        let mut heard = Heard::default();
        for id in intents {
            let first = results.iter().position(|of| of == id);
            heard
                .intents
                .push((id.clone(), first.map(|place| place.to_string())));
        }
        let again = |ids: &[String], what: &'static str| -> Vec<(&'static str, String)> {
            let is_again = |(at, id): &(usize, &String)| ids[..*at].contains(id);
            let again = ids.iter().enumerate().filter(is_again);
            again.map(|(_, id)| (what, id.clone())).collect()
        };
        heard.again = [again(intents, "intent"), again(results, "result")].concat();
        heard
            .again
            .sort_by(|one, other| (&one.1, one.0).cmp(&(&other.1, other.0)));
        let strange = results
            .iter()
            .enumerate()
            .filter(|(_, id)| !intents.contains(id));
        heard.unmatched = strange
            .map(|(at, id)| (id.clone(), at.to_string()))
            .collect();
        heard.unmatched.sort_by(|one, other| one.0.cmp(&other.0));
        heard
    }

    fn ids(numbers: &[u8]) -> Vec<String> {
        numbers.iter().map(|number| format!("i{number}")).collect()
    }

    proptest! {
        #[test]
        fn whatever_the_order_each_intent_comes_with_its_first_result(
            ordered in prop::collection::btree_set(0_u8..30, 0..20),
            intents in prop::collection::vec(0_u8..30, 0..4),
            results in prop::collection::vec(0_u8..30, 0..4),
            lost in 0_usize..4,
        ) {
            let ordered: Vec<u8> = ordered.into_iter().collect();
            let kept = &ordered[..ordered.len().saturating_sub(lost)];
            let (intents, results) = (ids(&[&ordered[..], &intents].concat()), ids(&[kept, &results].concat()));
            let (_dir, pack) = pack(&intents, &results);
            let (mut joined, mut by_sorting) = (Heard::default(), Heard::default());
            let counts = join(&pack, &mut joined).unwrap();
            prop_assert_eq!(counts, sorted(&pack, 0, &mut by_sorting).unwrap());
            prop_assert_eq!((counts.intents, counts.results), (intents.len(), results.len()));
            let expected = expected(&intents, &results);
            prop_assert_eq!(&joined, &expected);
            prop_assert_eq!(&by_sorting, &expected);
        }
    }

    #[test]
    fn a_run_in_order_is_never_sorted_and_one_that_leaves_it_goes_on_where_it_left() {
        let walked = |intents: &[u8], results: &[u8]| {
            let (_dir, pack) = pack(&ids(intents), &ids(results));
            match side_by_side(&pack, &mut Heard::default()).unwrap() {
                Walked::All(counts) => Ok((counts.intents, counts.results)),
                Walked::InOrder(given) => Err(given),
            }
        };
        assert_eq!(walked(&[2, 9, 10, 11], &[2, 9, 10, 11]), Ok((4, 4)));
        assert_eq!(walked(&[2, 9, 10, 11], &[2, 9]), Ok((4, 2)));
        assert_eq!(walked(&[], &[]), Ok((0, 0)));
        assert_eq!(walked(&[2, 9, 10, 11], &[2, 10, 11]), Err(1));
        assert_eq!(walked(&[2, 10, 9], &[2, 10, 9]), Err(2));
        assert_eq!(walked(&[2, 2], &[2]), Err(1));
        assert_eq!(walked(&[2], &[2, 3]), Err(1));
    }
}
