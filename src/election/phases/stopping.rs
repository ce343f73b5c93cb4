//! Stopping after a loss: the guard is not fed any more, so it kills the process tree within the TTL. The lease is kept alive until
//! the process tree has exited, so that no other instance leads meanwhile.

use crate::election::{
    context::{Context, Shift},
    end::{End, log_ending, log_guard_lost},
    next::{Handle, Lost, Next},
    progress::Progress,
    protocol::{Event, Meaning, RequestId, Signal},
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
        context.order(Order::Stop);
        context.report(Progress::Lost);
        Self(lost)
    }

    fn reported(&self, report: Report, context: &mut Context<'_>) -> Option<Next> {
        let end = match report {
            Report::Started(pid) => {
                tracing::info!(pid, "command started");
                context.report(Progress::Started);
                return None;
            }
            Report::Fed(deadlines) => {
                context.report(Progress::Fed(deadlines));
                return None;
            }
            Report::Ending(reason) => {
                log_ending(reason);
                return None;
            }
            Report::Ended(end) => {
                tracing::info!("the command {end}");
                return None;
            }
            Report::TreeExited(_) => {
                context.report(Progress::Exited);
                self.0.ended.map_or_else(|| End::Lost(self.0.loss.clone()), End::Command)
            }
            Report::GuardLost => {
                log_guard_lost();
                End::GuardLost
            }
        };
        // The loss may be a request of another instance, which comes before the next in the queue.
        Some(end.after(self.0.term.clone(), None, self.0.shutdown, context))
    }

    fn signaled(&mut self, signal: Signal, context: &mut Context<'_>) {
        match signal.meaning {
            Meaning::Shutdown => {
                tracing::info!("received a shutdown request: stopping the command");
                self.0.shutdown = Some(signal);
                context.report(Progress::Ending);
            }
            Meaning::Interrupt => self.0.shutdown = Some(signal),
            Meaning::Suspend | Meaning::Other => {}
        }
        context.order(Order::Signal(signal.number));
    }
}

impl Handle for Stopping {
    fn on(&mut self, event: Event, context: &mut Context<'_>) -> Option<Next> {
        match event {
            Event::Report(report) => return self.reported(report, context),
            Event::Signal(signal) => self.signaled(signal, context),
            Event::Woken | Event::NewLease(_) | Event::Answer(..) | Event::ClusterLost => {}
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
        self.0.term.shift(shift);
        shift.request(&mut self.0.renewals);
    }
}
