//! A process that ends by a signal leaves a core dump where it may, and none once it has forbidden that.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};

const CHILD: &str = "BLUE_STORE_ABORTS";

/// Forbids core dumps, or not, and aborts.
#[test]
#[ignore = "the process that no_key_is_left_in_a_core_dump starts"]
fn child() {
    let open = rustix::process::getrlimit(rustix::process::Resource::Core);
    let all = rustix::process::Rlimit {
        current: open.maximum,
        maximum: open.maximum,
    };
    rustix::process::setrlimit(rustix::process::Resource::Core, all).unwrap();
    if std::env::var(CHILD).unwrap() == "forbidden" {
        blue_encrypted_store::forbid_core_dumps().unwrap();
        let limit = rustix::process::getrlimit(rustix::process::Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
    }
    std::process::abort();
}

fn aborted(how: &str) -> ExitStatus {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "core_dumps::child", "--ignored"]);
    child.env(CHILD, how).current_dir(dir.path());
    let status = child.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let status = status.unwrap();
    assert_eq!(status.signal(), Some(6), "{how}: {status}");
    status
}

#[test]
fn no_key_is_left_in_a_core_dump() {
    assert!(!aborted("forbidden").core_dumped());
    if !aborted("allowed").core_dumped() {
        println!("skipped: this machine leaves no core dumps anyway");
    }
}
