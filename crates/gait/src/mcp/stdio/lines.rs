//! Messages, one a line, in bounded memory.

use std::io::{self, BufRead};

/// What stands in one line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Something.
    Message(Vec<u8>),
    /// White space.
    Blank,
    /// More than the limit; it was skipped.
    TooLong,
    /// Nothing more comes. A last line without its break was never sent as a whole, and does not count.
    End,
}

/// The next line, without its break.
pub(super) fn read_line(input: &mut dyn BufRead, limit: usize) -> io::Result<Line> {
    let mut line = Vec::new();
    let mut too_long = false;
    loop {
        let buffer = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            filled => filled?,
        };
        if buffer.is_empty() {
            return Ok(Line::End);
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let (taken, used) = match end {
            Some(end) => (buffer.get(..end).unwrap_or_default(), end + 1),
            None => (buffer, buffer.len()),
        };
        too_long = too_long || line.len() + taken.len() > limit;
        if !too_long {
            line.extend_from_slice(taken);
        }
        input.consume(used);
        if end.is_some() {
            return Ok(classify(line, too_long));
        }
    }
}

fn classify(line: Vec<u8>, too_long: bool) -> Line {
    match line {
        _ if too_long => Line::TooLong,
        line if line.trim_ascii().is_empty() => Line::Blank,
        line => Line::Message(line),
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn lines_are_read_up_to_their_limit_and_skipped_past_it() {
        let text = b"12345\n123456\n \r\nend";
        for capacity in 1..10 {
            let mut input = BufReader::with_capacity(capacity, &text[..]);
            let mut next = || read_line(&mut input, 5).unwrap();
            assert_eq!(next(), Line::Message(b"12345".to_vec()));
            assert_eq!(next(), Line::TooLong);
            assert_eq!(next(), Line::Blank);
            assert_eq!(next(), Line::End);
        }
    }
}
