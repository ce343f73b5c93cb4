//! Claiming: one transaction by which a waiting candidate comes closer to leadership.

use crate::core::{
    clock::Instant,
    kv::{KeyValue, Outcome, StoreError, Txn},
};
use crate::election::{
    candidacy::{Candidacy, REREAD_PAUSE},
    context::{Context, Shift},
    next::{Handle, Next},
    protocol::{Answer, Event, Request, RequestId},
    step::Step,
};

/// A candidate that waits for the outcome of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Claiming {
    candidacy: Candidacy,
    entry: KeyValue,
    step: Step,
    request: RequestId,
}

impl Claiming {
    pub(crate) fn begin(
        candidacy: Candidacy,
        entry: KeyValue,
        step: Step,
        txn: Txn,
        context: &mut Context<'_>,
    ) -> Self {
        let request = context.request(Request::Commit(txn));
        Self { candidacy, entry, step, request }
    }

    fn committed(&mut self, outcome: Outcome, context: &mut Context<'_>) -> Next {
        tracing::debug!(step = ?self.step, ?outcome, "transaction");
        self.candidacy.logged_failure.clear();
        if let (Step::Claim, Outcome::Then(token)) = (self.step, outcome)
            && self.candidacy.is_fresh(context)
        {
            return Next::lead_at(&self.candidacy, self.entry.clone(), token, context);
        }
        // If nothing was changed, a key has changed since the read. The next read shows it.
        let pause = (outcome == Outcome::Nothing).then(|| context.now + REREAD_PAUSE);
        Next::Verify(self.candidacy.clone(), pause)
    }

    /// The next read shows whether it was applied.
    fn failed(&mut self, failure: &StoreError, retry_at: Instant) -> Next {
        let failure = failure.to_string();
        if self.candidacy.logged_failure != failure {
            tracing::warn!("could not {}: {failure}; retrying", self.step);
            self.candidacy.logged_failure = failure;
        }
        Next::Verify(self.candidacy.clone(), Some(retry_at))
    }
}

impl Handle for Claiming {
    fn on(&mut self, event: Event, context: &mut Context<'_>) -> Option<Next> {
        match event {
            Event::ClusterLost => Some(Next::join_again()),
            Event::Answer(_, Answer::Committed(outcome)) => Some(self.committed(outcome, context)),
            Event::Answer(_, Answer::Failed { failure: failure @ StoreError::AccessDenied(_), .. }) => {
                Some(Next::leave_denied(&failure))
            }
            Event::Answer(_, Answer::Failed { failure, retry_at }) => Some(self.failed(&failure, retry_at)),
            _ => None,
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        None
    }

    fn requests(&self) -> Vec<RequestId> {
        vec![self.request]
    }

    fn shift(&mut self, shift: Shift<'_>) {
        self.candidacy.shift(shift);
        shift.request(&mut self.request);
    }
}
