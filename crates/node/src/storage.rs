//! The encrypted store of a node: where it is, with which key it is opened, and what is left when the key is lost.
//!
//! The daemon and the commands that look after the store ask the same question in the same way, so they never mean
//! different tables.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use blue_encrypted_store::{
    Aws, Backend, KeyProvider, KeySource, OnAuditBreak, Registers, Store, StoreConfig, StorePath,
    TraceSource, forbid_core_dumps,
};
use jiff::Timestamp;
use serde::Serialize;
use worldcompute_durable::{Disk, OsDisk};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_telemetry::CorrelationId;

use crate::Config;
use crate::blocking::blocking;
use crate::home::{Home, OpenHome};
use crate::keys::GatedKeys;
use crate::policies::gate;

use self::place::{Former, Memory, Place};

mod place;

/// The environment variables that say where a store is, and where its key ([`StoreConfig::from_env`],
/// [`KeySource::from_env`]).
pub const VARIABLES: [&str; 10] = [
    "BLUE_PROFILE",
    "DYNAMODB_ENDPOINT",
    "BLUE_TABLE",
    "BLUE_STORE_ID",
    "BLUE_TENANT",
    "BLUE_USER",
    "BLUE_PARTITION_BYTES",
    "BLUE_KEYS",
    "KMS_ENDPOINT",
    "BLUE_TPM",
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
    /// The store of the node in `home`, as its configuration wants it. Touches neither.
    ///
    /// # Errors
    /// Those of [`StoreConfig::from_env`], [`StoreConfig::resolved`], [`KeySource::from_env`] and [`Config::load`].
    pub async fn site(self, home: &Home) -> Result<StoreSite> {
        let config = self.config(home.store())?.resolved().await?;
        let place = Place::of(&config);
        let name = place.name()?;
        let config = match (config.backend(), &name) {
            (Backend::Embedded(_), name) => self.config(home.store_called(name.as_deref()))?,
            (_, Some(name)) => config.anchor(home.remote_anchor(name)),
            (_, None) => config,
        };
        let key = home.store_key_called(name.as_deref());
        let partition_bytes = Config::load(&home.config())?.partition_bytes;
        let config = config.max_partition_bytes_unless_set(partition_bytes);
        Ok(StoreSite {
            home: home.clone(),
            config: config.trace_source(TraceSource::new(correlation)),
            keys: match self {
                Self::Configured => KeySource::from_env(key)?,
                Self::InHome => KeySource::File(key),
            },
            place,
            moving: false,
        })
    }

    fn config(self, file: PathBuf) -> Result<StoreConfig> {
        match self {
            Self::Configured => StoreConfig::from_env(StorePath::File(file)),
            Self::InHome => Ok(StoreConfig::new(StorePath::File(file))),
        }
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
    keys: KeySource,
    place: Place,
    /// Whether the home's store is to be here from now on, wherever it was.
    moving: bool,
}

/// The same in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SiteView {
    /// `embedded`, `endpoint` or `aws`.
    pub backend: &'static str,
    /// The file, the server's URL, or the region of AWS, with the endpoint where one is named.
    pub at: String,
    /// The table's name.
    pub table: String,
    /// What keeps the master key: `file`, `kms` or `tpm2`.
    pub keys: &'static str,
    /// The file that it is in, sealed or not, or its ARN.
    pub key: String,
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
            keys: self.keys.kind(),
            key: self.key(),
        }
    }

    /// The file of the master key, or what `BLUE_KEYS` says of one that is in no file.
    fn key(&self) -> String {
        let file = self.keys.file();
        file.map_or_else(
            || self.keys.to_string().trim_start_matches("kms:").to_owned(),
            |file| file.display().to_string(),
        )
    }

    /// The file of a store that is embedded in its node.
    pub fn file(&self) -> Option<PathBuf> {
        match self.config.backend() {
            Backend::Embedded(StorePath::File(path)) => Some(path.clone()),
            _ => None,
        }
    }

    /// The file of a store that can be reset: embedded, and so is what a new key takes the place of.
    pub fn resettable(&self) -> Option<PathBuf> {
        self.keys.file().and_then(|_| self.file())
    }

    /// The same with the name that the audit has for who uses its keys, an id.
    #[must_use]
    pub fn used_by(self, actor: &str) -> Self {
        Self {
            config: self.config.actor(actor),
            ..self
        }
    }

    /// Has the audit of the store here go on where those of the places end that it came from, if that was not done yet;
    /// whether there were any. What fails is left for the next call.
    ///
    /// # Errors
    /// Those of [`Store::open`] and [`Store::continue_audit_of`], of the first that does not go on; `keys_not_built`,
    /// `backend_not_built` for a place that this program cannot reach.
    pub async fn continue_audits(&self, home: &OpenHome) -> Result<bool> {
        let Some(known) = self.known()?.filter(|known| !known.before.is_empty()) else {
            return Ok(false);
        };
        let new = self.inspect(home).await?;
        let mut continued = Ok(true);
        for former in known.before {
            let handed = self.hand_over(home, &former, &new).await;
            continued = continued.and_then(|done| handed.map(|()| done));
        }
        let closed = new.close().await;
        continued.and_then(|done| closed.map(|()| done))
    }

    /// Opens the store that was at another place for that, and remembers that it is done.
    async fn hand_over(&self, home: &OpenHome, former: &Former, new: &Store) -> Result<()> {
        let site = self.former(former).await?;
        let config = site.config.clone().must_exist();
        let old = Store::open(config, site.keys(home).await?).await?;
        let handed = new.continue_audit_of(&old).await;
        handed.and(old.close().await)?;
        let Some(mut known) = self.known()? else {
            return Ok(());
        };
        known.before.retain(|owed| owed != former);
        known.write(&self.home)
    }

    async fn former(&self, Former { place, keys }: &Former) -> Result<Self> {
        let name = place.name()?;
        let file = self.home.store_called(name.as_deref());
        let mut config = place.config(file)?.like(&self.config);
        if let (false, Some(name)) = (matches!(place, Place::Embedded { .. }), &name) {
            config = config.anchor(self.home.remote_anchor(name));
        }
        Ok(Self {
            home: self.home.clone(),
            config: config.resolved().await?,
            keys: KeySource::named(keys, &self.home.store_key_called(name.as_deref()))?,
            place: place.clone(),
            moving: false,
        })
    }

    /// The same for a home whose store is to be here from now on. What was elsewhere stays there, with its key and its
    /// anchor.
    #[must_use]
    pub fn moving(self) -> Self {
        Self {
            moving: true,
            ..self
        }
    }

    /// Opens it as a daemon does: one in the home is made where there is none, every other has to be there.
    ///
    /// # Errors
    /// Those of [`Store::open`], `key_release_denied`; `store_elsewhere` where the home's store is at another place,
    /// `keys_elsewhere` where another provider has its key.
    pub async fn open(&self, home: &OpenHome) -> Result<Store> {
        let known = self.known()?;
        let opened = Store::open(self.config.clone(), self.keys(home).await?).await;
        self.opened(known.as_ref(), opened)
    }

    /// Opens what is there to look into it, also when its audit is not what it was; makes nothing.
    ///
    /// # Errors
    /// Those of [`StoreSite::open`], `store_not_set_up`.
    pub async fn inspect(&self, home: &OpenHome) -> Result<Store> {
        let known = self.known()?;
        let config = self.config.clone().must_exist();
        let config = config.on_audit_break(OnAuditBreak::Inspect);
        let opened = Store::open(config, self.keys(home).await?).await;
        self.opened(known.as_ref(), opened)
    }

    /// The same for those who are to say whether it is what was written: what the home knows of it stays as it is.
    ///
    /// # Errors
    /// Those of [`StoreSite::inspect`].
    pub async fn look(&self, home: &OpenHome) -> Result<Store> {
        let known = self.known()?;
        let config = self.config.clone().must_exist().leave_anchor();
        let config = config.on_audit_break(OnAuditBreak::Inspect);
        let opened = Store::open(config, self.keys(home).await?).await;
        opened.map_err(|fault| self.explained(known.as_ref(), fault))
    }

    /// Makes table, store and master key where they are missing, and opens the store.
    ///
    /// # Errors
    /// Those of [`Store::set_up`] and [`StoreSite::open`].
    pub async fn set_up(&self, home: &OpenHome) -> Result<Store> {
        let known = self.known()?;
        let made = Store::set_up(self.config.clone(), self.keys(home).await?).await;
        self.opened(known.as_ref(), made)
    }

    /// What the home knows of its store, which has to be here.
    fn known(&self) -> Result<Option<Memory>> {
        let known = Memory::read(&self.home)?;
        match &known {
            Some(known) if !self.moving => known.check(&self.place)?,
            _ => {}
        }
        Ok(known)
    }

    /// Remembers a store that opens before anything is written to it; explains why another one does not.
    fn opened(&self, known: Option<&Memory>, opened: Result<Store>) -> Result<Store> {
        let store = opened.map_err(|fault| self.explained(known, fault))?;
        let now = Memory::now(&self.place, self.keys.to_string(), known);
        if known != Some(&now) {
            now.write(&self.home)?;
        }
        Ok(store)
    }

    /// After the key was lost: deletes the store in the home with all that it holds, and sets up a new one with a new
    /// key. A key that is there, but not the store's, is moved aside before that, and `kept` told where it is: it may be
    /// that of another store. Whoever is interrupted in between finds the store without a key, and is asked again.
    ///
    /// # Errors
    /// `store_not_lost` when the store opens; whatever else keeps it from opening, tampering above all: then nothing is
    /// deleted. `store_not_here` for a store that is not in the home.
    pub async fn reset(&self, home: &OpenHome, kept: impl FnOnce(&Path)) -> Result<Store> {
        let (Some(file), Some(key)) = (self.file(), self.keys.file()) else {
            return Err(not_here(&self.view()));
        };
        match self.inspect(home).await {
            Err(fault) if is_key_loss(&fault) => {}
            Err(fault) => return Err(fault),
            Ok(store) => return store.close().await.and(Err(not_lost())),
        }
        if let Some(aside) = set_aside(key.to_owned()).await? {
            kept(&aside);
        }
        Store::discard(file).await?;
        self.set_up(home).await
    }

    /// Seals the master key in the TPM: the one in the file `copy`, or a fresh one that is put there first. A store that is
    /// there has to open with it, or it is not kept.
    ///
    /// # Errors
    /// Those of [`KeySource::seal`] and [`KeySource::seal_fresh`]; those of [`StoreSite::inspect`], when the store is there.
    pub async fn seal(&self, home: &OpenHome, copy: &Path, fresh: bool) -> Result<Registers> {
        self.known()?;
        forbid_core_dumps()?;
        let sealed = match fresh {
            true => self.keys.seal_fresh(copy).await?,
            false => self.keys.seal(copy).await?,
        };
        match self.inspect(home).await {
            Ok(store) => store.close().await?,
            Err(fault) if is_absent(&fault) => {}
            Err(fault) => {
                let is_wrong = is_key_loss(&fault) || fault.code() == KEYS_ELSEWHERE;
                if let (true, Some(file)) = (is_wrong, self.keys.file()) {
                    set_aside(file.to_owned()).await?;
                }
                return Err(fault);
            }
        }
        Ok(sealed)
    }

    /// Seals the master key anew, to what the TPM's registers hold and to `next`.
    ///
    /// # Errors
    /// Those of [`KeySource::reseal`].
    pub async fn reseal(&self, next: Option<Registers>) -> Result<Registers> {
        self.known()?;
        forbid_core_dumps()?;
        self.keys.reseal(next).await
    }

    async fn keys(&self, home: &OpenHome) -> Result<Arc<GatedKeys<dyn KeyProvider>>> {
        forbid_core_dumps()?;
        Ok(Arc::new(GatedKeys::new(
            self.keys.provider().await?,
            gate(home, &self.home.keys_policy())?,
            home.key().peer_id(),
            self.home.key_decisions(),
        )))
    }

    /// The next action, where it depends on this program rather than on the store.
    fn explained(&self, known: Option<&Memory>, fault: Fault) -> Fault {
        let in_home = self.file().is_some();
        let known = known.filter(|known| known.place == self.place);
        if let Some(known) = known.filter(|known| known.keys != self.keys.to_string())
            && is_key_loss(&fault)
        {
            return keys_elsewhere(&known.keys, &self.keys);
        }
        match fault.code() {
            "table_not_found" | "store_not_set_up" if in_home => {
                fault.hint("set the store up with 'worldcompute store init'")
            }
            "table_not_found" | "store_not_set_up" => fault.hint(
                "set the store up with 'worldcompute store setup-tables', or look at BLUE_TABLE, the endpoint and the region",
            ),
            "encryption_key_changed" | "encryption_key_missing" => {
                let (key, or) = (self.way_back(), self.or_else());
                fault.hint(format!("{key}; {or}"))
            }
            _ => fault,
        }
    }

    /// How the store gets its key again.
    fn way_back(&self) -> String {
        let key = self.key();
        match self.keys.kind() {
            "file" => format!("put the store's key back at {key} from a backup"),
            "tpm2" => format!(
                "put the sealed key back at {key}, or seal its copy with 'worldcompute store seal'"
            ),
            _ => "set BLUE_KEYS to the key that the store was set up with".to_owned(),
        }
    }

    /// What there is to do when it does not.
    fn or_else(&self) -> &'static str {
        match self.resettable() {
            Some(_) => {
                "if it is lost, 'worldcompute store init' on a terminal asks whether to reset the database"
            }
            None => {
                "a table of another node is not to be shared: name one of your own in BLUE_TABLE"
            }
        }
    }
}

/// The code of a key of another provider.
const KEYS_ELSEWHERE: &str = "keys_elsewhere";

/// A setting that somebody forgot is no lost key.
fn keys_elsewhere(known: &str, meant: &KeySource) -> Fault {
    let message = format!(
        "the key of this home's store was that of BLUE_KEYS={known}, and that of {meant} does not open it"
    );
    let hint = format!(
        "set BLUE_KEYS={known}; only the same master key opens the store, whatever keeps it"
    );
    Fault::new(Category::InvalidInput, KEYS_ELSEWHERE, message).hint(hint)
}

/// Whether there is no store yet.
pub fn is_absent(fault: &Fault) -> bool {
    ["table_not_found", "store_not_set_up"].contains(&fault.code())
}

/// Whether the store's key is gone or another one: what a reset is for. Tampering never is.
pub fn is_key_loss(fault: &Fault) -> bool {
    ["encryption_key_changed", "encryption_key_missing"].contains(&fault.code())
}

fn place_in(aws: &Aws) -> String {
    let region = aws.named_region().unwrap_or_default();
    match aws.named_endpoint() {
        Some(endpoint) => format!("{region} through {endpoint}"),
        None => region.to_owned(),
    }
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
    let moved = blocking(move || {
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
    moved.await
}

#[cfg(test)]
mod tests {
    use blue_encrypted_store::{Batch, Entity, Kind, LocalFileKeyProvider, PartitionVersion};
    use worldcompute_durable::{Mode, write_atomic};

    use super::*;

    #[tokio::test]
    async fn a_nodes_configuration_says_how_large_a_partition_may_be() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("home"));
        let config = Config {
            partition_bytes: 1 << 20,
            ..Config::default()
        };
        let opened = home.open(&config).unwrap();
        let text = config.to_toml().unwrap();
        write_atomic(&home.config(), text.as_bytes(), Mode::Private).unwrap();
        let site = Storage::InHome.site(&home).await.unwrap();
        let store = site.open(&opened).await.unwrap();
        let partition = store.partition(Kind::JOB, "j1").unwrap();
        let batch = |records: usize| {
            let mut batch = Batch::new();
            for id in 0..records {
                batch.insert(Text(id.to_string())).unwrap();
            }
            batch
        };
        let none = PartitionVersion::NONE;
        let fault = partition.commit(batch(4), none).await.unwrap_err();
        assert_eq!(fault.code(), "partition_full");
        partition.commit(batch(2), none).await.unwrap();
        store.close().await.unwrap();
    }

    /// A record of 300 KB.
    struct Text(String);

    impl Entity for Text {
        const TYPE: &'static str = "text";
        type Clear = ();
        type Sealed = String;

        fn id(&self) -> String {
            self.0.clone()
        }

        fn split(self) -> ((), String) {
            ((), "x".repeat(300_000))
        }

        fn join(id: String, _clear: (), _sealed: String) -> Result<Self> {
            Ok(Self(id))
        }
    }

    #[tokio::test]
    async fn a_key_is_out_of_the_way_and_told_before_anything_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("home"));
        let opened = home.open(&crate::Config::default()).unwrap();
        let site = Storage::InHome.site(&home).await.unwrap();
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
