//! 200 MB of layers made into an image, against what one would do without this crate in the same run: extract every
//! layer with `tar`, then `mkfs.ext4 -d`. Needs root for the same owners, and prints why where it cannot run.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on stops")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use worldcompute_rootfs::{Assembly, Devices, Limits, Size};

const LAYERS: usize = 4;
const FILES: usize = 3000;
const ROUNDS: usize = 5;

type Way = fn(&Path, &[PathBuf]);

fn main() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: tar keeps owners for root alone, so there is nothing to compare with");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for packed in [false, true] {
        let layers: Vec<_> = (0..LAYERS)
            .map(|number| layer(dir.path(), number, packed))
            .collect();
        let rounds: Vec<_> = (0..ROUNDS)
            .map(|round| pair(dir.path(), &layers, round % 2 == 0))
            .collect();
        report(packed, rounds);
    }
}

/// Ours and theirs, each first in every other round.
fn pair(dir: &Path, layers: &[PathBuf], ours_first: bool) -> (Duration, Duration) {
    let (first, second): (Way, Way) = if ours_first {
        (ours, theirs)
    } else {
        (theirs, ours)
    };
    let took = (timed(|| first(dir, layers)), timed(|| second(dir, layers)));
    for image in ["ours.ext4", "theirs.ext4"] {
        std::fs::remove_file(dir.join(image)).unwrap();
    }
    std::fs::remove_dir_all(dir.join("tree")).unwrap();
    if ours_first { took } else { (took.1, took.0) }
}

fn report(packed: bool, rounds: Vec<(Duration, Duration)>) {
    let packing = if packed { "gzip" } else { "plain" };
    let median = |mut of: Vec<Duration>| {
        of.sort();
        of.get(of.len() / 2).copied().unwrap_or_default()
    };
    let ours = median(rounds.iter().map(|round| round.0).collect());
    let theirs = median(rounds.iter().map(|round| round.1).collect());
    println!(
        "{packing}: {:.2} s, tar and mkfs.ext4 -d {:.2} s: {:.2} of it",
        ours.as_secs_f64(),
        theirs.as_secs_f64(),
        ours.as_secs_f64() / theirs.as_secs_f64()
    );
}

fn timed(work: impl FnOnce()) -> Duration {
    rustix::fs::sync();
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn ours(dir: &Path, layers: &[PathBuf]) {
    let mut assembly = Assembly::new(Limits::default(), Devices::Refuse, dir).unwrap();
    for path in layers {
        let file = std::fs::File::open(path).unwrap();
        assembly = assembly.layer(path.display(), None, file).unwrap();
    }
    let image = dir.join("ours.ext4");
    assembly.build(&image, Size::Fitting).unwrap();
}

fn theirs(dir: &Path, layers: &[PathBuf]) {
    let tree = dir.join("tree");
    std::fs::create_dir(&tree).unwrap();
    for path in layers {
        run(Command::new("tar")
            .arg("-xf")
            .arg(path)
            .arg("-C")
            .arg(&tree));
    }
    let image = dir.join("theirs.ext4");
    let mut mkfs = Command::new("mkfs.ext4");
    run(mkfs
        .args(["-F", "-q", "-d"])
        .arg(&tree)
        .arg(&image)
        .arg("256M"));
}

fn run(command: &mut Command) {
    let status = command.stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}");
}

/// 50 MB in 3000 files of 100 directories: half text that packs, half noise that does not.
fn layer(dir: &Path, number: usize, packed: bool) -> PathBuf {
    let tree = dir.join(format!("source-{number}"));
    let mut state = number as u64 + 1;
    for file in 0..FILES {
        let path = tree.join(format!("usr/{}/{}", file % 100, number * 2000 + file));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut out = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
        for word in 0..2000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            match word % 2 {
                0 => out.write_all(&state.to_le_bytes()).unwrap(),
                _ => out.write_all(b"the same ").unwrap(),
            }
        }
    }
    let archive = dir.join(format!("{number}.tar{}", if packed { ".gz" } else { "" }));
    let flags = if packed { "-czf" } else { "-cf" };
    run(Command::new("tar")
        .arg(flags)
        .arg(&archive)
        .arg("-C")
        .arg(&tree)
        .arg("."));
    std::fs::remove_dir_all(tree).unwrap();
    archive
}
