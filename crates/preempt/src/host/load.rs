//! What other programs want of the processors.
//!
//! How busy a machine is says nothing here: sandboxes make it busy. What others take is what all take less what this
//! process and its children do. It is compared with what the sandboxes leave: four busy sandboxes and four busy programs
//! on four cores get half each, and that the others have no more than half is the sandboxes' doing.

use std::path::{Path, PathBuf};

use super::{entries, text};
use crate::senses::Reading;

/// Others have to take this much of all processors at least, in percent: beside sandboxes that fill the machine, the
/// least that runs takes all that they leave.
const FLOOR: u64 = 25;

/// Processes below this one are counted up to this many, and down to this depth.
const MAX_PROCESSES: usize = 4096;
const MAX_DEPTH: usize = 16;

pub struct Load {
    proc: PathBuf,
    percent: u32,
    before: Option<Ticks>,
}

/// Processor time since the machine started, in ticks of the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ticks {
    all: u64,
    busy: u64,
    /// Of this process and its children, also of those that have ended.
    own: u64,
}

impl Load {
    pub fn new(proc: PathBuf, percent: u32) -> Self {
        Self {
            proc,
            percent,
            before: None,
        }
    }

    pub fn look(&mut self) -> Reading {
        let Some(now) = self.ticks() else {
            self.before = None;
            return Reading::Blind("the system does not tell who uses its processors");
        };
        let before = self.before.replace(now);
        Reading::of(before.is_some_and(|before| now.since(before).others_want(self.percent)))
    }

    fn ticks(&self) -> Option<Ticks> {
        let (all, busy) = of_all(&text(&self.proc.join("stat"))?)?;
        let mut left = MAX_PROCESSES;
        let own = of_tree(&self.proc.join("self"), &self.proc, MAX_DEPTH, &mut left)?;
        Some(Ticks { all, busy, own })
    }
}

impl Ticks {
    fn since(self, before: Self) -> Self {
        Self {
            all: self.all.saturating_sub(before.all),
            busy: self.busy.saturating_sub(before.busy),
            own: self.own.saturating_sub(before.own),
        }
    }

    fn others_want(self, percent: u32) -> bool {
        let others = self.busy.saturating_sub(self.own);
        let left = self.all.saturating_sub(self.own);
        let takes = |part: u64, whole: u64| u128::from(part) * 100 >= u128::from(whole);
        self.all > 0
            && takes(others, self.all.saturating_mul(FLOOR))
            && takes(others, left.saturating_mul(percent.into()))
    }
}

/// All and busy time out of the first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal. What
/// the machine's own host takes is nobody's here.
fn of_all(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let times = line.split_ascii_whitespace().map(str::parse::<u64>);
    let times: Vec<u64> = times.take(8).collect::<Result<_, _>>().ok()?;
    let [user, nice, system, idle, iowait, irq, softirq, steal] = *times.as_array()?;
    let busy = user + nice + system + irq + softirq;
    Some((busy + idle + iowait + steal, busy))
}

/// Time of a process, of what it has waited for, and of everything below it.
fn of_tree(process: &Path, proc: &Path, depth: usize, left: &mut usize) -> Option<u64> {
    *left = left.checked_sub(1)?;
    let mut sum = of_one(&text(&process.join("stat"))?)?;
    if depth == 0 {
        return Some(sum);
    }
    for thread in entries(&process.join("task")) {
        let children = text(&thread.join("children")).unwrap_or_default();
        for child in children.split_ascii_whitespace() {
            // One that has ended by now is counted at the next look, in the time of who waited for it.
            sum += of_tree(&proc.join(child), proc, depth - 1, left).unwrap_or(0);
        }
    }
    Some(sum)
}

/// utime, stime, cutime and cstime out of `/proc/<pid>/stat`. The name before them may have any characters.
fn of_one(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let times = after_name.split_ascii_whitespace().skip(11).take(4);
    let times: Vec<u64> = times.map(str::parse).collect::<Result<_, _>>().ok()?;
    (times.len() == 4).then(|| times.iter().sum())
}

#[cfg(test)]
mod tests {
    use worldcompute_durable::{Mode, write_atomic};

    use super::*;

    /// A second of four cores, in ticks.
    const SECOND: u64 = 400;

    fn wanted(others: u64, own: u64) -> bool {
        let ticks = Ticks {
            all: SECOND,
            busy: others + own,
            own,
        };
        ticks.others_want(90)
    }

    #[test]
    fn sandboxes_alone_never_make_a_load() {
        for own in [0, 100, 200, 399, 400] {
            assert!(!wanted(0, own), "{own}");
        }
        assert!(
            !wanted(4, 396),
            "what little runs beside them takes all that is left"
        );
        assert!(!wanted(80, 320));
    }

    #[test]
    fn others_that_fill_what_is_left_to_them_do() {
        assert!(wanted(400, 0));
        assert!(wanted(360, 0));
        assert!(!wanted(359, 0));
        assert!(wanted(200, 200), "half each is all that they get");
        assert!(wanted(100, 300));
        assert!(!wanted(100, 200), "a core is free");
    }

    #[test]
    fn a_machine_that_tells_nothing_or_nonsense_is_not_busy() {
        assert!(!Ticks::default().others_want(90));
        let backwards = Ticks {
            all: 1,
            busy: 1,
            own: 5,
        }
        .since(Ticks {
            all: 9,
            busy: 0,
            own: 0,
        });
        assert!(!backwards.others_want(90));
        for stat in [
            "",
            "cpu",
            "cpu  1 2 3",
            "cpu  1 2 3 x 5 6 7 8",
            "intr 1 2 3 4 5 6 7 8",
        ] {
            assert_eq!(of_all(stat), None, "{stat}");
        }
        assert_eq!(of_all("cpu  1 2 3 4 5 6 7 8 9 9\n"), Some((36, 19)));
        for stat in ["", "1 (a) R 1 2", ") ) )"] {
            assert_eq!(of_one(stat), None, "{stat}");
        }
        let name_is_hostile = "7 (a) R 9) R 1 1 1 0 -1 0 0 0 0 0 1 2 3 4 20";
        assert_eq!(of_one(name_is_hostile), Some(10));
    }

    /// A `/proc` of this process (`self`), its child 7 and that one's child 8, which alone does anything.
    fn show(folder: &Path, busy: u64, own: u64) {
        let put = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            write_atomic(&path, text.as_bytes(), Mode::Private).unwrap();
        };
        put("stat", &format!("cpu  {busy} 0 0 100 0 0 0 0 0 0\n"));
        for (name, own) in [("self", 0), ("7", 0), ("8", own)] {
            let stat = format!("1 (a) R 1 1 1 0 -1 0 0 0 0 0 {own} 0 0 0 20");
            put(&format!("{name}/stat"), &stat);
        }
        put("self/task/1/children", "7 ");
        put("7/task/7/children", "8 9 ");
    }

    #[test]
    fn what_children_of_children_do_is_not_done_by_others() {
        for (own, reading) in [(SECOND, Reading::Quiet), (0, Reading::Fires)] {
            let folder = tempfile::tempdir().unwrap();
            let mut load = Load::new(folder.path().to_owned(), 90);
            show(folder.path(), 0, 0);
            assert_eq!(
                load.look(),
                Reading::Quiet,
                "there is nothing to compare with yet"
            );
            show(folder.path(), SECOND, own);
            assert_eq!(load.look(), reading, "{own}");
        }
    }

    #[test]
    fn this_machine_tells_what_this_process_uses() {
        if !cfg!(target_os = "linux") {
            println!("skipped: there is no /proc");
            return;
        }
        let load = Load::new("/proc".into(), 90);
        let before = load.ticks().unwrap();
        // Both are counted in ticks, and not at the same moment.
        let now = loop {
            let now = load.ticks().unwrap();
            if now.own > before.own && now.all > before.all {
                break now;
            }
        };
        assert!(now.busy >= before.busy);
    }

    #[test]
    fn a_proc_without_anything_in_it_is_blind() {
        let folder = tempfile::tempdir().unwrap();
        let mut load = Load::new(folder.path().to_owned(), 90);
        assert!(matches!(load.look(), Reading::Blind(_)));
    }
}
