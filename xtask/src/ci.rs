//! Everything CI does, up to the first failure.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::shell::{Failure, Result, quiet, run as shell, tee};
use crate::{conformance, readme, tidy};

/// The test command of the README, to the letter.
const TESTS: &str = "cargo test --workspace";

type Step = (&'static str, fn(&Path) -> Result<()>);

/// What costs least comes first.
const STEPS: [Step; 10] = [
    ("fmt", |root| shell(root, "cargo fmt --all --check")),
    ("tidy", |root| tidy::run(root, tidy::Options::default())),
    ("deny", deny),
    ("clippy", |root| {
        shell(
            root,
            "cargo clippy --workspace --all-targets -- -D warnings",
        )
    }),
    ("test", test),
    ("hardening", |root| {
        shell(root, "scripts/test_hardening_acceptance.sh")
    }),
    ("conformance", conformance::run_beside),
    ("demo", |root| {
        shell(root, "cargo run --release -- demo --json")
    }),
    ("system", |root| {
        shell(root, "tests/system/lan.sh target/release/worldcompute")
    }),
    ("readme", |root| readme::run(root, &[TESTS])),
];

/// Runs all steps, and prints how long each took.
pub fn run(root: &Path) -> Result<()> {
    walk(root, &STEPS)
}

fn walk(root: &Path, steps: &[Step]) -> Result<()> {
    let mut times = Vec::new();
    for (name, step) in steps {
        println!("\n== {name}");
        let start = Instant::now();
        let done = step(root);
        times.push((*name, start.elapsed()));
        done.map_err(|failure| failed(name, failure, &times))?;
    }
    println!("\n{}ci: every step passed", table(&times));
    Ok(())
}

fn failed(name: &str, failure: Failure, times: &[(&str, Duration)]) -> Failure {
    let message = format!(
        "{}\n\n{}ci: FAILED at step {name}",
        failure.message,
        table(times)
    );
    Failure { message, ..failure }
}

fn table(times: &[(&str, Duration)]) -> String {
    times
        .iter()
        .map(|(name, time)| format!("{name:<12}{:>8.1} s\n", time.as_secs_f64()))
        .collect()
}

/// Licences, bans and sources need the lock file alone. Advisories need a database from the network.
fn deny(root: &Path) -> Result<()> {
    quiet(root, "cargo deny --version").map_err(|failure| {
        Failure::new(format!(
            "{}\ncargo-deny is missing: cargo install cargo-deny --locked",
            failure.message
        ))
    })?;
    shell(
        root,
        "cargo deny check --hide-inclusion-graph bans licenses sources",
    )?;
    match quiet(root, "cargo deny fetch db") {
        Ok(()) => shell(root, "cargo deny check advisories"),
        Err(failure) => {
            println!("skipped: advisories: {}", failure.message);
            Ok(())
        }
    }
}

fn test(root: &Path) -> Result<()> {
    let printed = tee(root, TESTS)?;
    let closing = Closing::of(&printed);
    if closing.results == 0 {
        return Err(Failure::new(format!("`{TESTS}` ran no test")));
    }
    for reason in &closing.skipped {
        println!("{reason}");
    }
    let Closing {
        passed,
        failed,
        ignored,
        results,
        skipped,
    } = closing;
    let skipped = skipped.len();
    println!(
        "{passed} passed, {failed} failed, {ignored} ignored, {skipped} skipped, in {results} test programs"
    );
    Ok(())
}

/// What the closing lines of all test programs come to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Closing {
    passed: u64,
    failed: u64,
    ignored: u64,
    results: u64,
    /// What tests said that could not run on this machine.
    skipped: Vec<String>,
}

impl Closing {
    fn of(printed: &str) -> Self {
        let mut closing = Self::default();
        for line in printed.lines() {
            if let Some(result) = line.strip_prefix("test result: ") {
                closing.add(result);
            } else if let Some(at) = line.find("skipped: ") {
                closing.skipped.extend(line.get(at..).map(str::to_owned));
            }
        }
        closing
    }

    /// `ok. 9 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s`
    fn add(&mut self, result: &str) {
        let words: Vec<&str> = result.split([' ', ';']).collect();
        let count = |what| {
            let at = words
                .iter()
                .position(|word| *word == what)
                .and_then(|at| at.checked_sub(1));
            at.and_then(|at| words.get(at)?.parse::<u64>().ok())
                .unwrap_or(0)
        };
        self.passed += count("passed");
        self.failed += count("failed");
        self.ignored += count("ignored");
        self.results += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_end_at_the_first_failure_and_name_it() {
        let steps: [Step; 3] = [
            ("first", |_| Ok(())),
            ("second", |_| {
                Err(Failure {
                    code: 64,
                    message: "a word".to_owned(),
                })
            }),
            ("third", |_| panic!("not reached")),
        ];
        let failure = walk(Path::new("."), &steps).unwrap_err();
        assert_eq!(failure.code, 64);
        assert!(
            failure.message.starts_with("a word\n")
                && failure.message.ends_with("ci: FAILED at step second")
        );
        assert!(failure.message.contains("first") && !failure.message.contains("third"));
    }

    #[test]
    fn the_closing_lines_of_all_test_programs_are_added_up() {
        let printed = "running 2 tests\n\
            test a ... skipped: no tmpfs here\n\
            test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            skipped: no GPU\n\
            test result: FAILED. 10 passed; 1 failed; 3 ignored; 0 measured; 0 filtered out; finished in 1.00s\n";
        let skipped = vec![
            "skipped: no tmpfs here".to_owned(),
            "skipped: no GPU".to_owned(),
        ];
        assert_eq!(
            Closing::of(printed),
            Closing {
                passed: 12,
                failed: 1,
                ignored: 3,
                results: 2,
                skipped
            }
        );
        assert_eq!(Closing::of("no test here"), Closing::default());
    }
}
