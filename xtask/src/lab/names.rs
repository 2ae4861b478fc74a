//! What names stand for, and resolvers that do not say so (RFC 1035, 4).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// What the relay is called; everything below it is a relay's name, too.
pub const RELAY: &str = "relay.lab";

const HEADER: usize = 12;
const MAX_NAME: usize = 255;
/// The kind of an address.
pub const TYPE_A: u16 = 1;
const TYPE_TXT: u16 = 16;
const CLASS_IN: u16 = 1;
const NO_ERROR: u8 = 0;
const NO_SUCH_NAME: u8 = 3;
/// For how long an answer may be kept, in seconds.
const LIFE: u32 = 60;

/// What is behind a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Address(Ipv4Addr),
    /// At most 255 bytes.
    Text(String),
}

/// Every name there is.
pub type Zone = BTreeMap<String, Vec<Record>>;

/// What a resolver answers who asks for the name of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lie {
    /// The truth.
    None,
    /// That there is no such name.
    NoSuchName,
    /// Something that is no answer.
    Garbage,
    /// Nothing.
    Silence,
}

/// A question for records of a name.
pub fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut message = vec![0x5a, 0xa5, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    message
}

/// The answer to a question, if there is one.
pub fn answer(question: &[u8], zone: &Zone, lie: Lie) -> Option<Vec<u8>> {
    let asked = Asked::read(question)?;
    let of_relay = asked.name == RELAY || asked.name.ends_with(&format!(".{RELAY}"));
    match lie {
        Lie::NoSuchName if of_relay => Some(asked.reply(question, NO_SUCH_NAME, &[])),
        Lie::Garbage if of_relay => Some(garbage(question)),
        Lie::Silence if of_relay => None,
        _ => Some(match zone.get(&asked.name) {
            None => asked.reply(question, NO_SUCH_NAME, &[]),
            Some(records) => asked.reply(question, NO_ERROR, records),
        }),
    }
}

/// The first question of a message.
struct Asked {
    /// In lower case, without the dot at its end.
    name: String,
    kind: u16,
    class: u16,
    /// Where the question ends in the message.
    end: usize,
}

impl Asked {
    fn read(message: &[u8]) -> Option<Self> {
        let [_, _, flags, _, 0, 1, ..] = message else {
            return None;
        };
        // An answer is no question.
        if flags & 0x80 != 0 {
            return None;
        }
        let mut labels = Vec::new();
        let mut at = HEADER;
        loop {
            let length = usize::from(*message.get(at)?);
            at += 1;
            match length {
                0 => break,
                1..=63 if at - HEADER <= MAX_NAME => {
                    labels.push(
                        std::str::from_utf8(message.get(at..at + length)?)
                            .ok()?
                            .to_ascii_lowercase(),
                    );
                    at += length;
                }
                _ => return None,
            }
        }
        let number = |at: usize| {
            Some(u16::from_be_bytes(
                message.get(at..at + 2)?.try_into().ok()?,
            ))
        };
        Some(Self {
            name: labels.join("."),
            kind: number(at)?,
            class: number(at + 2)?,
            end: at + 4,
        })
    }

    fn reply(&self, question: &[u8], code: u8, records: &[Record]) -> Vec<u8> {
        let answers: Vec<_> = records
            .iter()
            .filter_map(|record| self.data(record))
            .collect();
        let count = u8::try_from(answers.len()).unwrap_or(u8::MAX);
        let recursion_desired = question.get(2).copied().unwrap_or(0) & 1;
        let mut message: Vec<u8> = question.iter().take(2).copied().collect();
        message.extend([
            0x80 | recursion_desired,
            0x80 | code,
            0,
            1,
            0,
            count,
            0,
            0,
            0,
            0,
        ]);
        message.extend(question.iter().take(self.end).skip(HEADER));
        for data in answers.iter().take(usize::from(count)) {
            // The name is that of the question, 12 bytes from the start.
            message.extend([0xc0, 12]);
            message.extend(self.kind.to_be_bytes());
            message.extend(self.class.to_be_bytes());
            message.extend(LIFE.to_be_bytes());
            message.extend(u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes());
            message.extend(data);
        }
        message
    }

    /// A record as data of the kind that is asked for.
    fn data(&self, record: &Record) -> Option<Vec<u8>> {
        match (self.class, self.kind, record) {
            (CLASS_IN, TYPE_A, Record::Address(address)) => Some(address.octets().to_vec()),
            (CLASS_IN, TYPE_TXT, Record::Text(text)) => {
                let length = u8::try_from(text.len()).ok()?;
                Some([&[length], text.as_bytes()].concat())
            }
            _ => None,
        }
    }
}

/// The id of the question, so that it is taken for the answer, and then what is no message.
fn garbage(question: &[u8]) -> Vec<u8> {
    let noise = question.iter().skip(2).map(|byte| byte ^ 0xff);
    question.iter().take(2).copied().chain(noise).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> Zone {
        let records = vec![
            Record::Address([20, 0, 1, 10].into()),
            Record::Text("dnsaddr=/x".to_owned()),
        ];
        [(RELAY.to_owned(), records)].into()
    }

    fn code(answer: &[u8]) -> u8 {
        answer[3] & 0xf
    }

    #[test]
    fn the_truth_is_an_answer_of_the_kind_that_was_asked_for() {
        let asked = question("Relay.LAB", TYPE_A);
        let told = answer(&asked, &zone(), Lie::None).unwrap();
        assert_eq!(told[..2], asked[..2]);
        assert_eq!((code(&told), told[7]), (NO_ERROR, 1));
        assert!(told.ends_with(&[0, 4, 20, 0, 1, 10]));
        let told = answer(&question(RELAY, TYPE_TXT), &zone(), Lie::None).unwrap();
        assert!(told.ends_with(b"\x0adnsaddr=/x"));
        let told = answer(&question(RELAY, 28), &zone(), Lie::None).unwrap();
        assert_eq!((code(&told), told[7]), (NO_ERROR, 0));
        let told = answer(&question("nobody.lab", TYPE_A), &zone(), Lie::None).unwrap();
        assert_eq!(code(&told), NO_SUCH_NAME);
    }

    #[test]
    fn relays_alone_are_lied_about() {
        for name in [RELAY, "_dnsaddr.relay.lab"] {
            let asked = question(name, TYPE_A);
            assert_eq!(
                code(&answer(&asked, &zone(), Lie::NoSuchName).unwrap()),
                NO_SUCH_NAME
            );
            assert_eq!(answer(&asked, &zone(), Lie::Silence), None);
            let garbage = answer(&asked, &zone(), Lie::Garbage).unwrap();
            assert_eq!(garbage[..2], asked[..2]);
            assert_ne!(garbage[2] & 0x40, 0, "a query of a kind that there is");
        }
        let mut others = zone();
        others.insert(
            "notrelay.lab".to_owned(),
            vec![Record::Address([1, 2, 3, 4].into())],
        );
        for lie in [Lie::NoSuchName, Lie::Garbage, Lie::Silence] {
            let told = answer(&question("notrelay.lab", TYPE_A), &others, lie).unwrap();
            assert!(told.ends_with(&[1, 2, 3, 4]), "{lie:?}");
        }
    }

    #[test]
    fn no_message_however_broken_is_more_than_ignored() {
        let asked = question(RELAY, TYPE_A);
        for length in 0..asked.len() {
            assert_eq!(
                answer(&asked[..length], &zone(), Lie::None),
                None,
                "{length}"
            );
        }
        for (at, byte) in (0..asked.len()).flat_map(|at| [(at, 0), (at, 0x3f), (at, 0xff)]) {
            let mut changed = asked.clone();
            changed[at] = byte;
            let _ = answer(&changed, &zone(), Lie::None);
        }
        let endless = [&asked[..HEADER], &[1, b'a'].repeat(1000)].concat();
        assert_eq!(answer(&endless, &zone(), Lie::None), None);
    }
}
