//! Images looked at by debugfs, where the kernel may not mount them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::look::{MAX_LOOKED_AT, Seen, SeenBody, has_to_run};

const ROOT: u32 = 2;
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
/// What `stat` writes before the target of a link that is in its inode, and before the numbers of a device.
const TARGET: &str = "Fast link dest: \"";
const DEVICE: &str = "Device major/minor number:";

/// Everything in an image, by path; `None`, saying so, without that program.
pub fn seen(image: &Path) -> Option<BTreeMap<Vec<u8>, Seen>> {
    if Command::new("debugfs").arg("-V").output().is_err() {
        has_to_run("no debugfs (package e2fsprogs) to look into the image");
        return None;
    }
    let debugfs = Debugfs {
        image,
        dir: tempfile::tempdir().unwrap(),
    };
    let names = debugfs.names();
    let inodes: BTreeSet<_> = names.values().copied().collect();
    let told = debugfs.run(inodes.iter().map(|inode| format!("stat <{inode}>")));
    let told = inodes.into_iter().zip(told.into_iter().map(Told)).collect();
    debugfs.fetch(&told);
    let named = names.into_iter();
    let seen = named.map(|(path, inode)| (path, debugfs.seen(inode, &told[&inode])));
    Some(seen.collect())
}

struct Debugfs<'a> {
    image: &'a Path,
    dir: TempDir,
}

impl Debugfs<'_> {
    /// What is said to each of these commands, which all have to succeed.
    fn run(&self, commands: impl Iterator<Item = String>) -> Vec<Vec<u8>> {
        let script = self.dir.path().join("script");
        let mut lines = File::create(&script).unwrap();
        commands.for_each(|command| writeln!(lines, "{command}").unwrap());
        let mut debugfs = Command::new("debugfs");
        let run = debugfs.arg("-f").args([&script, self.image]);
        let run = run.current_dir(self.dir.path()).output().unwrap();
        let complained = String::from_utf8_lossy(&run.stderr);
        assert_eq!(complained.lines().count(), 1, "{complained}");
        // Each answer comes after its command.
        let mut said = Vec::new();
        for line in run.stdout.split_inclusive(|byte| *byte == b'\n') {
            match line.strip_prefix(b"debugfs: ") {
                Some(_) => said.push(Vec::new()),
                None => said.last_mut().unwrap().extend_from_slice(line),
            }
        }
        said
    }

    /// Inodes by path, one level of directories after the other.
    fn names(&self) -> BTreeMap<Vec<u8>, u32> {
        let mut all = BTreeMap::from([(Vec::new(), ROOT)]);
        let mut level = vec![(Vec::new(), ROOT)];
        while !level.is_empty() {
            let said = self.run(level.iter().map(|(_, inode)| format!("ls -p <{inode}>")));
            let mut below = Vec::new();
            for ((above, _), said) in level.iter().zip(said) {
                for (name, inode, is_directory) in
                    said.split(|byte| *byte == b'\n').filter_map(entry)
                {
                    let path = match above.is_empty() {
                        true => name.to_vec(),
                        false => [above, b"/".as_slice(), name].concat(),
                    };
                    if is_directory {
                        below.push((path.clone(), inode));
                    }
                    all.insert(path, inode);
                }
            }
            level = below;
        }
        all
    }

    /// Contents and attributes, into files.
    fn fetch(&self, told: &BTreeMap<u32, Told>) {
        let mut commands = Vec::new();
        for (inode, told) in told {
            if told.is_stored() {
                commands.push(format!("dump <{inode}> {inode}"));
            }
            for (at, name) in told.attributes().iter().enumerate() {
                commands.push(format!("ea_get -f {inode}.{at} <{inode}> {name}"));
            }
        }
        self.run(commands.into_iter());
    }

    fn seen(&self, inode: u32, told: &Told) -> Seen {
        let fetched = |name: String| fs::read(self.dir.path().join(name)).unwrap();
        let content = || fetched(inode.to_string());
        let body = match told.kind() {
            DIRECTORY => SeenBody::Directory,
            SYMLINK if told.is_stored() => SeenBody::Symlink(content()),
            SYMLINK => SeenBody::Symlink(told.target()),
            FILE if told.is_stored() => SeenBody::File(content()),
            FILE => SeenBody::Large(told.size()),
            _ => SeenBody::Other,
        };
        let names = told.attributes().into_iter().enumerate();
        let xattrs = names.map(|(at, name)| {
            let value = fetched(format!("{inode}.{at}"));
            match name.starts_with("system.posix_acl_") {
                true => (name, acl(value)),
                false => (name, value),
            }
        });
        Seen {
            mode: told.kind() | u32::from_str_radix(&told.word("Mode:"), 8).unwrap(),
            uid: told.id("User:"),
            gid: told.id("Group:"),
            mtime: told.time(),
            links: told.word("Links:").parse().unwrap(),
            device: told.device(),
            body,
            xattrs: xattrs.collect(),
            inode: u64::from(inode),
        }
    }
}

/// Name, inode, and whether that is a directory: `/12/100644/0/0/name/3/`
fn entry(line: &[u8]) -> Option<(&[u8], u32, bool)> {
    let parts: Vec<_> = line.split(|byte| *byte == b'/').collect();
    let [b"", inode, mode, _, _, name, ..] = parts[..] else {
        return None;
    };
    let inode = std::str::from_utf8(inode).unwrap().parse().unwrap();
    (!matches!(name, b"." | b"..")).then_some((name, inode, mode.starts_with(b"04")))
}

/// The kernel gives no owner to entries that name none; debugfs gives them root.
fn acl(mut value: Vec<u8>) -> Vec<u8> {
    const NAMED: [u8; 2] = [0x02, 0x08];
    for entry in value[4..].chunks_exact_mut(8) {
        if !NAMED.contains(&entry[0]) {
            entry[4..].fill(0xff);
        }
    }
    value
}

/// What `stat` says of an inode.
struct Told(Vec<u8>);

impl Told {
    /// What comes after a label; the first one counts.
    fn after(&self, label: &str) -> Option<&[u8]> {
        let mut places = self.0.windows(label.len());
        let at = places.position(|place| place == label.as_bytes())?;
        Some(&self.0[at + label.len()..])
    }

    fn word(&self, label: &str) -> String {
        let text = String::from_utf8_lossy(self.after(label).unwrap());
        text.split_whitespace().next().unwrap().to_owned()
    }

    /// Those of the upper half are written with a sign.
    fn id(&self, label: &str) -> u32 {
        self.word(label).parse::<i64>().unwrap() as u32
    }

    fn size(&self) -> u64 {
        self.word("Size:").parse().unwrap()
    }

    fn kind(&self) -> u32 {
        match self.word("Type:").as_str() {
            "regular" => FILE,
            "directory" => DIRECTORY,
            "symlink" => SYMLINK,
            "character" => 0o020_000,
            "block" => 0o060_000,
            "FIFO" => 0o010_000,
            other => panic!("{other}"),
        }
    }

    /// Whether it has content in blocks, and not too much of it.
    fn is_stored(&self) -> bool {
        match self.kind() {
            FILE => self.size() <= MAX_LOOKED_AT,
            SYMLINK => self.after(TARGET).is_none(),
            _ => false,
        }
    }

    fn target(&self) -> Vec<u8> {
        self.after(TARGET).unwrap()[..self.size() as usize].to_vec()
    }

    /// The one time that it has: seconds, of which two more bits stand below the nanoseconds.
    fn time(&self) -> (i64, i64) {
        let time = self.word(" mtime:");
        assert_eq!(
            [" ctime:", " atime:"].map(|other| self.word(other)),
            [&*time; 2]
        );
        let (secs, more) = time.strip_prefix("0x").unwrap().split_once(':').unwrap();
        let [secs, more] = [secs, more].map(|hex| u32::from_str_radix(hex, 16).unwrap());
        let secs = i64::from(secs.cast_signed()) + (i64::from(more & 3) << 32);
        (secs, i64::from(more >> 2))
    }

    fn device(&self) -> u64 {
        if self.after(DEVICE).is_none() {
            return 0;
        }
        let numbers = self.word(DEVICE);
        let (major, minor) = numbers.split_once(':').unwrap();
        rustix::fs::makedev(major.parse().unwrap(), minor.parse().unwrap())
    }

    /// Their names: `  user.x (1) = "1"`, a line each.
    fn attributes(&self) -> Vec<String> {
        let Some(lines) = self.after("Extended attributes:\n") else {
            return Vec::new();
        };
        let lines = String::from_utf8_lossy(lines);
        let names = lines.lines().map_while(|line| line.strip_prefix("  "));
        names
            .map(|line| line.split(" (").next().unwrap().to_owned())
            .collect()
    }
}
