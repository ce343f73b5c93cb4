//! The time limits of the etcd client.

use std::time::Duration;

use crate::core::{clock::Instant, limits::REQUEST, timing::Timing};

/// The latest possible instant.
pub(crate) const NEVER: Instant = Instant::from_boot(Duration::MAX);

/// The time limits of requests.
#[derive(Clone, Copy, Debug)]
pub struct RequestTimeouts {
    /// The time without a response after which the request is sent to the next endpoint as well.
    pub hedge_delay: Duration,
    /// The time after which an attempt is dropped, because its response would be useless.
    pub attempt_limit: Duration,
    /// The longest pause after all endpoints have failed; the first ones are shorter.
    pub pause: Duration,
}

impl RequestTimeouts {
    /// Derives the limits from the timing: several hedges fit before the renew deadline, after which a renewal that was sent before
    /// is useless.
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
    /// Returns the limits for requests outside of an election.
    fn default() -> Self {
        Self { hedge_delay: Duration::from_millis(500), attempt_limit: REQUEST, pause: Duration::from_secs(1) }
    }
}
