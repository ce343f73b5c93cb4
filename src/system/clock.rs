//! Reads the time. `clippy.toml` forbids that everywhere else.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use crate::core::clock::{Clock, Instant};

impl Instant {
    /// Reads the clock.
    ///
    /// # Panics
    /// If the kernel has no `CLOCK_BOOTTIME` (Linux before 2.6.39).
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux 2.6.39 or later has CLOCK_BOOTTIME");
        Self::from_boot(now.into())
    }
}

/// Returns the time of day as the time since 1970. It can be set, so it is only for display.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn time_of_day() -> Duration {
    // Before 1970 is a clock that was not set.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The clock of the machine, `CLOCK_BOOTTIME`.
#[derive(Clone, Copy, Debug, Default)]
pub struct BootClock;

impl Clock for BootClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    async fn sleep_until(&self, deadline: Instant) {
        // At most one second at a time, as tokio's timer stands still during suspend.
        const STEP: Duration = Duration::from_secs(1);
        loop {
            let left = deadline.saturating_since(self.now());
            if left.is_zero() {
                return;
            }
            #[expect(clippy::disallowed_methods, reason = "a timer only wakes; the clock is compared afterwards")]
            tokio::time::sleep(left.min(STEP)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_clock_that_counts_suspend() {
        let monotonic: Duration = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock").into();
        assert!(Instant::now().since_boot() >= monotonic);
    }

    #[tokio::test]
    async fn before_gives_up_at_the_deadline() {
        let clock = BootClock;
        let deadline = clock.now() + Duration::from_millis(5);
        assert_eq!(clock.before(deadline, std::future::pending::<()>()).await, None);
        assert!(clock.now() >= deadline);
        assert_eq!(clock.before(deadline, std::future::ready(1)).await, Some(1));
    }
}
