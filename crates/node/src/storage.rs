//! The encrypted store of a node: where it is, with which keys it is opened, and what is left when the key is lost.
//!
//! The daemon and the commands that look after the store ask the same question in the same way, so they never mean
//! different tables.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use blue_encrypted_store::{
    Aws, Backend, LocalFileKeyProvider, OnAuditBreak, Store, StoreConfig, StorePath, TraceSource,
    forbid_core_dumps,
};
use jiff::Timestamp;
use serde::Serialize;
use worldcompute_durable::{Disk, OsDisk};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_telemetry::CorrelationId;

use crate::home::{Home, OpenHome};
use crate::keys::GatedKeys;
use crate::policies::gate;

/// The environment variables that say where a store is ([`StoreConfig::from_env`]).
pub const VARIABLES: [&str; 4] = [
    "BLUE_PROFILE",
    "DYNAMODB_ENDPOINT",
    "BLUE_TABLE",
    "BLUE_STORE_ID",
];

/// Where a node keeps its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Where the environment says ([`VARIABLES`]), and in its home where that says nothing.
    Configured,
    /// In its home, whatever the environment says: a node that is set up for one purpose and thrown away after it.
    InHome,
}

impl Storage {
    /// The store of the node in `home`.
    ///
    /// # Errors
    /// Those of [`StoreConfig::from_env`].
    pub fn site(self, home: &Home) -> Result<StoreSite> {
        let file = StorePath::File(home.store());
        let config = match self {
            Self::Configured => StoreConfig::from_env(file)?,
            Self::InHome => StoreConfig::new(file),
        };
        let config = match config.backend() {
            Backend::Embedded(_) => config,
            _ => config.anchor(home.remote_anchor()),
        };
        Ok(StoreSite {
            home: home.clone(),
            config: config.trace_source(TraceSource::new(correlation)),
        })
    }
}

/// The correlation id of the request that uses a key, as a trace id.
fn correlation() -> Option<[u8; 16]> {
    worldcompute_telemetry::current().map(CorrelationId::trace_id)
}

/// Where one node's store is, or is to be.
pub struct StoreSite {
    home: Home,
    config: StoreConfig,
}

/// The same in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SiteView {
    /// `embedded`, `endpoint` or `aws`.
    pub backend: &'static str,
    /// The file, the server's URL, or the endpoint in AWS where one is named.
    pub at: String,
    /// The table's name.
    pub table: String,
    /// The file of the master key.
    pub key: PathBuf,
}

impl StoreSite {
    /// Where it is, in words.
    pub fn view(&self) -> SiteView {
        let (backend, at) = match self.config.backend() {
            Backend::Embedded(StorePath::File(path)) => ("embedded", path.display().to_string()),
            Backend::Embedded(StorePath::Memory) => ("embedded", "memory".to_owned()),
            Backend::Endpoint(endpoint) => ("endpoint", endpoint.to_string()),
            Backend::Aws(aws) => ("aws", place_in(aws)),
        };
        SiteView {
            backend,
            at,
            table: self.config.table_name().to_owned(),
            key: self.home.store_key(),
        }
    }

    /// The file of a store that is embedded in its node.
    pub fn file(&self) -> Option<PathBuf> {
        match self.config.backend() {
            Backend::Embedded(StorePath::File(path)) => Some(path.clone()),
            _ => None,
        }
    }

    /// Opens it as a daemon does: one in the home is made where there is none, every other has to be there.
    ///
    /// # Errors
    /// Those of [`Store::open`], `key_release_denied`.
    pub async fn open(&self, home: &OpenHome) -> Result<Store> {
        let opened = Store::open(self.config.clone(), Arc::new(self.keys(home)?)).await;
        opened.map_err(|fault| self.explained(fault))
    }

    /// Opens what is there to look into it, also when its audit is not what it was; makes nothing.
    ///
    /// # Errors
    /// Those of [`StoreSite::open`], `store_not_set_up`.
    pub async fn inspect(&self, home: &OpenHome) -> Result<Store> {
        let config = self.config.clone().must_exist();
        let config = config.on_audit_break(OnAuditBreak::Inspect);
        let opened = Store::open(config, Arc::new(self.keys(home)?)).await;
        opened.map_err(|fault| self.explained(fault))
    }

    /// Makes table, store and master key where they are missing, and opens the store.
    ///
    /// # Errors
    /// Those of [`Store::set_up`].
    pub async fn set_up(&self, home: &OpenHome) -> Result<Store> {
        let made = Store::set_up(self.config.clone(), Arc::new(self.keys(home)?)).await;
        made.map_err(|fault| self.explained(fault))
    }

    /// After the key was lost: deletes the store in the home with all that it holds, and sets up a new one with a new
    /// key. A key that is there, but not the store's, is moved aside before that, and `kept` told where it is: it may be
    /// that of another store. Whoever is interrupted in between finds the store without a key, and is asked again.
    ///
    /// # Errors
    /// `store_not_lost` when the store opens; whatever else keeps it from opening, tampering above all: then nothing is
    /// deleted. `store_not_here` for a store that is not in the home.
    pub async fn reset(&self, home: &OpenHome, kept: impl FnOnce(&Path)) -> Result<Store> {
        let Some(file) = self.file() else {
            return Err(not_here(&self.view()));
        };
        match self.inspect(home).await {
            Err(fault) if is_key_loss(&fault) => {}
            Err(fault) => return Err(fault),
            Ok(store) => return store.close().await.and(Err(not_lost())),
        }
        if let Some(aside) = set_aside(self.home.store_key()).await? {
            kept(&aside);
        }
        Store::discard(file).await?;
        self.set_up(home).await
    }

    fn keys(&self, home: &OpenHome) -> Result<GatedKeys<LocalFileKeyProvider>> {
        forbid_core_dumps()?;
        Ok(GatedKeys::new(
            LocalFileKeyProvider::new(self.home.store_key()),
            gate(home, &self.home.keys_policy())?,
            home.key().peer_id(),
            self.home.key_decisions(),
        ))
    }

    /// The next action, where it depends on this program rather than on the store.
    fn explained(&self, fault: Fault) -> Fault {
        let key = self.home.store_key();
        let (key, in_home) = (key.display(), self.file().is_some());
        match fault.code() {
            "table_not_found" | "store_not_set_up" if in_home => {
                fault.hint("set the store up with 'worldcompute store init'")
            }
            "table_not_found" | "store_not_set_up" => fault.hint(
                "set the store up with 'worldcompute store setup-tables', or look at BLUE_TABLE, the endpoint and the region",
            ),
            "encryption_key_changed" | "encryption_key_missing" if in_home => fault.hint(format!(
                "put the store's key back at {key} from a backup; if it is lost, 'worldcompute store init' on a terminal asks whether to reset the database"
            )),
            "encryption_key_changed" | "encryption_key_missing" => fault.hint(format!(
                "put the store's key back at {key} from a backup; a table of another node is not to be shared: name one of your own in BLUE_TABLE"
            )),
            _ => fault,
        }
    }
}

/// Whether the store's key is gone or another one: what a reset is for. Tampering never is.
pub fn is_key_loss(fault: &Fault) -> bool {
    ["encryption_key_changed", "encryption_key_missing"].contains(&fault.code())
}

fn place_in(aws: &Aws) -> String {
    let endpoint = aws.named_endpoint().map(ToString::to_string);
    endpoint.unwrap_or_else(|| "AWS".to_owned())
}

fn not_lost() -> Fault {
    let message = "the store opens with its key";
    Fault::new(Category::InvalidInput, "store_not_lost", message)
        .hint("there is nothing to reset; erase partitions one by one")
}

fn not_here(site: &SiteView) -> Fault {
    let message = format!(
        "the table {} at {} is not deleted from here",
        site.table, site.at
    );
    Fault::new(Category::InvalidInput, "store_not_here", message)
        .hint("delete it where it is, or name another table in BLUE_TABLE")
}

/// Renames a key file so that a new one can be made.
async fn set_aside(key: PathBuf) -> Result<Option<PathBuf>> {
    let moved = tokio::task::spawn_blocking(move || {
        let mut aside = key.clone().into_os_string();
        aside.push(
            Timestamp::now()
                .strftime(".of-%Y%m%dT%H%M%S%NZ")
                .to_string(),
        );
        let aside = PathBuf::from(aside);
        match OsDisk.rename_new(&key, &aside) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Fault::io(format_args!("rename {}", key.display()), &error)),
            Ok(()) => {
                let dir = key.parent().unwrap_or(&key);
                let synced = OsDisk.sync_dir(dir);
                synced
                    .map_err(|error| Fault::io(format_args!("rename {}", key.display()), &error))?;
                Ok(Some(aside))
            }
        }
    });
    moved.await.map_err(|error| {
        Fault::new(
            Category::InternalFailure,
            "task_broke_off",
            error.to_string(),
        )
    })?
}

#[cfg(test)]
mod tests {
    use blue_encrypted_store::KeyProvider;

    use super::*;

    #[tokio::test]
    async fn a_key_is_out_of_the_way_and_told_before_anything_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("home"));
        let opened = home.open(&crate::Config::default()).unwrap();
        let site = Storage::InHome.site(&home).unwrap();
        let old = site.open(&opened).await.unwrap();
        let id = old.id().to_owned();
        old.close().await.unwrap();
        OsDisk.remove(&home.store_key()).unwrap();
        let another = LocalFileKeyProvider::new(home.store_key());
        another.create_umk().await.unwrap();
        let mut told = false;
        let new = site.reset(&opened, |aside| {
            assert!(aside.exists() && !home.store_key().exists());
            assert!(home.store().exists());
            told = true;
        });
        assert_ne!(new.await.unwrap().id(), id);
        assert!(told && home.store_key().exists());
    }
}
