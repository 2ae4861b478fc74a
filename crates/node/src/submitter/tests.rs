//! A submitter whose mesh has nobody else in it.

use super::*;
use blue_encrypted_store::{LocalFileKeyProvider, Store, StoreConfig, StorePath};
use futures::StreamExt;
use gait::{Policy, SystemClock};
use worldcompute_content::Limits;
use worldcompute_mesh::MeshConfig;
use worldcompute_scheduler::manifest::Manifest;

const MODULE: &[u8] = include_bytes!("../../../../examples/hello/hello.wat");

/// What outlives a submitter.
struct Home {
    directory: tempfile::TempDir,
    key: SigningKey,
    store: Store,
    content: Arc<ContentStore>,
}

impl Home {
    async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let keys = Arc::new(LocalFileKeyProvider::new(
            directory.path().join("keys/umk.key"),
        ));
        let store = Store::open(StoreConfig::new(StorePath::Memory), keys).await;
        let content = directory.path().join("content");
        Self {
            content: Arc::new(ContentStore::open(content, limits).unwrap()),
            directory,
            key: SigningKey::generate().unwrap(),
            store: store.unwrap(),
        }
    }

    async fn submitter(&self) -> Submitter {
        self.start(self.mesh().await, None).await
    }

    async fn mesh(&self) -> Mesh {
        let started = Mesh::start(MeshConfig::new(self.key.clone())).await;
        started.unwrap().0
    }

    async fn start(&self, mesh: Mesh, donor: Option<Donor>) -> Submitter {
        let policy = Policy::parse(gait::starter::submitter_policy().as_bytes()).unwrap();
        let gate = Gate::new(policy, self.key.clone(), SystemClock::shared());
        let submitter = Submitter::start(SubmitterParts {
            key: self.key.clone(),
            gate: Arc::new(gate),
            store: self.store.clone(),
            content: self.content.clone(),
            served: Arc::default(),
            mesh,
            donor,
            evidence: self.directory.path().join("evidence"),
            retention: Duration::from_secs(86_400),
        });
        submitter.await.unwrap()
    }
}

fn manifest(submitter: &Submitter) -> Manifest {
    let module = submitter.content.put(MODULE).unwrap();
    let document = format!(
        "{{apiVersion: worldcompute/v1, kind: Job, metadata: {{name: test}}, spec: {{wasm: 'cid:{module}'}}}}"
    );
    let manifest = Manifest::parse(document.as_bytes()).unwrap();
    manifest.resolve(|_| unreachable!()).unwrap()
}

/// Submits a job, which no donor takes, and cancels it.
async fn past(submitter: &Submitter) -> String {
    let request = SubmitRequest::Manifest(Box::new(manifest(submitter)));
    let id = submitter.submit(request, None).await.unwrap().job_id;
    let ended = submitter.cancel(&id, "enough".to_owned()).await.unwrap();
    assert_eq!(ended.status, "cancelled");
    id
}

async fn list(submitter: &Submitter, limit: usize, before: Option<&str>) -> Vec<String> {
    let page = JobPage {
        limit: Some(limit),
        before: before.map(String::from),
    };
    let jobs = submitter.list(&page).await.unwrap();
    jobs.into_iter().map(|job| job.job_id).collect()
}

#[tokio::test]
async fn an_accepted_job_has_its_decision_on_disk() {
    let home = Home::new().await;
    let submitter = home.submitter().await;
    let manifest = manifest(&submitter);
    let before = submitter.content.used();
    let request = SubmitRequest::Manifest(Box::new(manifest));
    submitter.submit(request, None).await.unwrap();
    assert!(submitter.content.used() > before);
    submitter.stop().await.unwrap();
}

#[tokio::test]
async fn a_job_that_comes_just_before_the_end_is_kept_and_its_submitter_is_told_so() {
    let home = Home::new().await;
    let submitter = home.submitter().await;
    let request = SubmitRequest::Manifest(Box::new(manifest(&submitter)));
    let (submitted, stopped) = tokio::join!(submitter.submit(request, None), submitter.stop());
    stopped.unwrap();
    let restarted = home.submitter().await;
    assert_eq!(
        list(&restarted, 10, None).await,
        [submitted.unwrap().job_id]
    );
    let late = SubmitRequest::Manifest(Box::new(manifest(&submitter)));
    let late = submitter.submit(late, None).await.unwrap_err();
    assert_eq!(late.code(), "shutting_down");
    assert_eq!(list(&restarted, 10, None).await.len(), 1);
}

#[tokio::test]
async fn a_job_that_has_ended_leaves_memory_and_is_read_from_the_store() {
    let home = Home::new().await;
    let submitter = home.submitter().await;
    let id = past(&submitter).await;
    assert!(submitter.ask(Command::List).await.unwrap().is_empty());

    let before = submitter.view(&id).await.unwrap();
    assert_eq!(before.status, "cancelled");
    assert!(before.ended_at.is_some() && before.error.is_some());
    let events: Vec<_> = submitter.watch(&id).await.unwrap().collect().await;
    assert!(matches!(&events[..], [JobEvent::Job { job }] if **job == before));
    let again = submitter.cancel(&id, "again".to_owned()).await.unwrap_err();
    assert_eq!(again.code(), "job_ended");
    assert!(again.message().contains("cancelled"), "{again}");
    submitter.stop().await.unwrap();

    let restarted = home.submitter().await;
    assert!(restarted.ask(Command::List).await.unwrap().is_empty());
    assert_eq!(restarted.view(&id).await.unwrap(), before);
    assert_eq!(restarted.counts().await.unwrap()["cancelled"], 1);
    let unknown = restarted.view("01M7Z4840XS2F837YY6YYVD71E").await;
    assert_eq!(unknown.unwrap_err().number(), Some(WcCode::NotFound));
}

#[tokio::test]
async fn the_list_of_jobs_comes_in_pages_of_open_and_ended_ones() {
    let home = Home::new().await;
    let submitter = home.submitter().await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(past(&submitter).await);
    }
    let open = SubmitRequest::Manifest(Box::new(manifest(&submitter)));
    ids.push(submitter.submit(open, None).await.unwrap().job_id);
    ids.sort();
    assert_eq!(list(&submitter, MAX_PAGE, None).await, ids);
    assert_eq!(list(&submitter, 2, None).await, ids[3..]);
    assert_eq!(list(&submitter, 2, Some(&ids[3])).await, ids[1..3]);
    assert_eq!(list(&submitter, 2, Some(&ids[1])).await, ids[..1]);
    assert!(list(&submitter, 2, Some(&ids[0])).await.is_empty());
    assert_eq!(submitter.counts().await.unwrap()["cancelled"], 4);
}

#[tokio::test]
async fn a_signed_manifest_runs_once_also_when_its_job_was_deleted_since() {
    let home = Home::new().await;
    let submitter = home.submitter().await;
    let signed = manifest(&submitter).sign(&home.key).unwrap();
    let (id, bytes) = (signed.job_id(), signed.bytes().to_vec());
    let submit = async || {
        let request = SubmitRequest::Signed(bytes.clone());
        submitter.submit(request, None).await
    };
    submit().await.unwrap();
    assert_eq!(
        submit().await.unwrap_err().number(),
        Some(WcCode::AlreadyExists)
    );
    submitter
        .cancel(&id.to_string(), String::new())
        .await
        .unwrap();
    submitter.records.remove(id).await.unwrap();
    assert_eq!(
        submit().await.unwrap_err().number(),
        Some(WcCode::AlreadyExists)
    );
}

mod deleted {
    //! What becomes of jobs whose time is over.

    use super::*;
    use jiff::{SignedDuration, Timestamp};
    use worldcompute_scheduler::JobState;

    async fn archive(home: &Home, submitter: &Submitter, most: usize) -> Past {
        let archive = Archive {
            records: submitter.records.clone(),
            content: submitter.content.clone(),
            needed: Needed::of(submitter.content.clone()),
            key: home.key.clone(),
            evidence: home.directory.path().join("evidence"),
        };
        let time = Duration::from_secs(86_400);
        Past::load(archive, Keeping { time, most }).await.unwrap()
    }

    #[tokio::test]
    async fn records_are_deleted_a_while_after_the_end_and_not_before() {
        let home = Home::new().await;
        let submitter = home.submitter().await;
        let id: JobId = past(&submitter).await.parse().unwrap();
        let open = SubmitRequest::Manifest(Box::new(manifest(&submitter)));
        let open = submitter.submit(open, None).await.unwrap().job_id;
        let past = archive(&home, &submitter, 10).await;
        let finished = submitter.records.job(id).await.unwrap().unwrap();
        let finished = finished.job.finished_at.unwrap();
        let day = SignedDuration::from_hours(24);
        past.retire(finished + day).await;
        assert!(past.view(id).await.is_ok());
        past.retire(finished + day + SignedDuration::from_secs(1))
            .await;
        let gone = past.view(id).await.unwrap_err();
        assert_eq!(gone.number(), Some(WcCode::NotFound));
        assert_eq!(past.state(id), None);
        let open = submitter.records.job(open.parse().unwrap()).await.unwrap();
        assert!(open.is_some(), "an open job is never too old");
        assert!(
            archive(&home, &submitter, 10)
                .await
                .latest(None, 10)
                .is_empty()
        );
    }

    #[tokio::test]
    async fn the_oldest_of_too_many_jobs_are_deleted() {
        let home = Home::new().await;
        let submitter = home.submitter().await;
        let mut ids = Vec::new();
        for _ in 0..5 {
            ids.push(past(&submitter).await.parse::<JobId>().unwrap());
        }
        ids.sort();
        let past = archive(&home, &submitter, 3).await;
        past.retire(Timestamp::now()).await;
        assert_eq!(past.latest(None, 10), ids[2..]);
        for (at, id) in ids.iter().enumerate() {
            let kept = submitter.records.job(*id).await.unwrap().is_some();
            assert_eq!(kept, at >= 2, "job {at}");
        }
    }

    #[tokio::test]
    async fn ten_thousand_past_jobs_cost_their_ids_only() {
        let home = Home::new().await;
        let submitter = home.submitter().await;
        let past = archive(&home, &submitter, MAX_PAST_JOBS).await;
        for number in 0..MAX_PAST_JOBS as u64 {
            past.add(JobId::from_parts(number, 0), JobState::Completed);
        }
        let page = past.latest(Some(JobId::from_parts(5_000, 0)), 2);
        assert_eq!(
            page,
            [4_998, 4_999].map(|number| JobId::from_parts(number, 0))
        );
        assert_eq!(past.counts()[&JobState::Completed], MAX_PAST_JOBS);
        assert!(size_of::<(JobId, JobState)>() <= 32);
    }
}

mod kept {
    //! What stays in a content store that is too small for everything.

    use super::*;
    use crate::Config;
    use crate::donor::DonorParts;
    use worldcompute_content::{Collect, MAX_PIN_OBJECTS, MAX_PINNED, PinName};
    use worldcompute_scheduler::donor_log::DonorLog;
    use worldcompute_telemetry::LoadSampler;

    const ROOM: Limits = Limits {
        max_object: 64 << 10,
        max_total: 64 << 10,
    };

    impl Home {
        /// A submitter that is its own donor.
        async fn both(&self) -> Submitter {
            let mesh = self.mesh().await;
            let policy = gait::starter::donor_policy(&["general"]);
            let donor = Donor::new(DonorParts {
                key: self.key.clone(),
                policy: Policy::parse(policy.as_bytes()).unwrap(),
                config: Config {
                    slots: 1,
                    ..Config::default()
                },
                home: crate::Home::at(self.directory.path()),
                content: self.content.clone(),
                log: DonorLog::open(&self.store).await.unwrap(),
                mesh: mesh.clone(),
                load: Arc::new(LoadSampler::new()),
            });
            self.start(mesh, Some(donor.unwrap())).await
        }

        /// Puts three times as much as there is room for, which nobody needs.
        fn fill(&self) {
            let count = ROOM.max_total / 1_024 * 3;
            for number in 0..count {
                let mut bytes = number.to_be_bytes().to_vec();
                bytes.resize(1_024, 0);
                self.content.put(&bytes).unwrap();
            }
            assert!(self.content.used() > ROOM.max_total / 2);
        }

        /// What a job has pinned, all of which is there.
        fn pinned(&self, id: &str) -> Vec<Cid> {
            let pins = ["job", "results"].map(|kind| pin(kind, id));
            let pinned = pins.iter().filter_map(|pin| self.content.pinned(pin));
            let pinned: Vec<Cid> = pinned.flatten().collect();
            for cid in &pinned {
                self.content.get(cid).unwrap();
            }
            pinned
        }
    }

    fn pin(kind: &str, id: &str) -> PinName {
        format!("{kind}:{id}").parse().unwrap()
    }

    async fn submit(submitter: &Submitter) -> String {
        let request = SubmitRequest::Manifest(Box::new(manifest(submitter)));
        submitter.submit(request, None).await.unwrap().job_id
    }

    async fn completed(submitter: &Submitter) -> String {
        let id = submit(submitter).await;
        let events: Vec<_> = submitter.watch(&id).await.unwrap().collect().await;
        assert!(matches!(events.last(), Some(JobEvent::Job { job }) if job.status == "completed"));
        id
    }

    #[tokio::test]
    async fn a_full_store_makes_room_for_a_new_job_and_keeps_what_others_need() {
        let home = Home::with(ROOM).await;
        let submitter = home.submitter().await;
        let ended = past(&submitter).await;
        let open = submit(&submitter).await;
        home.fill();
        let another = submit(&submitter).await;
        home.fill();
        for id in [&ended, &open, &another] {
            assert!(home.pinned(id).contains(&Cid::raw(MODULE)));
        }
        assert_eq!(home.pinned(&open).len(), 2, "the module and the decision");
        submitter.stop().await.unwrap();
        let _restarted = home.submitter().await;
        home.fill();
        for id in [&ended, &open, &another] {
            assert!(home.pinned(id).contains(&Cid::raw(MODULE)));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_results_of_an_ended_job_stay_until_its_records_are_deleted() {
        let home = Home::with(ROOM).await;
        let submitter = home.both().await;
        let id = completed(&submitter).await;
        let printed = submitter.result(&id, 0, "stdout").await.unwrap();
        assert!(!printed.is_empty());
        for _ in 0..2 {
            home.fill();
            let again = submitter.result(&id, 0, "stdout").await.unwrap();
            assert_eq!(again, printed);
        }
        assert!(home.pinned(&id).contains(&Cid::raw(&printed)));
        let job = id.parse().unwrap();
        submitter.past.retire_oldest().await.unwrap();
        assert_eq!(submitter.past.state(job), None);
        assert!(home.content.pins().is_empty());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn pins_that_a_crash_left_out_are_made_and_those_that_it_left_over_go() {
        let home = Home::with(ROOM).await;
        let submitter = home.both().await;
        let ended = completed(&submitter).await;
        let mut before = home.pinned(&ended);
        let printed = submitter.result(&ended, 0, "stdout").await.unwrap();
        submitter.stop().await.unwrap();
        let submitter = home.submitter().await;
        let open = submit(&submitter).await;
        submitter.stop().await.unwrap();
        for id in [&ended, &open] {
            let removed = ["job", "results"].map(|kind| home.content.unpin(&pin(kind, id)));
            assert!(removed.into_iter().any(|removed| removed.unwrap()));
        }
        let stale = pin("job", &JobId::from_parts(1, 1).to_string());
        home.content.pin(&stale, [Cid::raw(b"stale")]).unwrap();

        let restarted = home.submitter().await;
        home.fill();
        let mut after = home.pinned(&ended);
        for pinned in [&mut before, &mut after] {
            pinned.sort();
            pinned.dedup();
        }
        assert_eq!(after, before);
        let again = restarted.result(&ended, 0, "stdout").await.unwrap();
        assert_eq!(again, printed);
        assert!(home.pinned(&open).contains(&Cid::raw(MODULE)));
        assert!(home.content.pinned(&stale).is_none());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_records_alone_tell_what_jobs_need() {
        let home = Home::with(ROOM).await;
        let submitter = home.both().await;
        let ended = completed(&submitter).await;
        let printed = submitter.result(&ended, 0, "stdout").await.unwrap();
        let records = submitter.records.clone();
        submitter.stop().await.unwrap();
        for kind in ["job", "results"] {
            assert!(home.content.unpin(&pin(kind, &ended)).unwrap());
        }
        let left = || {
            home.content.collect(Collect::All).unwrap();
            [Cid::raw(MODULE), Cid::raw(&printed)].map(|cid| home.content.has(&cid).unwrap())
        };
        let held = needed::of_records(&records, &home.content).await.unwrap();
        assert_eq!(left(), [true, true]);
        drop(held);
        records.remove(ended.parse().unwrap()).await.unwrap();

        let submitter = home.submitter().await;
        let open = submit(&submitter).await;
        submitter.stop().await.unwrap();
        drop(submitter);
        assert!(home.content.unpin(&pin("job", &open)).unwrap());
        let held = needed::of_records(&records, &home.content).await.unwrap();
        assert_eq!(left(), [true, false]);
        drop(held);
    }

    #[tokio::test]
    async fn the_oldest_ended_job_gives_way_where_there_are_too_many_pins() {
        let home = Home::new().await;
        let submitter = home.submitter().await;
        let oldest: JobId = past(&submitter).await.parse().unwrap();
        let newer: JobId = past(&submitter).await.parse().unwrap();
        let pins = home.content.pins().into_iter();
        let used: usize = pins
            .map(|pin| 1 + home.content.pinned(&pin).unwrap().len())
            .sum();
        let (mut left, mut number) = (MAX_PINNED - used, 0_u64);
        while left > 0 {
            let count = (left - 1).min(MAX_PIN_OBJECTS) as u64;
            let objects = (0..count).map(|object| Cid::raw((number << 32 | object).to_be_bytes()));
            home.content
                .pin(&pin("other", &number.to_string()), objects)
                .unwrap();
            (left, number) = (left - 1 - count as usize, number + 1);
        }
        let id = submit(&submitter).await;
        assert_eq!(submitter.past.state(oldest), None);
        assert!(submitter.past.state(newer).is_some());
        assert_eq!(home.pinned(&id).len(), 2);
        assert!(home.pinned(&oldest.to_string()).is_empty());
    }
}
