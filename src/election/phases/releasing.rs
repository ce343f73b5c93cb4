//! Releasing: revokes the lease, which deletes all keys of this instance, and then exits or campaigns again.

use crate::election::{
    context::{Context, Shift},
    next::{Handle, Next, Then},
    progress::Progress,
    protocol::{Answer, Event, Request, RequestId},
};
use crate::{
    core::{clock::Instant, exit_code::Exit, limits::UNCONFIRMED, timing::show},
    guard::Order,
};

/// An instance that revokes its lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Releasing {
    request: RequestId,
    /// After this limit the lease is left to expire.
    limit: Instant,
    then: Then,
}

impl Releasing {
    /// Revokes the lease. If etcd cannot be reached before the limit, the lease will expire. Returns [`Released`] if there is none.
    pub(crate) fn begin(then: Then, limit: Option<Instant>, context: &mut Context<'_>) -> Result<Self, Released> {
        announce(then, context);
        let Some(lease) = context.shared.lease else { return Err(Released(then)) };
        if context.shared.cluster_lost {
            if lease.granted {
                tracing::warn!(
                    "not revoking lease {}, which will expire: most endpoints belong to another etcd cluster by now",
                    lease.id
                );
            }
            return Err(Released(then));
        }
        let patience = if lease.granted { context.shared.config.timing.end_limit() } else { UNCONFIRMED };
        let limit = limit.unwrap_or(context.now + patience);
        Ok(Self { request: context.request(Request::Revoke(lease.id)), limit, then })
    }

    /// Returns what follows.
    pub(crate) const fn then(&self) -> Then {
        self.then
    }

    fn log(&self, answer: Option<&Answer>, context: &Context<'_>) {
        let Some(lease) = context.shared.lease else { return };
        match answer {
            Some(Answer::Revoked(true)) => tracing::info!("revoked lease {}", lease.id),
            Some(Answer::Revoked(false)) => tracing::info!("lease {} had already expired", lease.id),
            Some(Answer::Failed { failure, .. }) => {
                tracing::warn!("could not revoke lease {}: {failure}; it will expire", lease.id);
            }
            None if lease.granted => {
                let limit = show(context.shared.config.timing.end_limit());
                tracing::warn!("could not revoke lease {} within {limit}; it will expire", lease.id);
            }
            // It has no keys, if it exists at all.
            _ => {}
        }
    }
}

/// An instance without a lease, or with one that is left to expire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Released(Then);

impl Released {
    /// Returns what follows.
    pub(crate) fn next(self, context: &mut Context<'_>) -> Next {
        context.shared.lease = None;
        context.order(Order::Lease(None));
        context.report(Progress::Released);
        context.shared.in_term = false;
        let exit = match (self.0, context.shared.shutdown) {
            (Then::Exit(exit), None) if rests_before(exit, context) => return Next::Rest(exit),
            (Then::Exit(exit), Some(signal)) if rests_before(exit, context) => signal.exit(),
            (Then::Exit(exit), _) => exit,
            (_, Some(signal)) => signal.exit(),
            _ if context.shared.guard_lost => Exit::Guard,
            (Then::Join(pause), None) => return Next::Join(pause),
            (Then::Campaign(pause), None) => {
                context.shared.begin_campaign(context.now + pause);
                return Next::Join(pause);
            }
        };
        Next::Exit(exit)
    }
}

/// Reports that no other term follows, unless the exit is still some time away.
fn announce(then: Then, context: &mut Context<'_>) {
    if let Then::Exit(exit) = then
        && (!rests_before(exit, context) || context.shared.shutdown.is_some())
    {
        context.report(Progress::Ending);
    }
}

fn rests_before(exit: Exit, context: &Context<'_>) -> bool {
    exit == Exit::IdentityTaken && !context.shared.restart_pause.is_zero()
}

impl Handle for Releasing {
    fn on(&mut self, event: Event, context: &mut Context<'_>) -> Option<Next> {
        match event {
            Event::Answer(_, answer) => self.log(Some(&answer), context),
            Event::Woken if context.now >= self.limit => self.log(None, context),
            _ => return None,
        }
        Some(Released(self.then).next(context))
    }

    fn next_wake(&self) -> Option<Instant> {
        Some(self.limit)
    }

    fn requests(&self) -> Vec<RequestId> {
        vec![self.request]
    }

    fn shift(&mut self, shift: Shift<'_>) {
        shift.request(&mut self.request);
        shift.instant(&mut self.limit);
    }
}
