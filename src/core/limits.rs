//! The time limits that depend on each other or on the [`Timing`], with their reasons.
//!
//! ```text
//! a leader ends    stop grace │ handover 3/5, revocation: end_limit ≤ 5 s │          told to systemd: stop grace + 10 s
//! a guard ends     REQUEST 8 s < REVOCATION 10 s
//! a silent guard   kill_at + SILENT_GUARD_SLACK < end of the lease;  killing: 3 GUARD_BEATs
//! ```

use std::time::Duration;

use super::timing::Timing;

/// The maximum time for handover and revocation together when the program ends. A service manager waits for it, and without
/// them the lease expires by itself.
const LONGEST_END: Duration = Duration::from_secs(5);

/// How long an ending program tries to revoke a lease that etcd has not confirmed. The grant may still be applied, but while etcd
/// does not answer, a stop must not wait for it.
pub const UNCONFIRMED: Duration = Duration::from_millis(500);

/// The time that systemd is told to allow in addition to the stop grace: twice [`LONGEST_END`], for slow machines.
const ROOM_FOR_THE_END: Duration = Duration::from_secs(10);

/// How long the guard waits for the process that revokes the lease of a killed gatekeeper.
pub const REVOCATION: Duration = Duration::from_secs(10);
/// The timeout of a request outside of an election: less than the limits of the whole, so that the log names the endpoint.
pub const REQUEST: Duration = Duration::from_secs(8);
/// How long an operator command waits for etcd.
pub const QUESTION: Duration = Duration::from_secs(10);

/// How often a guard that is killing the process tree sends a heartbeat to the gatekeeper.
pub const GUARD_BEAT: Duration = Duration::from_secs(1);
/// How long a guard that is killing may send no heartbeat: it may miss two of them.
pub const SILENT_GUARD: Duration = GUARD_BEAT.saturating_mul(3);
/// How late the guard may act and report after its deadline, and how late the timer of the gatekeeper may be.
pub const SILENT_GUARD_SLACK: Duration = Duration::from_millis(100);

/// How long an instance whose identity is in use elsewhere waits before it exits under systemd, as `RestartSec=` applies to all
/// exit codes. Container engines delay restarts by themselves.
pub const RESTART_PAUSE: Duration = Duration::from_secs(5 * 60);

/// How long a leader stays out of the queue after its command was sick; twice as long each further time, until its check succeeds.
pub const SICK_PAUSE: Duration = Duration::from_secs(60);
/// The longest time that a leader stays out of the queue because its command was sick, or because ON_ELECTED has failed. With FAILBACK, each of its returns takes leadership from
/// a healthy instance.
pub const LONGEST_ABSENCE: Duration = Duration::from_secs(30 * 60);

const fn is_less(shorter: Duration, longer: Duration) -> bool {
    shorter.as_nanos() < longer.as_nanos()
}

const _: () = assert!(is_less(LONGEST_END.saturating_mul(2), ROOM_FOR_THE_END.saturating_add(Duration::from_nanos(1))));
const _: () = assert!(is_less(UNCONFIRMED, LONGEST_END));
const _: () = assert!(is_less(REQUEST, REVOCATION) && is_less(REQUEST, QUESTION));
const _: () = assert!(is_less(GUARD_BEAT, SILENT_GUARD));

impl Timing {
    /// Returns the limit for handover and revocation at the end: as long as a renewal may take, at most five seconds.
    #[must_use]
    pub fn end_limit(&self) -> Duration {
        self.renew_deadline().min(LONGEST_END)
    }

    /// Returns the part of [`end_limit`](Self::end_limit) for the handover. The rest is for the revocation of the lease.
    #[must_use]
    pub fn handover_limit(&self) -> Duration {
        self.end_limit() * 3 / 5
    }

    /// Returns how long the program may take from a shutdown request to its exit, if the kernel can kill the process tree. ON_STOPPED
    /// has the time until the lease could have expired.
    #[must_use]
    pub fn stop_limit(&self, has_on_stopped: bool) -> Duration {
        let on_stopped = if has_on_stopped { Self::latest_death(self.lease()) } else { Duration::ZERO };
        self.stop_grace().saturating_add(on_stopped).saturating_add(ROOM_FOR_THE_END)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::clock::Instant;

    proptest! {
        #[test]
        fn the_limits_leave_room_for_each_other(
            lease in 1u64..1000, renew in 1u64..1_000_000, retry in 1u64..100_000, grace in 0u64..1000,
        ) {
            let (ms, s) = (Duration::from_millis, Duration::from_secs);
            let Ok(timing) = Timing::new(s(lease), ms(renew), ms(retry), s(grace)) else { return Ok(()) };
            // A gatekeeper that takes over kills the process tree before the lease can expire.
            let sent = Instant::from_boot(s(5));
            let kill_at = timing.deadlines(sent, s(lease)).kill_at;
            prop_assert!(kill_at + 2 * SILENT_GUARD_SLACK < sent + s(lease));
            prop_assert!(timing.handover_limit() < timing.end_limit());
            prop_assert!(timing.stop_limit(false) >= timing.stop_grace() + 2 * timing.end_limit());
        }
    }

    #[test]
    fn the_default_stop_limit_is_what_the_units_allow() {
        let s = Duration::from_secs;
        let timing = Timing::new(s(15), s(10), s(2), s(10)).expect("the defaults");
        assert_eq!((timing.end_limit(), timing.handover_limit(), timing.stop_limit(false)), (s(5), s(3), s(20)));
        assert_eq!(timing.stop_limit(true), s(34));
    }
}
