//! The timing of one instance.
//!
//! [`Timing::new`] checks that the durations work together, and methods return the limits that follow from them. `TTL` is the
//! duration that etcd granted, which can be longer than the requested lease duration.
//!
//! ```text
//! renewal sent         RENEW_DEADLINE                 TTL - margin      TTL
//! |--------------------------|--------------------------|---------------|----> the same on every clock
//!                            stop_at: stop signal       kill_at: SIGKILL     another instance may lead
//! ```

use std::time::Duration;

use crate::core::clock::{Instant, Shift};

/// The deadlines of the command that one confirmed renewal sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Deadlines {
    /// When the command receives the stop signal unless a later renewal has been confirmed.
    pub stop_at: Instant,
    /// When the process tree receives SIGKILL unless a later renewal has been confirmed.
    pub kill_at: Instant,
}

impl Deadlines {
    /// Returns the later one of each deadline.
    #[must_use]
    pub fn later(self, other: Self) -> Self {
        Self { stop_at: self.stop_at.max(other.stop_at), kill_at: self.kill_at.max(other.kill_at) }
    }

    /// Moves both.
    pub fn shift(&mut self, shift: Shift) {
        shift.instant(&mut self.stop_at);
        shift.instant(&mut self.kill_at);
    }
}

/// Durations of lease, renewal and stop that work together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    lease: Duration,
    renew_deadline: Duration,
    retry_period: Duration,
    stop_grace: Duration,
}

/// Why a set of durations cannot work.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TimingError {
    /// etcd grants whole seconds only.
    Lease(Duration),
    /// A lease of more than etcd's maximum.
    LeaseTooLong(Duration),
    /// The retry period is too short.
    Retry(Duration),
    /// A failed renewal could not be retried before the renew deadline.
    NoRoomToRetry {
        /// The retry period given.
        retry: Duration,
        /// The renew deadline given.
        renew: Duration,
    },
    /// There is no time to kill the command before the lease can expire.
    NoRoomToKill {
        /// The renew deadline given.
        renew: Duration,
        /// The largest that works with this lease.
        most: Duration,
        /// The lease duration given.
        lease: Duration,
    },
}

impl TimingError {
    /// Returns what has to be changed. `spelled` returns the name by which the operator knows a setting.
    pub fn describe(&self, spelled: impl Fn(&str) -> String) -> String {
        let value = |setting, duration| format!("{} ({})", spelled(setting), show(duration));
        let lease = |lease| value("lease_duration", lease);
        let renew = |renew| value("renew_deadline", renew);
        let retry = |retry| value("retry_period", retry);
        match *self {
            Self::Lease(given) => format!("{} must be whole seconds, at least 1s", lease(given)),
            Self::LeaseTooLong(given) => {
                format!("{} must be at most {}, the longest lease of etcd", lease(given), show(Timing::LONGEST_LEASE))
            }
            Self::Retry(given) => format!("{} must be at least {}", retry(given), show(Timing::SHORTEST_RETRY)),
            Self::NoRoomToRetry { retry: given, renew: deadline } => format!(
                "{} must be at most {}, half of {}: the rest is needed to retry a failed renewal",
                retry(given),
                show(deadline / 2),
                renew(deadline)
            ),
            Self::NoRoomToKill { renew: given, most, lease: granted } => format!(
                "{} must be at most {} with {}: the rest is needed to kill the command before the lease can expire",
                renew(given),
                show(most),
                lease(granted)
            ),
        }
    }
}

impl std::fmt::Display for TimingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.describe(str::to_ascii_uppercase))
    }
}

impl std::error::Error for TimingError {}

impl Timing {
    /// The longest lease that etcd grants (`MaxLeaseTTL`, server/lease/lessor.go).
    pub const LONGEST_LEASE: Duration = Duration::from_secs(9_000_000_000);
    /// The shortest retry period, so that renewals do not load etcd needlessly.
    pub const SHORTEST_RETRY: Duration = Duration::from_millis(100);

    /// Checks that the durations leave room for each other.
    ///
    /// # Errors
    /// Unless `retry_period` fits twice into `renew_deadline`, and `renew_deadline` and a kill before the end of `lease` both fit.
    pub fn new(
        lease: Duration,
        renew_deadline: Duration,
        retry_period: Duration,
        stop_grace: Duration,
    ) -> Result<Self, TimingError> {
        if lease.is_zero() || lease.subsec_nanos() != 0 {
            return Err(TimingError::Lease(lease));
        }
        if lease > Self::LONGEST_LEASE {
            return Err(TimingError::LeaseTooLong(lease));
        }
        if retry_period < Self::SHORTEST_RETRY {
            return Err(TimingError::Retry(retry_period));
        }
        if retry_period > renew_deadline / 2 {
            return Err(TimingError::NoRoomToRetry { retry: retry_period, renew: renew_deadline });
        }
        let most = lease - 2 * Self::margin(lease);
        if renew_deadline > most {
            return Err(TimingError::NoRoomToKill { renew: renew_deadline, most, lease });
        }
        Ok(Self { lease, renew_deadline, retry_period, stop_grace })
    }

    /// Returns the lease duration to request from etcd.
    #[must_use]
    pub const fn lease(&self) -> Duration {
        self.lease
    }

    /// Returns the time from the last confirmed renewal to the stop signal.
    #[must_use]
    pub const fn renew_deadline(&self) -> Duration {
        self.renew_deadline
    }

    /// Returns the time between two renewals.
    #[must_use]
    pub const fn retry_period(&self) -> Duration {
        self.retry_period
    }

    /// Returns how long a command may take to stop before it is killed.
    #[must_use]
    pub const fn stop_grace(&self) -> Duration {
        self.stop_grace
    }

    /// Returns the deadlines after a renewal that was sent at `sent` and confirmed with `ttl`. If `ttl` is shorter than the
    /// requested lease, the stop signal comes earlier, too.
    #[must_use]
    pub fn deadlines(&self, sent: Instant, ttl: Duration) -> Deadlines {
        let margin = Self::margin(ttl);
        let kill_at = sent + ttl.saturating_sub(margin);
        Deadlines { stop_at: (sent + self.renew_deadline).min(kill_at - margin), kill_at }
    }

    /// Returns the longest outage of etcd that does not affect a leader.
    #[must_use]
    pub fn outage_survived(&self) -> Duration {
        self.renew_deadline - self.retry_period
    }

    /// Returns the time from sending the last confirmed renewal to SIGKILL, for a granted `ttl`.
    #[must_use]
    pub fn latest_death(ttl: Duration) -> Duration {
        ttl.saturating_sub(Self::margin(ttl))
    }

    /// Returns the longest failover after the last renewal of a lost machine. A leader change in etcd prolongs it, as it extends
    /// every lease by an election timeout.
    #[must_use]
    pub fn slowest_hand_over(ttl: Duration) -> Duration {
        ttl + Duration::from_millis(500)
    }

    /// Returns the time between two renewals of the next standby in the queue: a third of the TTL, so that one is fresh when it is
    /// handed over to.
    #[must_use]
    pub fn waiting_period(ttl: Duration) -> Duration {
        ttl / 3
    }

    /// Returns the time between two keepalives of a standby that is not next: half of the TTL is left to retry one.
    #[must_use]
    pub fn keepalive_period(ttl: Duration) -> Duration {
        ttl / 2
    }

    /// Returns the time after which a standby that is not next reads the keys that it watches, in case its watch has stalled and has
    /// not failed. Leadership may have been handed over to it, and nobody else can lead then.
    #[must_use]
    pub fn reread_period(ttl: Duration) -> Duration {
        ttl * 5
    }

    /// Returns the time between SIGKILL and the end of the lease, in which the kernel ends the process tree. It also covers clocks
    /// that run at different rates. A twentieth of the lease plus a quarter of a second, at most a quarter of the lease.
    fn margin(ttl: Duration) -> Duration {
        (ttl / 20 + Duration::from_millis(250)).min(ttl / 4)
    }
}

/// Formats a duration like the settings: `2s`, `1500ms`.
#[must_use]
pub fn show(duration: Duration) -> String {
    if duration.subsec_nanos() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        format!("{}ms", duration.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_defaults_work_and_are_derived_as_documented() {
        let timing = Timing::new(s(15), s(10), s(2), s(10)).expect("the defaults");
        assert_eq!(timing.outage_survived(), s(8));
        assert_eq!(Timing::latest_death(s(15)), s(14));
        assert_eq!(Timing::slowest_hand_over(s(15)), ms(15_500));
        assert_eq!(Timing::waiting_period(s(15)), s(5));
    }

    #[test]
    fn each_impossible_timing_is_refused_by_name() {
        let refused = |lease, renew, retry| Timing::new(lease, renew, retry, s(1)).expect_err("impossible").to_string();
        assert!(refused(s(0), s(10), s(2)).starts_with("LEASE_DURATION (0s)"));
        assert!(refused(ms(1500), s(1), ms(500)).starts_with("LEASE_DURATION (1500ms)"));
        assert!(refused(s(9_000_000_001), s(1), ms(500)).starts_with("LEASE_DURATION"));
        assert!(refused(s(15), s(10), ms(99)).starts_with("RETRY_PERIOD (99ms)"));
        assert!(
            refused(s(15), s(3), ms(1501)).starts_with("RETRY_PERIOD (1501ms) must be at most 1500ms, half of RENEW")
        );
        assert!(refused(s(1), ms(400), ms(399)).starts_with("RETRY_PERIOD (399ms) must be at most 200ms"));
        assert!(Timing::new(s(1), ms(400), ms(200), s(1)).is_ok());
        assert!(refused(s(15), s(15), s(2)).starts_with("RENEW_DEADLINE (15s) must be at most 13s"));
    }

    proptest! {
        /// For every granted TTL: first the stop signal, then SIGKILL, then the end of the lease.
        #[test]
        fn stop_kill_and_end_of_lease_keep_their_order(
            lease in 1u64..100_000, renew in 1u64..100_000_000, retry in 1u64..100_000, granted in 1u64..200_000, at in 0u64..1_000_000,
        ) {
            let Ok(timing) = Timing::new(s(lease), ms(renew), ms(retry), s(5)) else { return Ok(()) };
            let sent = Instant::from_boot(ms(at));
            let Deadlines { stop_at, kill_at } = timing.deadlines(sent, s(granted));
            prop_assert!(sent < stop_at || granted < lease);
            prop_assert!(stop_at < kill_at);
            prop_assert!(kill_at < sent + s(granted));
            if granted >= lease {
                prop_assert_eq!(stop_at, sent + ms(renew));
            }
        }
    }
}
