//! The gate as it is called: its exit codes, and what it says.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

/// The forbidden words, in their order.
fn words() -> Vec<&'static str> {
    let list = include_str!("../forbidden-words.txt");
    list.lines().filter(|line| !line.starts_with('#')).collect()
}

/// A checkout with these files.
fn checkout(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::File::create(path)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }
    root
}

fn xtask(root: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(arguments)
        .arg("--root")
        .arg(root)
        .output()
        .unwrap()
}

/// Exit code, standard output and standard error.
fn tidy(files: &[(&str, &str)], options: &[&str]) -> (i32, String, String) {
    let output = xtask(checkout(files).path(), &[&["tidy"], options].concat());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn a_clean_checkout_passes() {
    let clean = [("crates/a/src/lib.rs", "//! A.\n"), ("README.md", "# A\n")];
    let said = format!("OK: zero {} occurrences\n", words()[0]);
    for options in [&[][..], &["--check-empty"], &["--list"]] {
        assert_eq!(tidy(&clean, options), (0, said.clone(), String::new()));
    }
}

#[test]
fn each_word_is_found_in_shipped_source_with_file_and_line() {
    for word in words() {
        for spelled in [word.to_owned(), word.to_uppercase()] {
            let text = format!("//! A.\n\n// {spelled} (\"x\")\n");
            let (code, _, said) = tidy(&[("crates/a/src/deep/b.rs", &text)], &[]);
            assert_eq!(code, 64, "{spelled}");
            assert!(
                said.contains(&format!("crates/a/src/deep/b.rs:3: the word `{word}`")),
                "{said}"
            );
        }
    }
}

#[test]
fn what_the_contract_names_is_found_as_it_is_written() {
    for line in [
        "unimplemented!()",
        "todo!()",
        "// stubs",
        "// TODO: later",
        "// a placeholder",
        "let stub = 1;",
    ] {
        let (code, _, said) = tidy(&[("crates/a/src/b.rs", &format!("//! A.\n{line}\n"))], &[]);
        assert_eq!(code, 64, "{line}");
        assert!(said.starts_with("crates/a/src/b.rs:2: "), "{said}");
    }
}

#[test]
fn words_are_found_in_every_shipped_place_and_nowhere_else() {
    let line = format!("//! A.\n// {}\n", words()[0]);
    for path in [
        "crates/a/src/x.rs",
        "xtask/src/x.rs",
        "proto/x.proto",
        "crates/adapters/b/src/x.yaml",
    ] {
        assert_eq!(tidy(&[(path, &line)], &[]).0, 64, "{path}");
    }
    for path in [
        "crates/a/tests/x.rs",
        "docs/x.md",
        "xtask/x.txt",
        "target/src/x.rs",
    ] {
        assert_eq!(tidy(&[(path, &line)], &[]).0, 0, "{path}");
    }
}

#[test]
fn an_allowed_word_passes_unless_the_list_must_be_empty() {
    let source = format!("//! A.\n// {}\n", words()[1]);
    let entry = "crates/a/src/b.rs:2 — the name of a format";
    let files = [
        ("crates/a/src/b.rs", source.as_str()),
        (".tidy-allow", entry),
    ];
    assert_eq!(tidy(&files, &[]).0, 0);
    let (code, listed, said) = tidy(&files, &["--list", "--check-empty"]);
    assert_eq!((code, listed.lines().next()), (65, Some(entry)));
    assert!(
        said.contains(".tidy-allow has 1 entries and must be empty"),
        "{said}"
    );
}

#[test]
fn an_entry_that_allows_nothing_fails() {
    let (code, _, said) = tidy(
        &[
            ("crates/a/src/b.rs", "//! A.\n"),
            (".tidy-allow", "crates/a/src/b.rs:1 — gone"),
        ],
        &[],
    );
    assert_eq!(
        (code, said.as_str()),
        (
            1,
            "crates/a/src/b.rs:1: .tidy-allow allows a word here, and there is none\n"
        )
    );
}

#[test]
fn an_entry_without_a_reason_fails() {
    let (code, _, said) = tidy(&[(".tidy-allow", "# why\n\ncrates/a/src/b.rs:1\n")], &[]);
    assert_eq!(
        (code, said.as_str()),
        (1, ".tidy-allow:3: not `path:line — rationale`\n")
    );
}

#[test]
fn every_other_rule_fails_with_one_and_a_word_among_them_with_sixty_four() {
    let long = format!("//! A.\nfn long() {{\n{}}}\n", "    work();\n".repeat(80));
    let root = checkout(&[
        ("crates/a/src/long.rs", &long),
        ("crates/a/src/bare.rs", "fn f() {}\n"),
    ]);
    let own_path = format!(
        "see {}/crates\n",
        root.path().canonicalize().unwrap().display()
    );
    fs::File::create(root.path().join("notes.md"))
        .unwrap()
        .write_all(own_path.as_bytes())
        .unwrap();
    let output = xtask(root.path(), &["tidy"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), said.lines().count()),
        (Some(1), 3),
        "{said}"
    );
    for place in [
        "crates/a/src/long.rs:2: `long` has 82 lines",
        "crates/a/src/bare.rs:1: ",
        "notes.md:1: the machine",
    ] {
        assert!(said.contains(place), "{place} in {said}");
    }
    let word = format!("//! A.\n// {}\n", words()[2]);
    fs::File::create(root.path().join("crates/a/src/word.rs"))
        .unwrap()
        .write_all(word.as_bytes())
        .unwrap();
    assert_eq!(xtask(root.path(), &["tidy"]).status.code(), Some(64));
}

#[test]
fn this_program_passes_its_own_gate() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = tempfile::tempdir().unwrap();
    let copied = Command::new("cp")
        .arg("-r")
        .arg(own)
        .arg(root.path().join("xtask"))
        .status()
        .unwrap();
    assert!(copied.success());
    let output = xtask(root.path(), &["tidy"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_wrong_command_line_says_how_and_exits_with_two() {
    let root = checkout(&[]);
    for arguments in [&[][..], &["fly"], &["tidy", "--fast"], &["ci", "now"]] {
        let output = xtask(root.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("Usage: cargo xtask"));
    }
    assert!(xtask(root.path(), &["--help"]).status.success());
}
