//! Instants on `CLOCK_BOOTTIME`, which goes on while the machine is suspended. [`crate::system::clock`] reads it.
//!
//! Leases expire by the clock of the etcd leader, also while this machine is suspended. `std::time::Instant` (and so every
//! tokio timer) is `CLOCK_MONOTONIC` on Linux, which stands still during suspend
//! (<https://github.com/rust-lang/rust/issues/87906>). So deadlines are instants of this module; a
//! timer only wakes, and the deadline is compared with [`Clock::now`] afterwards.

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
    /// Returns the instant `since_boot` after the boot of the machine.
    #[must_use]
    pub const fn from_boot(since_boot: Duration) -> Self {
        Self(since_boot)
    }

    /// Returns the time from the boot of the machine to this instant.
    #[must_use]
    pub const fn since_boot(self) -> Duration {
        self.0
    }

    /// Returns the time from `earlier` to `self`, or zero if `earlier` is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates: a deadline that is too far away to be represented never passes.
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    /// Saturates at the boot of the machine: a deadline before it has passed.
    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "boot+{:.3}s", self.0.as_secs_f64())
    }
}

/// A shift of instants. A check of all states uses it: states that differ only by a shift behave the same.
#[derive(Clone, Copy, Debug)]
pub struct Shift {
    /// The instant that becomes `to`; all others keep their distance from it.
    pub from: Instant,
    /// The instant that `from` becomes.
    pub to: Instant,
}

impl Shift {
    /// Moves an instant.
    pub fn instant(self, instant: &mut Instant) {
        *instant = match instant.0.checked_sub(self.from.0) {
            Some(after) => self.to + after,
            None => self.to - self.from.saturating_since(*instant),
        };
    }
}

/// A clock for asynchronous code: that of the machine or a simulated one.
pub trait Clock {
    /// Returns the present instant.
    fn now(&self) -> Instant;

    /// Waits until `deadline`; returns at once if it has passed. It may return late if the machine was suspended.
    fn sleep_until(&self, deadline: Instant) -> impl Future<Output = ()>;

    /// Waits for `duration`.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> {
        self.sleep_until(self.now() + duration)
    }

    /// Awaits `future` until `deadline`; returns `None` if it has not completed by then.
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
