//! Guests that boot on Firecracker. On a machine without a KVM that boots them, `tests/system/microvm.sh` runs this in an
//! emulated one that has one.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::Duration;

use support::{assert_confined, machine_with_firecracker};
use worldcompute_microvm::{Control, Status};

#[test]
fn a_program_runs_on_firecracker_as_on_any_other() {
    let Some(machine) = machine_with_firecracker() else {
        return;
    };
    let mut hello = machine.spec("echo hello; id >&2; exit 0");
    hello.user = "worker".to_owned();
    let (outcome, printed) = machine.run(&hello);
    assert_eq!(
        (outcome.status, outcome.exit_code()),
        (Status::Succeeded, Some(0)),
        "{outcome:?}"
    );
    println!("hello: boot {:?}, wall {:?}", outcome.boot, outcome.wall);
    assert_eq!(printed.stdout, b"hello\n");
    assert!(
        String::from_utf8(printed.stderr)
            .unwrap()
            .contains("uid=1000(worker)")
    );

    let (outcome, printed) =
        machine.run(&machine.spec("yes abcdefg | head -c 1048576 >&2; exit 7"));
    assert_eq!(
        (outcome.status, outcome.exit_code()),
        (Status::Failed, Some(7)),
        "{outcome:?}"
    );
    assert!(
        printed.stderr == b"abcdefg\n".repeat(131_072),
        "{} bytes",
        printed.stderr.len()
    );

    let (outcome, _) = machine.run(&machine.spec("echo b > /proc/sysrq-trigger; sleep 1000"));
    assert_eq!(
        (outcome.status, outcome.end),
        (Status::Rebooted, None),
        "{outcome:?}"
    );

    let control = Control::new().unwrap();
    let waiting = machine.spec("sleep 1000");
    thread::scope(|scope| {
        let run = scope.spawn(|| machine.run_with(&waiting, &control));
        let groups = match fs::metadata("/dev/kvm").map(|kvm| kvm.gid()) {
            Ok(0) | Err(_) => String::new(),
            Ok(kvm) => kvm.to_string(),
        };
        assert_confined(machine.hypervisor(), &groups);
        control.cancel();
        assert_eq!(run.join().unwrap().0.status, Status::Cancelled);
    });

    let mut endless = machine.spec("while :; do :; done");
    endless.limits.wall = Duration::from_secs(1);
    assert_eq!(machine.run(&endless).0.status, Status::TimedOut);
}
