//! The hypervisor as a process: what it may do to this machine should a guest get the better of it.
//!
//! Set up by programs of util-linux, which every Linux has, each of which becomes the next: `prlimit` (memory, size of
//! files), `unshare` (no network, no message queues of others), `setpriv` (no privileges now or later, dies with its
//! parent; a user that owns nothing, where this process is root: else it is this one's, and its files are in reach).
//! None of that takes unsafe code here.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use worldcompute_fault::{Category, Fault, Result, WcCode};

use crate::Limits;

/// The first of the users that hypervisors run as where this process is root: far from those that systems give out.
const FIRST_USER: u32 = 1_463_812_096;
/// How many there are: of two VMs of this process at the same time none is the other's user.
const USERS: u32 = 1 << 16;
/// What a hypervisor needs besides the guest's memory, in bytes of address space.
const OWN_MEMORY: u64 = 3 << 29;
/// Fewer than any VM here needs would be a defect; more is an attack.
const OPEN_FILES: u32 = 256;
/// Where programs are, whatever the environment says.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Its standard input becomes file 3, so that a file can be handed over that nobody but this process may open.
const HAND_OVER: &str = "exec 3<&0 </dev/null && exec \"$@\"";

/// What the confinement is made of.
const TOOLS: [&str; 4] = ["sh", "prlimit", "unshare", "setpriv"];

/// The number under which a program finds the file that it was handed.
pub const HANDED_OVER: u32 = 3;

/// How hypervisors are confined on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confinement {
    is_root: bool,
    namespaces: bool,
}

/// A user of one VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User(pub u32);

impl Confinement {
    /// Finds out what can be had: namespaces take root, or a system that lets everybody make them.
    ///
    /// # Errors
    /// `hypervisor_missing` without the tools; WC-007 without namespaces, unless that is `allowed`.
    pub fn of_this_machine(allowed: bool) -> Result<Self> {
        check_tools()?;
        let is_root = rustix::process::geteuid().is_root();
        let mut unshare = Command::new("unshare");
        unshare
            .args(namespaces(is_root))
            .args(["sh", "-c", ":"])
            .env_clear()
            .env("PATH", PATH);
        unshare
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let namespaces = unshare.status().is_ok_and(|status| status.success());
        let found = Self {
            is_root,
            namespaces,
        };
        found.unless_too_weak(allowed)
    }

    fn unless_too_weak(self, allowed: bool) -> Result<Self> {
        match self.namespaces || allowed {
            true => Ok(self),
            false => {
                let message = "this system refuses namespaces: hypervisors would be in its network";
                Err(Fault::wc(WcCode::SandboxUnavailable, message).hint(
                    "let this user make them (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces, \
                     kernel.apparmor_restrict_unprivileged_userns), or run as root",
                ))
            }
        }
    }

    /// What it comes to, in words for a report.
    pub fn describe(&self) -> String {
        let user = match self.is_root {
            true => "as a user of its own",
            false => "as this user, whose files it may open",
        };
        let namespaces = match self.namespaces {
            true => "without network",
            false => "with this machine's network: this system refuses namespaces",
        };
        format!("{user}, {namespaces}")
    }

    /// A user for the next VM; `None` where this process cannot choose.
    pub fn next_user(&self) -> Option<User> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        self.is_root
            .then(|| User(FIRST_USER + NEXT.fetch_add(1, Ordering::Relaxed) % USERS))
    }

    /// The command that runs `program` in `dir`, as `user`, which may also be in `group`.
    pub fn command(
        &self,
        user: Option<User>,
        group: Option<u32>,
        limits: &Limits,
        dir: &Path,
    ) -> Confined {
        let memory = limits.memory_bytes.saturating_add(OWN_MEMORY);
        let mut args: Vec<OsString> = vec!["prlimit".into()];
        args.extend([
            format!("--as={memory}").into(),
            format!("--fsize={}", limits.disk_bytes).into(),
            format!("--nofile={OPEN_FILES}").into(),
            "--core=0".into(),
        ]);
        if self.namespaces {
            args.push("unshare".into());
            args.extend(namespaces(self.is_root).iter().map(OsString::from));
        }
        args.push("setpriv".into());
        if let Some(User(id)) = user {
            args.extend([
                format!("--reuid={id}").into(),
                format!("--regid={id}").into(),
            ]);
            args.push(group.map_or("--clear-groups".into(), |group| {
                format!("--groups={group}").into()
            }));
        }
        if self.is_root || self.namespaces {
            args.extend(["--bounding-set=-all".into(), "--inh-caps=-all".into()]);
        }
        args.extend(["--no-new-privs".into(), "--pdeathsig=KILL".into()]);
        let mut command = Command::new("sh");
        command
            .args(["-c", HAND_OVER, "sh"])
            .args(args)
            .current_dir(dir);
        command
            .env_clear()
            .env("PATH", PATH)
            .env("TMPDIR", ".")
            .process_group(0);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Confined(command)
    }
}

/// A command that is confined and does not say yet what to run.
pub struct Confined(Command);

impl Confined {
    /// `program` with `args`, and `file` as its file [`HANDED_OVER`].
    pub fn run(
        mut self,
        program: &Path,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
        file: Option<File>,
    ) -> Command {
        self.0.arg(program).args(args);
        self.0.stdin(file.map_or_else(Stdio::null, Stdio::from));
        self.0
    }
}

const fn namespaces(is_root: bool) -> &'static [&'static str] {
    match is_root {
        true => &["--net", "--ipc", "--uts"],
        false => &["--user", "--map-current-user", "--net", "--ipc", "--uts"],
    }
}

/// Whether a hypervisor can be confined at all.
///
/// # Errors
/// `hypervisor_missing`, naming the tool.
fn check_tools() -> Result<()> {
    TOOLS
        .iter()
        .try_for_each(|tool| find_program(tool, "util-linux").map(drop))
}

/// The path of a program that is installed.
///
/// # Errors
/// `hypervisor_missing` with the package to install.
pub fn find_program(name: &str, package: &str) -> Result<std::path::PathBuf> {
    let found = PATH
        .split(':')
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.is_file());
    found.ok_or_else(|| {
        Fault::new(
            Category::DependencyMissing,
            "hypervisor_missing",
            format!("{name} is not installed"),
        )
        .hint(format!("apt-get install --no-install-recommends {package}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_namespaces_nothing_runs_unless_that_is_allowed() {
        let confinement = |namespaces| Confinement {
            is_root: false,
            namespaces,
        };
        let fault = confinement(false).unless_too_weak(false).unwrap_err();
        assert_eq!(fault.number(), Some(WcCode::SandboxUnavailable));
        assert!(fault.hint_text().contains("sysctl"), "{fault}");
        let allowed = confinement(false).unless_too_weak(true).unwrap();
        assert!(allowed.describe().contains("with this machine's network"));
        let confined = confinement(true).unless_too_weak(false).unwrap();
        assert!(confined.describe().ends_with("without network"));
    }
}
