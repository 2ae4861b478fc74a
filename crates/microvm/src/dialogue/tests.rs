//! A guest that keeps to the protocol, and every way of not doing so.

use proptest::prelude::*;
use worldcompute_fault::Category;
use worldcompute_guest::{HEADER, MAX_DATA, OutputFile};

use super::*;
use crate::Collected;

const HELLO: Message = Message::Hello { version: VERSION };
const OVER: Message = Message::Ended {
    end: End::Exited(0),
    tally: Tally {
        out_of_memory: 0,
        refused_processes: 0,
    },
};

/// The end of a file.
const END: Message = Message::Output {
    stream: Stream::Files,
    bytes: vec![],
};

fn dialogue() -> Dialogue {
    Dialogue::new(Some(request(&[])), 1 << 20)
}

/// For files of at most so many bytes each.
fn request(outputs: &[u64]) -> RunRequest {
    let output = |(place, max_bytes): (usize, &u64)| OutputFile {
        path: format!("/out/{place}"),
        max_bytes: *max_bytes,
    };
    RunRequest {
        argv: vec!["true".to_owned()],
        outputs: outputs.iter().enumerate().map(output).collect(),
        ..RunRequest::default()
    }
}

fn bytes_of(messages: &[Message]) -> Vec<u8> {
    let mut writer = Writer::default();
    messages
        .iter()
        .flat_map(|message| writer.write(message))
        .collect()
}

fn output(stream: Stream, length: usize) -> Message {
    Message::Output {
        stream,
        bytes: vec![b'x'; length],
    }
}

fn file(length: usize) -> Message {
    output(Stream::Files, length)
}

fn no_file(reason: &str) -> Message {
    let reason = reason.to_owned();
    Message::NoFile { reason }
}

/// A guest that reads what the host says.
struct Guest {
    dialogue: Dialogue,
    sink: Collected,
    writer: Writer,
    reader: Reader,
    now: Duration,
}

impl Guest {
    fn new(max_output: u64) -> Self {
        Self::asked_for(&[], max_output)
    }

    fn asked_for(outputs: &[u64], max_output: u64) -> Self {
        Self {
            dialogue: Dialogue::new(Some(request(outputs)), max_output),
            sink: Collected::default(),
            writer: Writer::default(),
            reader: Reader::of_host(),
            now: Duration::ZERO,
        }
    }

    /// What the host says to this.
    fn say(&mut self, message: &Message) -> Result<Vec<Message>, Broken> {
        let bytes = self.writer.write(message);
        self.say_bytes(&bytes)
    }

    fn say_bytes(&mut self, bytes: &[u8]) -> Result<Vec<Message>, Broken> {
        self.dialogue.receive(bytes, self.now, &mut self.sink)?;
        let outgoing = self.dialogue.outgoing().to_vec();
        self.dialogue.sent(outgoing.len());
        let (mut bytes, mut answers) = (outgoing.as_slice(), Vec::new());
        while let Some(frame) = self.reader.read(&mut bytes).unwrap() {
            answers.push(frame.try_into().unwrap());
        }
        Ok(answers)
    }
}

/// How it breaks off with a guest that reads the request and nothing more.
fn breaks(messages: &[Message]) -> Broken {
    breaks_when_asked_for(&[], messages)
}

/// The same, of a guest that is asked for files.
fn breaks_when_asked_for(outputs: &[u64], messages: &[Message]) -> Broken {
    let mut guest = Guest::asked_for(outputs, 1 << 20);
    for message in messages {
        let bytes = guest.writer.write(message);
        if let Err(broken) = guest
            .dialogue
            .receive(&bytes, Duration::ZERO, &mut guest.sink)
        {
            return broken;
        }
        if *message == HELLO {
            guest.dialogue.sent(usize::MAX);
        }
    }
    panic!("it did not break off");
}

#[test]
fn a_run_goes_from_the_greeting_to_the_last_word() {
    let mut guest = Guest::new(1 << 20);
    assert!(
        guest.dialogue.outgoing().is_empty(),
        "the host speaks first"
    );
    let messages = [
        HELLO,
        output(Stream::Stdout, 3),
        Message::Heartbeat,
        output(Stream::Stderr, 2),
        OVER,
    ];
    let mut answers = Vec::new();
    for piece in bytes_of(&messages).chunks(5) {
        answers.extend(guest.say_bytes(piece).unwrap());
    }
    assert_eq!(
        (guest.sink.stdout.as_slice(), guest.sink.stderr.as_slice()),
        (&b"xxx"[..], &b"xx"[..])
    );
    assert!(matches!(
        guest.dialogue.last_word(),
        Some(LastWord::Ended {
            end: End::Exited(0),
            ..
        })
    ));
    assert!(matches!(
        answers[..],
        [
            Message::Run(_),
            Message::Credit { .. },
            Message::Credit { .. },
            Message::Credit { .. }
        ]
    ));
}

#[test]
fn every_kind_of_misconduct_has_a_code_of_its_own() {
    let wrong_version = Message::Hello {
        version: VERSION + 1,
    };
    let flood: Vec<_> = [HELLO]
        .into_iter()
        .chain(vec![output(Stream::Stdout, MAX_DATA); 9])
        .collect();
    for (messages, expected) in [
        (vec![wrong_version], Misconduct::WrongVersion),
        (vec![HELLO, HELLO], Misconduct::SecondHello),
        (vec![OVER], Misconduct::BeforeHello),
        (vec![Message::Heartbeat], Misconduct::BeforeHello),
        (vec![output(Stream::Stdout, 1)], Misconduct::BeforeHello),
        (vec![HELLO, OVER, OVER], Misconduct::AfterEnd),
        (vec![HELLO, OVER, HELLO], Misconduct::AfterEnd),
        (
            vec![
                HELLO,
                Message::NotStarted {
                    reason: String::new(),
                },
                OVER,
            ],
            Misconduct::AfterEnd,
        ),
        (
            vec![
                HELLO,
                Message::Credit {
                    stream: Stream::Stdout,
                    bytes: 1,
                },
            ],
            Misconduct::UnknownFrame,
        ),
        (
            vec![HELLO, output(Stream::Stdout, 0)],
            Misconduct::Malformed,
        ),
        (flood, Misconduct::Flood),
        (vec![HELLO, file(1)], Misconduct::FileBeforeEnd),
        (vec![HELLO, END], Misconduct::FileBeforeEnd),
        (vec![HELLO, no_file("")], Misconduct::FileBeforeEnd),
        (vec![file(1)], Misconduct::BeforeHello),
    ] {
        assert_eq!(
            breaks(&messages),
            Broken::Misconduct(expected),
            "{expected}"
        );
    }
    let mut names: Vec<_> = Misconduct::ALL
        .iter()
        .map(|misconduct| misconduct.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Misconduct::ALL.len());
}

#[test]
fn a_length_that_is_a_lie_ends_it_before_a_byte_is_kept() {
    let mut bytes = bytes_of(&[HELLO, output(Stream::Stdout, 4)]);
    let length = HEADER + 2 + 5;
    bytes[length..length + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut dialogue = dialogue();
    let broken = dialogue
        .receive(&bytes, Duration::ZERO, &mut Collected::default())
        .unwrap_err();
    assert_eq!(broken, Broken::Misconduct(Misconduct::FrameTooLong));
    assert!(dialogue.pending() <= HEADER);
}

#[test]
fn a_frame_that_is_repeated_ends_it() {
    let mut bytes = bytes_of(&[HELLO, Message::Heartbeat]);
    bytes.extend_from_within(HEADER + 2..);
    let broken = dialogue()
        .receive(&bytes, Duration::ZERO, &mut Collected::default())
        .unwrap_err();
    assert_eq!(broken, Broken::Misconduct(Misconduct::OutOfSequence));
}

#[test]
fn output_past_its_limit_ends_it_and_what_is_within_is_kept() {
    let mut guest = Guest::new(10);
    for message in [HELLO, output(Stream::Stdout, 6), output(Stream::Stderr, 3)] {
        guest.say(&message).unwrap();
    }
    let past = guest.say(&output(Stream::Stderr, 2));
    let reason = "more than 10 bytes in all".to_owned();
    assert_eq!(past, Err(Broken::OutputLimit(reason)));
    assert_eq!((guest.sink.stdout.len(), guest.sink.stderr.len()), (6, 4));
}

#[test]
fn credit_is_given_again_for_what_was_taken_and_never_more_than_the_window_is_under_way() {
    let mut guest = Guest::new(1 << 20);
    let (mut credit, mut answers) = (0, guest.say(&HELLO).unwrap());
    for _ in 0..24 {
        for answer in answers {
            if let Message::Credit {
                stream: Stream::Stdout,
                bytes,
            } = answer
            {
                credit += bytes;
            }
        }
        assert!(credit <= WINDOW, "{credit}");
        credit = credit
            .checked_sub((HEADER + MAX_DATA) as u32)
            .expect("the guest would wait for ever");
        answers = guest.say(&output(Stream::Stdout, MAX_DATA)).unwrap();
    }
}

#[test]
fn credit_that_was_not_sent_yet_is_none() {
    let mut guest = Guest::new(1 << 20);
    let hello = guest.writer.write(&HELLO);
    guest
        .dialogue
        .receive(&hello, Duration::ZERO, &mut guest.sink)
        .unwrap();
    assert_eq!(
        guest.say(&output(Stream::Stdout, 1)),
        Err(Misconduct::Flood.into())
    );
}

#[test]
fn a_frame_costs_its_header_too() {
    let mut guest = Guest::new(1 << 20);
    let hello = guest.writer.write(&HELLO);
    guest
        .dialogue
        .receive(&hello, Duration::ZERO, &mut guest.sink)
        .unwrap();
    guest.dialogue.sent(usize::MAX);
    let frames = WINDOW as usize / (HEADER + 1);
    for frame in 0..=frames {
        let bytes = guest.writer.write(&output(Stream::Stdout, 1));
        let received = guest
            .dialogue
            .receive(&bytes, Duration::ZERO, &mut guest.sink);
        assert_eq!(received.is_ok(), frame < frames, "{frame}");
    }
}

#[test]
fn heartbeats_come_at_their_rate_with_some_to_spare() {
    let mut guest = Guest::new(0);
    guest.now = 1000 * HEARTBEAT;
    guest.say(&HELLO).unwrap();
    for _ in 0..MORE_HEARTBEATS {
        guest.say(&Message::Heartbeat).unwrap();
    }
    for _ in 0..MORE_HEARTBEATS {
        guest.now += HEARTBEAT;
        for _ in 0..FASTER {
            guest.say(&Message::Heartbeat).unwrap();
        }
    }
    let past = guest.say(&Message::Heartbeat);
    assert_eq!(past, Err(Misconduct::Flood.into()));
}

#[test]
fn one_stream_without_credit_does_not_stop_the_other() {
    let mut messages = vec![HELLO];
    messages.extend(vec![output(Stream::Stderr, MAX_DATA - HEADER); 8]);
    messages.push(output(Stream::Stdout, 1));
    messages.push(output(Stream::Stderr, 1));
    assert_eq!(breaks(&messages), Broken::Misconduct(Misconduct::Flood));
    messages.pop();
    messages.push(Message::Hello { version: VERSION });
    assert_eq!(
        breaks(&messages),
        Broken::Misconduct(Misconduct::SecondHello)
    );
}

#[test]
fn a_probe_wants_no_more_than_the_greeting() {
    let mut dialogue = Dialogue::new(None, 0);
    dialogue
        .receive(
            &bytes_of(&[HELLO]),
            Duration::ZERO,
            &mut Collected::default(),
        )
        .unwrap();
    assert_eq!(dialogue.last_word(), Some(&LastWord::Booted));
    assert!(dialogue.outgoing().is_empty());
}

#[test]
fn what_takes_the_output_can_end_the_run() {
    struct Full;
    impl Sink for Full {
        fn take(&mut self, _: Source, _: &[u8]) -> worldcompute_fault::Result<()> {
            Err(Fault::new(Category::IoFailure, "disk_full", "no room"))
        }
    }
    let mut guest = Guest::new(10);
    guest.say(&HELLO).unwrap();
    let bytes = guest.writer.write(&output(Stream::Stdout, 1));
    let Err(Broken::Sink(fault)) = guest.dialogue.receive(&bytes, Duration::ZERO, &mut Full) else {
        panic!("it went on");
    };
    assert_eq!(fault.code(), "disk_full");
}

proptest! {
    #[test]
    fn whatever_a_guest_says_little_is_kept_and_no_more_is_passed_on_than_the_limit(
        before in prop_oneof![Just(vec![]), Just(vec![HELLO]), Just(vec![HELLO, OVER])],
        bytes in proptest::collection::vec(any::<u8>(), 0..4000), piece in 1..700_usize,
    ) {
        let mut all = bytes_of(&before);
        all.extend(bytes);
        let (mut dialogue, mut sink) = (Dialogue::new(Some(request(&[50, 70])), 100), Collected::default());
        for piece in all.chunks(piece) {
            if dialogue.receive(piece, Duration::ZERO, &mut sink).is_err() {
                break;
            }
            dialogue.sent(usize::MAX);
            prop_assert!(dialogue.pending() <= HEADER + MAX_DATA);
        }
        let files: usize = sink.files.iter().flatten().map(Vec::len).sum();
        prop_assert!(sink.stdout.len() + sink.stderr.len() + files <= 100);
    }
}

mod files;
