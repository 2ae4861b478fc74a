//! Guests whose program has succeeded, and that give out files or do otherwise.

use worldcompute_guest::Reader;

use super::*;

/// A piece of a file; without bytes its end.
fn file(bytes: &[u8]) -> Message {
    Message::Output {
        stream: Stream::Files,
        bytes: bytes.to_vec(),
    }
}

/// Runs a guest that is asked for `/out/a` and `/out/b`, of at most four bytes each. Once it may, it says all of this at
/// once, and then hangs up or waits until the host has had enough.
fn run(limits: &Limits, said: &[Message], hangs_up: bool) -> (Outcome, Collected) {
    let outputs = ["/out/a", "/out/b"].map(|path| OutputFile {
        path: path.to_owned(),
        max_bytes: 4,
    });
    let guest = |mut channel: UnixStream| {
        let mut writer = Writer::default();
        channel.write_all(&writer.write(&HELLO)).unwrap();
        wait_for_credit(&mut channel);
        let said: Vec<_> = said.iter().flat_map(|one| writer.write(one)).collect();
        channel.write_all(&said).unwrap();
        while !hangs_up && matches!(channel.read(&mut [0; 4096]), Ok(read) if read > 0) {}
    };
    let control = Control::new().unwrap();
    run_for_files(outputs.into(), "exec sleep 60", limits, &control, guest)
}

fn wait_for_credit(channel: &mut UnixStream) {
    let (mut reader, mut byte) = (Reader::of_host(), [0; 1]);
    loop {
        channel.read_exact(&mut byte).unwrap();
        let frame = reader.read(&mut byte.as_slice()).unwrap();
        if let Some(Ok(Message::Credit {
            stream: Stream::Files,
            ..
        })) = frame.map(Message::try_from)
        {
            return;
        }
    }
}

#[test]
fn files_are_there_when_the_run_has_succeeded_and_an_empty_one_is_no_missing_one() {
    let said = [over(End::Exited(0)), file(b"abc"), file(b""), file(b"")];
    let (outcome, taken) = run(&limits(), &said, false);
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    assert_eq!(taken.files, [Some(b"abc".to_vec()), Some(vec![])]);
    assert_eq!(outcome.output_bytes, 3);
}

#[test]
fn however_else_a_run_ends_its_code_is_told_and_no_file_is_there() {
    let no_file = Message::NoFile {
        reason: "it is none".to_owned(),
    };
    let (end, over) = (file(b""), over(End::Exited(0)));
    let short = Limits {
        wall: 4 * SHORT,
        ..limits()
    };
    let misconduct = Status::Misconduct;
    for (limits, hangs_up, then, expected, reason) in [
        (
            limits(),
            false,
            no_file,
            Status::OutputMissing,
            "/out/b: it is none",
        ),
        (
            limits(),
            false,
            file(b"12345"),
            Status::OutputLimit,
            "/out/b has more than 4 bytes",
        ),
        (
            limits(),
            false,
            over.clone(),
            misconduct(Misconduct::AfterEnd),
            "",
        ),
        (
            limits(),
            true,
            file(b"1"),
            misconduct(Misconduct::HungUp),
            "",
        ),
        (short, false, file(b"1"), Status::TimedOut, ""),
    ] {
        let said = [over.clone(), file(b"full"), end.clone(), then];
        let (outcome, taken) = run(&limits, &said, hangs_up);
        assert_eq!(
            (outcome.status, outcome.reason.as_str()),
            (expected, reason)
        );
        assert_eq!(outcome.exit_code(), Some(0));
        assert_eq!(outcome.fault().unwrap().code(), expected.as_str());
        assert_eq!(taken.files.iter().flatten().count(), 0, "{expected}");
    }
}

#[test]
fn what_comes_after_the_last_file_takes_every_one_back() {
    let end = file(b"");
    let said = [over(End::Exited(0)), end.clone(), end.clone(), end];
    let (outcome, taken) = run(&limits(), &said, false);
    assert_eq!(outcome.status, Status::Misconduct(Misconduct::AfterEnd));
    assert_eq!(taken.files, [None, None]);
}
