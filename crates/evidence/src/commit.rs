//! Which source a run was of.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;

use worldcompute_fault::{Category, Fault, Result};

/// Hexadecimal digits of a commit: SHA-1, and SHA-256 in repositories of that kind.
const DIGITS: [usize; 2] = [40, 64];

/// The name of a commit, in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit(String);

impl FromStr for Commit {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_name = DIGITS.contains(&text.len()) && text.bytes().all(is_hex);
        match is_name && text.bytes().any(|byte| byte != b'0') {
            true => Ok(Self(text.to_owned())),
            false => Err(Fault::new(
                Category::InvalidInput,
                "no_commit",
                format!("{text:?} is no commit"),
            )
            .hint("a commit is named by all of its 40 or 64 hexadecimal digits")),
        }
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Against what the commit of a bundle is checked.
#[derive(Clone, Copy, Debug)]
pub enum Commits<'a> {
    /// It has to be one of this repository's.
    Of(&'a Path),
    /// There is no repository here: it has to look like one.
    Unchecked,
}

impl Commits<'_> {
    /// # Errors
    /// `unknown_commit`; `no_git` when git cannot be asked.
    pub(crate) fn check(&self, commit: &Commit) -> Result<()> {
        let Self::Of(repository) = self else {
            return Ok(());
        };
        let asked = Command::new("git")
            .arg("-C")
            .arg(repository)
            .args(["cat-file", "-e"])
            .arg(format!("{commit}^{{commit}}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        match asked {
            Ok(status) if status.success() => Ok(()),
            Ok(_) => Err(Fault::new(
                Category::VerificationFailed,
                "unknown_commit",
                format!(
                    "metadata.json: git_sha: {commit} is no commit of {}",
                    repository.display()
                ),
            )
            .hint(
                "evidence is of a commit that was pushed; fetch it, or run again on one that is",
            )),
            Err(error) => Err(Fault::new(
                Category::DependencyMissing,
                "no_git",
                format!("cannot ask git about {commit}: {error}"),
            )
            .hint("install git")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_named_in_full_and_is_none_of_the_words_for_none() {
        let sha1 = "0123456789abcdef0123456789abcdef01234567";
        for known in [sha1.to_owned(), "ab".repeat(32)] {
            assert_eq!(known.parse::<Commit>().unwrap().to_string(), known);
        }
        for none in [
            "",
            "unknown",
            "HEAD",
            &sha1[..39],
            &sha1.to_uppercase(),
            &"0".repeat(40),
            &"g".repeat(40),
        ] {
            assert_eq!(
                none.parse::<Commit>().unwrap_err().code(),
                "no_commit",
                "{none}"
            );
        }
    }
}
