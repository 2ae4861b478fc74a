//! Files that a program leaves behind: in order, whole, within their limits, or not at all.

use worldcompute_guest::MAX_REASON;

use super::*;

const FAILED: Message = Message::Ended {
    end: End::Exited(1),
    tally: Tally {
        out_of_memory: 0,
        refused_processes: 0,
    },
};

#[test]
fn files_come_in_order_after_a_program_that_succeeded_and_an_empty_one_is_one() {
    let mut guest = Guest::asked_for(&[3, 0, 8], 1 << 20);
    let messages = [HELLO, output(Stream::Stdout, 1), OVER, file(2), file(1)];
    for message in messages {
        guest.say(&message).unwrap();
    }
    for message in [END, END, Message::Heartbeat, file(8)] {
        guest.say(&message).unwrap();
        assert_eq!(guest.dialogue.last_word(), None, "one is due still");
    }
    assert_eq!(
        guest.dialogue.ended().map(|(end, _)| end),
        Some(End::Exited(0))
    );
    guest.say(&END).unwrap();
    assert!(matches!(
        guest.dialogue.last_word(),
        Some(LastWord::Ended { .. })
    ));
    let files = ["xxx", "", "xxxxxxxx"].map(|file| Some(file.as_bytes().to_vec()));
    assert_eq!(guest.sink.files, files);
    assert_eq!(guest.dialogue.output_bytes(), 1 + 3 + 8);
    let more = guest.say(&file(1));
    assert_eq!(more, Err(Misconduct::AfterEnd.into()), "a fourth");
}

#[test]
fn of_a_program_that_failed_no_file_is_due_and_none_is_taken() {
    let tally = Tally::default();
    for end in [End::Exited(1), End::Killed(9)] {
        let mut guest = Guest::asked_for(&[3], 1 << 20);
        guest.say(&HELLO).unwrap();
        guest.say(&Message::Ended { end, tally }).unwrap();
        assert_eq!(
            guest.dialogue.last_word(),
            Some(&LastWord::Ended { end, tally })
        );
        for message in [file(1), END, no_file("")] {
            let after = guest.say(&message);
            assert_eq!(after, Err(Misconduct::AfterEnd.into()));
        }
        assert_eq!(guest.sink.files, []);
    }
}

#[test]
fn while_files_are_due_nothing_else_is() {
    let not_started = Message::NotStarted {
        reason: String::new(),
    };
    let (stdout, stderr) = (output(Stream::Stdout, 1), output(Stream::Stderr, 1));
    for message in [stdout, stderr, OVER, FAILED, not_started] {
        for before in [vec![], vec![file(1)], vec![file(1), END]] {
            let said = [vec![HELLO, OVER], before, vec![message.clone()]].concat();
            let broken = breaks_when_asked_for(&[1, 1], &said);
            assert_eq!(broken, Misconduct::AfterEnd.into(), "{said:?}");
        }
    }
    let greets = breaks_when_asked_for(&[1], &[HELLO, OVER, HELLO]);
    assert_eq!(greets, Misconduct::SecondHello.into());
}

#[test]
fn a_file_past_its_limit_ends_it_by_its_name_and_so_do_files_past_that_of_the_output() {
    let mut guest = Guest::asked_for(&[3, 5], 10);
    let printed = output(Stream::Stdout, 4);
    for message in [HELLO, printed.clone(), OVER, file(3), END, file(2)] {
        guest.say(&message).unwrap();
    }
    let reason = "more than 10 bytes in all".to_owned();
    assert_eq!(guest.say(&file(2)), Err(Broken::OutputLimit(reason)));
    let files = ["xxx", "xxx"].map(|file| Some(file.as_bytes().to_vec()));
    assert_eq!(guest.sink.files, files);

    let mut guest = Guest::asked_for(&[3, 5], 100);
    for message in [HELLO, printed, OVER, END, file(5)] {
        guest.say(&message).unwrap();
    }
    let reason = "/out/1 has more than 5 bytes".to_owned();
    assert_eq!(guest.say(&file(1)), Err(Broken::OutputLimit(reason)));
    let files = ["", "xxxxx"].map(|file| Some(file.as_bytes().to_vec()));
    assert_eq!(guest.sink.files, files);
}

#[test]
fn a_file_that_is_not_there_is_the_last_word_and_told_by_the_path_that_the_host_knows() {
    let reason = "r".repeat(MAX_REASON);
    for before in [vec![], vec![file(1)]] {
        let mut guest = Guest::asked_for(&[3, 3, 3], 100);
        let said = [vec![HELLO, OVER, file(1), END], before].concat();
        for message in said {
            guest.say(&message).unwrap();
        }
        guest.say(&no_file(&reason)).unwrap();
        let missing = LastWord::OutputMissing(format!("/out/1: {reason}"));
        assert_eq!(guest.dialogue.last_word(), Some(&missing));
        for message in [file(1), END, no_file(""), OVER] {
            let after = guest.say(&message);
            assert_eq!(after, Err(Misconduct::AfterEnd.into()));
        }
    }
}

#[test]
fn files_have_credit_of_their_own_that_is_given_again_for_what_was_taken() {
    let mut said = vec![HELLO];
    said.extend(vec![output(Stream::Stdout, MAX_DATA - HEADER); 8]);
    said.push(OVER);
    said.extend(vec![file(MAX_DATA - HEADER); 8]);
    said.push(END);
    let flood = breaks_when_asked_for(&[1 << 20], &said);
    assert_eq!(flood, Misconduct::Flood.into(), "an end costs its header");
    let mut guest = Guest::asked_for(&[1 << 20], 1 << 20);
    guest.say(&HELLO).unwrap();
    guest.say(&OVER).unwrap();
    for _ in 0..32 {
        guest.say(&file(MAX_DATA)).unwrap();
    }
    guest.say(&END).unwrap();
    assert!(guest.dialogue.last_word().is_some());
}

proptest! {
    #[test]
    fn whatever_a_guest_says_of_files_none_is_past_its_limit_and_after_success_all_are_there(
        before in proptest::collection::vec(any_message(), 0..2),
        end in prop_oneof![5 => Just(OVER), 1 => Just(FAILED)],
        after in proptest::collection::vec(any_message(), 0..10),
    ) {
        let limits = [20, 0, 60];
        let mut guest = Guest::asked_for(&limits, 70);
        let said = [vec![HELLO], before, vec![end], after].concat();
        // Up to the first that is out of turn, or to the end.
        let _ = said.iter().try_for_each(|message| guest.say(message).map(drop));
        let sizes: Vec<_> = guest.sink.files.iter().flatten().map(Vec::len).collect();
        prop_assert_eq!(sizes.len(), guest.sink.files.len());
        prop_assert!(sizes.len() <= limits.len());
        prop_assert!(sizes.iter().zip(limits).all(|(size, limit)| *size as u64 <= limit), "{sizes:?}");
        let printed = guest.sink.stdout.len() + guest.sink.stderr.len();
        prop_assert!(printed + sizes.iter().sum::<usize>() <= 70);
        let succeeded = matches!(guest.dialogue.ended(), Some((End::Exited(0), _)));
        prop_assert!(sizes.is_empty() || succeeded);
        if let Some(LastWord::Ended { .. }) = guest.dialogue.last_word() {
            prop_assert_eq!(sizes.len(), if succeeded { limits.len() } else { 0 });
        }
    }
}

/// As of a guest that knows the words and not the grammar.
fn any_message() -> impl Strategy<Value = Message> {
    let printed = prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)];
    prop_oneof![
        4 => Just(END),
        4 => (0..40_usize).prop_map(file),
        1 => (printed, 1..40_usize).prop_map(|(stream, length)| output(stream, length)),
        1 => Just(Message::Heartbeat),
        1 => Just(no_file("gone")),
        1 => Just(OVER),
    ]
}
