//! Jobs, images, answers and junk in a store that is too small for all of them, beside a model of who needs what.

use std::collections::BTreeSet;

use blue_encrypted_store::{LocalFileKeyProvider, Store, StoreConfig, StorePath};
use proptest::prelude::*;
use tempfile::TempDir;
use worldcompute_content::{Collect, Limits};
use worldcompute_mesh::wire::{DispatchReply, DispatchStatus, OutputBlob};
use worldcompute_proof::{PeerId, SigningKey, canonical_cbor};
use worldcompute_scheduler::donor_log::DonorLog;

use super::*;
use crate::donor::answers::Answers;

const ROOM: u64 = 4_096;
const LARGEST: usize = 300;

/// Something that happens to a job; `Die` is a crash after the first of two writes, or before both.
#[derive(Clone, Copy, Debug)]
enum Die {
    Never,
    BeforeRecords,
    AfterRecords,
}

#[derive(Clone, Debug)]
enum Step {
    Submit(u8, usize, Die),
    Settle(u8, usize, Die),
    End(u8, Die),
    Retire(u8, Die),
    Image(u8, usize),
    Forget(u8),
    Answer(usize),
    Junk(usize),
    Restart,
    Collect,
}

fn step() -> impl Strategy<Value = Step> {
    let die = || {
        prop_oneof![
            6 => Just(Die::Never),
            1 => Just(Die::BeforeRecords),
            1 => Just(Die::AfterRecords),
        ]
    };
    let (job, size) = (|| 0..4_u8, || 1..LARGEST);
    prop_oneof![
        3 => (job(), size(), die()).prop_map(|(job, size, die)| Step::Submit(job, size, die)),
        3 => (job(), size(), die()).prop_map(|(job, size, die)| Step::Settle(job, size, die)),
        2 => (job(), die()).prop_map(|(job, die)| Step::End(job, die)),
        2 => (job(), die()).prop_map(|(job, die)| Step::Retire(job, die)),
        1 => (0..2_u8, size()).prop_map(|(image, size)| Step::Image(image, size)),
        1 => (0..2_u8).prop_map(Step::Forget),
        2 => size().prop_map(Step::Answer),
        6 => size().prop_map(Step::Junk),
        1 => Just(Step::Restart),
        1 => Just(Step::Collect),
    ]
}

/// The records of one job, as they are on disk.
#[derive(Clone, Default)]
struct Record {
    ended: bool,
    objects: Vec<Cid>,
}

/// One answer in the log: its number, what it names, and how many bytes that has.
type Answered = (u64, Cid, u64);

/// A node's content, and what it should be.
struct World {
    dir: TempDir,
    store: Store,
    live: Option<Live>,
    records: HashMap<u8, Record>,
    images: HashMap<u8, Vec<Cid>>,
    answers: Vec<Answered>,
    /// No two objects are the same.
    made: u64,
}

/// What a crash takes.
struct Live {
    content: Arc<ContentStore>,
    needed: Needed,
    log: DonorLog,
    answers: Answers,
}

fn job(number: u8) -> JobId {
    JobId::from_parts(u64::from(number), 0)
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = LocalFileKeyProvider::new(dir.path().join("keys/umk.key"));
        let config = StoreConfig::new(StorePath::Memory);
        let mut world = Self {
            store: Store::open(config, Arc::new(keys)).await.unwrap(),
            dir,
            live: None,
            records: HashMap::new(),
            images: HashMap::new(),
            answers: Vec::new(),
            made: 0,
        };
        world.start().await;
        world
    }

    /// As a node starts: see `Past::load` and `Driver::restore`.
    async fn start(&mut self) {
        self.live = None;
        let limits = Limits {
            max_object: ROOM,
            max_total: ROOM,
        };
        let content = Arc::new(ContentStore::open(self.dir.path().join("c"), limits).unwrap());
        let log = DonorLog::open(&self.store).await.unwrap();
        let answers = Answers::of(&log, &content, ROOM).unwrap();
        let needed = Needed::of(content.clone());
        for (number, record) in &self.records {
            let id = job(*number);
            if !record.ended {
                needed.open(id, hold(&content, &record.objects));
                needed.accept(id, record.objects.first().copied()).unwrap();
            } else if !needed.is_ended(id).unwrap() {
                needed.end_with(id, &record.objects).unwrap();
            }
        }
        let known = |id| self.records.keys().any(|number| job(*number) == id);
        needed.retire_unknown(known).unwrap();
        needed.collect_when_full();
        self.live = Some(Live {
            content,
            needed,
            log,
            answers,
        });
    }

    fn live(&self) -> &Live {
        self.live.as_ref().unwrap()
    }

    /// An object that never was, held, if there is room for it beside all that is needed.
    fn put(&mut self, size: usize) -> Option<Held> {
        self.made += 1;
        let mut bytes = self.made.to_be_bytes().to_vec();
        bytes.resize(size.max(8), 0);
        let content = &self.live().content;
        let held = content.hold(&Cid::raw(&bytes));
        match content.put_as(held.cid(), &bytes) {
            Ok(_) => Some(held),
            Err(fault) => {
                assert_eq!(fault.code(), "content_store_full");
                let least = self.needed_bytes() + bytes.len() as u64;
                assert!(least > ROOM, "refused with {least} of {ROOM} bytes needed");
                None
            }
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Submit(number, size, die) => self.submit(number, size, die).await,
            Step::Settle(number, size, die) => self.settle(number, size, die).await,
            Step::End(number, die) => self.end(number, die).await,
            Step::Retire(number, die) => self.retire(number, die).await,
            Step::Image(number, size) => self.import(number, size),
            Step::Forget(number) => {
                self.images.remove(&number);
                let pin = format!("image:{number}").parse().unwrap();
                self.live().content.unpin(&pin).unwrap();
            }
            Step::Answer(size) => self.answer(size).await,
            Step::Junk(size) => drop(self.put(size)),
            Step::Restart => self.start().await,
            Step::Collect => {
                self.live().content.collect(Collect::All).unwrap();
                let left = self.live().content.used();
                assert_eq!(left, self.known_bytes(), "what nobody needs stays");
            }
        }
    }

    /// Pin and records are written side by side: either may be there alone.
    async fn submit(&mut self, number: u8, size: usize, die: Die) {
        if self.records.contains_key(&number) {
            return;
        }
        let Some(module) = self.put(size) else { return };
        let (id, cid) = (job(number), *module.cid());
        let record = Record {
            ended: false,
            objects: vec![cid],
        };
        self.live().needed.open(id, vec![module]);
        if !matches!(die, Die::AfterRecords) {
            self.live().needed.accept(id, [cid]).unwrap();
        }
        if !matches!(die, Die::BeforeRecords) {
            self.records.insert(number, record);
        }
        self.survive(die).await;
    }

    async fn settle(&mut self, number: u8, size: usize, die: Die) {
        let id = job(number);
        if self.records.get(&number).is_none_or(|record| record.ended) {
            return;
        }
        let Some(result) = self.put(size) else { return };
        let cid = *result.cid();
        self.live().needed.add(id, vec![result]);
        if !matches!(die, Die::BeforeRecords) {
            self.records.get_mut(&number).unwrap().objects.push(cid);
        }
        self.survive(die).await;
    }

    async fn end(&mut self, number: u8, die: Die) {
        let Some(record) = self.records.get_mut(&number).filter(|one| !one.ended) else {
            return;
        };
        record.ended = !matches!(die, Die::BeforeRecords);
        if matches!(die, Die::Never) {
            self.live().needed.end(job(number)).unwrap();
        }
        self.survive(die).await;
    }

    async fn retire(&mut self, number: u8, die: Die) {
        if self.records.get(&number).is_none_or(|record| !record.ended) {
            return;
        }
        if !matches!(die, Die::BeforeRecords) {
            self.records.remove(&number);
        }
        if matches!(die, Die::Never) {
            self.live().needed.retire(job(number)).unwrap();
        }
        self.survive(die).await;
    }

    async fn survive(&mut self, die: Die) {
        if !matches!(die, Die::Never) {
            self.start().await;
        }
    }

    fn import(&mut self, number: u8, size: usize) {
        let Some(layer) = self.put(size) else { return };
        let pin = format!("image:{number}").parse().unwrap();
        self.live().content.pin(&pin, [*layer.cid()]).unwrap();
        self.images.entry(number).or_default().push(*layer.cid());
    }

    async fn answer(&mut self, size: usize) {
        let Some(result) = self.put(size) else { return };
        let cid = *result.cid();
        let bytes = self.live().content.size(&cid).unwrap();
        let live = self.live();
        let exit = live.log.next_exit().await.unwrap();
        let stored = canonical_cbor(&reply(cid, bytes)).unwrap();
        let (from, lease) = (submitter(), exit.to_string());
        let finished = live.log.finished(&from, &lease, exit, &stored);
        finished.await.unwrap();
        live.answers.keep(exit, vec![result], &live.log);
        self.answers.push((exit, cid, bytes));
    }

    /// What somebody needs, by the model alone: of answers, the latest that have half the room together.
    fn needed(&self) -> BTreeSet<Cid> {
        let jobs = self.records.values().flat_map(|record| &record.objects);
        let mut needed: BTreeSet<Cid> = jobs
            .chain(self.images.values().flatten())
            .copied()
            .collect();
        let mut total = 0;
        for (at, (_, cid, bytes)) in self.answers.iter().rev().enumerate() {
            total += bytes;
            if at > 0 && total > ROOM / 2 {
                break;
            }
            needed.insert(*cid);
        }
        needed
    }

    fn needed_bytes(&self) -> u64 {
        let content = &self.live().content;
        let sizes = self.needed().into_iter().map(|cid| content.size(&cid));
        sizes.map(|size| size.unwrap()).sum()
    }

    /// The same with the answers that have given way: one that is gone makes room for an older one at a restart.
    fn known_bytes(&self) -> u64 {
        let mut known = self.needed();
        known.extend(self.answers.iter().map(|(_, cid, _)| *cid));
        let content = &self.live().content;
        let sizes = known.into_iter().map(|cid| content.size(&cid));
        sizes.map(|size| size.unwrap_or(0)).sum()
    }

    fn check(&self) {
        for cid in self.needed() {
            assert!(self.live().content.get(&cid).is_ok(), "{cid} is gone");
        }
    }
}

fn submitter() -> PeerId {
    SigningKey::from_seed([1; 32]).peer_id()
}

fn reply(output: Cid, size: u64) -> DispatchReply {
    DispatchReply {
        task_id: String::new(),
        status: DispatchStatus::Succeeded,
        output_cid: None,
        output: Vec::new(),
        duration_ms: 0,
        error: None,
        receipt: Vec::new(),
        trace: Vec::new(),
        outputs: vec![OutputBlob {
            name: "result".to_owned(),
            cid: output,
            size,
            inline: None,
        }],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn nothing_is_collected_that_somebody_needs_and_nothing_else_is_in_the_way(
        steps in proptest::collection::vec(step(), 1..60)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for step in steps {
                world.step(step).await;
                world.check();
            }
        });
    }
}

#[test]
fn a_job_of_more_objects_than_a_pin_takes_has_several_that_go_together() {
    let dir = tempfile::tempdir().unwrap();
    let content = ContentStore::open(dir.path().join("content"), Limits::default()).unwrap();
    let content = Arc::new(content);
    let needed = Needed::of(content.clone());
    let many = MAX_PIN_OBJECTS * 2 + 1;
    let objects: Vec<Cid> = (0..many).map(|n| Cid::raw(n.to_be_bytes())).collect();
    needed.open(job(1), hold(&content, &objects));
    needed.accept(job(1), objects.first().copied()).unwrap();
    assert!(!needed.is_ended(job(1)).unwrap());
    needed.end(job(1)).unwrap();
    assert!(needed.is_ended(job(1)).unwrap());
    let pins = content.pins().into_iter().map(|pin| content.pinned(&pin));
    let kept: BTreeSet<Cid> = pins.flat_map(|pin| pin.unwrap()).collect();
    assert_eq!(kept, objects.into_iter().collect());
    assert_eq!(content.pins().len(), 4);
    needed.retire(job(1)).unwrap();
    assert!(content.pins().is_empty());
}

#[test]
fn only_pins_of_jobs_are_removed_for_want_of_one() {
    let dir = tempfile::tempdir().unwrap();
    let content = ContentStore::open(dir.path().join("content"), Limits::default()).unwrap();
    let content = Arc::new(content);
    let needed = Needed::of(content.clone());
    let other = ["image:x", "job:none", "jobs", "01M7Z4840XS2F837YY6YYVD71E"];
    for name in other {
        content.pin(&name.parse().unwrap(), []).unwrap();
    }
    needed.accept(job(1), []).unwrap();
    needed.end_with(job(2), &[]).unwrap();
    needed.accept(job(3), []).unwrap();
    needed.retire_unknown(|id| id == job(3)).unwrap();
    let mut left: Vec<String> = content.pins().iter().map(ToString::to_string).collect();
    let mut expected: Vec<String> = other.iter().map(ToString::to_string).collect();
    expected.push(format!("job:{}", job(3)));
    expected.sort();
    left.sort();
    assert_eq!(left, expected);
}

#[test]
fn what_comes_for_a_job_that_has_ended_is_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let content = ContentStore::open(dir.path().join("content"), Limits::default()).unwrap();
    let content = Arc::new(content);
    let needed = Needed::of(content.clone());
    let late = content.put(b"late").unwrap();
    needed.open(job(1), Vec::new());
    needed.end(job(1)).unwrap();
    needed.add(job(1), vec![content.hold(&late)]);
    content.collect(Collect::All).unwrap();
    assert!(!content.has(&late).unwrap());
}
