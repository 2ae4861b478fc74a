//! Everything CI does, up to the first failure.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use crate::beside::Beside;
use crate::shell::{Failure, Result, quiet, run as shell, tee};
use crate::{conformance, readme, tidy};

/// The test command of the README, to the letter.
const TESTS: &str = "cargo test --workspace";

/// The same, and what tests printed that passed: one that could not run on this machine says why.
const TELLING_TESTS: &str = "cargo test --workspace -- --show-output";

/// Names the system tests, separated by commas, that may be skipped where [`CI`] is set: elsewhere they all may.
const MAY_SKIP: &str = "WC_MAY_SKIP";

/// Set on machines that are there to run all of it.
const CI: &str = "CI";

type Step = (&'static str, fn(&Path) -> Result<Skipped>);

/// System tests that could not run on this machine, with the reason that each gives.
type Skipped = Vec<String>;

/// What is built with optimisation: it is built while tests wait for each other, and by no step alone.
#[cfg(target_os = "linux")]
const RELEASES: [&str; 2] = [
    "cargo build --release --quiet",
    // With its own features, as who installs it builds it.
    "cargo build --release --quiet -p gait",
];

/// What costs least comes first; then all programs are built.
const CHECKS: [Step; 5] = [
    ("fmt", |root| whole(shell(root, "cargo fmt --all --check"))),
    ("tidy", |root| {
        whole(tidy::run(root, tidy::Options::default()))
    }),
    ("deny", |root| whole(deny(root))),
    ("clippy", |root| {
        whole(shell(
            root,
            "cargo clippy --workspace --all-targets -- -D warnings",
        ))
    }),
    ("build", |root| {
        whole(shell(root, "cargo test --workspace --no-run --quiet"))
    }),
];

/// What is done with them.
const TRIALS: [Step; 4] = [
    ("store", store),
    ("microvm", |root| system_test(root, "microvm", "")),
    ("hardening", |root| {
        whole(shell(root, "scripts/test_hardening_acceptance.sh"))
    }),
    ("conformance", |root| whole(conformance::run_beside(root))),
];

/// What is done with the programs that others get.
const RELEASED: [Step; 4] = [
    ("demo", |root| {
        whole(shell(root, "cargo run --release -- demo --json"))
    }),
    ("system", system),
    ("budgets", |root| {
        whole(shell(root, "scripts/check_resource_budgets.sh"))
    }),
    ("readme", |root| whole(readme::run(root, &[TESTS]))),
];

/// A step that skips nothing.
fn whole(done: Result<()>) -> Result<Skipped> {
    done.map(|()| Vec::new())
}

/// Runs all steps, and prints how long each took.
pub fn run(root: &Path) -> Result<()> {
    let mut walk = Walk::default();
    walk.all(root, &CHECKS)?;
    #[cfg(target_os = "linux")]
    let releases = releases(root)?;
    walk.step("test", || whole(test(root)))?;
    #[cfg(target_os = "linux")]
    let held = hold(root)?;
    walk.all(root, &TRIALS)?;
    #[cfg(target_os = "linux")]
    walk.step("release", || {
        whole(releases.into_iter().try_for_each(Beside::finish))
    })?;
    walk.all(root, &RELEASED)?;
    #[cfg(target_os = "linux")]
    walk.step("hold", || end(held))?;
    println!("\n{}{}", table(&walk.times), verdict(&walk.skipped));
    Ok(())
}

/// How far it has come.
#[derive(Default)]
struct Walk {
    times: Vec<(&'static str, Duration)>,
    skipped: Skipped,
}

impl Walk {
    fn all(&mut self, root: &Path, steps: &[Step]) -> Result<()> {
        let mut steps = steps.iter();
        steps.try_for_each(|(name, step)| self.step(name, || step(root)))
    }

    fn step(&mut self, name: &'static str, step: impl FnOnce() -> Result<Skipped>) -> Result<()> {
        println!("\n== {name}");
        let start = Instant::now();
        let done = step();
        self.times.push((name, start.elapsed()));
        let skipped = done.map_err(|failure| failed(name, failure, &self.times))?;
        self.skipped.extend(skipped);
        Ok(())
    }
}

/// The programs with optimisation, beside what comes after. Cargo builds one after the other.
#[cfg(target_os = "linux")]
fn releases(root: &Path) -> Result<Vec<Beside>> {
    let starts = RELEASES.iter().map(|line| Beside::patiently(root, line));
    starts.collect()
}

/// Ten minutes in which reservations are held, beside what comes after: they are spent with waiting. Or why not.
#[cfg(target_os = "linux")]
fn hold(root: &Path) -> Result<std::result::Result<Beside, String>> {
    if let Some(why) = crate::lab::missing() {
        return Ok(Err(format!("hold: {why}")));
    }
    // Steps that are run meanwhile build the program anew.
    let (built, held) = (
        "target/debug/worldcompute",
        "target/debug/worldcompute-held",
    );
    std::fs::copy(root.join(built), root.join(held))
        .map_err(|error| Failure::new(format!("cannot copy {built}: {error}")))?;
    Beside::start(root, &["lab", "hold", "--program", held]).map(Ok)
}

#[cfg(target_os = "linux")]
fn end(held: std::result::Result<Beside, String>) -> Result<Skipped> {
    match held {
        Ok(held) => whole(held.finish()),
        Err(why) => unless_all_has_to_run("hold", vec![why]),
    }
}

fn verdict(skipped: &[String]) -> String {
    let mut lines: Vec<_> = skipped
        .iter()
        .map(|one| format!("skipped: {one}"))
        .collect();
    lines.push(match skipped.len() {
        0 => "ci: every step passed".to_owned(),
        count => format!("ci: every step passed, but {count} system tests did not run"),
    });
    lines.join("\n")
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

/// The encrypted store with everything that reaches over a network, on Amazon's DynamoDB Local, with its key in moto, and
/// with a TPM.
fn store(root: &Path) -> Result<Skipped> {
    let with_aws = "--workspace --features blue-encrypted-store/aws";
    shell(
        root,
        &format!("cargo clippy {with_aws} --all-targets -- -D warnings"),
    )?;
    shell(
        root,
        &format!("cargo test {with_aws} --lib -- opening:: faults::"),
    )?;
    let mut skipped = Vec::new();
    for name in ["dynamodb_local", "kms_moto", "tpm"] {
        skipped.extend(system_test(root, name, "")?);
    }
    Ok(skipped)
}

/// Nodes on a network of their own, images of others and jobs that run them, and the lab in which more of that is tried.
fn system(root: &Path) -> Result<Skipped> {
    let program = "target/release/worldcompute";
    let lan = system_test(root, "lan", program)?;
    let images = system_test(root, "image_registry", program)?;
    let jobs = system_test(root, "image_job", program)?;
    #[cfg(target_os = "linux")]
    let lab = unless_all_has_to_run("lab", crate::lab::check(root, Some(program.into()))?)?;
    #[cfg(not(target_os = "linux"))]
    let lab = Skipped::new();
    Ok([lan, images, jobs, lab].concat())
}

/// Runs a script that says why, when it cannot run here.
fn system_test(root: &Path, name: &str, arguments: &str) -> Result<Skipped> {
    let printed = tee(root, &format!("tests/system/{name}.sh {arguments}"))?;
    unless_all_has_to_run(name, skips_of(name, &printed))
}

fn unless_all_has_to_run(name: &str, skipped: Skipped) -> Result<Skipped> {
    let set = |name| std::env::var(name).unwrap_or_default();
    match skipped.first() {
        Some(why) if !may_skip(name, &set(CI), &set(MAY_SKIP)) => Err(Failure::new(format!(
            "skipped: {why}\nwhere {CI} is set this has to run, unless {MAY_SKIP} names {name}"
        ))),
        _ => Ok(skipped),
    }
}

fn skips_of(name: &str, printed: &str) -> Skipped {
    let own = printed
        .lines()
        .filter_map(|line| line.strip_prefix("skipped: "));
    let own = own.filter(|why| why.starts_with(&format!("{name}: ")));
    own.map(ToOwned::to_owned).collect()
}

fn may_skip(name: &str, ci: &str, allowed: &str) -> bool {
    ci.is_empty() || allowed.split(',').any(|one| one.trim() == name)
}

fn test(root: &Path) -> Result<()> {
    let closing = Closing::of(&tee(root, TELLING_TESTS)?);
    if closing.results == 0 {
        return Err(Failure::new(format!("`{TESTS}` ran no test")));
    }
    println!("\n{closing}");
    Ok(())
}

/// What the closing lines of all test programs come to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Closing {
    passed: u64,
    failed: u64,
    ignored: u64,
    results: u64,
    /// Tests that did not run, or not to their end, with the reason that each gives.
    not_run: Vec<NotRun>,
}

/// A test that did not run.
#[derive(Debug, PartialEq, Eq)]
enum NotRun {
    /// Marked so in its source.
    Ignored(String),
    /// By its own word: it could not run on this machine.
    Skipped(String),
}

impl fmt::Display for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut skipped = 0;
        for test in &self.not_run {
            match test {
                NotRun::Ignored(what) => writeln!(f, "ignored: {what}")?,
                NotRun::Skipped(what) => {
                    skipped += 1;
                    writeln!(f, "skipped: {what}")?;
                }
            }
        }
        let Self {
            passed,
            failed,
            ignored,
            results,
            ..
        } = self;
        write!(
            f,
            "{passed} passed, {failed} failed, {ignored} ignored, {skipped} skipped, in {results} test programs"
        )
    }
}

impl Closing {
    fn of(printed: &str) -> Self {
        let mut closing = Self::default();
        let mut printing = None;
        for line in printed.lines() {
            if let Some(result) = line.strip_prefix("test result: ") {
                if !is_childs(result) {
                    closing.add(result);
                }
                printing = None;
            } else if let Some(test) = printing_test(line) {
                printing = Some(test);
            } else if let Some(what) = ignored(line) {
                closing.not_run.push(NotRun::Ignored(what));
            } else if let Some(why) = skipped(line) {
                let what = printing.map_or_else(|| why.to_owned(), |test| format!("{test}: {why}"));
                closing.not_run.push(NotRun::Skipped(what));
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

/// Everything is asked for here. Who ran one test by its name is a test, in a process of its own, and counts by itself.
fn is_childs(result: &str) -> bool {
    !result.contains("; 0 filtered out")
}

/// `---- the::test stdout ----` stands over what a test printed.
fn printing_test(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

/// `test the::test ... ignored, the reason`
fn ignored(line: &str) -> Option<String> {
    let (test, why) = line.strip_prefix("test ")?.split_once(" ... ignored")?;
    match why.strip_prefix(", ") {
        Some(why) => Some(format!("{test}: {why}")),
        None => why.is_empty().then(|| format!("{test}: no reason given")),
    }
}

/// `skipped: the reason`, also where it got between the name of a test and its result.
fn skipped(line: &str) -> Option<&str> {
    let printed = line
        .split_once(" ... ")
        .map_or(line, |(_, printed)| printed);
    printed.strip_prefix("skipped: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_end_at_the_first_failure_and_name_it() {
        let steps: [Step; 3] = [
            ("first", |_| Ok(Vec::new())),
            ("second", |_| {
                Err(Failure {
                    code: 64,
                    message: "a word".to_owned(),
                })
            }),
            ("third", |_| panic!("not reached")),
        ];
        let failure = Walk::default().all(Path::new("."), &steps).unwrap_err();
        assert_eq!(failure.code, 64);
        assert!(
            failure.message.starts_with("a word\n")
                && failure.message.ends_with("ci: FAILED at step second")
        );
        assert!(failure.message.contains("first") && !failure.message.contains("third"));
    }

    #[test]
    fn a_system_test_that_is_skipped_is_told_at_the_end_and_fails_where_all_has_to_run() {
        let printed =
            "skipped: a test of its own\nskipped: tpm: swtpm is missing\nskipped: lan: no root\n";
        let skipped = skips_of("tpm", printed);
        assert_eq!(skipped, ["tpm: swtpm is missing"]);
        assert_eq!(
            verdict(&skipped),
            "skipped: tpm: swtpm is missing\nci: every step passed, but 1 system tests did not run"
        );
        assert_eq!(verdict(&[]), "ci: every step passed");
        assert!(may_skip("tpm", "", ""));
        assert!(!may_skip("tpm", "true", "lan,kms_moto"));
        assert!(may_skip("tpm", "true", "lan, tpm"));
    }

    #[test]
    fn the_closing_lines_of_all_test_programs_are_added_up() {
        let printed = "running 2 tests\n\
            test a ... ok\n\
            test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 5 filtered out; finished in 0.00s\n\
            test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test result: FAILED. 10 passed; 1 failed; 3 ignored; 0 measured; 0 filtered out; finished in 1.00s\n";
        let closing = Closing::of(printed);
        assert_eq!(
            (
                closing.passed,
                closing.failed,
                closing.ignored,
                closing.results
            ),
            (12, 1, 3, 2)
        );
        assert_eq!(Closing::of("no test here"), Closing::default());
    }

    #[test]
    fn every_test_that_did_not_run_is_named_with_its_reason() {
        let printed = "running 5 tests\n\
            test crash::child ... ignored, entry of a child process\n\
            test src/lib.rs - run (line 7) ... ignored\n\
            test ignored_is_a_word ... ok\n\
            test disk ... skipped: no tmpfs here\n\
            ok\n\n\
            successes:\n\n\
            ---- load::gpu stdout ----\n\
            skipped: no driver\n\
            2 files were skipped: of no interest\n\n\
            test result: ok. 3 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            skipped: past the capture\n";
        assert_eq!(
            Closing::of(printed).to_string(),
            "ignored: crash::child: entry of a child process\n\
             ignored: src/lib.rs - run (line 7): no reason given\n\
             skipped: no tmpfs here\n\
             skipped: load::gpu: no driver\n\
             skipped: past the capture\n\
             3 passed, 0 failed, 2 ignored, 3 skipped, in 1 test programs"
        );
    }

    #[test]
    fn the_tests_that_tell_why_are_those_of_the_readme() {
        assert!(TELLING_TESTS.starts_with(TESTS));
        let readme = include_str!("../../README.md");
        assert!(readme.contains(&format!("$ {TESTS}\n")));
    }
}
