//! The pauses after failures, which double with each failure.

use std::{cell::Cell, time::Duration};

use super::timeouts::RequestTimeouts;
use crate::core::clock::Instant;

/// Counts failures in a row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pauses {
    failures: u32,
    leaderless: u32,
    since: Option<Instant>,
}

impl Pauses {
    const FIRST: Duration = Duration::from_millis(50);
    /// The first and the longest pause while etcd elects a leader, as the next attempt may succeed soon.
    const LEADERLESS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));

    /// Returns the pause after one more failure. The short pauses without a leader end after one attempt limit.
    pub(super) fn next(
        &mut self,
        now: Instant,
        leaderless: bool,
        timeouts: &RequestTimeouts,
        jitter: &Jitter,
    ) -> Duration {
        let RequestTimeouts { pause, attempt_limit, .. } = *timeouts;
        let since = *self.since.get_or_insert(now);
        let double = |first: Duration, times: u32| first * 2_u32.saturating_pow(times.min(20));
        let pause = if leaderless && now < since + attempt_limit {
            self.leaderless += 1;
            double(Self::LEADERLESS.0, self.leaderless - 1).min(Self::LEADERLESS.1).min(pause)
        } else {
            self.failures += 1;
            double(Self::FIRST, self.failures - 1).min(pause)
        };
        jitter.blur(pause)
    }
}

/// Random numbers (xorshift), so that instances that lost etcd at the same time do not retry at the same time.
#[derive(Debug)]
pub(super) struct Jitter(Cell<u64>);

impl Jitter {
    /// Uses the time as seed, as no two processes read the same nanosecond.
    pub(super) fn new(now: Instant) -> Self {
        Self(Cell::new(u64::try_from(now.since_boot().as_nanos()).unwrap_or(u64::MAX) | 1))
    }

    /// Changes a pause by up to an eighth.
    fn blur(&self, pause: Duration) -> Duration {
        let mut x = self.0.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.set(x);
        let part = u32::try_from(x >> 40).unwrap_or(0);
        pause.mul_f64(0.875 + f64::from(part) / f64::from(1 << 26))
    }
}
