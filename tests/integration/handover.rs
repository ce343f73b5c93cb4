//! Who leads next, and how soon, after each way in which a leader can end.
//!
//! The lease of these instances is 15 s, so a takeover within [`Timing::SWIFT`] did not wait for it.

use std::{fs, time::Duration};

use harness::{Behavior, Cluster, End, Timing, eventually, process};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{between, shared_world, world_on};

#[test]
fn a_standby_takes_over_at_once_when_the_command_exits() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(
        world.candidate("a").behavior(Behavior::exits(7, Duration::from_secs(2))),
        world.candidate("b"),
    );
    assert_eq!(a.wait_exit(Timing::START), End::Code(7));
    b.leads_within(Timing::SWIFT);
    world.verdict();
}

/// The gap is a watch event and a fork, not a polling interval.
#[test]
fn the_gap_between_two_commands_is_less_than_half_a_retry_period() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b"));
    a.terminate();
    b.leads();
    let lives = world.journal().lives();
    let gap = between(lives[0].to, lives[1].from);
    assert!(gap < harness::wait::scaled(Timing::LONG.retry / 2), "{gap:?}");
    world.verdict();
}

/// The handover and the revocation of the old lease are two raft proposals.
#[test]
fn a_clean_handover_is_one_transaction_and_one_revocation() {
    let world = world_on(Cluster::builder().size(1).plain().create());
    let timing = Timing::SHORT;
    let (a, b) = crate::leader_and_standby(world.candidate("a").timing(timing), world.candidate("b").timing(timing));
    // Its next renewals read the entry of the next standby.
    crate::undisturbed(&a, 3 * timing.retry);
    let proposals = || {
        let metrics = world.cluster().member(0).metrics().expect("it answers");
        let name = "etcd_server_proposals_committed_total ";
        metrics.lines().find_map(|line| line.strip_prefix(name)?.parse::<f64>().ok()).expect("it is counted")
    };
    let before = proposals();
    a.terminate();
    b.leads_within(Timing::SWIFT);
    a.wait_exit(Timing::SWIFT);
    assert_eq!(proposals() - before, 2.0, "{}", a.stderr());
    world.verdict();
}

#[test]
fn sigterm_hands_over_at_once_and_exits_with_the_code_of_the_command() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b"));
    a.terminate();
    b.leads_within(Timing::SWIFT);
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(0));
    world.verdict();
}

/// Renewals continue while the command stops, so that no standby starts meanwhile.
#[test]
fn leadership_is_kept_while_the_command_stops_for_longer_than_a_lease() {
    let world = shared_world();
    let slow = Timing::SHORT.lease() + Timing::SHORT.lease() / 2;
    let (a, b) = crate::leader_and_standby(
        world.candidate("a").timing(Timing::SHORT).behavior(Behavior::slow(slow)),
        world.candidate("b").timing(Timing::SHORT),
    );
    a.terminate();
    b.leads_within(slow + Timing::SWIFT);
    let lives = world.journal().lives();
    assert!(lives[0].ended, "it was killed although it would have stopped in time");
    assert!(between(lives[0].asked.expect("it was asked"), lives[1].from) >= slow);
    world.verdict();
}

#[test]
fn a_standby_takes_over_at_once_after_sigkill_of_the_gatekeeper() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b"));
    a.kill();
    b.leads_within(Timing::SWIFT);
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Signal(9));
    world.verdict();
}

/// The guard sends the stop signal at once, waits for the grace period, kills the process tree, and only then revokes
/// the lease.
#[test]
fn after_sigkill_of_the_gatekeeper_the_guard_kills_a_command_that_ignores_sigterm() {
    let world = shared_world();
    let grace = Duration::from_secs(2);
    let timing = Timing { grace, ..Timing::LONG };
    let (a, b) = crate::leader_and_standby(
        world.candidate("a").timing(timing).behavior(Behavior::stubborn()),
        world.candidate("b"),
    );
    a.kill();
    b.leads_within(grace + Timing::SWIFT);
    let lives = world.journal().lives();
    assert!(between(lives[0].asked.expect("it was asked"), lives[0].to) >= grace - Duration::from_millis(250));
    world.verdict();
}

/// The guard has prepared a process that will revoke the lease. If that one is killed, too, the guard forks another one.
#[test]
fn after_sigkill_of_the_gatekeeper_and_of_the_revoker_the_lease_is_revoked() {
    let world = shared_world();
    let timing = Timing { grace: Duration::from_secs(1), ..Timing::LONG };
    let (a, b) = crate::leader_and_standby(
        world.candidate("a").timing(timing).behavior(Behavior::stubborn()),
        world.candidate("b"),
    );
    let guard = a.guard_pid();
    a.kill();
    let revoker = eventually(timing.grace, "the guard has a revoker", || {
        let is_revoker = |pid: &i32| fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == b"await-revoker\n");
        process::children(guard).into_iter().find(is_revoker).ok_or_else(|| "no such child".to_owned())
    });
    kill(Pid::from_raw(revoker), Signal::SIGKILL).expect("killed");
    b.leads_within(timing.grace + Timing::SWIFT);
    world.verdict();
}

#[test]
fn a_standby_takes_over_at_once_after_sigkill_of_the_guard() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b"));
    a.signal_guard(Signal::SIGKILL);
    b.leads_within(Timing::SWIFT);
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(70));
    world.verdict();
}

/// No process can revoke the lease: the command is killed with its guard, and the lease expires.
#[test]
fn a_standby_takes_over_after_the_lease_if_gatekeeper_and_guard_are_killed() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(
        world.candidate("a").timing(Timing::SHORT),
        world.candidate("b").timing(Timing::SHORT),
    );
    let guard = a.guard_pid();
    a.kill();
    let _ = kill(Pid::from_raw(guard), Signal::SIGKILL);
    a.command_exits_within(Timing::SWIFT);
    b.leads_within(Timing::SHORT.latest_failover());
    world.verdict();
}

#[test]
fn a_command_killed_by_another_process_is_not_restarted() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b"));
    let _ = kill(Pid::from_raw(a.command_pid()), Signal::SIGKILL);
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(137));
    b.leads_within(Timing::SWIFT);
    assert_eq!(a.lives().len(), 1);
    world.verdict();
}

/// The guard ignores signals that a terminal or systemd sends to a whole process group.
#[test]
fn sigterm_to_the_guard_changes_nothing() {
    let world = shared_world();
    let (a, _b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b"));
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        a.signal_guard(signal);
    }
    crate::undisturbed(&a, Timing::LONG.retry);
    world.verdict();
}
