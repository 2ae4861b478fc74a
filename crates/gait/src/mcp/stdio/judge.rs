//! What becomes of one message, whichever side sent it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use worldcompute_fault::{Fault, Result};

use super::listing::Listed;
use super::message::{self, Id, Message, Request, Unreadable};
use super::methods::{self, Class, Deed};
use super::{Proxy, Tally, reply};
use crate::intent::Target;
use crate::limits::invalid;
use crate::mcp::adapter::named_targets;
use crate::mcp::boundary::Ruling;
use crate::mcp::call::ToolCall;

/// The most requests of one side that wait for their answers.
pub(super) const MAX_WAITING: usize = 1024;

/// What to do with one message.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// The other side gets it as it is.
    Pass,
    /// The other side gets this in its place.
    Instead(Value),
    /// Its sender gets this, the other side nothing.
    Answer(Value),
    /// Nobody gets anything.
    Drop,
}

/// What is known of a session so far, by which its next message is judged. It reads and writes no stream, so that
/// whoever carries messages in another way than [`Proxy::run`] can ask it too.
#[derive(Debug, Default)]
pub struct State {
    /// What the client waits for, and whether that is a list of tools.
    asked: BTreeMap<Id, bool>,
    /// What the server waits for.
    wanted: BTreeMap<Id, bool>,
    tools: Listed,
    tally: Tally,
}

impl State {
    /// What passed so far and what did not.
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// Judges one line that the client sent, given without its break.
    pub fn of_client(&mut self, proxy: &Proxy, line: &[u8]) -> Step {
        match message::read(line) {
            Err(Unreadable { why, .. }) => self.refuse(&why),
            Ok(Message::Request(request)) => self.client_asks(proxy, &request),
            Ok(Message::Notification { method, params }) => {
                if !methods::client_tells(&method) {
                    self.tally.refused += 1;
                    return Step::Drop;
                }
                give_up(&mut self.asked, &method, &params);
                Step::Pass
            }
            Ok(Message::Response { id, .. }) => match self.wanted.remove(&id) {
                Some(_) => Step::Pass,
                None => {
                    self.tally.refused += 1;
                    Step::Drop
                }
            },
        }
    }

    /// Judges one line that the server sent, given without its break.
    pub fn of_server(&mut self, proxy: &Proxy, line: &[u8]) -> Step {
        let step = match message::read(line) {
            Err(Unreadable { why, id }) => match id.filter(|id| self.asked.remove(id).is_some()) {
                Some(id) => Step::Instead(reply::spoiled(&id, &why)),
                None => Step::Drop,
            },
            Ok(Message::Request(request)) => self.server_asks(proxy, &request),
            Ok(Message::Notification { method, params }) => {
                if !methods::server_tells(&method) {
                    return self.drop_from_server();
                }
                give_up(&mut self.wanted, &method, &params);
                Step::Pass
            }
            Ok(Message::Response { id, result }) => match self.asked.remove(&id) {
                None => Step::Drop,
                Some(false) => Step::Pass,
                Some(true) => self.listed(&id, result),
            },
        };
        match step {
            Step::Drop => self.drop_from_server(),
            step => step,
        }
    }

    /// Notes a message of the client that cannot be read.
    pub(super) fn refuse(&mut self, why: &str) -> Step {
        self.tally.refused += 1;
        Step::Answer(reply::unreadable(why))
    }

    fn drop_from_server(&mut self) -> Step {
        self.tally.dropped += 1;
        Step::Drop
    }

    fn client_asks(&mut self, proxy: &Proxy, request: &Request) -> Step {
        let Some(class) = methods::of_client(&request.method) else {
            self.tally.refused += 1;
            return Step::Answer(reply::unknown(&request.id, &request.method));
        };
        if let Some(why) = crowded(&self.asked, &request.id) {
            return self.refuse(why);
        }
        let denied = match class {
            Class::Passes => None,
            Class::Lists => proxy
                .distrusted()
                .map(|codes| reply::untrusted(&request.id, &codes)),
            Class::Calls => self.call(proxy, request),
            Class::Ruled(deed) => self.deed(proxy, request, deed),
        };
        if let Some(denied) = denied {
            return Step::Answer(denied);
        }
        let lists_tools = request.method == "tools/list";
        self.asked.insert(request.id.clone(), lists_tools);
        Step::Pass
    }

    fn server_asks(&mut self, proxy: &Proxy, request: &Request) -> Step {
        let Some(class) = methods::of_server(&request.method) else {
            self.tally.dropped += 1;
            return Step::Answer(reply::unknown(&request.id, &request.method));
        };
        if crowded(&self.wanted, &request.id).is_some() {
            return Step::Drop;
        }
        let denied = match class {
            Class::Ruled(deed) => self.deed(proxy, request, deed),
            _ => None,
        };
        if let Some(denied) = denied {
            return Step::Answer(denied);
        }
        self.wanted.insert(request.id.clone(), false);
        Step::Pass
    }

    fn call(&mut self, proxy: &Proxy, request: &Request) -> Option<Value> {
        let ruled = tool_call(&request.params).and_then(|mut call| {
            let objection = self.tools.objection(&call.name);
            call.stops = objection.into_iter().map(str::to_owned).collect();
            proxy.rule(call)
        });
        self.count(ruled, &request.id, reply::denied_call, reply::failed_call)
    }

    fn deed(&mut self, proxy: &Proxy, request: &Request, deed: Deed) -> Option<Value> {
        let ruled = deed_call(deed, &request.params).and_then(|call| proxy.rule(call));
        self.count(ruled, &request.id, reply::denied, reply::failed)
    }

    /// Counts a ruling, and says what to answer unless it allows.
    fn count(
        &mut self,
        ruled: Result<Ruling>,
        id: &Id,
        denied: fn(&Id, &Ruling) -> Value,
        failed: fn(&Id, &Fault) -> Value,
    ) -> Option<Value> {
        let answer = match ruled {
            Ok(ruling) if ruling.is_allowed() => {
                self.tally.allowed += 1;
                return None;
            }
            Ok(ruling) => denied(id, &ruling),
            Err(fault) => failed(id, &fault),
        };
        self.tally.denied += 1;
        Some(answer)
    }

    fn listed(&mut self, id: &Id, result: Option<Value>) -> Step {
        let Some(result) = result else {
            return Step::Pass;
        };
        match self.tools.take(&result) {
            Ok(None) => Step::Pass,
            Ok(Some(kept)) => Step::Instead(reply::result(id, &kept)),
            Err(why) => Step::Instead(reply::spoiled(id, &why)),
        }
    }
}

/// Why no further request of that id can wait.
fn crowded(waiting: &BTreeMap<Id, bool>, id: &Id) -> Option<&'static str> {
    match waiting.contains_key(id) {
        true => Some("another request with this id waits for its answer"),
        false if waiting.len() >= MAX_WAITING => Some("too many requests wait for their answers"),
        false => None,
    }
}

/// Whoever cancels a request no longer waits for its answer.
fn give_up(waiting: &mut BTreeMap<Id, bool>, method: &str, params: &Map<String, Value>) {
    let cancelled = Id::named(params, "requestId").filter(|_| method == "notifications/cancelled");
    if let Some(id) = cancelled {
        waiting.remove(&id);
    }
}

fn tool_call(params: &Map<String, Value>) -> Result<ToolCall> {
    let name = params.get("name").and_then(Value::as_str);
    let args = match params.get("arguments") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(args)) => args.clone(),
        Some(_) => return Err(invalid("params.arguments is not an object")),
    };
    let targets = named_targets(&args);
    let mut call = ToolCall::new(name.unwrap_or_default(), args);
    call.targets = targets;
    Ok(call)
}

fn deed_call(deed: Deed, params: &Map<String, Value>) -> Result<ToolCall> {
    let mut call = ToolCall::new(deed.tool, params.clone());
    if let Some((member, kind, operation)) = deed.target {
        let value = params.get(member).and_then(Value::as_str);
        let value = value.ok_or_else(|| invalid(format!("params.{member} is not text")))?;
        call.targets = vec![Target {
            kind: kind.to_owned(),
            value: value.to_owned(),
            operation: operation.to_owned(),
            ..Target::default()
        }];
    }
    Ok(call)
}
