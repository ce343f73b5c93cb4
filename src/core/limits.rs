//! The time limits that depend on each other or on the [`Timing`], in one place, each with its reason.
//!
//! ```text
//! a leader ends    stop grace │ handover 3/5, revocation: end_limit ≤ 5 s │          told to systemd: stop grace + 10 s
//! a guard ends     RELEASE_ATTEMPT 8 s < RELEASE 9 s < ERRAND 10 s
//! a silent guard   kill_at + SILENT_GUARD_SLACK < end of the lease;  killing: 3 GUARD_BEATs
//! ```

use std::time::Duration;

use super::timing::Timing;

/// The longest that an ending program tries to reach etcd, for handover and revocation together: a person or a service manager
/// waits for it, and the lease expires by itself.
const LONGEST_END: Duration = Duration::from_secs(5);

/// How long an ending program tries to revoke a lease that etcd never confirmed. A grant may be on its way; while etcd does not
/// answer, a stop must not wait for it.
pub const UNCONFIRMED: Duration = Duration::from_millis(500);

/// What systemd is told to allow in addition to the stop grace: the end at etcd, and as long again for a slow machine.
const ROOM_FOR_THE_END: Duration = Duration::from_secs(10);

/// How long the guard waits for the process that revokes the lease of a killed gatekeeper. Longer than that takes if etcd can be
/// reached at all; after that the lease expires by itself.
pub const ERRAND: Duration = Duration::from_secs(10);
/// When that process gives up, a little earlier, so that it can log so.
pub const RELEASE: Duration = Duration::from_secs(9);
/// When a request outside of an election is given up: before the limit of the whole, so that the log names the endpoint.
pub const RELEASE_ATTEMPT: Duration = Duration::from_secs(8);
/// How long a person waits for an answer of etcd.
pub const QUESTION: Duration = Duration::from_secs(10);

/// How often a guard that is killing the process tree tells the gatekeeper that it is alive itself.
pub const GUARD_BEAT: Duration = Duration::from_secs(1);
/// A guard that is killing is given two more beats than the one that is due.
pub const SILENT_GUARD: Duration = GUARD_BEAT.saturating_mul(3);
/// The time that a guard gets to be woken at its deadline and to say so, and that the gatekeeper's own timer may be late.
pub const SILENT_GUARD_SLACK: Duration = Duration::from_millis(100);

/// How long systemd shall not restart an instance whose identity is in use elsewhere: a `RestartSec=` holds for all exit codes.
/// Container engines pause by themselves.
pub const RESTART_PAUSE: Duration = Duration::from_secs(5 * 60);

const fn is_less(shorter: Duration, longer: Duration) -> bool {
    shorter.as_nanos() < longer.as_nanos()
}

const _: () = assert!(is_less(LONGEST_END.saturating_mul(2), ROOM_FOR_THE_END.saturating_add(Duration::from_nanos(1))));
const _: () = assert!(is_less(UNCONFIRMED, LONGEST_END));
const _: () =
    assert!(is_less(RELEASE_ATTEMPT, RELEASE) && is_less(RELEASE, ERRAND) && is_less(RELEASE_ATTEMPT, QUESTION));
const _: () = assert!(is_less(GUARD_BEAT, SILENT_GUARD));

impl Timing {
    /// How long an ending program tries to reach etcd: as long as a renewal may take, at most five seconds.
    #[must_use]
    pub fn end_limit(&self) -> Duration {
        self.renew_deadline().min(LONGEST_END)
    }

    /// The part of [`end_limit`](Self::end_limit) for the handover; the rest is for the revocation of the lease.
    #[must_use]
    pub fn handover_limit(&self) -> Duration {
        self.end_limit() * 3 / 5
    }

    /// How long the program may take from a shutdown request to its end, as long as the kernel can kill the process tree.
    #[must_use]
    pub fn stop_limit(&self) -> Duration {
        self.stop_grace().saturating_add(ROOM_FOR_THE_END)
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
            prop_assert!(timing.stop_limit() >= timing.stop_grace() + 2 * timing.end_limit());
        }
    }

    #[test]
    fn the_default_stop_limit_is_what_the_units_allow() {
        let s = Duration::from_secs;
        let timing = Timing::new(s(15), s(10), s(2), s(10)).expect("the defaults");
        assert_eq!((timing.end_limit(), timing.handover_limit(), timing.stop_limit()), (s(5), s(3), s(20)));
    }
}
