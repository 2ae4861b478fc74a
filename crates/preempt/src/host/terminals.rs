//! Who types in a terminal, also from afar: the system dates the file of a terminal when somebody's typing in it is read.
//!
//! That a program of a desktop is in front cannot be known from outside of that desktop; whoever uses one gives input.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::entries;
use crate::senses::Reading;

pub struct Terminals {
    folder: PathBuf,
    /// When typing was last read, in seconds; `None` before the first look.
    typed: Option<i64>,
}

impl Terminals {
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            typed: None,
        }
    }

    /// The system dates within eight seconds: who goes on typing is seen that often.
    pub fn look(&mut self) -> Reading {
        let terminals = entries(&self.folder).filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        });
        let dates = terminals.filter_map(|path| Some(path.metadata().ok()?.atime()));
        let Some(latest) = dates.max() else {
            return Reading::Blind("there is no terminal");
        };
        let before = self.typed.replace(latest);
        Reading::of(before.is_some_and(|before| latest > before))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes};
    use std::time::{Duration, SystemTime};

    use super::*;

    fn read_at(folder: &std::path::Path, name: &str, second: u64) {
        let path = folder.join(name);
        let file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        file.set_times(FileTimes::new().set_accessed(time)).unwrap();
    }

    #[test]
    fn typing_in_any_terminal_fires_once_and_what_was_typed_before_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut terminals = Terminals::new(folder.path().to_owned());
        assert!(matches!(terminals.look(), Reading::Blind(_)));
        read_at(folder.path(), "0", 100);
        read_at(folder.path(), "1", 50);
        read_at(folder.path(), "ptmx", 900);
        assert_eq!(terminals.look(), Reading::Quiet);
        read_at(folder.path(), "1", 90);
        assert_eq!(terminals.look(), Reading::Quiet, "older than what was seen");
        read_at(folder.path(), "1", 108);
        assert_eq!(terminals.look(), Reading::Fires);
        assert_eq!(terminals.look(), Reading::Quiet);
        std::fs::remove_file(folder.path().join("1")).unwrap();
        assert_eq!(terminals.look(), Reading::Quiet, "a terminal was closed");
    }
}
