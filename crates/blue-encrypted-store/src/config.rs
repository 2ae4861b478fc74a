//! What a store is opened with.

use std::env;
use std::path::PathBuf;

use opentelemetry::metrics::Meter;
use worldcompute_fault::{Category, Fault, Result};

use crate::audit::{AuditReads, Habits, OnAuditBreak, TraceSource};
#[cfg(feature = "aws")]
use crate::client;
use crate::reader::MAX_ROWS;
use crate::table::Room;
use crate::{Backend, Id, KeyLifetime, Profile};

/// The name of a table unless it is configured.
pub(crate) const DEFAULT_TABLE: &str = "blue-encrypted-store";
/// The shortest and the longest name that DynamoDB takes for a table, in bytes.
const TABLE_NAME_BYTES: std::ops::RangeInclusive<usize> = 3..=255;

/// Where the embedded engine keeps its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorePath {
    /// In this file, created with mode 0600, in a directory that only its owner enters. `.lock`, `.anchor`
    /// (unless it is to be elsewhere or nowhere), `-wal` and `-shm` files of the same name lie beside it.
    File(PathBuf),
    /// In memory: gone when the last handle is dropped.
    Memory,
}

/// Where a store lives and whose it is.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    pub(crate) backend: Backend,
    pub(crate) table: String,
    pub(crate) store_id: Option<String>,
    pub(crate) must_exist: bool,
    pub(crate) anchor: Option<PathBuf>,
    pub(crate) leaves_anchor: bool,
    pub(crate) forgets: bool,
    pub(crate) tenant: String,
    pub(crate) user: String,
    pub(crate) actor: Option<String>,
    pub(crate) key_lifetime: KeyLifetime,
    pub(crate) min_key_epoch: u64,
    pub(crate) habits: Habits,
    pub(crate) max_encryptions: u64,
    pub(crate) max_partition_bytes: Option<u64>,
    pub(crate) meter: Option<Meter>,
}

/// What a store does not exceed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Payloads that one data key encrypts.
    pub(crate) encryptions: u64,
    /// Bytes of a partition's records.
    pub(crate) bytes: u64,
}

impl Limits {
    /// How much of a partition is kept in memory at most. In the middle of the largest commit every record is there twice,
    /// and a manifest and keys take less than half of what they list. Where earlier commits were interrupted there is more:
    /// then what is listed is read by itself, which has room whatever was left beside it.
    pub(crate) fn room(&self) -> Room {
        let bytes = self.bytes.saturating_mul(3).saturating_add(1 << 20);
        Room {
            rows: MAX_ROWS,
            bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
        }
    }
}

/// The bytes that the records of a partition may have, unless the store is told otherwise
/// ([`StoreConfig::max_partition_bytes`]).
pub const DEFAULT_PARTITION_BYTES: u64 = 256 << 20;

/// What a person may choose for it, in an environment or a file: a megabyte to 64 GB.
pub const PARTITION_BYTES_RANGE: std::ops::RangeInclusive<u64> = 1 << 20..=64 << 30;
const PARTITION_BYTES: &str = "BLUE_PARTITION_BYTES";

/// 2^32, what NIST SP 800-38D (8.3) allows one AES-GCM key with random nonces.
const MAX_ENCRYPTIONS: u64 = 1 << 32;

impl StoreConfig {
    /// The store in the embedded engine at `path`, of tenant `local`, user `local`.
    pub fn new(path: StorePath) -> Self {
        Self::on(Backend::Embedded(path))
    }

    /// The store on `backend`, of tenant `local`, user `local`.
    pub fn on(backend: Backend) -> Self {
        Self {
            backend,
            table: DEFAULT_TABLE.to_owned(),
            store_id: None,
            must_exist: false,
            anchor: None,
            leaves_anchor: false,
            forgets: false,
            tenant: "local".to_owned(),
            user: "local".to_owned(),
            actor: None,
            key_lifetime: KeyLifetime::default(),
            min_key_epoch: 1,
            habits: Habits::default(),
            max_encryptions: MAX_ENCRYPTIONS,
            max_partition_bytes: None,
            meter: None,
        }
    }

    /// The store that the environment names: `BLUE_PROFILE` (`local` unless it is set) and `DYNAMODB_ENDPOINT` choose the
    /// backend as in [`Backend::choose`], `BLUE_TABLE` the table, `BLUE_STORE_ID` the store that has to be there,
    /// `BLUE_TENANT` and `BLUE_USER` whose keys they are, `BLUE_PARTITION_BYTES` how many bytes the records of a partition
    /// may have ([`StoreConfig::max_partition_bytes`]). What is empty counts as not set.
    ///
    /// # Errors
    /// `invalid_profile`, `invalid_endpoint`, `endpoint_not_aws`, `endpoint_is_aws`, `invalid_table_name`, `invalid_id`;
    /// `invalid_environment` for what is not UTF-8, or no number of bytes.
    pub fn from_env(embedded: StorePath) -> Result<Self> {
        Self::from_vars(embedded, variable)
    }

    fn from_vars(
        embedded: StorePath,
        set: impl Fn(&'static str) -> Result<Option<String>>,
    ) -> Result<Self> {
        let profile = match set("BLUE_PROFILE")? {
            Some(name) => Profile::parse(&name)?,
            None => Profile::Local,
        };
        let endpoint = set("DYNAMODB_ENDPOINT")?;
        let mut config = Self::on(Backend::choose(profile, endpoint.as_deref(), embedded)?);
        config.store_id = set("BLUE_STORE_ID")?;
        if let Some(table) = set("BLUE_TABLE")? {
            config.table = table;
        }
        config.check_table()?;
        if let Some(bytes) = set(PARTITION_BYTES)? {
            config.max_partition_bytes = Some(partition_bytes(&bytes)?);
        }
        for (variable, id) in [
            ("BLUE_TENANT", &mut config.tenant),
            ("BLUE_USER", &mut config.user),
        ] {
            if let Some(text) = set(variable)? {
                *id = Id::parse(&text)?.to_string();
            }
        }
        Ok(config)
    }

    /// The same with what it leaves to the AWS SDK: region and credentials are found here, and the table is not asked.
    ///
    /// # Errors
    /// `backend_not_built` for a table that this program cannot reach; `region_missing`.
    pub async fn resolved(self) -> Result<Self> {
        #[cfg(feature = "aws")]
        if let Backend::Aws(aws) = self.backend {
            let backend = Backend::Aws(client::found(aws).await?);
            return Ok(Self { backend, ..self });
        }
        #[cfg(not(feature = "aws"))]
        if !matches!(self.backend, Backend::Embedded(_)) {
            return Err(crate::store::not_built());
        }
        Ok(self)
    }

    /// In the table of this name: 3 to 255 letters, digits, `_`, `-` and `.`.
    #[must_use]
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.table = name.into();
        self
    }

    /// The store that has to be there, by the id that its set-up gave it ([`crate::Store::id`]): another one is refused,
    /// and none is made.
    #[must_use]
    pub fn store_id(mut self, id: impl Into<String>) -> Self {
        self.store_id = Some(id.into());
        self
    }

    /// Opens only a store that is there, also in the embedded engine: opening it makes nothing.
    #[must_use]
    pub const fn must_exist(mut self) -> Self {
        self.must_exist = true;
        self
    }

    /// Where to remember, outside of the table, how far each partition has come; by default beside the file of an
    /// embedded table. Every other is opened with one, or by saying [`StoreConfig::without_anchor`].
    ///
    /// A table that is put back as it was earlier is recognised by it. Whoever can put both files back is not.
    #[must_use]
    pub fn anchor(mut self, path: impl Into<PathBuf>) -> Self {
        self.anchor = Some(path.into());
        self
    }

    /// Remembers how far partitions have come for as long as the process runs, and no longer, wherever the table is: for
    /// machines that keep nothing. A table that is put back as it was between two runs is believed then; [`StoreConfig::min_key_epoch`],
    /// [`StoreConfig::store_id`] and the audit's checkpoints ([`crate::Store::verify_checkpoint`]) say what such a machine
    /// can know from elsewhere.
    #[must_use]
    pub const fn without_anchor(mut self) -> Self {
        self.forgets = true;
        self
    }

    /// Compares with what is remembered outside of the table, and leaves that as it is: for those who look into a store
    /// before they trust it. Where nothing is remembered, nothing is, and [`crate::Store::is_anchored`] says so.
    #[must_use]
    pub const fn leave_anchor(mut self) -> Self {
        self.leaves_anchor = true;
        self
    }

    /// When reads are on record; by default within a second.
    #[must_use]
    pub fn audit_reads(mut self, reads: AuditReads) -> Self {
        self.habits.reads = reads;
        self
    }

    /// What to do when the audit is not what it was; by default the store stays closed.
    #[must_use]
    pub fn on_audit_break(mut self, on_break: OnAuditBreak) -> Self {
        self.habits.on_break = on_break;
        self
    }

    /// Where the trace ids of the audit come from, besides OpenTelemetry.
    #[must_use]
    pub fn trace_source(mut self, trace: TraceSource) -> Self {
        self.habits.trace = trace;
        self
    }

    /// The tenant that the keys are bound to (an id, see [`crate::Id`]).
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = tenant.into();
        self
    }

    /// How long a key of the provider is used before the provider is asked again: by default five minutes.
    #[must_use]
    pub const fn key_lifetime(mut self, lifetime: KeyLifetime) -> Self {
        self.key_lifetime = lifetime;
        self
    }

    /// The store's key epochs before this one are known to be retired: a store that still allows one is refused. For
    /// machines without an anchor, which cannot know that by themselves ([`crate::Store::retire_keks`]).
    #[must_use]
    pub const fn min_key_epoch(mut self, epoch: u64) -> Self {
        self.min_key_epoch = epoch;
        self
    }

    /// How many payloads one data key of a partition encrypts before another takes its place
    /// ([`crate::Partition::rotate`]): 2^32 by default, which is the most. A batch is under one key, also when it alone is
    /// larger; with as many data keys as there can be, the last one goes on. Of commits that failed, those of this process
    /// count.
    #[must_use]
    pub fn max_encryptions_per_key(mut self, encryptions: u64) -> Self {
        self.max_encryptions = encryptions.min(MAX_ENCRYPTIONS);
        self
    }

    /// How many bytes the records of a partition may have, as DynamoDB counts: 256 MiB by default. A commit past it is
    /// refused (`partition_full`) unless it makes the partition no larger, and so is a partition in the table whose records
    /// have more than three times as much, whoever wrote it (`too_many_bytes`): a partition is read whole, into memory.
    /// Whoever shares a table sets the same.
    #[must_use]
    pub const fn max_partition_bytes(mut self, bytes: u64) -> Self {
        self.max_partition_bytes = Some(bytes);
        self
    }

    /// The same unless it was said before, here or in the environment.
    #[must_use]
    pub const fn max_partition_bytes_unless_set(mut self, bytes: u64) -> Self {
        if self.max_partition_bytes.is_none() {
            self.max_partition_bytes = Some(bytes);
        }
        self
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            encryptions: self.max_encryptions,
            bytes: self.max_partition_bytes.unwrap_or(DEFAULT_PARTITION_BYTES),
        }
    }

    /// The user that the keys are bound to (an id, see [`crate::Id`]).
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = user.into();
        self
    }

    /// The same for whom `other` is: tenant, user, actor and sources of trace ids.
    #[must_use]
    pub fn like(mut self, other: &Self) -> Self {
        self.tenant.clone_from(&other.tenant);
        self.user.clone_from(&other.user);
        self.actor.clone_from(&other.actor);
        self.habits.trace = other.habits.trace;
        self
    }

    /// Who uses the keys, for the audit alone: the principal of its events is `{tenant}/{user}/{actor}` then. No key
    /// depends on it, so several programs and people may share a store and be told apart (an id, see [`crate::Id`]).
    #[must_use]
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    /// What counts operations, calls of the key provider, failed checks, retries and what the audit holds back; by default
    /// the global meter of OpenTelemetry. Where the numbers go is for its provider to say.
    #[must_use]
    pub fn meter(mut self, meter: Meter) -> Self {
        self.meter = Some(meter);
        self
    }

    /// Where the table is.
    pub const fn backend(&self) -> &Backend {
        &self.backend
    }

    /// What the table is called.
    pub fn table_name(&self) -> &str {
        &self.table
    }

    pub(crate) fn check_table(&self) -> Result<()> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if TABLE_NAME_BYTES.contains(&self.table.len()) && self.table.bytes().all(allowed) {
            return Ok(());
        }
        let message = format!("no table can be named {:.80?}", self.table);
        Err(
            Fault::new(Category::InvalidInput, "invalid_table_name", message)
                .hint("choose 3 to 255 letters, digits, underscores, hyphens and dots"),
        )
    }
}

/// What the environment says; what is empty counts as not set.
pub(crate) fn variable(name: &'static str) -> Result<Option<String>> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(not_unicode(name)),
    }
}

fn partition_bytes(text: &str) -> Result<u64> {
    let bytes = text.parse().ok();
    bytes
        .filter(|bytes| PARTITION_BYTES_RANGE.contains(bytes))
        .ok_or_else(|| {
            let message = format!("{PARTITION_BYTES} is {text:.80?}");
            let [least, most] = [PARTITION_BYTES_RANGE.start(), PARTITION_BYTES_RANGE.end()];
            Fault::new(Category::InvalidInput, "invalid_environment", message)
                .hint(format!("give {least} to {most} bytes"))
        })
}

fn not_unicode(name: &str) -> Fault {
    let message = format!("the environment variable {name} is not UTF-8");
    Fault::new(Category::InvalidInput, "invalid_environment", message)
        .hint("set it anew, or take it out of the environment")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(vars: &[(&str, &str)]) -> Result<StoreConfig> {
        StoreConfig::from_vars(StorePath::Memory, |name| {
            let found = vars.iter().find(|(known, _)| *known == name);
            Ok(found
                .map(|(_, value)| (*value).to_owned())
                .filter(|value| !value.is_empty()))
        })
    }

    #[test]
    fn the_environment_names_backend_table_and_store() {
        let plain = of(&[]).unwrap();
        assert!(matches!(
            plain.backend,
            Backend::Embedded(StorePath::Memory)
        ));
        assert_eq!((&*plain.table, plain.store_id), (DEFAULT_TABLE, None));
        let config = of(&[
            ("DYNAMODB_ENDPOINT", "http://localhost:8000"),
            ("BLUE_TABLE", "mine"),
            ("BLUE_STORE_ID", "s1"),
            ("BLUE_TENANT", "acme"),
            ("BLUE_USER", "anna"),
            ("BLUE_PARTITION_BYTES", "5000000"),
        ])
        .unwrap();
        let said = config.clone().max_partition_bytes_unless_set(7 << 20);
        assert_eq!(said.limits().bytes, 5_000_000);
        let unsaid = of(&[]).unwrap().max_partition_bytes_unless_set(7 << 20);
        assert_eq!(unsaid.limits().bytes, 7 << 20);
        assert!(matches!(config.backend, Backend::Endpoint(_)));
        assert_eq!((&*config.tenant, &*config.user), ("acme", "anna"));
        assert_eq!((&*config.table, &*config.store_id.unwrap()), ("mine", "s1"));
        let aws = of(&[("BLUE_PROFILE", "aws"), ("DYNAMODB_ENDPOINT", "")]).unwrap();
        assert!(matches!(aws.backend, Backend::Aws(_)));
    }

    #[test]
    fn an_environment_that_contradicts_itself_is_refused() {
        let code = |vars: &[_]| of(vars).err().unwrap().code().to_owned();
        let local = ("DYNAMODB_ENDPOINT", "http://localhost:8000");
        assert_eq!(code(&[("BLUE_PROFILE", "aws"), local]), "endpoint_not_aws");
        assert_eq!(code(&[("BLUE_PROFILE", "AWS")]), "invalid_profile");
        assert_eq!(
            code(&[("DYNAMODB_ENDPOINT", "localhost")]),
            "invalid_endpoint"
        );
        assert_eq!(code(&[("BLUE_TABLE", "a b")]), "invalid_table_name");
        for variable in ["BLUE_TENANT", "BLUE_USER"] {
            assert_eq!(code(&[(variable, "Anna & Co")]), "invalid_id");
        }
        for bytes in ["1048575", "68719476737", "a lot", "-1", "1e9"] {
            let bytes = ("BLUE_PARTITION_BYTES", bytes);
            assert_eq!(code(&[bytes]), "invalid_environment", "{bytes:?}");
        }
        let refused = StoreConfig::from_vars(StorePath::Memory, |name| Err(not_unicode(name)));
        assert_eq!(refused.err().unwrap().code(), "invalid_environment");
    }

    #[test]
    fn a_table_has_a_name_that_dynamodb_takes() {
        let checked = |name: &str| {
            StoreConfig::new(StorePath::Memory)
                .table(name)
                .check_table()
        };
        for good in ["abc", "A_1-2.3", &"n".repeat(255)] {
            checked(good).unwrap();
        }
        for bad in ["", "ab", "a b", "a/b", "täble", &"n".repeat(256)] {
            assert_eq!(
                checked(bad).unwrap_err().code(),
                "invalid_table_name",
                "{bad}"
            );
        }
    }
}
