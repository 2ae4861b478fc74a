//! The text files of a checkout.

use std::path::{Path, PathBuf};

use crate::shell::{Failure, Result};

/// Folders that hold nothing that anybody wrote, wherever they are. What `.gitignore` names at the root comes on top.
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
    collect(root, &ignored(root), &mut paths)
        .map_err(|error| Failure::new(format!("cannot list {}: {error}", root.display())))?;
    paths.sort();
    let files = paths
        .into_iter()
        .filter_map(|path| text_of(root, &path).transpose());
    files.collect()
}

/// The lines `/name` of `.gitignore`.
fn ignored(root: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
    let names = text.lines().filter_map(|line| line.strip_prefix('/'));
    names
        .map(|name| root.join(name.trim_end_matches('/')))
        .collect()
}

fn collect(dir: &Path, ignored: &[PathBuf], paths: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if SKIPPED.iter().any(|name| entry.file_name() == *name) || ignored.contains(&entry.path())
        {
            continue;
        }
        if kind.is_dir() {
            collect(&entry.path(), ignored, paths)?;
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

    #[test]
    fn what_git_ignores_at_the_root_is_not_looked_at() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            (".gitignore", "/out\n/.own/\n"),
            ("out/a", ""),
            (".own/b", ""),
            ("crates/out/c", ""),
        ] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::File::create(path)
                .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
                .unwrap();
        }
        let paths: Vec<_> = all(root.path())
            .unwrap()
            .into_iter()
            .map(|file| file.path)
            .collect();
        assert_eq!(paths, [".gitignore", "crates/out/c"]);
    }
}
