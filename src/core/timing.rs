//! The timing of one instance, checked once.
//!
//! Everything that must be true between the durations is checked in [`Timing::new`], and every bound that follows from
//! them is a method here, in an operator's words. `TTL` is what etcd granted, at least the lease duration asked for.
//!
//! ```text
//! renewal sent         RENEW_DEADLINE                 TTL - margin      TTL
//! |--------------------------|--------------------------|---------------|----> the same on every clock
//!                            stop_at: stop signal       kill_at: SIGKILL     earliest: somebody else may lead
//! ```

use std::time::Duration;

use crate::core::clock::Instant;

/// The two instants of the dead man's switch that one confirmed renewal sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// When the command gets the stop signal unless a later renewal was confirmed.
    pub stop_at: Instant,
    /// When the command and all it forked get SIGKILL unless a later renewal was confirmed.
    pub kill_at: Instant,
}

impl Deadlines {
    /// The later one of each. Each of them was true when it was confirmed.
    #[must_use]
    pub fn later(self, other: Self) -> Self {
        Self { stop_at: self.stop_at.max(other.stop_at), kill_at: self.kill_at.max(other.kill_at) }
    }
}

/// Lease, renewal and stop durations that work together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    lease: Duration,
    renew_deadline: Duration,
    retry_period: Duration,
    stop_grace: Duration,
}

/// Why a set of durations cannot work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimingError {
    /// etcd grants whole seconds only.
    Lease(Duration),
    /// A lease of more than etcd's maximum.
    LeaseTooLong(Duration),
    /// No time between two renewals.
    Retry(Duration),
    /// A renewal that failed could not be retried before the leader gives up.
    NoRoomToRetry {
        /// The retry period given.
        retry: Duration,
        /// The renew deadline given.
        renew: Duration,
    },
    /// No room left to kill the command before the lease can run out.
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
    /// Returns what would be right. `spelled` returns how the operator knows a setting, by the name of its field.
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
    /// etcd's own limit (`MaxLeaseTTL`, server/lease/lessor.go).
    pub const LONGEST_LEASE: Duration = Duration::from_secs(9_000_000_000);
    /// Below this a leader would only load etcd.
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

    /// The lease duration to ask etcd for.
    #[must_use]
    pub const fn lease(&self) -> Duration {
        self.lease
    }

    /// The longest outage of etcd or the network that a leader survives, less one [`retry_period`](Self::retry_period).
    #[must_use]
    pub const fn renew_deadline(&self) -> Duration {
        self.renew_deadline
    }

    /// How often a leader renews.
    #[must_use]
    pub const fn retry_period(&self) -> Duration {
        self.retry_period
    }

    /// How long a command that was asked to stop may take before it is killed.
    #[must_use]
    pub const fn stop_grace(&self) -> Duration {
        self.stop_grace
    }

    /// What a renewal that was sent at `sent` and confirmed with `ttl` is good for.
    ///
    /// `ttl` is what etcd answered. Should it be shorter than what was asked for, the stop signal comes earlier too.
    #[must_use]
    pub fn deadlines(&self, sent: Instant, ttl: Duration) -> Deadlines {
        let margin = Self::margin(ttl);
        let kill_at = sent + ttl.saturating_sub(margin);
        Deadlines { stop_at: (sent + self.renew_deadline).min(kill_at - margin), kill_at }
    }

    /// The longest outage of etcd that leaves a leader untouched: from the last renewal before it to the stop signal.
    #[must_use]
    pub fn outage_survived(&self) -> Duration {
        self.renew_deadline - self.retry_period
    }

    /// The latest moment of a command's death after the last confirmed renewal was sent, for a granted `ttl`.
    #[must_use]
    pub fn latest_death(ttl: Duration) -> Duration {
        ttl.saturating_sub(Self::margin(ttl))
    }

    /// The slowest hand-over when a machine or its network is lost, after its last renewal; without a leader change in
    /// etcd, which stretches every lease by an election timeout.
    #[must_use]
    pub fn slowest_hand_over(ttl: Duration) -> Duration {
        ttl + Duration::from_millis(500)
    }

    /// How often a waiting instance keeps its lease alive: three times per TTL.
    #[must_use]
    pub fn waiting_period(ttl: Duration) -> Duration {
        ttl / 3
    }

    /// The room kept between SIGKILL and the end of the lease: for the kernel to end the tree, and for clocks that do not
    /// run at the same rate. A twentieth of the lease and a quarter of a second; at most a quarter of the lease.
    fn margin(ttl: Duration) -> Duration {
        (ttl / 20 + Duration::from_millis(250)).min(ttl / 4)
    }
}

/// A duration as the settings are written: `2s`, `1500ms`.
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
        /// However long the lease that etcd grants: stop signal, then SIGKILL, then the end of the lease, with room between.
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
