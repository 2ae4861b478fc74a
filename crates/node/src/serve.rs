//! Requests of other peers, each handed to the part that answers it.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use worldcompute_content::ContentStore;
use worldcompute_fault::{Category, Fault, Result, WcCode};
use worldcompute_mesh::wire::{ContentReply, ContentRequest, LeaseMessage, LeaseReply, MAX_CHUNK};
use worldcompute_mesh::{Inbound, Request, Responder};
use worldcompute_telemetry::{CorrelationId, with_correlation};

use crate::donor::Donor;
use crate::receipts;
use crate::served::Served;

/// What answers.
pub struct Serving {
    /// The bytes that may be asked for.
    pub content: Arc<ContentStore>,
    /// Who was given how much of them.
    pub served: Arc<Served>,
    /// What runs tasks, where something does.
    pub donor: Option<Donor>,
}

/// Answers requests until `stop`. The mesh bounds how many wait; the donor bounds how many run.
pub async fn inbound(
    mut requests: mpsc::Receiver<Inbound>,
    serving: Serving,
    stop: CancellationToken,
) {
    loop {
        let inbound = tokio::select! {
            () = stop.cancelled() => return,
            inbound = requests.recv() => inbound,
        };
        match inbound {
            Some(inbound) => answer(inbound, &serving),
            None => return,
        }
    }
}

fn answer(inbound: Inbound, serving: &Serving) {
    let from = inbound.from;
    match (inbound.request, &serving.donor) {
        (Request::Content(request, reply), _) => {
            let (content, served) = (serving.content.clone(), serving.served.clone());
            tokio::task::spawn_blocking(move || {
                let given = chunk(&content, &request);
                if let Ok(part) = &given {
                    let end = request.offset + part.bytes.len() as u64;
                    served.note(from, request.cid, request.offset..end);
                }
                finish(reply, given);
            });
        }
        (Request::Offer(offer, reply), Some(donor)) => finish(reply, Ok(donor.offer(&offer))),
        (Request::Lease(message, reply), Some(donor)) => {
            let known = match message {
                LeaseMessage::Heartbeat { lease_id } => donor.heartbeat(&from, &lease_id),
                LeaseMessage::Cancel { lease_id } => donor.cancel(&from, &lease_id),
            };
            finish(reply, Ok(LeaseReply { known }));
        }
        (Request::Dispatch(mut request, reply), Some(donor)) => {
            request.inspected |= inbound.inspected;
            let (donor, path) = (donor.clone(), receipts::path(inbound.path));
            let correlation = CorrelationId::parse(&request.correlation_id)
                .unwrap_or_else(|_| CorrelationId::random());
            tokio::spawn(with_correlation(correlation, async move {
                finish(reply, donor.dispatch(&from, *request, path).await);
            }));
        }
        (Request::Offer(_, reply), None) => finish(reply, Err(no_donor())),
        (Request::Lease(_, reply), None) => finish(reply, Ok(LeaseReply { known: false })),
        (Request::Dispatch(_, reply), None) => finish(reply, Err(no_donor())),
    }
}

/// Content is public by definition: whoever knows its name may have it.
fn chunk(content: &ContentStore, request: &ContentRequest) -> Result<ContentReply> {
    let total = content.size(&request.cid)?;
    let length = u64::from(request.len).min(MAX_CHUNK as u64);
    if request.offset > total {
        return Err(Fault::new(
            Category::InvalidInput,
            "range_out_of_bounds",
            format!("{} has {total} bytes", request.cid),
        ));
    }
    let bytes = content.read_range(
        &request.cid,
        request.offset,
        length.min(total - request.offset),
    )?;
    Ok(ContentReply { total, bytes })
}

/// A requester that has given up meanwhile needs no answer.
fn finish<T>(reply: Responder<T>, answer: Result<T>) {
    let heard = match answer {
        Ok(answer) => reply.send(answer),
        Err(fault) => reply.refuse(&fault),
    };
    if !heard {
        tracing::debug!("a requester gave up before its answer");
    }
}

fn no_donor() -> Fault {
    Fault::wc(WcCode::Unavailable, "this node takes no tasks").hint("ask a donor")
}

#[cfg(test)]
mod tests {
    use super::*;
    use worldcompute_content::Limits;
    use worldcompute_proof::Cid;

    #[test]
    fn a_range_beyond_an_object_is_refused_and_one_at_its_end_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        let limits = Limits {
            max_object: 1 << 20,
            max_total: 1 << 20,
        };
        let content = ContentStore::open(directory.path().join("content"), limits).unwrap();
        let cid = content.put(b"four").unwrap();
        let ask = |cid: Cid, offset, len| chunk(&content, &ContentRequest { cid, offset, len });
        assert_eq!(ask(cid, 1, u32::MAX).unwrap().bytes, b"our");
        assert!(ask(cid, 4, u32::MAX).unwrap().bytes.is_empty());
        assert!(ask(cid, 0, 0).unwrap().bytes.is_empty());
        for offset in [5, u64::MAX] {
            assert_eq!(
                ask(cid, offset, u32::MAX).unwrap_err().code(),
                "range_out_of_bounds"
            );
        }
        assert!(ask(Cid::raw(b"unknown"), 0, 1).is_err());
    }
}
