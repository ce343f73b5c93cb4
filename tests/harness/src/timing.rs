//! The durations of a candidate, and every limit of a test that follows from them.

use std::time::Duration;

/// Lease, renew deadline, retry period and stop grace, as given to the program.
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
    /// For a leader that has to live through an election of etcd's own, which takes up to about two seconds.
    pub const MEDIUM: Self = Self {
        lease: 6,
        renew: Duration::from_secs(4),
        retry: Duration::from_millis(500),
        grace: Duration::from_secs(10),
    };
    /// The defaults. For tests that a lease never runs out in: what happens within seconds was not the lease.
    pub const LONG: Self = Self {
        lease: 15,
        renew: Duration::from_secs(10),
        retry: Duration::from_secs(2),
        grace: Duration::from_secs(10),
    };

    /// From the moment of a fault: by when the command is dead. The last renewal was sent before the fault.
    #[must_use]
    pub fn latest_death(&self) -> Duration {
        self.lease() - self.margin()
    }

    /// From the moment of a fault: before this the command is not asked to stop. The last renewal was sent at most a
    /// retry period before the fault; the renewal of that moment may have been on its way, hence twice.
    #[must_use]
    pub fn earliest_stop(&self) -> Duration {
        self.renew.saturating_sub(2 * self.retry)
    }

    /// From the moment of a fault: by when the command was asked to stop.
    #[must_use]
    pub fn latest_stop(&self) -> Duration {
        self.renew + Duration::from_millis(250)
    }

    /// From the moment of a fault: by when the next one leads, if the lease has to run out. etcd looks for ended leases
    /// twice a second; finding out and starting takes the rest.
    #[must_use]
    pub fn latest_failover(&self) -> Duration {
        self.lease() + Duration::from_millis(1500)
    }

    /// The same when etcd elected a new leader meanwhile: every lease begins anew then.
    #[must_use]
    pub fn latest_failover_with_election(&self) -> Duration {
        self.latest_failover() + self.lease() + Self::ETCD_ELECTION
    }

    /// A handover that waits for nothing: far less than what is left of a [`LONG`](Self::LONG) lease.
    pub const SWIFT: Duration = Duration::from_secs(4);
    /// A program that starts, joins and starts its command, on a busy machine.
    pub const START: Duration = Duration::from_secs(10);
    /// An election among etcd's members: two timeouts of half a second, and the news of it.
    pub const ETCD_ELECTION: Duration = Duration::from_secs(3);

    /// The lease as a duration.
    #[must_use]
    pub const fn lease(&self) -> Duration {
        Duration::from_secs(self.lease)
    }

    /// Kept between the kill and the end of the lease.
    fn margin(&self) -> Duration {
        (self.lease() / 20 + Duration::from_millis(250)).min(self.lease() / 4)
    }
}

/// A duration as a setting is written.
pub(crate) fn setting(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}
