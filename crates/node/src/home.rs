//! A node's home: where its identity, configuration and state lie, and the lock that keeps two daemons out of one home.
//!
//! Layout (design, "Where state lives"): `identity.key`, `config.toml`, `policy/`, `store/`, `content/`, `keys/`, `log/`,
//! `run/control.sock`, `evidence/`. Every directory is 0700, every private file 0600.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use worldcompute_durable::{self as durable, LockOptions, Mode, OwnedLock};
use worldcompute_fault::{Category, Fault, Result, WcCode};
use worldcompute_proof::{PeerId, SigningKey};
use worldcompute_scheduler::manifest::CLASSES;

use crate::config::Config;

/// Environment variable that names the home.
pub const HOME_VARIABLE: &str = "WORLDCOMPUTE_HOME";

/// How long a second daemon waits for the first to let go of the home.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// The largest policy that can be a starter policy, in bytes.
const MAX_STARTER_BYTES: u64 = 64 << 10;

/// The directories below a home, all private.
const DIRECTORIES: [&str; 7] = [
    "policy", "store", "content", "keys", "log", "run", "evidence",
];

/// The paths of one home. Nothing is read or written until asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// A home at `root`, whether or not it exists yet.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The home the user means: `WORLDCOMPUTE_HOME`, else `worldcompute` in the platform's data directory.
    pub fn discover() -> Result<Self> {
        if let Some(root) = std::env::var_os(HOME_VARIABLE).filter(|root| !root.is_empty()) {
            return Ok(Self::at(root));
        }
        let data = std::env::var_os("XDG_DATA_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| std::env::home_dir().map(|home| home.join(".local/share")));
        data.map(|data| Self::at(data.join("worldcompute")))
            .ok_or_else(no_home)
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The node's Ed25519 key; its PeerId never changes.
    pub fn identity(&self) -> PathBuf {
        self.root.join("identity.key")
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// The policy that guards this machine against jobs of others.
    pub fn donor_policy(&self) -> PathBuf {
        self.root.join("policy/donor.yaml")
    }

    /// The policy that guards what this node hands to others.
    pub fn submitter_policy(&self) -> PathBuf {
        self.root.join("policy/submitter.yaml")
    }

    /// The policy that guards the keys of the encrypted store.
    pub fn keys_policy(&self) -> PathBuf {
        self.root.join("policy/keys.yaml")
    }

    /// What the gate said whenever a key of the store was asked for: numbered, signed decisions, one a line.
    pub fn key_decisions(&self) -> PathBuf {
        self.root.join("evidence/keys.jsonl")
    }

    /// How far the audit of the store had come when it was last verified, signed by this node.
    pub fn audit_checkpoint(&self) -> PathBuf {
        self.root.join("evidence/store-audit.json")
    }

    /// The encrypted store's database file.
    pub fn store(&self) -> PathBuf {
        self.store_called(None)
    }

    /// The database file of the store of this name, or the home's own.
    pub fn store_called(&self, name: Option<&str>) -> PathBuf {
        let name = name.unwrap_or("worldcompute");
        self.root.join(format!("store/{name}.db"))
    }

    /// Where the store is.
    pub fn store_place(&self) -> PathBuf {
        self.root.join("store/place.json")
    }

    /// What is remembered of the store of this name, which is not in the home.
    pub fn remote_anchor(&self, name: &str) -> PathBuf {
        self.root.join(format!("store/{name}.anchor"))
    }

    /// The user master key of the encrypted store.
    pub fn store_key(&self) -> PathBuf {
        self.store_key_called(None)
    }

    /// The same of the store of this name, or of the home's own.
    pub fn store_key_called(&self, name: Option<&str>) -> PathBuf {
        let name = name.map_or_else(String::new, |name| format!("-{name}"));
        self.root.join(format!("keys/umk{name}.key"))
    }

    /// The certificate that a node of its own making shows where it listens for the web, with its key.
    pub fn certificate(&self) -> PathBuf {
        self.root.join("tls.pem")
    }

    /// The relays that this node reached.
    pub fn known_relays(&self) -> PathBuf {
        self.root.join("relays.json")
    }

    /// Who is banned.
    pub fn banned(&self) -> PathBuf {
        self.root.join("banned.json")
    }

    /// Public artefacts by CID.
    pub fn content(&self) -> PathBuf {
        self.root.join("content")
    }

    /// What images are in it, and what they are called.
    pub fn images(&self) -> PathBuf {
        self.root.join("images.json")
    }

    /// Kernels of microVMs, what is known of hypervisors, and what runs in them.
    pub fn microvm(&self) -> PathBuf {
        self.root.join("microvm")
    }

    /// Disks that images were made into.
    pub fn rootfs(&self) -> PathBuf {
        self.root.join("rootfs")
    }

    /// The daemon's log file.
    pub fn log(&self) -> PathBuf {
        self.root.join("log/daemon.log")
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.root.join("run/control.sock")
    }

    /// Evidence bundles, one directory a job.
    pub fn evidence(&self) -> PathBuf {
        self.root.join("evidence")
    }

    /// There while this home is a donor's.
    pub fn donor_mark(&self) -> PathBuf {
        self.root.join("donor")
    }

    /// What the process that owns the home has locked.
    pub fn lock(&self) -> PathBuf {
        self.root.join("run/daemon.lock")
    }

    /// All that nodes write into a home but the identity, what holds the lock last. Homes of other roles below it are none
    /// of this.
    pub fn everything(&self) -> Vec<PathBuf> {
        let own = [
            self.config(),
            self.certificate(),
            self.known_relays(),
            self.banned(),
            self.images(),
            self.rootfs(),
            self.microvm(),
            self.donor_mark(),
        ];
        let directories = DIRECTORIES.iter().map(|name| self.root.join(name));
        let mut all: Vec<PathBuf> = own.into_iter().chain(directories).collect();
        let run = self.root.join("run");
        all.sort_by_key(|path| *path == run);
        all
    }

    /// Whether a node has been enrolled here.
    pub fn is_enrolled(&self) -> bool {
        self.identity().symlink_metadata().is_ok()
    }

    /// Who was enrolled here; `None` where nobody was, or where the key cannot be read: opening the home tells why.
    pub fn enrolled(&self) -> Option<PeerId> {
        let key = SigningKey::load(&self.identity()).ok()?;
        Some(key.peer_id())
    }

    /// Makes a new identity here.
    ///
    /// # Errors
    /// WC-019 when there is one already: an identity is never replaced.
    pub fn enroll(&self, config: &Config) -> Result<PeerId> {
        if self.is_enrolled() {
            return Err(already_enrolled(self));
        }
        self.lay_out()?;
        self.write_starter_files(config)?;
        let key = SigningKey::create(&self.identity()).map_err(|fault| match fault.code() {
            "already_exists" => already_enrolled(self),
            _ => fault,
        })?;
        Ok(key.peer_id())
    }

    /// Opens the home for a daemon: lays it out, enrols on first use, and holds its lock until dropped. What `config` says
    /// beyond `config.toml` (flags, mostly) is for this once, and is written nowhere but into the starter policy.
    ///
    /// # Errors
    /// `state_contention` when another daemon holds it; `insecure_permissions` when the key or the home is open to others.
    pub fn open(&self, config: &Config) -> Result<OpenHome> {
        self.open_within(config, LOCK_WAIT)
    }

    /// The same where a daemon that has it is about to end.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_within(&self, config: &Config, wait: Duration) -> Result<OpenHome> {
        self.lay_out()?;
        let lock = OwnedLock::acquire(&self.lock(), lock_options(wait))?;
        if !self.is_enrolled() {
            self.enroll(config)?;
        }
        self.write_starter_files(config)?;
        let key = SigningKey::load(&self.identity())?;
        Ok(OpenHome {
            home: self.clone(),
            key,
            _lock: lock,
        })
    }

    fn lay_out(&self) -> Result<()> {
        durable::private_dir(&self.root)?;
        DIRECTORIES
            .iter()
            .try_for_each(|name| durable::private_dir(&self.root.join(name)))
    }

    fn write_starter_files(&self, config: &Config) -> Result<()> {
        self.write_donor_policy(&config.consent)?;
        write_if_absent(&self.submitter_policy(), &gait::starter::submitter_policy())?;
        write_if_absent(&self.keys_policy(), &gait::starter::keys_policy())?;
        write_if_absent(&self.config(), &Config::default().to_toml()?)
    }
}

impl Home {
    /// Whether the donor's policy is as some consent's starter was written.
    pub fn has_starter_donor_policy(&self) -> bool {
        let present = durable::read_private(&self.donor_policy(), MAX_STARTER_BYTES);
        present.is_ok_and(|present| is_starter(&present))
    }

    /// The starter policy for this consent. A starter policy of another consent is replaced, one that the operator has
    /// changed never is.
    fn write_donor_policy(&self, consent: &BTreeSet<String>) -> Result<()> {
        let (path, wanted) = (
            self.donor_policy(),
            starter(consent.iter().map(String::as_str)),
        );
        if path.symlink_metadata().is_err() {
            return write_if_absent(&path, &wanted);
        }
        let present = durable::read_private(&path, MAX_STARTER_BYTES).unwrap_or_default();
        if present == wanted.as_bytes() || !is_starter(&present) {
            return Ok(());
        }
        durable::write_atomic(&path, wanted.as_bytes(), Mode::Private)
    }
}

fn starter<'a>(consent: impl Iterator<Item = &'a str>) -> String {
    gait::starter::donor_policy(&consent.collect::<Vec<_>>())
}

/// Whether a policy is as some consent's starter was written: there are few enough to compare with all.
fn is_starter(policy: &[u8]) -> bool {
    let chosen = |subset: usize| {
        CLASSES
            .iter()
            .enumerate()
            .filter(move |(i, _)| subset >> i & 1 == 1)
            .map(|(_, class)| *class)
    };
    (0..1_usize << CLASSES.len()).any(|subset| starter(chosen(subset)).as_bytes() == policy)
}

/// A home that this process owns until it drops it.
pub struct OpenHome {
    home: Home,
    key: SigningKey,
    _lock: OwnedLock,
}

impl OpenHome {
    /// The paths.
    pub fn paths(&self) -> &Home {
        &self.home
    }

    /// It is a donor's from now on, until that leaves.
    ///
    /// # Errors
    /// What the disk says.
    pub fn mark_donor(&self) -> Result<()> {
        write_if_absent(&self.home.donor_mark(), "")
    }

    /// The node's key.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }
}

fn lock_options(wait: Duration) -> LockOptions {
    LockOptions {
        wait,
        ..LockOptions::default()
    }
}

fn write_if_absent(path: &Path, text: &str) -> Result<()> {
    match durable::create_new(path, text.as_bytes(), Mode::Private) {
        Err(fault) if fault.code() == "already_exists" => Ok(()),
        other => other,
    }
}

fn no_home() -> Fault {
    Fault::new(
        Category::InvalidInput,
        "home_unknown",
        "no home directory is known for this user",
    )
    .hint(format!("set {HOME_VARIABLE} to a directory of your own"))
}

fn already_enrolled(home: &Home) -> Fault {
    Fault::wc(
        WcCode::AlreadyExists,
        format!("a node is already enrolled in {}", home.root.display()),
    )
    .hint("use it as it is, or choose another home with --home")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consenting(classes: &[&str]) -> Config {
        Config {
            consent: classes.iter().map(ToString::to_string).collect(),
            ..Config::default()
        }
    }

    #[test]
    fn a_second_enrolment_is_refused_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("home"));
        home.enroll(&Config::default()).unwrap();
        let before = std::fs::read(home.identity()).unwrap();
        let fault = home.enroll(&Config::default()).unwrap_err();
        assert_eq!(fault.number(), Some(WcCode::AlreadyExists));
        assert_eq!(std::fs::read(home.identity()).unwrap(), before);
    }

    #[test]
    fn the_identity_survives_being_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("home"));
        let first = home.open(&Config::default()).unwrap().key().peer_id();
        let again = home.open(&Config::default()).unwrap().key().peer_id();
        assert_eq!(first, again);
    }

    #[test]
    fn what_the_first_daemon_was_told_by_flags_is_not_told_to_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("home"));
        let told = Config {
            port: 0,
            bootstrap: vec!["/ip4/127.0.0.1/tcp/1".to_owned()],
            circuit_only: true,
            mdns: false,
            slots: 3,
            ..consenting(&["rendering"])
        };
        drop(home.open(&told).unwrap());
        assert_eq!(Config::load(&home.config()).unwrap(), Config::default());
    }

    #[test]
    fn two_daemons_do_not_share_a_home() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("home"));
        let _open = home.open(&Config::default()).unwrap();
        let fault = home.open(&Config::default()).err().unwrap();
        assert_eq!(fault.category(), Category::StateContention);
    }

    #[test]
    fn an_identity_that_others_could_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("home"));
        home.enroll(&Config::default()).unwrap();
        std::fs::set_permissions(home.identity(), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(
            home.open(&Config::default()).err().unwrap().code(),
            "insecure_permissions"
        );
    }

    #[test]
    fn an_untouched_starter_policy_follows_the_consent_and_an_edited_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("home"));
        drop(home.open(&consenting(&["scientific"])).unwrap());
        let first = std::fs::read(home.donor_policy()).unwrap();
        drop(home.open(&consenting(&["rendering"])).unwrap());
        let second = std::fs::read(home.donor_policy()).unwrap();
        assert_ne!(first, second);
        let edited = [second, b"# mine\n".to_vec()].concat();
        durable::write_atomic(&home.donor_policy(), &edited, Mode::Private).unwrap();
        drop(home.open(&consenting(&["general"])).unwrap());
        assert_eq!(std::fs::read(home.donor_policy()).unwrap(), edited);
    }
}
