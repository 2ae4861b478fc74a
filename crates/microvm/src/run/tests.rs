//! Guests of every kind at the other end of the channel, without a VM: a process that sleeps stands for the hypervisor,
//! the test is the guest.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use worldcompute_guest::{MAX_DATA, Message, OutputFile, RunRequest, Stream, VERSION, Writer};

use super::*;
use crate::Collected;
use crate::hypervisor::Process;
use crate::run_dir::RunDir;

const HELLO: Message = Message::Hello { version: VERSION };
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(300);

const fn over(end: End) -> Message {
    Message::Ended {
        end,
        tally: Tally {
            out_of_memory: 0,
            refused_processes: 0,
        },
    }
}

fn limits() -> Limits {
    Limits {
        wall: LONG,
        boot: LONG,
        silence: LONG,
        output_bytes: 1 << 20,
        ..Limits::default()
    }
}

/// Runs a VM whose hypervisor is the shell command `hypervisor` and whose guest is `guest`.
fn run(
    hypervisor: &str,
    limits: &Limits,
    control: &Control,
    guest: impl FnOnce(UnixStream) + Send,
) -> (Outcome, Collected) {
    run_for_files(vec![], hypervisor, limits, control, guest)
}

/// The same, of a program that is to leave these behind.
fn run_for_files(
    outputs: Vec<OutputFile>,
    hypervisor: &str,
    limits: &Limits,
    control: &Control,
    guest: impl FnOnce(UnixStream) + Send,
) -> (Outcome, Collected) {
    let home = tempfile::tempdir().unwrap();
    let dir = RunDir::create(home.path()).unwrap();
    let path = dir.path().join("channel");
    let mut command = Command::new("sh");
    command
        .args(["-c", hypervisor])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let vm = Vm {
        channel: dir.listen("channel").unwrap(),
        process: Process::start(command).unwrap(),
        monitor: None,
        dir,
    };
    let request = RunRequest {
        argv: vec!["true".to_owned()],
        outputs,
        ..RunRequest::default()
    };
    let dialogue = Dialogue::new(Some(request), limits.output_bytes);
    let mut sink = Collected::default();
    let outcome = thread::scope(|scope| {
        // Before the hypervisor can be missed.
        let channel = UnixStream::connect(path).unwrap();
        scope.spawn(|| guest(channel));
        attend(vm, dialogue, limits, &mut sink, control).unwrap()
    });
    assert!(is_empty(home.path()), "something of the run is left");
    (outcome, sink)
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().next().is_none()
}

/// A guest that says these, and then waits until the host has had enough.
fn says(messages: Vec<Message>) -> impl FnOnce(UnixStream) + Send {
    move |mut channel| {
        let mut writer = Writer::default();
        for message in messages {
            if channel.write_all(&writer.write(&message)).is_err() {
                return;
            }
        }
        while matches!(channel.read(&mut [0; 4096]), Ok(read) if read > 0) {}
    }
}

fn status(limits: &Limits, guest: impl FnOnce(UnixStream) + Send) -> Status {
    run("exec sleep 60", limits, &Control::new().unwrap(), guest)
        .0
        .status
}

#[test]
fn a_program_that_ends_is_told_by_its_code_or_signal() {
    for (end, expected) in [
        (End::Exited(0), Status::Succeeded),
        (End::Exited(7), Status::Failed),
        (End::Killed(9), Status::Killed),
    ] {
        let (outcome, _) = run(
            "exec sleep 60",
            &limits(),
            &Control::new().unwrap(),
            says(vec![HELLO, over(end)]),
        );
        assert_eq!((outcome.status, outcome.end), (expected, Some(end)));
        assert!(outcome.boot.is_some());
        assert_eq!(outcome.fault().is_none(), expected == Status::Succeeded);
    }
}

#[test]
fn what_the_kernel_refused_matters_only_to_a_program_that_failed() {
    let ended = |end, out_of_memory, refused_processes| {
        let tally = Tally {
            out_of_memory,
            refused_processes,
        };
        status(&limits(), says(vec![HELLO, Message::Ended { end, tally }]))
    };
    assert_eq!(ended(End::Exited(0), 1, 1), Status::Succeeded);
    assert_eq!(ended(End::Killed(9), 1, 1), Status::OutOfMemory);
    assert_eq!(ended(End::Exited(2), 0, 1), Status::ProcessLimit);
}

#[test]
fn a_guest_that_breaks_the_protocol_is_ended_at_once() {
    let garbage = |mut channel: UnixStream| channel.write_all(&[0xff; 100]).unwrap();
    assert_eq!(
        status(&limits(), garbage),
        Status::Misconduct(Misconduct::UnknownFrame)
    );
    let twice = says(vec![HELLO, HELLO]);
    assert_eq!(
        status(&limits(), twice),
        Status::Misconduct(Misconduct::SecondHello)
    );
    let early = says(vec![over(End::Exited(0))]);
    assert_eq!(
        status(&limits(), early),
        Status::Misconduct(Misconduct::BeforeHello)
    );
}

#[test]
fn a_guest_that_hangs_up_in_the_middle_of_a_frame_is_told_from_one_that_ends() {
    let half = |mut channel: UnixStream| {
        let bytes = Writer::default().write(&HELLO);
        channel.write_all(&bytes[..5]).unwrap();
    };
    assert_eq!(
        status(&limits(), half),
        Status::Misconduct(Misconduct::HungUp)
    );
    let none = |channel: UnixStream| drop(channel);
    assert_eq!(
        status(&limits(), none),
        Status::Misconduct(Misconduct::HungUp)
    );
}

#[test]
fn a_guest_that_closes_its_half_and_keeps_the_other_open_has_hung_up() {
    let half_open = |mut channel: UnixStream| {
        channel.write_all(&Writer::default().write(&HELLO)).unwrap();
        channel.shutdown(std::net::Shutdown::Write).unwrap();
        while matches!(channel.read(&mut [0; 4096]), Ok(read) if read > 0) {}
    };
    assert_eq!(
        status(&limits(), half_open),
        Status::Misconduct(Misconduct::HungUp)
    );
}

#[test]
fn a_guest_that_floods_and_reads_nothing_is_ended_and_little_is_kept() {
    let most = 1 << 30;
    let flood = |mut channel: UnixStream| {
        let mut writer = Writer::default();
        channel.write_all(&writer.write(&HELLO)).unwrap();
        channel.read_exact(&mut [0; 16]).unwrap();
        let mut piece = || {
            writer.write(&Message::Output {
                stream: Stream::Stdout,
                bytes: vec![b'x'; MAX_DATA],
            })
        };
        while channel.write_all(&piece()).is_ok() {}
    };
    let limits = Limits {
        output_bytes: most,
        ..limits()
    };
    let (outcome, _) = run("exec sleep 60", &limits, &Control::new().unwrap(), flood);
    assert_eq!(outcome.status, Status::Misconduct(Misconduct::Flood));
    assert!(
        outcome.output_bytes < most / 4,
        "{} bytes",
        outcome.output_bytes
    );
}

#[test]
fn a_guest_that_never_speaks_has_not_booted() {
    let limits = Limits {
        boot: SHORT,
        ..limits()
    };
    let (outcome, _) = run(
        "echo panic; exec sleep 60",
        &limits,
        &Control::new().unwrap(),
        says(vec![]),
    );
    assert_eq!((outcome.status, outcome.boot), (Status::NeverBooted, None));
    assert_eq!(outcome.console, "panic\n");
}

#[test]
fn a_guest_that_falls_silent_is_ended_and_one_that_talks_is_not() {
    let silence = Limits {
        silence: SHORT,
        ..limits()
    };
    assert_eq!(status(&silence, says(vec![HELLO])), Status::Silent);
    let (sender, receiver) = mpsc::channel::<()>();
    let talks = move |mut channel: UnixStream| {
        let mut writer = Writer::default();
        channel.write_all(&writer.write(&HELLO)).unwrap();
        for _ in 0..6 {
            let _ = receiver.recv_timeout(SHORT / 3);
            channel
                .write_all(&writer.write(&Message::Heartbeat))
                .unwrap();
        }
        channel
            .write_all(&writer.write(&over(End::Exited(0))))
            .unwrap();
        let _ = channel.read(&mut [0; 1]);
    };
    assert_eq!(status(&silence, talks), Status::Succeeded);
    drop(sender);
}

#[test]
fn a_guest_that_talks_for_ever_is_ended_by_its_wall_clock_limit() {
    let limits = Limits {
        wall: SHORT,
        ..limits()
    };
    let (sender, receiver) = mpsc::channel::<()>();
    let for_ever = move |mut channel: UnixStream| {
        let mut writer = Writer::default();
        let mut said = channel.write_all(&writer.write(&HELLO));
        while said.is_ok() {
            let _ = receiver.recv_timeout(SHORT / 10);
            said = channel.write_all(&writer.write(&Message::Heartbeat));
        }
    };
    assert_eq!(status(&limits, for_ever), Status::TimedOut);
    drop(sender);
}

#[test]
fn a_guest_that_floods_with_heartbeats_is_ended_before_its_time_is_over() {
    let flood = |mut channel: UnixStream| {
        let mut writer = Writer::default();
        let mut said = channel.write_all(&writer.write(&HELLO));
        while said.is_ok() {
            said = channel.write_all(&writer.write(&Message::Heartbeat));
        }
    };
    let flooded = Status::Misconduct(Misconduct::Flood);
    assert_eq!(status(&limits(), flood), flooded);
}

#[test]
fn a_hypervisor_that_dies_is_told_from_a_guest_that_ends() {
    let control = Control::new().unwrap();
    let (outcome, _) = run(
        "echo gone >&2; kill -9 $$",
        &limits(),
        &control,
        says(vec![]),
    );
    assert_eq!(
        (outcome.status, outcome.console.as_str()),
        (Status::HypervisorDied, "gone\n")
    );
    assert!(outcome.reason.contains('9'), "{}", outcome.reason);
}

#[test]
fn a_console_is_kept_by_its_end_whatever_its_length() {
    let control = Control::new().unwrap();
    let (outcome, _) = run("seq 100000; echo end", &limits(), &control, says(vec![]));
    assert!(outcome.console.len() <= MAX_CONSOLE);
    assert!(outcome.console.ends_with("100000\nend\n"));
}

#[test]
fn a_console_that_somebody_else_holds_open_is_not_waited_for() {
    let control = Control::new().unwrap();
    let (outcome, _) = run("sleep 60 & echo $!", &limits(), &control, says(vec![]));
    let holder = outcome.console.trim();
    let ended = Command::new("kill").arg(holder).status().unwrap();
    assert!(ended.success(), "{holder} had ended: it was waited for");
}

#[test]
fn a_console_on_which_somebody_else_goes_on_for_ever_is_left() {
    let control = Control::new().unwrap();
    let goes_on = "yes & sleep 0.2; exit 3";
    let (outcome, _) = run(goes_on, &limits(), &control, says(vec![]));
    assert_eq!(outcome.status, Status::HypervisorDied);
    assert!(outcome.console.contains("y\n"), "{}", outcome.console);
}

#[test]
fn a_run_is_cancelled_also_while_it_is_frozen() {
    let control = Control::new().unwrap();
    control.freeze().unwrap();
    let held = control.clone();
    let cancel = move |channel: UnixStream| {
        held.cancel();
        drop(channel);
    };
    let (outcome, _) = run("exec sleep 60", &limits(), &control, cancel);
    assert_eq!(outcome.status, Status::Cancelled);
}

#[test]
fn frozen_time_does_not_count_and_the_process_stands_still() {
    let control = Control::new().unwrap();
    let held = control.clone();
    let (sender, receiver) = mpsc::channel::<()>();
    let start = Instant::now();
    let guest = move |mut channel: UnixStream| {
        let mut writer = Writer::default();
        channel.write_all(&writer.write(&HELLO)).unwrap();
        // The request: by then the process is known to the control.
        channel.read_exact(&mut [0; 16]).unwrap();
        held.freeze().unwrap();
        assert!(held.is_frozen());
        let _ = receiver.recv_timeout(3 * SHORT);
        held.resume().unwrap();
        channel
            .write_all(&writer.write(&over(End::Exited(0))))
            .unwrap();
        let _ = channel.read(&mut [0; 1]);
    };
    let (outcome, _) = run(
        "exec sleep 60",
        &Limits {
            wall: 2 * SHORT,
            ..limits()
        },
        &control,
        guest,
    );
    assert_eq!(outcome.status, Status::Succeeded);
    assert!(start.elapsed() >= 3 * SHORT);
    assert!(outcome.wall < 2 * SHORT, "{:?}", outcome.wall);
    drop(sender);
}

mod files;
