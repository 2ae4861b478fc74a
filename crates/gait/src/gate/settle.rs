//! The end of a case: places for the evidence, then what is used up, then the evidence, the trace last.

use worldcompute_durable::Pending;
use worldcompute_fault::Result;

use super::case::Case;
use super::outputs::{Parts, Places, fill};
use crate::approval;
use crate::broker::EvidenceRecord;
use crate::decision::Decision;
use crate::delegation;
use crate::kill_switch::{JournalRecord, Status};
use crate::session::OpenSession;
use crate::trace::{self, Circumstances, Link, Observation, SignedTrace, Subject};
use crate::verdict::Verdict;
use crate::wire_time::WireTime;

impl Case<'_> {
    /// Decides.
    pub(super) fn settle(mut self) -> Result<Decision> {
        // A simulation decides nothing, and has no number among the decisions.
        let session = self.request.session.filter(|_| !self.request.simulate);
        let session = session.map(|log| log.open()).transpose()?;
        let mut places = self.reserve()?;
        let verdict = self.evaluation.verdict;
        self.use_up()?;
        if self.evaluation.verdict != verdict {
            // The decision has another name now, and so have its files.
            places = self.reserve()?;
        }
        let trace = self.sign(session.as_ref().map(OpenSession::link))?;
        self.write(&trace, places, session)?;
        self.account.warnings.sort();
        self.name_causes();
        let policy_digest = self.gate.policy.digest();
        let intent_digest = self.intent().digest();
        Ok(Decision::new(
            self.evaluation,
            policy_digest,
            intent_digest,
            trace,
            self.account,
        ))
    }

    fn trace_id(&self) -> String {
        let (policy, intent) = (self.gate.policy.digest(), self.intent().digest());
        trace::trace_id(policy, intent, self.evaluation.verdict)
    }

    fn reserve(&self) -> Result<Option<Places>> {
        let parts = Parts {
            approvals: self.account.approvals.is_some(),
            delegation: self.account.delegation.is_some(),
            credential: self.account.credential.is_some(),
        };
        let outputs = self.request.outputs;
        outputs
            .map(|outputs| outputs.reserve(&self.trace_id(), parts))
            .transpose()
    }

    /// Uses up what the decision costs, if it lets the call pass: the limits, and tokens that are good once. The tokens
    /// are held while the limits are counted, so that a limit costs no token.
    fn use_up(&mut self) -> Result<()> {
        let passes = matches!(self.evaluation.verdict, Verdict::Allow | Verdict::DryRun);
        if self.request.simulate || !passes {
            return Ok(());
        }
        let granted = self.account.approvals.as_ref();
        let granted = granted.is_some_and(approval::Approvals::granted);
        let tokens = self.request.approvals.tokens;
        let once: Vec<_> = tokens
            .iter()
            .filter(|token| self.is_single_use(token))
            .collect();
        let redemptions = self.request.redemptions;
        let Some(redemptions) = redemptions.filter(|_| granted && !once.is_empty()) else {
            self.count()?;
            return Ok(());
        };
        let reserved = redemptions.reserve()?;
        let approvals = self.weigh(|token| reserved.is_used(token))?;
        if !approvals.granted() {
            self.evaluation.verdict = Verdict::RequireApproval;
            self.evaluation
                .reason_codes
                .retain(|code| code != "approval_granted");
            self.account.approval_ref = self.request.approval_ref.trim().to_owned();
            self.conclude(approvals);
            return Ok(());
        }
        let redeemed = once.into_iter().filter(|token| approvals.counts(token));
        if self.count()? {
            reserved.commit(redeemed, self.intent().digest(), self.now)?;
        }
        self.account.approvals = Some(approvals);
        Ok(())
    }

    fn sign(&self, link: Option<&Link>) -> Result<SignedTrace> {
        let account = &self.account;
        let chain = account.delegation.as_ref();
        let path = account.fast_path.as_ref();
        let circumstances = Circumstances {
            approval_token_ref: account.approval_ref.clone(),
            delegation_token_ref: chain.map(delegation::Chain::reference).unwrap_or_default(),
            delegation_codes: chain
                .map(|chain| chain.reason_codes().into_iter().collect())
                .unwrap_or_default(),
            kill_switch: account.kill_switch.as_ref(),
            approved_script: path.and_then(|path| path.pattern_id.as_deref()),
            registry_reason: path.map_or("", |path| path.reason),
            credential: account.credential.as_ref(),
            link: link.cloned(),
            simulated: self.simulated(),
        };
        let observation = Observation {
            started_at: self.now,
            ended_at: self.gate.clock.now(),
            correlation_id: self.request.correlation_id,
        };
        trace::issue(
            &self.gate.policy,
            self.intent(),
            &self.evaluation,
            &observation,
            &circumstances,
            &self.gate.key,
        )
    }

    /// Writes what vouches for the decision first and the decision last: where there is a trace, there is the rest.
    fn write(
        &mut self,
        trace: &SignedTrace,
        places: Option<Places>,
        session: Option<OpenSession<'_>>,
    ) -> Result<()> {
        let intent = self.prepared.intent();
        let subject = Subject {
            created_at: WireTime::at(intent.created_at().get().unwrap_or(WireTime::UNDATED)),
            trace_id: trace.trace_id(),
            tool_name: intent.tool_name(),
            intent_digest: intent.digest(),
            policy_digest: self.gate.policy.digest(),
        };
        let place = places.map(|places| self.write_audits(&subject, places));
        let place = place.transpose()?;
        self.write_journal(&subject)?;
        if let Some(session) = session {
            self.account.sequence = Some(session.append(trace)?);
        }
        if let Some(place) = place {
            self.account.written.trace = Some(fill(place, trace.bytes())?);
        }
        Ok(())
    }

    /// Returns the place that is left for the trace.
    fn write_audits(&mut self, subject: &Subject<'_>, places: Places) -> Result<Pending> {
        let account = &mut self.account;
        let written = &mut account.written;
        if let (Some(approvals), Some(place)) = (&account.approvals, places.approval_audit) {
            let record = approval::AuditRecord::new(subject, approvals);
            written.approval_audit = Some(fill(place, &record.bytes()?)?);
        }
        if let (Some(chain), Some(place)) = (&account.delegation, places.delegation_audit) {
            let record = delegation::AuditRecord::new(subject, chain, true);
            written.delegation_audit = Some(fill(place, &record.bytes()?)?);
        }
        let asked = self.asked.as_ref().zip(account.credential.as_ref());
        if let (Some((asked, credential)), Some(place)) = (asked, places.credential_evidence) {
            let intent = self.prepared.intent();
            let record = EvidenceRecord::new(subject, intent, asked, credential);
            written.credential_evidence = Some(fill(place, &record.bytes()?)?);
        }
        Ok(places.trace)
    }

    fn write_journal(&self, subject: &Subject<'_>) -> Result<()> {
        let stopped = self.account.kill_switch.as_ref();
        let stopped = stopped.filter(|decision| decision.status == Status::Active);
        let switch = self.request.kill_switch.zip(stopped);
        let Some((switch, decision)) = switch.filter(|_| !self.request.simulate) else {
            return Ok(());
        };
        JournalRecord::new("gate_eval", subject, self.intent(), decision).append(switch.path())
    }
}
