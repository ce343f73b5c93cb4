//! How a term ends, and what follows.

use std::time::Duration;

use super::{
    absence::Absence,
    context::Context,
    loss::Loss,
    next::{Next, Then},
    progress::Progress,
    protocol::{Meaning, Signal},
    term::Term,
    view::Entry,
};
use crate::{
    core::{exit_code::Exit, names::shown, timing::show},
    guard::{CommandEnd, Order, Program, Reason, Report},
    settings::OnLoss,
};

/// How a term ended. The process tree has exited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The command ended by itself or after a shutdown request.
    Command(CommandEnd),
    /// Leadership was lost, and the command was stopped for that reason.
    Lost(Loss),
    /// The guard was lost, and the command was killed with it.
    GuardLost,
}

impl End {
    /// Hands over, and then exits or campaigns again.
    pub(super) fn after(self, term: Term, next: Option<Entry>, context: &mut Context<'_>) -> Next {
        context.shared.led_lost_cluster = self == Self::Lost(Loss::AnotherCluster);
        let period = context.shared.config.timing.retry_period();
        let pause = match self {
            // The cause may still exist.
            Self::Command(CommandEnd::NotStarted) => period,
            Self::Command(CommandEnd::OnElectedFailed) => {
                let pause = context.shared.failed_preparations.after_failure(period);
                let shown = show(pause);
                tracing::warn!("ON_ELECTED failed: giving up leadership, and joining the queue again in {shown}");
                pause
            }
            Self::Lost(Loss::Sick) => context.shared.sick_terms.after_failure(context.shared.config.sick_pause),
            _ => Duration::ZERO,
        };
        let is_sick = self == Self::Lost(Loss::Sick);
        let then = self.exit(context).map_or(Then::Campaign(pause), Then::Exit);
        match (then, context.shared.shutdown) {
            (Then::Exit(_), _) => {}
            (_, Some(signal)) => tracing::info!("received {signal} while stepping down: not campaigning again"),
            (_, None) if is_sick => {
                tracing::warn!("staying out of the queue for {}, as the command was sick", show(pause));
                context.report(Progress::StaysOut(pause));
            }
            (_, None) => tracing::info!("campaigning again"),
        }
        let otherwise = match then {
            // If nobody took over after all, there may be no other instance.
            Then::Campaign(_) if is_sick => Then::Campaign(period),
            then => then,
        };
        Next::HandOver { term, next, then, otherwise }
    }

    /// Returns how the program exits; `None` to campaign again.
    fn exit(self, context: &Context<'_>) -> Option<Exit> {
        let config = &context.shared.config;
        match self {
            Self::Command(CommandEnd::Exited(code)) => Some(Exit::Command(code)),
            Self::Command(CommandEnd::Signaled(signal)) => Some(Exit::Signal(signal)),
            Self::Command(CommandEnd::NotFound) => Some(Exit::NotFound),
            Self::Command(CommandEnd::NotExecutable) => Some(Exit::NotExecutable),
            // Its first deadlines had passed, or no process could be created.
            Self::Command(CommandEnd::NotStarted | CommandEnd::OnElectedFailed) => None,
            Self::GuardLost => Some(Exit::Guard),
            Self::Lost(Loss::Requested(by)) if config.identity_is_explicit && by == config.identity.as_bytes() => {
                let by = shown(&by);
                tracing::error!(
                    "another live instance has the identity of this one, {by:?}, and took leadership: exiting; set a different \
                     ETCD_AWAIT_ELECTION_IDENTITY for each instance"
                );
                Some(Exit::IdentityTaken)
            }
            // Otherwise a service manager would restart it at once, and it could lead again.
            Self::Lost(Loss::Sick) => None,
            Self::Lost(_) if config.on_loss == OnLoss::Campaign => None,
            Self::Lost(_) => Some(Exit::Lost),
        }
    }
}

/// Notes a report of the guard that does not end the term.
pub(super) fn note(report: Report, context: &mut Context<'_>) {
    match report {
        Report::Started(pid) => {
            tracing::info!(pid, "command started");
            context.shared.failed_preparations = Absence::default();
            context.report(Progress::Started);
        }
        Report::Starting(hook @ (Program::OnElected | Program::OnStopped)) => tracing::info!("running {hook}"),
        Report::Starting(Program::Command) => {}
        Report::Fed(deadlines) => context.report(Progress::Fed(deadlines)),
        Report::Ending(Reason::StopGrace) => {
            tracing::warn!("the command did not exit within STOP_GRACE: killing its process tree");
        }
        Report::Ending(Reason::OnStoppedLimit) => {
            tracing::warn!("ON_STOPPED did not exit before the lease could have expired: killing its process tree");
        }
        Report::Ended(end) => tracing::info!("the command {end}"),
        Report::TreeExited(_) => context.report(Progress::Exited),
        Report::GuardLost => {
            tracing::error!("the guard exited or did not answer in time: the command was killed");
        }
        Report::Ending(_) => {}
    }
}

/// Handles a signal while a command runs.
pub(super) fn signaled(signal: Signal, is_stopping: bool, context: &mut Context<'_>) {
    match signal.meaning {
        Meaning::Shutdown => {
            tracing::info!("received a shutdown request: stopping the command");
            context.shut_down(signal);
        }
        // While the command is being stopped anyway, signals that otherwise concern only the command end the program, too.
        Meaning::Interrupt if is_stopping => context.shut_down(signal),
        Meaning::Interrupt | Meaning::Suspend | Meaning::Other => {}
    }
    context.order(Order::Signal(signal.number));
}
