//! A process that is killed at a random moment leaves everything it acknowledged, whole.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::common::{child, child_dir, names};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use worldcompute_durable::{Journal, Limits, Mode, read_bounded, write_atomic};

const ROUNDS: u64 = 40;

/// Larger than a page, and another size and content for each number.
fn content(number: u64) -> Vec<u8> {
    let len = 5000 + usize::try_from(number % 7000).unwrap();
    number.to_le_bytes().into_iter().cycle().take(len).collect()
}

#[test]
#[ignore = "entry of a child process"]
fn write_until_killed() {
    let Some(dir) = child_dir() else { return };
    let (mut journal, _) = Journal::open(&dir.join("journal"), Limits::default()).unwrap();
    for number in journal.len().. {
        write_atomic(&dir.join("file"), &content(number), Mode::Private).unwrap();
        eprintln!("file {number}");
        journal.append(&content(number)).unwrap();
        eprintln!("journal {number}");
    }
}

/// What a child had acknowledged when it was killed.
#[derive(Debug, Default)]
struct Acknowledged {
    file: Option<u64>,
    journal: Option<u64>,
}

impl Acknowledged {
    fn note(&mut self, line: &str) {
        match line.split_once(' ') {
            Some(("file", number)) => self.file = number.parse().ok(),
            Some(("journal", number)) => self.journal = number.parse().ok(),
            _ => unreachable!("{line}"),
        }
    }
}

/// Lets the child come to a random point, kills it, and reads what it still had said.
fn kill_somewhere(mut child: Child, random: &mut StdRng) -> Acknowledged {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut acknowledged = Acknowledged::default();
    for _ in 0..random.random_range(1..6) {
        acknowledged.note(&lines.next().unwrap().unwrap());
    }
    let moment = Instant::now() + Duration::from_micros(random.random_range(0..3000));
    while Instant::now() < moment {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    // A last line may be cut: it was not said.
    for line in lines
        .map_while(Result::ok)
        .filter(|line| line.ends_with(|end: char| end.is_ascii_digit()))
    {
        acknowledged.note(&line);
    }
    child.wait().unwrap();
    acknowledged
}

fn check(dir: &Path, acknowledged: &Acknowledged) {
    let file = read_bounded(&dir.join("file"), 1 << 20).unwrap();
    let number = u64::from_le_bytes(*file.first_chunk().unwrap());
    assert!(file == content(number), "the file is torn");
    assert!(
        acknowledged
            .file
            .is_none_or(|acknowledged| number >= acknowledged),
        "the file went back to {number}"
    );

    let (_, recovered) = Journal::open(&dir.join("journal"), Limits::default()).unwrap();
    let count = recovered.records.len() as u64;
    assert!(
        recovered
            .records
            .iter()
            .zip(0..)
            .all(|(record, number)| *record == content(number)),
        "a record is torn"
    );
    assert!(
        acknowledged
            .journal
            .is_none_or(|acknowledged| count > acknowledged),
        "of the records {count} are left"
    );
}

#[test]
fn a_killed_writer_leaves_every_acknowledged_file_and_record_whole() {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut leftovers = 0;
    for round in 0..ROUNDS {
        let acknowledged = kill_somewhere(
            child("crash::write_until_killed", dir.path())
                .spawn()
                .unwrap(),
            &mut random,
        );
        println!("round {round}: {acknowledged:?}");
        check(dir.path(), &acknowledged);
        leftovers += usize::from(names(dir.path()).len() > 2);
    }
    println!("killed with a temporary file in the making: {leftovers} of {ROUNDS}");
    write_atomic(&dir.path().join("file"), b"next", Mode::Private).unwrap();
    assert_eq!(names(dir.path()), ["file", "journal"]);
}
