//! A store behind the gate, under policies that give out all, some and none of its keys.

use super::*;
use blue_encrypted_store::{
    Batch, Entity, LocalFileKeyProvider, META, PartitionVersion, Store, StoreConfig, StorePath,
};
use gait::{Policy, SystemClock, Verdict, starter};
use serde::{Deserialize, Serialize};
use worldcompute_durable::{Mode, private_dir, write_atomic};
use worldcompute_proof::SigningKey;

/// What outlives an opened store.
struct Machine {
    directory: tempfile::TempDir,
    key: SigningKey,
}

impl Machine {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        private_dir(&directory.path().join("store")).unwrap();
        Self {
            directory,
            key: SigningKey::from_seed([7; 32]),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn umk(&self) -> PathBuf {
        self.path("keys/umk.key")
    }

    fn log(&self) -> PathBuf {
        self.path("evidence/keys.jsonl")
    }

    fn gate(&self, policy: &str) -> Gate {
        let policy = Policy::parse(policy.as_bytes()).unwrap();
        Gate::new(policy, self.key.clone(), SystemClock::shared())
    }

    fn keys(&self, policy: &str) -> GatedKeys<LocalFileKeyProvider> {
        let provider = LocalFileKeyProvider::new(self.umk());
        let node = self.key.peer_id();
        GatedKeys::new(Arc::new(provider), self.gate(policy), node, self.log())
    }

    async fn open(&self, policy: &str) -> Result<Store> {
        let config = StoreConfig::new(StorePath::File(self.path("store/table.db")));
        Store::open(config, Arc::new(self.keys(policy))).await
    }

    fn permit(&self, policy: &str, intent: &Intent) -> Permit {
        let decision = self.gate(policy).decide(intent).unwrap();
        decision.permit().unwrap()
    }

    /// The decisions on record, each verified and in its place.
    fn records(&self) -> Vec<(Verdict, String)> {
        let key = self.key.verifying_key();
        let report = gait::session::verify(&self.log(), &key).unwrap();
        let log = std::fs::read_to_string(self.log()).unwrap();
        let traces: Vec<_> = log
            .lines()
            .map(|line| gait::trace::verify(line.as_bytes(), &key).unwrap())
            .collect();
        assert_eq!(traces.len() as u64, report.decisions);
        let told = traces.iter();
        told.map(|trace| (trace.verdict(), trace.tool_name().to_owned()))
            .collect()
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let records = self.records().into_iter();
        records
            .map(|(verdict, tool)| {
                assert_eq!(tool, KEY_RELEASE);
                verdict
            })
            .collect()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Secret(String);

impl Entity for Secret {
    const TYPE: &'static str = META;
    type Clear = ();
    type Sealed = Self;

    fn id(&self) -> String {
        String::new()
    }

    fn split(self) -> ((), Self) {
        ((), self)
    }

    fn join(_id: String, _clear: (), sealed: Self) -> Result<Self> {
        Ok(sealed)
    }
}

async fn put(store: &Store, kind: Kind, id: &str) -> Result<()> {
    let mut batch = Batch::new();
    batch.put(Secret("kept".to_owned()))?;
    let partition = store.partition(kind, id)?;
    partition.commit(batch, PartitionVersion::NONE).await?;
    Ok(())
}

fn starter_without(label: &str) -> String {
    let policy = starter::keys_policy();
    let lines = policy
        .lines()
        .filter(|line| !line.contains(&format!("{label}\"")));
    let without = lines.collect::<Vec<_>>().join("\n");
    assert_ne!(policy.lines().count(), without.lines().count());
    without
}

const NOTHING: &str =
    "{schema_id: gait.gate.policy, schema_version: 1.0.0, default_verdict: block, rules: []}";

#[tokio::test]
async fn the_starter_policy_gives_out_what_the_roles_need_and_each_answer_is_on_record() {
    let machine = Machine::new();
    let store = machine.open(&starter::keys_policy()).await.unwrap();
    assert_eq!(machine.verdicts(), [Verdict::Allow]);
    put(&store, Kind::JOB, "one").await.unwrap();
    put(&store, Kind::RECEIPT, "donor-log").await.unwrap();
    assert_eq!(machine.verdicts(), [Verdict::Allow; 3]);
    let other = put(&store, Kind::APPROVAL, "one").await.unwrap_err();
    assert_eq!(other.code(), DENIED);
}

#[tokio::test]
async fn any_number_of_jobs_costs_one_decision_for_as_long_as_the_store_is_open() {
    let machine = Machine::new();
    let store = machine.open(&starter::keys_policy()).await.unwrap();
    for id in 0..20 {
        put(&store, Kind::JOB, &format!("job-{id}")).await.unwrap();
    }
    assert_eq!(machine.verdicts().len(), 2);
    drop(store);
    let store = machine.open(&starter::keys_policy()).await.unwrap();
    let loaded = store.partition(Kind::JOB, "job-7").unwrap().load().await;
    assert!(loaded.unwrap().is_some());
    assert_eq!(machine.verdicts().len(), 4, "asked again, numbered on");
}

#[tokio::test]
async fn a_store_whose_key_is_denied_is_not_opened_and_its_key_is_not_even_made() {
    let machine = Machine::new();
    for policy in [NOTHING, &starter_without("key:store")] {
        let fault = machine.open(policy).await.unwrap_err();
        assert_eq!(
            (fault.category(), fault.code()),
            (Category::PolicyBlocked, DENIED)
        );
        assert!(fault.message().contains("key:store"), "{fault}");
        assert!(fault.hint_text().contains("policy/keys.yaml"));
        assert!(!machine.umk().exists());
    }
    assert_eq!(machine.verdicts(), [Verdict::Block; 2]);
}

#[tokio::test]
async fn a_denied_kind_is_neither_written_nor_read_while_others_are() {
    let machine = Machine::new();
    let store = machine.open(&starter::keys_policy()).await.unwrap();
    put(&store, Kind::JOB, "old").await.unwrap();
    drop(store);
    let store = machine.open(&starter_without("key:job")).await.unwrap();
    put(&store, Kind::RECEIPT, "donor-log").await.unwrap();
    store.check_keys(Kind::RECEIPT).await.unwrap();
    assert_eq!(
        store.check_keys(Kind::JOB).await.unwrap_err().code(),
        DENIED
    );
    let old = store.partition(Kind::JOB, "old").unwrap();
    assert_eq!(old.load().await.unwrap_err().code(), DENIED);
    assert_eq!(
        put(&store, Kind::JOB, "new").await.unwrap_err().code(),
        DENIED
    );
    let new = store.partition(Kind::JOB, "new").unwrap();
    assert!(new.load().await.unwrap().is_none(), "nothing was written");
    drop((store, old, new));
    let store = machine.open(&starter::keys_policy()).await.unwrap();
    let old = store.partition(Kind::JOB, "old").unwrap().load().await;
    assert!(old.unwrap().is_some(), "what was denied is still there");
}

#[tokio::test]
async fn whoever_is_denied_and_asks_again_adds_no_record() {
    let machine = Machine::new();
    let store = machine.open(&starter_without("key:job")).await.unwrap();
    for id in 0..20 {
        let fault = put(&store, Kind::JOB, &format!("job-{id}")).await;
        assert_eq!(fault.unwrap_err().code(), DENIED);
    }
    assert_eq!(machine.verdicts(), [Verdict::Allow, Verdict::Block]);
}

#[tokio::test]
async fn no_verdict_but_allow_gives_out_a_key() {
    for (effect, category) in [
        ("block", Category::PolicyBlocked),
        ("dry_run", Category::PolicyBlocked),
        ("require_approval", Category::ApprovalRequired),
    ] {
        let machine = Machine::new();
        let policy = starter::keys_policy().replace("effect: allow", &format!("effect: {effect}"));
        let fault = machine.open(&policy).await.unwrap_err();
        assert_eq!(
            (fault.category(), fault.code()),
            (category, DENIED),
            "{effect}"
        );
        assert!(!machine.umk().exists());
    }
}

#[test]
fn a_permit_for_anything_else_opens_nothing() {
    let machine = Machine::new();
    let node = machine.key.peer_id();
    let vault = Vault::new(Arc::new(()), node);
    let job = |store: &str| Release::Partitions {
        store: store.to_owned(),
        kind: Kind::JOB,
    };
    let stranger = SigningKey::from_seed([8; 32]).peer_id();
    let policy = starter::keys_policy();
    for other in [
        job("a").intent(&node),
        Release::Store.intent(&stranger),
        job("b").intent(&stranger),
    ] {
        for wanted in [Release::Store, job("b")] {
            let permit = machine.permit(&policy, other.as_ref().unwrap());
            let fault = vault.open(permit, wanted).err().unwrap();
            assert_eq!(fault.code(), "permit_mismatch");
        }
    }
    let permit = machine.permit(&policy, &job("b").intent(&node).unwrap());
    assert!(vault.open(permit, job("b")).is_ok());
}

#[test]
fn what_a_permit_has_opened_gives_out_nothing_else() {
    let machine = Machine::new();
    let node = machine.key.peer_id();
    let intent = Release::Store.intent(&node).unwrap();
    let permit = machine.permit(&starter::keys_policy(), &intent);
    let unlocked = Vault::new(Arc::new(()), node)
        .open(permit, Release::Store)
        .unwrap();
    assert!(unlocked.keys(&Release::Store).is_ok());
    let job = Release::Partitions {
        store: "a".to_owned(),
        kind: Kind::JOB,
    };
    assert!(
        matches!(unlocked.keys(&job), Err(KeyError::Refused(fault)) if fault.code() == "permit_mismatch")
    );
}

#[tokio::test]
async fn a_decision_that_cannot_be_recorded_gives_out_nothing_until_it_can() {
    let machine = Machine::new();
    write_atomic(&machine.path("evidence"), b"a file", Mode::Private).unwrap();
    let keys = machine.keys(&starter::keys_policy());
    assert!(keys.get_umk().await.is_err());
    assert!(keys.create_umk().await.is_err());
    assert!(!machine.umk().exists());
    std::fs::remove_file(machine.path("evidence")).unwrap();
    keys.create_umk().await.unwrap();
    assert_eq!(machine.verdicts(), [Verdict::Allow]);
}

#[tokio::test]
async fn a_damaged_record_gives_out_nothing_and_is_named() {
    let machine = Machine::new();
    drop(machine.open(&starter::keys_policy()).await.unwrap());
    write_atomic(&machine.log(), b"{}\n", Mode::Private).unwrap();
    let fault = machine.open(&starter::keys_policy()).await.unwrap_err();
    assert_eq!(fault.code(), "session_log_corrupt");
    assert!(fault.hint_text().contains("keys.jsonl"), "{fault:?}");
}

#[tokio::test]
async fn a_record_that_is_changed_or_taken_out_shows() {
    let machine = Machine::new();
    let store = machine.open(&starter_without("key:job")).await.unwrap();
    put(&store, Kind::JOB, "one").await.unwrap_err();
    put(&store, Kind::RECEIPT, "one").await.unwrap();
    let log = std::fs::read_to_string(machine.log()).unwrap();
    let lines: Vec<_> = log.lines().collect();
    let denied = format!("{}\n{}\n", lines[0], lines[2]);
    for changed in [
        denied,
        log.replace("\"verdict\":\"block\"", "\"verdict\":\"allow\""),
    ] {
        write_atomic(&machine.log(), changed.as_bytes(), Mode::Private).unwrap();
        let key = machine.key.verifying_key();
        let fault = gait::session::verify(&machine.log(), &key).unwrap_err();
        assert!(fault.message().contains("record 2"), "{fault}");
    }
}
