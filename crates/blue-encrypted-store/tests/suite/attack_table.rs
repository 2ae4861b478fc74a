//! The table of attacks names tests that exist.

use std::collections::BTreeSet;
use std::path::Path;

fn read(dir: &Path, into: &mut String) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

/// The rows of the tables that have this many columns.
fn rows(page: &str, columns: usize) -> impl Iterator<Item = &str> {
    page.lines()
        .filter(move |line| line.matches('|').count() == columns + 1)
}

/// The tests that the last column of a row names.
fn tests_of(row: &str) -> Vec<&str> {
    let named = row.rsplit('|').nth(1).unwrap_or_default();
    named.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_attack_of_the_table_has_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("../../docs/store/attacks.md")).unwrap();
    let mut source = String::new();
    for folder in ["src", "tests"] {
        read(&root.join(folder), &mut source);
    }
    let has = |name: &str| source.contains(&format!("fn {name}("));
    let (mut attacks, mut numbers, mut tests) = (0, BTreeSet::new(), BTreeSet::new());
    for row in rows(&table, 4) {
        let names = tests_of(row);
        for name in &names {
            assert!(has(name), "there is no test {name}");
        }
        attacks += usize::from(!names.is_empty());
        let number = row.split('|').nth(1).unwrap().trim();
        numbers.extend(
            number
                .strip_prefix('A')
                .and_then(|number| number.parse::<u8>().ok()),
        );
        tests.extend(names);
    }
    assert!(
        numbers.into_iter().eq(1..=25),
        "an attack of the contract is missing"
    );
    println!("{attacks} attacks, {} tests", tests.len());
    assert!(attacks >= 23 && tests.len() >= 40);
    let mut noticed = 0;
    for row in rows(&table, 3) {
        let names = tests_of(row);
        for name in &names {
            assert!(has(name), "nothing notices: there is no test {name}");
        }
        noticed += usize::from(!names.is_empty());
    }
    println!("{noticed} defences taken out");
    assert!(noticed >= 19);
}
