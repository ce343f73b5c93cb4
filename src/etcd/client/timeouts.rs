//! How long the etcd client waits.

use std::time::Duration;

use crate::core::{clock::Instant, limits::RELEASE_ATTEMPT, timing::Timing};

/// Later than anything.
pub(crate) const NEVER: Instant = Instant::from_boot(Duration::MAX);

/// How long to wait for whom.
#[derive(Clone, Copy, Debug)]
pub struct RequestTimeouts {
    /// When the next endpoint gets the request too.
    pub hedge_delay: Duration,
    /// When an attempt is given up: its answer would be of no use any more.
    pub attempt_limit: Duration,
    /// The longest pause after all endpoints failed; the first ones are shorter.
    pub pause: Duration,
}

impl RequestTimeouts {
    /// What fits between the renewals of this timing: several hedges before the renew deadline, which is when a renewal that was
    /// sent before is worth nothing any more.
    #[must_use]
    pub fn of(timing: &Timing) -> Self {
        let spare = timing.outage_survived();
        Self {
            hedge_delay: (spare / 8).clamp(Duration::from_millis(50), Duration::from_millis(500)),
            attempt_limit: timing.renew_deadline().max(Duration::from_secs(1)),
            pause: timing.retry_period().min(spare),
        }
    }
}

impl Default for RequestTimeouts {
    /// For a question or an errand outside of an election.
    fn default() -> Self {
        Self { hedge_delay: Duration::from_millis(500), attempt_limit: RELEASE_ATTEMPT, pause: Duration::from_secs(1) }
    }
}
