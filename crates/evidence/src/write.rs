//! Making a bundle.

use std::path::{Path, PathBuf};

use worldcompute_durable::{Mode, PendingDir, output_dir};
use worldcompute_fault::{Category, Fault, Result};

use crate::commit::Commits;
use crate::model::{Metadata, Results};
use crate::validate::validate;

/// What a bundle is made of.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The phase of the project that it belongs to.
    pub phase: u8,
    /// Which run this was.
    pub metadata: Metadata,
    /// What came of it.
    pub results: Results,
    /// What happened, for people.
    pub run_log: String,
    /// One JSON value a line, where there is a trace.
    pub trace: Option<String>,
    /// Where to start reading, in Markdown.
    pub index: String,
}

impl Bundle {
    /// Writes `root/phase<N>/<area>/<when it started>` and returns that path. What is there is a valid bundle, or is not
    /// there.
    ///
    /// # Errors
    /// Those of [`validate`]; `already_exists`; `state_contention`; those of writing.
    pub fn write(&self, root: &Path) -> Result<PathBuf> {
        let phase = format!("phase{}", self.phase);
        let above = root.join(phase).join(self.metadata.area.as_str());
        output_dir(&above)?;
        let place = above.join(
            self.metadata
                .started_at
                .strftime("%Y%m%dT%H%M%SZ")
                .to_string(),
        );
        let draft = PendingDir::begin(&place)?;
        for (name, text) in self.files()? {
            draft.write(name, text.as_bytes(), Mode::Public)?;
        }
        validate(draft.path(), Commits::Unchecked)?;
        draft.publish()?;
        Ok(place)
    }

    fn files(&self) -> Result<Vec<(&'static str, String)>> {
        let mut files = vec![
            ("run.log", self.run_log.clone()),
            ("metadata.json", json(&self.metadata)?),
            ("results.json", json(&self.results)?),
            ("index.md", self.index.clone()),
        ];
        files.extend(self.trace.clone().map(|trace| ("trace.jsonl", trace)));
        Ok(files)
    }
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n").map_err(|error| {
        Fault::new(
            Category::InternalFailure,
            "unprintable_result",
            error.to_string(),
        )
    })
}
