//! Frames and messages: what is written is read, and nothing else is.

use proptest::prelude::*;

use super::*;
use crate::frame::{HEADER, Reader};
use crate::{MAX_DATA, MAX_ENTRIES, MAX_OUTPUTS, MAX_PATH, MAX_RUN, MAX_TEXT, OutputFile};

fn read_all(reader: &mut Reader, mut bytes: &[u8]) -> Result<Vec<Message>, Refusal> {
    let mut messages = Vec::new();
    while let Some(frame) = reader.read(&mut bytes)? {
        messages.push(frame.try_into()?);
    }
    Ok(messages)
}

fn header(kind: u8, sequence: u32, length: u32) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(sequence.to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes
}

fn request() -> RunRequest {
    RunRequest {
        argv: vec!["/bin/sh".into(), "-c".into(), "exit 7".into()],
        env: vec![
            ("PATH".into(), "/bin".into()),
            ("EMPTY".into(), String::new()),
        ],
        user: "nobody:100".into(),
        cwd: "/tmp".into(),
        stdin: "/in".into(),
        outputs: vec![output("/out/a"), output("/out/b")],
        root: "vda".into(),
        memory_bytes: 64 << 20,
        processes: 32,
        open_files: 64,
    }
}

fn output(path: &str) -> OutputFile {
    OutputFile {
        path: path.into(),
        max_bytes: 1 << 40,
    }
}

fn from_agent() -> impl Strategy<Value = Message> {
    let stream = prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)];
    let end = prop_oneof![
        any::<u8>().prop_map(End::Exited),
        (1..=64_u8).prop_map(End::Killed)
    ];
    prop_oneof![
        any::<u16>().prop_map(|version| Message::Hello { version }),
        Just(Message::Heartbeat),
        "\\PC{0,200}".prop_map(|reason| Message::NotStarted { reason }),
        (stream, proptest::collection::vec(any::<u8>(), 1..300))
            .prop_map(|(stream, bytes)| Message::Output { stream, bytes }),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| Message::Output {
            stream: Stream::Files,
            bytes
        }),
        "\\PC{0,200}".prop_map(|reason| Message::NoFile { reason }),
        (end, any::<u32>(), any::<u32>()).prop_map(|(end, out_of_memory, refused_processes)| {
            let tally = Tally {
                out_of_memory,
                refused_processes,
            };
            Message::Ended { end, tally }
        }),
    ]
}

proptest! {
    #[test]
    fn messages_come_back_however_their_bytes_are_cut(
        messages in proptest::collection::vec(from_agent(), 0..20), piece in 1..64_usize,
    ) {
        let mut writer = Writer::default();
        let bytes: Vec<_> = messages.iter().flat_map(|one| writer.write(one)).collect();
        let mut reader = Reader::of_agent();
        let mut read = Vec::new();
        for piece in bytes.chunks(piece) {
            read.extend(read_all(&mut reader, piece).unwrap());
        }
        prop_assert_eq!(read, messages);
        prop_assert_eq!(reader.pending(), 0);
    }

    #[test]
    fn any_bytes_are_refused_or_are_what_would_be_written(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut reader = Reader::of_agent();
        if let Ok(messages) = read_all(&mut reader, &bytes) {
            let mut writer = Writer::default();
            let again: Vec<_> = messages.iter().flat_map(|one| writer.write(one)).collect();
            prop_assert_eq!(&bytes[..bytes.len() - reader.pending()], &again[..]);
        }
    }

    #[test]
    fn a_request_with_a_byte_changed_is_refused_or_another_request(at in 0..300_usize, to in any::<u8>()) {
        let mut bytes = request().encode();
        let at = at % bytes.len();
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        if let Some(read) = RunRequest::decode(&bytes) {
            prop_assert_ne!(&read, &request());
            prop_assert_eq!(read.encode(), bytes);
        }
    }
}

#[test]
fn what_the_host_says_is_read_by_the_agent_and_by_nobody_else() {
    let credit = Message::Credit {
        stream: Stream::Stderr,
        bytes: 70_000,
    };
    let messages = [Message::Run(Box::new(request())), credit];
    let mut writer = Writer::default();
    let bytes: Vec<_> = messages.iter().flat_map(|one| writer.write(one)).collect();
    assert_eq!(read_all(&mut Reader::of_host(), &bytes).unwrap(), messages);
    let refused = read_all(&mut Reader::of_agent(), &bytes).unwrap_err();
    assert_eq!(refused, Refusal::UnknownKind(2));
}

#[test]
fn a_length_past_the_limit_of_its_kind_is_refused_before_a_byte_of_it_is_kept() {
    for kind in Kind::ALL {
        let most = kind.max_payload() as u32;
        for length in [most + 1, u32::MAX] {
            let mut reader = if matches!(kind, Kind::Run | Kind::Credit) {
                Reader::of_host()
            } else {
                Reader::of_agent()
            };
            let bytes = [header(kind as u8, 0, length), vec![0; 100]].concat();
            assert_eq!(
                reader.read(&mut &bytes[..]),
                Err(Refusal::TooLong { kind, length })
            );
            assert_eq!(reader.pending(), HEADER);
        }
    }
}

#[test]
fn a_frame_of_the_largest_size_is_read() {
    let message = Message::Output {
        stream: Stream::Stdout,
        bytes: vec![7; MAX_DATA],
    };
    let bytes = Writer::default().write(&message);
    assert_eq!(
        read_all(&mut Reader::of_agent(), &bytes).unwrap(),
        [message]
    );
}

#[test]
fn frames_left_out_repeated_or_unknown_are_refused() {
    let mut writer = Writer::default();
    let [first, second, third] = [0; 3].map(|_| writer.write(&Message::Heartbeat));
    let out = |expected, found| Err(Refusal::OutOfSequence { expected, found });
    let read = |frames: &[&[u8]]| read_all(&mut Reader::of_agent(), &frames.concat());
    assert_eq!(read(&[&first, &third]), out(1, 2));
    assert_eq!(read(&[&first, &second, &second]), out(2, 1));
    assert_eq!(read(&[&second]), out(0, 1));
    for number in [0, 2, 3, 12, 255] {
        assert_eq!(
            read(&[&header(number, 0, 0)]),
            Err(Refusal::UnknownKind(number))
        );
    }
}

#[test]
fn a_payload_that_is_none_of_its_kind_is_refused() {
    let cases: [(Kind, &[u8]); 10] = [
        (Kind::Hello, &[]),
        (Kind::Hello, &[1]),
        (Kind::NotStarted, &[0xff]),
        (Kind::NoFile, &[0xff]),
        (Kind::Stdout, &[]),
        (Kind::Stderr, &[]),
        (Kind::Exited, &[0]),
        (Kind::Killed, &[0; 9]),
        (Kind::Killed, &[65, 0, 0, 0, 0, 0, 0, 0, 0]),
        (Kind::Exited, &[]),
    ];
    for (kind, payload) in cases {
        let bytes = encode(kind, 0, payload);
        let refused = read_all(&mut Reader::of_agent(), &bytes);
        assert_eq!(refused, Err(Refusal::Malformed(kind)), "{payload:?}");
    }
    let to_nobody = encode(Kind::Credit, 0, &[9, 1, 0, 0, 0]);
    let refused = read_all(&mut Reader::of_host(), &to_nobody);
    assert_eq!(refused, Err(Refusal::Malformed(Kind::Credit)));
}

#[test]
fn a_request_past_any_limit_is_refused_by_the_name_of_its_field() {
    type Change = fn(&mut RunRequest);
    let cases: [(&str, Change); 19] = [
        ("argv", |run| run.argv.clear()),
        ("argv", |run| run.argv = vec!["a".into(); MAX_ENTRIES + 1]),
        ("argv", |run| run.argv.push("a".repeat(MAX_TEXT + 1))),
        ("argv", |run| run.argv.push("a\0b".into())),
        ("env", |run| {
            run.env = vec![("a".into(), "b".into()); MAX_ENTRIES + 1]
        }),
        ("env", |run| run.env.push((String::new(), "b".into()))),
        ("env", |run| run.env.push(("a=b".into(), "b".into()))),
        ("env", |run| run.env.push(("a".into(), "\0".into()))),
        ("user", |run| run.user = "a\0".into()),
        ("cwd", |run| run.cwd = "relative".into()),
        ("stdin", |run| run.stdin = "relative".into()),
        ("stdin", |run| run.stdin = "/a\0".into()),
        ("stdin", |run| run.stdin = "/".repeat(MAX_PATH + 1)),
        ("outputs", |run| {
            run.outputs = vec![output("/a"); MAX_OUTPUTS + 1]
        }),
        ("outputs", |run| run.outputs.push(output(""))),
        ("outputs", |run| run.outputs.push(output("/a\0"))),
        ("outputs", |run| {
            run.outputs.push(output(&"/".repeat(MAX_PATH + 1)))
        }),
        ("root", |run| run.root = "../vda".into()),
        ("request", |run| {
            run.argv = vec!["a".repeat(MAX_TEXT); MAX_RUN / MAX_TEXT + 1]
        }),
    ];
    for (field, change) in cases {
        let mut run = request();
        change(&mut run);
        assert_eq!(run.check(), Err(field));
        assert_eq!(RunRequest::decode(&run.encode()), None, "{field}");
    }
    let mut largest = request();
    largest.argv = vec!["a".into(); MAX_ENTRIES];
    largest.outputs = vec![output(&"/".repeat(MAX_PATH)); MAX_OUTPUTS];
    assert_eq!(RunRequest::decode(&largest.encode()), Some(largest));
}

#[test]
fn a_request_that_is_cut_or_goes_on_is_refused() {
    let bytes = request().encode();
    for end in 0..bytes.len() {
        assert_eq!(RunRequest::decode(&bytes[..end]), None, "{end}");
    }
    assert_eq!(RunRequest::decode(&[bytes, vec![0]].concat()), None);
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    let reason = "é".repeat(MAX_REASON);
    let bytes = Writer::default().write(&Message::NotStarted { reason });
    let [Message::NotStarted { reason }] = &read_all(&mut Reader::of_agent(), &bytes).unwrap()[..]
    else {
        panic!("another message");
    };
    assert_eq!(reason.len(), MAX_REASON);
}
