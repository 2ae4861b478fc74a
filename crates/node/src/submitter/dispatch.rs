//! The ways to donors: over the mesh, or to the donor in this very node.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use tracing::{Instrument, debug_span};
use worldcompute_content::ContentStore;
use worldcompute_fault::{Category, Fault, Result, WcCode};
use worldcompute_ledger::receipt::Path;
use worldcompute_mesh::Mesh;
use worldcompute_mesh::wire::{DispatchReply, DispatchRequest, LeaseMessage};
use worldcompute_proof::PeerId;
use worldcompute_scheduler::LeaseId;
use worldcompute_scheduler::broker::{Event, Reply};
use worldcompute_telemetry::CorrelationId;
use worldcompute_telemetry::metrics::Histogram;

use super::settle::{Asked, collect, verify};
use crate::donor::{Donor, needed, parts_of};
use crate::needed::Needed;
use crate::served::Served;

static DISPATCHES: Histogram = Histogram::new(
    "worldcompute.dispatch.duration",
    "s",
    "From handing a task to a donor to its settled receipt, or its refusal",
);

/// Reaches every donor, this node's own included.
#[derive(Clone)]
pub struct Ways {
    pub me: PeerId,
    pub mesh: Mesh,
    pub local: Option<Donor>,
    pub content: Arc<ContentStore>,
    pub needed: Needed,
    pub served: Arc<Served>,
}

impl Ways {
    /// Has a donor run a task, checks what comes back, and tells the broker. Does `answered` once the receipt is verified:
    /// the results may take their time.
    pub async fn dispatch(
        &self,
        asked: Asked,
        trace: Arc<[u8]>,
        answered: impl Future<Output = ()> + Send,
    ) -> Event {
        let started = Instant::now();
        let inspected = self.is_inspected(&asked).await;
        let reply = match self
            .ask(&asked, &trace, inspected)
            .instrument(debug_span!("dispatch"))
            .await
        {
            Ok(reply) => {
                self.settled(&asked, reply, inspected, answered)
                    .instrument(debug_span!("settle"))
                    .await
            }
            Err(fault) => refusal(&fault),
        };
        DISPATCHES.record(
            started.elapsed().as_secs_f64(),
            &[("outcome", outcome(&reply))],
        );
        Event::Reply {
            lease: asked.lease,
            from: asked.donor,
            reply,
        }
    }

    /// Asks whether a donor works on a lease; `None` when it does not answer.
    pub async fn heartbeat(&self, asked: &Asked) -> Option<Event> {
        let (lease, donor) = (asked.lease, asked.donor);
        let lease_id = lease.to_string();
        let known = match self.local(donor) {
            Some(local) => local.heartbeat(&donor, &lease_id),
            None => match self
                .mesh
                .lease(donor, LeaseMessage::Heartbeat { lease_id })
                .await
            {
                Ok(reply) => reply.known,
                Err(fault) => {
                    tracing::info!(%lease, %donor, reason = fault.message(), "heartbeat not answered");
                    return None;
                }
            },
        };
        Some(Event::Heartbeat {
            lease,
            from: donor,
            known,
            fetched: self.fetched(asked),
        })
    }

    /// How much of what the task needs the donor has fetched.
    fn fetched(&self, asked: &Asked) -> u64 {
        let run = asked.manifest.task(asked.lease.task.index);
        run.map_or(0, |run| {
            // One that cannot be read any more is not being fetched either.
            let parts = parts_of(&self.content, &run).unwrap_or_default();
            self.served
                .to(asked.donor, needed(&run).chain(parts.iter()))
        })
    }

    /// Tells a donor to end a run. When this does not reach it, the donor ends the run for want of heartbeats.
    pub async fn cancel(&self, lease: LeaseId, donor: PeerId) {
        let lease_id = lease.to_string();
        if let Some(local) = self.local(donor) {
            local.cancel(&donor, &lease_id);
        } else if let Err(fault) = self
            .mesh
            .lease(donor, LeaseMessage::Cancel { lease_id })
            .await
        {
            tracing::info!(%lease, %donor, reason = fault.message(), "cancellation not delivered");
        }
    }

    /// Whether somebody opens the TLS on the way to the donor. Told to it, the receipt has to say so.
    async fn is_inspected(&self, asked: &Asked) -> bool {
        self.local(asked.donor).is_none() && self.mesh.is_inspected(asked.donor).await
    }

    async fn ask(&self, asked: &Asked, trace: &[u8], inspected: bool) -> Result<DispatchReply> {
        let request = DispatchRequest {
            inspected,
            ..request(asked, trace)
        };
        match self.local(asked.donor) {
            Some(local) => local.dispatch(&self.me, request, Path::Local).await,
            None => self.mesh.dispatch(asked.donor, request).await,
        }
    }

    /// A receipt that does not hold is a reason not to ask this donor again; bytes that cannot be had are not.
    async fn settled(
        &self,
        asked: &Asked,
        reply: DispatchReply,
        inspected: bool,
        answered: impl Future<Output = ()> + Send,
    ) -> Reply {
        let settled = async {
            let verified = verify(asked, &reply, inspected, &self.content)?;
            answered.await;
            collect(asked, verified, reply, &self.content, &self.mesh).await
        };
        match settled.await {
            Ok((execution, held)) => {
                self.needed.add(asked.lease.task.job, held);
                Reply::Ran(Box::new(execution))
            }
            Err(fault)
                if fault.category() == Category::VerificationFailed
                    || fault.number() == Some(WcCode::LedgerVerificationFailed) =>
            {
                tracing::warn!(lease = %asked.lease, donor = %asked.donor, reason = fault.message(), "receipt refused");
                Reply::Declined {
                    reason: fault.message().to_owned(),
                }
            }
            Err(fault) => Reply::Lost {
                reason: fault.message().to_owned(),
            },
        }
    }

    fn local(&self, donor: PeerId) -> Option<&Donor> {
        self.local.as_ref().filter(|_| donor == self.me)
    }
}

fn request(asked: &Asked, trace: &[u8]) -> DispatchRequest {
    let task = asked.lease.task;
    DispatchRequest {
        lease_id: asked.lease.to_string(),
        job_id: task.job.to_string(),
        task_id: task.to_string(),
        task_index: task.index,
        attempt: asked.lease.attempt,
        manifest: asked.manifest.bytes().to_vec(),
        inline_inputs: Vec::new(),
        trace: trace.to_vec(),
        correlation_id: worldcompute_telemetry::current()
            .unwrap_or_else(CorrelationId::random)
            .to_string(),
        inspected: false,
    }
}

/// What a dispatch that brought no receipt means to the broker.
fn refusal(fault: &Fault) -> Reply {
    let reason = fault.message().to_owned();
    match (fault.number(), fault.category()) {
        (Some(WcCode::Unavailable), _) | (None, Category::StateContention) => {
            Reply::Busy { reason }
        }
        (Some(WcCode::DialFailureWithDetail | WcCode::DeadlineExceeded), _) => {
            Reply::Unreachable { reason }
        }
        (_, Category::NetworkTransient | Category::NetworkPermanent) => {
            Reply::Unreachable { reason }
        }
        (Some(WcCode::SandboxUnavailable | WcCode::Internal), _) => Reply::Lost { reason },
        (_, Category::InternalFailure | Category::IoFailure) => Reply::Lost { reason },
        _ => Reply::Declined { reason },
    }
}

const fn outcome(reply: &Reply) -> &'static str {
    match reply {
        Reply::Ran(_) => "ran",
        Reply::Busy { .. } => "busy",
        Reply::Declined { .. } => "declined",
        Reply::Lost { .. } => "lost",
        Reply::Unreachable { .. } => "unreachable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_donor_is_busy_and_an_unwilling_one_declines() {
        let busy = Fault::new(Category::StateContention, "no_free_slot", "full");
        assert!(matches!(refusal(&busy), Reply::Busy { .. }));
        let unwilling = Fault::wc(WcCode::AcceptableUseViolation, "no");
        assert!(matches!(refusal(&unwilling), Reply::Declined { .. }));
        let blocked = Fault::new(Category::PolicyBlocked, "policy_blocked", "no");
        assert!(matches!(refusal(&blocked), Reply::Declined { .. }));
    }

    #[test]
    fn a_donor_that_cannot_be_reached_may_still_be_at_work() {
        for fault in [
            Fault::wc(WcCode::DialFailureWithDetail, "no route"),
            Fault::new(Category::NetworkTransient, "connection_lost", "gone"),
        ] {
            assert!(matches!(refusal(&fault), Reply::Unreachable { .. }));
        }
    }

    #[test]
    fn a_broken_sandbox_costs_an_attempt() {
        let broken = Fault::wc(WcCode::SandboxUnavailable, "no engine");
        assert!(matches!(refusal(&broken), Reply::Lost { .. }));
    }
}
