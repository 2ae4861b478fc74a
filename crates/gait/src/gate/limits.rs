//! The limits of a decision: looked at before anything is used up, counted when nothing else is in the way.

use worldcompute_fault::Result;

use super::case::Case;
use crate::rate_limit::{Charge, Usage};
use crate::verdict::Verdict;

/// The limits that apply, the rate first.
#[derive(Default)]
pub(super) struct Charges {
    rate: Option<Charge>,
    budget: Option<Charge>,
}

impl Charges {
    fn all(&self) -> Vec<Charge> {
        self.rate.iter().chain(&self.budget).cloned().collect()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rate.is_none() && self.budget.is_none()
    }
}

impl Case<'_> {
    pub(super) fn charges(&self) -> Charges {
        let intent = self.intent();
        let budget = self.evaluation.destructive_budget;
        let budget = budget.filter(|_| intent.is_destructive());
        Charges {
            rate: self
                .evaluation
                .rate_limit
                .map(|limit| Charge::of_rate(limit, intent, self.now)),
            budget: budget.map(|limit| Charge::of_budget(limit, intent, self.now)),
        }
    }

    /// Blocks what a limit would block, with nothing counted.
    pub(super) fn look_at_limits(&mut self) -> Result<()> {
        let charges = self.charges();
        if self.evaluation.verdict == Verdict::Block || charges.is_empty() {
            return Ok(());
        }
        let Some(counters) = self.request.counters else {
            self.deny("rate_limit_state_unavailable", "rate_limit_not_counted");
            return Ok(());
        };
        let usages = counters.peek(&charges.all())?;
        self.note_usage(&charges, usages);
        Ok(())
    }

    /// Counts the decision; true when it was within its limits.
    pub(super) fn count(&mut self) -> Result<bool> {
        let charges = self.charges();
        let Some(counters) = self.request.counters.filter(|_| !charges.is_empty()) else {
            return Ok(true);
        };
        let usages = counters.charge(&charges.all(), self.now)?;
        let allowed = usages.iter().all(|usage| usage.allowed);
        self.note_usage(&charges, usages);
        Ok(allowed)
    }

    fn note_usage(&mut self, charges: &Charges, usages: Vec<Usage>) {
        let mut usages = usages.into_iter();
        let rate = charges.rate.as_ref().and_then(|_| usages.next());
        let budget = charges.budget.as_ref().and_then(|_| usages.next());
        for (usage, code) in [
            (&rate, "rate_limit_exceeded"),
            (&budget, "destructive_budget_exceeded"),
        ] {
            if usage.as_ref().is_some_and(|usage| !usage.allowed) {
                self.deny(code, code);
            }
        }
        self.account.rate = rate;
        self.account.budget = budget;
    }
}
