//! The store with its master key in a KMS server that others wrote, at `KMS_ENDPOINT`.
//!
//! `tests/system/kms_moto.sh` starts one. What a service can do wrong is tested without any server, beside the code.

use std::path::Path;
use std::sync::Arc;

use aws_sdk_kms::Client;
use aws_sdk_kms::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use aws_sdk_kms::types::{KeySpec, KeyUsageType};
use aws_types::SdkConfig;
use worldcompute_fault::Result;

use crate::common::{note, partition, store_path};
use blue_encrypted_store::{
    AwsKmsKeyProvider, Batch, KmsKeyArn, PartitionVersion, Store, StoreConfig, StorePath,
};

/// `None`, and a line that says why, where there is no server.
fn server() -> Option<SdkConfig> {
    let Ok(endpoint) = std::env::var("KMS_ENDPOINT") else {
        println!("skipped: KMS_ENDPOINT names no server (tests/system/kms_moto.sh starts one)");
        return None;
    };
    let credentials = Credentials::new("test", "test", None, None, "test");
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .region(Region::from_static("us-east-1"))
        .endpoint_url(endpoint);
    Some(config.build())
}

async fn make_key(config: &SdkConfig, spec: KeySpec, usage: KeyUsageType) -> KmsKeyArn {
    let request = Client::new(config).create_key();
    let made = request.key_spec(spec).key_usage(usage).send().await;
    let key = made.unwrap().key_metadata.unwrap();
    KmsKeyArn::parse(&key.arn.unwrap()).unwrap()
}

async fn hmac_key(config: &SdkConfig) -> KmsKeyArn {
    make_key(config, KeySpec::Hmac256, KeyUsageType::GenerateVerifyMac).await
}

async fn open(dir: &Path, config: &SdkConfig, key: &KmsKeyArn) -> Result<Store> {
    let keys = AwsKmsKeyProvider::new(config, key.clone());
    let config = StoreConfig::new(StorePath::File(store_path(dir)));
    Store::open(config, Arc::new(keys)).await
}

#[tokio::test]
async fn what_one_process_writes_another_reads_with_the_same_key() {
    let Some(config) = server() else { return };
    let dir = tempfile::tempdir().unwrap();
    let key = hmac_key(&config).await;
    let store = open(dir.path(), &config, &key).await.unwrap();
    let mut batch = Batch::new();
    batch.insert(note("n1", "secret")).unwrap();
    let none = PartitionVersion::NONE;
    partition(&store).commit(batch, none).await.unwrap();
    drop(store);
    let store = open(dir.path(), &config, &key).await.unwrap();
    let snapshot = partition(&store).load().await.unwrap().unwrap();
    let found = snapshot.get::<crate::common::Note>("n1").unwrap().unwrap();
    assert_eq!(found.into_value(), note("n1", "secret"));
}

#[tokio::test]
async fn another_key_of_the_same_service_opens_nothing() {
    let Some(config) = server() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (hmac_key(&config).await, hmac_key(&config).await);
    drop(open(dir.path(), &config, &ours).await.unwrap());
    let fault = open(dir.path(), &config, &theirs).await.unwrap_err();
    assert_eq!(fault.code(), "encryption_key_changed");
}

#[tokio::test]
async fn a_key_that_is_not_there_or_is_no_hmac_key_sets_up_nothing() {
    let Some(config) = server() else { return };
    let dir = tempfile::tempdir().unwrap();
    let text = "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000";
    let missing = KmsKeyArn::parse(text).unwrap();
    let fault = open(dir.path(), &config, &missing).await.unwrap_err();
    assert_eq!(fault.code(), "kms_key_not_found");
    let (spec, usage) = (KeySpec::SymmetricDefault, KeyUsageType::EncryptDecrypt);
    let other = make_key(&config, spec, usage).await;
    let fault = open(dir.path(), &config, &other).await.unwrap_err();
    assert_eq!(fault.code(), "kms_key_not_hmac");
}
