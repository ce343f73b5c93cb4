//! Resting: waits before the exit, so that the service manager does not restart this instance before.

use crate::{
    core::{clock::Instant, exit_code::Exit, timing::show},
    election::{
        context::{Context, Shift},
        next::{Handle, Next},
        progress::Progress,
        protocol::{Event, Meaning, RequestId},
    },
};

/// An instance that has left the queue, and exits later.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Resting {
    until: Instant,
    exit: Exit,
}

impl Resting {
    pub(crate) fn begin(exit: Exit, context: &Context<'_>) -> Self {
        let pause = context.shared.restart_pause;
        tracing::info!("exiting in {}, so that the service manager does not restart this instance before", show(pause));
        Self { until: context.now + pause, exit }
    }
}

impl Handle for Resting {
    fn on(&mut self, event: Event, context: &mut Context<'_>) -> Option<Next> {
        let exit = match event {
            Event::Woken if context.now >= self.until => self.exit,
            Event::Signal(signal) if matches!(signal.meaning, Meaning::Shutdown | Meaning::Interrupt) => {
                tracing::info!("received {signal} while waiting: leaving the queue");
                signal.exit()
            }
            _ => return None,
        };
        context.report(Progress::Ending);
        Some(Next::Exit(exit))
    }

    fn next_wake(&self) -> Option<Instant> {
        Some(self.until)
    }

    fn requests(&self) -> Vec<RequestId> {
        vec![]
    }

    fn shift(&mut self, shift: Shift<'_>) {
        shift.instant(&mut self.until);
    }
}
