//! Sets a store up where the environment says (`BLUE_PROFILE`, `DYNAMODB_ENDPOINT`, `BLUE_TABLE`), with the key that it
//! names (`BLUE_KEYS`), this user's own in a file unless it does, and prints its id: what `BLUE_STORE_ID` can hold every
//! process to. Setting up twice changes nothing.

use std::error::Error;

use blue_encrypted_store::{KeySource, LocalFileKeyProvider, Store, StoreConfig, StorePath};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let home = std::env::home_dir().ok_or("there is no home directory")?;
    let config = StoreConfig::from_env(StorePath::File(home.join(".blue/store/table.db")))?;
    let key = LocalFileKeyProvider::default_path().ok_or("there is no home directory")?;
    let keys = KeySource::from_env(key)?.provider().await?;
    // It makes the store, and trusts nothing that is in one.
    let store = Store::set_up(config.without_anchor(), keys).await?;
    println!("{}", serde_json::json!({ "store_id": store.id() }));
    Ok(())
}
