//! What a guest says to its host, and what the agent would take from a host: little is kept, nothing past a limit is
//! passed on, and a request that is read is the one that would be written.

use std::time::Duration;

use worldcompute_guest::{HEADER, MAX_DATA, Message, OutputFile, Reader, VERSION, Writer};
use worldcompute_microvm::{Collected, Dialogue, End, LastWord};

const MAX_OUTPUT: u64 = 1000;
/// Most bytes of each file that is asked for.
const MAX_FILES: [u64; 3] = [800, 0, 300];

/// Reads and judges; a panic is a finding. The first byte says how: whether a greeting comes before, and in pieces of
/// what length the rest comes.
pub fn fuzz(bytes: &[u8]) {
    let Some((how, said)) = bytes.split_first() else {
        return;
    };
    let greeting = Writer::new().write(&Message::Hello { version: VERSION });
    let said = match how % 2 {
        0 => said.to_vec(),
        _ => [greeting.as_slice(), said].concat(),
    };
    as_guest(&said, usize::from(*how) + 1);
    as_host(&said);
}

fn as_guest(said: &[u8], piece: usize) {
    let mut dialogue = Dialogue::new(Some(request()), MAX_OUTPUT);
    let mut sink = Collected::default();
    for piece in said.chunks(piece) {
        if dialogue.receive(piece, Duration::ZERO, &mut sink).is_err() {
            break;
        }
        assert!(dialogue.pending() <= HEADER + MAX_DATA);
        assert!(dialogue.outgoing().len() < 4096);
        dialogue.sent(usize::MAX);
    }
    check(&dialogue, &sink);
}

fn check(dialogue: &Dialogue, sink: &Collected) {
    let files: Vec<_> = sink.files.iter().flatten().map(Vec::len).collect();
    assert!(
        sink.stdout.len() + sink.stderr.len() + files.iter().sum::<usize>() <= MAX_OUTPUT as usize
    );
    assert!(files.len() <= MAX_FILES.len());
    assert!(
        files
            .iter()
            .zip(MAX_FILES)
            .all(|(size, most)| *size as u64 <= most)
    );
    let succeeded = matches!(dialogue.ended(), Some((End::Exited(0), _)));
    assert!(succeeded || files.is_empty());
    if let Some(LastWord::Ended { .. }) = dialogue.last_word() {
        assert!(!succeeded || files.len() == MAX_FILES.len());
    }
}

fn request() -> worldcompute_guest::RunRequest {
    worldcompute_guest::RunRequest {
        argv: vec!["true".to_owned()],
        outputs: MAX_FILES
            .map(|max_bytes| OutputFile {
                path: "/out".to_owned(),
                max_bytes,
            })
            .into(),
        ..Default::default()
    }
}

fn as_host(mut said: &[u8]) {
    let (mut reader, mut writer) = (Reader::of_host(), Writer::new());
    while let Ok(Some(frame)) = reader.read(&mut said) {
        let payload = frame.payload.clone();
        let Ok(message) = Message::try_from(frame) else {
            return;
        };
        let again = writer.write(&message);
        assert_eq!(again[HEADER..], payload);
    }
}
