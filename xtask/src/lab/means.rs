//! What a scenario is played with, and what it comes to.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::claim::Claim;
use super::namespace::Namespace;
use super::node::Node;
use super::stop::Stop;
use crate::shell::{Failure, Result};

/// The programs of a scenario.
#[derive(Clone)]
pub struct Means {
    /// The node to try.
    pub worldcompute: PathBuf,
    /// Calls a peer again and again: the example of that name in `crates/mesh`.
    pub caller: PathBuf,
    /// A thousand peers in one process: the example of that name.
    pub crowd: PathBuf,
    /// Takes tasks and runs none: the example of that name.
    pub idler: PathBuf,
}

/// A scenario under way.
pub struct Run<'a> {
    label: &'static str,
    claim: &'a Claim,
    means: &'a Means,
    stop: &'a Stop,
}

/// What a scenario came to.
pub struct Report {
    /// For machines.
    pub data: Value,
    /// For a reader.
    pub text: String,
    /// What was promised and is not so.
    pub broken: Vec<String>,
}

impl Means {
    /// The same with another program for nodes.
    pub fn with(&self, worldcompute: PathBuf) -> Self {
        Self {
            worldcompute,
            ..self.clone()
        }
    }

    /// Those that are named, else those that were built beside this program.
    pub fn find(worldcompute: Option<PathBuf>) -> Result<Self> {
        let node = worldcompute.map_or_else(|| beside_this_program("worldcompute"), Ok)?;
        let example = |name: &str| {
            let path = beside_this_program(&format!("examples/{name}"))?;
            there(&path, "cargo build -p worldcompute-mesh --examples")
        };
        Ok(Self {
            worldcompute: there(&node, "cargo build -p worldcompute")?,
            caller: example("caller")?,
            crowd: example("crowd")?,
            idler: example("idler")?,
        })
    }
}

impl<'a> Run<'a> {
    /// One whose files are in a folder of that label.
    pub fn of(label: &'static str, claim: &'a Claim, means: &'a Means, stop: &'a Stop) -> Self {
        Self {
            label,
            claim,
            means,
            stop,
        }
    }

    /// The home of a node, whether it was started or not.
    pub fn home(&self, name: &str) -> Result<PathBuf> {
        self.claim.dir(&format!("{}/{name}", self.label))
    }

    /// Starts a node, and waits until it is up.
    pub fn start<'n>(
        &'n self,
        host: &'n Namespace,
        name: &str,
        words: &[&str],
    ) -> Result<Node<'n>> {
        let home = self.home(name)?;
        let node = Node::start(host, &self.means.worldcompute, home, words, self.stop)?;
        node.map_err(|why| Failure::new(format!("{name}: {why}")))
    }
}

impl Report {
    /// Prints it, and fails when something that was promised is not so.
    pub fn tell(&self, json: bool) -> Result<()> {
        match json {
            true => println!("{}", self.data),
            false => print!("{}", self.text),
        }
        self.verdict()
    }

    /// Fails when something that was promised is not so.
    pub fn verdict(&self) -> Result<()> {
        match self.broken.as_slice() {
            [] => Ok(()),
            broken => Err(Failure::new(format!(
                "broken: {}",
                broken.join("\nbroken: ")
            ))),
        }
    }
}

/// A program that was built with this one.
pub fn beside_this_program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe();
    let own = own.map_err(|error| Failure::new(format!("cannot find this program: {error}")))?;
    Ok(own.with_file_name(name))
}

/// The path from the root, which means the same everywhere.
pub fn there(path: &Path, build: &str) -> Result<PathBuf> {
    let missing = |error: std::io::Error| {
        Failure::new(format!("{}: {error}\nbuild it: {build}", path.display()))
    };
    path.canonicalize().map_err(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_that_is_broken_fails_the_run_and_is_named() {
        let report = |broken: &[&str]| Report {
            data: Value::Null,
            text: String::new(),
            broken: broken.iter().map(ToString::to_string).collect(),
        };
        assert!(report(&[]).verdict().is_ok());
        let failure = report(&["a gap", "a loss"]).verdict().unwrap_err();
        assert_eq!(failure.message, "broken: a gap\nbroken: a loss");
    }

    #[test]
    fn what_was_not_built_is_said_with_the_command_that_builds_it() {
        let failure = there(Path::new("/nowhere/caller"), "cargo build").unwrap_err();
        assert!(failure.message.ends_with("build it: cargo build"));
    }
}
