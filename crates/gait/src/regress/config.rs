//! `gait.yaml`: the fixtures of a project. It is JSON, which every YAML reader reads.

use std::path::Path;

use serde::{Deserialize, Serialize};
use worldcompute_durable::read_bounded;
use worldcompute_fault::{Fault, Result};
use worldcompute_proof::parse_json_within;

use super::external::External;
use super::fixture::Fixture;
use crate::in_file::InFile;
use crate::limits::{MAX_REGRESS_BYTES, MAX_REGRESS_FIXTURES, at_most, from_value, invalid};

pub(super) const SCHEMA_ID: &str = "gait.regress.config";
pub(super) const VERSION: &str = "1.0.0";
const DEFAULT_SET: &str = "default";
const NOT_FOUND: &str = "config_not_found";

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Config {
    pub(super) schema_id: String,
    pub(super) schema_version: String,
    pub(super) fixture_set: String,
    pub(super) fixtures: Vec<Listed>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) graders: Vec<External>,
}

/// A fixture as the configuration lists it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) run_id: String,
    pub(super) runpack: String,
}

impl Config {
    /// The configuration at `path`, or an empty one where there is none.
    pub(super) fn load_or_new(path: &Path) -> Result<Self> {
        match Self::load(path) {
            Err(fault) if fault.reason() == NOT_FOUND => Ok(Self {
                fixture_set: DEFAULT_SET.to_owned(),
                ..Self::default()
            }),
            loaded => loaded,
        }
    }

    /// Reads the configuration at `path`. One that is not there is a mistake of the caller, who names it.
    pub(super) fn load(path: &Path) -> Result<Self> {
        let bytes = read_bounded(path, MAX_REGRESS_BYTES as u64).map_err(missing)?;
        Self::parse(&bytes).in_file(path)
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let mut config: Self = parse(bytes, "config")?;
        for (what, given, only) in [
            ("schema_id", &config.schema_id, SCHEMA_ID),
            ("schema_version", &config.schema_version, VERSION),
        ] {
            if !given.is_empty() && given != only {
                return Err(invalid(format!("unsupported config {what}: {given}")));
            }
        }
        at_most(
            "fixtures",
            config.fixtures.len(),
            MAX_REGRESS_FIXTURES,
            "invalid_input",
        )?;
        if config.fixture_set.is_empty() {
            DEFAULT_SET.clone_into(&mut config.fixture_set);
        }
        config.fixtures.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(config)
    }

    pub(super) fn load_fixtures(&self) -> Result<Vec<Fixture>> {
        self.fixtures.iter().map(Fixture::load).collect()
    }
}

fn missing(fault: Fault) -> Fault {
    match fault.code() {
        "not_found" => invalid(format!("read config: {}", fault.message())).because(
            NOT_FOUND,
            "make one with gait regress init --from <run_id|path>",
        ),
        _ => fault,
    }
}

/// Reads a small strict JSON file of the format.
pub(super) fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    let value = parse_json_within(bytes, MAX_REGRESS_BYTES)
        .map_err(|fault| invalid(format!("parse {what}: {}", fault.message())))?;
    from_value(&format!("parse {what}"), value)
}
