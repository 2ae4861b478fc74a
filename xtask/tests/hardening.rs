//! What docs/hardening promises points at files and tests that are there.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// The pages, by name, with their text.
fn pages() -> Vec<(String, String)> {
    let folder = root().join("docs/hardening");
    let mut pages: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    pages.sort();
    pages
}

/// What stands between backticks.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The file that a span names, and the test in it, if it names one; nothing for commands.
fn reference(span: &str) -> Option<(&str, Option<&str>)> {
    let (path, test) = match span.split_once("::") {
        Some((path, test)) => (path, Some(test)),
        None => (span, None),
    };
    let names_a_file = !path.contains(' ') && (path.contains('/') || path.contains(".toml"));
    names_a_file.then_some((path, test))
}

/// What is wrong with a reference. The test of a module may be in one of the files of its folder.
fn broken(root: &Path, path: &str, test: Option<&str>) -> Option<String> {
    let path = root.join(path);
    if !path.is_file() {
        return Some(format!("there is no file {}", path.display()));
    }
    let test = test?;
    let parts = fs::read_dir(path.with_extension("")).into_iter().flatten();
    let mut files = parts.map(|part| part.unwrap().path()).chain([path.clone()]);
    let found = files.any(|file| is_test(&file, test));
    (!found).then(|| format!("there is no test {test} in {}", path.display()))
}

fn is_test(file: &Path, name: &str) -> bool {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.contains(&format!("#[test]\nfn {name}()"))
        || text.contains(&format!("#[test]\n    fn {name}()"))
}

/// The rows of the tables of a page, without head and rule.
fn rows(text: &str) -> Vec<&str> {
    let mut in_body = false;
    let mut rows = Vec::new();
    for line in text.lines() {
        if line.starts_with("|---") {
            in_body = true;
        } else if !line.starts_with('|') {
            in_body = false;
        } else if in_body {
            rows.push(line);
        }
    }
    rows
}

#[test]
fn every_file_and_test_that_is_named_exists() {
    let root = root();
    let mut wrong = Vec::new();
    for (page, text) in pages() {
        for (path, test) in text.lines().flat_map(spans).filter_map(reference) {
            wrong.extend(broken(&root, path, test).map(|what| format!("{page}: {what}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_row_points_at_something() {
    for (page, text) in pages() {
        let rows = rows(&text);
        assert!(rows.len() > 2, "{page} has a table");
        for row in rows {
            assert!(
                spans(row).any(|span| reference(span).is_some()),
                "{page}: {row}"
            );
        }
    }
}

#[test]
fn every_link_leads_to_a_file() {
    let folder = root().join("docs/hardening");
    for (page, text) in pages() {
        for link in text.split("](").skip(1) {
            let target = link.split(')').next().unwrap();
            assert!(folder.join(target).is_file(), "{page}: {target}");
        }
    }
}

#[test]
fn the_pages_of_the_plan_are_all_there() {
    let names: Vec<_> = pages().into_iter().map(|(name, _)| name).collect();
    let planned = [
        "contracts.md",
        "matrix_aws_well_architected.md",
        "matrix_beyond_12_factor.md",
        "matrix_frugal.md",
        "peer_defects.md",
        "release_checklist.md",
        "resource_budgets.md",
        "risk_register.md",
    ];
    assert_eq!(names, planned);
}

#[test]
fn a_reference_to_nothing_is_noticed() {
    let root = root();
    let here = "xtask/tests/hardening.rs";
    assert_eq!(reference("cargo test -p a/b"), None);
    assert_eq!(reference("deny.toml"), Some(("deny.toml", None)));
    assert!(broken(&root, "no/such.rs", None).is_some());
    assert!(broken(&root, here, Some("no_such_test")).is_some());
    assert!(
        broken(&root, here, Some("pages")).is_some(),
        "a function that is no test"
    );
    assert!(broken(&root, here, Some("every_row_points_at_something")).is_none());
    let table = "| a |\n|---|\n| b |\n\n| no head |";
    assert_eq!(rows(table), ["| b |"]);
}
