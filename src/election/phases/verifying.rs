//! Verifying: reads all keys of the lock at one revision, and decides what comes next.

use std::time::Duration;

use crate::core::{
    clock::Instant,
    exit_code::Exit,
    kv::{KeyValue, Snapshot},
};
use crate::election::{
    candidacy::{Candidacy, Failback, REREAD_PAUSE},
    context::{Context, Shift},
    demand::Demand,
    next::{Handle, Next, Then},
    paused, position,
    progress::Progress,
    protocol::{Answer, Consistency, Event, Reading, Request, RequestId},
    step,
    term::Term,
    view::{Entry, View},
};

/// A candidate that reads the keys of the lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Verifying {
    candidacy: Candidacy,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    /// It reads at this instant.
    Pausing(Instant),
    /// The latest renewal is fresh enough to start the command.
    Reading(RequestId),
    /// It renews the lease as well.
    Renewing(RequestId),
}

impl Verifying {
    pub(crate) fn begin(candidacy: Candidacy, at: Option<Instant>, context: &mut Context<'_>) -> Self {
        let state = match at {
            Some(at) => State::Pausing(at),
            None => Self::read(&candidacy, context),
        };
        Self { candidacy, state }
    }

    fn read(candidacy: &Candidacy, context: &mut Context<'_>) -> State {
        if !candidacy.is_fresh(context) {
            return Self::renew(candidacy, context);
        }
        let reading = Reading::Lock(context.shared.requests_of(candidacy.lease));
        State::Reading(context.request(Request::Read(reading, Consistency::Linearizable)))
    }

    fn renew(candidacy: &Candidacy, context: &mut Context<'_>) -> State {
        let reading = Reading::Lock(context.shared.requests_of(candidacy.lease));
        State::Renewing(context.request(Request::Renew { lease: candidacy.lease, reading }))
    }

    fn decide(&mut self, read: Snapshot, context: &mut Context<'_>) -> Option<Next> {
        let view = View::new(context.shared.lock(), read);
        // To start the command, the renewal must still be fresh after the read.
        if view.is_led_by(self.candidacy.lease) && !self.candidacy.is_fresh(context) {
            self.state = Self::renew(&self.candidacy, context);
            return None;
        }
        Some(decide(self.candidacy.clone(), view, context))
    }
}

/// Decides by one read what comes next.
fn decide(mut candidacy: Candidacy, view: View, context: &mut Context<'_>) -> Next {
    let lease = candidacy.lease;
    let Some((position, entry)) = view.entry_of(lease) else {
        if candidacy.has_joined {
            tracing::warn!("the queue entry was deleted: joining again with a new lease");
            return Next::join_again();
        }
        return Next::Release(Then::Join(REREAD_PAUSE), None);
    };
    if view.markers.iter().any(|marker| marker.lease == Some(lease)) {
        // A join that was applied late made this instance the holder, and another instance evicted it.
        tracing::warn!("lease {lease} was evicted before this instance led: joining again with a new lease");
        return Next::join_again();
    }
    position::report(&mut candidacy, &view, position, entry, context);
    fail_back(&mut candidacy, &view, entry, context);
    paused::read(&view, context);
    if let Some(holder) = view.holder.as_ref().filter(|_| view.is_led_by(lease)) {
        if !view.markers.is_empty() {
            // Before a handover, too: its successor may start without another read.
            context.report(Progress::Evicting);
            return Next::Wait(candidacy, view, position);
        }
        let term = Term::new(&candidacy, &entry.kv, holder);
        let pause = if let Some(requester) = view.requester(lease) {
            let whose = requester.entry.kv.identity();
            tracing::info!("{whose:?} made a handover request: handing over before the command is started");
            // The owner of the request may have lost its entry but not yet its lease.
            context.shared.config.timing.retry_period()
        } else if let Some(preferred) = preferred(&view, entry, holder, context).filter(|_| view.pause.is_none()) {
            let (whose, priority) = (preferred.kv.identity(), preferred.priority);
            tracing::info!("{whose:?} has a higher priority, {priority}: handing over before the command is started");
            REREAD_PAUSE
        } else {
            return Next::lead(&candidacy, term, Some(view));
        };
        // Otherwise several instances with FORCE_ACQUIRE would request leadership from each other for ever.
        context.shared.demand = Demand::None;
        let otherwise = Then::Join(pause);
        return Next::HandOver { term, next: None, then: Then::Join(Duration::ZERO), otherwise };
    }
    if context.shared.config.acquire_timeout == Some(Duration::ZERO) && position::waits(&view, position) {
        let why = if view.holder.is_none() && position == 0 { "paused" } else { "held by another instance" };
        tracing::error!("the lock is {why}: giving up, as ACQUIRE_TIMEOUT is 0");
        return Next::leave(Exit::GaveUp);
    }
    if let Some((step, txn)) = step::next(&view, position, entry, context.shared) {
        let entry = entry.kv.clone();
        return Next::Claim(candidacy, entry, step, txn);
    }
    Next::Wait(candidacy, view, position)
}

/// Returns the standby that must lead instead of this candidate, which took the free lock: one with a higher priority. What was handed
/// over to this candidate, or what it has requested, it keeps.
fn preferred<'a>(view: &'a View, own: &Entry, holder: &KeyValue, context: &Context<'_>) -> Option<&'a Entry> {
    // A handover writes both keys at once.
    let was_handed_over = holder.mod_revision == own.kv.mod_revision;
    if was_handed_over || context.shared.demand == Demand::OfEveryLeader {
        return None;
    }
    view.preferred_to(own.lease).filter(|preferred| preferred.priority > own.priority)
}

/// Requests a handover from a leader with a lower priority, if it is time for that.
fn fail_back(candidacy: &mut Candidacy, view: &View, own: &Entry, context: &mut Context<'_>) {
    candidacy.failback.becomes_due(context.now);
    if candidacy.failback != Failback::Due || context.shared.demand != Demand::None {
        return;
    }
    if let Some(leader) = view.leader_below(own) {
        let (whose, priority) = (leader.kv.identity(), leader.priority);
        tracing::info!(
            "{whose:?} leads with a lower priority, {priority}, and FAILBACK has passed: requesting a handover"
        );
        context.shared.demand = Demand::OfHolder(Some(leader.lease));
    }
}

impl Handle for Verifying {
    fn on(&mut self, event: Event, context: &mut Context<'_>) -> Option<Next> {
        match (self.state, event) {
            (_, Event::ClusterLost) => Some(Next::join_again()),
            (_, Event::Answer(_, Answer::Failed { failure, .. })) => Some(Next::leave_denied(&failure)),
            (State::Pausing(until), Event::Woken) if context.now >= until => {
                self.state = Self::read(&self.candidacy, context);
                None
            }
            (State::Reading(_), Event::Answer(_, Answer::Read(read))) => self.decide(read, context),
            (State::Renewing(_), Event::Answer(_, Answer::Renewed { sent, read })) => {
                if !self.candidacy.renew(sent, context) {
                    return Some(Next::join_again());
                }
                Some(decide(self.candidacy.clone(), View::new(context.shared.lock(), read), context))
            }
            (State::Renewing(_), Event::Answer(_, Answer::LeaseGone)) => {
                self.candidacy.log_expired();
                Some(Next::join_again())
            }
            _ => None,
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        match self.state {
            State::Pausing(until) => Some(until),
            State::Reading(_) | State::Renewing(_) => None,
        }
    }

    fn requests(&self) -> Vec<RequestId> {
        match self.state {
            State::Reading(request) | State::Renewing(request) => vec![request],
            State::Pausing(_) => vec![],
        }
    }

    fn shift(&mut self, shift: Shift<'_>) {
        self.candidacy.shift(shift);
        match &mut self.state {
            State::Pausing(until) => shift.instant(until),
            State::Reading(request) | State::Renewing(request) => shift.request(request),
        }
    }
}
