//! A record as its line: the canonical form (RFC 8785), written member by member.
//!
//! A general serializer looks at every byte of every text on its own. A run has hundreds of thousands of records that
//! differ in a few texts, so what they have in common is copied, and a text that needs no escape is copied whole.

use super::record::{Intent, Payload, ResultRecord};
use super::stamp::Stamp;

/// A record that can be written.
pub(super) trait Written {
    fn write(&self, line: &mut Line<'_>);
}

/// What the last record said and how it is spelled: most records say the same.
#[derive(Default)]
pub(super) struct Spelled {
    stamp: Option<(Stamp, String)>,
    texts: Vec<String>,
    members: Vec<u8>,
}

/// The end of a text to which a record is appended.
pub(super) struct Line<'a> {
    pub(super) bytes: &'a mut Vec<u8>,
    pub(super) spelled: &'a mut Spelled,
}

impl Line<'_> {
    fn raw(&mut self, text: &str) -> &mut Self {
        self.bytes.extend_from_slice(text.as_bytes());
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        match needs_escape(text) {
            true => self.raw(&serde_json::Value::from(text).to_string()),
            false => self.raw("\"").raw(text).raw("\""),
        }
    }

    fn stamp(&mut self, stamp: Stamp) -> &mut Self {
        let known = self.spelled.stamp.take();
        let known = known.filter(|(known, _)| *known == stamp);
        let known = known.unwrap_or_else(|| (stamp, format!("\"{stamp}\"")));
        self.raw(&known.1);
        self.spelled.stamp = Some(known);
        self
    }

    /// Members that most records have alike, each with what stands before its text.
    fn alike(&mut self, members: &[(&str, &str)]) -> &mut Self {
        let texts = members.iter().map(|(_, text)| *text);
        if texts.clone().eq(self.spelled.texts.iter()) {
            self.bytes.extend_from_slice(&self.spelled.members);
            return self;
        }
        let start = self.bytes.len();
        for (name, text) in members {
            self.raw(name).text(text);
        }
        self.spelled.texts = texts.map(str::to_owned).collect();
        self.spelled.members = self.bytes.get(start..).unwrap_or_default().to_vec();
        self
    }

    fn payload(&mut self, name: &str, payload: Option<&Payload>) -> &mut Self {
        match payload {
            Some(payload) => self.raw(name).raw(payload.text()),
            None => self,
        }
    }
}

/// Whether JSON spells the text in any other way than as it is. Looks at all of it at once, without a branch a byte.
fn needs_escape(text: &str) -> bool {
    let special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    text.bytes()
        .fold(false, |found, byte| found | special(byte))
}

impl Written for Intent<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.raw("{")
            .payload("\"args\":", self.args.as_ref())
            .raw(if self.args.is_some() { "," } else { "" })
            .raw("\"args_digest\":")
            .text(&self.args_digest)
            .raw(",\"created_at\":")
            .stamp(self.created_at)
            .raw(",\"intent_id\":")
            .text(&self.intent_id)
            .alike(&[
                (",\"producer_version\":", &self.producer_version),
                (",\"run_id\":", &self.run_id),
                (",\"schema_id\":", &self.schema_id),
                (",\"schema_version\":", &self.schema_version),
            ])
            .raw(",\"tool_name\":")
            .text(&self.tool_name)
            .raw("}");
    }
}

impl Written for ResultRecord<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.raw("{\"created_at\":")
            .stamp(self.created_at)
            .raw(",\"intent_id\":")
            .text(&self.intent_id)
            .raw(",\"producer_version\":")
            .text(&self.producer_version)
            .payload(",\"result\":", self.result.as_ref())
            .raw(",\"result_digest\":")
            .text(&self.result_digest)
            .alike(&[
                (",\"run_id\":", &self.run_id),
                (",\"schema_id\":", &self.schema_id),
                (",\"schema_version\":", &self.schema_version),
            ])
            .raw(",\"status\":")
            .text(&self.status)
            .raw("}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Map;

    use super::*;

    fn payload(text: &str) -> Payload {
        let members = Map::from_iter([(text.to_owned(), text.into())]);
        Payload::new(&members).unwrap()
    }

    fn stamp(seconds: u32) -> Stamp {
        let instant = jiff::Timestamp::from_second(seconds.into()).unwrap();
        match seconds % 3 {
            0 => Stamp::default(),
            _ => Stamp::at(instant),
        }
    }

    proptest! {
        #[test]
        fn a_line_is_what_the_serializer_and_the_canonical_form_say(
            records in prop::collection::vec((any::<[String; 7]>(), any::<Option<String>>(), 0_u32..6), 1..5),
        ) {
            let mut spelled = Spelled::default();
            let mut line = |record: &dyn Written| {
                let mut written = || {
                    let mut bytes = Vec::new();
                    record.write(&mut Line { bytes: &mut bytes, spelled: &mut spelled });
                    bytes
                };
                let bytes = written();
                assert_eq!(bytes, written(), "once more, with all of it known");
                bytes
            };
            for ([digest, id, version, run, schema, of, last], given, at) in &records {
                let intent = Intent {
                    args: given.as_deref().map(payload),
                    args_digest: digest.into(),
                    created_at: stamp(*at),
                    intent_id: id.into(),
                    producer_version: version.into(),
                    run_id: run.into(),
                    schema_id: schema.into(),
                    schema_version: of.into(),
                    tool_name: last.into(),
                };
                let result = ResultRecord {
                    created_at: stamp(*at),
                    intent_id: id.into(),
                    producer_version: version.into(),
                    result: given.as_deref().map(payload),
                    result_digest: digest.into(),
                    run_id: run.into(),
                    schema_id: schema.into(),
                    schema_version: of.into(),
                    status: last.into(),
                };
                for (written, derived) in [
                    (line(&intent), serde_json::to_vec(&intent).unwrap()),
                    (line(&result), serde_json::to_vec(&result).unwrap()),
                ] {
                    let canonical = worldcompute_proof::canonicalize_json(&written).unwrap();
                    prop_assert_eq!(&written, &derived);
                    prop_assert_eq!(canonical, derived);
                }
            }
        }
    }
}
