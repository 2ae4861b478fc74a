//! A machine with microVMs and an image, for tests that boot; or why there is none.

#![expect(dead_code, reason = "each test program uses a part")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use worldcompute_durable::{Mode, open_to_read, write_atomic};
use worldcompute_microvm::{
    Backend, Collected, Config, Control, KernelSource, Limits, MicroVms, Outcome, Spec,
};

const BUSYBOX: &str = "/bin/busybox";
/// How long anything may take that a test waits for: longer than the slowest machine, shorter than for ever.
const PATIENCE: Duration = Duration::from_secs(120);

/// Everything that a test needs to boot. The image has busybox and two users.
pub struct Machine {
    pub dir: TempDir,
    pub vms: MicroVms,
    pub image: PathBuf,
    pub backend: Backend,
}

/// The machine with QEMU, unless something is missing that `tests/system/microvm.sh` would install.
pub fn machine() -> Option<Machine> {
    unless_missing(&["qemu-system-x86_64"], Backend::QemuEmulation)
}

/// The machine with Firecracker, unless something is missing or it does not boot.
pub fn machine_with_firecracker() -> Option<Machine> {
    let machine = unless_missing(&["firecracker"], Backend::Firecracker)?;
    let report = machine
        .vms
        .survey()
        .unwrap()
        .into_iter()
        .find(|report| report.backend == Backend::Firecracker)
        .unwrap();
    println!(
        "firecracker: boot {:?} ms, {}",
        report.boot_ms, report.why_not
    );
    if !report.usable {
        println!(
            "skipped: Firecracker boots no guest here: {}",
            report.why_not
        );
        return None;
    }
    Some(machine)
}

fn unless_missing(programs: &[&str], backend: Backend) -> Option<Machine> {
    match missing(programs) {
        None => Some(Machine::new(Config::default(), backend)),
        Some(what) => {
            println!(
                "skipped: no guest boots here: {what}; tests/system/microvm.sh installs what it takes"
            );
            None
        }
    }
}

fn missing(programs: &[&str]) -> Option<String> {
    let on_path = |name: &str| Command::new(name).arg("--version").output().is_ok();
    let programs = [programs, &["setpriv", "prlimit", "unshare"]].concat();
    if let Some(program) = programs.into_iter().find(|program| !on_path(program)) {
        return Some(format!("{program} is missing"));
    }
    if Command::new("mkfs.ext4").arg("-V").output().is_err() {
        return Some("mkfs.ext4 is missing".to_owned());
    }
    if !Path::new(BUSYBOX).exists() {
        return Some(format!("{BUSYBOX} is missing"));
    }
    KernelSource::installed()
        .err()
        .map(|fault| fault.to_string())
}

impl Machine {
    pub fn new(config: Config, backend: Backend) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let vms = MicroVms::open(&config, &dir.path().join("home")).unwrap();
        let image = image(dir.path());
        Self {
            dir,
            vms,
            image,
            backend,
        }
    }

    pub fn spec(&self, script: &str) -> Spec {
        spec(script)
    }

    pub fn run(&self, spec: &Spec) -> (Outcome, Collected) {
        self.run_with(spec, &Control::new().unwrap())
    }

    pub fn run_with(&self, spec: &Spec, control: &Control) -> (Outcome, Collected) {
        let mut sink = Collected::default();
        let image = open_to_read(&self.image).unwrap();
        let outcome = self
            .vms
            .run(self.backend, image, spec, &mut sink, control)
            .unwrap();
        assert_eq!(
            self.left(),
            Vec::<PathBuf>::new(),
            "files of the run are left"
        );
        (outcome, sink)
    }

    /// The hypervisor of the one run of this machine, by its working folder, once it is one.
    pub fn hypervisor(&self) -> u32 {
        let runs = self.dir.path().join("home/runs").canonicalize().unwrap();
        let is_it = |process: &Path| {
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            let there = fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&runs));
            there && (name.starts_with("qemu") || name.starts_with("firecracker"))
        };
        until("a hypervisor runs", || {
            let processes = fs::read_dir("/proc").unwrap().flatten();
            let found = { processes }.find(|process| is_it(&process.path()))?;
            found.file_name().to_str()?.parse().ok()
        })
    }

    /// What is in the folders of runs.
    pub fn left(&self) -> Vec<PathBuf> {
        let runs = fs::read_dir(self.dir.path().join("home/runs")).unwrap();
        runs.map(|entry| entry.unwrap().path()).collect()
    }
}

/// Waits for what has to come soon, and fails when it does not.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "it never came: {what}");
        thread::yield_now();
    }
}

/// It has no privileges and gets none, filters its calls, cannot reach a network, and is of no user that owns anything,
/// and of no group but `groups`.
pub fn assert_confined(pid: u32, groups: &str) {
    // The filter is set when the hypervisor has begun.
    let status = until("a filter of system calls", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        status.contains("\nSeccomp:\t2\n").then_some(status)
    });
    for expected in [
        "\nNoNewPrivs:\t1\n",
        "\nCapEff:\t0000000000000000\n",
        "\nCapBnd:\t0000000000000000\n",
    ] {
        assert!(status.contains(expected), "{expected:?} in {status}");
    }
    let namespace = |of: &str| fs::read_link(format!("/proc/{of}/ns/net")).unwrap();
    assert_ne!(namespace(&pid.to_string()), namespace("self"));
    if fs::metadata("/proc/self/task").unwrap().uid() == 0 {
        assert!(status.contains("\nUid:\t1463"), "{status}");
        assert!(
            status.contains(&format!("\nGroups:\t{groups} \n")),
            "{status}"
        );
    }
}

/// `sh -c script` on the image.
pub fn spec(script: &str) -> Spec {
    Spec {
        argv: ["/bin/sh", "-c", script].map(ToOwned::to_owned).into(),
        env: vec![("PATH".to_owned(), "/bin".to_owned())],
        user: String::new(),
        cwd: String::new(),
        stdin: String::new(),
        outputs: vec![],
        limits: limits(),
    }
}

/// Generous, for machines that do other things too: no test waits for one unless it is about it.
pub fn limits() -> Limits {
    let minutes = Duration::from_secs(240);
    Limits {
        wall: minutes,
        boot: minutes,
        silence: minutes,
        processes: 64,
        output_bytes: 4 << 20,
        ..Limits::default()
    }
}

fn image(dir: &Path) -> PathBuf {
    let tree = dir.join("tree");
    for folder in ["bin", "etc", "tmp"] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    fs::set_permissions(tree.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::copy(BUSYBOX, tree.join("bin/busybox")).unwrap();
    for applet in [
        "cat", "chown", "chroot", "dd", "echo", "env", "head", "id", "kill", "ln", "ls", "mkfifo",
        "mknod", "mount", "pwd", "sh", "sleep", "touch", "true", "yes",
    ] {
        symlink("busybox", tree.join("bin").join(applet)).unwrap();
    }
    let put = |name: &str, text: &str| {
        write_atomic(&tree.join(name), text.as_bytes(), Mode::Public).unwrap()
    };
    put(
        "etc/passwd",
        "root:x:0:0::/root:/bin/sh\nworker:x:1000:1001::/tmp:/bin/sh\n",
    );
    put(
        "etc/group",
        "root:x:0:\nworker:x:1001:\nextra:x:50:worker\n",
    );
    let image = dir.join("root.ext4");
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-d"])
        .arg(&tree)
        .arg(&image)
        .arg("64M")
        .status()
        .unwrap();
    assert!(made.success());
    // As a cache keeps it: nobody but its owner may open it.
    fs::set_permissions(&image, fs::Permissions::from_mode(0o600)).unwrap();
    image
}
