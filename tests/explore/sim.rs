//! Time. It is the same in all states: when it passes, all instants of a state move towards the past, so that states that differ in
//! nothing else are one.

use std::time::Duration;

use etcd_await_election::core::clock::{Instant, Shift};

/// Microseconds, as the store counts them.
pub(crate) type Time = u64;

pub(crate) const SECOND: Time = 1_000_000;

/// The present instant of every state. Earlier instants end at zero: what is longer ago than a lease makes no difference.
pub(crate) const NOW: Instant = Instant::from_boot(Duration::from_secs(5));

/// The same for the store.
pub(crate) const STORE_NOW: Time = 5 * SECOND;

/// Returns the shift of all instants when this time passes.
pub(crate) fn passing(time: Duration) -> Shift {
    Shift { from: NOW + time, to: NOW }
}

/// Returns the time from now to a later instant.
pub(crate) fn until(instant: Instant) -> Option<Duration> {
    Some(instant.saturating_since(NOW)).filter(|time| !time.is_zero())
}
