//! `worldcompute store events`: the record of the keys, for auditors.

use std::process::ExitCode;

use serde::Serialize;
use worldcompute_fault::{Category, Result};
use worldcompute_node::store::{AUDIT_LANES, CryptoAuditEvent, Store};

use super::Held;
use super::walk::broken_chain;
use crate::args::EventsArgs;
use crate::commands::Context;

/// The most events that one call prints.
const MAX_EVENTS: usize = 10_000;

#[derive(Serialize)]
struct Events {
    store_id: String,
    events: Vec<Event>,
    /// Where to go on, when there are more than one call prints.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Next>,
    /// Lanes that are told up to the first event that is not what was written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    broken: Vec<Broken>,
}

#[derive(Serialize)]
struct Broken {
    lane: u8,
    reason: String,
}

#[derive(Serialize)]
struct Event {
    lane: u8,
    #[serde(flatten)]
    event: CryptoAuditEvent,
}

#[derive(Serialize)]
struct Next {
    lane: u8,
    after: u64,
}

/// Prints events, each verified, lane by lane; of a lane that is broken those before the break.
pub async fn list(context: &Context, args: &EventsArgs) -> Result<ExitCode> {
    let held = Held::existing(&context.home()?).await?;
    let store = held.look().await?;
    let listed = collect(&store, args).await;
    let closed = store.close().await;
    let listed = listed?;
    context.output.data(&listed, in_words)?;
    match listed.broken.first() {
        None => closed.map(|()| ExitCode::SUCCESS),
        Some(first) => Err(broken_chain(&first.reason)),
    }
}

async fn collect(store: &Store, args: &EventsArgs) -> Result<Events> {
    let lanes = (0_u8..).take(AUDIT_LANES);
    let mut listed = Events {
        store_id: store.id().to_owned(),
        events: Vec::new(),
        next: None,
        broken: Vec::new(),
    };
    for lane in lanes.filter(|lane| args.lane.is_none_or(|only| only == *lane)) {
        match listed.add(store, lane, args.after).await {
            Err(fault) if fault.category() == Category::VerificationFailed => {
                let reason = fault.message().to_owned();
                listed.broken.push(Broken { lane, reason });
            }
            added => added?,
        }
    }
    Ok(listed)
}

impl Events {
    /// The events of a lane after that number, unless there are enough already.
    async fn add(&mut self, store: &Store, lane: u8, mut after: u64) -> Result<()> {
        while self.next.is_none() {
            let (page, broken) = store.sound_audit_events(lane, after).await?;
            let last = page.last().map(|last| last.seq);
            let page = page.into_iter().map(|event| Event { lane, event });
            self.events.extend(page);
            self.cut();
            match (broken, last) {
                // Unless it is beyond what this call tells.
                (Some(broken), _) if self.next.is_none() => return Err(broken),
                (_, Some(last)) => after = last,
                (_, None) => break,
            }
        }
        Ok(())
    }

    fn cut(&mut self) {
        if self.events.len() < MAX_EVENTS {
            return;
        }
        self.events.truncate(MAX_EVENTS);
        self.next = self.events.last().map(|last| Next {
            lane: last.lane,
            after: last.event.seq,
        });
    }
}

/// Names are escaped: an event's key names a partition, and whoever may write the table may choose it.
fn in_words(listed: &Events) -> String {
    let lines = listed.events.iter().map(|Event { lane, event }| {
        format!(
            "{lane}/{}  {}  {:11}  {:7}  {}  {}  x{}",
            event.seq,
            event.timestamp.strftime("%Y-%m-%d %H:%M:%S%.3fZ"),
            event.operation.as_str(),
            event.outcome.as_str(),
            event.principal.escape_debug(),
            event.key_id.escape_debug(),
            event.count,
        )
    });
    let more = listed.next.as_ref().map(|next| {
        let Next { lane, after } = next;
        format!("there are more: --lane {lane} --after {after}, then the lanes behind it")
    });
    let broken = listed.broken.iter().map(|broken| {
        let Broken { lane, reason } = broken;
        format!("lane {lane} is BROKEN, and told up to there: {reason}")
    });
    lines
        .chain(more)
        .chain(broken)
        .collect::<Vec<_>>()
        .join("\n")
}
