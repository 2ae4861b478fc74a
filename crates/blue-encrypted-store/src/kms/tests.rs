//! What is believed of a key management service, and what happens when it refuses, lies, or is not there.
//!
//! Time stands still and moves on when nothing else can happen, so that no test waits for a retry.

use std::io;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use worldcompute_fault::{Category, Fault};

use super::fake::{ARN, FakeKms, Mood};
use super::{AwsKmsKeyProvider, KmsKeyArn, MAX_ARN_BYTES, TOTAL_TIMEOUT};
use crate::keys::{KekContext, KeyError, KeyProvider, UmkHandle};
use crate::lab::{Lab, MemoryKey, partition, put, secrets};
use crate::{KeyLifetime, Realm, Store, StoreConfig, StorePath};

const KEY: [u8; 32] = [1; 32];
const VECTORS: &str = include_str!("../../tests/vectors/format_v1.json");

fn context(epoch: u64) -> KekContext {
    KekContext {
        epoch,
        ..KekContext::of("s1", "acme", "ada")
    }
}

async fn derive(kms: &FakeKms) -> Result<[u8; 32], Fault> {
    let (keys, context) = (kms.provider(), context(1));
    let kek = keys.derive_kek(&UmkHandle::remote(), &context).await;
    kek.map(|kek| *kek.bytes())
        .map_err(|error| error.at("store"))
}

async fn open(lab: &Lab, kms: &FakeKms, lifetime: KeyLifetime) -> Result<Store, Fault> {
    let config = StoreConfig::new(StorePath::Memory).key_lifetime(lifetime);
    lab.try_store_with(config, Arc::new(kms.provider())).await
}

#[tokio::test(start_paused = true)]
async fn the_service_gives_the_key_that_a_file_with_its_bytes_gives() {
    let kms = FakeKms::new(KEY);
    for epoch in [1, 2, u64::MAX] {
        let local = MemoryKey(KEY);
        let umk = local.get_umk().await.unwrap();
        let kek = local.derive_kek(&umk, &context(epoch)).await.unwrap();
        let remote = kms.provider();
        let found = remote
            .derive_kek(&UmkHandle::remote(), &context(epoch))
            .await;
        assert_eq!(found.unwrap().bytes(), kek.bytes());
    }
}

#[tokio::test(start_paused = true)]
async fn the_service_gives_the_key_of_the_vectors() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let text = |name: &str| vectors[name].as_str().unwrap();
    let bytes = |name: &str| <[u8; 32]>::try_from(hex::decode(text(name)).unwrap()).unwrap();
    let kms = FakeKms::new(bytes("umk"));
    let context = KekContext {
        epoch: 1,
        ..KekContext::of(text("store"), text("tenant"), text("user"))
    };
    let kek = kms
        .provider()
        .derive_kek(&UmkHandle::remote(), &context)
        .await;
    assert_eq!(*kek.unwrap().bytes(), bytes("kek"));
}

#[tokio::test(start_paused = true)]
async fn a_table_that_was_written_with_a_file_opens_with_the_service_and_back() {
    let (lab, kms) = (Lab::new(), FakeKms::new(KEY));
    put(
        &partition(&lab.store().await, "j1"),
        &[("t1", "from the file")],
    )
    .await;
    let store = open(&lab, &kms, KeyLifetime::default()).await.unwrap();
    put(&partition(&store, "j1"), &[("t2", "from the service")]).await;
    let found = secrets(&partition(&lab.store().await, "j1")).await;
    assert_eq!(found.len(), 2);
    let other = FakeKms::new([2; 32]);
    let fault = open(&lab, &other, KeyLifetime::default())
        .await
        .unwrap_err();
    assert_eq!(fault.code(), "encryption_key_changed");
}

const ONCE: usize = 1;
const AGAIN: usize = 4;
/// What the service answers, what is said of it, and how often it was asked.
const REFUSALS: [(u16, &str, &str, Category, usize); 9] = [
    (
        400,
        "DisabledException",
        "kms_key_disabled",
        Category::PolicyBlocked,
        ONCE,
    ),
    (
        400,
        "KMSInvalidStateException",
        "kms_key_unusable",
        Category::DependencyMissing,
        ONCE,
    ),
    (
        400,
        "NotFoundException",
        "kms_key_not_found",
        Category::DependencyMissing,
        ONCE,
    ),
    (
        400,
        "AccessDeniedException",
        "kms_access_denied",
        Category::PolicyBlocked,
        ONCE,
    ),
    (
        400,
        "InvalidKeyUsageException",
        "kms_key_not_hmac",
        Category::InvalidInput,
        ONCE,
    ),
    (
        400,
        "SomethingNewException",
        "kms_request_refused",
        Category::InternalFailure,
        ONCE,
    ),
    (
        400,
        "ThrottlingException",
        "kms_throttled",
        Category::NetworkTransient,
        AGAIN,
    ),
    (
        500,
        "KMSInternalException",
        "kms_unreachable",
        Category::NetworkTransient,
        AGAIN,
    ),
    (
        500,
        "KeyUnavailableException",
        "kms_unreachable",
        Category::NetworkTransient,
        AGAIN,
    ),
];

#[tokio::test(start_paused = true)]
async fn refusals_are_told_apart_and_only_what_may_pass_is_tried_again() {
    for (status, name, code, category, calls) in REFUSALS {
        let kms = FakeKms::new(KEY);
        kms.be(Mood::Refuses(status, name));
        let fault = derive(&kms).await.unwrap_err();
        assert_eq!((fault.code(), fault.category()), (code, category), "{name}");
        assert_eq!(kms.calls(), calls, "{name}");
        assert!(
            fault.message().contains(ARN) && !fault.hint_text().is_empty(),
            "{name}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_passes_is_waited_for() {
    for (status, name) in [(400, "ThrottlingException"), (500, "KMSInternalException")] {
        let kms = FakeKms::new(KEY);
        kms.be(Mood::RefusesTimes(3, status, name));
        derive(&kms).await.unwrap();
        assert_eq!(kms.calls(), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_hangs_or_is_gone_is_given_up_in_time() {
    for mood in [Mood::Hangs, Mood::Gone] {
        let kms = FakeKms::new(KEY);
        kms.be(mood);
        let start = Instant::now();
        let fault = derive(&kms).await.unwrap_err();
        assert_eq!(fault.code(), "kms_unreachable");
        assert!(fault.retryable());
        assert!(start.elapsed() <= TOTAL_TIMEOUT, "{:?}", start.elapsed());
        assert!((1..=4).contains(&kms.calls()), "{}", kms.calls());
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_the_mac_of_the_pinned_key_is_refused() {
    let other = "arn:aws:kms:eu-central-1:111122223333:key/other";
    let cases = [
        (Mood::NamesKey(other), "kms_wrong_key"),
        (
            Mood::NamesKey("1234abcd-12ab-34cd-56ef-1234567890ab"),
            "kms_wrong_key",
        ),
        (Mood::NamesKey(""), "kms_wrong_key"),
        (Mood::NamesNoKey, "kms_wrong_key"),
        (Mood::GivesBytes(0), "kms_malformed_answer"),
        (Mood::GivesBytes(31), "kms_malformed_answer"),
        (Mood::GivesBytes(33), "kms_malformed_answer"),
        (Mood::GivesBytes(1 << 20), "kms_malformed_answer"),
        (Mood::GivesNothing, "kms_malformed_answer"),
        (Mood::NamesAlgorithm("HMAC_SHA_224"), "kms_malformed_answer"),
        (Mood::NamesAlgorithm("NONE"), "kms_malformed_answer"),
        (Mood::Babbles, "kms_malformed_answer"),
    ];
    for (mood, code) in cases {
        let kms = FakeKms::new(KEY);
        kms.be(mood.clone());
        let fault = derive(&kms).await.unwrap_err();
        assert_eq!(fault.code(), code, "{mood:?}");
        assert_eq!(fault.category(), Category::VerificationFailed, "{mood:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_answers_with_another_key_opens_nothing() {
    let (lab, kms) = (Lab::new(), FakeKms::new(KEY));
    let store = open(&lab, &kms, KeyLifetime::default()).await.unwrap();
    put(&partition(&store, "j1"), &[("t1", "x")]).await;
    kms.be(Mood::UsesKey([2; 32]));
    let fault = open(&lab, &kms, KeyLifetime::default()).await.unwrap_err();
    assert_eq!(fault.code(), "encryption_key_changed");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_ignores_what_it_is_asked_for_sets_up_nothing() {
    let (lab, kms) = (Lab::new(), FakeKms::new(KEY));
    kms.be(Mood::IgnoresMessage);
    let fault = open(&lab, &kms, KeyLifetime::default()).await.unwrap_err();
    assert_eq!(fault.code(), "key_provider_unsound");
    assert!(lab.dump().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_store_stops_within_the_lifetime_of_its_keys_when_the_service_is_told_to_refuse() {
    let (lab, kms) = (Lab::new(), FakeKms::new(KEY));
    let lifetime = KeyLifetime {
        max_age: Duration::from_secs(60),
        ..KeyLifetime::default()
    };
    let store = open(&lab, &kms, lifetime).await.unwrap();
    let partition = partition(&store, "j1");
    let at = put(&partition, &[("t1", "x")]).await;
    let warm = kms.calls();
    kms.be(Mood::Refuses(400, "DisabledException"));
    tokio::time::advance(Duration::from_secs(59)).await;
    assert_eq!(secrets(&partition).await.len(), 1);
    assert_eq!(kms.calls(), warm, "nobody asks while the key is fresh");
    tokio::time::advance(Duration::from_secs(1)).await;
    let fault = partition.load().await.unwrap_err();
    assert_eq!(fault.code(), "kms_key_disabled");
    let mut batch = crate::Batch::new();
    batch.insert(crate::lab::task("t2", "x")).unwrap();
    let fault = partition.commit(batch, at).await.unwrap_err();
    assert_eq!(fault.code(), "kms_key_disabled");
    kms.be(Mood::Honest);
    put(&partition, &[("t2", "x")]).await;
}

#[tokio::test(start_paused = true)]
async fn a_thousand_readers_at_once_ask_the_service_once_and_later_ones_never() {
    let (lab, kms) = (Lab::new(), FakeKms::new(KEY));
    let lifetime = KeyLifetime::default();
    let store = open(&lab, &kms, lifetime).await.unwrap();
    for id in ["j1", "j2", "j3"] {
        put(&partition(&store, id), &[("t1", "x")]).await;
    }
    tokio::time::advance(lifetime.max_age).await;
    for (number, calls, what) in [(1_000, 1, "cold"), (100, 0, "warm")] {
        let before = kms.calls();
        let readers: Vec<_> = (0..number)
            .map(|number| {
                let partition = partition(&store, ["j1", "j2", "j3"][number % 3]);
                tokio::spawn(async move { secrets(&partition).await.len() })
            })
            .collect();
        for reader in readers {
            assert_eq!(reader.await.unwrap(), 1);
        }
        assert_eq!(kms.calls() - before, calls, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_in_memory_is_not_taken_for_one_in_the_service_nor_the_other_way_round() {
    let kms = FakeKms::new(KEY);
    let here = MemoryKey(KEY).get_umk().await.unwrap();
    let mixed = |derived: Result<_, KeyError>| derived.err().unwrap().at("store").code().to_owned();
    let found = kms.provider().derive_kek(&here, &context(1)).await;
    assert_eq!(mixed(found), "key_provider_mismatch");
    let found = MemoryKey(KEY)
        .derive_kek(&UmkHandle::remote(), &context(1))
        .await;
    assert_eq!(mixed(found), "key_provider_mismatch");
    assert_eq!(kms.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_key_of_an_imitation_is_none_of_production_and_one_of_production_is_asked_for_in_aws_only()
 {
    let kms = FakeKms::new(KEY);
    assert_eq!(kms.provider().realm(), Realm::Aws);
    let at = |url: &str| {
        let config = kms.config().into_builder().endpoint_url(url).build();
        AwsKmsKeyProvider::new(&config, KmsKeyArn::parse(ARN).unwrap())
    };
    for url in ["http://127.0.0.1:4566", "https://kms.example"] {
        assert_eq!(at(url).realm(), Realm::Local, "{url}");
    }
    let vpc = "https://vpce-1.kms.eu-central-1.vpce.amazonaws.com";
    assert_eq!(at(vpc).realm(), Realm::Aws);
    // What is no URL at all is no imitation, and is not asked either.
    let derived = at("localhost:1")
        .derive_kek(&UmkHandle::remote(), &context(1))
        .await;
    assert!(derived.is_err());
    assert_eq!(kms.calls(), 0);
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn an_imitation_may_name_the_key_by_its_id_and_no_other_key() {
    let (_, id) = ARN.rsplit_once('/').unwrap();
    let cases = [
        (id, None),
        ("another", Some("kms_wrong_key")),
        ("", Some("kms_wrong_key")),
    ];
    for (name, code) in cases {
        let kms = FakeKms::new(KEY);
        kms.be(Mood::NamesKey(name));
        let config = kms.config().into_builder();
        let config = config.endpoint_url("http://127.0.0.1:4566").build();
        let keys = AwsKmsKeyProvider::new(&config, KmsKeyArn::parse(ARN).unwrap());
        let kek = keys.derive_kek(&UmkHandle::remote(), &context(1)).await;
        let found = kek.err().map(|error| error.at("store").code().to_owned());
        assert_eq!(found.as_deref(), code, "{name}");
    }
}

/// Alone in a process: what other tests do decides which of the SDK's lines a subscriber gets to see.
const ALONE: &str = "KMS_TEST_ALONE";

#[test]
fn no_key_is_in_the_log_however_much_is_logged() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "kms::tests::the_log_of_one_derivation_has_no_key",
        ])
        .env(ALONE, "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("1 passed")
    );
}

#[tokio::test(start_paused = true)]
async fn the_log_of_one_derivation_has_no_key() {
    if std::env::var_os(ALONE).is_none() {
        return;
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    tracing::trace!("the log is on");
    let kms = FakeKms::new(KEY);
    let kek = derive(&kms).await.unwrap();
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("the log is on"));
    let encodings = [
        aws_smithy_types::base64::encode(kek),
        hex::encode(kek),
        format!("{kek:?}").trim_matches(['[', ']']).to_owned(),
    ];
    for encoded in encodings {
        assert!(!log.contains(&encoded), "{log}");
    }
}

#[test]
fn a_key_is_named_by_its_arn_and_nothing_else() {
    let id = |length: usize| {
        format!(
            "arn:aws:kms:eu-central-1:111122223333:key/{}",
            "a".repeat(length)
        )
    };
    let prefix = id(0).len();
    for good in [
        ARN,
        "arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab",
        &id(MAX_ARN_BYTES - prefix),
    ] {
        assert_eq!(KmsKeyArn::parse(good).unwrap().to_string(), good);
    }
    for bad in [
        "",
        "alias/store",
        "1234abcd-12ab-34cd-56ef-1234567890ab",
        "arn:aws:kms:eu-central-1:111122223333:alias/store",
        "arn:aws:s3:eu-central-1:111122223333:key/1",
        "arn:aws:kms::111122223333:key/1",
        "arn:aws:kms:eu-central-1:11112222333:key/1",
        "arn:aws:kms:eu-central-1:111122223333:key/",
        "arn:aws:kms:eu-central-1:111122223333:key/a/b",
        "arn:aws:kms:evil.example/x:111122223333:key/1",
        "arn:aws:kms:eu-central-1:111122223333:key/1:2",
        &id(MAX_ARN_BYTES - prefix + 1),
    ] {
        assert_eq!(
            KmsKeyArn::parse(bad).unwrap_err().code(),
            "invalid_key_arn",
            "{bad}"
        );
    }
}
