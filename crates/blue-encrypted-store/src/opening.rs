//! What is opened, set up and refused, on tables that somebody else made and on backends that are not what they seem.

use std::collections::HashSet;
use std::sync::Arc;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};

use crate::anchor::Anchor;
use crate::embedded::Engine;
use crate::lab::{MemoryKey, partition, put, secrets};
use crate::sources::Sources;
use crate::store::Ground;
use crate::table::Table;
use crate::{
    Aws, Backend, LocalFileKeyProvider, Store, StoreConfig, StorePath, client,
    config::DEFAULT_TABLE,
};
use worldcompute_fault::Result;

/// Opens the table of this name in `engine` as a machine does that has never seen it.
async fn open(engine: &Engine, config: StoreConfig, set_up: bool) -> Result<Store> {
    let ground = Ground {
        table: Table::new(client::answered_by(engine.clone()), &config.table),
        anchor: Arc::new(Anchor::memory()),
        set_up,
    };
    let keys = Arc::new(MemoryKey([1; 32]));
    Store::open_on(ground, config, keys, Sources::system()).await
}

fn config() -> StoreConfig {
    StoreConfig::new(StorePath::Memory)
}

fn code<T>(result: Result<T>) -> String {
    result
        .err()
        .map_or_else(String::new, |fault| fault.code().to_owned())
}

#[tokio::test]
async fn opening_sets_nothing_up_where_it_is_not_wanted() {
    let engine = Engine::memory().unwrap();
    assert_eq!(
        code(open(&engine, config(), false).await),
        "table_not_found"
    );
    let table = Table::new(client::answered_by(engine.clone()), DEFAULT_TABLE);
    table.ensure().await.unwrap();
    assert_eq!(
        code(open(&engine, config(), false).await),
        "store_not_set_up"
    );
    assert!(table.is_empty().await.unwrap());
    let made = open(&engine, config(), true).await.unwrap();
    let found = open(&engine, config(), false).await.unwrap();
    assert_eq!(found.id(), made.id());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_who_set_up_at_once_open_the_same_store() {
    let engine = Engine::memory().unwrap();
    let mut tasks = Vec::new();
    for _ in 0..16 {
        let engine = engine.clone();
        tasks.push(tokio::spawn(
            async move { open(&engine, config(), true).await },
        ));
    }
    let mut ids = HashSet::new();
    for task in tasks {
        ids.insert(task.await.unwrap().unwrap().id().to_owned());
    }
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn another_store_than_the_expected_one_is_refused() {
    let engine = Engine::memory().unwrap();
    let id = open(&engine, config(), true).await.unwrap().id().to_owned();
    open(&engine, config().store_id(&id), false).await.unwrap();
    for set_up in [false, true] {
        let other = open(&engine, config().store_id("f".repeat(32)), set_up);
        assert_eq!(code(other.await), "another_store");
    }
}

#[tokio::test]
async fn a_table_that_was_made_for_something_else_is_left_alone() {
    let engine = Engine::memory().unwrap();
    let client = client::answered_by(engine.clone());
    let key = KeySchemaElement::builder().attribute_name("pk");
    let attribute = AttributeDefinition::builder().attribute_name("pk");
    client
        .create_table()
        .table_name(DEFAULT_TABLE)
        .billing_mode(BillingMode::PayPerRequest)
        .key_schema(key.key_type(KeyType::Hash).build().unwrap())
        .attribute_definitions(
            attribute
                .attribute_type(ScalarAttributeType::S)
                .build()
                .unwrap(),
        )
        .send()
        .await
        .unwrap();
    for set_up in [false, true] {
        assert_eq!(
            code(open(&engine, config(), set_up).await),
            "table_malformed"
        );
    }
    let table = Table::new(client, DEFAULT_TABLE);
    assert!(table.is_empty().await.unwrap());
}

#[tokio::test]
async fn stores_in_tables_of_different_names_do_not_see_each_other() {
    let engine = Engine::memory().unwrap();
    let one = open(&engine, config().table("one"), true).await.unwrap();
    let two = open(&engine, config().table("two"), true).await.unwrap();
    assert_ne!(one.id(), two.id());
    put(&partition(&one, "j1"), &[("t1", "one")]).await;
    put(&partition(&two, "j1"), &[("t1", "two")]).await;
    let again = open(&engine, config().table("one"), false).await.unwrap();
    let found = secrets(&partition(&again, "j1")).await;
    assert_eq!(found, [("t1".to_owned(), "one".to_owned())]);
    let unnamed = Store::open(config().table("a b"), Arc::new(MemoryKey([1; 32])));
    assert_eq!(code(unnamed.await), "invalid_table_name");
}

#[tokio::test]
async fn a_key_file_is_neither_read_nor_made_for_a_table_in_aws() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys/umk.key");
    let keys = Arc::new(LocalFileKeyProvider::new(&path));
    let config = StoreConfig::on(Backend::Aws(Aws::default()));
    for opened in [
        Store::open(config.clone(), keys.clone()).await,
        Store::set_up(config, keys).await,
    ] {
        assert_eq!(code(opened), "keys_of_another_realm");
    }
    assert!(!path.exists());
}

#[cfg(not(feature = "aws"))]
#[tokio::test]
async fn a_program_without_the_network_says_so() {
    let endpoint = crate::LocalEndpoint::parse("http://127.0.0.1:9").unwrap();
    for backend in [Backend::Endpoint(endpoint), Backend::Aws(Aws::default())] {
        let opened = Store::open(StoreConfig::on(backend), Arc::new(MemoryKey([1; 32])));
        assert_eq!(code(opened.await), "backend_not_built");
    }
}

#[cfg(feature = "aws")]
mod aws {
    use std::sync::Mutex;

    use aws_config::{BehaviorVersion, Region, SdkConfig};
    use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
    use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
    use aws_smithy_runtime_api::client::orchestrator::HttpRequest;

    use super::*;
    use crate::AwsEndpoint;

    /// An engine in the place of AWS, and where requests were sent.
    #[derive(Clone, Debug)]
    struct Cloud {
        engine: Engine,
        seen: Arc<Mutex<HashSet<String>>>,
    }

    impl Cloud {
        fn new() -> Self {
            Self {
                engine: Engine::memory().unwrap(),
                seen: Arc::default(),
            }
        }

        fn seen(&self) -> Vec<String> {
            self.seen.lock().unwrap().drain().collect()
        }

        fn sdk(&self) -> SdkConfig {
            SdkConfig::builder()
                .behavior_version(BehaviorVersion::latest())
                .http_client(crate::client::through(self.clone()))
                .region(Region::new("eu-central-1"))
                .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
                    "AKIAEXAMPLE",
                    "secret",
                    None,
                    None,
                    "test",
                )))
                .build()
        }
    }

    impl HttpConnector for Cloud {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let signed = request.headers().get("authorization").unwrap_or_default();
            assert!(signed.contains("Credential=AKIAEXAMPLE/"), "{signed}");
            let uri = request.uri().to_owned();
            self.seen.lock().unwrap().insert(uri);
            self.engine.call(request)
        }
    }

    async fn set_up(aws: Aws) -> Result<Store> {
        let config = StoreConfig::on(Backend::Aws(aws)).table("production");
        Store::set_up(config.without_anchor(), Arc::new(MemoryKey([1; 32]))).await
    }

    #[tokio::test]
    async fn a_table_elsewhere_is_opened_with_an_anchor_or_without_by_somebodys_word() {
        let cloud = Cloud::new();
        let config = || StoreConfig::on(Backend::Aws(Aws::default().sdk_config(cloud.sdk())));
        let keys = || Arc::new(MemoryKey([1; 32]));
        let opened = Store::set_up(config(), keys()).await;
        assert_eq!(code(opened), "anchor_missing");
        assert!(cloud.seen().is_empty(), "nothing was asked");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("anchor");
        Store::set_up(config().anchor(&path), keys()).await.unwrap();
        assert!(path.exists());
        let opened = Store::open(config().without_anchor(), keys()).await;
        assert!(!opened.unwrap().is_anchored());
    }

    #[tokio::test]
    async fn the_profile_aws_goes_to_the_regions_endpoint_over_tls_with_the_callers_credentials() {
        let cloud = Cloud::new();
        let aws = Aws::default().sdk_config(cloud.sdk());
        let store = set_up(aws.clone()).await.unwrap();
        put(&partition(&store, "j1"), &[("t1", "x")]).await;
        assert_eq!(
            cloud.seen(),
            ["https://dynamodb.eu-central-1.amazonaws.com/"]
        );
        set_up(aws.clone().region("us-west-2")).await.unwrap();
        assert_eq!(cloud.seen(), ["https://dynamodb.us-west-2.amazonaws.com/"]);
        let private = "https://vpce-1-2.dynamodb.eu-central-1.vpce.amazonaws.com";
        set_up(aws.endpoint(AwsEndpoint::parse(private).unwrap()))
            .await
            .unwrap();
        assert_eq!(cloud.seen(), [format!("{private}/")]);
    }

    #[tokio::test]
    async fn an_endpoint_that_the_sdk_found_does_not_lead_production_to_localhost() {
        for found in [
            "http://127.0.0.1:8000",
            "https://localhost",
            "http://dynamodb.eu-central-1.amazonaws.com",
        ] {
            let cloud = Cloud::new();
            let sdk = cloud.sdk().into_builder().endpoint_url(found).build();
            let refused = set_up(Aws::default().sdk_config(sdk)).await;
            assert_eq!(code(refused), "endpoint_not_aws", "{found}");
            assert_eq!(cloud.seen(), [""; 0], "nothing was sent");
        }
    }

    #[tokio::test]
    async fn what_aws_needs_and_is_not_there_is_named_before_anything_is_sent() {
        let cloud = Cloud::new();
        let mut nowhere = cloud.sdk().into_builder();
        nowhere.set_region(None);
        let refused = set_up(Aws::default().sdk_config(nowhere.build())).await;
        assert_eq!(code(refused), "region_missing");
        let mut nobody = cloud.sdk().into_builder();
        nobody.set_credentials_provider(None);
        let refused = set_up(Aws::default().sdk_config(nobody.build())).await;
        assert_eq!(code(refused), "credentials_missing");
        assert_eq!(cloud.seen(), [""; 0]);
    }
}
