//! The one clock: `CLOCK_BOOTTIME`, which goes on while the machine is suspended.
//!
//! Leases run out on the clock of the etcd leader whether or not this machine sleeps. `std::time::Instant` (and so every
//! tokio timer) is `CLOCK_MONOTONIC` on Linux, which stands still during suspend
//! (<https://github.com/rust-lang/rust/issues/87906>). So deadlines are instants of this module, timers only wake, and
//! whoever wakes compares the deadline with [`Clock::now`] before believing anything else.

use std::{
    fmt,
    ops::{Add, Sub},
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};

/// An instant on `CLOCK_BOOTTIME`, the same in every process of one machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(Duration);

impl Instant {
    /// Reads the clock.
    ///
    /// # Panics
    /// If the kernel has no `CLOCK_BOOTTIME` (Linux before 2.6.39).
    #[must_use]
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux 2.6.39 or later has CLOCK_BOOTTIME");
        Self(now.into())
    }

    /// The instant that lies `since_boot` after the machine's start.
    #[must_use]
    pub const fn from_boot(since_boot: Duration) -> Self {
        Self(since_boot)
    }

    /// How long after the machine's start this instant lies.
    #[must_use]
    pub const fn since_boot(self) -> Duration {
        self.0
    }

    /// The time from `earlier` to `self`, or zero if `earlier` is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates: a deadline too far away to be told is never due.
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    /// Saturates at the machine's start: a deadline before it is long due.
    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "boot+{:.3}s", self.0.as_secs_f64())
    }
}

/// Where the asynchronous side reads time and waits for it: the machine's clock, or a simulated one.
pub trait Clock {
    /// The present instant.
    fn now(&self) -> Instant;

    /// Completes at `deadline` or soon after; at once if it has passed. May be late by a suspend: compare again.
    fn sleep_until(&self, deadline: Instant) -> impl Future<Output = ()>;

    /// Completes `duration` from now.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> {
        self.sleep_until(self.now() + duration)
    }

    /// Gives `future` until `deadline`; `None` if it was not done by then.
    fn before<F: Future>(&self, deadline: Instant, future: F) -> impl Future<Output = Option<F::Output>> {
        async move {
            tokio::select! {
                biased;
                output = future => Some(output),
                () = self.sleep_until(deadline) => None,
            }
        }
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct BootClock;

impl Clock for BootClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    async fn sleep_until(&self, deadline: Instant) {
        // At most a second at a time: tokio's timer sleeps through a suspend, and a clock read is cheap.
        const STEP: Duration = Duration::from_secs(1);
        loop {
            let left = deadline.saturating_since(self.now());
            if left.is_zero() {
                return;
            }
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

    #[test]
    fn arithmetic_saturates() {
        let now = Instant::now();
        assert_eq!((now + Duration::MAX).since_boot(), Duration::MAX);
        assert_eq!(now - Duration::MAX, Instant::from_boot(Duration::ZERO));
        assert_eq!(now.saturating_since(now + Duration::from_secs(1)), Duration::ZERO);
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
