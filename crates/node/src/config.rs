//! `config.toml`: what the operator of a node may choose. Unknown keys are refused, so that a misspelt limit is not silently ignored.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use blue_encrypted_store::{DEFAULT_PARTITION_BYTES, PARTITION_BYTES_RANGE};
use serde::{Deserialize, Serialize};
use worldcompute_durable as durable;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_microvm as microvm;
use worldcompute_scheduler::manifest::CLASSES;

/// Environment variable with a comma-separated list of bootstrap multiaddrs.
pub const SEEDS_VARIABLE: &str = "WORLDCOMPUTE_BOOTSTRAP_SEEDS";

/// Relays that this build knows, comma-separated, out of the variable of that name when it was built. Without it, a
/// build knows none.
pub const PUBLIC_LIBP2P_BOOTSTRAP_RELAYS: Option<&str> =
    option_env!("PUBLIC_LIBP2P_BOOTSTRAP_RELAYS");

/// The largest configuration file that is read, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 64 * 1024;

/// The most bootstrap addresses that are taken.
pub const MAX_BOOTSTRAP: usize = 64;

/// The most addresses of its own that a node may be given.
pub const MAX_EXTERNAL: usize = 16;

/// For how long a relay may grant a reservation, in seconds.
pub const RESERVATION_S: RangeInclusive<u32> = 5..=86_400;

/// After how long on a worse connection a better one may be tried first, in seconds.
pub const UPGRADE_AFTER_S: RangeInclusive<u32> = 1..=86_400;

/// The most tasks that one node may be told to run at once.
pub const MAX_SLOTS: usize = 1024;

/// The longest time for which jobs that have ended can be kept, in days.
pub const MAX_RETENTION_DAYS: u32 = 36_500;

/// The port on which a node listens for TCP and QUIC unless told otherwise.
pub const DEFAULT_PORT: u16 = 19999;

/// The choices of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Port for TCP and QUIC; 0 takes any free one.
    pub port: u16,
    /// Multiaddrs (with `/p2p/<peer id>`) of relays or peers to join through.
    pub bootstrap: Vec<String>,
    /// Join through the relays that this build knows, where none are named.
    pub default_relays: bool,
    /// Listen on nothing but relay circuits.
    pub circuit_only: bool,
    /// Find peers on the local network by multicast DNS.
    pub mdns: bool,
    /// Addresses under which others reach this node, beside those that it listens on: a public name, a forwarded port.
    pub external: Vec<String>,
    /// Port for WebSocket over TLS, which passes where nothing but the web does; usually 443.
    pub wss_port: Option<u16>,
    /// Seconds for which a relay grants a reservation; renewed at three quarters of it.
    pub reservation_s: u32,
    /// Seconds on a connection that is not the best kind before a better one is tried; then after twice as long, and so on up
    /// to ten times as long.
    pub upgrade_after_s: u32,
    /// PEM chain to show there; with none, the node makes a certificate that its addresses name.
    pub tls_cert: Option<PathBuf>,
    /// PEM key of that chain.
    pub tls_key: Option<PathBuf>,
    /// Take certificates of boxes on the way that this machine trusts. They see what a firewall sees, and no content.
    pub dangerously_allow_ssl_inspection: bool,
    /// Look up names by DNS over HTTPS alone: nothing is sent to port 53.
    pub doh_only: bool,
    /// Resolvers over HTTPS, as `name@ip[:port]`; with none, those of Cloudflare and Google.
    pub doh: Vec<String>,
    /// PEM file of authorities that may vouch for them, beside the public ones.
    pub doh_authorities: Option<PathBuf>,
    /// Acceptable-use classes this donor runs.
    pub consent: BTreeSet<String>,
    /// How many tasks may run at once; 0 means one per core.
    pub slots: usize,
    /// The largest memory one task may ask for, in MiB.
    pub max_task_memory_mb: u64,
    /// Bytes of content (modules, inputs, outputs) kept on disk.
    pub content_bytes: u64,
    /// Bytes that the records of one partition of the store may have, unless `BLUE_PARTITION_BYTES` says: of one job, of one
    /// session of an agent. A partition is read whole, into memory.
    pub partition_bytes: u64,
    /// Days for which the records of a job are kept after its end. Its evidence stays longer.
    pub retention_days: u32,
    /// Run images, where this machine can: each in a virtual machine of its own.
    pub images: bool,
    /// Bytes of disks that were made of images and are kept, so that the next task finds its own.
    pub rootfs_bytes: u64,
    /// OTLP/HTTP endpoint for traces and metrics.
    pub otlp_endpoint: Option<String>,
    /// Which kernel and which hypervisors images run on.
    pub microvm: microvm::Config,
    /// When this machine is its owner's alone, and what becomes of the tasks then.
    #[serde(rename = "yield")]
    pub yields: worldcompute_preempt::Settings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            port: DEFAULT_PORT,
            bootstrap: Vec::new(),
            default_relays: true,
            circuit_only: false,
            mdns: true,
            external: Vec::new(),
            wss_port: None,
            reservation_s: 120,
            upgrade_after_s: 60,
            tls_cert: None,
            tls_key: None,
            dangerously_allow_ssl_inspection: false,
            doh_only: false,
            doh: Vec::new(),
            doh_authorities: None,
            consent: ["scientific", "general"].map(String::from).into(),
            slots: 0,
            max_task_memory_mb: 1024,
            content_bytes: 8 << 30,
            partition_bytes: DEFAULT_PARTITION_BYTES,
            retention_days: 30,
            images: true,
            rootfs_bytes: 8 << 30,
            otlp_endpoint: None,
            microvm: microvm::Config::default(),
            yields: worldcompute_preempt::Settings::default(),
        }
    }
}

impl Config {
    /// Reads the file, or the defaults where there is none; bootstrap seeds of the environment are added.
    ///
    /// # Errors
    /// `config_invalid` naming the line, `insecure_permissions` when others could write it.
    pub fn load(path: &Path) -> Result<Self> {
        let mut config = match path.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => Self::default(),
            _ => Self::parse(&durable::read_private(path, MAX_CONFIG_BYTES)?)?,
        };
        config
            .bootstrap
            .extend(seeds_of(std::env::var_os(SEEDS_VARIABLE).as_deref())?);
        config.checked().map_err(in_file)
    }

    /// The same, as the text of `config.toml`.
    pub fn to_toml(&self) -> Result<String> {
        let body = toml::to_string(self).map_err(|error| invalid(error.to_string()))?;
        Ok(format!(
            "# The choices of this node. Unknown keys are refused.\n{body}"
        ))
    }

    /// Whom to join through: those that were named, else those that this build knows.
    pub fn relays(&self) -> Vec<String> {
        self.relays_or(PUBLIC_LIBP2P_BOOTSTRAP_RELAYS)
    }

    fn relays_or(&self, built_in: Option<&str>) -> Vec<String> {
        match built_in {
            Some(known) if self.bootstrap.is_empty() && self.default_relays => listed(known),
            _ => self.bootstrap.clone(),
        }
    }

    /// The number of tasks that may run at once.
    pub fn effective_slots(&self) -> usize {
        match self.slots {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            slots => slots,
        }
    }

    /// For how long the records of a job are kept after its end.
    pub fn retention(&self) -> Duration {
        Duration::from_secs(u64::from(self.retention_days) * 86_400)
    }

    /// Refuses values that could not work.
    ///
    /// # Errors
    /// `config_invalid`; its message begins with the name of the setting, which is also that of its flag.
    pub fn checked(self) -> Result<Self> {
        let known = |class: &&String| !CLASSES.contains(&class.as_str());
        if let Some(class) = self.consent.iter().find(known) {
            return Err(invalid(format!("consent: {class:?} is no class of work"))
                .hint(format!("classes are {}", CLASSES.join(", "))));
        }
        if self.bootstrap.len() > MAX_BOOTSTRAP {
            return Err(
                invalid(format!("bootstrap: more than {MAX_BOOTSTRAP} addresses")).hint(format!(
                    "name fewer; those of config.toml, of --bootstrap and of {SEEDS_VARIABLE} count together"
                )),
            );
        }
        if self.external.len() > MAX_EXTERNAL {
            let many = format!("external: more than {MAX_EXTERNAL} addresses");
            return Err(invalid(many).hint("name fewer"));
        }
        if self.wss_port.is_some() && self.circuit_only {
            return Err(invalid(
                "wss_port: listens, and circuit_only listens on nothing".to_owned(),
            )
            .hint("give one of them"));
        }
        if self.wss_port == Some(self.port) && self.port != 0 {
            let port = self.port;
            return Err(invalid(format!("wss_port: {port} is the port for TCP too"))
                .hint("give each a port of its own"));
        }
        if self.tls_cert.is_some() && self.wss_port.is_none() {
            return Err(
                invalid("tls_cert: nobody is shown it without wss_port".to_owned())
                    .hint("listen with --wss-listen, or leave the certificate out"),
            );
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            let (given, missing) = match self.tls_cert {
                Some(_) => ("tls_cert", "tls_key"),
                None => ("tls_key", "tls_cert"),
            };
            return Err(invalid(format!("{given}: given without {missing}"))
                .hint("give the chain and its key, or neither"));
        }
        within("reservation_s", self.reservation_s, &RESERVATION_S)?;
        within("upgrade_after_s", self.upgrade_after_s, &UPGRADE_AFTER_S)?;
        if self.slots > MAX_SLOTS {
            return Err(invalid(format!("slots: {} are too many", self.slots))
                .hint(format!("give at most {MAX_SLOTS}, or 0 for one per core")));
        }
        if !PARTITION_BYTES_RANGE.contains(&self.partition_bytes) {
            let bytes = self.partition_bytes;
            let [least, most] = [PARTITION_BYTES_RANGE.start(), PARTITION_BYTES_RANGE.end()];
            return Err(invalid(format!("partition_bytes: {bytes} is out of range"))
                .hint(format!("give {least} to {most} bytes")));
        }
        if !(1..=MAX_RETENTION_DAYS).contains(&self.retention_days) {
            let days = self.retention_days;
            return Err(invalid(format!("retention_days: {days} is out of range"))
                .hint(format!("give 1 to {MAX_RETENTION_DAYS} days")));
        }
        self.yields.check()?;
        Ok(self)
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let text =
            std::str::from_utf8(bytes).map_err(|_| in_file(invalid("not UTF-8".to_owned())))?;
        toml::from_str(text)
            .map_err(|error| in_file(invalid(error.to_string().trim_end().to_owned())))
    }
}

fn within(setting: &str, seconds: u32, range: &RangeInclusive<u32>) -> Result<()> {
    if range.contains(&seconds) {
        return Ok(());
    }
    let [least, most] = [range.start(), range.end()];
    Err(invalid(format!("{setting}: {seconds} is out of range"))
        .hint(format!("give {least} to {most} seconds")))
}

fn seeds_of(variable: Option<&OsStr>) -> Result<Vec<String>> {
    let text = variable.unwrap_or_default().to_str().ok_or_else(|| {
        invalid(format!("{SEEDS_VARIABLE}: not UTF-8")).hint("separate the multiaddrs by commas")
    })?;
    Ok(listed(text))
}

fn listed(text: &str) -> Vec<String> {
    let addresses = text.split(',').map(str::trim);
    addresses
        .filter(|address| !address.is_empty())
        .map(String::from)
        .collect()
}

fn invalid(what: String) -> Fault {
    Fault::new(Category::InvalidInput, "config_invalid", what)
        .hint("mend config.toml, or remove it to start from the defaults")
}

/// A fault of what stands in the file, not of a flag.
fn in_file(fault: Fault) -> Fault {
    let hint = fault.hint_text().to_owned();
    invalid(format!("config.toml: {}", fault.message())).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_written_defaults_read_back_as_the_defaults() {
        let text = Config::default().to_toml().unwrap();
        assert_eq!(Config::parse(text.as_bytes()).unwrap(), Config::default());
    }

    #[test]
    fn a_misspelt_key_is_refused_by_name() {
        let fault = Config::parse(b"slotz = 4\n").unwrap_err();
        assert_eq!(fault.code(), "config_invalid");
        assert!(fault.message().contains("slotz"), "{}", fault.message());
    }

    #[test]
    fn an_unknown_class_and_one_slot_too_many_are_refused_and_blamed_on_the_file_only_where_they_stand_in_it()
     {
        let consents = Config {
            consent: ["mining".to_owned()].into(),
            ..Config::default()
        };
        let slots = |slots| Config {
            slots,
            ..Config::default()
        };
        assert!(slots(MAX_SLOTS).checked().is_ok());
        for (config, setting) in [(consents, "consent: "), (slots(MAX_SLOTS + 1), "slots: ")] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("config.toml");
            durable::write_atomic(
                &path,
                config.to_toml().unwrap().as_bytes(),
                durable::Mode::Private,
            )
            .unwrap();
            let in_file = Config::load(&path).unwrap_err();
            let alone = config.checked().unwrap_err();
            assert!(alone.message().starts_with(setting), "{}", alone.message());
            assert_eq!(
                in_file.message(),
                format!("config.toml: {}", alone.message())
            );
            assert_eq!(in_file.hint_text(), alone.hint_text());
        }
    }

    #[test]
    fn jobs_are_kept_for_a_day_at_least_and_a_century_at_most() {
        let days = |retention_days| Config {
            retention_days,
            ..Config::default()
        };
        assert_eq!(Config::default().retention().as_secs(), 30 * 24 * 3_600);
        for kept in [1, MAX_RETENTION_DAYS] {
            assert!(days(kept).checked().is_ok());
        }
        for refused in [0, MAX_RETENTION_DAYS + 1] {
            let fault = days(refused).checked().unwrap_err();
            assert!(fault.message().starts_with("retention_days: "));
        }
    }

    #[test]
    fn a_partition_has_a_megabyte_at_least() {
        let of = |partition_bytes| Config {
            partition_bytes,
            ..Config::default()
        };
        for taken in [*PARTITION_BYTES_RANGE.start(), *PARTITION_BYTES_RANGE.end()] {
            assert!(of(taken).checked().is_ok());
        }
        for refused in [0, PARTITION_BYTES_RANGE.start() - 1, u64::MAX] {
            let fault = of(refused).checked().unwrap_err();
            assert!(fault.message().starts_with("partition_bytes: "));
        }
    }

    #[test]
    fn a_relay_grants_reservations_of_five_seconds_at_least_and_a_day_at_most() {
        let granting = |reservation_s| Config {
            reservation_s,
            ..Config::default()
        };
        for granted in [*RESERVATION_S.start(), *RESERVATION_S.end()] {
            assert!(granting(granted).checked().is_ok());
        }
        for refused in [RESERVATION_S.start() - 1, RESERVATION_S.end() + 1] {
            let fault = granting(refused).checked().unwrap_err();
            assert!(fault.message().starts_with("reservation_s: "));
        }
    }

    #[test]
    fn nobody_looks_for_better_connections_all_the_time_or_never() {
        let after = |upgrade_after_s| Config {
            upgrade_after_s,
            ..Config::default()
        };
        for taken in [*UPGRADE_AFTER_S.start(), *UPGRADE_AFTER_S.end()] {
            assert!(after(taken).checked().is_ok());
        }
        for refused in [0, UPGRADE_AFTER_S.end() + 1] {
            let fault = after(refused).checked().unwrap_err();
            assert!(fault.message().starts_with("upgrade_after_s: "));
        }
    }

    #[test]
    fn one_bootstrap_address_too_many_is_refused() {
        let at = |n| Config {
            bootstrap: vec!["/ip4/127.0.0.1/tcp/1".into(); n],
            ..Config::default()
        };
        assert!(at(MAX_BOOTSTRAP).checked().is_ok());
        assert!(at(MAX_BOOTSTRAP + 1).checked().is_err());
    }

    #[test]
    fn the_relays_of_the_build_are_joined_only_where_none_are_named_and_they_are_wanted() {
        let config = |bootstrap: &[&str], default_relays| Config {
            bootstrap: bootstrap.iter().map(ToString::to_string).collect(),
            default_relays,
            ..Config::default()
        };
        let built_in = Some("/dnsaddr/relays.example, /ip4/192.0.2.1/tcp/1");
        let known = ["/dnsaddr/relays.example", "/ip4/192.0.2.1/tcp/1"];
        assert_eq!(config(&[], true).relays_or(built_in), known);
        assert_eq!(config(&["/a"], true).relays_or(built_in), ["/a"]);
        assert!(config(&[], false).relays_or(built_in).is_empty());
        assert!(config(&[], true).relays_or(None).is_empty());
        assert!(Config::default().default_relays);
    }

    #[test]
    fn seeds_are_split_at_commas_and_blanks_are_dropped() {
        let seeds = |text: &str| seeds_of(Some(OsStr::new(text))).unwrap();
        assert_eq!(seeds(" /a , ,/b"), ["/a", "/b"]);
        assert!(seeds_of(None).unwrap().is_empty());
    }

    #[test]
    fn seeds_that_are_no_text_are_refused_by_the_name_of_their_variable() {
        use std::os::unix::ffi::OsStrExt;
        let fault = seeds_of(Some(OsStr::from_bytes(b"/a,\xff"))).unwrap_err();
        assert!(fault.message().starts_with(SEEDS_VARIABLE));
    }

    #[test]
    fn a_configuration_that_cannot_be_looked_at_is_not_taken_for_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        durable::write_atomic(&file, b"", durable::Mode::Private).unwrap();
        assert!(Config::load(&file.join("config.toml")).is_err());
        assert!(Config::load(&directory.path().join("config.toml")).is_ok());
    }
}
