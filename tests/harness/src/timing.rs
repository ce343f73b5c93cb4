//! The durations of a candidate, and the limits of tests that follow from them.

use std::time::Duration;

/// Lease, renew deadline, retry period and stop grace of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// `LEASE_DURATION`, in whole seconds.
    pub lease: u64,
    /// `RENEW_DEADLINE`.
    pub renew: Duration,
    /// `RETRY_PERIOD`.
    pub retry: Duration,
    /// `STOP_GRACE`.
    pub grace: Duration,
}

impl Timing {
    /// For tests that wait for deadlines or for the end of a lease.
    pub const SHORT: Self = Self {
        lease: 3,
        renew: Duration::from_secs(2),
        retry: Duration::from_millis(500),
        grace: Duration::from_secs(10),
    };
    /// For a leader that has to survive a raft election, which takes up to about two seconds.
    pub const MEDIUM: Self = Self {
        lease: 6,
        renew: Duration::from_secs(4),
        retry: Duration::from_millis(500),
        grace: Duration::from_secs(10),
    };
    /// The defaults, for tests in which no lease may expire: a takeover within seconds did not wait for the lease.
    pub const LONG: Self = Self {
        lease: 15,
        renew: Duration::from_secs(10),
        retry: Duration::from_secs(2),
        grace: Duration::from_secs(10),
    };

    /// Returns the time after a fault by which the command has been killed. The last renewal was sent before the fault.
    #[must_use]
    pub fn latest_death(&self) -> Duration {
        self.lease() - self.margin()
    }

    /// Returns the time after a fault before which the command receives no stop signal. The last renewal was sent at
    /// most a retry period before the fault, and the next one may have been in flight: hence twice.
    #[must_use]
    pub fn earliest_stop(&self) -> Duration {
        self.renew.saturating_sub(2 * self.retry)
    }

    /// Returns the time after a fault by which the command has received its stop signal.
    #[must_use]
    pub fn latest_stop(&self) -> Duration {
        self.renew + Duration::from_millis(250)
    }

    /// Returns the time after a fault by which a standby leads, if the lease has to expire. etcd looks for expired
    /// leases twice a second; the rest is for the watch and the start of the command.
    #[must_use]
    pub fn latest_failover(&self) -> Duration {
        self.lease() + Duration::from_millis(1500)
    }

    /// Returns the same limit if a raft election restarts all leases meanwhile.
    #[must_use]
    pub fn latest_failover_with_election(&self) -> Duration {
        self.latest_failover() + self.lease() + Self::ETCD_ELECTION
    }

    /// The limit of an immediate handover: far less than the rest of a [`LONG`](Self::LONG) lease.
    pub const SWIFT: Duration = Duration::from_secs(4);
    /// The limit for a program to start, join and start its command, on a busy machine.
    pub const START: Duration = Duration::from_secs(10);
    /// The limit of a raft election: two timeouts of half a second, and some time to announce it.
    pub const ETCD_ELECTION: Duration = Duration::from_secs(3);

    /// Returns the lease as a duration.
    #[must_use]
    pub const fn lease(&self) -> Duration {
        Duration::from_secs(self.lease)
    }

    /// Returns the time between the kill and the end of the lease.
    fn margin(&self) -> Duration {
        (self.lease() / 20 + Duration::from_millis(250)).min(self.lease() / 4)
    }
}

/// Formats a duration as the value of a setting.
pub(crate) fn setting(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}
