//! One message, read so that nobody downstream can read it differently (JSON-RPC 2.0, as MCP 2025-06-18 narrows it).

use serde_json::{Map, Value};
use worldcompute_proof::parse_json_within;

use super::MAX_MESSAGE;

/// The longest id, in bytes of its JSON.
const MAX_ID: usize = 256;
/// Every member that a message can have. Readers that ignore case take `Method` for `method`, so nothing else passes.
const MEMBERS: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];
/// Members of `params` that rulings rest on.
const RULED: [&str; 3] = ["name", "arguments", "uri"];

/// What a request and its answer have in common: text or a whole number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id(String);

/// A message.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    /// Wants an answer.
    Request(Request),
    /// Wants none.
    Notification {
        method: String,
        params: Map<String, Value>,
    },
    /// An answer: a result, or none for an error.
    Response { id: Id, result: Option<Value> },
}

/// A message that wants an answer.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    pub(super) id: Id,
    pub(super) method: String,
    pub(super) params: Map<String, Value>,
}

/// Why a message does not pass.
#[derive(Debug, PartialEq)]
pub(super) struct Unreadable {
    pub(super) why: String,
    /// The id, where that much can be read.
    pub(super) id: Option<Id>,
}

impl Id {
    fn of(value: &Value) -> Option<Self> {
        let whole = value.is_i64() || value.is_u64();
        let text = value.to_string();
        ((whole || value.is_string()) && text.len() <= MAX_ID).then_some(Self(text))
    }

    pub(super) fn value(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// The id that a member of `params` names.
    pub(super) fn named(params: &Map<String, Value>, member: &str) -> Option<Self> {
        params.get(member).and_then(Self::of)
    }
}

/// Reads one line.
pub(super) fn read(line: &[u8]) -> Result<Message, Unreadable> {
    let unreadable = |why: &str| Unreadable {
        why: why.to_owned(),
        id: None,
    };
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.contains(&b'\r') {
        return Err(unreadable("some readers break lines at a carriage return"));
    }
    let members = match parse_json_within(line, MAX_MESSAGE) {
        Ok(Value::Object(members)) => members,
        Ok(Value::Array(_)) => return Err(unreadable("batches do not pass")),
        Ok(_) => return Err(unreadable("it is not an object")),
        Err(fault) => return Err(unreadable(fault.message())),
    };
    let id = members.get("id").and_then(Id::of);
    classify(members).map_err(|why| Unreadable { why, id })
}

fn classify(mut members: Map<String, Value>) -> Result<Message, String> {
    let stranger = members.keys().find(|key| !MEMBERS.contains(&key.as_str()));
    if let Some(stranger) = stranger {
        return Err(format!("it has an unknown member {stranger:?}"));
    }
    if members.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err("it is not JSON-RPC 2.0".to_owned());
    }
    let id = match members.get("id") {
        None => None,
        Some(id) => Some(Id::of(id).ok_or("its id is neither a short text nor a whole number")?),
    };
    let answers = members.contains_key("result") || members.contains_key("error");
    match (members.remove("method"), id) {
        (Some(Value::String(_)), _) if answers => Err("it both asks and answers".to_owned()),
        (Some(Value::String(method)), id) => ask(id, method, members.remove("params")),
        (Some(_), _) => Err("its method is not text".to_owned()),
        (None, Some(id)) => answer(id, members),
        (None, None) => Err("it neither asks nor answers".to_owned()),
    }
}

fn ask(id: Option<Id>, method: String, params: Option<Value>) -> Result<Message, String> {
    let params = match params {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(params)) => params,
        Some(_) => return Err("its params are not an object".to_owned()),
    };
    let disguised = |key: &&String| !RULED.contains(&key.as_str()) && RULED.contains(&&*fold(key));
    if let Some(key) = params.keys().find(disguised) {
        return Err(format!("some readers take {key:?} for another member"));
    }
    Ok(match id {
        Some(id) => Message::Request(Request { id, method, params }),
        None => Message::Notification { method, params },
    })
}

fn answer(id: Id, mut members: Map<String, Value>) -> Result<Message, String> {
    match (members.remove("result"), members.remove("error")) {
        _ if members.contains_key("params") => Err("it answers with params".to_owned()),
        (Some(result), None) => Ok(Message::Response {
            id,
            result: Some(result),
        }),
        (None, Some(Value::Object(_))) => Ok(Message::Response { id, result: None }),
        _ => Err("it answers with neither a result nor an error, or with both".to_owned()),
    }
}

/// A name as readers that ignore case see it, the long s and the Kelvin sign among them.
pub(super) fn fold(name: &str) -> String {
    name.trim().to_uppercase().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(line: &str) -> String {
        read(line.as_bytes()).unwrap_err().why
    }

    #[test]
    fn asking_telling_and_answering_are_told_apart() {
        let request = read(br#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#);
        assert!(matches!(request, Ok(Message::Request(_))), "{request:?}");
        let notification = read(b"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":null}\r");
        assert!(matches!(notification, Ok(Message::Notification { .. })));
        let response = read(br#"{"jsonrpc":"2.0","id":"7","error":{"code":1}}"#);
        assert!(matches!(
            response,
            Ok(Message::Response { result: None, .. })
        ));
        let seven = Id::of(&7.into()).unwrap();
        assert_ne!(seven, Id::of(&"7".into()).unwrap());
        assert_eq!(seven.value(), Value::from(7));
    }

    #[test]
    fn what_others_could_read_differently_is_unreadable() {
        for line in [
            "",
            "log: ready",
            "[]",
            "7",
            r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
            r#"{"id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0"}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1.0,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":-0,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":["ping"]}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","Name":"b"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","argumentſ":{}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":"text"}"#,
            r#"{"jsonrpc":"2.0","result":{}}"#,
            "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}",
            "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":{\"x\":[\r{\"jsonrpc\":\"2.0\"}\r]}}",
        ] {
            assert!(read(line.as_bytes()).is_err(), "{line}");
        }
        let long = format!(
            r#"{{"jsonrpc":"2.0","id":"{}","method":"ping"}}"#,
            "i".repeat(MAX_ID)
        );
        assert!(why(&long).contains("id"));
    }

    #[test]
    fn the_id_of_an_unreadable_answer_is_kept_where_it_has_one() {
        let line = br#"{"jsonrpc":"2.0","id":7,"result":{},"error":{}}"#;
        assert_eq!(read(line).unwrap_err().id, Id::of(&7.into()));
    }
}
