//! The limits of a decision: looked at before anything is used up, counted when nothing else is in the way.

use worldcompute_fault::Result;

use super::case::Case;
use crate::evaluate::CallLimits;
use crate::rate_limit::{Charge, Usage};
use crate::verdict::Verdict;

/// The clause of a rule that limits how often.
const RATE: &str = "rate_limit";
/// And how often something may be lost.
const BUDGET: &str = "destructive_budget";

/// The limits that apply, of each kind one for every call.
#[derive(Default)]
struct Charges {
    rates: Vec<Charge>,
    budgets: Vec<Charge>,
}

impl Charges {
    fn all(&self) -> Vec<Charge> {
        [&self.rates[..], &self.budgets].concat()
    }

    /// The clause that limits the call.
    const fn clause(&self) -> &'static str {
        match self.rates.is_empty() {
            true => BUDGET,
            false => RATE,
        }
    }

    const fn is_empty(&self) -> bool {
        self.rates.is_empty() && self.budgets.is_empty()
    }
}

impl Case<'_> {
    /// A script is charged for each of its steps: what is limited alone is limited in company.
    fn charges(&self) -> Charges {
        let identity = &self.intent().context().identity;
        let mut charges = Charges::default();
        for call in self.limits() {
            let tool = &call.tool_name;
            let rate = |limit| Charge::of_rate(limit, tool, identity, self.now);
            let budget = |limit| Charge::of_budget(limit, tool, identity, self.now);
            charges.rates.extend(call.rate.map(rate));
            charges.budgets.extend(call.destructive_budget.map(budget));
        }
        charges
    }

    fn limits(&self) -> Vec<CallLimits> {
        let (intent, evaluation) = (self.intent(), &self.evaluation);
        match &evaluation.script {
            Some(script) => script.limits.clone(),
            None => vec![CallLimits {
                tool_name: intent.tool_name().to_owned(),
                rate: evaluation.rate_limit,
                destructive_budget: evaluation
                    .destructive_budget
                    .filter(|_| intent.is_destructive()),
            }],
        }
    }

    /// Blocks what a limit would block, with nothing counted.
    pub(super) fn look_at_limits(&mut self) -> Result<()> {
        let charges = self.charges();
        if self.evaluation.verdict == Verdict::Block || charges.is_empty() {
            return Ok(());
        }
        let Some(counters) = self.request.counters else {
            let (code, violation) = ("rate_limit_state_unavailable", "rate_limit_not_counted");
            self.deny(charges.clause(), code, violation);
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

    fn note_usage(&mut self, charges: &Charges, mut usages: Vec<Usage>) {
        let budget = tightest(usages.split_off(charges.rates.len().min(usages.len())));
        let rate = tightest(usages);
        for (usage, clause, code) in [
            (&rate, RATE, "rate_limit_exceeded"),
            (&budget, BUDGET, "destructive_budget_exceeded"),
        ] {
            if usage.as_ref().is_some_and(|usage| !usage.allowed) {
                self.deny(clause, code, code);
            }
        }
        self.account.rate = rate;
        self.account.budget = budget;
    }
}

/// The usage that stops the decision, else the one that leaves the least.
fn tightest(usages: Vec<Usage>) -> Option<Usage> {
    let rank = |usage: &Usage| (usage.allowed, usage.remaining);
    usages.into_iter().min_by_key(rank)
}
