//! Keys, buttons and pointers: `/dev/input/event*`.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, read};

use super::{entries, text};
use crate::senses::Reading;

/// More devices are not listened to.
const MAX_DEVICES: usize = 64;

/// Length of one event: a time of two words, then type, code and value.
const EVENT: usize = 2 * size_of::<usize>() + 8;

/// Where in it the type is.
const TYPE: usize = EVENT - 8;

/// Types of events that a hand makes: keys and buttons, relative and absolute movement. Lights and switches are others.
const BY_HAND: [u16; 3] = [1, 2, 3];

/// Bits of the types that a device has to have: keys or relative movement. What has absolute movement alone tells how
/// the machine lies.
const KEYS_OR_POINTER: u64 = 1 << 1 | 1 << 2;

/// Most reads at one look; what is left is there at the next.
const MAX_READS: usize = 64;

pub struct Inputs {
    folder: PathBuf,
    class: PathBuf,
    open: Vec<(OsString, OwnedFd)>,
    /// There are devices that this user may not read.
    locked: bool,
}

impl Inputs {
    pub fn new(folder: PathBuf, class: PathBuf) -> Self {
        let mut inputs = Self {
            folder,
            class,
            open: Vec::with_capacity(MAX_DEVICES),
            locked: false,
        };
        inputs.find();
        inputs
    }

    /// What was pressed and moved since the last look. Devices are looked for where there is nothing more urgent.
    pub fn look(&mut self) -> Reading {
        let mut touched = false;
        self.open.retain(|(_, device)| match drain(device) {
            Ok(by_hand) => {
                touched |= by_hand;
                true
            }
            Err(_) => false,
        });
        if touched {
            return Reading::Fires;
        }
        self.find();
        match (self.open.is_empty(), self.locked) {
            (false, _) => Reading::Quiet,
            (true, true) => Reading::Blind("this user may not read the input devices"),
            (true, false) => Reading::Blind("there is no input device"),
        }
    }

    pub fn devices(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.open.iter().map(|(_, device)| device.as_fd())
    }

    fn find(&mut self) {
        self.locked = false;
        for path in entries(&self.folder) {
            let Some(name) = path.file_name().filter(|name| self.is_new_device(name)) else {
                continue;
            };
            if self.open.len() == MAX_DEVICES {
                return;
            }
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            match open(&path, flags, Mode::empty()) {
                Ok(device) => self.open.push((name.to_owned(), device)),
                Err(Errno::ACCESS | Errno::PERM) => self.locked = true,
                // It went in the meantime, or is none.
                Err(_) => {}
            }
        }
    }

    fn is_new_device(&self, name: &OsStr) -> bool {
        let event = name.to_str().is_some_and(|name| name.starts_with("event"));
        let known = self.open.iter().any(|(open, _)| open == name);
        event && !known && used_by_hand(&self.class.join(name))
    }
}

/// A device that does not say what it has counts.
fn used_by_hand(class: &Path) -> bool {
    let types = text(&class.join("device/capabilities/ev"));
    let types = types.and_then(|types| u64::from_str_radix(types.trim(), 16).ok());
    types.is_none_or(|types| types & KEYS_OR_POINTER != 0)
}

/// Reads what there is: whether a hand made any of it. An error for a device that is gone.
fn drain(device: &OwnedFd) -> Result<bool, Errno> {
    let mut events = [0; 64 * EVENT];
    let mut by_hand = false;
    for _ in 0..MAX_READS {
        match read(device, &mut events) {
            Ok(0) => return Err(Errno::NODEV),
            Ok(length) => by_hand |= events.get(..length).is_some_and(made_by_hand),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(by_hand)
}

fn made_by_hand(events: &[u8]) -> bool {
    let types = events.chunks_exact(EVENT).filter_map(|event| {
        let bytes = event.get(TYPE..TYPE + 2)?;
        Some(u16::from_ne_bytes(bytes.try_into().ok()?))
    });
    types.into_iter().any(|kind| BY_HAND.contains(&kind))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use rustix::fs::{CWD, mkfifoat};
    use tempfile::TempDir;
    use worldcompute_durable::{Mode as FileMode, write_atomic};

    use super::*;

    const SYN: u16 = 0;
    const KEY: u16 = 1;
    const RELATIVE: u16 = 2;
    const LED: u16 = 17;

    /// A machine whose devices are pipes.
    struct Machine {
        folder: TempDir,
        inputs: Inputs,
    }

    impl Machine {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("dev")).unwrap();
            let [dev, class] = ["dev", "class"].map(|name| folder.path().join(name));
            let inputs = Inputs::new(dev, class);
            Self { folder, inputs }
        }

        /// A device, and the hand that uses it.
        fn plug(&mut self, name: &str) -> File {
            let path = self.folder.path().join("dev").join(name);
            mkfifoat(CWD, &path, Mode::RWXU).unwrap();
            let hand = File::options().read(true).write(true).open(&path).unwrap();
            self.inputs.look();
            hand
        }

        fn has_types(&self, name: &str, types: &str) {
            let folder = self
                .folder
                .path()
                .join("class")
                .join(name)
                .join("device/capabilities");
            std::fs::create_dir_all(&folder).unwrap();
            write_atomic(&folder.join("ev"), types.as_bytes(), FileMode::Private).unwrap();
        }
    }

    fn event(kind: u16) -> [u8; EVENT] {
        let mut event = [0; EVENT];
        event[TYPE..TYPE + 2].copy_from_slice(&kind.to_ne_bytes());
        event
    }

    #[test]
    fn a_machine_without_devices_says_so_and_one_that_comes_later_is_found() {
        let mut machine = Machine::new();
        assert_eq!(
            machine.inputs.look(),
            Reading::Blind("there is no input device")
        );
        let mut keyboard = machine.plug("event0");
        assert_eq!(machine.inputs.look(), Reading::Quiet);
        keyboard.write_all(&event(KEY)).unwrap();
        assert_eq!(machine.inputs.look(), Reading::Fires);
        assert_eq!(machine.inputs.look(), Reading::Quiet);
        let mut mouse = machine.plug("event7");
        mouse.write_all(&event(RELATIVE)).unwrap();
        assert_eq!(machine.inputs.look(), Reading::Fires);
    }

    #[test]
    fn lights_and_marks_between_events_are_not_made_by_hand() {
        let mut machine = Machine::new();
        let mut keyboard = machine.plug("event0");
        keyboard
            .write_all(&[event(LED), event(SYN)].concat())
            .unwrap();
        assert_eq!(machine.inputs.look(), Reading::Quiet);
        keyboard
            .write_all(&[event(LED), event(KEY), event(SYN)].concat())
            .unwrap();
        assert_eq!(machine.inputs.look(), Reading::Fires);
    }

    #[test]
    fn a_device_that_is_pulled_out_is_forgotten_and_comes_back() {
        let mut machine = Machine::new();
        drop(machine.plug("event0"));
        machine.inputs.folder = machine.folder.path().join("nowhere");
        assert_eq!(
            machine.inputs.look(),
            Reading::Blind("there is no input device")
        );
        machine.inputs.folder = machine.folder.path().join("dev");
        std::fs::remove_file(machine.folder.path().join("dev/event0")).unwrap();
        let mut keyboard = machine.plug("event0");
        keyboard.write_all(&event(KEY)).unwrap();
        assert_eq!(machine.inputs.look(), Reading::Fires);
    }

    #[test]
    fn what_has_neither_keys_nor_a_pointer_is_not_listened_to() {
        let mut machine = Machine::new();
        for (name, types, listened) in [
            ("event0", "120013\n", true),
            ("event1", "17\n", true),
            ("event2", "9\n", false),
            ("event3", "21\n", false),
            ("event4", "nonsense", true),
        ] {
            machine.has_types(name, types);
            let _device = machine.plug(name);
            let known = machine.inputs.open.iter().any(|(open, _)| open == name);
            assert_eq!(known, listened, "{name}");
        }
        let _other = machine.plug("mice");
        assert!(machine.inputs.open.iter().all(|(name, _)| name != "mice"));
    }

    #[test]
    fn a_storm_is_read_in_part_and_too_many_devices_not_at_all() {
        let mut machine = Machine::new();
        let mut mouse = machine.plug("event0");
        for _ in 0..40 {
            mouse.write_all(&event(RELATIVE).repeat(40)).unwrap();
            assert_eq!(machine.inputs.look(), Reading::Fires);
        }
        let _more: Vec<File> = (1..80)
            .map(|n| machine.plug(&format!("event{n}")))
            .collect();
        assert_eq!(machine.inputs.devices().count(), MAX_DEVICES);
    }
}
