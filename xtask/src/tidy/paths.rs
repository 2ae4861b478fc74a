//! Paths of the machine this was written on: a reader elsewhere cannot follow them.

use std::path::{Path, PathBuf};

use super::Finding;
use super::files::TextFile;

/// Folders that every machine has: being checked out right below one makes it no path of this machine.
const COMMON: [&str; 8] = [
    "/", "/home", "/mnt", "/opt", "/root", "/srv", "/tmp", "/var/tmp",
];

/// The checkout, the folder it stands in, and where cargo and rustup keep their things.
pub fn of_this_machine(root: &Path) -> Vec<String> {
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let home = |folder: &str| variable("HOME").map(|home| home.join(folder));
    let parent = root.parent().map(Path::to_owned);
    let candidates = [
        Some(root),
        parent,
        variable("CARGO_HOME").or_else(|| home(".cargo")),
        variable("RUSTUP_HOME").or_else(|| home(".rustup")),
    ];
    let own = candidates
        .into_iter()
        .flatten()
        .filter(|path| path.is_absolute());
    let own = own.map(|path| path.to_string_lossy().into_owned());
    own.filter(|path| !COMMON.contains(&path.as_str()))
        .map(|path| format!("{path}/"))
        .collect()
}

/// Every line that names one of `paths` (each with a slash at its end).
pub fn find(files: &[TextFile], paths: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        for (text, line) in file.text.lines().zip(1..) {
            if let Some(path) = paths.iter().find(|path| names(text, path)) {
                findings.push(Finding {
                    path: file.path.clone(),
                    line,
                    what: format!("the machine path `{path}`"),
                });
            }
        }
    }
    findings
}

/// True when `path` begins in `text` where a path can begin: `/a/b/` is not in `x/a/b/`.
fn names(text: &str, path: &str) -> bool {
    let is_inner = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '~' | '}');
    text.match_indices(path)
        .any(|(start, _)| !text.split_at(start).0.ends_with(is_inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_where_one_begins() {
        let found = |text: &str| names(text, "/build/checkout/");
        for text in [
            "/build/checkout/x",
            "see `/build/checkout/src`",
            "file:///build/checkout/a",
            "(/build/checkout/)",
        ] {
            assert!(found(text), "{text}");
        }
        for text in [
            "/build/checkout",
            "crates/build/checkout/x",
            "/build/checkouts/",
            "~/build/checkout/",
            "{}/build/checkout/x",
        ] {
            assert!(!found(text), "{text}");
        }
    }

    #[test]
    fn the_checkout_and_the_folder_around_it_are_of_this_machine() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("checkout");
        std::fs::create_dir(&root).unwrap();
        let paths = of_this_machine(&root);
        assert!(paths.contains(&format!("{}/", root.display())));
        assert!(paths.contains(&format!("{}/", outer.path().display())));
        assert!(!of_this_machine(outer.path()).contains(&"/tmp/".to_owned()));
    }

    #[test]
    fn a_finding_names_file_line_and_path() {
        let file = TextFile {
            path: "docs/a.md".to_owned(),
            text: "one\nsee /build/here/x\n".to_owned(),
        };
        let found = find(&[file], &["/build/here/".to_owned()]);
        assert_eq!(
            found.iter().map(Finding::to_string).collect::<Vec<_>>(),
            ["docs/a.md:2: the machine path `/build/here/`"]
        );
    }
}
