//! How a term ends, and what follows.

use std::time::Duration;

use super::{
    context::Context,
    loss::Loss,
    next::{Next, Then},
    protocol::Signal,
    term::Term,
    view::Entry,
};
use crate::{
    core::{exit_code::Exit, names::shown},
    guard::{CommandEnd, Reason},
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
    pub(super) fn after(
        self,
        term: Term,
        next: Option<Entry>,
        shutdown: Option<Signal>,
        context: &mut Context<'_>,
    ) -> Next {
        context.shared.led_lost_cluster = self == Self::Lost(Loss::AnotherCluster);
        // The cause may still exist.
        let failed_to_start = self == Self::Command(CommandEnd::NotStarted);
        let pause = if failed_to_start { context.shared.config.timing.retry_period() } else { Duration::ZERO };
        let then = match (self.exit(context), shutdown) {
            (Some(exit), _) => Then::Exit(exit),
            (None, Some(signal)) => Then::exit_by(signal),
            (None, None) => {
                tracing::info!("campaigning again");
                Then::Campaign(pause)
            }
        };
        Next::HandOver(term, next, then, then)
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
            Self::Command(CommandEnd::NotStarted) => None,
            Self::GuardLost => Some(Exit::Guard),
            Self::Lost(Loss::Requested(by)) if config.identity_is_explicit && by == config.identity.as_bytes() => {
                let by = shown(&by);
                tracing::error!(
                    "another live instance has the identity of this one, {by:?}, and took leadership: exiting; set a different \
                     ETCD_AWAIT_ELECTION_IDENTITY for each instance"
                );
                Some(Exit::IdentityTaken)
            }
            Self::Lost(_) if config.on_loss == OnLoss::Campaign => None,
            Self::Lost(_) => Some(Exit::Lost),
        }
    }
}

pub(super) fn log_ending(reason: Reason) {
    if reason == Reason::StopGrace {
        tracing::warn!("the command did not exit within STOP_GRACE: killing its process tree");
    }
}

pub(super) fn log_guard_lost() {
    tracing::error!("the guard exited or did not answer in time: the command was killed");
}
