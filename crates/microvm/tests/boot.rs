//! Guests that boot, on QEMU with emulation: what an honest program gets, and what every other one comes to.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::{Machine, assert_confined, limits, machine, until};
use worldcompute_durable::{Mode, write_atomic};
use worldcompute_microvm::{
    Backend, Config, Control, End, KernelSource, Limits, MicroVms, OutputFile, Sink, Source, Status,
};
use worldcompute_proof::Sha256;

#[test]
fn a_program_runs_as_its_images_user_with_both_streams_apart() {
    let Some(machine) = machine() else { return };
    let before = Sha256::of_reader(File::open(&machine.image).unwrap()).unwrap();
    let mut spec = machine.spec(
        "echo hello; id >&2; pwd >&2; env >&2; echo x > /tmp/file; ls /sys/class/net >&2; sleep 1000 & exit 0",
    );
    spec.user = "worker".to_owned();
    spec.cwd = "/work/deep".to_owned();
    let (outcome, printed) = machine.run(&spec);
    assert_eq!(
        (outcome.status, outcome.exit_code()),
        (Status::Succeeded, Some(0)),
        "{outcome:?}"
    );
    assert_eq!(printed.stdout, b"hello\n");
    let stderr = String::from_utf8(printed.stderr).unwrap();
    for expected in [
        "uid=1000(worker) gid=1001(worker) groups=50(extra)",
        "/work/deep",
        "HOME=/tmp",
        "PATH=/bin",
    ] {
        assert!(stderr.contains(expected), "{expected} in {stderr}");
    }
    assert!(
        stderr.ends_with("\nlo\n"),
        "a network device besides loopback: {stderr}"
    );
    let after = Sha256::of_reader(File::open(&machine.image).unwrap()).unwrap();
    assert_eq!(before, after, "the image was changed");
}

#[test]
fn root_of_an_image_makes_no_device_mounts_nothing_and_does_not_leave_its_folder() {
    let Some(machine) = machine() else { return };
    // The disk of the image, as the agent knows it.
    let script = "mknod /tmp/disk b 254 0 2>&1 || echo no device; mount -t tmpfs none /tmp 2>&1 || echo no mount; \
                  chroot /tmp /bin/true 2>&1 || echo no chroot; ls /proc/1/root 2>&1 || echo no agent; \
                  touch /tmp/file && chown 1000 /tmp/file && echo a file; cat /proc/self/status";
    let (outcome, printed) = machine.run(&machine.spec(script));
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    let printed = String::from_utf8(printed.stdout).unwrap();
    for expected in [
        "mknod: /tmp/disk: Operation not permitted\nno device\n",
        "mount: permission denied (are you root?)\nno mount\n",
        "Operation not permitted\nno chroot\n",
        "Permission denied\nno agent\n",
        "\na file\n",
        "\nCapInh:\t0000000000000000\nCapPrm:\t00000000a00025fb\nCapEff:\t00000000a00025fb\nCapBnd:\t00000000a00025fb\n",
        "\nNoNewPrivs:\t1\n",
    ] {
        assert!(printed.contains(expected), "{expected:?} in {printed}");
    }
}

#[test]
fn a_megabyte_of_stderr_arrives_whole_with_the_exit_code() {
    let Some(machine) = machine() else { return };
    let script = "echo before; yes abcdefg | head -c 1048576 >&2; echo after; exit 7";
    let (outcome, printed) = machine.run(&machine.spec(script));
    assert_eq!(
        (outcome.status, outcome.exit_code()),
        (Status::Failed, Some(7)),
        "{outcome:?}"
    );
    assert_eq!(printed.stdout, b"before\nafter\n");
    assert!(
        printed.stderr == b"abcdefg\n".repeat(131_072),
        "{} bytes",
        printed.stderr.len()
    );
}

#[test]
fn a_signal_and_a_program_that_is_not_there_are_told_apart() {
    let Some(machine) = machine() else { return };
    let (outcome, _) = machine.run(&machine.spec("kill -TERM $$"));
    assert_eq!(
        (outcome.status, outcome.end),
        (Status::Killed, Some(End::Killed(15))),
        "{outcome:?}"
    );
    let mut spec = machine.spec("");
    spec.argv = vec!["nothing".to_owned()];
    let (outcome, _) = machine.run(&spec);
    assert_eq!(outcome.status, Status::NotStarted);
    assert!(outcome.reason.contains("run nothing"), "{outcome:?}");
}

#[test]
fn standard_input_is_read_to_its_end_and_files_arrive_whole() {
    let Some(machine) = machine() else { return };
    let busybox = std::fs::read("/bin/busybox").unwrap();
    let large = b"abcdefg\n".repeat(131_072);
    // Nothing is left of the input for the second `cat`. What goes on writing has neither stream: it is not waited for, and ended before files are read.
    let script = "umask 077; ln -s /tmp /tmp/out; cat > /tmp/copy; cat; > /tmp/empty; \
                  yes abcdefg | head -c 1048576 > /tmp/large; \
                  while :; do echo x; done > /tmp/log 2>&1 & until [ -s /tmp/log ]; do :; done; echo done";
    let mut spec = machine.spec(script);
    spec.user = "worker".to_owned();
    spec.stdin = "/bin/busybox".to_owned();
    spec.outputs = vec![
        // Links to folders lead where they lead in the image.
        output("/tmp/out/copy", busybox.len()),
        output("/tmp/empty", 0),
        output("/tmp/log", 1 << 18),
        output("/tmp/large", large.len()),
        output("/tmp/log", 1 << 18),
    ];
    let (outcome, taken) = machine.run(&spec);
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    assert_eq!(taken.stdout, b"done\n");
    let files: Option<Vec<_>> = taken.files.into_iter().collect();
    let [copy, empty, log, last, log_again] = <[_; 5]>::try_from(files.unwrap()).unwrap();
    assert!(copy == busybox, "another copy of {} bytes", copy.len());
    assert_eq!(empty, b"");
    assert!(last == large, "another megabyte of {} bytes", last.len());
    assert!(log.starts_with(b"x\n"));
    assert_eq!(log.len(), log_again.len(), "somebody went on");
    let all = "done\n".len() + copy.len() + 2 * log.len() + last.len();
    assert_eq!(outcome.output_bytes, all as u64);
}

#[test]
fn an_output_that_is_no_regular_file_on_the_disk_is_missing_and_no_other_is_given_out() {
    let Some(machine) = machine() else { return };
    for (script, path, why) in [
        ("true", "/tmp/nothing", "No such file"),
        (
            "ln -s /etc/passwd /tmp/link",
            "/tmp/link",
            "no regular file",
        ),
        ("mkfifo /tmp/fifo", "/tmp/fifo", "no regular file"),
        ("true", "/proc/1/environ", "link"),
    ] {
        let mut spec = machine.spec(script);
        spec.outputs = vec![output("/etc/passwd", 1000), output(path, 1000)];
        let (outcome, taken) = machine.run(&spec);
        assert_eq!(outcome.status, Status::OutputMissing, "{path}: {outcome:?}");
        assert_eq!(outcome.exit_code(), Some(0));
        assert!(
            outcome.reason.starts_with(&format!("{path}: ")),
            "{outcome:?}"
        );
        assert!(outcome.reason.contains(why), "{why} in {outcome:?}");
        assert!(taken.files.iter().all(Option::is_none), "{taken:?}");
    }
}

#[test]
fn a_byte_past_a_limit_a_program_that_failed_and_an_input_that_is_none_give_out_nothing() {
    let Some(machine) = machine() else { return };
    for (script, stdin, expected, why) in [
        (
            "echo 12345 > /tmp/a",
            "",
            Status::OutputLimit,
            "/tmp/a has more than 5 bytes",
        ),
        ("cat; echo 1234 > /tmp/a; exit 3", "", Status::Failed, ""),
        (
            "echo 1234 > /tmp/a",
            "/bin/sh",
            Status::NotStarted,
            "open /bin/sh: it is no regular file",
        ),
    ] {
        let mut spec = machine.spec(script);
        spec.stdin = stdin.to_owned();
        spec.outputs = vec![output("/tmp/a", 5)];
        let (outcome, taken) = machine.run(&spec);
        assert_eq!(outcome.status, expected, "{script}: {outcome:?}");
        assert!(outcome.reason.contains(why), "{why} in {outcome:?}");
        assert!(taken.files.iter().all(Option::is_none), "{taken:?}");
    }
}

fn output(path: &str, max_bytes: usize) -> OutputFile {
    OutputFile {
        path: path.to_owned(),
        max_bytes: max_bytes as u64,
    }
}

#[test]
fn a_disk_that_is_no_file_system_is_a_program_that_is_not_started() {
    let Some(mut machine) = machine() else { return };
    machine.image = machine.dir.path().join("garbage");
    write_atomic(&machine.image, &vec![7; 1 << 20], Mode::Private).unwrap();
    let (outcome, _) = machine.run(&machine.spec("true"));
    assert_eq!(outcome.status, Status::NotStarted);
    assert!(outcome.reason.contains("mount /root"), "{outcome:?}");
}

#[test]
fn bombs_end_with_a_status_of_their_own() {
    let Some(machine) = machine() else { return };
    let cases = [
        ("x=x; while :; do x=$x$x; done", Status::OutOfMemory),
        (
            "bomb() { bomb | bomb & }; bomb; sleep 2; exec /bin/sh -c 'true | true; exit 3'",
            Status::ProcessLimit,
        ),
        ("exec yes", Status::OutputLimit),
        ("cat /dev/zero > /zero; exit 1", Status::DiskLimit),
    ];
    for (script, expected) in cases {
        let mut spec = machine.spec(script);
        spec.limits.output_bytes = 100_000;
        spec.limits.disk_bytes = 16 << 20;
        let (outcome, printed) = machine.run(&spec);
        assert_eq!(outcome.status, expected, "{script}: {outcome:?}");
        assert!(printed.stdout.len() <= 100_000);
    }
}

#[test]
fn a_guest_that_switches_itself_off_or_starts_over_has_no_exit_code() {
    let Some(machine) = machine() else { return };
    for (key, expected) in [("o", Status::PoweredOff), ("b", Status::Rebooted)] {
        let (outcome, _) =
            machine.run(&machine.spec(&format!("echo {key} > /proc/sysrq-trigger; sleep 1000")));
        assert_eq!(
            (outcome.status, outcome.end),
            (expected, None),
            "{outcome:?}"
        );
    }
}

#[test]
fn a_guest_that_loops_is_ended_by_its_limit_and_time_in_which_it_is_frozen_does_not_count() {
    let Some(machine) = machine() else { return };
    let wall = Duration::from_secs(3);
    let mut spec = machine.spec("echo started; while :; do :; done");
    spec.limits = Limits { wall, ..limits() };
    let control = Control::new().unwrap();
    let frozen = thread::scope(|scope| {
        let run = scope.spawn(|| machine.run_with(&spec, &control));
        let pid = machine.hypervisor();
        control.freeze().unwrap();
        let states = thread_states(pid);
        let frozen = Instant::now();
        while frozen.elapsed() < wall + Duration::from_secs(1) {
            assert!(!run.is_finished());
            thread::yield_now();
        }
        control.resume().unwrap();
        let (outcome, _) = run.join().unwrap();
        assert_eq!(outcome.status, Status::TimedOut, "{outcome:?}");
        assert!(outcome.wall >= wall);
        states
    });
    assert!(
        !frozen.is_empty() && frozen.iter().all(|state| state == "T"),
        "{frozen:?}"
    );
}

#[test]
fn a_hypervisor_that_is_killed_from_outside_and_a_run_that_is_cancelled_leave_nothing() {
    let Some(machine) = machine() else { return };
    let spec = machine.spec("sleep 1000");
    let control = Control::new().unwrap();
    thread::scope(|scope| {
        let run = scope.spawn(|| machine.run_with(&spec, &control));
        let pid = machine.hypervisor();
        assert_confined(pid, "");
        assert!(
            Command::new("kill")
                .args(["-9", &pid.to_string()])
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(run.join().unwrap().0.status, Status::HypervisorDied);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());

        let run = scope.spawn(|| machine.run_with(&spec, &control));
        let pid = machine.hypervisor();
        control.cancel();
        assert_eq!(run.join().unwrap().0.status, Status::Cancelled);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    });
}

/// Where the process that is killed has its home.
const HOME: &str = "WORLDCOMPUTE_TEST_MICROVM_HOME";
/// What it prints when its guest runs.
const UP: &str = "its guest is up";

#[test]
fn a_hypervisor_dies_with_the_process_that_started_it_and_the_next_one_clears_up() {
    let Some(machine) = machine() else { return };
    let mut starter = Command::new(std::env::current_exe().unwrap());
    starter
        .args(["--exact", "a_process_that_is_killed", "--nocapture"])
        .env(HOME, machine.dir.path())
        .stdout(Stdio::piped());
    let mut starter = Killed(starter.spawn().unwrap());
    // Before its guest is up, QEMU ends by itself when nobody listens. Should it never be, its limits end it.
    let printed = BufReader::new(starter.0.stdout.take().unwrap());
    assert!({ printed }.lines().any(|line| line.unwrap() == UP));
    let pid = machine.hypervisor();
    drop(starter);
    let cwd = PathBuf::from(format!("/proc/{pid}/cwd"));
    until("the hypervisor is gone", || cwd.read_link().err().map(drop));
    assert_eq!(machine.left().len(), 1);
    MicroVms::open(&Config::default(), &machine.dir.path().join("home")).unwrap();
    assert_eq!(machine.left().len(), 0);
}

/// A process that is killed also where the test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_process_that_is_killed() {
    let Some(dir) = std::env::var_os(HOME).map(PathBuf::from) else {
        println!("skipped: it is the other half of another test");
        return;
    };
    let vms = MicroVms::open(&Config::default(), &dir.join("home")).unwrap();
    let image = File::open(dir.join("root.ext4")).unwrap();
    let spec = support::spec("echo; sleep 1000");
    let control = Control::new().unwrap();
    let mut sink = Announced(control.clone());
    vms.run(Backend::QemuEmulation, image, &spec, &mut sink, &control)
        .unwrap();
}

/// Tells when the guest says something. It stands still from then on, so that it cannot end itself.
struct Announced(Control);

impl Sink for Announced {
    fn take(&mut self, _: Source, _: &[u8]) -> worldcompute_fault::Result<()> {
        self.0.freeze()?;
        println!("\n{UP}");
        Ok(())
    }
}

#[test]
fn a_kernel_that_does_not_boot_is_a_machine_that_nothing_runs_on() {
    let Some(machine) = machine() else { return };
    let good = KernelSource::installed().unwrap();
    let mut spec = machine.spec("true");
    spec.limits.boot = Duration::from_millis(200);
    let (outcome, _) = machine.run(&spec);
    assert_eq!((outcome.status, outcome.boot), (Status::NeverBooted, None));

    let broken = machine.dir.path().join("vmlinux");
    write_atomic(
        &broken,
        &[b"\x7fELF".as_slice(), &[0; 4096]].concat(),
        Mode::Public,
    )
    .unwrap();
    let kernel = KernelSource {
        image: broken,
        ..good
    };
    let machine = Machine::new(
        Config {
            kernel: Some(kernel),
            backend: Some(Backend::QemuEmulation),
            ..Config::default()
        },
        Backend::QemuEmulation,
    );
    let fault = machine.vms.choose().unwrap_err();
    assert_eq!(fault.code(), "sandbox_unavailable");
    assert!(fault.message().contains("hypervisor_died"), "{fault}");
}

#[test]
fn the_survey_boots_a_guest_once_and_remembers_until_a_guest_is_given_up() {
    let Some(machine) = machine() else { return };
    let reports = machine.vms.survey().unwrap();
    assert_eq!(
        reports
            .iter()
            .map(|report| report.backend)
            .collect::<Vec<_>>(),
        Backend::ALL
    );
    let emulation = reports.last().unwrap();
    assert!(
        emulation.usable && emulation.boot_ms.is_some(),
        "{emulation:?}"
    );
    for report in &reports {
        println!(
            "{}: usable {}, boot {:?} ms, {}",
            report.backend, report.usable, report.boot_ms, report.why_not
        );
        assert_eq!(report.usable, report.code.is_empty());
    }
    println!("confined {}", machine.vms.confinement());
    let file = machine.dir.path().join("home/hypervisors.json");
    let remembered = std::fs::read(&file).unwrap();
    assert_eq!(machine.vms.survey().unwrap(), reports);
    machine.vms.choose().unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), remembered);
    let mut spec = machine.spec("true");
    spec.limits.boot = Duration::from_millis(100);
    machine.run(&spec);
    assert!(!file.exists());
}

fn thread_states(pid: u32) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let stats =
        threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap());
    stats
        .map(|stat| stat.rsplit(") ").next().unwrap().chars().take(1).collect())
        .collect()
}
