//! The first files that a guest's kernel sees: the agent, two devices and the drivers, in a `newc` archive
//! (`Documentation/driver-api/early-userspace/buffer-format.rst` of Linux).

/// The agent: what `crates/guest` was built to.
pub const AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent"));

/// Where the agent mounts things, and where its drivers are.
const FOLDERS: [&str; 6] = ["cgroup", "dev", "modules", "proc", "root", "sys"];

/// What init needs before it can make any: without a console the kernel starts it with closed standard streams.
const DEVICES: [(&str, u32, u32); 2] = [("dev/console", 5, 1), ("dev/null", 1, 3)];

const FOLDER: u32 = 0o040_755;
const DEVICE: u32 = 0o020_600;
const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;

/// A driver: its name, and the content of its `.ko` file.
pub type Driver = (String, Vec<u8>);

/// The archive with `drivers` numbered in the order they are to be loaded in. Equal drivers give equal bytes.
pub fn build(drivers: &[Driver]) -> Vec<u8> {
    let mut archive = Archive::default();
    for name in FOLDERS {
        archive.add(name, FOLDER, (0, 0), &[]);
    }
    for (name, major, minor) in DEVICES {
        archive.add(name, DEVICE, (major, minor), &[]);
    }
    for (index, (name, content)) in drivers.iter().enumerate() {
        archive.add(
            &format!("modules/{index:02}-{name}.ko"),
            FILE,
            (0, 0),
            content,
        );
    }
    archive.add("init", PROGRAM, (0, 0), AGENT);
    archive.add("TRAILER!!!", 0, (0, 0), &[]);
    archive.bytes
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        self.entries += 1;
        let (inode, links, name_length) = (self.entries, 1, name.len() + 1);
        let size = content.len();
        let header = format!(
            "070701{inode:08X}{mode:08X}{:08X}{:08X}{links:08X}{:08X}{size:08X}{:08X}{:08X}{major:08X}{minor:08X}\
             {name_length:08X}{:08X}",
            0, 0, 0, 0, 0, 0
        );
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        let length = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(length, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_agent_is_a_static_program_under_a_megabyte() {
        assert!(AGENT.len() < 1_000_000, "{} bytes", AGENT.len());
        let kinds = segments(AGENT);
        assert!(kinds.contains(&PT_LOAD), "{kinds:?}");
        assert!(!kinds.contains(&PT_INTERP), "it takes a loader: {kinds:?}");
    }

    const PT_LOAD: u32 = 1;
    /// The path of the program that loads this one, which no program without libraries has.
    const PT_INTERP: u32 = 3;

    /// The kinds of the segments of a 64-bit program (elf(5)).
    fn segments(elf: &[u8]) -> Vec<u32> {
        assert_eq!(&elf[..5], b"\x7fELF\x02");
        let short =
            |at: usize| usize::from(u16::from_le_bytes(elf[at..at + 2].try_into().unwrap()));
        let table = u64::from_le_bytes(elf[0x20..0x28].try_into().unwrap());
        let entries = elf[usize::try_from(table).unwrap()..].chunks(short(0x36));
        let kinds = entries.map(|entry| u32::from_le_bytes(entry[..4].try_into().unwrap()));
        kinds.take(short(0x38)).collect()
    }

    #[test]
    fn a_program_that_takes_a_loader_is_told_by_its_segments() {
        let shell = std::fs::read("/bin/sh").unwrap();
        let here = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(
            [shell, here]
                .iter()
                .any(|program| segments(program).contains(&PT_INTERP))
        );
    }

    #[test]
    fn equal_drivers_give_equal_bytes() {
        let drivers = [
            ("virtio".to_owned(), vec![1; 5]),
            ("virtio_ring".to_owned(), vec![2; 4096]),
        ];
        let archive = build(&drivers);
        assert_eq!(archive, build(&drivers));
        assert_ne!(archive, build(&drivers[..1]));
        assert_eq!(archive.len() % 4, 0);
    }

    #[test]
    fn another_reader_of_archives_lists_what_is_in_it() {
        let drivers = [("b".to_owned(), vec![1; 5]), ("a".to_owned(), vec![])];
        let spawned = Command::new("cpio")
            .args(["--list", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut cpio) = spawned else {
            println!("skipped: cpio is not installed");
            return;
        };
        cpio.stdin
            .take()
            .unwrap()
            .write_all(&build(&drivers))
            .unwrap();
        let listed = cpio.wait_with_output().unwrap();
        assert!(listed.status.success());
        let expected = "cgroup\ndev\nmodules\nproc\nroot\nsys\ndev/console\ndev/null\nmodules/00-b.ko\nmodules/01-a.ko\ninit\n";
        assert_eq!(String::from_utf8(listed.stdout).unwrap(), expected);
    }
}
