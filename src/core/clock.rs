//! Instants of the one clock, `CLOCK_BOOTTIME`, which goes on while the machine is suspended. [`crate::system::clock`] reads it.
//!
//! Leases run out on the clock of the etcd leader whether or not this machine sleeps. `std::time::Instant` (and so every
//! tokio timer) is `CLOCK_MONOTONIC` on Linux, which stands still during suspend
//! (<https://github.com/rust-lang/rust/issues/87906>). So deadlines are instants of this module, timers only wake, and
//! whoever wakes compares the deadline with [`Clock::now`] before believing anything else.

use std::{
    fmt,
    ops::{Add, Sub},
    pin::pin,
    time::Duration,
};

use futures_util::future::{Either, select};

/// An instant on `CLOCK_BOOTTIME`, the same in every process of one machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(Duration);

impl Instant {
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
            match select(pin!(future), pin!(self.sleep_until(deadline))).await {
                Either::Left((output, _)) => Some(output),
                Either::Right(_) => None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        let now = Instant::from_boot(Duration::from_secs(100));
        assert_eq!((now + Duration::MAX).since_boot(), Duration::MAX);
        assert_eq!(now - Duration::MAX, Instant::from_boot(Duration::ZERO));
        assert_eq!(now.saturating_since(now + Duration::from_secs(1)), Duration::ZERO);
    }
}
