//! The candidacy with one lease: from the grant until it leads or the lease is not used any more.

use std::time::Duration;

use super::{
    context::{Context, Shift},
    progress::Progress,
};
use crate::core::{clock::Instant, names::LeaseId, timing::Timing};

/// The pause before another read after a transaction whose compares failed, and after a watch that broke.
pub(super) const REREAD_PAUSE: Duration = Duration::from_millis(50);

/// The candidacy with one lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Candidacy {
    pub(super) lease: LeaseId,
    /// The time to live that etcd granted.
    pub(super) ttl: Duration,
    /// When the latest confirmed renewal was sent, with a read before the keepalive; at first, when the grant was.
    pub(super) renewed: Instant,
    /// The same for the latest keepalive, with or without a read.
    pub(super) kept_alive: Instant,
    /// When it requests a handover from a leader with a lower priority.
    pub(super) failback: Failback,
    /// Whether it was seen in the queue.
    pub(super) has_joined: bool,
    /// The failure that was logged last.
    pub(super) logged_failure: String,
}

/// When a standby requests a handover from a leader with a lower priority. The time counts from when its lease was granted, whoever leads
/// meanwhile, and begins anew with another lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Failback {
    Never,
    /// Not before this instant.
    At(Instant),
    /// Whenever there is such a leader.
    Due,
}

impl Failback {
    pub(super) fn new(context: &Context<'_>) -> Self {
        context.shared.config.failback.map_or(Self::Never, |after| Self::At(context.now + after))
    }

    /// Returns whether the time has passed now.
    pub(super) fn becomes_due(&mut self, now: Instant) -> bool {
        let becomes_due = matches!(*self, Self::At(at) if now >= at);
        if becomes_due {
            *self = Self::Due;
        }
        becomes_due
    }

    pub(super) const fn next_wake(self) -> Option<Instant> {
        match self {
            Self::At(at) => Some(at),
            Self::Never | Self::Due => None,
        }
    }
}

impl Candidacy {
    /// Returns whether the command may start after the latest renewal: no other is due, and at least half of the renew deadline is
    /// left for the first renewal of the leader.
    pub(super) fn is_fresh(&self, context: &Context<'_>) -> bool {
        let half = context.shared.config.timing.renew_deadline() / 2;
        context.now < self.renewed + Timing::waiting_period(self.ttl).min(half)
    }

    /// Notes a renewal. Returns `false` if the lease must not be used any more.
    pub(super) fn renew(&mut self, sent: Instant, context: &mut Context<'_>) -> bool {
        let is_valid = self.keep_alive(sent, context);
        if is_valid {
            self.renewed = sent;
        }
        is_valid
    }

    /// Notes a keepalive. Returns `false` if the lease must not be used any more, because the answer came later than the TTL after the
    /// previous one: old versions of etcd confirm a lease that they are about to revoke, and then two commands would run.
    pub(super) fn keep_alive(&mut self, sent: Instant, context: &mut Context<'_>) -> bool {
        let in_time = context.now < context.shared.config.timing.deadlines(self.kept_alive, self.ttl).kill_at;
        if in_time {
            self.kept_alive = sent;
            context.report(Progress::Renewed { sent, ttl: self.ttl });
        } else {
            self.log_expired();
        }
        in_time
    }

    pub(super) fn log_expired(&self) {
        tracing::warn!("lease {} expired or was revoked while waiting: joining again with a new lease", self.lease);
    }

    pub(super) fn shift(&mut self, shift: Shift<'_>) {
        shift.instant(&mut self.renewed);
        shift.instant(&mut self.kept_alive);
        if let Failback::At(at) = &mut self.failback {
            shift.instant(at);
        }
    }
}
