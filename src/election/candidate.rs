//! The candidate: dispatches each event to its phase.

use std::{sync::Arc, time::Duration};

use super::{
    context::{Context, Shared, Shift},
    next::{Handle as _, Next, Then},
    phases::{Claiming, HandingOver, Joining, Leading, Releasing, Resting, Stopping, Verifying, Waiting},
    progress::Progress,
    protocol::{Action, Event, Meaning, RequestId},
};
use crate::{
    core::{
        clock::{self, Instant},
        exit_code::Exit,
        names::LeaseId,
        timing::show,
    },
    guard::{Order, Report},
    settings::ElectionConfig,
};

/// Evaluates an expression with the present phase.
macro_rules! in_phase {
    ($phase:expr, $name:ident => $what:expr, $otherwise:expr) => {
        match $phase {
            Phase::Joining($name) => $what,
            Phase::Verifying($name) => $what,
            Phase::Claiming($name) => $what,
            Phase::Waiting($name) => $what,
            Phase::Leading($name) => $what,
            Phase::Stopping($name) => $what,
            Phase::HandingOver($name) => $what,
            Phase::Releasing($name) => $what,
            Phase::Resting($name) => $what,
            Phase::Exited => $otherwise,
        }
    };
}

/// One candidate in one election, as a pure function: (state, event, now) → actions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    shared: Shared,
    phase: Phase,
}

/// What a candidate does at present, with the data that only this phase needs. Each has its own file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Joining(Joining),
    Verifying(Verifying),
    Claiming(Claiming),
    Waiting(Waiting),
    Leading(Leading),
    Stopping(Stopping),
    HandingOver(HandingOver),
    Releasing(Releasing),
    Resting(Resting),
    Exited,
}

impl Candidate {
    /// Creates a candidate that has not joined yet. Handle [`Event::Woken`] first.
    ///
    /// Before [`Exit::IdentityTaken`] it waits for `restart_pause`, so that a service manager which restarts it at once does not move
    /// leadership each time.
    #[must_use]
    pub fn new(config: Arc<ElectionConfig>, restart_pause: Duration, now: Instant) -> Self {
        Self { shared: Shared::new(config, restart_pause, now), phase: Phase::Joining(Joining::Pausing(now)) }
    }

    /// Handles an event, and returns what to do.
    pub fn on(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Event::Answer(id, answer) = &event
            && !self.shared.requests.is_answered(*id, answer)
        {
            // The answer to a request that was cancelled.
            return actions;
        }
        if event == Event::ClusterLost {
            self.shared.cluster_lost = true;
        }
        let mut context = Context { shared: &mut self.shared, now, actions: &mut actions };
        if let Event::Eligible(eligible) = event {
            context.shared.eligible = eligible;
            context.report(Progress::Eligible(eligible));
        }
        self.phase.handle(event, &mut context);
        if self.next_wake().is_some_and(|due| due <= now) {
            // A deadline that has passed is not put off by other events.
            let mut context = Context { shared: &mut self.shared, now, actions: &mut actions };
            self.phase.handle(Event::Woken, &mut context);
        }
        let requests = in_phase!(&self.phase, phase => phase.requests(), vec![]);
        self.shared.requests.keep_only(&requests, &mut actions);
        actions
    }

    /// Returns when [`on`](Self::on) must be called at the latest, with [`Event::Woken`] if there is no other event.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        let give_up_at = self.shared.give_up_at.filter(|_| self.phase.campaigns());
        [in_phase!(&self.phase, phase => phase.next_wake(), None), give_up_at].into_iter().flatten().min()
    }

    /// Returns whether it is in a term: from the order to start the command until the lease was revoked.
    #[must_use]
    pub const fn is_in_term(&self) -> bool {
        self.shared.in_term
    }

    /// Returns whether it leads: it has ordered the guard to start the command, and the process tree has not exited.
    #[must_use]
    pub const fn leads(&self) -> bool {
        matches!(self.phase, Phase::Leading(_) | Phase::Stopping(_))
    }

    /// Returns whether it has exited.
    #[must_use]
    pub const fn has_exited(&self) -> bool {
        matches!(self.phase, Phase::Exited)
    }

    /// Returns the lease that it has to revoke at its end.
    #[must_use]
    pub fn lease(&self) -> Option<LeaseId> {
        self.shared.lease.map(|lease| lease.id)
    }

    /// Moves all instants and numbers the open requests from 1 on, and returns their previous numbers in this order. Decisions do not
    /// depend on either, so a check of all states can treat states that differ in nothing else as one.
    pub fn shift(&mut self, clock: clock::Shift) -> Vec<RequestId> {
        let open = self.shared.requests.open();
        let shift = Shift { clock, open: &open };
        self.shared.shift(shift);
        in_phase!(&mut self.phase, phase => phase.shift(shift), ());
        open
    }
}

impl Phase {
    /// Handles an event, and enters the next phase.
    fn handle(&mut self, event: Event, context: &mut Context<'_>) {
        let next = if self.campaigns() {
            campaigning(self, event, context)
        } else if let Some(then) = self.then() {
            stepping_down(self, then, event, context)
        } else {
            self.on(event, context)
        };
        if let Some(next) = next {
            *self = Self::enter(next, context);
        }
    }

    /// Enters the next phase.
    fn enter(next: Next, context: &mut Context<'_>) -> Self {
        match next {
            Next::Join(pause) => Self::Joining(Joining::after(pause, context)),
            Next::Verify(candidacy, at) => Self::Verifying(Verifying::begin(candidacy, at, context)),
            Next::Claim(candidacy, entry, step, txn) => {
                Self::Claiming(Claiming::begin(candidacy, entry, step, txn, context))
            }
            Next::Wait(candidacy, view, position) => Self::Waiting(Waiting::begin(candidacy, &view, position, context)),
            Next::Lead(elected) => Self::Leading(Leading::begin(elected, context)),
            Next::Stop(lost) => Self::Stopping(Stopping::begin(lost, context)),
            // Not in a cluster that most endpoints have left: the standbys there have yet to learn that.
            Next::HandOver { otherwise, .. } if context.shared.cluster_lost => {
                Self::enter(Next::Release(otherwise, None), context)
            }
            Next::HandOver { term, next, then, otherwise } => {
                Self::HandingOver(HandingOver::begin(term, next, (then, otherwise), context))
            }
            Next::Release(then, limit) => match Releasing::begin(then, limit, context) {
                Ok(phase) => Self::Releasing(phase),
                Err(released) => Self::enter(released.next(context), context),
            },
            Next::Rest(exit) => Self::Resting(Resting::begin(exit, context)),
            Next::Exit(exit) => {
                context.order(Order::Dismiss);
                context.act(Action::Exit(exit));
                Self::Exited
            }
        }
    }

    fn on(&mut self, event: Event, context: &mut Context<'_>) -> Option<Next> {
        in_phase!(self, phase => phase.on(event, context), None)
    }

    /// Returns what follows, if it steps down.
    const fn then(&self) -> Option<Then> {
        match self {
            Self::HandingOver(phase) => Some(phase.then()),
            Self::Releasing(phase) => Some(phase.then()),
            _ => None,
        }
    }

    /// Returns whether it takes part in the election without leading.
    const fn campaigns(&self) -> bool {
        matches!(self, Self::Joining(_) | Self::Verifying(_) | Self::Claiming(_) | Self::Waiting(_))
    }
}

/// Handles an event of a candidate that does not lead: what ends every campaign is the same in all its phases.
fn campaigning(phase: &mut Phase, event: Event, context: &mut Context<'_>) -> Option<Next> {
    match event {
        Event::Report(Report::GuardLost) => {
            tracing::error!("the guard exited; exiting");
            Some(Next::leave(Exit::Guard))
        }
        Event::Signal(signal) => match signal.meaning {
            Meaning::Shutdown | Meaning::Interrupt => {
                tracing::info!("received {signal} while waiting: leaving the queue");
                Some(Next::leave(signal.exit()))
            }
            // A standby has no deadlines, so it can be suspended as any job of a shell.
            Meaning::Suspend => {
                context.act(Action::Suspend);
                None
            }
            Meaning::Other => None,
        },
        Event::Woken if context.shared.give_up_at.is_some_and(|limit| context.now >= limit) => {
            let timeout = show(context.shared.config.acquire_timeout.unwrap_or_default());
            let limit = show(context.shared.acquire_limit());
            tracing::error!("not elected within {limit} (ACQUIRE_TIMEOUT {timeout}): giving up");
            Some(Next::leave(Exit::GaveUp))
        }
        // Its queue entry would block all behind it.
        Event::Eligible(false) if context.shared.lease.is_some() => {
            tracing::info!("leaving the queue until this host is eligible");
            Some(Next::join_again())
        }
        event => phase.on(event, context),
    }
}

/// Handles an event of an instance that hands over or releases: whatever follows, it may have to exit instead.
fn stepping_down(phase: &mut Phase, then: Then, event: Event, context: &mut Context<'_>) -> Option<Next> {
    match event {
        Event::Report(Report::GuardLost) => {
            tracing::error!("the guard exited; exiting");
            context.shared.guard_lost = true;
            context.report(Progress::Ending);
            None
        }
        Event::Signal(signal) if matches!(signal.meaning, Meaning::Shutdown | Meaning::Interrupt) => {
            match then {
                Then::Join(_) => tracing::info!("received {signal} while waiting: leaving the queue"),
                Then::Campaign(_) => tracing::info!("received {signal} while stepping down: not campaigning again"),
                Then::Exit(_) => {}
            }
            context.shut_down(signal);
            None
        }
        event => phase.on(event, context),
    }
}

#[cfg(test)]
mod tests;
