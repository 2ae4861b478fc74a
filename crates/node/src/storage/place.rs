//! Which place a home's store is at: remembered in the home, so that a variable that somebody forgot makes no second,
//! empty store beside the one that holds the data.

use std::fmt;
use std::path::PathBuf;

use blue_encrypted_store::{Aws, Backend, LocalEndpoint, StoreConfig, StorePath};
use serde::{Deserialize, Serialize};
use worldcompute_durable::{Mode, read_private, write_atomic};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{Sha256, canonical_json};

use crate::home::Home;

/// The largest file that says where a store is: names and URLs have limits of their own.
const MAX_MEMORY_BYTES: u64 = 16 << 10;
/// Digits of a digest that tell one place of a home from another.
const NAME_DIGITS: usize = 16;

/// Where a table is, whatever road leads there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "backend", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Place {
    Embedded { table: String },
    Endpoint { url: String, table: String },
    Aws { region: String, table: String },
}

impl Place {
    /// That of a configuration that was resolved.
    pub(super) fn of(config: &StoreConfig) -> Self {
        let table = config.table_name().to_owned();
        match config.backend() {
            Backend::Embedded(_) => Self::Embedded { table },
            Backend::Endpoint(endpoint) => Self::Endpoint {
                url: plain(endpoint.as_str()),
                table,
            },
            Backend::Aws(aws) => Self::Aws {
                region: aws.named_region().unwrap_or_default().to_owned(),
                table,
            },
        }
    }

    /// The one of a home that nobody told anything else.
    pub(super) fn own() -> Self {
        Self::of(&StoreConfig::new(StorePath::Memory))
    }

    /// What files of this place are called; `None` for [`Place::own`].
    pub(super) fn name(&self) -> Result<Option<String>> {
        if *self == Self::own() {
            return Ok(None);
        }
        let digest = Sha256::of(canonical_json(self)?).to_string();
        Ok(digest.get(..NAME_DIGITS).map(ToOwned::to_owned))
    }

    /// The configuration of a store here, in `file` if it is embedded.
    pub(super) fn config(&self, file: PathBuf) -> Result<StoreConfig> {
        let backend = match self {
            Self::Embedded { .. } => Backend::Embedded(StorePath::File(file)),
            Self::Endpoint { url, .. } => Backend::Endpoint(LocalEndpoint::parse(url)?),
            Self::Aws { region, .. } => Backend::Aws(Aws::default().region(region.as_str())),
        };
        Ok(StoreConfig::on(backend).table(self.table()))
    }

    fn table(&self) -> &str {
        match self {
            Self::Embedded { table } | Self::Endpoint { table, .. } | Self::Aws { table, .. } => {
                table
            }
        }
    }

    /// Which variables lead here for somebody who went `there`.
    fn road_from(&self, there: &Self) -> String {
        let mut steps = Vec::new();
        match (self, there) {
            (Self::Embedded { .. }, Self::Embedded { .. }) => {}
            (Self::Endpoint { url, .. }, Self::Endpoint { url: other, .. }) if url == other => {}
            (Self::Aws { region, .. }, Self::Aws { region: other, .. }) if region == other => {}
            (Self::Embedded { .. }, _) => {
                steps.push("take BLUE_PROFILE and DYNAMODB_ENDPOINT out of the environment".into());
            }
            (Self::Endpoint { url, .. }, Self::Aws { .. }) => steps.push(format!(
                "take BLUE_PROFILE out of the environment, set DYNAMODB_ENDPOINT={url}"
            )),
            (Self::Endpoint { url, .. }, _) => steps.push(format!("set DYNAMODB_ENDPOINT={url}")),
            (Self::Aws { region, .. }, Self::Aws { .. }) => {
                steps.push(format!("set AWS_REGION={region}"));
            }
            (Self::Aws { region, .. }, _) => {
                steps.push(format!("set BLUE_PROFILE=aws and AWS_REGION={region}"));
            }
        }
        if self.table() != there.table() {
            steps.push(format!("set BLUE_TABLE={}", self.table()));
        }
        steps.join(", ")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the table {} ", self.table())?;
        match self {
            Self::Embedded { .. } => f.write_str("in the home"),
            Self::Endpoint { url, .. } => write!(f, "at {url}"),
            Self::Aws { region, .. } => write!(f, "in {region} of AWS"),
        }
    }
}

/// Scheme and host are the same in whatever case, and there is nothing behind them but a slash.
fn plain(url: &str) -> String {
    url.trim_end_matches('/').to_ascii_lowercase()
}

/// What a home knows of its store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Memory {
    pub(super) place: Place,
    /// What `BLUE_KEYS` was when it was last opened.
    pub(super) keys: String,
    /// Places that it came from whose audit does not go on here yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) before: Vec<Former>,
}

/// A place that the store was at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Former {
    pub(super) place: Place,
    pub(super) keys: String,
}

impl Memory {
    /// What is known once the store has opened at `place`, wherever it was.
    pub(super) fn now(place: &Place, keys: String, known: Option<&Self>) -> Self {
        let mut before: Vec<_> = known.map(|known| known.before.clone()).unwrap_or_default();
        before.extend(known.map(|known| Former {
            place: known.place.clone(),
            keys: known.keys.clone(),
        }));
        before.retain(|former| former.place != *place);
        Self {
            place: place.clone(),
            keys,
            before,
        }
    }

    /// What the home knows; a database in it says as much by itself.
    ///
    /// # Errors
    /// `place_malformed`, `insecure_permissions`.
    pub(super) fn read(home: &Home) -> Result<Option<Self>> {
        let bytes = match read_private(&home.store_place(), MAX_MEMORY_BYTES) {
            Err(fault) if fault.code() == "not_found" => return Ok(Self::of_database(home)),
            Err(fault) if fault.code() == "file_too_large" => return Err(malformed(home)),
            read => read?,
        };
        let known = serde_json::from_slice(&bytes);
        known.map(Some).map_err(|_| malformed(home))
    }

    fn of_database(home: &Home) -> Option<Self> {
        let is_there = home.store().symlink_metadata().is_ok();
        is_there.then(|| Self {
            place: Place::own(),
            keys: "file".to_owned(),
            before: Vec::new(),
        })
    }

    pub(super) fn write(&self, home: &Home) -> Result<()> {
        write_atomic(&home.store_place(), &canonical_json(self)?, Mode::Private)
    }

    /// Refuses any other place.
    ///
    /// # Errors
    /// `store_elsewhere`.
    pub(super) fn check(&self, place: &Place) -> Result<()> {
        if self.place == *place {
            return Ok(());
        }
        let message = format!("the store of this home is {}, not {place}", self.place);
        let road = self.place.road_from(place);
        Err(
            Fault::new(Category::InvalidInput, "store_elsewhere", message).hint(format!(
                "{road}; to move the store export its partitions there, then 'worldcompute store setup-tables --move' here"
            )),
        )
    }
}

fn malformed(home: &Home) -> Fault {
    let message = format!(
        "{} does not say where the store is",
        home.store_place().display()
    );
    Fault::new(Category::VerificationFailed, "place_malformed", message).hint(
        "put it back from a backup; or delete it, once the environment names the place where the store is",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embedded(table: &str) -> Place {
        Place::of(&StoreConfig::new(StorePath::Memory).table(table))
    }

    fn endpoint(url: &str) -> Place {
        let endpoint = LocalEndpoint::parse(url).unwrap();
        Place::of(&StoreConfig::on(Backend::Endpoint(endpoint)).table("mine"))
    }

    fn aws(region: &str) -> Place {
        let aws = Aws::default().region(region);
        Place::of(&StoreConfig::on(Backend::Aws(aws)).table("mine"))
    }

    fn refused(known: Place, meant: &Place) -> String {
        let keys = "file".to_owned();
        let known = Memory::now(&known, keys, None);
        let fault = known.check(meant).unwrap_err();
        assert_eq!(fault.code(), "store_elsewhere");
        fault.human()
    }

    #[test]
    fn two_spellings_of_an_endpoint_are_one_place() {
        let one = endpoint("http://localhost:8000");
        assert_eq!(one, endpoint("HTTP://LocalHost:8000/"));
        assert_ne!(one, endpoint("http://localhost:8001"));
        assert_ne!(one, endpoint("https://localhost:8000"));
    }

    #[test]
    fn every_place_of_a_home_has_files_of_its_own() {
        let places = [
            embedded("mine"),
            embedded("other"),
            endpoint("http://localhost:8000"),
            endpoint("http://localhost:8001"),
            aws("eu-central-1"),
            aws("us-east-1"),
        ];
        let mut names: Vec<_> = places.iter().map(|place| place.name().unwrap()).collect();
        assert_eq!(Place::own().name().unwrap(), None);
        names.push(None);
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 7);
    }

    #[test]
    fn who_is_elsewhere_is_told_which_variables_lead_back() {
        for (known, meant, road) in [
            (embedded("mine"), embedded("other"), "set BLUE_TABLE=mine"),
            (
                endpoint("http://h:1"),
                embedded("mine"),
                "set DYNAMODB_ENDPOINT=http://h:1",
            ),
            (
                endpoint("http://h:1"),
                embedded("other"),
                "set DYNAMODB_ENDPOINT=http://h:1, set BLUE_TABLE=mine",
            ),
            (
                endpoint("http://h:1"),
                aws("eu-central-1"),
                "take BLUE_PROFILE out of the environment, set DYNAMODB_ENDPOINT=http://h:1",
            ),
            (
                aws("eu-central-1"),
                aws("us-east-1"),
                "set AWS_REGION=eu-central-1",
            ),
            (
                aws("eu-central-1"),
                embedded("mine"),
                "set BLUE_PROFILE=aws and AWS_REGION=eu-central-1",
            ),
            (
                embedded("mine"),
                aws("us-east-1"),
                "take BLUE_PROFILE and DYNAMODB_ENDPOINT out of the environment",
            ),
        ] {
            let told = refused(known, &meant);
            assert!(told.contains(&format!("{road}; to move")), "{told}");
        }
    }

    #[test]
    fn a_place_whose_audit_does_not_go_on_yet_is_remembered_until_the_store_is_back_there() {
        let keys = || "file".to_owned();
        let places = |known: &Memory| {
            let before = known.before.iter().map(|former| former.place.clone());
            before.collect::<Vec<_>>()
        };
        let [one, two, three] = ["one", "two", "three"].map(embedded);
        let known = Memory::now(&one, keys(), None);
        assert_eq!(places(&known), []);
        let known = Memory::now(&two, keys(), Some(&known));
        assert_eq!(places(&known), std::slice::from_ref(&one));
        let known = Memory::now(&two, "tpm2".to_owned(), Some(&known));
        assert_eq!(places(&known), std::slice::from_ref(&one));
        let known = Memory::now(&three, keys(), Some(&known));
        assert_eq!(places(&known), [one.clone(), two.clone()]);
        assert_eq!(known.before[1].keys, "tpm2");
        let known = Memory::now(&one, keys(), Some(&known));
        assert_eq!(places(&known), [two, three]);
    }

    #[test]
    fn what_a_home_knows_is_read_as_it_was_written_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        worldcompute_durable::private_dir(&dir.path().join("store")).unwrap();
        assert_eq!(Memory::read(&home).unwrap(), None);
        let known = Memory::now(&aws("eu-central-1"), "tpm2:/a".to_owned(), None);
        known.write(&home).unwrap();
        assert_eq!(Memory::read(&home).unwrap(), Some(known.clone()));
        let moved = Memory::now(&aws("us-east-1"), "file".to_owned(), Some(&known));
        moved.write(&home).unwrap();
        assert_eq!(Memory::read(&home).unwrap(), Some(moved));
        let long = format!("{{\"keys\":\"{}\"}}", "k".repeat(16 << 10));
        for bad in [
            "",
            "{}",
            "[]",
            "nonsense",
            r#"{"keys":"file"}"#,
            r#"{"keys":"file","place":{"backend":"embedded"}}"#,
            r#"{"keys":"file","place":{"backend":"moon","table":"mine"}}"#,
            r#"{"keys":"file","place":{"backend":"embedded","table":"mine","url":"http://h"}}"#,
            r#"{"keys":"file","place":{"backend":"embedded","table":"mine"},"more":1}"#,
            r#"{"keys":1,"place":{"backend":"embedded","table":"mine"}}"#,
            &long,
        ] {
            write_atomic(&home.store_place(), bad.as_bytes(), Mode::Private).unwrap();
            assert_eq!(
                Memory::read(&home).unwrap_err().code(),
                "place_malformed",
                "{bad:.80}"
            );
        }
    }
}
