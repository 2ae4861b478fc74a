//! `worldcompute store events`: the record of the keys, for auditors.

use std::process::ExitCode;

use serde::Serialize;
use worldcompute_fault::Result;
use worldcompute_node::store::{AUDIT_LANES, CryptoAuditEvent, Store};

use super::Held;
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

/// Prints events, each verified, lane by lane.
pub async fn list(context: &Context, args: &EventsArgs) -> Result<ExitCode> {
    let held = Held::existing(&context.home()?).await?;
    let store = held.look().await?;
    let listed = collect(&store, args).await;
    let closed = store.close().await;
    context.output.data(&listed?, in_words)?;
    closed.map(|()| ExitCode::SUCCESS)
}

async fn collect(store: &Store, args: &EventsArgs) -> Result<Events> {
    let lanes = (0_u8..).take(AUDIT_LANES);
    let (mut events, mut next) = (Vec::new(), None);
    for lane in lanes.filter(|lane| args.lane.is_none_or(|only| only == *lane)) {
        let mut after = args.after;
        while next.is_none() {
            let page = store.audit_events(lane, after).await?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            events.extend(page.into_iter().map(|event| Event { lane, event }));
            if events.len() >= MAX_EVENTS {
                events.truncate(MAX_EVENTS);
                next = events.last().map(|last| Next {
                    lane: last.lane,
                    after: last.event.seq,
                });
            }
        }
    }
    Ok(Events {
        store_id: store.id().to_owned(),
        events,
        next,
    })
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
    lines.chain(more).collect::<Vec<_>>().join("\n")
}
