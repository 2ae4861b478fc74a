//! The text files of a checkout.

use std::path::{Path, PathBuf};

use crate::shell::{Failure, Result};

/// Folders that hold nothing that anybody wrote.
const SKIPPED: [&str; 3] = [".git", "node_modules", "target"];

/// A text file, by its path from the root (with slashes).
pub struct TextFile {
    pub path: String,
    pub text: String,
}

impl TextFile {
    /// True for what is built into the product, this program included.
    pub fn is_shipped(&self) -> bool {
        let mut parts = self.path.split('/');
        let kinds = ["benches", "examples", "proto", "src", "tests"];
        match parts.next() {
            Some("proto") => true,
            Some("crates" | "xtask") => matches!(
                parts.find(|part| kinds.contains(part)),
                Some("src" | "proto")
            ),
            _ => false,
        }
    }
}

/// Every text file under `root`, sorted by path. A file that is not UTF-8 is not text.
pub fn all(root: &Path) -> Result<Vec<TextFile>> {
    let mut paths = Vec::new();
    collect(root, &mut paths)
        .map_err(|error| Failure::new(format!("cannot list {}: {error}", root.display())))?;
    paths.sort();
    let files = paths
        .into_iter()
        .filter_map(|path| text_of(root, &path).transpose());
    files.collect()
}

fn collect(dir: &Path, paths: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let skipped = SKIPPED.iter().any(|name| entry.file_name() == *name);
        if kind.is_dir() && !skipped {
            collect(&entry.path(), paths)?;
        } else if kind.is_file() {
            paths.push(entry.path());
        }
    }
    Ok(())
}

fn text_of(root: &Path, path: &Path) -> Result<Option<TextFile>> {
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
    let Ok(text) = String::from_utf8(bytes) else {
        return Ok(None);
    };
    let relative = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
    Ok(Some(TextFile {
        path: parts.join("/"),
        text,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_is_what_is_under_src_or_proto_of_a_crate() {
        let shipped = |path: &str| {
            TextFile {
                path: path.to_owned(),
                text: String::new(),
            }
            .is_shipped()
        };
        for path in [
            "crates/a/src/lib.rs",
            "crates/adapters/x/src/a/tests/b.rs",
            "xtask/src/main.rs",
            "proto/a.proto",
            "crates/a/proto/b.proto",
        ] {
            assert!(shipped(path), "{path}");
        }
        for path in [
            "README.md",
            "src/lib.rs",
            "crates/a/tests/src/x.rs",
            "crates/a/benches/b.rs",
            "crates/a/Cargo.toml",
            "xtask/forbidden-words.txt",
        ] {
            assert!(!shipped(path), "{path}");
        }
    }
}
