//! Stopping after a loss: the guard is not fed any more, so it kills the process tree within the TTL. The lease is kept alive until
//! the process tree has exited, so that no other instance leads meanwhile.

use crate::election::{
    context::{Context, Shift},
    end::{End, note, signaled},
    next::{Handle, Lost, Next},
    progress::Progress,
    protocol::{Event, RequestId},
};
use crate::{
    core::clock::Instant,
    guard::{Order, Report},
};

/// An instance that has lost leadership, and whose command is being stopped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stopping(Lost);

impl Stopping {
    pub(crate) fn begin(lost: Lost, context: &mut Context<'_>) -> Self {
        if lost.loss.is_over() {
            context.order(Order::Lease(None));
        }
        context.order(Order::Stop);
        context.report(Progress::Lost);
        Self(lost)
    }

    fn reported(&self, report: Report, context: &mut Context<'_>) -> Option<Next> {
        note(report, context);
        let end = match report {
            Report::TreeExited(_) => {
                let ran = self.0.ended.filter(|end| !end.is_temporary());
                ran.map_or_else(|| End::Lost(self.0.loss.clone()), End::Command)
            }
            Report::GuardLost => End::GuardLost,
            Report::Starting(_) | Report::Started(_) | Report::Fed(_) | Report::Ending(_) | Report::Ended(_) => {
                return None;
            }
        };
        // The loss may be a request of another instance, which comes before the next in the queue.
        Some(end.after(self.0.term.clone(), None, context))
    }
}

impl Handle for Stopping {
    fn on(&mut self, event: Event, context: &mut Context<'_>) -> Option<Next> {
        match event {
            Event::Report(report) => return self.reported(report, context),
            Event::Signal(signal) => signaled(signal, true, context),
            Event::Woken
            | Event::NewLease(_)
            | Event::Answer(..)
            | Event::Healthy(_)
            | Event::Eligible(_)
            | Event::ClusterLost => {}
        }
        None
    }

    fn next_wake(&self) -> Option<Instant> {
        None
    }

    fn requests(&self) -> Vec<RequestId> {
        vec![self.0.renewals]
    }

    fn shift(&mut self, shift: Shift<'_>) {
        shift.request(&mut self.0.renewals);
    }
}
