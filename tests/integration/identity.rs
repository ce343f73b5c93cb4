//! Two instances with the same identity: a restarted instance, or a configuration error.

use harness::{End, Timing};
use nix::sys::signal::Signal;

use crate::shared_world;

#[test]
fn an_instance_hands_over_to_its_own_identity_and_exits_with_80() {
    let world = shared_world();
    let old = world.candidate("old").identity("twin").start();
    old.leads();
    let new = world.candidate("new").identity("twin").start();
    new.leads();
    assert_eq!(old.wait_exit(Timing::SWIFT), End::Code(80));
    assert!(old.stderr().contains("twin"), "{}", old.stderr());
    world.verdict();
}

/// With `ON_LOSS=campaign` they could otherwise take leadership from each other for ever.
#[test]
fn two_instances_with_one_identity_do_not_take_leadership_from_each_other() {
    let world = shared_world();
    let old = world.candidate("old").identity("twin").set("ON_LOSS", "campaign").start();
    old.leads();
    let new = world.candidate("new").identity("twin").set("ON_LOSS", "campaign").start();
    new.leads();
    assert_eq!(old.wait_exit(Timing::SWIFT), End::Code(80));
    crate::undisturbed(&new, Timing::LONG.retry);
    world.verdict();
}

/// A host lost all its processes and starts the instance again. Its request is only for the old holder, so a standby
/// that is elected when the old lease has expired keeps leadership.
#[test]
fn a_restarted_instance_does_not_take_leadership_from_a_standby_elected_meanwhile() {
    let timing = Timing::SHORT;
    for _ in 0..3 {
        let world = shared_world();
        let (old, other) = crate::leader_and_standby(
            world.candidate("old").identity("twin").timing(timing),
            world.candidate("other").timing(timing),
        );
        let guard = old.guard_pid();
        old.kill();
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(guard), Signal::SIGKILL);
        let new = world.candidate("new").identity("twin").timing(timing).start();
        other.leads_within(timing.latest_failover() + Timing::SWIFT);
        crate::undisturbed(&other, 2 * timing.retry);
        assert!(new.lives().is_empty(), "the queue was not served first");
        other.terminate();
        new.leads_within(Timing::SWIFT);
        world.verdict();
    }
}

/// Identities are compared as a whole, although only a part of a long one is shown.
#[test]
fn identities_with_a_common_prefix_are_different() {
    let world = shared_world();
    let long = "x".repeat(300);
    let a = world.candidate("a").identity(&format!("{long}-a")).start();
    a.leads();
    let b = world.candidate("b").identity(&format!("{long}-b")).force().start();
    b.leads();
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(79));
    world.verdict();
}

#[test]
fn default_identities_are_never_treated_as_the_same() {
    let world = shared_world();
    let a = world.candidate("a").unset("IDENTITY").start();
    a.leads();
    let b = world.candidate("b").unset("IDENTITY").start();
    let entries = harness::eventually(Timing::START, "two are in the queue", || {
        let mut names: Vec<String> = world.keys()?.into_iter().map(|key| key.value).collect();
        names.sort();
        names.dedup();
        if names.len() == 2 { Ok(names) } else { Err(format!("{names:?}")) }
    });
    let host = nix::unistd::gethostname().expect("a host name").to_string_lossy().into_owned();
    assert!(entries.iter().all(|name| name.starts_with(&format!("{host}_"))), "{entries:?}");
    crate::undisturbed(&a, Timing::LONG.retry);
    a.terminate();
    b.leads_within(Timing::SWIFT);
    world.verdict();
}
