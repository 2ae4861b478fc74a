//! Regressions: runs that are kept as fixtures, and graders that say whether a new run still does the same.
//!
//! `init` copies a runpack into `fixtures/<name>` and lists it in `gait.yaml`; `run` grades every fixture against its
//! candidate, deterministically and offline. A configuration may list graders that are programs; they run only when
//! the caller allows what need not come out the same again.

mod config;
mod external;
mod fixture;
mod grade;
mod init;
mod junit;
mod source;
mod trajectory;

pub use fixture::Fixture;
pub use grade::{GraderResult, Rules};
pub use init::{Initialised, init};
pub use source::Source;

use std::path::Path;

use serde::{Deserialize, Serialize};
use worldcompute_durable::{Mode, Pending};
use worldcompute_fault::Result;

use crate::artefact;
use crate::limits::invalid;
use crate::record::json_file;
use crate::runpack::Stamp;
use crate::wire_time::WireTime;
use crate::{
    VERSION,
    regress::grade::{grade, named},
};

/// Where the fixtures are listed, unless told otherwise.
pub const CONFIG: &str = "gait.yaml";

/// What all graders found.
#[derive(Clone, Debug, Serialize)]
pub struct RegressResult {
    pub schema_id: &'static str,
    pub schema_version: &'static str,
    pub created_at: Stamp,
    pub producer_version: &'static str,
    pub fixture_set: String,
    pub status: Status,
    pub graders: Vec<GraderResult>,
}

/// Whether it still does the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Pass,
    Fail,
}

impl RegressResult {
    /// How many graders failed.
    pub fn failed(&self) -> usize {
        self.failures().count()
    }

    /// The first reason of the first grader that failed.
    pub fn top_failure_reason(&self) -> Option<&str> {
        let first = self.failures().next()?;
        Some(
            first
                .reason_codes
                .first()
                .map_or("grader_failed", String::as_str),
        )
    }

    fn failures(&self) -> impl Iterator<Item = &GraderResult> {
        let failed = |grader: &&GraderResult| grader.status == Status::Fail;
        self.graders.iter().filter(failed)
    }
}

/// Grades every fixture that `config` lists and writes the result to `output`, and to `junit` for CI systems.
///
/// # Errors
/// `invalid_input` for a configuration or fixture that is not what it should be, and (reason `nondeterministic_grader`)
/// for a grader that is a program unless `rules` allow it: before anything runs. Those of writing.
pub fn run(
    config: &Path,
    output: &Path,
    junit: Option<&Path>,
    rules: Rules,
) -> Result<RegressResult> {
    let config = config::Config::load(config)?;
    external::check(&config.graders, rules.allow_nondeterministic)?;
    let fixtures: Vec<Fixture> = config.load_fixtures()?;
    let Some(first) = fixtures.first() else {
        return Err(invalid("no fixtures configured"));
    };
    let places = Places::reserve(output, junit, &fixtures)?;
    let created_at = first.created_at.or(Stamp::at(WireTime::UNDATED)).utc();
    let conformance = rules.context_conformance || fixtures.iter().any(Fixture::asks_context);
    let mut graders = Vec::new();
    for fixture in &fixtures {
        graders.extend(grade(fixture, rules, conformance));
        let programs = config.graders.iter();
        graders.extend(programs.map(|one| named(fixture, &one.name, one.grade(fixture))));
    }
    graders.sort_by(|a, b| a.name.cmp(&b.name));
    let failed = graders.iter().any(|grader| grader.status == Status::Fail);
    let result = RegressResult {
        schema_id: "gait.regress.result",
        schema_version: "1.0.0",
        created_at,
        producer_version: VERSION,
        fixture_set: config.fixture_set,
        status: if failed { Status::Fail } else { Status::Pass },
        graders,
    };
    places.fill(&result)?;
    Ok(result)
}

/// Places on the disk for the result in all its forms: it is written everywhere or nowhere.
struct Places {
    output: Pending,
    junit: Option<Pending>,
}

impl Places {
    /// Takes the places, of which none may be one of the files that are graded.
    fn reserve(output: &Path, junit: Option<&Path>, fixtures: &[Fixture]) -> Result<Self> {
        let outputs = [("--output", Some(output)), ("--junit", junit)];
        for (flag, path) in outputs
            .into_iter()
            .filter_map(|(flag, path)| Some((flag, path?)))
        {
            let mut files = fixtures.iter().flat_map(Fixture::files);
            if files.any(|file| artefact::is_same(path, &file)) {
                let path = path.display().to_string();
                return Err(artefact::clash(flag, "a fixture", &path));
            }
        }
        Ok(Self {
            output: artefact::reserve(output)?,
            junit: junit.map(artefact::reserve).transpose()?,
        })
    }

    fn fill(self, result: &RegressResult) -> Result<()> {
        self.output.commit(&json_file(result)?, Mode::Private)?;
        let report = junit::report(result);
        let junit = self
            .junit
            .map(|place| place.commit(report.as_bytes(), Mode::Private));
        junit.transpose().map(drop)
    }
}

#[cfg(test)]
mod tests;
