//! SIGSTOP: the process still exists and keeps its connections, but does nothing.

use harness::{Behavior, End, Timing, journal::now, wait::scaled};
use nix::sys::signal::Signal;

use crate::{between, shared_world};

const TIMING: Timing = Timing::SHORT;

/// The guard stops the command by itself, and kills it before the lease can expire.
#[test]
fn a_standby_takes_over_from_a_frozen_gatekeeper_after_its_lease() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(world.candidate("a").timing(TIMING), world.candidate("b").timing(TIMING));
    let fault = now();
    a.pause();
    b.leads_within(TIMING.latest_failover());
    let life = &a.lives()[0];
    let asked = between(fault, life.asked.expect("it was asked before it was killed"));
    assert!(asked >= TIMING.earliest_stop(), "{asked:?}");
    assert!(asked <= scaled(TIMING.latest_stop()), "{asked:?}");
    a.resume();
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(79));
    world.verdict();
}

#[test]
fn a_command_that_ignores_sigterm_does_not_delay_takeover_from_a_frozen_gatekeeper() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(
        world.candidate("a").timing(TIMING).behavior(Behavior::stubborn()),
        world.candidate("b").timing(TIMING),
    );
    let fault = now();
    a.pause();
    b.leads_within(TIMING.latest_failover());
    let death = between(fault, a.lives()[0].to);
    assert!(death <= scaled(TIMING.latest_death()), "{death:?}");
    a.resume();
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(79));
    world.verdict();
}

#[test]
fn a_gatekeeper_frozen_for_less_than_the_renew_deadline_keeps_leadership() {
    let world = shared_world();
    let timing = Timing::MEDIUM;
    let a = world.candidate("a").timing(timing).start();
    a.leads();
    a.pause();
    crate::undisturbed(&a, timing.earliest_stop() / 2);
    a.resume();
    crate::undisturbed(&a, timing.lease());
    world.verdict();
}

/// The gatekeeper kills a guard that is silent at its deadline, and the process tree.
#[test]
fn a_frozen_guard_is_killed_together_with_its_command() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(
        world.candidate("a").timing(TIMING).behavior(Behavior::stubborn()),
        world.candidate("b").timing(TIMING),
    );
    a.signal_guard(Signal::SIGSTOP);
    b.leads_within(TIMING.latest_failover());
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(70));
    // Every descendant of the gatekeeper was killed, except its log writer.
    assert!(a.stderr().contains("revoked lease"), "{}", a.stderr());
    world.verdict();
}

/// Only the command is frozen: leadership is kept, and the command is stopped like any other.
#[test]
fn a_frozen_command_can_be_stopped() {
    let world = shared_world();
    let timing = Timing { grace: TIMING.retry, ..TIMING };
    let (a, b) = crate::leader_and_standby(world.candidate("a").timing(timing), world.candidate("b").timing(timing));
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(a.command_pid()), Signal::SIGSTOP);
    a.terminate();
    b.leads_within(timing.grace + Timing::SWIFT);
    world.verdict();
}

/// Renewals succeed, and the guard reads them when it resumes.
#[test]
fn a_guard_frozen_past_the_renew_deadline_continues_if_it_was_fed() {
    let world = shared_world();
    let timing = Timing { lease: 10, renew: TIMING.renew, ..TIMING };
    let a = world.candidate("a").timing(timing).start();
    a.leads();
    a.signal_guard(Signal::SIGSTOP);
    crate::undisturbed(&a, 2 * timing.renew);
    a.signal_guard(Signal::SIGCONT);
    crate::undisturbed(&a, timing.lease());
    world.verdict();
}

/// Gatekeeper and guard are both frozen, as in a frozen cgroup: the log reports the suspension, not a lost guard.
#[test]
fn a_thaw_after_the_lease_reports_how_long_the_processes_were_suspended() {
    let world = shared_world();
    let a = world.candidate("a").timing(TIMING).start();
    a.leads();
    let guard = a.guard_pid();
    a.signal_guard(Signal::SIGSTOP);
    a.pause();
    crate::undisturbed(&a, TIMING.latest_failover());
    // As soon as the gatekeeper runs it sees that the guard is overdue.
    a.resume();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(guard), Signal::SIGCONT).expect("it is there");
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(79), "{}", a.stderr());
    let log = a.stderr();
    assert!(log.contains("did not run for ") && !log.contains("the guard exited"), "{log}");
    world.verdict();
}
