//! Joining: grants a lease, and creates the queue entry.

use std::time::Duration;

use crate::election::{
    candidacy::{Candidacy, Failback},
    context::{Context, OwnLease, Shift},
    next::{Handle, Next, Then},
    pause,
    progress::Progress,
    protocol::{Action, Answer, Event, Request, RequestId},
    transactions,
};
use crate::{
    core::{
        clock::Instant,
        kv::{KeyValue, Outcome, StoreError},
        names::LeaseId,
        timing::show,
    },
    guard::Order,
};

/// A candidate that is not in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Joining {
    /// It joins at this instant.
    Pausing(Instant),
    /// It joins as soon as this host is eligible.
    Ineligible,
    /// At this instant the lease of the leader in the previous cluster must have expired.
    Outlasting(Instant),
    /// It waits for the ID of its next lease.
    Numbering,
    /// The lease is being granted.
    Granting(LeaseId, RequestId),
    /// The queue entry is being created.
    Entering(Candidacy, RequestId),
}

impl Joining {
    pub(crate) fn after(pause: Duration, context: &mut Context<'_>) -> Self {
        if pause.is_zero() { Self::begin(context) } else { Self::Pausing(context.now + pause) }
    }

    /// If the endpoints belong to another cluster by now, waits first until the lease of the leader in the previous cluster must have
    /// expired: the lock of the other cluster says nothing about that leader.
    fn begin(context: &mut Context<'_>) -> Self {
        context.report(Progress::Joining);
        let led = std::mem::take(&mut context.shared.led_lost_cluster);
        if context.shared.cluster_lost && !led {
            let delay = show(context.shared.ttl);
            tracing::warn!(
                "joining the other etcd cluster in {delay}: the leader of the previous cluster may run until then"
            );
            return Self::Outlasting(context.now + context.shared.ttl);
        }
        Self::enter(context)
    }

    fn enter(context: &mut Context<'_>) -> Self {
        if !context.shared.eligible {
            return Self::Ineligible;
        }
        context.act(Action::ForgetCluster);
        if std::mem::take(&mut context.shared.cluster_lost) {
            // Its revisions are those of the other cluster.
            context.shared.paused = pause::Known::default();
            context.report(Progress::Paused(None));
        }
        context.act(Action::NewLease);
        Self::Numbering
    }

    fn grant(lease: LeaseId, context: &mut Context<'_>) -> Self {
        context.shared.lease = Some(OwnLease { id: lease, granted: false });
        // Before it is granted, so that it can be revoked even if this process is killed.
        context.order(Order::Lease(Some(lease)));
        let ttl = context.shared.config.timing.lease();
        Self::Granting(lease, context.request(Request::Grant { lease, ttl }))
    }

    fn granted(lease: LeaseId, sent: Instant, ttl: Duration, context: &mut Context<'_>) -> Self {
        context.shared.lease = Some(OwnLease { id: lease, granted: true });
        context.shared.ttl = ttl;
        context.report(Progress::Renewed { sent, ttl });
        let config = &context.shared.config;
        let join = transactions::join(&config.lock, &config.identity, lease, config.priority);
        let candidacy = Candidacy {
            lease,
            ttl,
            renewed: sent,
            kept_alive: sent,
            failback: Failback::new(context),
            has_joined: false,
            logged_failure: String::new(),
        };
        Self::Entering(candidacy, context.request(Request::Commit(join)))
    }
}

impl Joining {
    /// Leads at once if the lock was free.
    fn entered(candidacy: &Candidacy, outcome: Outcome, context: &mut Context<'_>) -> Next {
        match outcome {
            Outcome::Then(revision) if candidacy.is_fresh(context) => {
                let config = &context.shared.config;
                let entry = KeyValue {
                    key: config.lock.entry(candidacy.lease),
                    value: config.identity.clone().into_bytes(),
                    create_revision: revision,
                    mod_revision: revision,
                    lease: Some(candidacy.lease),
                };
                Next::lead_at(candidacy, entry, revision, context)
            }
            // If nothing was changed, it may have been applied before, over another connection. The next read shows that.
            _ => Next::Verify(candidacy.clone(), None),
        }
    }
}

impl Handle for Joining {
    fn on(&mut self, event: Event, context: &mut Context<'_>) -> Option<Next> {
        match (&*self, event) {
            (Self::Pausing(until), Event::Woken) if context.now >= *until => *self = Self::begin(context),
            (Self::Outlasting(until), Event::Woken) if context.now >= *until => *self = Self::enter(context),
            (Self::Ineligible, Event::Eligible(true)) => *self = Self::begin(context),
            (Self::Numbering, Event::Eligible(false)) => *self = Self::Ineligible,
            (Self::Numbering, Event::NewLease(lease)) => *self = Self::grant(lease, context),
            (Self::Granting(..) | Self::Entering(..), Event::ClusterLost) => return Some(Next::join_again()),
            (&Self::Granting(lease, _), Event::Answer(_, Answer::Granted { sent, ttl })) => {
                *self = Self::granted(lease, sent, ttl, context);
            }
            (Self::Granting(..), Event::Answer(_, Answer::Failed { failure, .. }))
            | (
                Self::Entering(..),
                Event::Answer(_, Answer::Failed { failure: failure @ StoreError::AccessDenied(_), .. }),
            ) => {
                return Some(Next::leave_denied(&failure));
            }
            (Self::Entering(candidacy, _), Event::Answer(_, Answer::Committed(outcome))) => {
                return Some(Self::entered(candidacy, outcome, context));
            }
            // It is not known whether the lease has a queue entry, so it is not used any more.
            (Self::Entering(..), Event::Answer(_, Answer::Failed { failure, retry_at })) => {
                tracing::warn!("could not join the queue: {failure}; joining again with a new lease");
                let pause = retry_at.saturating_since(context.now);
                return Some(Next::Release(Then::Join(pause), None));
            }
            _ => {}
        }
        None
    }

    fn next_wake(&self) -> Option<Instant> {
        match self {
            Self::Pausing(until) | Self::Outlasting(until) => Some(*until),
            Self::Ineligible | Self::Numbering | Self::Granting(..) | Self::Entering(..) => None,
        }
    }

    fn requests(&self) -> Vec<RequestId> {
        match self {
            Self::Granting(_, request) | Self::Entering(_, request) => vec![*request],
            Self::Pausing(_) | Self::Ineligible | Self::Outlasting(_) | Self::Numbering => vec![],
        }
    }

    fn shift(&mut self, shift: Shift<'_>) {
        match self {
            Self::Pausing(until) | Self::Outlasting(until) => shift.instant(until),
            Self::Ineligible | Self::Numbering => {}
            Self::Granting(_, request) => shift.request(request),
            Self::Entering(candidacy, request) => {
                candidacy.shift(shift);
                shift.request(request);
            }
        }
    }
}
