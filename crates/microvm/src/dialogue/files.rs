//! The files that a program has to leave behind, as far as they have come.

use worldcompute_guest::OutputFile;

/// One comes after another, in the order in which they were asked for.
#[derive(Debug)]
pub struct Files {
    asked_for: Vec<OutputFile>,
    place: u32,
    /// What has come of the one at this place, what went past its limit included.
    bytes: u64,
}

impl Files {
    /// These are asked for, and none has come.
    pub const fn of(asked_for: Vec<OutputFile>) -> Self {
        Self {
            asked_for,
            place: 0,
            bytes: 0,
        }
    }

    /// The place of the one that comes now.
    pub const fn place(&self) -> u32 {
        self.place
    }

    /// The one that comes now; `None` when all have come.
    pub fn current(&self) -> Option<&OutputFile> {
        self.asked_for.get(self.place as usize)
    }

    /// How many more bytes of it may come.
    pub fn room(&self) -> u64 {
        let most = self.current().map_or(0, |file| file.max_bytes);
        most.saturating_sub(self.bytes)
    }

    /// So many have come.
    pub const fn count(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// The limit of the one that comes now, in words, if it was gone past.
    pub fn limit(&self) -> Option<String> {
        let file = self.current().filter(|file| self.bytes > file.max_bytes)?;
        Some(format!(
            "{} has more than {} bytes",
            file.path, file.max_bytes
        ))
    }

    /// It is whole.
    pub const fn end_current(&mut self) {
        self.place += 1;
        self.bytes = 0;
    }
}
