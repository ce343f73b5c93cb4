//! Handing over: makes another instance the leader in one transaction. Only after the guard reported that the process tree has
//! exited, or before the command was started.

use std::time::Duration;

use crate::core::{
    clock::Instant,
    kv::{Outcome, Snapshot, Txn},
};
use crate::election::{
    context::{Context, Shift},
    next::{Handle, Next, Then},
    paused,
    protocol::{Answer, Consistency, Event, Reading, Request, RequestId},
    term::Term,
    transactions,
    view::{Entry, View},
};

/// The delay from a handover to the revocation of the lease, so that etcd serves the successor first.
const DELAY_AFTER_HANDOVER: Duration = Duration::from_millis(50);

/// An instance that hands over leadership, or tries to: the revocation of the lease frees the lock otherwise.
///
/// Tries the successor that the latest renewal saw, and then the one that a serializable read finds. Both may be out of date, as
/// the transaction compares all that it depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HandingOver {
    term: Term,
    state: State,
    /// The time after this limit is for the revocation of the lease.
    limit: Instant,
    /// The limit for both, or the exit would take twice as long if etcd cannot be reached.
    end_limit: Instant,
    then: Then,
    /// What follows if leadership could not be handed over.
    otherwise: Then,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    /// The transaction for the successor that the latest renewal saw.
    ToNext(Handover),
    /// The read that finds the successor.
    Reading(RequestId),
    /// The transaction for the successor that was read.
    ToSuccessor(Handover),
    /// Leadership was handed over. The lease has no keys any more, so its revocation is not urgent.
    Settling(Instant),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Handover {
    request: RequestId,
    /// The identity of the successor.
    to: String,
}

impl Handover {
    fn begin(to: &Entry, txn: Txn, context: &mut Context<'_>) -> Self {
        Self { request: context.request(Request::Commit(txn)), to: to.kv.identity() }
    }
}

impl HandingOver {
    /// Hands over to the owner of the oldest request, else to the highest priority, and then revokes the lease in any case.
    pub(crate) fn begin(
        term: Term,
        next: Option<Entry>,
        (then, otherwise): (Then, Then),
        context: &mut Context<'_>,
    ) -> Self {
        let timing = &context.shared.config.timing;
        let (limit, end_limit) = (context.now + timing.handover_limit(), context.now + timing.end_limit());
        let state = match next {
            Some(next) => {
                let txn = transactions::hand_over_to_next(context.shared.lock(), &term, &next);
                State::ToNext(Handover::begin(&next, txn, context))
            }
            None => Self::read(&term, context),
        };
        Self { term, state, limit, end_limit, then, otherwise }
    }

    /// Returns what follows.
    pub(crate) const fn then(&self) -> Then {
        self.then
    }

    fn read(term: &Term, context: &mut Context<'_>) -> State {
        let reading = Reading::Lock(context.shared.requests_of(term.lease));
        State::Reading(context.request(Request::Read(reading, Consistency::Serializable)))
    }

    fn found(&mut self, read: Snapshot, context: &mut Context<'_>) -> Option<Next> {
        let lock = context.shared.lock();
        let view = View::new(lock, read);
        if view.pause.is_some() {
            paused::read(&view, context);
            tracing::info!("releasing the lock without a handover, as it is paused");
            return Some(self.give_up());
        }
        let successor = view.successor_of(self.term.lease).filter(|_| view.is_led_by(self.term.lease));
        let Some(successor) = successor else { return Some(self.give_up()) };
        let txn = transactions::hand_over(lock, &self.term, &successor, view.revision);
        self.state = State::ToSuccessor(Handover::begin(successor.entry, txn, context));
        None
    }

    const fn give_up(&self) -> Next {
        Next::Release(self.otherwise, Some(self.end_limit))
    }

    fn answered(&mut self, answer: Answer, context: &mut Context<'_>) -> Option<Next> {
        match (&self.state, answer) {
            (State::ToNext(next) | State::ToSuccessor(next), Answer::Committed(Outcome::Then(token))) => {
                tracing::info!(token, "handed over to {:?}", next.to);
                self.state = State::Settling(context.now + DELAY_AFTER_HANDOVER);
            }
            (State::Reading(_), Answer::Read(read)) => return self.found(read, context),
            (State::ToNext(_), answer) => {
                tracing::debug!(?answer, "the handover failed or its outcome is unknown");
                self.state = Self::read(&self.term, context);
            }
            (_, answer) => {
                tracing::debug!(?answer, "the handover failed or its outcome is unknown");
                return Some(self.give_up());
            }
        }
        None
    }
}

impl Handle for HandingOver {
    fn on(&mut self, event: Event, context: &mut Context<'_>) -> Option<Next> {
        match (&self.state, event) {
            (_, Event::Answer(_, answer)) => self.answered(answer, context),
            (State::Settling(until), Event::Woken) if context.now >= *until => {
                Some(Next::Release(self.then, Some(self.end_limit)))
            }
            (State::Settling(_), _) => None,
            (_, Event::ClusterLost) => Some(self.give_up()),
            (_, Event::Woken) if context.now >= self.limit => Some(self.give_up()),
            _ => None,
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        match self.state {
            State::Settling(until) => Some(until),
            _ => Some(self.limit),
        }
    }

    fn requests(&self) -> Vec<RequestId> {
        match &self.state {
            State::ToNext(Handover { request, .. })
            | State::ToSuccessor(Handover { request, .. })
            | State::Reading(request) => {
                vec![*request]
            }
            State::Settling(_) => vec![],
        }
    }

    fn shift(&mut self, shift: Shift<'_>) {
        shift.instant(&mut self.limit);
        shift.instant(&mut self.end_limit);
        match &mut self.state {
            State::ToNext(Handover { request, .. })
            | State::ToSuccessor(Handover { request, .. })
            | State::Reading(request) => {
                shift.request(request);
            }
            State::Settling(until) => shift.instant(until),
        }
    }
}
